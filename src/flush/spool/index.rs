//! What the segments hold, in memory: where each envelope lies and what became of it.
//!
//! Segments are ordered by the time of their first record, so those of dead processes stand among
//! our own where they belong; inside a segment the order is that of the file. The oldest is
//! therefore the first that waits, give or take what two processes wrote at the same time.
//!
//! # Invariants
//! * X1: `envelopes` and `count` are those of all entries that are waiting or out.
//! * X2: `bytes` is that of all files. A segment whose file is gone has none, and stays only for
//!   the entries of it that are out.
//! * X3: before `next` no entry of a segment is waiting.
//! * X4: a segment without an entry that is waiting or out is not here: whoever settles the last
//!   one takes it out.
//!
//! # Costs
//! 32 bytes a record, freed with its segment.

use std::collections::BTreeMap;
use std::time::Duration;

use super::record::{HEAD_BYTES, Head};
use crate::shared::ledger::Count;

/// Names a segment, and gives it its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Of the first record, since 1970.
    pub(super) nanos: u64,
    /// The file's name.
    pub(super) number: u64,
}

/// Names an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) key: Key,
    pub(super) nth: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Waiting,
    /// Handed out.
    Out,
    Settled,
}

/// A record, as far as it must be known without its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) nanos: u64,
    pub(super) offset: u32,
    length: u32,
    transactions: u32,
    spans: u32,
    place: Place,
}

impl Entry {
    /// `None` for what lies where nothing of ours does.
    pub(super) fn new(offset: u64, head: &Head) -> Option<Self> {
        let &Head { length, transactions, spans, nanos, .. } = head;
        let offset = u32::try_from(offset).ok()?;
        Some(Self { nanos, offset, length, transactions, spans, place: Place::Waiting })
    }

    pub(super) fn count(&self) -> Count {
        Count { transactions: self.transactions.into(), spans: self.spans.into() }
    }

    /// As it is stored.
    pub(super) fn bytes(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.length)
    }

    /// Whether this is the head of it.
    pub(super) fn is(&self, head: &Head) -> bool {
        let ours = (self.length, self.transactions, self.spans, self.nanos);
        !head.is_done && ours == (head.length, head.transactions, head.spans, head.nanos)
    }

    pub(super) fn is_expired(&self, age: Duration, unix_now: Duration) -> bool {
        is_expired(self.nanos, age, unix_now)
    }
}

/// A clock that went backwards makes nothing old.
fn is_expired(nanos: u64, age: Duration, unix_now: Duration) -> bool {
    unix_now.saturating_sub(Duration::from_nanos(nanos)) > age
}

#[derive(Debug)]
pub(super) struct Segment {
    /// Of the file; none when it is gone.
    pub(super) bytes: u64,
    entries: Vec<Entry>,
    waiting: usize,
    out: usize,
    next: usize,
    /// The time of the latest entry.
    latest: u64,
    /// How often it could not be read, one time after the other.
    pub(super) failures: u8,
    /// Whether damage in it has been counted.
    pub(super) is_damaged: bool,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    segments: BTreeMap<Key, Segment>,
    bytes: u64,
    envelopes: usize,
    count: Count,
}

impl Index {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn envelopes(&self) -> usize {
        self.envelopes
    }

    pub(super) fn count(&self) -> Count {
        self.count
    }

    #[cfg(test)]
    pub(super) fn has_file(&self, key: Key) -> bool {
        self.segments.get(&key).is_some_and(|segment| segment.bytes > 0)
    }

    pub(super) fn segment(&mut self, key: Key) -> Option<&mut Segment> {
        self.segments.get_mut(&key)
    }

    /// A file that was not here, with what waits in it: one entry at least.
    pub(super) fn insert(&mut self, key: Key, bytes: u64, entries: Vec<Entry>) {
        debug_assert!(!entries.is_empty());
        self.bytes += bytes;
        self.envelopes += entries.len();
        entries.iter().for_each(|entry| self.count += entry.count());
        let segment = Segment {
            bytes,
            waiting: entries.len(),
            out: 0,
            next: 0,
            latest: entries.iter().map(|entry| entry.nanos).max().unwrap_or_default(),
            failures: 0,
            is_damaged: false,
            entries,
        };
        self.segments.insert(key, segment);
    }

    /// A record that was appended to a file, which now has so many bytes. Says which one it is.
    pub(super) fn append(&mut self, key: Key, bytes: u64, entry: Entry) -> usize {
        let Some(segment) = self.segments.get_mut(&key) else { return usize::MAX };
        self.bytes = (self.bytes + bytes).saturating_sub(segment.bytes);
        self.envelopes += 1;
        self.count += entry.count();
        segment.bytes = bytes;
        segment.waiting += 1;
        segment.latest = segment.latest.max(entry.nanos);
        segment.entries.push(entry);
        segment.entries.len() - 1
    }

