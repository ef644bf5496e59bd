//! [`Lot`]: what an uploader takes at a time, one parcel or several.
//!
//! ```text
//!   queued ── pop ──► parcels ──┬─ settle_ahead ─► the end is known, bytes are spent ──┐
//!     ▲                         └─ settle ───────► queued again                        │
//!     └──────────────── buffers, with the next pop ◄───────────────────────────────────┘
//! ```
//!
//! A lot is taken under one lock, which also takes the buffers of the last one: an uploader with a
//! lot of one takes no more locks than one parcel needs. It never waits for more to come: what is
//! there is taken.
//!
//! # Invariants
//! * L1: a lot holds at most `most` parcels and [`PARCELS_MAX`], and more than one only as far as
//!   they have [`BYTES_MAX`] together.
//! * L2: while nothing is answered a lot is one parcel, the probe. So it is in a shutdown.

use super::outcome::Worker;
use super::state::State;
use crate::flush::envelope::Parcel;
use std::time::Duration;

/// As many as the flusher hands over at a time.
pub(crate) const PARCELS_MAX: usize = 64;

/// Of envelopes; what is in a lot cannot be saved by the spool, nor be sent by anybody else.
pub(super) const BYTES_MAX: usize = 1024 * 1024;

/// Parcels in an uploader's hands, and what is left of the last ones.
#[derive(Debug, Default)]
pub(crate) struct Lot {
    /// So many are wanted, if there are as many; 0 counts as 1.
    pub(crate) most: usize,
    /// Each is to be settled before the next lot is taken. In the order of the queue.
    pub(crate) parcels: Vec<Parcel>,
    /// Bytes of those that are, for others to use again.
    pub(crate) spent: Vec<Vec<u8>>,
}

impl State {
    /// Takes the oldest, and what may go with it. False if there is none.
    pub(super) fn take_lot(&mut self, worker: Worker, lot: &mut Lot, since: Duration) -> bool {
        let Some(first) = self.take_oldest(worker, since) else { return false };
        let mut bytes = first.bytes.len();
        lot.parcels.push(first);
        // L2. Else whoever may take one may take all: there is no pause.
        let most = if self.route.is_down() { 1 } else { lot.most.min(PARCELS_MAX) };
        while lot.parcels.len() < most {
            let Some(next) = self.parcels.front() else { break };
            bytes = bytes.saturating_add(next.bytes.len());
            if bytes > BYTES_MAX {
                break;
            }
            lot.parcels.extend(self.take_oldest(worker, since));
        }
        true
    }
}
