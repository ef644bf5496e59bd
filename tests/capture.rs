//! The test kit: what belongs to a capture, what it looks like, and that captures keep apart.
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

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Barrier, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, SystemTime};

use hotspan::test::{Capture, Captured, Value, advance, capture, handle};
use hotspan::{
    Config, Count, Delivery, Detached, FutureExt, Guard, InFlight, Keep, Reason, Rule, SpanId,
    SpanStatus, TraceId, TransactionOptions, continue_from, inflight, init, start_child,
    start_transaction, stats,
};

/// Captures share the library; a test that starts it itself needs it alone.
static LIBRARY: RwLock<()> = RwLock::new(());

fn shared() -> RwLockReadGuard<'static, ()> {
    LIBRARY.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    LIBRARY.write().unwrap_or_else(PoisonError::into_inner)
}

fn library() -> Guard {
    init(Config { transport: Delivery::Null, traces_sample_rate: Some(1.0), ..Config::default() })
        .unwrap()
}

/// What a panic says.
fn message(panicking: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(panicking)).unwrap_err();
    match payload.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => (*payload.downcast_ref::<&str>().unwrap()).to_owned(),
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

fn one(count: u64) -> Count {
    Count { transactions: 0, spans: count }
}

#[test]
fn a_snapshot_shows_everything_that_was_set_and_nothing_that_varies() {
    let _shared = shared();
    let captured = capture(|| {
        for queue in ["eu", "us"] {
            let mut transaction = start_transaction("queue.process", "orders");
            transaction.set_tag("queue", queue).set_tag("queue.depth", [1, 2]);
            transaction.set_measurement("size", 12.5, "byte").set_measurement("n", 3.0, "");
            {
                let mut request = start_child("http", "GET /");
                request.set_data("rows", 2).set_data("rows", 3_u8).set_data("text", "a\n\"b\"");
                request.set_data("list", ["x", "y"]).set_data("ratio", 0.5).set_data("ok", true);
                drop(start_child("dns", ""));
                request.set_http_status(404);
            }
            drop(start_child("", "no op"));
            drop(start_child("db", "two\nlines"));
            let mut named = start_child("db", "old");
            named.set_description("new").set_status(SpanStatus::Aborted);
            drop(named);
            transaction.set_name("renamed").set_status(SpanStatus::Ok);
        }
    });
    let tree = |queue: &str| {
        format!(
            "renamed [queue.process] ok tags{{queue=\"{queue}\", queue.depth=\"1,2\"}} \
             measurements{{n=3, size=12.5 byte}}\n\
             \x20 GET / [http] not_found tags{{http.status_code=\"404\"}} \
             data{{http.response.status_code=404, list=[\"x\", \"y\"], ok=true, ratio=0.5, \
             rows=3, text=\"a\\n\\\"b\\\"\"}}\n\
             \x20   [dns]\n\
             \x20 no op\n\
             \x20 \"two\\nlines\" [db]\n\
             \x20 new [db] aborted\n"
        )
    };
    assert_eq!(captured.to_string(), tree("eu") + &tree("us"));
    assert!(captured.is_complete());
    assert_eq!(format!("{captured:?}"), format!("Captured:\n{captured}"));

    let [first, second] = captured.transactions()[..] else { panic!("{captured}") };
    assert_eq!((first.tag("queue"), second.tag("queue")), (Some("eu"), Some("us")));
    assert_eq!(first.to_string(), tree("eu"));
    assert_eq!(first.measurements()["size"].value, 12.5);
    assert_eq!(first.children().len(), 4);
    let request = second.find("GET /").unwrap();
    assert_eq!(request.children().len(), 1);
    assert_eq!(request.data("rows"), Some(&Value::from(3)));
    assert_eq!(request.data("ratio").unwrap(), &0.5);
    assert_eq!(request.status(), Some(SpanStatus::NotFound));
    assert_eq!(second.children_named("GET /").len(), 1);
    assert_eq!(second.children_named("dns").len(), 0);
    assert_eq!(request.parent_span_id(), Some(second.span_id()));
    assert_eq!(request.trace_id(), second.trace_id());
    assert_ne!(first.trace_id(), second.trace_id());
    assert!(first.is_transaction() && !request.is_transaction());
    assert!(request.start() >= second.start() && request.duration() <= second.duration());
    assert_eq!(captured.all().filter(|span| span.op() == "db").count(), 4);
    assert!(message(|| _ = captured.transaction()).contains("found 2:\nrenamed"));
}

