//! An envelope: the unit that is queued, sent and counted.
//!
//! Its bytes are written once, by the encoder, with room for `sent_at` as the last member of the first
//! line. The member is stamped just before the bytes go to a socket, and left out of what is stored.

use std::ops::Range;

use crate::shared::id::EventId;
use crate::shared::ledger::Count;

/// `,"sent_at":"` and the time and `"`: this many bytes, always.
pub(crate) const SENT_AT_BLANK: &str = ",\"sent_at\":\"0000-00-00T00:00:00.000000Z\"";

/// What an envelope carries; decides which rate limit holds it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Category {
    /// A transaction and its spans.
    Transaction,
    /// Only a client report.
    Internal,
}

/// A finished envelope, complete but for its `sent_at`, with what it holds counted beside the bytes.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// The whole envelope. Its capacity is reused.
    pub(crate) bytes: Vec<u8>,
    /// Where [`SENT_AT_BLANK`] stands in `bytes`.
    pub(crate) sent_at: Range<usize>,
    pub(crate) category: Category,
    /// `None` for what has no id of its own, such as a client report.
    pub(crate) event_id: Option<EventId>,
    /// What is lost if this is.
    pub(crate) count: Count,
}

/// An envelope as a [`Transport`](crate::transport::Transport) gets it.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub(crate) parcel: &'a Parcel,
}

impl<'a> Envelope<'a> {
    /// All bytes, `sent_at` included, as they go to a server.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        &self.parcel.bytes
    }

    /// The bytes without the `sent_at` member, in two pieces, as they go to a disk: the Sentry spec has
    /// `sent_at` written at sending and never stored.
    #[must_use]
    pub fn without_sent_at(&self) -> [&'a [u8]; 2] {
        let bytes = self.as_bytes();
        let Range { start, end } = self.parcel.sent_at.clone();
        [bytes.get(..start).unwrap_or(bytes), bytes.get(end..).unwrap_or_default()]
    }

    /// The event id, if what it carries has one.
    #[must_use]
    pub fn event_id(&self) -> Option<EventId> {
        self.parcel.event_id
    }

    /// What it carries.
    #[must_use]
    pub fn category(&self) -> Category {
        self.parcel.category
    }

    /// Transactions and spans inside.
    #[must_use]
    pub fn count(&self) -> Count {
        self.parcel.count
    }
}
