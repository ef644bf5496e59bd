//! What recording costs on the instrumented thread, with a transport that throws envelopes away.
//!
//! `cargo bench --bench record`
//!
//! Operations are timed in batches. Between batches, untimed, the flusher reads what was recorded, so that
//! rings never fill and the cost of a refusal is not taken for the cost of a record. `cargo run --release
//! --example cost` prints the same quantities side by side, as ratios to the clock.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::expect_used, reason = "a measurement that cannot be made may panic")]
#![expect(clippy::print_stdout, reason = "what became of the spans")]

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hotspan::{Config, Delivery, Guard, Name, Reason, start_child, start_transaction};

/// Children of one transaction: its own cost is spread over them.
const CHILDREN: u64 = 20;
/// Operations in a batch, at most: some 50,000 slots of a ring's 131,072.
const BATCH: u64 = 10_000;

static OP: Name = Name::new("queue.process");
static NAME: Name = Name::new("orders");
static CHILD_OP: Name = Name::new("db.query");
static CHILD: Name = Name::new("load order");
static QUEUE: Name = Name::new("queue");
static STATUS: Name = Name::new("http.status_code");
static ROWS: Name = Name::new("rows");
static CACHED: Name = Name::new("cached");
static SESSION: Name = Name::new("session");

/// `iters` operations in batches: the time of the batches alone.
fn timed(guard: Option<&Guard>, iters: u64, run: impl Fn(u64)) -> Duration {
    let mut left = iters;
    let mut sum = Duration::ZERO;
    while left > 0 {
        let batch = left.min(BATCH);
        let begin = Instant::now();
        run(batch);
        sum += begin.elapsed();
        left -= batch;
        if let Some(guard) = guard {
            let _ = guard.flush(Duration::from_secs(10));
        }
    }
    sum
}

fn children(count: u64) {
    for _ in 0..count {
        drop(black_box(start_child(&CHILD_OP, &CHILD)));
    }
}

/// Runs `work` inside of transactions, [`CHILDREN`] operations in each.
fn in_transactions(count: u64, work: impl Fn(u64)) {
    let mut left = count;
    while left > 0 {
        let some = left.min(CHILDREN);
        let _transaction = start_transaction(&OP, &NAME);
        work(some);
        left -= some;
    }
}

/// A transaction, three children, five attributes; registered names.
fn items(count: u64) {
    for n in 0..count {
        let mut transaction = start_transaction(&OP, &NAME);
        transaction.set_tag(&QUEUE, "orders").set_tag(&SESSION, "0123456789abcdef");
        start_child(&CHILD_OP, &CHILD).set_data(&ROWS, n);
        start_child(&CHILD_OP, &CHILD).set_data(&CACHED, true);
        start_child(&CHILD_OP, &CHILD).set_tag(&STATUS, 200);
    }
}

/// The same with texts, which a cache of the thread looks up.
fn items_with_texts(count: u64) {
    for n in 0..count {
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.set_tag("queue", "orders").set_tag("session", "0123456789abcdef");
        start_child("db.query", "load order").set_data("rows", n);
        start_child("db.query", "load order").set_data("cached", true);
        start_child("db.query", "load order").set_tag("http.status_code", 200);
    }
}

/// Two threads at once, each with its own transactions: the mean of their times.
fn two_threads(iters: u64, guard: &Guard) -> Duration {
    let mut left = iters;
    let mut sum = Duration::ZERO;
    while left > 0 {
        let batch = left.min(BATCH);
        let barrier = Barrier::new(2);
        let work = || {
            in_transactions(CHILDREN, children);
            barrier.wait();
            let begin = Instant::now();
            in_transactions(batch, children);
            begin.elapsed()
        };
        sum += std::thread::scope(|scope| {
            let other = scope.spawn(work);
            (work() + other.join().unwrap_or_default()) / 2
        });
        left -= batch;
        let _ = guard.flush(Duration::from_secs(10));
    }
    sum
}

fn start(rate: f64) -> Guard {
    hotspan::init(Config {
        transport: Delivery::Null,
        traces_sample_rate: Some(rate),
        ..Config::default()
    })
    .expect("nothing else is initialised here")
}

fn off(criterion: &mut Criterion) {
    let clock = quanta::Clock::new();
    criterion.bench_function("clock_pair", |bencher| {
        bencher.iter(|| (black_box(clock.raw()), black_box(clock.raw())));
    });
    criterion.bench_function("not_initialised", |bencher| {
        bencher.iter_custom(|iters| timed(None, iters, children));
    });
}

fn unsampled(criterion: &mut Criterion) {
    let guard = start(0.0);
    let mut bench = |name: &str, run: fn(u64)| {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iters| timed(Some(&guard), iters, run));
        });
    };
    bench("child_unsampled", |count| {
        let _transaction = start_transaction(&OP, &NAME);
        children(count);
    });
    bench("item_unsampled", items);
    bench("item_unsampled_texts", items_with_texts);
}

fn sampled(criterion: &mut Criterion) {
    let guard = start(1.0);
    let dynamic: Vec<String> = (0..64).map(|n| format!("load order of shop {n}")).collect();
    {
        let mut bench = |name: &str, run: &dyn Fn(u64)| {
            criterion.bench_function(name, |bencher| {
                bencher.iter_custom(|iters| timed(Some(&guard), iters, run));
            });
        };
        bench("transaction_alone", &|count| {
            for _ in 0..count {
                drop(black_box(start_transaction(&OP, &NAME)));
            }
        });
        // Each with its twentieth of a transaction.
        bench("child_recorded", &|count| in_transactions(count, children));
        bench("child_two_attributes", &|count| {
            in_transactions(count, |some| {
                for n in 0..some {
                    let mut span = start_child(&CHILD_OP, &CHILD);
                    span.set_data(&ROWS, n).set_data(&CACHED, true);
                }
            });
        });
        bench("child_dynamic_name", &|count| {
            let mut names = dynamic.iter().cycle();
            let _transaction = start_transaction(&OP, &NAME);
            for _ in 0..count {
                if let Some(name) = names.next() {
                    drop(black_box(start_child("db.query", name)));
                }
            }
        });
        bench("set_tag", &|count| {
            let mut transaction = start_transaction(&OP, &NAME);
            (0..count).for_each(|_| {
                transaction.set_tag(&QUEUE, "orders");
            });
        });
        bench("set_data", &|count| {
            let mut transaction = start_transaction(&OP, &NAME);
            (0..count).for_each(|n| {
                transaction.set_data(&ROWS, n);
            });
        });
        bench("item_sampled", &items);
        bench("item_sampled_texts", &items_with_texts);
    }
    criterion.bench_function("child_recorded_two_threads", |bencher| {
        bencher.iter_custom(|iters| two_threads(iters, &guard));
    });
    let stats = hotspan::stats();
    assert_eq!(stats.dropped.get(&Reason::RingFull), None, "a refusal is not a record");
    println!("{} spans delivered, dropped later: {:?}", stats.delivered.spans, stats.dropped);
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = settings(); targets = off, unsampled, sampled }
criterion_main!(benches);
