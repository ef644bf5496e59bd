//! Transactions whose end decides whether they are kept.
//!
//! A transaction with a plan is recorded like any other. When it ends its thread knows what the
//! plan asks for (how long it took, how it went, what code wished) and decides by a pure function
//! (`sampling/decide.rs`). One that is not kept is gone by moving the ring's private cursor back to
//! where it began: the flusher never hears of it.
//!
//! Where that cannot be done the record goes out with the plan in it, and the flusher decides by
//! the same function: when spans of it are on other threads, which may have set its status; or when
//! something of it was published, because the ring was filling or another transaction ended in
//! between.
//!
//! # Invariants
//! * P1: a mark belongs to the open planned root whose key it holds; marks of others are not used.
//! * P2: what lies in the ring between a mark and its end, all private, are slots of that
//!   transaction alone, if nothing else was open when it began and nothing is when it ends, or if a
//!   look at them says so.

use std::cell::Cell;

use crate::sampling::decide::{Facts, Why, end};
use crate::sampling::plan::Plan;
use crate::shared::clock::{self, Anchor};
use crate::shared::id::mix;
use crate::shared::layout::{Slot, SpanRecord, contents, flag, slots_of};
use crate::shared::ledger::Count;
use crate::shared::registry::Lane;
use crate::shared::ring::{Mark, RESERVE};
use crate::shared::seqlock::{Entry, meta};
use crate::shared::sync::Ordering;

use super::draw::Pending;
use super::handle::{Handle, is_live};
use super::local::{LOCAL, Local};

/// Where a planned root began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    /// P1.
    key: u64,
    mark: Mark,
    /// [`Counters::at_large`](crate::shared::registry::Counters::at_large) then.
    at_large: u64,
    rand: u32,
    /// Nothing else was open, and nothing was counted here that began elsewhere.
    alone: bool,
}

/// Recorded transactions that can be open on a thread.
const OPEN_MAX: usize = 16;
const _: () = assert!(OPEN_MAX as u64 == RESERVE);

/// One for each of them.
pub(super) type Trials = [Cell<Trial>; OPEN_MAX];

pub(super) const fn none() -> Trials {
    [const { Cell::new(Trial::NONE) }; OPEN_MAX]
}

impl Trial {
    const NONE: Self = Self { key: 0, mark: Mark::START, at_large: 0, rand: 0, alone: false };
}

/// What becomes of a planned root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its record is to be written.
    Write,
    /// It was taken back, and counted.
    Gone,
}

/// Asks for an open transaction to be kept, or not to be.
pub(crate) fn ask(handle: Handle, keep: bool) {
    let _ = LOCAL.try_with(|local| {
        let Some(lane) = local.enter() else { return };
        if handle.is_recording() && is_live(lane, handle) {
            let depth = handle.depth();
            let mut entry = lane.spans.entry(depth);
            if entry.meta & meta::ENTERED != 0 {
                local.ask_elsewhere(lane, handle, keep);
            } else if entry.meta & meta::ROOT != 0 {
                if entry.meta & meta::PLANNED == 0 {
                    let [.., plan] = lane.spans.at(depth);
                    plan.store(0, Ordering::Relaxed);
                }
                entry.meta = asked(entry.meta, keep);
                lane.spans.write(depth, &entry);
            }
        }
        local.leave(lane);
    });
}

/// A root's `meta` after code asked.
pub(super) const fn asked(bits: u64, keep: bool) -> u64 {
    let wish = if keep { meta::KEEP } else { meta::DISCARD };
    bits & !(meta::KEEP | meta::DISCARD) | wish | meta::PLANNED
}

/// The flags of a record for what code asked.
pub(super) const fn asked_flags(bits: u64) -> u8 {
    match bits & (meta::KEEP | meta::DISCARD) {
        meta::KEEP => flag::KEEP,
        meta::DISCARD => flag::DISCARD,
        _ => 0,
    }
}

/// What a root was kept for by its head.
pub(super) const fn first(bits: u64) -> u8 {
    if bits & meta::FIRST == 0 { Why::Head as u8 } else { Why::First as u8 }
}

impl Local {
    /// Begins the trial of a root that is about to be pushed to `depth`.
    pub(super) fn begin_trial(&self, lane: &Lane, key: u64, depth: usize, pending: Pending) {
        let [.., plan] = lane.spans.at(depth);
        plan.store(pending.plan, Ordering::Relaxed);
        // The root is counted among the open ones already.
        if let Some(trial) = self.innermost_trial() {
            trial.set(Trial {
                key,
                mark: self.writer.mark(),
                at_large: lane.counters.at_large(),
                rand: pending.rand,
                alone: depth == 0,
            });
        }
    }

