//! A program that records, drawn from a seed: threads that start, nest, detach, enter, finish and
//! forget spans, one step of one thread at a time, each writing the slots that the recording side
//! would write.
//!
//! A record is made at one step, written at a later one and published at a third, with steps of
//! other threads in between; so what is published before what, across rings, is whatever may happen
//! between threads, and what happened before something else stays before it.

use std::cell::Cell;
use std::collections::VecDeque;

use fastrand::Rng;

use crate::flush::intake::Source;
use crate::shared::clock::Anchor;
use crate::shared::id::NameId;
use crate::shared::layout::{
    AttributeHeader, FOLDED, Kind, PLAIN, Scalar, Slot, SpanRecord, attribute_header, flag, parted,
};
use crate::shared::names;

use super::Fuse;
use super::trial::Trial;

mod setting;

/// When all spans start, in ticks of a nanosecond, and tick 0 in unix nanoseconds.
const START: u64 = 900;
const UNIX: u64 = 1_700_000_000_000_000_000;
pub(super) const ANCHOR: Anchor =
    Anchor { ticks: 0, unix_nanos: UNIX, nanos_per_4g_ticks: 1 << 32 };

/// What an item in a ring is, in the model's words.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// `end` is `None` where the caller gave the time.
    Child {
        key: u64,
        end: Option<u64>,
    },
    Root {
        end: Option<u64>,
        lost: u32,
        unfinished: u32,
        trial: Trial,
    },
    Attribute {
        key: u64,
        label: u64,
        /// Whether that is a status, and not ok.
        failed: Option<bool>,
    },
    /// Code asked for the root to be kept, or not to be.
    Asked {
        key: u64,
        keep: bool,
    },
    /// The root continues a trace with this `sample_rand`.
    Trace {
        rand: u32,
    },
    Turn {
        key: u64,
        from: u64,
    },
    Parted,
}

/// A record or an attribute, with all its slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) transaction: usize,
    pub(super) what: What,
    pub(super) at: usize,
    pub(super) slots: usize,
}

/// A ring of which a beginning is published.
pub(super) struct Ring<'a> {
    fuse: &'a Fuse,
    number: u32,
    pub(super) slots: Vec<Slot>,
    pub(super) items: Vec<Item>,
    published: usize,
    pub(super) read: Cell<usize>,
    /// Pairs of slots that were read as one.
    pub(super) folded: Cell<u64>,
}

impl Source for Ring<'_> {
    fn number(&self) -> u32 {
        self.number
    }

    fn waiting(&self) -> u64 {
        self.fuse.burn();
        (self.published - self.read.get()) as u64
    }

    fn collect(&self, out: &mut Vec<Slot>, slots_max: u64) -> u64 {
        let from = self.read.get();
        let to = self.published.min(from.saturating_add(usize::try_from(slots_max).unwrap()));
        let mut at = from;
        while at < to {
            let folded = self.folded(at).filter(|_| at + 2 <= to);
            out.push(folded.unwrap_or(self.slots[at]));
            at += if folded.is_some() { 2 } else { 1 };
            self.folded.set(self.folded.get() + u64::from(folded.is_some()));
        }
        self.read.set(to);
        (to - from) as u64
    }
}

impl Ring<'_> {
    /// An attribute and the child that it was set on in one slot, as some of those that may lie so
    /// do.
    fn folded(&self, at: usize) -> Option<Slot> {
        let first = self.items.binary_search_by_key(&at, |item| item.at).ok()?;
        let [first, second] = self.items.get(first..first + 2)? else { return None };
        let [attribute, record] = [first, second].map(|item| self.slots[item.at]);
        let [header, _, _, value, ..] = attribute;
        let is_one_word = AttributeHeader::of(&attribute).is_some_and(|header| header.len <= 8);
        match (first.what, second.what) {
            (What::Attribute { key, .. }, What::Child { key: of, .. })
                if key == of
                    && is_one_word
                    && record[0] == PLAIN
                    && (key ^ value >> 8) & 1 == 0 =>
            {
                let [_, key, root, parent, start, end, names, _] = record;
                Some([header | FOLDED, key, root, parent, start, end, names, value])
            }
            _ => None,
        }
    }
}

