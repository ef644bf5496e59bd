//! How a parcel ends: what is written down of it, when, and who is told.
//!
//! Where several are under way together the answers come one by one, and each is written down as it
//! comes ([`Queue::settle_ahead`]): what is known is not lost if the others are given up, and who
//! waits for it goes on. The parcel itself is still lent to the transport then. So what ends a
//! parcel takes it by reference, and only what queues it again takes it by value
//! ([`Queue::settle`]), when the transport has returned.
//!
//! That none answered is heard at that moment, too: an answer that comes later in the same lot says
//! that the server is there after all. What is queued again for that has failed once, not twice.

use std::sync::MutexGuard;
use std::time::Duration;

use super::Queue;
use super::outcome::{Fate, Outcome, Settled, Worker};
use super::state::{Flying, State};
use crate::flush::envelope::Parcel;
use crate::shared::ledger::Reason;

impl Queue {
    /// Writes down what became of a parcel that was popped, and takes its memory back.
    pub(crate) fn settle(
        &self,
        worker: Worker,
        mut parcel: Parcel,
        outcome: Outcome,
        now: Duration,
    ) -> Settled {
        let mut state = self.lock();
        let (was_down, way) = (state.route.is_down(), parcel.way);
        let settled = match self.write_down(&mut state, worker, &parcel, outcome, now) {
            Some(Settled::Before) => return Settled::Before,
            Some(settled) => {
                state.buffers.give(parcel.bytes);
                settled
            }
            None => {
                parcel.way.tries += u32::from(matches!(outcome, Outcome::NoAnswer { .. }));
                state.land(way.number, worker);
                state.put_back(parcel);
                Settled::Again
            }
        };
        self.tell_settled(state, was_down, way.stored.is_some(), Some(settled));
        settled
    }

    /// The same while the parcel is still lent to somebody, if that is its end here. `None` if it
    /// is to be queued again: then [`settle`](Self::settle) must follow, with the same outcome.
    pub(crate) fn settle_ahead(
        &self,
        worker: Worker,
        parcel: &Parcel,
        outcome: Outcome,
        now: Duration,
    ) -> Option<Settled> {
        let mut state = self.lock();
        let was_down = state.route.is_down();
        let settled = self.write_down(&mut state, worker, parcel, outcome, now);
        if settled != Some(Settled::Before) {
            self.tell_settled(state, was_down, parcel.way.stored.is_some(), settled);
        }
        settled
    }

    /// `None`: it is still in flight, and is to be queued again.
    fn write_down(
        &self,
        state: &mut State,
        worker: Worker,
        parcel: &Parcel,
        outcome: Outcome,
        now: Duration,
    ) -> Option<Settled> {
        let number = parcel.way.number;
        let is_delivered = outcome == Outcome::Delivered;
        let Some(flying) = state.hear(number, worker, is_delivered, now) else {
            return Some(Settled::Before);
        };
        let end = self.end_of(state, &flying, parcel.way.tries, outcome, now);
        let settled = match (end, flying.stored) {
            (None, None) => return None,
            (None, Some(ticket)) => {
                state.fates.push(Fate::Back(ticket));
                Settled::Again
            }
            (Some(end), stored) => {
                // Out of the spool before it is in anything else: no look sees it twice.
                if let Some(ticket) = stored {
                    self.books.spool.left.add(parcel.count);
                    state.fates.push(Fate::Done(ticket));
                }
                match end {
                    Err(reason) => self.books.lose(reason, parcel.count),
                    Ok(()) if is_delivered => self.books.delivered.add(parcel.count),
                    Ok(()) => {}
                }
                Settled::For(parcel.count)
            }
        };
        state.land(number, worker);
        Some(settled)
    }

    /// Whether that is the end, and of what kind; and what it says of the way to the server.
    fn end_of(
        &self,
        state: &mut State,
        flying: &Flying,
        tries: u32,
        outcome: Outcome,
        now: Duration,
    ) -> Option<Result<(), Reason>> {
        match outcome {
            Outcome::Delivered => {
                state.route.answered();
                Some(Ok(()))
            }
            Outcome::Lost(reason) => {
                if matches!(reason, Reason::Refused | Reason::SendError) {
                    state.route.answered();
                }
                Some(Err(reason))
            }
            Outcome::Limited if flying.stored.is_some() => None,
            Outcome::Limited => Some(Err(Reason::RateLimited)),
            Outcome::NoAnswer { jitter } => {
                // Many requests may end at once with what they were sent over: that is one failure.
                if !flying.has_failed && (!state.route.is_down() || flying.is_probe) {
                    state.route.failed(now, jitter);
                }
                state.has_failed(flying.number, flying.worker);
                let again = state.is_spooling || tries + 1 < self.rules.tries_max;
                if again { None } else { Some(Err(Reason::NetworkError)) }
            }
            Outcome::Spooled => {
                self.books.spool.taken_in.add(flying.count);
                Some(Ok(()))
            }
            Outcome::Back => None,
        }
    }

    /// Lets go of the lock and tells those whom it concerns.
    fn tell_settled(
        &self,
        mut state: MutexGuard<'_, State>,
        was_down: bool,
        is_stored: bool,
        settled: Option<Settled>,
    ) {
        let is_down = state.route.is_down();
        let spool_has_work = (is_stored || is_down || state.is_closed) && state.is_spooling;
        let (calls_all, is_awaited) = (was_down && !is_down, state.is_awaited());
        let calls = match calls_all {
            true => state.sleepers.call_all(),
            false => (settled == Some(Settled::Again) || was_down) && state.sleepers.call_one(),
        };
        drop(state);
        match (calls, calls_all) {
            (true, true) => self.work.notify_all(),
            (true, false) => self.work.notify_one(),
            _ => {}
        }
        if spool_has_work {
            self.spool_work.notify_one();
        }
        if is_awaited {
            self.progress.notify_all();
        }
    }
}
