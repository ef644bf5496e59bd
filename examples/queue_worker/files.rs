//! The producer: finds the files below a folder and puts them on the queue.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::Sender;
use walkdir::{DirEntry, WalkDir};

use crate::kinds::kind;
use crate::worker::Tally;

/// A file on the queue.
pub(crate) struct Item {
    pub(crate) path: PathBuf,
    /// Its path below the folder: the message id.
    pub(crate) id: String,
    /// In lower case; `none` for none.
    pub(crate) extension: String,
    pub(crate) kind: &'static str,
    /// When it was put on the queue.
    pub(crate) queued: Instant,
}

/// A folder to walk.
pub(crate) struct Source {
    /// With all links resolved.
    folder: PathBuf,
    /// Where this run writes its envelopes: not to be walked.
    except: Option<PathBuf>,
}

impl Source {
    /// A folder that is there and can be listed, or what is wrong with it.
    pub(crate) fn open(folder: &Path) -> Result<Self, String> {
        let shown = folder.display();
        let found = folder.canonicalize().map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("there is no folder {shown}: name one that exists"),
            _ => format!("folder {shown} cannot be opened: {error}"),
        })?;
        if !found.is_dir() {
            return Err(format!("{shown} is not a folder: name the folder that holds the files"));
        }
        fs::read_dir(&found)
            .map_err(|error| format!("folder {shown} cannot be listed: {error}"))?;
        Ok(Self { folder: found, except: None })
    }

    pub(crate) fn except(self, folder: Option<&Path>) -> Self {
        Self { except: folder.map(Path::to_owned), ..self }
    }

    /// All files below it. Links to files and broken links are among them; links to folders are not
    /// followed, and what would block or never end when read (pipes, sockets, devices) is left out.
    /// What cannot be listed is tallied.
    pub(crate) fn files<'a>(&'a self, tally: &'a Tally) -> impl Iterator<Item = Item> + Send + 'a {
        WalkDir::new(&self.folder)
            .into_iter()
            .filter_entry(|entry| self.except.as_deref() != Some(entry.path()))
            .filter_map(|entry| entry.inspect_err(|_| tally.unlisted()).ok())
            .filter(can_be_read)
            .map(|entry| Item::new(&self.folder, entry.into_path()))
    }
}

fn can_be_read(entry: &DirEntry) -> bool {
    let kind = entry.file_type();
    kind.is_file()
        || kind.is_symlink() && fs::metadata(entry.path()).map_or(true, |found| found.is_file())
}

/// Puts each file on the queue, waiting while it is full, until there are no more or `stop` is set.
pub(crate) fn feed(files: impl Iterator<Item = Item>, queue: &Sender<Item>, stop: &AtomicBool) {
    for mut item in files {
        item.queued = crate::now();
        if stop.load(Ordering::Relaxed) || queue.send(item).is_err() {
            break;
        }
    }
}

impl Item {
    fn new(folder: &Path, path: PathBuf) -> Self {
        let extension =
            path.extension().unwrap_or(OsStr::new("none")).to_string_lossy().to_lowercase();
        Self {
            id: path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned(),
            kind: kind(&extension),
            extension,
            path,
            queued: crate::now(),
        }
    }
}
