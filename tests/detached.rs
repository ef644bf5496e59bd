//! Spans that leave their thread: what arrives, and what the books say.
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

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use hotspan::{
    Detached, Hub, Reason, SpanContext, SpanStatus, inflight, start_child, start_transaction, stats,
};
use serde_json::json;

mod support;

use support::session::{Session, config, count, lost_between};

fn assert_send_and_sync<T: Send + Sync>() {}

#[test]
fn detached_spans_are_plain_data_that_may_go_anywhere() {
    assert_send_and_sync::<Detached>();
    assert_send_and_sync::<SpanContext>();
    assert!(size_of::<Detached>() <= 64 && size_of::<SpanContext>() <= 64);
    assert!(!std::mem::needs_drop::<SpanContext>());
}

#[test]
fn one_transaction_goes_from_reader_to_worker_to_acker() {
    let session = Session::start(|_| {});
    let (to_worker, at_worker) = mpsc::channel::<(u64, Detached)>();
    let (to_acker, at_acker) = mpsc::channel::<(u64, Detached)>();
    let reader = thread::spawn(move || {
        for id in 0..20 {
            let mut transaction = start_transaction("queue.process", "orders");
            transaction.set_tag("id", id).set_tag("stage", "read");
            drop(transaction.start_child("read", "read"));
            to_worker.send((id, transaction.detach())).unwrap();
            assert!(Hub::current().scope().transaction().is_none());
        }
    });
    let worker = thread::spawn(move || {
        for (id, mut transaction) in at_worker {
            transaction.set_tag("stage", "worked");
            {
                let mut scope = transaction.enter();
                scope.set_data("worker", true);
                let mut step = start_child("work", "work");
                step.set_data("id", id);
                drop(start_child("work.part", "part"));
            }
            to_acker.send((id, transaction)).unwrap();
        }
    });
    for (_, mut transaction) in at_acker {
        {
            let _scope = transaction.enter();
            Hub::current().scope().transaction().unwrap().set_tag("stage", "acked");
            drop(start_child("ack", "ack"));
        }
        transaction.set_status(SpanStatus::Ok);
        transaction.finish();
    }
    reader.join().unwrap();
    worker.join().unwrap();
    let ending = session.end();
    assert_eq!(ending.transactions.len(), 20);
    let mut ids: Vec<String> = Vec::new();
    for transaction in &ending.transactions {
        assert_eq!(transaction.payload["tags"]["stage"], "acked");
        assert_eq!(transaction.root()["status"], "ok");
        assert_eq!(transaction.root()["data"], json!({"worker": true}));
        assert_eq!(transaction.spans().len(), 4);
        let id = transaction.payload["tags"]["id"].as_str().unwrap();
        assert_eq!(transaction.span("work")["data"]["id"].to_string(), id);
        assert_eq!(transaction.span("part")["parent_span_id"], transaction.span("work")["span_id"]);
        for name in ["read", "work", "ack"] {
            assert_eq!(
                transaction.span(name)["parent_span_id"],
                transaction.root()["span_id"],
                "{name}"
            );
        }
        ids.push(id.to_owned());
    }
    ids.sort_by_key(|id| id.parse::<u64>().unwrap());
    assert_eq!(ids, (0..20).map(|id| id.to_string()).collect::<Vec<_>>());
    assert_eq!(ending.lost_in_all(), count(0, 0));
    assert_eq!(ending.report.delivered, count(20, 100));
}

#[test]
fn children_run_on_many_threads_at_once() {
    let session = Session::start(|_| {});
    {
        let transaction = start_transaction("batch", "scoped");
        let step = transaction.start_child("step", "step");
        let (of_root, of_step) = (transaction.context(), step.context());
        thread::scope(|scope| {
            for n in 0..8 {
                scope.spawn(move || {
                    let context = if n % 2 == 0 { of_root } else { of_step };
                    let _scope = context.enter();
                    for part in 0..10 {
                        let mut span = start_child("part", format!("part {n}.{part}"));
                        span.set_data("n", n);
                    }
                });
            }
        });
    }
    let detached = start_transaction("batch", "shared").detach();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _scope = detached.enter();
                drop(start_child("part", "part"));
            });
        }
    });
    drop(detached);
    let ending = session.end();
    let scoped = ending.named("scoped");
    assert_eq!(scoped.spans().len(), 81);
    for n in 0..8 {
        let parent = if n % 2 == 0 { scoped.root() } else { scoped.span("step") };
        for part in 0..10 {
            let span = scoped.span(&format!("part {n}.{part}"));
            assert_eq!(span["parent_span_id"], parent["span_id"]);
            assert_eq!(span["data"]["n"], n);
        }
    }
    assert_eq!(ending.named("shared").spans().len(), 4);
    assert_eq!(ending.lost_in_all(), count(0, 0));
}

