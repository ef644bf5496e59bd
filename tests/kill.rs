//! `kill -9` at random moments, and what the next life of the program finds: the books of all lives
//! added up.
//!
//! A program records on two threads, with a spool, against a server that is healthy, absent,
//! failing, hanging, or all of that in turn. It says what its books are, about a thousand times a
//! second, and is killed: after so many lines, or when the server has just answered, and a few
//! microseconds later. So it goes for one to three lives on one folder; the last one ends well.
//! Between two lives nobody uses the folder, and it is read by code that is not the library's.
//!
//! A test of its own without a harness: it runs itself again for each life. `HOTSPAN_KILLS` is how
//! often it kills, `HOTSPAN_KILL_SEED` the first seed; `scripts/kills` kills 200 times.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "helpers of tests panic as tests do, and ask the real clock"
)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::env;
use std::io::BufReader;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use hotspan::Count;

mod support;

use support::faults::kept::Kept;
use support::faults::{FaultServer, Mode};
use support::folder::Folder;
use support::process::env_number;
use support::segments::Disk;
use support::session::LONG;

#[path = "kill/life.rs"]
mod life;

use life::{End, Line, Orders};

/// A life that is still waiting for its moment is killed then.
const LIFE_MAX: Duration = Duration::from_secs(4);

/// Lives that are killed, one after the other on one folder, at most.
const KILLED_MAX: u64 = 3;

/// Stored envelopes that are being sent at a time: so many may have reached the server without
/// being marked.
const STORED_MAX: usize = 1;

/// How the server is while a life lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weather {
    Healthy,
    Absent,
    Failing,
    Hanging,
    Flapping,
}

impl Weather {
    fn of(rng: &mut Rng, has_backlog: bool) -> Self {
        // A backlog goes out in good weather alone.
        let healthy = if has_backlog { 5 } else { 1 };
        match rng.usize(..8 + healthy) {
            0..3 => Self::Absent,
            3 => Self::Failing,
            4..6 => Self::Hanging,
            6..8 => Self::Flapping,
            _ => Self::Healthy,
        }
    }

    fn mode(self, rng: &mut Rng) -> Mode {
        let hanging = [Mode::SlowHeaders, Mode::NeverReads, Mode::BlackHole];
        match self {
            Self::Healthy => Mode::Healthy,
            Self::Absent => Mode::Refused,
            Self::Failing => Mode::Status(503),
            Self::Hanging => hanging[rng.usize(..hanging.len())],
            Self::Flapping => match rng.usize(..4) {
                0 => Mode::Healthy,
                1 => Mode::Refused,
                2 => Mode::Status(503),
                _ => Mode::SlowHeaders,
            },
        }
    }
}

/// When a life is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    AfterLines(usize),
    /// When the server has answered so often.
    AfterAnswers(usize),
}

impl Moment {
    fn of(rng: &mut Rng, weather: Weather) -> Self {
        match rng.usize(..5) {
            0 => Self::AfterLines(rng.usize(1..6)),
            1 | 2 => Self::AfterLines(rng.usize(1..1500)),
            2..4 if weather == Weather::Healthy => Self::AfterAnswers(rng.usize(1..20)),
            _ => Self::AfterLines(rng.usize(1..300)),
        }
    }
}

/// The server's answers as they come.
struct Answers {
    bytes: u64,
    many: usize,
}

impl Answers {
    /// Looks closely for as long as a life takes for a line. That it never comes to so many is
    /// possible: then any moment is as good.
    fn have_come(&mut self, server: &FaultServer, many: usize) -> bool {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1) {
            let bytes = server.bytes_written();
            self.many += usize::from(bytes != self.bytes);
            self.bytes = bytes;
            if self.many >= many {
                return true;
            }
        }
        false
    }
}

