//! The spool on a real disk, by behaviour; `model.rs` holds it against a model.

use std::fs;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use super::disk::faults::{self, Faults};
use super::record::{DONE, HEAD_BYTES, MARK, Next, PAYLOAD_BYTES_MAX, Reader, WAITING};
use super::*;

mod model;

/// A folder of a test's own, gone with it.
pub(super) struct Dir(pub(super) PathBuf);

impl Dir {
    pub(super) fn new() -> Self {
        let name = format!("hotspan-spool-{}-{:x}", process::id(), getrandom::u64().unwrap());
        let dir = Self(std::env::temp_dir().join(name));
        fs::create_dir(&dir.0).unwrap();
        dir
    }

    /// The files below, relative, sorted; locks left out.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = walkdir::WalkDir::new(&self.0)
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| !entry.file_type().is_dir() && entry.file_name() != "lock")
            .map(walkdir::DirEntry::into_path)
            .collect();
        files.sort();
        files
    }

    pub(super) fn segments(&self) -> Vec<PathBuf> {
        let mut files = self.files();
        files.retain(|path| path.extension().is_some_and(|ending| ending == "spool"));
        files
    }

    fn damaged(&self) -> Vec<PathBuf> {
        let mut files = self.files();
        files.retain(|path| path.parent().is_some_and(|folder| folder.ends_with("damaged")));
        files
    }

    fn folders(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.0.join(DESTINATION_NAME)) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Spool {
    /// Ends as a kill does: the lock is free, everything else stays.
    pub(super) fn kill(mut self) {
        // Nothing is held any more, as far as it knows, but there is another folder to remove.
        self.folder.forget();
    }

    fn put_one(&mut self, payload: &[u8], now: Duration) {
        self.put([payload, b""], Count::transaction(1), now).unwrap();
    }

    /// Hands everything out, and it is sent.
    fn drain(&mut self, now: Duration) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = Vec::new();
        while let Some(taken) = self.take(&mut buffer, now) {
            all.push(buffer.clone());
            self.done(taken.ticket);
        }
        all
    }

    fn adopt_all(&mut self, now: Duration) -> (usize, Count) {
        let (mut envelopes, mut count) = (0, Count::default());
        for _ in 0..10_000 {
            let adopted = self.adopt(now);
            envelopes += adopted.envelopes;
            count += adopted.count;
            if !adopted.more {
                return (envelopes, count);
            }
        }
        panic!("it does not come to an end");
    }
}

const DESTINATION: u32 = 0x00c0_ffee;
const DESTINATION_NAME: &str = "00c0ffee";
const NOW: Duration = Duration::from_secs(1_700_000_000);
const BOUNDS: Bounds =
    Bounds { bytes: 1024 * 1024, envelopes: 1000, age: Duration::from_secs(24 * 60 * 60) };

fn open(dir: &Dir) -> Spool {
    Spool::open(&dir.0, DESTINATION, BOUNDS).unwrap()
}

fn open_with(dir: &Dir, bounds: Bounds) -> Spool {
    Spool::open(&dir.0, DESTINATION, bounds).unwrap()
}

fn no_losses() -> Losses {
    Losses::default()
}

fn text(nth: usize) -> Vec<u8> {
    format!("envelope {nth}").into_bytes()
}

#[test]
fn what_is_put_is_taken_oldest_first_and_leaves_nothing() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    for nth in 0..100 {
        let text = text(nth);
        let (head, tail) = text.split_at(nth % text.len());
        spool.put([head, tail], Count::transaction(nth as u64), NOW).unwrap();
    }
    let held = spool.held();
    assert_eq!(held.envelopes, 100);
    assert_eq!(held.count, Count { transactions: 100, spans: 100 + 99 * 50 });
    let mut buffer = b"something else".to_vec();
    for nth in 0..100 {
        let taken = spool.take(&mut buffer, NOW).unwrap();
        assert_eq!(buffer, text(nth));
        assert_eq!(taken.count, Count::transaction(nth as u64));
        spool.done(taken.ticket);
    }
    assert!(spool.take(&mut buffer, NOW).is_none());
    assert_eq!(spool.held(), Held::default());
    assert_eq!(spool.losses(), no_losses());
    drop(spool);
    assert!(dir.files().is_empty() && dir.folders().is_empty(), "{:?}", dir.files());
}

#[test]
fn bytes_held_are_those_of_the_files() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    spool.put_one(b"", NOW);
    spool.put_one(&[7; 70_000], NOW);
    spool.put_one(&[7; 100], NOW);
    let length = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let on_disk = || dir.segments().iter().map(length).sum::<u64>();
    assert_eq!(spool.held().bytes, on_disk());
    assert_eq!(on_disk(), 3 * HEAD_BYTES as u64 + 70_100 + 3 * mark_bytes());
    assert_eq!(spool.drain(NOW).len(), 3);
    assert_eq!(on_disk(), 0);
}

