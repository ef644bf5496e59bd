//! Transactions: the roots, one for each item of a loop.

use std::marker::PhantomData;
use std::time::SystemTime;

use crate::detached::{Detached, SpanContext};
use crate::methods::{local_methods, span_methods};
use crate::name::IntoName;
use crate::options;
use crate::propagate::TraceHeaders;
use crate::record::{self, Admission, Handle};
use crate::shared::id::{SpanId, TraceId};
use crate::shared::layout::Kind;
use crate::span::{self, OnThisThread, Span, SpanRef};
use crate::status::SpanStatus;
use crate::value::IntoValue;

/// Starts a transaction: an independent root, active on this thread until the guard is dropped.
///
/// Whether it is kept is decided here, by `Config::traces_sample_rate`. One that is not kept costs
/// a few stores, its children a load each; nothing of it is looked up, and no clock is read. A
/// transaction inside another one is a root of its own and hides the outer one until it ends.
///
/// ```
/// # let queue = vec!["a", "b"]; let mut queue = queue.into_iter();
/// while let Some(item) = queue.next() {
///     let mut transaction = hotspan::start_transaction("queue.process", "orders");
///     transaction.set_tag("item", item);
/// }
/// ```
#[inline]
pub fn start_transaction(op: impl IntoName, name: impl IntoName) -> Transaction {
    let admission = record::admit();
    match admission.refused() {
        Some(handle) => Transaction::new(handle),
        None if admission.is_open() => start_by_rules(op, name),
        None => start_kept(admission, op, name),
    }
}

// What is left out needs no stack, so what is not has functions of its own.
#[inline(never)]
fn start_kept(admission: Admission, op: impl IntoName, name: impl IntoName) -> Transaction {
    let open = move |op, name| record::open_root(admission, op, name);
    Transaction::new(span::open_named(op, name, open))
}

#[inline(never)]
fn start_by_rules(op: impl IntoName, name: impl IntoName) -> Transaction {
    let admission = options::admit(&op, &name);
    match admission.refused() {
        Some(handle) => Transaction::new(handle),
        None => start_kept(admission, op, name),
    }
}

impl Transaction {
    pub(crate) const fn new(handle: Handle) -> Self {
        Self { handle, on_this_thread: PhantomData }
    }
}

/// A transaction. It ends when it is dropped, or by [`finish`](Self::finish), and is then handed to
/// the flusher with all children that ended before it.
///
/// It belongs to the thread that started it (it is not `Send`). A panic that unwinds through it
/// marks it `internal_error`. Children still open when it ends are left out and counted.
#[must_use = "a transaction ends when its guard is dropped: bind it, and not to `_`"]
#[derive(Debug)]
pub struct Transaction {
    handle: Handle,
    on_this_thread: OnThisThread,
}

/// An open transaction that is held elsewhere, as [`Scope::transaction`](crate::Scope::transaction)
/// returns it. Dropping it ends nothing; using it after the transaction has ended does nothing.
#[derive(Clone, Copy, Debug)]
pub struct TransactionRef {
    handle: Handle,
    on_this_thread: OnThisThread,
}

impl TransactionRef {
    pub(crate) const fn new(handle: Handle) -> Self {
        Self { handle, on_this_thread: PhantomData }
    }
}

impl Transaction {
    /// Begins the next step: a child of the transaction, of which no guard is held. It ends where
    /// the next step begins, at [`end_step`](Self::end_step), or with the transaction, whichever
    /// comes first. One reading of the clock is the end of one step and the start of the next, so a
    /// row of steps has no gaps, and each costs one reading instead of two.
    ///
    /// What is returned is for setting things on the step; keeping it keeps nothing open. While a
    /// step is open it is the innermost span: what [`start_child`](crate::start_child) starts is
    /// its child, and should end before the next step does begin.
    ///
    /// Not recorded: a compare. Allocates: never, but once for a name that was never seen.
    ///
    /// ```
    /// # fn parse(_: &str) -> usize { 3 } fn store(_: usize) {}
    /// let mut transaction = hotspan::start_transaction("queue.process", "orders");
    /// transaction.step("parse", "order");
    /// let rows = parse("...");
    /// transaction.step("db.query", "store rows").set_data("rows", rows);
    /// store(rows);
    /// // The second step ends with the transaction.
    /// ```
    #[inline]
    pub fn step(&mut self, op: impl IntoName, description: impl IntoName) -> SpanRef {
        if !self.handle.is_recording() {
            return SpanRef::new(Handle::NONE);
        }
        let root = self.handle;
        let open = move |op, description| record::step(root, op, description);
        let handle = span::open_named(op, description, open);
        SpanRef::new(handle)
    }

    /// Ends the step that is open, if there is one, and begins none.
    pub fn end_step(&mut self) -> &mut Self {
        if self.handle.is_recording() {
            record::end_step(self.handle);
        }
        self
    }

    /// Takes the transaction off this thread, to be sent to another one, put into a message, or
    /// held while others are worked on. Publishes what this thread has recorded for it; never
    /// allocates. A step of it ends; other children of it that are open here go on, and must end
    /// before it does to be delivered with it.
    pub fn detach(mut self) -> Detached {
        Detached::of(std::mem::replace(&mut self.handle, Handle::NONE))
    }

    /// Ends the transaction now, as dropping it does.
    pub fn finish(self) {}

    /// Ends the transaction at a given time, for work whose end was noted earlier. A time before
    /// the start counts as the start.
    pub fn finish_at(mut self, at: SystemTime) {
        let handle = std::mem::replace(&mut self.handle, Handle::NONE);
        if handle.is_recording() {
            record::close_root_at(handle, at);
        } else if !handle.is_none() {
            record::close_unsampled(handle);
        }
    }
}

impl Drop for Transaction {
    #[inline]
    fn drop(&mut self) {
        if self.handle.is_recording() {
            record::close_root(self.handle);
        } else if !self.handle.is_none() {
            record::close_unsampled(self.handle);
        }
    }
}

span_methods!(Transaction, TransactionRef);
local_methods!(Transaction, TransactionRef; of);

macro_rules! name_methods {
    ($($ty:ty),*) => { $(
        impl $ty {
            /// Gives the transaction another name, until it ends. Names are at most 200 characters;
            /// keep their number low: they are what the server groups by.
            pub fn set_name(&mut self, name: impl IntoName) -> &mut Self {
                span::set_description(self.at().handle(), &name);
                self
            }
        }
    )* };
}

name_methods!(Transaction, TransactionRef);

macro_rules! wish_methods {
    ($($ty:ty),*) => { $(
        impl $ty {
            /// Asks for the transaction to be kept, if a rule for it says so
            /// ([`Keep::asked`](crate::Keep::asked)). The last wish counts. Does nothing for one
            /// that is not recorded, not even on trial.
            pub fn keep(&mut self) -> &mut Self {
                record::ask(self.handle, true);
                self
            }

            /// Asks for the transaction not to be kept, though it was sampled: when it ends, it and
            /// its children are dropped, counted in [`Stats::discarded`](crate::Stats::discarded).
            /// What the server learns from rates does then not hold for it.
            pub fn discard(&mut self) -> &mut Self {
                record::ask(self.handle, false);
                self
            }
        }
    )* };
}

wish_methods!(Transaction, TransactionRef);
