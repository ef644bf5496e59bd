//! Closing, whatever goes on: it returns within its time-out, with books that are exact and the same
//! report for all who closed.
//!
//! Every state the library can be in, times every time-out, without a spool and with one. The table
//! of what closing took is printed (`--nocapture`); `HOTSPAN_SHUTDOWN_ROUNDS` is how often each cell
//! is tried, for medians (default 1). That the flusher is dead is a state that nothing from outside
//! can bring about: that one is in `src/running/tests.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "helpers of tests panic as tests do, and ask the real clock"
)]
#![cfg(target_os = "linux")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use hotspan::transport::{Envelope, Response, SendError, Transport};
use hotspan::{
    Config, Count, Delivery, Guard, Reason, Report, Stats, start_child, start_transaction, stats,
};

mod support;

use support::faults::{FaultServer, Mode};
use support::folder::Folder;
use support::process::env_number;
use support::session::{LONG, alone, lost_between};

/// What closing may take beyond its time-out.
const GRACE: Duration = Duration::from_millis(100);

/// Threads that record while it is closed.
const RECORDERS: u64 = 2;

/// By how much a busy machine may be late on top of that. Only against hanging.
const SLACK: Duration = Duration::from_secs(20);

const TIMEOUTS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(50), Duration::from_secs(2)];

/// So little that a few envelopes fill it.
const QUEUE_BYTES: usize = 64 * 1024;

/// What goes on when it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// Threads record, also while it is being closed, and the server takes all.
    Loaded,
    /// The server does not answer, and there is no room for what is recorded.
    QueueFull,
    /// The server does not answer what it got.
    Hanging,
    Gone,
    /// The transports have panicked five times.
    TransportsDead,
    /// The guard is dropped by a panic, while the server does not answer.
    InPanic,
    /// Two threads close the guard and a third what runs, while the server does not answer.
    Several,
}

const STATES: [State; 8] = [
    State::Idle,
    State::Loaded,
    State::QueueFull,
    State::Hanging,
    State::Gone,
    State::TransportsDead,
    State::InPanic,
    State::Several,
];

impl State {
    fn mode(self) -> Mode {
        match self {
            Self::Gone => Mode::Refused,
            Self::QueueFull | Self::Hanging | Self::InPanic | Self::Several => Mode::SlowHeaders,
            Self::Idle | Self::Loaded | Self::TransportsDead => Mode::Healthy,
        }
    }
}

struct Panicking;

impl Transport for Panicking {
    fn send(&mut self, _: &Envelope<'_>) -> Result<Response, SendError> {
        resume_unwind(Box::new("on purpose"));
    }
}

/// One cell of the table, once.
struct Trial {
    state: State,
    timeout: Duration,
    /// Goes on to fail until the end.
    _server: FaultServer,
    folder: Option<Folder>,
    /// `None`: it was dropped.
    guard: Option<Guard>,
    before: Stats,
}

impl Trial {
    fn start(state: State, timeout: Duration, has_spool: bool) -> Self {
        let server = FaultServer::start();
        server.set(state.mode());
        let folder = has_spool.then(Folder::new);
        let mut config = Config {
            dsn: Some(server.dsn()),
            http_proxy: Some(String::new()),
            traces_sample_rate: Some(1.0),
            enable_backpressure_handling: false,
            shutdown_timeout: timeout,
            request_timeout: LONG,
            connect_timeout: LONG,
            upload_concurrency: 2,
            spool_dir: folder.as_ref().map(|folder| folder.path().to_owned()),
            ..Config::default()
        };
        match state {
            State::TransportsDead => {
                config.transport = Delivery::Custom(Arc::new(|| Box::new(Panicking)));
            }
            State::QueueFull => config.queue_bytes = QUEUE_BYTES,
            _ => {}
        }
        let before = stats();
        let guard = Some(hotspan::init(config).unwrap());
        Self { state, timeout, _server: server, folder, guard, before }
    }

