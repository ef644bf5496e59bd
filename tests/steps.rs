//! Steps of a transaction: one ends where the next begins, whoever ends the last, and the books know
//! of each.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic, and ask the real clock"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use hotspan::{Hub, Keep, Reason, Rule, inflight, start_child, start_transaction};
use serde_json::{Value, json};

mod support;

use support::envelope::Opened;
use support::session::Session;

/// Each begins where the one before it ends, the last ends with the transaction, and all are its
/// children.
fn is_row(opened: &Opened, steps: &[&str]) {
    let root = opened.root();
    for pair in steps.windows(2) {
        let (step, next) = (opened.span(pair[0]), opened.span(pair[1]));
        assert_eq!(step["timestamp"], next["start_timestamp"], "{pair:?}");
    }
    for step in steps {
        assert_eq!(opened.span(step)["parent_span_id"], root["span_id"]);
    }
    let last = opened.span(steps.last().unwrap());
    assert_eq!(last["timestamp"], opened.payload["timestamp"]);
}

#[test]
fn one_ends_where_the_next_begins_and_the_last_with_the_transaction() {
    let session = Session::start(|_| {});
    {
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.step("parse", "order").set_data("bytes", 7);
        transaction.step("db.query", "load");
        let mut step = transaction.step("db.query", "store");
        step.set_tag("table", "orders");
        step.set_data("rows", 3);
    }
    let ending = session.end();
    let only = ending.only();
    is_row(only, &["order", "load", "store"]);
    assert_eq!(only.span("order")["data"], json!({"bytes": 7}));
    assert_eq!(only.span("load").get("data"), None);
    assert_eq!(only.span("store")["data"], json!({"rows": 3}));
    assert_eq!(only.span("store")["tags"], json!({"table": "orders"}));
    assert_eq!(only.spans().len(), 3);
    assert_eq!(ending.lost_in_all().spans, 0);
}

#[test]
fn what_is_started_meanwhile_is_a_child_of_the_step() {
    let session = Session::start(|_| {});
    {
        let mut transaction = start_transaction("queue.process", "orders");
        drop(start_child("a", "before"));
        transaction.step("step", "first");
        let current = Hub::current().scope().span().unwrap();
        drop(start_child("a", "within"));
        assert!(current.is_recording());
        transaction.step("step", "second");
        assert!(!current.is_recording(), "a reference keeps nothing open");
        transaction.end_step();
        transaction.end_step();
        drop(start_child("a", "behind"));
    }
    let ending = session.end();
    let only = ending.only();
    let parent = |of: &str| &only.span(of)["parent_span_id"];
    let root = &only.root()["span_id"];
    assert_eq!((parent("before"), parent("behind")), (root, root));
    assert_eq!(parent("within"), &only.span("first")["span_id"]);
    assert!(
        only.span("second")["timestamp"].as_f64()
            <= only.span("behind")["start_timestamp"].as_f64()
    );
    assert_eq!(only.spans().len(), 5);
}

#[test]
fn a_child_that_outlives_its_step_ends_by_itself() {
    let session = Session::start(|_| {});
    let before = hotspan::stats().misnested;
    {
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.step("step", "first");
        let child = start_child("a", "long");
        transaction.step("step", "second");
        transaction.step("step", "third");
        drop(child);
        drop(start_child("a", "within"));
    }
    assert!(hotspan::stats().misnested > before);
    let ending = session.end();
    let only = ending.only();
    is_row(only, &["first", "second", "third"]);
    assert_eq!(only.span("long")["parent_span_id"], only.span("first")["span_id"]);
    assert_eq!(only.span("within")["parent_span_id"], only.span("third")["span_id"]);
    assert_eq!(only.spans().len(), 5);
}

#[test]
fn steps_of_nested_transactions_are_each_ones_own() {
    let session = Session::start(|_| {});
    {
        let mut outer = start_transaction("op", "outer");
        outer.step("step", "outer 1");
        {
            let mut inner = start_transaction("op", "inner");
            inner.step("step", "inner 1");
            inner.step("step", "inner 2");
        }
        outer.step("step", "outer 2");
    }
    let ending = session.end();
    is_row(ending.named("outer"), &["outer 1", "outer 2"]);
    is_row(ending.named("inner"), &["inner 1", "inner 2"]);
}

