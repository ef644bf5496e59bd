//! The model's transactions whose end decides whether they are kept.
//!
//! What is discarded is the same whoever decides it, but not when: the thread that recorded a
//! transaction does so at once, where it can take it back; the flusher does when it looks. Nor is
//! what else the thread has recorded published by one that is taken back.

use serde_json::json;

use super::model::{Carried, Handle, How, Item, Model, What};

/// What is known of a transaction beside its spans.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trial {
    /// Its end decides, from where on its thread's ring it is on trial.
    mark: Option<usize>,
    /// What who holds it asked for last.
    asked: Option<bool>,
    /// The status that its own thread set last is not ok.
    pub(super) failed: bool,
    /// Other threads may have to do with it.
    pub(super) shared: bool,
}

/// What is to become of a transaction, as its record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Decided when everything is there.
    Open,
    Kept(&'static str),
    Discarded,
}

pub(super) enum Verdict {
    /// For what, if that was not its rate.
    Kept(Option<&'static str>),
    Discarded,
}

impl Model {
    /// A transaction that is on top of its thread's stack.
    pub(super) fn begin_trial(&mut self, thread: usize, node: usize) {
        let nth = self.recorded_roots(thread) - 1;
        let lane = &mut self.lanes[thread];
        let most = lane.trials.len().max(nth + 1);
        lane.trials.resize(most, None);
        lane.trials[nth] = Some(node);
        self.nodes[node].trial.mark = Some(lane.published_until + lane.private.len());
    }

    fn recorded_roots(&self, thread: usize) -> usize {
        let lines = self.lanes[thread].lines.iter().filter(|line| !line.entered);
        lines
            .filter_map(|line| line.node)
            .filter(|it| self.is_root(*it) && self.nodes[*it].sampled)
            .count()
    }

    /// The trace that came is written down.
    pub(crate) fn goes_on_with_a_trace(&mut self, thread: usize, handle: Handle) {
        if self.nodes[handle.node].sampled {
            self.write(thread, handle.node, What::Else);
        }
    }

    pub(crate) fn ask(&mut self, thread: usize, handle: Handle, keep: bool) {
        let Some(at) = self.find(thread, handle) else { return };
        if self.lanes[thread].lines[at].entered {
            self.set(thread, handle, "asked", json!(keep));
        } else if self.nodes[handle.node].sampled {
            self.nodes[handle.node].trial.asked = Some(keep);
        }
    }

    pub(crate) fn ask_carried(&mut self, carried: Carried, keep: bool) {
        let node = &mut self.nodes[carried.node];
        if node.root == carried.node && node.sampled {
            node.trial.asked = Some(keep);
        }
    }

    /// A transaction ends on its own thread.
    pub(super) fn end_transaction(
        &mut self,
        thread: usize,
        node: usize,
        how: How,
        unfinished: u64,
    ) {
        let trial = self.nodes[node].trial;
        let nth = self.recorded_roots(thread) - 1;
        let is_last = self.lanes[thread].trials.get(nth) == Some(&Some(node));
        let mut fate = Fate::Open;
        if let Some(mark) = trial.mark.filter(|_| is_last && !trial.shared) {
            fate = match (trial.asked, trial.failed || how.panicking) {
                (Some(true), _) => Fate::Kept("asked"),
                (None, true) => Fate::Kept("failed"),
                (Some(false), _) | (None, false) => Fate::Discarded,
            };
            if fate == Fate::Discarded && self.take_back_trial(thread, node, mark) {
                return;
            }
        }
        self.record(thread, node, how, unfinished, fate);
        self.publish(thread);
    }

    /// False: something of it was published, or is not of it.
    fn take_back_trial(&mut self, thread: usize, node: usize, mark: usize) -> bool {
        let lane = &mut self.lanes[thread];
        let Some(first) = mark.checked_sub(lane.published_until) else { return false };
        let items = &lane.private[first..];
        if !items.iter().all(|item| self.nodes[item.node].root == node) {
            return false;
        }
        let items: Vec<Item> = lane.private.drain(first..).collect();
        let ended = items.iter().filter(|item| matches!(item.what, What::End { .. }));
        ended.for_each(|item| self.discarded += self.worth(item.node));
        self.discarded += self.worth(node);
        true
    }

    /// About a transaction that is complete; `items` in the order in which they count.
    pub(super) fn verdict(&self, root: usize, end: &Item, items: &[Item]) -> Verdict {
        let What::End { how, fate, .. } = end.what else { unreachable!() };
        let last = |wanted: &str| {
            items.iter().rev().find_map(|item| match &item.what {
                What::Set { key, value, .. } if item.node == root && *key == wanted => Some(value),
                _ => None,
            })
        };
        let trial = self.nodes[root].trial;
        let asked = last("asked").map(|it| it == true).or(trial.asked);
        let failed = how.panicking || last("status").is_some_and(|it| it != "ok");
        match (fate, asked) {
            (Fate::Kept(why), _) => Verdict::Kept(Some(why)),
            (Fate::Discarded, _) | (Fate::Open, Some(false)) => Verdict::Discarded,
            (Fate::Open, _) if trial.mark.is_none() => Verdict::Kept(None),
            (Fate::Open, Some(true)) => Verdict::Kept(Some("asked")),
            (Fate::Open, None) if failed => Verdict::Kept(Some("failed")),
            (Fate::Open, None) => Verdict::Discarded,
        }
    }
}
