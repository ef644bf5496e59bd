//! What can be done with any span, whoever holds it: written once, for every type that holds one.
//!
//! Each of them says by `at` where the span is: the guards of a thread by their handle, a detached
//! span by entering it for the moment.

/// What every span can do, for the guards, the references and what is detached.
macro_rules! span_methods {
    ($($ty:ty),*) => { $(
        impl $ty {
            /// Sets a tag: indexed text to search by. Values of other types arrive as text. Keys
            /// are at most 200 characters of `a-zA-Z0-9_.:-`, spaces become `-`, any other
            /// character drops the tag, counted; values keep 200 characters. The last value of a
            /// key counts. One 64-byte slot, more for long text; never allocates for a key seen
            /// before.
            #[inline]
            pub fn set_tag(&mut self, key: impl IntoName, value: impl IntoValue) -> &mut Self {
                crate::span::set(self.at().handle(), Kind::Tag, key, value);
                self
            }

            /// Sets data: a value of any type in [`IntoValue`], kept as it is. The last value of a
            /// key counts. Costs as for [`set_tag`](Self::set_tag).
            #[inline]
            pub fn set_data(&mut self, key: impl IntoName, value: impl IntoValue) -> &mut Self {
                crate::span::set(self.at().handle(), Kind::Data, key, value);
                self
            }

            /// Sets data that is costly to get: `value` is called only when the span is recorded.
            #[inline]
            pub fn set_data_with<V: IntoValue>(
                &mut self,
                key: impl IntoName,
                value: impl FnOnce() -> V,
            ) -> &mut Self {
                {
                    let at = self.at();
                    if at.handle().is_recording() {
                        crate::span::set(at.handle(), Kind::Data, key, value());
                    }
                }
                self
            }

            /// Sets the status; the last one counts, and a panic beats all.
            #[inline]
            pub fn set_status(&mut self, status: SpanStatus) -> &mut Self {
                record::status(self.at().handle(), status);
                self
            }

            /// Sets the status from an HTTP status code (see [`SpanStatus::from_http`]), and the
            /// tag `http.status_code` and the data `http.response.status_code` with it.
            #[inline]
            pub fn set_http_status(&mut self, code: u16) -> &mut Self {
                record::http_status(self.at().handle(), code);
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
                crate::span::set_measurement(self.at().handle(), &name, value, unit);
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

            /// Whether what is done with the span ends up anywhere: it was sampled, and has not
            /// ended.
            #[must_use]
            pub fn is_recording(&self) -> bool {
                let at = self.at();
                at.handle().is_recording() && record::is_open(at.handle())
            }

            /// The id of the trace; `None` for a no-op guard, and for a span that has ended. A
            /// transaction that was not sampled has one, too. Computed at each call.
            #[must_use]
            pub fn trace_id(&self) -> Option<TraceId> {
                crate::span::trace_id(self.at().handle())
            }

            /// The headers for a request that leaves from this span, so that what it causes
            /// elsewhere becomes part of the trace; of a no-op guard as
            /// [`trace_headers`](crate::trace_headers) has them. `None` for a span that has ended,
            /// and without [`init`](crate::init). Allocates only for a `baggage` of more than 512
            /// bytes.
            #[must_use]
            pub fn trace_headers(&self) -> Option<TraceHeaders> {
                crate::propagation::headers(Some(self.at().handle()))
            }

            /// Notes another span that this one has to do with: the message of a batch, an earlier
            /// attempt. `sampled`, if it is known of that trace. One slot; at most 128 are sent,
            /// 115 of a transaction, fewer beside much data: the server keeps no more.
            pub fn add_link(
                &mut self,
                trace_id: TraceId,
                span_id: SpanId,
                sampled: Option<bool>,
            ) -> &mut Self {
                crate::span::link(self.at().handle(), trace_id, span_id, sampled);
                self
            }

            /// The id of the span; `None` for a no-op guard. Computed at each call.
            #[must_use]
            pub fn span_id(&self) -> Option<SpanId> {
                crate::span::span_id(self.at().handle())
            }
        }
    )* };
}
pub(crate) use span_methods;

/// What a span of this thread can do besides.
macro_rules! local_methods {
    ($($ty:ty),*; $context:ident) => { $(
        impl $ty {
            /// Where it is.
            #[inline]
            pub(crate) const fn at(&self) -> Handle {
                self.handle
            }

            /// Starts a child of this span, which becomes the innermost one. A no-op guard when
            /// this span is not recorded, or has ended. Costs and bounds as for
            /// [`start_child`](crate::start_child).
            #[inline]
            pub fn start_child(&self, op: impl IntoName, description: impl IntoName) -> Span {
                Span::open_of(self.handle, op, description)
            }

            /// Gives the span another start, for work that began before the span could be started.
            pub fn started_at(&mut self, at: SystemTime) -> &mut Self {
                record::restart(self.handle, at);
                self
            }

            /// What other threads need to start children of this span while it is open: plain data,
            /// to be copied and sent. The transaction then waits for them with one more look of the
            /// flusher at all threads; what ends after it does is counted as `late_child`. Nothing
            /// for a span that has ended; of a no-op guard as [`Span::detach`] has it. Never
            /// allocates.
            #[must_use]
            pub fn context(&self) -> SpanContext {
                SpanContext::$context(self.handle)
            }
        }
    )* };
}
pub(crate) use local_methods;

macro_rules! description_methods {
    ($($ty:ty),*) => { $(
        impl $ty {
            /// Gives the span another description.
            pub fn set_description(&mut self, description: impl IntoName) -> &mut Self {
                crate::span::set_description(self.at().handle(), &description);
                self
            }
        }
    )* };
}
pub(crate) use description_methods;
