//! The library started and stopped again and again while threads record: each generation's report
//! adds up with what its transport saw, at the end everything is accounted for, and nothing grows.
//!
//! `HOTSPAN_GENERATIONS` says how many there are (200); `scripts/generations` runs more.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests may panic, print, and ask the real clock"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hotspan::transport::{Envelope, Response, SendError, Transport};
use hotspan::{Config, Count, Detached, stats};

mod support;

use support::process::{Size, env_number};
use support::session::{LONG, config};

static STOP: AtomicBool = AtomicBool::new(false);

/// Ends the threads, also when the test fails.
struct Stop;

impl Drop for Stop {
    fn drop(&mut self) {
        STOP.store(true, Ordering::Relaxed);
    }
}

/// Counts the transactions that it is given; none may have begun before its generation did.
#[derive(Clone, Default)]
struct Counting {
    transactions: Arc<AtomicU64>,
    since: f64,
}

impl Counting {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        // The library's clock is tied to the system's by readings one after the other.
        Self { transactions: Arc::default(), since: since - 0.001 }
    }
}

impl Transport for Counting {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        let text = std::str::from_utf8(envelope.as_bytes()).unwrap();
        let mut lines = text.lines();
        if lines.nth(1).unwrap().contains("\"transaction\"") {
            self.transactions.fetch_add(1, Ordering::Relaxed);
            for start in lines.next().unwrap().split("\"start_timestamp\":").skip(1) {
                let start = start.split([',', '}']).next().unwrap().parse::<f64>().unwrap();
                assert!(start >= self.since, "begun in an earlier generation: {text}");
            }
        }
        Ok(Response::status(200))
    }
}

fn thread_bound(begun: &AtomicU64) {
    let transaction = hotspan::start_transaction("queue.process", "thread-bound");
    begun.fetch_add(u64::from(transaction.is_recording()), Ordering::Relaxed);
    for _ in 0..5 {
        let mut span = hotspan::start_child("step", "of many");
        span.set_data("number", 5_u64);
    }
}

fn begin_detached(begun: &AtomicU64) -> Detached {
    let transaction = hotspan::start_transaction("queue.process", "detached");
    begun.fetch_add(u64::from(transaction.is_recording()), Ordering::Relaxed);
    let transaction = transaction.detach();
    drop(transaction.start_child("step", "of a detached one"));
    transaction
}

#[test]
fn generations_add_up_and_leave_nothing_behind() {
    let generations = env_number("HOTSPAN_GENERATIONS", 200);
    let memory_max = 8 << 20;
    let begun = Arc::new(AtomicU64::new(0));
    let mut sizes = Vec::new();
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<Detached>(16);
        let work = |mut work: Box<dyn FnMut(&AtomicU64) + Send>| {
            let begun = Arc::clone(&begun);
            scope.spawn(move || {
                while !STOP.load(Ordering::Relaxed) {
                    work(&begun);
                    thread::yield_now();
                }
            });
        };
        (0..4).for_each(|_| work(Box::new(thread_bound)));
        work(Box::new(|begun| drop(begin_detached(begun))));
        // Open over several looks, and sometimes over several generations.
        work(Box::new(|begun| {
            let _open = begin_detached(begun);
            thread::sleep(Duration::from_millis(7));
        }));
        // Begun by one, gone on with and ended by another.
        work(Box::new(move |begun| _ = sender.try_send(begin_detached(begun))));
        work(Box::new(move |_| {
            for transaction in receiver.try_iter().take(16) {
                let context = transaction.context();
                drop(context.enter().start_child("step", "elsewhere"));
            }
        }));
        let _stop = Stop;
        for generation in 0..generations {
            one_generation(generation);
            if generation % (generations / 4) == generations / 4 - 1 {
                sizes.push(Size::now());
            }
        }
    });
    // What was open or published when the last one closed belongs to the next.
    let _ = hotspan::init(small(&Counting::new())).unwrap().close(LONG);
    let end = stats();
    end.check().unwrap();
    assert!(end.is_at_rest(), "{end}");
    assert_eq!(end.started, end.delivered + end.dropped_in_all() + end.discarded, "{end}");
    assert_eq!(end.started.transactions, begun.load(Ordering::Relaxed), "{end}");
    assert!(end.delivered.transactions > generations, "{end}");

    sizes.push(Size::at_rest(|size| size.threads <= 2));
    let (early, late) = (&sizes[0], &sizes[sizes.len() - 1]);
    println!("{generations} generations: {early:?}, at the end {late:?}\n{end}");
    assert!(late.resident <= early.resident + memory_max, "{early:?} {late:?}");
    // The eight, this one, and who may have been counted twice while one took over from another.
    assert!(end.rings.made <= 10, "{} rings", end.rings.made);
    assert!(late.files <= early.files, "{early:?} {late:?}");
    // The test, and the harness's main thread; none where that is not known.
    assert!(matches!(late.threads, 0 | 2), "{late:?}");
}

/// Bounds that are soon reached.
fn small(transport: &Counting) -> Config {
    let transport = transport.clone();
    Config { ring_bytes: 4 << 20, ring_slots: 2048, ..config(move || transport.clone()) }
}

fn one_generation(generation: u64) {
    let transport = Counting::new();
    let before = stats();
    let guard = hotspan::init(small(&transport)).unwrap();
    thread::sleep(Duration::from_micros(generation % 16 * 100));
    if generation.is_multiple_of(5) {
        let report = guard.flush(LONG);
        assert!(report.complete, "{report:?}");
    }
    stats().check().unwrap();
    let report = guard.close(LONG);
    let after = stats();
    after.check().unwrap();

    assert_eq!(report.delivered.transactions, transport.transactions.load(Ordering::Relaxed));
    assert_eq!(difference(after.delivered, before.delivered), report.delivered, "{report:?}");
    // Not by the report's own subtraction. What was open when the last generation closed ends in
    // this one. Nothing is begun between two of them.
    let open =
        difference(before.started, before.delivered + before.dropped_in_all() + before.discarded);
    let had = difference(stats().started, before.started) + open;
    let ended = report.delivered + report.dropped + report.discarded + report.left;
    assert!(ended.transactions <= had.transactions, "{report:?} {after}");
    assert!(ended.spans <= had.spans, "{report:?} {after}");
}

fn difference(a: Count, b: Count) -> Count {
    Count { transactions: a.transactions - b.transactions, spans: a.spans - b.spans }
}
