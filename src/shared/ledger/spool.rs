//! What went through the spool, the store of envelopes on disk.
//!
//! A spool is filled by this process (`taken_in`) and with what processes before it left
//! (`recovered`), and emptied by what was sent or lost (`left`) and by closing (`put_aside`: still
//! on disk, for the next process). What lies between is in the spool.

use super::{Count, Tally, Total};

#[derive(Debug)]
pub(crate) struct Spool {
    pub(crate) taken_in: Tally,
    pub(crate) recovered: Tally,
    /// Delivered from there, or lost.
    pub(crate) left: Tally,
    pub(crate) put_aside: Tally,
    /// Files that were set aside as they could not be read to their end.
    pub(crate) damaged_files: Total,
    /// Reads and writes that failed.
    pub(crate) errors: Total,
}

impl Spool {
    pub(super) const fn new() -> Self {
        Self {
            taken_in: Tally::new(),
            recovered: Tally::new(),
            left: Tally::new(),
            put_aside: Tally::new(),
            damaged_files: Total::new(),
            errors: Total::new(),
        }
    }

    /// What is in it. Sinks are read before sources.
    pub(crate) fn holds(&self) -> Count {
        let out = self.left.read() + self.put_aside.read();
        self.taken_in.read() + self.recovered.read() - out
    }
}
