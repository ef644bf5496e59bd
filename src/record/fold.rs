//! What was set last on a child, and waits in the child's line for its record
//! (`shared/layout/fold.rs` says how).
//!
//! # Invariants
//! * W1: only a line with a key that is neither a root's nor was entered holds one: that of a child
//!   of this thread, whose start wrote the words. In any other line they mean something else.
//! * W2: nothing is written for a span behind the back of what waits: whatever writes, but a
//!   child's record in its usual form, settles it first. A span that may be visited on another
//!   line, on this thread, too, does not let anything wait any more: it is `SHARED`.

use crate::shared::layout::{AtomicSlot, FOLDED, PLAIN, is_folded, put_attribute};
use crate::shared::registry::Lane;
use crate::shared::seqlock::meta;
use crate::shared::settings::SETTINGS;
use crate::shared::sync::Ordering;

use super::local::Local;

/// W1, W2: lines in which nothing waits.
pub(super) const HOLDS_NONE: u64 = meta::ROOT | meta::ENTERED | meta::SHARED;

/// Whether nothing waits in a line that may hold something.
#[inline(always)]
pub(super) fn is_free(line: &AtomicSlot) -> bool {
    let [.., waiting, _] = line;
    waiting.load(Ordering::Relaxed) == PLAIN
}

/// Leaves an attribute of one word in a line in which nothing waits any more.
#[inline(always)]
pub(super) fn fold(line: &AtomicSlot, header: u64, word: u64) {
    let [.., waiting, value] = line;
    waiting.store(header | FOLDED, Ordering::Relaxed);
    value.store(word, Ordering::Relaxed);
}

/// What waited was written.
#[inline(always)]
pub(super) fn hold_none(line: &AtomicSlot) {
    let [.., waiting, value] = line;
    waiting.store(PLAIN, Ordering::Relaxed);
    value.store(0, Ordering::Relaxed);
}

impl Local {
    /// Writes what waits in a line into a slot of its own, if that takes no more than writing it;
    /// the line's words are left as they are. False: nothing was done.
    #[inline(always)]
    pub(super) fn put_waiting(&self, line: &AtomicSlot) -> bool {
        let [.., waiting, value] = line;
        let Some(slot) = self.writer.next_slot() else { return false };
        let header = waiting.load(Ordering::Relaxed) & !FOLDED;
        put_attribute(slot, header, line, &value.load(Ordering::Relaxed).to_le_bytes());
        self.writer.took_slot();
        true
    }

    /// Writes what waits in a line, if anything does, into a slot of its own (W2). What finds no
    /// room is counted.
    #[inline]
    pub(super) fn settle_attribute(&self, lane: &Lane, depth: usize) {
        let [key, .., bits, waiting, _] = lane.spans.at(depth);
        if is_folded(waiting.load(Ordering::Relaxed))
            && bits.load(Ordering::Relaxed) & HOLDS_NONE == 0
            && key.load(Ordering::Relaxed) != 0
        {
            self.write_waiting(lane, depth);
        }
    }

    #[inline(never)]
    fn write_waiting(&self, lane: &Lane, depth: usize) {
        let line = lane.spans.at(depth);
        let [key, root, .., waiting, value] =
            line.each_ref().map(|word| word.load(Ordering::Relaxed));
        hold_none(line);
        // Making room may publish.
        self.note_keys(lane);
        let slot = [waiting & !FOLDED, key, root, value, 0, 0, 0, 0];
        if !self.writer.push(&lane.ring, &slot, || SETTINGS.ring_slots()) {
            lane.counters.attributes_lost.add(1);
            self.lost_slot(lane, depth);
        }
    }
}
