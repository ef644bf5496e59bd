//! Transactions that are recorded on trial: kept or not at their end, by the thread that recorded
//! them or by the flusher, and nowhere lost from the books.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic, and start threads"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hotspan::{
    Config, Count, Hub, Keep, Reason, Rule, SpanStatus, Stats, TransactionOptions, start_child,
    start_transaction, stats,
};

mod support;

use support::session::{Ending, LONG, Session, count};

/// Nothing is kept but what has failed.
fn if_failed(config: &mut Config) {
    config.dsn = Some("https://key@localhost/1".into());
    config.traces_sample_rate = Some(0.0);
    // Threads come and go faster than the flusher looks.
    config.ring_bytes = 512 << 20;
    config.rules = vec![Rule {
        op: Some("op".into()),
        keep: Keep { failed: true, ..Keep::default() },
        ..Rule::default()
    }];
}

fn status(failed: bool) -> SpanStatus {
    if failed { SpanStatus::Aborted } else { SpanStatus::Ok }
}

/// On one thread, with two children.
fn at_home(failed: bool) {
    let mut transaction = start_transaction("op", "at home");
    start_child("op", "first").set_data("text", "some text that takes more than forty bytes");
    drop(start_child("op", "second"));
    transaction.set_status(status(failed));
}

/// With a child on another thread, which says how it went.
fn helped(failed: bool) {
    let transaction = start_transaction("op", "helped");
    drop(start_child("op", "here"));
    let context = transaction.context();
    let work = move || {
        let _scope = context.enter();
        start_child("op", "there").set_tag("where", "there");
        if let Some(mut transaction) = Hub::current().scope().transaction() {
            transaction.set_status(status(failed));
        }
    };
    thread::spawn(work).join().unwrap();
}

/// Ended on another thread.
fn sent_away(failed: bool) {
    let transaction = start_transaction("op", "sent away");
    drop(start_child("op", "here"));
    let mut transaction = transaction.detach();
    let work = move || {
        transaction.set_status(status(failed));
        transaction.finish();
    };
    thread::spawn(work).join().unwrap();
}

/// Around another transaction, which ends first and is kept.
fn around(failed: bool) {
    let mut transaction = start_transaction("op", "around");
    drop(start_child("op", "before"));
    start_transaction("op", "inside").set_status(status(true));
    transaction.set_status(status(failed));
}

/// So large that a part of it is published before its end.
fn large(failed: bool) {
    let mut transaction = start_transaction("op", "large");
    for _ in 0..2000 {
        drop(start_child("op", "one of many"));
    }
    transaction.set_status(status(failed));
}

fn discarded(ending: &Ending) -> Count {
    ending.after.discarded - ending.before.discarded
}

/// What the server was told of transactions that were left out, which is as of so many spans.
fn told(ending: &Ending) -> u64 {
    let of = |category: &str| {
        ending.reported.get(&("sample_rate".to_owned(), category.to_owned())).copied().unwrap_or(0)
    };
    assert_eq!(of("transaction"), of("span"));
    of("transaction")
}

#[test]
fn wherever_one_ends_it_is_kept_or_not_whole_and_counted_once() {
    type Item = fn(bool);
    for (item, children, inside, name) in [
        (at_home as Item, 2, 0, "at home"),
        (helped, 2, 0, "helped"),
        (sent_away, 1, 0, "sent away"),
        (around, 1, 1, "around"),
        (large, 2000, 0, "large"),
    ] {
        let session = Session::start(|config| {
            if_failed(config);
            (config.ring_slots, config.max_spans) = (4096, 10_000);
        });
        for failed in [false, false, false, true, false] {
            item(failed);
            // Room for the next one.
            assert!(session.guard.flush(LONG).complete);
        }
        let ending = session.end();
        let left_out = count(4, 4 * (1 + children));
        assert_eq!(discarded(&ending), left_out, "{name}");
        let kept = count(1 + 5 * inside, 1 + children + 5 * inside);
        assert_eq!(ending.report.delivered, kept, "{name}");
        assert_eq!(ending.report.discarded, left_out, "{name}");
        assert_eq!(ending.after.held(), Count::default(), "{name}");
        assert_eq!(ending.after.started - ending.before.started, kept + left_out, "{name}");
        assert!(ending.report.complete && ending.lost_in_all() == Count::default(), "{name}");
        assert_eq!(told(&ending), 4, "{name}");
        let sampling = |stats: &Stats| stats.sampling.sample_rate;
        assert_eq!(sampling(&ending.after) - sampling(&ending.before), 4, "{name}");
        let opened = ending.named(name);
        assert_eq!(opened.spans().len() as u64, children, "{name}");
        assert_eq!(opened.root()["status"], "aborted");
        assert_eq!(opened.header["trace"]["sample_rate"], "1.0", "it was certain to be kept");
        assert!(ending.after.to_string().contains("not kept at the end"), "{}", ending.after);
    }
}

