//! fastrace: a root that is the thread's local parent, and local spans below it, as its
//! documentation has it for work on one thread. Its clock is the TSC. Properties are texts.

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrace::Span;
use fastrace::collector::{Config, Reporter, SpanContext, SpanRecord};
use fastrace::local::LocalSpan;
use fastrace_opentelemetry::OpenTelemetryReporter;
use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;

use super::opentelemetry::otlp;
use crate::peer::{Absent, Mode, Peer};
use crate::work::{DEPTH, Shape, Work, names};

pub struct Fastrace {
    is_sampled: bool,
    is_on: bool,
    reported: Arc<AtomicU64>,
}

impl Peer for Fastrace {
    fn start(mode: Mode) -> Result<Self, Absent> {
        let reported = Arc::new(AtomicU64::new(0));
        match mode {
            Mode::Off => {}
            Mode::Send(port) => {
                let resource = Cow::Owned(Resource::builder().with_service_name("peers").build());
                let scope = InstrumentationScope::builder("peers").build();
                let reporter = OpenTelemetryReporter::new(otlp(port)?, resource, scope);
                fastrace::set_reporter(reporter, Config::default());
            }
            Mode::Sampled | Mode::Proof | Mode::Unsampled => {
                fastrace::set_reporter(Counting(Arc::clone(&reported)), Config::default());
            }
        }
        Ok(Self { is_sampled: mode != Mode::Unsampled, is_on: mode != Mode::Off, reported })
    }

    fn item(&self, work: Work, n: u64) {
        let context = SpanContext::random().sampled(self.is_sampled);
        let mut root = Span::root(names::ROOT, context);
        if work.attributes {
            root = root.with_properties(|| {
                let queue = Cow::Borrowed(names::QUEUE_VALUE);
                [(names::QUEUE, queue), (names::ATTEMPT, Cow::Owned(n.to_string()))]
            });
        }
        let _parent = root.set_local_parent();
        match work.shape {
            Shape::Nested => nest(DEPTH),
            Shape::Flat(children) => {
                for child in 0..children {
                    let mut span = LocalSpan::enter_with_local_parent(names::CHILD);
                    if work.attributes {
                        span = match child % 2 {
                            0 => span.with_property(|| (names::TABLE, names::TABLE_VALUE)),
                            _ => span.with_property(|| (names::ROWS, child.to_string())),
                        };
                    }
                    black_box(&span);
                }
            }
        }
    }

    fn settle(&self) {
        if self.is_on {
            fastrace::flush();
        }
    }

    fn delivered(&self) -> Option<u64> {
        Some(self.reported.load(Ordering::Relaxed))
    }
}

fn nest(left: u64) {
    if left > 0 {
        let _span = LocalSpan::enter_with_local_parent(names::CHILD);
        nest(black_box(left - 1));
    }
}

struct Counting(Arc<AtomicU64>);

impl Reporter for Counting {
    fn report(&mut self, spans: Vec<SpanRecord>) {
        self.0.fetch_add(spans.len() as u64, Ordering::Relaxed);
    }
}