    /// The place for the transaction that was opened last.
    fn innermost_trial(&self) -> Option<&Cell<Trial>> {
        let nth = usize::try_from(self.roots.get()).ok()?.checked_sub(1)?;
        self.trials.get(nth)
    }

    /// What is lost on this thread is not always of the transactions that are open on it.
    #[cold]
    pub(super) fn has_lost_a_stranger(&self) {
        let [outermost, ..] = &self.trials;
        outermost.set(Trial { alone: false, ..outermost.get() });
    }

    /// Ends a planned root of this generation: decides, and adorns its record.
    #[cold]
    #[inline(never)]
    pub(super) fn end_trial(
        &self,
        lane: &Lane,
        depth: usize,
        entry: &Entry,
        record: &mut SpanRecord,
    ) -> Verdict {
        let [.., plan] = lane.spans.at(depth);
        let plan = plan.load(Ordering::Relaxed);
        record.flags |= asked_flags(entry.meta);
        record.why = first(entry.meta);
        let trial = self.innermost_trial().map(Cell::get);
        let trial = trial.filter(|trial| trial.key == entry.key);
        let Some(trial) = trial.filter(|_| entry.meta & meta::SHARED == 0) else {
            record.plan = plan;
            return Verdict::Write;
        };
        let facts = Facts {
            nanos: duration(record),
            failed: entry.meta & meta::FAILED != 0 || record.flags & flag::PANICKED != 0,
            asked: match record.flags & (flag::KEEP | flag::DISCARD) {
                flag::KEEP => Some(true),
                flag::DISCARD => Some(false),
                _ => None,
            },
            name: record.description.0,
            random: mix(entry.key ^ record.end),
        };
        let end = end(Plan(plan), record.threshold, trial.rand, &facts);
        if end.kept {
            record.flags &= !flag::KEEP;
            record.threshold = end.threshold;
            if end.why != Why::Head {
                record.why = end.why as u8;
            }
            return Verdict::Write;
        }
        if let Some(children) = self.take_back_trial(lane, depth, &trial) {
            lane.counters.discarded.add(Count::transaction(children));
            return Verdict::Gone;
        }
        record.flags |= flag::DISCARD;
        Verdict::Write
    }

    /// Moves the cursor back to where a trial began; how many children it had recorded. `None`: it
    /// cannot be done.
    fn take_back_trial(&self, lane: &Lane, depth: usize, trial: &Trial) -> Option<u64> {
        if !self.writer.is_private_since(trial.mark) {
            return None;
        }
        let children = if trial.alone && lane.spans.len() == depth + 1 {
            lane.counters.at_large().wrapping_sub(trial.at_large)
        } else {
            self.children_since(lane, trial)?
        };
        self.writer.retreat_to(&lane.ring, trial.mark);
        Some(children)
    }

    /// P2: how many children were written since a mark; `None` if anything was that is not the
    /// transaction's.
    fn children_since(&self, lane: &Lane, trial: &Trial) -> Option<u64> {
        let (mut children, mut skip, mut alone) = (0, 0, true);
        self.writer.each_since(&lane.ring, trial.mark, |slot: &Slot| {
            if skip > 0 {
                skip -= 1;
                return;
            }
            skip = slots_of(slot) - 1;
            let [_, _, root, ..] = slot;
            alone &= *root == trial.key;
            children += contents(slot).0;
        });
        alone.then_some(children)
    }

    /// Notes how a planned root fares.
    pub(super) fn note_status(&self, lane: &Lane, handle: Handle, ok: bool) {
        let mut entry = lane.spans.entry(handle.depth());
        if entry.meta & (meta::PLANNED | meta::ROOT) == meta::PLANNED | meta::ROOT {
            let failed = if ok { 0 } else { meta::FAILED };
            entry.meta = entry.meta & !meta::FAILED | failed;
            lane.spans.write(handle.depth(), &entry);
        }
    }
}

/// Nanoseconds between start and end.
fn duration(record: &SpanRecord) -> u64 {
    match record.flags & (flag::START_UNIX | flag::END_UNIX) {
        0 => clock::nanos(record.end.saturating_sub(record.start)),
        flags => {
            let anchor = Anchor::now();
            let moment = |raw, is_unix| {
                if flags & is_unix != 0 { raw } else { anchor.unix_nanos(raw) }
            };
            let start = moment(record.start, flag::START_UNIX);
            moment(record.end, flag::END_UNIX).saturating_sub(start)
        }
    }
}
