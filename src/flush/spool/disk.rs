//! Everything that the spool asks of the file system, in one place: with the permissions that its
//! files have, and with a seam where tests let any of it fail.
//!
//! Files are for their owner alone (0600, folders 0700, where there are such permissions): what is
//! in them is the program's own data. No symbolic link is followed below the spool's folder: what
//! is looked at was listed as a file or a folder, and what is made is made new.

use std::fs::{self, DirBuilder, File, OpenOptions, ReadDir};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// Makes a folder, and those above it if wanted.
pub(super) fn make_folder(path: &Path, above_too: bool) -> io::Result<()> {
    may_fail()?;
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(above_too).create(path)
}

/// Makes a file that was not there.
pub(super) fn make_file(path: &Path) -> io::Result<File> {
    may_fail()?;
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.read(true).write(true).create_new(true).open(path)
}

/// Opens a file that is there.
pub(super) fn open(path: &Path) -> io::Result<File> {
    may_fail()?;
    OpenOptions::new().read(true).write(true).open(path)
}

pub(super) fn list(path: &Path) -> io::Result<ReadDir> {
    may_fail()?;
    fs::read_dir(path)
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    may_fail()?;
    fs::rename(from, to)
}

/// Removes a file; one that is gone is removed.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    may_fail()?;
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a folder, if it is empty.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    may_fail()?;
    fs::remove_dir(path)
}

/// Writes all of this at `offset`: with one call of the system, if it takes all of it.
pub(super) fn write_at(file: &mut File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    #[cfg(test)]
    if let Some(error) = faults::due() {
        // As a full disk does: some of it is written before.
        file.write_all(&bytes[..bytes.len() / 2])?;
        return Err(error);
    }
    file.write_all(bytes)
}

/// Fills `bytes` from `offset`; too little there is `UnexpectedEof`.
pub(super) fn read_at(file: &mut File, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
    may_fail()?;
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

/// Reads on where [`read_at`] ended: at most `length` bytes, behind those that `buffer` has.
pub(super) fn read_on(file: &mut File, length: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    may_fail()?;
    file.take(length).read_to_end(buffer).map(drop)
}

/// Before a read that goes through a buffer.
pub(super) fn reads() -> io::Result<()> {
    may_fail()
}

/// Cuts a file.
pub(super) fn cut(file: &File, bytes: u64) -> io::Result<()> {
    may_fail()?;
    file.set_len(bytes)
}

/// Fails when a test wants it to.
#[cfg(test)]
fn may_fail() -> io::Result<()> {
    faults::due().map_or(Ok(()), Err)
}

#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "in tests it fails")]
fn may_fail() -> io::Result<()> {
    Ok(())
}

/// Operations that fail, on the thread that asked for it.
#[cfg(test)]
pub(super) mod faults {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static FAULTS: Cell<Faults> = const { Cell::new(Faults { after: 0, times: 0, errno: 0 }) };
    }

    /// So many operations pass, then so many fail.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Faults {
        pub(crate) after: u32,
        pub(crate) times: u32,
        pub(crate) errno: i32,
    }

    /// Begins, and says what was left of those before.
    pub(crate) fn set(faults: Faults) -> Faults {
        FAULTS.try_with(|cell| cell.replace(faults)).unwrap()
    }

    pub(super) fn due() -> Option<io::Error> {
        FAULTS
            .try_with(|cell| {
                let mut faults = cell.get();
                if faults.after > 0 {
                    faults.after -= 1;
                    cell.set(faults);
                    return None;
                }
                let is_due = faults.times > 0;
                faults.times = faults.times.saturating_sub(1);
                cell.set(faults);
                is_due.then(|| io::Error::from_raw_os_error(faults.errno))
            })
            .unwrap()
    }
}
