//! The flusher's thread, and starting and stopping all of them.
//!
//! The flusher looks at the rings once an interval, and at once again while a ring is more than an
//! eighth full; nobody has to wake it, so recording threads make no system call for it. Between two
//! looks that are far apart it wakes for the budgets of sampling, if there are any. A panic in
//! a cycle costs what was in hand, counted; the flusher starts anew after a pause that doubles, and
//! gives up after five in a row: recording is off then.
//!
//! # Invariants
//! * C1: a cycle that answers a `flush` began after it was asked for.
//! * C2: nobody waits for a thread without a limit.
//! * C3: a `flush` covers transactions whose root came and that wait for one more look at the
//!   rings.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::sampling::pressure;
use crate::shared::clock;
use crate::shared::id::WireIds;
use crate::shared::ledger::{Books, Reason};
use crate::shared::settings::SETTINGS;
use crate::transport::Transport;

use super::assemble::Bounds;
use super::depot::{Depot, Health};
use super::encode::Site;
use super::ending::{self, Ending};
use super::flusher::{Cycle, Flusher, Reading, TICK};
use super::hooks::Hooks;
use super::keep::Keep;
use super::queue::{Held, Queue, Rules};
use super::rates::Rates;
use super::spooler::{self, SpoolPlan};
use super::upload::Uploads;
use super::watch::Watch;

const THREAD_NAME: &str = "hotspan-flush";
/// Panics in a row after which the flusher gives up.
const PANICS_MAX: u32 = 5;
/// How long a new flusher waits for one that a shutdown gave up: it is busy, not blocked.
const READING_MAX: Duration = Duration::from_secs(10);
/// How long a flusher that is not through in time is still waited for: with a queue that is closed
/// it has but to count. One that a hook holds up is not through then, either.
const COUNTING_MAX: Duration = Duration::from_millis(75);
/// How long the flusher is waited for until it begins. In a child that was forked off while a
/// thread of the host began or ended it never does: std takes a lock of the process for that.
const BEGINNING_MAX: Duration = Duration::from_secs(5);
/// The last look at the rings comes this much after the one before: threads that were just
/// publishing when recording went off are through by then.
const LAST_LOOK: Duration = Duration::from_millis(1);

/// What the threads are started with.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) site: Site,
    pub(crate) bounds: Bounds,
    pub(crate) wire: WireIds,
    pub(crate) interval: Duration,
    pub(crate) ring_slots: u64,
    pub(crate) queue: Rules,
    pub(crate) client_reports: bool,
    /// `None`: what cannot be sent stays in memory.
    pub(crate) spool: Option<SpoolPlan>,
    /// Whether what is done is told in the log.
    pub(crate) debug: bool,
    /// Whether rates are lowered while the transport does not keep up.
    pub(crate) backpressure: bool,
    /// Takes transactions instead of the transport.
    pub(crate) keep: Option<Arc<dyn Keep>>,
    /// What transactions go through before they are encoded.
    pub(crate) hooks: Option<Hooks>,
    /// `None`: nobody watches what is open.
    pub(crate) watch: Option<Watch>,
}

/// All threads, running.
#[derive(Debug)]
pub(crate) struct Client {
    control: Arc<Control>,
    uploads: Arc<Uploads>,
    rates: Arc<Mutex<Rates>>,
    books: &'static Books,
    flusher: Ending,
}

