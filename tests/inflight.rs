//! The list of what is in flight under full load: never torn, and no brake on who records.
//!
//! Every record proves itself: a transaction is named by a number made of its trace id, a step by
//! the same number, a part by one made of its own span id. A record put together from two moments
//! gives itself away.
//!
//! The short test runs with the others; the long one and the figures are `scripts/inflight`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests may panic, start threads, read the clock and print"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hotspan::{Delivery, InFlight, Name, inflight, start_child, start_transaction};

mod support;

use support::session::Session;

const NUMBERS: usize = 64;
/// What a transaction or part is called until its number is known.
const FRESH: &str = "fresh";

fn names() -> Vec<String> {
    (0..NUMBERS).map(|number| number.to_string()).collect()
}

/// A number from the last digits of an id.
fn number(hex: &[u8]) -> usize {
    let [.., a, b] = hex else { panic!("too short") };
    let digit = |byte: u8| usize::from(if byte > b'9' { byte - b'a' + 10 } else { byte - b'0' });
    (digit(*a) * 16 + digit(*b)) % NUMBERS
}

/// Steps and parts, each part named by itself.
fn work(names: &[String], number_of_item: usize) {
    for _ in 0..2 {
        let _step = start_child("step", &*names[number_of_item]);
        let mut part = start_child("part", FRESH);
        let own = number(&part.span_id().unwrap().to_hex());
        part.set_description(&*names[own]);
        part.set_data("own", own);
    }
}

/// Items one after the other, every other one detached and entered again.
fn record(names: &[String], done: &AtomicBool) {
    for round in 0_u32.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let mut transaction = start_transaction("item", FRESH);
        let number = number(&transaction.trace_id().unwrap().to_hex());
        transaction.set_name(&*names[number]).set_tag("number", number);
        work(names, number);
        if round.is_multiple_of(2) {
            continue;
        }
        let transaction = transaction.detach();
        {
            let _scope = transaction.enter();
            work(names, number);
        }
        let step = transaction.start_child("step", &*names[number]);
        let _scope = step.enter();
        work(names, number);
    }
}

/// What a record shows of the load: an item, a step, a part.
fn check(open: &InFlight) -> usize {
    let of_trace = number(&open.trace_id.to_hex()).to_string();
    let of_span = number(&open.span_id.to_hex()).to_string();
    let InFlight { op, name, span_op, span_description, .. } = open;
    assert_eq!(op, "item", "{open:?}");
    assert!(open.thread_name.as_deref().is_some_and(|name| name.starts_with("writer")), "{open:?}");
    assert!(open.span_age <= open.age, "{open:?}");
    assert!(open.age < Duration::from_secs(3600), "{open:?}");
    let is_item = span_op == "item";
    assert!(*name == of_trace || (is_item && name == FRESH), "torn: {open:?}");
    match span_op.as_str() {
        "item" => {
            assert_eq!(span_description, name, "torn: {open:?}");
            assert_eq!(open.span_age, open.age, "torn: {open:?}");
            0
        }
        "step" => {
            assert_eq!(*span_description, of_trace, "torn: {open:?}");
            1
        }
        "part" => {
            assert!(*span_description == of_span || span_description == FRESH, "torn: {open:?}");
            2
        }
        _ => panic!("torn: {open:?}"),
    }
}

/// Writers flat out and readers flat out, until `enough` records of each sort were read, or for
/// that long. How many were read.
fn load(writers: usize, readers: usize, is_enough: impl Fn([u64; 3]) -> bool + Sync) -> u64 {
    let session = Session::start(|config| config.transport = Delivery::Null);
    let (names, done) = (names(), AtomicBool::new(false));
    let seen = [const { AtomicU64::new(0) }; 3];
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..writers {
            let thread = thread::Builder::new().name(format!("writer-{writer}"));
            thread.spawn_scoped(scope, || record(&names, &done)).unwrap();
        }
        for _ in 0..readers {
            scope.spawn(|| {
                // Whoever fails lets the others end, too.
                let _end = End(&done, &failed);
                while !done.load(Ordering::Relaxed) {
                    for open in inflight() {
                        seen[check(&open)].fetch_add(1, Ordering::Relaxed);
                    }
                    if is_enough(seen.each_ref().map(|count| count.load(Ordering::Relaxed))) {
                        return;
                    }
                }
            });
        }
    });
    assert!(!failed.load(Ordering::Relaxed));
    let ending = session.end();
    assert!(ending.after.delivered.transactions > ending.before.delivered.transactions);
    seen.iter().map(|count| count.load(Ordering::Relaxed)).sum()
}