#[test]
fn ids_that_are_not_fixed_are_those_that_were_told() {
    let _shared = shared();
    let ((trace_id, span_id, child), captured) = Capture::new().run(|| {
        let transaction = start_transaction("op", "name");
        let child = start_child("op", "child").span_id().unwrap();
        (transaction.trace_id().unwrap(), transaction.span_id().unwrap(), child)
    });
    assert_eq!(captured.transaction().trace_id(), trace_id);
    assert_eq!(captured.transaction().span_id(), span_id);
    assert_eq!(captured.find("child").unwrap().span_id(), child);
}

/// Captures that go on side by side, in step, and each with a thread that works for it.
#[test]
fn thirty_two_captures_at_once_see_nothing_of_each_other() {
    const CAPTURES: usize = 32;
    const ROUNDS: usize = 20;
    let _shared = shared();
    let barrier = Barrier::new(CAPTURES);
    let all: Vec<Captured> = thread::scope(|scope| {
        let captures: Vec<_> = (0..CAPTURES)
            .map(|n| {
                let barrier = &barrier;
                scope.spawn(move || {
                    // Some begin before others, and some go on when others have ended.
                    let captured = capture(|| {
                        for round in 0..ROUNDS {
                            barrier.wait();
                            let mut transaction = start_transaction("test", format!("of {n}"));
                            transaction.set_tag("round", round);
                            let context = transaction.context();
                            thread::scope(|scope| {
                                scope.spawn(move || {
                                    let _scope = context.enter();
                                    drop(start_child("helper", format!("helper of {n}")));
                                });
                            });
                            drop(start_child("own", format!("child of {n}")));
                        }
                    });
                    // On the same thread, outside: nobody's.
                    drop(start_transaction("test", "stray"));
                    captured
                })
            })
            .collect();
        captures.into_iter().map(|capture| capture.join().unwrap()).collect()
    });
    for (n, captured) in all.iter().enumerate() {
        let expected: String = (0..ROUNDS)
            .map(|round| {
                format!(
                    "of {n} [test] tags{{round=\"{round}\"}}\n  helper of {n} [helper]\n  \
                     child of {n} [own]\n"
                )
            })
            .collect();
        assert_eq!(captured.to_string(), expected);
    }
}

#[test]
fn spans_that_travel_come_back_in_their_transaction() {
    let _shared = shared();
    let captured = capture(|| {
        let (to_worker, at_worker) = mpsc::channel::<(u64, Detached)>();
        let worker = thread::spawn(move || {
            for (n, mut transaction) in at_worker {
                {
                    let mut scope = transaction.enter();
                    scope.set_data("by", "worker");
                    drop(start_child("work", format!("step {n}")));
                }
                transaction.set_status(SpanStatus::Ok);
            }
        });
        for n in 0..3 {
            let transaction = start_transaction("queue.process", "orders");
            drop(start_child("read", "read"));
            to_worker.send((n, transaction.detach())).unwrap();
        }
        drop(to_worker);
        worker.join().unwrap();
    });
    let item = |n| {
        format!(
            "orders [queue.process] ok data{{by=\"worker\"}}\n  read [read]\n  step {n} [work]\n"
        )
    };
    assert_eq!(captured.to_string(), item(0) + &item(1) + &item(2));
    assert!(captured.is_complete());
}

#[test]
fn futures_are_captured_wherever_they_are_polled() {
    let _shared = shared();
    let captured = capture(|| {
        let transaction = start_transaction("task", "outer");
        let work = async {
            drop(start_child("step", "before"));
            async { drop(start_child("step", "inside")) }.in_span(start_child("db", "load")).await;
        };
        let work = work.in_span(transaction);
        thread::spawn(move || block_on(work)).join().unwrap();
        block_on(async {}.in_transaction("task", "own"));
        // Dropped before it was done.
        drop(std::future::pending::<()>().in_span(start_transaction("task", "given up")));
    });
    assert_eq!(
        captured.to_string(),
        "outer [task]\n  before [step]\n  load [db]\n    inside [step]\nown [task]\n\
         given up [task] cancelled\n"
    );
}

