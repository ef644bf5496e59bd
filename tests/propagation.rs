//! Traces through the whole library, seen from outside: headers in, transactions and children,
//! headers out, envelopes. Each row of what the protocol says about continuing, about tracing
//! without transactions and about organisations, wherever the request leaves from: the thread
//! itself, another one that the transaction or a child was taken to, a future.
//!
//! A test of its own without a harness, as the environment is a process's own: it runs itself again
//! for the rows about that.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "helpers of tests panic as tests do"
)]

use std::process::Command;
use std::{env, thread};

use hotspan::{
    Config, FutureExt, Incoming, Transaction, TransactionOptions, continue_from, start_child,
    start_transaction, trace_headers, trace_headers_for,
};

mod support;

use support::session::{Ending, Session};

const TRACE: &str = "4c79f60c11214eb38604f4ae0781bfb2";
const PARENT: &str = "fa90fdead5f74052";
const KEY: &str = "0123456789abcdef0123456789abcdef";
/// The head's context, with a member that nobody knows yet, and whose key is not ours.
const MEMBERS: &str = "sentry-trace_id=4c79f60c11214eb38604f4ae0781bfb2,\
    sentry-public_key=fedcba9876543210fedcba9876543210,sentry-sample_rate=0.25,\
    sentry-sample_rand=0.123456,sentry-sampled=true,sentry-transaction=POST%20%2Forders,\
    sentry-novelty=a%2Cb";

fn main() {
    if let Ok(wanted) = env::var("HOTSPAN_TEST_INHERITED") {
        return inherits(&wanted);
    }
    for (name, test) in [
        ("continuing", continuing as fn()),
        ("decisions_follow_flag_and_rate", decisions_follow_flag_and_rate),
        ("organisations", organisations),
        ("the_name_is_frozen_when_it_leaves", the_name_is_frozen_when_it_leaves),
        ("own_decisions_replace_the_rate", own_decisions_replace_the_rate),
        ("targets", targets),
        ("the_environment_hands_on_a_trace", the_environment_hands_on_a_trace),
    ] {
        test();
        println!("{name}: ok");
    }
}

/// With a DSN, to memory.
fn session(change: impl FnOnce(&mut Config)) -> Session {
    Session::start(|config| {
        config.dsn = Some(format!("https://{KEY}@localhost/1"));
        config.release = Some("shop@1 2".into());
        config.environment = Some("test".into());
        change(config);
    })
}

fn incoming(flag: &str, baggage: Option<&str>) -> Incoming {
    let trace = ("Sentry-Trace", format!("{TRACE}-{PARENT}{flag}"));
    let baggage = baggage.map(|text| ("Baggage", text.to_owned()));
    continue_from([Some(trace), baggage].into_iter().flatten())
}

/// Where a request leaves from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Child,
    Root,
    Thread,
    /// With no child open there.
    BareThread,
    DetachedChild,
    /// By the context of a child.
    Context,
    Future,
    /// A future inside a child.
    ChildFuture,
}

const PLACES: [Place; 8] = [
    Place::Child,
    Place::Root,
    Place::Thread,
    Place::BareThread,
    Place::DetachedChild,
    Place::Context,
    Place::Future,
    Place::ChildFuture,
];

/// What left, and from which span.
#[derive(Debug)]
struct Left {
    sentry_trace: String,
    baggage: Option<String>,
    trace_id: String,
    /// That of the transaction where it is not recorded, as its children have none.
    span_id: String,
}

fn here(span_id: String, trace_id: String) -> Left {
    let headers = trace_headers().unwrap();
    assert_eq!(headers.traceparent(), None);
    let baggage = headers.baggage().map(str::to_owned);
    Left { sentry_trace: headers.sentry_trace().to_owned(), baggage, trace_id, span_id }
}

