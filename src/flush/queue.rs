//! The queue between flusher and uploaders: bounded in bytes and number, never waited for by the
//! one who fills it.
//!
//! A parcel goes through these states, and one lock guards all of them, together with the books
//! they are counted in:
//!
//! ```text
//!  push ──► queued ─── pop ───► in flight ── settle ──► delivered | lost | spooled
//!             │ ▲                  │  │
//!             │ └──── no answer ───┘  │
//!             └────── abandon ────────┴────────────────► lost (shutdown_deadline)
//! ```
//!
//! Whoever works on a parcel holds its bytes, but what is lost with them stays written down here.
//! Whoever comes first, the worker with an outcome or a shutdown whose time is up, takes that and
//! settles it; the other finds nothing. So a transport that returns after it was given up cannot
//! settle twice. An uploader may work on several at once, a [`Lot`]; each of them is settled for
//! itself, as soon as its end is known ([`settling`]).
//!
//! Workers are the uploaders and, if there is a spool, the thread that owns it. The uploaders take
//! the oldest, as the [`Route`](super::backoff::Route) allows. The spool takes what waits for too
//! long: see [`pop_for_spool`](Queue::pop_for_spool). What it gives back to be sent (a *stored*
//! parcel) stays in its books and on its disk until it is settled; here it counts as nothing.
//!
//! # Invariants
//! * Q1: `bytes` is the capacity of all parcels, queued and in flight, at most `bytes_max`, and
//!   that of at most [`STORED_MAX`] stored ones; so many parcels are at most `parcels_max`. What is
//!   settled is not counted any more, though its memory is there until its uploader takes its next
//!   lot: the buffers of one lot for each uploader.
//! * Q2: every parcel that `push` accepted is settled exactly once.
//! * Q3: no lock is held while anything blocks, and no code of a user runs under it.
//! * Q4: parcels are queued by their number; what comes back goes to its old place.
//! * Q5: nothing waits for long while somebody sleeps who could send it. What comes calls one. Who
//!   takes something calls one more for the next, unless the last request took less than a
//!   millisecond and the next has not waited for so long: then it is quicker alone. A lot is one
//!   request here: who took one calls one more for what it left, and it took as long as its
//!   uploader waited for the next word of it, at worst. So 64 that take 2 ms, one after the other,
//!   are quick, and 64 that a distant server answers all at once are not. The flusher looks whether
//!   that was wrong, and a request hangs, after each of its own looks.
//!
//! # Costs
//! In steady state a parcel allocates nothing: the byte buffers go round ([`Batch`], [`Lot`]), and
//! the list of parcels keeps its room until a rush is over. Nor does it take a system call while
//! uploaders have enough to do: only who sleeps is called (`sleepers`). The flusher takes the lock
//! twice for up to 64 of them ([`batch`]), an uploader once for a lot and once for each answer.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::envelope::Parcel;
use crate::shared::ledger::{Books, Count, Reason};

mod batch;
mod lot;
mod outcome;
mod room;
mod settling;
mod sleepers;
mod spooling;
mod state;

pub(crate) use batch::Batch;
pub(crate) use lot::{Lot, PARCELS_MAX};
pub(crate) use outcome::{Fate, Outcome, Popped, Settled, Worker};
use state::{Next, State};

/// Stored parcels that are here at a time, at most.
pub(crate) const STORED_MAX: usize = 1;

/// What waits for longer goes to the spool, if there is one.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the queue holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Transactions and spans that wait.
    pub(crate) queued: Count,
    /// Transactions and spans that somebody works on.
    pub(crate) in_flight: Count,
    /// Memory of the parcels.
    pub(crate) bytes: usize,
    /// Parcels that wait.
    pub(crate) envelopes: usize,
    /// Uploaders and spool, running.
    pub(crate) workers: usize,
    /// How long nothing is tried, as nothing was answered.
    pub(crate) paused_until: Duration,
}

/// How the way to the server is, for those who send less when it cannot take it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strain {
    /// Parcels that found no room, so far.
    pub(crate) refused: u64,
    /// One more like the last would find none.
    pub(crate) is_full: bool,
    /// No transaction is sent before this moment, as the server wishes.
    pub(crate) limited_until: Duration,
}

/// What is settled by rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Memory of all parcels together, and their number.
    pub(crate) bytes_max: usize,
    pub(crate) parcels_max: usize,
    /// How often a parcel is sent at most, if there is no answer.
    pub(crate) tries_max: u32,
}