/// What happened, for the table.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    kills: u64,
    /// Said to be begun in the last line.
    started: u64,
    /// On disk afterwards.
    on_disk: u64,
    /// Of these, taken by the server.
    doubled: u64,
    /// Segments whose last record was cut short.
    torn: u64,
    /// Neither at the server nor on disk nor refused.
    lost: u64,
}

fn main() {
    if let Some(orders) = Orders::given() {
        return life::live(&orders);
    }
    let (kills, first) = (env_number("HOTSPAN_KILLS", 12), env_number("HOTSPAN_KILL_SEED", 1));
    let began = Instant::now();
    let mut sums: BTreeMap<Weather, Sum> = BTreeMap::new();
    let (mut done, mut ends) = (0, Ends::default());
    for seed in first.. {
        if done >= kills {
            break;
        }
        println!("seed {seed}");
        let left = kills - done;
        let chain = Chain::new(seed, left.min(1 + seed % KILLED_MAX));
        done += chain.killed;
        chain.run(&mut sums, &mut ends);
    }
    print(&sums, &ends, began.elapsed());
}

/// What the lives that ended well did.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    lives: u64,
    recovered: u64,
    sent: u64,
    left_behind: u64,
}

fn print(sums: &BTreeMap<Weather, Sum>, ends: &Ends, took: Duration) {
    let names = ["server", "kills", "begun", "on disk", "doubled", "torn", "lost in memory"];
    println!("{}", names.map(|name| format!("{name:>16}")).concat());
    let row = |name: &str, sum: &Sum| {
        let Sum { kills, started, on_disk, doubled, torn, lost } = *sum;
        let numbers = [kills, started, on_disk, doubled, torn, lost];
        println!("{name:>16}{}", numbers.map(|number| format!("{number:>16}")).concat());
    };
    let mut all = Sum::default();
    for (weather, sum) in sums {
        row(&format!("{weather:?}"), sum);
        all.kills += sum.kills;
        all.started += sum.started;
        all.on_disk += sum.on_disk;
        all.doubled += sum.doubled;
        all.torn += sum.torn;
        all.lost += sum.lost;
    }
    row("all", &all);
    let Ends { lives, recovered, sent, left_behind } = *ends;
    println!(
        "{lives} lives ended well: {recovered} transactions recovered, {sent} of them sent, \
         {left_behind} left for later; {took:.0?}"
    );
}

/// Lives on one folder, one after the other.
struct Chain {
    rng: Rng,
    killed: u64,
    folder: Folder,
    server: FaultServer,
    /// How many of the server's requests were looked at.
    seen: usize,
    /// Event ids that the server took, in earlier lives.
    taken: HashSet<String>,
    /// Of which item each event id is, and the other way round.
    ids: HashMap<String, String>,
    items: HashMap<String, String>,
    disk: Disk,
    /// Were on disk although the server had taken them.
    doubled: HashSet<String>,
}

