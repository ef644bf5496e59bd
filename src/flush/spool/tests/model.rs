//! Two processes and a disk, held against a model that fits on a page: a list of what each process
//! holds, and one of what the dead left.
//!
//! The model says exactly what a process hands out, and which ones are lost, as long as it has
//! adopted nothing and nobody has damaged a file. From then on it does not know which, but how
//! many: `lost` stands for envelopes of the list that are none any more. At the end everything is
//! adopted by one more process, and what does not come then must be what was said to be lost. What
//! comes is unaltered and comes once, whatever was damaged.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;

#[derive(Clone, Debug)]
enum Action {
    Put(usize, usize),
    Take(usize),
    Done(usize, usize),
    PutBack(usize, usize),
    Adopt(usize),
    Kill(usize),
    End(usize),
    Pass(u64),
    /// A file, and how much of it in 65,536 parts.
    Cut(usize, usize),
    Flip(usize, usize, u8),
}

fn healthy() -> impl Strategy<Value = Action> {
    let process = || 0..2_usize;
    prop_oneof![
        12 => (process(), 0..2500_usize).prop_map(|(process, length)| Action::Put(process, length)),
        3 => (process(), 0..60_usize).prop_map(|(process, length)| Action::Put(process, length)),
        8 => process().prop_map(Action::Take),
        5 => (process(), 0..9_usize).prop_map(|(process, nth)| Action::Done(process, nth)),
        3 => (process(), 0..9_usize).prop_map(|(process, nth)| Action::PutBack(process, nth)),
        2 => process().prop_map(Action::Adopt),
        1 => process().prop_map(Action::Kill),
        1 => process().prop_map(Action::End),
        2 => (0..60_u64).prop_map(Action::Pass),
    ]
}

fn damage() -> impl Strategy<Value = Action> {
    let (file, part) = (0..99_usize, 0..65_536_usize);
    prop_oneof![
        (file.clone(), part.clone()).prop_map(|(file, part)| Action::Cut(file, part)),
        (file, part, 0..8_u8).prop_map(|(file, part, bit)| Action::Flip(file, part, bit)),
    ]
}

fn bounds() -> impl Strategy<Value = Bounds> {
    (2_000..30_000_u64, 1..20_usize, 20..200_u64).prop_map(|(bytes, envelopes, age)| Bounds {
        bytes,
        envelopes,
        age: Duration::from_secs(age),
    })
}

fn cases() -> u32 {
    std::env::var("HOTSPAN_SPOOL_CASES").map_or(256, |text| text.parse().unwrap())
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, cases: cases(), ..Config::default() })]

    #[test]
    fn two_processes_agree_with_the_model(
        bounds in bounds(),
        actions in vec(healthy(), 1..64),
    ) {
        World::new(bounds).run(&actions);
    }

    #[test]
    fn damage_loses_what_is_damaged_and_alters_nothing(
        bounds in bounds(),
        actions in vec(prop_oneof![15 => healthy(), 1 => damage()], 1..64),
    ) {
        World::new(bounds).run(&actions);
    }
}

#[derive(Clone, Copy, Debug)]
struct Item {
    id: u64,
    length: usize,
    time: Duration,
}

impl Item {
    fn count(&self) -> Count {
        Count::transaction(self.id % 7)
    }

    /// Its id, and a pattern of its own.
    fn payload(&self) -> Vec<u8> {
        let head = format!("{} ", self.id).into_bytes();
        let pattern = (0..self.length).map(|at| ((self.id * 31 + at as u64 * 7) % 251) as u8);
        head.into_iter().chain(pattern).collect()
    }
}

fn total(counts: impl Iterator<Item = Count>) -> Count {
    counts.fold(Count::default(), |sum, count| sum + count)
}

struct Process {
    spool: Spool,
    /// In the order in which they were put.
    held: BTreeMap<u64, Item>,
    out: Vec<(Ticket, u64)>,
    /// So much of what is in `held` is lost.
    lost: Count,
    is_strict: bool,
}

struct World {
    dir: Dir,
    bounds: Bounds,
    now: Duration,
    next: u64,
    processes: [Process; 2],
    dead: BTreeMap<u64, Item>,
    lost: Count,
    is_damaged: bool,
    is_cut: bool,
    buffer: Vec<u8>,
}

impl Process {
    fn new(dir: &Dir, bounds: Bounds) -> Self {
        let (held, out, lost) = (BTreeMap::new(), Vec::new(), Count::default());
        Self { spool: open_with(dir, bounds), held, out, lost, is_strict: true }
    }

    fn is_out(&self, id: u64) -> bool {
        self.out.iter().any(|(_, out)| *out == id)
    }

    fn oldest(&self) -> Option<Item> {
        self.held.values().find(|item| !self.is_out(item.id)).copied()
    }

