//! The queue, as those see it who fill it: whether there is room, and buffers to write into.

use std::sync::MutexGuard;
use std::time::Duration;

use super::state::State;
use super::{Queue, Strain};

/// What nobody has needed for so long is given back.
const REST: Duration = Duration::from_secs(1);

/// After a rush the list of parcels keeps room for so many.
const PARCELS_KEPT: usize = 512;

impl Queue {
    /// The server wants no transactions before this moment.
    pub(crate) fn limit(&self, until: Duration) {
        let mut state = self.lock();
        // Two who have heard of a limit may come in any order.
        state.limited_until = state.limited_until.max(until);
    }

    /// How the way to the server is.
    pub(crate) fn strain(&self) -> Strain {
        let state = self.lock();
        Strain {
            refused: state.refused,
            is_full: state.is_full(&self.rules),
            limited_until: state.limited_until,
        }
    }

    /// An empty buffer to encode into.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        buffer(self.lock())
    }

    /// Now and then, for the flusher: gives back to the system what a rush left behind.
    pub(crate) fn rest(&self, now: Duration) {
        let mut state = self.lock();
        if now.saturating_sub(state.rested) < REST {
            return;
        }
        state.rested = now;
        let unneeded = state.buffers.rest();
        if !unneeded.is_empty() {
            state.parcels.shrink_to(PARCELS_KEPT);
        }
        drop(state);
        // Nobody waits while these are freed.
        drop(unneeded);
    }

    /// Takes a buffer back.
    pub(crate) fn recycle(&self, buffer: Vec<u8>) {
        self.lock().buffers.give(buffer);
    }

    #[cfg(test)]
    pub(crate) fn spares(&self) -> usize {
        self.lock().buffers.count()
    }
}

/// An empty buffer; a new one is made when nobody waits for the lock.
pub(super) fn buffer(mut state: MutexGuard<'_, State>) -> Vec<u8> {
    let (spare, room) = (state.buffers.take(), state.buffers.room());
    drop(state);
    spare.unwrap_or_else(|| Vec::with_capacity(room))
}
