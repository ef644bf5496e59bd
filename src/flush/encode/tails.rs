//! How most children end: the origin, op and description as JSON, joined once for each pair of
//! names and copied as a whole.
//!
//! ```text
//! "origin":"manual","op":"…","description":"…"
//! ```
//!
//! A table of fixed size: a pair that meets another in its place takes it over. What is longer than
//! [`ROOM`] is joined again each time.

use crate::shared::layout::SpanRecord;

/// What each begins with; the comma in front of it belongs to the fixed part.
pub(super) const ORIGIN: &[u8] = b"\"origin\":\"manual\"";

/// A copy of so many bytes is a few instructions.
const ROOM: usize = 128;
const PLACES: usize = 128;

/// The joined names of one pair.
#[derive(Clone, Copy, Debug)]
struct Tail {
    op: u32,
    description: u32,
    /// 0: nothing is here.
    len: usize,
    bytes: [u8; ROOM],
}

/// The table.
#[derive(Debug)]
pub(super) struct Tails {
    places: Box<[Tail; PLACES]>,
}

impl Default for Tails {
    fn default() -> Self {
        let empty = Tail { op: 0, description: 0, len: 0, bytes: [0; ROOM] };
        Self { places: Box::new([empty; PLACES]) }
    }
}

impl Tails {
    /// Appends the end of this span; `false`, and nothing, if it is not known.
    #[inline]
    pub(super) fn put(&self, out: &mut Vec<u8>, record: &SpanRecord) -> bool {
        #[expect(clippy::indexing_slicing, reason = "a remainder")]
        let tail = &self.places[place_of(record)];
        if tail.op != record.op.0 || tail.description != record.description.0 || tail.len == 0 {
            return false;
        }
        let end = out.len() + tail.len;
        out.extend_from_slice(&tail.bytes);
        out.truncate(end);
        true
    }

    /// Keeps the end of this span, and of all that are called so, if it is not too long.
    pub(super) fn keep(&mut self, record: &SpanRecord, joined: &[u8]) {
        let mut bytes = [0; ROOM];
        let Some(head) = bytes.get_mut(..joined.len()) else { return };
        head.copy_from_slice(joined);
        #[expect(clippy::indexing_slicing, reason = "a remainder")]
        let place = &mut self.places[place_of(record)];
        *place =
            Tail { op: record.op.0, description: record.description.0, len: joined.len(), bytes };
    }
}

/// Names are numbered in the order of their first use: those of one pair mostly side by side.
#[inline]
const fn place_of(record: &SpanRecord) -> usize {
    record.description.0.wrapping_add(record.op.0.wrapping_mul(5)) as usize % PLACES
}
