//! Starting and ending spans.

use std::time::SystemTime;

use crate::shared::clock;
use crate::shared::id::{NameId, sample_rand};
use crate::shared::layout::{Kind, SpanRecord, flag};
use crate::shared::ledger::{Count, Reason};
use crate::shared::registry::Lane;
use crate::shared::ring::RESERVE;
use crate::shared::seqlock::{DEPTH, Entry, meta};
use crate::shared::settings::{GENERATION, ON, SETTINGS, THRESHOLD, threshold_of};
use crate::shared::sync::Ordering;

use super::local::{LOCAL, Local};

/// What a guard holds: which span, and where its line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    /// 0: nothing is recorded.
    key: u64,
    /// Depth of the line; [`UNSAMPLED`] added for a transaction that sampling left out.
    place: u64,
}

const UNSAMPLED: u64 = 1 << 32;

impl Handle {
    /// The handle of nothing.
    pub(crate) const NONE: Self = Self { key: 0, place: 0 };

    #[inline]
    pub(crate) const fn is_none(self) -> bool {
        self.key == 0
    }

    /// Whether what is done with it ends up anywhere.
    #[inline]
    pub(crate) const fn is_recording(self) -> bool {
        self.key != 0 && self.place & UNSAMPLED == 0
    }

    #[inline]
    pub(crate) const fn key(self) -> u64 {
        self.key
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "depths are below DEPTH")]
    pub(super) const fn depth(self) -> usize {
        self.place as u32 as usize
    }
}

/// What sampling says to a transaction.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Not recorded: the library is off, or sampling said no.
    No(Handle),
    /// Recorded, under this key and with this state of the settings.
    Yes(u64, u64),
}

/// Decides on a transaction.
#[inline]
pub(crate) fn admit() -> Admission {
    if SETTINGS.is_on() { draw() } else { Admission::No(Handle::NONE) }
}

fn draw() -> Admission {
    let state = SETTINGS.state();
    LOCAL
        .try_with(|local| {
            if state & ON == 0 {
                return Admission::No(Handle::NONE);
            }
            let Some(lane) = local.enter().or_else(|| local.attach()) else {
                return Admission::No(Handle::NONE);
            };
            let admission = local.draw(lane, state);
            local.leave(lane);
            admission
        })
        .unwrap_or(Admission::No(Handle::NONE))
}

/// Starts a transaction that was admitted.
pub(crate) fn open_root(key: u64, state: u64, op: NameId, name: NameId) -> Handle {
    LOCAL
        .try_with(|local| {
            let Some(lane) = local.enter() else { return Handle::NONE };
            let handle = local.open_root(lane, key, state, names(op, name));
            local.leave(lane);
            handle
        })
        .unwrap_or(Handle::NONE)
}

/// Whether a child that is started now has a recorded parent.
#[inline]
pub(crate) fn has_parent() -> bool {
    LOCAL.try_with(|local| local.parent.get() != 0).unwrap_or(false)
}

/// Starts a child of the innermost span.
#[inline(never)]
pub(crate) fn open_child(op: NameId, description: NameId) -> Handle {
    // First, while there is nothing yet that a call would have to keep. From here on, what is usual makes
    // no call, and what is not is left to one that does the rest.
    let start = clock::ticks();
    let names = names(op, description);
    LOCAL
        .try_with(|local| {
            let Some(lane) = local.enter() else { return local.reentered_child() };
            let depth = lane.spans.len();
            if depth >= DEPTH || std::thread::panicking() {
                return local.open_child_slowly(lane, depth, start, names);
            }
            let handle = local.open_child(lane, depth, depth, start, names, 0);
            local.leave(lane);
            handle
        })
        .unwrap_or(Handle::NONE)
}

/// Starts a child of a given span.
#[inline(never)]
pub(crate) fn open_child_of(parent: Handle, op: NameId, description: NameId) -> Handle {
    let start = clock::ticks();
    LOCAL
        .try_with(|local| {
            let Some(lane) = local.enter() else { return local.reentered_child() };
            if is_live(lane, parent) {
                let above = parent.depth() + 1;
                return local.open_child_slowly(lane, above, start, names(op, description));
            }
            local.leave(lane);
            Handle::NONE
        })
        .unwrap_or(Handle::NONE)
}

