//! The model's spans that leave their thread.

use hotspan::{Count, Reason};

use super::model::{Carried, Handle, How, Mode, Model, Node, What};
use super::trial::Fate;

impl Model {
    /// What is set on the span by its own thread takes its turn from now on.
    fn share(&mut self, thread: usize, at: usize) {
        if let Some(node) = self.lanes[thread].lines[at].node {
            let root = self.nodes[node].root;
            self.nodes[root].trial.shared = true;
        }
        self.write_waiting(thread, at);
        let lines = &mut self.lanes[thread].lines;
        (lines[at].moved, lines[at].shared) = (true, true);
        let root = lines[at].root;
        if let Some(line) = lines.iter_mut().find(|line| line.number == root) {
            line.moved = true;
        }
    }

    pub(crate) fn context(&mut self, thread: usize, handle: Handle) -> Option<Carried> {
        let at = self.find(thread, handle)?;
        self.share(thread, at);
        Some(self.carry(handle.node))
    }

    fn carry(&self, node: usize) -> Carried {
        let Node { sampled, generation, .. } = self.nodes[node];
        Carried { node, generation: if sampled { generation } else { self.generation } }
    }

    /// What is carried of a child of a thread's current transaction, if that is not recorded.
    pub(crate) fn unrecorded(&self, thread: usize) -> Option<Carried> {
        let (_, transaction) = self.current(thread);
        transaction.map(|it| self.carry(it.node)).filter(|it| self.is_unrecorded(*it))
    }

    fn is_unrecorded(&self, carried: Carried) -> bool {
        !self.nodes[carried.node].sampled
    }

    pub(crate) fn detach(&mut self, thread: usize, handle: Handle) -> Option<Carried> {
        self.end_step(thread, handle, How::default());
        let carried = self.context(thread, handle)?;
        let at = self.find(thread, handle)?;
        if self.nodes[handle.node].sampled {
            if self.is_root(handle.node) {
                for line in &mut self.lanes[thread].lines {
                    let root = line.node.map(|node| self.nodes[node].root);
                    line.foreign |= root == Some(handle.node);
                }
            }
            self.carried += self.worth(handle.node);
            self.write(thread, handle.node, What::Else);
        }
        self.lanes[thread].lines[at].node = None;
        if self.nodes[handle.node].sampled {
            self.publish_of(thread, self.nodes[handle.node].generation, at);
        }
        self.settle(thread);
        Some(carried)
    }

    /// A child that is detached from the beginning. What is not recorded goes on as what it is,
    /// without being entered: nothing of the thread's own is published by it.
    pub(crate) fn detached_child(&mut self, thread: usize, parent: Carried) -> Option<Carried> {
        if self.is_unrecorded(parent) {
            return Some(parent);
        }
        let scope = self.enter(thread, parent)?;
        let child = self.child_of(thread, scope);
        let carried = child.and_then(|it| self.detach(thread, it));
        self.leave(thread, scope);
        carried
    }

    pub(crate) fn enter(&mut self, thread: usize, carried: Carried) -> Option<Handle> {
        if self.mode == Mode::Off || carried.generation != self.generation {
            return None;
        }
        let Node { root, sampled, .. } = self.nodes[carried.node];
        if !sampled {
            return Some(self.push(thread, carried.node, None));
        }
        // A child's transaction comes with it.
        let below = (root != carried.node).then(|| self.push_entered(thread, root, None).line);
        Some(self.push_entered(thread, carried.node, below))
    }

    pub(crate) fn leave(&mut self, thread: usize, scope: Handle) {
        let Some(at) = self.find(thread, scope) else { return };
        let lines = &mut self.lanes[thread].lines;
        lines[at].node = None;
        let generation = lines[at].generation;
        if !self.is_root(scope.node) {
            // Its transaction's line, which came with it.
            self.lanes[thread].lines[at - 1].node = None;
        }
        self.publish_of(thread, generation, at);
        self.settle(thread);
    }

    /// What was written for a span that leaves the stack is published in its own generation only.
    fn publish_of(&mut self, thread: usize, generation: u64, at: usize) {
        if generation == self.generation {
            self.publish(thread);
        } else {
            self.take_back(thread, at);
        }
    }

    /// A detached span ends on this thread.
    pub(crate) fn finish(&mut self, thread: usize, carried: Carried, how: How) {
        let Node { sampled, generation, .. } = self.nodes[carried.node];
        if !sampled {
            return;
        }
        self.carried = self.carried - self.worth(carried.node);
        if generation == self.generation {
            self.record(thread, carried.node, how, 0, Fate::Open);
            self.publish(thread);
        } else {
            self.lose(Reason::AfterShutdown, self.worth(carried.node));
        }
    }

    /// A detached span is forgotten.
    pub(crate) fn forgotten(&self, carried: Carried) -> Count {
        if self.nodes[carried.node].sampled { self.worth(carried.node) } else { Count::default() }
    }
}
