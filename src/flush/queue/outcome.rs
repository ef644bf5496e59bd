//! What the queue and its workers say to each other.

use crate::flush::envelope::Ticket;
use crate::shared::ledger::{Count, Reason};

/// Who works on a parcel: the number of an uploader, or the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worker(pub(crate) u16);

impl Worker {
    pub(crate) const SPOOL: Self = Self(u16::MAX);
}

/// What [`Queue::pop`](super::Queue::pop) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    /// Parcels, in the lot: now in flight, until they are settled.
    Lot,
    /// Somebody waits for a client report; answer with [`reported`](super::Queue::reported).
    Report,
    /// Nothing came in time.
    Idle,
    /// Closed, and nothing is left for this worker.
    Closed,
    /// Given up: nothing is to be sent any more.
    Abandoned,
}

/// What became of a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Lost(Reason),
    /// No answer: tried again if there are tries left, or a spool; else a network error.
    NoAnswer {
        /// Any number.
        jitter: u32,
    },
    /// The server wants nothing now: lost, but for a stored one, which stays in the spool.
    Limited,
    /// Written to the spool.
    Spooled,
    /// The spool could not take it: queued again.
    Back,
}

/// What [`Queue::settle`](super::Queue::settle) wrote down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The end: so much was delivered, lost or spooled.
    For(Count),
    /// It is queued again.
    Again,
    /// It was abandoned before.
    Before,
}

/// What is to become of a parcel's copy on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Sent, or lost: never to be sent again.
    Done(Ticket),
    /// To be sent another time.
    Back(Ticket),
}