#[test]
fn a_thread_that_joins_has_its_own_transactions_captured() {
    let _shared = shared();
    let captured = capture(|| {
        let joined = handle();
        let before = || drop(start_transaction("test", "not joined yet"));
        thread::spawn(move || {
            before();
            joined.run(|| joined.run(|| drop(start_transaction("test", "joined"))));
            before();
        })
        .join()
        .unwrap();
        handle().run(|| drop(start_transaction("test", "own")));
    });
    assert_eq!(captured.to_string(), "own [test]\njoined [test]\n");
    assert!(captured.is_complete());
}

#[test]
fn a_handle_that_outlives_its_capture_captures_nothing() {
    let _shared = shared();
    let first = || start_transaction("test", "first").trace_id().unwrap();
    let ((left, id), captured) = Capture::new().fixed_ids(1).run(|| (handle(), first()));
    assert_eq!(captured.to_string(), "first [test]\n");
    let ((), later) = Capture::new().fixed_ids(2).run(|| {
        let left = left.clone();
        let told = thread::spawn(move || left.run(first)).join().unwrap();
        assert_ne!(told, id);
    });
    assert_eq!(later.to_string(), "");
    let later = capture(|| {
        assert!(message(|| left.run(|| ())).contains("inside another one"));
        drop(start_transaction("test", "own"));
    });
    assert_eq!(later.to_string(), "own [test]\n");
    assert_eq!(left.run(|| 5), 5);
}

/// Transactions, children, a thread of its own: all that ids depend on.
fn with_ids(seed: u64) -> (Vec<String>, Captured) {
    Capture::new().fixed_ids(seed).fixed_clock(SystemTime::UNIX_EPOCH).run(|| {
        let mut told = Vec::new();
        for _ in 0..2 {
            let transaction = start_transaction("test", "root");
            told.push(transaction.trace_id().unwrap().to_string());
            told.push(transaction.span_id().unwrap().to_string());
            let ids = (transaction.trace_id(), transaction.span_id());
            let is_ours = |open: InFlight| (Some(open.trace_id), Some(open.span_id)) == ids;
            assert!(inflight().into_iter().any(is_ours));
            told.push(start_child("test", "child").span_id().unwrap().to_string());
            let context = transaction.context();
            let other = move || {
                let scope = context.enter();
                let _child = start_child("test", "elsewhere");
                drop(start_child("test", "below"));
                scope.trace_id().unwrap().to_string()
            };
            told.push(thread::spawn(other).join().unwrap());
        }
        told
    })
}

#[test]
fn fixed_ids_are_the_same_in_every_run_and_on_every_lane() {
    let _shared = shared();
    let (told, captured) = with_ids(7);
    let text = captured.with_times().to_string();
    let [first, second] = captured.transactions()[..] else { panic!("{captured}") };
    for (n, transaction) in [first, second].into_iter().enumerate() {
        let child = transaction.find("child").unwrap();
        let (trace_id, span_id) = (transaction.trace_id(), transaction.span_id());
        let ids = [
            trace_id.to_string(),
            span_id.to_string(),
            child.span_id().to_string(),
            trace_id.to_string(),
        ];
        assert_eq!(told[4 * n..4 * n + 4], ids);
    }
    let mut ids: Vec<_> = captured.all().map(|span| span.span_id()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 8);

    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for n in 0..8_u64 {
            let (barrier, text, told) = (&barrier, &text, &told);
            scope.spawn(move || {
                barrier.wait();
                for other in 0..n {
                    // Keys go on, lanes differ, others are in between.
                    drop(with_ids(other + 100));
                }
                let (again, captured) = with_ids(7);
                assert_eq!(again, *told);
                assert_eq!(captured.with_times().to_string(), *text);
            });
        }
    });
    assert_ne!(with_ids(8).1.with_times().to_string(), text);
}

