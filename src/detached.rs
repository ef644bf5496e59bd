//! Spans that travel: detached from their thread, or known elsewhere by their context.

use std::marker::PhantomData;
use std::time::SystemTime;

use crate::methods::{description_methods, span_methods};
use crate::name::IntoName;
use crate::propagate::TraceHeaders;
use crate::record::{self, Carried, Ending, Handle};
use crate::shared::id::{NameId, SpanId, TraceId};
use crate::shared::layout::Kind;
use crate::span::{self, OnThisThread, Span};
use crate::status::SpanStatus;
use crate::transaction::Transaction;
use crate::value::IntoValue;

/// A transaction or a span that is open on no thread in particular: 64 bytes of plain data, to be
/// put into a message, a task or a struct. It ends when it is dropped, on whatever thread that is,
/// or by [`finish`](Self::finish).
///
/// Guards are made into it by [`Transaction::detach`] and [`Span::detach`]. On the thread that
/// works on it, [`enter`](Self::enter) makes it the current span for a scope; several threads may
/// have it entered at once. Never allocates, but for a thread's first recorded call.
///
/// What is set on it is set at once, wherever it is. Of values for one key that several threads
/// set, the last one counts, where those of one scope count from the first thing that was set in
/// it. A setter called on this type is a scope of its own and takes one slot more than on a guard:
/// to set several things, enter.
///
/// Children that end before it, on any thread, are delivered with it. A child of a transaction that
/// ends after it is not, and is counted as [`LateChild`](crate::Reason::LateChild). One that is
/// forgotten ([`std::mem::forget`]) stays among the open ones of [`stats`](crate::stats()).
///
/// ```
/// use std::sync::mpsc;
/// use std::thread;
///
/// let (to_worker, from_reader) = mpsc::channel();
/// thread::spawn(move || {
///     for id in 1..=3_u64 {
///         let mut transaction = hotspan::start_transaction("queue.process", "orders").detach();
///         transaction.set_tag("id", id);
///         to_worker.send((id, transaction)).unwrap();
///     }
/// });
/// for (id, transaction) in from_reader {
///     {
///         let _scope = transaction.enter();
///         let mut span = hotspan::start_child("db", "load");
///         span.set_data("id", id);
///     }
///     transaction.finish();
/// }
/// ```
#[must_use = "a detached span ends when it is dropped"]
#[derive(Debug)]
pub struct Detached {
    carried: Carried,
}

const _: () = assert!(size_of::<Detached>() <= 64);

/// What is needed to start children of a span on other threads: 64 bytes of plain data, to be
/// copied. Dropping it ends nothing; children started under a span that has ended are late, and
/// counted as that.
///
/// ```
/// let transaction = hotspan::start_transaction("batch", "orders");
/// let context = transaction.context();
/// std::thread::scope(|scope| {
///     for part in 0..4 {
///         scope.spawn(move || {
///             let _scope = context.enter();
///             let mut span = hotspan::start_child("part", "work");
///             span.set_data("part", part);
///         });
///     }
/// });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SpanContext {
    carried: Carried,
}

/// A scope in which a span from elsewhere is this thread's innermost one, until it is dropped. What
/// is set on it is set on that span.
#[must_use = "the scope ends when it is dropped: bind it, `let _scope = ...`, and not to `_`"]
#[derive(Debug)]
pub struct Entered<'a> {
    handle: Handle,
    span: PhantomData<&'a Detached>,
    on_this_thread: OnThisThread,
}

impl Detached {
    pub(crate) const NONE: Self = Self { carried: Carried::NONE };

    pub(crate) fn of(handle: Handle) -> Self {
        Self { carried: record::detach(handle) }
    }

    /// Of a child. One that is not recorded as its transaction is not goes on as a part of that.
    pub(crate) fn of_child(handle: Handle) -> Self {
        Self { carried: of_child(handle, record::detach) }
    }