#[test]
fn what_is_counted_of_others_meanwhile_is_not_the_trial_s() {
    let early = Session::start(|_| {});
    let stranger = start_transaction("op", "of an earlier session").detach();
    // What it is counted for is this session's.
    let session = early.again(if_failed);
    {
        let _transaction = start_transaction("op", "trial");
        drop(start_child("op", "child"));
        drop(stranger);
    }
    let ending = session.end();
    assert_eq!(discarded(&ending), count(1, 2));
    assert_eq!(ending.lost(Reason::AfterShutdown), count(1, 1));
}

#[test]
fn what_is_written_for_others_meanwhile_stays() {
    for says in [false, true] {
        let session = Session::start(if_failed);
        let other = TransactionOptions::new().sampled(true).start("other", "other").detach();
        let trial = start_transaction("op", "trial");
        drop(start_child("op", "child"));
        let scope = other.enter();
        let mut child = scope.start_child("op", "of the other");
        if says {
            child.set_data("kept", true);
        }
        drop(trial);
        drop(child);
        drop(scope);
        drop(other);
        let ending = session.end();
        assert_eq!(discarded(&ending), count(1, 2));
        let spans = ending.only().spans();
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0]["data"]["kept"] == true, says, "{}", spans[0]);
    }
}

#[test]
fn code_can_have_any_transaction_dropped_on_any_thread() {
    let session = Session::start(|_| {});
    start_transaction("op", "here").discard();
    {
        let transaction = start_transaction("op", "by a helper");
        drop(start_child("op", "child"));
        let context = transaction.context();
        let work = move || {
            let _scope = context.enter();
            Hub::current().scope().transaction().unwrap().discard();
        };
        thread::spawn(work).join().unwrap();
    }
    start_transaction("op", "sent away").detach().discard();
    start_transaction("op", "second thought").discard().keep();
    start_transaction("op", "third thought").keep().discard();
    let ending = session.end();
    assert_eq!(ending.only().name(), "second thought");
    assert_eq!(discarded(&ending), count(4, 5));
    assert_eq!(ending.report.delivered, count(1, 1));
    assert_eq!(told(&ending), 4);
}

#[test]
fn the_books_hold_at_any_time() {
    const THREADS: u64 = 4;
    const ITEMS: u64 = 300;
    let session = Session::start(if_failed);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut last = stats();
            while !over.load(Ordering::SeqCst) {
                let now = stats();
                now.check().unwrap();
                let held = |stats: &Stats| [stats.discarded.transactions, stats.discarded.spans];
                assert!(held(&last) <= held(&now), "{last}\n{now}");
                last = now;
                thread::sleep(Duration::from_micros(50));
            }
        });
        let work = |thread: u64| {
            for n in 0..ITEMS {
                let item = [at_home, helped, sent_away, around][((n + thread) % 4) as usize];
                item(n % 10 == 0);
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || work(n))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        over.store(true, Ordering::SeqCst);
        watch.join().unwrap();
    });
    let ending = session.end();
    let after = &ending.after;
    assert_eq!(discarded(&ending).transactions, THREADS * ITEMS * 9 / 10, "{after}");
    assert_eq!(told(&ending), THREADS * ITEMS * 9 / 10);
    // Inside each that goes around another one is one that is kept.
    let kept = THREADS * ITEMS / 10 + THREADS * ITEMS / 4;
    assert_eq!(ending.report.delivered.transactions, kept);
}