#[test]
fn one_that_is_put_back_is_the_oldest_again() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    (0..3).for_each(|nth| spool.put_one(&text(nth), NOW));
    let mut buffer = Vec::new();
    let first = spool.take(&mut buffer, NOW).unwrap();
    let second = spool.take(&mut buffer, NOW).unwrap();
    assert_eq!(buffer, text(1));
    assert_eq!(spool.held().envelopes, 3);
    spool.put_back(second.ticket);
    spool.put_back(first.ticket);
    assert_eq!(spool.drain(NOW), [text(0), text(1), text(2)]);
}

#[test]
fn the_next_process_finds_what_was_not_done_and_that_alone() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    (0..10).for_each(|nth| spool.put_one(&text(nth), NOW));
    let mut buffer = Vec::new();
    let mut tickets = Vec::new();
    while let Some(taken) = spool.take(&mut buffer, NOW) {
        tickets.push(taken.ticket);
    }
    // Done out of order; the others are out when the process dies.
    for nth in [7, 3, 0] {
        spool.done(tickets.remove(nth));
    }
    spool.kill();
    let mut next = open(&dir);
    let (envelopes, count) = next.adopt_all(NOW);
    assert_eq!((envelopes, count), (7, Count { transactions: 7, spans: 14 }));
    assert_eq!(next.held().envelopes, 7);
    assert_eq!(dir.folders().len(), 1, "the folder of the dead is gone");
    assert_eq!(next.drain(NOW), [1, 2, 4, 5, 6, 8, 9].map(text));
    assert_eq!(next.losses(), no_losses());
}

#[test]
fn a_process_that_ends_well_leaves_what_it_holds() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    (0..3).for_each(|nth| spool.put_one(&text(nth), NOW));
    let mut buffer = Vec::new();
    let _out = spool.take(&mut buffer, NOW).unwrap();
    drop(spool);
    let mut next = open(&dir);
    next.adopt_all(NOW);
    assert_eq!(next.drain(NOW), [0, 1, 2].map(text));
}

#[test]
fn what_a_living_process_holds_is_not_adopted() {
    let dir = Dir::new();
    let mut living = open(&dir);
    living.put_one(b"mine", NOW);
    let mut other = open(&dir);
    assert_eq!(other.adopt_all(NOW).0, 0);
    assert_eq!(other.held(), Held::default());
    living.put_one(b"mine, too", NOW);
    assert_eq!(living.drain(NOW).len(), 2);
}

#[test]
fn another_destination_is_not_adopted() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    spool.put_one(b"for one server", NOW);
    spool.kill();
    let mut other = Spool::open(&dir.0, 1, BOUNDS).unwrap();
    assert_eq!(other.adopt_all(NOW).0, 0);
    assert!(other.take(&mut Vec::new(), NOW).is_none());
    let mut same = open(&dir);
    assert_eq!(same.adopt_all(NOW).0, 1);
}

#[test]
fn adopted_ones_stand_where_their_time_is_and_keep_it() {
    let dir = Dir::new();
    let second = Duration::from_secs(1);
    let mut dead = open(&dir);
    dead.put_one(b"a", NOW);
    dead.put_one(b"b", NOW + second);
    dead.kill();
    let mut spool = open(&dir);
    spool.put_one(b"c", NOW + 2 * second);
    spool.adopt_all(NOW + 2 * second);
    assert_eq!(spool.held().envelopes, 3);
    let mut buffer = Vec::new();
    let taken = spool.take(&mut buffer, NOW + 2 * second).unwrap();
    assert_eq!(buffer, b"a");
    spool.put_back(taken.ticket);
    // To the moment, the bound is kept; a second later the first has expired.
    assert!(spool.take(&mut buffer, NOW + BOUNDS.age).is_some());
    let later = NOW + BOUNDS.age + 2 * second;
    assert_eq!(spool.take(&mut buffer, later).map(|taken| taken.count.spans), Some(2));
    assert_eq!(buffer, b"c");
    assert_eq!(spool.losses(), Losses { expired: Count::transaction(1), ..no_losses() });
}

#[test]
fn what_expired_is_lost_once_over_two_lives() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    spool.put_one(b"old", NOW);
    let later = NOW + BOUNDS.age + Duration::from_secs(1);
    spool.put_one(b"new", later - Duration::from_secs(60));
    let _out = spool.take(&mut Vec::new(), later).unwrap();
    assert_eq!(spool.losses().expired, Count::transaction(1));
    spool.kill();
    let mut next = open(&dir);
    assert_eq!(next.adopt_all(later).0, 1);
    assert_eq!(next.drain(later), [b"new"]);
    assert_eq!(next.losses(), no_losses());
}

#[test]
fn a_dead_segment_that_has_expired_is_counted_and_removed() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    (0..5).for_each(|nth| spool.put_one(&text(nth), NOW));
    spool.kill();
    let mut next = open(&dir);
    let (envelopes, count) = next.adopt_all(NOW + 2 * BOUNDS.age);
    assert_eq!(envelopes, 5);
    assert_eq!(next.losses(), Losses { expired: count, ..no_losses() });
    assert!(dir.segments().is_empty());
}

