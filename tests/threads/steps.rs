//! Steps of transactions, in the model and beside it.

use super::driver::{Driver, pick};
use super::model::{Handle, How, Model, name};
use super::worker::Held;

impl Model {
    /// Ends the step of a transaction, if one is open, and begins the next.
    fn step(&mut self, thread: usize, of: Handle) -> Option<Handle> {
        self.find(thread, of)?;
        self.end_step(thread, of, How::default());
        let step = self.child_of(thread, of)?;
        if let Some(line) = self.lanes[thread].lines.last_mut() {
            line.step_of = Some(of.node);
        }
        Some(step)
    }

    /// Whatever ends a transaction, or takes it off the thread, ends its step.
    pub(super) fn end_step(&mut self, thread: usize, of: Handle, how: How) {
        let lines = self.lanes[thread].lines.iter();
        let step = lines
            .filter(|line| line.step_of == Some(of.node))
            .find_map(|line| Some(Handle { node: line.node?, line: line.number }));
        if let Some(step) = step {
            self.end(thread, step, how);
        }
    }
}

impl Driver {
    pub(super) fn next_step(&mut self, at: usize, which: usize) {
        let thread = &self.threads[at];
        let Some(which) = pick(which, thread.held.len()) else { return };
        let of = thread.held[which].handle;
        let next = self.model.next_name();
        let (number, worker) = (thread.number, &thread.worker);
        let id = worker.run(move |held| match &mut held[which] {
            Held::Transaction(it) => Some(it.step("op", next).span_id()),
            Held::Span(_) | Held::Scope(_) => None,
        });
        let Some(id) = id else { return };
        let step = of.and_then(|it| self.model.step(number, it));
        assert_eq!(
            id.is_some(),
            step.is_some(),
            "a step began: {:?}",
            step.map(|it| name(it.node))
        );
        step.inspect(|it| self.model.know(it.node, id));
    }

    pub(super) fn end_step(&mut self, at: usize, which: usize) {
        let thread = &self.threads[at];
        let Some(which) = pick(which, thread.held.len()) else { return };
        let of = thread.held[which].handle;
        let is_transaction = thread.worker.run(move |held| match &mut held[which] {
            Held::Transaction(it) => {
                it.end_step();
                true
            }
            Held::Span(_) | Held::Scope(_) => false,
        });
        if let Some(of) = of.filter(|_| is_transaction) {
            self.model.end_step(thread.number, of, How::default());
        }
    }
}
