//! Nothing is allocated on the recording thread in steady state, counted by the allocator itself.
//!
//! The counter is the thread's own, so what flusher, uploader and the other tests allocate
//! meanwhile is not in it; `flusher_alloc.rs` looks at those. Each case runs often enough to go
//! around its ring.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "helpers of tests panic as tests do"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Cow;
use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use hotspan::queue::{self, Process, Settlement};
use hotspan::{
    Delivery, FutureExt, Hub, Keep, Name, Rule, SpanStatus, Transaction, TransactionOptions,
    start_child, start_transaction,
};

mod support;

use support::session::{Session, alone, lost_between};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    // Constant and without a destructor: reading it allocates nothing, at any time of a thread's
    // life.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is handed on to the system's allocator as it came; counting touches a `Cell`
// only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Allocations of this thread while `run` ran.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

/// Allocations of `rounds` calls after the first few, which may allocate.
fn steady(mut run: impl FnMut()) -> u64 {
    for _ in 0..3 {
        run();
    }
    allocations(|| (0..ROUNDS).for_each(|_| run()))
}

const ROUNDS: usize = 1000;
const TEXT_200: &str = concat!(
    "0123456789 0123456789 0123456789 0123456789 01234 ",
    "0123456789 0123456789 0123456789 0123456789 01234 ",
    "0123456789 0123456789 0123456789 0123456789 01234 ",
    "0123456789 0123456789 0123456789 0123456789 äöü",
);

fn transaction() -> Transaction {
    start_transaction("queue.process", "orders")
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| drop(black_box(vec![0_u8; 10]))), 1);
    let mut list: Vec<u64> = Vec::with_capacity(1);
    list.push(1);
    assert_eq!(allocations(|| list.push(2)), 1, "growing is allocating");
    let elsewhere = std::thread::Builder::new();
    assert_eq!(elsewhere.spawn(|| allocations(|| ())).unwrap().join().unwrap(), 0);
}

/// A pair as another SDK sends it.
const HEADERS: [(&str, &str); 4] = [
    ("content-type", "application/json"),
    ("sentry-trace", "4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-1"),
    (
        "baggage",
        "other=1,sentry-trace_id=4c79f60c11214eb38604f4ae0781bfb2,sentry-sample_rate=0.25,\
         sentry-sample_rand=0.123456,sentry-sampled=true,sentry-environment=production,\
         sentry-public_key=0123456789abcdef0123456789abcdef,sentry-release=shop%40236,\
         sentry-transaction=POST%20%2Forders",
    ),
    ("sentry-task-enqueued-time", "1732847252.123456"),
];

#[test]
fn messages_allocate_nothing() {
    for rate in [1.0, 0.0] {
        let session = Session::start(|config| {
            config.transport = Delivery::Null;
            config.dsn = Some("https://0123456789abcdef0123456789abcdef@localhost/1".into());
            config.propagate_traceparent = true;
            config.traces_sample_rate = Some(rate);
        });
        let flipped = HEADERS.map(|(name, value)| (name, value.replace("052-1", "052-0")));
        let flipped = || flipped.iter().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(
            steady(|| {
                let _transaction = transaction();
                let mut publish = queue::publish("orders");
                publish.set_system("kafka").set_message_id(17).set_body_size(2048);
                let mut bytes = 0;
                publish.inject(|name, value| bytes += name.len() + value.len());
                assert!(bytes > 300, "{bytes}");
                publish.finish_with(&Ok::<_, ()>(()));
            }),
            0,
            "publishing at {rate}"
        );
        let work = |mut process: Process| {
            process.set_system("kafka").set_message_id("a-17").set_retry_count(0);
            process.set_partition(3).published_at(SystemTime::UNIX_EPOCH);
            drop(queue::settle("orders", Settlement::Acknowledge));
            process.finish_with(&Ok::<_, ()>(()));
        };
        assert_eq!(steady(|| work(queue::process("orders", HEADERS))), 0, "processing at {rate}");
        assert_eq!(steady(|| work(queue::process("orders", flipped()))), 0, "left out at {rate}");
        assert_eq!(
            steady(|| {
                let mut batch = queue::batch("orders", 3);
                batch.add_message(HEADERS).add_message(flipped()).add_message(HEADERS);
            }),
            0,
            "a batch at {rate}"
        );
        drop(session.end());
    }
    assert_eq!(
        steady(|| queue::publish("orders").inject(|_, value| assert!(!value.is_empty()))),
        0,
        "before init"
    );
}

