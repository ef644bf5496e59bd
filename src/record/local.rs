//! What a thread keeps for itself, and what becomes of it when the thread ends.
//!
//! The hot state is a constant thread-local without a destructor: it can be read at any time, in
//! any other destructor too. A second key with a destructor, the sentinel, retires the lane when
//! the thread ends; what is recorded after that is not recorded, and the spans that were open then
//! are counted.

use std::cell::Cell;

use crate::shared::layout::{Slot, contents, slots_of};
use crate::shared::ledger::{self, Count, Reason};
use crate::shared::registry::{self, KEY_BITS, Lane};
use crate::shared::ring::Writer;
use crate::shared::seqlock::{Entry, meta};
use crate::shared::settings::{GENERATION, ON};
use crate::shared::traces;

use super::cache::Cache;
use super::draw::{Pending, Verdicts};
use super::trial::{self, Trials};

thread_local! {
    /// The calling thread's hot state.
    pub(crate) static LOCAL: Local = const { Local::new() };
    static SENTINEL: Sentinel = const { Sentinel };
}

/// A thread's hot state.
pub(crate) struct Local {
    /// T3: what a child started now would have for a parent.
    pub(super) parent: Cell<u64>,
    /// T1: the lane, while no call of this thread is using it.
    lane: Cell<Option<&'static Lane>>,
    /// The next key.
    pub(super) next_key: Cell<u64>,
    pub(super) writer: Writer,
    /// The lane, used or not.
    home: Cell<Option<&'static Lane>>,
    attaching: Cell<bool>,
    /// The state of the settings that the lane was last checked against: its generation, and on.
    seen: Cell<u64>,
    /// Recorded transactions that are open, all of them on the stack.
    pub(super) roots: Cell<u64>,
    pub(super) cache: Cache,
    /// A transaction is being decided on.
    pub(super) deciding: Cell<bool>,
    pub(super) verdicts: Verdicts,
    pub(super) pending: Cell<Pending>,
    /// Of the recorded transactions that are open, outermost first.
    pub(super) trials: Trials,
}

impl Local {
    const fn new() -> Self {
        Self {
            parent: Cell::new(0),
            lane: Cell::new(None),
            next_key: Cell::new(0),
            writer: Writer::new(),
            home: Cell::new(None),
            attaching: Cell::new(false),
            seen: Cell::new(0),
            roots: Cell::new(0),
            cache: Cache::new(),
            deciding: Cell::new(false),
            verdicts: Verdicts::new(),
            pending: Cell::new(Pending::NONE),
            trials: trial::none(),
        }
    }

