//! Every thread that ever recorded: its ring, its open spans, its counters.
//!
//! A [`Lane`] is made at a thread's first recorded call, or taken over from a thread that is gone.
//! Lanes are never freed, only handed on, so the flusher can walk them at any time and anybody may
//! hold one.
//!
//! # Invariants
//! * L1: a lane is held by one thread, or lies in the free list, or is retired and waits for the
//!   flusher.
//! * L2: the counters of a lane are written by its holder only, and count on when it is handed on.
//! * L3: a lane belongs to the process whose thread holds or held it. In a fork's child the lanes
//!   of the parent are copies of what is the parent's: they are passed over, and never handed on.

use std::sync::atomic::{AtomicUsize, Ordering as Std};
use std::sync::{OnceLock, RwLock};

use super::arena::Arena;
use super::free_list::FreeList;
use super::ledger::{Count, Reason};
use super::ring::{Ring, State};
use super::seqlock::OpenSpans;
use super::sync::{AtomicU32, AtomicU64, Ordering};

/// Threads that can record at the same time.
pub(crate) const LANES_MAX: usize = 4096;
const PAGE: usize = 64;
/// Bits of a key that count; the lane's number stands above them.
pub(crate) const KEY_BITS: u32 = 52;

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds, without a read-modify-write.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Transactions and spans with one writer.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    transactions: Counter,
    spans: Counter,
}

impl Pair {
    pub(crate) fn add(&self, count: Count) {
        self.transactions.add(count.transactions);
        self.spans.add(count.spans);
    }

    pub(crate) fn get(&self) -> Count {
        Count { transactions: self.transactions.get(), spans: self.spans.get() }
    }
}

/// What a thread counts itself.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// The next key, as of the last transaction that began or ended: what was given out before it
    /// are the recorded spans and the unsampled transactions.
    pub(crate) next_key: Counter,
    /// Transactions begun and sampled.
    pub(crate) sampled: Counter,
    /// Transactions that sampling left out.
    pub(crate) unsampled: Counter,
    /// Lost on the thread, by reason.
    ring_full: Pair,
    reentrant: Pair,
    unfinished: Pair,
    too_deep: Pair,
    after_shutdown: Pair,
    /// Spans that left the thread's stack without ending, and detached spans that ended on the
    /// thread: over all threads, the difference is open and on no stack.
    pub(crate) detached: Pair,
    pub(crate) settled: Pair,
    /// Children that ended after their transaction; they were counted as unfinished then.
    pub(crate) late: Counter,
    /// Guards that ended while a later one was open.
    pub(crate) misnested: Counter,
    /// Tags, data, measurements, statuses that found no room.
    pub(crate) attributes_lost: Counter,
    /// Texts and lists that were cut to their bound.
    pub(crate) cut: Counter,
}

/// The reasons for which a thread itself loses something.
pub(crate) const LOST_ON_THREAD: [Reason; 5] = [
    Reason::RingFull,
    Reason::Reentrant,
    Reason::Unfinished,
    Reason::TooDeep,
    Reason::AfterShutdown,
];

impl Counters {
    /// The pair of a reason in [`LOST_ON_THREAD`].
    pub(crate) fn lost(&self, reason: Reason) -> Option<&Pair> {
        Some(match reason {
            Reason::RingFull => &self.ring_full,
            Reason::Reentrant => &self.reentrant,
            Reason::Unfinished => &self.unfinished,
            Reason::TooDeep => &self.too_deep,
            Reason::AfterShutdown => &self.after_shutdown,
            _ => return None,
        })
    }

    pub(crate) fn lose(&self, reason: Reason, count: Count) {
        if let Some(pair) = self.lost(reason) {
            pair.add(count);
        }
    }

    /// Keys given out.
    pub(crate) fn keys(&self) -> u64 {
        (self.next_key.get() & ((1 << KEY_BITS) - 1)).saturating_sub(1)
    }

    /// Everything begun on the thread. What was lost to re-entrance or depth got no key.
    pub(crate) fn started(&self) -> Count {
        // What is taken away first: it was added last.
        let unsampled = self.unsampled.get();
        let keyless = self.reentrant.get() + self.too_deep.get();
        keyless
            + Count {
                transactions: self.sampled.get(),
                spans: self.keys().saturating_sub(unsampled),
            }
    }
}

/// A thread's name and number, for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Label {
    pub(crate) name: Option<String>,
    pub(crate) id: u64,
}

