//! Starting transactions and spans.
//!
//! # How the usual case stays short
//! What is usual runs, here and in `close.rs`, `attribute.rs` and `step.rs`, through functions that
//! make no call on their usual way but in their last place, so that no register has to be kept for
//! one. What is not usual is another function's from the start (`..._slowly`), jumped to. Two
//! things look like no call and are: whether a panic unwinds may need one, and so is asked first,
//! in a function that does nothing else (`..._in`); and in a library's code the address of a
//! thread-local is a call until it is linked, so it is found in line, where the user's program
//! calls, and passed on.

use crate::propagate::Incoming;
use crate::shared::clock;
use crate::shared::id::{NameId, sample_rand};
use crate::shared::ledger::{Count, Reason};
use crate::shared::registry::Lane;
use crate::shared::ring::RESERVE;
use crate::shared::seqlock::{DEPTH, Entry, NewChild, State, meta};
use crate::shared::settings::{GENERATION, ON, RULED, SETTINGS, THRESHOLD, threshold_of};
use crate::shared::sync::Ordering;

use super::handle::{Handle, UNSAMPLED, is_live, names};
use super::local::{LOCAL, Local};

/// What a child has of its parent's `meta`.
pub(super) const INHERITED: u64 = meta::ROOT_DEPTH | meta::REFUSED | meta::FOREIGN | GENERATION;

/// What a drawn transaction's `meta` has of its admission besides.
const FROM_DRAW: u64 = meta::PLANNED | meta::CONTINUED | meta::FIRST;

/// What it has of it in all.
const FROM_WORD: u64 = GENERATION | THRESHOLD | FROM_DRAW;

/// What sampling says to a transaction: two words, so that it is returned in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    key: u64,
    /// Kept: the state of the settings with the threshold of this transaction, and what its `meta`
    /// has besides (`PLANNED`, `CONTINUED`). Refused: the place of the handle, which is
    /// [`UNSAMPLED`]; no state has that bit. Neither: [`OPEN`].
    word: u64,
}

/// Nothing is decided yet. In a state and in a place no bit stands here.
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
        match self.word & UNSAMPLED {
            0 => None,
            _ => Some(Handle { key: self.key, place: self.word }),
        }
    }
}

/// Decides on a transaction by the threshold alone; open where that is not enough.
#[inline]
pub(crate) fn admit() -> Admission {
    match SETTINGS.word() & (ON | RULED) {
        ON => draw(SETTINGS.state()),
        word if word == ON | RULED => Admission::BY_RULES,
        _ => Admission::no(Handle::NONE),
    }
}

/// Open where rules came into force a moment ago: what the state holds is no threshold then.
#[inline]
pub(super) fn draw(state: u64) -> Admission {
    LOCAL.try_with(|local| draw_in(local, state)).unwrap_or(Admission::no(Handle::NONE))
}

#[inline(never)]
fn draw_in(local: &Local, state: u64) -> Admission {
    if state & RULED != 0 {
        return Admission::BY_RULES;
    }
    if !local.is_fit(state) {
        return local.draw_anew(state);
    }
    let Some(lane) = local.enter() else { return local.refuse(Reason::Reentrant) };
    let now = lane.spans.state();
    if now.len() != 0 {
        return local.draw_slowly(lane, state);
    }
    let admission = local.draw(lane, 0, now, state);
    local.leave(lane);
    admission
}

/// Starts a transaction that was admitted.
#[inline]
pub(crate) fn open_root(admission: Admission, op: NameId, name: NameId) -> Handle {
    let names = names(op, name);
    LOCAL.try_with(|local| open_root_in(local, admission, names)).unwrap_or(Handle::NONE)
}

#[inline(never)]
fn open_root_in(local: &Local, admission: Admission, names: u64) -> Handle {
    match std::thread::panicking() {
        true => open_root_slowly(admission, names),
        false => open_root_calmly(local, admission, names),
    }
}

