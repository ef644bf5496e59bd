//! What is sent on: [`Outgoing`] says what, [`TraceHeaders`] is the text.
//!
//! The text is made at once and lies in the value itself, so that a caller can take it apart,
//! merge it, or write it anywhere, without allocating.

use std::iter::Flatten;
use std::{array, fmt};

use super::baggage::{self, Room};
use super::dsc::{self, Bytes, Intake};
use super::sentry_trace::{self, SentryTrace};
use super::{BAGGAGE, SENTRY_TRACE, Short, TRACEPARENT, decimal, traceparent};
use crate::shared::id::{SpanId, TraceId};

/// What is to be sent on.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) trace_id: TraceId,
    /// The span that sends.
    pub(crate) span_id: SpanId,
    /// `None`: not decided here.
    pub(crate) sampled: Option<bool>,
    pub(crate) dsc: Dsc<'a>,
    /// Whether `traceparent` goes along.
    pub(crate) traceparent: bool,
}

/// The dynamic sampling context to send on.
#[derive(Clone, Copy)]
pub(crate) enum Dsc<'a> {
    /// The trace begins here.
    Head {
        /// In millionths. `None`: tracing is not configured, and the context says neither rate nor
        /// decision nor transaction.
        rate: Option<u32>,
        /// In millionths, below 1,000,000.
        rand: u32,
        /// The transaction's name, if it is one to group by.
        transaction: Option<&'a str>,
        /// From [`site_members`]. Empty: without a DSN's key no context is sent.
        site: &'a str,
    },
    /// A continued trace's, as it came ([`super::Incoming::members`]).
    Frozen(&'a [u8]),
    /// A continued trace's that came without.
    Empty,
}

/// A longer name of a transaction is not sent.
const TRANSACTION_MAX: usize = 2048;

/// The members that are the same in all contexts that begin in this process, made once. Empty texts
/// count as none; without a public key, which no context can do without, there are no members.
pub(crate) fn site_members(
    public_key: Option<&str>,
    release: Option<&str>,
    environment: Option<&str>,
    org_id: Option<&str>,
) -> String {
    let mut out = Bytes::new();
    let said = |text: Option<&'_ str>| text.is_some_and(|text| !text.is_empty());
    if said(public_key) {
        for (key, value) in [
            ("sentry-public_key=", public_key),
            ("sentry-org_id=", org_id),
            ("sentry-environment=", environment),
            ("sentry-release=", release),
        ] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                dsc::push(&mut out, key, value.as_bytes());
            }
        }
    }
    std::str::from_utf8(&out).unwrap_or_default().to_owned()
}

/// The headers by which whoever receives a message continues the trace.
///
/// ASCII without control characters: fit for any carrier. It holds about 700 bytes and allocates
/// nothing, unless `baggage` is longer than 512 bytes, which takes long names or a long context
/// from upstream.
///
/// ```
/// fn attach(headers: &hotspan::TraceHeaders, message: &mut Vec<(String, String)>) {
///     for (name, value) in headers {
///         message.push((name.to_owned(), value.to_owned()));
///     }
/// }
/// ```
///
/// A request that has a `baggage` already gets one that holds both, by
/// [`merge_baggage`](Self::merge_baggage).
#[derive(Clone)]
pub struct TraceHeaders {
    sentry_trace: Short<{ sentry_trace::MAX }>,
    traceparent: Option<Short<{ traceparent::LEN }>>,
    /// ASCII. Empty: there is none.
    baggage: Bytes,
}

impl TraceHeaders {
    pub(crate) fn new(outgoing: &Outgoing<'_>) -> Self {
        let &Outgoing { trace_id, span_id, sampled, dsc, traceparent } = outgoing;
        let sentry_trace = SentryTrace { trace_id, span_id, sampled }.text();
        let hex = sentry_trace.as_bytes().get(..32).unwrap_or_default();
        let baggage = members(hex, sampled, dsc);
        let traceparent = traceparent.then(|| traceparent::text(trace_id, span_id, sampled));
        Self { sentry_trace, traceparent, baggage }
    }

    /// The value of `sentry-trace`.
    #[must_use]
    pub fn sentry_trace(&self) -> &str {
        self.sentry_trace.as_str()
    }

    /// The value of `baggage` for a request that has none yet. `None`: there is nothing to send,
    /// as a continued trace came without.
    #[must_use]
    pub fn baggage(&self) -> Option<&str> {
        let text = self.own_members();
        (!text.is_empty()).then_some(text)
    }

