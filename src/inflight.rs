//! What every thread is doing right now.

use std::time::Duration;

use serde::Serialize;

use crate::config::OnStuck;
use crate::flush::watch::{Hook, Sighting, texts};
use crate::record;
use crate::shared::clock::Anchor;
use crate::shared::id::{SpanId, TraceId, WireIds};
use crate::shared::registry::{self, Label};
use crate::shared::ring::State;
use crate::shared::seqlock::Entry;
use crate::test::ids;

/// An open transaction, and the step it is in: on a thread, or, in a report of
/// [`Config::on_stuck`](crate::Config::on_stuck), waiting somewhere detached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InFlight {
    /// The thread's name, if it has one; none for a transaction that is on no thread.
    pub thread_name: Option<String>,
    /// The system's number of the thread; 0 where it cannot be told, and for a transaction that is
    /// on no thread.
    pub thread_id: u64,
    /// The transaction's op.
    pub op: String,
    /// The transaction's name.
    pub name: String,
    /// The transaction's trace.
    pub trace_id: TraceId,
    /// How long it has been open.
    pub age: Duration,
    /// The innermost open span; the transaction's own when no child is open.
    pub span_id: SpanId,
    /// That span's op.
    pub span_op: String,
    /// That span's description.
    pub span_description: String,
    /// How long that span has been open.
    pub span_age: Duration,
}

/// Lists what each recording thread has open, without stopping any: each is read through its
/// seqlock, and left out when its owner was faster 64 times in a row. Transactions that are not
/// sampled are not listed, nor are those that are on no thread this moment (detached and in a
/// queue, or in a future that waits): these only the flusher knows, and reports when they are open
/// for too long ([`Config::stuck_after`](crate::Config::stuck_after)). Of transactions one inside
/// the other, the innermost is listed. Allocates.
///
/// ```
/// # let guard = hotspan::init(hotspan::Config {
/// #     transport: hotspan::Delivery::Null,
/// #     traces_sample_rate: Some(1.0),
/// #     ..hotspan::Config::default()
/// # }).unwrap();
/// let _transaction = hotspan::start_transaction("queue.process", "orders");
/// let _span = hotspan::start_child("db", "load");
/// let open = hotspan::inflight();
/// assert_eq!((open[0].name.as_str(), open[0].span_op.as_str()), ("orders", "db"));
/// ```
#[must_use]
pub fn inflight() -> Vec<InFlight> {
    if !record::is_on() {
        return Vec::new();
    }
    let anchor = Anchor::now();
    registry::lanes()
        .filter(|lane| lane.ring.state() == State::Live)
        .filter_map(|lane| {
            let (span, root) = lane.spans.read()?;
            if span.key == 0 || root.key != span.root {
                return None;
            }
            let ids = (ids::trace_id(root.key), ids::span_id(span.key));
            Some(InFlight::of(lane.label(), &root, &span, &anchor, ids))
        })
        .collect()
}

/// What the flusher is given to call for [`Config::on_stuck`](crate::Config::on_stuck).
pub(crate) fn hook(on_stuck: OnStuck, wire: WireIds) -> Hook {
    let OnStuck(call) = on_stuck;
    Box::new(move |seen: &Sighting, anchor: &Anchor| {
        let ids = (wire.trace_id(seen.root.key), wire.span_id(seen.step.key));
        call(&InFlight::of(seen.label.clone(), &seen.root, &seen.step, anchor, ids));
    })
}

impl InFlight {
    fn of(
        label: Label,
        root: &Entry,
        span: &Entry,
        anchor: &Anchor,
        (trace_id, span_id): (TraceId, SpanId),
    ) -> Self {
        let ((op, name), (span_op, span_description)) = (texts(root), texts(span));
        Self {
            thread_name: label.name,
            thread_id: label.id,
            op: op.to_owned(),
            name: name.to_owned(),
            trace_id,
            age: root.age(anchor),
            span_id,
            span_op: span_op.to_owned(),
            span_description: span_description.to_owned(),
            span_age: span.age(anchor),
        }
    }
}
