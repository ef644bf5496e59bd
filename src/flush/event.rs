//! A transaction as a value: what hooks see of it and may change, before it is written.
//!
//! ```text
//!   run of slots ─ decode ─► TransactionEvent ─ the host's hooks ─► ─ rewrite ─► run of slots
//! ```
//!
//! There is one encoder, and it reads slots. So what a hook changed goes back into slots
//! (`rewrite`), and what it left alone stays as it was recorded, bit by bit.
//!
//! # Invariants
//! * E1: whatever the encoder would write of a user's texts and values is in the event, under the
//!   key it was recorded with. The decoder reads every slot that the encoder reads.
//! * E2: keys, ids and times are not a hook's to change. A span that was not in the event before,
//!   or is there twice, is no span.

pub(crate) mod decode;
mod rewrite;
mod value;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::flush::encode::times;
use crate::sampling::decide::Why;
use crate::shared::clock::Anchor;
use crate::shared::id::{EventId, SpanId, TraceId, WireIds};
use crate::shared::layout::{Slot, SpanRecord};
use crate::status::SpanStatus;

use decode::{Decoded, Set};

pub(super) use rewrite::{Removed, Rewritten, rewrite};
pub use value::Value;

/// What an HTTP status sets besides the status.
const HTTP_STATUS_TAG: &str = "http.status_code";
const HTTP_STATUS_DATA: &str = "http.response.status_code";

/// One of [`Config::event_processors`](crate::Config::event_processors): gets a transaction, and
/// returns it, changed or not, or `None` to drop it.
pub type EventProcessor = Arc<dyn Fn(TransactionEvent) -> Option<TransactionEvent> + Send + Sync>;

/// [`Config::before_send_transaction`](crate::Config::before_send_transaction): the same, called
/// last.
pub type BeforeSend = EventProcessor;

/// A number with a unit.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Measurement {
    /// The number.
    pub value: f64,
    /// The unit; empty: none.
    pub unit: String,
}

impl Measurement {
    /// A measurement, to be added to an event.
    ///
    /// ```
    /// use hotspan::event::Measurement;
    ///
    /// assert_eq!(Measurement::new(2.5, "second").unit, "second");
    /// ```
    pub fn new(value: f64, unit: impl Into<String>) -> Self {
        Self { value, unit: unit.into() }
    }
}

/// Another span that one has to do with: what was given to `add_link`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// The id of its trace.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// Whether it is sampled, if that is known.
    pub sampled: Option<bool>,
}

/// A transaction that is about to be sent, for hooks to look at and to change.
///
/// Fields may be changed at will; ids, times and links are read-only. See the
/// [module](crate::event).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransactionEvent {
    /// What the server groups by.
    pub name: String,
    /// What the transaction does; empty: nothing is said of it.
    pub op: String,
    /// How it ended: what was set last, or what a panic or the end of a future made of it.
    pub status: Option<SpanStatus>,
    /// Its tags, as they were set.
    pub tags: BTreeMap<String, String>,
    /// Its data.
    pub data: BTreeMap<String, Value>,
    /// Its measurements.
    pub measurements: BTreeMap<String, Measurement>,
    /// Its children, children of children among them, in the order in which they were started.
    /// Those that are removed are not sent; what was below one hangs below its parent then.
    pub spans: Vec<SpanEvent>,
    facts: Facts,
    event_id: EventId,
    /// In millionths.
    threshold: u32,
    why: Why,
}

/// A child span of a [`TransactionEvent`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SpanEvent {
    /// What it does; empty: nothing is said of it.
    pub op: String,
    /// What it does it to; may be empty.
    pub description: String,
    /// How it ended: what was set last, or what a panic or the end of a future made of it.
    pub status: Option<SpanStatus>,
    /// Its tags, as they were set.
    pub tags: BTreeMap<String, String>,
    /// Its data.
    pub data: BTreeMap<String, Value>,
    /// Its measurements.
    pub measurements: BTreeMap<String, Measurement>,
    facts: Facts,
}

/// What is not a hook's to change (E2).
#[derive(Clone, Debug)]
struct Facts {
    key: u64,
    trace_id: TraceId,
    span_id: SpanId,
    parent_id: Option<SpanId>,
    /// Unix nanoseconds.
    start: u64,
    end: u64,
    links: Vec<Link>,
}

