//! One transaction on many threads: a pool behind a channel, rayon, scoped threads, threads that
//! never recorded before; and everything that can be set on what has left its thread.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::mem_forget,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic, and start threads"
)]

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use hotspan::{
    Detached, Entered, Hub, Reason, SpanContext, SpanStatus, start_child, start_transaction, stats,
};
use rayon::prelude::*;
use serde_json::{Value, json};

mod support;

use support::session::{Session, count};

type Job = Box<dyn FnOnce() + Send>;

/// A pool as programs have it: threads, and a channel of closures.
struct Pool {
    jobs: mpsc::Sender<Job>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Pool {
    fn new(threads: usize) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let work = move || {
            loop {
                let job = queue.lock().unwrap().recv();
                match job {
                    Ok(job) => job(),
                    Err(_) => break,
                }
                assert!(Hub::current().scope().transaction().is_none(), "left as it was found");
            }
        };
        let threads = (0..threads).map(|_| thread::spawn(work.clone())).collect();
        Self { jobs, threads }
    }

    fn join(self) {
        drop(self.jobs);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_pool_works_on_many_transactions_at_once_and_the_last_part_ends_each() {
    const ITEMS: u64 = 50;
    const PARTS: u64 = 8;
    let session = Session::start(|_| {});
    let pool = Pool::new(4);
    for item in 0..ITEMS {
        let transaction = Arc::new(start_transaction("batch", format!("item {item}")).detach());
        for part in 0..PARTS {
            // Whoever drops the last one ends it.
            let transaction = Arc::clone(&transaction);
            let job = move || {
                let _scope = transaction.enter();
                let mut span = start_child("part", format!("part {part}"));
                span.set_data("item", item);
                drop(start_child("step", format!("step of {part}")));
            };
            pool.jobs.send(Box::new(job)).unwrap();
        }
    }
    pool.join();
    assert_eq!(stats().open, count(0, 0));
    let ending = session.end();
    assert_eq!(ending.lost_in_all(), count(0, 0));
    assert_eq!(ending.report.delivered, count(ITEMS, ITEMS * (1 + 2 * PARTS)));
    for item in 0..ITEMS {
        let transaction = ending.named(&format!("item {item}"));
        for part in 0..PARTS {
            let span = transaction.span(&format!("part {part}"));
            assert_eq!(span["parent_span_id"], transaction.root()["span_id"]);
            assert_eq!(span["data"]["item"], item);
            let step = transaction.span(&format!("step of {part}"));
            assert_eq!(step["parent_span_id"], span["span_id"]);
        }
    }
}

/// Adds up, halving the work; in each half a span below the one it was called in.
fn sum(numbers: &[u64], context: SpanContext) -> u64 {
    let _scope = context.enter();
    let mut span = start_child("sum", "sum");
    span.set_data("numbers", numbers.len());
    if numbers.len() <= 4 {
        return numbers.iter().sum();
    }
    let (left, right) = numbers.split_at(numbers.len() / 2);
    let context = span.context();
    // While one half is waited for, this thread may be given anything else to do: what that
    // enters it leaves again.
    let (left, right) = rayon::join(|| sum(left, context), || sum(right, context));
    left + right
}

#[test]
fn rayon_has_its_parts_in_the_spans_they_belong_to() {
    let numbers: Vec<u64> = (1..=64).collect();
    let session = Session::start(|_| {});
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    {
        let transaction = start_transaction("batch", "iterator");
        let context = transaction.context();
        pool.install(|| {
            numbers.par_iter().for_each(|number| {
                let _scope = context.enter();
                start_child("part", format!("part {number}")).set_data("number", *number);
            });
        });
    }
    {
        let transaction = start_transaction("batch", "join");
        let context = transaction.context();
        assert_eq!(pool.install(|| sum(&numbers, context)), 64 * 65 / 2);
    }
    drop(pool);
    let ending = session.end();
    assert_eq!(ending.lost_in_all(), count(0, 0));
    let iterator = ending.named("iterator");
    for number in numbers {
        let span = iterator.span(&format!("part {number}"));
        assert_eq!(span["parent_span_id"], iterator.root()["span_id"]);
        assert_eq!(span["data"]["number"], number);
    }
    // A whole binary tree: each span is over half as many numbers as its parent.
    let join = ending.named("join");
    assert_eq!(join.spans().len(), 31);
    for span in join.spans() {
        let size = span["data"]["numbers"].as_u64().unwrap();
        let parents: Vec<&Value> = join
            .spans()
            .iter()
            .filter(|parent| parent["span_id"] == span["parent_span_id"])
            .collect();
        match parents[..] {
            [parent] => assert_eq!(parent["data"]["numbers"].as_u64(), Some(size * 2)),
            _ => {
                assert_eq!(size, 64);
                assert_eq!(span["parent_span_id"], join.root()["span_id"]);
            }
        }
    }
}

/// Sets one of everything.
macro_rules! set_all {
    ($span:expr, $number:expr) => {
        $span
            .set_tag("tag", $number)
            .set_data("data", $number)
            .set_data("text", "more than fits into the first slot of an attribute's")
            .set_data("list", [$number, 1])
            .set_data_with("lazy", || $number)
            .set_measurement("size", f64::from($number), "byte")
            .set_status(SpanStatus::Aborted)
            .set_http_status(200 + $number)
            .record_result(&Err::<(), ()>(()))
            .set_status(SpanStatus::Unavailable)
    };
}

/// That all of it is there.
fn assert_all(root: &Value, payload: &Value, number: u16) {
    assert_eq!(payload["tags"]["tag"], number.to_string());
    assert_eq!(payload["tags"]["http.status_code"], (200 + number).to_string());
    assert_eq!(root["status"], "unavailable");
    let data = &root["data"];
    assert_eq!(data["data"], number);
    assert_eq!(data["text"], "more than fits into the first slot of an attribute's");
    assert_eq!(data["list"], json!([number, 1]));
    assert_eq!(data["lazy"], number);
    assert_eq!(data["http.response.status_code"], 200 + number);
}

#[test]
fn everything_can_be_set_on_what_has_left_its_thread() {
    fn set_on_scope(scope: &mut Entered<'_>) {
        set_all!(scope, 2_u16).set_description("renamed in the scope");
        assert!(scope.is_recording());
    }
    let session = Session::start(|_| {});
    let mut outside = start_transaction("op", "outside").detach();
    let mut inside = start_transaction("op", "inside").detach();
    let mut of_context = start_transaction("op", "of a context");
    // Overwritten by what is set later, wherever that is.
    set_all!(of_context, 9_u16);
    set_all!(outside, 8_u16);
    let context = of_context.context();
    let id = inside.span_id();
    thread::spawn(move || {
        set_all!(outside, 1_u16).set_description("renamed outside");
        assert!(outside.is_recording());
        assert!(outside.trace_id().is_some() && outside.span_id().is_some());
        let mut child = outside.start_child("op", "child");
        set_all!(child, 1_u16).set_description("renamed child");
        assert_eq!(child.trace_id(), outside.trace_id());
        child.finish();

        set_on_scope(&mut inside.enter());
        let mut scope = inside.enter();
        assert_eq!((scope.span_id(), inside.span_id()), (id, id));
        set_all!(scope.start_child("op", "child"), 2_u16).set_description("renamed child");
        scope.set_tag("last", true);
        drop(scope);
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        inside.started_at(start);
        inside.finish_at(start + Duration::from_secs(2));

        let mut scope = context.enter();
        set_all!(scope, 3_u16).set_description("renamed by context");
        set_all!(scope.start_child("op", "child"), 3_u16).set_description("renamed child");
    })
    .join()
    .unwrap();
    drop(of_context);
    let ending = session.end();
    assert_eq!(ending.lost_in_all(), count(0, 0));
    assert_eq!(ending.transactions.len(), 3);
    for (name, number) in
        [("renamed outside", 1), ("renamed in the scope", 2), ("renamed by context", 3)]
    {
        let transaction = ending.named(name);
        assert_all(transaction.root(), &transaction.payload, number);
        let measurement = json!({"value": f64::from(number), "unit": "byte"});
        assert_eq!(transaction.payload["measurements"]["size"], measurement, "{name}");
        let child = transaction.span("renamed child");
        assert_all(child, child, number);
    }
    let inside = ending.named("renamed in the scope");
    assert_eq!(inside.payload["tags"]["last"], "true");
    assert_eq!(inside.payload["start_timestamp"].as_f64(), Some(1_000_000_000.0));
    assert_eq!(inside.payload["timestamp"].as_f64(), Some(1_000_000_002.0));
}

#[test]
fn what_is_set_in_a_scope_counts_from_the_first_of_it_on() {
    let session = Session::start(|_| {});
    let mut transaction = start_transaction("op", "root").detach();
    let context = transaction.context();
    {
        let mut here = transaction.enter();
        here.set_tag("order", "here first");
        thread::spawn(move || {
            context.enter().set_tag("order", "there");
        })
        .join()
        .unwrap();
        // Of the same scope as the first.
        here.set_tag("order", "here last");
    }
    {
        let mut here = transaction.enter();
        here.set_tag("again", "here first");
        thread::spawn(move || {
            context.enter().set_tag("again", "there");
        })
        .join()
        .unwrap();
    }
    transaction.set_tag("again", "in a scope of its own");
    drop(transaction);
    let ending = session.end();
    let tags = &ending.only().payload["tags"];
    assert_eq!(tags["order"], "there");
    assert_eq!(tags["again"], "in a scope of its own");
}

#[test]
fn a_thread_that_never_recorded_may_end_what_others_began() {
    let session = Session::start(|_| {});
    let elsewhere = |detached: Detached| thread::spawn(move || drop(detached)).join().unwrap();
    let transaction = start_transaction("op", "root");
    elsewhere(transaction.start_child("op", "child").detach());
    drop(transaction.start_child("op", "own"));
    elsewhere(transaction.detach());
    let ending = session.end();
    assert_eq!(ending.only().spans().len(), 2);
    assert_eq!(ending.report.delivered, count(1, 3));
}

#[test]
fn misuse_is_harmless_and_counted() {
    let session = Session::start(|_| {});
    // Contexts of what is over, and scopes that outlive what they entered.
    let transaction = start_transaction("op", "over");
    let child = transaction.start_child("op", "child");
    let (of_root, of_child) = (transaction.context(), child.context());
    let scope = of_root.enter();
    drop((child, transaction));
    drop(scope.start_child("op", "late"));
    drop(scope);
    for context in [of_root, of_child] {
        let mut scope = context.enter();
        scope.set_tag("late", true);
        drop(scope.start_child("op", "late"));
    }
    // Of nothing at all.
    let nothing = start_child("op", "of nothing").detach();
    assert!(!nothing.is_recording() && nothing.span_id().is_none());
    drop(nothing.start_child("op", "of nothing"));
    drop(nothing.context().enter());
    // Many scopes of one span, left in the order in which they were entered.
    let detached = start_transaction("op", "entered often").detach();
    let scopes: Vec<Entered<'_>> = (0..100).map(|_| detached.enter()).collect();
    drop(scopes);
    // More than a thread has lines for: what is beyond is not entered, and nothing breaks.
    let scopes: Vec<Entered<'_>> = (0..300).map(|_| detached.enter()).collect();
    assert_eq!(scopes.iter().filter(|scope| scope.is_recording()).count(), 256);
    drop(start_child("op", "too deep"));
    drop(scopes);
    assert!(Hub::current().scope().transaction().is_none());
    drop(detached.start_child("op", "at last"));
    // A scope that is forgotten stays entered, until there are too many.
    thread::spawn(move || {
        let context = detached.context();
        std::mem::forget(context.enter());
        drop(start_child("op", "by mistake"));
        drop(detached);
        drop(start_child("op", "late by mistake"));
    })
    .join()
    .unwrap();
    let ending = session.end();
    assert_eq!(ending.named("over").spans().len(), 1);
    let often = ending.named("entered often");
    let mut names: Vec<&str> =
        often.spans().iter().map(|span| span["description"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["at last", "by mistake"]);
    assert_eq!(ending.lost(Reason::TooDeep), count(0, 1));
    assert_eq!(ending.lost(Reason::LateChild), count(0, 4));
    assert_eq!(ending.lost_in_all(), count(0, 5));
}
