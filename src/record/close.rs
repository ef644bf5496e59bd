//! Ending spans and transactions: the record, and the way back down the stack.

use std::time::SystemTime;

use crate::shared::clock;
use crate::shared::id::NameId;
use crate::shared::layout::{AtomicSlot, Kind, SpanRecord, flag, put_child, put_root};
use crate::shared::ledger::{Count, Reason};
use crate::shared::registry::Lane;
use crate::shared::seqlock::{Entry, State, meta};
use crate::shared::settings::{GENERATION, SETTINGS, threshold_of};
use crate::shared::sync::Ordering;

use super::handle::{Handle, is_live, low};
use super::local::{LOCAL, Local, forget_trace};
use super::trial::Verdict;

/// Ends a child. One that is ended inside another call stays open, and is counted with its
/// transaction.
#[inline]
pub(crate) fn close_child(handle: Handle) {
    let _ = LOCAL.try_with(|local| close_child_in(local, handle));
}

// How this is cut into functions: `open.rs`.
#[inline(never)]
fn close_child_in(local: &Local, handle: Handle) {
    match std::thread::panicking() {
        true => close_child_slowly(handle),
        false => close_child_calmly(local, handle),
    }
}

#[inline(never)]
fn close_child_calmly(local: &Local, handle: Handle) {
    let Some(end) = clock::ticks_in_line() else { return close_child_slowly(handle) };
    let Some(lane) = local.enter() else { return };
    if !local.close_child_at_once(lane, handle, end) {
        return local.close_child_now(handle, end, lane);
    }
    local.leave(lane);
}

/// Where a panic unwinds, or the clock needs a call.
#[cold]
#[inline(never)]
fn close_child_slowly(handle: Handle) {
    let end = clock::ticks();
    let _ = LOCAL.try_with(|local| {
        if let Some(lane) = local.enter() {
            local.close_child_now(handle, end, lane);
        }
    });
}

/// Ends a child at a given time.
pub(crate) fn close_child_at(handle: Handle, at: SystemTime) {
    let _ = LOCAL.try_with(|local| {
        if let Some(lane) = local.enter() {
            local.close_child_slowly(lane, handle, 0, Some(at));
        }
    });
}

/// Ends a recorded transaction.
#[inline]
pub(crate) fn close_root(handle: Handle) {
    let _ = LOCAL.try_with(|local| close_root_in(local, handle));
}

#[inline(never)]
fn close_root_in(local: &Local, handle: Handle) {
    match std::thread::panicking() {
        true => close_root_slowly(handle, None),
        false => close_root_calmly(local, handle),
    }
}

#[inline(never)]
fn close_root_calmly(local: &Local, handle: Handle) {
    let Some(end) = clock::ticks_in_line() else { return close_root_slowly(handle, None) };
    let Some(lane) = local.enter() else { return };
    if !local.close_root_at_once(lane, handle, end) {
        return local.close_root_now(handle, end, lane);
    }
    local.leave(lane);
}

/// Ends a recorded transaction at a given time.
pub(crate) fn close_root_at(handle: Handle, at: SystemTime) {
    close_root_slowly(handle, Some(at));
}

#[inline(never)]
fn close_root_slowly(handle: Handle, at: Option<SystemTime>) {
    let end = clock::ticks();
    let _ = LOCAL.try_with(|local| {
        if let Some(lane) = local.enter() {
            local.close_root(lane, handle, end, at);
            local.leave(lane);
        }
    });
}

/// Ends a transaction that sampling left out.
#[inline]
pub(crate) fn close_unsampled(handle: Handle) {
    let _ = LOCAL.try_with(|local| close_unsampled_in(local, handle));
}

#[inline(never)]
fn close_unsampled_in(local: &Local, handle: Handle) {
    let Some(lane) = local.enter() else { return };
    let is_done = local.close_unsampled_at_once(lane, handle);
    local.leave(lane);
    if !is_done {
        close_unsampled_slowly(handle);
    }
}

