//! Starting transactions and spans.

use crate::propagate::Incoming;
use crate::shared::clock;
use crate::shared::id::{NameId, sample_rand};
use crate::shared::ledger::{Count, Reason};
use crate::shared::registry::Lane;
use crate::shared::ring::RESERVE;
use crate::shared::seqlock::{DEPTH, Entry, meta};
use crate::shared::settings::{GENERATION, ON, RULED, SETTINGS, THRESHOLD, threshold_of};
use crate::shared::sync::Ordering;

use super::handle::{Handle, UNSAMPLED, is_live, names};
use super::local::{LOCAL, Local};

/// What a child has of its parent's `meta`.
const INHERITED: u64 = meta::ROOT_DEPTH | meta::REFUSED | meta::FOREIGN | GENERATION;

/// What a drawn transaction's `meta` has of its admission besides.
const FROM_DRAW: u64 = meta::PLANNED | meta::CONTINUED | meta::FIRST;

/// What sampling says to a transaction: two words, so that it is returned in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    key: u64,
    /// Kept: the state of the settings with the threshold of this transaction, what its `meta` has
    /// besides (`PLANNED`, `CONTINUED`), and [`KEPT`]. Else the place of the handle.
    word: u64,
}

/// In a place no bit stands here, and none in a state.
pub(super) const KEPT: u64 = 1 << 63;
/// Nor here: nothing is decided yet.
const OPEN: u64 = 1 << 62;

impl Admission {
    /// The name is to be looked up, too.
    pub(super) const BY_NAME: Self = Self { key: 1, word: OPEN };
    /// The table is to be asked.
    pub(super) const BY_RULES: Self = Self { key: 0, word: OPEN };

    /// Whether nothing is decided yet, as only the name can say what applies.
    #[inline]
    pub(crate) const fn wants_name(self) -> bool {
        self.word & OPEN != 0 && self.key != 0
    }

    /// Whether nothing is decided yet.
    #[inline]
    pub(crate) const fn is_open(self) -> bool {
        self.word & OPEN != 0
    }

    #[inline]
    pub(super) const fn yes(key: u64, word: u64) -> Self {
        Self { key, word }
    }

    #[inline]
    pub(super) const fn no(handle: Handle) -> Self {
        Self { key: handle.key, word: handle.place }
    }

    /// The handle of a transaction that is not recorded: the library is off, or sampling said no.
    #[inline]
    pub(crate) const fn refused(self) -> Option<Handle> {
        if self.word & KEPT == 0 { Some(Handle { key: self.key, place: self.word }) } else { None }
    }
}

/// Decides on a transaction by the threshold alone; open where that is not enough.
#[inline]
pub(crate) fn admit() -> Admission {
    match SETTINGS.word() & (ON | RULED) {
        0 | RULED => Admission::no(Handle::NONE),
        ON => draw(SETTINGS.state()),
        _ => Admission::BY_RULES,
    }
}

/// Open where rules came into force a moment ago: what the state holds is no threshold then.
#[inline]
pub(super) fn draw(state: u64) -> Admission {
    if state & RULED != 0 {
        return Admission::BY_RULES;
    }
    LOCAL
        .try_with(|local| {
            if !local.is_fit(state) {
                return local.draw_anew(state);
            }
            let Some(lane) = local.enter() else {
                return local.refuse(Reason::Reentrant);
            };
            let admission = local.draw(lane, state);
            local.leave(lane);
            admission
        })
        .unwrap_or(Admission::no(Handle::NONE))
}

/// Starts a transaction that was admitted.
pub(crate) fn open_root(admission: Admission, op: NameId, name: NameId) -> Handle {
    LOCAL
        .try_with(|local| {
            let Some(lane) = local.enter() else { return Handle::NONE };
            let handle = local.open_root(lane, admission.key, admission.word, names(op, name));
            local.leave(lane);
            handle
        })
        .unwrap_or(Handle::NONE)
}

