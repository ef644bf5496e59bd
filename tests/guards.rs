//! What the guards do, read back from the envelopes: the API's promises one by one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::mem_forget,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic, ask the real clock, and forget what should not be"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime};

use hotspan::{Config, Delivery, Hub, Reason, SpanStatus, start_child, start_transaction};
use serde_json::{Value, json};

mod support;

use support::envelope::Opened;
use support::session::{Session, alone, count};

/// The parent of a child, as text.
fn parent(span: &Value) -> &Value {
    &span["parent_span_id"]
}

/// Panics and comes back, without a message on the test's output.
fn unwinding(run: impl FnOnce()) {
    let panic = catch_unwind(AssertUnwindSafe(|| {
        run();
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    panic.unwrap_err();
}

#[test]
fn a_transaction_with_children_tags_data_and_measurements() {
    let session = Session::start(|_| {});
    {
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.set_tag("queue", "orders").set_tag("shard", 7).set_data("rows", 3_u16);
        transaction.set_measurement("size", 4096.0, "byte").set_status(SpanStatus::Aborted);
        let mut read = transaction.start_child("file.read", "read");
        read.set_data("list", ["a", "b"]).set_data_with("lazily", || 1.5);
        drop(read.start_child("file.open", "open"));
        read.finish();
        drop(start_child("parse", "parse"));
    }
    let ending = session.end();
    let only = ending.only();
    assert_eq!(only.name(), "orders");
    let root = only.root();
    assert_eq!((&root["op"], &root["status"]), (&json!("queue.process"), &json!("aborted")));
    assert_eq!(only.payload["tags"], json!({"queue": "orders", "shard": "7"}));
    assert_eq!(root["data"], json!({"rows": 3}));
    assert_eq!(only.payload["measurements"], json!({"size": {"value": 4096.0, "unit": "byte"}}));
    assert_eq!(only.spans().len(), 3);
    let (read, open, parse) = (only.span("read"), only.span("open"), only.span("parse"));
    assert_eq!(read["op"], "file.read");
    assert_eq!(read["data"], json!({"list": ["a", "b"], "lazily": 1.5}));
    assert_eq!(parent(read), &root["span_id"]);
    assert_eq!(parent(open), &read["span_id"]);
    assert_eq!(parent(parse), &root["span_id"]);
    assert!(only.spans().iter().all(|span| span["trace_id"] == root["trace_id"]));
    assert!(only.spans().iter().all(|span| span.get("status").is_none()));
    assert_eq!(ending.report.delivered, count(1, 4));
}

#[test]
fn the_scope_finds_what_is_open() {
    let session = Session::start(|_| {});
    let scope = || Hub::current().scope();
    assert!(scope().transaction().is_none() && scope().span().is_none());
    let ids = {
        let transaction = start_transaction("queue.process", "orders");
        assert_eq!(scope().span().unwrap().span_id(), transaction.span_id());
        let child = start_child("step", "child");
        let (mut root, mut span) = (scope().transaction().unwrap(), scope().span().unwrap());
        assert_eq!(root.span_id(), transaction.span_id());
        assert_eq!(span.span_id(), child.span_id());
        assert_eq!(span.trace_id(), transaction.trace_id());
        root.set_tag("found", "root").set_name("found orders");
        span.set_data("found", true);
        let below = root.start_child("step", "of the root");
        assert_eq!(scope().span().unwrap().span_id(), below.span_id());
        drop(span.start_child("step", "of the child"));
        drop((below, child));
        assert!(!span.is_recording(), "it has ended");
        span.set_data("too", "late").start_child("step", "of nobody").finish();
        assert!(scope().span().unwrap().is_recording());
        (transaction.trace_id().unwrap(), transaction.span_id().unwrap())
    };
    assert!(scope().transaction().is_none() && scope().span().is_none());
    let ending = session.end();
    let only = ending.only();
    assert_eq!(only.name(), "found orders");
    assert_eq!(only.payload["tags"], json!({"found": "root"}));
    assert_eq!(only.root()["trace_id"], ids.0.to_string());
    assert_eq!(only.root()["span_id"], ids.1.to_string());
    assert_eq!(only.span("child")["data"], json!({"found": true}));
    assert_eq!(parent(only.span("of the root")), &only.root()["span_id"]);
    assert_eq!(parent(only.span("of the child")), &only.span("child")["span_id"]);
    assert_eq!(only.spans().len(), 3);
}

#[test]
fn a_nested_transaction_hides_the_outer_one_until_it_ends() {
    let session = Session::start(|_| {});
    {
        let outer = start_transaction("op", "outer");
        {
            let inner = start_transaction("op", "inner");
            assert_ne!(inner.trace_id(), outer.trace_id());
            let found = Hub::current().scope().transaction().unwrap();
            assert_eq!(found.span_id(), inner.span_id());
            drop(start_child("step", "in the inner"));
            drop(outer.start_child("step", "in the outer, meanwhile"));
        }
        let found = Hub::current().scope().transaction().unwrap();
        assert_eq!(found.span_id(), outer.span_id());
        drop(start_child("step", "in the outer, after"));
    }
    let ending = session.end();
    let (inner, outer) = (ending.named("inner"), ending.named("outer"));
    assert_eq!((inner.spans().len(), outer.spans().len()), (1, 2));
    inner.span("in the inner");
    assert_eq!(parent(outer.span("in the outer, meanwhile")), &outer.root()["span_id"]);
    assert_eq!(parent(outer.span("in the outer, after")), &outer.root()["span_id"]);
}

#[test]
fn guards_dropped_in_any_order_leave_the_current_span_sane() {
    let session = Session::start(|_| {});
    let current = || Hub::current().scope().span().and_then(|span| span.span_id());
    let transaction = start_transaction("op", "orders");
    let (a, b) = (start_child("step", "a"), start_child("step", "b"));
    let c = start_child("step", "c");
    drop(a);
    assert_eq!(current(), c.span_id(), "a was not current: nothing changes");
    drop(c);
    assert_eq!(current(), b.span_id());
    drop(start_child("step", "under b"));
    drop(b);
    assert_eq!(current(), transaction.span_id());
    drop(transaction);
    assert_eq!(current(), None);
    let ending = session.end();
    let only = ending.only();
    assert_eq!(parent(only.span("a")), &only.root()["span_id"]);
    assert_eq!(parent(only.span("b")), &only.span("a")["span_id"]);
    assert_eq!(parent(only.span("c")), &only.span("b")["span_id"]);
    assert_eq!(parent(only.span("under b")), &only.span("b")["span_id"]);
    assert_eq!(ending.after.misnested - ending.before.misnested, 1);
}

#[test]
fn a_panic_marks_what_it_unwinds_through_and_nothing_else() {
    let session = Session::start(|_| {});
    unwinding(|| {
        let mut transaction = start_transaction("op", "panicking");
        transaction.set_status(SpanStatus::Ok);
        drop(start_child("step", "before"));
        let mut child = start_child("step", "in it");
        child.set_status(SpanStatus::NotFound);
        // These live in locals, and are dropped by the unwinding below.
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    {
        let _transaction = start_transaction("op", "surviving");
        unwinding(|| drop(start_child("step", "ended before the panic")));
    }
    struct RecordsInItsDrop;
    impl Drop for RecordsInItsDrop {
        fn drop(&mut self) {
            let _transaction = start_transaction("op", "cleaning up");
            drop(start_child("step", "clean"));
        }
    }
    unwinding(|| {
        let _records = RecordsInItsDrop;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    let ending = session.end();
    let panicking = ending.named("panicking");
    assert_eq!(panicking.root()["status"], "internal_error");
    assert_eq!(panicking.span("in it")["status"], "internal_error");
    assert!(panicking.span("before").get("status").is_none());
    let surviving = ending.named("surviving");
    assert!(surviving.root().get("status").is_none());
    assert!(surviving.span("ended before the panic").get("status").is_none());
    let cleaning = ending.named("cleaning up");
    assert!(cleaning.root().get("status").is_none(), "it was started and ended by the unwinding");
    assert!(cleaning.span("clean").get("status").is_none());
}

#[test]
fn results_and_http_statuses() {
    let session = Session::start(|_| {});
    {
        let mut transaction = start_transaction("http.server", "GET /");
        transaction.set_http_status(404);
        let with = |name: &str, code| {
            start_child("http", name).set_http_status(code);
        };
        with("fine", 200);
        with("limited", 429);
        with("odd", 799);
        start_child("step", "failed").record_result(&Err::<(), _>("why"));
        start_child("step", "went well").record_result(&Ok::<_, ()>(1));
        start_child("step", "the last counts").set_http_status(500).set_status(SpanStatus::Ok);
    }
    let ending = session.end();
    let only = ending.only();
    assert_eq!(only.root()["status"], "not_found");
    assert_eq!(only.root()["data"]["http.response.status_code"], 404);
    assert_eq!(only.payload["tags"]["http.status_code"], "404");
    assert_eq!(only.payload["contexts"]["response"]["status_code"], 404);
    for (name, status, code) in
        [("fine", "ok", 200), ("limited", "resource_exhausted", 429), ("odd", "unknown_error", 799)]
    {
        let span = only.span(name);
        assert_eq!(span["status"], status);
        assert_eq!(span["data"]["http.response.status_code"], code);
        assert_eq!(span["tags"]["http.status_code"], code.to_string());
    }
    assert_eq!(only.span("failed")["status"], "internal_error");
    assert_eq!(only.span("went well")["status"], "ok");
    assert_eq!(only.span("the last counts")["status"], "ok");
}

#[test]
fn explicit_times() {
    let at = |millis: u64| {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000_u64 + millis)
    };
    let session = Session::start(|_| {});
    let mut transaction = start_transaction("op", "orders");
    transaction.started_at(at(0));
    let mut child = start_child("step", "noted");
    child.started_at(at(250));
    child.finish_at(at(500));
    let mut child = start_child("step", "backwards");
    child.started_at(at(250));
    child.finish_at(at(125));
    transaction.finish_at(at(1_000));
    drop(start_transaction("op", "now"));
    let ending = session.end();
    let orders = ending.named("orders");
    let times = |span: &Value| {
        (span["start_timestamp"].as_f64().unwrap(), span["timestamp"].as_f64().unwrap())
    };
    let start = 1_700_000_000.0;
    assert_eq!(times(&orders.payload), (start, start + 1.0));
    assert_eq!(times(orders.span("noted")), (start + 0.25, start + 0.5));
    assert_eq!(times(orders.span("backwards")), (start + 0.25, start + 0.25));
    let (began, ended) = times(&ending.named("now").payload);
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(began <= ended && (wall - ended).abs() < 60.0, "{began} {ended} {wall}");
}

#[test]
fn unfinished_children_are_left_out_and_counted_and_late_ones_do_nothing() {
    let session = Session::start(|_| {});
    let transaction = start_transaction("op", "orders");
    let mut late = start_child("step", "late");
    let under_late = start_child("step", "under late");
    drop(under_late);
    drop(transaction);
    assert!(!late.is_recording());
    late.set_data("too", "late").start_child("step", "under what is over").finish();
    drop(late);
    let ending = session.end();
    let only = ending.only();
    assert_eq!(only.spans().len(), 1);
    assert_eq!(parent(only.span("under late")), &only.root()["span_id"], "its parent is not there");
    assert_eq!(only.root()["data"], json!({"hotspan.unfinished": 1}));
    assert_eq!(ending.lost(Reason::Unfinished), count(0, 1));
    assert_eq!(ending.after.late - ending.before.late, 1);
    assert_eq!(ending.after.started - ending.before.started, count(1, 3));
}

#[test]
fn names_can_change_until_the_end() {
    let session = Session::start(|_| {});
    {
        let mut transaction = start_transaction("op", "first");
        transaction.set_name("second");
        let mut child = start_child("step", "before");
        child.set_description("after");
        drop(child);
        transaction.set_name(String::from("third"));
    }
    let ending = session.end();
    assert_eq!(ending.only().name(), "third");
    ending.only().span("after");
}

#[test]
fn a_thousand_children_are_kept_and_the_rest_counted() {
    let session = Session::start(|_| {});
    {
        let _transaction = start_transaction("op", "orders");
        (0..1003).for_each(|_| drop(start_child("step", "child")));
    }
    let ending = session.end();
    assert_eq!(ending.only().spans().len(), 1000);
    assert_eq!(ending.lost(Reason::TransactionLimit), count(0, 3));
    assert_eq!(ending.only().root()["data"], json!({"hotspan.over_limit": 3}));
}

#[test]
fn what_is_too_long_is_cut_and_counted_and_what_does_not_fit_is_dropped_and_counted() {
    let session = Session::start(|_| {});
    let long = "x".repeat(3000);
    {
        let mut transaction = start_transaction(&long, &long);
        transaction.set_tag("value", &long);
        let mut child = start_child("step", &long);
        child.set_data("text", &long).set_data("list", vec![1_u64; 3000]);
        child.set_tag("a b", "spaces").set_tag("schlüssel", "umlaut").set_tag("line", "a\nb");
    }
    let ending = session.end();
    let only = ending.only();
    let len = |value: &Value| value.as_str().unwrap().chars().count();
    assert_eq!(only.name().chars().count(), 200);
    assert_eq!(len(&only.root()["op"]), 128);
    assert_eq!(len(&only.payload["tags"]["value"]), 200);
    let child = &only.spans()[0];
    assert!((1000..=1024).contains(&len(&child["description"])));
    assert!((1000..=1024).contains(&len(&child["data"]["text"])));
    assert_eq!(child["data"]["list"].as_array().unwrap().len(), 128);
    assert_eq!(child["tags"]["a-b"], "spaces");
    assert!(child["tags"].get("schlüssel").is_none());
    let (cut, dropped) = (
        ending.after.cut - ending.before.cut,
        ending.after.attributes_dropped - ending.before.attributes_dropped,
    );
    assert!(cut >= 6, "{cut}: op, name, tag, description, text, list");
    let lines = u64::from(child["tags"].get("line").is_none());
    assert_eq!(dropped, 1 + lines, "the umlaut, and a line break if it is not replaced");
}

#[test]
fn the_last_value_of_a_key_counts() {
    let session = Session::start(|_| {});
    {
        let mut transaction = start_transaction("op", "orders");
        transaction.set_tag("key", 1).set_data("key", 1).set_data("other", 1);
        transaction.set_data("key", "two").set_tag("key", "two");
    }
    let ending = session.end();
    assert_eq!(ending.only().payload["tags"], json!({"key": "two"}));
    assert_eq!(ending.only().root()["data"], json!({"key": "two", "other": 1}));
}

#[test]
fn without_init_every_call_does_nothing() {
    let _alone = alone();
    let before = hotspan::stats();
    use_everything();
    let after = hotspan::stats();
    assert_eq!(after.started, before.started);
    assert_eq!(after.unsampled, before.unsampled);
    assert!(hotspan::inflight().is_empty());
}

fn use_everything() {
    let mut transaction = start_transaction("op", "orders");
    transaction.set_tag("a", 1).set_data("b", 2).set_status(SpanStatus::Ok).set_name("c");
    transaction.set_data_with("d", || -> u8 { panic!("nobody wants to know") });
    assert!(!transaction.is_recording());
    let mut child = transaction.start_child("step", "child");
    child.set_http_status(404).started_at(SystemTime::UNIX_EPOCH).set_description("e");
    assert_eq!(child.span_id(), None);
    assert!(Hub::current().scope().span().is_none());
    child.finish_at(SystemTime::UNIX_EPOCH);
    drop(start_child("step", "free"));
}

#[test]
fn an_unsampled_transaction_is_there_and_records_nothing() {
    let session = Session::start(|config| config.traces_sample_rate = Some(0.0));
    use_everything();
    {
        let transaction = start_transaction("op", "orders");
        let found = Hub::current().scope().transaction().unwrap();
        assert!(!found.is_recording());
        assert!(transaction.trace_id().is_some(), "a trace that is not sampled still propagates");
        assert_eq!(found.trace_id(), transaction.trace_id());
        assert!(hotspan::inflight().is_empty());
    }
    assert!(Hub::current().scope().transaction().is_none());
    let ending = session.end();
    assert!(ending.transactions.is_empty());
    assert_eq!(ending.after.unsampled - ending.before.unsampled, 2);
    assert_eq!(ending.after.started, ending.before.started);
}

#[test]
fn what_is_started_in_an_unsampled_transaction_does_not_fall_to_the_outer_one() {
    let session = Session::start(|config| config.traces_sample_rate = Some(0.5));
    let mut seen = 0;
    for _ in 0..400 {
        let outer = start_transaction("op", "outer");
        let inner = start_transaction("op", "inner");
        if outer.is_recording() && !inner.is_recording() {
            seen += 1;
            assert!(!start_child("step", "of the inner").is_recording());
            assert!(Hub::current().scope().span().is_none());
            drop(outer.start_child("step", "of the outer"));
        }
        drop(inner);
        let current = Hub::current().scope().span().and_then(|span| span.span_id());
        assert_eq!(current, outer.span_id().filter(|_| outer.is_recording()));
    }
    assert!(seen > 10, "{seen}");
    let ending = session.end();
    assert!(ending.transactions.iter().all(|one| one.name() == "outer" || one.spans().is_empty()));
    let children: usize = ending.transactions.iter().map(|one| one.spans().len()).sum();
    assert_eq!(children, seen);
    assert_eq!(ending.lost_in_all(), count(0, 0));
}

#[test]
fn a_transaction_larger_than_its_ring_arrives_whole_when_it_takes_its_time() {
    let session = Session::start(|config| {
        config.ring_slots = 1024;
        config.flush_interval = Duration::from_millis(1);
    });
    {
        let mut transaction = start_transaction("op", "long");
        for n in 0..1000_u32 {
            start_child("step", "child").set_data("n", n).set_data("text", "x".repeat(100));
            if n % 50 == 49 {
                // Until the flusher has been there, or a minute.
                let start = std::time::Instant::now();
                while hotspan::stats().rings.slots_waiting > 0 {
                    assert!(start.elapsed() < Duration::from_secs(60));
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        transaction.set_data("last", true);
    }
    let ending = session.end();
    let only = ending.only();
    assert_eq!(only.root()["data"], json!({"last": true}));
    let numbers: Vec<_> = only.spans().iter().map(|span| span["data"]["n"].as_u64()).collect();
    assert_eq!(numbers, (0..1000).map(Some).collect::<Vec<_>>());
    assert_eq!(ending.lost_in_all(), count(0, 0));
}

#[test]
fn a_value_may_itself_be_recorded() {
    let session = Session::start(|_| {});
    {
        let mut transaction = start_transaction("op", "orders");
        transaction.set_data_with("sum", || {
            let mut span = start_child("step", "adding up");
            span.set_data_with("inside", || 1);
            3
        });
    }
    let ending = session.end();
    assert_eq!(ending.only().root()["data"], json!({"sum": 3}));
    assert_eq!(ending.only().span("adding up")["data"], json!({"inside": 1}));
}

#[test]
fn a_second_init_is_an_error_and_one_after_the_other_is_none() {
    let null =
        || Config { transport: Delivery::Null, traces_sample_rate: Some(1.0), ..Config::default() };
    let _alone = alone();
    let first = hotspan::init(null()).unwrap();
    let error = hotspan::init(null()).unwrap_err();
    assert!(error.is_already_initialised(), "{error}");
    drop(start_transaction("op", "still on"));
    drop(first);
    let before = hotspan::stats().started;
    drop(start_transaction("op", "off"));
    assert_eq!(hotspan::stats().started, before);
    let second = hotspan::init(null()).unwrap();
    drop(start_transaction("op", "on again"));
    assert_eq!(second.close(support::session::LONG).delivered, count(1, 1));
}

#[test]
fn what_was_started_in_another_init_is_not_sent_and_counted() {
    let first = Session::start(|_| {});
    let transaction = start_transaction("op", "too long");
    drop(start_child("step", "in time"));
    let report = first.guard.close(Duration::from_secs(60));
    // Children are known of when their transaction ends.
    assert_eq!((report.delivered, report.left), (count(0, 0), count(1, 1)));
    // The lock goes on to the next: no other test may come in between here.
    let before = first.before;
    let memory = hotspan::transport::Memory::new();
    let guard = {
        let memory = memory.clone();
        hotspan::init(support::session::config(move || memory.clone())).unwrap()
    };
    drop(transaction);
    drop(start_transaction("op", "in time"));
    assert_eq!(guard.close(Duration::from_secs(60)).delivered, count(1, 1));
    let after = hotspan::stats();
    after.check().unwrap();
    assert!(after.is_at_rest(), "{after}");
    let lost = support::session::lost_between(&before, &after, Reason::AfterShutdown);
    assert_eq!(lost, count(1, 2));
    let sent: Vec<_> = memory.take().iter().map(|bytes| Opened::new(bytes)).collect();
    assert_eq!(sent.iter().filter(|one| one.kind == "transaction").count(), 1);
}

#[test]
fn errors_of_init_name_the_field_and_never_echo_a_secret() {
    let _alone = alone();
    let fine = || Config { traces_sample_rate: Some(1.0), ..Config::default() };
    let secret = "0123456789abcdef0123456789abcdef";
    let dsn = Some(format!("http://{secret}@host/1"));
    let proxy = Some(format!("ftp://user:{secret}@proxy:1"));
    for (field, config) in [
        ("dsn", Config { dsn: Some(format!("{secret}@host/1")), ..fine() }),
        ("dsn", Config { dsn: Some(format!("https://{secret}@host/")), ..fine() }),
        ("dsn", Config { dsn: Some(format!("https://{secret}@host:x/1")), ..fine() }),
        ("traces_sample_rate", Config { traces_sample_rate: Some(1.5), ..fine() }),
        ("traces_sample_rate", Config { traces_sample_rate: Some(-0.1), ..fine() }),
        ("traces_sample_rate", Config { traces_sample_rate: Some(f64::NAN), ..fine() }),
        ("ring_slots", Config { ring_slots: 0, ..fine() }),
        ("ring_bytes", Config { ring_bytes: 0, ..fine() }),
        ("queue_bytes", Config { queue_bytes: 0, ..fine() }),
        ("max_spans", Config { max_spans: 0, ..fine() }),
        ("flush_interval", Config { flush_interval: Duration::ZERO, ..fine() }),
        // Where there is no HTTP, the DSN itself is what cannot be had.
        (
            if cfg!(feature = "http") { "http_proxy" } else { "dsn" },
            Config { dsn, http_proxy: proxy, ..fine() },
        ),
    ] {
        let shown = format!("{config:?}");
        let error = hotspan::init(config).expect_err(field);
        // `ring_bytes` of 0 also leaves no room for a ring: either may be named.
        let named = error.field().unwrap();
        assert!(named == field || (field == "ring_bytes" && named == "ring_slots"), "{error}");
        let all = format!("{error} {error:?} {error:#?} {shown}");
        assert!(error.to_string().contains(named), "{error}");
        assert!(!all.contains(secret), "{field} echoes the secret: {all}");
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            assert!(!format!("{inner} {inner:?}").contains(secret), "{field}: {inner}");
            source = inner.source();
        }
    }
    // None of that counts as initialised.
    drop(hotspan::init(Config { transport: Delivery::Null, ..fine() }).unwrap());
}

#[test]
fn inflight_tells_what_a_thread_is_doing() {
    let session = Session::start(|_| {});
    let _transaction = start_transaction("queue.process", "orders");
    let span = start_child("db.query", "load");
    let list = std::thread::Builder::new().spawn(hotspan::inflight).unwrap().join().unwrap();
    let [one] = &*list else { panic!("{list:?}") };
    assert_eq!((&*one.op, &*one.name), ("queue.process", "orders"));
    assert_eq!((&*one.span_op, &*one.span_description), ("db.query", "load"));
    assert_eq!(Some(one.span_id), span.span_id());
    assert_eq!(Some(one.trace_id), span.trace_id());
    assert!(one.span_age <= one.age && one.age < Duration::from_secs(60), "{one:?}");
    assert_eq!(one.thread_name.as_deref(), std::thread::current().name());
    drop((span, _transaction));
    assert!(hotspan::inflight().is_empty());
    session.end();
}

/// Guards must not leave their thread: only a type that is not `Send` makes `is_send` ambiguous...
/// and the inherent-looking default below answer. A plain bound would not compile either way.
mod not_send {
    use std::marker::PhantomData;

    pub(super) struct Ask<T>(pub(super) PhantomData<T>);

    pub(super) trait No {
        fn is_send(&self) -> bool {
            false
        }
    }

    impl<T> No for Ask<T> {}

    impl<T: Send> Ask<T> {
        #[expect(clippy::unused_self, reason = "chosen by method resolution before the trait's")]
        pub(super) fn is_send(&self) -> bool {
            true
        }
    }
}

#[test]
fn guards_stay_on_their_thread() {
    use not_send::{Ask, No as _};
    macro_rules! is_send {
        ($ty:ty) => {
            Ask::<$ty>(std::marker::PhantomData).is_send()
        };
    }
    assert!(is_send!(u8) && is_send!(hotspan::Guard), "the question can be answered");
    assert!(!is_send!(hotspan::Transaction) && !is_send!(hotspan::Span));
    assert!(!is_send!(hotspan::TransactionRef) && !is_send!(hotspan::SpanRef));
    assert!(!is_send!(Hub) && !is_send!(hotspan::Scope));
}
