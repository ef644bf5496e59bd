//! What a segment's bytes mean: a mark, then records one after the other.
//!
//! ```text
//!   "hotspan\x01" ┬ state u8 │ 0 u24 │ crc32 u32 │ length u32 │ transactions u32 │ spans u32
//!                 │ unix nanoseconds u64 │ payload, `length` bytes
//!                 └ ... as often as there are envelopes
//! ```
//!
//! Numbers are little endian. The checksum covers everything behind itself. It leaves out the
//! state, which is the one byte that is ever written again: from [`WAITING`] to [`DONE`], when the
//! envelope is sent or given up. The two have no bit in common, so a state with some bits flipped
//! is neither, and such a record is damage, never an envelope that is sent twice.
//!
//! Whatever does not check ends the segment: a length cannot be believed there, so there is no way
//! to what follows. A record that a kill cut short is the same case.
//!
//! # Costs
//! 28 bytes a record, 8 a segment. A reader keeps nothing: it runs over the payloads, of whatever
//! length they claim to be, in the buffer of its source.

use std::io::{self, BufRead};

use crc32fast::Hasher;

use crate::shared::ledger::Count;

/// How a segment begins; the last byte is the version of the format.
pub(crate) const MARK: [u8; 8] = *b"hotspan\x01";

/// What stands before a payload.
pub(crate) const HEAD_BYTES: usize = 28;

/// A longer payload is no envelope that a server would take.
pub(crate) const PAYLOAD_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// To be sent.
pub(crate) const WAITING: u8 = 0xa5;

/// Sent, or given up: nobody sends it again.
pub(crate) const DONE: u8 = 0x5a;

/// What stands before a payload, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) is_done: bool,
    crc: u32,
    /// Of the payload.
    pub(crate) length: u32,
    pub(crate) transactions: u32,
    pub(crate) spans: u32,
    /// When it was put here, in nanoseconds since 1970.
    pub(crate) nanos: u64,
}

impl Head {
    /// The head of an envelope that waits. `None` when the envelope is too long.
    pub(crate) fn new(pieces: [&[u8]; 2], count: Count, nanos: u64) -> Option<Self> {
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let length = u32::try_from(length).ok().filter(|&length| length <= PAYLOAD_BYTES_MAX)?;
        // An envelope of four billion spans is not one that fits.
        let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
        let (transactions, spans) = (narrow(count.transactions), narrow(count.spans));
        let mut head = Self { is_done: false, crc: 0, length, transactions, spans, nanos };
        let mut hasher = head.hasher();
        pieces.iter().for_each(|piece| hasher.update(piece));
        head.crc = hasher.finalize();
        Some(head)
    }

    /// `None` for what cannot be the head of a record.
    pub(crate) fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let (&[state, 0, 0, 0], rest) = bytes.split_first_chunk::<4>()? else { return None };
        let (crc, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (transactions, rest) = rest.split_first_chunk()?;
        let (spans, rest) = rest.split_first_chunk()?;
        let (nanos, _) = rest.split_first_chunk()?;
        let head = Self {
            is_done: match state {
                WAITING => false,
                DONE => true,
                _ => return None,
            },
            crc: u32::from_le_bytes(*crc),
            length: u32::from_le_bytes(*length),
            transactions: u32::from_le_bytes(*transactions),
            spans: u32::from_le_bytes(*spans),
            nanos: u64::from_le_bytes(*nanos),
        };
        (head.length <= PAYLOAD_BYTES_MAX).then_some(head)
    }

    /// Appends the head as it is stored.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        into.extend([if self.is_done { DONE } else { WAITING }, 0, 0, 0]);
        into.extend(self.crc.to_le_bytes());
        into.extend(self.covered());
    }

    /// The record's bytes, head and payload.
    pub(crate) fn bytes(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.length)
    }

    /// Whether this payload is the one that the checksum was made of.
    pub(crate) fn is_of(&self, payload: &[u8]) -> bool {
        let mut hasher = self.hasher();
        hasher.update(payload);
        payload.len() as u64 == u64::from(self.length) && hasher.finalize() == self.crc
    }

    /// The part of the head that the checksum covers.
    fn covered(&self) -> impl Iterator<Item = u8> + use<> {
        let numbers = [self.length, self.transactions, self.spans];
        numbers.into_iter().flat_map(u32::to_le_bytes).chain(self.nanos.to_le_bytes())
    }

    fn hasher(&self) -> Hasher {
        let mut covered = [0; HEAD_BYTES - 8];
        covered.iter_mut().zip(self.covered()).for_each(|(to, from)| *to = from);
        let mut hasher = Hasher::new();
        hasher.update(&covered);
        hasher
    }
}

/// What stands next in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A record that checks, and where it begins.
    Record(u64, Head),
    /// The segment ends where a record could begin.
    End,
    /// Something that is no record, or not all of one. It is no use to go on.
    Damage,
}

/// Runs over a segment, checking.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    source: R,
    sound: u64,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, sound: 0 }
    }

    /// Where the last thing that checked ends: the segment is sound up to here.
    pub(crate) fn sound(&self) -> u64 {
        self.sound
    }

    /// The next record.
    ///
    /// # Errors
    /// Those of the source; the end of it is none.
    pub(crate) fn next(&mut self) -> io::Result<Next> {
        if self.sound == 0 {
            let mut mark = [0; MARK.len()];
            if self.fill(&mut mark)? < mark.len() || mark != MARK {
                return Ok(Next::Damage);
            }
            self.sound = MARK.len() as u64;
        }
        let mut bytes = [0; HEAD_BYTES];
        match self.fill(&mut bytes)? {
            0 => return Ok(Next::End),
            HEAD_BYTES => {}
            _ => return Ok(Next::Damage),
        }
        let Some(head) = Head::decode(&bytes) else { return Ok(Next::Damage) };
        if self.checksum(&head)? != Some(head.crc) {
            return Ok(Next::Damage);
        }
        let start = self.sound;
        self.sound = start.saturating_add(head.bytes());
        Ok(Next::Record(start, head))
    }

    /// The checksum over a head and the payload that comes next; `None` when it is cut short.
    fn checksum(&mut self, head: &Head) -> io::Result<Option<u32>> {
        let mut hasher = head.hasher();
        let mut left = head.length as usize;
        while left > 0 {
            let there = match self.source.fill_buf() {
                Ok(there) => there,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let part = there.get(..left).unwrap_or(there);
            if part.is_empty() {
                return Ok(None);
            }
            hasher.update(part);
            let length = part.len();
            self.source.consume(length);
            left -= length;
        }
        Ok(Some(hasher.finalize()))
    }

    /// Reads as many bytes as there are, at most so many; how many that were.
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
