//! One thread's ring: slots written by one thread, read by the flusher.
//!
//! A ring is a chain of chunks (`arena.rs`) with a position counting up for ever. The writer fills
//! the chunk at its end, takes another from the arena when it needs one, and makes what it wrote
//! visible by storing its position into `head`. The reader follows the chain up to the head it saw,
//! copies the slots out, and gives each chunk back when it has left it.
//!
//! ```text
//!   arena ──take──►┐                                                  ┌──give──► arena
//!              chunk c3 ──◄ next ── chunk c2 ──◄ next ── chunk c1 ────┘
//!                  ▲                    ▲                    ▲
//!      position ───┘       published ───┘ (head)    consumed ┘ (tail)
//! ```
//!
//! Between `published` and `position` the slots belong to the writer alone: it may take them back
//! by moving its position ([`Writer::retreat`]).
//!
//! # Invariants
//! * R1: one thread writes (`Writer`, thread-local), one reads (whoever holds the flusher's role).
//! * R2: `consumed <= published <= position <= owned_end`.
//! * R3: slots in front of `published` are not written again until their chunk has passed through
//!   the arena's free list.
//! * R4: the last [`RESERVE`] slots before a bound are taken by roots' records only, and at most
//!   [`RESERVE`] roots are open on a thread: a root that was let in finds room when it ends.
//! * R5: `position - consumed <= ring_slots`.
//!
//! # Orderings
//! | here | pairs with | licenses |
//! |---|---|---|
//! | `publish`: store of `head`, Release | `collect`: load of `head`, Acquire | the reader sees the words, the chunk numbers (`first`, `links`) and the counters written before |
//! | `retire`: store of `state`, Release | `state`: load, Acquire | a retired ring's head and chunks are final |
//!
//! `tail` is Relaxed: it only bounds how far the writer may go (R5); that a chunk may be written
//! again is told by the free list (R3).
//!
//! # Costs
//! A slot in the middle of a chunk: one compare, eight stores, one add. Publishing: one store.

use std::cell::Cell;

use crossbeam_utils::CachePadded;

use super::arena::{Arena, CHUNK_SLOTS, Chunk};
use super::layout::{AtomicSlot, Slot};
use super::sync::{AtomicU32, AtomicU64, Ordering};

/// Slots kept for the records of open roots (R4).
#[cfg(not(hotspan_loom))]
pub(crate) const RESERVE: u64 = 16;
/// Slots kept for the records of open roots (R4).
#[cfg(hotspan_loom)]
pub(crate) const RESERVE: u64 = 1;

const CHUNK: u64 = CHUNK_SLOTS as u64;

/// Where in its chunk a position lies.
#[inline]
const fn in_chunk(position: u64) -> usize {
    (position % CHUNK) as usize
}

/// What a ring is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// In no thread's hands.
    Free,
    /// A thread writes.
    Live,
    /// Its thread is gone; the reader has the rest to itself.
    Retired,
}

/// The shared part of a ring.
#[derive(Debug)]
pub(crate) struct Ring {
    arena: &'static Arena,
    /// Written by the owner: positions published.
    head: CachePadded<AtomicU64>,
    /// Written by the reader: positions consumed.
    tail: CachePadded<AtomicU64>,
    state: AtomicU32,
    /// The chain's first chunk, plus 1; written before the first publish.
    first: AtomicU32,
    /// Chunks taken since the ring was handed out.
    taken: AtomicU32,
    /// The reader's own: the chunk it stands in, plus 1, and how many it gave back.
    reading: AtomicU32,
    given: AtomicU32,
}

impl Ring {
    pub(crate) fn new(arena: &'static Arena) -> Self {
        Self {
            arena,
            head: CachePadded::new(AtomicU64::new(0)),
            tail: CachePadded::new(AtomicU64::new(0)),
            state: AtomicU32::new(State::Free as u32),
            first: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            reading: AtomicU32::new(0),
            given: AtomicU32::new(0),
        }
    }

    /// Hands the ring to the calling thread, which must have got it from a free list.
    pub(crate) fn enliven(&self) {
        // Relaxed: the reader may see it late; it then finds nothing, as before.
        self.state.store(State::Live as u32, Ordering::Relaxed);
    }

    /// The owner's last act.
    pub(crate) fn retire(&self) {
        // ORDERING: Release, with the Acquire in `state`: the reader that sees Retired sees the
        // final head and chunks.
        self.state.store(State::Retired as u32, Ordering::Release);
    }