#[test]
fn a_child_that_ends_after_its_transaction_is_late_and_counted() {
    let session = Session::start(|_| {});
    let transaction = start_transaction("op", "early").detach();
    let late = transaction.start_child("op", "late");
    drop(transaction.start_child("op", "in time"));
    let context = late.context();
    drop(transaction);
    // Whether the flusher has handed the transaction on by now or not.
    for wait in [0, 60] {
        thread::sleep(Duration::from_millis(wait));
        let _scope = context.enter();
        drop(start_child("op", "below the late one"));
    }
    drop(late);
    let ending = session.end();
    assert_eq!(ending.only().spans().len(), 1);
    assert_eq!(ending.only().span("in time")["op"], "op");
    assert_eq!(ending.lost(Reason::LateChild), count(0, 3));
    assert_eq!(ending.lost_in_all(), count(0, 3));
}

#[test]
fn a_detached_child_ends_elsewhere_and_a_panic_marks_it() {
    let session = Session::start(|_| {});
    {
        let transaction = start_transaction("op", "root");
        let mut child = transaction.start_child("op", "child").detach();
        child.set_data("before", 1).set_description("renamed");
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let mut other = transaction.start_child("op", "other").detach();
        other.started_at(start);
        other.finish_at(start + Duration::from_millis(1500));
        thread::spawn(move || {
            let _moved = child;
            std::panic::resume_unwind(Box::new("on purpose"));
        })
        .join()
        .unwrap_err();
    }
    let ending = session.end();
    let span = ending.only().span("renamed");
    assert_eq!((&span["status"], &span["data"]["before"]), (&json!("internal_error"), &json!(1)));
    let other = ending.only().span("other");
    assert_eq!(other["start_timestamp"].as_f64(), Some(1_000_000_000.0));
    assert_eq!(other["timestamp"].as_f64(), Some(1_000_000_001.5));
    assert_eq!(ending.only().root().get("status"), None);
}

#[test]
fn scopes_nest_restore_and_may_end_in_any_order() {
    let session = Session::start(|_| {});
    let outer = start_transaction("op", "outer");
    let one = start_transaction("op", "one").detach();
    let two = start_transaction("op", "two").detach();
    drop(start_child("op", "of outer"));
    let in_one = one.enter();
    let in_two = two.enter();
    let child = start_child("op", "of two");
    drop(in_one);
    drop(start_child("op", "also of two"));
    drop(in_two);
    // Its scope is over, it is not.
    drop(start_child("op", "of the child"));
    drop(child);
    drop(start_child("op", "of outer again"));
    drop((outer, one, two));
    let ending = session.end();
    let names = |of: &str| {
        let spans = ending.named(of).spans();
        let mut names: Vec<_> = spans.iter().map(|span| span["description"].clone()).collect();
        names.sort_by_key(|name| name.as_str().unwrap().to_owned());
        names
    };
    assert_eq!(names("outer"), ["of outer", "of outer again"]);
    assert_eq!(names("one"), Vec::<String>::new());
    assert_eq!(names("two"), ["also of two", "of the child", "of two"]);
    let two = ending.named("two");
    let child = two.span("of the child");
    assert_eq!(child["parent_span_id"], two.span("of two")["span_id"]);
    assert_eq!(ending.lost_in_all(), count(0, 0));
}

