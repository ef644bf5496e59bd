//! What must come of what was read, by rules that fit on a page.
//!
//! * A transaction of one thread is complete when its root is read.
//! * One that is shared is complete at the end of the pass after the one in which its root was
//!   read; until then it takes what comes. Children that ended after it are late all the same, and
//!   so is everything that comes afterwards.
//! * Of what was set under one name on one span, that counts which was set last: in the latest
//!   turn, and last within it.
//! * What has no root is given up in the end.
//! * A root that its thread left undecided is kept if its random number lies below the highest
//!   threshold that it may claim: its own, and that of its plan if it took too long, failed, or was
//!   asked for; and if nobody asked for it to go. Who asked last, or set the status last, is heard.

use std::collections::{BTreeSet, HashMap};

use crate::shared::ledger::Count;

use super::trial::Trial;
use super::world::{Item, Ring, What, World};

/// Where the slots of an item lie: ring and number.
type Place = (usize, usize);

/// What must come of one transaction.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// Children that were read, with their ends.
    children: Vec<(u64, Option<u64>)>,
    /// By span and label: the turn, and where the value is.
    values: HashMap<(u64, u64), (u64, Place)>,
    turns: HashMap<(usize, u64), u64>,
    /// What was set on the root last: whether its status is not ok, what code asked for.
    failed: Option<(u64, Place, bool)>,
    asked: Option<(u64, Place, bool)>,
    rand: Option<u32>,
    attributes: u64,
    pub(super) root: Option<Root>,
    /// It is complete; nothing more comes into it.
    pub(super) closed: bool,
    /// A panic or a bound may have cost something of it.
    pub(super) disturbed: bool,
    pub(super) items_read: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    pub(super) pass: u64,
    end: Option<u64>,
    pub(super) lost: u32,
    pub(super) unfinished: u32,
    pub(super) shared: bool,
    trial: Trial,
}

impl Expected {
    /// Whether it is kept, and with which threshold. `rand` is its own random number, for what
    /// continues no trace.
    pub(super) fn kept(&self, rand: u32) -> Option<u32> {
        let trial = self.root?.trial;
        let asked = self.asked.map_or(trial.wish, |(.., keep)| Some(keep));
        if asked == Some(false) {
            return None;
        }
        let Some(plan) = trial.plan else { return Some(trial.threshold) };
        let failed = trial.broken || self.failed.is_some_and(|(.., failed)| failed);
        let is_due = plan.failed && failed
            || plan.asked && asked == Some(true)
            || plan.slower_than.is_some_and(|limit| trial.nanos > limit);
        let threshold = if is_due { trial.threshold.max(plan.end) } else { trial.threshold };
        (self.rand.unwrap_or(rand) < threshold).then_some(threshold)
    }

    fn is_late(&self, end: Option<u64>) -> bool {
        // Times that callers gave are not compared.
        let root = self.root.and_then(|root| root.end);
        matches!((end, root), (Some(end), Some(root)) if end > root)
    }

    /// Children that were read before the transaction was complete.
    pub(super) fn children_read(&self) -> u64 {
        self.children.len() as u64
    }

    pub(super) fn late(&self) -> u64 {
        self.children.iter().filter(|(_, end)| self.is_late(*end)).count() as u64
    }

    pub(super) fn in_time(&self) -> BTreeSet<u64> {
        let in_time = self.children.iter().filter(|(_, end)| !self.is_late(*end));
        in_time.map(|(key, _)| *key).collect()
    }

    /// Span and label of each value, and where it is: of the root and of children in time.
    pub(super) fn values(&self, root: u64) -> HashMap<(u64, u64), Place> {
        let spans = self.in_time();
        let is_there = |key: &u64| *key == root || spans.contains(key);
        let values = self.values.iter().filter(|((key, _), _)| is_there(key));
        values.map(|(name, (_, place))| (*name, *place)).collect()
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) transactions: Vec<Expected>,
    pub(super) pass: u64,
    /// Children that came too late, or ended too late.
    pub(super) late: u64,
    /// Attributes that came too late, or were given up.
    pub(super) attributes_lost: u64,
    /// Children whose root never came.
    pub(super) given_up: u64,
    /// Transactions that were complete at the end of a pass.
    pub(super) shared_closed: usize,
}