    /// What the ring is doing.
    pub(crate) fn state(&self) -> State {
        // ORDERING: Acquire, with the Release in `retire`.
        match self.state.load(Ordering::Acquire) {
            state if state == State::Live as u32 => State::Live,
            state if state == State::Retired as u32 => State::Retired,
            _ => State::Free,
        }
    }

    /// Slots published and not yet collected.
    pub(crate) fn waiting(&self) -> u64 {
        let tail = self.tail.load(Ordering::Relaxed);
        self.head.load(Ordering::Relaxed).saturating_sub(tail)
    }

    /// Reader: copies out what is published now, and not what is published meanwhile, so that a
    /// fast writer cannot keep the reader here. At most `slots_max` at a time.
    pub(crate) fn collect(&self, out: &mut Vec<Slot>, slots_max: u64) -> u64 {
        // ORDERING: Acquire, with the Release in `Writer::publish`.
        let head = self.head.load(Ordering::Acquire);
        let from = self.tail.load(Ordering::Relaxed);
        let head = head.min(from + slots_max);
        let mut at = from;
        while at < head {
            let Some((number, chunk)) = self.chunk_at(at) else { break };
            let to = head.min((at / CHUNK + 1) * CHUNK);
            self.reading.store(number + 1, Ordering::Relaxed);
            let (first, last) = (in_chunk(at), in_chunk(to - 1));
            for slot in chunk.iter().take(last + 1).skip(first) {
                out.push(std::array::from_fn(|word| match slot.get(word) {
                    Some(word) => word.load(Ordering::Relaxed),
                    None => 0,
                }));
            }
            at = to;
        }
        self.tail.store(at, Ordering::Relaxed);
        at - from
    }

    /// The chunk that holds position `at`, where the reader stands; steps to the next one, giving
    /// the old one back, when `at` is the first slot of a chunk.
    fn chunk_at(&self, at: u64) -> Option<(u32, &'static Chunk)> {
        let reading = self.reading.load(Ordering::Relaxed);
        let number = match reading.checked_sub(1) {
            None => self.first.load(Ordering::Relaxed).checked_sub(1)?,
            Some(old) if at.is_multiple_of(CHUNK) => {
                let next =
                    self.arena.links.get(old as usize)?.load(Ordering::Relaxed).checked_sub(1)?;
                self.given.store(self.given.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                self.arena.give(old);
                next
            }
            Some(same) => same,
        };
        Some((number, self.arena.chunk(number)?))
    }

    /// Reader: after the last `collect` of a retired ring, gives its chunks back and makes it new.
    pub(crate) fn reset(&self) {
        let mut left = self.taken.load(Ordering::Relaxed) - self.given.load(Ordering::Relaxed);
        let mut number = match self.reading.load(Ordering::Relaxed) {
            0 => self.first.load(Ordering::Relaxed),
            reading => reading,
        };
        while left > 0
            && let Some(chunk) = number.checked_sub(1)
        {
            number = match self.arena.links.get(chunk as usize) {
                Some(link) => link.load(Ordering::Relaxed),
                None => 0,
            };
            self.arena.give(chunk);
            left -= 1;
        }
        for word in [&self.first, &self.taken, &self.reading, &self.given] {
            word.store(0, Ordering::Relaxed);
        }
        self.head.store(0, Ordering::Relaxed);
        self.tail.store(0, Ordering::Relaxed);
        self.state.store(State::Free as u32, Ordering::Relaxed);
    }
}

/// A place in a ring that its writer may go back to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    position: u64,
    /// The chunk it stood in, and where that ends: a position at a chunk's edge may be either's.
    number: u32,
    chunk_end: u64,
}

impl Mark {
    pub(crate) const START: Self = Self { position: 0, number: 0, chunk_end: 0 };
}

/// The writer's part of a ring: cells of the thread that owns it.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The next slot.
    position: Cell<u64>,
    /// Where the fast path ends: the chunk's edge, or a bound, or the moment to publish early.
    stop: Cell<u64>,
    chunk: Cell<Option<&'static Chunk>>,
    chunk_end: Cell<u64>,
    number: Cell<u32>,
    /// The last chunk of the chain, and where it ends.
    last: Cell<u32>,
    owned_end: Cell<u64>,
    /// Where it stood when it last published.
    published: Cell<Mark>,
}

