//! A capture while it runs: whose keys are whose, and what has come of each.
//!
//! A transaction belongs to a capture by its root's key: the keys that a thread gave out between
//! the begin and the end of a capture on it are the capture's. So nothing is marked on the
//! recording side, captures on several threads share the rings without seeing each other, and
//! children recorded on other threads go where their root goes.
//!
//! # Invariants
//! * P1: a thread records for one capture at a time, so the ranges in the table do not overlap.
//! * P2: locks are taken in one order: the table, then a capture's state; neither is held while
//!   anything of somebody else's runs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::flush::keep::Keep;
use crate::shared::clock;
use crate::shared::id::WireIds;
use crate::shared::layout::{Kind, Slot, items};
use crate::shared::ledger::{Count, Reason};
use crate::shared::registry::KEY_BITS;

use super::losses::{self, Losses, Marks};

/// Keys of one thread, of one capture.
#[derive(Debug)]
struct Part {
    /// Open-ended while the thread records for the capture.
    keys: Range<u64>,
    /// How many parts the capture had before.
    number: u64,
    running: Arc<Running>,
}

/// All parts of all captures that run (P1).
static PARTS: Mutex<Vec<Part>> = Mutex::new(Vec::new());

fn parts() -> MutexGuard<'static, Vec<Part>> {
    PARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn owner(key: u64) -> Option<Arc<Running>> {
    let parts = parts();
    parts.iter().find(|part| part.keys.contains(&key)).map(|part| Arc::clone(&part.running))
}

/// The fixed ids that a key falls under, and its number there: the same in every run.
pub(super) fn fixed(key: u64) -> Option<(WireIds, u64)> {
    let parts = parts();
    let part = parts.iter().find(|part| part.keys.contains(&key))?;
    Some((part.running.ids?, part.number_of(key)))
}

impl Part {
    /// Never 0, as no key is.
    const fn number_of(&self, key: u64) -> u64 {
        self.number << PART_SHIFT | (key - self.keys.start + 1)
    }
}

const PART_SHIFT: u32 = 40;
/// Bit of a number that stands for a place in a tree.
pub(super) const PLACE: u64 = 1 << 63;

/// One capture.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) ids: Option<WireIds>,
    /// Where time stands still, in unix nanoseconds.
    pub(super) clock: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Whole transactions, as they came.
    pub(super) runs: Vec<Vec<Slot>>,
    /// What was detached from its thread, one slot each.
    pub(super) parted: Vec<Slot>,
    /// Transactions whose root has not come, by its key. Kept up to date at the end only.
    pub(super) waiting: HashMap<u64, Vec<Slot>>,
    is_ending: bool,
    is_over: bool,
    /// Spans that ended and were given up.
    pub(super) given_up: HashSet<u64>,
    /// Spans that ended and are not kept.
    pub(super) not_kept: HashSet<u64>,
    /// Ticks at each call, and nanoseconds.
    pub(super) advances: Vec<(u64, u64)>,
    /// What was certainly of this capture.
    pub(super) lost: Losses,
    /// The part of it that is in the counters of lanes.
    lost_on: BTreeMap<u32, Losses>,
    parts: u64,
}

/// What is left of a capture when it is over.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) state: State,
    /// The ranges of keys, and the number of each first key.
    parts: Vec<(Range<u64>, u64)>,
    pub(super) elsewhere: Losses,
}

