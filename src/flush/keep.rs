//! Where transactions go that are not to be sent: to somebody in this process.
//!
//! What is kept counts as delivered, so the books stay exact. Called on the flusher's thread, which
//! must not be held up: whoever keeps copies, and returns.

use std::fmt;

use crate::shared::layout::Slot;
use crate::shared::ledger::Reason;

/// Takes slots instead of the encoder.
pub(crate) trait Keep: fmt::Debug + Send + Sync {
    /// A whole transaction that sampling keeps: its slots, the root's record last.
    fn transaction(&self, run: &[Slot]);
    /// One that was recorded on trial, and is not kept.
    fn discarded(&self, run: &[Slot]);
    /// Of a transaction from several rings, before it was put in order: what was detached is told
    /// here and nowhere else.
    fn pieces(&self, slots: &[Slot]);
    /// What waits for its root; every one of them in every cycle.
    fn waiting(&self, slots: &[Slot]);
    /// What was given up, all of one transaction.
    fn given_up(&self, reason: Reason, slots: &[Slot]);
}