/// A transaction, as the program knows it.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) root: u64,
    pub(super) shared: bool,
    /// Its root is on no thread's stack.
    detached: bool,
    /// Children whose records are published.
    published: Vec<u64>,
    /// Those of them at the moment at which the root ended: they must be in the tree.
    pub(super) before: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Span {
    key: u64,
    parent: u64,
    transaction: usize,
    is_root: bool,
}

/// A span on a thread's stack.
#[derive(Clone, Copy)]
struct Line {
    span: usize,
    /// It is another's; the number is that of the carried one, if it is not a mere context.
    entered: Option<Option<usize>>,
    /// What is set next takes its turn.
    moved: bool,
    /// Its root may end on another thread: what ends here is published at once.
    foreign: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Carried {
    Resting,
    Entered,
    Gone,
}

/// What a thread is in the middle of.
enum Due {
    Write(Slot, usize, What),
    Publish,
}

#[derive(Default)]
struct Thread {
    lines: Vec<Line>,
    due: VecDeque<Due>,
    keys: u64,
}

pub(super) struct World<'a> {
    pub(super) rings: Vec<Ring<'a>>,
    pub(super) transactions: Vec<Transaction>,
    threads: Vec<Thread>,
    spans: Vec<Span>,
    carried: Vec<(usize, Carried)>,
    contexts: Vec<usize>,
    ticks: u64,
    transactions_max: usize,
    names: [NameId; 3],
    /// How likely it is, in percent, that what is shared is shared.
    sharing: u32,
    /// The same of transactions whose threads leave open whether they are kept.
    trials: u32,
}

impl<'a> World<'a> {
    pub(super) fn new(rng: &mut Rng, fuse: &'a Fuse) -> Self {
        let count = rng.u32(1..=6);
        let ring = |number| Ring {
            fuse,
            number,
            slots: Vec::new(),
            items: Vec::new(),
            published: 0,
            read: Cell::new(0),
            folded: Cell::new(0),
        };
        Self {
            rings: (0..count).map(ring).collect(),
            transactions: Vec::new(),
            threads: (0..count).map(|_| Thread::default()).collect(),
            spans: Vec::new(),
            carried: Vec::new(),
            contexts: Vec::new(),
            ticks: 1000,
            transactions_max: rng.usize(1..=40),
            names: ["one", "two", "three"].map(names::intern),
            sharing: [0, 20, 100][rng.usize(..3)],
            trials: [0, 30, 100][rng.usize(..3)],
        }
    }

    /// One step of one thread.
    pub(super) fn step(&mut self, rng: &mut Rng) {
        let at = rng.usize(..self.threads.len());
        self.ticks += rng.u64(1..4);
        if let Some(due) = self.threads[at].due.pop_front() {
            return self.settle(at, due);
        }
        let lines = self.threads[at].lines.len();
        let any = if lines == 0 { 0 } else { rng.usize(..lines) };
        let top = lines.saturating_sub(1);
        match rng.u32(..100) {
            0..12 if lines < 8 && self.transactions.len() < self.transactions_max => {
                self.start_root(at, rng);
            }
            12..35 if 0 < lines && lines < 12 => self.start_child(at),
            35..55 if lines > 0 => self.set(at, any, rng),
            55..78 if lines > 0 => self.end(at, top, rng),
            78..80 if lines > 0 => self.end(at, any, rng),
            80..82 => self.publish(at),
            _ if rng.u32(..100) >= self.sharing => {}
            82..86 if lines > 0 => self.detach(at, any, rng),
            86..88 if lines > 0 => self.context(at, any),
            88..94 if lines < 12 => self.enter(at, rng),
            _ => self.finish_carried(at, rng),
        }
    }

