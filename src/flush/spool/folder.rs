//! A folder of one's own: made under a name that nobody else uses, and locked for as long as its
//! process lives.
//!
//! The lock is what tells the living from the dead: the system lets go of it when a process ends,
//! however it ends. Process ids tell nothing; they come again, and containers share folders but not
//! ids. A fork shares the lock with its parent: what a parent left is adopted when its children
//! that do not exec are gone, too.
//!
//! # Races
//! * Two that adopt: one gets the lock. The other may open the lock's file before the first removes
//!   it, and lock what has no name any more; it finds no segments then, as the lock goes last.
//! * One that starts and one that adopts: a folder is made, then its lock is made, then that is
//!   locked, and somebody may come in between. Who finds a folder without a lock removes it, which
//!   works only while it is empty; who finds a lock that is free takes it. The one that starts
//!   notices: its lock cannot be made, or is taken, or is not there when it looks once more. It
//!   goes on under another name. Names are drawn at random, so none comes again.
//! * A folder that has segments but no lock is none of ours (a cleaner of temporary files may have
//!   been there): its owner may be alive. It is left alone.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use super::disk;

const LOCK: &str = "lock";

/// Names that are tried before it is given up.
const TRIES: u64 = 16;

#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// Held, not used.
    _lock: File,
    /// Who made or took it. A fork has a copy of this value, and not the folder.
    process: u32,
}

impl Folder {
    /// Makes a folder in that of the destination, which is made if it is not there.
    pub(super) fn make(destination: &Path) -> io::Result<Self> {
        disk::make_folder(destination, true)?;
        for nth in 0..TRIES {
            let random = getrandom::u64().unwrap_or(nth);
            let process = process::id();
            let path = destination.join(format!("{process}-{random:016x}"));
            match disk::make_folder(&path, false) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other?,
            }
            match lock_new(&path) {
                Ok(Some(lock)) => return Ok(Self { path, _lock: lock, process }),
                Ok(None) => {}
                Err(error) => {
                    let _ = disk::remove(&path.join(LOCK));
                    let _ = disk::remove_folder(&path);
                    return Err(error);
                }
            }
        }
        Err(io::Error::other("no folder could be had"))
    }

    /// Takes over a folder whose process is dead. `None` when it lives, or when there is nothing to
    /// take over.
    pub(super) fn claim(path: PathBuf) -> Option<Self> {
        let lock = path.join(LOCK);
        match fs::symlink_metadata(&lock) {
            Ok(found) if found.is_file() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _ = disk::remove_folder(&path);
                return None;
            }
            _ => return None,
        }
        let lock = disk::open(&lock).ok()?;
        lock.try_lock().ok()?;
        Some(Self { path, _lock: lock, process: process::id() })
    }

    /// Leaves it as a kill does.
    #[cfg(test)]
    pub(super) fn forget(&mut self) {
        self.process = 0;
    }

    /// Removes the folder if there is nothing but the lock in it.
    pub(super) fn remove(&self) {
        if self.process != process::id() {
            return;
        }
        let Ok(entries) = disk::list(&self.path) else { return };
        if entries.take(2).all(|entry| entry.is_ok_and(|entry| entry.file_name() == LOCK)) {
            // Should one of them fail, the next to adopt finds a free lock or an empty folder.
            let _ = disk::remove(&self.path.join(LOCK));
            let _ = disk::remove_folder(&self.path);
        }
    }
}

/// Whether this could be the name of such a folder.
pub(super) fn is_name(name: &str) -> bool {
    let is_hex = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    name.split_once('-').is_some_and(|(process, random)| {
        let is_process = process.parse::<u32>().is_ok_and(|id| id.to_string() == process);
        is_process && random.len() == 16 && random.bytes().all(is_hex)
    })
}

/// Makes and locks the lock of a new folder. `None` when somebody was faster.
fn lock_new(path: &Path) -> io::Result<Option<File>> {
    use io::ErrorKind::{AlreadyExists, NotFound};
    let path = path.join(LOCK);
    let lock = match disk::make_file(&path) {
        Err(error) if matches!(error.kind(), NotFound | AlreadyExists) => return Ok(None),
        other => other?,
    };
    hold(lock, &path)
}

/// Locks a lock. `None` when somebody has it, or had it and removed it.
fn hold(lock: File, path: &Path) -> io::Result<Option<File>> {
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    Ok(fs::symlink_metadata(path).is_ok().then_some(lock))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Dir;
    use super::*;

    #[test]
    fn a_lock_that_somebody_had_before_is_not_held() {
        let dir = Dir::new();
        let path = dir.0.join(LOCK);
        let ours = disk::make_file(&path).unwrap();
        let theirs = disk::open(&path).unwrap();
        theirs.try_lock().unwrap();
        assert!(hold(ours.try_clone().unwrap(), &path).unwrap().is_none(), "it is taken");
        disk::remove(&path).unwrap();
        drop(theirs);
        assert!(hold(ours, &path).unwrap().is_none(), "it has no name any more");
        let ours = disk::make_file(&path).unwrap();
        assert!(hold(ours, &path).unwrap().is_some());
    }
}