macro_rules! facts {
    ($ty:ident) => {
        impl $ty {
            /// The id of its trace, its own or one that was continued.
            #[must_use]
            pub const fn trace_id(&self) -> TraceId {
                self.facts.trace_id
            }

            /// Its id.
            #[must_use]
            pub const fn span_id(&self) -> SpanId {
                self.facts.span_id
            }

            /// The id of the span it is a child of. Of a transaction, that is the span which the
            /// headers named that it continues, or none.
            #[must_use]
            pub const fn parent_span_id(&self) -> Option<SpanId> {
                self.facts.parent_id
            }

            /// When it began.
            #[must_use]
            pub fn start(&self) -> SystemTime {
                UNIX_EPOCH + Duration::from_nanos(self.facts.start)
            }

            /// How long it took.
            #[must_use]
            pub const fn duration(&self) -> Duration {
                Duration::from_nanos(self.facts.end.saturating_sub(self.facts.start))
            }

            /// Its links, in the order in which they were set.
            #[must_use]
            pub fn links(&self) -> &[Link] {
                &self.facts.links
            }
        }
    };
}

facts!(TransactionEvent);
facts!(SpanEvent);

impl TransactionEvent {
    /// The id under which the server has it.
    #[must_use]
    pub const fn event_id(&self) -> EventId {
        self.event_id
    }

    /// The probability with which it was kept: what is sent as its rate. 0 to 1.
    #[must_use]
    pub fn sample_rate(&self) -> f64 {
        f64::from(self.threshold) / 1e6
    }

    /// What it was kept for, when it was not for its rate, its caller or its parent: `slow`,
    /// `slow_p99`, `failed`, `first`, `asked`.
    #[must_use]
    pub const fn kept(&self) -> Option<&'static str> {
        match self.why {
            Why::Head => None,
            why => Some(why.as_str()),
        }
    }

    /// Reads a run; `None` if it is no transaction, which the encoder says then, too.
    pub(super) fn of(run: &[Slot], wire: &WireIds, anchor: &Anchor) -> Option<Self> {
        let Decoded { root, roots, mut children, mut set } = Decoded::of(run);
        let root = root.filter(|_| roots == 1)?;
        // The encoder's children: by key, and each key once.
        children.retain(|child| child.key != root.key && child.key != 0);
        children.sort_by_key(|child| child.key);
        children.dedup_by_key(|child| child.key);
        let Set { op, description, status, tags, data, measurements, links, continued } =
            set.remove(&root.key).unwrap_or_default();
        let trace_id = match &continued {
            Some(continued) => TraceId(continued.trace_id),
            None => wire.trace_id(root.key),
        };
        let facts = |record: &SpanRecord, parent_id, links| {
            let (start, end) = times(record, anchor);
            let span_id = wire.span_id(record.key);
            Facts { key: record.key, trace_id, span_id, parent_id, start, end, links }
        };
        let parent_of = |child: &SpanRecord| {
            let found = children.binary_search_by_key(&child.parent, |other| other.key);
            let is_there = found.is_ok() && child.parent != child.key;
            Some(wire.span_id(if is_there { child.parent } else { root.key }))
        };
        let spans = children.iter().map(|child| {
            let set = set.remove(&child.key).unwrap_or_default();
            SpanEvent {
                op: set.op.unwrap_or_else(|| decode::text(child.op)),
                description: set.description.unwrap_or_else(|| decode::text(child.description)),
                status: decode::status(child, set.status),
                tags: set.tags,
                data: set.data,
                measurements: set.measurements,
                facts: facts(child, parent_of(child), set.links),
            }
        });
        Some(Self {
            spans: spans.collect(),
            name: description.unwrap_or_else(|| decode::text(root.description)),
            op: op.unwrap_or_else(|| decode::text(root.op)),
            status: decode::status(&root, status),
            tags,
            data,
            measurements,
            facts: facts(&root, continued.map(|continued| SpanId(continued.parent)), links),
            event_id: wire.event_id(root.key),
            threshold: root.threshold,
            why: Why::of(root.why),
        })
    }

    /// Whether this is what a hook made of `other`, and not of another transaction.
    pub(super) const fn is_same(&self, other: &Self) -> bool {
        self.facts.key == other.facts.key
    }

    /// Leaves of the spans those with these keys, each once (E2); returns the keys that are left.
    pub(super) fn keep_spans(&mut self, known: &Keys) -> Keys {
        let mut left = Keys::with_capacity_and_hasher(self.spans.len(), Default::default());
        self.spans.retain(|span| {
            let key = span.facts.key;
            known.contains(&key) && left.insert(key)
        });
        left
    }

    /// The keys of the spans.
    pub(super) fn span_keys(&self) -> Keys {
        self.spans.iter().map(|span| span.facts.key).collect()
    }
}

/// Keys of spans.
pub(super) type Keys = HashSet<u64, foldhash::fast::RandomState>;