#[test]
fn time_stands_still_but_for_advance() {
    let _shared = shared();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let run = || {
        let (_, captured) = Capture::new().fixed_ids(1).fixed_clock(start).run(|| {
            let transaction = start_transaction("test", "root");
            drop(start_child("test", "at once"));
            advance(Duration::from_millis(5));
            {
                let _child = start_child("test", "first");
                for _ in 0..10 {
                    advance(Duration::from_micros(1));
                }
                let handle = handle();
                let elsewhere = move || handle.advance(Duration::from_secs(2));
                thread::spawn(elsewhere).join().unwrap();
                let mut given = start_child("test", "given");
                given.started_at(start + Duration::from_millis(1));
                given.finish_at(start + Duration::from_millis(3));
            }
            drop(start_child("test", "last"));
            drop(transaction);
        });
        captured
    };
    let captured = run();
    let root = captured.transaction();
    let (ms, second) = (Duration::from_millis(5), Duration::from_secs(2));
    let steps = Duration::from_micros(10);
    assert_eq!((root.start(), root.duration()), (start, ms + second + steps));
    let times = |name| {
        let span = captured.find(name).unwrap();
        (span.start().duration_since(start).unwrap(), span.duration())
    };
    assert_eq!(times("at once"), (Duration::ZERO, Duration::ZERO));
    assert_eq!(times("first"), (ms, second + steps));
    assert_eq!(times("given"), (Duration::from_millis(1), Duration::from_millis(2)));
    assert_eq!(times("last"), (ms + second + steps, Duration::ZERO));
    let text = captured.with_times().to_string();
    assert!(text.starts_with("root [test] at=1000000.000000000 for=2.00501s trace="), "{text}");
    assert_eq!(text, run().with_times().to_string());
}

