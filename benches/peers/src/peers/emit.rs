//! emit: functions with `#[emit::span]`, as its documentation has it, and an emitter that counts
//! events and throws them away, on the recording thread.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::peer::{Absent, Mode, Peer};
use crate::work::{DEPTH, Shape, Work, names};

pub struct Emit {
    flush: Option<Box<dyn Fn() -> bool + Send + Sync>>,
    emitted: Arc<AtomicU64>,
}

impl Peer for Emit {
    fn start(mode: Mode) -> Result<Self, Absent> {
        let emitted = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&emitted);
        let counting = emit::emitter::from_fn(move |event| {
            black_box(&event);
            count.fetch_add(1, Ordering::Relaxed);
        });
        let time = Duration::from_secs(10);
        let flush: Box<dyn Fn() -> bool + Send + Sync> = match mode {
            Mode::Off => return Ok(Self { flush: None, emitted }),
            Mode::Sampled | Mode::Proof => {
                let init = emit::setup().emit_to(counting).init();
                Box::new(move || init.blocking_flush(time))
            }
            Mode::Unsampled => {
                let nothing = emit::filter::from_fn(|_| false);
                let init = emit::setup().emit_to(counting).emit_when(nothing).init();
                Box::new(move || init.blocking_flush(time))
            }
            Mode::Send(port) => {
                let url = format!("http://127.0.0.1:{port}/v1/traces");
                let otlp = emit_otlp::new()
                    .resource(emit::props! { #[emit::key("service.name")] service_name: "peers" })
                    .traces(emit_otlp::traces_http_proto(url))
                    .spawn();
                let init = emit::setup().emit_to(otlp).init();
                Box::new(move || init.blocking_flush(time))
            }
        };
        Ok(Self { flush: Some(flush), emitted })
    }

    fn item(&self, work: Work, n: u64) {
        match work.attributes {
            true => root_with_attributes(work, n),
            false => root(work),
        }
    }

    fn settle(&self) {
        if let Some(flush) = &self.flush {
            flush();
        }
    }

    fn delivered(&self) -> Option<u64> {
        Some(self.emitted.load(Ordering::Relaxed))
    }
}

#[emit::span("orders")]
fn root(work: Work) {
    children(work);
}

#[emit::span("orders", queue: names::QUEUE_VALUE, attempt: n)]
fn root_with_attributes(work: Work, n: u64) {
    children(work);
}

fn children(work: Work) {
    match work.shape {
        Shape::Nested => nest(DEPTH),
        Shape::Flat(children) => {
            for number in 0..children {
                match (work.attributes, number % 2) {
                    (false, _) => child(),
                    (true, 0) => child_with_text(),
                    (true, _) => child_with_number(number),
                }
            }
        }
    }
}

#[emit::span("load order")]
fn child() {}

#[emit::span("load order", table: names::TABLE_VALUE)]
fn child_with_text() {}

#[emit::span("load order", rows: number)]
fn child_with_number(number: u64) {}

fn nest(left: u64) {
    if left > 0 {
        nested(left);
    }
}

#[emit::span("load order")]
fn nested(left: u64) {
    nest(black_box(left - 1));
}
