//! Nothing is allocated per transaction behind the recording threads either: not in the flusher up
//! to the finished bytes, nor in the uploader with a transport that throws them away.
//!
//! The threads of the library cannot be told apart from outside, so everything in the process is
//! counted but the recording threads, which `zero_alloc.rs` looks at and whose `flush` asks for the
//! books: this binary holds one test, and while it runs there is nobody else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "helpers of tests panic as tests do"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use hotspan::transport::{Envelope, Response, SendError, Transport};
use hotspan::{
    Config, Delivery, Detached, Guard, Keep, Rule, SpanStatus, start_child, start_transaction,
};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_RECORDING: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    if !IS_RECORDING.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: every call is handed on to the system's allocator as it came; counting touches an atomic
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

fn item(n: u64) {
    let mut transaction = start_transaction("queue.process", "orders");
    transaction.set_tag("queue", "orders").set_tag("shard", n % 7).set_data("n", n);
    for step in ["read", "parse", "hash"] {
        let mut child = start_child("step", step);
        child.set_data("bytes", n).set_data("text", TEXT);
        child.set_data("list", [n, n + 1]).set_http_status(404);
    }
    transaction.set_measurement("size", 3.0, "byte");
}

/// Two threads that work on the same items: their transactions lie in two rings.
struct Across {
    to_worker: SyncSender<(u64, Detached)>,
    from_worker: Receiver<()>,
    worker: JoinHandle<()>,
}

impl Across {
    fn new() -> Self {
        let (to_worker, at_worker) = sync_channel::<(u64, Detached)>(0);
        let (done, from_worker) = sync_channel(0);
        let work = move || {
            IS_RECORDING.set(true);
            for (n, mut transaction) in at_worker {
                {
                    let mut scope = transaction.enter();
                    scope.set_tag("shard", n % 5);
                    start_child("step", "work").set_data("text", TEXT);
                }
                transaction.set_measurement("size", 3.0, "byte");
                let is_one_of_ten = n % 10 == 0;
                let (failed, ok) = (SpanStatus::Aborted, SpanStatus::Ok);
                transaction.set_status(if is_one_of_ten { failed } else { ok });
                transaction.finish();
                done.send(()).unwrap();
            }
        };
        let worker = Builder::new().spawn(work).unwrap();
        Self { to_worker, from_worker, worker }
    }

    fn item(&self, n: u64) {
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.set_tag("queue", "orders").set_tag("shard", n % 7);
        start_child("step", "read").set_data("list", [n, n + 1]);
        self.to_worker.send((n, transaction.detach())).unwrap();
        self.from_worker.recv().unwrap();
    }

    fn end(self) {
        drop(self.to_worker);
        self.worker.join().unwrap();
    }
}