struct End<'a>(&'a AtomicBool, &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.fetch_or(thread::panicking(), Ordering::Relaxed);
    }
}

#[test]
fn no_record_is_torn_under_full_load() {
    for (writers, readers) in [(1, 3), (3, 2)] {
        load(writers, readers, |seen| seen.iter().all(|count| *count > 2_000));
    }
}

/// What an environment variable says, in seconds.
fn seconds(variable: &str, or: u64) -> Duration {
    let text = std::env::var(variable).ok();
    Duration::from_secs(text.map_or(or, |text| text.parse().unwrap()))
}

#[test]
#[ignore = "a minute: scripts/inflight"]
fn no_record_is_torn_in_a_long_run() {
    let time = seconds("INFLIGHT_SECONDS", 60);
    for (writers, readers) in [(1, 4), (4, 4)] {
        let start = Instant::now();
        let read = load(writers, readers, |_| start.elapsed() >= time);
        println!("{writers} writers, {readers} readers, {time:?}: {read} records read, none torn");
    }
}

static OP: Name = Name::new("queue.process");
static NAME: Name = Name::new("orders");
static STEP: Name = Name::new("step");
static KEY: Name = Name::new("key");

/// Nanoseconds for an item of a transaction, three children and a tag.
fn round() -> f64 {
    const ITEMS: u32 = 100_000;
    let start = spent();
    for n in 0..ITEMS {
        let mut transaction = start_transaction(&OP, &NAME);
        transaction.set_tag(&KEY, n);
        for _ in 0..3 {
            drop(black_box(start_child(&STEP, &STEP)));
        }
    }
    (spent() - start).as_nanos() as f64 / f64::from(ITEMS)
}

/// The thread's processor time where the system tells it: on a busy machine the wall clock says
/// more about the neighbours.
fn spent() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat");
    match text.ok().and_then(|text| text.split(' ').next()?.parse().ok()) {
        Some(nanos) => Duration::from_nanos(nanos),
        None => START.get_or_init(Instant::now).elapsed(),
    }
}

/// Median and quartiles.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

#[test]
#[ignore = "figures, and they want release: scripts/inflight"]
fn what_a_reader_costs_the_writer() {
    const NOBODY: usize = 0;
    const KILOHERTZ: usize = 1;
    const FLAT_OUT: usize = 2;
    let rounds = seconds("INFLIGHT_ROUNDS", 200).as_secs();
    let session = Session::start(|config| {
        config.transport = Delivery::Null;
        config.ring_bytes = 64 << 20;
        config.ring_slots = 1 << 20;
    });
    let (pace, done, calls) = (AtomicUsize::new(NOBODY), AtomicBool::new(false), AtomicU64::new(0));
    let mut times: [Vec<f64>; 4] = Default::default();
    let mut calls_of = [0; 4];
    let mut spans = [Duration::ZERO; 4];
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if pace.load(Ordering::Relaxed) != NOBODY {
                    black_box(inflight());
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                if pace.load(Ordering::Relaxed) != FLAT_OUT {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        round();
        for _ in 0..rounds {
            // Nobody stands in it twice: what the two differ by is the machine.
            for (at, reader) in [NOBODY, KILOHERTZ, NOBODY, FLAT_OUT].into_iter().enumerate() {
                assert!(session.guard.flush(Duration::from_secs(60)).complete);
                pace.store(reader, Ordering::Relaxed);
                let (before, start) = (calls.load(Ordering::Relaxed), Instant::now());
                times[at].push(round());
                spans[at] += start.elapsed();
                calls_of[at] += calls.load(Ordering::Relaxed) - before;
                pace.store(NOBODY, Ordering::Relaxed);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let names = ["nobody reads", "read at up to 1 kHz", "nobody, again", "read flat out"];
    println!("{:<22}{:>12}{:>30}{:>10}", "", "ns an item", "over nobody, [quartiles]", "reads/s");
    for (at, name) in names.into_iter().enumerate() {
        let ratios = times[at].iter().zip(&times[0]).map(|(with, without)| with / without);
        let [low, middle, high] = quartiles(ratios.collect());
        let [_, nanos, _] = quartiles(times[at].clone());
        let hertz = calls_of[at] as f64 / spans[at].as_secs_f64();
        let ratio = format!("{middle:.4} [{low:.4}, {high:.4}]");
        println!("{name:<22}{nanos:>12.1}{ratio:>30}{hertz:>10.0}");
    }
    session.end();
}
