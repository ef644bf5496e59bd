//! Messages, from producer to consumer, over the whole library: one trace, the right attributes,
//! latencies, statuses, links; whatever carries the headers, sampled or not, running or not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "helpers of tests panic as tests do"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::ready;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hotspan::queue::{self, Process, Publish, Settlement, attributes};
use hotspan::test::{Capture, advance};
use hotspan::{
    Config, FutureExt, Keep, Rule, SpanStatus, TransactionOptions, start_transaction, stats,
    trace_headers,
};

mod support;

use support::envelope::Opened;
use support::session::{Session, alone};

const TRACE: &str = "4c79f60c11214eb38604f4ae0781bfb2";
const PARENT: &str = "fa90fdead5f74052";
const NO_HEADERS: [(&str, &str); 0] = [];
const TIME: &str = "sentry-task-enqueued-time";
const LATENCY: &str = "messaging.message.receive.latency";

type Headers = Vec<(String, String)>;

fn headers_of(publish: &Publish) -> Headers {
    let mut headers = Headers::new();
    publish.inject(|name, value| headers.push((name.to_owned(), value.to_owned())));
    headers
}

fn process(headers: &Headers) -> Process {
    queue::process("orders", headers.iter().map(|(name, value)| (name, value)))
}

fn named<'a>(headers: &'a Headers, name: &str) -> &'a str {
    let (_, value) = headers.iter().find(|(it, _)| it == name).expect(name);
    value
}

fn names(headers: &Headers) -> Vec<&str> {
    headers.iter().map(|(name, _)| name.as_str()).collect()
}

fn sentry_trace(flag: &str) -> String {
    format!("{TRACE}-{PARENT}{flag}")
}

/// With a DSN, without which no context is sent; to memory nevertheless.
fn session(change: impl FnOnce(&mut Config)) -> Session {
    Session::start(|config| {
        config.dsn = Some("https://0123456789abcdef0123456789abcdef@localhost/1".into());
        change(config);
    })
}

/// At a time on the wall.
fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_732_847_252_000 + millis)
}

fn fixed_clock() -> Capture {
    Capture::new().fixed_clock(at(0))
}

#[test]
fn producer_and_consumers_share_a_trace_across_threads() {
    let session = session(|config| config.traces_sample_rate = Some(1.0));
    let (to_workers, at_workers) = crossbeam_channel::bounded::<(u64, Headers)>(4);
    let traces = thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let send = |n: u64| {
                let transaction = start_transaction("http.server", format!("request {n}"));
                let mut publish = queue::publish("orders");
                publish.set_system("crossbeam").set_message_id(n).set_body_size(10);
                publish.set_tag("n", n);
                to_workers.send((n, headers_of(&publish))).unwrap();
                publish.finish_with(&Ok::<_, ()>(()));
                transaction.trace_id().unwrap()
            };
            (0..20).map(send).collect::<Vec<_>>()
        });
        for _ in 0..3 {
            let at_workers = at_workers.clone();
            scope.spawn(move || {
                for (n, headers) in at_workers {
                    let mut process = process(&headers);
                    process.set_system("crossbeam").set_message_id(n).set_retry_count(0);
                    process.set_envelope_size(100).set_partition(3).set_conversation_id("c");
                    process.set_kafka_offset(-1).set_routing_key("key").set_body_size(10);
                    process.start_child("db", "store").set_data("n", n);
                    process.finish_with(&Ok::<_, ()>(()));
                }
            });
        }
        producer.join().unwrap()
    });
    let end = session.end();
    assert_eq!(end.transactions.len(), 40);
    for (n, trace) in traces.iter().enumerate() {
        let producer = end.named(&format!("request {n}"));
        let is_it = |opened: &&Opened| {
            opened.name() == "orders" && opened.root()["trace_id"] == trace.to_string()
        };
        let consumer = end.transactions.iter().find(is_it).unwrap();
        let publish = producer.span("orders");
        assert_eq!(publish["op"], "queue.publish");
        assert_eq!(publish["status"], "ok");
        assert_eq!(publish["data"]["messaging.destination.name"], "orders");
        assert_eq!(publish["data"]["messaging.message.id"], n.to_string());
        assert_eq!(publish["data"]["messaging.message.body.size"], 10);
        let root = consumer.root();
        assert_eq!(root["parent_span_id"], publish["span_id"]);
        assert_eq!((&root["op"], &root["status"]), (&"queue.process".into(), &"ok".into()));
        let data = root["data"].as_object().unwrap();
        assert!(data[LATENCY].as_f64().unwrap() >= 0.0);
        for (key, value) in [
            ("messaging.destination.name", "orders".into()),
            ("messaging.system", "crossbeam".into()),
            ("messaging.message.id", n.to_string().into()),
            ("messaging.message.retry.count", 0.into()),
            ("messaging.message.body.size", 10.into()),
            ("messaging.message.envelope.size", 100.into()),
            ("messaging.destination.partition.id", "3".into()),
            ("messaging.message.conversation_id", "c".into()),
            ("messaging.rabbitmq.destination.routing_key", "key".into()),
            ("messaging.kafka.offset", serde_json::Value::from(-1)),
        ] {
            assert_eq!(data[key], value, "{key}");
        }
        // The consumer's envelope has the context of the trace's head.
        for key in ["trace_id", "public_key", "sample_rate", "sampled", "sample_rand"] {
            assert_eq!(consumer.header["trace"][key], producer.header["trace"][key], "{key}");
        }
        assert_eq!(consumer.header["trace"]["transaction"], format!("request {n}"));
    }
}

