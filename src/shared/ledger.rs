//! The books of the flushing side: what became of every span that left its thread.
//!
//! What happens on a recording thread is counted in that thread's ring (`ring.rs`), by its only
//! writer. Everything later is counted here, once, by whoever drops or delivers. Spans and
//! transactions are two ledgers of the same shape; a transaction of n children counts as 1 and n +
//! 1.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::per_process::PerProcess;

pub(crate) mod sampling;
pub(crate) mod spool;

use sampling::Sampling;
use spool::Spool;

/// Why something was not delivered. The list is closed: a loss without a reason cannot be written
/// down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The ring of the recording thread, or the memory that all rings share, was full.
    RingFull,
    /// A recording call was entered from inside another one on the same thread (a signal handler,
    /// an allocator).
    Reentrant,
    /// The thread had no ring: too many threads at once, or the thread was already being torn down.
    NoRing,
    /// A child of more spans open on one thread, one inside the other, than can be told apart
    /// (256).
    TooDeep,
    /// More children than `Config::max_spans`, or than the server would keep.
    TransactionLimit,
    /// A child that ended after its transaction, on another thread.
    LateChild,
    /// It was still open when its transaction ended, or when its thread did, or it was given up
    /// with everything open on its thread, as forgotten guards are when they become too many.
    Unfinished,
    /// Children whose transaction did not end in time (`Config::open_age`), or was one too many
    /// among the unfinished (`open_transactions`, `open_slots`).
    Evicted,
    /// One of [`Config::event_processors`](crate::Config::event_processors) dropped it, or
    /// panicked.
    EventProcessor,
    /// [`Config::before_send_transaction`](crate::Config::before_send_transaction) dropped it, or
    /// panicked.
    BeforeSend,
    /// Larger than the server takes, or not fit to be written.
    Invalid,
    /// The queue to the uploader was full.
    QueueFull,
    /// A rate limit that the server had announced was active.
    RateLimited,
    /// The server refused this very request with 429. Not reported: the server counted it.
    Refused,
    /// The server answered with an error other than 429.
    SendError,
    /// No answer: connection, time-out, TLS.
    NetworkError,
    /// The flusher or a transport panicked, or has been given up for it.
    Internal,
    /// It was the oldest in a spool that had no more room (`Config::spool_bytes`,
    /// `spool_envelopes`), or had been there for too long (`spool_age`).
    SpoolEvicted,
    /// Its copy in the spool could not be read again.
    SpoolDamaged,
    /// It ended after the library was closed.
    AfterShutdown,
    /// It was still waiting when the time for closing ran out.
    ShutdownDeadline,
}

impl Reason {
    /// All of them, in the order of the enum.
    pub(crate) const ALL: [Self; 21] = [
        Self::RingFull,
        Self::Reentrant,
        Self::NoRing,
        Self::TooDeep,
        Self::TransactionLimit,
        Self::LateChild,
        Self::Unfinished,
        Self::Evicted,
        Self::EventProcessor,
        Self::BeforeSend,
        Self::Invalid,
        Self::QueueFull,
        Self::RateLimited,
        Self::Refused,
        Self::SendError,
        Self::NetworkError,
        Self::Internal,
        Self::SpoolEvicted,
        Self::SpoolDamaged,
        Self::AfterShutdown,
        Self::ShutdownDeadline,
    ];

