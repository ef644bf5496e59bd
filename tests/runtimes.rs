//! Futures in spans under those who poll them in programs: tokio with several threads that steal
//! work from each other, its `select!` and `join!`, and a plain `block_on` without any runtime.
//! `futures.rs` polls by hand, and looks closer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic"
)]

use std::collections::HashSet;
use std::future::pending;
use std::thread;

use hotspan::{FutureExt, Hub, start_child, start_transaction, stats};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

mod support;

use support::poll::{block_on, yield_once};
use support::session::{Session, count};

fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).build().unwrap()
}

async fn load(item: u64) -> u64 {
    yield_now().await;
    start_child("db.row", "row").set_data("item", item);
    yield_now().await;
    item
}

/// One item; returns how many threads it was polled on.
async fn process(item: u64) -> usize {
    let mut threads = HashSet::new();
    let scope = Hub::current().scope();
    scope.transaction().unwrap().set_tag("item", item);
    let own = scope.transaction().unwrap().trace_id();
    for round in 0..8_u64 {
        threads.insert(thread::current().id());
        assert_eq!(Hub::current().scope().transaction().unwrap().trace_id(), own);
        {
            let mut step = start_child("step", format!("step {round}"));
            step.set_data("item", item);
        }
        yield_now().await;
    }
    assert_eq!(load(item).in_span(start_child("db", "load")).await, item);
    threads.len()
}

#[test]
fn tasks_move_between_threads_and_their_transactions_with_them() {
    const ITEMS: u64 = 300;
    let session = Session::start(|_| {});
    let runtime = runtime(4);
    let moved = runtime.block_on(async {
        let tasks: Vec<_> = (0..ITEMS)
            .map(|item| tokio::spawn(process(item).in_transaction("queue.process", "orders")))
            .collect();
        let mut moved = 0;
        for task in tasks {
            moved += usize::from(task.await.unwrap() > 1);
        }
        moved
    });
    println!("{moved} of {ITEMS} tasks were polled on several threads");
    assert_eq!(stats().open, count(0, 0));
    drop(runtime);
    let ending = session.end();
    assert_eq!(ending.lost_in_all(), count(0, 0));
    assert_eq!(ending.report.delivered, count(ITEMS, ITEMS * 11));
    let mut items = HashSet::new();
    for transaction in &ending.transactions {
        assert_eq!(transaction.root().get("status"), None);
        let item = transaction.payload["tags"]["item"].as_str().unwrap();
        assert!(items.insert(item.to_owned()), "{item} came twice");
        for round in 0..8 {
            let step = transaction.span(&format!("step {round}"));
            assert_eq!(step["data"]["item"].to_string(), item);
            assert_eq!(step["parent_span_id"], transaction.root()["span_id"]);
        }
        let load = transaction.span("load");
        assert_eq!(load["parent_span_id"], transaction.root()["span_id"]);
        assert_eq!(transaction.span("row")["parent_span_id"], load["span_id"]);
        assert_eq!(transaction.span("row")["data"]["item"].to_string(), item);
    }
    assert_eq!(items.len() as u64, ITEMS);
}

#[test]
fn the_loser_of_a_select_is_cancelled() {
    async fn race() -> &'static str {
        let slow = async {
            drop(start_child("step", "begun"));
            pending::<()>().await;
        };
        let quick = async {
            yield_once().await;
            yield_once().await;
        };
        tokio::select! {
            () = slow.in_span(start_child("race", "loser")) => "loser",
            () = quick.in_span(start_child("race", "winner")) => "winner",
        }
    }
    let session = Session::start(|_| {});
    let runtime = runtime(2);
    let spawned = runtime.spawn(race().in_transaction("op", "spawned"));
    assert_eq!(runtime.block_on(spawned).unwrap(), "winner");
    assert_eq!(block_on(race().in_transaction("op", "no runtime")), "winner");
    let ending = session.end();
    assert_eq!(ending.lost_in_all(), count(0, 0));
    for name in ["spawned", "no runtime"] {
        let transaction = ending.named(name);
        assert_eq!(transaction.root().get("status"), None, "{name}");
        assert_eq!(transaction.span("loser")["status"], "cancelled", "{name}");
        assert_eq!(transaction.span("winner").get("status"), None, "{name}");
        let begun = transaction.span("begun");
        assert_eq!(begun["parent_span_id"], transaction.span("loser")["span_id"], "{name}");
        for of_race in ["loser", "winner"] {
            let span = transaction.span(of_race);
            assert_eq!(span["parent_span_id"], transaction.root()["span_id"], "{name}");
        }
    }
}

