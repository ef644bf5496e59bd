//! What a recorded span costs on the other side: CPU time of the flusher's thread, from ring to envelope.
//!
//! `cargo bench --bench encode`, on Linux, where a thread's CPU time can be read
//! `RUSTFLAGS="--cfg fuzzing" cargo bench --bench encode --target-dir target/fuzzing` adds the encoder alone
//!
//! Transactions of 20 children are recorded and flushed to a transport that throws envelopes away; the
//! figure is the flusher's time over the number of spans, roots included.

#![expect(clippy::expect_used, reason = "a measurement that cannot be made may panic")]
#![cfg_attr(fuzzing, expect(clippy::print_stdout, reason = "the size of what is encoded"))]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hotspan::{Config, Delivery, Guard, Name, start_child, start_transaction};

/// Children of one transaction.
const CHILDREN: u64 = 20;
/// Transactions between two flushes: some 20,000 slots, more with attributes.
const BATCH: u64 = 1000;

static OP: Name = Name::new("queue.process");
static NAME: Name = Name::new("orders");
static CHILD_OP: Name = Name::new("db.query");
static CHILD: Name = Name::new("load order");
static ROWS: Name = Name::new("rows");
static CACHED: Name = Name::new("cached");

/// CPU time of the thread of this process with this name.
fn cpu_of(thread: &str) -> Option<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let folder = task.ok()?.path();
        if std::fs::read_to_string(folder.join("comm")).ok()?.trim() == thread {
            let text = std::fs::read_to_string(folder.join("schedstat")).ok()?;
            nanos += text.split(' ').next()?.parse::<u64>().ok()?;
        }
    }
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

fn transactions(count: u64, attributes: bool) {
    for _ in 0..count {
        let _transaction = start_transaction(&OP, &NAME);
        for n in 0..CHILDREN {
            let mut span = start_child(&CHILD_OP, &CHILD);
            if attributes {
                span.set_data(&ROWS, n).set_data(&CACHED, true);
            }
        }
    }
}

/// The flusher's CPU time for `spans`, measured over whole transactions.
fn flusher(guard: &Guard, spans: u64, attributes: bool) -> Duration {
    let wanted = spans.div_ceil(CHILDREN + 1);
    let before = cpu_of("hotspan-flush").expect("a flusher, on Linux");
    let mut left = wanted;
    while left > 0 {
        let batch = left.min(BATCH);
        transactions(batch, attributes);
        let _ = guard.flush(Duration::from_secs(10));
        left -= batch;
    }
    let spent = cpu_of("hotspan-flush").expect("the same") - before;
    spent.mul_f64(spans as f64 / (wanted * (CHILDREN + 1)) as f64)
}

fn flush_per_span(criterion: &mut Criterion) {
    let guard = hotspan::init(Config {
        transport: Delivery::Null,
        traces_sample_rate: Some(1.0),
        ..Config::default()
    })
    .expect("nothing else is initialised here");
    // The thread shows its CPU time once it has run.
    transactions(BATCH, true);
    let _ = guard.flush(Duration::from_secs(10));
    for (name, attributes) in [("flush per span", false), ("flush per span, attributes", true)] {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|spans| flusher(&guard, spans, attributes));
        });
    }
    let lost = hotspan::stats().dropped_in_all();
    assert_eq!(lost.spans, 0, "what was dropped was not encoded");
}

/// One encoder over one run of slots, again and again.
#[cfg(fuzzing)]
fn encode_transaction(criterion: &mut Criterion) {
    for (name, attributes) in [("encode 21 spans", false), ("encode 21 spans, attributes", true)] {
        let mut encode = hotspan::fuzzing::encode(CHILDREN, attributes);
        println!("{name}: {} bytes", encode());
        criterion.bench_function(name, |bencher| bencher.iter(&mut encode));
    }
}

#[cfg(not(fuzzing))]
fn encode_transaction(_: &mut Criterion) {}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = flush_per_span, encode_transaction
}
criterion_main!(benches);
