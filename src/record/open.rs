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
    if !SETTINGS.is_on() {
        return Admission::No(Handle::NONE);
    }
    draw()
}

fn draw() -> Admission {
    let state = SETTINGS.state();
    if state & ON == 0 {
        return Admission::No(Handle::NONE);
    }
    LOCAL
        .try_with(|local| {
            if local.busy.replace(true) {
                local.reentered(Count::transaction(0));
                return Admission::No(Handle::NONE);
            }
            let admission = match local.lane.get().or_else(|| local.attach()) {
                Some(lane) => local.draw(lane, state),
                None => Admission::No(Handle::NONE),
            };
            local.busy.set(false);
            admission
        })
        .unwrap_or(Admission::No(Handle::NONE))
}

/// Starts a transaction that was admitted.
pub(crate) fn open_root(key: u64, state: u64, op: NameId, name: NameId) -> Handle {
    LOCAL
        .try_with(|local| {
            let Some(lane) = local.lane.get() else { return Handle::NONE };
            local.busy.set(true);
            let handle = local.open_root(lane, key, state, names(op, name));
            local.busy.set(false);
            handle
        })
        .unwrap_or(Handle::NONE)
}

/// Starts a child of `parent`, or of the innermost span when that is `None`.
#[inline(never)]
pub(crate) fn open_child(parent: Option<Handle>, op: NameId, description: NameId) -> Handle {
    LOCAL
        .try_with(|local| {
            let Some(lane) = local.lane.get() else { return Handle::NONE };
            if local.busy.replace(true) {
                local.reentered(Count::spans(1));
                return Handle::NONE;
            }
            let handle = match parent {
                None => local.open_child(lane, local.len.get(), names(op, description)),
                Some(parent) if local.is_open(lane, parent) => {
                    local.open_child(lane, parent.depth() + 1, names(op, description))
                }
                Some(_) => Handle::NONE,
            };
            local.busy.set(false);
            handle
        })
        .unwrap_or(Handle::NONE)
}

/// Ends a child, now or at a given time.
#[inline(never)]
pub(crate) fn close_child(handle: Handle, at: Option<SystemTime>) {
    let _ = LOCAL.try_with(|local| {
        let Some(lane) = local.lane.get() else { return };
        // A guard ended inside another call stays open, and is counted with its transaction.
        if local.busy.replace(true) {
            return;
        }
        local.close_child(lane, handle, at);
        local.busy.set(false);
    });
}

/// Ends a transaction, now or at a given time.
#[inline(never)]
pub(crate) fn close_root(handle: Handle, at: Option<SystemTime>) {
    let _ = LOCAL.try_with(|local| {
        let Some(lane) = local.lane.get() else { return };
        if local.busy.replace(true) {
            return;
        }
        if handle.is_recording() {
            local.close_root(lane, handle, at);
        } else {
            local.close_unsampled(lane, handle);
        }
        local.busy.set(false);
    });
}

/// The innermost open span of this thread, if it is recorded.
pub(crate) fn current() -> Option<Handle> {
    LOCAL
        .try_with(|local| {
            let key = local.parent.get();
            (key != 0).then(|| Handle { key, place: (local.len.get() - 1) as u64 })
        })
        .ok()?
}

/// The innermost open transaction of this thread, recorded or not.
pub(crate) fn current_root() -> Option<Handle> {
    LOCAL
        .try_with(|local| {
            let lane = local.lane.get()?;
            let top = lane.spans.entry(local.len.get().checked_sub(1)?);
            let unsampled = if top.meta & meta::UNSAMPLED == 0 { 0 } else { UNSAMPLED };
            Some(Handle { key: top.root, place: top.root_depth() as u64 | unsampled })
        })
        .ok()?
}

/// Whether the span has not ended yet.
pub(crate) fn is_open(handle: Handle) -> bool {
    let open =
        LOCAL.try_with(|local| local.lane.get().is_some_and(|lane| local.is_open(lane, handle)));
    open.unwrap_or(false)
}