fn leave(transaction: Transaction, place: Place) -> Left {
    let trace = transaction.trace_id().unwrap().to_string();
    let root = transaction.span_id().unwrap().to_string();
    let or_root =
        |id: Option<hotspan::SpanId>| id.map_or_else(|| root.clone(), |id| id.to_string());
    let elsewhere = |leave: &(dyn Fn() -> Left + Sync)| {
        thread::scope(|scope| scope.spawn(leave).join().unwrap())
    };
    match place {
        Place::Child => {
            let child = transaction.start_child("http.client", "GET");
            let of_child = child.trace_headers().unwrap();
            let left = here(or_root(child.span_id()), trace);
            assert_eq!(of_child.sentry_trace(), left.sentry_trace);
            assert_eq!(of_child.baggage(), left.baggage.as_deref());
            left
        }
        Place::Root => here(root.clone(), trace),
        Place::Thread => {
            let detached = transaction.detach();
            let left = elsewhere(&|| {
                let _scope = detached.enter();
                let child = start_child("http.client", "GET");
                here(or_root(child.span_id()), trace.clone())
            });
            drop(detached);
            left
        }
        Place::BareThread => {
            let detached = transaction.detach();
            elsewhere(&|| {
                let _scope = detached.enter();
                here(root.clone(), trace.clone())
            })
        }
        Place::DetachedChild => {
            let child = transaction.start_child("http.client", "GET");
            let id = or_root(child.span_id());
            let child = child.detach();
            let left = elsewhere(&|| {
                let _scope = child.enter();
                here(id.clone(), trace.clone())
            });
            drop(child);
            left
        }
        Place::Context => {
            let child = transaction.start_child("http.client", "GET");
            let (id, context) = (or_root(child.span_id()), child.context());
            elsewhere(&|| {
                let _scope = context.enter();
                here(id.clone(), trace.clone())
            })
        }
        Place::Future => poll(
            async {
                let child = start_child("http.client", "GET");
                here(or_root(child.span_id()), trace.clone())
            }
            .in_span(transaction),
        ),
        Place::ChildFuture => {
            let child = transaction.start_child("http.client", "GET");
            let id = or_root(child.span_id());
            let future = async { here(id, trace.clone()) }.in_span(child);
            drop(start_transaction("op", "in between"));
            poll(future)
        }
    }
}

/// Runs a future that is ready.
fn poll<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("not ready"),
    }
}

/// The transaction of the test, not the one in between.
fn sent(ending: &Ending) -> Option<&support::envelope::Opened> {
    ending.transactions.iter().find(|opened| opened.name() == "orders")
}

fn start(incoming: &Incoming) -> Transaction {
    incoming.start_transaction("queue.process", "orders")
}

fn member<'a>(baggage: &'a str, key: &str) -> Option<&'a str> {
    let members = baggage.split(',').filter_map(|member| member.split_once('='));
    members.into_iter().find(|(name, _)| *name == format!("sentry-{key}")).map(|(_, value)| value)
}