impl Chain {
    fn new(seed: u64, killed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            killed,
            folder: Folder::new(),
            server: FaultServer::start(),
            seen: 0,
            taken: HashSet::new(),
            ids: HashMap::new(),
            items: HashMap::new(),
            disk: Disk::default(),
            doubled: HashSet::new(),
        }
    }

    fn run(mut self, sums: &mut BTreeMap<Weather, Sum>, ends: &mut Ends) {
        for life in 0..self.killed {
            let weather = Weather::of(&mut self.rng, !self.disk.waiting.is_empty());
            self.kill_one(life, weather, sums.entry(weather).or_default());
        }
        self.end_well(ends);
    }

    fn start(
        &self,
        life: u64,
        end: End,
        request_millis: u64,
        rng: &mut Rng,
    ) -> (Child, BufReader<ChildStdout>) {
        let orders = Orders {
            dsn: self.server.dsn(),
            spool_dir: self.folder.path().to_owned(),
            life,
            end,
            pause_micros: [1_000, 5_000, 50_000][rng.usize(..3)],
            children: [1, 3, 40][rng.usize(..3)],
            backlog: self.disk.waiting.len() as u64,
            request_millis,
        };
        let mut command = Command::new(env::current_exe().unwrap());
        orders.give(&mut command);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        (child, lines)
    }

    fn kill_one(&mut self, life: u64, weather: Weather, sum: &mut Sum) {
        let mut rng = self.rng.fork();
        let moment = Moment::of(&mut rng, weather);
        self.server.set(weather.mode(&mut rng));
        // Nothing but what hangs must come so late that its sender has gone on.
        let request_millis = if weather == Weather::Hanging { 200 } else { 60_000 };
        let (mut child, mut lines) = self.start(life, End::Killed, request_millis, &mut rng);
        let mut line = Line::default();
        let began = Instant::now();
        let mut answers = Answers { bytes: self.server.bytes_written(), many: 0 };
        let mut read = 0;
        let mut is_due = |server: &FaultServer| match moment {
            Moment::AfterLines(many) => {
                read += 1;
                read >= many
            }
            Moment::AfterAnswers(many) => answers.have_come(server, many),
        };
        while !is_due(&self.server) {
            if began.elapsed() > LIFE_MAX {
                break;
            }
            line = Line::read(&mut lines).expect("it ended by itself");
            if weather == Weather::Flapping && rng.usize(..50) == 0 {
                self.server.set(weather.mode(&mut rng));
            }
        }
        let micros = Duration::from_micros(rng.u64(..200));
        let before = Instant::now();
        while before.elapsed() < micros {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.code().is_none() || cfg!(not(unix)), "it was killed: {status}");
        // What it said before that, and nobody had read.
        while let Some(later) = Line::read(&mut lines) {
            line = later;
        }
        let requests = self.settle_down();
        let before = std::mem::replace(&mut self.disk, Disk::read(self.folder.path()));

        // Everything that could have been answered: so much the life may not have known.
        let answered: Vec<&Kept> = requests.iter().filter(|kept| kept.status.is_some()).collect();
        let known = line.delivered.transactions + line.refused.transactions;
        let unknown = (answered.len() as u64).checked_sub(known).expect("it knows what was said");
        assert!(
            line.in_spool.transactions <= self.disk.count().transactions + unknown,
            "{line:?}: {} on disk, {unknown} answered since",
            self.disk.waiting.len()
        );
        let (found, there) = (line.recovered, before.count());
        assert!(found.transactions <= there.transactions, "{line:?} of {there:?}");
        assert!(line.errors == 0 && line.evicted == Count::default(), "{line:?}");
        self.identify(&requests);

        let is_refused = |kept: &&Kept| kept.status.is_some() && !kept.is_accepted();
        let refused: HashSet<String> = ids(requests.iter().filter(is_refused));
        self.take(&requests);
        let on_disk: HashSet<String> = self.disk.ids().map(str::to_owned).collect();
        let doubled: Vec<&String> = on_disk.intersection(&self.taken).collect();
        let before = self.doubled.len();
        self.doubled.extend(doubled.into_iter().cloned());
        let more = self.doubled.len() - before;
        assert!(more <= STORED_MAX, "{more} are on disk, and were taken: {line:?}");

        let prefix = format!("{life}-");
        let is_known =
            |id: &String| self.taken.contains(id) || refused.contains(id) || on_disk.contains(id);
        let found = self.ids.iter().filter(|(id, item)| item.starts_with(&prefix) && is_known(id));
        sum.lost += line.started.transactions.saturating_sub(found.count() as u64);
        sum.kills += 1;
        sum.started += line.started.transactions;
        sum.on_disk += self.disk.waiting.len() as u64;
        sum.doubled += more as u64;
        sum.torn += self.disk.damaged as u64;
    }

    /// The last life: it adopts, sends what it has the time for, and closes.
    fn end_well(mut self, ends: &mut Ends) {
        let mut rng = self.rng.fork();
        self.server.set(Mode::Healthy);
        let end = match self.disk.waiting.len() {
            0..40 => End::Empty,
            _ => End::After(rng.u64(..2000)),
        };
        let (mut child, mut lines) = self.start(self.killed, end, 60_000, &mut rng);
        let mut line = Line::default();
        while let Some(later) = Line::read(&mut lines) {
            line = later;
        }
        assert!(child.wait().unwrap().success(), "its own books are exact");
        let requests = self.settle_down();
        let before = std::mem::replace(&mut self.disk, Disk::read(self.folder.path()));
        self.identify(&requests);

        assert_eq!(line.recovered, before.count(), "all that was on disk, and nothing else");
        assert_eq!(line.damaged, before.damaged as u64, "{line:?}");
        assert_eq!(line.errors, 0, "{line:?}");
        assert!(requests.iter().all(Kept::is_accepted));
        let sent = ids(requests.iter());
        assert_eq!(sent.len(), requests.len(), "one life sends nothing twice");
        assert_eq!(sent.len() as u64, line.delivered.transactions, "{line:?}");
        assert_eq!(line.left_behind, self.disk.count(), "{line:?}");
        assert_eq!(self.disk.damaged, 0, "it was laid aside");
        if end == End::Empty {
            assert!(self.disk.waiting.is_empty(), "{line:?}");
            assert!(self.disk.segments.is_empty() && self.disk.folders == 0, "{:?}", self.disk);
        }
        // Each that was there is at the server or there, and not both.
        let left: HashSet<&str> = self.disk.ids().collect();
        assert_eq!(left.len(), self.disk.waiting.len(), "one id is there once");
        for id in before.ids() {
            assert!(sent.contains(id) != left.contains(id), "{id} is lost, or sent and kept");
        }
        self.take(&requests);
        let recovered: HashSet<&str> = before.ids().collect();
        ends.lives += 1;
        ends.recovered += line.recovered.transactions;
        ends.sent += sent.iter().filter(|id| recovered.contains(id.as_str())).count() as u64;
        ends.left_behind += line.left_behind.transactions;
    }

    /// Waits until the server is through with all that was sent to it; the transactions that came
    /// since the last time.
    fn settle_down(&mut self) -> Vec<Kept> {
        self.server.set(Mode::Healthy);
        let began = Instant::now();
        while self.server.connections_open() > 0 {
            assert!(began.elapsed() < LONG, "connections stay open");
            thread::sleep(Duration::from_millis(1));
        }
        let all = self.server.received().0;
        let fresh = all[self.seen..].to_vec();
        self.seen = all.len();
        fresh.into_iter().filter(|kept| kept.opened.kind == "transaction").collect()
    }

    /// What the server took; twice only what was being sent when there was a kill.
    fn take(&mut self, requests: &[Kept]) {
        for kept in requests.iter().filter(|kept| kept.is_accepted()) {
            let id = kept.opened.event_id();
            let is_new = self.taken.insert(id.to_owned());
            assert!(is_new || self.doubled.contains(id), "{id} came twice");
        }
    }

    /// One event id is one transaction, and one transaction has one event id, wherever it is seen.
    fn identify(&mut self, requests: &[Kept]) {
        for opened in requests.iter().map(|kept| &kept.opened).chain(&self.disk.waiting) {
            let (id, item) = (opened.event_id().to_owned(), life::item_of(opened));
            let known = self.ids.entry(id.clone()).or_insert_with(|| item.clone());
            assert_eq!(*known, item, "one id, two transactions");
            let known = self.items.entry(item).or_insert_with(|| id.clone());
            assert_eq!(*known, id, "one transaction, two ids");
        }
    }
}

fn ids<'k, I: Iterator<Item = &'k Kept>>(requests: I) -> HashSet<String> {
    requests.map(|kept| kept.opened.event_id().to_owned()).collect()
}
