//! The memory of all rings: slots in chunks, chunks in slabs.
//!
//! `init` reserves slabs of zeroed memory up to the configured bound. Zeroed memory of that size
//! costs address space only; a page becomes real when the first record is written to it. Rings take
//! chunks from the free list as they need them and the flusher gives them back when it has read
//! them, so a thread that stalls nobody holds two chunks, and one that outruns the flusher may hold
//! many, within one bound for the whole process. Nothing is ever returned to the allocator: a chunk
//! can be read at any time by anybody who has its number.
//!
//! # Invariants
//! * A1: a chunk's number is in the free list or with exactly one ring.
//! * A2: while a chunk is with a ring, `links[chunk]` is the chunk behind it (once there is one).

use once_cell::race::OnceBox;

use super::free_list::FreeList;
use super::layout::{AtomicSlot, WORDS};
use super::per_process::PerProcess;
use super::sync::{AtomicU32, AtomicU64};

/// Slots in a chunk.
#[cfg(not(any(test, hotspan_loom)))]
pub(crate) const CHUNK_SLOTS: usize = 1024;
/// Slots in a chunk: few, so that tests see every edge.
#[cfg(all(test, not(hotspan_loom)))]
pub(crate) const CHUNK_SLOTS: usize = 64;
/// Slots in a chunk: as few as a model can bear.
#[cfg(hotspan_loom)]
pub(crate) const CHUNK_SLOTS: usize = 2;

/// Chunks in a slab: 1 MiB in all.
const SLAB_CHUNKS: usize = 16;
/// Slabs there can be.
#[cfg(not(hotspan_loom))]
const SLABS: usize = 1024;
/// Slabs there can be: one, as the stacks of a model's threads are small.
#[cfg(hotspan_loom)]
const SLABS: usize = 1;

/// A chunk.
pub(crate) type Chunk = [AtomicSlot; CHUNK_SLOTS];

/// Bytes of a chunk.
pub(crate) const CHUNK_BYTES: usize = CHUNK_SLOTS * WORDS * 8;
/// Bytes that rings can have at the most: 1 GiB.
#[cfg(test)]
pub(crate) const BYTES_MAX: usize = SLABS * SLAB_CHUNKS * CHUNK_BYTES;

/// All chunks there are.
#[derive(Debug)]
pub(crate) struct Arena {
    slabs: [OnceBox<&'static [Chunk]>; SLABS],
    pub(crate) links: Box<[AtomicU32]>,
    pub(crate) free: FreeList,
}

/// The arena of this process; made by the first `init`.
static ARENA: PerProcess<OnceBox<Arena>> = PerProcess::new(OnceBox::new());

impl Arena {
    fn new() -> Self {
        Self {
            slabs: [const { OnceBox::new() }; SLABS],
            links: (0..SLABS * SLAB_CHUNKS).map(|_| AtomicU32::new(0)).collect(),
            free: FreeList::new(),
        }
    }

    /// An arena of its own, of one slab, for a test or a model.
    #[cfg(test)]
    pub(crate) fn leaked(chunks: u32) -> &'static Self {
        let arena = Box::leak(Box::new(Self {
            slabs: [const { OnceBox::new() }; SLABS],
            links: (0..SLAB_CHUNKS).map(|_| AtomicU32::new(0)).collect(),
            free: FreeList::new(),
        }));
        let slab: Vec<Chunk> = (0..chunks)
            .map(|_| std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))))
            .collect();
        arena.slabs[0].set(Box::new(Vec::leak(slab))).unwrap();
        (0..chunks).for_each(|chunk| arena.free.push(&arena.links, chunk));
        arena
    }

    /// The process's arena.
    pub(crate) fn global() -> &'static Self {
        ARENA.current().get_or_init(|| Box::new(Self::new()))
    }

    /// Leaves the arena that a fork's child was born with to the parent, whose rings held chunks of
    /// it that nobody will give back.
    #[cfg(not(hotspan_loom))]
    pub(crate) fn renew() {
        ARENA.renew(OnceBox::new());
    }

    /// The chunk with this number.
    pub(crate) fn chunk(&self, number: u32) -> Option<&'static Chunk> {
        let number = number as usize;
        self.slabs.get(number / SLAB_CHUNKS)?.get()?.get(number % SLAB_CHUNKS)
    }

    /// Takes a chunk out of the free list.
    pub(crate) fn take(&self) -> Option<(u32, &'static Chunk)> {
        let number = self.free.pop(&self.links)?;
        Some((number, self.chunk(number)?))
    }

    /// Gives a chunk back.
    pub(crate) fn give(&self, number: u32) {
        self.free.push(&self.links, number);
    }

    /// Reserves slabs until there are `bytes`; what exists already counts, and stays.
    #[cfg(not(hotspan_loom))]
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), OutOfMemory> {
        let slab_bytes = SLAB_CHUNKS * CHUNK_BYTES;
        for (index, slab) in self.slabs.iter().enumerate().take(bytes.div_ceil(slab_bytes)) {
            if slab.get().is_some() {
                continue;
            }
            // A few words more than needed, so that slots can begin at a cache line.
            let words = slab_bytes / 8 + 2 * WORDS;
            let memory: Box<[AtomicU64]> =
                bytemuck::allocation::try_zeroed_slice_box(words).map_err(|()| OutOfMemory)?;
            let memory: &'static [AtomicU64] = Box::leak(memory);
            let offset = memory.as_ptr().align_offset(64).min(2 * WORDS);
            let (slots, _) = memory.get(offset..).unwrap_or_default().as_chunks::<WORDS>();
            let (chunks, _) = slots.as_chunks::<CHUNK_SLOTS>();
            if slab.set(Box::new(chunks)).is_ok() {
                for chunk in 0..chunks.len().min(SLAB_CHUNKS) {
                    if let Ok(number) = u32::try_from(index * SLAB_CHUNKS + chunk) {
                        self.give(number);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The memory for the rings could not be had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutOfMemory;

#[cfg(all(test, not(hotspan_loom)))]
mod tests {
    use super::*;

    #[test]
    fn reserving_twice_adds_nothing_and_slots_begin_at_cache_lines() {
        let arena: &'static Arena = Box::leak(Box::new(Arena::new()));
        arena.reserve(1).unwrap();
        arena.reserve(SLAB_CHUNKS * CHUNK_BYTES).unwrap();
        let mut numbers = Vec::new();
        while let Some((number, chunk)) = arena.take() {
            assert_eq!(std::ptr::from_ref(chunk) as usize % 64, 0);
            numbers.push(number);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..16).collect::<Vec<_>>());
    }
}