    /// All threads do what they are in the middle of, and most publish what they have.
    pub(super) fn end_all(&mut self, rng: &mut Rng) {
        for at in 0..self.threads.len() {
            while let Some(due) = self.threads[at].due.pop_front() {
                self.settle(at, due);
            }
            if rng.u32(..4) > 0 {
                self.publish(at);
            }
        }
    }

    fn settle(&mut self, at: usize, due: Due) {
        match due {
            Due::Write(slot, transaction, what) => self.write(at, &[slot], transaction, what),
            Due::Publish => self.publish(at),
        }
    }

    fn write(&mut self, at: usize, slots: &[Slot], transaction: usize, what: What) {
        let ring = &mut self.rings[at];
        ring.items.push(Item { transaction, what, at: ring.slots.len(), slots: slots.len() });
        ring.slots.extend_from_slice(slots);
    }

    fn publish(&mut self, at: usize) {
        let ring = &mut self.rings[at];
        for item in ring.items.iter().rev().take_while(|item| item.at >= ring.published) {
            if let What::Child { key, .. } = item.what {
                self.transactions[item.transaction].published.push(key);
            }
        }
        ring.published = ring.slots.len();
    }

    fn span(&mut self, at: usize, parent: u64, transaction: usize, is_root: bool) -> u64 {
        let thread = &mut self.threads[at];
        let foreign = !is_root && thread.lines.last().is_some_and(|line| line.foreign);
        thread.keys += 1;
        let key = (at as u64) << 52 | thread.keys;
        let line = Line { span: self.spans.len(), entered: None, moved: false, foreign };
        thread.lines.push(line);
        self.spans.push(Span { key, parent, transaction, is_root });
        key
    }

    fn start_root(&mut self, at: usize, rng: &mut Rng) {
        let transaction = self.transactions.len();
        let root = self.span(at, 0, transaction, true);
        self.transactions.push(Transaction { root, ..Transaction::default() });
        if rng.u32(..5) == 0 {
            let rand = rng.u32(..1_000_000);
            let header = attribute_header(Kind::Trace, Scalar::U64 as u8, 40, NameId::NONE);
            let slot = [header, root, root, 1, 2, 3, u64::from(rand) | 1 << 32, 0];
            self.write(at, &[slot], transaction, What::Trace { rand });
        }
    }

    fn start_child(&mut self, at: usize) {
        let Some(top) = self.threads[at].lines.last() else { return };
        let parent = self.spans[top.span];
        self.span(at, parent.key, parent.transaction, false);
    }

    /// The record of a span that ends now; the caller may have given the time.
    fn record(&mut self, span: &Span, unfinished: u32, rng: &mut Rng) -> (Slot, What) {
        let transaction = &mut self.transactions[span.transaction];
        let given = rng.u32(..20) == 0;
        let mut flags = if given { flag::END_UNIX } else { 0 };
        let mut lost = 0;
        let end = if given { rng.u64(..) } else { self.ticks };
        let nanos = if given { end.saturating_sub(UNIX + START) } else { end - START };
        let share = if span.is_root { self.trials } else { 0 };
        let trial = Trial::any(nanos, share, rng);
        if span.is_root {
            transaction.before = transaction.published.clone();
            lost = if rng.u32(..4) == 0 { rng.u32(..5) } else { 0 };
            flags |= trial.flags() | if transaction.shared { flag::SHARED } else { 0 };
        }
        let record = SpanRecord {
            kind: if span.is_root { Kind::Root } else { Kind::Child },
            flags,
            lost,
            key: span.key,
            root: transaction.root,
            parent: span.parent,
            start: START,
            end,
            op: NameId::NONE,
            description: NameId::NONE,
            threshold: trial.threshold,
            why: 0,
            plan: trial.plan(),
            unfinished,
        };
        let end = (!given).then_some(end);
        let what = match span.is_root {
            true => What::Root { end, lost, unfinished, trial },
            false => What::Child { key: span.key, end },
        };
        (record.words(), what)
    }

