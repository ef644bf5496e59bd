//! Adoption: what dead processes left for this destination becomes ours, segment by segment.
//!
//! A segment is read and checked where it lies, under the lock of its folder, then renamed into
//! ours; a kill in between leaves it where it can be adopted, by whoever comes next. Damage is laid
//! aside first and cut off, so it is counted once. A folder that is empty then is removed.
//!
//! Whatever goes wrong with a segment (the disk, that is, and not what is in it) leaves it there
//! for a later round, and is counted. Files and folders that have not the names of ours are not
//! touched.
//!
//! # Costs
//! One call looks at [`ENTRIES_MAX`] entries of folders and [`BYTES_MAX`] of segments, and then one
//! segment more at most: some milliseconds.

use std::ffi::OsStr;
use std::fs::{DirEntry, ReadDir};
use std::io::{self, BufReader, Read as _};
use std::path::Path;
use std::time::Duration;

use super::index::{Entry, Key};
use super::record::{HEAD_BYTES, Next, PAYLOAD_BYTES_MAX, Reader};
use super::{Folder, SEGMENT_BYTES_MAX, Spool, disk, folder, mark_bytes};
use crate::shared::ledger::Count;

/// Of one call.
const ENTRIES_MAX: usize = 256;
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// No segment of ours is longer. What is behind that is not even looked at.
const LONGEST: u64 =
    SEGMENT_BYTES_MAX + mark_bytes() + HEAD_BYTES as u64 + PAYLOAD_BYTES_MAX as u64;

/// What one call took over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Adopted {
    /// Everything that was found to be waiting, also what had to be evicted or had expired.
    pub(crate) count: Count,
    pub(crate) envelopes: usize,
    /// Whether there may be more: call again.
    pub(crate) more: bool,
}

/// A walk through the folders of a destination, that goes on from call to call.
#[derive(Debug)]
pub(super) struct Round {
    folders: ReadDir,
    dead: Option<Dead>,
}

/// A folder that is being emptied.
#[derive(Debug)]
struct Dead {
    folder: Folder,
    files: ReadDir,
    /// Whether something was taken out since the listing began, which may have skipped others then.
    is_changed: bool,
}

/// What a segment holds.
#[derive(Debug, Default)]
struct Scan {
    waiting: Vec<Entry>,
    /// Of the part that checks.
    sound: u64,
    is_damaged: bool,
}

impl Spool {
    /// Takes over what dead processes left for this destination. When it is through, the next call
    /// begins anew: others may have died.
    pub(crate) fn adopt(&mut self, unix_now: Duration) -> Adopted {
        let mut adopted = Adopted::default();
        let round = self.round.take().map_or_else(|| self.begin_round(), Ok);
        let Ok(mut round) = round else {
            self.losses.errors += 1;
            return adopted;
        };
        self.aside.refill();
        let mut bytes = 0;
        for _ in 0..ENTRIES_MAX {
            if bytes >= BYTES_MAX {
                break;
            }
            let Some(dead) = &mut round.dead else {
                // An error of the listing ends it.
                let Some(Ok(entry)) = round.folders.next() else { return adopted };
                round.dead = self.claim(&entry);
                continue;
            };
            if let Some(Ok(entry)) = dead.files.next() {
                let taken = self.adopt_file(&entry, &dead.folder.path, unix_now, &mut adopted);
                match taken {
                    Ok(None) => {}
                    Ok(Some(length)) => {
                        dead.is_changed = true;
                        bytes += length;
                    }
                    Err(_) => self.losses.errors += 1,
                }
            } else if dead.is_changed
                && let Ok(files) = disk::list(&dead.folder.path)
            {
                (dead.files, dead.is_changed) = (files, false);
            } else {
                dead.folder.remove();
                round.dead = None;
            }
        }
        self.round = Some(round);
        adopted.more = true;
        adopted
    }

    fn begin_round(&self) -> io::Result<Round> {
        Ok(Round { folders: disk::list(&self.destination)?, dead: None })
    }