#[test]
fn headers_are_read_and_written_without_allocating() {
    struct Fixed([u8; 1024], usize);
    impl std::fmt::Write for Fixed {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            let end = self.1 + text.len();
            self.0[self.1..end].copy_from_slice(text.as_bytes());
            self.1 = end;
            Ok(())
        }
    }
    let session = Session::start(|config| {
        config.transport = Delivery::Null;
        config.dsn = Some("https://0123456789abcdef0123456789abcdef@localhost/1".into());
    });
    assert_eq!(
        steady(|| {
            let mut out = Fixed([0; 1024], 0);
            hotspan::trace_headers().unwrap().write_http(&mut out).unwrap();
            assert!(out.1 > 200);
        }),
        0,
        "outside of a transaction"
    );
    assert_eq!(
        steady(|| {
            let incoming = hotspan::continue_from(black_box(HEADERS));
            let transaction = incoming.start_transaction("queue.process", "orders");
            let span = transaction.start_child("http.client", "GET");
            let mut out = Fixed([0; 1024], 0);
            let headers = span.trace_headers().unwrap();
            headers.merge_baggage("tenant=blue", &mut out).unwrap();
            headers.write_http(&mut out).unwrap();
            assert!(out.1 > 300);
        }),
        0,
        "continuing"
    );
    assert_eq!(
        steady(|| {
            let _transaction = transaction();
            for (name, value) in &hotspan::trace_headers_for("http://stock/5").unwrap() {
                assert!(!name.is_empty() && !value.is_empty());
            }
        }),
        0,
        "a request"
    );
    drop(session.end());
}

#[test]
fn recording_allocates_nothing() {
    let session = Session::start(|config| config.transport = Delivery::Null);
    assert_eq!(TEXT_200.len(), 200);

    assert_eq!(steady(|| drop(transaction())), 0, "a transaction");
    assert_eq!(
        steady(|| {
            let transaction = transaction();
            let child = transaction.start_child("db", "load");
            drop(child.start_child("db", "connect"));
            drop(start_child("db", "query"));
        }),
        0,
        "children"
    );
    assert_eq!(
        steady(|| {
            let mut transaction = transaction();
            transaction.step("parse", "order");
            transaction.step("db", "store").set_data("rows", 3);
            drop(start_child("db", "query"));
            transaction.step("queue", "answer");
        }),
        0,
        "steps"
    );
    assert_eq!(steady(|| nested(10)), 0, "ten deep");
    assert_eq!(
        steady(|| {
            let mut transaction = transaction();
            let mut child = start_child("db", "load");
            child.set_tag("region", "eu").set_tag("shard", 7).set_tag("hot", true);
            transaction.set_tag("region", TEXT_200);
        }),
        0,
        "tags"
    );
    assert_eq!(
        steady(|| {
            let _transaction = transaction();
            let mut child = start_child("db", "load");
            for len in [0, 1, 39, 40, 41, 64, 104, 105] {
                child.set_data("text", &TEXT_200[..len]);
            }
            child.set_data("text", TEXT_200).set_data_with("lazily", || TEXT_200);
        }),
        0,
        "text"
    );
    assert_eq!(steady(statuses), 0, "statuses, measurements, names, times");
    let after = hotspan::stats();
    assert!(after.started.transactions > session.before.started.transactions);
    session.end();
}

fn nested(depth: usize) {
    fn down(depth: usize) {
        let mut span = start_child("step", "down");
        span.set_data("depth", depth);
        if depth > 1 {
            down(depth - 1);
        }
    }
    let _transaction = transaction();
    down(depth);
}

fn statuses() {
    let mut transaction = transaction();
    let mut child = start_child("http", "GET /");
    child.set_status(SpanStatus::Aborted).set_http_status(404).set_measurement("size", 3.0, "byte");
    child.set_description("GET /again").started_at(SystemTime::UNIX_EPOCH);
    child.record_result(&Err::<(), ()>(()));
    black_box((child.span_id(), child.trace_id(), child.is_recording()));
    transaction.set_name("other orders").set_http_status(503).set_measurement("n", 1.0, "");
    child.finish_at(SystemTime::UNIX_EPOCH);
}

