//! Panics that unwind through what a thread holds.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use hotspan::start_child;

use super::driver::{Driver, Told, pick};
use super::model::{How, name};
use super::worker::Held;

impl Driver {
    /// See `Act::Panic`.
    pub(super) fn panic(
        &mut self,
        at: usize,
        first: usize,
        many: usize,
        which: Option<usize>,
        start: bool,
    ) {
        let thread = &mut self.threads[at];
        let number = thread.number;
        let first = pick(first, thread.held.len()).unwrap_or(0);
        let range = first..thread.held.len().min(first + many);
        let told: Vec<Told> = thread.held.drain(range.clone()).collect();
        let which = which.and_then(|it| pick(it, self.detached.len()));
        let (carried, detached) = match which.map(|it| self.detached.swap_remove(it)) {
            Some((carried, detached)) => (carried, Some(detached)),
            None => (None, None),
        };
        let child = if start { self.model.child(number) } else { None };
        let starter = Starter(child.map(|it| name(it.node)));
        thread.worker.run(move |held| {
            let taken: Vec<Held> = held.drain(range).collect();
            let thrown = catch_unwind(AssertUnwindSafe(move || {
                let _last = detached;
                let _then = taken;
                let _first = starter;
                resume_unwind(Box::new("on purpose"));
            }));
            assert!(thrown.is_err());
        });
        // What begins while a panic unwinds is not what panicked.
        child.inspect(|it| self.model.end(number, *it, How::default()));
        let how = How { given: false, panicking: true };
        told.into_iter().for_each(|it| self.model_end(number, it, how));
        carried.inspect(|it| self.model.finish(number, *it, how));
    }
}

/// Starts a span when it is dropped, and ends it.
struct Starter(Option<String>);

impl Drop for Starter {
    fn drop(&mut self) {
        if let Some(name) = self.0.take() {
            drop(start_child("op", name));
        }
    }
}
