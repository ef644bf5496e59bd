//! A signal handler that records, interrupting a thread that records: wherever it comes, the call
//! it interrupts goes on as if nothing had been, and every call is counted.
//!
//! `HOTSPAN_ALARM_MS` says for how long (300).
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests may panic, print, and ask the real clock"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hotspan::{Config, Count, Delivery, Reason, start_child, start_transaction, stats};

mod support;

use support::process::env_number;
use support::session::LONG;

const EVERY_MICROS: libc::suseconds_t = 50;

static SIGNALS: AtomicU64 = AtomicU64::new(0);
static CHILDREN: AtomicU64 = AtomicU64::new(0);

/// Names that the thread has used before: first uses allocate, which no handler may.
fn record() {
    let _transaction = start_transaction("queue.process", "orders");
    for _ in 0..3 {
        let span = start_child("step", "of one");
        // Without a parent it is nothing, and not counted.
        CHILDREN.fetch_add(u64::from(span.is_recording()), Ordering::Relaxed);
    }
}

extern "C" fn on_alarm(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
    record();
}

/// Sends the calling thread's process a signal again and again; 0: no more.
fn alarm_every(micros: libc::suseconds_t) {
    let time = libc::timeval { tv_sec: 0, tv_usec: micros };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: the timer is valid, and there is a handler.
    let done =
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(done, 0);
}

/// Lets this thread have the signal, or not; threads that it starts inherit that.
fn block_alarm(how: libc::c_int) {
    // SAFETY: the set is made by `sigemptyset` before it is used.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGALRM);
        assert_eq!(libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()), 0);
    }
}

fn main() {
    // Before `init`: its threads are not to be interrupted.
    block_alarm(libc::SIG_BLOCK);
    let guard = hotspan::init(Config {
        transport: Delivery::Null,
        traces_sample_rate: Some(1.0),
        ..Config::default()
    })
    .unwrap();
    record();
    // SAFETY: the handler calls what is to be tested there, and nothing else.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = on_alarm as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()), 0);
    }
    let long = Duration::from_millis(env_number("HOTSPAN_ALARM_MS", 300));
    let start = Instant::now();
    let mut calls = 1;
    block_alarm(libc::SIG_UNBLOCK);
    alarm_every(EVERY_MICROS);
    while start.elapsed() < long {
        record();
        calls += 1;
    }
    alarm_every(0);
    block_alarm(libc::SIG_BLOCK);

    let report = guard.close(LONG);
    let stats = stats();
    stats.check().unwrap();
    assert!(stats.is_at_rest() && report.left == Count::default(), "{stats}");
    let signals = SIGNALS.load(Ordering::Relaxed);
    let reentrant = stats.dropped.get(&Reason::Reentrant).copied().unwrap_or_default();
    println!("{calls} calls, {signals} signals; {reentrant:?}\n{stats}");
    assert!(signals > 0 && reentrant.transactions > 0, "{stats}");
    assert_eq!(stats.started.transactions, calls + signals, "{stats}");
    assert!(stats.started.spans >= stats.started.transactions + CHILDREN.load(Ordering::Relaxed));
}