#[test]
fn what_is_lost_is_shown() {
    let _shared = shared();
    let captured = capture(|| {
        let transaction = start_transaction("test", "deep");
        let spans: Vec<_> = (0..300).map(|n| start_child("test", format!("{n}"))).collect();
        spans.into_iter().rev().for_each(drop);
        drop(transaction);

        let transaction = start_transaction("test", "late");
        let context = transaction.context();
        let child = transaction.start_child("test", "ends late").detach();
        let left_open = transaction.start_child("test", "unfinished");
        drop(transaction);
        drop(left_open);
        drop(child);
        let _scope = context.enter();
        drop(start_child("test", "too late"));
    });
    let deep = &captured.transactions()[0];
    assert_eq!(deep.below().count(), 255);
    let lost = captured.lost().clone();
    assert_eq!(lost[&Reason::TooDeep], one(45));
    assert_eq!(lost[&Reason::Unfinished], one(1));
    assert_eq!(lost[&Reason::LateChild], one(2));
    assert_eq!(lost.len(), 3);
    assert!(captured.open().is_empty());
    assert!(!captured.is_complete());
    let text = captured.to_string();
    let end = "\nlate [test] unfinished=3\nlost: too_deep 45 spans\nlost: late_child 2 spans\n\
               lost: unfinished 1 span\n";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn what_ends_long_after_its_transaction_is_lost_as_well() {
    let _shared = shared();
    let captured = capture(|| {
        let transaction = start_transaction("test", "root");
        let child = transaction.start_child("test", "late").detach();
        drop(transaction);
        // The second look at the rings hands the transaction on.
        let looks = || stats().threads.cycles;
        let before = looks();
        while looks() < before + 3 {
            thread::sleep(Duration::from_millis(1));
        }
        drop(child);
    });
    assert_eq!(captured.to_string(), "root [test]\nlost: late_child 1 span\n");
}

#[test]
fn what_another_thread_loses_is_known_when_it_has_joined() {
    let _shared = shared();
    let run = |has_joined: bool| {
        capture(|| {
            let transaction = start_transaction("test", "root");
            let context = transaction.context();
            let handle = handle();
            let work = move || {
                let _scope = context.enter();
                let spans: Vec<_> = (0..300).map(|_| start_child("test", "deep")).collect();
                spans.into_iter().rev().for_each(drop);
            };
            let worker = move || if has_joined { handle.run(work) } else { work() };
            thread::spawn(worker).join().unwrap();
        })
    };
    let joined = run(true);
    assert_eq!(joined.lost()[&Reason::TooDeep], one(45));
    assert!(joined.to_string().ends_with("\nlost: too_deep 45 spans\n"), "{joined}");
    assert!(!joined.is_complete());
    let not_joined = run(false);
    assert!(not_joined.lost_elsewhere()[&Reason::TooDeep].spans >= 45);
    assert!(not_joined.is_complete(), "{not_joined}");
}

#[test]
fn what_is_open_at_the_end_is_listed_by_name() {
    let _shared = shared();
    let ((guard, detached, child), captured) = Capture::new().run(|| {
        let detached = start_transaction("test", "on its way").detach();
        {
            let _scope = detached.enter();
            drop(start_child("test", "ended below it"));
        }
        let ended = start_transaction("test", "ended");
        let child = ended.start_child("test", "detached").detach();
        drop(ended);
        (start_transaction("test", "on the stack"), detached, child)
    });
    assert_eq!(
        captured.to_string(),
        "ended [test]\nopen transaction: on its way [test]\nopen: detached [test]\n\
         open transaction: on the stack [test]\n"
    );
    assert!(!captured.is_complete() && captured.open()[0].is_transaction);
    assert!(captured.lost().is_empty());
    drop((guard, detached, child));
    assert_eq!(capture(|| drop(start_transaction("test", "next"))).to_string(), "next [test]\n");
}

#[test]
fn a_panic_goes_through_and_leaves_the_kit_usable() {
    let _shared = shared();
    let text = message(|| {
        drop(capture(|| {
            let _transaction = start_transaction("test", "broken");
            panic!("of the closure");
        }));
    });
    assert_eq!(text, "of the closure");
    let captured = capture(|| {
        let _ = catch_unwind(|| {
            let _transaction = start_transaction("test", "caught");
            panic!("inside");
        });
    });
    assert_eq!(captured.to_string(), "caught [test] internal_error\n");
}

#[test]
fn captures_do_not_nest_and_the_outer_one_goes_on() {
    let _shared = shared();
    let captured = capture(|| {
        let text = message(|| drop(capture(|| ())));
        assert!(text.contains("inside another one on the same thread"), "{text}");
        drop(start_transaction("test", "outer"));
    });
    assert_eq!(captured.to_string(), "outer [test]\n");
}

#[test]
fn what_needs_a_capture_says_so() {
    let _shared = shared();
    assert!(message(|| drop(handle())).contains("no capture runs"));
    assert!(message(|| advance(Duration::ZERO)).contains("no capture runs"));
    let moved = || advance(Duration::from_secs(1));
    let _ = capture(|| assert!(message(moved).contains("without `fixed_clock`")));
}

#[test]
fn the_library_is_one_a_process() {
    let _alone = alone();
    let guard = library();
    let text = message(|| drop(capture(|| ())));
    assert!(text.contains("`hotspan::init` has started it"), "{text}");
    let _ = guard.close(Duration::from_secs(60));
    let captured = capture(|| {
        let error = init(Config::default()).unwrap_err();
        assert!(error.is_already_initialised(), "{error}");
        drop(start_transaction("test", "captured"));
    });
    assert_eq!(captured.to_string(), "captured [test]\n");
}

#[test]
fn a_thread_records_as_usual_after_it_captured() {
    let _alone = alone();
    let before = stats();
    assert_eq!(capture(|| drop(start_transaction("test", "first"))).all().count(), 1);
    drop(start_transaction("test", "not recorded"));
    let guard = library();
    drop(start_transaction("test", "sent"));
    let report = guard.close(Duration::from_secs(60));
    assert_eq!(report.delivered, Count { transactions: 1, spans: 1 });
    assert!(report.complete);
    assert_eq!(capture(|| drop(start_transaction("test", "second"))).all().count(), 1);
    let after = stats();
    after.check().unwrap();
    assert!(after.is_at_rest());
    assert_eq!(after.delivered.transactions - before.delivered.transactions, 3);
}

#[test]
fn what_is_discarded_is_not_in_a_capture_and_not_open_either() {
    let _shared = shared();
    let captured = capture(|| {
        start_transaction("op", "here").discard();
        let transaction = start_transaction("op", "sent away");
        drop(start_child("op", "child"));
        start_child("op", "detached child").detach().finish();
        let mut transaction = transaction.detach();
        transaction.discard();
        thread::spawn(move || transaction.finish()).join().unwrap();
        drop(start_transaction("op", "kept"));
    });
    assert_eq!(captured.to_string(), "kept [op]\n");
    assert!(captured.open().is_empty());
}

#[test]
fn a_continued_trace_shows_its_ids_and_where_it_came_from() {
    let _shared = shared();
    let (trace, parent) = ("4c79f60c11214eb38604f4ae0781bfb2", "fa90fdead5f74052");
    let capture = Capture::new().fixed_ids(7).fixed_clock(SystemTime::UNIX_EPOCH);
    let (told, captured) = capture.run(|| {
        let headers = continue_from([("sentry-trace", format!("{trace}-{parent}-1"))]);
        let transaction = TransactionOptions::new().continue_from(&headers).start("test", "far");
        drop(start_child("test", "child"));
        drop(start_transaction("test", "head"));
        transaction.trace_id()
    });
    assert_eq!(told.unwrap().to_string(), trace, "{captured}");
    let far = captured.find("far").unwrap();
    assert_eq!(Some(far.trace_id()), told);
    assert_eq!(far.parent_span_id().unwrap().to_string(), parent);
    assert!(far.is_transaction());
    assert_eq!((far.sample_rate(), far.kept()), (1.0, None));
    let child = captured.find("child").unwrap();
    assert_eq!((Some(child.trace_id()), child.parent_span_id()), (told, Some(far.span_id())));
    let head = captured.find("head").unwrap();
    assert_eq!(head.parent_span_id(), None);
    assert_ne!(Some(head.trace_id()), told);
    let text = captured.with_times().to_string();
    assert_eq!(text.matches("parent=fa90fdead5f74052").count(), 1, "{text}");
    assert_eq!(text.matches("parent=").count(), 1, "{text}");
    assert!(captured.to_string().starts_with("far [test]\n"));
}

/// Producer and consumer in one capture, as a test of both would have them.
#[test]
fn headers_written_in_a_capture_lead_back_to_it() {
    let _shared = shared();
    let captured = capture(|| {
        let transaction = start_transaction("test", "producer");
        let publish = start_child("queue.publish", "orders");
        let headers = publish.trace_headers().unwrap();
        drop(publish);
        drop(transaction);
        drop(continue_from(&headers).start_transaction("queue.process", "orders"));
    });
    let [producer, consumer] = captured.transactions()[..] else { panic!("{captured}") };
    assert_eq!(consumer.trace_id(), producer.trace_id());
    assert_eq!(consumer.parent_span_id(), Some(producer.children()[0].span_id()));
}

#[test]
fn sampling_that_is_changed_in_a_capture_shows_in_it_and_ends_with_it() {
    let _alone = alone();
    let captured = capture(|| {
        let rule = |op: &str, rate| Rule { op: Some(op.into()), rate, ..Rule::default() };
        hotspan::reconfigure(|sampling| {
            let keep = Keep { failed: true, ..Keep::default() };
            let failed = Rule { keep, ..rule("failing", Some(0.0)) };
            sampling.rules = vec![failed, rule("rare", Some(0.5))];
        })
        .unwrap();
        start_transaction("failing", "kept").set_status(SpanStatus::Aborted);
        drop(start_transaction("failing", "not kept"));
        for _ in 0..64 {
            drop(start_transaction("rare", "one of two"));
        }
    });
    let kept = captured.find("kept").unwrap();
    assert_eq!((kept.kept(), kept.sample_rate()), (Some("failed"), 1.0));
    assert_eq!(kept.to_string(), "kept [failing] aborted kept=failed\n");
    assert!(captured.find("not kept").is_none());
    let rare: Vec<f64> =
        captured.transactions()[1..].iter().map(|rare| rare.sample_rate()).collect();
    assert!(!rare.is_empty() && rare.len() < 64 && rare.iter().all(|rate| *rate == 0.5));
    assert_eq!(hotspan::sampling().map(|_| ()), None);
    assert_eq!(capture(|| drop(start_transaction("rare", "all"))).all().count(), 1);
}

#[test]
fn links_are_listed_and_counted() {
    let _shared = shared();
    let trace_id: TraceId = "4c79f60c11214eb38604f4ae0781bfb2".parse().unwrap();
    let span_id: SpanId = "fa90fdead5f74052".parse().unwrap();
    let captured = capture(|| {
        let mut transaction = start_transaction("test", "batch");
        transaction.add_link(trace_id, span_id, Some(true)).add_link(trace_id, span_id, None);
        start_child("test", "child").add_link(trace_id, span_id, Some(false));
    });
    assert_eq!(captured.to_string(), "batch [test] links=2\n  child [test] links=1\n");
    let sampled = |name| -> Vec<Option<bool>> {
        let links = captured.find(name).unwrap().links();
        assert!(links.iter().all(|link| (link.trace_id, link.span_id) == (trace_id, span_id)));
        links.iter().map(|link| link.sampled).collect()
    };
    assert_eq!(sampled("batch"), [Some(true), None]);
    assert_eq!(sampled("child"), [Some(false)]);
}