#[test]
fn latency_is_milliseconds_between_the_two() {
    let _alone = alone();
    let (time, captured) = fixed_clock().run(|| {
        let headers = {
            let _transaction = start_transaction("op", "producer");
            headers_of(&queue::publish("orders"))
        };
        advance(Duration::from_nanos(1_500_250_000));
        drop(process(&headers));
        named(&headers, TIME).to_owned()
    });
    assert_eq!(time, "1732847252.000000");
    let consumer = captured.find("orders").unwrap();
    assert_eq!(consumer.op(), "queue.publish");
    let [_, consumer] = captured.transactions()[..] else { panic!("{captured}") };
    assert_eq!(consumer.data(LATENCY).unwrap(), &1500.25);
}

#[test]
fn a_time_from_the_broker_counts_more_than_that_of_the_headers() {
    let _alone = alone();
    let ((), captured) = fixed_clock().run(|| {
        advance(Duration::from_secs(1));
        let headers = [(TIME, "1732847252.5")];
        drop(queue::process("headers", headers));
        queue::process("both", headers).published_at(at(900));
        queue::process("broker", NO_HEADERS).published_at(at(750));
        queue::process("not known", NO_HEADERS).published_at(UNIX_EPOCH);
        queue::process("minus one", NO_HEADERS).published_at(UNIX_EPOCH - Duration::from_millis(1));
        queue::process("not a time", [(TIME, "yesterday")]).set_retry_count(1);
        let mut late = queue::process("set after a while", NO_HEADERS);
        advance(Duration::from_secs(5));
        late.published_at(at(0));
    });
    let latency = |name: &str| captured.find(name).unwrap().data(LATENCY).cloned();
    let known = |name: &str| latency(name).unwrap();
    assert_eq!(known("headers"), 500.0);
    assert_eq!(known("both"), 100.0);
    assert_eq!(known("broker"), 250.0);
    assert_eq!(known("set after a while"), 1000.0);
    for name in ["not known", "minus one", "not a time"] {
        assert_eq!(latency(name), None, "{name}");
    }
}

#[test]
fn what_comes_from_the_future_took_no_time_and_is_counted() {
    let _alone = alone();
    let before = stats().messages_skewed;
    let ((), captured) = fixed_clock().run(|| {
        drop(queue::process("headers", [(TIME, "1732847252.000001")]));
        queue::process("broker", NO_HEADERS).published_at(at(1));
        drop(queue::process("tomorrow", [(TIME, "1732933652")]));
        queue::process("now", NO_HEADERS).published_at(at(0));
    });
    assert!(captured.all().all(|node| node.data(LATENCY).unwrap() == &0.0), "{captured}");
    assert_eq!(stats().messages_skewed - before, 3);
}

