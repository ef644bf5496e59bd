//! Futures in spans, polled by hand: when a span is current, how often it ends, and as what,
//! whichever way its future goes. `runtimes.rs` lets runtimes do the polling.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic, and start threads"
)]

use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use hotspan::transport::Memory;
use hotspan::{
    FutureExt, Hub, InSpan, InTransaction, Reason, SpanId, TraceId, start_child, start_transaction,
    stats,
};
use serde_json::{Value, json};

mod support;

use support::envelope::Opened;
use support::poll::{poll, yield_once};
use support::session::{Ending, LONG, Session, config, count, lost_between};

/// The innermost span of this thread.
fn current() -> Option<SpanId> {
    Hub::current().scope().span().and_then(|span| span.span_id())
}

fn trace() -> Option<TraceId> {
    Hub::current().scope().transaction().and_then(|transaction| transaction.trace_id())
}

/// Description, status and parent of each span of a transaction, in alphabetical order.
fn shape(transaction: &Opened) -> Vec<(String, Value, String)> {
    let name_of = |id: &Value| {
        let mut spans = transaction.spans().iter();
        match spans.find(|span| span["span_id"] == *id) {
            Some(span) => span["description"].as_str().unwrap().to_owned(),
            None if transaction.root()["span_id"] == *id => "root".to_owned(),
            None => panic!("no parent {id} in {:#}", transaction.payload),
        }
    };
    let mut shape: Vec<_> = transaction
        .spans()
        .iter()
        .map(|span| {
            let description = span["description"].as_str().unwrap().to_owned();
            let status = span.get("status").cloned().unwrap_or_default();
            (description, status, name_of(&span["parent_span_id"]))
        })
        .collect();
    shape.sort_by(|a, b| a.0.cmp(&b.0));
    shape
}

/// Everything that began has arrived, once.
fn assert_all_arrived(ending: &Ending) {
    assert_eq!(ending.lost_in_all(), count(0, 0));
    let mut sum = count(0, 0);
    for transaction in &ending.transactions {
        sum += transaction.count();
    }
    assert_eq!(ending.report.delivered, sum);
}

/// Four awaits, two of them inside a span of their own.
async fn four_awaits() -> u32 {
    drop(start_child("step", "step 1"));
    yield_once().await;
    drop(start_child("step", "step 2"));
    let inner = async {
        yield_once().await;
        let _guard = start_child("step", "step of inner");
        drop(start_child("step", "step of the step"));
        drop(_guard);
        yield_once().await;
    };
    inner.in_span(start_child("inner", "inner")).await;
    drop(start_child("step", "step 3"));
    yield_once().await;
    5
}

/// What there is of it after a number of polls.
fn children_after(polls: usize, root: &str) -> Vec<(String, Value, String)> {
    let inner_status = if polls < 4 { json!("cancelled") } else { Value::Null };
    let all = [
        (2, "inner", inner_status, root),
        (1, "step 1", Value::Null, root),
        (2, "step 2", Value::Null, root),
        (4, "step 3", Value::Null, root),
        (3, "step of inner", Value::Null, "inner"),
        (3, "step of the step", Value::Null, "step of inner"),
    ];
    all.into_iter()
        .filter(|(from, ..)| polls >= *from)
        .map(|(_, name, status, parent)| (name.to_owned(), status, parent.to_owned()))
        .collect()
}

/// Polls `polls` times, then drops.
fn poll_and_drop<F: Future<Output = u32> + Send>(future: F, polls: usize, elsewhere: bool) {
    let mut future = Box::pin(future);
    for n in 1..=polls {
        let expected = if n == 5 { Poll::Ready(5) } else { Poll::Pending };
        assert_eq!(poll(&mut future), expected);
    }
    if elsewhere {
        thread::scope(|scope| scope.spawn(|| drop(future)).join().unwrap());
    }
}

