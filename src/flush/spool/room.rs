//! What has to go: for its age, beyond the bounds, or because it does not check.

use std::io;
use std::time::Duration;

use super::index::{Entry, Fate, Id, Key};
use super::record::DONE;
use super::{Spool, disk, mark_bytes};
use crate::shared::ledger::Count;

impl Spool {
    /// Evicts until so many bytes may be written, and says where in the active segment; `None` when
    /// they need a new one.
    pub(super) fn make_room(&mut self, bytes: u64) -> io::Result<Option<u64>> {
        loop {
            let active = self.active.as_ref().map(|(key, _)| *key);
            let end = active.and_then(|key| self.index.segment(key)).map(|segment| segment.bytes);
            let end = end.filter(|end| end.saturating_add(bytes) <= self.segment_bytes);
            let more = if end.is_some() { bytes } else { mark_bytes() + bytes };
            if self.index.bytes().saturating_add(more) <= self.bounds.bytes {
                return Ok(end);
            }
            // The active segment may go, too.
            let Some(oldest) = self.index.oldest_file() else { return Ok(None) };
            self.evict_file(oldest)?;
        }
    }

    /// Evicts all that waits in a segment. What is out of it stays out, and is lost if it comes
    /// back.
    pub(super) fn evict_file(&mut self, key: Key) -> io::Result<()> {
        self.close(key);
        disk::remove(&self.path(key))?;
        let count = self.index.remove_file(key);
        self.losses.evicted += count;
        Ok(())
    }

    /// Evicts the oldest while there are too many.
    pub(super) fn evict_envelopes(&mut self) {
        while self.index.envelopes() > self.bounds.envelopes
            && let Some((id, _)) = self.index.oldest()
        {
            let count = self.settle(id);
            self.losses.evicted += count;
        }
    }

    /// Settles what waited for too long.
    pub(super) fn expire(&mut self, unix_now: Duration) {
        let age = self.bounds.age;
        while let Some(id) = self.index.oldest_expired(age, unix_now) {
            // A whole segment goes at once, if the disk allows it.
            let is_over = self.index.segment(id.key).is_some_and(|it| it.is_over(age, unix_now));
            if is_over {
                self.close(id.key);
            }
            let count = if is_over && disk::remove(&self.path(id.key)).is_ok() {
                self.index.remove_file(id.key)
            } else {
                self.settle(id)
            };
            self.losses.expired += count;
        }
    }

    /// An envelope is no more: nobody may send it again.
    pub(super) fn settle(&mut self, id: Id) -> Count {
        let Some(settled) = self.index.settle(id) else { return Count::default() };
        let kept = match settled.file {
            Fate::Gone => None,
            Fate::Kept { offset } => Some(offset),
            Fate::Over { offset } => {
                self.close(id.key);
                let removed = disk::remove(&self.path(id.key));
                self.losses.errors += u64::from(removed.is_err());
                removed.is_err().then_some(offset)
            }
        };
        if let Some(offset) = kept {
            let marked = self.file(id.key).and_then(|it| disk::write_at(it, offset, &[DONE]));
            self.losses.errors += u64::from(marked.is_err());
        }
        settled.count
    }

    /// A record does not check. Those behind it may: where they begin is known.
    pub(super) fn lose_record(&mut self, id: Id, entry: &Entry) {
        self.losses.damaged_bytes += entry.bytes();
        let is_known = self
            .index
            .segment(id.key)
            .is_none_or(|segment| std::mem::replace(&mut segment.is_damaged, true));
        if !is_known {
            self.losses.damaged_files += 1;
            let name = self.name_aside(&self.folder.path, id.key.number, entry.offset.into());
            let opened = disk::open(&self.path(id.key));
            let kept =
                opened.and_then(|mut file| self.aside.keep(&name, &mut file, entry.offset.into()));
            self.losses.errors += u64::from(kept.is_err());
        }
        let Some(settled) = self.index.settle(id) else { return };
        // It is not marked: what stands there is no record.
        self.losses.damaged += settled.count;
        if matches!(settled.file, Fate::Over { .. }) {
            self.close(id.key);
            let removed = disk::remove(&self.path(id.key));
            self.losses.errors += u64::from(removed.is_err());
        }
    }

    /// A segment's file is not there, or cannot be read.
    pub(super) fn lose_file(&mut self, key: Key) {
        self.close(key);
        if let Some(segment) = self.index.segment(key) {
            self.losses.damaged_bytes += segment.bytes;
            self.losses.damaged_files += u64::from(!segment.is_damaged);
        }
        let count = self.index.remove_file(key);
        self.losses.damaged += count;
        let name = self.name_aside(&self.folder.path, key.number, 0);
        match self.aside.take(&name, &self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.losses.errors += 1;
                let _ = disk::remove(&self.path(key));
            }
            _ => {}
        }
    }
}
