//! The spool's files, read by other code than the library's, while nobody uses them.

use std::path::{Path, PathBuf};

use hotspan::Count;
use walkdir::WalkDir;

use super::envelope::Opened;

const MARK: &[u8] = b"hotspan\x01";
const HEAD_BYTES: usize = 28;
const WAITING: u8 = 0xa5;
const DONE: u8 = 0x5a;

/// What lies in a spool's folder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// Envelopes that are to be sent.
    pub(crate) waiting: Vec<Opened>,
    /// Records that are marked as done.
    pub(crate) done: usize,
    /// Segments in which something does not check, what was laid aside not among them.
    pub(crate) damaged: usize,
    pub(crate) segments: Vec<PathBuf>,
    /// Folders of processes.
    pub(crate) folders: usize,
    /// Files that were laid aside.
    pub(crate) aside: usize,
}

impl Disk {
    /// Segments in the order of their names, records in that of the file.
    pub(crate) fn read(dir: &Path) -> Self {
        let mut disk = Self::default();
        if !dir.exists() {
            return disk;
        }
        for entry in WalkDir::new(dir).min_depth(1).sort_by_file_name() {
            let entry = entry.unwrap();
            let is_damage = entry.path().starts_with(dir.join("damaged"));
            if entry.file_type().is_dir() {
                disk.folders += usize::from(entry.depth() == 2 && !is_damage);
            } else if is_damage {
                disk.aside += 1;
            } else if entry.path().extension().is_some_and(|ending| ending == "spool") {
                disk.read_segment(&std::fs::read(entry.path()).unwrap());
                disk.segments.push(entry.into_path());
            }
        }
        disk
    }

    /// What is to be sent, in all.
    pub(crate) fn count(&self) -> Count {
        self.waiting.iter().fold(Count::default(), |sum, opened| sum + opened.count())
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.waiting.iter().map(Opened::event_id)
    }

    fn read_segment(&mut self, bytes: &[u8]) {
        let Some(mut rest) = bytes.strip_prefix(MARK) else {
            self.damaged += 1;
            return;
        };
        while !rest.is_empty() {
            let Some((record, behind)) = split(rest) else {
                self.damaged += 1;
                return;
            };
            rest = behind;
            if record[0] == DONE {
                self.done += 1;
                continue;
            }
            let opened = Opened::new(&record[HEAD_BYTES..]);
            let said = Count {
                transactions: number(&record[12..]).into(),
                spans: number(&record[16..]).into(),
            };
            assert_eq!(said, opened.count(), "what the record says of its envelope");
            self.waiting.push(opened);
        }
    }
}

/// The record at the front, and what is behind it; `None` if it does not check.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = bytes.get(..HEAD_BYTES)?;
    let (record, behind) = bytes.split_at_checked(HEAD_BYTES + number(&head[8..]) as usize)?;
    let is_sound = matches!(head[0], WAITING | DONE)
        && head[1..4] == [0; 3]
        && number(&head[4..]) == crc32fast::hash(&record[8..]);
    is_sound.then_some((record, behind))
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}
