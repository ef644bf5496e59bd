//! Child spans: the guard, and what can be done with any span.

use std::marker::PhantomData;
use std::time::SystemTime;

use crate::detached::{Detached, SpanContext};
use crate::methods::{description_methods, local_methods, span_methods};
use crate::name::{IntoName, Number};
use crate::propagate::TraceHeaders;
use crate::record::{self, Handle};
use crate::shared::id::{NameId, SpanId, TraceId};
use crate::shared::layout::Kind;
use crate::shared::payload::Link;
use crate::shared::traces;
use crate::status::SpanStatus;
use crate::test::ids;
use crate::value::{IntoValue, Value};

/// Keeps a type on its thread.
pub(crate) type OnThisThread = PhantomData<*const ()>;

/// Starts a child of the innermost open span of this thread; a no-op guard when there is none, or
/// when it is not recorded. Ends when the guard is dropped.
///
/// Recorded: two clock reads and one 64-byte record. Not recorded: one load. Allocates: never, but
/// once for a name that was never seen.
///
/// ```
/// fn load(id: u64) {
///     let mut span = hotspan::start_child("db.query", "load order");
///     span.set_data("order.id", id);
/// }
/// ```
#[inline]
pub fn start_child(op: impl IntoName, description: impl IntoName) -> Span {
    if record::has_parent() { Span::open(None, op, description) } else { Span::NONE }
}

/// A child span. It ends when it is dropped, or by [`finish`](Self::finish).
///
/// It belongs to the thread that started it (it is not `Send`). A panic that unwinds through it
/// marks it `internal_error`. What ends after its transaction is not sent, and counted.
#[must_use = "a span ends when its guard is dropped: bind it, `let _span = ...`, and not to `_`"]
#[derive(Debug)]
pub struct Span {
    handle: Handle,
    on_this_thread: OnThisThread,
}

/// An open span that is held elsewhere, as [`Scope::span`](crate::Scope::span) returns it. Dropping
/// it ends nothing; using it after the span has ended does nothing.
#[derive(Clone, Copy, Debug)]
pub struct SpanRef {
    handle: Handle,
    on_this_thread: OnThisThread,
}

impl SpanRef {
    pub(crate) const fn new(handle: Handle) -> Self {
        Self { handle, on_this_thread: PhantomData }
    }
}

impl Span {
    const NONE: Self = Self { handle: Handle::NONE, on_this_thread: PhantomData };

    #[inline]
    pub(crate) fn open(
        parent: Option<Handle>,
        op: impl IntoName,
        description: impl IntoName,
    ) -> Self {
        let handle = open_named(op, description, move |op, description| match parent {
            None => record::open_child(op, description),
            Some(parent) => record::open_child_of(parent, op, description),
        });
        Self { handle, on_this_thread: PhantomData }
    }

    #[inline]
    pub(crate) fn open_of(parent: Handle, op: impl IntoName, description: impl IntoName) -> Self {
        if parent.is_recording() { Self::open(Some(parent), op, description) } else { Self::NONE }
    }

    /// Takes the span off this thread, as [`Transaction::detach`](crate::Transaction::detach) does.
    /// A no-op guard of a transaction that was not sampled stays a part of that: where it is
    /// entered nothing is recorded, and headers are the transaction's.
    pub fn detach(mut self) -> Detached {
        Detached::of_child(std::mem::replace(&mut self.handle, Handle::NONE))
    }

    /// [`detach`](Self::detach), but that a no-op guard is of nothing.
    pub(crate) fn detach_alone(mut self) -> Detached {
        Detached::of(std::mem::replace(&mut self.handle, Handle::NONE))
    }

    /// Ends the span now, as dropping it does.
    pub fn finish(self) {}

    /// Ends the span at a given time, for work whose end was noted earlier. A time before the start
    /// counts as the start.
    pub fn finish_at(mut self, at: SystemTime) {
        let handle = std::mem::replace(&mut self.handle, Handle::NONE);
        if !handle.is_none() {
            record::close_child_at(handle, at);
        }
    }
}

