//! Many short threads, each of which records: their rings, stacks and counters are handed on, so
//! that memory stays what the threads alive at once need, and nothing is lost.
//!
//! `HOTSPAN_THREADS` says how many there are (10,000); `scripts/churn` runs more.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests may panic and print"
)]

use std::thread;

use hotspan::{Config, Count, Delivery, Detached, inflight, stats};

mod support;

use support::process::{Size, env_number};
use support::session::LONG;

/// Threads at once.
const ALIVE: u64 = 16;
const CHILDREN: u64 = 9;
/// Threads between two looks of the flusher that are waited for: as many rings may wait for it, so
/// that nothing depends on how soon it gets its turn.
const BETWEEN_FLUSHES: u64 = 128;
/// What the process may grow by once it has seen its first threads: buffers with bounds of their own
/// fill up. Half of the ring memory's bound; what grew with the threads would be beyond it soon.
const GROWTH_MAX: usize = 8 << 20;

/// A thread's whole life: half of them end a transaction that came from elsewhere.
fn live(number: u64, carried: Option<Detached>) {
    match carried {
        Some(transaction) => {
            let scope = transaction.enter();
            for _ in 1..CHILDREN {
                drop(hotspan::start_child("step", "on a short thread"));
            }
            assert_named(number, transaction.trace_id());
            drop(scope);
            transaction.finish();
        }
        None => {
            let transaction = hotspan::start_transaction("queue.process", "short");
            for _ in 0..CHILDREN {
                drop(hotspan::start_child("step", "on a short thread"));
            }
            assert_named(number, transaction.trace_id());
        }
    }
}

/// The name is this thread's, and not that of one which had its place before.
fn assert_named(number: u64, trace: Option<hotspan::TraceId>) {
    if number % 16 < 2 {
        let open = inflight();
        let mine = open.iter().find(|open| Some(open.trace_id) == trace).unwrap();
        assert_eq!(mine.thread_name, Some(name(number)));
    }
}

fn name(number: u64) -> String {
    format!("short-{number}")
}

#[test]
fn short_threads_leave_nothing_behind_and_lose_nothing() {
    let threads = env_number("HOTSPAN_THREADS", 10_000) / BETWEEN_FLUSHES * BETWEEN_FLUSHES;
    let guard = hotspan::init(Config {
        transport: Delivery::Null,
        traces_sample_rate: Some(1.0),
        ..Config::default()
    })
    .unwrap();
    let mut early = Size::default();
    for first in (0..threads / ALIVE).map(|batch| batch * ALIVE) {
        thread::scope(|scope| {
            for number in first..first + ALIVE {
                let carried = (number % 2 == 1).then(|| {
                    let transaction = hotspan::start_transaction("queue.process", "carried");
                    drop(hotspan::start_child("step", "where it began"));
                    transaction.detach()
                });
                thread::Builder::new()
                    .name(name(number))
                    .spawn_scoped(scope, move || live(number, carried))
                    .unwrap();
            }
        });
        if first % BETWEEN_FLUSHES == 0 {
            assert!(guard.flush(LONG).complete);
        }
        if first == threads / 10 / ALIVE * ALIVE {
            early = Size::now();
        }
    }
    let late = Size::now();
    let report = guard.close(LONG);
    let stats = stats();
    stats.check().unwrap();
    let all = Count { transactions: threads, spans: threads * (1 + CHILDREN) };
    assert_eq!((report.delivered, report.complete), (all, true), "{stats}");
    println!(
        "{threads} threads: {} KiB in memory after the first tenth, {} KiB at the end; {} rings",
        early.resident / 1024,
        late.resident / 1024,
        stats.rings.made
    );
    assert!(stats.rings.made as u64 <= BETWEEN_FLUSHES + 2 * ALIVE, "{} rings", stats.rings.made);
    assert!(late.resident <= early.resident + GROWTH_MAX, "{early:?} {late:?}");
    // The main thread's lane is the only one that is held.
    assert_eq!(stats.rings.live, 1);
}
