//! Headers that carry a trace from one process to the next, in and out. Pure: nothing here reads
//! a clock, draws a random number, or knows of a client.
//!
//! ```text
//!   in    sentry-trace, baggage ─► incoming ─► Trace, the DSC's members as they came
//!   out   ids, decision, Dsc ─► outgoing ─► TraceHeaders: sentry-trace, baggage, traceparent
//! ```
//!
//! Read in this order: [`sentry_trace`] (ids and decision, one short header), [`baggage`] (a list
//! that many write to), [`dsc`] (the members of it that are Sentry's: the dynamic sampling context,
//! by which the server samples whole traces), [`incoming`] (when a trace is continued),
//! [`outgoing`] (what is sent on), [`targets`] (to whom). [`decimal`] is how rates are written.
//!
//! # Invariants
//! * P1: whatever comes in, nothing panics; ids are read by position from bytes, never by slicing
//!   text.
//! * P2: whatever is given, a header that goes out is ASCII without control characters, at most
//!   8,192 bytes and 64 members long. What does not fit goes as whole members.
//! * P3: what was said about sampling upstream is handed on unchanged: a continued trace's members
//!   are never invented, merged with our own, or completed.

pub(crate) mod baggage;
#[cfg(test)]
mod cost;
mod decimal;
pub(crate) mod dsc;
mod incoming;
mod outgoing;
pub(crate) mod publish_time;
mod sentry_trace;
mod targets;
pub(crate) mod traceparent;

pub(crate) use self::dsc::pieces;
pub use self::incoming::Incoming;
pub(crate) use self::incoming::{Policy, Trace, back_calculate, sampled_out};
pub use self::outgoing::TraceHeaders;
pub(crate) use self::outgoing::{Dsc, Outgoing, site_members};
pub use self::targets::PropagationTarget;
pub(crate) use self::targets::Targets;

/// The header with the ids. HTTP/2 and HTTP/3 want lower case.
pub(crate) const SENTRY_TRACE: &str = "sentry-trace";
/// The header with the members.
pub(crate) const BAGGAGE: &str = "baggage";
/// W3C's header with the ids.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The header with the time at which a message was published, as Sentry's SDKs name it.
pub(crate) const ENQUEUED_TIME: &str = "sentry-task-enqueued-time";

/// Whether a name is `expected`, which is lower case, with `-` or `_`.
pub(crate) fn is_named(name: &[u8], expected: &str) -> bool {
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name == expected.as_bytes()
        || name.len() == expected.len() && name.iter().map(fold).eq(expected.bytes())
}

/// Header text of a fixed greatest length, which is ASCII.
#[derive(Clone, Copy)]
pub(crate) struct Short<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Short<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// Appends what there is room for; callers give `N` room for all that they append.
    fn push(&mut self, text: &[u8]) {
        if let Some(to) = self.bytes.get_mut(self.len..self.len + text.len()) {
            to.copy_from_slice(text);
            self.len += text.len();
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}
