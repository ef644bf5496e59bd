//! What can be seen of the model, and what its flusher makes of all that is published.

use std::collections::BTreeMap;

use hotspan::{Count, Reason, SpanId};
use serde_json::{Value, json};

use super::model::{Handle, Item, Mode, Model, Tree, What, name};
use super::support::session::count;
use super::trial::Verdict;

impl Model {
    /// The thread's innermost span, if it is recorded, and its innermost transaction.
    pub(crate) fn current(&self, thread: usize) -> (Option<Handle>, Option<Handle>) {
        let lines = &self.lanes[thread].lines;
        let Some((top, node)) = lines.last().and_then(|top| Some((top, top.node?))) else {
            return (None, None);
        };
        let span = Handle { node, line: top.number };
        let root = Handle { node: self.nodes[node].root, line: top.root };
        (self.nodes[node].sampled.then_some(span), Some(root))
    }

    pub(crate) fn id(&self, node: usize) -> Option<SpanId> {
        self.nodes[node].id
    }

    /// What a thread is seen to work on, from others: its innermost span, and that span's
    /// transaction, unless that was detached meanwhile.
    pub(crate) fn in_flight(&self, thread: usize) -> Option<(String, String)> {
        let (span, root) = self.current(thread);
        let (span, root) = (span?, root?);
        let is_seen = self.mode != Mode::Off && self.find(thread, root).is_some();
        is_seen.then(|| (name(root.node), name(span.node)))
    }

    pub(crate) fn open(&self) -> Count {
        let lines = self.lanes.iter().flat_map(|lane| &lane.lines).filter(|line| !line.entered);
        let nodes = lines.filter_map(|line| line.node.filter(|it| self.nodes[*it].sampled));
        nodes.fold(self.carried, |sum, node| sum + self.worth(node))
    }

    pub(crate) fn started(&self) -> Count {
        let sampled = (0..self.nodes.len()).filter(|node| self.nodes[*node].sampled);
        sampled.fold(Count::default(), |sum, node| sum + self.worth(node))
    }

    /// Everything that is published is collected, and what has ended is delivered.
    pub(crate) fn flush(&mut self) {
        if self.mode == Mode::Off {
            return;
        }
        for item in self.take_published() {
            let root = self.nodes[item.node].root;
            if !self.handed_on.contains(&root) {
                self.pending.entry(root).or_default().push(item);
            } else if matches!(item.what, What::End { .. }) {
                self.lose(Reason::LateChild, count(0, 1));
            }
        }
        let has_ended = |root: usize, items: &[Item]| items.iter().any(|it| it.ends(root));
        let pending = std::mem::take(&mut self.pending);
        for (root, items) in pending {
            if has_ended(root, &items) {
                self.hand_on(root, items);
                self.handed_on.insert(root);
            } else {
                self.pending.insert(root, items);
            }
        }
    }

    /// Closes the library, and starts it again unless `mode` is off.
    pub(crate) fn restart(&mut self, mode: Mode) {
        self.flush();
        for (_, items) in std::mem::take(&mut self.pending) {
            self.lose_items(Reason::AfterShutdown, items);
        }
        self.handed_on.clear();
        self.generation += 1;
        self.mode = mode;
        for node in &mut self.nodes {
            node.id = None;
        }
        if mode != Mode::Off {
            // Published when nobody looked.
            let left = self.take_published();
            self.lose_items(Reason::AfterShutdown, left);
        }
    }

    fn take_published(&mut self) -> Vec<Item> {
        let lanes = self.lanes.iter_mut();
        lanes.flat_map(|lane| std::mem::take(&mut lane.published)).collect()
    }

    /// Delivers a transaction: what had ended before it did, with what was set last.
    fn hand_on(&mut self, root: usize, mut items: Vec<Item>) {
        let Some(end) = items.iter().find(|item| item.ends(root)).cloned() else { return };
        let all = items.len();
        items.retain(|item| !item.is_after(&end));
        let late = (all - items.len()) as u64;
        self.lose(Reason::LateChild, count(0, late));
        let ended: Vec<Item> =
            items.iter().filter(|item| matches!(item.what, What::End { .. })).cloned().collect();
        items.sort_by_key(|item| match item.what {
            What::Set { turn, .. } => (turn, item.moment),
            What::End { .. } | What::Else => (0, 0),
        });
        let why = match self.verdict(root, &end, &items) {
            Verdict::Kept(why) => why,
            Verdict::Discarded => {
                ended.iter().for_each(|item| self.discarded += self.worth(item.node));
                return;
            }
        };
        let mut tree = Tree::new();
        for item in &ended {
            // What hangs below a span that is not there hangs below the root.
            let parent = self.nodes[item.node].parent;
            let is_there = ended.iter().any(|it| it.node == parent);
            let parent = name(if is_there { parent } else { root });
            let mut said: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
            let mut status = Value::Null;
            for set in items.iter().filter(|it| it.node == item.node) {
                match &set.what {
                    What::Set { key: "status", value, .. } => status = value.clone(),
                    What::Set { key: "tag", value, .. } => {
                        said.entry("tags".into()).or_default().insert("tag".into(), value.clone());
                    }
                    What::Set { key: "asked", .. } => {}
                    What::Set { key, value, .. } => {
                        said.entry("data".into()).or_default().insert((*key).into(), value.clone());
                    }
                    What::End { .. } | What::Else => {}
                }
            }
            if let Some(why) = why.filter(|_| item.node == root) {
                said.entry("data".into()).or_default().insert("hotspan.kept".into(), json!(why));
            }
            if let What::End { how, unfinished, .. } = item.what {
                if how.panicking {
                    status = json!("internal_error");
                }
                let unfinished = unfinished + if item.node == root { late } else { 0 };
                if unfinished > 0 {
                    let data = said.entry("data".into()).or_default();
                    data.insert("hotspan.unfinished".into(), json!(unfinished));
                }
            }
            let told = json!({"parent": parent, "status": status, "said": said});
            assert!(tree.insert(name(item.node), told).is_none(), "delivered twice");
            self.delivered += self.worth(item.node);
        }
        assert!(self.trees.insert(name(root), tree).is_none(), "delivered twice");
    }
}

impl Item {
    fn ends(&self, root: usize) -> bool {
        self.node == root && matches!(self.what, What::End { .. })
    }

    /// Whether it is the end of a span that came after `end`.
    fn is_after(&self, end: &Self) -> bool {
        match (&self.what, &end.what) {
            (What::End { how, .. }, What::End { how: ends, .. }) => {
                !how.given && !ends.given && self.moment > end.moment
            }
            _ => false,
        }
    }
}
