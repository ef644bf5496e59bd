//! From the slots of rings to whole transactions.
//!
//! The usual transaction lies in one piece in its ring, its root last, and is handed on as the
//! slice it is: no map, no copy. What comes in pieces (a transaction around another one, one that
//! was published early) waits in a table by root key until the root comes. The table is bounded in
//! transactions, slots and age; what is beyond is given up, oldest first, and counted.
//!
//! Pure: slots and a time in, slices and counts out.
//!
//! # Invariants
//! * M1: of `n` span records taken in, `n = handed on + lost + held()`, at any moment.
//! * M2: an attribute's slots are never parted.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::shared::layout::{Kind, Slot, SpanRecord, slots_of};
use crate::shared::ledger::{Count, Reason};

/// Bounds of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) transactions: usize,
    pub(crate) slots: usize,
    pub(crate) age: Duration,
    /// Children of one transaction.
    pub(crate) children: usize,
}

/// What the assembler tells its owner.
pub(crate) trait Sink {
    /// A whole transaction: its slots, the root's record last.
    fn transaction(&mut self, run: &[Slot]);
    /// Spans that were given up.
    fn lost(&mut self, reason: Reason, count: Count);
}

/// A transaction whose root has not come yet.
#[derive(Debug, Default)]
struct Pending {
    slots: Vec<Slot>,
    children: usize,
    /// Children that were left out for being too many.
    left_out: u32,
    since: Duration,
}

/// The table, and its bounds.
#[derive(Debug)]
pub(crate) struct Assembler {
    bounds: Bounds,
    pending: HashMap<u64, Pending, foldhash::fast::RandomState>,
    /// Roots in the order in which they were first seen; some may be gone from the table.
    order: VecDeque<u64>,
    slots: usize,
    /// Span records in the table.
    children: u64,
    /// Emptied vectors, to be used again.
    spare: Vec<Vec<Slot>>,
}

const SPARES: usize = 8;

