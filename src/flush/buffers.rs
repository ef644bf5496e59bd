//! Byte buffers of envelopes, used again: in steady state encoding allocates nothing.

/// Buffers that wait to be used again, at most this many, of so many bytes together: about what
/// one look at busy rings finds.
const COUNT_MAX: usize = 512;
const BYTES_MAX: usize = 1024 * 1024;

/// A buffer that grew beyond this is freed: one huge envelope must not pin its memory.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct Buffers {
    spares: Vec<Vec<u8>>,
    bytes: usize,
    /// Length of the last envelope: the guess for the next one.
    length: usize,
}

impl Buffers {
    /// An empty buffer that was used before, if there is any.
    fn take(&mut self) -> Option<Vec<u8>> {
        let spare = self.spares.pop()?;
        self.bytes -= spare.capacity();
        Some(spare)
    }

    /// The same, or a new one with room for about what the last envelope had in it.
    pub(super) fn take_or_make(&mut self) -> Vec<u8> {
        self.take().unwrap_or_else(|| Vec::with_capacity(self.room()))
    }

    /// What a new one should have room for.
    fn room(&self) -> usize {
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
        if self.spares.len() < COUNT_MAX && bytes <= BYTES_MAX {
            buffer.clear();
            self.bytes = bytes;
            self.spares.push(buffer);
        }
    }

    /// Frees all of them.
    pub(super) fn clear(&mut self) {
        self.spares = Vec::new();
        self.bytes = 0;
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
        for _ in 0..COUNT_MAX + 3 {
            buffers.give(Vec::with_capacity(8));
        }
        assert_eq!(buffers.count(), COUNT_MAX);
        while buffers.take().is_some() {}
        assert_eq!(buffers.bytes, 0);
        for _ in 0..COUNT_MAX {
            buffers.give(Vec::with_capacity(BUFFER_BYTES_MAX));
        }
        assert_eq!(buffers.count(), BYTES_MAX / BUFFER_BYTES_MAX);
        buffers.clear();
        assert_eq!((buffers.count(), buffers.bytes), (0, 0));
    }

    #[test]
    fn a_new_buffer_has_room_for_what_the_last_envelope_held() {
        let mut buffers = Buffers::default();
        buffers.note(1000);
        assert!((1000..2000).contains(&buffers.room()));
    }
}