    /// Writes down what the spool said is lost: it is the oldest, if that is known.
    fn lose(&mut self, count: Count) {
        self.lost += count;
        while self.is_strict && !self.lost.is_zero() {
            let oldest = self.oldest().expect("something is lost that is not there");
            self.held.remove(&oldest.id);
            assert!(oldest.count().spans <= self.lost.spans, "others than the oldest are lost");
            self.lost = self.lost - oldest.count();
        }
    }
}

impl World {
    fn new(bounds: Bounds) -> Self {
        let dir = Dir::new();
        let processes = [(); 2].map(|()| Process::new(&dir, bounds));
        Self {
            dir,
            bounds,
            now: NOW,
            next: 0,
            processes,
            dead: BTreeMap::new(),
            lost: Count::default(),
            is_damaged: false,
            is_cut: false,
            buffer: Vec::new(),
        }
    }

    fn run(mut self, actions: &[Action]) {
        for action in actions {
            match *action {
                Action::Put(process, length) => self.put(process, length),
                Action::Take(process) => self.take(process),
                Action::Done(process, nth) => self.done(process, nth),
                Action::PutBack(process, nth) => self.put_back(process, nth),
                Action::Adopt(process) => self.adopt(process),
                Action::Kill(process) => self.end(process, true),
                Action::End(process) => self.end(process, false),
                Action::Pass(seconds) => self.now += Duration::from_secs(seconds),
                Action::Cut(file, part) => self.damage(file, part, None),
                Action::Flip(file, part, bit) => self.damage(file, part, Some(bit)),
            }
            self.check();
        }
        self.bury();
    }

    /// What must hold at any time.
    fn check(&mut self) {
        for process in &mut self.processes {
            let held = process.spool.held();
            assert!(held.bytes <= self.bounds.bytes, "{held:?}");
            assert!(held.envelopes <= self.bounds.envelopes, "{held:?}");
            assert_eq!(held.count + process.lost, total(process.held.values().map(Item::count)));
            assert_eq!(held.count.transactions, held.envelopes as u64);
            assert_eq!(process.spool.losses(), no_losses(), "all of them were looked at");
            if !self.is_damaged {
                let files = fs::read_dir(&process.spool.folder.path).unwrap();
                let lengths = files.map(|file| file.unwrap().metadata().unwrap().len());
                assert_eq!(lengths.sum::<u64>(), held.bytes, "the lock has none");
            }
        }
    }

    fn put(&mut self, process: usize, length: usize) {
        // No two at the same moment: which one is older would not be known.
        self.now += Duration::from_nanos(1);
        let item = Item { id: self.next, length, time: self.now };
        self.next += 1;
        let payload = item.payload();
        let process = &mut self.processes[process];
        let before = process.spool.held();
        let result = process.spool.put([&payload, b""], item.count(), self.now);
        let losses = process.spool.losses();
        process.lose_expired(&self.bounds, self.now, &losses, self.is_damaged);
        let bytes = mark_bytes() + HEAD_BYTES as u64 + payload.len() as u64;
        let is_tight = before.bytes + bytes > self.bounds.bytes;
        match result {
            Ok(_) => {
                process.held.insert(item.id, item);
            }
            Err(Refused::TooLong) => assert!(bytes > self.bounds.bytes),
            Err(Refused::Full) => {
                assert_eq!(process.out.len(), self.bounds.envelopes);
            }
            Err(Refused::Disk(error)) => panic!("{error}"),
        }
        if !losses.evicted.is_zero() {
            let is_many = before.envelopes >= self.bounds.envelopes;
            assert!(is_tight || (is_many && losses.evicted.transactions == 1));
        }
        process.lose(losses.evicted);
    }

    fn take(&mut self, process: usize) {
        let process = &mut self.processes[process];
        let taken = process.spool.take(&mut self.buffer, self.now);
        let losses = process.spool.losses();
        process.lose_expired(&self.bounds, self.now, &losses, self.is_damaged);
        assert!(losses.evicted.is_zero());
        process.lose(losses.damaged);
        let Some(taken) = taken else {
            assert_eq!(process.spool.held().envelopes, process.out.len());
            return;
        };
        let text = self.buffer.split(|&byte| byte == b' ').next().unwrap();
        let id = std::str::from_utf8(text).unwrap().parse().unwrap();
        let item = process.held.get(&id).expect("not here, or for the second time");
        assert!(!process.is_out(id));
        assert_eq!(self.buffer, item.payload());
        assert_eq!(taken.count, item.count());
        assert!(self.now - item.time <= self.bounds.age);
        if process.is_strict {
            assert_eq!(process.oldest().map(|item| item.id), Some(id));
        }
        process.out.push((taken.ticket, id));
    }

