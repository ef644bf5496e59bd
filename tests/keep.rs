//! Transactions whose end decides whether they are kept: on their own thread, by taking them back,
//! and in the flusher where that cannot be done.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic, and start threads"
)]

use std::time::{Duration, SystemTime};

use hotspan::{Keep, Rule, SpanStatus, TransactionOptions, start_child, start_transaction, stats};

mod support;

use support::session::{Session, count};

/// Nothing is kept but for its end.
fn session(keep: Keep) -> Session {
    Session::start(|config| {
        config.dsn = Some("http://0123456789abcdef0123456789abcdef@127.0.0.1:1/1".into());
        config.traces_sample_rate = Some(0.0);
        config.rules = vec![Rule { op: Some("item".into()), keep, ..Rule::default() }];
    })
}

/// A transaction with two children; `change` before it ends.
fn item(change: impl FnOnce(&mut hotspan::Transaction)) {
    let mut transaction = start_transaction("item", "orders");
    transaction.set_tag("some", "thing");
    {
        let mut child = start_child("step", "one");
        child.set_data("text", "x".repeat(300));
        drop(start_child("step", "two"));
    }
    change(&mut transaction);
}

#[test]
fn what_meets_no_condition_never_reaches_the_flusher() {
    let session = session(Keep { failed: true, ..Keep::default() });
    for _ in 0..1000 {
        item(|_| {});
    }
    let waiting = stats().rings.slots_waiting;
    let ending = session.end();
    assert_eq!(waiting, 0, "taken back, and not published");
    assert!(ending.transactions.is_empty());
    let discarded = ending.after.discarded - ending.before.discarded;
    assert_eq!(discarded, count(1000, 3000));
    assert_eq!(ending.reported[&("sample_rate".into(), "transaction".into())], 1000);
    assert_eq!(ending.reported[&("sample_rate".into(), "span".into())], 1000);
}

#[test]
fn failed_ones_are_kept_and_say_so() {
    let session = session(Keep { failed: true, ..Keep::default() });
    item(|transaction| {
        transaction.set_status(SpanStatus::InternalError);
    });
    item(|transaction| {
        transaction.set_status(SpanStatus::InternalError).set_status(SpanStatus::Ok);
    });
    item(|transaction| {
        transaction.set_http_status(503);
    });
    let _ = std::panic::catch_unwind(|| item(|_| panic!("on purpose")));
    item(|_| {});
    let ending = session.end();
    assert_eq!(ending.transactions.len(), 3);
    for opened in &ending.transactions {
        assert_eq!(opened.header["trace"]["sample_rate"], "1.0");
        assert_eq!(opened.root()["data"]["hotspan.kept"], "failed");
        assert_eq!(opened.spans().len(), 2);
    }
    assert_eq!(ending.after.discarded - ending.before.discarded, count(2, 6));
}

#[test]
fn slow_ones_are_kept() {
    let session = session(Keep { slower_than: Some(Duration::from_secs(60)), ..Keep::default() });
    let long_ago = SystemTime::now() - Duration::from_secs(100);
    item(|_| {});
    item(|transaction| {
        transaction.started_at(long_ago);
    });
    let ending = session.end();
    assert_eq!(ending.transactions.len(), 1);
    assert_eq!(ending.transactions[0].root()["data"]["hotspan.kept"], "slow");
    assert_eq!(ending.after.discarded - ending.before.discarded, count(1, 3));
}

#[test]
fn the_first_of_each_name_is_kept() {
    let session = session(Keep { first: true, ..Keep::default() });
    // What code leaves out is not the first.
    drop(TransactionOptions::new().sampled(false).start("item", "first-a"));
    for name in ["first-a", "first-b", "first-a", "first-b", "first-a"] {
        let _transaction = start_transaction("item", name);
    }
    let ending = session.end();
    let names: Vec<_> = ending.transactions.iter().map(|opened| opened.name()).collect();
    assert_eq!(names, ["first-a", "first-b"]);
    for opened in &ending.transactions {
        assert_eq!(opened.root()["data"]["hotspan.kept"], "first");
    }
    assert_eq!(ending.after.discarded, ending.before.discarded, "never recorded");
}

#[test]
fn code_may_ask() {
    let session = session(Keep { asked: true, ..Keep::default() });
    item(|transaction| {
        transaction.keep();
    });
    item(|transaction| {
        transaction.keep().discard();
    });
    item(|_| {});
    // No rule for this one: nothing to keep it by.
    start_transaction("other", "orders").keep();
    let _sampled = TransactionOptions::new().sampled(true).start("other", "kept");
    TransactionOptions::new().sampled(true).start("other", "discarded").discard();
    drop(_sampled);
    let ending = session.end();
    let names: Vec<_> = ending.transactions.iter().map(|opened| opened.name()).collect();
    assert_eq!(names, ["orders", "kept"]);
    assert_eq!(ending.transactions[0].root()["data"]["hotspan.kept"], "asked");
}

#[test]
fn one_inside_another_is_taken_back_alone() {
    let session = session(Keep { failed: true, ..Keep::default() });
    let mut outer = TransactionOptions::new().sampled(true).start("outer", "outer");
    drop(outer.start_child("step", "before"));
    item(|_| {});
    drop(outer.start_child("step", "between"));
    let inner = start_transaction("item", "crossed");
    // Of the outer one, while the inner one is open: it must not be taken back with it.
    drop(outer.start_child("step", "during"));
    drop(inner);
    item(|transaction| {
        transaction.set_status(SpanStatus::Aborted);
    });
    outer.set_tag("end", true);
    drop(outer);
    let ending = session.end();
    let names: Vec<_> = ending.transactions.iter().map(|opened| opened.name()).collect();
    assert_eq!(names, ["orders", "outer"]);
    let steps = ending.transactions[1].spans();
    let steps: Vec<_> = steps.iter().map(|span| span["description"].as_str().unwrap()).collect();
    assert_eq!(steps, ["before", "between", "during"]);
    assert_eq!(ending.after.discarded - ending.before.discarded, count(2, 4));
}

#[test]
fn what_was_on_other_threads_is_decided_by_the_flusher() {
    let session = session(Keep { failed: true, ..Keep::default() });
    for failed in [false, true] {
        let transaction = start_transaction("item", "travels").detach();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut here = transaction.enter();
                drop(start_child("step", "elsewhere"));
                if failed {
                    here.set_status(SpanStatus::Aborted);
                }
            });
        });
        transaction.finish();
    }
    let ending = session.end();
    assert_eq!(ending.transactions.len(), 1);
    assert_eq!(ending.transactions[0].root()["data"]["hotspan.kept"], "failed");
    assert_eq!(ending.transactions[0].root()["status"], "aborted");
    assert_eq!(ending.after.discarded - ending.before.discarded, count(1, 2));
}

#[test]
fn one_that_filled_the_ring_is_decided_by_the_flusher() {
    let session = Session::start(|config| {
        config.traces_sample_rate = Some(0.0);
        config.ring_slots = 256;
        let keep = Keep { failed: true, ..Keep::default() };
        config.rules = vec![Rule { keep, ..Rule::default() }];
    });
    for failed in [false, true] {
        let mut transaction = start_transaction("item", "long");
        for n in 0..150 {
            drop(start_child("step", "s"));
            if n % 50 == 0 {
                std::thread::sleep(Duration::from_millis(60));
            }
        }
        if failed {
            transaction.set_status(SpanStatus::Aborted);
        }
    }
    let ending = session.end();
    assert_eq!(ending.transactions.len(), 1);
    assert_eq!(ending.after.discarded.transactions - ending.before.discarded.transactions, 1);
}
