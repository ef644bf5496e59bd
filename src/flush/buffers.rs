//! Byte buffers of envelopes, used again: in steady state encoding allocates nothing.

use std::cmp::Reverse;

/// Buffers that wait to be used again, at most this many, of so many bytes together.
const COUNT_MAX: usize = 512;
const BYTES_MAX: usize = 1024 * 1024;

/// In a rush so many times more: about what one look at rings finds that fill fast. Memory that
/// comes from the system and goes back at each look costs more than what is written into it.
const RUSH: usize = 4;

/// A buffer that grew beyond this is freed: one huge envelope must not pin its memory.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct Buffers {
    spares: Vec<Vec<u8>>,
    bytes: usize,
    /// The fewest there were since the last [`rest`](Self::rest): so many nobody needed.
    fewest: usize,
    /// Length of the last envelope: the guess for the next one.
    length: usize,
}

impl Buffers {
    /// An empty buffer that was used before, if there is any.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let spare = self.spares.pop()?;
        self.bytes -= spare.capacity();
        self.fewest = self.fewest.min(self.spares.len());
        Some(spare)
    }

    /// What a new one should have room for: about what the last envelope had in it.
    pub(super) fn room(&self) -> usize {
        self.length + self.length / 4
    }

    /// So long was the last envelope.
    pub(super) fn note(&mut self, length: usize) {
        self.length = length;
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Takes a buffer back, or frees it.
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        let (capacity, bytes) = (buffer.capacity(), self.bytes + buffer.capacity());
        if capacity == 0 || capacity > BUFFER_BYTES_MAX {
            return;
        }
        if self.spares.len() < RUSH * COUNT_MAX && bytes <= RUSH * BYTES_MAX {
            buffer.clear();
            self.bytes = bytes;
            self.spares.push(buffer);
        }
    }

    /// Gives up what a rush left behind and nobody has needed since the last call.
    pub(super) fn rest(&mut self) -> Vec<Vec<u8>> {
        let is_kept = |count, bytes| count <= COUNT_MAX && bytes <= BYTES_MAX;
        if self.fewest == 0 || is_kept(self.spares.len(), self.bytes) {
            self.fewest = self.spares.len();
            return Vec::new();
        }
        // Those that lie highest: allocators give back to the system what is free at the end of
        // their memory, and seldom what is free between two things that are not.
        self.spares.sort_unstable_by_key(|buffer| Reverse(buffer.as_ptr().addr()));
        let (mut count, mut bytes) = (self.spares.len(), self.bytes);
        for buffer in self.spares.iter().take(self.fewest) {
            if is_kept(count, bytes) {
                break;
            }
            count -= 1;
            bytes -= buffer.capacity();
        }
        self.bytes = bytes;
        let unneeded = self.spares.drain(..self.spares.len() - count).collect();
        self.fewest = count;
        unneeded
    }

    /// Frees all of them.
    pub(super) fn clear(&mut self) {
        self.spares = Vec::new();
        (self.bytes, self.fewest) = (0, 0);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.spares.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_go_round_within_bounds() {
        let mut buffers = Buffers::default();
        assert!(buffers.take().is_none());
        let mut used = Vec::with_capacity(77);
        used.push(1);
        let address = used.as_ptr();
        buffers.give(used);
        let again = buffers.take().unwrap();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (address, 0, 77));
        buffers.give(Vec::with_capacity(BUFFER_BYTES_MAX + 1));
        buffers.give(Vec::new());
        assert!(buffers.take().is_none());
        for _ in 0..RUSH * COUNT_MAX + 3 {
            buffers.give(Vec::with_capacity(8));
        }
        assert_eq!(buffers.count(), RUSH * COUNT_MAX);
        while buffers.take().is_some() {}
        assert_eq!(buffers.bytes, 0);
        for _ in 0..COUNT_MAX {
            buffers.give(Vec::with_capacity(BUFFER_BYTES_MAX));
        }
        assert_eq!(buffers.count(), RUSH * BYTES_MAX / BUFFER_BYTES_MAX);
        buffers.clear();
        assert_eq!((buffers.count(), buffers.bytes), (0, 0));
    }

    #[test]
    fn what_a_rush_needed_is_kept_until_nobody_does() {
        for (each, usual) in [(8, COUNT_MAX), (BYTES_MAX / 100, 100)] {
            let mut buffers = Buffers::default();
            for _ in 0..usual + 50 {
                buffers.give(Vec::with_capacity(each));
            }
            assert!(buffers.rest().is_empty(), "until now all were used");
            let used: Vec<_> = (0..20).map_while(|_| buffers.take()).collect();
            used.into_iter().for_each(|buffer| buffers.give(buffer));
            assert_eq!(buffers.rest().len(), 50);
            assert_eq!((buffers.count(), buffers.rest().len()), (usual, 0));
            assert_eq!(buffers.bytes, usual * each);
            let mut buffers = Buffers::default();
            for _ in 0..usual + 50 {
                buffers.give(Vec::with_capacity(each));
            }
            buffers.rest();
            let used: Vec<_> = (0..usual + 40).map_while(|_| buffers.take()).collect();
            used.into_iter().for_each(|buffer| buffers.give(buffer));
            assert_eq!(buffers.rest().len(), 10, "the others were needed");
        }
    }

    #[test]
    fn what_a_rush_left_is_given_up_from_the_end_of_memory() {
        let mut buffers = Buffers::default();
        (0..COUNT_MAX + 50).for_each(|_| buffers.give(Vec::with_capacity(100)));
        buffers.rest();
        let unneeded = buffers.rest();
        let addresses = |buffers: &[Vec<u8>]| -> Vec<_> {
            buffers.iter().map(|buffer| buffer.as_ptr().addr()).collect()
        };
        let lowest_freed = addresses(&unneeded).into_iter().min();
        assert_eq!(unneeded.len(), 50);
        assert!(addresses(&buffers.spares).into_iter().max() < lowest_freed);
    }

    #[test]
    fn a_new_buffer_has_room_for_what_the_last_envelope_held() {
        let mut buffers = Buffers::default();
        buffers.note(1000);
        assert!((1000..2000).contains(&buffers.room()));
    }
}
