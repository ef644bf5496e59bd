//! Steps of a transaction: children in a row, of which each begins where the one before it ends.
//!
//! A step has no guard. Its line on the stack is marked `STEP`, and its transaction ends it: by its
//! next step, by its own end, when it is detached, or when it is told to. Where one step follows
//! another, one reading of the clock is the end of the one and the start of the other.
//!
//! # Invariants
//! * E1: of the lines above a transaction at most one is an open step of it.

use std::time::SystemTime;

use crate::shared::clock;
use crate::shared::id::NameId;
use crate::shared::layout::put_child;
use crate::shared::registry::Lane;
use crate::shared::seqlock::{NewChild, meta};
use crate::shared::sync::Ordering;

use super::handle::{Handle, is_live, names};
use super::local::{LOCAL, Local};
use super::open::INHERITED;

/// Ends the step of a transaction, if one is open, and begins the next.
#[inline]
pub(crate) fn step(root: Handle, op: NameId, description: NameId) -> Handle {
    let names = names(op, description);
    LOCAL.try_with(|local| step_in(local, root, names)).unwrap_or(Handle::NONE)
}

// How this is cut into functions: `open.rs`.
#[inline(never)]
fn step_in(local: &Local, root: Handle, names: u64) -> Handle {
    match std::thread::panicking() {
        true => step_slowly(root, names),
        false => step_calmly(local, root, names),
    }
}

#[inline(never)]
fn step_calmly(local: &Local, root: Handle, names: u64) -> Handle {
    let Some(now) = clock::ticks_in_line() else { return step_slowly(root, names) };
    let Some(lane) = local.enter() else { return local.reentered_child() };
    let Some(handle) = local.step_at_once(lane, root, now, names) else {
        return local.step_now(root, names, now, lane);
    };
    local.leave(lane);
    handle
}

/// Where a panic unwinds, or the clock needs a call.
#[cold]
#[inline(never)]
fn step_slowly(root: Handle, names: u64) -> Handle {
    let now = clock::ticks();
    LOCAL
        .try_with(|local| match local.enter() {
            Some(lane) => local.step_now(root, names, now, lane),
            None => local.reentered_child(),
        })
        .unwrap_or(Handle::NONE)
}

/// Ends the step of a transaction, if one is open.
pub(crate) fn end_step(root: Handle) {
    let now = clock::ticks();
    let _ = LOCAL.try_with(|local| {
        if let Some(lane) = local.enter() {
            local.end_step(lane, root, now, None);
            local.leave(lane);
        }
    });
}

impl Local {
    /// The next step where the last one is on top of the stack, with room for its record. `None`:
    /// nothing was done.
    #[inline]
    fn step_at_once(&self, lane: &Lane, root: Handle, now: u64, names: u64) -> Option<Handle> {
        let depth = root.depth() + 1;
        let line = lane.spans.at(depth);
        let [_, _, parent, _, _, bits, ..] = line;
        let bits = bits.load(Ordering::Relaxed);
        // A step's parent is its transaction, and open as long as it is itself (T4).
        if parent.load(Ordering::Relaxed) != root.key()
            || bits & (meta::STEP | meta::ENTERED | meta::UNUSUAL) != meta::STEP
            || lane.spans.len() != depth + 1
        {
            return None;
        }
        put_child(self.writer.next_slot()?, line, now);
        self.writer.took_slot();
        let key = self.take_key();
        let step = NewChild { key, start: now, names, inherits: INHERITED, flags: meta::STEP };
        lane.spans.write_child(depth, root.depth(), &step);
        self.parent.set(key);
        Some(Handle { key, place: depth as u64 })
    }

    /// The next step whatever there is; leaves the lane.
    #[inline(never)]
    fn step_now(&self, root: Handle, names: u64, now: u64, lane: &'static Lane) -> Handle {
        if !is_live(lane, root) {
            self.leave(lane);
            return Handle::NONE;
        }
        self.end_step(lane, root, now, None);
        self.open_child_of(lane, root.depth() + 1, now, names, meta::STEP)
    }

    /// Ends the open step of what stands in a line, if there is one (E1).
    #[cold]
    #[inline(never)]
    pub(super) fn end_step(&self, lane: &Lane, of: Handle, now: u64, at: Option<SystemTime>) {
        let step = (of.depth() + 1..lane.spans.len()).find_map(|depth| {
            let entry = lane.spans.entry(depth);
            let is_step = entry.meta & (meta::STEP | meta::ENTERED) == meta::STEP;
            let is_its = entry.key != 0 && entry.parent == of.key();
            (is_step && is_its).then_some(Handle { key: entry.key, place: depth as u64 })
        });
        if let Some(step) = step {
            self.end_child(lane, step, now, at);
        }
    }
}