#[inline(never)]
fn close_unsampled_slowly(handle: Handle) {
    let _ = LOCAL.try_with(|local| {
        if let Some(lane) = local.enter() {
            if is_live(lane, handle) {
                let [_, _, _, _, _, bits, ..] = lane.spans.at(handle.depth());
                if bits.load(Ordering::Relaxed) & meta::CONTINUED != 0 {
                    forget_trace(&lane.spans.entry(handle.depth()));
                }
                local.pop(lane, handle.depth());
            }
            local.leave(lane);
        }
    });
}

impl Local {
    /// Ends a child as most end: on top of the stack, with its parent's line below, and with room
    /// for its record. False: nothing was done.
    #[inline]
    fn close_child_at_once(&self, lane: &Lane, handle: Handle, end: u64) -> bool {
        let now = lane.spans.state();
        let Some([below, line]) = lane.spans.pair(now.len().wrapping_sub(2)) else { return false };
        let [parent, ..] = below;
        let [key, .., bits, _, _] = line;
        // The key says which span that is, wherever the handle says that it stands.
        if key.load(Ordering::Relaxed) != handle.key
            || bits.load(Ordering::Relaxed) & meta::UNUSUAL != 0
            || parent.load(Ordering::Relaxed) == 0
        {
            return false;
        }
        let Some(slot) = self.writer.next_slot() else { return false };
        put_child(slot, line, end);
        self.writer.took_slot();
        lane.spans.pop(now);
        // Not kept in a register meanwhile.
        self.parent.set(parent.load(Ordering::Relaxed));
        true
    }

    /// Ends a transaction as most end: alone on the stack, and see [`close_top`](Self::close_top).
    /// False: nothing was done.
    #[inline]
    fn close_root_at_once(&self, lane: &Lane, handle: Handle, end: u64) -> bool {
        let now = lane.spans.state();
        let is_over = now.len() == 1 && self.close_top(lane, now, lane.spans.at(0), handle, end);
        if is_over {
            self.roots.set(0);
            self.parent.set(0);
        }
        is_over
    }

    /// The same on top of something that is open.
    #[inline]
    fn close_root_above(&self, lane: &Lane, handle: Handle, end: u64) -> bool {
        let now = lane.spans.state();
        let Some([below, line]) = lane.spans.pair(now.len().wrapping_sub(2)) else { return false };
        let [parent, ..] = below;
        let parent = parent.load(Ordering::Relaxed);
        let is_over = parent != 0 && self.close_top(lane, now, line, handle, end);
        if is_over {
            self.roots.set(self.roots.get().saturating_sub(1));
            self.parent.set(parent);
        }
        is_over
    }

    /// Ends the transaction on top of the stack, whose line this is, if it is that of the handle,
    /// in its generation, decided on, and finds room for its record.
    #[inline(always)]
    fn close_top(
        &self,
        lane: &Lane,
        now: State,
        line: &AtomicSlot,
        handle: Handle,
        end: u64,
    ) -> bool {
        let [key, .., bits, lost, _] = line;
        let bits = bits.load(Ordering::Relaxed);
        if key.load(Ordering::Relaxed) != handle.key
            || bits & meta::UNUSUAL != 0
            || (bits ^ SETTINGS.state()) & GENERATION != 0
        {
            return false;
        }
        let Some(slot) = self.writer.next_slot() else { return false };
        put_root(slot, line, end, low(lost.load(Ordering::Relaxed)), threshold_of(bits));
        self.writer.took_slot();
        self.note_keys(lane);
        self.writer.publish(&lane.ring);
        lane.spans.pop(now);
        true
    }

    /// Takes the line of what sampling left out off the stack as is usual: alone there, with no
    /// trace that it goes on with. False: nothing was done.
    #[inline]
    fn close_unsampled_at_once(&self, lane: &Lane, handle: Handle) -> bool {
        let now = lane.spans.state();
        let [_, root, _, _, _, bits, ..] = lane.spans.at(0);
        let kind = bits.load(Ordering::Relaxed) & (meta::CONTINUED | meta::ENTERED);
        if now.len() != 1 || root.load(Ordering::Relaxed) != handle.key || kind != 0 {
            return false;
        }
        // Of which nothing was a child, and nothing will be (T3).
        lane.spans.pop(now);
        true
    }

