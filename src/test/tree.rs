//! What a capture gives back: trees, to be walked and asserted on.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::flush::event::{Link, Measurement, Value};
use crate::sampling::decide::Why;
use crate::shared::id::{SpanId, TraceId};
use crate::shared::ledger::{Count, Reason};
use crate::status::SpanStatus;

use super::text;

/// One span.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) op: String,
    pub(super) description: String,
    pub(super) status: Option<SpanStatus>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) data: BTreeMap<String, Value>,
    pub(super) measurements: BTreeMap<String, Measurement>,
    pub(super) links: Vec<Link>,
    /// Unix nanoseconds.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) parent_id: Option<SpanId>,
    /// 0: a transaction.
    pub(super) depth: usize,
    /// The first one behind it that is not below it.
    pub(super) after: usize,
    pub(super) lost: u32,
    pub(super) unfinished: u32,
    /// Of its transaction, in millionths.
    pub(super) threshold: u32,
    pub(super) why: Why,
}

/// A span that had not ended when the capture did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Open {
    /// Its op; empty when it is not known.
    pub op: String,
    /// Its description; of a transaction, its name. Empty when it is not known.
    pub description: String,
    /// Whether it is a transaction.
    pub is_transaction: bool,
}

/// What was recorded during a capture.
///
/// It prints ([`Display`](fmt::Display), and [`Debug`] the same) as a tree, a line for each span,
/// children indented by two spaces; what is open or lost follows at the end, each in a line of its
/// own. Times and ids are left out, so the text is the same in every run, and fit for a snapshot;
/// [`with_times`](Self::with_times) has them.
///
/// ```text
/// orders [queue.process] ok tags{queue="eu"}
///   GET / [http] internal_error data{rows=3}
/// lost: late_child 1 span
/// ```
#[must_use = "a capture is made to be looked at"]
#[derive(Clone)]
pub struct Captured {
    /// Transaction after transaction, each before its children.
    pub(super) records: Vec<Record>,
    pub(super) open: Vec<Open>,
    pub(super) lost: BTreeMap<Reason, Count>,
    pub(super) elsewhere: BTreeMap<Reason, Count>,
}

impl Captured {
    /// The transactions, in the order of their start on the capturing thread; those of threads that
    /// joined by a [`Handle`](super::Handle) follow.
    #[must_use]
    pub fn transactions(&self) -> Vec<Node<'_>> {
        self.siblings(0, self.records.len()).collect()
    }

    /// The only transaction.
    ///
    /// # Panics
    /// When there is none, or more than one; shows what there is.
    #[must_use]
    #[track_caller]
    #[expect(clippy::panic, reason = "made for tests")]
    pub fn transaction(&self) -> Node<'_> {
        match self.transactions().as_slice() {
            [one] => *one,
            all => panic!("expected one transaction, found {}:\n{self}", all.len()),
        }
    }

    /// The first span, transactions included, with this description (of a transaction: its name),
    /// in the order in which they are printed.
    #[must_use]
    pub fn find(&self, description: &str) -> Option<Node<'_>> {
        self.all().find(|node| node.description() == description)
    }

    /// Every span of every transaction, in the order in which they are printed.
    pub fn all(&self) -> impl Iterator<Item = Node<'_>> {
        (0..self.records.len()).filter_map(|index| self.node(index))
    }

    /// Transactions and detached spans that had not ended when the closure returned. Wait in the
    /// closure for the threads that work on them.
    #[must_use]
    pub fn open(&self) -> &[Open] {
        &self.open
    }

    /// What was recorded and lost, by reason; no reason without a loss. What is counted is what the
    /// capturing thread lost, with those that joined, and what was given up of its transactions
    /// later, wherever it was recorded. See [`lost_elsewhere`](Self::lost_elsewhere), too.
    #[must_use]
    pub const fn lost(&self) -> &BTreeMap<Reason, Count> {
        &self.lost
    }

    /// What may have been lost besides: whatever was lost meanwhile on threads that started spans
    /// of this capture without having joined it, and on threads that found no room to record at
    /// all. Not among [`lost`](Self::lost) and not printed, as it may be somebody else's; have
    /// threads join by a [`Handle`](super::Handle) to know.
    #[must_use]
    pub const fn lost_elsewhere(&self) -> &BTreeMap<Reason, Count> {
        &self.elsewhere
    }

    /// Whether nothing was [`lost`](Self::lost) and nothing is [`open`](Self::open).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.open.is_empty() && self.lost.is_empty()
    }

    /// The text with times and ids behind each span: when it began (seconds since 1970), how long
    /// it took, its trace id, its span id, and the one that a continued trace came from. The same
    /// in every run when clock and ids are fixed.
    #[must_use]
    pub const fn with_times(&self) -> impl fmt::Display + '_ {
        text::WithTimes(self)
    }

    fn node(&self, index: usize) -> Option<Node<'_>> {
        Some(Node { captured: self, record: self.records.get(index)?, index })
    }

    /// The spans at `first` and behind it, up to `end`, without what is below them.
    fn siblings(&self, first: usize, end: usize) -> impl Iterator<Item = Node<'_>> {
        let at = move |index: usize| (index < end).then(|| self.node(index)).flatten();
        std::iter::successors(at(first), move |node| at(node.record.after))
    }
}