/// What came, what is continued, and which context is sent on.
fn continuing() {
    for place in PLACES {
        // Valid, with members: everything as it came, third parties' left out.
        let with_others = format!("other=1,{MEMBERS};property=2,last=3");
        let session_ = session(|_| ());
        let left = leave(start(&incoming("-1", Some(&with_others))), place);
        let ending = session_.end();
        let opened = sent(&ending).unwrap();
        assert_eq!(left.trace_id, TRACE, "{place:?}");
        assert_eq!(left.sentry_trace, format!("{TRACE}-{}-1", left.span_id), "{place:?}");
        assert_eq!(left.baggage.unwrap(), MEMBERS, "{place:?}");
        assert_eq!(opened.root()["trace_id"], TRACE);
        assert_eq!(opened.root()["parent_span_id"], PARENT);
        let dsc = opened.header["trace"].as_object().unwrap();
        for (key, value) in [
            ("trace_id", TRACE),
            ("public_key", "fedcba9876543210fedcba9876543210"),
            ("sample_rate", "0.25"),
            ("sample_rand", "0.123456"),
            ("sampled", "true"),
            ("transaction", "POST /orders"),
            ("novelty", "a,b"),
        ] {
            assert_eq!(dsc[key], value, "{place:?}");
        }
        assert_eq!(dsc.len(), 7, "nothing is invented: {dsc:?}");
        drop(ending);

        // Valid, without: nothing is invented.
        for baggage in [None, Some(""), Some("other=1")] {
            let session_ = session(|_| ());
            let left = leave(start(&incoming("-1", baggage)), place);
            let ending = session_.end();
            assert_eq!(left.sentry_trace, format!("{TRACE}-{}-1", left.span_id), "{place:?}");
            assert_eq!(left.baggage, None, "{place:?} {baggage:?}");
            let opened = sent(&ending).unwrap();
            assert_eq!(opened.root()["parent_span_id"], PARENT);
            assert_eq!(opened.header.get("trace"), None, "{place:?}");
        }

        // Not valid, or missing: a new trace, whatever the members say.
        for header in [None, Some(""), Some("nonsense"), Some("0"), Some(PARENT)] {
            let session_ = session(|_| ());
            let pairs = header.map(|value| ("sentry-trace", value));
            let pairs = pairs.into_iter().chain([("baggage", MEMBERS)]);
            let left = leave(start(&continue_from(pairs)), place);
            let ending = session_.end();
            let opened = sent(&ending).unwrap();
            assert_ne!(left.trace_id, TRACE, "{place:?} {header:?}");
            let trace = format!("{}-{}-1", left.trace_id, left.span_id);
            assert_eq!(left.sentry_trace, trace, "{place:?} {header:?}");
            let baggage = left.baggage.unwrap();
            for (key, value) in [
                ("trace_id", &*left.trace_id),
                ("public_key", KEY),
                ("sampled", "true"),
                ("release", "shop%401%202"),
                ("environment", "test"),
                ("transaction", "orders"),
            ] {
                assert_eq!(member(&baggage, key), Some(value), "{place:?} {baggage}");
            }
            assert_eq!(member(&baggage, "novelty"), None);
            assert_eq!(opened.root()["trace_id"], left.trace_id);
            assert_eq!(opened.root().get("parent_span_id"), None);
            // What left and what is delivered say the same.
            let dsc = &opened.header["trace"];
            for key in ["sample_rand", "sample_rate", "sampled", "trace_id", "transaction"] {
                assert_eq!(dsc[key], member(&baggage, key).unwrap(), "{place:?} {key}");
            }
        }
    }
}

/// What came of the flag, and of the own rate.
fn decisions_follow_flag_and_rate() {
    // The flag that came, what is recorded and sent on at a rate of 0 and of 1.
    for (came, at_none, at_zero, at_one) in [
        (None, None, false, true),
        (Some(""), None, false, true),
        (Some("-1"), Some("-1"), true, true),
        (Some("-0"), Some("-0"), false, false),
    ] {
        let incoming = move || came.map_or_else(Incoming::default, |flag| incoming(flag, None));
        for (rate, recorded) in [(0.0, at_zero), (1.0, at_one)] {
            for place in PLACES {
                let what = format!("{came:?} at {rate} from {place:?}");
                let session = session(|config| config.traces_sample_rate = Some(rate));
                let transaction = start(&incoming());
                assert_eq!(transaction.is_recording(), recorded, "{what}");
                let left = leave(transaction, place);
                let ending = session.end();
                let flag = if recorded { "-1" } else { "-0" };
                let trace = format!("{}-{}{flag}", left.trace_id, left.span_id);
                assert_eq!(left.sentry_trace, trace, "{what}");
                assert_eq!(left.trace_id == TRACE, came.is_some(), "{what}");
                let said = left.baggage.as_deref().and_then(|it| member(it, "sampled"));
                let own = came.is_none().then_some(if recorded { "true" } else { "false" });
                assert_eq!(said, own, "{what}: {:?}", left.baggage);
                assert_eq!(sent(&ending).is_some(), recorded, "{what}");
            }
        }
        // Without a rate there are no transactions, and the flag is handed on.
        let session = session(|config| config.traces_sample_rate = None);
        let leaves = thread::spawn(move || {
            let transaction = start(&incoming());
            assert!(!transaction.is_recording());
            let child = start_child("http.client", "GET");
            let of_child = child.trace_headers().unwrap();
            let headers = trace_headers().unwrap();
            assert_eq!(of_child.sentry_trace(), headers.sentry_trace());
            let later = poll(async { trace_headers().unwrap() }.in_span(child));
            assert_eq!(later.sentry_trace(), headers.sentry_trace());
            drop(transaction);
            headers
        });
        let left = leaves.join().unwrap();
        let flag = left.sentry_trace().get(49..).filter(|flag| !flag.is_empty());
        assert_eq!(flag, at_none, "{came:?}");
        assert_eq!(left.sentry_trace().starts_with(TRACE), came.is_some());
        if came.is_none() {
            let baggage = left.baggage().unwrap();
            for key in ["transaction", "sample_rate", "sampled"] {
                assert_eq!(member(baggage, key), None, "{baggage}");
            }
            let rand = member(baggage, "sample_rand").unwrap();
            assert!(rand.len() == 8 && rand.starts_with("0."), "{baggage}");
            assert_eq!(member(baggage, "public_key"), Some(KEY));
        } else {
            assert_eq!(left.baggage(), None, "{came:?}");
        }
        let ending = session.end();
        assert_eq!((ending.transactions.len(), ending.reported.len()), (0, 0), "{came:?}");
    }
}

