//! The model: what a program of spans on several threads must leave, so plain that it is right by
//! inspection. One thread at a time does one thing; everything is a list, searched from its end.
//!
//! Each thread has a stack of lines, one for each span that is open or entered there, and a list of
//! what it has recorded. What is recorded can be seen by the flusher once it is published: when a
//! transaction of the thread ends, when a span ends whose transaction ends elsewhere, when a scope
//! is left, when something is detached or ends detached. [`Model::flush`] looks at all that is
//! published and hands on each transaction that has ended.

use std::collections::{BTreeMap, BTreeSet};

use hotspan::{Count, Reason, SpanId};
use serde_json::Value;

use super::support::session::count;
use super::trial::{Fate, Trial};

/// A span; its number is its name.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) root: usize,
    pub(super) parent: usize,
    pub(super) sampled: bool,
    pub(super) generation: u64,
    /// Of a transaction: see `trial.rs`.
    pub(super) trial: Trial,
    /// While the generation lasts in which it was started: the mapping from keys changes.
    pub(super) id: Option<SpanId>,
}

/// Which line of which span: what a guard or a scope holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle {
    pub(crate) node: usize,
    pub(super) line: u64,
}

/// A span that is detached, or the context of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried {
    pub(crate) node: usize,
    pub(super) generation: u64,
}

/// How a span ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    /// The caller said when: such ends are not compared.
    pub(crate) given: bool,
    pub(crate) panicking: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) number: u64,
    /// Its transaction's line.
    pub(super) root: u64,
    /// In which it was written.
    pub(super) generation: u64,
    /// None: it is over, and others lie on it.
    pub(super) node: Option<usize>,
    /// Its span is open elsewhere, and only visits.
    pub(super) entered: bool,
    /// Its transaction ends elsewhere.
    pub(super) foreign: bool,
    /// What is set next takes a turn.
    pub(super) moved: bool,
    /// A step of this transaction.
    pub(super) step_of: Option<usize>,
    /// Others may have to do with its span.
    pub(super) shared: bool,
}

/// Something that a thread recorded.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) node: usize,
    pub(super) moment: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    End {
        how: How,
        unfinished: u64,
        fate: Fate,
    },
    Set {
        key: &'static str,
        value: Value,
        turn: u64,
    },
    /// Something that tells nobody anything here.
    Else,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) lines: Vec<Line>,
    pub(super) private: Vec<Item>,
    pub(super) published: Vec<Item>,
    /// What was set last on each child of this thread, by line: it is written when the next is set,
    /// or the child ends.
    waiting: BTreeMap<u64, Item>,
    /// How much was published in all.
    pub(super) published_until: usize,
    /// Who began a trial last, by how many transactions were open below.
    pub(super) trials: Vec<Option<usize>>,
    /// The last turn the thread took, by span.
    turns: BTreeMap<usize, u64>,
}

/// What the library is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Sampled,
    /// Everything is kept that fails, or that code asks for.
    Trial,
    Unsampled,
    Off,
}

/// A transaction: each span's parent, status, tags and data, by name.
pub(crate) type Tree = BTreeMap<String, Value>;

#[derive(Debug)]
pub(crate) struct Model {
    pub(super) mode: Mode,
    pub(super) generation: u64,
    moment: u64,
    lines: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) lanes: Vec<Lane>,
    /// Collected, by transaction.
    pub(super) pending: BTreeMap<usize, Vec<Item>>,
    pub(super) handed_on: BTreeSet<usize>,
    /// Open, and on no stack.
    pub(super) carried: Count,
    pub(crate) trees: BTreeMap<String, Tree>,
    pub(crate) delivered: Count,
    pub(crate) discarded: Count,
    pub(crate) lost: BTreeMap<Reason, Count>,
    pub(crate) late: u64,
    pub(crate) misnested: u64,
    pub(crate) unsampled: u64,
}

pub(crate) fn name(node: usize) -> String {
    format!("span {node}")
}