    /// Brings the state about.
    fn prepare(&self) {
        let began = Instant::now();
        let wait = |done: &dyn Fn(&Stats) -> bool| {
            loop {
                let now = stats();
                if done(&now) {
                    return;
                }
                assert!(began.elapsed() < LONG, "{:?} does not come about: {now}", self.state);
                thread::sleep(Duration::from_millis(1));
            }
        };
        let in_flight = |now: &Stats| now.in_flight.transactions > 0;
        match self.state {
            State::Idle => {
                record();
                wait(&|now| now.delivered.transactions > self.before.delivered.transactions);
            }
            State::Loaded => {}
            State::QueueFull => {
                let has_overflown = |now: &Stats| {
                    // The spool makes room for as long as it can.
                    let full = lost_between(&self.before, now, Reason::QueueFull);
                    full.transactions > 0 || now.in_spool.transactions > 50
                };
                while !has_overflown(&stats()) {
                    assert!(began.elapsed() < LONG, "it does not fill: {}", stats());
                    record();
                }
            }
            State::Hanging | State::InPanic | State::Several => {
                record();
                wait(&in_flight);
                (0..20).for_each(|_| record());
            }
            State::Gone => {
                (0..20).for_each(|_| record());
                wait(&|now| now.threads.last_error.is_some());
            }
            State::TransportsDead => {
                wait(&|now| {
                    record();
                    now.threads.dead
                });
            }
        }
    }

    /// How long it took the longest of those who closed.
    fn run(mut self) -> Duration {
        self.prepare();
        let doomed = self.guard.take_if(|_| self.state == State::InPanic);
        let (busy, begin) = (AtomicBool::new(true), Barrier::new(3));
        let took = thread::scope(|scope| {
            if self.state == State::Loaded {
                for _ in 0..RECORDERS {
                    scope.spawn(|| {
                        begin.wait();
                        while busy.load(Ordering::Relaxed) {
                            record();
                        }
                    });
                }
                begin.wait();
                // Those who record are at it.
                let loaded = self.before.started.transactions + 100;
                while stats().started.transactions < loaded {
                    thread::yield_now();
                }
            }
            let took = match (doomed, &self.guard) {
                (Some(guard), _) => drop_in_panic(guard),
                (None, Some(guard)) if self.state == State::Several => {
                    close_by_several(guard, self.timeout)
                }
                (None, guard) => timed(|| {
                    let _ = guard.as_ref().map(|it| it.close(self.timeout));
                }),
            };
            busy.store(false, Ordering::Relaxed);
            took
        });
        self.check(took);
        took
    }

    /// What must be so, whatever the state was.
    fn check(&self, took: Duration) {
        let (state, timeout) = (self.state, self.timeout);
        assert!(took < timeout + GRACE + SLACK, "{state:?} within {timeout:?}: {took:?}");
        let after = stats();
        after.check().unwrap();
        assert!(after.is_at_rest(), "{state:?}: {after}");
        let before = &self.before;
        let started = after.started - before.started;
        let dropped = after.dropped_in_all() - before.dropped_in_all();
        // The spool's thread may still be ending, this one's or that of the trial before.
        let put_by = |stats: &Stats| stats.in_spool + stats.spool.left_behind;
        let spooled = put_by(&after) - put_by(before);
        let unsent = spooled + dropped;
        assert_eq!(after.delivered - before.delivered + unsent, started, "{after}");
        if let Some(guard) = &self.guard {
            let mut report = Report::default();
            let again = timed(|| report = guard.close(LONG));
            assert!(again < SLACK, "it was closed before: {again:?}");
            // What each of those who record had open while it was off the processor ended later.
            let left = report.left;
            let open = if state == State::Loaded { RECORDERS } else { 0 };
            assert!(left.transactions <= open && left.spans <= 2 * open, "{report:?}");
            assert_eq!(report.delivered + unsent, started);
            assert_eq!((report.dropped + left, report.spooled), (dropped, spooled));
            assert_eq!(report.complete, dropped == Count::default(), "{report:?}");
        }
        match state {
            State::Idle => assert_eq!(unsent, Count::default(), "{after}"),
            State::Loaded => {}
            State::QueueFull | State::Hanging | State::InPanic | State::Several => {
                assert_eq!(unsent, started, "nothing was answered: {after}");
            }
            State::Gone | State::TransportsDead => assert_eq!(unsent, started, "{after}"),
        }
        if self.folder.is_none() {
            assert_eq!(spooled, Count::default());
        } else if state == State::Gone && timeout >= Duration::from_secs(2) {
            assert!(spooled.transactions > 0, "{after}");
        }
        let late = lost_between(before, &after, Reason::ShutdownDeadline);
        if state == State::Idle {
            assert_eq!(late, Count::default(), "{after}");
        }
    }
}

