//! The thread that owns the spool: what should not wait in memory goes to the disk, and comes back
//! when the server takes it.
//!
//! ```text
//!  queue ── pop_for_spool ──► put ──► spool ◄── adopt ── what dead processes left
//!    ▲                                  │
//!    └──────── push, one at a time ◄── take, ten a second, while nothing else waits
//! ```
//!
//! A thread of its own, since disks stall, and neither the draining of rings nor sending may wait
//! for one. Everything that can go wrong on a disk is counted and costs no envelope that is in
//! memory: then these stay there, and the disk is tried again after a pause.
//!
//! A stored envelope that is being sent stays in the spool until the server's answer is known, so
//! a kill before that sends it twice, under one event id, and never not at all.
//!
//! # Invariants
//! * T1: what is in `Books::spool` is what the spool holds, but for what happens at this moment.
//! * T2: a parcel is settled as spooled after its record is written; if it was given up before
//!   that, the record is taken out again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::courier::{Moment, forget};
use super::depot::Depot;
use super::ending::{self, Ending};
use super::envelope::{Envelope, Parcel};
use super::queue::{Fate, Outcome, Queue, Settled, Worker};
use super::spool::{Bounds, Refused, Spool, Ticket};
use crate::shared::ledger::{Books, Count, Reason};

/// At most 15 bytes: that is what Linux keeps.
const THREAD_NAME: &str = "hotspan-spool";

/// How long to wait for something to do. Also what lies between two stored envelopes at the least,
/// so that what was missed for a day does not come all at once.
const INTERVAL: Duration = Duration::from_millis(100);

/// Envelopes that are written down at a time.
const BATCH: usize = 256;

/// After one that could not be, while all that waits is due.
const BREATH: Duration = Duration::from_millis(1);

/// Between two looks for what dead processes left.
const ADOPT_INTERVAL: Duration = Duration::from_secs(60);

/// How long the disk is left alone after an error; it doubles up to the second one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Panics of our own code in a row after which the spool is given up.
const PANICS_MAX: u32 = 5;

/// Where the spool is, and how large.
#[derive(Clone, Debug)]
pub(crate) struct SpoolPlan {
    pub(crate) dir: PathBuf,
    /// Stands for where envelopes go.
    pub(crate) destination: u32,
    pub(crate) bounds: Bounds,
}

/// Starts the thread.
///
/// # Errors
/// When the system gives none. What is wrong with the folder is found out by the thread, counted
/// and tried again: it must not be in the way of starting.
pub(super) fn start(plan: SpoolPlan, queue: Arc<Queue>, depot: Arc<Depot>) -> io::Result<Ending> {
    queue.begin();
    let stopping = Stopping(Arc::clone(&queue));
    let mut spooler = Spooler::new(plan, queue, depot, Moment::now);
    let run = move || {
        let stopping = stopping;
        let mut panics = 0;
        while panics < PANICS_MAX {
            match catch_unwind(AssertUnwindSafe(|| spooler.cycle())) {
                Ok(true) => panics = 0,
                Ok(false) => break,
                Err(payload) => {
                    forget(payload);
                    panics += 1;
                    spooler.survived_panic();
                    thread::sleep(Duration::from_millis(50 << panics));
                }
            }
        }
        spooler.finish();
        drop(stopping);
    };
    ending::spawn(THREAD_NAME, run)
}

struct Stopping(Arc<Queue>);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.set_spooling(false);
        self.0.end(Worker::SPOOL);
    }
}

/// The thread, but for the thread. `Now` tells the time.
pub(super) struct Spooler<Now> {
    plan: SpoolPlan,
    queue: Arc<Queue>,
    depot: Arc<Depot>,
    books: &'static Books,
    now: Now,
    /// `None`: it could not be opened yet.
    spool: Option<Spool>,
    /// The disk is left alone before this moment, and for how long that is.
    paused_until: Duration,
    pause: Duration,
    /// When to look for what others left.
    adopt_at: Duration,
    /// The stored envelope that is being sent, and when the last one was handed in.
    out: Option<(u64, Ticket)>,
    number: u64,
    handed_in: Option<Duration>,
    fates: Vec<Fate>,
}

impl<Now: Fn() -> Moment> Spooler<Now> {
    pub(super) fn new(plan: SpoolPlan, queue: Arc<Queue>, depot: Arc<Depot>, now: Now) -> Self {
        let books = depot.books();
        // Until its folder turns out not to be there for us: who closes at once is not to lose what
        // nobody had time yet to save.
        queue.set_spooling(true);
        Self {
            plan,
            queue,
            depot,
            books,
            now,
            spool: None,
            paused_until: Duration::ZERO,
            pause: Duration::ZERO,
            adopt_at: Duration::ZERO,
            out: None,
            number: 0,
            handed_in: None,
            fates: Vec::new(),
        }
    }

    /// Does what there is to do, and waits for more. False when nothing will come any more.
    pub(super) fn cycle(&mut self) -> bool {
        let now = (self.now)();
        let is_ready = now.monotonic >= self.paused_until && self.is_open();
        if is_ready {
            self.queue.set_spooling(true);
            self.adopt(now);
            self.keep_some();
            self.hand_in((self.now)());
        }
        self.account();
        let mut fates = std::mem::take(&mut self.fates);
        let goes_on = self.queue.wait_for_spool(INTERVAL, &mut fates);
        fates.drain(..).for_each(|fate| self.settle(fate));
        self.fates = fates;
        goes_on
    }