impl Drop for Span {
    #[inline]
    fn drop(&mut self) {
        if !self.handle.is_none() {
            record::close_child(self.handle);
        }
    }
}

/// Opens what has two names.
#[inline]
pub(crate) fn open_named<O: IntoName, D: IntoName>(
    op: O,
    description: D,
    open: impl Fn(NameId, NameId) -> Handle + Copy,
) -> Handle {
    let op_known = op.known();
    let mut description_known = Number(NameId::NONE);
    if O::is_settled(op_known) {
        description_known = description.known();
        if D::is_settled(description_known) {
            return open(op_known.0, description_known.0);
        }
    }
    open_named_slowly(op, op_known, description, description_known, open)
}

/// At a [`Name`](crate::Name)'s first use, and where the name table has no room: then the text goes
/// into the ring.
#[cold]
#[inline(never)]
fn open_named_slowly(
    op: impl IntoName,
    op_known: Number,
    description: impl IntoName,
    description_known: Number,
    open: impl Fn(NameId, NameId) -> Handle,
) -> Handle {
    let op_id = settled(&op, op_known);
    let description_id = settled(&description, description_known);
    let handle = open(op_id, description_id);
    for (kind, id, text) in
        [(Kind::Op, op_id, op.text()), (Kind::Description, description_id, description.text())]
    {
        if id == NameId::INLINE && handle.is_recording() {
            record::attribute(handle, kind, NameId::INLINE, Value::Text(text));
        }
    }
    handle
}

/// A name's number. One that was turned away is not asked about again: it was counted.
fn settled(name: &impl IntoName, known: Number) -> NameId {
    match known.0 {
        NameId::INLINE => NameId::INLINE,
        _ => name.id().0,
    }
}

/// Writes a tag or data. Always inlined, so that the value's type is known: 37 instructions less.
#[inline(always)]
pub(crate) fn set<K: IntoName>(handle: Handle, kind: Kind, key: K, value: impl IntoValue) {
    if handle.is_recording() {
        let known = key.known();
        match K::is_settled(known) {
            true => record::attribute(handle, kind, known.0, value.to_value()),
            false => set_slowly(handle, kind, key, known, value),
        }
    }
}

/// At a [`Name`](crate::Name)'s first use, and where the name table has no room.
#[cold]
#[inline(never)]
fn set_slowly(
    handle: Handle,
    kind: Kind,
    key: impl IntoName,
    known: Number,
    value: impl IntoValue,
) {
    match settled(&key, known) {
        NameId::INLINE => record::attribute_with_name(handle, kind, key.text(), value.to_value()),
        id => record::attribute(handle, kind, id, value.to_value()),
    }
}

pub(crate) fn set_measurement(handle: Handle, name: &impl IntoName, value: f64, unit: &str) {
    if handle.is_recording() {
        let unit = record::name_id(unit);
        let unit = if unit == NameId::INLINE { NameId::NONE } else { unit };
        record::measurement(handle, name.id().0, name.text(), value, unit);
    }
}

pub(crate) fn set_description(handle: Handle, text: &impl IntoName) {
    if handle.is_recording() {
        record::freeze(handle);
        let id = text.id().0;
        if id == NameId::INLINE {
            record::attribute(handle, Kind::Description, id, Value::Text(text.text()));
        } else {
            record::attribute(handle, Kind::Description, id, Value::Text(""));
            record::redescribe(handle, id);
        }
    }
}

pub(crate) fn trace_id(handle: Handle) -> Option<TraceId> {
    let root = record::root_of(handle)?;
    Some(match traces::read(root, |_| {}) {
        Some(continued) => TraceId(continued.trace_id),
        None => ids::trace_id(root),
    })
}

pub(crate) fn link(handle: Handle, trace_id: TraceId, span_id: SpanId, sampled: Option<bool>) {
    record::link(handle, &Link { trace: trace_id, span: span_id, sampled });
}

pub(crate) fn span_id(handle: Handle) -> Option<SpanId> {
    (!handle.is_none()).then(|| ids::span_id(handle.key()))
}

span_methods!(Span, SpanRef);
local_methods!(Span, SpanRef; of_child);
description_methods!(Span, SpanRef);
