//! Event processors and `before_send_transaction`: what they see, what becomes of what they change
//! and drop, and that the books and the server know.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic, and start threads"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hotspan::event::{Measurement, Value};
use hotspan::{
    Config, EventProcessor, Keep, Reason, Rule, SpanStatus, TransactionEvent, continue_from,
    start_child, start_transaction, stats, trace_headers,
};

mod support;

use support::envelope::Opened;
use support::session::{LONG, Session, count};

fn hook(
    hook: impl Fn(TransactionEvent) -> Option<TransactionEvent> + Send + Sync + 'static,
) -> EventProcessor {
    Arc::new(hook)
}

fn before_send(
    before_send: impl Fn(TransactionEvent) -> Option<TransactionEvent> + Send + Sync + 'static,
) -> Session {
    Session::start(|config| config.before_send_transaction = Some(hook(before_send)))
}

/// A transaction of three steps, with something set on each.
fn item(name: &str) {
    let mut transaction = start_transaction("queue.process", name);
    transaction.set_tag("queue", "eu").set_tag("user.email", "a@example.com").set_data("rows", 3);
    transaction.set_measurement("size", 2.5, "byte");
    let mut read = start_child("file", "read");
    read.set_data("path", "secret.txt").set_http_status(404);
    drop(start_child("file.block", "block"));
    drop(read);
    start_child("cache.get", "look up").set_status(SpanStatus::NotFound);
}

fn reports(reason: &str, transactions: u64, spans: u64) -> BTreeMap<(String, String), u64> {
    let entry = |category: &str, n| ((reason.to_owned(), category.to_owned()), n);
    let all = [entry("transaction", transactions), entry("span", spans)];
    all.into_iter().filter(|(_, n)| *n > 0).collect()
}