    fn done(&mut self, process: usize, nth: usize) {
        let process = &mut self.processes[process];
        if nth < process.out.len() {
            let (ticket, id) = process.out.remove(nth);
            process.spool.done(ticket);
            process.held.remove(&id);
        }
    }

    fn put_back(&mut self, process: usize, nth: usize) {
        let process = &mut self.processes[process];
        if nth < process.out.len() {
            let (ticket, id) = process.out.remove(nth);
            let is_kept = process.spool.index.has_file(ticket.0.key);
            process.spool.put_back(ticket);
            if !is_kept {
                let item = process.held.remove(&id).unwrap();
                assert_eq!(process.spool.losses().evicted, item.count());
            }
        }
    }

    fn adopt(&mut self, process: usize) {
        let process = &mut self.processes[process];
        let (_, found) = process.spool.adopt_all(self.now);
        let losses = process.spool.losses();
        let expected = total(self.dead.values().map(Item::count));
        assert_eq!(losses.errors, 0);
        if self.is_damaged {
            let missing = (expected - self.lost) - found;
            assert!(missing.is_zero() || losses.damaged_files > 0 || self.is_cut);
            self.lost += missing;
        }
        assert_eq!(found + self.lost, expected);
        process.is_strict &= self.dead.is_empty();
        process.held.append(&mut self.dead);
        process.lost += mem::take(&mut self.lost);
        process.lose(losses.evicted + losses.expired + losses.damaged);
    }

    fn end(&mut self, process: usize, is_killed: bool) {
        let new = Process::new(&self.dir, self.bounds);
        let mut old = mem::replace(&mut self.processes[process], new);
        for (ticket, id) in mem::take(&mut old.out) {
            let is_kept = old.spool.index.has_file(ticket.0.key);
            // A kill takes what is out and was evicted from the disk.
            if !is_kept {
                old.held.remove(&id);
            }
            if !is_killed {
                old.spool.put_back(ticket);
            }
        }
        let folder = old.spool.folder.path.clone();
        let is_empty = old.spool.held().envelopes == 0;
        if is_killed {
            old.spool.kill();
        } else {
            drop(old.spool);
            assert_eq!(folder.exists(), !is_empty);
        }
        self.dead.append(&mut old.held);
        self.lost += old.lost;
    }

    fn damage(&mut self, file: usize, part: usize, bit: Option<u8>) {
        let segments = self.dir.segments();
        let Some(path) = segments.get(file % segments.len().max(1)) else { return };
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() * part / 65_536;
        if at >= bytes.len() {
            return;
        }
        // In place, as others have it open.
        let mut opened = fs::OpenOptions::new().write(true).open(path).unwrap();
        match bit {
            Some(bit) => {
                bytes[at] ^= 1 << bit;
                io::Write::write_all(&mut opened, &bytes).unwrap();
            }
            None => {
                opened.set_len(at as u64).unwrap();
                self.is_cut = true;
            }
        }
        self.is_damaged = true;
        for process in &mut self.processes {
            process.is_strict = false;
        }
    }

    /// Both die; one with boundless room takes over, and it all adds up.
    fn bury(mut self) {
        self.end(0, true);
        self.end(1, true);
        self.bounds =
            Bounds { bytes: u64::MAX, envelopes: usize::MAX, age: Duration::from_secs(1 << 30) };
        self.end(0, true);
        self.adopt(0);
        let [mut last, _] = self.processes;
        while let Some(taken) = last.spool.take(&mut self.buffer, self.now) {
            let text = self.buffer.split(|&byte| byte == b' ').next().unwrap();
            let id = std::str::from_utf8(text).unwrap().parse().unwrap();
            let item = last.held.remove(&id).expect("not here, or for the second time");
            assert_eq!(self.buffer, item.payload());
            last.spool.done(taken.ticket);
        }
        assert_eq!(total(last.held.values().map(Item::count)), last.lost);
        assert_eq!(last.spool.held(), Held::default());
        assert!(self.dir.segments().is_empty());
    }
}

impl Process {
    /// What has expired is known exactly as long as the list is.
    fn lose_expired(&mut self, bounds: &Bounds, now: Duration, losses: &Losses, is_damaged: bool) {
        assert_eq!(losses.errors, 0);
        assert!(is_damaged || losses.damaged.is_zero() && losses.damaged_files == 0);
        assert!(losses.damaged.is_zero() || losses.damaged_bytes > 0);
        if self.is_strict {
            let is_old = |item: &&Item| !self.is_out(item.id) && now - item.time > bounds.age;
            let old = self.held.values().filter(is_old).map(Item::count);
            assert_eq!(total(old), losses.expired);
        }
        self.lose(losses.expired);
    }
}
