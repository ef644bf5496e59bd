//! Closing after the flusher's death. (Closing in all other states is tested from outside, in
//! `tests/shutdown.rs`; nothing from outside can kill the flusher.)

#![expect(clippy::print_stdout, reason = "the figures of a test")]
#![expect(clippy::disallowed_methods, reason = "tests ask the real clock")]

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Instant;

use super::*;
use crate::flush::flusher::faults::PANICS;
use crate::transport::{Envelope, Response, SendError, Transport};
use crate::{Config, Delivery, init, start_child, start_transaction};

/// Set for the process in which it happens.
const ROLE: &str = "HOTSPAN_TEST_DEAD_FLUSHER";

const TIMEOUTS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(50), Duration::from_secs(2)];

/// By how much a busy machine may be late. Only against hanging.
const SLACK: Duration = Duration::from_secs(20);

/// Panics in a row that kill it.
const DEADLY: u32 = 5;

struct Refusing;

impl Transport for Refusing {
    fn send(&mut self, _: &Envelope<'_>) -> Result<Response, SendError> {
        Err(SendError::new("nobody is there"))
    }
}

/// A flusher reads all rings of its process, those of other tests, too: it gets a process of its
/// own.
#[test]
fn closing_after_the_flushers_death_returns_in_time_with_exact_books() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "running::tests::dead_flusher", "--nocapture"])
        .env(ROLE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "not a test by itself: the process in which the flusher dies"]
fn dead_flusher() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("hotspan-dead-{}", std::process::id()));
    for dir in [None, Some(folder.clone())] {
        // The last look at the rings, after the fifth panic, may panic, too.
        for panics in [DEADLY, 100] {
            for timeout in TIMEOUTS {
                let took = die_and_close(panics, timeout, dir.clone());
                let spool = if dir.is_some() { "with a spool" } else { "without a spool" };
                println!("flusher dead by {panics}, {spool}, {timeout:?}: {took:?}");
            }
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

fn die_and_close(panics: u32, timeout: Duration, spool_dir: Option<PathBuf>) -> Duration {
    let has_spool = spool_dir.is_some();
    let before = stats();
    let guard = init(Config {
        transport: Delivery::Custom(Arc::new(|| Box::new(Refusing))),
        traces_sample_rate: Some(1.0),
        upload_retries: 100,
        spool_dir,
        ..Config::default()
    })
    .unwrap();
    let record = || {
        for _ in 0..5 {
            let _transaction = start_transaction("queue.process", "orders");
            drop(start_child("step", "one"));
        }
    };
    record();
    let five = Count { transactions: 5, spans: 10 };
    wait("they are out of the rings", |now| {
        let found = if has_spool { now.in_spool } else { now.in_queue + now.in_flight };
        found == five + (now.spool.recovered - before.spool.recovered)
    });
    PANICS.store(panics);
    record();
    while !stats().threads.dead {
        // It does not wait out its pauses when somebody asks.
        let _ = guard.flush(Duration::from_millis(1));
    }
    // Nothing is recorded any more.
    record();
    let began = Instant::now();
    let report = guard.close(timeout);
    let took = began.elapsed();
    PANICS.store(0);
    assert!(took < timeout + SLACK, "{took:?}");
    let after = stats();
    after.check().unwrap();
    assert!(after.is_at_rest(), "{after}");
    assert_eq!(report.left, Count::default(), "{after}");
    assert_eq!(report.delivered, Count::default(), "{after}");
    assert_eq!(after.started - before.started, five + five, "{after}");
    assert_eq!(guard.close(SLACK), report);
    assert!(after.threads.restarts - before.threads.restarts >= u64::from(DEADLY), "{after}");
    if has_spool {
        assert!(report.spooled.transactions >= five.transactions, "{after}");
    } else {
        assert_eq!(report.dropped, five + five, "{after}");
    }
    took
}

fn wait(what: &str, done: impl Fn(&Stats) -> bool) {
    let began = Instant::now();
    loop {
        let now = stats();
        if done(&now) {
            return;
        }
        assert!(began.elapsed() < SLACK, "not so: {what}: {now}");
        thread::sleep(Duration::from_millis(1));
    }
}
