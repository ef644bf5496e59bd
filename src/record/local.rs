//! What a thread keeps for itself, and what becomes of it when the thread ends.
//!
//! The hot state is a constant thread-local without a destructor: it can be read at any time, in any other
//! destructor too. A second key with a destructor, the sentinel, retires the lane when the thread ends;
//! what is recorded after that is not recorded, and the spans that were open then are counted.

use std::cell::Cell;

use crate::shared::layout::{Kind, Slot, slots_of};
use crate::shared::ledger::{BOOKS, Count, Reason};
use crate::shared::registry::{self, KEY_BITS, Lane};
use crate::shared::ring::Writer;
use crate::shared::seqlock::{Entry, meta};

use super::cache::Cache;

thread_local! {
    /// The calling thread's hot state.
    pub(crate) static LOCAL: Local = const { Local::new() };
    static SENTINEL: Sentinel = const { Sentinel };
}

/// A thread's hot state.
pub(crate) struct Local {
    /// T3: what a child started now would have for a parent.
    pub(super) parent: Cell<u64>,
    /// T1.
    pub(super) busy: Cell<bool>,
    /// Lines in the stack.
    pub(super) len: Cell<usize>,
    /// The next key.
    pub(super) next_key: Cell<u64>,
    /// Recorded transactions that are open.
    pub(super) roots: Cell<u64>,
    pub(super) lane: Cell<Option<&'static Lane>>,
    pub(super) writer: Writer,
    pub(super) cache: Cache,
}

impl Local {
    const fn new() -> Self {
        Self {
            parent: Cell::new(0),
            busy: Cell::new(false),
            len: Cell::new(0),
            next_key: Cell::new(0),
            roots: Cell::new(0),
            lane: Cell::new(None),
            writer: Writer::new(),
            cache: Cache::new(),
        }
    }

    /// Keys given out on this lane so far.
    #[inline]
    pub(super) fn keys(&self) -> u64 {
        (self.next_key.get() & ((1 << KEY_BITS) - 1)).saturating_sub(1)
    }

    #[inline]
    pub(super) fn take_key(&self) -> u64 {
        let key = self.next_key.get();
        self.next_key.set(key + 1);
        key
    }

    /// Gets the thread a lane. `None`, counted: there is none left, or the thread is being torn down.
    #[cold]
    #[inline(never)]
    pub(super) fn attach(&self) -> Option<&'static Lane> {
        let lane = SENTINEL.try_with(|_| ()).ok().and_then(|()| registry::attach());
        let Some(lane) = lane else {
            BOOKS.no_ring.add(Count::transaction(0));
            BOOKS.lose(Reason::NoRing, Count::transaction(0));
            return None;
        };
        self.next_key.set(u64::from(lane.number) << KEY_BITS | (lane.counters.keys.get() + 1));
        self.writer.attach();
        self.len.set(0);
        self.parent.set(0);
        self.roots.set(0);
        lane.spans.shorten(0);
        self.lane.set(Some(lane));
        Some(lane)
    }

    /// Gives up every open line: its guard was forgotten, or there are too many. Their guards, should they
    /// still end, find no line of theirs (T2).
    #[cold]
    pub(super) fn abandon_open(&self, lane: &Lane) {
        let mut lost = Count::default();
        for depth in 0..self.len.get() {
            let entry = lane.spans.entry(depth);
            if entry.key != 0 {
                let root = entry.meta & meta::ROOT != 0;
                lost += if root { Count::transaction(0) } else { Count::spans(1) };
            }
            lane.spans.write(depth, &Entry::default(), depth + 1);
        }
        lane.spans.shorten(0);
        lane.counters.keys.set(self.keys());
        lane.counters.lose(Reason::Unfinished, lost);
        self.len.set(0);
        self.parent.set(0);
        self.roots.set(0);
    }

    /// Takes back what was not published, counting the children in it as lost for `reason`.
    #[cold]
    pub(super) fn take_back(&self, lane: &Lane, reason: Reason) {
        let mut spans = 0;
        let mut skip = 0;
        self.writer.each_private(&lane.ring, |slot: &Slot| {
            if skip > 0 {
                skip -= 1;
                return;
            }
            skip = slots_of(slot) - 1;
            spans += u64::from(Kind::of(slot[0]).is_some_and(Kind::is_span));
        });
        self.writer.retreat(&lane.ring);
        lane.counters.keys.set(self.keys());
        lane.counters.lose(reason, Count::spans(spans));
    }

    fn retire(&self) {
        let Some(lane) = self.lane.take() else { return };
        self.busy.set(true);
        self.abandon_open(lane);
        self.take_back(lane, Reason::Unfinished);
        lane.ring.retire();
        self.busy.set(false);
    }
}

/// Retires the lane when the thread ends.
struct Sentinel;

impl Drop for Sentinel {
    fn drop(&mut self) {
        // `LOCAL` has no destructor and is readable in this one.
        let _ = LOCAL.try_with(Local::retire);
    }
}