/// What is the same whenever it is sent: no ids, no times.
fn lasting(opened: &Opened) -> serde_json::Value {
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(members) => {
                for key in ["timestamp", "start_timestamp", "event_id", "trace_id"] {
                    members.remove(key);
                }
                members.retain(|key, _| !key.ends_with("span_id") && key != "sample_rand");
                members.values_mut().for_each(strip);
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut payload = opened.payload.clone();
    strip(&mut payload);
    payload
}

#[test]
fn a_hook_that_changes_nothing_is_as_none() {
    let session = Session::start(|_| ());
    item("orders");
    let without = session.end();
    let expected = lasting(without.only());
    let session = without.then(|config| {
        config.event_processors = vec![hook(Some), hook(Some)];
        config.before_send_transaction = Some(hook(Some));
    });
    item("orders");
    let ending = session.end();
    assert_eq!(lasting(ending.only()), expected);
    assert!(ending.report.complete && ending.reported.is_empty());
}

#[test]
fn a_hook_sees_what_was_recorded_and_changes_what_is_sent() {
    let seen = Arc::new(Mutex::new(None));
    let to = Arc::clone(&seen);
    let session = before_send(move |mut event| {
        *to.lock().unwrap() = Some(event.clone());
        event.name = "renamed".to_owned();
        event.op = "changed".to_owned();
        event.status = Some(SpanStatus::DataLoss);
        event.tags.remove("user.email");
        event.tags.insert("region".to_owned(), "north".to_owned());
        event.data.insert("rows".to_owned(), Value::from([1.5, 2.5]));
        event.measurements.insert("age".to_owned(), Measurement::new(7.0, "second"));
        let read = &mut event.spans[0];
        read.description = "[filtered]".to_owned();
        read.data.remove("path");
        read.status = Some(SpanStatus::Ok);
        event.spans[2].op.clear();
        Some(event)
    });
    item("orders");
    let ending = session.end();
    let sent = ending.only();

    let event = seen.lock().unwrap().take().unwrap();
    assert_eq!((&*event.name, &*event.op), ("orders", "queue.process"));
    assert_eq!(event.tags["user.email"], "a@example.com");
    assert_eq!(event.data["rows"], 3);
    let descriptions: Vec<_> = event.spans.iter().map(|span| &*span.description).collect();
    assert_eq!(descriptions, ["read", "block", "look up"]);
    assert_eq!(event.spans[0].data["path"], "secret.txt");
    assert_eq!(event.spans[0].status, Some(SpanStatus::NotFound));
    assert_eq!(event.spans[1].parent_span_id(), Some(event.spans[0].span_id()));
    assert_eq!(event.spans[0].parent_span_id(), Some(event.span_id()));
    assert_eq!(sent.payload["event_id"], event.event_id().to_string());
    assert_eq!(sent.root()["span_id"], event.span_id().to_string());
    assert_eq!(sent.root()["trace_id"], event.trace_id().to_string());
    assert!(event.duration() >= event.spans[0].duration());

    assert_eq!(sent.name(), "renamed");
    assert_eq!(sent.header["trace"]["transaction"], serde_json::Value::Null, "there is no DSN");
    assert_eq!(
        (&sent.root()["op"], &sent.root()["status"]),
        (&"changed".into(), &"data_loss".into())
    );
    assert_eq!(sent.payload["tags"], serde_json::json!({"queue": "eu", "region": "north"}));
    assert_eq!(sent.root()["data"]["rows"], serde_json::json!([1.5, 2.5]));
    assert_eq!(sent.payload["measurements"]["age"]["unit"], "second");
    assert_eq!(sent.payload["measurements"]["size"]["value"], 2.5);
    let read = sent.span("[filtered]");
    assert_eq!(read["status"], "ok");
    assert_eq!(read["data"], serde_json::json!({"http.response.status_code": 404}));
    assert_eq!(read["tags"], serde_json::json!({"http.status_code": "404"}));
    assert_eq!(sent.span("block")["parent_span_id"], read["span_id"]);
    assert_eq!(sent.span("look up")["op"], serde_json::Value::Null);
    assert!(!sent.payload.to_string().contains("example.com"));
    assert!(!sent.payload.to_string().contains("secret"));
}

#[test]
fn what_is_dropped_is_counted_and_reported_for_who_dropped_it() {
    for (reason, is_processor) in [("event_processor", true), ("before_send", false)] {
        let session = Session::start(|config| {
            let drops = hook(|event| (event.name != "dropped").then_some(event));
            if is_processor {
                config.event_processors = vec![hook(Some), drops];
                config.before_send_transaction = Some(hook(|event| {
                    assert_ne!(event.name, "dropped", "asked after it was dropped");
                    Some(event)
                }));
            } else {
                config.event_processors = vec![hook(Some)];
                config.before_send_transaction = Some(drops);
            }
        });
        for name in ["kept", "dropped", "kept too"] {
            item(name);
        }
        let ending = session.end();
        let names: Vec<_> = ending.transactions.iter().map(Opened::name).collect();
        assert_eq!(names, ["kept", "kept too"]);
        assert_eq!(ending.reported, reports(reason, 1, 4));
        let reason = if is_processor { Reason::EventProcessor } else { Reason::BeforeSend };
        assert_eq!(ending.lost(reason), count(1, 4));
        assert_eq!(ending.lost_in_all(), count(1, 4));
        assert_eq!(ending.after.callback_panics, ending.before.callback_panics);
    }
}

#[test]
fn children_that_are_removed_are_counted_and_reported_and_their_children_stay() {
    let session = before_send(|mut event| {
        event.spans.retain(|span| span.op != "file");
        Some(event)
    });
    item("orders");
    let ending = session.end();
    let sent = ending.only();
    assert_eq!(sent.spans().len(), 2);
    assert_eq!(sent.span("block")["parent_span_id"], sent.root()["span_id"]);
    assert_eq!(ending.lost(Reason::BeforeSend), count(0, 1));
    assert_eq!(ending.reported, reports("before_send", 0, 1));
    assert_eq!(ending.report.delivered, count(1, 3));
}

#[test]
fn a_hook_that_panics_lets_nothing_out_and_goes_on_being_asked() {
    const TIMES: u64 = 7;
    let asked = Arc::new(AtomicU64::new(0));
    let here = Arc::clone(&asked);
    let session = before_send(move |event| {
        here.fetch_add(1, Ordering::Relaxed);
        if event.name == "bad" {
            std::panic::resume_unwind(Box::new("it panics"));
        }
        Some(event)
    });
    for _ in 0..TIMES {
        item("bad");
    }
    item("good");
    let ending = session.end();
    assert_eq!(ending.only().name(), "good");
    assert_eq!(asked.load(Ordering::Relaxed), TIMES + 1);
    assert_eq!(ending.after.callback_panics - ending.before.callback_panics, TIMES);
    assert_eq!(ending.lost(Reason::BeforeSend), count(TIMES, 4 * TIMES));
    assert_eq!(ending.reported, reports("before_send", TIMES, 4 * TIMES));
    assert_eq!(ending.after.threads.restarts, ending.before.threads.restarts);
}

#[test]
fn only_what_is_kept_is_asked_about() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let here = Arc::clone(&asked);
    let session = Session::start(|config| {
        config.traces_sample_rate = Some(0.0);
        let keep = Keep { failed: true, ..Keep::default() };
        config.rules = vec![Rule { keep, ..Rule::default() }];
        config.event_processors = vec![hook(move |event| {
            here.lock().unwrap().push((event.kept(), event.spans.len()));
            Some(event)
        })];
    });
    for status in [SpanStatus::Ok, SpanStatus::Aborted] {
        // On two threads, so that it is the flusher that decides.
        let mut transaction = start_transaction("item", "orders").detach();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _here = transaction.enter();
                drop(start_child("step", "elsewhere"));
            });
        });
        transaction.set_status(status);
        transaction.finish();
    }
    let ending = session.end();
    assert_eq!(ending.transactions.len(), 1);
    assert_eq!(*asked.lock().unwrap(), [(Some("failed"), 1)]);
}