/// The key of a span's transaction, while the span is open.
pub(crate) fn root_of(handle: Handle) -> Option<u64> {
    if !handle.is_recording() {
        return (!handle.is_none()).then_some(handle.key);
    }
    LOCAL
        .try_with(|local| {
            let lane = local.lane.get()?;
            local.is_open(lane, handle).then(|| lane.spans.entry(handle.depth()).root)
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
        let Some(lane) = local.lane.get() else { return };
        if handle.is_recording() && local.is_open(lane, handle) && !local.busy.replace(true) {
            let mut entry = lane.spans.entry(handle.depth());
            change(&mut entry);
            lane.spans.write(handle.depth(), &entry, local.len.get());
            local.busy.set(false);
        }
    });
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
    /// T2.
    #[inline]
    pub(super) fn is_open(&self, lane: &Lane, handle: Handle) -> bool {
        let [key, root, ..] = lane.spans.at(handle.depth());
        let word = if handle.place & UNSAMPLED == 0 { key } else { root };
        handle.depth() < self.len.get() && word.load(Ordering::Relaxed) == handle.key
    }

    #[cold]
    #[inline(never)]
    fn reentered(&self, count: Count) {
        if let Some(lane) = self.lane.get() {
            lane.counters.lose(Reason::Reentrant, count);
        }
    }

    #[inline]
    fn draw(&self, lane: &Lane, state: u64) -> Admission {
        let key = self.take_key();
        // The keys first: started = keys - unsampled must not run backwards.
        lane.counters.keys.set(self.keys());
        lane.counters.transactions.add(1);
        if sample_rand(key, SETTINGS.sample_seed()) < threshold_of(state) {
            return Admission::Yes(key, state);
        }
        if self.len.get() >= DEPTH {
            self.abandon_open(lane);
        }
        lane.counters.unsampled.add(1);
        let depth = self.len.get();
        let entry = Entry {
            root: key,
            meta: depth as u64 | meta::ROOT | meta::UNSAMPLED,
            ..Entry::default()
        };
        self.push(lane, &entry);
        Admission::No(Handle { key, place: depth as u64 | UNSAMPLED })
    }

    /// Writes a line on top of the stack.
    #[inline]
    fn push(&self, lane: &Lane, entry: &Entry) {
        let depth = self.len.get();
        lane.spans.write(depth, entry, depth + 1);
        self.len.set(depth + 1);
        self.parent.set(entry.key);
    }

    #[inline]
    fn open_root(&self, lane: &Lane, key: u64, state: u64, names: u64) -> Handle {
        if self.len.get() >= DEPTH || self.roots.get() >= RESERVE {
            self.abandon_open(lane);
        }
        let depth = self.len.get();
        let mut bits = depth as u64 | meta::ROOT | (state & (GENERATION | THRESHOLD));
        if !self.writer.room(&lane.ring, 1, || SETTINGS.ring_slots()) {
            bits |= meta::REFUSED;
        }
        bits |= born();
        let [.., lost, _] = lane.spans.at(depth);
        lost.store(0, Ordering::Relaxed);
        let start = clock::ticks();
        self.push(lane, &Entry { key, root: key, parent: 0, start, names, meta: bits });
        self.roots.set(self.roots.get() + 1);
        Handle { key, place: depth as u64 }
    }

    /// `above` is one more than the depth of the parent's line.
    #[inline]
    fn open_child(&self, lane: &Lane, above: usize, names: u64) -> Handle {
        let depth = self.len.get();
        if depth >= DEPTH {
            lane.counters.lose(Reason::TooDeep, Count::spans(1));
            return Handle::NONE;
        }
        let [parent, root, _, _, _, bits, ..] = lane.spans.at(above.wrapping_sub(1));
        let parent = parent.load(Ordering::Relaxed);
        let root = root.load(Ordering::Relaxed);
        let inherited = bits.load(Ordering::Relaxed) & (meta::ROOT_DEPTH | meta::REFUSED);
        let key = self.take_key();
        let bits = inherited | born();
        let start = clock::ticks();
        self.push(lane, &Entry { key, root, parent, start, names, meta: bits });
        Handle { key, place: depth as u64 }
    }

    #[inline]
    fn close_child(&self, lane: &Lane, handle: Handle, at: Option<SystemTime>) {
        let end = clock::ticks();
        let entry = lane.spans.entry(handle.depth());
        if entry.key != handle.key {
            lane.counters.late.add(1);
            return;
        }
        let mut record = SpanRecord {
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
        };
        if entry.meta & meta::UNUSUAL != 0 || at.is_some() || std::thread::panicking() {
            unusual(&mut record, &entry, at);
        }
        if entry.meta & meta::REFUSED == 0
            && self.writer.room(&lane.ring, 1, || SETTINGS.ring_slots())
        {
            self.writer.put(&lane.ring, &record.words());
        } else {
            self.lost_child(lane, &entry);
        }
        self.pop(lane, handle.depth());
    }

    #[cold]
    #[inline(never)]
    fn lost_child(&self, lane: &Lane, entry: &Entry) {
        lane.counters.lose(Reason::RingFull, Count::spans(1));
        self.lost_slot(lane, entry);
    }

    /// Notes on the transaction that something of it was lost.
    pub(super) fn lost_slot(&self, lane: &Lane, entry: &Entry) {
        let [.., lost, _] = lane.spans.at(entry.root_depth());
        lost.store(lost.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    #[inline]
    fn close_root(&self, lane: &Lane, handle: Handle, at: Option<SystemTime>) {
        let end = clock::ticks();
        let depth = handle.depth();
        let entry = lane.spans.entry(depth);
        if entry.key != handle.key {
            // Given up earlier, and counted then.
            return;
        }
        let unfinished =
            if self.len.get() == depth + 1 { 0 } else { self.close_above(lane, depth, entry.key) };
        let [.., lost, _] = lane.spans.at(depth);
        let mut record = SpanRecord {
            kind: Kind::Root,
            flags: 0,
            lost: low(lost.load(Ordering::Relaxed)),
            key: entry.key,
            root: entry.key,
            parent: 0,
            start: entry.start,
            end,
            op: NameId(low(entry.names)),
            description: NameId(low(entry.names >> 32)),
            threshold: threshold_of(entry.meta),
            unfinished,
        };
        if entry.meta & meta::UNUSUAL != 0 || at.is_some() || std::thread::panicking() {
            unusual(&mut record, &entry, at);
        }
        lane.counters.keys.set(self.keys());
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
        for above in depth + 1..self.len.get() {
            let entry = lane.spans.entry(above);
            if entry.key != 0 && entry.root == root {
                lane.spans.write(above, &Entry::default(), self.len.get());
                open += 1;
            }
        }
        lane.counters.keys.set(self.keys());
        lane.counters.lose(Reason::Unfinished, Count::spans(u64::from(open)));
        open
    }

    #[inline]
    fn close_unsampled(&self, lane: &Lane, handle: Handle) {
        if self.is_open(lane, handle) {
            self.pop(lane, handle.depth());
        }
    }

    /// Takes a line off the stack, or marks it when others lie on it.
    #[inline]
    fn pop(&self, lane: &Lane, depth: usize) {
        if self.len.get() != depth + 1 {
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
        self.len.set(depth);
        lane.spans.shorten(depth);
        self.parent.set(parent);
    }

    #[cold]
    #[inline(never)]
    fn mark(&self, lane: &Lane, depth: usize) {
        lane.counters.misnested.add(1);
        lane.spans.write(depth, &Entry::default(), self.len.get());
        self.settle(lane, self.len.get());
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
        self.len.set(len);
        lane.spans.shorten(len);
        self.parent.set(parent);
    }
}

#[inline]
fn born() -> u64 {
    if std::thread::panicking() { meta::BORN_PANICKING } else { 0 }
}

/// What the fast path of an ending span leaves out.
#[cold]
#[inline(never)]
fn unusual(record: &mut SpanRecord, entry: &Entry, at: Option<SystemTime>) {
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
