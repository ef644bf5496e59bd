//! Kept or not: the decision about a transaction that its thread left open.
//!
//! A root's record may come with a *plan*, the conditions under which it is kept, or with the wish
//! that it be discarded. The recording thread decides that itself, and takes the transaction back,
//! as long as nothing of it was published or is elsewhere. Otherwise it is decided here, by the
//! same function, when the transaction is complete: a run and a clock in, a verdict out. The
//! function charges the caps of what it keeps, so each run is judged once.
//!
//! # Costs
//! Nothing but a look at the root's record where all was decided before and no other thread could
//! wish anything. Else a walk over the run; nothing is encoded for what is not kept, and nothing
//! allocated.

use crate::sampling::decide::{self, Facts, Why};
use crate::sampling::plan::Plan;
use crate::shared::clock::Anchor;
use crate::shared::id::WireIds;
use crate::shared::layout::{AttributeHeader, Kind, Slot, SpanRecord, flag, items, sample_rand_of};
use crate::status::SpanStatus;

use super::encode::times;

/// What is to become of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was decided before: it goes on as it is.
    Decided,
    /// It is kept, with this as its root's record.
    Kept(Slot),
    /// It is not.
    Discarded,
}

impl Verdict {
    /// The verdict about a whole transaction, the root's record last.
    pub(super) fn of(run: &[Slot], wire: &WireIds, anchor: &Anchor) -> Self {
        let Some(root) = run.last().and_then(SpanRecord::of) else { return Self::Decided };
        if root.plan == 0 && root.flags & (flag::DISCARD | flag::SHARED) == 0 {
            return Self::Decided;
        }
        let set = OnRoot::read(run, &root);
        let asked = set.asked(&root);
        if root.plan == 0 && asked != Some(false) {
            return Self::Decided;
        }
        let (start, end) = times(&root, anchor);
        let rand = set.rand.unwrap_or_else(|| wire.sample_rand(root.key));
        let facts = Facts {
            nanos: end - start,
            failed: set.failed(&root),
            asked,
            name: root.description.0,
            random: random(wire, root.key),
        };
        let end = decide::end(Plan(root.plan), root.threshold, rand, &facts);
        if !end.kept {
            return Self::Discarded;
        }
        // What the head had kept it for stands, unless the end has a better reason.
        let why = if end.why == Why::Head { root.why } else { end.why as u8 };
        Self::Kept(SpanRecord { threshold: end.threshold, why, plan: 0, ..root }.words())
    }
}

/// Bits that nothing else depends on: those of the event's id.
#[expect(clippy::cast_possible_truncation, reason = "any half will do")]
fn random(wire: &WireIds, root: u64) -> u64 {
    wire.event_id(root).0 as u64
}

/// What was set on the root, as far as it matters here.
#[derive(Clone, Copy, Debug, Default)]
struct OnRoot {
    status: Option<SpanStatus>,
    /// Whether it is to be kept, by the wish of a thread that had it entered.
    asked: Option<bool>,
    /// `sample_rand` of the trace that it continues.
    rand: Option<u32>,
}

impl OnRoot {
    /// The last of each.
    fn read(run: &[Slot], root: &SpanRecord) -> Self {
        let mut set = Self::default();
        for first in items(run).filter_map(<[Slot]>::first) {
            let Some(header) = AttributeHeader::of(first).filter(|it| it.key == root.key) else {
                continue;
            };
            let [_, _, _, value, ..] = *first;
            let [byte, ..] = value.to_le_bytes();
            match (header.kind, header.len) {
                (Kind::Status, 1) => set.status = SpanStatus::from_code(byte).or(set.status),
                (Kind::HttpStatus, 8) => {
                    let code = u16::try_from(value).ok();
                    set.status = code.map(SpanStatus::from_http).or(set.status);
                }
                (Kind::Asked, 1) => set.asked = Some(byte != 0),
                (Kind::Trace, _) => set.rand = Some(sample_rand_of(first)),
                _ => {}
            }
        }
        set
    }

    /// Whether the status that is sent with the root is another than ok. As the encoder has it, one
    /// that is no good changes nothing, and a panic or a dropped future outweighs what was set.
    fn failed(&self, root: &SpanRecord) -> bool {
        root.flags & (flag::PANICKED | flag::CANCELLED) != 0
            || self.status.is_some_and(|status| status != SpanStatus::Ok)
    }

    /// What code asked for: last by a thread that had the root entered, else by who held it.
    fn asked(&self, root: &SpanRecord) -> Option<bool> {
        let held = match root.flags & (flag::KEEP | flag::DISCARD) {
            0 => None,
            flag::KEEP => Some(true),
            _ => Some(false),
        };
        self.asked.or(held)
    }
}

#[cfg(test)]
mod tests;
