//! The spool: envelopes that cannot be sent now, in files, until they can be, by this process or
//! the next.
//!
//! ```text
//!  put ──► waiting ── take ──► out ── done ──► marked, and sent by nobody again
//!   ▲         │ ▲               │
//!   │         │ └── put_back ───┘
//!   │         └────► evicted | expired | damaged
//!   └── adopt: what processes left that are dead
//! ```
//!
//! It is for outages and for sudden ends. An envelope is in the kernel's hands when [`Spool::put`]
//! returns: SIGKILL, an abort or the OOM killer do not take it. A power cut may:
//! nothing is ever synced, as that would make the host wait for its disk.
//!
//! ```text
//!  DIR/1f3a90c2/                     one folder a destination: no envelope goes to another
//!        4711-9be2…/                 one a process, locked while it lives (folder.rs)
//!              lock
//!              00000001.spool        segments of records (record.rs)
//!              00000002.spool
//!  DIR/damaged/                      what did not check (aside.rs)
//! ```
//!
//! One thread owns a spool. It has no clock: whoever calls says what time it is. Nothing in the
//! files says where the envelopes go; the folder is named after a fingerprint of that.
//!
//! # Invariants
//! * S1: every envelope that was put or adopted ends as exactly one of done, evicted, expired or
//!   damaged, or is held.
//! * S2: the files of this process together have at most [`Bounds::bytes`], the marks, the heads
//!   and the records that are done included; at most [`Bounds::envelopes`] are held. It is the
//!   oldest that go. For bytes a whole segment goes at a time, as there is no other way to free
//!   any: at most a sixteenth of the bound, or one long envelope, more than needed.
//! * S3: a record is written by one call, behind all others, and what is done is marked in place,
//!   by one byte. So after a kill at any moment, what was done is not sent again, but for the one
//!   that was being marked, and everything else is, but for the one that was being written.
//! * S4: no error of the disk makes the spool unusable, hides what was written before or after, or
//!   goes without being returned or counted ([`Losses::errors`]).
//! * S5: memory is 32 bytes a record, and one envelope at a time.
//!
//! # Costs
//! Release, ext4 on a virtual disk, two cores that others used, too (`scripts/spool-model
//! --costs`): a `put` of 500 bytes takes 3 µs, of 2,000 bytes 9 µs, of 20,000 bytes 54 µs; `take`
//! and `done` together 13, 23 and 90 µs. On the disk it is 28 bytes more than the envelope. `open`
//! takes 0.1 ms; a full spool of 64 MiB, 32,574 envelopes, is adopted after 63 ms, in calls of at
//! most 10 ms.
//!
//! # Limits
//! Bounds are a process's; of as many as live at the same time, each has its own. What was left for
//! a destination that nobody uses any more stays. What is out while its segment is evicted has no
//! file any more: a kill takes it. A cut that falls between two records cannot be seen. If a file
//! cannot be removed, it is marked instead, and its bytes are not counted any more. Locks on
//! network file systems are as good as those are.

use std::fs::File;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::shared::ledger::Count;

mod adopt;
mod aside;
mod disk;
mod folder;
mod index;
pub(crate) mod record;
mod room;
#[cfg(test)]
mod tests;

use adopt::Round;
use aside::Aside;
use folder::Folder;
use index::{Entry, Id, Index, Key};
use record::{HEAD_BYTES, Head, MARK};

/// A segment is closed when it would grow longer than a part of the bound, within these.
const SEGMENT_BYTES_MIN: u64 = 4 * 1024;
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024;

/// A buffer that grew beyond this is freed: one huge envelope must not pin its memory.
const SCRATCH_BYTES_MAX: usize = 256 * 1024;

/// A segment that cannot be read so many times, one after the other, is given up.
const FAILURES_MAX: u8 = 3;

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Of all files of this process together.
    pub(crate) bytes: u64,
    /// Those that are handed out included.
    pub(crate) envelopes: usize,
    pub(crate) age: Duration,
}

/// Hands an envelope back, or settles it. One that is dropped leaves it as it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket(Id);

/// An envelope that was handed out.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) ticket: Ticket,
    pub(crate) count: Count,
}

/// What [`Spool::take`] and [`Spool::put_back`] could still yield.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// In them.
    pub(crate) count: Count,
    /// Those that are handed out included, until they are done.
    pub(crate) envelopes: usize,
    /// Of the files.
    pub(crate) bytes: u64,
}