impl Model {
    /// All items of a ring from slot `from` to slot `to` were read.
    pub(super) fn read(&mut self, world: &World<'_>, ring: usize, from: usize, to: usize) {
        self.transactions.resize_with(world.transactions.len(), Expected::default);
        let Ring { items, .. } = &world.rings[ring];
        let first = items.partition_point(|item| item.at < from);
        for (number, item) in items.iter().enumerate().skip(first) {
            if item.at >= to {
                break;
            }
            self.item(world, (ring, number), item);
        }
    }

    fn item(&mut self, world: &World<'_>, place: Place, item: &Item) {
        let expected = &mut self.transactions[item.transaction];
        expected.items_read += 1;
        let root = world.transactions[item.transaction].root;
        if expected.closed {
            match item.what {
                What::Child { .. } => self.late += 1,
                What::Attribute { .. } => self.attributes_lost += 1,
                _ => {}
            }
            return;
        }
        match item.what {
            What::Child { key, end } => expected.children.push((key, end)),
            What::Turn { key, from } => {
                expected.turns.insert((place.0, key), from);
            }
            What::Asked { key, keep } => {
                let turn = expected.turns.get(&(place.0, key)).copied().unwrap_or(0);
                latest(&mut expected.asked, (turn, place, keep));
            }
            What::Trace { rand } => expected.rand = Some(rand),
            What::Attribute { key, label, failed } => {
                expected.attributes += 1;
                let turn = expected.turns.get(&(place.0, key)).copied().unwrap_or(0);
                if let Some(failed) = failed.filter(|_| key == root) {
                    latest(&mut expected.failed, (turn, place, failed));
                }
                let value = expected.values.entry((key, label)).or_insert((turn, place));
                // Two rings never share a turn, so the rest is the order of one ring.
                if (turn, place) >= *value {
                    *value = (turn, place);
                }
            }
            What::Root { end, lost, unfinished, trial } => {
                // That it is shared is known when it has ended.
                let shared = world.transactions[item.transaction].shared;
                let pass = self.pass;
                expected.root = Some(Root { pass, end, lost, unfinished, shared, trial });
                expected.closed = !shared;
            }
            What::Parted => {}
        }
    }

    pub(super) fn pass_done(&mut self) {
        for at in 0..self.transactions.len() {
            if self.transactions[at].root.is_some_and(|root| root.pass < self.pass) {
                self.close(at);
            }
        }
        self.pass += 1;
    }

    fn close(&mut self, at: usize) {
        let expected = &mut self.transactions[at];
        if !std::mem::replace(&mut expected.closed, true) {
            self.late += expected.late();
            self.shared_closed += 1;
        }
    }

    /// Everything that still waits is handed on as it is, or given up.
    pub(super) fn clear(&mut self) {
        for at in 0..self.transactions.len() {
            let expected = &self.transactions[at];
            if expected.root.is_some() {
                self.close(at);
            } else {
                self.given_up += expected.children_read();
                self.attributes_lost += expected.attributes;
            }
        }
    }

    /// What waits.
    pub(super) fn held(&self) -> Count {
        let waiting = self.transactions.iter().filter(|expected| !expected.closed);
        waiting.fold(Count::default(), |sum, expected| {
            let children = expected.children_read();
            sum + match expected.root {
                Some(_) => Count::transaction(children),
                None => Count::spans(children),
            }
        })
    }

    /// A root waits for a further pass.
    pub(super) fn has_ended(&self) -> bool {
        self.transactions.iter().any(|expected| expected.root.is_some() && !expected.closed)
    }
}

/// Replaces what was set earlier: in an earlier turn, or before it in the order of one ring.
fn latest(place: &mut Option<(u64, Place, bool)>, new: (u64, Place, bool)) {
    if place.is_none_or(|old| (new.0, new.1) >= (old.0, old.1)) {
        *place = Some(new);
    }
}