#[test]
fn how_it_went_is_the_status_of_the_transaction() {
    let session = Session::start(|_| ());
    queue::process("ok", NO_HEADERS).finish_with(&Ok::<_, ()>(1));
    queue::process("failed", NO_HEADERS).finish_with(&Err::<(), _>("no"));
    queue::process("retried", NO_HEADERS).retry();
    queue::process("tried", NO_HEADERS).record_result(&Err::<(), _>(1)).set_name("renamed");
    queue::process("own", NO_HEADERS).set_status(SpanStatus::DeadlineExceeded);
    drop(queue::process("unknown", NO_HEADERS));
    thread::spawn(|| {
        let _process = queue::process("panicked", NO_HEADERS);
        std::panic::resume_unwind(Box::new(1));
    })
    .join()
    .unwrap_err();
    queue::process("at", NO_HEADERS).finish_at(SystemTime::now() + Duration::from_secs(100));
    {
        let _transaction = start_transaction("op", "producer");
        queue::publish("sent").finish_with(&Ok::<_, ()>(()));
        queue::publish("not sent").finish_with(&Err::<(), _>(()));
    }
    let end = session.end();
    let status = |name| end.named(name).root()["status"].clone();
    assert_eq!(status("ok"), "ok");
    assert_eq!(status("failed"), "internal_error");
    assert_eq!(status("retried"), "aborted");
    assert_eq!(status("renamed"), "internal_error");
    assert_eq!(status("own"), "deadline_exceeded");
    assert_eq!(status("panicked"), "internal_error");
    let producer = end.named("producer");
    assert_eq!(producer.span("sent")["status"], "ok");
    assert_eq!(producer.span("not sent")["status"], "internal_error");
    let at = &end.named("at").payload;
    assert!(at["timestamp"].as_f64().unwrap() - at["start_timestamp"].as_f64().unwrap() > 90.0);
}

#[test]
fn settling_is_a_child_that_says_what_the_broker_is_told() {
    let _alone = alone();
    let captured = hotspan::test::capture(|| {
        let _process = queue::process("orders", NO_HEADERS);
        for settlement in [
            Settlement::Acknowledge,
            Settlement::Return,
            Settlement::Reject,
            Settlement::DeadLetter,
        ] {
            drop(queue::settle("orders", settlement));
        }
    });
    let children = captured.transaction().children();
    for (child, name) in children.iter().zip(["ack", "nack", "reject", "dead_letter"]) {
        assert_eq!((child.op(), child.description()), ("queue.settle", "orders"));
        assert_eq!(child.data("messaging.operation.name").unwrap(), &name);
        assert_eq!(child.data("messaging.operation.type").unwrap(), &"settle");
        assert_eq!(child.data("messaging.destination.name").unwrap(), &"orders");
    }
    assert_eq!(children.len(), 4);
}

#[test]
fn a_batch_links_its_messages_and_waited_as_long_as_they_did_on_average() {
    let _alone = alone();
    let ((), captured) = fixed_clock().run(|| {
        advance(Duration::from_secs(1));
        let mut batch = queue::batch("orders", 4);
        batch.set_system("kafka");
        for (flag, time) in [("-1", "1732847252.9"), ("-0", "1732847252.7"), ("", "?")] {
            let trace = sentry_trace(flag);
            batch.add_message([("sentry-trace", &*trace), (TIME, time)]);
        }
        batch.add_message(NO_HEADERS);
        batch.finish_with(&Ok::<_, ()>(()));
    });
    let batch = captured.transaction();
    assert_eq!((batch.op(), batch.description()), ("queue.process", "orders"));
    assert_eq!(batch.data("messaging.batch.message_count").unwrap(), &4);
    assert_eq!(batch.data("messaging.destination.name").unwrap(), &"orders");
    assert_eq!(batch.data(LATENCY).unwrap(), &200.0);
    let sampled: Vec<_> = batch.links().iter().map(|link| link.sampled).collect();
    assert_eq!(sampled, [Some(true), Some(false), None]);
    for link in batch.links() {
        assert_eq!(link.trace_id.to_string(), TRACE);
        assert_eq!(link.span_id.to_string(), PARENT);
    }
    assert_ne!(batch.trace_id().to_string(), TRACE, "a trace of its own");
}

#[test]
fn links_of_a_batch_are_bounded_and_the_others_counted() {
    let session = Session::start(|_| ());
    let trace = sentry_trace("-1");
    let headers = [("sentry-trace", &*trace)];
    let mut batch = queue::batch("orders", 150);
    for _ in 0..150 {
        batch.add_message(headers);
    }
    drop(batch);
    let end = session.end();
    let sent = end.only().root()["links"].as_array().unwrap().len() as u64;
    assert!((100..=128).contains(&sent), "{sent}");
    assert_eq!(end.after.attributes_dropped - end.before.attributes_dropped, 150 - sent);
    assert_eq!(end.only().root()["data"].get(LATENCY), None);
}

