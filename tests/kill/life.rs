//! One life of the program that is killed, and what it says of itself.

use std::env;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hotspan::{Config, Count, Reason, Stats, start_child, start_transaction, stats};

use super::support::envelope::Opened;
use super::support::session::LONG;

/// Threads that record.
const RECORDERS: u64 = 2;

/// What each of them records in the life that ends well.
const LAST_TRANSACTIONS: u64 = 3;

/// Between two lines.
const INTERVAL: Duration = Duration::from_micros(500);

const VARIABLE: &str = "HOTSPAN_TEST_KILL";

/// How a life is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    /// Well, after so many milliseconds, and once what was on disk is found.
    After(u64),
    /// Well, once all of it is sent.
    Empty,
}

/// What a life is told.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) dsn: String,
    pub(crate) spool_dir: PathBuf,
    pub(crate) life: u64,
    pub(crate) end: End,
    /// Between two transactions of a thread.
    pub(crate) pause_micros: u64,
    pub(crate) children: u64,
    /// Transactions that are on disk.
    pub(crate) backlog: u64,
    /// How long a request may take.
    pub(crate) request_millis: u64,
}

impl Orders {
    /// By the environment.
    pub(crate) fn give(&self, command: &mut Command) {
        let Self { dsn, spool_dir, life, end, pause_micros, children, backlog, request_millis } =
            self;
        let end = match end {
            End::Killed => "killed".to_owned(),
            End::After(millis) => millis.to_string(),
            End::Empty => "empty".to_owned(),
        };
        let text =
            format!("{life} {end} {pause_micros} {children} {backlog} {request_millis} {dsn}");
        command.env(VARIABLE, text).env(format!("{VARIABLE}_DIR"), spool_dir);
    }

    pub(crate) fn given() -> Option<Self> {
        let text = env::var(VARIABLE).ok()?;
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap();
        Some(Self {
            life: word().parse().unwrap(),
            end: match word() {
                "killed" => End::Killed,
                "empty" => End::Empty,
                millis => End::After(millis.parse().unwrap()),
            },
            pause_micros: word().parse().unwrap(),
            children: word().parse().unwrap(),
            backlog: word().parse().unwrap(),
            request_millis: word().parse().unwrap(),
            dsn: word().to_owned(),
            spool_dir: env::var_os(format!("{VARIABLE}_DIR")).unwrap().into(),
        })
    }
}

/// The books at one moment, as they are told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line {
    pub(crate) started: Count,
    pub(crate) delivered: Count,
    /// By the server, for good.
    pub(crate) refused: Count,
    pub(crate) in_spool: Count,
    pub(crate) recovered: Count,
    pub(crate) evicted: Count,
    pub(crate) left_behind: Count,
    pub(crate) damaged: u64,
    pub(crate) errors: u64,
}

impl Line {
    fn of(stats: &Stats) -> Self {
        let lost = |reason| stats.dropped.get(&reason).copied().unwrap_or_default();
        Self {
            started: stats.started,
            delivered: stats.delivered,
            refused: lost(Reason::SendError) + lost(Reason::Refused),
            in_spool: stats.in_spool,
            recovered: stats.spool.recovered,
            evicted: lost(Reason::SpoolEvicted) + lost(Reason::SpoolDamaged),
            left_behind: stats.spool.left_behind,
            damaged: stats.spool.damaged_files,
            errors: stats.spool.errors,
        }
    }

    fn counts(&mut self) -> [&mut Count; 7] {
        let Self { started, delivered, refused, in_spool, recovered, evicted, left_behind, .. } =
            self;
        [started, delivered, refused, in_spool, recovered, evicted, left_behind]
    }

    /// By one call of the system: a kill leaves all of it or nothing.
    fn say(mut self) -> std::io::Result<()> {
        let mut text = format!("{} {}", self.damaged, self.errors);
        for count in self.counts() {
            text += &format!(" {} {}", count.transactions, count.spans);
        }
        text.push('\n');
        std::io::stdout().lock().write_all(text.as_bytes())
    }

    /// The next one; `None` at the end.
    pub(crate) fn read(lines: &mut impl BufRead) -> Option<Self> {
        let mut text = String::new();
        if lines.read_line(&mut text).unwrap() == 0 {
            return None;
        }
        let mut numbers = text.strip_suffix('\n').unwrap().split(' ').map(|it| it.parse().unwrap());
        let mut number = || numbers.next().unwrap();
        let mut line = Self { damaged: number(), errors: number(), ..Self::default() };
        for count in line.counts() {
            *count = Count { transactions: number(), spans: number() };
        }
        Some(line)
    }
}

/// Records, and says all the time how it is.
pub(crate) fn live(orders: &Orders) {
    let guard = hotspan::init(Config {
        dsn: Some(orders.dsn.clone()),
        http_proxy: Some(String::new()),
        traces_sample_rate: Some(1.0),
        enable_backpressure_handling: false,
        spool_dir: Some(orders.spool_dir.clone()),
        upload_concurrency: 2,
        flush_interval: Duration::from_millis(1),
        spool_bytes: 64 << 20,
        request_timeout: Duration::from_millis(orders.request_millis),
        connect_timeout: Duration::from_millis(orders.request_millis),
        ..Config::default()
    })
    .unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..RECORDERS {
            let stop = &stop;
            scope.spawn(move || record(orders, thread, stop));
        }
        let began = Instant::now();
        loop {
            let now = stats();
            now.check().unwrap();
            // Whoever listens is gone.
            if Line::of(&now).say().is_err() {
                break;
            }
            let is_found = now.spool.recovered.transactions >= orders.backlog;
            let all = orders.backlog + RECORDERS * LAST_TRANSACTIONS;
            let is_over = match orders.end {
                End::Killed => false,
                End::After(millis) => is_found && began.elapsed() > Duration::from_millis(millis),
                End::Empty => now.delivered.transactions >= all,
            };
            if is_over {
                break;
            }
            assert!(began.elapsed() < LONG * 2, "not found, or not sent: {now}");
            thread::sleep(INTERVAL);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let report = guard.close(LONG);
    let after = stats();
    after.check().unwrap();
    assert!(after.is_at_rest() && report.left == Count::default(), "{after}");
    assert_eq!(report.dropped, Count::default(), "{after}");
    assert_eq!(report.spooled, after.spool.left_behind, "{after}");
    Line::of(&after).say().unwrap();
}

/// Transactions that say which they are.
fn record(orders: &Orders, thread: u64, stop: &AtomicBool) {
    let many = if orders.end == End::Killed { u64::MAX } else { LAST_TRANSACTIONS };
    let text: String = (0..60).map(|_| fastrand::alphanumeric()).collect();
    for n in 0..many {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.set_tag("item", format!("{}-{thread}-{n}", orders.life));
        for _ in 0..orders.children {
            start_child("step", "one").set_data("text", &*text);
        }
        drop(transaction);
        thread::sleep(Duration::from_micros(orders.pause_micros));
    }
}

/// Which transaction it is.
pub(crate) fn item_of(opened: &Opened) -> String {
    opened.payload["tags"]["item"].as_str().unwrap().to_owned()
}