    /// The name in `stats()` and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::Reentrant => "reentrant",
            Self::NoRing => "no_ring",
            Self::TooDeep => "too_deep",
            Self::TransactionLimit => "transaction_limit",
            Self::LateChild => "late_child",
            Self::Unfinished => "unfinished",
            Self::Evicted => "evicted",
            Self::EventProcessor => "event_processor",
            Self::BeforeSend => "before_send",
            Self::Invalid => "invalid",
            Self::QueueFull => "queue_full",
            Self::RateLimited => "rate_limited",
            Self::Refused => "refused",
            Self::SendError => "send_error",
            Self::NetworkError => "network_error",
            Self::Internal => "internal",
            Self::SpoolEvicted => "spool_evicted",
            Self::SpoolDamaged => "spool_damaged",
            Self::AfterShutdown => "after_shutdown",
            Self::ShutdownDeadline => "shutdown_deadline",
        }
    }

    /// Whether it is the host's own code that drops it: nothing that anybody has to be told of.
    pub(crate) const fn is_wanted(self) -> bool {
        matches!(self, Self::EventProcessor | Self::BeforeSend)
    }

    /// The reason in Sentry's client reports (the spec's list is closed: unknown names are
    /// discarded); `None` for what must not or cannot be reported.
    #[must_use]
    pub const fn client_report(self) -> Option<&'static str> {
        Some(match self {
            Self::RingFull | Self::TooDeep | Self::TransactionLimit | Self::Unfinished => {
                "buffer_overflow"
            }
            Self::QueueFull => "queue_overflow",
            Self::RateLimited => "ratelimit_backoff",
            Self::SendError => "send_error",
            Self::NetworkError => "network_error",
            Self::EventProcessor => "event_processor",
            Self::BeforeSend => "before_send",
            Self::Invalid => "invalid",
            Self::SpoolEvicted | Self::SpoolDamaged => "cache_overflow",
            Self::Reentrant | Self::NoRing | Self::LateChild | Self::Evicted | Self::Internal => {
                "internal_sdk_error"
            }
            Self::Refused | Self::AfterShutdown | Self::ShutdownDeadline => return None,
        })
    }
}

/// How many transactions, and how many spans (each root counted among them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Transactions.
    pub transactions: u64,
    /// Spans, roots included.
    pub spans: u64,
}

impl Count {
    /// A transaction with `children` children.
    pub(crate) const fn transaction(children: u64) -> Self {
        Self { transactions: 1, spans: 1 + children }
    }

    /// Spans that are lost without their transaction being lost.
    pub(crate) const fn spans(spans: u64) -> Self {
        Self { transactions: 0, spans }
    }

    pub(crate) const fn is_zero(self) -> bool {
        self.transactions == 0 && self.spans == 0
    }
}

impl std::ops::Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            transactions: self.transactions.saturating_add(other.transactions),
            spans: self.spans.saturating_add(other.spans),
        }
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::ops::Sub for Count {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            transactions: self.transactions.saturating_sub(other.transactions),
            spans: self.spans.saturating_sub(other.spans),
        }
    }
}

/// A counter pair that several threads add to. Relaxed: nothing is published through it; readers
/// want a number, and take sinks before sources so that no snapshot shows more out than in.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    transactions: AtomicU64,
    spans: AtomicU64,
}

impl Tally {
    pub(crate) const fn new() -> Self {
        Self { transactions: AtomicU64::new(0), spans: AtomicU64::new(0) }
    }