    /// [`close_root`](Self::close_root), its arguments where its callers have theirs. Leaves the
    /// lane.
    #[inline(never)]
    fn close_root_now(&self, handle: Handle, end: u64, lane: &'static Lane) {
        if !self.close_root_above(lane, handle, end) {
            self.close_root(lane, handle, end, None);
        }
        self.leave(lane);
    }

    /// [`close_child_slowly`](Self::close_child_slowly), its arguments where its callers have them.
    #[inline(never)]
    fn close_child_now(&self, handle: Handle, end: u64, lane: &'static Lane) {
        self.close_child_slowly(lane, handle, end, None);
    }

    /// Ends a child whatever its state, and leaves the lane.
    #[inline(never)]
    fn close_child_slowly(
        &self,
        lane: &'static Lane,
        handle: Handle,
        end: u64,
        at: Option<SystemTime>,
    ) {
        self.end_child(lane, handle, end, at);
        self.leave(lane);
    }

    /// Ends a child whatever its state.
    pub(super) fn end_child(&self, lane: &Lane, handle: Handle, end: u64, at: Option<SystemTime>) {
        let depth = handle.depth();
        let entry = lane.spans.entry(depth);
        self.note_keys(lane);
        if entry.key == handle.key && entry.meta & meta::ENTERED == 0 {
            self.settle_attribute(lane, depth);
            let mut record = child_record(&entry, end);
            adorn(&mut record, &entry, at);
            let limit = || SETTINGS.ring_slots();
            let foreign = entry.meta & meta::FOREIGN != 0;
            if foreign && (entry.meta ^ SETTINGS.state()) & GENERATION != 0 {
                lane.counters.lose(Reason::AfterShutdown, Count::spans(1));
            } else if entry.meta & meta::REFUSED != 0
                || !self.writer.push(&lane.ring, &record.words(), limit)
            {
                self.lost_child(lane, depth);
            } else if foreign {
                // Before anything that may end its root elsewhere.
                self.writer.publish(&lane.ring);
            }
            self.pop(lane, depth);
        } else {
            lane.counters.late.add(1);
        }
    }

    #[cold]
    #[inline(never)]
    fn lost_child(&self, lane: &Lane, depth: usize) {
        lane.counters.lose(Reason::RingFull, Count::spans(1));
        self.lost_slot(lane, depth);
    }

