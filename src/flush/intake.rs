//! From rings to the assembler: what the flusher does with one ring after the other, whatever lies
//! behind them.
//!
//! Generic over where slots come from and where transactions go, so that the very same code is
//! driven by a simulation (`simulation`) as by threads.

use std::time::Duration;

use crate::shared::layout::{Kind, Slot, is_folded, slots_of, unfold};
use crate::shared::ledger::{Count, Reason};

use super::assemble::{Assembler, Bounds, Sink};

/// A batch that grew to more than so many times its usual size is freed after use: one huge
/// transaction must not pin its memory.
const BATCH_GROWTH_MAX: usize = 4;

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
    /// Nothing follows for now: what is ready goes on.
    fn hand_over(&mut self);
}

/// What was copied out of a ring and [unfolded](unfold), and the transactions in the making.
#[derive(Debug)]
pub(super) struct Intake {
    batch: Vec<Slot>,
    /// The next of them, as they lay in the ring.
    raw: Vec<Slot>,
    /// Slots copied at a time.
    batch_slots: u64,
    assembler: Assembler,
}

impl Intake {
    pub(super) fn new(bounds: Bounds, batch_slots: u64) -> Self {
        Self { batch: Vec::new(), raw: Vec::new(), batch_slots, assembler: Assembler::new(bounds) }
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
            self.raw.clear();
            let count = source.collect(&mut self.raw, self.batch_slots.min(waiting - done));
            if count == 0 {
                break;
            }
            done += count;
            let (fresh, missing) = records(&self.raw);
            // The rest of an attribute is published with it (L2 of the layout). Left for the next
            // look it would be read as slots of its own, should a panic come between.
            done += source.collect(&mut self.raw, missing.min(waiting - done));
            unfold(&self.raw, &mut self.batch);
            out.taken_in(fresh);
            let more = done < waiting;
            let taken = self.assembler.take(source.number(), &self.batch, more, now, out);
            self.batch.drain(..taken);
        }
        let usual = usize::try_from(self.batch_slots).unwrap_or(usize::MAX);
        if self.batch.capacity() > usual.saturating_mul(BATCH_GROWTH_MAX) {
            self.batch = Vec::new();
        }
        done
    }

    /// All rings were looked at once more.
    pub(super) fn pass_done(&mut self, now: Duration, out: &mut impl Keeper) {
        self.assembler.pass_done(out);
        self.assembler.bound(now, out);
        out.hand_over();
    }

    /// Gives up everything.
    pub(super) fn clear(&mut self, reason: Reason, out: &mut impl Keeper) {
        self.assembler.clear(reason, out);
        out.hand_over();
    }

    /// After a panic: what is ready goes on, whatever was in hand or in the table is lost, and
    /// written down.
    pub(super) fn recover(&mut self, bounds: Bounds, out: &mut impl Keeper) {
        out.hand_over();
        out.lost(Reason::Internal, out.in_hand());
        self.batch = Vec::new();
        self.raw = Vec::new();
        self.assembler = Assembler::new(bounds);
    }

    /// What waits in the assembler.
    #[cfg(test)]
    pub(super) fn held(&self) -> Count {
        self.assembler.held()
    }

    /// For those who look at what is open.
    pub(super) const fn assembler(&self) -> &Assembler {
        &self.assembler
    }

    /// Whether a root waits for a further pass.
    pub(super) fn has_ended(&self) -> bool {
        self.assembler.has_ended()
    }
}

/// The records in a run of slots, and how many slots are missing of the attribute at its end.
pub(super) fn records(run: &[Slot]) -> (Count, u64) {
    let mut count = Count::default();
    let mut at = 0;
    while let Some(slot) = run.get(at) {
        match Kind::of(slot[0]) {
            Some(Kind::Root) => count += Count::transaction(0),
            Some(Kind::Child) => count += Count::spans(1),
            None if is_folded(slot[0]) => count += Count::spans(1),
            _ => {}
        }
        at += slots_of(slot);
    }
    (count, at.saturating_sub(run.len()) as u64)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::*;
    use crate::shared::id::NameId;
    use crate::shared::layout::{LIST, Scalar, attribute_header};

    struct Fixed(Vec<Slot>, Cell<usize>);

    impl Source for Fixed {
        fn number(&self) -> u32 {
            0
        }

        fn waiting(&self) -> u64 {
            (self.0.len() - self.1.get()) as u64
        }

        fn collect(&self, out: &mut Vec<Slot>, slots_max: u64) -> u64 {
            let rest = &self.0[self.1.get()..];
            let rest = &rest[..rest.len().min(usize::try_from(slots_max).unwrap())];
            out.extend_from_slice(rest);
            self.1.set(self.1.get() + rest.len());
            rest.len() as u64
        }
    }

    /// Panics at its first transaction.
    #[derive(Default)]
    struct Nervous {
        taken_in: Count,
        left: Count,
        calls: u32,
    }

    impl Sink for Nervous {
        fn transaction(&mut self, run: &[Slot]) {
            self.calls += 1;
            if self.calls == 1 {
                resume_unwind(Box::new(()));
            }
            self.left += records(run).0;
        }

        fn lost(&mut self, _: Reason, count: Count) {
            self.left += count;
        }

        fn attributes_lost(&mut self, _: u64) {}
    }

    impl Keeper for Nervous {
        fn taken_in(&mut self, count: Count) {
            self.taken_in += count;
        }

        fn hand_over(&mut self) {}

        fn in_hand(&self) -> Count {
            self.taken_in - self.left
        }
    }

    #[test]
    fn one_huge_transaction_does_not_pin_its_memory() {
        let child = [Kind::Child as u64, 2, 1, 0, 0, 0, 0, 0];
        let mut slots = vec![child; 99];
        slots.push([Kind::Root as u64, 1, 1, 0, 0, 0, 0, 0]);
        let bounds =
            Bounds { transactions: 10, slots: 1000, age: Duration::from_secs(10), children: 100 };
        let (mut intake, mut out) =
            (Intake::new(bounds, 8), Nervous { calls: 1, ..Nervous::default() });
        intake.collect(&Fixed(slots, Cell::new(0)), Duration::ZERO, &mut out);
        assert_eq!(out.left, Count { transactions: 1, spans: 100 });
        assert!(intake.batch.capacity() <= 8 * BATCH_GROWTH_MAX);
    }

    #[test]
    fn after_a_panic_no_value_is_read_as_records() {
        let root = |key| [Kind::Root as u64, key, key, 0, 0, 0, 0, 0];
        let header = attribute_header(Kind::Data, Scalar::U64 as u8 | LIST, 168, NameId(1));
        // A list of numbers, two slots of which look like records.
        let value = [[header, 3, 2, 1, 1, 1, 1, 1], [1; 8], [1; 8]];
        let slots = [&[root(1)][..], &value, &[root(2)]].concat();
        for batch_slots in 1..=slots.len() as u64 {
            let ring = Fixed(slots.clone(), Cell::new(0));
            let bounds =
                Bounds { transactions: 10, slots: 100, age: Duration::from_secs(10), children: 10 };
            let (mut intake, mut out) = (Intake::new(bounds, batch_slots), Nervous::default());
            let look = |intake: &mut Intake, out: &mut Nervous| {
                intake.collect(&ring, Duration::ZERO, out);
            };
            catch_unwind(AssertUnwindSafe(|| look(&mut intake, &mut out))).unwrap_err();
            intake.recover(bounds, &mut out);
            look(&mut intake, &mut out);
            let all = Count { transactions: 2, spans: 2 };
            assert_eq!((out.taken_in, out.left), (all, all), "{batch_slots} at a time");
        }
    }
}