#[derive(Debug)]
pub(crate) struct Queue {
    books: &'static Books,
    rules: Rules,
    state: Mutex<State>,
    /// Signalled when uploaders have something to do.
    work: Condvar,
    /// Signalled when the spool has.
    spool_work: Condvar,
    /// Signalled when something was settled, reported or stopped.
    progress: Condvar,
}

impl Queue {
    /// A queue that writes into `books` what becomes of parcels.
    pub(crate) fn new(rules: Rules, books: &'static Books) -> Self {
        Self {
            books,
            rules,
            state: Mutex::default(),
            work: Condvar::new(),
            spool_work: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    /// Appends a parcel. Never waits for room.
    ///
    /// # Errors
    /// The parcel's bytes, when there is no room for it or the queue is closed; nothing was
    /// counted.
    pub(crate) fn push(&self, parcel: Parcel, now: Duration) -> Result<(), Vec<u8>> {
        let mut state = self.lock();
        let pushed = state.accept(parcel, &self.rules, now);
        self.tell_workers(state, pushed.is_ok());
        pushed
    }

    /// Lets go of the lock and calls one uploader, if something came and one sleeps; and the spool
    /// if it is to help.
    fn tell_workers(&self, mut state: MutexGuard<'_, State>, came: bool) {
        let is_filling = came && state.is_spooling && state.is_filling(&self.rules);
        let sleeps = came && state.sleepers.call_one();
        drop(state);
        if sleeps {
            self.work.notify_one();
        }
        if is_filling {
            self.spool_work.notify_one();
        }
    }

    /// Waits for something to do, from `moment` on, at most `timeout`. What it puts into the lot
    /// must be settled before the next call of this worker; what the last one left there goes back.
    pub(crate) fn pop(
        &self,
        worker: Worker,
        lot: &mut Lot,
        mut moment: Duration,
        timeout: Duration,
        now: impl Fn() -> Duration,
    ) -> Popped {
        let until = moment.saturating_add(timeout);
        let mut state = self.lock();
        if state.abandoned.is_none() {
            lot.spent.drain(..).for_each(|buffer| state.buffers.give(buffer));
        }
        loop {
            if state.abandoned.is_some() {
                return Popped::Abandoned;
            }
            if state.reports_done < state.reports_asked && state.is_reporting.is_none() {
                state.is_reporting = Some(worker);
                state.reporting_for = state.reports_asked;
                return Popped::Report;
            }
            let pause = match state.next(moment) {
                Next::Take if state.take_lot(worker, lot, moment) => {
                    // Q5, for what the lot left.
                    if state.wants_more_hands(moment) && state.sleepers.call_one() {
                        drop(state);
                        self.work.notify_one();
                    }
                    return Popped::Lot;
                }
                Next::Take => Duration::ZERO,
                Next::Leave => return Popped::Closed,
                Next::Wait(pause) => pause,
            };
            let left = until.saturating_sub(moment);
            if left.is_zero() {
                return Popped::Idle;
            }
            state.sleepers.lie_down();
            let waited = self.work.wait_timeout(state, left.min(pause));
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state.sleepers.get_up();
            moment = now();
        }
    }

    /// The report that was asked for is sent, or there was nothing to report.
    pub(crate) fn reported(&self) {
        let mut state = self.lock();
        state.reports_done = state.reporting_for;
        state.is_reporting = None;
        drop(state);
        // Somebody may have asked for another one meanwhile.
        self.work.notify_one();
        self.progress.notify_all();
    }

    /// Waits until all that was pushed before is settled, and after that a client report was tried.
    /// True if that happened within `timeout`.
    pub(crate) fn flush(&self, timeout: Duration, now: impl Fn() -> Duration) -> bool {
        let deadline = now().saturating_add(timeout);
        let last = self.lock().await_settled();
        let is_through = self.wait(timeout, |state| state.is_settled(last));
        let mut state = self.lock();
        state.awaiting -= 1;
        if !is_through {
            return false;
        }
        if state.has_stopped() {
            return true;
        }
        state.reports_asked += 1;
        let asked = state.reports_asked;
        drop(state);
        self.work.notify_one();
        let left = deadline.saturating_sub(now());
        self.wait(left, |state| state.reports_done >= asked || state.has_stopped())
    }

    /// The server answered something that is not a parcel's.
    pub(crate) fn answered(&self) {
        let mut state = self.lock();
        if state.route.is_down() {
            state.route.answered();
            drop(state);
            self.work.notify_all();
            self.spool_work.notify_one();
        }
    }

    /// Why what comes now is lost.
    pub(crate) fn reason_closed(&self) -> Reason {
        self.lock().abandoned.unwrap_or(Reason::ShutdownDeadline)
    }

    /// From now on nothing is accepted; what is queued is still handed out, without pauses.
    pub(crate) fn close(&self) {
        self.change(|state| state.is_closed = true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Gives up what is queued and what is in flight: lost, for this reason, here and now. Says how
    /// much that was. What is stored stays in the spool.
    pub(crate) fn abandon(&self, reason: Reason) -> Count {
        let mut lost = Count::default();
        let mut parcels = VecDeque::new();
        self.change(|state| {
            state.is_closed = true;
            state.abandoned.get_or_insert(reason);
            lost = state.queued + state.in_flight();
            self.books.lose(reason, lost);
            state.queued = Count::default();
            state.in_flight.clear();
            state.bytes = 0;
            (state.stored, state.stored_bytes) = (0, 0);
            parcels = std::mem::take(&mut state.parcels);
            state.buffers.clear();
        });
        lost
    }

    /// One more works on parcels.
    pub(crate) fn begin(&self) {
        self.lock().workers += 1;
    }

    /// A worker's last word: it has let go of what it had. What it still had in its hands is lost,
    /// and all the rest, if it was the last one.
    pub(crate) fn end(&self, worker: Worker) {
        self.lose_in_hand(worker);
        let mut state = self.lock();
        state.workers = state.workers.saturating_sub(1);
        let (is_last, is_closed) = (state.workers == 0, state.is_closed);
        drop(state);
        if is_last {
            self.abandon(if is_closed { Reason::ShutdownDeadline } else { Reason::Internal });
        }
        self.change(|_| {});
    }

    /// After a panic of a worker: what it had in its hands is lost.
    pub(crate) fn lose_in_hand(&self, worker: Worker) {
        let mut lost = Count::default();
        self.change(|state| {
            while let Some(at) = state.in_flight.iter().position(|each| each.worker == worker) {
                let flying = state.in_flight.swap_remove(at);
                state.forget(&flying);
                lost += flying.count;
                if let Some(ticket) = flying.stored {
                    state.fates.push(Fate::Back(ticket));
                }
            }
            if state.is_reporting == Some(worker) {
                state.is_reporting = None;
            }
            self.books.lose(Reason::Internal, lost);
        });
    }

    /// Waits until all workers have ended or were given up, at most `timeout`.
    pub(crate) fn wait_stopped(&self, timeout: Duration) -> bool {
        self.wait(timeout, State::has_stopped)
    }

    /// What waits and what is being sent, at one moment.
    pub(crate) fn held(&self) -> Held {
        let state = self.lock();
        Held {
            queued: state.queued,
            in_flight: state.in_flight(),
            bytes: state.bytes + state.stored_bytes,
            envelopes: state.parcels.len(),
            workers: state.workers,
            paused_until: state.route.until(),
        }
    }

    /// Calls one more uploader, if something has waited for too long while one sleeps (Q5). Else
    /// the numbers of the oldest parcel that waits, and of the youngest, if all are busy.
    pub(crate) fn wants_hands(&self, now: Duration) -> Option<(u64, u64)> {
        let mut state = self.lock();
        let is_open = !state.route.is_down() && !state.is_closed;
        let oldest = state.parcels.front().filter(|_| is_open)?.way.number;
        if state.sleepers.count() == 0 {
            return Some((oldest, state.number));
        }
        if state.is_late(now) && state.sleepers.call_one() {
            drop(state);
            self.work.notify_one();
        }
        None
    }

    /// How many uploaders more could send something at once.
    pub(crate) fn wants_all_hands(&self) -> usize {
        let state = self.lock();
        let waiting = if state.route.is_down() { 0 } else { state.parcels.len() };
        waiting.saturating_sub(state.sleepers.count())
    }

    /// Changes something that everybody may wait for.
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.work.notify_all();
        self.spool_work.notify_all();
        self.progress.notify_all();
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&State) -> bool) -> bool {
        let (state, _) = self
            .progress
            .wait_timeout_while(self.lock(), timeout, |state| !done(state))
            .unwrap_or_else(PoisonError::into_inner);
        done(&state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
