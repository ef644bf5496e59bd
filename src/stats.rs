//! [`stats`]: the books, readable at any time.

use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::guard;
use crate::shared::ledger::{self, Books, Count, Reason};
use crate::shared::ring::State;
use crate::shared::{clock, names, registry};

mod sampling;

pub use sampling::Decisions;

/// The books of this process since it started: what was begun, and what became of it.
///
/// At rest, with nothing open and nothing on the way, `started = delivered + dropped + discarded`
/// exactly. With a spool there is one more source, `spool.recovered`, and there are two more places
/// to be in, `in_spool` and `spool.left_behind`. See [`check`](Self::check). While the loop runs,
/// sinks are read before sources, so a snapshot never shows more out than in.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Begun and sampled, or lost before that could be decided. Children are added when their
    /// transaction ends.
    pub started: Count,
    /// Open at this moment; exact for threads that stand still.
    pub open: Count,
    /// Ended, and not yet collected by the flusher: what is left when all else is taken from
    /// `started`.
    pub in_rings: Count,
    /// Collected, and waiting for their transaction to end, or being encoded, or encoded just now.
    pub in_assembly: Count,
    /// Waiting for the uploader.
    pub in_queue: Count,
    /// Being sent, or being written to the spool.
    pub in_flight: Count,
    /// In the spool of this process, on disk.
    pub in_spool: Count,
    /// Accepted by the server, or by whatever transport there is.
    pub delivered: Count,
    /// Lost, by reason; reasons for which nothing was lost are not there.
    pub dropped: BTreeMap<Reason, Count>,
    /// Spans lost a second, by reason, over the last minute (or since `init`, if that was later).
    /// Reasons for which nothing was lost meanwhile are not there.
    pub losses_per_second: BTreeMap<Reason, f64>,
    /// Recorded on trial, and not kept at their end: they met no condition of their rule, or code
    /// asked for that. Not lost: among `started`, and not among `dropped`.
    pub discarded: Count,
    /// Transactions that sampling left out at their start; not among `started`.
    pub unsampled: u64,
    /// Tags, data and the like that found no room in a ring, or came after their transaction had
    /// ended.
    pub attributes_lost: u64,
    /// Tags, data and the like that were left out because the server would not take them.
    pub attributes_dropped: u64,
    /// Texts and lists that were shortened to their bounds.
    pub cut: u64,
    /// Children that ended after their transaction (counted as `unfinished` when that ended).
    pub late: u64,
    /// Guards that ended while a later one was open.
    pub misnested: u64,
    /// Transactions that were reported as open for longer than
    /// [`Config::stuck_after`](crate::Config::stuck_after).
    pub stuck: u64,
    /// Panics of the host's functions in [`Config`](crate::Config): `traces_sampler`,
    /// `event_processors`, `before_send_transaction`, and `on_stuck`, which after three of one
    /// `init` is not called again.
    pub callback_panics: u64,
    /// Messages that were received before they were published, as two machines' clocks had it:
    /// their latency was taken as 0 (see [`queue`](crate::queue)).
    pub messages_skewed: u64,
    /// How often the wall clock was found to be set, or the machine to have slept: by more than a
    /// second between two looks of the flusher. What is converted later has the new time.
    pub clock_jumps: u64,
    /// Sampling.
    pub sampling: Decisions,
    /// The spool.
    pub spool: SpoolStats,
    /// The name table.
    pub names: Names,
    /// The rings.
    pub rings: Rings,
    /// The threads of the library.
    pub threads: Threads,
}

/// How full the name table is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Names {
    /// Names in it.
    pub entries: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Uses of names that found no room in it.
    pub turned_away: usize,
}

/// The rings of all threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rings {
    /// Rings there are.
    pub made: usize,
    /// Of these, with a thread that lives.
    pub live: usize,
    /// Slots that wait for the flusher.
    pub slots_waiting: u64,
}

/// What went through the spool, besides what is in it now ([`Stats::in_spool`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SpoolStats {
    /// Found in what processes before this one had left, or an earlier `init` of this one.
    pub recovered: Count,
    /// Still in the spool when the library was closed: for the next one to be sent.
    pub left_behind: Count,
    /// Files that could not be read to their end, and were set aside.
    pub damaged_files: u64,
    /// Reads and writes that failed. What could not be written stayed in memory.
    pub errors: u64,
}

/// How flusher and uploaders do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Threads {
    /// Looks at the rings so far.
    pub cycles: u64,
    /// Panics of the flusher, or of the library in another of its threads, that were survived.
    pub restarts: u64,
    /// Whether the flusher gave up after five panics in a row, or an uploader did, or the
    /// transports were given up.
    pub dead: bool,
    /// Uploaders that run, and the spool's thread, if there is one.
    pub uploaders: usize,
    /// Envelopes that were sent once more, as no answer had come.
    pub retries: u64,
    /// For how long the server is still left alone, as it did not answer.
    pub pause: Option<Duration>,
    /// Envelopes in the queue.
    pub envelopes_queued: usize,
    /// Their memory, and that of those being sent, in bytes.
    pub bytes_queued: usize,
    /// What went wrong last in sending, in a line.
    pub last_error: Option<String>,
    /// The same in a word: how far it got ([`SendErrorKind`](crate::transport::SendErrorKind)), or
    /// `status`, `panic`, `spool`.
    pub last_error_kind: Option<&'static str>,
    /// How long ago that was.
    pub last_error_age: Option<Duration>,
    /// How long ago the server last took something.
    pub last_success_age: Option<Duration>,
}

