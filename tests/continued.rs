//! Traces that are continued: known for as long as their transaction is open, however it ends, and
//! on whatever thread; and no longer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::mem_forget,
    clippy::allow_attributes,
    reason = "tests may panic, start threads, and forget what should not be"
)]

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use hotspan::{
    Config, Incoming, Keep, Rule, SpanStatus, Transaction, TransactionOptions, continue_from,
    start_child, stats,
};

mod support;

use support::session::Session;

/// More than there are places for.
const MANY: usize = 1500;

fn incoming() -> Incoming {
    continue_from([
        ("sentry-trace", "4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052"),
        ("baggage", "sentry-trace_id=4c79f60c11214eb38604f4ae0781bfb2,sentry-sample_rand=0.5"),
    ])
}

fn start(sampled: bool) -> Transaction {
    TransactionOptions::new().continue_from(&incoming()).sampled(sampled).start("op", "name")
}

/// Kept if it fails.
fn on_trial() -> Transaction {
    incoming().start_transaction("trial", "name")
}

fn rules(config: &mut Config) {
    config.ring_bytes = 512 << 20;
    config.rules = vec![Rule {
        op: Some("trial".into()),
        rate: Some(0.0),
        keep: Keep { failed: true, ..Keep::default() },
        ..Rule::default()
    }];
}

fn session() -> Session {
    Session::start(rules)
}

/// What leaves from here is of the trace that came.
fn is_known() -> bool {
    let headers = hotspan::trace_headers();
    headers.is_some_and(|it| it.sentry_trace().starts_with("4c79f60c11214eb38604f4ae0781bfb2"))
}

fn elsewhere(work: impl FnOnce() + Send + 'static) {
    thread::spawn(work).join().unwrap();
}

#[test]
fn however_a_transaction_ends_its_trace_gives_up_its_place() {
    type Way = fn();
    let ways: [(&str, Way); 13] = [
        ("dropped", || drop(start(true))),
        ("at a given time", || start(true).finish_at(std::time::SystemTime::now())),
        ("unsampled", || drop(start(false))),
        ("unsampled, at a given time", || start(false).finish_at(std::time::SystemTime::now())),
        ("detached", || drop(start(true).detach())),
        ("detached, unsampled", || drop(start(false).detach())),
        ("not kept", || drop(on_trial())),
        ("kept", || _ = on_trial().set_status(SpanStatus::Aborted)),
        ("discarded", || _ = start(true).discard()),
        ("with a child of it detached", || {
            let transaction = start(true);
            let child = start_child("op", "child").detach();
            drop(transaction);
            drop(child);
        }),
        ("under another one", || {
            let below = start(true);
            let above = start(false);
            drop(below);
            drop(above);
        }),
        ("by a panic", || {
            let transaction = start(true);
            let thrown = catch_unwind(AssertUnwindSafe(move || {
                let _transaction = transaction;
                resume_unwind(Box::new("on purpose"));
            }));
            assert!(thrown.is_err());
        }),
        ("forgotten", || forget(start(true))),
    ];
    for (name, way) in ways {
        let session = session();
        let before = stats().sampling.traces_lost;
        let many = move || (0..MANY).for_each(|_| way());
        // What is forgotten goes with its thread.
        elsewhere(many);
        let last = start(true);
        assert!(is_known(), "{name}");
        assert_eq!(stats().sampling.traces_lost, before, "{name}");
        drop(last);
        drop(session.end());
    }
}

#[test]
fn unsampled_ones_that_are_forgotten_go_with_their_thread() {
    let _session = session();
    for _ in 0..MANY / 100 {
        elsewhere(|| (0..100).for_each(|_| forget(start(false))));
    }
    let _last = start(false);
    assert!(is_known());
}

#[test]
fn one_that_ends_in_a_later_session_gives_up_its_place_too() {
    let mut session = session();
    for _ in 0..MANY / 100 {
        let open: Vec<_> =
            (0..100).flat_map(|n| [start(n % 2 == 0).detach(), on_trial().detach()]).collect();
        session = session.again(rules);
        drop(open);
    }
    let _last = start(true);
    assert!(is_known());
}

#[test]
fn what_a_session_leaves_open_for_ever_is_not_there_in_the_next() {
    let first = session();
    (0..4 * MANY).for_each(|_| forget(start(false).detach()));
    {
        let _refused = start(true);
        assert!(!is_known(), "there is no place left");
    }
    let _second = first.again(rules);
    let _last = start(true);
    assert!(is_known());
}

#[test]
fn a_thread_that_ends_while_it_visits_takes_nothing_with_it() {
    let _session = session();
    for sampled in [true, false] {
        let transaction = start(sampled).detach();
        let context = transaction.context();
        elsewhere(move || forget(context.enter()));
        let scope = transaction.enter();
        assert!(is_known(), "sampled: {sampled}");
        drop(scope);
        let transaction = transaction;
        drop(transaction);
        assert!(!is_known());
    }
}

#[test]
fn a_stack_that_is_given_up_takes_nothing_of_what_only_visits() {
    let _session = session();
    for sampled in [true, false] {
        let transaction = start(sampled).detach();
        let scope = transaction.enter();
        // Too many: everything open on this thread is given up.
        (0..300).for_each(|_| forget(start(false)));
        drop(scope);
        let _scope = transaction.enter();
        assert!(is_known(), "sampled: {sampled}");
    }
}
