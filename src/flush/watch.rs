//! Watching what is open: each transaction that is open for too long is reported, once.
//!
//! The flusher looks, after a cycle, at two places. What is on threads is read from their stacks
//! through the seqlock, without stopping them. What was detached is on no stack: of it the
//! assembler holds the slot that was written when it left its thread, until its root comes. A
//! transaction may be in both, and on several threads; it is then reported from the thread whose
//! step has been open longest.
//!
//! A report is a call of the host's hook, a line in the log unless there was one in the last
//! minute, and a count in the books. Hook and logger are strangers' code: their panics are caught.
//!
//! # Costs
//! Nothing without `stuck_after`. With it, once an eighth of that time: a copy of each thread's
//! stack, and a glance at each entry of the assembler's table. Allocates for reports only.

mod told;

use std::cmp::Reverse;
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::shared::clock::Anchor;
use crate::shared::id::NameId;
use crate::shared::layout::{AttributeHeader, Kind, Slot, SpanRecord, flag, items};
use crate::shared::ledger::Books;
use crate::shared::names;
use crate::shared::registry::{self, Label, Lane};
use crate::shared::ring::State;
use crate::shared::seqlock::{Entry, meta};
use crate::shared::settings::{GENERATION, ON, SETTINGS};

use self::told::Told;
use super::assemble::Assembler;
use super::courier::forget;

/// Reports in one cycle; what is beyond waits for the next, so that rings are drained meanwhile.
const REPORTS_MAX: usize = 64;
/// Panics after which the hook is not called again.
const PANICS_MAX: u32 = 3;

/// What a report is handed to.
pub(crate) type Hook = Box<dyn Fn(&Sighting, &Anchor) + Send>;

/// An open transaction, and the step it is in.
#[derive(Debug)]
pub(crate) struct Sighting {
    /// Empty: it is on no thread.
    pub(crate) label: Label,
    pub(crate) root: Entry,
    /// The innermost span; the root itself when no child is open.
    pub(crate) step: Entry,
}

/// The one who watches.
pub(crate) struct Watch {
    after: Duration,
    every: Duration,
    /// The next look.
    next: Duration,
    hook: Option<Hook>,
    panics: u32,
    /// Whether the logger may be called: it has not panicked.
    logs: bool,
    told: Told,
    found: Vec<Found>,
    lines: Vec<Entry>,
}

/// Where a transaction was seen that is, or may be, open for too long.
#[derive(Clone, Copy)]
struct Found {
    /// Only the key is known when `age` is zero.
    root: Entry,
    age: Duration,
    /// Nothing when it was seen in the assembler.
    step: Entry,
    step_age: Duration,
    lane: Option<&'static Lane>,
}

impl Watch {
    /// Looks for what is open longer than `after`, not more often than every `interval`.
    pub(crate) fn new(after: Duration, interval: Duration, hook: Option<Hook>) -> Self {
        Self {
            after,
            every: interval.max(after / 8),
            next: Duration::ZERO,
            hook,
            panics: 0,
            logs: true,
            told: Told::default(),
            found: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Looks, if it is time, and reports what is new. The rings must just have been read: what left
    /// a stack before that is in the assembler.
    pub(crate) fn look(
        &mut self,
        now: Duration,
        anchor: &Anchor,
        assembler: &Assembler,
        books: &Books,
    ) {
        let state = SETTINGS.state();
        if now < self.next || state & ON == 0 {
            return;
        }
        self.next = now + self.every;
        self.found.clear();
        self.look_at_threads(state, anchor, assembler);
        self.look_at_detached(anchor, assembler);
        self.unite();
        self.told.begin();
        let mut reports = 0;
        for at in 0..self.found.len() {
            let Some(found) = self.found.get(at).copied() else { break };
            if !self.told.is_new(found.root.key) {
                continue;
            }
            if reports == REPORTS_MAX {
                self.next = now;
                continue;
            }
            reports += 1;
            self.told.report(found.root.key);
            books.stuck.add(1);
            self.call_hook(&found, anchor, assembler, books);
        }
        self.write_line(now, anchor, assembler);
    }

    /// The innermost line of each transaction on each stack, if that transaction is open for too
    /// long, or if only the assembler can know.
    fn look_at_threads(&mut self, state: u64, anchor: &Anchor, assembler: &Assembler) {
        for lane in registry::lanes().filter(|lane| lane.ring.state() == State::Live) {
            // One whose owner is too fast is looked at next time.
            if !lane.spans.read_all(&mut self.lines) {
                continue;
            }
            let before = self.found.len();
            for line in self.lines.iter().rev() {
                let is_known = |found: &Found| found.root.key == line.root;
                if line.key == 0
                    || (line.meta ^ state) & GENERATION != 0
                    || self.found.iter().skip(before).any(is_known)
                {
                    continue;
                }
                let on_stack = self.lines.get(line.root_depth());
                let root = on_stack.copied().filter(|root| root.key == line.root);
                let age = root.map_or(Duration::ZERO, |root| root.age(anchor));
                let is_visit = root.is_none_or(|root| root.meta & meta::ENTERED != 0);
                if (root.is_some() && age < self.after)
                    || (is_visit && assembler.is_over(line.root))
                {
                    continue;
                }
                self.found.push(Found {
                    root: root.unwrap_or(Entry { key: line.root, ..Entry::NONE }),
                    age,
                    step: *line,
                    step_age: line.age(anchor),
                    lane: Some(lane),
                });
            }
        }
    }

    fn look_at_detached(&mut self, anchor: &Anchor, assembler: &Assembler) {
        for slot in assembler.detached() {
            let Some(root) = parted(slot) else { continue };
            let age = root.age(anchor);
            if age >= self.after {
                let (step, step_age) = (Entry::NONE, Duration::ZERO);
                self.found.push(Found { root, age, step, step_age, lane: None });
            }
        }
    }

    /// One of each transaction, oldest first: on a thread rather than not, in a step rather than
    /// not, in the step that has been open longest.
    fn unite(&mut self) {
        self.found.sort_unstable_by_key(|found| {
            let is_root = found.step.key == found.root.key;
            (found.root.key, found.lane.is_none(), is_root, Reverse(found.step_age))
        });
        self.found.dedup_by(|other, kept| {
            let is_same = other.root.key == kept.root.key;
            if is_same && kept.age.is_zero() {
                (kept.root, kept.age) = (other.root, other.age);
            }
            is_same
        });
        self.found.retain(|found| found.age >= self.after);
        self.found.sort_unstable_by_key(|found| Reverse(found.age));
    }

    fn call_hook(&mut self, found: &Found, anchor: &Anchor, assembler: &Assembler, books: &Books) {
        let Some(hook) = &self.hook else { return };
        if self.panics >= PANICS_MAX {
            return;
        }
        let sighting = found.sighting(anchor, assembler);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(&sighting, anchor))) {
            forget(payload);
            self.panics += 1;
            books.callback_panics.add(1);
        }
    }

