//! The flusher's work: out of the rings, into the queue.
//!
//! One cycle walks all lanes, copies what each had published when its turn came, puts transactions
//! together, writes each as an envelope and pushes it into the uploader's queue. It never waits for
//! anything: a full queue means that the envelope is dropped and counted.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::shared::clock::Anchor;
use crate::shared::id::WireIds;
use crate::shared::layout::{Kind, Slot, slots_of};
use crate::shared::ledger::{Books, Count, Reason};
use crate::shared::registry::{self, LOST_ON_THREAD, Lane};
use crate::shared::ring::State;

use super::assemble::{Assembler, Bounds, Sink};
use super::encode::{Encoder, Site};
use super::keep::Keep;
use super::queue::Queue;

/// Slots copied at a time.
const BATCH: u64 = 4096;

/// The right to read the rings: there is one (R1 of the ring). A flusher that was given up at
/// shutdown keeps it until it has really ended.
#[derive(Debug)]
pub(crate) struct Reading(());

/// The process whose flusher reads, 0 for none: a fork's copy of it names the parent, whose flusher
/// is not in the child.
static READING: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());

impl Reading {
    /// Waits for the last reader to end, at most `timeout`.
    pub(crate) fn begin(timeout: Duration) -> Option<Self> {
        let process = std::process::id();
        let (taken, ended) = &READING;
        let lock = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut lock, _) = ended
            .wait_timeout_while(lock, timeout, |by| *by == process)
            .unwrap_or_else(PoisonError::into_inner);
        let free = *lock != process;
        *lock = process;
        free.then_some(Self(()))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        *READING.0.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        READING.1.notify_all();
    }
}

/// What a cycle found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cycle {
    /// Slots in the fullest ring.
    pub(crate) fullest: u64,
    /// A transaction waits for the next walk.
    pub(crate) unsettled: bool,
}

/// The flusher's own state.
pub(crate) struct Flusher {
    batch: Vec<Slot>,
    assembler: Assembler,
    out: Out,
    /// Given back when the flusher is dropped.
    _reading: Reading,
}

/// Where transactions go.
struct Out {
    encoder: Encoder,
    wire: WireIds,
    anchor: Anchor,
    queue: Arc<Queue>,
    /// Takes them instead of the queue.
    keep: Option<Arc<dyn Keep>>,
    books: &'static Books,
    /// Span records taken in, and those that left again: what lies between is in the assembler, or
    /// was in hand when something panicked.
    taken_in: Count,
    left: Count,
}

impl Sink for Out {
    fn transaction(&mut self, run: &[Slot]) {
        if let Some(keep) = &self.keep {
            keep.transaction(run);
            let kept = records(run);
            self.left += kept;
            self.books.delivered.add(kept);
            return;
        }
        let buffer = self.queue.buffer();
        match self.encoder.transaction(run, &self.wire, &self.anchor, buffer) {
            Ok((parcel, encoded)) => {
                let kept = parcel.count;
                self.lost(Reason::TransactionLimit, Count::spans(encoded.children_over_limit));
                self.lost(Reason::Invalid, Count::spans(encoded.children_unfit));
                self.books.cut.add(encoded.cut);
                self.books.attributes_dropped.add(encoded.dropped);
                match self.queue.push(parcel) {
                    Ok(()) => self.left += kept,
                    Err(parcel) => {
                        let closed = self.queue.is_closed();
                        let reason =
                            if closed { Reason::ShutdownDeadline } else { Reason::QueueFull };
                        self.lost(reason, kept);
                        self.queue.recycle(parcel.bytes);
                    }
                }
            }
            Err((buffer, _)) => {
                self.lost(Reason::Invalid, records(run));
                self.queue.recycle(buffer);
            }
        }
    }

    fn lost(&mut self, reason: Reason, count: Count) {
        self.left += count;
        self.books.lose(reason, count);
    }

    fn attributes_lost(&mut self, count: u64) {
        self.books.attributes_late.add(count);
    }

    fn given_up(&mut self, reason: Reason, slots: &[Slot]) {
        if let Some(keep) = &self.keep {
            keep.given_up(reason, slots);
        }
    }

    fn pieces(&mut self, slots: &[Slot]) {
        if let Some(keep) = &self.keep {
            keep.pieces(slots);
        }
    }
}

/// The records in a run of slots.
pub(crate) fn records(run: &[Slot]) -> Count {
    let mut count = Count::default();
    let mut at = 0;
    while let Some(slot) = run.get(at) {
        match Kind::of(slot[0]) {
            Some(Kind::Root) => count += Count::transaction(0),
            Some(Kind::Child) => count += Count::spans(1),
            _ => {}
        }
        at += slots_of(slot);
    }
    count
}