#[test]
fn every_type_of_value_allocates_nothing() {
    let session = Session::start(|config| config.transport = Delivery::Null);
    let owned = String::from("owned");
    let strings = vec![String::from("a"), String::from("b")];
    let cow: Cow<'_, str> = Cow::Borrowed("cow");
    let allocated = steady(|| {
        let mut transaction = transaction();
        macro_rules! set {
            ($($name:literal: $value:expr;)*) => { $(
                transaction.set_data($name, $value).set_tag($name, $value);
            )* };
        }
        set! {
            "bool": true;
            "i8": i8::MIN; "i16": i16::MIN; "i32": i32::MIN; "i64": i64::MIN; "i128": i128::MIN;
            "u8": u8::MAX; "u16": u16::MAX; "u32": u32::MAX; "u64": u64::MAX; "u128": u128::MAX;
            "isize": -1_isize; "usize": 1_usize; "f32": 0.5_f32; "f64": f64::NAN;
            "str": "text"; "string": &owned; "cow": &cow;
            "bools": [true, false]; "i8s": [1_i8; 3]; "i16s": [1_i16; 3]; "i32s": [1_i32; 3];
            "i64s": [1_i64; 3]; "i128s": [1_i128; 3]; "u8s": [1_u8; 3]; "u16s": [1_u16; 3];
            "u32s": [1_u32; 3]; "u64s": [1_u64; 300]; "u128s": [1_u128; 3]; "isizes": [1_isize; 3];
            "usizes": [1_usize; 3]; "f32s": [1_f32; 3]; "f64s": [1_f64; 3];
            "strs": ["a", "b"]; "strings": &strings; "slice": &[1_u32, 2][..];
        }
    });
    assert_eq!(allocated, 0);
    session.end();
}

#[test]
fn names_seen_before_allocate_nothing() {
    static OP: Name = Name::new("static.op");
    static KEY: Name = Name::new("static.key");
    let session = Session::start(|config| config.transport = Delivery::Null);
    // More than a thread's cache of names holds, so the table is asked, too.
    let names: Vec<String> = (0..3000).map(|n| format!("order {n}")).collect();
    let use_all = || {
        for name in &names {
            let mut transaction = start_transaction(&OP, name);
            transaction.start_child("step", name.as_str()).set_data(name, 1).set_tag(&KEY, 1);
            transaction.set_name(Cow::Borrowed(name.as_str()));
        }
    };
    assert!(allocations(use_all) > 0, "new names are copied, once");
    assert_eq!(allocations(use_all), 0);

    // The same text at another address, as a loop that formats its names has it.
    let mut buffer = String::with_capacity(100);
    let allocated = allocations(|| {
        for n in 0..3000 {
            use std::fmt::Write;
            buffer.clear();
            write!(buffer, "order {n}").unwrap();
            drop(start_transaction(&OP, &buffer));
        }
    });
    assert_eq!(allocated, 0);
    let allocated = steady(|| {
        let _transaction = hotspan::transaction!("macro.op", "macro name");
        let _span = hotspan::span!("macro.op", "macro description");
        let _span = hotspan::span!("macro.op", &names[7]);
    });
    assert_eq!(allocated, 0);
    session.end();
}

fn everything(text: &str) {
    let mut transaction = start_transaction("queue.process", text);
    transaction.set_tag("region", text).set_data("numbers", [1, 2, 3]);
    {
        let mut child = transaction.start_child("db", text);
        child.set_data("text", text).set_http_status(404).set_measurement("size", 3.0, "byte");
        child.set_data_with("lazily", || text);
        let _grandchild = start_child("db", "connect");
    }
    look_around();
    transaction.set_status(SpanStatus::Aborted);
}

fn look_around() {
    let scope = Hub::current().scope();
    if let Some(mut transaction) = scope.transaction() {
        transaction.set_tag("found", true);
        let _child = transaction.start_child("step", "of what was found");
    }
    if let Some(mut span) = scope.span() {
        span.set_data("found", true);
    }
    black_box((scope.transaction().is_some(), scope.span().is_some()));
}

#[test]
fn crossing_threads_allocates_nothing() {
    let session = Session::start(|config| config.transport = Delivery::Null);
    assert_eq!(steady(|| transaction().detach().finish()), 0, "detach and finish");
    let transaction = transaction();
    let context = transaction.context();
    let mut detached = start_child("db", "load").detach();
    assert_eq!(steady(|| _ = black_box(transaction.context())), 0, "a context");
    assert_eq!(steady(|| drop(context.enter())), 0, "enter a context and leave");
    let allocated = steady(|| {
        let mut scope = detached.enter();
        scope.set_data("entered", true);
        drop(start_child("db", "query"));
        drop(scope.start_child("db", "query"));
    });
    assert_eq!(allocated, 0, "enter, children, leave");
    let allocated = steady(|| {
        detached.set_tag("region", "eu").set_data("text", TEXT_200).set_http_status(404);
        detached.set_status(SpanStatus::Aborted).set_measurement("size", 3.0, "byte");
        detached.set_description("renamed").started_at(SystemTime::UNIX_EPOCH);
        black_box((detached.span_id(), detached.trace_id(), detached.is_recording()));
    });
    assert_eq!(allocated, 0, "setters");
    assert_eq!(steady(|| drop(detached.start_child("db", "query"))), 0, "a detached child");
    assert_eq!(steady(|| detached.start_child("a", "b").finish_at(SystemTime::UNIX_EPOCH)), 0);
    drop((detached, transaction));
    session.end();
}

