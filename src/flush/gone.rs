//! What became of the last shared transactions: so that what comes after one is known to be late.
//!
//! Bounded; the oldest are forgotten. A span that comes later still waits for its root in the
//! assembler's table, in vain, and is given up there by age: counted all the same, as evicted.

use std::collections::{HashMap, VecDeque};

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was handed on: what comes now is late.
    HandedOn,
    /// So much of it was given up before its root came, which may still come.
    GivenUp(u32),
}

/// The last transactions, by root key.
#[derive(Debug)]
pub(super) struct Gone {
    max: usize,
    fates: HashMap<u64, Fate, foldhash::fast::RandomState>,
    order: VecDeque<u64>,
}

impl Gone {
    pub(super) fn new(max: usize) -> Self {
        Self { max, fates: HashMap::default(), order: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fates.is_empty()
    }

    pub(super) fn fate(&self, root: u64) -> Option<Fate> {
        if self.is_empty() { None } else { self.fates.get(&root).copied() }
    }

    /// What was given up before is added up.
    pub(super) fn remember(&mut self, root: u64, fate: Fate) {
        let fate = match (fate, self.fate(root)) {
            (Fate::GivenUp(now), Some(Fate::GivenUp(before))) => {
                Fate::GivenUp(now.saturating_add(before))
            }
            _ => fate,
        };
        if self.fates.insert(root, fate).is_none() {
            self.order.push_back(root);
        }
        while self.order.len() > self.max {
            if let Some(oldest) = self.order.pop_front() {
                self.fates.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_and_no_more() {
        let mut gone = Gone::new(2);
        assert_eq!(gone.fate(1), None);
        gone.remember(1, Fate::GivenUp(3));
        gone.remember(1, Fate::GivenUp(4));
        assert_eq!(gone.fate(1), Some(Fate::GivenUp(7)));
        gone.remember(1, Fate::HandedOn);
        gone.remember(2, Fate::HandedOn);
        gone.remember(3, Fate::HandedOn);
        assert_eq!([1, 2, 3].map(|root| gone.fate(root).is_some()), [false, true, true]);
        assert_eq!((gone.fates.len(), gone.order.len()), (2, 2));
    }
}