/// Allocations of the other threads in steady state: `rounds` times `burst` transactions and a
/// flush.
fn steady(guard: &Guard, rounds: u64, burst: u64, item: &impl Fn(u64)) -> u64 {
    let run = || {
        for round in 0..rounds {
            (0..burst).for_each(|n| item(1_000_000 + round * burst + n));
            assert!(guard.flush(WAIT).complete);
        }
    };
    // Buffers grow to the longest text and the largest batch.
    run();
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    run();
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

const WAIT: Duration = Duration::from_secs(60);
const TEXT: &str = "some text that takes more than forty bytes";

#[test]
fn nothing_is_allocated_per_transaction_anywhere() {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    let elsewhere = Builder::new().spawn(|| drop(black_box(Box::new(1))));
    elsewhere.unwrap().join().unwrap();
    assert!(ALLOCATIONS.load(Ordering::SeqCst) > before, "the counter counts");
    IS_RECORDING.set(true);

    let guard = hotspan::init(Config {
        transport: Delivery::Null,
        traces_sample_rate: Some(1.0),
        ..Config::default()
    })
    .unwrap();
    // One at a time, and a look's worth at a time. How many buffers that takes depends on how far
    // the uploader lags behind: there is a steady state once the worst was seen.
    assert!((0..5).any(|_| steady(&guard, 300, 1, &item) == 0), "one at a time");
    assert!((0..20).any(|_| steady(&guard, 30, 100, &item) == 0), "a hundred at a time");
    // More than there are spare buffers for: the rest is made anew, at once large enough, and
    // freed.
    let allocated = steady(&guard, 5, 1000, &item);
    println!("{allocated} allocations for 5000 transactions in bursts of 1000");
    assert!(allocated <= 5000, "{allocated}");

    let across = Across::new();
    let item = |n| across.item(n);
    assert!((0..5).any(|_| steady(&guard, 50, 1, &item) == 0), "in two rings, one at a time");
    assert!((0..20).any(|_| steady(&guard, 10, 100, &item) == 0), "in two rings, a hundred");
    let allocated = steady(&guard, 2, 1000, &item);
    println!("{allocated} allocations for 2000 transactions in two rings, in bursts of 1000");
    assert!(allocated <= 4000, "{allocated}");
    across.end();
    let report = guard.close(WAIT);
    assert!(report.complete && report.delivered.transactions >= 2 * (300 + 3000 + 5000));
    several_at_a_time_allocate_nothing();
    trials_that_the_flusher_ends_allocate_nothing();
    watching_allocates_for_reports_only();
}

/// Takes up to 64 envelopes at a time, and throws them away.
struct Many(Arc<AtomicU64>);

impl Transport for Many {
    fn send(&mut self, _: &Envelope<'_>) -> Result<Response, SendError> {
        Ok(Response::status(200))
    }

    fn at_once(&self) -> usize {
        64
    }

    fn send_all(
        &mut self,
        envelopes: &[Envelope<'_>],
        answered: &mut dyn FnMut(usize, Result<Response, SendError>),
    ) {
        self.0.fetch_max(envelopes.len() as u64, Ordering::SeqCst);
        for place in (0..envelopes.len()).rev() {
            answered(place, Ok(Response::status(200)));
        }
    }
}

/// A look's worth, of which an uploader takes what it finds.
fn several_at_a_time_allocate_nothing() {
    let most = Arc::new(AtomicU64::new(0));
    let make = {
        let most = Arc::clone(&most);
        move || Box::new(Many(Arc::clone(&most))) as Box<dyn Transport>
    };
    let guard = hotspan::init(Config {
        transport: Delivery::Custom(Arc::new(make)),
        traces_sample_rate: Some(1.0),
        ..Config::default()
    })
    .unwrap();
    assert!((0..20).any(|_| steady(&guard, 30, 100, &item) == 0), "lots");
    assert!(guard.close(WAIT).complete);
    assert!(most.load(Ordering::SeqCst) > 1);
}

/// Nine of ten are not kept, one is.
fn trials_that_the_flusher_ends_allocate_nothing() {
    let guard = hotspan::init(Config {
        transport: Delivery::Null,
        traces_sample_rate: Some(0.0),
        rules: vec![Rule { keep: Keep { failed: true, ..Keep::default() }, ..Rule::default() }],
        // Reports are made of text.
        send_client_reports: false,
        ..Config::default()
    })
    .unwrap();
    let across = Across::new();
    let item = |n| across.item(n);
    assert!((0..20).any(|_| steady(&guard, 10, 100, &item) == 0), "trials");
    across.end();
    let report = guard.close(WAIT);
    assert!(report.complete && report.discarded.transactions == 9 * report.delivered.transactions);
    assert!(report.delivered.transactions >= 200);
}

/// Looks at what is open, on a thread and detached, once all of it was reported.
fn watching_allocates_for_reports_only() {
    const OPEN: u64 = 100;
    let guard = hotspan::init(Config {
        transport: Delivery::Null,
        traces_sample_rate: Some(1.0),
        flush_interval: Duration::from_millis(1),
        stuck_after: Some(Duration::from_millis(8)),
        on_stuck: Some(Arc::new(|open| drop(black_box(open.name.clone())))),
        ..Config::default()
    })
    .unwrap();
    let open: Vec<_> = (1..OPEN).map(|_| start_transaction("op", "detached").detach()).collect();
    let transaction = start_transaction("op", "on its thread");
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    wait_until(|stats| stats.stuck == OPEN);
    assert!(ALLOCATIONS.load(Ordering::SeqCst) > before, "reports are made of text");
    let looks = |count| {
        let cycles = hotspan::stats().threads.cycles;
        wait_until(|stats| stats.threads.cycles >= cycles + count);
    };
    looks(10);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    looks(100);
    assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0);
    drop((open, transaction));
    assert!(guard.close(WAIT).complete);
}

fn wait_until(done: impl Fn(&hotspan::Stats) -> bool) {
    while !done(&hotspan::stats()) {
        std::thread::sleep(Duration::from_millis(1));
    }
}