#[test]
fn a_thread_that_others_hand_spans_to_allocates_nothing() {
    let session = Session::start(|config| config.transport = Delivery::Null);
    let (to_worker, at_worker) = std::sync::mpsc::sync_channel::<hotspan::Detached>(4);
    let worker = std::thread::Builder::new().spawn(move || {
        let mut allocated = 0;
        for (n, mut transaction) in at_worker.into_iter().enumerate() {
            let one = allocations(|| {
                transaction.set_tag("worker", true);
                {
                    let _scope = transaction.enter();
                    start_child("step", "work").set_data("n", n);
                }
                transaction.finish();
            });
            // The first ones make the thread's lane.
            allocated += if n < 3 { 0 } else { one };
        }
        allocated
    });
    for _ in 0..ROUNDS {
        to_worker.send(transaction().detach()).unwrap();
    }
    drop(to_worker);
    assert_eq!(worker.unwrap().join().unwrap(), 0);
    session.end();
}

#[test]
fn polling_inside_a_span_allocates_nothing() {
    use std::future::{Future, pending, poll_fn, ready};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    let session = Session::start(|config| config.transport = Delivery::Null);
    let mut waker = Context::from_waker(Waker::noop());
    let transaction = transaction();
    {
        let work = poll_fn(|_| {
            start_child("step", "in a poll").set_data("n", 1);
            Poll::<()>::Pending
        });
        let mut future = pin!(work.in_span(start_child("future", "future")));
        assert_eq!(steady(|| assert!(future.as_mut().poll(&mut waker).is_pending())), 0, "a poll");
    }
    let allocated = steady(|| {
        let mut done = pin!(ready(1).in_span(start_child("future", "done")));
        assert!(done.as_mut().poll(&mut waker).is_ready());
        let mut cancelled = pin!(pending::<()>().in_transaction("future", "cancelled"));
        assert!(cancelled.as_mut().poll(&mut waker).is_pending());
    });
    assert_eq!(allocated, 0, "a future's whole life");
    drop(transaction);
    session.end();
}

#[test]
fn scope_allocates_nothing() {
    let session = Session::start(|config| config.transport = Delivery::Null);
    let allocated = steady(|| {
        let _transaction = transaction();
        let _child = start_child("db", "load");
        look_around();
    });
    assert_eq!(allocated, 0);
    assert_eq!(steady(look_around), 0, "with nothing open");
    session.end();
}

#[test]
fn unsampled_allocates_nothing_not_even_for_new_names() {
    let session = Session::start(|config| {
        config.transport = Delivery::Null;
        config.traces_sample_rate = Some(0.0);
    });
    drop(transaction());
    let names: Vec<String> = (0..ROUNDS).map(|n| format!("never seen {n}")).collect();
    assert_eq!(allocations(|| names.iter().for_each(|name| everything(name))), 0);
    let ending = session.end();
    assert_eq!(ending.after.unsampled - ending.before.unsampled, ROUNDS as u64 + 1);
}

#[test]
fn not_initialised_allocates_nothing_not_even_at_first() {
    let _alone = alone();
    let name = String::from("seen by nobody");
    let allocated = std::thread::Builder::new()
        .spawn(move || allocations(|| (0..ROUNDS).for_each(|_| everything(&name))));
    assert_eq!(allocated.unwrap().join().unwrap(), 0);
}

/// 199 rules for something else, and one for `queue.process`: of all names, or of `orders`.
fn rules(by_name: bool, last: Rule) -> Vec<Rule> {
    let queue = || Some("queue.process".to_owned());
    let other = |n| {
        let text = Some(format!("other {n}"));
        let (op, name) = if by_name { (queue(), text) } else { (text, None) };
        Rule { op, name, rate: Some(1.0), ..Rule::default() }
    };
    let name = by_name.then(|| "orders".to_owned());
    (1..200).map(other).chain([Rule { op: queue(), name, ..last }]).collect()
}

#[test]
fn items_under_rules_allocate_nothing() {
    for rate in [0.0, 1.0] {
        for max_per_second in [None, Some(1e6)] {
            for by_name in [false, true] {
                let last = Rule { rate: Some(rate), max_per_second, ..Rule::default() };
                let session = Session::start(|config| {
                    config.transport = Delivery::Null;
                    config.rules = rules(by_name, last);
                    config.max_per_second = max_per_second;
                });
                let allocated = steady(|| everything("orders"));
                assert_eq!(allocated, 0, "{rate}, {max_per_second:?}, by name: {by_name}");
                session.end();
            }
        }
    }
}

