//! From the slots of a transaction to its spans in the order of a tree: each before its children,
//! children by their start.
//!
//! What was set means what it means on the way to the server (`flush/event/decode.rs`); a child
//! whose parent is not there hangs below the root.

use std::collections::HashMap;

use crate::flush::event::decode::{Decoded, status, text};
use crate::sampling::decide::Why;
use crate::shared::clock::Anchor;
use crate::shared::id::{SpanId, TraceId, WireIds};
use crate::shared::layout::{Slot, SpanRecord, flag};
use crate::shared::settings::SETTINGS;
use crate::shared::traces::Continued;

use super::running::{PLACE, Remains};
use super::tree::Record;

/// How ticks become time.
#[derive(Debug)]
pub(super) struct Time {
    anchor: Anchor,
    /// What time it is, in unix nanoseconds, at the begin and from which tick on; by tick.
    fixed: Option<(u64, Vec<(u64, u64)>)>,
}

impl Time {
    pub(super) fn new(anchor: Anchor, fixed: Option<u64>, advances: &[(u64, u64)]) -> Self {
        let mut steps = advances.to_vec();
        steps.sort_unstable();
        let fixed = fixed.map(|start| {
            let mut now = start;
            for (_, step) in &mut steps {
                now = now.saturating_add(*step);
                *step = now;
            }
            (start, steps)
        });
        Self { anchor, fixed }
    }

    fn at(&self, ticks: u64) -> u64 {
        match &self.fixed {
            None => self.anchor.unix_nanos(ticks),
            Some((start, steps)) => {
                let passed = steps.partition_point(|(at, _)| *at <= ticks);
                let last = passed.checked_sub(1).and_then(|last| steps.get(last));
                last.map_or(*start, |(_, now)| *now)
            }
        }
    }

    /// Start and end in unix nanoseconds; never an end before its start.
    fn of(&self, record: &SpanRecord) -> (u64, u64) {
        let moment =
            |raw, is_unix: u8| if record.flags & is_unix != 0 { raw } else { self.at(raw) };
        let start = moment(record.start, flag::START_UNIX);
        (start, moment(record.end, flag::END_UNIX).max(start))
    }
}

/// The spans of one transaction; the root first. Empty if there is no root.
pub(super) fn transaction(
    run: &[Slot],
    time: &Time,
    ids: Option<&WireIds>,
    remains: &Remains,
) -> Vec<Record> {
    let Decoded { root, children: spans, mut set, .. } = Decoded::of(run);
    let Some(root) = root else { return Vec::new() };
    let continued = set.get(&root.key).and_then(|found| found.continued);
    let names = Names { ids, remains, root: root.key, continued };
    let mut records: Vec<Record> = Vec::with_capacity(1 + spans.len());
    let mut below = children(&root, spans, time);
    // Spans that are still to be written, the next one last.
    let mut rest = vec![(root, None, 0)];
    while let Some((span, parent, depth)) = rest.pop() {
        let index = records.len();
        let found = set.remove(&span.key).unwrap_or_default();
        let parent_id = match parent {
            Some(at) => records.get::<usize>(at).map(|one| one.span_id),
            None => continued.map(|continued| SpanId(continued.parent)),
        };
        let (start, end) = time.of(&span);
        records.push(Record {
            op: found.op.unwrap_or_else(|| text(span.op)),
            description: found.description.unwrap_or_else(|| text(span.description)),
            status: status(&span, found.status),
            tags: found.tags,
            data: found.data,
            measurements: found.measurements,
            links: found.links,
            start,
            end,
            trace_id: names.trace_id(),
            span_id: names.span_id(span.key, index),
            parent_id,
            depth,
            after: 0,
            lost: span.lost,
            unfinished: span.unfinished,
            threshold: root.threshold,
            why: Why::of(span.why),
        });
        let children = below.remove(&span.key).unwrap_or_default();
        rest.extend(children.into_iter().rev().map(|child| (child, Some(index), depth + 1)));
    }
    note_ends(&mut records);
    records
}

/// The children of each span, by start, then in the order of starting.
fn children(
    root: &SpanRecord,
    mut spans: Vec<SpanRecord>,
    time: &Time,
) -> HashMap<u64, Vec<SpanRecord>> {
    spans.sort_by_cached_key(|span| {
        let (start, _) = time.of(span);
        let ticks = if span.flags & flag::START_UNIX == 0 { span.start } else { 0 };
        (start, ticks, span.key)
    });
    let known: HashMap<u64, u64> = spans.iter().map(|span| (span.key, span.parent)).collect();
    let mut below: HashMap<u64, Vec<SpanRecord>> = HashMap::new();
    for span in spans {
        let is_there = known.contains_key(&span.parent) && span.parent != span.key;
        let parent = if is_there { span.parent } else { root.key };
        below.entry(parent).or_default().push(span);
    }
    below
}

/// Writes down where the spans below each one end. They lie behind it.
fn note_ends(records: &mut [Record]) {
    let mut open: Vec<usize> = Vec::new();
    for at in 0..=records.len() {
        let depth = records.get(at).map_or(0, |record| record.depth);
        while open.len() > depth {
            let closed = open.pop().and_then(|index| records.get_mut(index));
            if let Some(record) = closed {
                record.after = at;
            }
        }
        open.push(at);
    }
}

/// Where wire ids come from.
struct Names<'a> {
    ids: Option<&'a WireIds>,
    remains: &'a Remains,
    root: u64,
    continued: Option<Continued>,
}

impl Names<'_> {
    fn trace_id(&self) -> TraceId {
        if let Some(continued) = self.continued {
            return TraceId(continued.trace_id);
        }
        match (self.ids, self.remains.number(self.root)) {
            (Some(ids), Some(number)) => ids.trace_id(number),
            _ => SETTINGS.wire_ids().trace_id(self.root),
        }
    }

    /// A key that another thread gave out says nothing that is the same in every run; the place in
    /// the tree does.
    fn span_id(&self, key: u64, index: usize) -> SpanId {
        let Some(ids) = self.ids else { return SETTINGS.wire_ids().span_id(key) };
        let place = || {
            let root = self.remains.number(self.root).unwrap_or(0);
            PLACE | root.rotate_left(32) ^ index as u64
        };
        ids.span_id(self.remains.number(key).unwrap_or_else(place))
    }
}