    fn write_line(&mut self, now: Duration, anchor: &Anchor, assembler: &Assembler) {
        let roots = self.found.iter().map(|found| found.root.key);
        let Some((named, others)) = self.told.line(now, roots) else { return };
        let Some(found) = self.found.iter().find(|found| found.root.key == named) else { return };
        if !self.logs {
            return;
        }
        let text = found.sighting(anchor, assembler).line(anchor, others);
        let say = || log::warn!(target: "hotspan", "{text}");
        if let Err(payload) = catch_unwind(AssertUnwindSafe(say)) {
            forget(payload);
            self.logs = false;
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("after", &self.after).finish_non_exhaustive()
    }
}

impl Found {
    fn sighting(&self, anchor: &Anchor, assembler: &Assembler) -> Sighting {
        let root = self.root;
        match self.lane {
            Some(lane) => Sighting { label: lane.label(), root, step: self.step },
            None => detached(root, anchor, assembler.slots_of(root.key)),
        }
    }
}

/// A transaction on no thread. Its step is the latest to begin of the spans that were detached and
/// have not ended.
fn detached(root: Entry, anchor: &Anchor, slots: &[Slot]) -> Sighting {
    let firsts = || items(slots).filter_map(|item| item.first());
    let mut ended: Vec<u64> =
        firsts().filter_map(SpanRecord::of).map(|record| record.key).collect();
    ended.sort_unstable();
    let step = firsts()
        .filter_map(parted)
        .filter(|span| span.key != root.key && ended.binary_search(&span.key).is_err())
        .min_by_key(|span| span.age(anchor))
        .unwrap_or(root);
    let [root, step] = [root, step].map(|span| renamed(span, slots));
    Sighting { label: Label::default(), root, step }
}

/// A detached span as a line on a stack.
fn parted(slot: &Slot) -> Option<Entry> {
    let record = SpanRecord::of_parted(slot)?;
    Some(Entry {
        key: record.key,
        root: record.root,
        parent: record.parent,
        start: record.start,
        names: u64::from(record.op.0) | u64::from(record.description.0) << 32,
        meta: if record.flags & flag::START_UNIX == 0 { 0 } else { meta::START_UNIX },
    })
}

/// The span with the description that it was given after it was detached.
fn renamed(mut span: Entry, slots: &[Slot]) -> Entry {
    let attributes = items(slots).filter_map(|item| AttributeHeader::of(item.first()?));
    let given = attributes.filter(|it| {
        it.kind == Kind::Description && it.key == span.key && it.name != NameId::INLINE
    });
    if let Some(last) = given.last() {
        span.names = span.names & u64::from(u32::MAX) | u64::from(last.name.0) << 32;
    }
    span
}

impl Sighting {
    /// What the log says.
    fn line(&self, anchor: &Anchor, others: u64) -> String {
        let Self { label, root, step } = self;
        let (op, name) = texts(root);
        let mut text = format!("stuck: {op} {name:?}, open for {:.1?}", root.age(anchor));
        // Writing into a String does not fail.
        let _ = if step.key == root.key {
            write!(text, ", in no step")
        } else {
            let (op, description) = texts(step);
            write!(text, ", in {op} {description:?} for {:.1?}", step.age(anchor))
        };
        let _ = match (&label.name, label.id) {
            (None, 0) => write!(text, ", on no thread"),
            (None, id) => write!(text, ", on thread {id}"),
            (Some(name), id) => write!(text, ", on thread {name:?} ({id})"),
        };
        if others > 0 {
            let _ = write!(text, "; {others} others since the last such line");
        }
        text
    }
}

/// A span's op and description.
#[expect(clippy::cast_possible_truncation, reason = "two halves")]
pub(crate) fn texts(entry: &Entry) -> (&'static str, &'static str) {
    let text = |id: u32| names::text(NameId(id)).unwrap_or_default();
    (text(entry.names as u32), text((entry.names >> 32) as u32))
}
