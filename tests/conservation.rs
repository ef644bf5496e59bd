//! Nothing is lost in silence, whatever goes wrong: what was started is delivered or counted as
//! dropped, once, at every look while it runs and exactly at the end; and delivered is what the
//! transport saw.
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

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hotspan::transport::{Envelope, Response, SendError, Transport};
use hotspan::{Count, Reason, Stats, start_child, start_transaction, stats};

mod support;

use support::envelope::Opened;
use support::session::{LONG, alone, config, count, lost_between};

/// Keeps what it gets, and answers each transaction as the function says, which may do anything.
#[derive(Clone)]
struct Sink<F> {
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Transactions so far, from 0.
    answer: F,
    sent: u64,
}

impl<F: FnMut(u64) -> Result<Response, SendError>> Sink<F> {
    fn new(answer: F) -> Self {
        Self { seen: Arc::default(), answer, sent: 0 }
    }
}

impl<F: FnMut(u64) -> Result<Response, SendError> + Send> Transport for Sink<F> {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        let bytes = envelope.as_bytes();
        if !is_transaction(bytes) {
            return Ok(Response::status(200));
        }
        self.sent += 1;
        let response = (self.answer)(self.sent - 1)?;
        if response.status == 200 {
            self.seen.lock().unwrap().push(bytes.to_vec());
        }
        Ok(response)
    }
}

