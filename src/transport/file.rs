//! [`File`]: one file for each envelope, in a folder.
//!
//! A file appears whole or not at all: it is written under a hidden name and renamed. Its name is
//! `<unix nanoseconds>-<process id>-<number>.envelope`, the nanoseconds with leading zeros, so
//! names sort by time and no two processes use the same. Nothing is synced to the disk: what the
//! kernel has taken survives the process, not a power cut.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crossbeam_utils::atomic::AtomicCell;

use super::{Envelope, Response, SendError, Transport};
use crate::shared::clock;

/// Numbers the files of this process.
static NUMBER: AtomicCell<u64> = AtomicCell::new(1);

/// Writes each envelope into a file of its own, as it would go over the wire but without `sent_at`:
/// that member belongs to the moment of sending, which is still to come.
///
/// The answer is 200; an error of the disk is a [`SendError`].
///
/// ```
/// use hotspan::transport::{EnvelopeBuf, File, Transport};
///
/// # fn main() -> std::io::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("hotspan-file-doc-{}", std::process::id()));
/// let mut transport = File::new(&folder)?;
/// let envelope = EnvelopeBuf::from_bytes(&b"{}\n"[..]);
/// transport.send(&envelope.as_envelope()).unwrap();
/// for entry in std::fs::read_dir(&folder)? {
///     assert_eq!(std::fs::read(entry?.path())?, b"{}\n");
/// }
/// # std::fs::remove_dir_all(&folder)
/// # }
/// ```
#[derive(Debug)]
pub struct File {
    folder: PathBuf,
    name: String,
}

impl File {
    /// Creates the folder, and those above it, where they are missing.
    ///
    /// # Errors
    /// When the folder cannot be created, or the path is something else.
    pub fn new(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, name: String::new() })
    }

    /// Where the files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn write(&mut self, envelope: &Envelope<'_>) -> io::Result<()> {
        let number = NUMBER.fetch_add(1);
        let (time, process) = (clock::unix_nanos(), std::process::id());
        self.name.clear();
        // Writing into a String does not fail.
        let _ = write!(self.name, ".{time:020}-{process}-{number}.envelope");
        let hidden = self.folder.join(&self.name);
        let visible = self.folder.join(self.name.trim_start_matches('.'));
        let written = write_new(&hidden, envelope).and_then(|()| fs::rename(&hidden, visible));
        if written.is_err() {
            // Half a file is of no use to anyone; if it cannot be removed, nobody will read it.
            let _ = fs::remove_file(&hidden);
        }
        written
    }
}

fn write_new(path: &Path, envelope: &Envelope<'_>) -> io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    for piece in envelope.without_sent_at() {
        file.write_all(piece)?;
    }
    Ok(())
}

impl Transport for File {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        self.write(envelope).map_err(SendError::new)?;
        Ok(Response::status(200))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flush::envelope::EnvelopeBuf;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("hotspan-file-{}-{name}", std::process::id());
            let folder = Self(std::env::temp_dir().join(name));
            let _ = fs::remove_dir_all(&folder.0);
            folder
        }

        fn names(&self) -> Vec<String> {
            let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
            let mut names: Vec<_> = fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| name(entry).into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_sort_by_time_and_hold_no_sent_at() {
        let folder = Folder::new("sort");
        let mut transports =
            [File::new(folder.0.join("deep")).unwrap(), File::new(folder.0.join("deep")).unwrap()];
        for n in 0..20 {
            let time = "2024-02-29T23:59:59.000000Z";
            let bytes = format!("{{\"n\":{n},\"sent_at\":\"{time}\"}}\n{{}}\n");
            let envelope = EnvelopeBuf::from_bytes(bytes);
            transports[n % 2].send(&envelope.as_envelope()).unwrap();
        }
        let deep = Folder(folder.0.join("deep"));
        let names = deep.names();
        assert_eq!(names.len(), 20);
        for (n, name) in names.iter().enumerate() {
            assert!(name.ends_with(".envelope") && !name.starts_with('.'), "{name}");
            assert!(name.contains(&format!("-{}-", std::process::id())), "{name}");
            let text = fs::read_to_string(deep.0.join(name)).unwrap();
            assert_eq!(text, format!("{{\"n\":{n}}}\n{{}}\n"));
        }
    }

    #[test]
    fn an_error_of_the_disk_is_a_send_error_and_leaves_nothing() {
        let folder = Folder::new("gone");
        let mut transport = File::new(&folder.0).unwrap();
        let envelope = EnvelopeBuf::from_bytes("{}\n");
        fs::remove_dir_all(&folder.0).unwrap();
        assert!(transport.send(&envelope.as_envelope()).is_err());
        fs::create_dir(&folder.0).unwrap();
        transport.send(&envelope.as_envelope()).unwrap();
        assert_eq!(folder.names().len(), 1);
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_an_error() {
        let folder = Folder::new("file");
        fs::create_dir_all(&folder.0).unwrap();
        let path = folder.0.join("taken");
        fs::write(&path, "x").unwrap();
        assert!(File::new(&path).is_err());
        assert!(File::new(path.join("below")).is_err());
    }
}
