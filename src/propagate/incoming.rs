//! What came with a message, and whether its trace is continued.
//!
//! | `sentry-trace` | our members of `baggage` | |
//! |---|---|---|
//! | valid | some | continued; the members are handed on as they came |
//! | valid | none | continued; no members are sent on: they are not ours to invent |
//! | invalid, missing | any | a new trace begins here; the members are forgotten |
//!
//! Organisations come first: a trace from another one (`sentry-org_id` differs from the own) is not
//! continued, ever. Where only one side says which organisation it is of, it depends on
//! `strict_trace_continuation`.

use std::fmt;

use super::dsc::{self, Bytes, Intake};
use super::outgoing::Dsc;
use super::sentry_trace::SentryTrace;
use super::{BAGGAGE, SENTRY_TRACE, decimal, is_named};
use crate::shared::id::{SpanId, TraceId};

/// Whose traces are continued.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy<'a> {
    /// The own organisation. Empty is none.
    pub(crate) org_id: Option<&'a str>,
    /// Whether both sides must say which organisation they are of, or neither.
    pub(crate) strict: bool,
}

/// Where a continued trace came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) trace_id: TraceId,
    /// The span that sent this.
    pub(crate) parent: SpanId,
    /// What was decided upstream; `None`: nothing yet.
    pub(crate) sampled: Option<bool>,
    /// The rate used upstream, in millionths.
    pub(crate) rate: Option<u32>,
    /// The trace's random number, in millionths.
    pub(crate) rand: Option<u32>,
}

/// What came with a message: the trace it belongs to, if there is one to continue.
///
/// It holds about 700 bytes and is read without allocating, unless the sender's context is longer
/// than 512 bytes.
///
/// ```
/// fn say(incoming: &hotspan::Incoming) {
///     match (incoming.trace_id(), incoming.sampled()) {
///         (Some(trace), Some(true)) => println!("part of {trace}, which is kept"),
///         (Some(trace), _) => println!("part of {trace}"),
///         (None, _) => println!("the first of its trace"),
///     }
/// }
/// say(&hotspan::Incoming::default()); // nothing came
/// ```
#[derive(Clone, Default)]
pub struct Incoming {
    trace: Option<Trace>,
    /// Legal in a header as they are, at most [`dsc::BYTES_MAX`] long. Empty without a trace.
    members: Bytes,
}

impl Incoming {
    /// Looks through pairs of names and values, whatever else is among them.
    ///
    /// Names are read without regard to case, with `-` or `_`: `sentry-trace`, `SENTRY_TRACE`;
    /// `baggage`, `SENTRY_BAGGAGE`. Of several `sentry-trace` the first valid one counts; several
    /// `baggage` are one list.
    pub(crate) fn read<I, K, V>(headers: I, policy: &Policy<'_>) -> Self
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut trace = None;
        let mut intake = Intake::default();
        for (name, value) in headers {
            let (name, value) = (name.as_ref(), value.as_ref());
            if is_named(name, SENTRY_TRACE) {
                trace = trace.or_else(|| SentryTrace::first(value));
            } else if is_named(name, BAGGAGE) || is_named(name, "sentry-baggage") {
                intake.read(value);
            }
        }
        let theirs = intake.find(b"org_id").map(dsc::text);
        match trace {
            Some(trace) if policy.continues(theirs.as_deref()) => {
                Self { trace: Some(Trace::new(trace, &intake)), members: intake.finish() }
            }
            _ => Self::default(),
        }
    }

    /// The trace to continue, if there is one.
    pub(crate) fn trace(&self) -> Option<&Trace> {
        self.trace.as_ref()
    }

    /// The context's members as they came: `sentry-a=b,sentry-c=d`, legal in a header.
    pub(crate) fn members(&self) -> &[u8] {
        &self.members
    }

    /// What is sent on of a continued trace; `None`: it begins here, and so does the context.
    pub(crate) fn dsc(&self) -> Option<Dsc<'_>> {
        self.trace?;
        Some(if self.members.is_empty() { Dsc::Empty } else { Dsc::Frozen(&self.members) })
    }

    /// The trace that is continued. `None`: nothing valid came, or it came from another
    /// organisation; a new trace begins.
    #[must_use]
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace.map(|trace| trace.trace_id)
    }

    /// The span upstream that sent this, if a trace is continued.
    #[must_use]
    pub fn parent_span_id(&self) -> Option<SpanId> {
        self.trace.map(|trace| trace.parent)
    }

    /// What was decided upstream. `None`: nothing, or no trace is continued.
    #[must_use]
    pub fn sampled(&self) -> Option<bool> {
        self.trace.and_then(|trace| trace.sampled)
    }

    /// The share of traces kept upstream, 0 to 1, in steps of a millionth (rounded up). `None`:
    /// it did not say, or no trace is continued.
    #[must_use]
    pub fn sample_rate(&self) -> Option<f64> {
        self.trace.and_then(|trace| trace.rate).map(|rate| f64::from(rate) / 1e6)
    }
}

/// The members hold a DSN's key, which is nobody's business.
impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("trace", &self.trace)
            .field("members", &dsc::raw_members(&self.members).count())
            .finish()
    }
}

impl Trace {
    fn new(header: SentryTrace, members: &Intake) -> Self {
        let SentryTrace { trace_id, span_id, sampled } = header;
        let rate = members.find(b"sample_rate").and_then(decimal::parse_rate);
        let rand = members.find(b"sample_rand").and_then(decimal::parse_rand);
        Self { trace_id, parent: span_id, sampled, rate, rand }
    }
}

impl Policy<'_> {
    fn continues(&self, theirs: Option<&str>) -> bool {
        let said = |org: &&str| !org.is_empty();
        let own = self.org_id.map(str::trim).filter(said);
        match (own, theirs.map(str::trim).filter(said)) {
            (Some(own), Some(theirs)) => own == theirs,
            (None, None) => true,
            _ => !self.strict,
        }
    }
}

/// What goes into the `sentry-trace` of this process: its own decision; where it makes none, as
/// tracing is not configured, the one that came, and none if none came.
pub(crate) fn sampled_out(own: Option<bool>, incoming: Option<&Trace>) -> Option<bool> {
    own.or_else(|| incoming.and_then(|trace| trace.sampled))
}

/// The trace's random number in millionths: the one that came, else one that fits to what was
/// decided upstream and at which rate, drawn from `random`.
pub(crate) fn back_calculate(trace: &Trace, random: u64) -> u32 {
    const MILLION: u32 = 1_000_000;
    if let Some(rand) = trace.rand {
        return rand;
    }
    let (low, high) = match (trace.sampled, trace.rate) {
        // Nothing is kept at 0, and nothing dropped at 1: such a pair says nothing.
        (Some(true), Some(rate)) if rate > 0 => (0, rate.min(MILLION)),
        (Some(false), Some(rate)) if rate < MILLION => (rate, MILLION),
        _ => (0, MILLION),
    };
    let drawn = (u128::from(random) * u128::from(high - low)) >> 64;
    low + u32::try_from(drawn).unwrap_or_default()
}

#[cfg(test)]
mod tests;