/// Whose traces are continued.
fn organisations() {
    for (own, theirs, by_default, strictly) in [
        (None, None, true, true),
        (Some("1"), Some("1"), true, true),
        (Some("1"), Some("2"), false, false),
        (Some("1"), None, true, false),
        (None, Some("1"), true, false),
    ] {
        for (strict, continued) in [(false, by_default), (true, strictly)] {
            let what = format!("{own:?} {theirs:?} {strict}");
            let members = match theirs {
                Some(org) => format!("{MEMBERS},sentry-org_id={org}"),
                None => MEMBERS.to_owned(),
            };
            let session = session(|config| {
                config.org_id = own.map(str::to_owned);
                config.strict_trace_continuation = strict;
                // The flag of a trace that is not continued is not followed.
                config.traces_sample_rate = Some(0.0);
            });
            let transaction = start(&incoming("-1", Some(&members)));
            assert_eq!(transaction.is_recording(), continued, "{what}");
            let left = leave(transaction, Place::Child);
            assert_eq!(left.trace_id == TRACE, continued, "{what}");
            let baggage = left.baggage.unwrap();
            if continued {
                assert_eq!(baggage, members, "{what}");
            } else {
                assert_eq!(member(&baggage, "org_id"), own, "{what}");
                assert_eq!(member(&baggage, "trace_id"), Some(&*left.trace_id), "{what}");
            }
            drop(session.end());
        }
    }
    // The DSN's host says it, unless the config does.
    for (explicit, said) in [(None, "42"), (Some("7"), "7")] {
        let session = Session::start(|config| {
            config.dsn = Some(format!("https://{KEY}@o42.ingest.localhost/1"));
            config.org_id = explicit.map(str::to_owned);
        });
        let left = leave(start(&Incoming::default()), Place::Root);
        assert_eq!(member(&left.baggage.unwrap(), "org_id"), Some(said));
        let ending = session.end();
        assert_eq!(sent(&ending).unwrap().header["trace"]["org_id"], said);
    }
}

/// A context that has left the process does not change.
fn the_name_is_frozen_when_it_leaves() {
    let session = session(|_| ());
    let mut transaction = start_transaction("op", "before");
    transaction.set_name("asked");
    let first = trace_headers().unwrap();
    transaction.set_name("after");
    let second = trace_headers().unwrap();
    drop(transaction);
    let ending = session.end();
    assert_eq!(member(first.baggage().unwrap(), "transaction"), Some("asked"));
    assert_eq!(ending.only().name(), "after");
    assert_eq!(ending.only().header["trace"]["transaction"], "asked");
    assert_eq!(second.sentry_trace(), first.sentry_trace());
    assert_eq!(member(second.baggage().unwrap(), "transaction"), Some("asked"));
}

