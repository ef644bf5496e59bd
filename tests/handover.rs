//! Transactions that pass through several threads, flat out: nothing is lost in silence, nothing
//! comes twice, and with room enough every one comes whole.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::mem_forget,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic, start threads, and forget what should not be"
)]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hotspan::{Config, Count, Detached, Reason, start_child, start_transaction, stats};

mod support;

use support::session::{Ending, Session, count};

/// A reader, two workers and an acker, and a thread that looks at the books all the while. Every
/// item starts eight spans; `gap` paces the reader.
fn pipeline(items: u64, gap: impl Fn(u64) + Send, change: impl FnOnce(&mut Config)) -> Ending {
    let session = Session::start(change);
    let over = AtomicBool::new(false);
    let (to_workers, at_workers) = crossbeam_channel::bounded::<(u64, Detached)>(256);
    let (to_acker, at_acker) = mpsc::sync_channel::<(u64, Detached, Detached)>(256);
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Ordering::SeqCst) {
                stats().check().unwrap();
                looks += 1;
                thread::sleep(Duration::from_millis(5));
            }
            looks
        });
        scope.spawn(move || {
            for n in 0..items {
                let mut transaction = start_transaction("queue.process", "orders");
                transaction.set_data("n", n).set_tag("stage", "read");
                start_child("read", "read").set_data("n", n);
                to_workers.send((n, transaction.detach())).unwrap();
                gap(n);
            }
        });
        for _ in 0..2 {
            let (at_workers, to_acker) = (at_workers.clone(), to_acker.clone());
            scope.spawn(move || {
                for (n, transaction) in at_workers {
                    let wait = {
                        let mut scope = transaction.enter();
                        scope.set_tag("stage", "worked");
                        let mut work = start_child("work", "work");
                        work.set_data("n", n);
                        drop(start_child("part", "one"));
                        // Taken along, and ended after its parent.
                        start_child("part", "two").detach()
                    };
                    drop(transaction.start_child("part", "three"));
                    to_acker.send((n, transaction, wait)).unwrap();
                }
            });
        }
        drop((at_workers, to_acker));
        for (n, mut transaction, wait) in at_acker {
            // A part of its own, on a thread of the transaction's context.
            let context = transaction.context();
            start_and_end(&context);
            drop(wait);
            transaction.set_tag("stage", "acked");
            if n % 100 == 7 {
                // Too late.
                let late = transaction.start_child("part", "late");
                drop(transaction);
                drop(late);
            }
        }
        over.store(true, Ordering::SeqCst);
        assert!(looking.join().unwrap() > 0);
    });
    session.end()
}

fn start_and_end(context: &hotspan::SpanContext) {
    let _scope = context.enter();
    drop(start_child("ack", "ack"));
}

fn assert_nothing_twice(ending: &Ending) {
    let mut ids = HashSet::new();
    for transaction in &ending.transactions {
        assert!(transaction.span_ids().all(|id| ids.insert(id)), "a span came twice");
    }
    let sum = ending.transactions.iter().fold(count(0, 0), |sum, one| sum + one.count());
    assert_eq!(sum, ending.report.delivered);
}

const CHILDREN: u64 = 6;

#[test]
fn with_room_enough_every_transaction_comes_whole() {
    const ITEMS: u64 = 5_000;
    // Slow enough for a test build on a busy machine, with bursts of 50.
    let gap = |n: u64| {
        if n % 50 == 49 {
            thread::sleep(Duration::from_millis(5));
        }
    };
    let ending = pipeline(ITEMS, gap, |config| {
        config.ring_slots = 1 << 16;
        config.ring_bytes = 64 << 20;
        config.queue_bytes = 64 << 20;
    });
    assert_nothing_twice(&ending);
    let late = ITEMS / 100;
    assert_eq!(ending.lost(Reason::LateChild), count(0, late));
    assert_eq!(ending.lost_in_all(), count(0, late));
    assert_eq!(ending.transactions.len() as u64, ITEMS);
    let mut seen = HashSet::new();
    for transaction in &ending.transactions {
        let n = &transaction.root()["data"]["n"];
        assert!(seen.insert(n.as_u64().unwrap()));
        assert_eq!(transaction.spans().len() as u64, CHILDREN, "{:#}", transaction.payload);
        assert_eq!(transaction.payload["tags"]["stage"], "acked");
        let work = transaction.span("work");
        assert_eq!((&work["data"]["n"], &transaction.span("read")["data"]["n"]), (n, n));
        for (name, parent) in [
            ("read", transaction.root()),
            ("work", transaction.root()),
            ("one", work),
            ("two", work),
            ("three", transaction.root()),
            ("ack", transaction.root()),
        ] {
            assert_eq!(transaction.span(name)["parent_span_id"], parent["span_id"], "{name}");
        }
    }
}

#[test]
fn flat_out_with_too_little_room_the_books_are_exact() {
    const ITEMS: u64 = 20_000;
    let ending = pipeline(
        ITEMS,
        |_| {},
        |config| {
            config.ring_slots = 1024;
            config.ring_bytes = 1 << 20;
            config.queue_bytes = 64 << 10;
            config.open_transactions = 64;
            config.open_slots = 512;
        },
    );
    assert_nothing_twice(&ending);
    let lost = ending.lost_in_all();
    assert!(lost.spans > 0, "the bounds are too wide for this test");
    assert_eq!(ending.report.left, Count::default());
    let started = ending.after.started - ending.before.started;
    // A span whose transaction was refused has no child.
    assert!(started.transactions == ITEMS && started.spans <= ITEMS * 7 + ITEMS / 100);
    assert_eq!(ending.report.delivered + lost, started);
}
