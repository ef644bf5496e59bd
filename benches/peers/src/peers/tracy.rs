//! Tracy's client, without a viewer: it records and keeps everything until one connects, so memory
//! grows with every span. A zone has no keys and no root: an attribute is a text or a value.

use std::hint::black_box;

use tracy_client::{Client, span};

use crate::peer::{Absent, Mode, Peer};
use crate::work::{DEPTH, Shape, Work, names};

pub struct Tracy {
    _client: Client,
}

impl Peer for Tracy {
    fn start(mode: Mode) -> Result<Self, Absent> {
        match mode {
            Mode::Sampled => Ok(Self { _client: Client::start() }),
            Mode::Proof => Err(Absent::NotOffered("only a viewer could count")),
            Mode::Unsampled => Err(Absent::NotOffered("it does not sample")),
            Mode::Off => Err(Absent::NotOffered("its macro panics before the client is started")),
            Mode::Send(_) => Err(Absent::NotOffered("only a viewer takes what it recorded")),
        }
    }

    fn item(&self, work: Work, n: u64) {
        let root = span!("orders");
        if work.attributes {
            root.emit_text(names::QUEUE_VALUE);
            root.emit_value(n);
        }
        match work.shape {
            Shape::Nested => nest(DEPTH),
            Shape::Flat(children) => {
                for child in 0..children {
                    let span = span!("load order");
                    if work.attributes {
                        match child % 2 {
                            0 => span.emit_text(names::TABLE_VALUE),
                            _ => span.emit_value(child),
                        }
                    }
                    black_box(&span);
                }
            }
        }
    }

    fn settle(&self) {}
}

fn nest(left: u64) {
    if left > 0 {
        let _span = span!("load order");
        nest(black_box(left - 1));
    }
}