/// What one recording thread owns.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) number: u32,
    /// The process whose thread holds it, or held it last (L3).
    process: AtomicU32,
    pub(crate) ring: Ring,
    pub(crate) spans: OpenSpans,
    pub(crate) counters: Counters,
    /// Losses that have been taken into account for client reports; the flusher's own.
    pub(crate) reported: Counters,
    /// Never waited for: a fork may have left it locked for ever.
    label: RwLock<Label>,
}

impl Lane {
    /// Whether it belongs to this process (L3).
    pub(crate) fn is_of(&self, process: u32) -> bool {
        self.process.load(Ordering::Relaxed) == process
    }

    /// The thread's label, if nobody is writing it this moment. Any number may read it at once.
    pub(crate) fn label(&self) -> Label {
        self.label.try_read().map(|label| label.clone()).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Registry {
    pages: [OnceLock<Box<[OnceLock<&'static Lane>]>>; LANES_MAX / PAGE],
    made: AtomicUsize,
    links: Box<[AtomicU32]>,
    free: FreeList,
}

static REGISTRY: OnceLock<Registry> = OnceLock::new();

fn registry() -> &'static Registry {
    REGISTRY.get_or_init(|| Registry {
        pages: [const { OnceLock::new() }; LANES_MAX / PAGE],
        made: AtomicUsize::new(0),
        links: (0..LANES_MAX).map(|_| AtomicU32::new(0)).collect(),
        free: FreeList::new(),
    })
}

impl Registry {
    fn lane(&self, number: usize) -> Option<&'static Lane> {
        self.pages.get(number / PAGE)?.get()?.get(number % PAGE)?.get().copied()
    }

    fn make(&self) -> Option<&'static Lane> {
        let number = self.made.fetch_add(1, Std::Relaxed);
        if number >= LANES_MAX {
            self.made.fetch_sub(1, Std::Relaxed);
            return None;
        }
        let page = self
            .pages
            .get(number / PAGE)?
            .get_or_init(|| (0..PAGE).map(|_| OnceLock::new()).collect());
        let lane: &'static Lane = Box::leak(Box::new(Lane {
            number: u32::try_from(number).ok()?,
            process: AtomicU32::new(0),
            ring: Ring::new(Arena::global()),
            spans: OpenSpans::leaked()?,
            counters: Counters::default(),
            reported: Counters::default(),
            label: RwLock::default(),
        }));
        page.get(number % PAGE)?.set(lane).ok()?;
        Some(lane)
    }
}

/// A lane for the calling thread: one that is free, or a new one. Allocates when new. `None`: there
/// are [`LANES_MAX`] already.
pub(crate) fn attach() -> Option<&'static Lane> {
    let registry = registry();
    let process = std::process::id();
    let lane = loop {
        let free = registry.free.pop(&registry.links);
        match free.and_then(|number| registry.lane(number as usize)) {
            None => break registry.make()?,
            Some(lane) if lane.is_of(process) => break lane,
            // L3: forgotten for good.
            Some(_) => {}
        }
    };
    lane.process.store(process, Ordering::Relaxed);
    if let Ok(mut label) = lane.label.try_write() {
        let thread = std::thread::current();
        *label = Label { name: thread.name().map(str::to_owned), id: thread_number() };
    }
    lane.ring.enliven();
    Some(lane)
}

/// The system's number of the calling thread where there is one to read, else 0.
fn thread_number() -> u64 {
    // The link reads `<pid>/task/<tid>`.
    std::fs::read_link("/proc/thread-self")
        .ok()
        .and_then(|path| path.file_name()?.to_str()?.parse().ok())
        .unwrap_or(0)
}

/// Hands a retired lane on, once its ring has been read to its end.
pub(crate) fn recycle(lane: &'static Lane) {
    debug_assert_eq!(lane.ring.state(), State::Retired);
    if let Ok(mut label) = lane.label.try_write() {
        *label = Label::default();
    }
    lane.ring.reset();
    let registry = registry();
    registry.free.push(&registry.links, lane.number);
}

/// Every lane of this process (L3).
pub(crate) fn lanes() -> impl Iterator<Item = &'static Lane> {
    let registry = REGISTRY.get();
    let made = registry.map_or(0, |registry| registry.made.load(Std::Relaxed).min(LANES_MAX));
    let process = PROCESS.load(Ordering::Relaxed);
    (0..made)
        .filter_map(move |number| registry?.lane(number))
        .filter(move |lane| lane.is_of(process))
}

/// The process that called `init` last.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// From here on, the lanes of the calling process are the ones that count. Makes what threads will
/// need, too, so that none is found half made in a process that is forked off.
pub(crate) fn belong_to(process: u32) {
    registry();
    PROCESS.store(process, Ordering::Relaxed);
}
