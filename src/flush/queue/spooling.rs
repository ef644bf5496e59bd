//! The queue, as the owner of the spool sees it.

use std::sync::PoisonError;
use std::time::Duration;

use super::outcome::{Fate, Worker};
use super::{PATIENCE, Queue};
use crate::flush::envelope::Parcel;

impl Queue {
    /// What is queued is the spool's, and nobody else's.
    pub(crate) fn rescue(&self) {
        self.change(|state| state.is_rescuing = state.is_spooling);
    }

    /// Whether there is a spool that works, from now on.
    pub(crate) fn set_spooling(&self, is_spooling: bool) {
        if self.is_spooling() == is_spooling {
            return;
        }
        self.change(|state| {
            state.is_spooling = is_spooling;
            state.is_rescuing &= is_spooling;
        });
    }

    pub(crate) fn is_spooling(&self) -> bool {
        self.lock().is_spooling
    }

    /// A parcel for the spool, if there is one that should not wait any longer: the oldest, when
    /// nothing is answered, when parcels fill more than half of their room, when it has waited for
    /// a second, and in a shutdown whose time runs out. Stored ones that would wait go back.
    pub(crate) fn pop_for_spool(&self, now: Duration) -> Option<Parcel> {
        let mut state = self.lock();
        loop {
            let oldest = state.parcels.front()?;
            let waits = oldest.way.since.saturating_add(PATIENCE) <= now;
            let is_due = state.route.is_down() || state.is_rescuing || waits;
            if !is_due && !state.is_filling(&self.rules) || state.abandoned.is_some() {
                return None;
            }
            let parcel = state.take_oldest(Worker::SPOOL, now)?;
            let Some(ticket) = parcel.way.stored else { return Some(parcel) };
            state.land(parcel.way.number, Worker::SPOOL);
            state.fates.push(Fate::Back(ticket));
            self.progress.notify_all();
        }
    }

    /// Waits until the spool may have something to do, at most `timeout`; what became of stored
    /// parcels is appended to `fates`. False when nothing will come any more.
    pub(crate) fn wait_for_spool(&self, timeout: Duration, fates: &mut Vec<Fate>) -> bool {
        let mut state = self.lock();
        let is_due = state.is_rescuing && !state.parcels.is_empty();
        if state.fates.is_empty() && !state.is_over() && !is_due {
            let waited = self.spool_work.wait_timeout(state, timeout);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        fates.append(&mut state.fates);
        !state.is_over()
    }

    /// Whether the spool may hand in a stored parcel: nothing else waits, and the server wants
    /// transactions, and answers; or it is time to see whether it does.
    pub(crate) fn has_time_for_stored(&self, now: Duration) -> bool {
        let state = self.lock();
        let is_free = state.parcels.is_empty() && state.stored == 0 && !state.is_closed;
        let is_paused = !state.route.pause(now).is_zero() || state.is_probing();
        is_free && !(state.route.is_down() && is_paused) && state.limited_until <= now
    }
}
