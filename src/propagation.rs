//! Trace headers: reading those that came, and writing those for a request that leaves.

use std::cell::RefCell;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::propagate::{Dsc, Incoming, Outgoing, Policy, Targets, TraceHeaders, sampled_out};
use crate::record::{self, Handle, Origin};
use crate::shared::id::{SpanId, TraceId, WireIds};
use crate::shared::{clock, names, traces};
use crate::test::ids;

/// What is the same in all headers of this process, from `init` to the guard's end.
static OUTBOUND: ArcSwapOption<Outbound> = ArcSwapOption::const_empty();

/// See [`OUTBOUND`].
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    /// As [`site_members`](crate::propagate::site_members) makes it.
    pub(crate) site: String,
    pub(crate) org_id: Option<String>,
    pub(crate) strict: bool,
    pub(crate) traceparent: bool,
    pub(crate) targets: Arc<Targets>,
    /// What the environment says that this process goes on with.
    pub(crate) inherited: Incoming,
}

/// Puts in force what headers say of this process, or nothing.
pub(crate) fn set_outbound(outbound: Option<Outbound>) {
    OUTBOUND.store(outbound.map(Arc::new));
}

thread_local! {
    /// The trace of what leaves this thread outside of any transaction.
    static CONTEXT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// A trace without transactions.
struct Context {
    incoming: Incoming,
    trace_id: TraceId,
    span_id: SpanId,
    rand: u32,
}

impl Context {
    /// Goes on with what came, or begins anew.
    fn new(incoming: Incoming) -> Self {
        let wire = WireIds::from_os(clock::unix_nanos());
        let trace_id = incoming.trace_id().unwrap_or_else(|| wire.trace_id(1));
        Self { incoming, trace_id, span_id: wire.span_id(1), rand: wire.sample_rand(1) }
    }
}

/// Reads the trace headers among pairs of names and values: an HTTP request's, a message's
/// metadata, any carrier of strings. Names are read without regard to case; `sentry-trace` and
/// `baggage` count, whatever else there is does not.
///
/// A trace is continued when `sentry-trace` is valid and the organisations agree
/// ([`Config::strict_trace_continuation`](crate::Config::strict_trace_continuation)); otherwise
/// what is returned holds nothing, and what is started from it begins a trace of its own. Never
/// fails, and does not allocate unless the context in `baggage` is longer than 512 bytes.
///
/// ```
/// let headers = [
///     ("content-type", "application/json"),
///     ("sentry-trace", "4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-1"),
/// ];
/// let incoming = hotspan::continue_from(headers);
/// assert_eq!(incoming.sampled(), Some(true));
/// let transaction = incoming.start_transaction("queue.process", "orders");
/// # drop(transaction);
/// ```
pub fn continue_from<I, K, V>(headers: I) -> Incoming
where
    I: IntoIterator<Item = (K, V)>,
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let outbound = OUTBOUND.load();
    let policy = outbound.as_ref().map_or_else(Policy::default, |outbound| Policy {
        org_id: outbound.org_id.as_deref(),
        strict: outbound.strict,
    });
    Incoming::read(headers, &policy)
}

/// The headers for a request that leaves now: of the innermost open span of this thread, sampled or
/// not; where there is none, of a trace that this thread has for that. `None` before
/// [`init`](crate::init), and inside of a transaction that continues a trace when more than about
/// 1,000 do at the same time. Allocates only for a `baggage` of more than 512 bytes.
///
/// What is asked for is frozen: a transaction that is renamed afterwards goes on under its old name
/// in the context that other services sample by.
///
/// ```
/// let mut request = Vec::new();
/// if let Some(headers) = hotspan::trace_headers() {
///     for (name, value) in &headers {
///         request.push((name.to_owned(), value.to_owned()));
///     }
/// }
/// ```
#[must_use]
pub fn trace_headers() -> Option<TraceHeaders> {
    headers(None)
}