/// Closes by a panic that unwinds through the guard.
fn drop_in_panic(guard: Guard) -> Duration {
    timed(|| {
        let thrown = catch_unwind(AssertUnwindSafe(|| {
            let _guard = guard;
            resume_unwind(Box::new("on purpose"));
        }));
        assert!(thrown.is_err());
    })
}

/// By two threads that have the guard, and a third that has none. How long the longest of them took.
fn close_by_several(guard: &Guard, timeout: Duration) -> Duration {
    let begin = Barrier::new(3);
    let begin = &begin;
    let own = move || guard.close(timeout);
    let of_what_runs = move || hotspan::close(timeout);
    let times = thread::scope(|scope| {
        let closers: [Box<dyn Fn() -> Report + Send>; 3] =
            [Box::new(own), Box::new(own), Box::new(of_what_runs)];
        let closers = closers.map(|close| {
            scope.spawn(move || {
                begin.wait();
                let mut report = Report::default();
                let took = timed(|| report = close());
                (took, report)
            })
        });
        closers.map(|closer| closer.join().unwrap())
    });
    let last = guard.close(LONG);
    for (_, report) in times {
        // Who did not get it in time, or came when nothing ran any more, got another one.
        let is_late = !report.complete && report.left != Count::default();
        let all = [report.delivered, report.dropped, report.spooled, report.left];
        let is_nothing = report.complete && all == [Count::default(); 4];
        assert!(report == last || is_late || is_nothing, "{report:?} and {last:?}");
    }
    assert!(times.iter().any(|(_, report)| *report == last), "nobody got {last:?}");
    times.map(|(took, _)| took).into_iter().max().unwrap()
}

fn record() {
    let mut transaction = start_transaction("queue.process", "orders");
    transaction.set_data("n", 1_u64);
    drop(start_child("step", "one"));
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

#[test]
fn closing_takes_no_longer_than_it_may_and_the_books_are_exact() {
    let _alone = alone();
    let rounds = env_number("HOTSPAN_SHUTDOWN_ROUNDS", 1);
    println!("closing took, in ms{:>19}{:>26}", "without a spool", "with a spool");
    let heads = TIMEOUTS.map(|timeout| format!("{:>9}", format!("{timeout:?}"))).concat();
    println!("{:<16}{heads}{heads}", "time-out");
    for state in STATES {
        let mut row = format!("{:<16}", format!("{state:?}"));
        for has_spool in [false, true] {
            for timeout in TIMEOUTS {
                let trial = |_| Trial::start(state, timeout, has_spool).run();
                let mut times: Vec<Duration> = (0..rounds).map(trial).collect();
                times.sort();
                let median = times[times.len() / 2];
                row += &format!("{:>9.1}", median.as_secs_f64() * 1000.0);
            }
        }
        println!("{row}");
    }
}

#[test]
fn a_flush_does_not_wait_for_room_in_a_full_queue() {
    let _alone = alone();
    for has_spool in [false, true] {
        let trial = Trial::start(State::QueueFull, Duration::from_millis(50), has_spool);
        trial.prepare();
        for timeout in TIMEOUTS {
            let mut report = Report::default();
            let took = timed(|| report = hotspan::flush(timeout));
            assert!(took < timeout + GRACE + SLACK, "{took:?}");
            assert!(!report.complete, "the server does not answer: {report:?}");
            println!("flush within {timeout:?}, spool {has_spool}: {took:?}");
            // Recording goes on.
            record();
        }
        trial.run();
    }
}