impl Writer {
    pub(crate) const fn new() -> Self {
        Self {
            position: Cell::new(0),
            stop: Cell::new(0),
            chunk: Cell::new(None),
            chunk_end: Cell::new(0),
            number: Cell::new(0),
            last: Cell::new(0),
            owned_end: Cell::new(0),
            published: Cell::new(Mark::START),
        }
    }

    /// Begins on a ring that is new or was reset.
    pub(crate) fn attach(&self) {
        let fresh = Self::new();
        for (mine, new) in [
            (&self.position, fresh.position),
            (&self.stop, fresh.stop),
            (&self.chunk_end, fresh.chunk_end),
            (&self.owned_end, fresh.owned_end),
        ] {
            mine.set(new.get());
        }
        self.published.set(Mark::START);
        self.chunk.set(None);
    }

    /// Slots written and not published.
    pub(crate) fn private(&self) -> u64 {
        self.position.get() - self.published.get().position
    }

    /// Makes room for `slots` in a row, for anything but a root's record. False: the ring is full.
    #[inline]
    pub(crate) fn room(&self, ring: &Ring, slots: u64, limit: impl Fn() -> u64) -> bool {
        self.position.get() + slots <= self.stop.get()
            || self.make_room(ring, slots, RESERVE, limit())
    }

    /// Makes room for a root's record. Never false for a root that was let in (R4).
    #[inline]
    pub(crate) fn room_for_root(&self, ring: &Ring, limit: impl Fn() -> u64) -> bool {
        self.position.get() < self.stop.get() || self.make_room(ring, 1, 0, limit())
    }

