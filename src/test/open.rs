//! What of a capture has not ended: off every stack, and on the stacks of threads.

use std::collections::{BTreeMap, HashSet};

use crate::flush::event::decode::text;
use crate::shared::id::NameId;
use crate::shared::layout::{Kind, Slot};
use crate::shared::registry;
use crate::shared::seqlock::{Entry, meta};

use super::losses;
use super::running::{Remains, slots_of_kind};
use super::tree::Open;

/// The names of each open span, by key: in the order of starting on a thread.
struct Found<'a> {
    remains: &'a Remains,
    ended: HashSet<u64>,
    /// Op and description in one word each, and whether it is a transaction.
    spans: BTreeMap<u64, (u64, bool)>,
}

/// The open spans of a capture that ends on the calling thread, which gives out its keys from
/// `key` on.
pub(super) fn open(remains: &Remains, lane: u32) -> Vec<Open> {
    let state = &remains.state;
    let mut ended: HashSet<u64> = state.given_up.union(&state.not_kept).copied().collect();
    for slots in state.runs.iter().chain(state.waiting.values()) {
        for kind in [Kind::Child, Kind::Root] {
            ended.extend(slots_of_kind(slots, kind).map(|[_, key, ..]| key));
        }
    }
    let mut found = Found { remains, ended, spans: BTreeMap::new() };
    for root in state.waiting.keys() {
        found.add(*root, *root, 0);
    }
    for slots in state.waiting.values() {
        slots_of_kind(slots, Kind::Parted).for_each(|slot| found.parted(&slot));
    }
    state.parted.iter().for_each(|slot| found.parted(slot));
    // This thread's own stack is read to its end, that of others as far as it can be read.
    if let Some(lane) = losses::lane(lane) {
        let lines = (0..lane.spans.len()).map(|depth| lane.spans.entry(depth));
        lines.for_each(|line| found.line(&line));
    }
    for other in registry::lanes().filter(|other| other.number != lane) {
        if let Some((span, root)) = other.spans.read() {
            found.line(&root);
            found.line(&span);
        }
    }
    let names = |(names, is_transaction): (u64, bool)| Open {
        op: half(names),
        description: half(names >> 32),
        is_transaction,
    };
    found.spans.into_values().map(names).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
fn half(names: u64) -> String {
    text(NameId(names as u32))
}

impl Found<'_> {
    fn add(&mut self, key: u64, root: u64, names: u64) {
        if key == 0 || self.ended.contains(&key) || self.remains.number(root).is_none() {
            return;
        }
        let (known, _) = self.spans.entry(key).or_insert((0, key == root));
        if names != 0 {
            *known = names;
        }
    }

    fn parted(&mut self, slot: &Slot) {
        let [_, key, root, _, _, _, names, _] = *slot;
        self.add(key, root, names);
    }

    /// A line that was entered stands for a span that is open elsewhere, or was when it was
    /// entered: only its root is known to be of interest.
    fn line(&mut self, line: &Entry) {
        if line.meta & meta::ENTERED == 0 {
            self.add(line.key, line.root, line.names);
        }
    }
}