#[test]
fn a_clock_that_goes_backwards_makes_nothing_old() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    spool.put_one(b"later", NOW);
    spool.put_one(b"before", NOW - BOUNDS.age);
    spool.put_one(b"at first", Duration::ZERO);
    assert_eq!(spool.losses(), no_losses());
    assert_eq!(spool.held().envelopes, 3);
    assert!(spool.take(&mut Vec::new(), Duration::ZERO).is_some());
}

#[test]
fn the_bound_on_bytes_is_never_exceeded_and_the_oldest_go() {
    let dir = Dir::new();
    let bounds = Bounds { bytes: 64 * 1024, ..BOUNDS };
    let mut spool = open_with(&dir, bounds);
    let mut evicted = Count::default();
    for nth in 0..2000_usize {
        let mut payload = text(nth);
        payload.resize(20 + nth * 7919 % 900, b'.');
        spool.put_one(&payload, NOW);
        let on_disk: u64 =
            dir.segments().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(on_disk <= bounds.bytes && on_disk == spool.held().bytes, "{on_disk}");
        evicted += spool.losses().evicted;
    }
    // A sixteenth is free at most, and a segment that is not full yet.
    assert!(spool.held().bytes > bounds.bytes * 13 / 16, "{:?}", spool.held());
    let left = spool.drain(NOW);
    assert_eq!(evicted.transactions + left.len() as u64, 2000);
    let oldest = 2000 - left.len();
    for (nth, payload) in left.iter().enumerate() {
        assert!(payload.starts_with(&text(oldest + nth)));
    }
}

#[test]
fn the_bound_on_envelopes_is_never_exceeded_and_the_oldest_go() {
    let dir = Dir::new();
    let mut spool = open_with(&dir, Bounds { envelopes: 3, ..BOUNDS });
    (0..5).for_each(|nth| spool.put_one(&text(nth), NOW));
    assert_eq!(spool.held().envelopes, 3);
    assert_eq!(spool.losses().evicted, Count { transactions: 2, spans: 4 });
    let mut buffer = Vec::new();
    let out: Vec<_> = (0..3).map(|_| spool.take(&mut buffer, NOW).unwrap().ticket).collect();
    let refused = spool.put([b"one more", b""], Count::default(), NOW);
    assert!(matches!(refused, Err(Refused::Full)), "{refused:?}");
    out.into_iter().for_each(|ticket| spool.put_back(ticket));
    assert_eq!(spool.drain(NOW), [2, 3, 4].map(text));
    // What was evicted is not found again either.
    assert!(dir.segments().is_empty());
}

#[test]
fn what_was_evicted_one_by_one_is_not_found_by_the_next() {
    let dir = Dir::new();
    let mut spool = open_with(&dir, Bounds { envelopes: 3, ..BOUNDS });
    (0..5).for_each(|nth| spool.put_one(&text(nth), NOW));
    spool.kill();
    let mut next = open(&dir);
    assert_eq!(next.adopt_all(NOW).0, 3);
}

#[test]
fn what_is_out_while_its_segment_is_evicted_is_lost_only_if_it_comes_back() {
    let dir = Dir::new();
    let mut spool = open_with(&dir, Bounds { bytes: 8 * 1024, ..BOUNDS });
    (0..3).for_each(|nth| spool.put_one(&text(nth), NOW));
    let mut buffer = Vec::new();
    let [first, second] = [(); 2].map(|()| spool.take(&mut buffer, NOW).unwrap().ticket);
    spool.put_one(&[1; 8100], NOW);
    assert_eq!(spool.losses().evicted, Count::transaction(1), "the third");
    assert_eq!(spool.held().envelopes, 3);
    spool.done(first);
    assert_eq!(spool.losses(), no_losses());
    spool.put_back(second);
    assert_eq!(spool.losses().evicted, Count::transaction(1));
    assert_eq!(spool.held().envelopes, 1);
    assert_eq!(spool.drain(NOW).len(), 1);
    assert_eq!(spool.held(), Held::default());
}

#[test]
fn a_long_envelope_has_a_segment_of_its_own_and_one_too_long_is_refused() {
    let dir = Dir::new();
    let mut spool = open_with(&dir, Bounds { bytes: 16 * 1024 * 1024, ..BOUNDS });
    let most = vec![3; PAYLOAD_BYTES_MAX as usize];
    spool.put_one(&most, NOW);
    let refused = spool.put([&most, b"1"], Count::default(), NOW);
    assert!(matches!(refused, Err(Refused::TooLong)), "{refused:?}");
    assert!(spool.scratch.capacity() <= SCRATCH_BYTES_MAX);
    spool.kill();
    let mut small = open_with(&dir, Bounds { bytes: 1000, ..BOUNDS });
    let refused = small.put([&[0; 1000 - 36], b"1"], Count::default(), NOW);
    assert!(matches!(refused, Err(Refused::TooLong)), "{refused:?}");
    small.put([&[0; 1000 - 36], b""], Count::default(), NOW).unwrap();
    assert_eq!(small.held().bytes, 1000);
    // What was left is longer than all that may be held here.
    assert_eq!(small.adopt_all(NOW).0, 1);
    assert_eq!(small.losses().evicted, Count::transaction(1));
    assert_eq!(small.held().envelopes, 1);
}

