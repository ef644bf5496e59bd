//! From the slots of rings to whole transactions.
//!
//! The usual transaction lies in one piece in its ring, its root last, and is handed on as the
//! slice it is: no map, no copy. What comes in pieces (a transaction around another one, one that
//! was published early) waits in a table by root key until the root comes. The table is bounded in
//! transactions, slots and age; what is beyond is given up, oldest first, and counted.
//!
//! A root that says that spans of it may lie in other rings waits for one further pass over all of
//! them: what ended before it was published before it, so that pass finds it. What ended after it
//! is late. The last such roots are remembered, so that a span which comes later still is known to
//! be late, and does not wait for a root that is gone.
//!
//! Pure: slots and a time in, slices and counts out.
//!
//! # Invariants
//! * M1: of `n` span records taken in, `n = handed on + lost + held()`, at any moment.
//! * M2: an attribute's slots are never parted.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use crate::shared::layout::{Kind, Slot, SpanRecord, flag, items, slots_of};

use crate::shared::ledger::{Count, Reason};

use super::arrange::{Arrange, note_lost};
use super::gone::{Fate, Gone};

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
    /// Attributes that were given up with them, or came too late.
    fn attributes_lost(&mut self, count: u64);
    /// The slots of what `lost` is told of, all of one transaction, for those who want to know
    /// whose it was.
    fn given_up(&mut self, _reason: Reason, _slots: &[Slot]) {}
    /// The slots of a transaction from several rings, as they came.
    fn pieces(&mut self, _slots: &[Slot]) {}
}

/// A transaction whose root has not come yet, or came and waits for the others.
#[derive(Debug, Default)]
struct Pending {
    slots: Vec<Slot>,
    /// Where the slots of one ring begin, and the ring's number.
    pieces: Vec<(usize, u32)>,
    children: usize,
    /// Slots and children that were left out for being too many.
    left_out: u32,
    since: Duration,
    /// Its place in `order`: the root may have been there before.
    serial: u64,
    /// Where the slot lies that says that the root was detached.
    parted: Option<usize>,
    /// The pass in which the root came.
    ended: Option<u64>,
}

impl Pending {
    fn count(&self) -> Count {
        let children = self.children as u64;
        match self.ended {
            Some(_) => Count::transaction(children),
            None => Count::spans(children),
        }
    }
}

/// The table, and its bounds.
#[derive(Debug)]
pub(crate) struct Assembler {
    bounds: Bounds,
    pending: HashMap<u64, Pending, foldhash::fast::RandomState>,
    /// Serials and roots, in the order in which they were put there; some may be gone from the
    /// table.
    order: VecDeque<(u64, u64)>,
    serial: u64,
    slots: usize,
    /// Span records in the table.
    held: Count,
    /// Passes over all rings so far.
    pass: u64,
    /// Roots that came and wait, in the order in which they came.
    ended: VecDeque<u64>,
    gone: Gone,
    arrange: Arrange,
    /// Emptied ones, to be used again, and the room in them, in slots: what waits and what is
    /// spare are at most `bounds.slots` together.
    spare: Vec<Pending>,
    spare_slots: usize,
}

