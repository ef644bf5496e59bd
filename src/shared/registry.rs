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
//! * L3: a lane belongs to the process whose `init` was the last one when it was attached. In a
//!   fork's child that has called `init` itself, the lanes from before are copies of the parent's,
//!   or hold what threads recorded in vain: they are passed over, and never handed on.
//!
//! Nothing here is waited for: what a thread was making when its process forked is for the child
//! as if it had not been begun.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Std};

use arc_swap::ArcSwapOption;
use crossbeam_utils::atomic::AtomicCell;
use once_cell::race::OnceBox;

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
    /// Recorded on trial, and taken back at their end by the thread itself.
    pub(crate) discarded: Pair,
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

    /// Spans that got a key here and are neither lost nor left out: open, in the ring, or on their
    /// way. For differences: what leaves the thread is not taken away.
    pub(crate) fn at_large(&self) -> u64 {
        [&self.ring_full, &self.unfinished, &self.after_shutdown, &self.discarded]
            .into_iter()
            .fold(self.keys() - self.unsampled.get(), |left, pair| {
                left.wrapping_sub(pair.spans.get())
            })
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
    /// The process it belongs to (L3).
    process: AtomicU32,
    pub(crate) ring: Ring,
    pub(crate) spans: OpenSpans,
    pub(crate) counters: Counters,
    /// Losses that have been taken into account for client reports; the flusher's own.
    pub(crate) reported: Counters,
    label: ArcSwapOption<Label>,
}

impl Lane {
    /// Whether it belongs to the process that called `init` last (L3).
    pub(crate) fn is_ours(&self) -> bool {
        self.is_of(PROCESS.load())
    }

    fn is_of(&self, process: u32) -> bool {
        self.process.load(Ordering::Relaxed) == process
    }

    /// Its thread's label.
    pub(crate) fn label(&self) -> Label {
        self.label.load().as_deref().cloned().unwrap_or_default()
    }
}

type Page = Box<[OnceBox<Lane>]>;

#[derive(Debug)]
struct Registry {
    pages: [OnceBox<Page>; LANES_MAX / PAGE],
    made: AtomicUsize,
    links: Box<[AtomicU32]>,
    free: FreeList,
}

static REGISTRY: OnceBox<Registry> = OnceBox::new();

fn registry() -> &'static Registry {
    REGISTRY.get_or_init(|| {
        Box::new(Registry {
            pages: [const { OnceBox::new() }; LANES_MAX / PAGE],
            made: AtomicUsize::new(0),
            links: (0..LANES_MAX).map(|_| AtomicU32::new(0)).collect(),
            free: FreeList::new(),
        })
    })
}

impl Registry {
    fn lane(&self, number: usize) -> Option<&Lane> {
        self.pages.get(number / PAGE)?.get()?.get(number % PAGE)?.get()
    }

    fn make(&self) -> Option<&Lane> {
        let number = self.made.fetch_add(1, Std::Relaxed);
        if number >= LANES_MAX {
            self.made.fetch_sub(1, Std::Relaxed);
            return None;
        }
        let page = self
            .pages
            .get(number / PAGE)?
            .get_or_init(|| Box::new((0..PAGE).map(|_| OnceBox::new()).collect()));
        let lane = Box::new(Lane {
            number: u32::try_from(number).ok()?,
            process: AtomicU32::new(0),
            ring: Ring::new(Arena::global()),
            spans: OpenSpans::leaked()?,
            counters: Counters::default(),
            reported: Counters::default(),
            label: ArcSwapOption::const_empty(),
        });
        let place = page.get(number % PAGE)?;
        place.set(lane).ok()?;
        place.get()
    }
}

/// A lane for the calling thread: one that is free, or a new one. Allocates when new. `None`: there
/// are [`LANES_MAX`] already.
pub(crate) fn attach() -> Option<&'static Lane> {
    let registry = registry();
    let process = PROCESS.load();
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
    let name = std::thread::current().name().map(str::to_owned);
    lane.label.store(Some(Arc::new(Label { name, id: thread_number() })));
    lane.ring.enliven();
    let _ = HERE.try_with(|here| here.set(Some(lane.number)));
    Some(lane)
}

thread_local! {
    /// The number of the lane that the thread attached last.
    static HERE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Whether a key was given out by the calling thread's lane.
pub(crate) fn is_of_this_thread(key: u64) -> bool {
    HERE.try_with(Cell::get)
        .ok()
        .flatten()
        .is_some_and(|number| key >> KEY_BITS == u64::from(number))
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
    lane.label.store(None);
    lane.ring.reset();
    let registry = registry();
    registry.free.push(&registry.links, lane.number);
}

/// Every lane of this process (L3).
pub(crate) fn lanes() -> impl Iterator<Item = &'static Lane> {
    let registry = REGISTRY.get();
    let made = registry.map_or(0, |registry| registry.made.load(Std::Relaxed).min(LANES_MAX));
    let process = PROCESS.load();
    (0..made)
        .filter_map(move |number| registry?.lane(number))
        .filter(move |lane| lane.is_of(process))
}

/// The process that called `init` last.
static PROCESS: AtomicCell<u32> = AtomicCell::new(0);

/// Whether a key was given out by a lane of this process (L3).
pub(crate) fn is_ours(key: u64) -> bool {
    let lane = REGISTRY.get().and_then(|registry| registry.lane((key >> KEY_BITS) as usize));
    lane.is_some_and(Lane::is_ours)
}

/// Whether another process than this one called `init` last: this one was forked off it.
pub(crate) fn belongs_to_another(process: u32) -> bool {
    let last = PROCESS.load();
    last != 0 && last != process
}

/// From here on, lanes are attached for the calling process, and those of another one are passed
/// over.
pub(crate) fn belong_to(process: u32) {
    registry();
    PROCESS.store(process);
}