#[test]
fn adoption_keeps_the_bounds_and_the_youngest() {
    let dir = Dir::new();
    let bounds = Bounds { bytes: 64 * 1024, ..BOUNDS };
    for process in 0..4_u64 {
        let mut spool = open_with(&dir, bounds);
        for nth in 0..50 {
            let mut payload = text(nth);
            payload.resize(1000, b' ');
            spool.put_one(&payload, NOW + Duration::from_secs(process));
        }
        spool.kill();
    }
    let mut spool = open_with(&dir, bounds);
    let (envelopes, count) = spool.adopt_all(NOW);
    assert_eq!(envelopes, 200);
    let (held, losses) = (spool.held(), spool.losses());
    assert!(held.bytes <= bounds.bytes && held.bytes > bounds.bytes * 7 / 8, "{held:?}");
    assert_eq!(held.count + losses.evicted, count);
    let mut few = open_with(&dir, Bounds { envelopes: 7, ..BOUNDS });
    spool.kill();
    assert_eq!(few.adopt_all(NOW).0, held.envelopes);
    assert_eq!(few.held().envelopes, 7);
    assert_eq!(few.losses().evicted + few.held().count, held.count);
}

/// A segment as a kill leaves it: whole records, and what was written of the last.
#[test]
fn a_kill_at_any_byte_of_a_write_costs_that_record_alone() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    (0..3).for_each(|nth| spool.put_one(&text(nth), NOW));
    spool.kill();
    let segment = dir.segments().remove(0);
    let folder = segment.parent().unwrap().to_owned();
    let bytes = fs::read(&segment).unwrap();
    let record = HEAD_BYTES + text(0).len();
    for length in 0..=bytes.len() {
        let mut spool = open(&dir);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("lock"), "").unwrap();
        fs::write(&segment, &bytes[..length]).unwrap();
        let whole = length.saturating_sub(MARK.len()) / record;
        let is_torn = length < MARK.len() || !(length - MARK.len()).is_multiple_of(record);
        assert_eq!(spool.adopt_all(NOW).0, whole, "{length}");
        let losses = spool.losses();
        assert_eq!(losses.damaged_files, u64::from(is_torn), "{length}");
        let sound = if length < MARK.len() { 0 } else { MARK.len() + whole * record };
        assert_eq!(losses.damaged_bytes, (length - sound) as u64);
        assert_eq!((losses.errors, losses.damaged), (0, Count::default()));
        let aside = dir.damaged();
        assert_eq!(aside.len(), usize::from(is_torn && length > 0), "{length}");
        for path in aside {
            assert_eq!(fs::read(&path).unwrap(), bytes[sound..length]);
            fs::remove_file(path).unwrap();
        }
        let drained = spool.drain(NOW);
        assert_eq!(drained, (0..whole).map(text).collect::<Vec<_>>());
    }
}

#[test]
fn a_flipped_bit_anywhere_is_never_an_altered_or_a_second_envelope() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    (0..3).for_each(|nth| spool.put_one(&text(nth), NOW));
    let out = spool.take(&mut Vec::new(), NOW).unwrap();
    spool.done(out.ticket);
    spool.kill();
    let segment = dir.segments().remove(0);
    let folder = segment.parent().unwrap().to_owned();
    let bytes = fs::read(&segment).unwrap();
    let record = HEAD_BYTES + text(0).len();
    for bit in 0..bytes.len() * 8 {
        let mut spool = open(&dir);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("lock"), "").unwrap();
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&segment, &flipped).unwrap();
        spool.adopt_all(NOW);
        let sound = (bit / 8).saturating_sub(MARK.len()) / record;
        let expected: Vec<_> = (1..sound.max(1)).map(text).collect();
        assert_eq!(spool.drain(NOW), expected, "bit {bit}");
        assert_eq!(spool.losses().damaged_files, 1, "bit {bit}");
    }
    // A piece is called after the place where it stood.
    assert_eq!(dir.damaged().len(), 4);
}

#[test]
fn damage_is_counted_once_over_two_lives() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    (0..3).for_each(|nth| spool.put_one(&text(nth), NOW));
    spool.kill();
    let segment = dir.segments().remove(0);
    let length = fs::metadata(&segment).unwrap().len();
    fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(length - 1).unwrap();
    let mut next = open(&dir);
    assert_eq!(next.adopt_all(NOW).0, 2);
    assert_eq!(next.losses().damaged_files, 1);
    next.kill();
    let mut third = open(&dir);
    assert_eq!(third.adopt_all(NOW).0, 2);
    assert_eq!(third.losses(), no_losses());
}

#[test]
fn damage_under_a_living_process_costs_the_damaged_alone() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    (0..5).for_each(|nth| spool.put_one(&text(nth), NOW));
    let segment = dir.segments().remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let record = HEAD_BYTES + text(0).len();
    for nth in [1, 3] {
        bytes[MARK.len() + nth * record + HEAD_BYTES + 2] ^= 4;
    }
    fs::write(&segment, bytes).unwrap();
    assert_eq!(spool.drain(NOW), [0, 2, 4].map(text));
    let expected = Losses {
        damaged: Count { transactions: 2, spans: 4 },
        damaged_files: 1,
        damaged_bytes: 2 * record as u64,
        ..no_losses()
    };
    assert_eq!(spool.losses(), expected);
    assert_eq!(spool.held(), Held::default());
    assert_eq!(dir.damaged().len(), 1);
    assert!(dir.segments().is_empty());
}