impl Assembler {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            pending: HashMap::default(),
            order: VecDeque::new(),
            serial: 0,
            slots: 0,
            held: Count::default(),
            pass: 0,
            ended: VecDeque::new(),
            gone: Gone::new(bounds.transactions),
            arrange: Arrange::default(),
            spare: Vec::new(),
            spare_slots: 0,
        }
    }

    /// What waits: for its root, or with its root for the others.
    #[cfg(test)]
    pub(crate) fn held(&self) -> Count {
        self.held
    }

    /// Shows what waits for its root.
    pub(crate) fn each_waiting(&self, mut visit: impl FnMut(&[Slot])) {
        for pending in self.pending.values().filter(|pending| pending.ended.is_none()) {
            visit(&pending.slots);
        }
    }

    /// Whether a root waits for a further pass.
    pub(crate) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// For those who watch: of every transaction that was detached and has not ended, the slot that
    /// says so. In no order.
    pub(crate) fn detached(&self) -> impl Iterator<Item = &Slot> {
        let open = self.pending.values().filter(|pending| pending.ended.is_none());
        open.filter_map(|pending| pending.slots.get(pending.parted?))
    }

    /// What is there so far of a transaction that has not been handed on.
    pub(crate) fn slots_of(&self, root: u64) -> &[Slot] {
        self.pending.get(&root).map_or(&[], |pending| &pending.slots)
    }

    /// Whether a transaction that travelled has ended, as far as is remembered.
    pub(crate) fn is_over(&self, root: u64) -> bool {
        let has_ended = |pending: &Pending| pending.ended.is_some();
        self.pending.get(&root).is_some_and(has_ended)
            || self.gone.fate(root) == Some(Fate::HandedOn)
    }

    /// All rings were looked at once more: roots that came before that are handed on.
    pub(crate) fn pass_done(&mut self, sink: &mut impl Sink) {
        while let Some(root) = self.ended.front().copied() {
            match self.pending.get(&root).and_then(|pending| pending.ended) {
                Some(pass) if pass >= self.pass => break,
                Some(_) => self.hand_on(root, sink),
                // It was handed on earlier, for want of room.
                None => {}
            }
            self.ended.pop_front();
        }
        self.pass += 1;
    }

    /// Takes the next slots of one ring. What belongs together at the end and is not complete yet
    /// is left for the next call when `more` comes at once; the number of slots that were taken is
    /// returned.
    pub(crate) fn take(
        &mut self,
        lane: u32,
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
                let piece = batch.get(start..at).unwrap_or_default();
                self.put_off(lane, piece, current, now, sink);
                (current, start) = (root, at);
            }
            at = end;
            if Kind::of(slot[0]) == Some(Kind::Root) {
                let run = batch.get(start..end).unwrap_or_default();
                if is_shared(slot) {
                    self.end(lane, run, root, now, sink);
                } else {
                    self.complete(run, root, sink);
                }
                (current, start) = (0, end);
            }
        }
        if !more || at - start > self.bounds.slots / 4 {
            let piece = batch.get(start..at).unwrap_or_default();
            self.put_off(lane, piece, current, now, sink);
            // An attribute that is cut off in the middle, with nothing to follow, is no attribute.
            start = if more { at } else { batch.len() };
        }
        start
    }

    /// Gives up what is too old, or too much.
    pub(crate) fn bound(&mut self, now: Duration, sink: &mut impl Sink) {
        while let Some(oldest) = self.order.front() {
            let is_over = match of_order(&self.pending, oldest) {
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

    /// What is in the table, oldest first: serial, root, since when, and whether its root came.
    #[cfg(test)]
    pub(super) fn table(&self) -> Vec<(u64, u64, Duration, bool)> {
        let all = self.pending.iter();
        let mut table: Vec<_> =
            all.map(|(root, it)| (it.serial, *root, it.since, it.ended.is_some())).collect();
        table.sort_unstable();
        let slots: usize = self.pending.values().map(|pending| pending.slots.len()).sum();
        assert_eq!(self.slots, slots);
        table
    }

    /// Slots in the table, and transactions that are remembered.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.slots, self.gone.len())
    }

    /// Gives up everything.
    pub(crate) fn clear(&mut self, reason: Reason, sink: &mut impl Sink) {
        while !self.order.is_empty() {
            self.give_up_oldest(reason, sink);
        }
    }

    fn give_up_oldest(&mut self, reason: Reason, sink: &mut impl Sink) {
        let Some(oldest) = self.order.pop_front() else { return };
        let (_, root) = oldest;
        let Some(pending) = of_order(&self.pending, &oldest) else { return };
        if pending.ended.is_some() {
            // It has all it takes but a last look around.
            return self.hand_on(root, sink);
        }
        let Some(pending) = self.remove(root) else { return };
        sink.lost(reason, pending.count());
        sink.given_up(reason, &pending.slots);
        let attributes = attributes(&pending.slots);
        sink.attributes_lost(attributes);
        let lost = pending.left_out.saturating_add(low(pending.children as u64 + attributes));
        self.gone.remember(root, Fate::GivenUp(lost));
        self.recycle(pending);
    }

    fn remove(&mut self, root: u64) -> Option<Pending> {
        let pending = self.pending.remove(&root)?;
        self.slots -= pending.slots.len();
        self.held = self.held - pending.count();
        Some(pending)
    }

    fn recycle(&mut self, mut pending: Pending) {
        let room = pending.slots.capacity();
        if room > self.bounds.slots / 16 || self.slots + self.spare_slots + room > self.bounds.slots
        {
            return;
        }
        self.spare_slots += room;
        pending.slots.clear();
        pending.pieces.clear();
        self.spare.push(Pending {
            slots: pending.slots,
            pieces: pending.pieces,
            ..Pending::default()
        });
    }

    /// Puts a piece of a transaction aside until its root comes.
    fn put_off(
        &mut self,
        lane: u32,
        piece: &[Slot],
        root: u64,
        now: Duration,
        sink: &mut impl Sink,
    ) {
        if piece.is_empty() {
            return;
        }
        if self.gone.fate(root) == Some(Fate::HandedOn) {
            return late(piece, sink);
        }
        let pending = self.pending.entry(root).or_insert_with(|| {
            self.serial += 1;
            self.order.push_back((self.serial, root));
            let spare = self.spare.pop().unwrap_or_default();
            self.spare_slots -= spare.slots.capacity();
            Pending { since: now, serial: self.serial, ..spare }
        });
        if pending.pieces.last().is_none_or(|(_, last)| *last != lane) {
            pending.pieces.push((pending.slots.len(), lane));
        }
        let before = pending.count();
        for item in items(piece) {
            let Some(first) = item.first() else { continue };
            let is_child = Kind::of(first[0]) == Some(Kind::Child);
            let is_roots = first[1] == root;
            if !is_roots && pending.children >= self.bounds.children {
                // Attributes of children that are left out go with them.
                if is_child {
                    pending.left_out = pending.left_out.saturating_add(1);
                    sink.lost(Reason::TransactionLimit, Count::spans(1));
                    sink.given_up(Reason::TransactionLimit, item);
                } else {
                    sink.attributes_lost(attributes(item));
                }
                continue;
            }
            if is_roots && Kind::of(first[0]) == Some(Kind::Parted) {
                pending.parted = Some(pending.slots.len());
            }
            pending.slots.extend_from_slice(item);
            self.slots += item.len();
            pending.children += usize::from(is_child);
        }
        self.held += pending.count() - before;
        self.bound(now, sink);
    }

    /// A root has come that other rings may hold children of.
    fn end(&mut self, lane: u32, run: &[Slot], root: u64, now: Duration, sink: &mut impl Sink) {
        if self.gone.fate(root) == Some(Fate::HandedOn) {
            return late(run, sink);
        }
        self.put_off(lane, run, root, now, sink);
        match self.pending.get_mut(&root) {
            Some(pending) if pending.ended.is_none() => {
                pending.ended = Some(self.pass);
                self.held += Count::transaction(0);
                self.ended.push_back(root);
            }
            // A bound was so narrow that the root itself found no room; or a root that came twice.
            _ => sink.lost(Reason::Evicted, Count::transaction(0)),
        }
    }

    /// Hands on a transaction whose root has waited.
    fn hand_on(&mut self, root: u64, sink: &mut impl Sink) {
        let Some(mut pending) = self.remove(root) else { return };
        let given_up = self.given_up(root);
        self.gone.remember(root, Fate::HandedOn);
        let lost = pending.left_out.saturating_add(given_up);
        sink.pieces(&pending.slots);
        let run = self.arrange.run(&mut pending.slots, &pending.pieces, lost, sink);
        sink.transaction(run);
        self.recycle(pending);
        self.forget_order();
    }

    /// What was given up of a transaction before its root came.
    fn given_up(&self, root: u64) -> u32 {
        match self.gone.fate(root) {
            Some(Fate::GivenUp(lost)) => lost,
            _ => 0,
        }
    }

    /// The root has come, at the end of `run`, and all of it lies in this ring.
    fn complete(&mut self, run: &[Slot], root: u64, sink: &mut impl Sink) {
        if self.pending.is_empty() && self.gone.is_empty() {
            return sink.transaction(run);
        }
        let given_up = self.given_up(root);
        let mut pending = match self.remove(root) {
            Some(pending) => pending,
            None if given_up == 0 => return sink.transaction(run),
            None => self.spare.pop().unwrap_or_default(),
        };
        pending.slots.extend_from_slice(run);
        if let Some(last) = pending.slots.last_mut() {
            note_lost(last, pending.left_out.saturating_add(given_up), 0);
        }
        sink.transaction(&pending.slots);
        self.recycle(pending);
        self.forget_order();
    }

    /// `order` still names roots that are gone; they are passed over later. Keeps that list short.
    fn forget_order(&mut self) {
        if self.order.len() > 2 * self.pending.len() + 64 {
            let pending = &self.pending;
            self.order.retain(|place| of_order(pending, place).is_some());
        }
    }
}

/// What stands at a place of the order, if it is still there.
fn of_order<'a, S: BuildHasher>(
    pending: &'a HashMap<u64, Pending, S>,
    (serial, root): &(u64, u64),
) -> Option<&'a Pending> {
    pending.get(root).filter(|pending| pending.serial == *serial)
}