/// Reads the books. Allocates; takes short locks of the flushing side, none of the recording side.
/// Looks again, for up to 20 ms or so, when the books do not add up: a look is not one moment.
///
/// ```
/// let stats = hotspan::stats();
/// stats.check()?;
/// println!("{stats}");
/// # Ok::<(), hotspan::Imbalance>(())
/// ```
#[must_use]
pub fn stats() -> Stats {
    let mut stats = look();
    // A look is not one moment. What moves on while it is taken may be seen nowhere, as if
    // everything were at rest and something missing; or, on a processor that reorders loads, at
    // both ends. The next look sees it right. A true imbalance stays.
    for _ in 0..LOOKS_MAX {
        if stats.check().is_ok() {
            break;
        }
        thread::sleep(BETWEEN_LOOKS);
        stats = look();
    }
    stats
}

const LOOKS_MAX: usize = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

fn look() -> Stats {
    let client = guard::client();
    let books = ledger::books();
    // Sinks before sources.
    let delivered = books.delivered.read();
    let discarded = books.discarded.read();
    let mut dropped: BTreeMap<Reason, Count> = BTreeMap::new();
    for reason in Reason::ALL {
        dropped.insert(reason, books.lost.of(reason).read());
    }
    let spool = spool_of(books);
    let held = client.as_ref().map(|client| client.held()).unwrap_or_default();
    let handed_on = books.handed_on.read();
    let collected = books.collected.read();
    // Off every stack: what was detached, less what ended.
    let (mut detached, mut settled) = (Count::default(), books.settled.read());
    for lane in registry::lanes() {
        settled += lane.counters.settled.get();
    }
    let mut stats = Stats {
        delivered,
        discarded,
        in_queue: held.queued,
        in_flight: held.in_flight,
        in_spool: spool.0,
        spool: spool.1,
        clock_jumps: books.clock_jumps.get(),
        in_assembly: collected - handed_on,
        cut: books.cut.get(),
        attributes_dropped: books.attributes_dropped.get(),
        attributes_lost: books.attributes_late.get(),
        stuck: books.stuck.get(),
        callback_panics: books.callback_panics.get(),
        messages_skewed: books.messages_skewed.get(),
        sampling: Decisions::look(books),
        ..Stats::default()
    };
    let mut gone = Count::default();
    for lane in registry::lanes() {
        stats.rings.made += 1;
        stats.rings.live += usize::from(lane.ring.state() == State::Live);
        stats.rings.slots_waiting += lane.ring.waiting();
        let counters = &lane.counters;
        for reason in registry::LOST_ON_THREAD {
            if let Some(pair) = counters.lost(reason) {
                gone += pair.get();
                *dropped.entry(reason).or_default() += pair.get();
            }
        }
        let discarded = counters.discarded.get();
        gone += discarded;
        stats.discarded += discarded;
        stats.open += lane.spans.open();
        detached += counters.detached.get();
        stats.unsampled += counters.unsampled.get();
        stats.attributes_lost += counters.attributes_lost.get();
        stats.cut += counters.cut.get();
        stats.late += counters.late.get();
        stats.misnested += counters.misnested.get();
        stats.started += counters.started();
    }
    stats.open += detached - settled;
    stats.started += books.no_ring.read();
    gone += books.no_ring.read() + books.settled.read();
    stats.in_rings = stats.started - gone - collected - stats.open;
    dropped.retain(|_, count| !count.is_zero());
    stats.dropped = dropped;
    let (entries, bytes, turned_away) = names::usage();
    stats.names = Names { entries, bytes, turned_away };
    stats.threads = Threads {
        cycles: books.cycles.get(),
        restarts: books.restarts.get(),
        retries: books.retries.get(),
        uploaders: held.workers,
        envelopes_queued: held.envelopes,
        bytes_queued: held.bytes,
        ..Threads::default()
    };
    if let Some(client) = client {
        let health = client.health();
        stats.threads.dead = health.dead || health.gave_up || client.is_dead();
        let now = clock::monotonic();
        if let Some(failure) = health.last_error {
            stats.threads.last_error = Some(failure.text);
            stats.threads.last_error_kind = Some(failure.kind);
            stats.threads.last_error_age = Some(now.saturating_sub(failure.at));
        }
        stats.threads.last_success_age = health.last_success.map(|at| now.saturating_sub(at));
        stats.threads.pause = held.paused_until.checked_sub(now).filter(|left| !left.is_zero());
        stats.losses_per_second = client.losses_per_second().collect();
    }
    stats
}