#[test]
fn what_is_shared_continued_linked_and_long_goes_through() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let here = Arc::clone(&seen);
    let session = Session::start(|config| {
        config.dsn = Some("http://0123456789abcdef0123456789abcdef@127.0.0.1:1/1".into());
        config.before_send_transaction = Some(hook(move |mut event| {
            here.lock().unwrap().push(event.clone());
            event.name = "renamed".to_owned();
            for span in &mut event.spans {
                span.tags.insert("seen".to_owned(), "yes".to_owned());
            }
            Some(event)
        }));
    });
    // Longer than what the table of names takes.
    let long = "d".repeat(1025);
    let baggage = "sentry-trace_id=4c79f60c11214eb38604f4ae0781bfb2,sentry-transaction=theirs,\
        sentry-public_key=fedcba9876543210fedcba9876543210";
    let sentry_trace = "4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-1";
    let incoming = continue_from([("sentry-trace", sentry_trace), ("baggage", baggage)]);
    let mut continued = incoming.start_transaction("item", "continued");
    let [trace, span] = ["4c79f60c11214eb38604f4ae0781bfb2", "fa90fdead5f74052"];
    continued.add_link(trace.parse().unwrap(), span.parse().unwrap(), Some(true));
    for n in 0..1000 {
        drop(start_child("step", if n % 10 == 0 { &*long } else { "short" }));
    }
    drop(continued);

    let mut head = start_transaction("item", "head");
    assert!(trace_headers().is_some());
    head.set_name("head, later");
    let head = head.detach();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _here = head.enter();
            drop(start_child("step", "elsewhere"));
        });
    });
    head.finish();
    // One that lay in two rings may be overtaken.
    let _ = session.guard.flush(LONG);
    drop(start_transaction("item", "alone"));
    let ending = session.end();
    assert_eq!(ending.lost_in_all(), count(0, 0));
    let [continued, head, alone] = &ending.transactions[..] else { panic!() };
    for (sent, context) in [(continued, "theirs"), (head, "head"), (alone, "renamed")] {
        assert_eq!(sent.name(), "renamed");
        assert_eq!(sent.header["trace"]["transaction"], context);
        assert!(sent.spans().iter().all(|span| span["tags"]["seen"] == "yes"));
    }
    assert_eq!((continued.spans().len(), head.spans().len()), (1000, 1));
    assert_eq!(continued.root()["trace_id"], trace);
    assert_eq!(continued.root()["parent_span_id"], span);
    assert_eq!(continued.root()["links"][0]["span_id"], span);
    assert_eq!(head.spans()[0]["description"], "elsewhere");

    let events = seen.lock().unwrap();
    assert_eq!((&*events[0].name, &*events[1].name), ("continued", "head, later"));
    assert_eq!(events[0].trace_id().to_string(), trace);
    assert_eq!(events[0].parent_span_id().unwrap().to_string(), span);
    assert_eq!(events[0].links()[0].span_id.to_string(), span);
    let cut = "d".repeat(1021) + "...";
    let expected = (0..1000).map(|n| if n % 10 == 0 { &*cut } else { "short" });
    assert!(events[0].spans.iter().map(|span| &*span.description).eq(expected.clone()));
    assert!(
        continued.spans().iter().map(|span| span["description"].as_str().unwrap()).eq(expected)
    );
}