#[test]
fn what_is_joined_takes_turns_each_in_its_own_span() {
    async fn part(name: &'static str) {
        for _ in 0..3 {
            drop(start_child("step", name));
            yield_once().await;
        }
    }
    async fn both() {
        let one = part("of one").in_span(start_child("part", "one"));
        let two = part("of two").in_span(start_child("part", "two"));
        tokio::join!(one, two);
        drop(start_child("step", "after"));
    }
    let session = Session::start(|_| {});
    let runtime = runtime(2);
    runtime.block_on(runtime.spawn(both().in_transaction("op", "spawned"))).unwrap();
    {
        // Inside what belongs to the thread.
        let _transaction = start_transaction("op", "of the thread");
        block_on(both());
        drop(start_child("step", "at last"));
    }
    let ending = session.end();
    assert_eq!(ending.lost_in_all(), count(0, 0));
    assert_eq!(ending.named("of the thread").span("at last")["op"], "step");
    for name in ["spawned", "of the thread"] {
        let transaction = ending.named(name);
        for part in ["one", "two"] {
            let part = transaction.span(part);
            assert_eq!(part["parent_span_id"], transaction.root()["span_id"]);
            let own: Vec<_> = transaction
                .spans()
                .iter()
                .filter(|span| span["parent_span_id"] == part["span_id"])
                .map(|span| span["description"].as_str().unwrap())
                .collect();
            let expected = format!("of {}", part["description"].as_str().unwrap());
            assert_eq!(own, [expected.as_str(); 3], "{name}");
        }
        let after = transaction.span("after");
        assert_eq!(after["parent_span_id"], transaction.root()["span_id"]);
    }
}

#[test]
fn a_task_that_is_aborted_panics_or_goes_down_with_its_runtime_ends_once() {
    let session = Session::start(|_| {});
    let runtime = runtime(2);
    let begin = |name: &'static str| {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let task = async move {
            begun.send(()).unwrap();
            pending::<()>().await;
        };
        let task = runtime.spawn(task.in_transaction("op", name));
        has_begun.recv().unwrap();
        task
    };
    let aborted = begin("aborted");
    aborted.abort();
    assert!(runtime.block_on(aborted).unwrap_err().is_cancelled());
    let panics = async {
        yield_now().await;
        let _span = start_child("op", "open");
        std::panic::resume_unwind(Box::new("on purpose"));
    };
    let panics = runtime.spawn(panics.in_transaction("op", "panics"));
    assert!(runtime.block_on(panics).unwrap_err().is_panic());
    let _shut_down = begin("shut down");
    assert_eq!(stats().open, count(1, 1));
    drop(runtime);
    let ending = session.end();
    assert_eq!(ending.lost_in_all(), count(0, 0));
    assert_eq!(ending.transactions.len(), 3);
    for (name, status) in
        [("aborted", "cancelled"), ("panics", "internal_error"), ("shut down", "cancelled")]
    {
        assert_eq!(ending.named(name).root()["status"], status, "{name}");
    }
    assert_eq!(ending.named("panics").span("open")["status"], "internal_error");
}

#[test]
fn a_guard_across_an_await_on_one_thread_mixes_nothing_up_but_itself() {
    // It compiles where the future stays on its thread. Between the polls the guard's span is that
    // thread's innermost one, which is why it should not be done; what has a span of its own does
    // not see it.
    let session = Session::start(|_| {});
    let careless = async {
        let _span = start_child("op", "careless");
        yield_once().await;
        yield_once().await;
    };
    let careful = async {
        for _ in 0..3 {
            drop(start_child("op", "careful"));
            yield_once().await;
        }
    };
    block_on(async {
        tokio::join!(careless.in_transaction("op", "one"), careful.in_transaction("op", "two"),)
    });
    assert!(Hub::current().scope().transaction().is_none());
    let ending = session.end();
    assert_eq!(ending.lost_in_all(), count(0, 0));
    let one = ending.named("one");
    assert_eq!(one.span("careless")["parent_span_id"], one.root()["span_id"]);
    let two = ending.named("two");
    assert_eq!(two.spans().len(), 3);
    assert!(two.spans().iter().all(|span| span["parent_span_id"] == two.root()["span_id"]));
}
