//! Sentry's SDK for Rust, by its own API: a transaction, and children started on it, which is what
//! its documentation shows and costs less than looking for the parent in the scope.
//!
//! The null transport counts and throws away. It is called on the recording thread, before anything
//! is serialised: unlike hotspan's null runs these hold no encoding.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sentry::protocol::EnvelopeItem;
use sentry::{ClientInitGuard, ClientOptions, Envelope, Span, TransactionContext, Transport};

use crate::peer::{Absent, Mode, Peer};
use crate::work::{DEPTH, Shape, Work, names};

pub struct Sentry {
    guard: Option<ClientInitGuard>,
    counted: Arc<Counting>,
}

impl Peer for Sentry {
    fn start(mode: Mode) -> Result<Self, Absent> {
        let counted = Arc::new(Counting::default());
        let rate = if mode == Mode::Unsampled { 0.0 } else { 1.0 };
        let port = if let Mode::Send(port) = mode { port } else { 9 };
        let dsn = format!("http://0123456789abcdef0123456789abcdef@127.0.0.1:{port}/1");
        let mut options = ClientOptions::new().traces_sample_rate(rate);
        options.dsn = Some(dsn.parse()?);
        if !matches!(mode, Mode::Send(_)) {
            let counting = Arc::clone(&counted);
            let factory = move |_: &ClientOptions| -> Arc<dyn Transport> { counting.clone() };
            options.transport = Some(Arc::new(factory));
        }
        let guard = (mode != Mode::Off).then(|| sentry::init(options));
        Ok(Self { guard, counted })
    }

    fn item(&self, work: Work, n: u64) {
        let context = TransactionContext::new(names::ROOT, names::ROOT_OP);
        let transaction = sentry::start_transaction(context);
        if work.attributes {
            transaction.set_data(names::QUEUE, names::QUEUE_VALUE.into());
            transaction.set_data(names::ATTEMPT, n.into());
        }
        match work.shape {
            Shape::Nested => {
                let span = transaction.start_child(names::CHILD_OP, names::CHILD);
                nest(&span, DEPTH - 1);
                span.finish();
            }
            Shape::Flat(children) => {
                for child in 0..children {
                    let span = transaction.start_child(names::CHILD_OP, names::CHILD);
                    if work.attributes {
                        match child % 2 {
                            0 => span.set_data(names::TABLE, names::TABLE_VALUE.into()),
                            _ => span.set_data(names::ROWS, child.into()),
                        }
                    }
                    black_box(&span);
                    span.finish();
                }
            }
        }
        transaction.finish();
    }

    fn settle(&self) {
        if let Some(guard) = &self.guard {
            guard.flush(Some(Duration::from_secs(10)));
        }
    }

    fn delivered(&self) -> Option<u64> {
        Some(self.counted.spans.load(Ordering::Relaxed))
    }
}

fn nest(parent: &Span, left: u64) {
    if left > 0 {
        let span = parent.start_child(names::CHILD_OP, names::CHILD);
        nest(&span, black_box(left - 1));
        span.finish();
    }
}

#[derive(Default)]
struct Counting {
    spans: AtomicU64,
}

impl Transport for Counting {
    fn send_envelope(&self, envelope: Envelope) {
        for item in envelope.items() {
            if let EnvelopeItem::Transaction(transaction) = item {
                self.spans.fetch_add(1 + transaction.spans.len() as u64, Ordering::Relaxed);
            }
        }
    }
}