    /// Makes it the innermost span of this thread until the scope is dropped: children that are
    /// started there are its children. May be done on several threads at once. Two stores to a
    /// cache line or two, no clock; a thread's first recorded call allocates. Where a thread can
    /// have no ring, or the call came in the middle of another one, it is not entered, and counted
    /// as one span under that reason.
    #[inline]
    pub fn enter(&self) -> Entered<'_> {
        Entered::of(&self.carried)
    }

    /// The span as a parent for other threads, to be copied.
    #[must_use]
    pub const fn context(&self) -> SpanContext {
        SpanContext { carried: self.carried }
    }

    /// Starts a child that is detached from the beginning.
    pub fn start_child(&self, op: impl IntoName, description: impl IntoName) -> Self {
        if let Some(carried) = self.carried.unrecorded_child() {
            return Self { carried };
        }
        let scope = self.enter();
        scope.start_child(op, description).detach_alone()
    }

    /// Asks for a transaction to be kept, as [`Transaction::keep`] does.
    pub fn keep(&mut self) -> &mut Self {
        self.carried.ask(true);
        self
    }

    /// Asks for a transaction not to be kept, as [`Transaction::discard`] does.
    pub fn discard(&mut self) -> &mut Self {
        self.carried.ask(false);
        self
    }

    /// Gives it another start, for work that began before the span could be started.
    pub fn started_at(&mut self, at: SystemTime) -> &mut Self {
        if self.carried.is_recording() {
            self.carried.restart(at);
        }
        self
    }

    /// Gives it another description; of a transaction, another name.
    pub fn set_description(&mut self, description: impl IntoName) -> &mut Self {
        if self.carried.is_recording() {
            span::set_description(self.enter().handle, &description);
            let id = description.id().0;
            if id != NameId::INLINE {
                self.carried.redescribe(id);
            }
        }
        self
    }

    /// Ends it now, as dropping it does.
    pub fn finish(self) {}

    /// Ends it at a given time, for work whose end was noted earlier. A time before the start
    /// counts as the start.
    pub fn finish_at(mut self, at: SystemTime) {
        self.end(Ending { at: Some(at), cancelled: false });
    }

    /// Makes it the innermost span without a scope: [`record::leave`] undoes it.
    #[inline]
    pub(crate) fn enter_by_hand(&self) -> Handle {
        record::enter(&self.carried)
    }

    /// Ends it, once.
    pub(crate) fn end(&mut self, ending: Ending) {
        record::finish(&std::mem::replace(&mut self.carried, Carried::NONE), ending);
    }

    #[inline]
    fn at(&self) -> Entered<'_> {
        self.enter()
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.end(Ending::default());
    }
}

impl From<Transaction> for Detached {
    /// As [`Transaction::detach`].
    fn from(transaction: Transaction) -> Self {
        transaction.detach()
    }
}

impl From<Span> for Detached {
    /// As [`Span::detach`].
    fn from(span: Span) -> Self {
        span.detach()
    }
}

impl SpanContext {
    pub(crate) fn of(handle: Handle) -> Self {
        Self { carried: record::context(handle) }
    }

    /// As [`Detached::of_child`].
    pub(crate) fn of_child(handle: Handle) -> Self {
        Self { carried: of_child(handle, record::context) }
    }

    /// Makes the span the innermost one of this thread until the scope is dropped. Costs as for
    /// [`Detached::enter`].
    #[inline]
    pub fn enter(&self) -> Entered<'static> {
        Entered::of(&self.carried)
    }
}

fn of_child(handle: Handle, carry: impl FnOnce(Handle) -> Carried) -> Carried {
    if handle.is_none() { record::unrecorded() } else { carry(handle) }
}

impl Entered<'_> {
    #[inline]
    fn of(carried: &Carried) -> Self {
        let handle = record::enter(carried);
        Self { handle, span: PhantomData, on_this_thread: PhantomData }
    }

    /// Starts a child of this span, which becomes the innermost one. A no-op guard when this span
    /// is not recorded. Costs and bounds as for [`start_child`](crate::start_child).
    #[inline]
    pub fn start_child(&self, op: impl IntoName, description: impl IntoName) -> Span {
        Span::open_of(self.handle, &op, &description)
    }

    #[inline]
    const fn at(&self) -> Handle {
        self.handle
    }

    const fn handle(&self) -> Handle {
        self.handle
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        record::leave(self.handle);
    }
}

span_methods!(Detached, Entered<'_>);
description_methods!(Entered<'_>);