    fn claim(&mut self, entry: &DirEntry) -> Option<Dead> {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_named = entry.file_name().to_str().is_some_and(folder::is_name);
        let path = entry.path();
        if !is_folder || !is_named || path == self.folder.path {
            return None;
        }
        let folder = Folder::claim(path)?;
        match disk::list(&folder.path) {
            Ok(files) => Some(Dead { folder, files, is_changed: false }),
            Err(error) => {
                // Another one that adopts may have been faster, and removed it.
                self.losses.errors += u64::from(error.kind() != io::ErrorKind::NotFound);
                None
            }
        }
    }

    /// Takes over one segment. How many bytes were looked at; `None` when it is no segment.
    fn adopt_file(
        &mut self,
        entry: &DirEntry,
        folder: &Path,
        unix_now: Duration,
        adopted: &mut Adopted,
    ) -> io::Result<Option<u64>> {
        let Some(number) = number_of(&entry.file_name()) else { return Ok(None) };
        if !entry.file_type()?.is_file() {
            return Ok(None);
        }
        let path = entry.path();
        let mut file = disk::open(&path)?;
        let length = file.metadata()?.len();
        let Scan { waiting, sound, is_damaged } = scan(&file)?;
        if is_damaged {
            let name = self.name_aside(folder, number, sound);
            let kept = self.aside.keep(&name, &mut file, sound);
            self.losses.errors += u64::from(kept.is_err());
            if !waiting.is_empty() {
                disk::cut(&file, sound)?;
            }
        }
        drop(file);
        let mut count = Count::default();
        waiting.iter().for_each(|entry| count += entry.count());
        let envelopes = waiting.len();
        let nanos = waiting.iter().map(|entry| entry.nanos).min();
        let age = self.bounds.age;
        if waiting.iter().all(|entry| entry.is_expired(age, unix_now)) {
            // Or there is none.
            disk::remove(&path)?;
            self.losses.expired += count;
        } else {
            let key = Key { nanos: nanos.unwrap_or_default(), number: self.next_number() };
            if self.make_room_for(key, sound)? {
                disk::rename(&path, &self.path(key))?;
                self.index.insert(key, sound, waiting);
            } else {
                disk::remove(&path)?;
                self.losses.evicted += count;
            }
        }
        adopted.count += count;
        adopted.envelopes += envelopes;
        if is_damaged {
            self.losses.damaged_files += 1;
            self.losses.damaged_bytes += length.saturating_sub(sound);
        }
        self.expire(unix_now);
        self.evict_envelopes();
        Ok(Some(sound))
    }

    /// Evicts what is older than a segment until that fits. `false` when it is the oldest itself,
    /// or longer than the bound.
    fn make_room_for(&mut self, key: Key, bytes: u64) -> io::Result<bool> {
        let fits_at_all = bytes <= self.bounds.bytes;
        while self.index.bytes().saturating_add(bytes) > self.bounds.bytes {
            match self.index.oldest_file().filter(|&oldest| fits_at_all && oldest < key) {
                Some(oldest) => self.evict_file(oldest)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// What a piece of a segment is called when it is laid aside: always the same for the same.
    pub(super) fn name_aside(&self, folder: &Path, number: u64, from: u64) -> String {
        let name = |path: &Path| -> String {
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        };
        format!("{}-{}-{number:08}-{from}", name(&self.destination), name(folder))
    }
}

/// The number in the name of a segment.
fn number_of(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(".spool")?;
    let number = digits.parse().ok()?;
    (format!("{number:08}") == digits).then_some(number)
}

fn scan(file: &std::fs::File) -> io::Result<Scan> {
    let mut found = Scan::default();
    let mut reader = Reader::new(BufReader::with_capacity(64 * 1024, file.take(LONGEST)));
    loop {
        disk::reads()?;
        match reader.next()? {
            Next::Record(_, head) if head.is_done => {}
            Next::Record(offset, head) => found.waiting.extend(Entry::new(offset, &head)),
            Next::End => break,
            Next::Damage => {
                found.is_damaged = true;
                break;
            }
        }
    }
    found.sound = reader.sound();
    Ok(found)
}
