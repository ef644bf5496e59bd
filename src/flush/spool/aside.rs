//! Where damage is laid aside, to be looked at: `DIR/damaged/`.
//!
//! What is laid there is a copy of the part that does not check, up to a segment's length; the
//! sound part before it stays in use. At most [`FILES_MAX`] files, together at most what the spool
//! may hold, the oldest removed first; and no more than that between two adoptions. Nothing in the
//! crate reads them again. Files of other names are not touched.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::disk;

const FILES_MAX: usize = 16;
const ENDING: &str = ".damaged";

/// Of the folder, when it is tidied: somebody else may have put anything there.
const ENTRIES_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Aside {
    folder: PathBuf,
    /// Of all of them.
    bytes_max: u64,
    /// Of one file.
    piece_max: u64,
    left: usize,
}

impl Aside {
    pub(super) fn new(folder: PathBuf, bytes_max: u64, piece_max: u64) -> Self {
        Self { folder, bytes_max, piece_max, left: FILES_MAX }
    }

    /// From here on as many may be kept as there is room for. More than that would only push each
    /// other out.
    pub(super) fn refill(&mut self) {
        self.left = FILES_MAX;
    }

    /// Copies what stands from an offset on.
    pub(super) fn keep(&mut self, name: &str, file: &mut File, from: u64) -> io::Result<()> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(()) };
        self.left = left;
        let mut piece = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        disk::read_on(file, self.piece_max, &mut piece)?;
        if piece.is_empty() {
            return Ok(());
        }
        let path = self.place(name)?;
        let mut copy = disk::make_file(&path)?;
        let written = disk::write_at(&mut copy, 0, &piece);
        if written.is_err() {
            let _ = disk::remove(&path);
        }
        self.tidy()?;
        written
    }

    /// Moves a whole file here.
    pub(super) fn take(&self, name: &str, path: &Path) -> io::Result<()> {
        disk::rename(path, &self.place(name)?)?;
        self.tidy()
    }

    /// A path at which there is no file.
    fn place(&self, name: &str) -> io::Result<PathBuf> {
        disk::make_folder(&self.folder, true)?;
        let path = self.folder.join(format!("{name}{ENDING}"));
        disk::remove(&path)?;
        Ok(path)
    }

    fn tidy(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in disk::list(&self.folder)?.take(ENTRIES_MAX) {
            let entry = entry?;
            let is_ours = entry.file_name().to_str().is_some_and(|name| name.ends_with(ENDING));
            if is_ours
                && let Ok(found) = entry.metadata()
                && found.is_file()
            {
                let time = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push((time, found.len(), entry.path()));
            }
        }
        files.sort();
        let (mut count, mut bytes) = (files.len(), files.iter().map(|(_, bytes, _)| bytes).sum());
        for (_, length, path) in &files {
            if count <= FILES_MAX && bytes <= self.bytes_max {
                break;
            }
            disk::remove(path)?;
            count -= 1;
            bytes = u64::saturating_sub(bytes, *length);
        }
        Ok(())
    }
}