impl Flusher {
    pub(crate) fn new(
        site: Site,
        bounds: Bounds,
        wire: WireIds,
        queue: Arc<Queue>,
        books: &'static Books,
        reading: Reading,
    ) -> Self {
        Self {
            _reading: reading,
            batch: Vec::new(),
            assembler: Assembler::new(bounds),
            out: Out {
                encoder: Encoder::new(site),
                wire,
                anchor: Anchor::now(),
                queue,
                keep: None,
                books,
                taken_in: Count::default(),
                left: Count::default(),
            },
        }
    }

    /// Gives transactions to `keep` instead of the queue.
    pub(crate) fn keep(&mut self, keep: Option<Arc<dyn Keep>>) {
        self.out.keep = keep;
    }

    /// Drops what an earlier generation left in the rings: its flusher was gone when it was
    /// published.
    pub(crate) fn discard_leftovers(&mut self) {
        for lane in registry::lanes() {
            self.batch.clear();
            lane.ring.collect(&mut self.batch, u64::MAX >> 1);
            let count = records(&self.batch);
            self.out.books.collected.add(count);
            self.out.books.lose(Reason::AfterShutdown, count);
        }
        self.batch = Vec::new();
    }

    /// One walk over all lanes.
    pub(crate) fn cycle(&mut self, now: Duration) -> Cycle {
        self.out.anchor = Anchor::now();
        let mut found = Cycle::default();
        for lane in registry::lanes() {
            // Before the last look at the ring: a retired lane publishes no more.
            let state = lane.ring.state();
            if state == State::Free {
                continue;
            }
            let collected = self.collect(lane, now);
            found.fullest = found.fullest.max(collected);
            self.account(lane);
            if state == State::Retired {
                registry::recycle(lane);
            }
        }
        self.assembler.pass_done(&mut self.out);
        self.assembler.bound(now, &mut self.out);
        if let Some(keep) = &self.out.keep {
            self.assembler.each_waiting(|slots| keep.waiting(slots));
        }
        self.out.books.in_assembly.set(self.assembler.held());
        self.out.books.cycles.add(1);
        found.unsettled = self.assembler.has_ended();
        found
    }

    /// What is left when the library closes, and nothing follows.
    pub(crate) fn finish(&mut self) {
        self.assembler.clear(Reason::AfterShutdown, &mut self.out);
        self.out.books.in_assembly.set(Count::default());
    }

    /// After a panic: whatever was in hand or in the table is lost, and written down.
    pub(crate) fn recover(&mut self, bounds: Bounds) {
        let lost = self.out.taken_in - self.out.left;
        self.out.lost(Reason::Internal, lost);
        self.batch = Vec::new();
        self.assembler = Assembler::new(bounds);
        self.out.books.in_assembly.set(Count::default());
        self.out.books.restarts.add(1);
    }

    /// Drains one ring up to where it stood on entry.
    fn collect(&mut self, lane: &Lane, now: Duration) -> u64 {
        let waiting = lane.ring.waiting();
        let mut done = 0;
        self.batch.clear();
        while done < waiting {
            let before = self.batch.len();
            let count = lane.ring.collect(&mut self.batch, BATCH.min(waiting - done));
            if count == 0 {
                break;
            }
            done += count;
            // What is carried over from the last batch was counted then.
            let fresh = self.count_fresh(before);
            self.out.taken_in += fresh;
            self.out.books.collected.add(fresh);
            let more = done < waiting;
            let taken = self.assembler.take(lane.number, &self.batch, more, now, &mut self.out);
            self.batch.drain(..taken);
        }
        done
    }

    /// Records in the batch behind the first `before` slots. An attribute may begin before and end
    /// behind.
    fn count_fresh(&self, before: usize) -> Count {
        let mut at = 0;
        while at < before {
            match self.batch.get(at) {
                Some(slot) => at += slots_of(slot),
                None => break,
            }
        }
        records(self.batch.get(at..).unwrap_or_default())
    }

    /// Takes what a thread lost or left out since the last time into the next client report.
    fn account(&self, lane: &Lane) {
        let unsampled = lane.counters.unsampled.get();
        let fresh = unsampled.saturating_sub(lane.reported.unsampled.get());
        if fresh > 0 {
            lane.reported.unsampled.set(unsampled);
            self.out.books.unreported_unsampled.add(Count { transactions: fresh, spans: fresh });
        }
        for reason in LOST_ON_THREAD {
            let (Some(lost), Some(known)) =
                (lane.counters.lost(reason), lane.reported.lost(reason))
            else {
                continue;
            };
            let fresh = lost.get() - known.get();
            if !fresh.is_zero() {
                known.add(fresh);
                if reason.client_report().is_some() {
                    self.out.books.unreported.of(reason).add(fresh);
                }
            }
        }
    }
}