#[test]
fn items_with_a_floor_or_a_sampler_allocate_nothing() {
    let session = Session::start(|config| {
        config.transport = Delivery::Null;
        config.traces_sample_rate = Some(0.1);
        config.floor_per_second = Some(5.0);
        config.traces_sampler = Some(std::sync::Arc::new(|context| {
            let rate = context.custom::<f64>().copied();
            rate.or(context.rate()).unwrap_or(0.0)
        }));
    });
    assert_eq!(steady(|| everything("orders")), 0);
    let rate = 0.5_f64;
    let options = TransactionOptions::new().context(&rate);
    assert_eq!(steady(|| drop(options.start("queue.process", "orders"))), 0);
    session.end();
}

#[test]
fn items_on_trial_allocate_nothing_kept_or_not() {
    for failed in [false, true] {
        let keep = Keep {
            slower_than: Some(Duration::from_secs(3600)),
            slower_than_p99: true,
            failed,
            first: true,
            asked: true,
        };
        let session = Session::start(|config| {
            config.transport = Delivery::Null;
            config.rules = rules(true, Rule { rate: Some(0.0), keep, ..Rule::default() });
        });
        // `everything` ends as aborted.
        assert_eq!(steady(|| everything("orders")), 0, "failures are kept: {failed}");
        assert_eq!(steady(|| _ = transaction().keep()), 0, "asked for");
        assert_eq!(steady(|| _ = transaction().discard()), 0, "asked not to be kept");
        let ending = session.end();
        let discarded = ending.after.discarded.transactions - ending.before.discarded.transactions;
        assert!(discarded >= ROUNDS as u64, "{discarded} were taken back");
    }
}

/// A buffer of the caller's.
struct Buffer {
    bytes: [u8; 1024],
    len: usize,
}

impl std::fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.len..).ok_or(std::fmt::Error)?;
        room.get_mut(..text.len()).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Writes the headers of the innermost span; their length.
fn write_headers() -> usize {
    let mut buffer = Buffer { bytes: [0; 1024], len: 0 };
    hotspan::trace_headers().unwrap().write_http(&mut buffer).unwrap();
    let allowed = hotspan::trace_headers_for("https://stock.example.com/items/5");
    allowed.unwrap().merge_baggage("tenant=blue", &mut buffer).unwrap();
    buffer.len
}

const BAGGAGE: &str = "tenant=blue,sentry-trace_id=4c79f60c11214eb38604f4ae0781bfb2,\
    sentry-public_key=0123456789abcdef0123456789abcdef,sentry-environment=production,\
    sentry-release=shop%402.14.0,sentry-sample_rate=0.25,sentry-sampled=true,\
    sentry-sample_rand=0.123456,sentry-transaction=POST%20%2Forders";

#[test]
fn headers_in_and_out_allocate_nothing() {
    let session = Session::start(|config| {
        config.transport = Delivery::Null;
        config.dsn = Some("https://0123456789abcdef0123456789abcdef@example.com/1".into());
        config.release = Some("shop@2.14.0".into());
        config.environment = Some("production".into());
    });
    let allocated = steady(|| {
        let _transaction = transaction();
        let _span = start_child("http.client", "GET");
        assert!(write_headers() > 300);
    });
    assert_eq!(allocated, 0, "of a trace that begins here");
    assert_eq!(steady(|| assert!(write_headers() > 300)), 0, "outside of any");
    for flag in ["-0", "-1", ""] {
        let sentry_trace = format!("4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052{flag}");
        let headers = [("Sentry-Trace", sentry_trace.as_str()), ("baggage", BAGGAGE)];
        let allocated = steady(|| {
            let incoming = hotspan::continue_from(headers);
            let _transaction = incoming.start_transaction("queue.process", "orders");
            let _span = start_child("http.client", "GET");
            assert!(write_headers() > 300);
        });
        assert_eq!(allocated, 0, "continued, {flag:?}");
    }
    session.end();
}

#[test]
fn a_full_ring_allocates_nothing() {
    let session = Session::start(|config| {
        config.transport = Delivery::Null;
        config.ring_slots = 64;
        config.flush_interval = Duration::from_secs(3600);
    });
    assert_eq!(steady(|| everything("orders")), 0);
    let full = hotspan::Reason::RingFull;
    assert!(lost_between(&session.before, &hotspan::stats(), full).transactions > 900);
    session.end();
}