fn is_transaction(envelope: &[u8]) -> bool {
    let item = envelope.split(|byte| *byte == b'\n').nth(1).unwrap();
    item.starts_with(br#"{"type":"transaction""#)
}

/// Counts what arrived; no span may come twice.
fn arrived(seen: &Mutex<Vec<Vec<u8>>>) -> Count {
    let mut ids = HashSet::new();
    let mut sum = Count::default();
    for envelope in seen.lock().unwrap().iter() {
        let opened = Opened::new(envelope);
        sum += opened.count();
        assert!(opened.span_ids().all(|id| ids.insert(id)), "a span came twice");
    }
    assert_eq!(ids.len() as u64, sum.spans);
    sum
}

/// Checks the books again and again, beside the loop.
fn watch(over: &AtomicBool, pause: Duration) -> u64 {
    let mut last = stats();
    let mut looks = 0;
    while !over.load(Ordering::SeqCst) {
        let now = stats();
        now.check().unwrap();
        assert_not_backwards(&last, &now);
        last = now;
        looks += 1;
        thread::sleep(pause);
    }
    looks
}

fn assert_not_backwards(last: &Stats, now: &Stats) {
    let counts = |stats: &Stats| {
        let mut all = vec![stats.started, stats.delivered, stats.discarded];
        all.extend(reasons().map(|reason| stats.dropped.get(&reason).copied().unwrap_or_default()));
        all
    };
    for (before, after) in counts(last).into_iter().zip(counts(now)) {
        assert!(before.transactions <= after.transactions, "{last:#?}\n{now:#?}");
        assert!(before.spans <= after.spans, "{last:#?}\n{now:#?}");
    }
    let numbers = |s: &Stats| {
        [s.unsampled, s.attributes_lost, s.attributes_dropped, s.cut, s.late, s.misnested]
            .map(Some)
            .into_iter()
            .chain([Some(s.threads.cycles), Some(s.rings.made as u64)])
            .collect::<Vec<_>>()
    };
    for (before, after) in numbers(last).into_iter().zip(numbers(now)) {
        assert!(before <= after, "{last:#?}\n{now:#?}");
    }
}

fn reasons() -> impl Iterator<Item = Reason> {
    use Reason::*;
    [RingFull, Unfinished, TooDeep, TransactionLimit, Evicted, Invalid, QueueFull, RateLimited]
        .into_iter()
        .chain([Refused, SendError, NetworkError, Internal, AfterShutdown, ShutdownDeadline])
}

/// After closing: nothing open, nothing on the way, and all of it accounted for.
fn assert_exact(before: &Stats, after: &Stats, started: Count, arrived: Count) {
    after.check().unwrap();
    assert!(after.is_at_rest(), "{after}");
    assert_eq!(after.held(), Count::default(), "{after}");
    assert_eq!(
        after.started,
        after.delivered + after.dropped_in_all() + after.discarded,
        "{after}"
    );
    assert_eq!(after.started - before.started, started, "{after}");
    assert_eq!(after.delivered - before.delivered, arrived, "{after}");
}

const THREADS: u64 = 4;
const SPANS_PER_THREAD: u64 = 250_000;
const SPANS_PER_ITEM: u64 = 10;
const CHILDREN_KEPT: usize = 8;

/// Ten spans, in one of several ways; some of which cannot all be kept.
fn item(n: u64) {
    let mut transaction = start_transaction("queue.process", "orders");
    transaction.set_tag("queue", "orders").set_data("n", n);
    match n % 100 {
        // Never ended, or ended too late.
        0 => {
            std::mem::forget(start_child("step", "forgotten"));
            (1..SPANS_PER_ITEM - 1).for_each(|_| drop(start_child("step", "after it")));
        }
        1 => {
            let late = start_child("step", "late");
            (1..SPANS_PER_ITEM - 1).for_each(|_| drop(start_child("step", "in it")));
            drop(transaction);
            drop(late);
        }
        2 => {
            let all: Vec<_> = (1..SPANS_PER_ITEM).map(|_| start_child("step", "nested")).collect();
            all.into_iter().for_each(drop);
        }
        // One child more than is kept.
        3 => (1..SPANS_PER_ITEM).for_each(|_| drop(start_child("step", "many"))),
        _ => {
            for step in 3..SPANS_PER_ITEM {
                start_child("step", "usual").set_data("step", step).set_tag("hot", true);
            }
            drop(start_child("step", "last").start_child("step", "below the last"));
        }
    }
}

#[test]
fn four_threads_against_a_slow_transport() {
    let _alone = alone();
    let before = stats();
    let early = before.clone();
    let sink = Sink::new(move |sent| {
        // However slow the processor is, the first answer takes longer than the queue has room.
        let is_full = || lost_between(&early, &stats(), Reason::QueueFull) != Count::default();
        let mut looks = 0;
        while sent == 0 && looks < 10_000 && !is_full() {
            thread::sleep(Duration::from_millis(1));
            looks += 1;
        }
        thread::sleep(Duration::from_micros(100));
        Ok(Response::status(200))
    });
    let seen = Arc::clone(&sink.seen);
    let mut config = config(move || sink.clone());
    config.ring_slots = 2048;
    config.queue_bytes = 256 << 10;
    config.max_spans = CHILDREN_KEPT;
    let guard = hotspan::init(config).unwrap();

    let over = AtomicBool::new(false);
    let looks = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&over, Duration::from_millis(10)));
        let recording: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    for n in 0..SPANS_PER_THREAD / SPANS_PER_ITEM {
                        item(n);
                        if n == 77 {
                            too_deep();
                        }
                        if n % 250 == 0 {
                            // Long enough in all for a good number of looks.
                            thread::sleep(Duration::from_millis(1));
                        }
                    }
                })
            })
            .collect();
        for thread in recording {
            thread.join().unwrap();
        }
        over.store(true, Ordering::SeqCst);
        watching.join().unwrap()
    });
    assert!(looks >= 8, "{looks} looks");

    let closing = guard.close(LONG);
    let after = stats();
    let mut started =
        count(THREADS * SPANS_PER_THREAD / SPANS_PER_ITEM, THREADS * SPANS_PER_THREAD);
    started += count(THREADS, THREADS * DEEP);
    assert_exact(&before, &after, started, arrived(&seen));
    assert_eq!(closing.delivered + closing.dropped, started);
    assert_eq!(closing.left, Count::default());
    let lost = |reason| lost_between(&before, &after, reason);
    println!("{after}\n{looks} looks");
    for reason in [Reason::RingFull, Reason::QueueFull] {
        assert!(lost(reason).transactions > 0, "no {}: {after}", reason.as_str());
    }
    for reason in [Reason::Unfinished, Reason::TooDeep, Reason::TransactionLimit] {
        assert!(lost(reason).spans > 0, "no {}: {after}", reason.as_str());
        assert_eq!(lost(reason).transactions, 0, "{}: {after}", reason.as_str());
    }
    assert!(after.delivered.transactions - before.delivered.transactions > 100, "{after}");
}