/// Starts a transaction that was admitted and goes on with a trace.
pub(crate) fn open_continued(
    admission: Admission,
    op: NameId,
    name: NameId,
    incoming: &Incoming,
) -> Handle {
    let handle = open_root(admission, op, name);
    let _ = LOCAL.try_with(|local| {
        let Some(lane) = local.enter() else { return };
        let entry = lane.spans.entry(handle.depth());
        let pending = local.pending.get();
        let is_continued = entry.meta & (meta::CONTINUED | meta::REFUSED) == meta::CONTINUED;
        if !handle.is_none() && pending.key == handle.key() && is_continued {
            local.write_trace(lane, handle, &pending.continued, incoming.members());
        }
        local.leave(lane);
    });
    handle
}

/// Whether a child that is started now has a recorded parent.
#[inline]
pub(crate) fn has_parent() -> bool {
    LOCAL.try_with(|local| local.parent.get() != 0).unwrap_or(false)
}

/// Starts a child of the innermost span.
#[inline(never)]
pub(crate) fn open_child(op: NameId, description: NameId) -> Handle {
    // First, while there is nothing yet that a call would have to keep. From here on, what is usual
    // makes no call, and what is not is left to one that does the rest.
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

impl Local {
    /// The first draw of a thread, or the first since `init` or `close`.
    #[cold]
    #[inline(never)]
    fn draw_anew(&self, state: u64) -> Admission {
        if state & ON == 0 {
            return Admission::no(Handle::NONE);
        }
        match self.ready(state) {
            Ok(lane) => {
                let admission = self.draw(lane, state);
                self.leave(lane);
                admission
            }
            Err(reason) => self.refuse(reason),
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn refuse(&self, reason: Reason) -> Admission {
        self.turned_away(reason, Count::transaction(0));
        Admission::no(Handle::NONE)
    }

    #[inline]
    fn draw(&self, lane: &Lane, state: u64) -> Admission {
        let key = self.take_key();
        // The keys first: started = keys - unsampled must not run backwards.
        self.note_keys(lane);
        if sample_rand(key, SETTINGS.sample_seed()) < threshold_of(state) {
            lane.counters.sampled.add(1);
            return Admission { key, word: state | KEPT };
        }
        self.leave_out(lane, key, state)
    }

    /// Begins a transaction that sampling left out. `word` as in [`Admission`].
    #[inline]
    pub(super) fn leave_out(&self, lane: &Lane, key: u64, word: u64) -> Admission {
        lane.counters.unsampled.add(1);
        let mut depth = lane.spans.len();
        if depth >= DEPTH {
            self.abandon_open(lane);
            depth = 0;
        }
        let given = word & (THRESHOLD | meta::CONTINUED);
        let bits = depth as u64 | meta::ROOT | meta::UNSAMPLED | given;
        self.push(lane, depth, &Entry { root: key, meta: bits, ..Entry::default() });
        Admission::no(Handle { key, place: depth as u64 | UNSAMPLED })
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
        let given = state & (GENERATION | THRESHOLD | FROM_DRAW);
        let mut bits = depth as u64 | meta::ROOT | given | born();
        if !self.writer.room(&lane.ring, 1, || SETTINGS.ring_slots()) {
            bits |= meta::REFUSED;
        }
        let [.., lost, _] = lane.spans.at(depth);
        lost.store(0, Ordering::Relaxed);
        self.roots.set(self.roots.get() + 1);
        if state & meta::PLANNED != 0 {
            self.begin_trial(lane, key, depth, self.pending.get().of(key));
        }
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
        let inherited = bits.load(Ordering::Relaxed) & INHERITED;
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
        // A parent was open: there is a lane.
        self.turned_away(Reason::Reentrant, Count::spans(1));
        Handle::NONE
    }
}

#[inline]
fn born() -> u64 {
    if std::thread::panicking() { meta::BORN_PANICKING } else { 0 }
}