    /// The value of W3C's `traceparent`, if it was asked for.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_ref().map(Short::as_str)
    }

    /// Names, in lower case, and values of the headers that there are.
    ///
    /// ```
    /// fn count(headers: &hotspan::TraceHeaders) -> usize {
    ///     headers.iter().map(|(name, value)| name.len() + value.len()).sum()
    /// }
    /// ```
    #[must_use]
    pub fn iter(&self) -> <&Self as IntoIterator>::IntoIter {
        let headers = [
            Some((SENTRY_TRACE, self.sentry_trace())),
            self.baggage().map(|value| (BAGGAGE, value)),
            self.traceparent().map(|value| (TRACEPARENT, value)),
        ];
        headers.into_iter().flatten()
    }

    /// Writes the `baggage` of a request that has one already: `existing` without what is Sentry's
    /// in it, then ours. The result replaces the header; if nothing is written, there is nothing to
    /// send.
    ///
    /// A header takes 8,192 bytes and 64 members; what does not fit is left out, whole members,
    /// ours first. So are members of `existing` with control characters or non-ASCII text.
    ///
    /// # Errors
    /// Those of `out`.
    ///
    /// ```
    /// fn merged(headers: &hotspan::TraceHeaders) -> Result<String, std::fmt::Error> {
    ///     let mut out = String::new();
    ///     headers.merge_baggage("tenant=blue,sentry-release=old", &mut out)?;
    ///     Ok(out) // tenant=blue,sentry-trace_id=…
    /// }
    /// ```
    pub fn merge_baggage(&self, existing: &str, out: &mut impl fmt::Write) -> fmt::Result {
        baggage::merge(existing, self.own_members(), out)
    }

    /// Writes the headers as HTTP/1.1 has them, each on a line that ends with CR and LF.
    ///
    /// # Errors
    /// Those of `out`.
    ///
    /// ```
    /// fn request(headers: &hotspan::TraceHeaders) -> Result<String, std::fmt::Error> {
    ///     let mut out = String::from("GET / HTTP/1.1\r\nhost: example.com\r\n");
    ///     headers.write_http(&mut out)?;
    ///     out.push_str("\r\n");
    ///     Ok(out)
    /// }
    /// ```
    pub fn write_http(&self, out: &mut impl fmt::Write) -> fmt::Result {
        for (name, value) in self {
            for text in [name, ": ", value, "\r\n"] {
                out.write_str(text)?;
            }
        }
        Ok(())
    }

    fn own_members(&self) -> &str {
        std::str::from_utf8(&self.baggage).unwrap_or_default()
    }
}

/// `baggage` holds a DSN's key, which is nobody's business.
impl fmt::Debug for TraceHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceHeaders")
            .field("sentry_trace", &self.sentry_trace())
            .field("baggage_bytes", &self.baggage.len())
            .field("traceparent", &self.traceparent())
            .finish()
    }
}

impl<'a> IntoIterator for &'a TraceHeaders {
    type Item = (&'static str, &'a str);
    type IntoIter = Flatten<array::IntoIter<Option<Self::Item>, 3>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The members that go out, legal in a header as they are. `trace_id` is in hex.
fn members(trace_id: &[u8], sampled: Option<bool>, dsc: Dsc<'_>) -> Bytes {
    let mut out = Bytes::new();
    match dsc {
        Dsc::Empty | Dsc::Head { site: "", .. } => {}
        Dsc::Frozen(members) if dsc::is_legal(members) => out.extend_from_slice(members),
        Dsc::Frozen(members) => out = anew(members),
        Dsc::Head { rate, rand, transaction, site } => {
            // What has a fixed greatest length is put together first, and appended at once.
            let mut own = Short::<128>::new();
            own.push(b"sentry-trace_id=");
            own.push(trace_id);
            if let Some(rate) = rate {
                own.push(b",sentry-sample_rate=");
                own.push(decimal::rate(rate).as_bytes());
                match sampled {
                    Some(true) => own.push(b",sentry-sampled=true"),
                    Some(false) => own.push(b",sentry-sampled=false"),
                    None => {}
                }
            }
            own.push(b",sentry-sample_rand=");
            own.push(decimal::rand(rand).as_bytes());
            own.push(b",");
            out.extend_from_slice(own.as_bytes());
            out.extend_from_slice(site.as_bytes());
            // The longest one stands last: it is the one that would have to go.
            let is_fit = |name: &&str| !name.is_empty() && name.len() <= TRANSACTION_MAX;
            if let (Some(_), Some(name)) = (rate, transaction.filter(is_fit)) {
                dsc::push(&mut out, "sentry-transaction=", name.as_bytes());
            }
        }
    }
    if out.len() > baggage::BYTES_MAX {
        out = shortened(&out);
    }
    out
}

/// What was handed in as a frozen context is none of ours: it is read like one that comes in.
#[cold]
fn anew(members: &[u8]) -> Bytes {
    let mut intake = Intake::default();
    intake.read(members);
    intake.finish()
}

/// Whole members that fit into a header.
#[cold]
fn shortened(members: &[u8]) -> Bytes {
    let text = std::str::from_utf8(members).unwrap_or_default();
    let mut out = Bytes::new();
    for member in baggage::fitting(text, Room::new()) {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(member.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests;