    /// Writes down what should not wait any longer, a bounded part of it, however fast more comes.
    fn keep_some(&mut self) {
        for _ in 0..BATCH {
            let now = (self.now)();
            let Some(parcel) = self.queue.pop_for_spool(now.monotonic) else { return };
            let is_kept = self.keep(parcel, now);
            self.account();
            if !is_kept {
                // It is due again at once.
                thread::sleep(BREATH);
                return;
            }
        }
    }

    /// Opens the spool, if it is not.
    fn is_open(&mut self) -> bool {
        if self.spool.is_none() {
            let SpoolPlan { dir, destination, bounds } = &self.plan;
            match Spool::open(dir, *destination, *bounds) {
                Ok(spool) => self.spool = Some(spool),
                Err(error) => self.disk_failed(&format!("the spool cannot be opened: {error}")),
            }
        }
        self.spool.is_some()
    }

    /// Takes over what dead processes left, a bounded part of it at a time.
    fn adopt(&mut self, now: Moment) {
        let Some(spool) = &mut self.spool else { return };
        if now.monotonic < self.adopt_at {
            return;
        }
        let adopted = spool.adopt(now.unix);
        self.books.spool.recovered.add(adopted.count);
        if !adopted.more {
            self.adopt_at = now.monotonic.saturating_add(ADOPT_INTERVAL);
        }
        if adopted.envelopes > 0 {
            let (envelopes, Count { transactions, spans }) = (adopted.envelopes, adopted.count);
            self.depot.debug(|| {
                format!(
                    "spool: {envelopes} envelopes of earlier processes, {transactions} \
                     transactions with {spans} spans"
                )
            });
        }
    }

    /// Writes a parcel down. False when that failed.
    fn keep(&mut self, parcel: Parcel, now: Moment) -> bool {
        let Some(spool) = &mut self.spool else { return false };
        let pieces = Envelope { parcel: &parcel }.without_sent_at();
        let (outcome, ticket) = match spool.put(pieces, parcel.count, now.unix) {
            Ok(ticket) => (Outcome::Spooled, Some(ticket)),
            // Longer than all of the spool: there is no place for it anywhere.
            Err(Refused::TooLong) => (Outcome::Lost(Reason::SpoolEvicted), None),
            Err(Refused::Full) => (Outcome::Back, None),
            Err(Refused::Disk(error)) => {
                self.disk_failed(&format!("the spool cannot be written: {error}"));
                (Outcome::Back, None)
            }
        };
        let settled = self.queue.settle(Worker::SPOOL, parcel, outcome, now.monotonic);
        match (ticket, &mut self.spool) {
            // T2.
            (Some(ticket), Some(spool)) if settled == Settled::Before => spool.done(ticket),
            (Some(_), _) => self.pause = Duration::ZERO,
            _ => {}
        }
        outcome != Outcome::Back
    }

    /// Gives the oldest back to be sent, if there is time for it.
    fn hand_in(&mut self, now: Moment) {
        let is_early = |last: Duration| now.monotonic.saturating_sub(last) < INTERVAL;
        if self.out.is_some()
            || self.handed_in.is_some_and(is_early)
            || !self.queue.has_time_for_stored(now.monotonic)
        {
            return;
        }
        let Some(spool) = &mut self.spool else { return };
        let mut bytes = self.queue.buffer();
        let Some(taken) = spool.take(&mut bytes, now.unix) else {
            self.queue.recycle(bytes);
            if spool.held().envelopes > 0 {
                self.disk_failed("the spool cannot be read");
            }
            return;
        };
        self.number += 1;
        let parcel = Parcel::stored(bytes, self.number, taken.count);
        self.handed_in = Some(now.monotonic);
        match self.queue.push(parcel, now.monotonic) {
            Ok(()) => self.out = Some((self.number, taken.ticket)),
            Err(bytes) => {
                spool.put_back(taken.ticket);
                self.queue.recycle(bytes);
            }
        }
    }

    /// Does to the copy on disk what became of its envelope.
    fn settle(&mut self, fate: Fate) {
        let (Fate::Done(number) | Fate::Back(number)) = fate;
        let Some((_, ticket)) = self.out.take_if(|(out, _)| *out == number) else { return };
        match (fate, &mut self.spool) {
            (Fate::Done(_), Some(spool)) => spool.done(ticket),
            (Fate::Back(_), Some(spool)) => spool.put_back(ticket),
            (_, None) => {}
        }
    }

    /// Writes down what the spool lost. T1.
    fn account(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        let losses = spool.losses();
        for (reason, count) in [
            (Reason::SpoolEvicted, losses.evicted + losses.expired),
            (Reason::SpoolDamaged, losses.damaged),
        ] {
            self.books.spool.left.add(count);
            self.books.lose(reason, count);
        }
        self.books.spool.damaged_files.add(losses.damaged_files);
        self.books.spool.errors.add(losses.errors);
    }

    #[cold]
    fn disk_failed(&mut self, error: &str) {
        let now = (self.now)().monotonic;
        // The words first: who sees the number finds them.
        self.depot.failed("spool", error, now);
        self.books.spool.errors.add(1);
        self.queue.set_spooling(false);
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.paused_until = now.saturating_add(self.pause);
    }

    /// A cycle panicked.
    pub(super) fn survived_panic(&mut self) {
        self.books.restarts.add(1);
        self.queue.lose_in_hand(Worker::SPOOL);
    }

    /// What is in the spool is left for the next process.
    pub(super) fn finish(&mut self) {
        self.account();
        if let Some(spool) = self.spool.take() {
            self.books.spool.put_aside.add(spool.held().count);
        }
    }
}

#[cfg(test)]
mod tests;