    /// A line goes off the stack: left if it was entered, else its span ends.
    fn end(&mut self, at: usize, line: usize, rng: &mut Rng) {
        let line_at = line;
        let line = self.threads[at].lines.remove(line_at);
        if let Some(carried) = line.entered {
            self.rest(carried);
            self.threads[at].due.push_back(Due::Publish);
            return;
        }
        let span = self.spans[line.span];
        let mut unfinished = 0;
        if span.is_root {
            let above = self.threads[at].lines.split_off(line_at);
            for line in above {
                match (self.spans[line.span].transaction == span.transaction, line.entered) {
                    (false, _) => self.threads[at].lines.push(line),
                    (true, Some(carried)) => self.rest(carried),
                    (true, None) => unfinished += 1,
                }
            }
        }
        let (slot, what) = self.record(&span, unfinished, rng);
        let publish = span.is_root || line.foreign || self.transactions[span.transaction].detached;
        self.due(at, slot, span.transaction, what, publish, rng);
    }

    /// Writes a record, unless there is no room for it.
    fn due(
        &mut self,
        at: usize,
        slot: Slot,
        transaction: usize,
        what: What,
        publish: bool,
        rng: &mut Rng,
    ) {
        let due = &mut self.threads[at].due;
        if rng.u32(..30) > 0 {
            due.push_back(Due::Write(slot, transaction, what));
        }
        if publish {
            due.push_back(Due::Publish);
        }
    }

    fn rest(&mut self, carried: Option<usize>) {
        if let Some(carried) = carried {
            self.carried[carried].1 = Carried::Resting;
        }
    }

    /// What is set on the span, and on its root, takes turns from now on.
    fn share(&mut self, at: usize, line: usize) {
        let span = self.threads[at].lines[line].span;
        let transaction = self.spans[span].transaction;
        self.transactions[transaction].shared = true;
        for line in &mut self.threads[at].lines {
            let other = self.spans[line.span];
            line.moved |= line.span == span || (other.is_root && other.transaction == transaction);
        }
    }

    fn detach(&mut self, at: usize, line: usize, rng: &mut Rng) {
        if self.threads[at].lines[line].entered.is_some() {
            return;
        }
        self.share(at, line);
        let line = self.threads[at].lines.remove(line);
        let span = self.spans[line.span];
        self.transactions[span.transaction].detached |= span.is_root;
        if rng.u32(..10) > 0 {
            let (slot, _) = self.record(&span, 0, rng);
            let record = SpanRecord::of(&slot).unwrap();
            self.write(at, &[parted(&record)], span.transaction, What::Parted);
        }
        self.threads[at].due.push_back(Due::Publish);
        self.carried.push((line.span, Carried::Resting));
    }

    fn context(&mut self, at: usize, line: usize) {
        self.share(at, line);
        self.contexts.push(self.threads[at].lines[line].span);
    }

    fn enter(&mut self, at: usize, rng: &mut Rng) {
        let line =
            |span, carried| Line { span, entered: Some(carried), moved: true, foreign: true };
        if rng.bool() && !self.contexts.is_empty() {
            let span = self.contexts[rng.usize(..self.contexts.len())];
            return self.threads[at].lines.push(line(span, None));
        }
        if let Some((carried, span)) = self.resting(rng) {
            self.carried[carried].1 = Carried::Entered;
            self.threads[at].lines.push(line(span, Some(carried)));
        }
    }

    fn resting(&self, rng: &mut Rng) -> Option<(usize, usize)> {
        let resting = |(_, (_, state)): &(usize, &(usize, Carried))| *state == Carried::Resting;
        let all: Vec<_> = self.carried.iter().enumerate().filter(resting).collect();
        let (number, (span, _)) = *all.get(rng.usize(..all.len().max(1)))?;
        Some((number, *span))
    }

    fn finish_carried(&mut self, at: usize, rng: &mut Rng) {
        let Some((carried, span)) = self.resting(rng) else { return };
        self.carried[carried].1 = Carried::Gone;
        // Some are forgotten.
        if rng.u32(..30) > 0 {
            let span = self.spans[span];
            let (slot, what) = self.record(&span, 0, rng);
            self.due(at, slot, span.transaction, what, true, rng);
        }
    }
}