#[test]
fn what_hooks_record_themselves_is_sent_and_they_are_not_asked_about_it() {
    let asked = Arc::new(AtomicU64::new(0));
    let here = Arc::clone(&asked);
    let session = before_send(move |event| {
        here.fetch_add(1, Ordering::Relaxed);
        let books = stats();
        books.check().unwrap();
        assert!(!books.is_at_rest(), "one is in hand");
        let _transaction = start_transaction("hook", "its own");
        drop(start_child("step", "of the hook"));
        if event.name == "bad" {
            // With the transaction open.
            std::panic::resume_unwind(Box::new(()));
        }
        Some(event)
    });
    for name in ["good", "bad"] {
        item(name);
    }
    // Several rounds, in which there would be more and more of them.
    for _ in 0..5 {
        assert!(session.guard.flush(LONG).complete);
    }
    let ending = session.end();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    ending.named("good");
    let own: Vec<_> = ending.transactions.iter().filter(|sent| sent.name() == "its own").collect();
    assert_eq!(own.len(), 2);
    assert!(own.iter().all(|sent| sent.spans().len() == 1));
    assert_eq!(ending.lost_in_all(), count(1, 4));
    assert_eq!(ending.after.callback_panics - ending.before.callback_panics, 1);
}

#[test]
fn a_hook_that_hangs_does_not_hold_up_closing() {
    let (release, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let session = before_send(move |event| {
        let _ = wait.lock().unwrap().recv();
        Some(event)
    });
    for _ in 0..3 {
        item("orders");
    }
    assert!(!session.guard.flush(Duration::from_millis(100)).complete);
    let held = stats();
    held.check().unwrap();
    assert!(held.in_assembly.transactions >= 1 && held.held() == count(3, 12), "{held}");
    // It closes in its time, with the hook still at it.
    let Session { guard, before, .. } = session;
    assert_eq!(guard.close(Duration::from_millis(100)).left, count(3, 12));
    drop(release);
    let begun = Instant::now();
    while !stats().is_at_rest() {
        assert!(begun.elapsed() < LONG, "the flusher does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let after = stats();
    after.check().unwrap();
    assert_eq!(after.dropped_in_all() - before.dropped_in_all(), count(3, 12));
}

#[test]
fn a_hook_that_takes_its_time_does_not_hold_up_what_it_has_seen() {
    let sent_meanwhile = Arc::new(AtomicU64::new(0));
    let to = Arc::clone(&sent_meanwhile);
    let session = Session::start(move |config| {
        // All of them are found by one look.
        config.flush_interval = LONG;
        config.before_send_transaction = Some(hook(move |event| {
            if event.name == "slow" {
                let deadline = Instant::now() + LONG;
                while stats().in_queue.transactions > 0 || stats().in_flight.transactions > 0 {
                    assert!(Instant::now() < deadline, "nobody sends");
                }
                to.store(stats().delivered.transactions, Ordering::Relaxed);
            }
            Some(event)
        }));
    });
    ["quick", "quick", "slow"].into_iter().for_each(item);
    let ending = session.end();
    assert_eq!(ending.transactions.len(), 3);
    assert_eq!(sent_meanwhile.load(Ordering::Relaxed) - ending.before.delivered.transactions, 2);
}

#[test]
fn what_the_server_would_not_take_of_what_a_hook_sets_is_counted() {
    let session = before_send(|mut event| {
        event.tags.insert("no key\n".to_owned(), "x".to_owned());
        event.tags.insert("long".to_owned(), "x".repeat(2000));
        Some(event)
    });
    item("orders");
    let ending = session.end();
    assert_eq!(ending.only().payload["tags"]["long"].as_str().unwrap().len(), 200);
    assert_eq!(ending.after.attributes_dropped - ending.before.attributes_dropped, 1);
    assert_eq!(ending.after.cut - ending.before.cut, 1);
}

#[test]
fn debug_says_whether_there_are_hooks_and_no_more() {
    let config = Config {
        event_processors: vec![hook(Some), hook(Some)],
        before_send_transaction: Some(hook(Some)),
        ..Config::default()
    };
    let text = format!("{config:?}");
    assert!(text.contains("event_processors: 2, before_send_transaction: Some(..)"), "{text}");
    let text = format!("{:?}", Config::default());
    assert!(text.contains("event_processors: 0, before_send_transaction: None"), "{text}");
}