    /// Notes on the transaction of the line at `depth` that something of it was lost.
    pub(super) fn lost_slot(&self, lane: &Lane, depth: usize) {
        let [.., lost, _] = lane.spans.at(lane.spans.entry(depth).root_depth());
        lost.store(lost.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn close_root(&self, lane: &Lane, handle: Handle, end: u64, at: Option<SystemTime>) {
        let depth = handle.depth();
        let entry = lane.spans.entry(depth);
        if entry.key != handle.key {
            // Given up earlier, and counted then.
            return;
        }
        let mut record = SpanRecord {
            kind: Kind::Root,
            threshold: threshold_of(entry.meta),
            ..child_record(&entry, end)
        };
        if entry.meta & meta::UNUSUAL != 0 || at.is_some() || std::thread::panicking() {
            if entry.meta & meta::ENTERED != 0 {
                // Given up, too; the line is a visit's (T2).
                return;
            }
            adorn(&mut record, &entry, at);
            forget_trace(&entry);
        }
        if lane.spans.len() != depth + 1 {
            self.end_step(lane, handle, end, at);
        }
        if lane.spans.len() != depth + 1 {
            record.unfinished = self.close_above(lane, depth, entry.key);
        }
        // Now that nothing more of it can be lost.
        let [.., lost, _] = lane.spans.at(depth);
        record.lost = low(lost.load(Ordering::Relaxed));
        self.note_keys(lane);
        if (entry.meta ^ SETTINGS.state()) & GENERATION != 0 {
            self.take_back_own(lane, depth);
            lane.counters.lose(Reason::AfterShutdown, Count::transaction(0));
        } else if entry.meta & (meta::PLANNED | meta::REFUSED) == meta::PLANNED
            && self.end_trial(lane, depth, &entry, &mut record) == Verdict::Gone
        {
            // Counted, and nowhere any more.
        } else if entry.meta & meta::REFUSED == 0
            && self.writer.room_for_root(&lane.ring, || SETTINGS.ring_slots())
        {
            self.writer.put(&lane.ring, &record.words());
            self.writer.publish(&lane.ring);
        } else {
            lane.counters.lose(Reason::RingFull, Count::transaction(0));
        }
        self.roots.set(self.roots.get().saturating_sub(1));
        self.pop(lane, depth);
    }

    /// Takes back what was not published, when a span of an earlier generation leaves `depth`;
    /// unless something else is open, which may have written some of it. Then it stays, to be found
    /// without its root.
    #[cold]
    pub(super) fn take_back_own(&self, lane: &Lane, depth: usize) {
        let mut others = (0..lane.spans.len()).filter(|line| *line != depth);
        if others.all(|line| lane.spans.entry(line).key == 0) {
            self.take_back(lane, Reason::AfterShutdown);
        }
    }

    /// T4: takes their keys from the lines above a transaction that are its children; how many
    /// there were.
    #[cold]
    #[inline(never)]
    fn close_above(&self, lane: &Lane, depth: usize, root: u64) -> u32 {
        let mut open = 0;
        for above in depth + 1..lane.spans.len() {
            let entry = lane.spans.entry(above);
            if entry.key != 0 && entry.root == root && entry.meta & meta::ENTERED == 0 {
                self.settle_attribute(lane, above);
                lane.spans.write(above, &Entry::default());
                open += 1;
            }
        }
        self.note_keys(lane);
        lane.counters.lose(Reason::Unfinished, Count::spans(u64::from(open)));
        open
    }

    /// Takes a line off the stack, or marks it when others lie on it.
    #[inline]
    fn pop(&self, lane: &Lane, depth: usize) {
        if lane.spans.len() != depth + 1 {
            return self.mark(lane, depth);
        }
        let parent = match depth.checked_sub(1) {
            Some(below) => {
                let [key, ..] = lane.spans.at(below);
                match key.load(Ordering::Relaxed) {
                    0 => return self.settle(lane, depth),
                    key => key,
                }
            }
            None => 0,
        };
        lane.spans.shorten(depth);
        self.parent.set(parent);
    }

    #[cold]
    #[inline(never)]
    fn mark(&self, lane: &Lane, depth: usize) {
        lane.counters.misnested.add(1);
        lane.spans.write(depth, &Entry::default());
        self.settle(lane, lane.spans.len());
    }

    /// Shortens the stack to `len` and further, past lines that are over.
    #[cold]
    #[inline(never)]
    pub(super) fn settle(&self, lane: &Lane, mut len: usize) {
        let mut parent = 0;
        while let Some(top) = len.checked_sub(1) {
            let entry = lane.spans.entry(top);
            parent = entry.key;
            if parent != 0 || entry.meta & meta::UNSAMPLED != 0 {
                break;
            }
            len = top;
        }
        lane.spans.shorten(len);
        self.parent.set(parent);
    }
}

/// The record of an ending span, as it mostly is.
#[inline]
pub(super) const fn child_record(entry: &Entry, end: u64) -> SpanRecord {
    SpanRecord {
        kind: Kind::Child,
        flags: 0,
        lost: 0,
        key: entry.key,
        root: entry.root,
        parent: entry.parent,
        start: entry.start,
        end,
        op: NameId(low(entry.names)),
        description: NameId(low(entry.names >> 32)),
        threshold: 0,
        why: 0,
        plan: 0,
        unfinished: 0,
    }
}

/// What the fast path of an ending span leaves out.
#[cold]
#[inline(never)]
pub(super) fn adorn(record: &mut SpanRecord, entry: &Entry, at: Option<SystemTime>) {
    if entry.meta & (meta::SHARED | meta::ROOT) == meta::SHARED | meta::ROOT {
        record.flags |= flag::SHARED;
    }
    if entry.meta & meta::START_UNIX != 0 {
        record.flags |= flag::START_UNIX;
    }
    if let Some(at) = at {
        record.flags |= flag::END_UNIX;
        record.end = clock::nanos_since_epoch(at);
    }
    if std::thread::panicking() && entry.meta & meta::BORN_PANICKING == 0 {
        record.flags |= flag::PANICKED;
    }
}