#[test]
fn a_segment_cut_or_removed_under_a_living_process_is_known_damage() {
    let dir = Dir::new();
    for removes in [false, true] {
        let mut spool = open(&dir);
        (0..4).for_each(|nth| spool.put_one(&text(nth), NOW));
        // It is closed, so it is opened again by its name.
        spool.active = None;
        let segment = dir.segments().remove(0);
        let keep = MARK.len() + HEAD_BYTES + text(0).len();
        if removes {
            fs::remove_file(&segment).unwrap();
        } else {
            fs::OpenOptions::new()
                .write(true)
                .open(&segment)
                .unwrap()
                .set_len(keep as u64)
                .unwrap();
        }
        spool.put_one(b"after", NOW);
        let survivors = if removes { vec![] } else { vec![text(0)] };
        let drained = spool.drain(NOW);
        assert_eq!(drained, [survivors, vec![b"after".to_vec()]].concat());
        let losses = spool.losses();
        assert_eq!(losses.damaged.transactions, 5 - drained.len() as u64);
        assert_eq!((losses.damaged_files, losses.errors), (1, 0));
        assert_eq!(spool.held(), Held::default());
    }
}

#[test]
fn a_folder_that_was_removed_is_made_again() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    spool.put_one(b"lost", NOW);
    spool.active = None;
    fs::remove_dir_all(dir.0.join(DESTINATION_NAME)).unwrap();
    spool.put_one(b"kept", NOW);
    assert_eq!(spool.drain(NOW), [b"kept"]);
    assert_eq!(spool.losses().damaged, Count::transaction(1));
    drop(spool);
    assert!(dir.folders().is_empty());
}

#[test]
fn what_is_none_of_ours_is_left_alone() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    spool.put_one(b"ours", NOW);
    spool.kill();
    let theirs = dir.segments().remove(0).parent().unwrap().to_owned();
    let destination = dir.0.join(DESTINATION_NAME);
    let elsewhere = dir.0.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::copy(dir.segments().remove(0), elsewhere.join("00000001.spool")).unwrap();
    fs::write(elsewhere.join("lock"), "").unwrap();
    for name in ["notes.txt", "1.spool", "000000001.spool", "0x000001.spool", "00000002.SPOOL"] {
        fs::write(theirs.join(name), "notes").unwrap();
    }
    fs::create_dir(theirs.join("00000007.spool")).unwrap();
    for name in ["x", "1-2", "12-0123456789ABCDEF", "+1-0123456789abcdef", "lock"] {
        fs::create_dir(destination.join(name)).unwrap();
        fs::write(destination.join(name).join("00000001.spool"), "notes").unwrap();
        fs::write(destination.join(name).join("lock"), "").unwrap();
    }
    fs::write(destination.join("5-0123456789abcdef"), "a file").unwrap();
    // Segments without a lock: their owner may be alive.
    let unlocked = destination.join("6-0123456789abcdef");
    fs::create_dir(&unlocked).unwrap();
    fs::write(unlocked.join("00000001.spool"), "no lock").unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&elsewhere, destination.join("7-0123456789abcdef")).unwrap();
        let segment = elsewhere.join("00000001.spool");
        std::os::unix::fs::symlink(segment, theirs.join("00000008.spool")).unwrap();
    }
    let before = dir.files();
    let mut next = open(&dir);
    for _ in 0..2 {
        next.adopt_all(NOW);
    }
    assert_eq!(next.drain(NOW), [b"ours"]);
    assert_eq!(next.losses(), no_losses());
    let mut after = dir.files();
    after.push(theirs.join("00000001.spool"));
    after.sort();
    assert_eq!(after, before);
}

#[test]
fn ten_thousand_files_of_nonsense_are_worked_off_in_bounded_steps() {
    const FILES: usize = 10_000;
    let dir = Dir::new();
    let mut spool = open(&dir);
    spool.put_one(b"ours", NOW);
    spool.kill();
    let folder = dir.segments().remove(0).parent().unwrap().to_owned();
    for nth in 2..=FILES {
        let bytes = [&MARK[..], &[0; 40]].concat();
        fs::write(folder.join(format!("{nth:08}.spool")), &bytes[..nth % 48]).unwrap();
    }
    let mut next = open(&dir);
    let mut steps = 0;
    while next.adopt(NOW).more {
        steps += 1;
        assert!(steps <= FILES / 64, "it does not come to an end");
    }
    assert!(steps >= FILES / 256, "{steps} steps");
    // A segment that ends right behind its mark is empty, and sound.
    let sound = (2..=FILES).filter(|nth| nth % 48 == MARK.len()).count();
    let losses = next.losses();
    assert_eq!((losses.damaged_files, losses.errors), ((FILES - 1 - sound) as u64, 0));
    assert_eq!(next.drain(NOW), [b"ours"]);
    assert_eq!(dir.damaged().len(), 16);
    assert_eq!(dir.folders().len(), 1);
}