fn is_shared(root: &Slot) -> bool {
    SpanRecord::of(root).is_some_and(|record| record.flags & flag::SHARED != 0)
}

/// Spans whose root was handed on.
fn late(piece: &[Slot], sink: &mut impl Sink) {
    let roots = of_kind(piece, Kind::Root);
    let spans = of_kind(piece, Kind::Child) + roots;
    sink.lost(Reason::LateChild, Count { transactions: roots, spans });
    sink.given_up(Reason::LateChild, piece);
    sink.attributes_lost(attributes(piece));
}

fn of_kind(slots: &[Slot], kind: Kind) -> u64 {
    items(slots)
        .filter(|item| item.first().and_then(|slot| Kind::of(slot[0])) == Some(kind))
        .count() as u64
}

/// What was set by somebody, among the slots.
fn attributes(slots: &[Slot]) -> u64 {
    let is_one = |item: &&[Slot]| {
        let kind = item.first().and_then(|slot| Kind::of(slot[0]));
        kind.is_some_and(Kind::is_attribute)
    };
    items(slots).filter(is_one).count() as u64
}

fn low(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::id::NameId;
    use crate::shared::layout::{Scalar, attribute_header, turn};

    #[derive(Default)]
    struct Seen {
        runs: Vec<Vec<u64>>,
        lost: Vec<(Reason, u64)>,
        attributes: u64,
    }

    impl Sink for Seen {
        fn transaction(&mut self, run: &[Slot]) {
            self.runs.push(run.iter().map(|slot| slot[1]).collect());
        }

        fn lost(&mut self, reason: Reason, count: Count) {
            assert_eq!(count.transactions, 0);
            self.lost.push((reason, count.spans));
        }

        fn attributes_lost(&mut self, count: u64) {
            self.attributes += count;
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
            why: 0,
            plan: 0,
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
        assert_eq!(assembler.take(0, &batch, false, NOW, &mut seen), 7);
        assert_eq!(seen.runs, [vec![2, 9, 2, 1], vec![3], vec![5, 4]]);
        assert_eq!(assembler.held(), Count::default());
    }

    #[test]
    fn a_transaction_around_another_one_keeps_its_own() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        let batch = [child(2, 1), child(4, 3), root(3), child(5, 1), root(1)];
        assembler.take(0, &batch, false, NOW, &mut seen);
        assert_eq!(seen.runs, [vec![4, 3], vec![2, 5, 1]]);
        assert_eq!(seen.lost, []);
    }

    #[test]
    fn pieces_published_early_wait_for_the_root() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        assembler.take(0, &[child(2, 1), child(3, 1)], false, NOW, &mut seen);
        assert_eq!((seen.runs.len(), assembler.held()), (0, Count::spans(2)));
        assembler.take(0, &[child(4, 1), root(1)], false, NOW, &mut seen);
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
            let taken = assembler.take(0, &all[..cut], true, NOW, &mut seen);
            assembler.take(0, &all[taken..], false, NOW, &mut seen);
            assert_eq!(seen.runs, [vec![7, 6], vec![2, 9, 2, 1]], "cut at {cut}");
        }
        assert_eq!(assembler.take(0, &all[..3], false, NOW, &mut seen), 3);
    }

    #[test]
    fn the_table_gives_up_the_oldest_first_and_counts() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        for n in 1..=5 {
            assembler.take(0, &[child(10 * n, n)], false, NOW, &mut seen);
        }
        assert_eq!(seen.lost, [(Reason::Evicted, 1), (Reason::Evicted, 1)]);
        assembler.take(0, &[root(1), root(3)], false, NOW, &mut seen);
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
            assembler.take(0, &[child(10, n), child(11, n), child(12, n)], false, NOW, &mut seen);
        }
        assert_eq!(seen.lost, [(Reason::Evicted, 3)]);

        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        let many: Vec<Slot> = (10..20).map(|key| child(key, 1)).collect();
        assembler.take(0, &many, false, NOW, &mut seen);
        assert_eq!(assembler.held(), Count::spans(5));
        let lost: u64 = seen.lost.iter().map(|(_, spans)| spans).sum();
        assert_eq!(lost, 5);
        struct Last(Option<SpanRecord>);
        impl Sink for Last {
            fn transaction(&mut self, run: &[Slot]) {
                self.0 = SpanRecord::of(run.last().unwrap());
            }
            fn lost(&mut self, _: Reason, _: Count) {}
            fn attributes_lost(&mut self, _: u64) {}
        }
        let mut last = Last(None);
        assembler.take(0, &[root(1)], false, NOW, &mut last);
        assert_eq!(last.0.unwrap().lost, 5, "the transaction says so");
    }

    fn shared(mut slot: Slot) -> Slot {
        slot[0] |= u64::from(flag::SHARED) << 8;
        slot
    }

    fn at(mut slot: Slot, end: u64) -> Slot {
        slot[5] = end;
        slot
    }

    fn tag(key: u64, root: u64, mark: u64) -> Slot {
        let header = attribute_header(Kind::Tag, Scalar::U64 as u8, 8, NameId(1));
        [header, key, root, mark, 0, 0, 0, 0]
    }

    /// Slots of several rings, one pass over them.
    fn pass(assembler: &mut Assembler, seen: &mut Seen, rings: &[&[Slot]]) {
        for (lane, slots) in rings.iter().enumerate() {
            assembler.take(u32::try_from(lane).unwrap(), slots, false, NOW, seen);
        }
        assembler.pass_done(seen);
    }

    #[test]
    fn a_shared_root_waits_for_one_further_pass_over_all_rings() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        let root = at(shared(root(1)), 50);
        pass(&mut assembler, &mut seen, &[&[], &[at(child(2, 1), 10)], &[root]]);
        assert_eq!((seen.runs.len(), assembler.held()), (0, Count::transaction(1)));
        pass(&mut assembler, &mut seen, &[&[at(child(3, 1), 40)], &[], &[]]);
        assert_eq!(seen.runs, [vec![2, 3, 1]]);
        assert_eq!((seen.lost.len(), assembler.held()), (0, Count::default()));
    }

    #[test]
    fn what_ends_after_its_root_is_late_whether_it_is_seen_in_time_or_not() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        pass(&mut assembler, &mut seen, &[&[at(child(2, 1), 10), at(shared(root(1)), 50)]]);
        pass(&mut assembler, &mut seen, &[&[at(child(3, 1), 51)]]);
        assert_eq!(seen.runs, [vec![2, 1]]);
        pass(&mut assembler, &mut seen, &[&[tag(4, 1, 0), at(child(4, 1), 60)]]);
        assert_eq!(seen.lost, [(Reason::LateChild, 1), (Reason::LateChild, 1)]);
        assert_eq!((seen.attributes, assembler.held()), (1, Count::default()));
    }

    #[test]
    fn what_was_set_last_comes_last_whichever_ring_is_read_first() {
        let mut marks = Vec::new();
        for rings in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let slots = [
                vec![tag(1, 1, 100)],
                vec![turn(1, 1, 20), tag(1, 1, 102), tag(1, 1, 103), at(shared(root(1)), 50)],
                vec![turn(1, 1, 10), tag(1, 1, 101)],
            ];
            let mut assembler = Assembler::new(BOUNDS);
            struct Marks<'a>(&'a mut Vec<Vec<u64>>);
            impl Sink for Marks<'_> {
                fn transaction(&mut self, run: &[Slot]) {
                    self.0.push(run.iter().map(|slot| slot[3]).collect());
                }
                fn lost(&mut self, _: Reason, _: Count) {}
                fn attributes_lost(&mut self, _: u64) {}
            }
            for lane in rings {
                assembler.take(
                    u32::try_from(lane).unwrap(),
                    &slots[lane],
                    false,
                    NOW,
                    &mut Marks(&mut marks),
                );
            }
            assembler.pass_done(&mut Marks(&mut marks));
            assembler.pass_done(&mut Marks(&mut marks));
        }
        assert_eq!(marks, vec![vec![100, 101, 102, 103, 0]; 3]);
    }

    #[test]
    fn a_bound_hands_on_what_only_waits_for_a_last_look() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        for n in 1..=5 {
            assembler.take(0, &[child(10 * n, n), shared(root(n))], false, NOW, &mut seen);
        }
        assert_eq!(seen.runs, [vec![10, 1], vec![20, 2]]);
        assembler.clear(Reason::AfterShutdown, &mut seen);
        assert_eq!((seen.runs.len(), seen.lost.len(), assembler.held()), (5, 0, Count::default()));
    }

    #[test]
    fn a_root_that_comes_after_its_children_were_given_up_says_so() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        assembler.take(0, &[tag(10, 1, 0), child(10, 1)], false, NOW, &mut seen);
        assembler.bound(NOW + Duration::from_secs(11), &mut seen);
        assert_eq!((&seen.lost[..], seen.attributes), (&[(Reason::Evicted, 1)][..], 1));
        struct Last(Option<SpanRecord>);
        impl Sink for Last {
            fn transaction(&mut self, run: &[Slot]) {
                self.0 = SpanRecord::of(run.last().unwrap());
            }
            fn lost(&mut self, _: Reason, _: Count) {}
            fn attributes_lost(&mut self, _: u64) {}
        }
        let mut last = Last(None);
        assembler.take(0, &[shared(root(1))], false, NOW, &mut last);
        assembler.pass_done(&mut last);
        assembler.pass_done(&mut last);
        assert_eq!(last.0.unwrap().lost, 2);
    }

    #[test]
    fn what_comes_back_is_the_youngest_again() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        assembler.take(0, &[child(80, 8)], false, NOW, &mut seen);
        for n in 1..=4 {
            pass(&mut assembler, &mut seen, &[&[shared(root(n))]]);
        }
        pass(&mut assembler, &mut seen, &[]);
        // The first is forgotten by now, so that what is late waits for it.
        let children = [child(50, 5), child(51, 5)];
        for piece in [&children[..], &[child(10, 1)], &[child(60, 6)], &[child(70, 7)]] {
            assembler.take(0, piece, false, NOW, &mut seen);
        }
        assert_eq!(seen.lost, [(Reason::Evicted, 1), (Reason::Evicted, 2)], "those of 8 and of 5");
    }

    #[test]
    fn a_root_of_one_thread_says_what_was_given_up_before_it() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        assembler.take(0, &[tag(10, 1, 0), child(10, 1)], false, NOW, &mut seen);
        assembler.bound(NOW + Duration::from_secs(11), &mut seen);
        for others in [&[][..], &[child(20, 2)]] {
            assembler.take(1, others, false, NOW, &mut seen);
            let mut notes = Notes::default();
            assembler.take(0, &[child(11, 1), root(1)], false, NOW, &mut notes);
            assert_eq!(notes.0, [2]);
        }
    }

    #[test]
    fn attributes_of_children_that_are_too_many_are_counted() {
        let (mut seen, mut assembler) = (Seen::default(), Assembler::new(BOUNDS));
        let mut slots: Vec<Slot> = (10..15).map(|key| child(key, 1)).collect();
        slots.extend([turn(15, 1, 7), tag(15, 1, 0), child(15, 1), tag(1, 1, 0), tag(16, 1, 0)]);
        assembler.take(0, &slots, false, NOW, &mut seen);
        assert_eq!((&seen.lost[..], seen.attributes), (&[(Reason::TransactionLimit, 1)][..], 2));
    }

    /// What the roots say that was lost.
    #[derive(Default)]
    struct Notes(Vec<u32>);

    impl Sink for Notes {
        fn transaction(&mut self, run: &[Slot]) {
            self.0.push(SpanRecord::of(run.last().unwrap()).unwrap().lost);
        }
        fn lost(&mut self, _: Reason, _: Count) {}
        fn attributes_lost(&mut self, _: u64) {}
    }
}