impl Client {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread, or one that does not begin, or an earlier flusher does not
    /// end.
    pub(crate) fn start(
        plan: Plan,
        transports: Vec<Box<dyn Transport>>,
        books: &'static Books,
    ) -> io::Result<Self> {
        let Some(reading) = Reading::begin(READING_MAX) else {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        };
        let queue = Arc::new(Queue::new(plan.queue, books));
        let (reports, debug, now) = (plan.client_reports, plan.debug, clock::monotonic());
        let depot = Arc::new(Depot::new(Arc::clone(&queue), books, reports, debug, now));
        let uploads = Uploads::start(transports, Arc::clone(&queue), Arc::clone(&depot))?;
        let uploads = Arc::new(uploads);
        if let Some(spool) = plan.spool {
            let started = spooler::start(spool, Arc::clone(&queue), depot).inspect_err(|_| {
                uploads.close(Duration::ZERO, Duration::ZERO);
            })?;
            uploads.adopt(started);
        }
        let control = Arc::new(Control::default());
        let Plan { site, bounds, wire, watch, .. } = plan;
        let mut flusher = Flusher::new(site, bounds, wire, queue, books, reading, watch);
        flusher.discard_leftovers(Reason::AfterShutdown);
        flusher.keep(plan.keep);
        flusher.consult(plan.hooks);
        // What an earlier client found is of no concern to this one.
        pressure::set_healthy(true);
        if plan.backpressure {
            flusher.heed_pressure();
        }
        let rates = Arc::new(Mutex::new(Rates::new(now, books)));
        let role = Role {
            flusher,
            rates: Arc::clone(&rates),
            books,
            control: Arc::clone(&control),
            uploads: Arc::clone(&uploads),
            interval: plan.interval,
            ring_slots: plan.ring_slots,
            bounds: plan.bounds,
        };
        let begun = ending::spawn(THREAD_NAME, move || role.run()).and_then(|flusher| {
            let has_begun = control.wait(BEGINNING_MAX, |state| state.begun);
            if has_begun { Ok(flusher) } else { Err(io::Error::from(io::ErrorKind::TimedOut)) }
        });
        match begun {
            Ok(flusher) => Ok(Self { control, uploads, rates, books, flusher }),
            Err(error) => {
                // Should it begin after all, it is to end.
                control.ask(|state| state.stop = true);
                uploads.close(Duration::ZERO, Duration::ZERO);
                Err(error)
            }
        }
    }

    /// Waits until everything that ended before is delivered or lost, at most `timeout`. True if
    /// so.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let deadline = clock::monotonic().saturating_add(timeout);
        let asked = self.control.ask(|state| state.asked += 1);
        let looked = self.control.wait(timeout, |state| state.done >= asked || state.stopped);
        looked && self.uploads.flush(deadline.saturating_sub(clock::monotonic()))
    }

    /// Stops all threads; returns at `timeout`, or [`COUNTING_MAX`] later at the latest, with
    /// everything that was not settled by then counted; and those that are through are gone then,
    /// unless that takes one of them longer than [waiting](ending::wait) for it may. Recording must
    /// be off.
    pub(crate) fn close(&self, timeout: Duration) {
        let deadline = clock::monotonic().saturating_add(timeout);
        self.control.ask(|state| state.stop = true);
        let reserve = self.uploads.reserve(timeout);
        let is_through = self.control.wait(timeout - reserve, |state| state.stopped);
        self.uploads.close(deadline.saturating_sub(clock::monotonic()), reserve);
        if is_through || self.control.wait(COUNTING_MAX, |state| state.stopped) {
            ending::wait([self.flusher.clone()]);
        }
    }

    /// Has the flusher see that there are caps or floors now, which need it more often than the
    /// rings do.
    pub(crate) fn nudge(&self) {
        self.control.ask(|state| state.nudges += 1);
    }

    /// What the queue holds.
    pub(crate) fn held(&self) -> Held {
        self.uploads.queue().held()
    }

    /// How sending goes.
    pub(crate) fn health(&self) -> Health {
        self.uploads.health()
    }

    /// Spans lost a second, over the last minute.
    pub(crate) fn losses_per_second(&self) -> impl Iterator<Item = (Reason, f64)> + use<> {
        lock(&self.rates).of(clock::monotonic(), self.books)
    }

    /// Whether the flusher gave up.
    pub(crate) fn is_dead(&self) -> bool {
        self.control.lock().dead
    }
}

#[derive(Debug, Default)]
struct Control {
    state: Mutex<Wishes>,
    /// Signalled when the flusher has something to do.
    work: Condvar,
    /// Signalled when it has done it.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct Wishes {
    /// The flusher runs.
    begun: bool,
    asked: u64,
    done: u64,
    /// How often there was something new for an idle flusher to see.
    nudges: u64,
    stop: bool,
    stopped: bool,
    dead: bool,
}

impl Wishes {
    fn is_quiet(&self) -> bool {
        self.asked == self.done && !self.stop
    }
}