/// [`trace_headers`] for a request to this URL; `None` also if it is none of
/// [`Config::trace_propagation_targets`](crate::Config::trace_propagation_targets), or goes to the
/// DSN's server.
///
/// ```
/// # let mut request: Vec<(&str, String)> = Vec::new();
/// if let Some(headers) = hotspan::trace_headers_for("https://stock.example.com/items/5") {
///     request.push(("sentry-trace", headers.sentry_trace().to_owned()));
/// }
/// ```
#[must_use]
pub fn trace_headers_for(url: &str) -> Option<TraceHeaders> {
    let allowed = OUTBOUND.load().as_ref().is_some_and(|outbound| outbound.targets.matches(url));
    if allowed { headers(None) } else { None }
}

/// Headers of a span, or of the innermost one.
pub(crate) fn headers(of: Option<Handle>) -> Option<TraceHeaders> {
    let outbound = OUTBOUND.load();
    let outbound = outbound.as_ref()?;
    match record::origin(of.filter(|handle| !handle.is_none())) {
        Some(origin) if origin.is_continued => of_continued(outbound, &origin),
        Some(origin) => Some(of_head(outbound, &origin)),
        None => of_thread(outbound),
    }
}

fn of_head(outbound: &Outbound, origin: &Origin) -> TraceHeaders {
    TraceHeaders::new(&Outgoing {
        trace_id: ids::trace_id(origin.root),
        span_id: ids::span_id(origin.span),
        sampled: Some(origin.rand < origin.threshold),
        dsc: Dsc::Head {
            rate: Some(origin.threshold),
            rand: origin.rand,
            transaction: names::text(origin.name),
            site: &outbound.site,
        },
        traceparent: outbound.traceparent,
    })
}

fn of_continued(outbound: &Outbound, origin: &Origin) -> Option<TraceHeaders> {
    let mut dsc = smallvec::SmallVec::<[u8; 512]>::new();
    let continued = traces::read(origin.root, |bytes| dsc.extend_from_slice(bytes))?;
    Some(TraceHeaders::new(&Outgoing {
        trace_id: TraceId(continued.trace_id),
        span_id: ids::span_id(origin.span),
        sampled: Some(continued.rand < origin.threshold),
        dsc: if dsc.is_empty() { Dsc::Empty } else { Dsc::Frozen(&dsc) },
        traceparent: outbound.traceparent,
    }))
}

/// Without a transaction nothing is decided here: what came is handed on.
fn of_thread(outbound: &Outbound) -> Option<TraceHeaders> {
    let made = CONTEXT.try_with(|context| {
        let mut context = context.try_borrow_mut().ok()?;
        let context = context.get_or_insert_with(|| Context::new(outbound.inherited.clone()));
        Some(TraceHeaders::new(&Outgoing {
            trace_id: context.trace_id,
            span_id: context.span_id,
            sampled: sampled_out(None, context.incoming.trace()),
            dsc: context.incoming.dsc().unwrap_or(Dsc::Head {
                rate: None,
                rand: context.rand,
                transaction: None,
                site: &outbound.site,
            }),
            traceparent: outbound.traceparent,
        }))
    });
    made.ok().flatten()
}

impl Incoming {
    /// Makes this the trace of what leaves the calling thread outside of any transaction, until
    /// another one is adopted. A transaction that is started from it while tracing is off
    /// (`traces_sample_rate` not set) does so by itself. Allocates on a thread's first use.
    pub fn adopt(&self) {
        let _ = CONTEXT.try_with(|context| {
            if let Ok(mut context) = context.try_borrow_mut() {
                *context = Some(Context::new(self.clone()));
            }
        });
    }

    /// The trace that the process was started in: `SENTRY_TRACE` and `SENTRY_BAGGAGE` of its
    /// environment, as `init` found them (unless `SENTRY_USE_ENVIRONMENT` says no). Nothing before
    /// `init`.
    #[must_use]
    pub fn from_environment() -> Self {
        OUTBOUND.load().as_ref().map(|outbound| outbound.inherited.clone()).unwrap_or_default()
    }
}