/// What went wrong, or had to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// The oldest, beyond the bounds.
    pub(crate) evicted: Count,
    /// Those that waited for too long.
    pub(crate) expired: Count,
    /// Those of which it was known that they were there.
    pub(crate) damaged: Count,
    /// Files in which something does not check, each counted once; if a dead process left them,
    /// what was in there behind that is not known.
    pub(crate) damaged_files: u64,
    pub(crate) damaged_bytes: u64,
    /// Errors of the disk that were returned to nobody.
    pub(crate) errors: u64,
}

/// Why [`Spool::put`] did not take an envelope.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It is longer than the bound, or than any server takes.
    TooLong,
    /// As many as may be held are handed out.
    Full,
    /// The disk would not.
    Disk(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

#[derive(Debug)]
pub(crate) struct Spool {
    bounds: Bounds,
    segment_bytes: u64,
    /// `DIR/<destination>`.
    destination: PathBuf,
    folder: Folder,
    aside: Aside,
    index: Index,
    /// The number of the last segment.
    number: u64,
    /// The segment that is written to.
    active: Option<(Key, File)>,
    /// The last other one that was needed.
    other: Option<(Key, File)>,
    scratch: Vec<u8>,
    losses: Losses,
    round: Option<Round>,
}

/// A destination as a number, the same in every process.
pub(crate) fn fingerprint(destination: &str) -> u32 {
    crc32fast::hash(destination.as_bytes())
}

impl Spool {
    /// Makes a folder for this process, and locks it. Looks at nothing that is there already.
    ///
    /// # Errors
    /// When the folder cannot be made or locked.
    pub(crate) fn open(dir: &Path, destination: u32, bounds: Bounds) -> io::Result<Self> {
        let segment_bytes = (bounds.bytes / 16).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let destination = dir.join(format!("{destination:08x}"));
        let folder = Folder::make(&destination)?;
        let piece_max = segment_bytes.min(bounds.bytes);
        let aside = Aside::new(dir.join("damaged"), bounds.bytes, piece_max);
        Ok(Self {
            bounds,
            segment_bytes,
            destination,
            folder,
            aside,
            index: Index::default(),
            number: 0,
            active: None,
            other: None,
            scratch: Vec::new(),
            losses: Losses::default(),
            round: None,
        })
    }

    /// Appends an envelope, given in two pieces, and evicts the oldest beyond the bounds. The
    /// ticket is for taking it out again, by [`done`](Self::done).
    ///
    /// # Errors
    /// [`Refused`]: it is not here then. Others may have been evicted for it.
    pub(crate) fn put(
        &mut self,
        pieces: [&[u8]; 2],
        count: Count,
        unix_now: Duration,
    ) -> Result<Ticket, Refused> {
        self.expire(unix_now);
        let nanos = u64::try_from(unix_now.as_nanos()).unwrap_or(u64::MAX);
        let head = Head::new(pieces, count, nanos).ok_or(Refused::TooLong)?;
        if mark_bytes() + head.bytes() > self.bounds.bytes {
            return Err(Refused::TooLong);
        }
        if self.index.envelopes() >= self.bounds.envelopes && self.index.oldest().is_none() {
            return Err(Refused::Full);
        }
        let end = self.make_room(head.bytes())?;
        self.scratch.clear();
        if end.is_none() {
            self.scratch.extend(MARK);
        }
        head.encode(&mut self.scratch);
        pieces.iter().for_each(|piece| self.scratch.extend_from_slice(piece));
        let written = match end {
            Some(end) => self.append(end, &head),
            None => self.begin(&head),
        };
        if self.scratch.capacity() > SCRATCH_BYTES_MAX {
            self.scratch = Vec::new();
        }
        let id = written?;
        self.evict_envelopes();
        Ok(Ticket(id))
    }

    /// Hands out the oldest that is not handed out yet; its bytes replace those in `buffer`.
    ///
    /// `None` when there is none, or when the disk cannot be read now.
    pub(crate) fn take(&mut self, buffer: &mut Vec<u8>, unix_now: Duration) -> Option<Taken> {
        self.expire(unix_now);
        // Each time something is settled, so this comes to an end.
        loop {
            let (id, entry) = self.index.oldest()?;
            match self.read(id.key, &entry, buffer) {
                Ok(true) => {
                    self.index.hand_out(id);
                    if let Some(segment) = self.index.segment(id.key) {
                        segment.failures = 0;
                    }
                    return Some(Taken { ticket: Ticket(id), count: entry.count() });
                }
                Ok(false) => self.lose_record(id, &entry),
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.lose_file(id.key),
                Err(error) => {
                    self.losses.errors += 1;
                    if is_want(&error) {
                        return None;
                    }
                    let segment = self.index.segment(id.key)?;
                    segment.failures += 1;
                    if segment.failures < FAILURES_MAX {
                        return None;
                    }
                    self.lose_file(id.key);
                }
            }
        }
    }

    /// It was sent, or lost for a reason that is not the spool's.
    pub(crate) fn done(&mut self, ticket: Ticket) {
        self.settle(ticket.0);
    }

    /// It was not sent: it will be handed out again, in its old place.
    pub(crate) fn put_back(&mut self, ticket: Ticket) {
        if !self.index.put_back(ticket.0) {
            // Its file went while it was out.
            let count = self.settle(ticket.0);
            self.losses.evicted += count;
        }
    }

    /// What is here.
    pub(crate) fn held(&self) -> Held {
        let (count, envelopes) = (self.index.count(), self.index.envelopes());
        Held { count, envelopes, bytes: self.index.bytes() }
    }

    /// What was lost since this was asked for the last time.
    pub(crate) fn losses(&mut self) -> Losses {
        mem::take(&mut self.losses)
    }

    /// Writes what is in `scratch` behind the segment that is written to.
    fn append(&mut self, end: u64, head: &Head) -> Result<Id, Refused> {
        let Some((key, file)) = &mut self.active else { return Err(Refused::Full) };
        let entry = Entry::new(end, head).ok_or(Refused::TooLong)?;
        if let Err(error) = disk::write_at(file, end, &self.scratch) {
            // Half a record must not stand before the next one.
            if disk::cut(file, end).is_err() {
                self.losses.errors += 1;
                self.index.grow(*key, end + self.scratch.len() as u64);
                self.active = None;
            }
            return Err(error.into());
        }
        let nth = self.index.append(*key, end + head.bytes(), entry);
        Ok(Id { key: *key, nth })
    }

    /// Writes what is in `scratch` as a new segment.
    fn begin(&mut self, head: &Head) -> Result<Id, Refused> {
        self.active = None;
        let entry = Entry::new(mark_bytes(), head).ok_or(Refused::TooLong)?;
        let key = Key { nanos: head.nanos, number: self.next_number() };
        let mut path = self.path(key);
        let mut file = match disk::make_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody has removed the folder.
                self.folder = Folder::make(&self.destination)?;
                path = self.path(key);
                disk::make_file(&path)?
            }
            other => other?,
        };
        if let Err(error) = disk::write_at(&mut file, 0, &self.scratch) {
            drop(file);
            if disk::remove(&path).is_err() {
                self.losses.errors += 1;
            }
            return Err(error.into());
        }
        self.active = Some((key, file));
        self.index.insert(key, mark_bytes() + head.bytes(), vec![entry]);
        Ok(Id { key, nth: 0 })
    }

    /// Reads a record's payload. `false` when it is not the one that was written.
    fn read(&mut self, key: Key, entry: &Entry, buffer: &mut Vec<u8>) -> io::Result<bool> {
        buffer.clear();
        let file = self.file(key)?;
        let mut head = [0; HEAD_BYTES];
        match disk::read_at(file, entry.offset.into(), &mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        let Some(head) = Head::decode(&head) else { return Ok(false) };
        if !entry.is(&head) {
            return Ok(false);
        }
        disk::read_on(file, head.length.into(), buffer)?;
        Ok(head.is_of(buffer))
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn path(&self, key: Key) -> PathBuf {
        self.folder.path.join(format!("{:08}.spool", key.number))
    }

    /// A segment's file, opened if it is not.
    fn file(&mut self, key: Key) -> io::Result<&mut File> {
        let is = |file: &Option<(Key, File)>| file.as_ref().is_some_and(|(of, _)| *of == key);
        if is(&self.active) {
            return self.active.as_mut().map(|(_, file)| file).ok_or_else(gone);
        }
        if !is(&self.other) {
            self.other = Some((key, disk::open(&self.path(key))?));
        }
        self.other.as_mut().map(|(_, file)| file).ok_or_else(gone)
    }

    /// Closes a segment's file.
    fn close(&mut self, key: Key) {
        for file in [&mut self.active, &mut self.other] {
            if file.as_ref().is_some_and(|(of, _)| *of == key) {
                *file = None;
            }
        }
    }
}

impl Drop for Spool {
    /// Leaves what is held for the next process, and nothing if nothing is.
    fn drop(&mut self) {
        if self.index.envelopes() == 0 {
            (self.active, self.other) = (None, None);
            self.folder.remove();
        }
    }
}

const fn mark_bytes() -> u64 {
    MARK.len() as u64
}

/// Whether the process wants for something that has nothing to do with the file: descriptors of its
/// own or of all, memory.
fn is_want(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    cfg!(unix) && matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE))
}

fn gone() -> io::Error {
    io::ErrorKind::NotFound.into()
}