/// A transaction and its open children that can be told apart on a thread, and some more.
const DEEP: u64 = 300;

fn too_deep() {
    let _transaction = start_transaction("queue.process", "too deep");
    let mut open: Vec<_> = (1..DEEP).map(|_| start_child("step", "down")).collect();
    while open.pop().is_some() {}
}

/// Runs `items` small items on one thread against `answer`, and returns the books before and after.
fn against(
    items: u64,
    answer: impl FnMut(u64) -> Result<Response, SendError> + Clone + Send + Sync + 'static,
) -> (Stats, Stats) {
    let sink = Sink::new(answer);
    let seen = Arc::clone(&sink.seen);
    let before = stats();
    let guard = hotspan::init(config(move || sink.clone())).unwrap();
    for _ in 0..items {
        let _transaction = start_transaction("queue.process", "orders");
        drop(start_child("step", "usual"));
    }
    let report = guard.close(LONG);
    let after = stats();
    assert_exact(&before, &after, count(items, 2 * items), arrived(&seen));
    assert_eq!(report.complete, report.dropped == Count::default());
    (before, after)
}

/// A panic without a message on the test's output.
fn panic() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"))
}

#[test]
fn a_transport_that_panics_now_and_then() {
    let _alone = alone();
    let (before, after) =
        against(300, |n| if n % 3 == 1 { panic() } else { Ok(Response::status(200)) });
    assert_eq!(lost_between(&before, &after, Reason::Internal), count(100, 200));
}

#[test]
fn a_transport_that_always_panics() {
    let _alone = alone();
    let calls = Arc::new(AtomicU64::new(0));
    let (before, after) = {
        let calls = Arc::clone(&calls);
        against(300, move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            panic()
        })
    };
    assert_eq!(lost_between(&before, &after, Reason::Internal), count(300, 600));
    assert_eq!(calls.load(Ordering::SeqCst), 5, "it is called no more after five in a row");
}

#[test]
fn a_transport_without_an_answer() {
    let _alone = alone();
    let (before, after) = against(300, |n| {
        if n % 3 == 0 { Err(SendError::new("no route")) } else { Ok(Response::status(200)) }
    });
    assert_eq!(lost_between(&before, &after, Reason::NetworkError), count(100, 200));
}

#[test]
fn a_server_that_fails_and_then_limits() {
    let _alone = alone();
    // From the eleventh on, everything is limited for a minute.
    let (before, after) = against(300, |n| Ok(Response::status(if n == 10 { 429 } else { 500 })));
    let lost = |reason| lost_between(&before, &after, reason);
    assert_eq!(lost(Reason::SendError), count(10, 20));
    assert_eq!(lost(Reason::Refused), count(1, 2));
    assert_eq!(lost(Reason::RateLimited), count(289, 578));
}

#[test]
fn a_transport_that_hangs() {
    let _alone = alone();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let returned = Arc::new(AtomicBool::new(false));
    let sink = {
        let (gate, returned) = (Arc::clone(&gate), Arc::clone(&returned));
        Sink::new(move |n| {
            if n == 5 {
                let (open, changed) = &*gate;
                drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
                returned.store(true, Ordering::SeqCst);
            }
            Ok(Response::status(200))
        })
    };
    let before = stats();
    let guard = hotspan::init(config(move || sink.clone())).unwrap();
    for _ in 0..300 {
        drop(start_transaction("queue.process", "orders"));
    }
    assert!(!guard.flush(Duration::from_millis(200)).complete);
    let start = Instant::now();
    let report = guard.close(Duration::from_millis(300));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(!report.complete);
    let after = stats();
    assert_exact(&before, &after, count(300, 300), count(5, 5));
    assert_eq!(lost_between(&before, &after, Reason::ShutdownDeadline), count(295, 295));

    // It comes back when everything is settled: nothing is counted again.
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    while !returned.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(50));
    let later = stats();
    later.check().unwrap();
    assert_eq!((later.delivered, &later.dropped), (after.delivered, &after.dropped));
}

