//! From rings to the assembler: what the flusher does with one ring after the other, whatever lies
//! behind them.
//!
//! Generic over where slots come from and where transactions go, so that the very same code is
//! driven by a simulation (`simulation`) as by threads.

use std::time::Duration;

use crate::shared::layout::{Kind, Slot, slots_of};
use crate::shared::ledger::{Count, Reason};

use super::assemble::{Assembler, Bounds, Sink};

/// A ring, as far as its reader goes.
pub(super) trait Source {
    /// Tells it from all others.
    fn number(&self) -> u32;
    /// Slots published and not yet collected.
    fn waiting(&self) -> u64;
    /// Copies out what was published, in order, at most `slots_max`; returns how many.
    fn collect(&self, out: &mut Vec<Slot>, slots_max: u64) -> u64;
}

/// A sink that keeps the books of what came in.
pub(super) trait Keeper: Sink {
    fn taken_in(&mut self, count: Count);
    /// Taken in and neither handed on nor lost: in the assembler, or lost to a panic.
    fn in_hand(&self) -> Count;
}

/// What was copied out of a ring, and the transactions in the making.
#[derive(Debug)]
pub(super) struct Intake {
    batch: Vec<Slot>,
    /// Slots copied at a time.
    batch_slots: u64,
    assembler: Assembler,
}

impl Intake {
    pub(super) fn new(bounds: Bounds, batch_slots: u64) -> Self {
        Self { batch: Vec::new(), batch_slots, assembler: Assembler::new(bounds) }
    }

    /// Drains one ring up to where it stood on entry.
    pub(super) fn collect(
        &mut self,
        source: &impl Source,
        now: Duration,
        out: &mut impl Keeper,
    ) -> u64 {
        let waiting = source.waiting();
        let mut done = 0;
        self.batch.clear();
        while done < waiting {
            let before = self.batch.len();
            let count =
                source.collect(&mut self.batch, self.batch_slots.min(waiting - done));
            if count == 0 {
                break;
            }
            done += count;
            // What is carried over from the last batch was counted then.
            out.taken_in(self.count_fresh(before));
            let more = done < waiting;
            let taken = self.assembler.take(source.number(), &self.batch, more, now, out);
            self.batch.drain(..taken);
        }
        done
    }

    /// All rings were looked at once more.
    pub(super) fn pass_done(&mut self, now: Duration, out: &mut impl Keeper) {
        self.assembler.pass_done(out);
        self.assembler.bound(now, out);
    }

    /// Gives up everything.
    pub(super) fn clear(&mut self, reason: Reason, out: &mut impl Keeper) {
        self.assembler.clear(reason, out);
    }

    /// After a panic: whatever was in hand or in the table is lost, and written down.
    pub(super) fn recover(&mut self, bounds: Bounds, out: &mut impl Keeper) {
        out.lost(Reason::Internal, out.in_hand());
        self.batch = Vec::new();
        self.assembler = Assembler::new(bounds);
    }

    /// What waits in the assembler.
    pub(super) fn held(&self) -> Count {
        self.assembler.held()
    }

    /// Whether a root waits for a further pass.
    pub(super) fn has_ended(&self) -> bool {
        self.assembler.has_ended()
    }

    /// Records in the batch behind the first `before` slots. An attribute may begin before and end
    /// behind.
    fn count_fresh(&self, before: usize) -> Count {
        let mut at = 0;
        while at < before {
            match self.batch.get(at) {
                Some(slot) => at += slots_of(slot),
                None => break,
            }
        }
        records(self.batch.get(at..).unwrap_or_default())
    }
}

/// The records in a run of slots.
pub(super) fn records(run: &[Slot]) -> Count {
    let mut count = Count::default();
    let mut at = 0;
    while let Some(slot) = run.get(at) {
        match Kind::of(slot[0]) {
            Some(Kind::Root) => count += Count::transaction(0),
            Some(Kind::Child) => count += Count::spans(1),
            _ => {}
        }
        at += slots_of(slot);
    }
    count
}
