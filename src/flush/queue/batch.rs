//! What the flusher hands over at a time, so that it takes the lock once for many envelopes, and
//! calls nobody before it has something worth getting up for.
//!
//! ```text
//!   flusher ── encode ─► parcels ─┐              ┌─► queued
//!              ▲                  ├─ take_over ──┤
//!              └──── buffers ◄────┘              └─► no room: lost
//! ```
//!
//! What lies in a batch is the flusher's still, in memory and in the books: it is handed over when
//! it is [due](Batch::is_due), before code of a user runs, and at the end of every look at the
//! rings.
//!
//! # Invariants
//! * B1: a batch holds at most [`PARCELS_MAX`] parcels, and stops at [`BYTES_MAX`] of them, and at
//!   a quarter of what the queue may hold; and no more buffers than that.
//! * B2: after parcels found no room, each one is handed over by itself: what the queue says of its
//!   room before one is encoded takes all others into account.

use std::time::Duration;

use super::Queue;
use crate::flush::envelope::Parcel;
use crate::shared::ledger::{Count, Reason};

/// About as many as an uploader that throws away takes while the flusher encodes as many more.
pub(super) const PARCELS_MAX: usize = 64;

/// Of memory.
const BYTES_MAX: usize = 256 * 1024;

/// Of those that would find no room, as it seems, one in so many is tried all the same: it may be
/// smaller than the last one that did find some.
const TRY_EVERY: u64 = 16;

/// Envelopes that are ready, and buffers for the next ones.
#[derive(Debug)]
pub(crate) struct Batch {
    parcels_max: usize,
    bytes_max: usize,
    parcels: Vec<Parcel>,
    bytes: usize,
    buffers: Vec<Vec<u8>>,
    /// Parcels of the last one: about so many buffers are wanted.
    last: usize,
    /// The last time something found no room.
    is_strained: bool,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// What is in it is queued.
    pub(crate) queued: Count,
    /// Is not, and why.
    pub(crate) refused: Count,
    pub(crate) reason: Reason,
}

impl Batch {
    /// An empty buffer to encode into, for a parcel of this batch; or why that would be in vain
    /// ([`Queue::admit`]).
    ///
    /// # Errors
    /// The reason for which what was to be encoded is lost.
    pub(crate) fn buffer(&mut self, queue: &Queue) -> Result<Vec<u8>, Reason> {
        match self.buffers.pop() {
            Some(buffer) => Ok(buffer),
            None => queue.admit(self),
        }
    }

    /// Takes back a buffer that nothing came of.
    pub(crate) fn unused(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.buffers.push(buffer);
    }

    pub(crate) fn add(&mut self, parcel: Parcel) {
        self.bytes += parcel.bytes.capacity();
        self.parcels.push(parcel);
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> Count {
        self.parcels.iter().fold(Count::default(), |sum, parcel| sum + parcel.count)
    }

    /// Whether it is to be handed over before anything else is added.
    pub(crate) fn is_due(&self) -> bool {
        self.is_strained || self.parcels.len() >= self.parcels_max || self.bytes >= self.bytes_max
    }
}

impl Queue {
    /// An empty batch for this queue.
    pub(crate) fn batch(&self) -> Batch {
        Batch {
            parcels_max: (self.rules.parcels_max / 4).clamp(1, PARCELS_MAX),
            bytes_max: (self.rules.bytes_max / 4).min(BYTES_MAX),
            parcels: Vec::new(),
            bytes: 0,
            buffers: Vec::new(),
            last: 0,
            is_strained: false,
        }
    }

    /// Queues what is in a batch, in its order, and empties it; its buffers go back. Never waits
    /// for room.
    pub(crate) fn take_over(&self, batch: &mut Batch, now: Duration) -> Option<Taken> {
        if batch.parcels.is_empty() && batch.buffers.is_empty() {
            return None;
        }
        let mut state = self.lock();
        let reason = match state.is_closed {
            true => state.abandoned.unwrap_or(Reason::ShutdownDeadline),
            false => Reason::QueueFull,
        };
        batch.last = batch.parcels.len();
        let (mut queued, mut refused) = (Count::default(), Count::default());
        for parcel in batch.parcels.drain(..) {
            let count = parcel.count;
            match state.accept(parcel, &self.rules, now) {
                Ok(()) => queued += count,
                Err(bytes) => {
                    refused += count;
                    state.buffers.give(bytes);
                }
            }
        }
        batch.buffers.drain(..).for_each(|buffer| state.buffers.give(buffer));
        self.tell_workers(state, !queued.is_zero());
        (batch.bytes, batch.is_strained) = (0, !refused.is_zero());
        Some(Taken { queued, refused, reason })
    }

