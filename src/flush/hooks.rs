//! The host's hooks: what they make of a transaction that is about to be encoded.
//!
//! Event processors, then `before_send_transaction`, each called with what the one before it
//! returned, on the flusher's thread. They are strangers: a panic is caught, and counts as if the
//! hook had returned nothing. They may be what keeps secrets in, so there is no other way past
//! them, and none is ever switched off.
//!
//! # Invariants
//! * H1: every record of a run is in the run that is handed on, or in `lost` under the reason of
//!   the hook that took it out, and in one of them alone.
//! * H2: what was started on the flusher's own thread was started by a hook, or by another function
//!   of the host's that is called there. It goes past the hooks, or they would make work for
//!   themselves without end.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::shared::clock::Anchor;
use crate::shared::id::WireIds;
use crate::shared::layout::{Kind, Slot, SpanRecord, items};
use crate::shared::ledger::{Books, Count, Reason};
use crate::shared::registry;

use super::courier::forget;
use super::event::{BeforeSend, EventProcessor, Removed, Rewritten, TransactionEvent, rewrite};

/// All hooks of one `init`; there is at least one.
#[derive(Clone)]
pub(crate) struct Hooks {
    /// In the order in which they are called, each with the reason of what it drops.
    hooks: Vec<(Reason, EventProcessor)>,
}

/// What became of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) fate: Fate,
    /// What hooks took out of it.
    pub(super) lost: Lost,
}

#[derive(Debug)]
pub(super) enum Fate {
    /// It goes on as it is.
    Untouched,
    /// This goes on in its place.
    Changed(Rewritten),
    Dropped,
}

/// By reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) event_processor: Count,
    pub(super) before_send: Count,
}

impl Hooks {
    /// `None`: there are no hooks.
    pub(crate) fn new(
        processors: Vec<EventProcessor>,
        before_send: Option<BeforeSend>,
    ) -> Option<Self> {
        let processors = processors.into_iter().map(|hook| (Reason::EventProcessor, hook));
        let before_send = before_send.map(|hook| (Reason::BeforeSend, hook));
        let hooks: Vec<_> = processors.chain(before_send).collect();
        (!hooks.is_empty()).then_some(Self { hooks })
    }

    /// Asks them all about a transaction.
    pub(super) fn ask(
        &self,
        run: &[Slot],
        wire: &WireIds,
        anchor: &Anchor,
        books: &Books,
    ) -> Outcome {
        let untouched = Outcome { fate: Fate::Untouched, lost: Lost::default() };
        let Some(before) = TransactionEvent::of(run, wire, anchor) else { return untouched };
        if run.first().is_some_and(|[_, _, root, ..]| registry::is_of_this_thread(*root)) {
            // H2.
            return untouched;
        }
        let mut event = before.clone();
        let mut left = before.span_keys();
        let mut removed = Removed::default();
        for (reason, hook) in &self.hooks {
            let answer = catch_unwind(AssertUnwindSafe(|| hook(event))).unwrap_or_else(|payload| {
                forget(payload);
                books.callback_panics.add(1);
                None
            });
            let Some(mut answer) = answer.filter(|answer| answer.is_same(&before)) else {
                let lost = Lost::of(run, &removed, Some(*reason));
                return Outcome { fate: Fate::Dropped, lost };
            };
            let still = answer.keep_spans(&left);
            removed.extend(left.difference(&still).map(|key| (*key, *reason)));
            left = still;
            event = answer;
        }
        match rewrite(run, &before, &event, &removed) {
            None => untouched,
            Some(rewritten) => {
                let lost = Lost::of(run, &removed, None);
                Outcome { fate: Fate::Changed(rewritten), lost }
            }
        }
    }
}

impl Lost {
    /// Counts a run's records (H1): those that were removed, and all others if there is a reason
    /// for which they are gone.
    fn of(run: &[Slot], removed: &Removed, others: Option<Reason>) -> Self {
        let mut lost = Self::default();
        for record in items(run).filter_map(|item| SpanRecord::of(item.first()?)) {
            let (reason, count) = match record.kind {
                Kind::Root => (others, Count::transaction(0)),
                _ => (removed.get(&record.key).copied().or(others), Count::spans(1)),
            };
            match reason {
                Some(Reason::EventProcessor) => lost.event_processor += count,
                Some(_) => lost.before_send += count,
                None => {}
            }
        }
        lost
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("hooks", &self.hooks.len()).finish()
    }
}

/// What the host's functions hold is a stranger's, too: dropping it may panic, and the flusher has
/// more to put down.
impl Drop for Hooks {
    fn drop(&mut self) {
        for hook in self.hooks.drain(..) {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(hook))) {
                forget(payload);
            }
        }
    }
}

#[cfg(test)]
mod tests;