impl Control {
    fn ask(&self, wish: impl FnOnce(&mut Wishes)) -> u64 {
        let mut state = self.lock();
        wish(&mut state);
        let asked = state.asked;
        drop(state);
        self.work.notify_all();
        asked
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&Wishes) -> bool) -> bool {
        let (state, _) = self
            .progress
            .wait_timeout_while(self.lock(), timeout, |state| !done(state))
            .unwrap_or_else(PoisonError::into_inner);
        done(&state)
    }

    fn lock(&self) -> MutexGuard<'_, Wishes> {
        lock(&self.state)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The flusher's thread.
struct Role {
    flusher: Flusher,
    control: Arc<Control>,
    uploads: Arc<Uploads>,
    rates: Arc<Mutex<Rates>>,
    books: &'static Books,
    interval: Duration,
    ring_slots: u64,
    bounds: Bounds,
}

impl Role {
    fn run(mut self) {
        let mut pause = self.interval;
        let mut panics = 0;
        let mut answered = 0;
        self.control.lock().begun = true;
        self.control.progress.notify_all();
        loop {
            let (asked, stop) = self.idle(pause);
            match self.cycle() {
                Some(found) => {
                    panics = 0;
                    pause = self.pause_after(found.fullest);
                    self.uploads.grow();
                    lock(&self.rates).look(clock::monotonic(), self.books);
                    if found.unsettled && asked > answered {
                        // C3.
                        self.cycle();
                    }
                }
                None => {
                    panics += 1;
                    pause = Duration::from_secs(1 << panics.min(6));
                }
            }
            let dead = panics >= PANICS_MAX;
            if dead {
                SETTINGS.switch_off();
            }
            if stop || dead {
                thread::sleep(LAST_LOOK);
                if self.cycle().is_none() {
                    // Whatever it is that it chokes on, it must not stay in the rings uncounted.
                    self.survive(|flusher, _| flusher.discard_leftovers(Reason::Internal));
                }
                self.survive(|flusher, _| flusher.finish());
            }
            let mut state = self.control.lock();
            state.done = asked;
            answered = asked;
            state.dead = dead;
            state.stopped = stop || dead;
            let over = state.stopped;
            drop(state);
            self.control.progress.notify_all();
            if over {
                return;
            }
        }
    }

    /// Waits for a wish, at most `pause`; meanwhile the budgets tick, if there are any. C1: what is
    /// asked for later is answered by the next cycle.
    fn idle(&mut self, pause: Duration) -> (u64, bool) {
        let until = clock::monotonic().saturating_add(pause);
        loop {
            let nudges = self.control.lock().nudges;
            let is_ticking = self.survive(Flusher::tick) == Some(true);
            let left = until.saturating_sub(clock::monotonic());
            let step = if is_ticking { left.min(TICK) } else { left };
            let (state, _) = self
                .control
                .work
                .wait_timeout_while(self.control.lock(), step, |state| {
                    state.is_quiet() && state.nudges == nudges
                })
                .unwrap_or_else(PoisonError::into_inner);
            if !state.is_quiet() || clock::monotonic() >= until {
                return (state.asked, state.stop);
            }
        }
    }

    /// What was found; `None` after a panic.
    fn cycle(&mut self) -> Option<Cycle> {
        self.survive(Flusher::cycle)
    }

    fn survive<R>(&mut self, work: impl FnOnce(&mut Flusher, Duration) -> R) -> Option<R> {
        let flusher = &mut self.flusher;
        match catch_unwind(AssertUnwindSafe(|| work(flusher, clock::monotonic()))) {
            Ok(found) => Some(found),
            Err(payload) => {
                #[expect(clippy::mem_forget, reason = "its drop is a stranger's, and may panic")]
                std::mem::forget(payload);
                self.flusher.recover(self.bounds);
                None
            }
        }
    }

    /// The fuller the rings were, the sooner the next look.
    fn pause_after(&self, fullest: u64) -> Duration {
        if fullest > self.ring_slots / 8 {
            Duration::ZERO
        } else if fullest > self.ring_slots / 64 {
            self.interval.min(Duration::from_millis(1))
        } else {
            self.interval
        }
    }
}