    pub(crate) fn add(&self, count: Count) {
        self.transactions.fetch_add(count.transactions, Ordering::Relaxed);
        self.spans.fetch_add(count.spans, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Count {
        Count {
            transactions: self.transactions.load(Ordering::Relaxed),
            spans: self.spans.load(Ordering::Relaxed),
        }
    }

    /// Reads and resets, cell by cell: what is added meanwhile stays for the next time.
    pub(crate) fn take(&self) -> Count {
        Count {
            transactions: self.transactions.swap(0, Ordering::Relaxed),
            spans: self.spans.swap(0, Ordering::Relaxed),
        }
    }
}

/// A single number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Total(AtomicU64);

impl Total {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A tally per reason.
#[derive(Debug)]
pub(crate) struct Losses([Tally; Reason::ALL.len()]);

impl Losses {
    pub(crate) const fn new() -> Self {
        Self([const { Tally::new() }; Reason::ALL.len()])
    }

    #[expect(clippy::indexing_slicing, reason = "one cell per variant, by ALL's length")]
    pub(crate) fn of(&self, reason: Reason) -> &Tally {
        &self.0[reason as usize]
    }
}

/// The books of one process: who drops or delivers writes here, once.
#[derive(Debug)]
pub(crate) struct Books {
    /// Taken out of the rings.
    pub(crate) collected: Tally,
    /// What threads began without a ring to record it in.
    pub(crate) no_ring: Tally,
    /// Detached spans that ended where no ring could be had; they are lost, too.
    pub(crate) settled: Tally,
    /// Accepted by the server.
    pub(crate) delivered: Tally,
    /// Recorded on trial, and not kept in the end: no loss. What a thread took back itself is
    /// counted in its lane.
    pub(crate) discarded: Tally,
    /// Everything that was lost after it left its thread, for ever.
    pub(crate) lost: Losses,
    /// The losses that no client report has carried yet, those of the recording threads included.
    pub(crate) unreported: Losses,
    /// What recording threads lost, as the flusher last saw it in their lanes: for those who watch
    /// losses and not for the sum.
    pub(crate) lost_on_threads: Losses,
    /// What sampling left out.
    pub(crate) sampling: Sampling,
    /// What went through the spool.
    pub(crate) spool: Spool,
    /// What the flusher is through with: queued, kept, lost or discarded. What is collected and not
    /// here waits in the assembler, or is being encoded.
    pub(crate) handed_on: Tally,
    /// Texts and lists that the encoder shortened.
    pub(crate) cut: Total,
    /// Attributes that the encoder left out: the server would not take them.
    pub(crate) attributes_dropped: Total,
    /// Attributes that came after their transaction, or were given up with it.
    pub(crate) attributes_late: Total,
    /// Cycles of the flusher, and how often it, or an uploader, had to start anew.
    pub(crate) cycles: Total,
    pub(crate) restarts: Total,
    /// Envelopes that were sent once more, as no answer had come.
    pub(crate) retries: Total,
    /// How often the wall clock was set, or the machine slept.
    pub(crate) clock_jumps: Total,
    /// Transactions that were reported as stuck.
    pub(crate) stuck: Total,
    /// Continued traces for which there was no place to be found again.
    pub(crate) traces_lost: Total,
    /// Panics of the host's functions.
    pub(crate) callback_panics: Total,
    /// Messages that were received before they were published, by two clocks.
    pub(crate) messages_skewed: Total,
}

impl Books {
    pub(crate) const fn new() -> Self {
        Self {
            collected: Tally::new(),
            no_ring: Tally::new(),
            settled: Tally::new(),
            delivered: Tally::new(),
            discarded: Tally::new(),
            lost: Losses::new(),
            unreported: Losses::new(),
            lost_on_threads: Losses::new(),
            sampling: Sampling::new(),
            spool: Spool::new(),
            handed_on: Tally::new(),
            cut: Total::new(),
            attributes_dropped: Total::new(),
            attributes_late: Total::new(),
            cycles: Total::new(),
            restarts: Total::new(),
            retries: Total::new(),
            clock_jumps: Total::new(),
            stuck: Total::new(),
            traces_lost: Total::new(),
            callback_panics: Total::new(),
            messages_skewed: Total::new(),
        }
    }

    /// Writes down a loss, for `stats()` and for the next client report.
    pub(crate) fn lose(&self, reason: Reason, count: Count) {
        if count.is_zero() {
            return;
        }
        self.lost.of(reason).add(count);
        if reason.client_report().is_some() {
            self.unreported.of(reason).add(count);
        }
    }

    /// What was lost for this reason, for those who watch.
    pub(crate) fn lost_so_far(&self, reason: Reason) -> Count {
        self.lost.of(reason).read() + self.lost_on_threads.of(reason).read()
    }
}

static BOOKS: PerProcess<Books> = PerProcess::new(Books::new());

/// The books of this process. Those who write two entries that belong together write them into one
/// and the same.
pub(crate) fn books() -> &'static Books {
    BOOKS.current()
}

/// Opens new books, in a fork's child: what the parent has lost and not reported is its own.
pub(crate) fn open_new_books() {
    BOOKS.renew(Books::new());
}