#[test]
fn a_huge_segment_is_read_and_laid_aside_within_bounds() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    spool.put_one(b"ours", NOW);
    spool.kill();
    let segment = dir.segments().remove(0);
    // Sparse: it takes no room.
    let huge = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    huge.set_len(1 << 40).unwrap();
    let mut next = open(&dir);
    assert_eq!(next.adopt_all(NOW).0, 1);
    assert_eq!(next.losses().damaged_files, 1);
    let aside = fs::metadata(dir.damaged().remove(0)).unwrap().len();
    assert_eq!(aside, next.segment_bytes);
    assert_eq!(next.drain(NOW), [b"ours"]);
}

#[test]
fn a_full_disk_tears_no_record_and_passes() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    spool.put_one(b"before", NOW);
    faults::set(Faults { after: 0, times: 1, errno: 28 });
    let refused = spool.put([b"does not fit", b""], Count::transaction(0), NOW);
    assert!(matches!(&refused, Err(Refused::Disk(error)) if error.raw_os_error() == Some(28)));
    spool.put_one(b"after", NOW);
    assert_eq!(spool.losses(), no_losses());
    spool.kill();
    let mut next = open(&dir);
    next.adopt_all(NOW);
    assert_eq!(next.drain(NOW), [&b"before"[..], b"after"]);
    assert_eq!(next.losses(), no_losses());
}

#[test]
fn a_torn_record_that_cannot_be_cut_off_hides_nothing_behind_it() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    spool.put_one(b"before", NOW);
    // The write fails, and the cut.
    faults::set(Faults { after: 0, times: 2, errno: 5 });
    assert!(spool.put([b"does not fit", b""], Count::transaction(0), NOW).is_err());
    assert_eq!(spool.losses().errors, 1);
    let later = NOW + Duration::from_nanos(1);
    spool.put_one(b"after", later);
    spool.kill();
    let mut next = open(&dir);
    next.adopt_all(later);
    assert_eq!(next.drain(later), [&b"before"[..], b"after"]);
    assert_eq!(next.losses().damaged_files, 1);
}

#[test]
fn a_segment_that_cannot_be_read_is_given_up_after_some_tries() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    spool.put_one(b"once more", NOW);
    let mut buffer = Vec::new();
    for _ in 0..2 {
        faults::set(Faults { after: 0, times: 1, errno: 5 });
        assert!(spool.take(&mut buffer, NOW).is_none());
    }
    let taken = spool.take(&mut buffer, NOW).unwrap();
    assert_eq!(buffer, b"once more");
    spool.put_back(taken.ticket);
    assert_eq!(spool.losses(), Losses { errors: 2, ..no_losses() });
    for nth in 0..3 {
        assert_eq!(spool.held().envelopes, 1, "{nth}");
        faults::set(Faults { after: 0, times: 1, errno: 5 });
        assert!(spool.take(&mut buffer, NOW).is_none());
    }
    let losses = spool.losses();
    assert_eq!((losses.errors, losses.damaged), (3, Count::transaction(1)));
    assert_eq!(spool.held(), Held::default());
    assert_eq!(dir.damaged().len(), 1);
}

/// What is done to two processes and a dead one, with a failure somewhere.
fn story(dir: &Dir, put: &mut u64, recovered: &mut u64, done: &mut u64) -> (Spool, Losses) {
    let bounds = Bounds { bytes: 10_000, envelopes: 20, age: Duration::from_secs(100) };
    let mut spool = loop {
        // It fails once at most.
        if let Ok(spool) = Spool::open(&dir.0, DESTINATION, bounds) {
            break spool;
        }
    };
    let mut buffer = Vec::new();
    let mut all = Losses::default();
    for step in 0..40_usize {
        let now = NOW + 5 * Duration::from_secs(step as u64);
        let payload = vec![b'a'; 100 + (step * 97) % 700];
        *put += u64::from(spool.put([&payload, b"."], Count::transaction(0), now).is_ok());
        if step == 10 {
            while {
                let adopted = spool.adopt(now);
                *recovered += adopted.count.transactions;
                adopted.more
            } {}
        }
        if step % 3 == 0
            && let Some(taken) = spool.take(&mut buffer, now)
        {
            assert!(buffer.ends_with(b"a.") || buffer.starts_with(b"envelope"));
            if step % 2 == 0 {
                spool.done(taken.ticket);
                *done += 1;
            } else {
                spool.put_back(taken.ticket);
            }
        }
        let losses = spool.losses();
        all.evicted += losses.evicted;
        all.expired += losses.expired;
        all.damaged += losses.damaged;
        all.errors += losses.errors;
        all.damaged_files += losses.damaged_files;
        assert!(spool.held().bytes <= bounds.bytes && spool.held().envelopes <= bounds.envelopes);
    }
    (spool, all)
}