#[test]
fn open_detached_spans_are_in_the_books_and_what_is_entered_is_in_flight() {
    let session = Session::start(|_| {});
    let transaction = start_transaction("queue.process", "orders").detach();
    let child = transaction.start_child("http", "GET /");
    assert_eq!(stats().open, count(1, 2));
    assert!(inflight().is_empty());
    {
        let _scope = child.enter();
        let _inner = start_child("inner", "inner");
        let open = inflight();
        assert_eq!(open.len(), 1);
        assert_eq!((open[0].name.as_str(), open[0].span_op.as_str()), ("orders", "inner"));
        assert_eq!(stats().open, count(1, 3));
    }
    drop(child);
    let report = session.guard.close(Duration::from_secs(10));
    assert_eq!(report.left, count(1, 1), "what is held is open");
    drop(transaction);
    assert_eq!(stats().open, count(0, 0));
}

#[test]
fn an_entered_child_shows_the_age_of_a_root_that_was_given_its_start() {
    let session = Session::start(|_| {});
    let mut transaction = start_transaction("op", "old");
    transaction.started_at(SystemTime::now() - Duration::from_secs(3600));
    let child = transaction.start_child("op", "child").detach();
    let context = {
        let _scope = child.enter();
        Hub::current().scope().span().unwrap().context()
    };
    let check = || {
        let open = inflight();
        let hours = open[0].age.as_secs_f64() / 3600.0;
        assert!((1.0..1.1).contains(&hours), "{open:?}");
        assert!(open[0].span_age < Duration::from_secs(600), "{open:?}");
    };
    let scope = child.enter();
    check();
    drop(scope);
    let _scope = context.enter();
    check();
    drop((child, transaction));
    session.end();
}

#[test]
fn unsampled_and_switched_off_transactions_may_travel_too() {
    let earlier = Session::start(|_| {}).end();
    let off = start_transaction("op", "off").detach();
    let session = earlier.then(|config| config.traces_sample_rate = Some(0.0));
    let unsampled = start_transaction("op", "unsampled").detach();
    let outside = unsampled.context();
    thread::spawn(move || {
        let _scope = outside.enter();
        assert!(Hub::current().scope().transaction().is_some());
        assert!(!start_child("op", "child").is_recording());
        drop(unsampled);
        drop(off);
    })
    .join()
    .unwrap();
    let ending = session.end();
    assert!(ending.transactions.is_empty());
    assert_eq!(ending.lost_in_all(), count(0, 0));
}

#[test]
fn what_ends_in_another_generation_is_counted_and_not_sent() {
    let session = Session::start(|_| {});
    let transaction = start_transaction("op", "old").detach();
    let child = transaction.start_child("op", "old child");
    let report = session.guard.close(Duration::from_secs(10));
    assert_eq!(report.left, count(1, 2));
    let _scope = transaction.enter();
    drop(child);
    drop(_scope);
    drop(transaction);
    let after = stats();
    after.check().unwrap();
    assert_eq!(after.open, count(0, 0));
    assert!(session.memory.take().is_empty());
}

#[test]
fn a_guard_whose_span_was_given_up_ends_nothing_that_was_entered_in_its_place() {
    let session = Session::start(|_| {});
    // Each guard's line is gone, and what is entered next lies where it was.
    for detaches in [false, true] {
        let transaction = start_transaction("op", "root");
        let child = transaction.start_child("op", "unfinished");
        let context = child.context();
        drop(transaction);
        let scope = context.enter();
        if detaches {
            drop(child.detach());
        } else {
            drop(child);
        }
        drop(scope);
    }
    for detaches in [false, true] {
        let lost = start_transaction("op", "given up");
        let context = lost.context();
        // One more than may be open.
        let others: Vec<_> = (0..16).map(|_| start_transaction("op", "other")).collect();
        drop(others);
        let scope = context.enter();
        if detaches {
            drop(lost.detach());
        } else {
            drop(lost);
        }
        drop(scope);
    }
    let ending = session.end();
    assert_eq!(ending.lost(Reason::LateChild), count(0, 0));
    assert_eq!(ending.lost_in_all(), ending.lost(Reason::Unfinished));
}

