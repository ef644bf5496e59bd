//! A look at a file: whether it says anything that it did not say at the last look.
//!
//! Where its place in the file system, its size and its times are what they were, it is not read;
//! but times may be as coarse as two seconds, so a file is read at each look until its stamp has
//! stood for longer than that. What is read is compared with what was read before by a hash.

use std::fs::{self, File, Metadata};
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use crate::sampling::FILE_MAX;

/// Looks that a stamp has to stand: more than two seconds of them.
const STANDING: u32 = 12;

/// What a look finds.
#[derive(Debug)]
pub(super) enum Sight {
    /// What it said before, as far as can be seen.
    Same,
    /// Something else, which may be too long by a byte.
    Text(Vec<u8>),
    /// It cannot be read.
    Failed(io::Error),
}

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Looker {
    stamp: Option<Stamp>,
    standing: u32,
    hasher: foldhash::quality::RandomState,
    hash: Option<u64>,
}

impl Looker {
    pub(super) fn look(&mut self, path: &Path) -> Sight {
        let stamp = match fs::metadata(path).and_then(|found| Stamp::of(&found)) {
            Ok(stamp) => stamp,
            Err(error) => return self.failed(error),
        };
        if self.stamp.as_ref() == Some(&stamp) {
            if self.standing >= STANDING {
                return Sight::Same;
            }
            self.standing += 1;
        } else {
            self.standing = 0;
        }
        let text = match read(path) {
            Ok(text) => text,
            Err(error) => return self.failed(error),
        };
        self.stamp = Some(stamp);
        let hash = Some(self.hasher.hash_one(&text));
        if self.hash == hash {
            return Sight::Same;
        }
        self.hash = hash;
        Sight::Text(text)
    }

    /// What comes back is read again, and is the same if it says the same.
    fn failed(&mut self, error: io::Error) -> Sight {
        self.stamp = None;
        Sight::Failed(error)
    }
}

/// One byte more than may be in it, at most.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_MAX as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// What tells two states of a file apart without reading it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    /// Device, number, and time of the last change of anything, in nanoseconds.
    place: [i128; 3],
}

impl Stamp {
    /// Refuses what is no file: reading a pipe could wait for ever.
    fn of(found: &Metadata) -> io::Result<Self> {
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        Ok(Self { len: found.len(), modified: found.modified().ok(), place: place(found) })
    }
}

#[cfg(unix)]
fn place(found: &Metadata) -> [i128; 3] {
    use std::os::unix::fs::MetadataExt;
    let changed = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
    [found.dev().into(), found.ino().into(), changed]
}

#[cfg(not(unix))]
fn place(_: &Metadata) -> [i128; 3] {
    [0; 3]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in a folder of its own, which goes with it.
    struct Place(std::path::PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("hotspan-look-{}-{name}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn file(&self) -> std::path::PathBuf {
            self.0.join("file")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn text(sight: Sight) -> Option<String> {
        match sight {
            Sight::Same => None,
            Sight::Text(text) => Some(String::from_utf8(text).unwrap()),
            Sight::Failed(error) => panic!("{error}"),
        }
    }

    #[test]
    fn an_edit_within_the_same_moment_is_seen() {
        let place = Place::new("moment");
        let path = place.file();
        let mut looker = Looker::default();
        fs::write(&path, "one").unwrap();
        assert_eq!(text(looker.look(&path)).as_deref(), Some("one"));
        for round in 0..STANDING {
            assert_eq!(text(looker.look(&path)), None, "{round}");
        }
        for new in ["two", "six"] {
            fs::write(&path, new).unwrap();
            // What a coarse clock makes of it: as long, and of the same time.
            looker.stamp = fs::metadata(&path).and_then(|found| Stamp::of(&found)).ok();
            looker.standing = STANDING - 1;
            assert_eq!(text(looker.look(&path)).as_deref(), Some(new));
        }
        assert_eq!(text(looker.look(&path)), None);
    }

    #[test]
    fn a_file_that_stands_is_no_longer_read() {
        let place = Place::new("stands");
        let path = place.file();
        let mut looker = Looker::default();
        fs::write(&path, "one").unwrap();
        for _ in 0..=STANDING {
            looker.look(&path);
        }
        looker.hash = None;
        assert_eq!(text(looker.look(&path)), None, "it was read");
        // Another file of the same size in its place, by its number alone.
        let other = path.with_extension("new");
        fs::write(&other, "one").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(text(looker.look(&path)).as_deref(), Some("one"));
    }

    #[test]
    fn what_comes_back_is_read_again() {
        let place = Place::new("back");
        let path = place.file();
        let mut looker = Looker::default();
        let is_failed = |sight| matches!(sight, Sight::Failed(_));
        assert!(is_failed(looker.look(&path)));
        fs::write(&path, "one").unwrap();
        assert_eq!(text(looker.look(&path)).as_deref(), Some("one"));
        fs::remove_file(&path).unwrap();
        assert!(is_failed(looker.look(&path)));
        fs::write(&path, "one").unwrap();
        assert_eq!(text(looker.look(&path)), None);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(is_failed(looker.look(&path)), "a folder is no file");
    }

    #[test]
    fn no_more_is_read_than_may_be_in_it() {
        let place = Place::new("long");
        let path = place.file();
        fs::write(&path, vec![b' '; FILE_MAX + 100]).unwrap();
        assert_eq!(text(Looker::default().look(&path)).unwrap().len(), FILE_MAX + 1);
    }
}
