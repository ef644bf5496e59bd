//! tracing with a bare registry: what every subscriber with spans pays for before it keeps
//! anything. Nothing arrives anywhere; the proof has a layer that counts spans as they close.
//!
//! It has no sampling. What comes nearest to a span that is left out is one whose level is.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::info_span;
use tracing::level_filters::LevelFilter;
use tracing::span::Id;
use tracing::{Subscriber, subscriber::set_global_default};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::peer::{Absent, Mode, Peer};
use crate::work::{DEPTH, Shape, Work, names};

pub struct Tracing {
    closed: Option<Arc<AtomicU64>>,
}

impl Peer for Tracing {
    fn start(mode: Mode) -> Result<Self, Absent> {
        let mut closed = None;
        match mode {
            Mode::Off => {}
            Mode::Sampled => set_global_default(Registry::default().with(Nothing))?,
            Mode::Unsampled => set_global_default(Registry::default().with(LevelFilter::WARN))?,
            Mode::Proof => {
                let count = Arc::new(AtomicU64::new(0));
                set_global_default(Registry::default().with(Counting(Arc::clone(&count))))?;
                closed = Some(count);
            }
            Mode::Send(_) => return Err(Absent::NotOffered("it sends nothing")),
        }
        Ok(Self { closed })
    }

    fn item(&self, work: Work, n: u64) {
        item(work, n);
    }

    fn settle(&self) {}

    fn delivered(&self) -> Option<u64> {
        self.closed.as_ref().map(|closed| closed.load(Ordering::Relaxed))
    }
}

/// The same spans, whoever subscribes. Names are literals: they are in statics.
pub fn item(work: Work, n: u64) {
    let root = match work.attributes {
        true => info_span!("orders", queue = names::QUEUE_VALUE, attempt = n),
        false => info_span!("orders"),
    };
    let _root = root.entered();
    match work.shape {
        Shape::Nested => nest(DEPTH),
        Shape::Flat(children) => {
            for child in 0..children {
                let span = match (work.attributes, child % 2) {
                    (false, _) => info_span!("load order"),
                    (true, 0) => info_span!("load order", table = names::TABLE_VALUE),
                    (true, _) => info_span!("load order", rows = child),
                };
                black_box(&span.entered());
            }
        }
    }
}

fn nest(left: u64) {
    if left > 0 {
        let _span = info_span!("load order").entered();
        nest(black_box(left - 1));
    }
}

struct Nothing;

impl<S: Subscriber> Layer<S> for Nothing {}

struct Counting(Arc<AtomicU64>);

impl<S: Subscriber> Layer<S> for Counting {
    fn on_close(&self, _: Id, _: Context<'_, S>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