/// One span in what was captured, and what is below it. To be copied; prints like
/// [`Captured`].
#[derive(Clone, Copy)]
pub struct Node<'a> {
    captured: &'a Captured,
    pub(super) record: &'a Record,
    index: usize,
}

impl<'a> Node<'a> {
    /// Its op.
    #[must_use]
    pub fn op(&self) -> &'a str {
        &self.record.op
    }

    /// Its description; of a transaction, its name.
    #[must_use]
    pub fn description(&self) -> &'a str {
        &self.record.description
    }

    /// Its status, if it has one: what was set last, or what a panic or the end of a future made of
    /// it.
    #[must_use]
    pub const fn status(&self) -> Option<SpanStatus> {
        self.record.status
    }

    /// Its tags, as they were set: what a server would not take is here, too.
    #[must_use]
    pub const fn tags(&self) -> &'a BTreeMap<String, String> {
        &self.record.tags
    }

    /// A tag.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<&'a str> {
        self.record.tags.get(key).map(String::as_str)
    }

    /// Its data.
    #[must_use]
    pub const fn all_data(&self) -> &'a BTreeMap<String, Value> {
        &self.record.data
    }

    /// One of its data.
    #[must_use]
    pub fn data(&self, key: &str) -> Option<&'a Value> {
        self.record.data.get(key)
    }

    /// Its measurements.
    #[must_use]
    pub const fn measurements(&self) -> &'a BTreeMap<String, Measurement> {
        &self.record.measurements
    }

    /// When it began.
    #[must_use]
    pub fn start(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.record.start)
    }

    /// How long it took.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        Duration::from_nanos(self.record.end.saturating_sub(self.record.start))
    }

    /// Its links, in the order in which they were set: more than a server would keep, too.
    #[must_use]
    pub fn links(&self) -> &'a [Link] {
        &self.record.links
    }

    /// The id of its trace, its own or one that was continued: what `trace_id()` said while it was
    /// open.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        self.record.trace_id
    }

    /// Its id: what `span_id()` said while it was open, unless ids are fixed and another thread
    /// started it.
    #[must_use]
    pub const fn span_id(&self) -> SpanId {
        self.record.span_id
    }

    /// The id of the span it is a child of. Of a transaction that continues a trace, that is the
    /// span which the headers named; of another one, `None`.
    #[must_use]
    pub const fn parent_span_id(&self) -> Option<SpanId> {
        self.record.parent_id
    }

    /// Whether it is a transaction.
    #[must_use]
    pub const fn is_transaction(&self) -> bool {
        self.record.depth == 0
    }

    /// The probability with which its transaction was kept: what is sent as its rate. 0 to 1.
    #[must_use]
    pub fn sample_rate(&self) -> f64 {
        f64::from(self.record.threshold) / 1e6
    }

    /// Of a transaction: what it was kept for, when it was not for its rate, its caller or its
    /// parent: `slow`, `slow_p99`, `failed`, `first`, `asked`.
    #[must_use]
    pub const fn kept(&self) -> Option<&'static str> {
        match self.record.why {
            Why::Head => None,
            why => Some(why.as_str()),
        }
    }

    /// Of a transaction: records of it that were lost, attributes included.
    #[must_use]
    pub const fn lost(&self) -> u32 {
        self.record.lost
    }

    /// Of a transaction: children that were open when it ended.
    #[must_use]
    pub const fn unfinished(&self) -> u32 {
        self.record.unfinished
    }

    /// Its children, by start; those that started at the same moment in the order of starting.
    #[must_use]
    pub fn children(&self) -> Vec<Self> {
        self.captured.siblings(self.index + 1, self.record.after).collect()
    }

    /// Its children with this description.
    #[must_use]
    pub fn children_named(&self, description: &str) -> Vec<Self> {
        let mut children = self.children();
        children.retain(|child| child.description() == description);
        children
    }

    /// The first span below it with this description, in the order in which they are printed.
    #[must_use]
    pub fn find(&self, description: &str) -> Option<Self> {
        self.below().find(|node| node.description() == description)
    }

    /// Every span below it, in the order in which they are printed.
    pub fn below(&self) -> impl Iterator<Item = Self> + use<'a> {
        let captured = self.captured;
        (self.index + 1..self.record.after).filter_map(|index| captured.node(index))
    }
}