impl Assembler {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            pending: HashMap::default(),
            order: VecDeque::new(),
            slots: 0,
            children: 0,
            spare: Vec::new(),
        }
    }

    /// Span records that wait for their root.
    pub(crate) fn held(&self) -> Count {
        Count::spans(self.children)
    }

    /// Takes the next slots of one ring. What belongs together at the end and is not complete yet
    /// is left for the next call when `more` comes at once; the number of slots that were taken is
    /// returned.
    pub(crate) fn take(
        &mut self,
        batch: &[Slot],
        more: bool,
        now: Duration,
        sink: &mut impl Sink,
    ) -> usize {
        let (mut at, mut start) = (0, 0);
        let mut current = 0;
        while let Some(slot) = batch.get(at) {
            let end = at + slots_of(slot);
            if end > batch.len() {
                break;
            }
            let [_, _, root, ..] = *slot;
            if root != current {
                self.put_off(batch.get(start..at).unwrap_or_default(), current, now, sink);
                (current, start) = (root, at);
            }
            at = end;
            if Kind::of(slot[0]) == Some(Kind::Root) {
                self.complete(batch.get(start..end).unwrap_or_default(), root, sink);
                (current, start) = (0, end);
            }
        }
        if !more || at - start > self.bounds.slots / 4 {
            self.put_off(batch.get(start..at).unwrap_or_default(), current, now, sink);
            // An attribute that is cut off in the middle, with nothing to follow, is no attribute.
            start = if more { at } else { batch.len() };
        }
        start
    }

    /// Gives up what is too old, or too much.
    pub(crate) fn bound(&mut self, now: Duration, sink: &mut impl Sink) {
        while let Some(oldest) = self.order.front() {
            let is_over = match self.pending.get(oldest) {
                None => true,
                Some(pending) => {
                    self.pending.len() > self.bounds.transactions
                        || self.slots > self.bounds.slots
                        || now.saturating_sub(pending.since) > self.bounds.age
                }
            };
            if !is_over {
                break;
            }
            self.give_up_oldest(Reason::Evicted, sink);
        }
    }

    /// Gives up everything.
    pub(crate) fn clear(&mut self, reason: Reason, sink: &mut impl Sink) {
        while !self.order.is_empty() {
            self.give_up_oldest(reason, sink);
        }
    }

    fn give_up_oldest(&mut self, reason: Reason, sink: &mut impl Sink) {
        let Some(root) = self.order.pop_front() else { return };
        if let Some(pending) = self.remove(root) {
            sink.lost(reason, Count::spans(pending.children as u64));
            self.recycle(pending.slots);
        }
    }

    fn remove(&mut self, root: u64) -> Option<Pending> {
        let pending = self.pending.remove(&root)?;
        self.slots -= pending.slots.len();
        self.children -= pending.children as u64;
        Some(pending)
    }

    fn recycle(&mut self, mut slots: Vec<Slot>) {
        if self.spare.len() < SPARES {
            slots.clear();
            self.spare.push(slots);
        }
    }

    /// Puts a piece of a transaction aside until its root comes.
    fn put_off(&mut self, piece: &[Slot], root: u64, now: Duration, sink: &mut impl Sink) {
        if piece.is_empty() {
            return;
        }
        let pending = self.pending.entry(root).or_insert_with(|| {
            self.order.push_back(root);
            Pending {
                slots: self.spare.pop().unwrap_or_default(),
                since: now,
                ..Pending::default()
            }
        });
        let mut rest = piece;
        while let Some((first, _)) = rest.split_first() {
            let (item, behind) = rest.split_at(slots_of(first).min(rest.len()));
            rest = behind;
            let is_child = Kind::of(first[0]) == Some(Kind::Child);
            let is_roots = first[1] == root;
            if !is_roots && pending.children >= self.bounds.children {
                // Attributes of children that are left out go with them.
                if is_child {
                    pending.left_out = pending.left_out.saturating_add(1);
                    sink.lost(Reason::TransactionLimit, Count::spans(1));
                }
                continue;
            }
            pending.slots.extend_from_slice(item);
            self.slots += item.len();
            if is_child {
                pending.children += 1;
                self.children += 1;
            }
        }
        self.bound(now, sink);
    }

    /// The root has come, at the end of `run`.
    fn complete(&mut self, run: &[Slot], root: u64, sink: &mut impl Sink) {
        if self.pending.is_empty() {
            return sink.transaction(run);
        }
        let Some(mut pending) = self.remove(root) else { return sink.transaction(run) };
        pending.slots.extend_from_slice(run);
        if let Some(last) = pending.slots.last_mut()
            && let Some(mut record) = SpanRecord::of(last)
        {
            record.lost = record.lost.saturating_add(pending.left_out);
            *last = record.words();
        }
        sink.transaction(&pending.slots);
        self.recycle(pending.slots);
        // `order` still names the root; it is passed over later. Keep that list short.
        if self.order.len() > 2 * self.pending.len() + 64 {
            let pending = &self.pending;
            self.order.retain(|root| pending.contains_key(root));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::id::NameId;
    use crate::shared::layout::{Scalar, attribute_header};

    #[derive(Default)]
    struct Seen {
        runs: Vec<Vec<u64>>,
        lost: Vec<(Reason, u64)>,
    }

    impl Sink for Seen {
        fn transaction(&mut self, run: &[Slot]) {
            self.runs.push(run.iter().map(|slot| slot[1]).collect());
        }

        fn lost(&mut self, reason: Reason, count: Count) {
            assert_eq!(count.transactions, 0);
            self.lost.push((reason, count.spans));
        }
    }

    fn record(kind: Kind, key: u64, root: u64) -> Slot {
        SpanRecord {
            kind,
            flags: 0,
            lost: 0,
            key,
            root,
            parent: 0,
            start: 0,
            end: 0,
            op: NameId::NONE,
            description: NameId::NONE,
            threshold: 0,
            unfinished: 0,
        }
        .words()
    }

    fn child(key: u64, root: u64) -> Slot {
        record(Kind::Child, key, root)
    }

    fn root(key: u64) -> Slot {
        record(Kind::Root, key, key)
    }

    fn long_text(key: u64, root: u64) -> [Slot; 2] {
        let header = attribute_header(Kind::Data, Scalar::Text as u8, 100, NameId(1));
        // The second slot is text that looks like a root's record.
        [[header, key, root, 0, 0, 0, 0, 0], [Kind::Root as u64, 9, 9, 9, 9, 9, 9, 9]]
    }

    const BOUNDS: Bounds =
        Bounds { transactions: 3, slots: 40, age: Duration::from_secs(10), children: 5 };
    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn whole_runs_are_handed_on_as_they_lie() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        let [a, b] = long_text(2, 1);
        let batch = [a, b, child(2, 1), root(1), root(3), child(5, 4), root(4)];
        assert_eq!(assembler.take(&batch, false, NOW, &mut seen), 7);
        assert_eq!(seen.runs, [vec![2, 9, 2, 1], vec![3], vec![5, 4]]);
        assert_eq!(assembler.held(), Count::default());
    }

    #[test]
    fn a_transaction_around_another_one_keeps_its_own() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        let batch = [child(2, 1), child(4, 3), root(3), child(5, 1), root(1)];
        assembler.take(&batch, false, NOW, &mut seen);
        assert_eq!(seen.runs, [vec![4, 3], vec![2, 5, 1]]);
        assert_eq!(seen.lost, []);
    }

    #[test]
    fn pieces_published_early_wait_for_the_root() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        assembler.take(&[child(2, 1), child(3, 1)], false, NOW, &mut seen);
        assert_eq!((seen.runs.len(), assembler.held()), (0, Count::spans(2)));
        assembler.take(&[child(4, 1), root(1)], false, NOW, &mut seen);
        assert_eq!(seen.runs, [vec![2, 3, 4, 1]]);
        assert_eq!(assembler.held(), Count::default());
    }

    #[test]
    fn what_is_not_complete_is_left_for_the_next_batch() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        let [a, b] = long_text(2, 1);
        let all = [child(7, 6), root(6), a, b, child(2, 1), root(1)];
        for cut in 0..all.len() {
            let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
            let taken = assembler.take(&all[..cut], true, NOW, &mut seen);
            assembler.take(&all[taken..], false, NOW, &mut seen);
            assert_eq!(seen.runs, [vec![7, 6], vec![2, 9, 2, 1]], "cut at {cut}");
        }
        assert_eq!(assembler.take(&all[..3], false, NOW, &mut seen), 3);
    }

    #[test]
    fn the_table_gives_up_the_oldest_first_and_counts() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        for n in 1..=5 {
            assembler.take(&[child(10 * n, n)], false, NOW, &mut seen);
        }
        assert_eq!(seen.lost, [(Reason::Evicted, 1), (Reason::Evicted, 1)]);
        assembler.take(&[root(1), root(3)], false, NOW, &mut seen);
        assert_eq!(seen.runs, [vec![1], vec![30, 3]]);
        assembler.bound(NOW + Duration::from_secs(11), &mut seen);
        assert_eq!(seen.lost.len(), 4, "too old");
        assert_eq!(assembler.held(), Count::default());
    }

    #[test]
    fn slots_are_bounded_and_so_are_children_of_one() {
        let bounds = Bounds { slots: 4, ..BOUNDS };
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(bounds));
        for n in 1..=2 {
            assembler.take(&[child(10, n), child(11, n), child(12, n)], false, NOW, &mut seen);
        }
        assert_eq!(seen.lost, [(Reason::Evicted, 3)]);

        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        let many: Vec<Slot> = (10..20).map(|key| child(key, 1)).collect();
        assembler.take(&many, false, NOW, &mut seen);
        assert_eq!(assembler.held(), Count::spans(5));
        let lost: u64 = seen.lost.iter().map(|(_, spans)| spans).sum();
        assert_eq!(lost, 5);
        struct Last(Option<SpanRecord>);
        impl Sink for Last {
            fn transaction(&mut self, run: &[Slot]) {
                self.0 = SpanRecord::of(run.last().unwrap());
            }
            fn lost(&mut self, _: Reason, _: Count) {}
        }
        let mut last = Last(None);
        assembler.take(&[root(1)], false, NOW, &mut last);
        assert_eq!(last.0.unwrap().lost, 5, "the transaction says so");
    }
}
