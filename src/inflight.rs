//! What every thread is doing right now.

use std::time::Duration;

use serde::Serialize;

use crate::shared::clock::Anchor;
use crate::shared::id::{NameId, SpanId, TraceId};
use crate::shared::ring::State;
use crate::shared::seqlock::{Entry, meta};
use crate::shared::settings::SETTINGS;
use crate::shared::{names, registry};
use crate::test::ids;

/// The open transaction of one thread, and the step it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InFlight {
    /// The thread's name, if it has one.
    pub thread_name: Option<String>,
    /// The system's number of the thread; 0 where it cannot be told.
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
/// sampled are not listed. Allocates.
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
    if !SETTINGS.is_on() {
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
            let label = lane.label();
            let (op, name) = texts(&root);
            let (span_op, span_description) = texts(&span);
            Some(InFlight {
                thread_name: label.name,
                thread_id: label.id,
                op,
                name,
                trace_id: ids::trace_id(root.key),
                age: age(&root, &anchor),
                span_id: ids::span_id(span.key),
                span_op,
                span_description,
                span_age: age(&span, &anchor),
            })
        })
        .collect()
}

#[expect(clippy::cast_possible_truncation, reason = "two halves")]
fn texts(entry: &Entry) -> (String, String) {
    let text = |id: u32| names::text(NameId(id)).unwrap_or_default().to_owned();
    (text(entry.names as u32), text((entry.names >> 32) as u32))
}

fn age(entry: &Entry, anchor: &Anchor) -> Duration {
    let start = if entry.meta & meta::START_UNIX == 0 {
        anchor.unix_nanos(entry.start)
    } else {
        entry.start
    };
    Duration::from_nanos(anchor.unix_nanos.saturating_sub(start))
}