#[test]
fn whatever_ends_the_transaction_ends_the_step() {
    let session = Session::start(|_| {});
    let end = SystemTime::now() + std::time::Duration::from_secs(1);
    {
        let mut transaction = start_transaction("op", "at a time");
        transaction.step("step", "given");
        transaction.finish_at(end);
    }
    let detached = {
        let mut transaction = start_transaction("op", "detached");
        transaction.step("step", "here");
        transaction.detach()
    };
    assert!(Hub::current().scope().span().is_none(), "nothing is left on the stack");
    std::thread::spawn(move || drop(detached)).join().unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let mut transaction = start_transaction("op", "panicked");
        transaction.step("step", "well");
        transaction.step("step", "ill");
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    panic.unwrap_err();
    let ending = session.end();
    is_row(ending.named("at a time"), &["given"]);
    assert_eq!(ending.named("detached").spans().len(), 1);
    assert_eq!(ending.named("detached").span("here").get("status"), None);
    let panicked = ending.named("panicked");
    is_row(panicked, &["well", "ill"]);
    assert_eq!(panicked.span("ill")["status"], "internal_error");
    assert_ne!(panicked.span("well").get("status"), Some(&json!("internal_error")));
    assert_eq!(ending.lost_in_all().spans, 0);
}

/// Begins and ends while a panic unwinds.
struct Stepping;

impl Drop for Stepping {
    fn drop(&mut self) {
        let mut transaction = start_transaction("op", "cleaning up");
        transaction.step("step", "one");
        transaction.step("step", "two");
    }
}

#[test]
fn what_begins_while_a_panic_unwinds_did_not_panic() {
    let session = Session::start(|_| {});
    let panic = catch_unwind(|| {
        let _stepping = Stepping;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    panic.unwrap_err();
    let ending = session.end();
    let only = ending.only();
    is_row(only, &["one", "two"]);
    for span in only.spans() {
        assert_ne!(span.get("status"), Some(&Value::from("internal_error")));
    }
}

#[test]
fn of_what_is_not_recorded_there_are_no_steps() {
    let session = Session::start(|config| config.traces_sample_rate = Some(0.0));
    {
        let mut transaction = start_transaction("op", "left out");
        assert!(!transaction.step("step", "none").is_recording());
        transaction.end_step();
    }
    let ending = session.end();
    assert!(ending.transactions.is_empty());
    assert_eq!(ending.lost_in_all().spans, 0);
}

#[test]
fn steps_of_what_is_taken_back_at_its_end_go_with_it() {
    let keep = Keep { failed: true, ..Keep::default() };
    let rule = Rule { op: Some("op".into()), keep, ..Rule::default() };
    let session = Session::start(|config| {
        config.traces_sample_rate = Some(0.0);
        config.rules = vec![rule];
    });
    let before = hotspan::stats();
    {
        let mut transaction = start_transaction("op", "well");
        transaction.step("step", "one");
        transaction.step("step", "two");
    }
    let discarded = hotspan::stats().discarded - before.discarded;
    assert_eq!((discarded.transactions, discarded.spans), (1, 3));
    {
        let mut transaction = start_transaction("op", "ill");
        transaction.step("step", "three");
        transaction.set_status(hotspan::SpanStatus::Aborted);
    }
    let ending = session.end();
    is_row(ending.only(), &["three"]);
}

#[test]
fn steps_that_find_no_room_are_counted_one_by_one() {
    let session = Session::start(|config| config.ring_slots = 64);
    {
        let mut transaction = start_transaction("op", "long");
        for n in 0..1000 {
            transaction.step("step", "one of many").set_data("n", n);
        }
    }
    let before = session.before.attributes_lost;
    let ending = session.end();
    let delivered = ending.only().spans().len() as u64;
    assert!(delivered > 0 && delivered < 1000);
    let lost = ending.lost(Reason::RingFull).spans;
    assert_eq!(delivered + lost, 1000);
    // The last one, too, which the end of the transaction ended.
    let lost = lost + ending.after.attributes_lost - before;
    assert_eq!(ending.only().root()["data"]["hotspan.lost"], lost);
}

#[test]
fn the_step_is_what_is_in_flight() {
    let session = Session::start(|_| {});
    let mut transaction = start_transaction("op", "watched");
    transaction.step("step", "one");
    transaction.step("step", "two");
    let mine = std::thread::current().name().map(ToOwned::to_owned);
    let seen = inflight().into_iter().find(|it| it.thread_name == mine).unwrap();
    assert_eq!((&*seen.name, &*seen.span_description), ("watched", "two"));
    drop(transaction);
    drop(session.end());
}
