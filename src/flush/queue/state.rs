//! What the lock of the queue guards, and whose turn it is.

use std::collections::VecDeque;
use std::time::Duration;

use super::outcome::{Fate, Worker};
use super::sleepers::Sleepers;
use super::{Rules, STORED_MAX};
use crate::flush::backoff::Route;
use crate::flush::buffers::Buffers;
use crate::flush::envelope::{Parcel, Ticket};
use crate::shared::ledger::{Count, Reason};

/// What takes less is sent by one thread, without waking another.
pub(super) const LATE: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) parcels: VecDeque<Parcel>,
    /// Of those that wait, stored ones not counted.
    pub(super) queued: Count,
    pub(super) bytes: usize,
    pub(super) in_flight: Vec<Flying>,
    /// The number of the last parcel.
    pub(super) number: u64,
    pub(super) route: Route,
    pub(super) fates: Vec<Fate>,
    pub(super) stored: usize,
    /// Of these.
    pub(super) stored_bytes: usize,
    /// There is a spool that works.
    pub(super) is_spooling: bool,
    /// The spool is to take everything, now.
    pub(super) is_rescuing: bool,
    pub(super) reports_asked: u64,
    pub(super) reports_done: u64,
    /// The last one that was asked for when the one under way began.
    pub(super) reporting_for: u64,
    /// Who sends one.
    pub(super) is_reporting: Option<Worker>,
    pub(super) is_closed: bool,
    /// Why, if it is.
    pub(super) abandoned: Option<Reason>,
    pub(super) workers: usize,
    /// The last lot that was settled was delivered, and nobody waited long for the next word of it.
    pub(super) is_quick: bool,
    /// Uploaders with nothing to do.
    pub(super) sleepers: Sleepers,
    /// Those who wait until what was queued before them is settled, and the first number behind
    /// which that is so for one of them.
    pub(super) awaiting: usize,
    pub(super) awaited: u64,
    pub(super) buffers: Buffers,
    /// When those that nobody needed were last given back.
    pub(super) rested: Duration,
    pub(super) refused: u64,
    /// The last parcel that came found no room.
    pub(super) is_overflowing: bool,
    pub(super) limited_until: Duration,
}

/// A parcel that somebody works on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flying {
    pub(super) number: u64,
    pub(super) worker: Worker,
    /// Since when its worker has heard nothing: it was taken then, or another one of its lot was
    /// answered.
    pub(super) since: Duration,
    /// What its worker heard before, of the others of its lot, never took long, and all of them
    /// were delivered.
    pub(super) is_quick: bool,
    /// What is lost if it is; nothing if it is stored.
    pub(super) count: Count,
    pub(super) bytes: usize,
    pub(super) stored: Option<Ticket>,
    /// It was sent to see whether the server answers again.
    pub(super) is_probe: bool,
    /// That it was not answered is written down; it is still to be queued again.
    pub(super) has_failed: bool,
}

/// What an uploader may do next.
pub(super) enum Next {
    Take,
    Wait(Duration),
    Leave,
}

impl State {
    /// What an uploader may do. While nothing is answered one parcel is tried at a time, after a
    /// pause; in a shutdown nobody pauses, but leaves to the spool what it can save.
    pub(super) fn next(&self, now: Duration) -> Next {
        const LONG: Duration = Duration::from_secs(3600);
        let is_down = self.route.is_down();
        if self.is_rescuing {
            return Next::Leave;
        }
        if self.parcels.is_empty() {
            return if self.is_closed { Next::Leave } else { Next::Wait(LONG) };
        }
        if self.is_closed {
            return if is_down && self.is_spooling { Next::Leave } else { Next::Take };
        }
        let pause = self.route.pause(now);
        if is_down && self.is_probing() {
            Next::Wait(LONG)
        } else if pause.is_zero() {
            Next::Take
        } else {
            Next::Wait(pause)
        }
    }

    /// Queues a parcel.
    ///
    /// # Errors
    /// Its bytes, when there is no room for it, or the queue is closed.
    pub(super) fn accept(
        &mut self,
        mut parcel: Parcel,
        rules: &Rules,
        now: Duration,
    ) -> Result<(), Vec<u8>> {
        let capacity = parcel.bytes.capacity();
        let bytes = self.bytes.saturating_add(capacity);
        let is_stored = parcel.way.stored.is_some();
        // A stored one is not in the way of others, nor they in its.
        let is_full = if is_stored {
            self.stored >= STORED_MAX
        } else {
            bytes > rules.bytes_max || self.count() >= rules.parcels_max
        };
        if self.is_closed || is_full {
            self.is_overflowing |= !is_stored;
            self.refused += u64::from(!self.is_closed && !is_stored);
            return Err(parcel.bytes);
        }
        self.number += 1;
        parcel.way.number = self.number;
        parcel.way.since = now;
        if is_stored {
            self.stored += 1;
            self.stored_bytes += capacity;
        } else {
            self.bytes = bytes;
            self.is_overflowing = false;
            self.buffers.note(parcel.bytes.len());
            self.queued += parcel.count;
        }
        self.parcels.push_back(parcel);
        Ok(())
    }

    /// Whether who just took something should call one more for the next.
    pub(super) fn wants_more_hands(&self, now: Duration) -> bool {
        !self.parcels.is_empty() && (!self.is_quick || self.is_late(now))
    }