#[test]
fn a_transaction_dropped_at_any_await_ends_once_as_cancelled() {
    for elsewhere in [false, true] {
        for polls in 0..=5 {
            let session = Session::start(|_| {});
            poll_and_drop(four_awaits().in_transaction("op", "name"), polls, elsewhere);
            assert_eq!(stats().open, count(0, 0), "{polls}");
            let ending = session.end();
            assert_all_arrived(&ending);
            if polls == 0 {
                // It was never begun.
                assert_eq!(ending.report.delivered, count(0, 0));
                continue;
            }
            let root = ending.only();
            let status = if polls < 5 { Some(&json!("cancelled")) } else { None };
            assert_eq!(root.root().get("status"), status.cloned().as_ref(), "{polls}");
            assert_eq!(shape(root), children_after(polls, "root"), "{polls}");
        }
    }
}

#[test]
fn a_span_dropped_at_any_await_ends_once_as_cancelled() {
    for elsewhere in [false, true] {
        for polls in 0..=5 {
            let session = Session::start(|_| {});
            {
                let transaction = start_transaction("op", "root");
                let before = current();
                let span = start_child("future", "future");
                poll_and_drop(four_awaits().in_span(span), polls, elsewhere);
                assert_eq!(current(), before);
                assert_eq!(stats().open.transactions, 1);
                drop(transaction);
            }
            let ending = session.end();
            assert_all_arrived(&ending);
            let status = if polls < 5 { json!("cancelled") } else { Value::Null };
            let mut expected = children_after(polls, "future");
            expected.push(("future".to_owned(), status, "root".to_owned()));
            expected.sort_by(|a, b| a.0.cmp(&b.0));
            assert_eq!(shape(ending.only()), expected, "{polls}");
            assert_eq!(ending.only().root().get("status"), None);
        }
    }
}

#[test]
fn current_at_each_poll_and_restored_after_it() {
    let session = Session::start(|_| {});
    let outer = start_transaction("op", "outer");
    let child = start_child("op", "child of outer");
    let before = (current(), trace());
    let of_child = start_child("future", "future");
    let id = of_child.span_id();
    let mut in_span = Box::pin(
        async move {
            for _ in 0..3 {
                assert_eq!(current(), id);
                let guard = start_child("op", "inside");
                assert_eq!(current(), guard.span_id());
                drop(guard);
                yield_once().await;
            }
        }
        .in_span(of_child),
    );
    let mut in_transaction = Box::pin(
        async move {
            let own = (current(), trace());
            assert_ne!(own.1, before.1);
            yield_once().await;
            assert_eq!((current(), trace()), own);
        }
        .in_transaction("op", "inner"),
    );
    assert_eq!((current(), trace()), before, "what is not polled is not current");
    for expected in [Poll::Pending, Poll::Pending, Poll::Pending, Poll::Ready(())] {
        assert_eq!(poll(&mut in_span), expected);
        assert_eq!((current(), trace()), before);
    }
    for expected in [Poll::Pending, Poll::Ready(())] {
        assert_eq!(poll(&mut in_transaction), expected);
        assert_eq!((current(), trace()), before);
    }
    drop((in_span, in_transaction));
    assert_eq!((current(), trace()), before);
    drop((child, outer));
    assert_eq!((current(), trace()), (None, None));
    let ending = session.end();
    assert_all_arrived(&ending);
    let outer = ending.named("outer");
    assert_eq!(outer.spans().len(), 5);
    assert!(ending.named("inner").spans().is_empty());
    let inside = outer.spans().iter().filter(|span| span["description"] == "inside");
    assert!(
        inside.clone().all(|span| span["parent_span_id"] == outer.span("future")["span_id"])
            && inside.count() == 3
    );
}

#[test]
fn tasks_that_take_turns_on_a_thread_never_see_each_others_spans() {
    let session = Session::start(|_| {});
    let task = |n: u64| {
        async move {
            let own = trace().unwrap();
            for round in 0..5_u64 {
                assert_eq!(trace(), Some(own));
                assert_eq!(current(), Hub::current().scope().transaction().unwrap().span_id());
                start_child("step", "step").set_data("task", n).set_data("round", round);
                yield_once().await;
            }
        }
        .in_transaction("task", format!("task {n}"))
    };
    let mut tasks: Vec<_> = (0..4).map(|n| Box::pin(task(n))).collect();
    for round in 0..6 {
        for task in &mut tasks {
            assert_eq!(poll(task).is_ready(), round == 5);
            assert_eq!((current(), trace()), (None, None));
        }
    }
    let ending = session.end();
    assert_all_arrived(&ending);
    for n in 0..4 {
        let spans = ending.named(&format!("task {n}")).spans();
        assert_eq!(spans.len(), 5);
        assert!(spans.iter().all(|span| span["data"]["task"] == n));
    }
}