impl Model {
    /// The library running.
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            mode,
            generation: 1,
            moment: 0,
            lines: 0,
            nodes: Vec::new(),
            lanes: Vec::new(),
            pending: BTreeMap::new(),
            handed_on: BTreeSet::new(),
            carried: Count::default(),
            trees: BTreeMap::new(),
            delivered: Count::default(),
            discarded: Count::default(),
            lost: BTreeMap::new(),
            late: 0,
            misnested: 0,
            unsampled: 0,
        }
    }

    /// A new thread; its number.
    pub(crate) fn thread(&mut self) -> usize {
        self.lanes.push(Lane::default());
        self.lanes.len() - 1
    }

    /// The name that the next span gets.
    pub(crate) fn next_name(&self) -> String {
        name(self.nodes.len())
    }

    pub(crate) fn know(&mut self, node: usize, id: Option<SpanId>) {
        self.nodes[node].id = id;
    }

    fn now(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// What one span counts for.
    pub(super) fn worth(&self, node: usize) -> Count {
        count(u64::from(self.nodes[node].root == node), 1)
    }

    pub(super) fn lose(&mut self, reason: Reason, lost: Count) {
        if lost != Count::default() {
            *self.lost.entry(reason).or_default() += lost;
        }
    }

    fn add(&mut self, parent: Option<usize>, sampled: bool) -> usize {
        let node = self.nodes.len();
        let root = parent.map_or(node, |parent| self.nodes[parent].root);
        let generation = parent.map_or(self.generation, |parent| self.nodes[parent].generation);
        let parent = parent.unwrap_or(node);
        self.nodes.push(Node {
            root,
            parent,
            sampled,
            generation,
            trial: Trial::default(),
            id: None,
        });
        node
    }

    /// A line on top; `root` is its transaction's, if that is another one.
    pub(super) fn push(&mut self, thread: usize, node: usize, root: Option<u64>) -> Handle {
        self.lines += 1;
        self.lanes[thread].lines.push(Line {
            number: self.lines,
            root: root.unwrap_or(self.lines),
            generation: self.generation,
            node: Some(node),
            entered: false,
            foreign: false,
            moved: false,
            step_of: None,
            shared: false,
        });
        Handle { node, line: self.lines }
    }

    /// A line of a span that is open elsewhere.
    pub(super) fn push_entered(&mut self, thread: usize, node: usize, root: Option<u64>) -> Handle {
        let handle = self.push(thread, node, root);
        if let Some(line) = self.lanes[thread].lines.last_mut() {
            (line.entered, line.foreign, line.moved) = (true, true, true);
        }
        handle
    }

    /// Where the line is, while it is not over.
    pub(super) fn find(&self, thread: usize, handle: Handle) -> Option<usize> {
        let lines = &self.lanes[thread].lines;
        lines.iter().position(|line| line.number == handle.line && line.node.is_some())
    }

    pub(crate) fn is_live(&self, thread: usize, handle: Handle) -> bool {
        self.find(thread, handle).is_some() && self.nodes[handle.node].sampled
    }

    /// Takes lines off the stack that are over, as far as they lie on top.
    pub(super) fn settle(&mut self, thread: usize) {
        let lines = &mut self.lanes[thread].lines;
        while lines.last().is_some_and(|line| line.node.is_none()) {
            lines.pop();
        }
    }

    pub(super) fn publish(&mut self, thread: usize) {
        let lane = &mut self.lanes[thread];
        lane.published_until += lane.private.len();
        lane.published.append(&mut lane.private);
    }

    // Starting.

    /// `explicit`: the caller has decided on it.
    pub(crate) fn start(&mut self, thread: usize, explicit: Option<bool>) -> Option<Handle> {
        if self.mode == Mode::Off {
            return None;
        }
        let sampled = explicit.unwrap_or(self.mode != Mode::Unsampled);
        self.unsampled += u64::from(!sampled);
        let node = self.add(None, sampled);
        let handle = self.push(thread, node, None);
        if self.mode == Mode::Trial && explicit.is_none() {
            self.begin_trial(thread, node);
        }
        Some(handle)
    }

    /// A child of the innermost span.
    pub(crate) fn child(&mut self, thread: usize) -> Option<Handle> {
        let top = self.lanes[thread].lines.last().copied()?;
        self.child_of_line(thread, top)
    }

    pub(crate) fn child_of(&mut self, thread: usize, parent: Handle) -> Option<Handle> {
        let at = self.find(thread, parent)?;
        self.child_of_line(thread, self.lanes[thread].lines[at])
    }

    fn child_of_line(&mut self, thread: usize, parent: Line) -> Option<Handle> {
        let node = parent.node.filter(|node| self.nodes[*node].sampled)?;
        let child = self.add(Some(node), true);
        let handle = self.push(thread, child, Some(parent.root));
        if let Some(line) = self.lanes[thread].lines.last_mut() {
            line.foreign = parent.foreign;
        }
        Some(handle)
    }

    /// How many transactions of its own a thread has open.
    pub(crate) fn roots(&self, thread: usize) -> usize {
        let lines = self.lanes[thread].lines.iter();
        lines.filter(|line| !line.entered && line.node.is_some_and(|it| self.is_root(it))).count()
    }

    pub(super) fn is_root(&self, node: usize) -> bool {
        self.nodes[node].root == node
    }

    // Setting.

    pub(crate) fn set(&mut self, thread: usize, at: Handle, key: &'static str, value: Value) {
        let Some(line) = self.find(thread, at).filter(|_| self.nodes[at.node].sampled) else {
            return;
        };
        let moment = self.now();
        let lane = &mut self.lanes[thread];
        if key == "status" && !lane.lines[line].entered {
            self.nodes[at.node].trial.failed = value != "ok";
        }
        if std::mem::take(&mut lane.lines[line].moved) {
            lane.turns.insert(at.node, moment);
        }
        let turn = lane.turns.get(&at.node).copied().unwrap_or(0);
        let item = Item { node: at.node, moment, what: What::Set { key, value, turn } };
        self.write_waiting(thread, line);
        let is_root = self.is_root(at.node);
        let lane = &mut self.lanes[thread];
        let Line { entered, shared, number, .. } = lane.lines[line];
        if key == "status" || is_root || entered || shared {
            lane.private.push(item);
        } else {
            lane.waiting.insert(number, item);
        }
    }

    /// What waits in a line waits no more.
    pub(super) fn write_waiting(&mut self, thread: usize, line: usize) {
        let lane = &mut self.lanes[thread];
        lane.private.extend(lane.waiting.remove(&lane.lines[line].number));
    }

    pub(crate) fn set_carried(
        &mut self,
        thread: usize,
        carried: Carried,
        key: &'static str,
        value: Value,
    ) {
        if let Some(scope) = self.enter(thread, carried) {
            self.set(thread, scope, key, value);
            self.leave(thread, scope);
        }
    }

    // Ending.

    pub(crate) fn end(&mut self, thread: usize, handle: Handle, how: How) {
        let (node, root) = (handle.node, self.nodes[handle.node].root);
        let Some(at) = self.find(thread, handle) else {
            self.late += u64::from(node != root);
            return;
        };
        let is_current = self.nodes[node].generation == self.generation;
        self.write_waiting(thread, at);
        if !self.nodes[node].sampled {
            // Nothing of it is recorded.
        } else if node == root {
            self.end_step(thread, handle, how);
            let unfinished = self.end_below(thread, node);
            self.lose(Reason::Unfinished, count(0, unfinished));
            if is_current {
                self.end_transaction(thread, node, how, unfinished);
            } else {
                self.take_back(thread, at);
                self.lose(Reason::AfterShutdown, count(1, 1));
            }
        } else if self.lanes[thread].lines[at].foreign {
            if is_current {
                self.record(thread, node, how, 0, Fate::Open);
                self.publish(thread);
            } else {
                self.lose(Reason::AfterShutdown, count(0, 1));
            }
        } else {
            self.record(thread, node, how, 0, Fate::Open);
        }
        // What ends with it lies on it no more.
        let is_top = at + 1 == self.lanes[thread].lines.len();
        self.misnested += u64::from(!is_top);
        self.lanes[thread].lines[at].node = None;
        self.settle(thread);
    }

    pub(super) fn record(
        &mut self,
        thread: usize,
        node: usize,
        how: How,
        unfinished: u64,
        fate: Fate,
    ) {
        self.write(thread, node, What::End { how, unfinished, fate });
    }

    pub(super) fn write(&mut self, thread: usize, node: usize, what: What) {
        let moment = self.now();
        self.lanes[thread].private.push(Item { node, moment, what });
    }

    /// What of a transaction is open on its own thread when it ends; how many that is.
    fn end_below(&mut self, thread: usize, root: usize) -> u64 {
        let mut unfinished = 0;
        let lane = &mut self.lanes[thread];
        for line in &mut lane.lines {
            if let Some(node) = line.node.filter(|node| *node != root && !line.entered)
                && self.nodes[node].root == root
            {
                unfinished += 1;
                line.node = None;
                lane.private.extend(lane.waiting.remove(&line.number));
            }
        }
        unfinished
    }

    /// A transaction ended in another generation than it began in: of what its thread recorded
    /// since it last published, nothing is sent, unless something else is open that may have
    /// recorded some of it. Then it waits for a root that never comes.
    pub(super) fn take_back(&mut self, thread: usize, at: usize) {
        let lane = &mut self.lanes[thread];
        let lines = lane.lines.iter().enumerate().filter(|(line, _)| *line != at);
        let mut others = lines.filter_map(|(_, line)| line.node);
        if others.all(|node| !self.nodes[node].sampled) {
            let private = std::mem::take(&mut lane.private);
            self.lose_items(Reason::AfterShutdown, private);
        }
    }

    pub(super) fn lose_items(&mut self, reason: Reason, items: Vec<Item>) {
        for item in items {
            if matches!(item.what, What::End { .. }) {
                self.lose(reason, self.worth(item.node));
            }
        }
    }

    /// A thread ends: what is its own, and open, is given up with all it has not published.
    pub(crate) fn end_thread(&mut self, thread: usize) {
        for line in std::mem::take(&mut self.lanes[thread].lines) {
            if let Some(node) = line.node.filter(|node| self.nodes[*node].sampled && !line.entered)
            {
                self.lose(Reason::Unfinished, self.worth(node));
            }
        }
        let private = std::mem::take(&mut self.lanes[thread].private);
        self.lose_items(Reason::Unfinished, private);
    }
}
