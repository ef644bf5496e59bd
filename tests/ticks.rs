//! Caps are kept up to date however seldom the flusher looks at the rings.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic, and ask the real clock"
)]

use std::thread;
use std::time::{Duration, Instant};

use hotspan::{reconfigure, start_transaction, stats};

mod support;

use support::session::{LONG, Session};

/// Offers so many, and says how many are kept by now.
fn offer(count: u64) -> u64 {
    (0..count).for_each(|_| drop(start_transaction("op", "offered")));
    stats().started.transactions
}

#[test]
fn the_flusher_wakes_for_caps_and_leaves_the_rings_alone() {
    let session = Session::start(|config| config.flush_interval = Duration::from_secs(60 * 60));
    let cycles = stats().threads.cycles;
    // While it sleeps.
    reconfigure(|sampling| sampling.max_per_second = Some(50.0)).unwrap();
    let before = stats().started.transactions;
    // All that one second has, and by far.
    let exhausted = offer(100_000);
    assert!(exhausted - before < 500, "{} kept", exhausted - before);
    let begin = Instant::now();
    while offer(100) < exhausted + 40 {
        assert!(begin.elapsed() < LONG, "nothing is kept any more: {}", stats());
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(stats().threads.cycles, cycles, "nobody looked");
    let ending = session.end();
    assert_eq!(ending.transactions.len() as u64, ending.report.delivered.transactions);
}