#[test]
fn each_poll_may_be_on_another_thread() {
    let session = Session::start(|_| {});
    let mut future = Box::pin(four_awaits().in_transaction("op", "moving"));
    for n in 1..=5 {
        thread::scope(|scope| {
            let poll = scope.spawn(|| {
                let ready = poll(&mut future).is_ready();
                assert_eq!((current(), trace()), (None, None));
                ready
            });
            assert_eq!(poll.join().unwrap(), n == 5);
        });
    }
    let ending = session.end();
    assert_all_arrived(&ending);
    assert_eq!(shape(ending.only()), children_after(5, "root"));
}

fn assert_send<T: Send>() {}

#[test]
fn what_may_go_to_other_threads_still_may() {
    fn in_span<F: Future + Send>(_: &F) {
        assert_send::<InSpan<F>>();
        assert_send::<InTransaction<F, &'static str, String>>();
    }
    in_span(&four_awaits());
}

#[test]
fn once_done_it_is_pending_and_ends_nothing_again() {
    let session = Session::start(|_| {});
    {
        let _root = start_transaction("op", "root");
        let mut done = Box::pin(async { 1 }.in_span(start_child("op", "done")));
        assert_eq!(poll(&mut done), Poll::Ready(1));
        assert_eq!(poll(&mut done), Poll::Pending);
        let mut done = Box::pin(async { 2 }.in_transaction("op", "other"));
        assert_eq!(poll(&mut done), Poll::Ready(2));
        assert_eq!(poll(&mut done), Poll::Pending);
    }
    let ending = session.end();
    assert_all_arrived(&ending);
    assert_eq!(ending.report.delivered, count(2, 3));
    assert_eq!(ending.named("root").span("done").get("status"), None);
    assert_eq!(ending.named("other").root().get("status"), None);
}

async fn panics_at_its_second_poll() {
    let _guard_of_first = yield_once().await;
    let _open = start_child("step", "open when it panics");
    std::panic::resume_unwind(Box::new("on purpose"));
}

#[test]
fn a_panic_in_poll_ends_it_once_as_internal_error() {
    let session = Session::start(|_| {});
    {
        let _root = start_transaction("op", "root");
        let before = current();
        let nested = panics_at_its_second_poll().in_span(start_child("op", "inner"));
        let mut future = Box::pin(nested.in_span(start_child("op", "outer")));
        assert_eq!(poll(&mut future), Poll::Pending);
        for _ in 0..2 {
            // The second time there is no span left: the future itself refuses.
            catch_unwind(AssertUnwindSafe(|| poll(&mut future))).unwrap_err();
            assert_eq!(current(), before);
        }
        drop(future);
        assert_eq!(current(), before);
    }
    let mut future = Box::pin(panics_at_its_second_poll().in_transaction("op", "transaction"));
    assert_eq!(poll(&mut future), Poll::Pending);
    catch_unwind(AssertUnwindSafe(|| poll(&mut future))).unwrap_err();
    assert_eq!((current(), trace()), (None, None));
    drop(future);
    let ending = session.end();
    assert_all_arrived(&ending);
    let error = json!("internal_error");
    let root = ending.named("root");
    for name in ["outer", "inner", "open when it panics"] {
        assert_eq!(root.span(name)["status"], error, "{name}");
    }
    assert_eq!(root.root().get("status"), None);
    assert_eq!(root.span("open when it panics")["parent_span_id"], root.span("inner")["span_id"]);
    assert_eq!(ending.named("transaction").root()["status"], error);
}

/// Panics when it is dropped, with a span around that.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        let _span = start_child("step", "in the drop");
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}

/// Done at its first poll, and not well in its drop.
struct ReadyThenPanics(PanicsWhenDropped);

impl Future for ReadyThenPanics {
    type Output = u32;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u32> {
        Poll::Ready(1)
    }
}