impl Running {
    pub(super) fn new(ids: Option<WireIds>, clock: Option<u64>) -> Self {
        Self { ids, clock, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on, time is `by` later.
    pub(super) fn advance(&self, by: Duration) {
        // What happened before has an earlier tick than this, what happens after it a later one,
        // however coarse the ticks are.
        let at = next_tick();
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.state().advances.push((at, nanos));
        next_tick();
    }

    /// What time it is, in unix nanoseconds, if it stands still.
    pub(super) fn now(&self) -> Option<u64> {
        let start = self.clock?;
        let add = |now: u64, (_, step): &(u64, u64)| now.saturating_add(*step);
        Some(self.state().advances.iter().fold(start, add))
    }

    /// The calling thread, whose next key is `key`, records for this capture from here on, unless
    /// it is over.
    pub(super) fn begin(self: &Arc<Self>, key: u64) {
        let mut parts = parts();
        let mut state = self.state();
        if state.is_over {
            return;
        }
        let number = state.parts;
        state.parts += 1;
        let end = (key >> KEY_BITS << KEY_BITS) + (1 << KEY_BITS);
        parts.push(Part { keys: key..end, number, running: Arc::clone(self) });
    }

    /// It does so no more; its next key is `key`, and so much was lost on it meanwhile.
    pub(super) fn end(&self, key: u64, lost: &Losses) {
        let mut parts = parts();
        let this = std::ptr::from_ref(self);
        let mine = parts.iter_mut().find(|part| {
            std::ptr::eq(Arc::as_ptr(&part.running), this)
                && part.keys.start <= key
                && lane_of(part.keys.start) == lane_of(key)
                && part.keys.contains(&key)
        });
        if let Some(part) = mine {
            part.keys.end = key;
        }
        let mut state = self.state();
        losses::add(&mut state.lost, lost);
        losses::add(state.lost_on.entry(lane_of(key)).or_default(), lost);
    }

    /// From here on, what waits is taken down.
    pub(super) fn is_about_to_end(&self) {
        self.state().is_ending = true;
    }

    /// The capture is over; what comes later is nobody's. `before` are the losses of all threads
    /// when it began.
    pub(super) fn remains(&self, before: &Marks) -> Remains {
        let parts = self.forget();
        let over = State { is_over: true, ..State::default() };
        let mut state = std::mem::replace(&mut *self.state(), over);
        losses::add(&mut state.lost, &before.lost_inside());
        let elsewhere = before.since(&state.lanes(), &state.lost_on);
        Remains { state, parts, elsewhere }
    }

    /// Takes its parts out of the table.
    pub(super) fn forget(&self) -> Vec<(Range<u64>, u64)> {
        let this = std::ptr::from_ref(self);
        let mut mine = Vec::new();
        let mut parts = parts();
        self.state().is_over = true;
        parts.retain(|part| {
            let is_mine = std::ptr::eq(Arc::as_ptr(&part.running), this);
            if is_mine {
                mine.push((part.keys.clone(), part.number_of(part.keys.start)));
            }
            !is_mine
        });
        mine.sort_unstable_by_key(|(_, number)| *number);
        mine
    }
}

impl State {
    /// The threads that started spans of this capture.
    fn lanes(&self) -> BTreeSet<u32> {
        let mut lanes = BTreeSet::new();
        for slots in self.runs.iter().chain(self.waiting.values()) {
            lanes.extend(slots_of_kind(slots, Kind::Child).map(|[_, key, ..]| lane_of(key)));
        }
        lanes.extend(self.given_up.iter().chain(&self.not_kept).map(|key| lane_of(*key)));
        lanes
    }
}

impl Remains {
    /// What stands for a key of the capture's own threads: in the order in which the threads came
    /// to it, then in that of starting.
    pub(super) fn number(&self, key: u64) -> Option<u64> {
        let (keys, first) = self.parts.iter().find(|(keys, _)| keys.contains(&key))?;
        Some(first + (key - keys.start))
    }
}

/// Gives every transaction to the capture that its root belongs to.
#[derive(Debug)]
pub(super) struct Sorter;

impl Sorter {
    fn with(slots: &[Slot], act: impl FnOnce(&mut State, u64)) {
        let Some([_, _, root, ..]) = slots.first() else { return };
        if let Some(running) = owner(*root) {
            act(&mut running.state(), *root);
        }
    }
}

impl Keep for Sorter {
    fn transaction(&self, run: &[Slot]) {
        Self::with(run, |state, root| {
            state.waiting.remove(&root);
            state.runs.push(run.to_vec());
        });
    }

    fn discarded(&self, run: &[Slot]) {
        Self::with(run, |state, root| {
            state.waiting.remove(&root);
            for kind in [Kind::Child, Kind::Root] {
                state.not_kept.extend(slots_of_kind(run, kind).map(|[_, key, ..]| key));
            }
        });
    }

    fn pieces(&self, slots: &[Slot]) {
        Self::with(slots, |state, _| {
            let parted = slots_of_kind(slots, Kind::Parted);
            state.parted.extend(parted);
        });
    }

    fn waiting(&self, slots: &[Slot]) {
        Self::with(slots, |state, root| {
            if state.is_ending {
                state.waiting.insert(root, slots.to_vec());
            }
        });
    }

    fn given_up(&self, reason: Reason, slots: &[Slot]) {
        Self::with(slots, |state, root| {
            state.waiting.remove(&root);
            let mut count = Count::default();
            for (kind, one) in [(Kind::Child, Count::spans(1)), (Kind::Root, Count::transaction(0))]
            {
                for [_, key, ..] in slots_of_kind(slots, kind) {
                    count += one;
                    state.given_up.insert(key);
                }
            }
            if !count.is_zero() {
                losses::add(&mut state.lost, &BTreeMap::from([(reason, count)]));
            }
        });
    }
}

/// The first slots of the items of one kind.
pub(super) fn slots_of_kind(slots: &[Slot], kind: Kind) -> impl Iterator<Item = Slot> {
    items(slots)
        .filter_map(|item| item.first().copied())
        .filter(move |[header, ..]| Kind::of(*header) == Some(kind))
}

pub(super) const fn lane_of(key: u64) -> u32 {
    (key >> KEY_BITS) as u32
}

/// A tick that was not there before; waits for it, but not for ever.
fn next_tick() -> u64 {
    let before = clock::ticks();
    (0..TICK_TRIES).map(|_| clock::ticks()).find(|now| *now > before).unwrap_or(before)
}

const TICK_TRIES: u32 = 1_000_000;