#[inline(never)]
fn open_root_calmly(local: &Local, admission: Admission, names: u64) -> Handle {
    let Some(lane) = local.enter() else { return Handle::NONE };
    let now = lane.spans.state();
    let is_usual = now.len() == 0 && admission.word & meta::PLANNED == 0;
    let start = (is_usual && local.writer.has_room()).then(clock::ticks_in_line).flatten();
    let Some(start) = start else {
        local.leave(lane);
        return open_root_slowly(admission, names);
    };
    let key = admission.key;
    let meta = meta::ROOT | admission.word & FROM_WORD;
    local.roots.set(1);
    local.push_root(lane, 0, now, &Entry { key, root: key, parent: 0, start, names, meta });
    local.leave(lane);
    Handle { key, place: 0 }
}

#[inline(never)]
fn open_root_slowly(admission: Admission, names: u64) -> Handle {
    LOCAL
        .try_with(|local| {
            let Some(lane) = local.enter() else { return Handle::NONE };
            let handle = local.open_root(lane, admission.key, admission.word, names);
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
#[inline]
pub(crate) fn open_child(op: NameId, description: NameId) -> Handle {
    let names = names(op, description);
    LOCAL.try_with(|local| open_child_in(local, names)).unwrap_or(Handle::NONE)
}

#[inline(never)]
fn open_child_in(local: &Local, names: u64) -> Handle {
    match std::thread::panicking() {
        true => open_child_slowly(names),
        false => open_child_calmly(local, names),
    }
}

#[inline(never)]
fn open_child_calmly(local: &Local, names: u64) -> Handle {
    match local.open_child_at_once(names) {
        Some(handle) => handle,
        None => open_child_slowly(names),
    }
}

/// Where a panic unwinds, the clock needs a call, or there is no lane or no room.
#[cold]
#[inline(never)]
fn open_child_slowly(names: u64) -> Handle {
    let start = clock::ticks();
    LOCAL
        .try_with(|local| {
            let Some(lane) = local.enter() else { return local.reentered_child() };
            let depth = lane.spans.len();
            local.open_child_of(lane, depth, start, names, 0)
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
                return local.open_child_of(lane, above, start, names(op, description), 0);
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
            Ok(lane) => self.draw_slowly(lane, state),
            Err(reason) => self.refuse(reason),
        }
    }

    /// On any stack; makes room where there is none; leaves the lane.
    #[inline(never)]
    fn draw_slowly(&self, lane: &'static Lane, state: u64) -> Admission {
        self.make_depth(lane);
        let now = lane.spans.state();
        let admission = self.draw(lane, now.len(), now, state);
        self.leave(lane);
        admission
    }

    /// Gives up what is open where nothing more fits on the stack.
    #[inline]
    pub(super) fn make_depth(&self, lane: &Lane) {
        if lane.spans.len() >= DEPTH {
            self.abandon_open(lane);
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn refuse(&self, reason: Reason) -> Admission {
        self.turned_away(reason, Count::transaction(0));
        Admission::no(Handle::NONE)
    }

    #[inline]
    fn draw(&self, lane: &Lane, depth: usize, now: State, state: u64) -> Admission {
        let key = self.take_key();
        // The keys first: started = keys - unsampled must not run backwards.
        self.note_keys(lane);
        if sample_rand(key, SETTINGS.sample_seed()) < threshold_of(state) {
            lane.counters.sampled.add(1);
            return Admission { key, word: state };
        }
        self.leave_out_at(lane, depth, now, key, state)
    }

    /// Begins a transaction that sampling left out, on a stack with room. `word` as in
    /// [`Admission`].
    #[inline]
    pub(super) fn leave_out(&self, lane: &Lane, key: u64, word: u64) -> Admission {
        let now = lane.spans.state();
        self.leave_out_at(lane, now.len(), now, key, word)
    }

    /// The same on top of a stack, which is at `depth`.
    #[inline]
    pub(super) fn leave_out_at(
        &self,
        lane: &Lane,
        depth: usize,
        now: State,
        key: u64,
        word: u64,
    ) -> Admission {
        lane.counters.unsampled.add(1);
        let given = word & (THRESHOLD | meta::CONTINUED);
        let bits = depth as u64 | meta::ROOT | meta::UNSAMPLED | given;
        self.push(lane, depth, now, &Entry { root: key, meta: bits, ..Entry::default() });
        Admission::no(Handle { key, place: depth as u64 | UNSAMPLED })
    }

    /// Writes a line on top of the stack, which is at `depth`.
    #[inline]
    fn push(&self, lane: &Lane, depth: usize, now: State, entry: &Entry) {
        lane.spans.push_at(depth, now, entry);
        self.parent.set(entry.key);
    }

    fn open_root(&self, lane: &Lane, key: u64, state: u64, names: u64) -> Handle {
        if lane.spans.len() >= DEPTH || self.roots.get() >= RESERVE {
            self.abandon_open(lane);
        }
        let now = lane.spans.state();
        let depth = now.len();
        let mut bits = depth as u64 | meta::ROOT | state & FROM_WORD;
        if std::thread::panicking() {
            bits |= meta::BORN_PANICKING;
        }
        if !self.writer.room(&lane.ring, 1, || SETTINGS.ring_slots()) {
            bits |= meta::REFUSED;
        }
        self.roots.set(self.roots.get() + 1);
        if state & meta::PLANNED != 0 {
            self.begin_trial(lane, key, depth, self.pending.get().of(key));
        }
        let start = clock::ticks();
        let entry = Entry { key, root: key, parent: 0, start, names, meta: bits };
        self.push_root(lane, depth, now, &entry);
        Handle { key, place: depth as u64 }
    }

    /// Writes a root's line on top of the stack, which is at `depth`.
    #[inline]
    fn push_root(&self, lane: &Lane, depth: usize, now: State, entry: &Entry) {
        let [.., lost, _] = lane.spans.at(depth);
        lost.store(0, Ordering::Relaxed);
        self.push(lane, depth, now, entry);
    }

    /// Starts a child of the innermost span as is usual. `None`: nothing was done.
    #[inline]
    fn open_child_at_once(&self, names: u64) -> Option<Handle> {
        let start = clock::ticks_in_line()?;
        let lane = self.enter()?;
        let now = lane.spans.state();
        let lines = lane.spans.pair(now.len().wrapping_sub(1));
        let handle = lines.map(|lines| {
            let key = self.next_key.get();
            let child = NewChild { key, start, names, inherits: INHERITED, flags: 0 };
            lane.spans.push_child_on(now, lines, &child);
            // Last, when there are registers again.
            self.next_key.set(key + 1);
            self.parent.set(key);
            Handle { key, place: now.len() as u64 }
        });
        self.leave(lane);
        handle
    }

    /// Starts a child of the line below `above`, on top.
    #[inline]
    pub(super) fn open_child(
        &self,
        lane: &Lane,
        now: State,
        above: usize,
        start: u64,
        names: u64,
        flags: u64,
    ) -> Handle {
        let key = self.take_key();
        let child = NewChild { key, start, names, inherits: INHERITED, flags };
        lane.spans.push_child(now, above.wrapping_sub(1), &child);
        self.parent.set(key);
        Handle { key, place: now.len() as u64 }
    }

    /// Starts a child of the line below `above`, on top, and leaves the lane.
    pub(super) fn open_child_of(
        &self,
        lane: &'static Lane,
        above: usize,
        start: u64,
        names: u64,
        flags: u64,
    ) -> Handle {
        let now = lane.spans.state();
        if now.len() >= DEPTH {
            return self.too_deep(lane);
        }
        let handle = self.open_child(lane, now, above, start, names, flags);
        if std::thread::panicking() {
            self.born_panicking(lane, now.len());
        }
        self.leave(lane);
        handle
    }

    /// Leaves the lane.
    #[cold]
    #[inline(never)]
    fn too_deep(&self, lane: &'static Lane) -> Handle {
        lane.counters.lose(Reason::TooDeep, Count::spans(1));
        self.leave(lane);
        Handle::NONE
    }

    /// Notes on the line at `depth` that a panic was unwinding when its span started.
    #[cold]
    #[inline(never)]
    fn born_panicking(&self, lane: &Lane, depth: usize) {
        let entry = lane.spans.entry(depth);
        let meta = entry.meta | meta::BORN_PANICKING;
        lane.spans.write(depth, &Entry { meta, ..entry });
    }

    #[cold]
    #[inline(never)]
    pub(super) fn reentered_child(&self) -> Handle {
        // A parent was open: there is a lane.
        self.turned_away(Reason::Reentrant, Count::spans(1));
        Handle::NONE
    }
}
