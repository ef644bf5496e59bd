//! Records at a steady rate for minutes, in every way there is, and watches what the process holds:
//! memory, threads, files. What grows for ever would show here. Early on it records flat out for
//! some seconds, with losses that are counted: what is kept for stalls is then as large as it gets.
//!
//! `cargo run --release --example soak -- [MINUTES] [TRANSACTIONS_PER_SECOND] [--flap]`; see
//! `scripts/soak`. With `--flap` it delivers over HTTP to a server that changes its mind every seven
//! seconds (`server.rs`), with a spool; else to nobody.
//!
//! ```text
//!   bound     transactions with children, tags, data and a measurement, on one thread
//!   sender ──channel──► worker     detached transactions: entered there, finished there
//!   futures   in transactions and spans, cancelled now and then
//!   short     threads that come, record, and go
//! ```

#![expect(clippy::print_stdout, reason = "a program talks")]
#![expect(clippy::disallowed_methods, reason = "a program has clocks of its own")]

mod server;

use std::future::{Future, poll_fn};
use std::io::{BufRead, BufReader, Read};
use std::pin::pin;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use hotspan::{
    Config, Delivery, Detached, FutureExt, Stats, start_child, start_transaction, stats,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Memory may grow by so much a second, on average,
const SLOPE_MAX: f64 = 1024.0;
/// and lie in a band so wide.
const BAND_MAX: u64 = 2 << 20;
/// Until then, rings, tables and buffers grow to what they need.
const WARM_UP: Duration = Duration::from_secs(60);
/// So long in the warm-up nobody pauses: what is kept for stalls is then as large as it gets, and a
/// machine that is busy with something else later does not look like a leak.
const RUSH: std::ops::Range<u64> = 20..25;
/// Short threads that may be alive when one looks.
const SHORT_THREADS: u64 = 1;
const BEAT: Duration = Duration::from_millis(5);

/// Whether somebody takes part in the rush. Threads that come and go do not, as each that waits for
/// the flusher holds a place of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Temper {
    Rushing,
    Calm,
}

static OVER: AtomicBool = AtomicBool::new(false);
static RUSHING: AtomicBool = AtomicBool::new(false);

fn main() -> Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == server::ARGUMENT) {
        return server::serve();
    }
    let is_flapping = arguments.iter().any(|argument| argument == "--flap");
    arguments.retain(|argument| !argument.starts_with("--"));
    let mut arguments = arguments.into_iter();
    let minutes: f64 = arguments.next().map_or(Ok(10.0), |text| text.parse())?;
    let rate: u32 = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let time = Duration::from_secs_f64(60.0 * minutes);
    let config =
        Config { transport: Delivery::Null, traces_sample_rate: Some(1.0), ..Config::default() };
    let (guard, far_end) = if is_flapping {
        let (far_end, port) = FarEnd::start()?;
        (hotspan::init(over_http(config, port))?, Some(far_end))
    } else {
        (hotspan::init(config)?, None)
    };
    // A beat's share of each of the four that begin transactions.
    let share = u64::try_from(u128::from(rate) * BEAT.as_micros() / 4_000_000)?.max(1);
    let (sender, receiver) = sync_channel(64);
    let watched = thread::scope(|scope| {
        let threads = [
            scope.spawn(move || beat(share, Temper::Rushing, bound)),
            scope.spawn(move || beat(share, Temper::Rushing, |n| send(&sender, n))),
            scope.spawn(move || work(&receiver)),
            scope.spawn(move || beat(share, Temper::Rushing, futures)),
            scope.spawn(move || beat(1, Temper::Calm, |n| short(n, share))),
        ];
        let watched = watch(time);
        OVER.store(true, Ordering::Relaxed);
        for thread in threads {
            let _ = thread.join();
        }
        watched
    })?;
    let report = guard.close(Duration::from_secs(30));
    let end = stats();
    println!("{end}");
    let settled = end.delivered + end.dropped_in_all() + end.discarded;
    let exact = report.left == hotspan::Count::default()
        && end.check().is_ok()
        && end.is_at_rest()
        && end.started + end.spool.recovered == settled + end.in_spool + end.spool.left_behind;
    let connections = if is_flapping { CONNECTIONS } else { 0 };
    let uploaders = if is_flapping { UPLOADERS } else { 0 };
    let mut verdict = watched.verdict(WARM_UP.min(time / 2), connections, uploaders);
    verdict.push(("books exact", exact));
    if let Some(far_end) = far_end {
        let taken = far_end.end()?;
        println!("the server took {taken} requests");
        // Client reports, and what was answered in vain, are among them.
        verdict.push(("what was delivered was taken", end.delivered.transactions <= taken));
        // Of what is begun when nobody rushes.
        let many = end.delivered.transactions as f64 > f64::from(rate) * time.as_secs_f64() / 4.0;
        verdict.push(("a good part was delivered", many));
    }
    for (name, holds) in &verdict {
        println!("{} {name}", if *holds { "ok    " } else { "FAILED" });
    }
    let all = verdict.iter().all(|(_, holds)| *holds);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Connections, and files of the spool, that may be open when one looks.