/// Ends a child. One that is ended inside another call stays open, and is counted with its transaction.
#[inline(never)]
pub(crate) fn close_child(handle: Handle) {
    let end = clock::ticks();
    let _ = LOCAL.try_with(|local| {
        let Some(lane) = local.enter() else { return };
        let depth = handle.depth();
        let entry = lane.spans.entry(depth);
        // Its parent's line lies below, and is recorded.
        let [parent, ..] = lane.spans.at(depth.wrapping_sub(1));
        let parent = parent.load(Ordering::Relaxed);
        if entry.key != handle.key
            || entry.meta & meta::UNUSUAL != 0
            || lane.spans.len() != depth + 1
            || parent == 0
            || std::thread::panicking()
            || !local.writer.push_at_once(&child_record(&entry, end).words())
        {
            return local.close_child_slowly(lane, handle, end, None);
        }
        lane.spans.shorten(depth);
        local.parent.set(parent);
        local.leave(lane);
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

/// Ends a recorded transaction, now or at a given time.
#[inline(never)]
pub(crate) fn close_root(handle: Handle, at: Option<SystemTime>) {
    let end = clock::ticks();
    let _ = LOCAL.try_with(|local| {
        if let Some(lane) = local.enter() {
            local.close_root(lane, handle, end, at);
            local.leave(lane);
        }
    });
}

/// Ends a transaction that sampling left out.
#[inline(never)]
pub(crate) fn close_unsampled(handle: Handle) {
    let _ = LOCAL.try_with(|local| {
        if let Some(lane) = local.enter() {
            if is_live(lane, handle) {
                local.pop(lane, handle.depth());
            }
            local.leave(lane);
        }
    });
}

/// The innermost open span of this thread, if it is recorded.
pub(crate) fn current() -> Option<Handle> {
    LOCAL
        .try_with(|local| {
            let key = local.parent.get();
            if key == 0 {
                return None;
            }
            Some(Handle { key, place: (local.lane()?.spans.len() - 1) as u64 })
        })
        .ok()?
}

/// The innermost open transaction of this thread, recorded or not.
pub(crate) fn current_root() -> Option<Handle> {
    LOCAL
        .try_with(|local| {
            let lane = local.lane()?;
            let top = lane.spans.entry(lane.spans.len().checked_sub(1)?);
            let unsampled = if top.meta & meta::UNSAMPLED == 0 { 0 } else { UNSAMPLED };
            Some(Handle { key: top.root, place: top.root_depth() as u64 | unsampled })
        })
        .ok()?
}

/// Whether the span has not ended yet.
pub(crate) fn is_open(handle: Handle) -> bool {
    let open = LOCAL.try_with(|local| local.lane().is_some_and(|lane| is_live(lane, handle)));
    open.unwrap_or(false)
}

/// The key of a span's transaction, while the span is open.
pub(crate) fn root_of(handle: Handle) -> Option<u64> {
    if !handle.is_recording() {
        return (!handle.is_none()).then_some(handle.key);
    }
    LOCAL
        .try_with(|local| {
            let lane = local.lane()?;
            is_live(lane, handle).then(|| lane.spans.entry(handle.depth()).root)
        })
        .ok()?
}

/// Gives an open span another start.
pub(crate) fn restart(handle: Handle, at: SystemTime) {
    change(handle, |entry| {
        entry.start = clock::nanos_since_epoch(at);
        entry.meta |= meta::START_UNIX;
    });
}

/// Gives an open span another description, as far as the list of what is in flight goes.
pub(crate) fn redescribe(handle: Handle, description: NameId) {
    change(handle, |entry| entry.names = names(NameId(low(entry.names)), description));
}

fn change(handle: Handle, change: impl FnOnce(&mut Entry)) {
    let _ = LOCAL.try_with(|local| {
        let Some(lane) = local.enter() else { return };
        if handle.is_recording() && is_live(lane, handle) {
            let mut entry = lane.spans.entry(handle.depth());
            change(&mut entry);
            lane.spans.write(handle.depth(), &entry, lane.spans.len());
        }
        local.leave(lane);
    });
}

/// T2.
#[inline]
pub(super) fn is_live(lane: &Lane, handle: Handle) -> bool {
    let [key, root, ..] = lane.spans.at(handle.depth());
    let word = if handle.place & UNSAMPLED == 0 { key } else { root };
    word.load(Ordering::Relaxed) == handle.key && handle.depth() < lane.spans.len()
}

#[inline]
const fn names(op: NameId, description: NameId) -> u64 {
    op.0 as u64 | (description.0 as u64) << 32
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
const fn low(word: u64) -> u32 {
    word as u32
}

impl Local {
    #[inline]
    fn draw(&self, lane: &Lane, state: u64) -> Admission {
        let key = self.take_key();
        // The keys first: started = keys - unsampled must not run backwards.
        self.note_keys(lane);
        if sample_rand(key, SETTINGS.sample_seed()) < threshold_of(state) {
            lane.counters.sampled.add(1);
            return Admission::Yes(key, state);
        }
        lane.counters.unsampled.add(1);
        let mut depth = lane.spans.len();
        if depth >= DEPTH {
            self.abandon_open(lane);
            depth = 0;
        }
        let bits = depth as u64 | meta::ROOT | meta::UNSAMPLED;
        self.push(lane, depth, &Entry { root: key, meta: bits, ..Entry::default() });
        Admission::No(Handle { key, place: depth as u64 | UNSAMPLED })
    }

    /// Writes a line on top of the stack.
    #[inline]
    fn push(&self, lane: &Lane, depth: usize, entry: &Entry) {
        lane.spans.write(depth, entry, depth + 1);
        self.parent.set(entry.key);
    }

    #[inline]
    fn open_root(&self, lane: &Lane, key: u64, state: u64, names: u64) -> Handle {
        let mut depth = lane.spans.len();
        if depth >= DEPTH || self.roots.get() >= RESERVE {
            self.abandon_open(lane);
            depth = 0;
        }
        let mut bits = depth as u64 | meta::ROOT | (state & (GENERATION | THRESHOLD)) | born();
        if !self.writer.room(&lane.ring, 1, || SETTINGS.ring_slots()) {
            bits |= meta::REFUSED;
        }
        let [.., lost, _] = lane.spans.at(depth);
        lost.store(0, Ordering::Relaxed);
        self.roots.set(self.roots.get() + 1);
        let start = clock::ticks();
        self.push(lane, depth, &Entry { key, root: key, parent: 0, start, names, meta: bits });
        Handle { key, place: depth as u64 }
    }

    /// Starts a child at `depth`, of the line below `above`.
    #[inline]
    fn open_child(
        &self,
        lane: &Lane,
        depth: usize,
        above: usize,
        start: u64,
        names: u64,
        flags: u64,
    ) -> Handle {
        let [parent, root, _, _, _, bits, ..] = lane.spans.at(above.wrapping_sub(1));
        let parent = parent.load(Ordering::Relaxed);
        let root = root.load(Ordering::Relaxed);
        let inherited = bits.load(Ordering::Relaxed) & (meta::ROOT_DEPTH | meta::REFUSED);
        let key = self.take_key();
        let meta = inherited | flags;
        self.push(lane, depth, &Entry { key, root, parent, start, names, meta });
        Handle { key, place: depth as u64 }
    }

    /// Leaves the lane.
    #[inline(never)]
    fn open_child_slowly(
        &self,
        lane: &'static Lane,
        above: usize,
        start: u64,
        names: u64,
    ) -> Handle {
        let depth = lane.spans.len();
        let handle = if depth >= DEPTH {
            lane.counters.lose(Reason::TooDeep, Count::spans(1));
            Handle::NONE
        } else {
            self.open_child(lane, depth, above, start, names, born())
        };
        self.leave(lane);
        handle
    }

    #[cold]
    #[inline(never)]
    fn reentered_child(&self) -> Handle {
        self.reentered(Count::spans(1));
        Handle::NONE
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
        let depth = handle.depth();
        let entry = lane.spans.entry(depth);
        self.note_keys(lane);
        if entry.key == handle.key {
            let mut record = child_record(&entry, end);
            adorn(&mut record, &entry, at);
            let limit = || SETTINGS.ring_slots();
            if entry.meta & meta::REFUSED != 0
                || !self.writer.push(&lane.ring, &record.words(), limit)
            {
                self.lost_child(lane, depth);
            }
            self.pop(lane, depth);
        } else {
            lane.counters.late.add(1);
        }
        self.leave(lane);
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

    #[inline]
    fn close_root(&self, lane: &Lane, handle: Handle, end: u64, at: Option<SystemTime>) {
        let depth = handle.depth();
        let entry = lane.spans.entry(depth);
        if entry.key != handle.key {
            // Given up earlier, and counted then.
            return;
        }
        let unfinished = match lane.spans.len() - depth {
            1 => 0,
            _ => self.close_above(lane, depth, entry.key),
        };
        let [.., lost, _] = lane.spans.at(depth);
        let mut record = SpanRecord {
            kind: Kind::Root,
            lost: low(lost.load(Ordering::Relaxed)),
            threshold: threshold_of(entry.meta),
            unfinished,
            ..child_record(&entry, end)
        };
        if entry.meta & meta::UNUSUAL != 0 || at.is_some() || std::thread::panicking() {
            adorn(&mut record, &entry, at);
        }
        self.note_keys(lane);
        if (entry.meta ^ SETTINGS.state()) & GENERATION != 0 {
            self.take_back(lane, Reason::AfterShutdown);
            lane.counters.lose(Reason::AfterShutdown, Count::transaction(0));
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

    /// T4: takes their keys from the lines above a transaction that belong to it; how many there were.
    #[cold]
    #[inline(never)]
    fn close_above(&self, lane: &Lane, depth: usize, root: u64) -> u32 {
        let mut open = 0;
        for above in depth + 1..lane.spans.len() {
            let entry = lane.spans.entry(above);
            if entry.key != 0 && entry.root == root {
                lane.spans.write(above, &Entry::default(), lane.spans.len());
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
        lane.spans.write(depth, &Entry::default(), lane.spans.len());
        self.settle(lane, lane.spans.len());
    }

    /// Shortens the stack to `len` and further, past lines that are over.
    #[cold]
    #[inline(never)]
    fn settle(&self, lane: &Lane, mut len: usize) {
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

#[inline]
fn born() -> u64 {
    if std::thread::panicking() { meta::BORN_PANICKING } else { 0 }
}

/// The record of an ending span, as it mostly is.
#[inline]
const fn child_record(entry: &Entry, end: u64) -> SpanRecord {
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
        unfinished: 0,
    }
}

/// What the fast path of an ending span leaves out.
#[cold]
#[inline(never)]
fn adorn(record: &mut SpanRecord, entry: &Entry, at: Option<SystemTime>) {
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