/// What is in the spool, and the rest about it. Sinks before sources.
fn spool_of(books: &Books) -> (Count, SpoolStats) {
    let left_behind = books.spool.put_aside.read();
    let in_spool = books.spool.holds();
    let spool = SpoolStats {
        recovered: books.spool.recovered.read(),
        left_behind,
        damaged_files: books.spool.damaged_files.get(),
        errors: books.spool.errors.get(),
    };
    (in_spool, spool)
}

impl Stats {
    /// Everything lost, for whatever reason.
    #[must_use]
    pub fn dropped_in_all(&self) -> Count {
        self.dropped.values().fold(Count::default(), |sum, count| sum + *count)
    }

    /// What is held between being started and being settled.
    #[must_use]
    pub fn held(&self) -> Count {
        let on_the_way = self.in_assembly + self.in_queue + self.in_flight;
        self.open + self.in_rings + on_the_way + self.in_spool
    }

    /// Whether nothing is open and nothing is on the way; what is in the spool lies there.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let moving = self.open + self.in_assembly + self.in_queue + self.in_flight;
        moving.is_zero() && self.rings.slots_waiting == 0
    }

    /// Checks the books: at any time no more out than in; at rest exactly as much.
    ///
    /// # Errors
    /// [`Imbalance`], with both sides.
    pub fn check(&self) -> Result<(), Imbalance> {
        let settled = self.delivered + self.dropped_in_all() + self.discarded;
        let out = settled + self.spool.left_behind + self.in_spool;
        let over = |left: u64, right: u64| left > right;
        let (started, rest) = (self.started + self.spool.recovered, self.is_at_rest());
        let too_much =
            over(out.spans, started.spans) || over(out.transactions, started.transactions);
        if too_much || (rest && out != started) {
            return Err(Imbalance { started, out, at_rest: rest });
        }
        Ok(())
    }
}

/// The books do not add up: a defect of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imbalance {
    /// What was begun, here or in an earlier process whose spool was taken over.
    pub started: Count,
    /// What was delivered, dropped or discarded, or is in the spool.
    pub out: Count,
    /// Whether both had to be equal.
    pub at_rest: bool,
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relation = if self.at_rest { "is not" } else { "is less than" };
        write!(
            f,
            "{} transactions with {} spans started {relation} {} with {} delivered, dropped or \
             discarded",
            self.started.transactions, self.started.spans, self.out.transactions, self.out.spans,
        )
    }
}

impl std::error::Error for Imbalance {}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<26}{:>14}{:>14}", "", "transactions", "spans")?;
        let mut row = |name: &str, count: Count| {
            writeln!(f, "{name:<26}{:>14}{:>14}", count.transactions, count.spans)
        };
        row("started", self.started)?;
        if !self.spool.recovered.is_zero() {
            row("recovered from disk", self.spool.recovered)?;
        }
        row("delivered", self.delivered)?;
        for (reason, count) in &self.dropped {
            row(&format!("dropped: {}", reason.as_str()), *count)?;
        }
        for (name, count) in [
            ("not kept at the end", self.discarded),
            ("open", self.open),
            ("in rings", self.in_rings),
            ("in assembly", self.in_assembly),
            ("in queue", self.in_queue),
            ("in flight", self.in_flight),
            ("in the spool", self.in_spool),
            ("left in the spool", self.spool.left_behind),
        ] {
            if !count.is_zero() {
                row(name, count)?;
            }
        }
        for (name, number) in [
            ("not sampled", self.unsampled),
            ("attributes lost", self.attributes_lost),
            ("attributes not fit to send", self.attributes_dropped),
            ("texts and lists cut", self.cut),
            ("reported as stuck", self.stuck),
            ("panics of callbacks", self.callback_panics),
            ("messages from the future", self.messages_skewed),
            ("sent again", self.threads.retries),
            ("restarts after a panic", self.threads.restarts),
            ("damaged spool files", self.spool.damaged_files),
            ("spool errors", self.spool.errors),
            ("jumps of the wall clock", self.clock_jumps),
        ] {
            number_row(f, name, number)?;
        }
        for (reason, rate) in &self.losses_per_second {
            writeln!(f, "{:<26}{rate:>26.1}/s", format!("now: {}", reason.as_str()))?;
        }
        self.sampling.write(f)?;
        if let Some(error) = &self.threads.last_error {
            let age = self.threads.last_error_age.unwrap_or_default();
            writeln!(f, "last error, {age:.0?} ago: {error}")?;
        }
        write!(f, "{}", if self.check().is_ok() { "the books add up" } else { "IMBALANCE" })
    }
}

/// A row of [`Stats`]' display, unless it is zero.
fn number_row(f: &mut fmt::Formatter<'_>, name: &str, number: u64) -> fmt::Result {
    if number > 0 { writeln!(f, "{name:<26}{number:>14}") } else { Ok(()) }
}