    /// Whether the oldest has waited for too long to be left to those who are awake.
    pub(super) fn is_late(&self, now: Duration) -> bool {
        self.parcels.front().is_some_and(|parcel| parcel.way.since.saturating_add(LATE) <= now)
    }

    pub(super) fn take_oldest(&mut self, worker: Worker, since: Duration) -> Option<Parcel> {
        let parcel = self.parcels.pop_front()?;
        let stored = parcel.way.stored;
        let count = if stored.is_some() { Count::default() } else { parcel.count };
        self.queued = self.queued - count;
        let (number, bytes) = (parcel.way.number, parcel.bytes.capacity());
        let is_probe = worker != Worker::SPOOL && self.route.is_down();
        self.in_flight.push(Flying {
            number,
            worker,
            since,
            is_quick: true,
            count,
            bytes,
            stored,
            is_probe,
            has_failed: false,
        });
        Some(parcel)
    }

    /// Whether somebody is finding out if the server answers again. What was sent before it stopped
    /// to do so says nothing about that.
    pub(super) fn is_probing(&self) -> bool {
        self.in_flight.iter().any(|each| each.is_probe)
    }

    /// What became of a parcel is known; whether its worker is quick is seen by how long it heard
    /// nothing before. A lot of 64 that takes 2 ms is quick, and one whose first answer takes as
    /// long is not.
    pub(super) fn hear(
        &mut self,
        number: u64,
        worker: Worker,
        is_delivered: bool,
        now: Duration,
    ) -> Option<Flying> {
        let is_it = |each: &&Flying| each.number == number && each.worker == worker;
        let flying = *self.in_flight.iter().find(is_it)?;
        if worker != Worker::SPOOL {
            let took = now.saturating_sub(flying.since);
            self.is_quick = flying.is_quick && is_delivered && took < LATE;
            for other in self.in_flight.iter_mut().filter(|each| each.worker == worker) {
                (other.since, other.is_quick) = (now, self.is_quick);
            }
        }
        Some(flying)
    }

    /// It was not answered, and that is written down.
    pub(super) fn has_failed(&mut self, number: u64, worker: Worker) {
        let is_it = |each: &&mut Flying| each.number == number && each.worker == worker;
        if let Some(flying) = self.in_flight.iter_mut().find(is_it) {
            flying.has_failed = true;
        }
    }

    /// It is no longer in flight.
    pub(super) fn land(&mut self, number: u64, worker: Worker) -> Option<Flying> {
        let is_it = |each: &Flying| each.number == number && each.worker == worker;
        let at = self.in_flight.iter().position(is_it)?;
        let flying = self.in_flight.swap_remove(at);
        self.forget(&flying);
        Some(flying)
    }

    /// Its memory is no longer held.
    pub(super) fn forget(&mut self, flying: &Flying) {
        let of = if flying.stored.is_some() {
            self.stored = self.stored.saturating_sub(1);
            &mut self.stored_bytes
        } else {
            &mut self.bytes
        };
        *of = of.saturating_sub(flying.bytes);
    }

    /// Q4.
    pub(super) fn put_back(&mut self, parcel: Parcel) {
        self.bytes = self.bytes.saturating_add(parcel.bytes.capacity());
        self.queued += parcel.count;
        let at = self.parcels.partition_point(|each| each.way.number < parcel.way.number);
        self.parcels.insert(at, parcel);
    }

    /// The number of the oldest that is not settled.
    pub(super) fn oldest(&self) -> Option<u64> {
        let queued = self.parcels.front().map(|parcel| parcel.way.number);
        let in_flight = self.in_flight.iter().map(|each| each.number).min();
        queued.into_iter().chain(in_flight).min()
    }

    /// Somebody waits from now on for all that was queued so far; the number of the last of that.
    pub(super) fn await_settled(&mut self) -> u64 {
        self.awaited = if self.awaiting == 0 { self.number } else { self.awaited.min(self.number) };
        self.awaiting += 1;
        self.number
    }

    /// Whether all up to this number is settled.
    pub(super) fn is_settled(&self, last: u64) -> bool {
        self.oldest().is_none_or(|oldest| oldest > last)
    }

    /// Whether somebody may have waited for what was just settled.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaiting > 0 && self.is_settled(self.awaited)
    }

    pub(super) fn in_flight(&self) -> Count {
        self.in_flight.iter().fold(Count::default(), |sum, each| sum + each.count)
    }

    /// Parcels, queued and in flight, but for stored ones.
    pub(super) fn count(&self) -> usize {
        (self.parcels.len() + self.in_flight.len()).saturating_sub(self.stored)
    }

    /// Whether one more like the last would find no room.
    pub(super) fn is_full(&self, rules: &Rules) -> bool {
        self.bytes + self.buffers.length() > rules.bytes_max || self.count() >= rules.parcels_max
    }

    pub(super) fn is_filling(&self, rules: &Rules) -> bool {
        self.bytes > rules.bytes_max / 2 || self.count() > rules.parcels_max / 2
    }

    /// Nothing is left to be sent or spooled.
    pub(super) fn is_over(&self) -> bool {
        let is_empty = self.parcels.is_empty() && self.in_flight.is_empty();
        self.is_closed && (is_empty || self.abandoned.is_some())
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.workers == 0 || self.abandoned.is_some()
    }
}