#[test]
fn forgotten_transactions_and_threads_that_end_too_early() {
    let _alone = alone();
    let sink = Sink::new(|_| Ok(Response::status(200)));
    let seen = Arc::clone(&sink.seen);
    let before = stats();
    let guard = hotspan::init(config(move || sink.clone())).unwrap();
    let on_a_thread = |run: fn()| thread::Builder::new().spawn(run).unwrap().join().unwrap();
    for _ in 0..50 {
        on_a_thread(|| {
            std::mem::forget(start_transaction("queue.process", "forgotten"));
            drop(start_child("step", "ended"));
            std::mem::forget(start_child("step", "forgotten"));
            // An independent root inside: delivered.
            drop(start_transaction("queue.process", "inside"));
        });
        on_a_thread(|| {
            // Held in a thread-local whose destructor runs when the thread ends.
            thread_local! {
                static HELD: std::cell::RefCell<Vec<hotspan::Transaction>> = const {
                    std::cell::RefCell::new(Vec::new())
                };
            }
            HELD.with_borrow_mut(|held| held.push(start_transaction("queue.process", "held")));
        });
    }
    // More than a thread keeps open at once.
    on_a_thread(|| {
        for _ in 0..100 {
            std::mem::forget(start_transaction("queue.process", "forgotten"));
            drop(start_child("step", "ended"));
        }
    });
    stats().check().unwrap();
    drop(guard);
    let after = stats();
    let arrived = arrived(&seen);
    let held_delivered = arrived.transactions - 50;
    assert!(held_delivered <= 50, "{arrived:?}");
    assert_exact(&before, &after, count(50 * 3 + 100, 50 * 5 + 200), arrived);
}

#[test]
fn starting_and_closing_again_and_again_while_threads_record() {
    let _alone = alone();
    let sink = Sink::new(|_| Ok(Response::status(200)));
    let seen = Arc::clone(&sink.seen);
    let before = stats();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&over, Duration::ZERO));
        let recording: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut n = 4;
                    while !over.load(Ordering::SeqCst) {
                        let outer = start_transaction("queue.process", "outer");
                        item(n);
                        drop(outer.start_child("step", "of the outer"));
                        thread::sleep(Duration::from_micros(n % 100));
                        n += 1;
                    }
                })
            })
            .collect();
        for _ in 0..20 {
            let sink = sink.clone();
            let guard = hotspan::init(config(move || sink.clone())).unwrap();
            thread::sleep(Duration::from_millis(10));
            let report = guard.close(LONG);
            assert!(report.delivered.transactions > 0, "{report:?}");
        }
        over.store(true, Ordering::SeqCst);
        recording.into_iter().for_each(|thread| thread.join().unwrap());
        watching.join().unwrap();
    });
    // What was published when nobody looked any more is found by the next.
    drop(hotspan::init(config(move || sink.clone())).unwrap());
    let after = stats();
    println!("{after}");
    let started = after.started - before.started;
    assert_exact(&before, &after, started, arrived(&seen));
    let lost = lost_between(&before, &after, Reason::AfterShutdown);
    assert!(lost.transactions > 0, "{after}");
}

#[test]
fn two_thousand_threads_leave_no_more_rings_than_were_alive_at_once() {
    let _alone = alone();
    let sink = Sink::new(|_| Ok(Response::status(200)));
    let seen = Arc::clone(&sink.seen);
    let before = stats();
    let guard = hotspan::init(config(move || sink.clone())).unwrap();
    const AT_ONCE: usize = 8;
    for _ in 0..2000 / AT_ONCE {
        let run = || {
            let _transaction = start_transaction("queue.process", "short");
            drop(start_child("step", "usual"));
        };
        let threads = [(); AT_ONCE].map(|()| thread::Builder::new().spawn(run).unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // The flusher hands on what ended.
        assert!(guard.flush(LONG).complete);
    }
    let made = stats().rings.made;
    drop(guard);
    assert_exact(&before, &stats(), count(2000, 4000), arrived(&seen));
    let new = made - before.rings.made;
    assert!(new <= AT_ONCE, "{new} rings");
    assert_eq!(stats().rings.live, before.rings.live);
}