const CONNECTIONS: u64 = 8;

/// Threads that may begin at any time, when the first of four uploaders does not keep up.
const UPLOADERS: u64 = 3;

/// To the server on this machine; what it does not take goes to disk.
fn over_http(config: Config, port: u16) -> Config {
    Config {
        dsn: Some(format!("http://0123456789abcdef0123456789abcdef@127.0.0.1:{port}/1")),
        transport: Delivery::Http,
        request_timeout: Duration::from_secs(1),
        spool_dir: Some("target/soak-spool".into()),
        spool_age: Duration::from_secs(60),
        ..config
    }
}

/// The server, as a process of its own.
struct FarEnd {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl FarEnd {
    fn start() -> Result<(Self, u16)> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(server::ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(process.stdout.take().ok_or("the server says nothing")?);
        let mut port = String::new();
        said.read_line(&mut port)?;
        Ok((Self { process, said }, port.trim().parse()?))
    }

    /// Ends it; how many requests it took.
    fn end(mut self) -> Result<u64> {
        drop(self.process.stdin.take());
        let mut taken = String::new();
        self.said.read_to_string(&mut taken)?;
        self.process.wait()?;
        Ok(taken.trim().parse()?)
    }
}

/// Does something `share` times a beat until all is over. What a late beat missed is not made up.
fn beat(share: u64, temper: Temper, mut work: impl FnMut(u64)) {
    let mut n = 0;
    while !OVER.load(Ordering::Relaxed) {
        let begun = Instant::now();
        for _ in 0..share {
            work(n);
            n += 1;
        }
        if temper == Temper::Calm || !RUSHING.load(Ordering::Relaxed) {
            thread::sleep(BEAT.saturating_sub(begun.elapsed()));
        }
    }
}

fn bound(n: u64) {
    let mut transaction = start_transaction("soak.bound", "bound");
    transaction.set_tag("parity", n % 2);
    {
        let mut span = start_child("db", "load");
        span.set_data("rows", n % 100);
        let _inner = start_child("db", "parse");
    }
    // No two alike: a text that must not stay in the name table for ever.
    transaction.set_data("item", format!("item {n}"));
    let _span = start_child("work", "compute");
    transaction.set_measurement("size", (n % 1000) as f64, "byte");
}

fn send(to: &SyncSender<Detached>, n: u64) {
    let mut transaction = start_transaction("soak.detached", "passed on").detach();
    transaction.set_tag("parity", n % 2);
    // The worker has gone when this fails: the transaction ends here.
    let _ = to.send(transaction);
}

fn work(from: &Receiver<Detached>) {
    for transaction in from {
        let context = transaction.context();
        {
            let scope = transaction.enter();
            let mut span = scope.start_child("work", "compute");
            span.set_data("entered", true);
        }
        {
            let _scope = context.enter();
            let _span = start_child("db", "store");
        }
        transaction.finish();
    }
}

fn futures(n: u64) {
    let item = async {
        pause().await;
        pause().in_span(start_child("io", "wait")).await;
    }
    .in_transaction("soak.future", "polled");
    if n.is_multiple_of(10) {
        poll_once_and_drop(item);
    } else {
        block_on(item);
    }
}

/// Pending once.
async fn pause() {
    let mut is_ready = false;
    poll_fn(
        |_| if std::mem::replace(&mut is_ready, true) { Poll::Ready(()) } else { Poll::Pending },
    )
    .await;
}

fn block_on(future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    while future.as_mut().poll(&mut context).is_pending() {}
}

fn poll_once_and_drop(future: impl Future<Output = ()>) {
    let future = pin!(future);
    let _ = future.poll(&mut Context::from_waker(Waker::noop()));
}

/// One thread, with a share of transactions.
fn short(n: u64, share: u64) {
    let name = format!("short {}", n % 100);
    let thread = thread::Builder::new().name(name).spawn(move || (0..share).for_each(bound));
    if let Ok(thread) = thread {
        let _ = thread.join();
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    at: Duration,
    memory: u64,
    threads: u64,
    files: u64,
}

#[derive(Debug, Default)]
struct Watched(Vec<Held>);

/// Looks once a second, and prints every ten.
fn watch(time: Duration) -> Result<Watched> {
    let begun = Instant::now();
    let mut watched = Watched::default();
    println!("    s  memory KiB  threads  files      started    delivered  dropped (spans)");
    while begun.elapsed() < time {
        thread::sleep(Duration::from_secs(1));
        RUSHING.store(RUSH.contains(&begun.elapsed().as_secs()), Ordering::Relaxed);
        let held = held(begun.elapsed())?;
        watched.0.push(held);
        if watched.0.len() % 10 == 0 {
            print(&held, &stats());
        }
    }
    Ok(watched)
}

fn print(held: &Held, stats: &Stats) {
    println!(
        "{:5}  {:10}  {:7}  {:5}  {:11}  {:11}  {:7}",
        held.at.as_secs(),
        held.memory / 1024,
        held.threads,
        held.files,
        stats.started.spans,
        stats.delivered.spans,
        stats.dropped_in_all().spans,
    );
}

fn held(at: Duration) -> Result<Held> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let number = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.ok_or_else(|| format!("/proc/self/status has no {name}"))?.parse()?)
    };
    let files = std::fs::read_dir("/proc/self/fd")?.count() as u64;
    let memory = number("VmRSS:")? * 1024;
    Ok(Held { at, memory, threads: number("Threads:")?, files })
}

