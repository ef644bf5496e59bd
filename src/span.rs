//! Child spans: the guard, and what can be done with any span.

use std::marker::PhantomData;
use std::time::SystemTime;

use crate::name::IntoName;
use crate::record::{self, Handle};
use crate::shared::id::{NameId, SpanId, TraceId};
use crate::shared::layout::Kind;
use crate::shared::settings::SETTINGS;
use crate::status::SpanStatus;
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
    if record::has_parent() { Span::open(None, &op, &description) } else { Span::NONE }
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
        op: &impl IntoName,
        description: &impl IntoName,
    ) -> Self {
        let (op_id, description_id) = (op.id().0, description.id().0);
        let handle = match parent {
            None => record::open_child(op_id, description_id),
            Some(parent) => record::open_child_of(parent, op_id, description_id),
        };
        if op_id == NameId::INLINE || description_id == NameId::INLINE {
            inline_names(handle, (op_id, op.text()), (description_id, description.text()));
        }
        Self { handle, on_this_thread: PhantomData }
    }

    #[inline]
    pub(crate) fn open_of(parent: Handle, op: &impl IntoName, description: &impl IntoName) -> Self {
        if parent.is_recording() { Self::open(Some(parent), op, description) } else { Self::NONE }
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

/// Texts that the name table had no room for go into the ring.
#[cold]
#[inline(never)]
pub(crate) fn inline_names(handle: Handle, op: (NameId, &str), description: (NameId, &str)) {
    for (kind, (id, text)) in [(Kind::Op, op), (Kind::Description, description)] {
        if id == NameId::INLINE {
            record::attribute(handle, kind, NameId::INLINE, Value::Text(text));
        }
    }
}

/// Writes a tag or data. Always inlined, so that the value's type is known: 37 instructions less.
#[inline(always)]
pub(crate) fn set(handle: Handle, kind: Kind, key: &impl IntoName, value: Value<'_>) {
    if handle.is_recording() {
        match key.id().0 {
            NameId::INLINE => record::attribute_with_name(handle, kind, key.text(), value),
            id => record::attribute(handle, kind, id, value),
        }
    }
}

/// Writes what has no key.
#[inline]
pub(crate) fn set_keyless(handle: Handle, kind: Kind, value: Value<'_>) {
    if handle.is_recording() {
        record::attribute(handle, kind, NameId::NONE, value);
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
    record::root_of(handle).map(|root| SETTINGS.wire_ids().trace_id(root))
}

pub(crate) fn span_id(handle: Handle) -> Option<SpanId> {
    (!handle.is_none()).then(|| SETTINGS.wire_ids().span_id(handle.key()))
}

/// What every span can do, for the guards and for the references.
macro_rules! span_methods {
    ($($ty:ty),*) => { $(
        impl $ty {
            /// Starts a child of this span, which becomes the innermost one. A no-op guard when
            /// this span is not recorded, or has ended. Costs and bounds as for
            /// [`start_child`](crate::start_child).
            #[inline]
            pub fn start_child(&self, op: impl IntoName, description: impl IntoName) -> Span {
                Span::open_of(self.handle, &op, &description)
            }

            /// Sets a tag: indexed text to search by. Values of other types arrive as text. Keys
            /// are at most 200 characters of `a-zA-Z0-9_.:-`, spaces become `-`, any other
            /// character drops the tag, counted; values keep 200 characters. The last value of a
            /// key counts. One 64-byte slot, more for long text; never allocates for a key seen
            /// before.
            #[inline]
            pub fn set_tag(&mut self, key: impl IntoName, value: impl IntoValue) -> &mut Self {
                span::set(self.handle, Kind::Tag, &key, value.to_value());
                self
            }

            /// Sets data: a value of any type in [`IntoValue`], kept as it is. The last value of a
            /// key counts. Costs as for [`set_tag`](Self::set_tag).
            #[inline]
            pub fn set_data(&mut self, key: impl IntoName, value: impl IntoValue) -> &mut Self {
                span::set(self.handle, Kind::Data, &key, value.to_value());
                self
            }

            /// Sets data that is costly to get: `value` is called only when the span is recorded.
            #[inline]
            pub fn set_data_with<V: IntoValue>(
                &mut self,
                key: impl IntoName,
                value: impl FnOnce() -> V,
            ) -> &mut Self {
                if self.handle.is_recording() {
                    span::set(self.handle, Kind::Data, &key, value().to_value());
                }
                self
            }

            /// Sets the status; the last one counts, and a panic beats all.
            #[inline]
            pub fn set_status(&mut self, status: SpanStatus) -> &mut Self {
                if self.handle.is_recording() {
                    record::status(self.handle, status);
                }
                self
            }

            /// Sets the status from an HTTP status code (see [`SpanStatus::from_http`]), and the
            /// tag `http.status_code` and the data `http.response.status_code` with it.
            #[inline]
            pub fn set_http_status(&mut self, code: u16) -> &mut Self {
                span::set_keyless(self.handle, Kind::HttpStatus, Value::U64(u64::from(code)));
                self
            }

            /// Sets a measurement: a number with a unit (`millisecond`, `byte`, `ratio`, ..., at
            /// most 15 characters; empty: none). Sentry keeps ten on a transaction.
            pub fn set_measurement(
                &mut self,
                name: impl IntoName,
                value: f64,
                unit: &str,
            ) -> &mut Self {
                span::set_measurement(self.handle, &name, value, unit);
                self
            }

            /// Sets the status from a result: `ok`, or `internal_error`.
            #[inline]
            pub fn record_result<T, E>(&mut self, result: &Result<T, E>) -> &mut Self {
                self.set_status(match result {
                    Ok(_) => SpanStatus::Ok,
                    Err(_) => SpanStatus::InternalError,
                })
            }

            /// Gives the span another start, for work that began before the span could be started.
            pub fn started_at(&mut self, at: SystemTime) -> &mut Self {
                record::restart(self.handle, at);
                self
            }

            /// Whether what is done with the span ends up anywhere: it was sampled, and has not
            /// ended.
            #[must_use]
            pub fn is_recording(&self) -> bool {
                self.handle.is_recording() && record::is_open(self.handle)
            }

            /// The id of the trace; `None` for a no-op guard, and for a span that has ended. A
            /// transaction that was not sampled has one, too. Computed at each call.
            #[must_use]
            pub fn trace_id(&self) -> Option<TraceId> {
                span::trace_id(self.handle)
            }

            /// The id of the span; `None` for a no-op guard. Computed at each call.
            #[must_use]
            pub fn span_id(&self) -> Option<SpanId> {
                span::span_id(self.handle)
            }
        }
    )* };
}
pub(crate) use span_methods;

use crate::span;

span_methods!(Span, SpanRef);

macro_rules! description_methods {
    ($($ty:ty),*) => { $(
        impl $ty {
            /// Gives the span another description.
            pub fn set_description(&mut self, description: impl IntoName) -> &mut Self {
                span::set_description(self.handle, &description);
                self
            }
        }
    )* };
}

description_methods!(Span, SpanRef);
