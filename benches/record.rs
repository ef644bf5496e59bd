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
use hotspan::{Config, Delivery, Guard, Keep, Name, Reason, Rule, start_child, start_transaction};

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
    start_with(rate, Vec::new())
}

fn start_with(rate: f64, rules: Vec<Rule>) -> Guard {
    hotspan::init(Config {
        dsn: Some("https://0123456789abcdef0123456789abcdef@localhost/1".into()),
        release: Some("shop@2.14.0".into()),
        environment: Some("production".into()),
        transport: Delivery::Null,
        traces_sample_rate: Some(rate),
        rules,
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

/// Rules of which the last one is the item's: the others are for other ops, or for other names.
fn rules(count: usize, by_name: bool, last: Rule) -> Vec<Rule> {
    let op = || Some(OP.as_str().to_owned());
    let other = |n| {
        let text = Some(format!("other {n}"));
        let (op, name) = if by_name { (op(), text) } else { (text, None) };
        Rule { op, name, rate: Some(0.5), ..Rule::default() }
    };
    let name = by_name.then(|| NAME.as_str().to_owned());
    (1..count).map(other).chain([Rule { op: op(), name, ..last }]).collect()
}

fn ruled(criterion: &mut Criterion) {
    let nothing = || Rule { rate: Some(0.0), ..Rule::default() };
    let keep = Keep { slower_than: Some(Duration::from_secs(3600)), ..Keep::default() };
    for (name, rules) in [
        ("item_unsampled_10_rules", rules(10, false, nothing())),
        ("item_unsampled_200_rules", rules(200, false, nothing())),
        ("item_unsampled_200_rules_by_name", rules(200, true, nothing())),
        ("item_discarded", rules(10, false, Rule { keep, ..nothing() })),
    ] {
        let guard = start_with(1.0, rules);
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iters| timed(Some(&guard), iters, items));
        });
    }
}

/// What a message brings along.
const INCOMING: [(&str, &str); 2] = [
    ("sentry-trace", "4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-1"),
    (
        "baggage",
        "sentry-trace_id=4c79f60c11214eb38604f4ae0781bfb2,\
         sentry-public_key=0123456789abcdef0123456789abcdef,sentry-org_id=1,\
         sentry-environment=production,sentry-release=shop%402.14.0,sentry-sample_rate=0.25,\
         sentry-sampled=true,sentry-sample_rand=0.123456,sentry-transaction=POST%20%2Forders",
    ),
];

fn write_headers(count: u64) {
    let mut buffer = String::with_capacity(1024);
    for _ in 0..count {
        buffer.clear();
        if let Some(headers) = hotspan::trace_headers() {
            let _ = headers.write_http(&mut buffer);
        }
        black_box(&buffer);
    }
}

fn propagated(criterion: &mut Criterion) {
    let guard = start(1.0);
    let mut bench = |name: &str, run: fn(u64)| {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iters| timed(Some(&guard), iters, run));
        });
    };
    bench("headers", |count| {
        let _transaction = start_transaction(&OP, &NAME);
        write_headers(count);
    });
    bench("headers_continued", |count| {
        let incoming = hotspan::continue_from(black_box(INCOMING));
        let _transaction = incoming.start_transaction(&OP, &NAME);
        write_headers(count);
    });
    bench("transaction_continued", |count| {
        for _ in 0..count {
            let incoming = hotspan::continue_from(black_box(INCOMING));
            drop(black_box(incoming.start_transaction(&OP, &NAME)));
        }
    });
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

criterion_group! { name = benches; config = settings(); targets = off, unsampled, ruled, propagated, sampled }
criterion_main!(benches);