    /// Before something is encoded that is to be pushed: an empty buffer, and more of them for the
    /// batch; or why that would be in vain: the queue is closed, or the last parcel found no
    /// room and one more like the last that did would find none, either. Nothing is encoded then to
    /// be thrown away, but for one in [`TRY_EVERY`].
    ///
    /// # Errors
    /// The reason for which it is lost.
    pub(super) fn admit(&self, batch: &mut Batch) -> Result<Vec<u8>, Reason> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(state.abandoned.unwrap_or(Reason::ShutdownDeadline));
        }
        if state.is_overflowing {
            if state.is_full(&self.rules) {
                state.refused += 1;
                if !state.refused.is_multiple_of(TRY_EVERY) {
                    return Err(Reason::QueueFull);
                }
            }
        } else {
            let mut bytes = 0;
            for _ in 1..batch.last.min(batch.parcels_max) {
                if bytes >= batch.bytes_max {
                    break;
                }
                let Some(spare) = state.buffers.take() else { break };
                bytes += spare.capacity();
                batch.buffers.push(spare);
            }
        }
        Ok(super::room::buffer(state))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, look, parcel, pop, push, queue, settle};
    use super::super::{Outcome, Popped, Rules};
    use super::*;
    use crate::shared::ledger::Books;

    #[test]
    fn a_batch_is_queued_in_its_order_by_one_lock_and_its_buffers_go_round() {
        let queue = queue(100_000);
        let mut batch = queue.batch();
        assert_eq!(queue.take_over(&mut batch, NOW), None);
        for children in 0..PARCELS_MAX as u64 {
            assert!(!batch.is_due());
            assert_eq!(batch.buffer(&queue).unwrap().capacity(), 0);
            batch.add(parcel(10, children));
        }
        assert!(batch.is_due());
        assert!(matches!(look(&queue, super::super::tests::A, NOW), Popped::Idle), "not yet");
        let taken = queue.take_over(&mut batch, NOW).unwrap();
        let spans = (1..=PARCELS_MAX as u64).sum();
        let transactions = PARCELS_MAX as u64;
        assert_eq!(taken.queued, Count { transactions, spans });
        assert!(taken.refused.is_zero() && !batch.is_due());
        for children in 0..PARCELS_MAX as u64 {
            let parcel = pop(&queue);
            assert_eq!(parcel.count, Count::transaction(children));
            settle(&queue, parcel, Outcome::Delivered);
        }
        // One lock fetches them all, and what is not needed goes back at the end of the look.
        assert_eq!(queue.spares(), PARCELS_MAX);
        let buffer = batch.buffer(&queue).unwrap();
        assert_eq!((buffer.capacity(), queue.spares()), (10, 0));
        batch.unused(buffer);
        assert_eq!(queue.take_over(&mut batch, NOW).unwrap().queued, Count::default());
        assert_eq!(queue.spares(), PARCELS_MAX);
    }

    #[test]
    fn a_batch_of_large_parcels_is_due_sooner_and_takes_fewer_buffers() {
        let queue = queue(10_000_000);
        let mut batch = queue.batch();
        for _ in 0..3 {
            queue.recycle(Vec::with_capacity(BYTES_MAX));
        }
        let buffer = batch.buffer(&queue).unwrap();
        assert_eq!(
            (batch.buffers.len(), queue.spares()),
            (0, 2),
            "nobody knows how many are wanted"
        );
        queue.recycle(buffer);
        batch.last = 9;
        batch.buffer(&queue).unwrap();
        assert_eq!((batch.buffers.len(), queue.spares()), (1, 1));
        batch.add(parcel(BYTES_MAX - 1, 0));
        assert!(!batch.is_due());
        batch.add(parcel(1, 0));
        assert!(batch.is_due());
    }

    #[test]
    fn a_batch_for_a_small_queue_is_small() {
        let rules = Rules { bytes_max: 1000, parcels_max: 10, tries_max: 1 };
        let queue = Queue::new(rules, Box::leak(Box::new(Books::new())));
        let mut batch = queue.batch();
        batch.add(parcel(249, 0));
        assert!(!batch.is_due());
        batch.add(parcel(1, 0));
        assert!(batch.is_due(), "two parcels, and 250 bytes");
        queue.take_over(&mut batch, NOW).unwrap();
        batch.add(parcel(250, 0));
        assert!(batch.is_due(), "250 bytes");
        let rules = Rules { parcels_max: 1, ..rules };
        let mut batch = Queue::new(rules, Box::leak(Box::new(Books::new()))).batch();
        batch.add(parcel(1, 0));
        assert!(batch.is_due());
    }

    #[test]
    fn what_finds_no_room_is_said_and_then_each_is_handed_over_by_itself() {
        let queue = queue(100);
        let mut batch = queue.batch();
        [60, 60, 40].into_iter().for_each(|bytes| batch.add(parcel(bytes, 2)));
        let taken = queue.take_over(&mut batch, NOW).unwrap();
        let reason = Reason::QueueFull;
        let queued = Count { transactions: 2, spans: 6 };
        assert_eq!(taken, Taken { queued, refused: Count::transaction(2), reason });
        assert!(batch.is_due(), "before there is anything in it");
        settle(&queue, pop(&queue), Outcome::Delivered);
        batch.add(parcel(60, 0));
        assert!(queue.take_over(&mut batch, NOW).unwrap().refused.is_zero());
        assert!(!batch.is_due());

        push(&queue, parcel(1, 0)).unwrap_err();
        queue.close();
        assert_eq!(batch.buffer(&queue), Err(Reason::ShutdownDeadline));
        batch.add(parcel(1, 7));
        let taken = queue.take_over(&mut batch, NOW).unwrap();
        assert_eq!(
            (taken.refused, taken.reason),
            (Count::transaction(7), Reason::ShutdownDeadline)
        );
    }
}