#[test]
fn any_carrier_of_names_and_values_does() {
    let _alone = alone();
    let trace = sentry_trace("-1");
    let text = [("Sentry-Trace", trace.as_str()), ("SENTRY_TASK_ENQUEUED_TIME", "1732847251")];
    let map: HashMap<String, String> =
        text.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let tree: BTreeMap<&str, &[u8]> =
        text.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let bytes: Vec<(Vec<u8>, Vec<u8>)> =
        text.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let ((), captured) = fixed_clock().run(|| {
        drop(queue::process("pairs", text));
        drop(queue::process("a map", &map));
        drop(queue::process("a map, consumed", map.clone()));
        drop(queue::process("a tree", &tree));
        drop(queue::process("bytes", bytes.iter().map(|(name, value)| (name, value))));
        let first_counts = [(TIME, "1732847251"), (TIME, "1732847252")];
        let first_counts = text.into_iter().take(1).chain(first_counts);
        drop(queue::process("several", first_counts));
    });
    assert_eq!(captured.transactions().len(), 6);
    for node in captured.transactions() {
        assert_eq!(node.trace_id().to_string(), TRACE, "{}", node.description());
        assert_eq!(node.data(LATENCY).unwrap(), &1000.0, "{}", node.description());
    }
}

#[test]
fn an_unsampled_producer_says_so_and_the_consumer_follows() {
    let session = session(|config| config.traces_sample_rate = Some(0.0));
    let transaction = start_transaction("op", "producer");
    let trace = transaction.trace_id().unwrap();
    let publish = queue::publish("orders");
    let headers = headers_of(&publish);
    drop(publish);
    drop(transaction);
    assert_eq!(names(&headers), ["sentry-trace", "baggage", TIME]);
    assert!(named(&headers, "sentry-trace").ends_with("-0"));
    assert!(named(&headers, "sentry-trace").starts_with(&trace.to_string()));
    let end = session.end();
    assert_eq!(end.transactions.len(), 0);

    // Somebody else keeps everything, but for what was decided already.
    let session = end.then(|config| config.traces_sample_rate = Some(1.0));
    let mut process = process(&headers);
    process.set_message_id("1").set_retry_count(3).published_at(at(0)).retry();
    assert!(!process.is_recording());
    assert_eq!(process.trace_id(), Some(trace));
    let publish = queue::publish("next");
    let next = headers_of(&publish);
    assert!(named(&next, "sentry-trace").starts_with(&trace.to_string()));
    assert!(named(&next, "sentry-trace").ends_with("-0"));
    assert_eq!(named(&next, "baggage"), named(&headers, "baggage"));
    drop(publish);
    drop(process);
    assert_eq!(session.end().transactions.len(), 0);
}

#[test]
fn before_init_messages_carry_the_time_and_nothing_is_recorded() {
    let _alone = alone();
    let before = stats();
    let mut publish = queue::publish("orders");
    publish.set_system("kafka").set_message_id(1);
    let headers = headers_of(&publish);
    assert_eq!(names(&headers), [TIME]);
    assert!(named(&headers, TIME).parse::<f64>().unwrap() > 1.7e9);
    publish.finish_with(&Ok::<_, ()>(()));
    let mut process = process(&headers);
    assert!(!process.is_recording());
    process.set_retry_count(1).retry().published_at(at(0));
    drop(process.detach());
    let mut batch = queue::batch("orders", 1);
    batch.add_message([("sentry-trace", &*sentry_trace("-1"))]);
    drop(batch.detach());
    drop(queue::settle("orders", Settlement::Reject));
    let after = stats();
    assert_eq!(after.started, before.started);
    assert_eq!(after.unsampled, before.unsampled);
}

#[test]
fn without_transactions_headers_are_those_of_the_thread() {
    let session = Session::start(|config| config.traces_sample_rate = None);
    let own = headers_of(&queue::publish("orders"));
    assert_eq!(named(&own, "sentry-trace"), trace_headers().unwrap().sentry_trace());
    // A consumer hands on what came, and forgets it at the next message.
    drop(process(&vec![("sentry-trace".into(), sentry_trace("-1"))]));
    let on = headers_of(&queue::publish("orders"));
    assert!(named(&on, "sentry-trace").starts_with(TRACE));
    assert!(named(&on, "sentry-trace").ends_with("-1"));
    drop(process(&Headers::new()));
    let new = headers_of(&queue::publish("orders"));
    assert!(!named(&new, "sentry-trace").starts_with(TRACE));
    drop(session.end());
}