#[test]
fn what_was_recorded_before_a_close_does_not_wait_in_the_next_generation() {
    let first = Session::start(|_| {});
    let other = start_transaction("op", "entered").detach();
    let mut transaction = start_transaction("op", "old");
    transaction.set_tag("a", 1);
    drop(start_child("op", "old child"));
    let mut scope = other.enter();
    scope.set_tag("b", 2);
    let ending = {
        let report = first.guard.close(Duration::from_secs(10));
        assert_eq!(report.left.transactions, 2);
        // Of the first one: another may begin.
        drop(first.memory);
        drop(first.before);
        let second = hotspan::init(config(hotspan::transport::Memory::new)).unwrap();
        drop(transaction.detach());
        drop(scope);
        drop(other);
        let _ = second.flush(Duration::from_secs(10));
        assert_eq!(stats().in_assembly, count(0, 0));
        second.close(Duration::from_secs(10))
    };
    assert_eq!(ending.delivered, count(0, 0));
    let after = stats();
    after.check().unwrap();
    assert!(after.is_at_rest(), "{after}");
    assert_eq!(ending.dropped, count(2, 3), "{after}");
}

#[test]
fn what_is_in_flight_knows_the_transaction_of_a_child_that_was_detached() {
    let session = Session::start(|_| {});
    let hour = Duration::from_secs(3600);
    let mut transaction = start_transaction("queue.process", "orders");
    transaction.started_at(SystemTime::now() - hour);
    let child = transaction.start_child("op", "child");
    let detached = transaction.start_child("op", "detached").detach();
    let look = |detached: &Detached| {
        let context = {
            let _scope = detached.enter();
            Hub::current().scope().span().unwrap().context()
        };
        thread::spawn(move || {
            let _scope = context.enter();
            let open = inflight();
            let open = open.iter().find(|open| open.span_description == "detached").unwrap();
            assert_eq!((open.op.as_str(), open.name.as_str()), ("queue.process", "orders"));
            assert!(open.age >= hour && open.age < 2 * hour, "{:?}", open.age);
        })
        .join()
        .unwrap();
    };
    look(&detached);
    // The transaction goes first, and its child after it.
    let transaction = transaction.detach();
    let renamed = child.start_child("op", "detached").detach();
    look(&renamed);
    drop((renamed, detached, child, transaction));
    assert_eq!(session.end().lost_in_all(), count(0, 0));
}

#[test]
fn the_root_of_what_is_entered_is_named_wherever_it_went_before() {
    let session = Session::start(|_| {});
    let start = SystemTime::now() - Duration::from_secs(1000);
    let mut transaction = start_transaction("op", "root");
    transaction.started_at(start);
    let child = start_child("op", "child");
    // Gone from the stack that the child is taken from.
    let transaction = transaction.detach();
    let child = child.detach();
    {
        let _scope = child.enter();
        let open = inflight();
        assert_eq!((open[0].name.as_str(), open[0].span_description.as_str()), ("root", "child"));
        let age = open[0].age.as_secs();
        assert!((1000..1100).contains(&age), "{:?}", open[0].age);
    }
    drop((child, transaction));
    assert_eq!(session.end().only().spans().len(), 1);
}

#[test]
fn a_no_op_guard_goes_on_as_a_part_of_the_transaction_that_is_not_recorded() {
    let session = Session::start(|config| config.traces_sample_rate = Some(0.0));
    let outer = start_transaction("op", "unsampled");
    let (trace, span) = (outer.trace_id(), outer.span_id());
    let child = start_child("op", "of what is not recorded");
    let (context, inner) = (child.context(), start_child("op", "inner").detach());
    let child = child.detach();
    let session = session.end().then(|_| {});
    let transaction = start_transaction("op", "recorded");
    // Of another generation.
    for _scope in [context.enter(), child.enter(), inner.enter()] {
        assert!(start_child("op", "recorded").is_recording());
    }
    drop((transaction, outer, child, inner));
    let session = session.end().then(|config| config.traces_sample_rate = Some(0.0));

    let outer = start_transaction("op", "unsampled");
    let child = start_child("op", "of what is not recorded");
    let (context, inner) = (child.context(), start_child("op", "inner").detach());
    let child = child.detach();
    assert_ne!((outer.trace_id(), outer.span_id()), (trace, span));
    let (trace, span) = (outer.trace_id().unwrap(), outer.span_id().unwrap());
    thread::spawn(move || {
        let enters = [context.enter(), child.enter(), inner.enter()];
        for scope in enters {
            assert!(!start_child("op", "child").is_recording());
            assert_eq!(Hub::current().scope().transaction().unwrap().trace_id(), Some(trace));
            let headers = hotspan::trace_headers().unwrap();
            assert_eq!(headers.sentry_trace(), format!("{trace}-{span}-0"));
            drop(scope);
        }
        drop((child, inner));
        assert!(Hub::current().scope().transaction().is_none());
    })
    .join()
    .unwrap();
    assert_eq!(outer.trace_id(), Some(trace), "it is open yet");
    drop(outer);
    // With nothing around them they are of nothing.
    let (context, child) =
        (start_child("op", "of nothing").context(), start_child("op", "of nothing").detach());
    let scopes = (context.enter(), child.enter());
    assert!(Hub::current().scope().transaction().is_none());
    drop(scopes);
    drop(child);
    let ending = session.end();
    assert!(ending.transactions.is_empty());
    assert_eq!(ending.after.unsampled - ending.before.unsampled, 1);
}