#[test]
fn a_panic_in_the_futures_drop_ends_it_once_as_internal_error() {
    let session = Session::start(|_| {});
    {
        let _root = start_transaction("op", "dropped");
        let before = current();
        let holds = PanicsWhenDropped;
        let future = async move {
            pending::<()>().await;
            drop(holds);
        };
        let mut future = Box::pin(future.in_span(start_child("op", "future")));
        assert_eq!(poll(&mut future), Poll::Pending);
        catch_unwind(AssertUnwindSafe(|| drop(future))).unwrap_err();
        assert_eq!(current(), before);
    }
    {
        let _root = start_transaction("op", "done");
        let before = current();
        let future = ReadyThenPanics(PanicsWhenDropped);
        let mut future = Box::pin(future.in_span(start_child("op", "future")));
        catch_unwind(AssertUnwindSafe(|| poll(&mut future))).unwrap_err();
        assert_eq!(current(), before);
        assert_eq!(poll(&mut future), Poll::Pending, "it is gone");
    }
    let ending = session.end();
    assert_all_arrived(&ending);
    for name in ["dropped", "done"] {
        let root = ending.named(name);
        assert_eq!(root.span("future")["status"], "internal_error");
        assert_eq!(root.span("in the drop")["status"], "internal_error");
        assert_eq!(root.span("in the drop")["parent_span_id"], root.span("future")["span_id"]);
        assert_eq!(root.root().get("status"), None);
    }
}

#[test]
fn what_a_future_holds_ends_before_it_whichever_way_it_goes() {
    let session = Session::start(|_| {});
    for polls in [1, 2] {
        let future = async {
            let _held = start_child("held", "held").detach();
            yield_once().await;
        };
        let mut future = Box::pin(future.in_transaction("op", format!("{polls} polls")));
        for _ in 0..polls {
            let _ = poll(&mut future);
        }
    }
    // Dropped because its owner panics: cancelled all the same.
    let owner = AssertUnwindSafe(|| {
        let mut future = Box::pin(pending::<()>().in_transaction("op", "of one who panics"));
        assert!(poll(&mut future).is_pending());
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    catch_unwind(owner).unwrap_err();
    let ending = session.end();
    assert_all_arrived(&ending);
    assert_eq!(ending.named("1 polls").root()["status"], "cancelled");
    assert_eq!(ending.named("2 polls").root().get("status"), None);
    for name in ["1 polls", "2 polls"] {
        assert_eq!(shape(ending.named(name)).len(), 1);
    }
    assert_eq!(ending.named("of one who panics").root()["status"], "cancelled");
}

#[test]
fn what_is_not_sampled_hides_what_is_around_it_and_leaves_nothing() {
    let session = Session::start(|config| config.traces_sample_rate = Some(0.0));
    let outer = start_transaction("op", "outer");
    let around = trace();
    let mut future = Box::pin(four_awaits().in_transaction("op", "unsampled"));
    for _ in 0..3 {
        assert_eq!(poll(&mut future), Poll::Pending);
        assert_eq!(trace(), around);
    }
    drop(future);
    assert_eq!(trace(), around);
    drop(outer);
    let ending = session.end();
    assert!(ending.transactions.is_empty());
    assert_eq!(ending.after.unsampled - ending.before.unsampled, 2);
    assert_eq!(ending.lost_in_all(), count(0, 0));
}

#[test]
fn a_future_that_outlives_the_library_is_counted_and_not_sent() {
    let session = Session::start(|_| {});
    let mut future = Box::pin(four_awaits().in_transaction("op", "old"));
    assert_eq!(poll(&mut future), Poll::Pending);
    let report = session.guard.close(LONG);
    assert_eq!((report.delivered, report.left), (count(0, 0), count(1, 1)));
    assert_eq!(poll(&mut future), Poll::Pending, "polled while the library is off");

    let again = Memory::new();
    let transport = again.clone();
    let guard = hotspan::init(config(move || transport.clone())).unwrap();
    for expected in [Poll::Pending, Poll::Pending, Poll::Ready(5)] {
        assert_eq!(poll(&mut future), expected);
        assert_eq!((current(), trace()), (None, None));
    }
    assert_eq!(guard.close(LONG).delivered, count(0, 0));
    let after = stats();
    after.check().unwrap();
    assert!(after.is_at_rest());
    assert_eq!(lost_between(&session.before, &after, Reason::AfterShutdown), count(1, 2));
    assert!(session.memory.take().is_empty() && again.take().is_empty());
}
