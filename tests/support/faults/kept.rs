//! What the fault server read in full, and what it said to that.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use hotspan::Count;

use super::super::envelope::{Opened, reported};

/// An envelope that came whole.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) opened: Opened,
    /// `None`: nothing that could be an answer was sent.
    pub(crate) status: Option<u16>,
    /// From its connection, or its first byte, to the answer. A client that waits about as
    /// long may have gone before that.
    pub(crate) took: Duration,
}

/// All of them, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received(pub(crate) Vec<Kept>);

impl Received {
    /// Each try of each transaction.
    pub(crate) fn transactions(&self) -> impl Iterator<Item = &Kept> {
        self.0.iter().filter(|kept| kept.opened.kind == "transaction")
    }

    /// The ids of transactions that came at least once, and what is in them, where `wanted` says so
    /// of one of their tries. One id must be one transaction.
    pub(crate) fn ids(&self, wanted: impl Fn(&Kept) -> bool) -> HashMap<String, Count> {
        let mut ids = HashMap::new();
        for kept in self.transactions().filter(|kept| wanted(kept)) {
            let id = kept.opened.event_id().to_owned();
            let count = kept.opened.count();
            assert_eq!(*ids.entry(id).or_insert(count), count, "one id, two transactions");
        }
        ids
    }

    /// How much that is in all.
    pub(crate) fn count(&self, wanted: impl Fn(&Kept) -> bool) -> Count {
        self.ids(wanted).into_values().fold(Count::default(), |sum, count| sum + count)
    }

    /// Taken with 2xx.
    pub(crate) fn accepted(&self) -> Count {
        self.count(Kept::is_accepted)
    }

    /// What a server may have counted: taken, or read without an answer.
    pub(crate) fn unique(&self) -> Count {
        self.count(|kept| kept.is_accepted() || kept.status.is_none())
    }

    /// What client reports said that were taken with 2xx, added up, by reason and category.
    pub(crate) fn reported(&self) -> BTreeMap<(String, String), u64> {
        let taken = self.0.iter().filter(|kept| kept.is_accepted());
        reported(&taken.map(|kept| kept.opened.clone()).collect::<Vec<_>>())
    }

    /// Whether every answer was given in that time: else the client may have gone before it.
    pub(crate) fn is_prompt(&self, limit: Duration) -> bool {
        self.0.iter().filter(|kept| kept.is_accepted()).all(|kept| kept.took <= limit)
    }

    /// No span is in two transactions, and none in one twice.
    pub(crate) fn check_spans(&self) {
        let mut seen: HashSet<u64> = HashSet::new();
        let mut events: HashSet<&str> = HashSet::new();
        for kept in self.transactions() {
            // The same once more after an answer that was lost, and by its id the server knows it.
            if events.insert(kept.opened.event_id()) {
                for span in kept.opened.span_ids() {
                    assert!(seen.insert(span), "span {span:016x} came twice");
                }
            }
        }
    }
}

impl Kept {
    pub(crate) fn is_accepted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}