    /// Whether there is room for a slot without more ado; false says nothing about the ring.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.position.get() < self.stop.get()
    }

    /// The next slot, to be written and then [taken](Self::took_slot), if that needs no more than
    /// that; `None` says nothing about the ring.
    #[inline]
    pub(crate) fn next_slot(&self) -> Option<&'static AtomicSlot> {
        // In front of `stop` the chunk goes on.
        let chunk = self.chunk.get().filter(|_| self.has_room())?;
        #[expect(clippy::indexing_slicing, reason = "masked to the chunk's length")]
        Some(&chunk[in_chunk(self.position.get())])
    }

    /// What [`next_slot`](Self::next_slot) gave was written.
    #[inline]
    pub(crate) fn took_slot(&self) {
        self.position.set(self.position.get() + 1);
    }

    /// Writes one slot, for anything but a root's record. False: the ring is full.
    #[inline]
    pub(crate) fn push(&self, ring: &Ring, words: &Slot, limit: impl Fn() -> u64) -> bool {
        let has_room = self.room(ring, 1, limit);
        if has_room {
            self.put(ring, words);
        }
        has_room
    }

    #[inline]
    fn write(&self, chunk: &Chunk, position: u64, words: &Slot) {
        #[expect(clippy::indexing_slicing, reason = "masked to the chunk's length")]
        let slot = &chunk[in_chunk(position)];
        for (to, from) in slot.iter().zip(words) {
            to.store(*from, Ordering::Relaxed);
        }
        self.position.set(position + 1);
    }

    /// Writes one slot; `room` must have said yes.
    #[inline]
    pub(crate) fn put(&self, ring: &Ring, words: &Slot) {
        if self.position.get() == self.chunk_end.get() {
            self.step(ring);
        }
        let position = self.position.get();
        let Some(chunk) = self.chunk.get() else { return };
        self.write(chunk, position, words);
    }

    /// Makes everything written visible to the reader.
    #[inline]
    pub(crate) fn publish(&self, ring: &Ring) {
        self.published.set(self.mark());
        // ORDERING: Release, with the Acquire in `Ring::collect`: words, chunk numbers and counters
        // written before are seen by the reader that sees this head.
        ring.head.store(self.position.get(), Ordering::Release);
    }

    /// Takes back everything that was not published.
    pub(crate) fn retreat(&self, ring: &Ring) {
        self.retreat_to(ring, self.published.get());
    }

    /// Where it stands, to come back to.
    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            position: self.position.get(),
            number: self.number.get(),
            chunk_end: self.chunk_end.get(),
        }
    }

    /// Whether nothing was published since.
    #[inline]
    pub(crate) fn is_private_since(&self, mark: Mark) -> bool {
        self.published.get().position <= mark.position
    }

    /// Takes back everything since a mark, of which nothing may have been published.
    #[inline]
    pub(crate) fn retreat_to(&self, ring: &Ring, mark: Mark) {
        let mark = self.in_chunk_of(mark);
        self.position.set(mark.position);
        // In one chunk its end and every bound are as they were.
        if self.number.get() != mark.number {
            self.stop.set(mark.position);
            self.number.set(mark.number);
            self.chunk.set(ring.arena.chunk(mark.number));
            self.chunk_end.set(mark.chunk_end);
        }
    }

    /// A mark from before there was a chunk stands in the first one.
    #[inline]
    fn in_chunk_of(&self, mark: Mark) -> Mark {
        if mark.chunk_end == 0 { self.published.get() } else { mark }
    }

    /// Slots that were written since a mark, of which nothing was published, oldest first.
    pub(crate) fn each_since(&self, ring: &Ring, mark: Mark, mut visit: impl FnMut(&Slot)) {
        let Mark { position: mut at, mut number, mut chunk_end } = self.in_chunk_of(mark);
        while at < self.position.get() {
            if at == chunk_end {
                let link = ring.arena.links.get(number as usize);
                let next = link.and_then(|link| link.load(Ordering::Relaxed).checked_sub(1));
                number = next.unwrap_or(number);
                chunk_end += CHUNK;
            }
            if let Some(slot) = ring.arena.chunk(number).and_then(|chunk| chunk.get(in_chunk(at))) {
                visit(&std::array::from_fn(|word| match slot.get(word) {
                    Some(word) => word.load(Ordering::Relaxed),
                    None => 0,
                }));
            }
            at += 1;
        }
    }

    /// Slots that were written and not published, oldest first, for counting what a retreat takes
    /// back.
    pub(crate) fn each_private(&self, ring: &Ring, visit: impl FnMut(&Slot)) {
        self.each_since(ring, self.published.get(), visit);
    }

    #[cold]
    #[inline(never)]
    fn make_room(&self, ring: &Ring, slots: u64, reserve: u64, limit: u64) -> bool {
        let position = self.position.get();
        let quarter = (limit / 4).max(1);
        // Publish early, so that a long transaction does not fill the ring before it ends.
        if self.private() >= quarter {
            self.publish(ring);
        }
        let bound = ring.tail.load(Ordering::Relaxed) + limit;
        if position + slots + reserve > bound {
            return false;
        }
        while self.owned_end.get() < position + slots + reserve {
            if !self.lengthen(ring) {
                return false;
            }
        }
        if position == self.chunk_end.get() && position < self.owned_end.get() {
            self.step(ring);
        }
        let stop = self
            .chunk_end
            .get()
            .min(bound - RESERVE.min(bound))
            .min(self.owned_end.get() - RESERVE.min(self.owned_end.get()))
            .min(self.published.get().position + quarter);
        self.stop.set(stop);
        true
    }

    /// Adds a chunk to the end of the chain.
    fn lengthen(&self, ring: &Ring) -> bool {
        let Some((number, chunk)) = ring.arena.take() else { return false };
        if self.owned_end.get() == 0 {
            ring.first.store(number + 1, Ordering::Relaxed);
            self.number.set(number);
            self.chunk.set(Some(chunk));
            self.chunk_end.set(CHUNK);
            // Nothing was written before: nothing published, too.
            self.published.set(self.mark());
        } else if let Some(link) = ring.arena.links.get(self.last.get() as usize) {
            link.store(number + 1, Ordering::Relaxed);
        }
        self.last.set(number);
        self.owned_end.set(self.owned_end.get() + CHUNK);
        ring.taken.store(ring.taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        true
    }

    /// Goes on in the next chunk of the chain, which is there (R4, `room`).
    #[cold]
    #[inline(never)]
    fn step(&self, ring: &Ring) {
        let Some(link) = ring.arena.links.get(self.number.get() as usize) else { return };
        let Some(number) = link.load(Ordering::Relaxed).checked_sub(1) else { return };
        self.number.set(number);
        self.chunk.set(ring.arena.chunk(number));
        self.chunk_end.set(self.chunk_end.get() + CHUNK);
    }
}

#[cfg(all(test, not(hotspan_loom)))]
mod tests;

#[cfg(all(test, hotspan_loom))]
mod models;