#[test]
fn a_guard_that_ends_after_its_transaction_does_not_end_a_visit_of_its_span() {
    let session = Session::start(|_| {});
    let transaction = start_transaction("op", "root");
    let child = start_child("op", "child");
    let context = child.context();
    drop(transaction);
    // At the depth at which the child was.
    let scope = context.enter();
    assert!(!child.is_recording());
    drop(child);
    assert!(Hub::current().scope().span().is_some());
    drop(scope);
    let ending = session.end();
    assert!(ending.only().spans().is_empty());
    assert_eq!(ending.lost(Reason::Unfinished), count(0, 1));
    assert_eq!(ending.lost_in_all(), count(0, 1), "once");
}

#[test]
fn a_scope_outlives_its_transaction_until_it_is_left() {
    let session = Session::start(|_| {});
    let outer = start_transaction("op", "outer");
    let transaction = start_transaction("op", "root");
    let context = transaction.context();
    let (first, second) = (context.enter(), context.enter());
    drop(transaction);
    drop(first);
    drop(start_child("op", "late"));
    drop(second);
    drop(start_child("op", "of outer"));
    drop(outer);
    let ending = session.end();
    assert_eq!(ending.named("outer").spans().len(), 1);
    assert!(ending.named("root").spans().is_empty());
    assert_eq!(ending.lost(Reason::LateChild), count(0, 1));
    assert_eq!(ending.lost_in_all(), count(0, 1));
}

#[test]
fn a_transaction_of_an_earlier_generation_takes_nothing_of_others_with_it() {
    for detaches in [false, true] {
        end_an_old_one_inside_a_new_one(detaches);
    }
}

fn end_an_old_one_inside_a_new_one(detaches: bool) {
    let session = Session::start(|_| {});
    let old = start_transaction("op", "old");
    drop(start_child("op", "of old"));
    let _ = session.guard.close(Duration::from_secs(10));
    let guard = hotspan::init(config({
        let memory = session.memory.clone();
        move || memory.clone()
    }))
    .unwrap();
    let new = start_transaction("op", "new");
    drop(start_child("op", "of new"));
    if detaches {
        drop(old.detach())
    } else {
        drop(old)
    }
    drop(new);
    let report = guard.close(Duration::from_secs(10));
    assert_eq!(report.delivered, count(1, 2));
    let after = stats();
    assert_eq!(lost_between(&session.before, &after, Reason::AfterShutdown), count(1, 2));
    assert_eq!(after.open, count(0, 0));
}

#[test]
fn what_was_set_and_given_up_with_its_thread_is_counted() {
    let session = Session::start(|_| {});
    let transaction = start_transaction("op", "root").detach();
    let context = transaction.context();
    let before = stats().attributes_lost;
    thread::spawn(move || {
        let mut scope = context.enter();
        scope.set_tag("a", 1).set_data("long", "x".repeat(300));
        // Its thread ends, and it is not left.
        std::mem::forget(scope);
    })
    .join()
    .unwrap();
    drop(transaction);
    let ending = session.end();
    assert_eq!(ending.after.attributes_lost - before, 2);
    assert_eq!(ending.only().payload.get("tags"), None);
}
