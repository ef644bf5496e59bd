//! Recording where it is least expected: in destructors of thread-locals, before and after those
//! of the library, and while a panic unwinds. No panic, no abort, and everything is counted.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic, and thread-locals are there where they are used"
)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use hotspan::{Detached, Reason, Rule, Span, start_child, start_transaction};

mod support;

use support::session::{Session, count};

/// What a thread-local does at the end of its thread.
struct Last(Cell<Option<Box<dyn FnOnce()>>>);

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(run) = self.0.take() {
            run();
        }
    }
}

thread_local! {
    static FIRST: Last = const { Last(Cell::new(None)) };
    static LATER: Last = const { Last(Cell::new(None)) };
}

/// Runs both at the end of a thread that recorded in between; destructors run last in, first out.
fn at_the_end_of_a_thread(before: fn(), after: fn()) {
    thread::spawn(move || {
        FIRST.with(|last| last.0.set(Some(Box::new(before))));
        drop(start_transaction("op", "in its life"));
        LATER.with(|last| last.0.set(Some(Box::new(after))));
    })
    .join()
    .unwrap();
}

fn record() {
    let mut transaction = start_transaction("op", "at the end");
    transaction.set_tag("kind", "late");
    drop(start_child("step", "at the end"));
}

#[test]
fn what_is_recorded_before_the_ring_is_given_up_is_delivered_and_after_it_counted() {
    let session = Session::start(|_| {});
    at_the_end_of_a_thread(record, record);
    at_the_end_of_a_thread(record, || ());
    at_the_end_of_a_thread(|| (), record);
    let ending = session.end();
    // Registered later, run sooner: the ring is still there.
    let at_the_end = ending.transactions.iter().filter(|it| it.name() == "at the end").count();
    assert_eq!((at_the_end, ending.transactions.len()), (2, 5));
    // A transaction that cannot be recorded has no children that could be.
    assert_eq!(ending.lost(Reason::NoRing), count(2, 2));
    assert_eq!(ending.lost_in_all(), count(2, 2));
}

#[test]
fn a_thread_that_first_records_at_its_end_is_recorded() {
    let session = Session::start(|_| {});
    thread::spawn(|| {
        FIRST.with(|last| last.0.set(Some(Box::new(record))));
    })
    .join()
    .unwrap();
    let ending = session.end();
    assert_eq!(ending.only().spans().len(), 1);
    assert!(ending.report.complete);
}

#[test]
fn what_is_open_at_the_end_of_a_thread_is_unfinished_and_its_guards_do_no_harm() {
    thread_local! {
        static KEPT: Cell<Option<(hotspan::Transaction, Span)>> = const { Cell::new(None) };
        static SOONER: Cell<Option<hotspan::Transaction>> = const { Cell::new(None) };
    }
    let session = Session::start(|_| {});
    thread::spawn(|| {
        // First, so that its destructor is the last to run.
        KEPT.with(|_| ());
        let transaction = start_transaction("op", "kept");
        let span = transaction.start_child("step", "kept");
        KEPT.set(Some((transaction, span)));
        SOONER.set(Some(start_transaction("op", "ends in a destructor")));
    })
    .join()
    .unwrap();
    let ending = session.end();
    assert_eq!(ending.only().name(), "ends in a destructor");
    assert_eq!(ending.lost(Reason::Unfinished), count(1, 2));
}

#[test]
fn detached_spans_that_end_with_a_thread_are_delivered_or_counted() {
    thread_local! {
        static KEPT: Cell<Option<Detached>> = const { Cell::new(None) };
        static SOONER: Cell<Option<Detached>> = const { Cell::new(None) };
    }
    let session = Session::start(|_| {});
    thread::spawn(|| {
        KEPT.with(|_| ());
        KEPT.set(Some(start_transaction("op", "later").detach()));
        let sooner = start_transaction("op", "sooner").detach();
        drop(sooner.start_child("step", "of it"));
        SOONER.set(Some(sooner));
    })
    .join()
    .unwrap();
    let ending = session.end();
    assert_eq!(ending.only().name(), "sooner");
    assert_eq!(ending.only().spans().len(), 1);
    assert_eq!(ending.lost(Reason::NoRing), count(1, 1));
}

#[test]
fn a_scope_that_cannot_be_entered_is_counted_as_one_span() {
    let session = Session::start(|_| {});
    let transaction = start_transaction("op", "root");
    let context = transaction.context();
    thread::spawn(move || {
        let enter = move || {
            let _scope = context.enter();
            drop(start_child("step", "of nothing"));
        };
        FIRST.with(|last| last.0.set(Some(Box::new(enter))));
        drop(start_transaction("op", "in its life"));
    })
    .join()
    .unwrap();
    drop(transaction);
    let ending = session.end();
    assert_eq!(ending.lost(Reason::NoRing), count(0, 1));
    assert_eq!(ending.lost_in_all(), count(0, 1));
}

/// Records, ends and enters when it is dropped.
struct Recorder(Option<Detached>);

impl Drop for Recorder {
    fn drop(&mut self) {
        assert!(thread::panicking());
        record();
        if let Some(carried) = self.0.take() {
            drop(carried.enter().start_child("step", "while it unwinds"));
            drop(start_child("step", "of what is innermost"));
        }
    }
}

#[test]
fn what_is_recorded_while_a_panic_unwinds_arrives() {
    let session = Session::start(|_| {});
    let panic = || {
        let _transaction = start_transaction("op", "panicked");
        let _span = start_child("step", "panicked");
        let _recorder = Recorder(Some(start_transaction("op", "carried").detach()));
        panic!("on purpose");
    };
    assert!(catch_unwind(AssertUnwindSafe(panic)).is_err());
    // And at the end of a thread that dies of it.
    assert!(thread::spawn(panic).join().is_err());
    // A panic in a destructor of a thread that unwinds already would abort; this one is caught
    // inside.
    struct Catches;
    impl Drop for Catches {
        fn drop(&mut self) {
            let inner = || {
                let _transaction = start_transaction("op", "inside");
                panic!("on purpose");
            };
            assert!(catch_unwind(inner).is_err());
        }
    }
    let outer = || {
        let _catches = Catches;
        panic!("on purpose");
    };
    assert!(catch_unwind(outer).is_err());

    let ending = session.end();
    let named = |name| ending.transactions.iter().filter(move |it| it.name() == name);
    for opened in named("panicked") {
        assert_eq!(opened.root()["status"], "internal_error");
        assert_eq!(opened.span("panicked")["status"], "internal_error");
        opened.span("of what is innermost");
    }
    for opened in named("carried") {
        assert_ne!(opened.span("while it unwinds")["status"], "internal_error");
    }
    assert_eq!(named("panicked").count(), 2);
    assert_eq!(named("carried").count(), 2);
    assert_eq!((named("at the end").count(), named("inside").count()), (2, 1));
    assert!(ending.report.complete);
}

/// The thread's own view of the rules is gone before the ring is.
#[test]
fn rules_apply_to_what_is_recorded_at_the_end_of_a_thread() {
    let session = Session::start(|config| {
        config.rules = vec![Rule { op: Some("other".into()), ..Rule::default() }];
    });
    let detached = start_transaction("op", "elsewhere").detach();
    let context = detached.context();
    let work = move || {
        // A ring, and no look at the rules yet.
        drop(context.enter());
        LATER.with(|last| last.0.set(Some(Box::new(record))));
        drop(start_transaction("op", "in its life"));
    };
    thread::spawn(work).join().unwrap();
    drop(detached);
    let ending = session.end();
    assert_eq!(ending.report.delivered, count(3, 4));
}