#[test]
fn one_failure_anywhere_leaves_the_books_exact_and_the_spool_usable() {
    for errno in [28, 5, 13] {
        let mut after = 0;
        loop {
            let dir = Dir::new();
            let mut dead = open(&dir);
            (0..4).for_each(|nth| dead.put_one(&text(nth), NOW));
            dead.kill();
            faults::set(Faults { after, times: 1, errno });
            let (mut put, mut recovered, mut done) = (0, 0, 0);
            let (mut spool, losses) = story(&dir, &mut put, &mut recovered, &mut done);
            let left = faults::set(Faults { after: 0, times: 0, errno: 0 });
            let held = spool.held().count.transactions;
            let lost = losses.evicted + losses.expired + losses.damaged;
            assert_eq!(put + recovered, done + lost.transactions + held, "{after}: {losses:?}");
            let last = NOW + Duration::from_secs(39 * 5);
            spool.put_one(b"still usable", last);
            let held = spool.held().count.transactions;
            spool.kill();
            let mut next = open(&dir);
            let (found, _) = next.adopt_all(last);
            // A mark that could not be written is found again: it was counted as an error.
            let found = found as u64;
            let unmarked = losses.errors;
            let unadopted = 4 - recovered.min(4);
            assert!(
                found >= held && found <= held + unmarked + unadopted,
                "{after}: found {found} of {held}, {losses:?}"
            );
            if left.times == 1 {
                break;
            }
            after += 1;
        }
        assert!(after > 100, "the story has only {after} operations");
    }
}

#[test]
fn everything_fails_and_nothing_panics() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    (0..9).for_each(|nth| spool.put_one(&text(nth), NOW));
    let out = spool.take(&mut Vec::new(), NOW).unwrap();
    faults::set(Faults { after: 0, times: u32::MAX, errno: 5 });
    spool.done(out.ticket);
    assert!(spool.put([b"", b""], Count::default(), NOW).is_err());
    assert!(spool.take(&mut Vec::new(), NOW).is_none());
    assert_eq!(spool.adopt(NOW), adopt::Adopted::default());
    assert!(Spool::open(&dir.0, DESTINATION, BOUNDS).is_err());
    assert!(spool.take(&mut Vec::new(), NOW + 2 * BOUNDS.age).is_none());
    faults::set(Faults { after: 0, times: 0, errno: 0 });
    let losses = spool.losses();
    assert!(losses.errors >= 3);
    assert_eq!(losses.expired + losses.damaged, Count { transactions: 8, spans: 16 });
    assert_eq!(spool.held(), Held::default());
    spool.put_one(b"still usable", NOW);
    assert_eq!(spool.drain(NOW), [b"still usable"]);
}

#[test]
fn files_and_folders_are_for_their_owner_alone() {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = Dir::new();
        let deep = Dir(dir.0.join("a").join("b"));
        let mut spool = open(&deep);
        spool.put_one(b"private", NOW);
        spool.kill();
        let cut = |path: &Path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        };
        cut(&deep.segments()[0]);
        let mut next = open(&deep);
        next.put_one(b"private, too", NOW);
        next.adopt_all(NOW);
        let mut seen = [0, 0];
        for entry in walkdir::WalkDir::new(dir.0.join("a")) {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let is_file = entry.file_type().is_file();
            assert_eq!(mode, if is_file { 0o600 } else { 0o700 }, "{entry:?}");
            seen[usize::from(is_file)] += 1;
        }
        assert_eq!(seen, [5, 3], "folders and files");
    }
}

#[test]
fn what_cannot_be_a_folder_is_an_error() {
    let dir = Dir::new();
    let file = dir.0.join("file");
    fs::write(&file, "").unwrap();
    assert!(Spool::open(&file, DESTINATION, BOUNDS).is_err());
}

#[test]
fn a_folder_in_whose_place_is_a_file_keeps_no_damage_and_stops_nothing() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    (0..2).for_each(|nth| spool.put_one(&text(nth), NOW));
    spool.kill();
    let segment = dir.segments().remove(0);
    let length = fs::metadata(&segment).unwrap().len();
    fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(length - 1).unwrap();
    fs::write(dir.0.join("damaged"), "in the way").unwrap();
    let mut next = open(&dir);
    assert_eq!(next.adopt_all(NOW).0, 1);
    let losses = next.losses();
    assert_eq!((losses.damaged_files, losses.errors), (1, 1));
    assert_eq!(next.drain(NOW), [text(0)]);
}

/// Starts, adoptions and ends, all at the same time.
#[test]
fn each_envelope_is_adopted_by_one_of_many() {
    const DEAD: usize = 40;
    let dir = Dir::new();
    for process in 0..DEAD {
        let mut spool = open(&dir);
        (0..5).for_each(|nth| spool.put_one(&text(process * 5 + nth), NOW));
        spool.kill();
    }
    let worker = || {
        let mut found = Vec::new();
        for nth in 0..30 {
            let mut spool = open(&dir);
            spool.adopt_all(NOW);
            let mut buffer = Vec::new();
            // Some are left to the others.
            for _ in 0..(2 + nth % 5) {
                let Some(taken) = spool.take(&mut buffer, NOW) else { break };
                found.push(buffer.clone());
                spool.done(taken.ticket);
            }
            assert_eq!(spool.losses(), no_losses());
            if nth % 2 == 0 { spool.kill() } else { drop(spool) }
        }
        found
    };
    let mut found = thread::scope(|scope| {
        let workers = [(); 4].map(|()| scope.spawn(worker));
        workers.map(|worker| worker.join().unwrap()).concat()
    });
    let mut last = open(&dir);
    last.adopt_all(NOW);
    found.extend(last.drain(NOW));
    found.sort();
    let mut expected: Vec<_> = (0..DEAD * 5).map(text).collect();
    expected.sort();
    assert_eq!(found, expected);
    drop(last);
    assert!(dir.folders().is_empty(), "{:?}", dir.folders());
}

