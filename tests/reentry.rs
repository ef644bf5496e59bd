//! An allocator that records whatever it does, each allocation and each release, those inside of
//! recording calls among them. Nothing hangs, a recording call inside another one returns at once,
//! and all of it is counted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hotspan::{Config, Delivery, Reason, start_child, start_transaction, stats};

struct Recording;

#[global_allocator]
static RECORDING: Recording = Recording;

static CALLS: AtomicU64 = AtomicU64::new(0);
static DEEPEST: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Calls of the allocator that this thread is in.
    static DEPTH: Cell<u64> = const { Cell::new(0) };
    /// Whether allocations of this thread are recorded.
    static RECORDS: Cell<bool> = const { Cell::new(false) };
}

/// Records around `call`.
fn recorded<T>(call: impl FnOnce() -> T) -> T {
    if !RECORDS.try_with(Cell::get).unwrap_or(false) {
        return call();
    }
    CALLS.fetch_add(1, Ordering::Relaxed);
    let depth = DEPTH.get() + 1;
    DEPTH.set(depth);
    DEEPEST.fetch_max(depth, Ordering::Relaxed);
    let transaction = start_transaction("memory", "call");
    let span = start_child("memory", "step");
    let done = call();
    drop((span, transaction));
    DEPTH.set(depth - 1);
    done
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Recording {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        recorded(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        recorded(|| unsafe { System.dealloc(pointer, layout) });
    }
}

/// What a thread does: allocations of its own, and recording calls that allocate.
fn work(thread: u64, rounds: u64) {
    RECORDS.set(true);
    for round in 0..rounds {
        black_box(vec![round; 10]);
        let name = format!("name {thread} {round}");
        let mut transaction = start_transaction("queue.process", &*name);
        transaction.set_data("text", format!("{name}, which is new each time"));
        drop(transaction);
        black_box(name);
    }
    RECORDS.set(false);
}

#[test]
fn an_allocator_that_records_goes_one_call_deep_and_everything_is_counted() {
    let guard = hotspan::init(Config {
        transport: Delivery::Null,
        traces_sample_rate: Some(1.0),
        flush_interval: Duration::from_millis(1),
        ..Config::default()
    })
    .unwrap();
    // Threads that begin and end with it, and whose first recorded call is inside an allocation.
    for _ in 0..5 {
        thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || work(thread, 200));
            }
        });
    }
    // And the main one, also while it asks for things that allocate.
    RECORDS.set(true);
    let _ = black_box((stats(), hotspan::inflight()));
    let flushed = guard.flush(Duration::from_secs(60));
    RECORDS.set(false);
    work(4, 200);
    assert!(flushed.complete);

    let report = guard.close(Duration::from_secs(60));
    let stats = stats();
    stats.check().unwrap();
    assert!(stats.is_at_rest(), "{stats}");
    assert_eq!(report.left, hotspan::Count::default());
    // Inside of what the allocator records the library allocates, and there it ends.
    assert_eq!(DEEPEST.load(Ordering::Relaxed), 2);
    let reentrant = stats.dropped.get(&Reason::Reentrant).copied().unwrap_or_default();
    assert!(reentrant.transactions > 0, "{stats}");
    // Each call of the allocator began a transaction, and each round one more.
    let rounds = 5 * 4 * 200 + 200;
    let begun = CALLS.load(Ordering::Relaxed) + rounds;
    assert_eq!(stats.started.transactions, begun, "{stats}");
}