    /// Takes the lane for one call (T1). `None`: another call of this thread has it, or there is
    /// none.
    #[inline]
    pub(super) fn enter(&self) -> Option<&'static Lane> {
        self.lane.take()
    }

    /// Puts the lane back.
    #[inline]
    pub(super) fn leave(&self, lane: &'static Lane) {
        self.lane.set(Some(lane));
    }

    /// The lane, for looking.
    #[inline]
    pub(super) fn lane(&self) -> Option<&'static Lane> {
        self.home.get()
    }

    #[inline]
    pub(super) fn take_key(&self) -> u64 {
        let key = self.next_key.get();
        self.next_key.set(key + 1);
        key
    }

    /// Writes down how many keys were given out: before anything they were given to can be lost, or
    /// be published, so that no more is ever seen to go out than came in.
    #[inline]
    pub(super) fn note_keys(&self, lane: &Lane) {
        lane.counters.next_key.set(self.next_key.get());
    }

    /// Whether the lane is fit for what `state` says: on, and in the generation seen last.
    #[inline]
    pub(super) fn is_fit(&self, state: u64) -> bool {
        (state ^ self.seen.get()) & (GENERATION | ON) == 0
    }

    /// Takes the lane for a call that may be the thread's first one, or the first since `init`:
    /// gets one where there is none. `None`, with the reason: not counted.
    #[inline]
    pub(super) fn ready(&self, state: u64) -> Result<&'static Lane, Reason> {
        match self.enter() {
            Some(lane) if self.is_fit(state) => Ok(lane),
            lane => self.renew(lane, state),
        }
    }

    #[cold]
    #[inline(never)]
    fn renew(&self, entered: Option<&'static Lane>, state: u64) -> Result<&'static Lane, Reason> {
        match (entered, self.home.get()) {
            (None, Some(_)) => return Err(Reason::Reentrant),
            (Some(lane), _) if lane.is_ours() => {
                self.seen.set(state & (GENERATION | ON));
                return Ok(lane);
            }
            // A fork's copy of a lane, from before `init` was called here: what is in it is the
            // parent's.
            _ => self.home.set(None),
        }
        let lane = self.attach()?;
        self.seen.set(state & (GENERATION | ON));
        Ok(lane)
    }

    /// Gets the thread a lane, and enters it. `NoRing`: there is none left, or the thread is being
    /// torn down.
    fn attach(&self) -> Result<&'static Lane, Reason> {
        let again = self.attaching.replace(true);
        let lane = if again {
            None
        } else {
            SENTINEL.try_with(|_| ()).ok().and_then(|()| registry::attach())
        };
        self.attaching.set(again);
        let lane = lane.ok_or(if again { Reason::Reentrant } else { Reason::NoRing })?;
        self.next_key.set(u64::from(lane.number) << KEY_BITS | (lane.counters.keys() + 1));
        self.writer.attach();
        self.parent.set(0);
        self.roots.set(0);
        lane.spans.shorten(0);
        self.home.set(Some(lane));
        Ok(lane)
    }

    /// Counts what was begun, and could not be recorded.
    #[cold]
    #[inline(never)]
    pub(super) fn turned_away(&self, reason: Reason, count: Count) {
        match self.home.get() {
            Some(lane) if reason == Reason::Reentrant => lane.counters.lose(reason, count),
            _ => {
                let books = ledger::books();
                books.no_ring.add(count);
                books.lose(reason, count);
            }
        }
    }

    /// Gives up every open line: its guard was forgotten, or there are too many. Their guards,
    /// should they still end, find no line of theirs (T2).
    #[cold]
    pub(super) fn abandon_open(&self, lane: &Lane) {
        let mut lost = Count::default();
        for depth in 0..lane.spans.len() {
            let entry = lane.spans.entry(depth);
            forget_trace(&entry);
            self.settle_attribute(lane, depth);
            if entry.key != 0 && entry.meta & meta::ENTERED == 0 {
                let root = entry.meta & meta::ROOT != 0;
                lost += if root { Count::transaction(0) } else { Count::spans(1) };
            }
            lane.spans.write(depth, &Entry::default());
        }
        lane.spans.shorten(0);
        self.note_keys(lane);
        lane.counters.lose(Reason::Unfinished, lost);
        self.parent.set(0);
        self.roots.set(0);
    }

    /// Takes back what was not published, counting the children in it as lost for `reason`, and
    /// what was set.
    #[cold]
    pub(super) fn take_back(&self, lane: &Lane, reason: Reason) {
        let (mut spans, mut attributes) = (0, 0);
        let mut skip = 0;
        self.writer.each_private(&lane.ring, |slot: &Slot| {
            if skip > 0 {
                skip -= 1;
                return;
            }
            skip = slots_of(slot) - 1;
            let (its_spans, its_attributes) = contents(slot);
            spans += its_spans;
            attributes += its_attributes;
        });
        self.writer.retreat(&lane.ring);
        self.note_keys(lane);
        lane.counters.lose(reason, Count::spans(spans));
        lane.counters.attributes_lost.add(attributes);
    }

    fn retire(&self) {
        let Some(lane) = self.home.take() else { return };
        self.lane.set(None);
        // What still comes finds no lane, and is not taken for a call inside another one.
        self.seen.set(0);
        self.abandon_open(lane);
        self.take_back(lane, Reason::Unfinished);
        lane.ring.retire();
    }
}

/// What a root continued is of no use any more, unless it goes on elsewhere.
#[inline]
pub(super) fn forget_trace(entry: &Entry) {
    if entry.meta & (meta::CONTINUED | meta::ROOT | meta::ENTERED) == meta::CONTINUED | meta::ROOT {
        traces::remove(entry.root);
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