#[test]
fn names_of_folders_are_those_that_are_made() {
    let dir = Dir::new();
    let spool = open(&dir);
    let name = spool.folder.path.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(folder::is_name(&name), "{name}");
    for name in ["", "-", "1-", "1-0123456789abcde", "01-0123456789abcdef", "1-0123456789abcdeg"] {
        assert!(!folder::is_name(name), "{name}");
    }
}

#[test]
fn an_empty_folder_without_a_lock_is_cleared_away() {
    let dir = Dir::new();
    let path = dir.0.join(DESTINATION_NAME).join("6-0123456789abcdef");
    fs::create_dir_all(&path).unwrap();
    let mut spool = open(&dir);
    spool.adopt_all(NOW);
    assert!(!path.exists());
}

#[test]
fn a_segment_reads_as_it_was_written() {
    let dir = Dir::new();
    let mut spool = open(&dir);
    (0..3).for_each(|nth| spool.put_one(&text(nth), NOW + Duration::from_secs(nth as u64)));
    let out = spool.take(&mut Vec::new(), NOW).unwrap();
    spool.done(out.ticket);
    let bytes = fs::read(dir.segments().remove(0)).unwrap();
    let record = HEAD_BYTES + text(0).len();
    assert_eq!(bytes[..8], MARK);
    assert_eq!(bytes[8], DONE);
    assert_eq!(bytes[8 + record], WAITING);
    let mut reader = Reader::new(&bytes[..]);
    for nth in 0..3 {
        let Next::Record(offset, head) = reader.next().unwrap() else { panic!("{nth}") };
        let offset = usize::try_from(offset).unwrap();
        assert_eq!(offset, 8 + nth * record);
        assert_eq!(head.is_done, nth == 0);
        assert_eq!((head.transactions, head.spans), (1, 2));
        assert_eq!(u128::from(head.nanos), NOW.as_nanos() + nth as u128 * 1_000_000_000);
        let mut again = Vec::new();
        head.encode(&mut again);
        assert_eq!(again, bytes[offset..][..HEAD_BYTES]);
        assert!(head.is_of(&text(nth)) && !head.is_of(&text(nth + 1)));
    }
    assert_eq!(reader.next().unwrap(), Next::End);
    assert_eq!(reader.sound(), bytes.len() as u64);
    // In whatever pieces it comes.
    let mut slow = Reader::new(io::BufReader::with_capacity(3, &bytes[..]));
    assert_eq!((0..3).filter(|_| matches!(slow.next(), Ok(Next::Record(..)))).count(), 3);
    let mut rest = &bytes[..];
    rest.consume(4);
    assert_eq!(Reader::new(rest).next().unwrap(), Next::Damage);
}

/// What the head of the module says it costs.
#[test]
#[ignore = "measures: scripts/spool-model --costs"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn costs() {
    use std::time::Instant;
    const MOST: Bounds = Bounds { bytes: 64 * 1024 * 1024, envelopes: 1_000_000, age: BOUNDS.age };
    let dir = Dir::new();
    for length in [500, 2_000, 20_000_usize] {
        let mut spool = open_with(&dir, MOST);
        let payload = vec![b'x'; length];
        let (puts, begin) = (1000_u32, Instant::now());
        (0..puts).for_each(|_| spool.put_one(&payload, NOW));
        let put = begin.elapsed() / puts;
        let bytes = spool.held().bytes;
        let begin = Instant::now();
        assert_eq!(spool.drain(NOW).len(), puts as usize);
        let drain = begin.elapsed() / puts;
        println!("{length} bytes: put {put:?}, take and done {drain:?}, {bytes} bytes of files");
    }
    let payload = vec![b'x'; 2000];
    let mut spool = open_with(&dir, MOST);
    while spool.losses().evicted.is_zero() {
        spool.put_one(&payload, NOW);
    }
    let held = spool.held();
    spool.kill();
    let begin = Instant::now();
    let mut next = open_with(&dir, MOST);
    let opened = begin.elapsed();
    let mut longest = Duration::ZERO;
    loop {
        let call = Instant::now();
        let more = next.adopt(NOW).more;
        longest = longest.max(call.elapsed());
        if !more {
            break;
        }
    }
    let adopted = begin.elapsed();
    assert_eq!(next.held().envelopes, held.envelopes);
    println!("{} bytes, {} envelopes: open {opened:?}", held.bytes, held.envelopes);
    println!("  and adopted after {adopted:?}, the longest call {longest:?}");
}