#[test]
fn traceparent_goes_along_if_it_is_asked_for() {
    let session = session(|config| config.propagate_traceparent = true);
    let transaction = start_transaction("op", "producer");
    let publish = queue::publish("orders");
    let headers = headers_of(&publish);
    assert_eq!(names(&headers), ["sentry-trace", "baggage", "traceparent", TIME]);
    assert!(named(&headers, "traceparent").ends_with("-01"));
    drop((publish, transaction));
    drop(session.end());
}

#[test]
fn messages_are_worked_on_wherever_they_are_taken() {
    let session = Session::start(|_| ());
    let process = queue::process("orders", NO_HEADERS).detach();
    thread::spawn(move || {
        let mut scope = process.enter();
        scope.set_data(&attributes::MESSAGE_RETRY_COUNT, 2);
        let publish = queue::publish("next");
        let sent = ready(Err::<(), _>(1)).in_span(publish);
        assert_eq!(block_on(sent), Err(1));
        drop(scope);
        block_on(ready(()).in_span(process));
    })
    .join()
    .unwrap();
    let batch = queue::batch("batch", 7);
    block_on(ready(()).in_span(batch));
    let end = session.end();
    let orders = end.named("orders");
    assert_eq!(orders.root()["data"]["messaging.message.retry.count"], 2);
    assert_eq!(orders.span("next")["op"], "queue.publish");
    assert_eq!(end.named("batch").root()["data"]["messaging.batch.message_count"], 7);
}

#[test]
fn options_say_more_about_the_transaction() {
    let session = Session::start(|config| {
        config.traces_sampler = Some(std::sync::Arc::new(|context| {
            assert_eq!((context.op(), context.name()), ("queue.process", "orders"));
            f64::from(u8::from(context.custom::<u32>() == Some(&5)))
        }));
    });
    let headers = [("sentry-trace", sentry_trace(""))];
    let headers = || headers.iter().map(|(name, value)| (name, value));
    let options = TransactionOptions::new();
    let recorded = |options: &TransactionOptions<'_>| {
        let process = queue::process_with(options, "orders", headers());
        assert_eq!(process.trace_id().unwrap().to_string(), TRACE);
        process.is_recording()
    };
    assert!(recorded(&options.context(&5_u32)));
    assert!(!recorded(&options.context(&6_u32)));
    assert!(!recorded(&options));
    assert!(recorded(&options.sampled(true)));
    assert!(!recorded(&options.sampled(false).context(&5_u32)));
    // The message's own trace comes first; where it has none, the one that was given counts.
    let other = hotspan::continue_from([("sentry-trace", format!("{PARENT}{PARENT}-{PARENT}"))]);
    let options = options.continue_from(&other);
    assert!(recorded(&options.sampled(true)));
    let process = queue::process_with(&options, "orders", NO_HEADERS);
    assert_eq!(process.trace_id(), other.trace_id());
    drop(process);
    let batch = queue::batch_with(&options.context(&5_u32), "orders", 1);
    assert!(batch.is_recording());
    assert_eq!(batch.trace_id(), other.trace_id());
    drop(batch);
    drop(session.end());
}

#[test]
fn rules_keep_what_failed_and_what_will_be_tried_again() {
    let session = Session::start(|config| {
        config.traces_sample_rate = Some(0.0);
        config.rules = vec![Rule {
            op: Some("queue.process".into()),
            rate: Some(0.0),
            keep: Keep { failed: true, asked: true, ..Keep::default() },
            ..Rule::default()
        }];
    });
    queue::process("ok", NO_HEADERS).finish_with(&Ok::<_, ()>(()));
    queue::process("failed", NO_HEADERS).finish_with(&Err::<(), _>(()));
    queue::process("retried", NO_HEADERS).retry();
    queue::process("the last attempt", NO_HEADERS).keep();
    let mut batch = queue::batch("a batch", 3);
    batch.add_message([("sentry-trace", &*sentry_trace("-1"))]);
    batch.finish_with(&Err::<(), _>(()));
    let end = session.end();
    let kept: BTreeSet<&str> = end.transactions.iter().map(Opened::name).collect();
    assert_eq!(kept, ["a batch", "failed", "retried", "the last attempt"].into());
    assert_eq!(end.named("a batch").root()["links"].as_array().unwrap().len(), 1);
}

/// Runs a future that is ready.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("not ready"),
    }
}