/// Where the own decision is not the parent's, the rate that is sent is the own one.
fn own_decisions_replace_the_rate() {
    let session = session(|_| ());
    let of_parent = incoming("-1", Some(MEMBERS));
    let options = TransactionOptions::new().continue_from(&of_parent);
    drop(options.sampled(true).start("op", "explicitly"));
    drop(options.start("op", "as the parent"));
    let negative = MEMBERS.replace("sampled=true", "sampled=false");
    let negative = incoming("-0", Some(&negative));
    drop(TransactionOptions::new().continue_from(&negative).sampled(true).start("op", "against"));
    let ending = session.end();
    let dsc = |name| ending.named(name).header["trace"].clone();
    assert_eq!(dsc("as the parent")["sample_rate"], "0.25");
    for name in ["explicitly", "against"] {
        assert_eq!(dsc(name)["sample_rate"].as_str().unwrap().parse(), Ok(1.0), "{name}");
        assert_eq!(dsc(name)["sampled"], "true", "{name}");
        assert_eq!(dsc(name)["sample_rand"], "0.123456", "{name}");
        assert_eq!(dsc(name)["public_key"], "fedcba9876543210fedcba9876543210", "{name}");
    }
}

/// Which requests get headers.
fn targets() {
    assert!(trace_headers().is_none(), "before init");
    assert!(trace_headers_for("https://stock/5").is_none(), "before init");
    for (list, stock, other) in [
        (None, true, true),
        (Some(vec![]), false, false),
        (Some(vec!["stock".into()]), true, false),
    ] {
        let session = session(|config| config.trace_propagation_targets = list);
        let _transaction = start_transaction("op", "orders");
        assert_eq!(trace_headers_for("https://stock/5").is_some(), stock);
        assert_eq!(trace_headers_for("https://other/5").is_some(), other);
        assert!(trace_headers_for("https://localhost/api/1/envelope/").is_none(), "our own");
        drop(_transaction);
        drop(session.end());
    }
}

/// `SENTRY_TRACE`, `SENTRY_BAGGAGE`, `SENTRY_USE_ENVIRONMENT`: in a process of their own.
fn the_environment_hands_on_a_trace() {
    for (switch, trace, wanted) in [
        (None, Some("-1"), "continued"),
        (Some("1"), Some("-1"), "continued"),
        (Some("off"), Some("-1"), "new"),
        (None, None, "new"),
    ] {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env("HOTSPAN_TEST_INHERITED", wanted).env("SENTRY_BAGGAGE", MEMBERS);
        command.env_remove("SENTRY_TRACE").env_remove("SENTRY_USE_ENVIRONMENT");
        if let Some(flag) = trace {
            command.env("SENTRY_TRACE", format!("{TRACE}-{PARENT}{flag}"));
        }
        if let Some(switch) = switch {
            command.env("SENTRY_USE_ENVIRONMENT", switch);
        }
        assert!(command.status().unwrap().success(), "{switch:?} {trace:?}");
    }
}

fn inherits(wanted: &str) {
    let continued = wanted == "continued";
    assert_eq!(Incoming::from_environment().trace_id(), None, "before init");
    let session_ = session(|config| config.traces_sample_rate = Some(0.0));
    let incoming = Incoming::from_environment();
    assert_eq!(incoming.trace_id().is_some(), continued);
    // Outside of transactions it goes on by itself, on every thread.
    let outside = move || {
        let headers = trace_headers().unwrap();
        assert_eq!(headers.sentry_trace().starts_with(TRACE), continued);
        assert_eq!(headers.sentry_trace().ends_with("-1"), continued);
        assert_eq!(headers.baggage().unwrap() == MEMBERS, continued);
    };
    outside();
    thread::spawn(outside).join().unwrap();
    let left = leave(start(&incoming), Place::Child);
    assert_eq!(left.trace_id == TRACE, continued);
    let ending = session_.end();
    assert_eq!(sent(&ending).is_some(), continued);
    if let Some(opened) = sent(&ending) {
        assert_eq!(opened.root()["parent_span_id"], PARENT);
    }
}