    /// A file has grown without a record.
    pub(super) fn grow(&mut self, key: Key, bytes: u64) {
        let Some(segment) = self.segments.get_mut(&key) else { return };
        self.bytes = (self.bytes + bytes).saturating_sub(segment.bytes);
        segment.bytes = bytes;
    }

    /// The oldest entry that waits.
    pub(super) fn oldest(&mut self) -> Option<(Id, Entry)> {
        let (&key, segment) = self.segments.iter_mut().find(|(_, segment)| segment.waiting > 0)?;
        let (nth, entry) = segment.first_waiting()?;
        Some((Id { key, nth }, entry))
    }

    /// The oldest entry that waits, if it has waited for too long.
    pub(super) fn oldest_expired(&mut self, age: Duration, unix_now: Duration) -> Option<Id> {
        for (&key, segment) in &mut self.segments {
            if !is_expired(key.nanos, age, unix_now) {
                return None;
            }
            if let Some((nth, entry)) = segment.first_waiting()
                && entry.is_expired(age, unix_now)
            {
                return Some(Id { key, nth });
            }
        }
        None
    }

    /// The oldest segment that has a file.
    pub(super) fn oldest_file(&self) -> Option<Key> {
        self.segments.iter().find(|(_, segment)| segment.bytes > 0).map(|(&key, _)| key)
    }

    /// Hands out an entry that waits.
    pub(super) fn hand_out(&mut self, id: Id) {
        let Some(segment) = self.segments.get_mut(&id.key) else { return };
        let Some(entry) = segment.entries.get_mut(id.nth) else { return };
        if entry.place == Place::Waiting {
            entry.place = Place::Out;
            segment.waiting -= 1;
            segment.out += 1;
        }
    }

    /// Takes back an entry that is out. `false` when its file is gone: it must be settled then.
    pub(super) fn put_back(&mut self, id: Id) -> bool {
        let Some(segment) = self.segments.get_mut(&id.key) else { return false };
        let Some(entry) = segment.entries.get_mut(id.nth) else { return false };
        if segment.bytes == 0 {
            return false;
        }
        if entry.place == Place::Out {
            entry.place = Place::Waiting;
            segment.waiting += 1;
            segment.out -= 1;
            segment.next = segment.next.min(id.nth);
        }
        true
    }

    /// An entry, waiting or out, is no more. `None` when it is not there.
    pub(super) fn settle(&mut self, id: Id) -> Option<Settled> {
        let segment = self.segments.get_mut(&id.key)?;
        let entry = segment.entries.get_mut(id.nth)?;
        match entry.place {
            Place::Waiting => segment.waiting -= 1,
            Place::Out => segment.out -= 1,
            Place::Settled => return None,
        }
        entry.place = Place::Settled;
        let (count, offset) = (entry.count(), entry.offset.into());
        self.envelopes = self.envelopes.saturating_sub(1);
        self.count = self.count - count;
        let (is_last, has_file) = (segment.waiting + segment.out == 0, segment.bytes > 0);
        if is_last {
            self.bytes = self.bytes.saturating_sub(segment.bytes);
            self.segments.remove(&id.key);
        }
        let file = match (has_file, is_last) {
            (false, _) => Fate::Gone,
            (true, false) => Fate::Kept { offset },
            (true, true) => Fate::Over { offset },
        };
        Some(Settled { count, file })
    }

    /// A segment's file is no more: settles what waits in it. What is out stays out.
    pub(super) fn remove_file(&mut self, key: Key) -> Count {
        let Some(segment) = self.segments.get_mut(&key) else { return Count::default() };
        self.bytes = self.bytes.saturating_sub(segment.bytes);
        self.envelopes = self.envelopes.saturating_sub(segment.waiting);
        let mut lost = Count::default();
        for entry in segment.entries.iter_mut().filter(|entry| entry.place == Place::Waiting) {
            entry.place = Place::Settled;
            lost += entry.count();
        }
        self.count = self.count - lost;
        (segment.bytes, segment.waiting) = (0, 0);
        if segment.out == 0 {
            self.segments.remove(&key);
        }
        lost
    }
}

impl Segment {
    /// Whether all of it has expired, and nothing of it is out.
    pub(super) fn is_over(&self, age: Duration, unix_now: Duration) -> bool {
        self.bytes > 0 && self.out == 0 && is_expired(self.latest, age, unix_now)
    }

    fn first_waiting(&mut self) -> Option<(usize, Entry)> {
        let rest = self.entries.get(self.next..).unwrap_or_default();
        let ahead = rest.iter().position(|entry| entry.place == Place::Waiting);
        self.next += ahead.unwrap_or(rest.len());
        self.entries.get(self.next).map(|&entry| (self.next, entry))
    }
}

/// What an entry was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    pub(super) count: Count,
    pub(super) file: Fate,
}

/// What is to be done about the file of an entry that was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Gone,
    /// Others are in it: this one is to be marked.
    Kept { offset: u64 },
    /// It was the last one: the file can be removed.
    Over { offset: u64 },
}