impl Watched {
    fn verdict(
        &self,
        warm_up: Duration,
        connections: u64,
        uploaders: u64,
    ) -> Vec<(&'static str, bool)> {
        let warm: Vec<Held> = self.0.iter().filter(|held| held.at > warm_up).copied().collect();
        let range = |of: fn(&Held) -> u64| {
            let of = || warm.iter().map(of);
            (of().min().unwrap_or(0), of().max().unwrap_or(u64::MAX))
        };
        let (least, most) = range(|held| held.memory);
        let slope = slope(&warm);
        let (threads, files) = (range(|held| held.threads), range(|held| held.files));
        println!(
            "after {} s: memory {} to {} KiB, {slope:+.0} bytes a second; {} to {} threads, \
             {} to {} files",
            warm_up.as_secs(),
            least / 1024,
            most / 1024,
            threads.0,
            threads.1,
            files.0,
            files.1
        );
        vec![
            ("memory grows by at most 1 KiB a second", slope <= SLOPE_MAX),
            ("memory stays within 2 MiB", most - least <= BAND_MAX),
            ("threads stay", threads.1 - threads.0 <= SHORT_THREADS + uploaders),
            ("files stay", files.1 - files.0 <= connections),
        ]
    }
}

/// Least squares: bytes a second.
fn slope(held: &[Held]) -> f64 {
    let count = held.len() as f64;
    let mean = |of: fn(&Held) -> f64| held.iter().map(of).sum::<f64>() / count;
    let (at, memory) = (mean(|held| held.at.as_secs_f64()), mean(|held| held.memory as f64));
    let (mut above, mut below) = (0.0, 0.0);
    for held in held {
        let from_mean = held.at.as_secs_f64() - at;
        above += from_mean * (held.memory as f64 - memory);
        below += from_mean * from_mean;
    }
    // With too little to go by this is no number, and no success.
    above / below
}
