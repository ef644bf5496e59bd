//! A transaction that came in pieces from several rings, put into the one order that the encoder
//! reads: what was set last, wherever it was set, comes last; the root's record at the end.
//!
//! Within a ring the order is the ring's. Between rings it is that of the turns
//! ([`Kind::Turn`]): what a thread sets on a span of others follows its turn, and what follows no
//! turn was set before the span had left its thread.

use std::collections::HashMap;

use crate::shared::layout::{Kind, Slot, SpanRecord, flag, items};
use crate::shared::ledger::{Count, Reason};

use super::assemble::Sink;

/// Buffers, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Arrange {
    /// The turn that holds for a span in a ring.
    turns: HashMap<(u32, u64), u64, foldhash::fast::RandomState>,
    /// Turn, first slot and slots of each item.
    order: Vec<(u64, usize, usize)>,
    out: Vec<Slot>,
}

impl Arrange {
    /// The run to hand on: without turns, without what ended after the root, and the root, told of
    /// what it lost, at its end.
    pub(super) fn run(
        &mut self,
        slots: &mut [Slot],
        pieces: &[(usize, u32)],
        lost: u32,
        sink: &mut impl Sink,
    ) -> &[Slot] {
        self.turns.clear();
        self.order.clear();
        self.out.clear();
        let (mut root, mut root_end) = (None, None);
        for record in items(slots).filter_map(|item| SpanRecord::of(item.first()?)) {
            if record.kind == Kind::Root {
                root_end = (record.flags & flag::END_UNIX == 0).then_some(record.end);
            }
        }
        let mut late = 0;
        let mut pieces = pieces.iter().peekable();
        let (mut at, mut lane) = (0, 0);
        for item in items(slots) {
            while let Some((_, number)) = pieces.next_if(|(begin, _)| *begin <= at) {
                lane = *number;
            }
            let from = at;
            at += item.len();
            let Some(first) = item.first() else { continue };
            let turn = match Kind::of(first[0]) {
                Some(Kind::Turn) => {
                    self.turns.insert((lane, first[1]), first[3]);
                    continue;
                }
                Some(Kind::Parted) => continue,
                Some(Kind::Root) => {
                    root = Some(*first);
                    continue;
                }
                Some(Kind::Child) => {
                    if is_late(first, root_end) {
                        late += 1;
                        sink.given_up(Reason::LateChild, item);
                        continue;
                    }
                    0
                }
                _ if self.turns.is_empty() => 0,
                _ => self.turns.get(&(lane, first[1])).copied().unwrap_or(0),
            };
            self.order.push((turn, from, item.len()));
        }
        if late > 0 {
            sink.lost(Reason::LateChild, Count::spans(late));
        }
        // Within a ring, and without turns, the order stays. A stable sort would allocate.
        if !self.turns.is_empty() {
            self.order.sort_unstable_by_key(|(turn, from, _)| (*turn, *from));
        }
        for (_, from, count) in &self.order {
            self.out.extend_from_slice(slots.get(*from..from + count).unwrap_or_default());
        }
        if let Some(mut root) = root {
            note_lost(&mut root, lost, u32::try_from(late).unwrap_or(u32::MAX));
            self.out.push(root);
        }
        &self.out
    }
}

/// Whether a child ended after its root. Times that callers gave are not compared.
fn is_late(child: &Slot, root_end: Option<u64>) -> bool {
    match (SpanRecord::of(child), root_end) {
        (Some(child), Some(root_end)) => child.flags & flag::END_UNIX == 0 && child.end > root_end,
        _ => false,
    }
}

/// Notes on a root's record what its transaction lost, and what was not finished.
pub(super) fn note_lost(root: &mut Slot, lost: u32, unfinished: u32) {
    if let Some(mut record) = SpanRecord::of(root) {
        record.lost = record.lost.saturating_add(lost);
        record.unfinished = record.unfinished.saturating_add(unfinished);
        *root = record.words();
    }
}
