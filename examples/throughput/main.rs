//! How much gets through: flat out from one thread and from two, and the highest steady rate
//! without loss, into nothing, into files, and to a server on loopback.
//!
//! `cargo run --release --features http2 --example throughput -- [SECONDS] [TRANSPORT…]`
//!
//! A run takes 2 s unless said otherwise; transports are `null`, `file`, `http` (bodies as they are,
//! which is the default to a server on loopback), `http-gzip`, and, with the feature of that name,
//! `http2`. For each run: what was recorded, what arrived, and what was lost for which reason; the
//! processor time of this process, all threads and the kernel on their behalf, for each span that
//! arrived, which includes what recording and dropping the others took; and the bound that gave way
//! first. The server is a process of its own, and counts the requests it takes: they must be as many
//! as the books say.
//!
//! The highest rate without loss is found by bisection, from one thread that records what is due
//! once a millisecond. A rate is good if nothing is lost, and all has arrived a tenth of the time
//! after the last span: what only fills a queue is not sustained.
//!
//! Below the table stands what HTTP/1.1 cannot go below here: the processor time of a thread that
//! writes as many bytes to the same server in one call, and reads the answer in another.

#![expect(clippy::print_stdout, reason = "a program talks")]
#![expect(clippy::disallowed_methods, reason = "a program has clocks of its own")]

mod load;
mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use cpu_time::{ProcessTime, ThreadTime};
use hotspan::{Compression, Config, Count, Delivery, HttpVersion, Reason, Stats, stats};

use load::Pace;
use server::Server;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Children of an item.
const CHILDREN: [u32; 2] = [3, 20];

/// Between two looks at what gives way.
const LOOK: Duration = Duration::from_millis(5);

/// How much of its time a run may take longer until all has arrived, if its rate is sustained.
const GRACE: f64 = 0.1;

/// The bisection ends when it knows the rate so well.
const PRECISION: f64 = 1.06;

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Null,
    File,
    Http(HttpVersion, Compression),
}

const TRANSPORTS: &[(&str, To)] = &[
    ("null", To::Null),
    ("file", To::File),
    ("http", To::Http(HttpVersion::Http1, Compression::Auto)),
    ("http-gzip", To::Http(HttpVersion::Http1, Compression::Gzip)),
    #[cfg(feature = "http2")]
    ("http2", To::Http(HttpVersion::Http2, Compression::Auto)),
];

/// What became of one run.
struct Run {
    recorded: Count,
    arrived: Count,
    lost: Vec<(Reason, u64)>,
    /// What was lost first.
    first: Option<Reason>,
    /// Until all had arrived or was lost.
    took: Duration,
    cpu: Duration,
    books: std::result::Result<(), String>,
}

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == server::ARGUMENT) {
        return server::serve();
    }
    let mut time = Duration::from_secs(2);
    if let Some(seconds) = arguments.first().and_then(|argument| argument.parse().ok()) {
        time = Duration::from_secs_f64(seconds);
        arguments.remove(0);
    }
    let known = |argument: &String| TRANSPORTS.iter().any(|(name, _)| name == argument);
    if !arguments.iter().all(known) {
        let names: Vec<String> = TRANSPORTS.iter().map(|(name, _)| format!(" [{name}]")).collect();
        return Err(format!("usage: throughput [SECONDS]{}", names.concat()).into());
    }
    let mut server = Server::start()?;
    let mut table = table(&[
        "into",
        "children",
        "recorded",
        "spans a second",
        "arrived",
        "lost",
        "CPU ns a span",
        "first bound",
    ]);
    for &(name, to) in TRANSPORTS {
        if !arguments.is_empty() && !arguments.iter().any(|argument| argument == name) {
            continue;
        }
        for children in CHILDREN {
            let mut each = |pace: Pace, what: &str, server: &mut Server| -> Result<Run> {
                let run = run(to, pace, children, time, server)?;
                table.add_row(row(name, children, what, time, &run));
                if let Err(problem) = &run.books {
                    return Err(format!("{name}, {what}: {problem}").into());
                }
                Ok(run)
            };
            let one = each(Pace::FlatOut { threads: 1 }, "flat out, 1 thread", &mut server)?;
            each(Pace::FlatOut { threads: 2 }, "flat out, 2 threads", &mut server)?;
            let high = 4.0 * one.arrived.spans as f64 / one.took.as_secs_f64();
            let rate = sustained(to, children, high, time / 2, &mut server)?;
            each(Pace::Paced(rate), "paced, 1 thread", &mut server)?;
        }
    }
    println!("{table}");
    println!(
        "\nEach run takes {} s. CPU: of this process, for each span that arrived.",
        time.as_secs_f64()
    );
    for children in CHILDREN {
        let floor = bare(&server, children)?;
        println!(
            "One bare write and read, as for {children} children: {:.1} µs, {:.0} ns a span.",
            floor / 1000.0,
            floor / f64::from(children + 1)
        );
    }
    Ok(())
}

/// Processor time, in nanoseconds, of an exchange with the server: the median of some rounds.
fn bare(server: &Server, children: u32) -> Result<f64> {
    const ROUNDS: usize = 9;
    const EXCHANGES: u32 = 1000;
    // What an item comes to, uncompressed, head included.
    let body = vec![b'x'; 975 + 263 * children as usize];
    let padding = "x".repeat(220);
    let length = body.len();
    let head = format!("POST / HTTP/1.1\r\nPadding: {padding}\r\nContent-Length: {length}\r\n\r\n");
    let request = [head.as_bytes(), &body].concat();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port()))?;
    stream.set_nodelay(true)?;
    let mut answer = [0; 1024];
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begin = ThreadTime::now();
        for _ in 0..EXCHANGES {
            stream.write_all(&request)?;
            if stream.read(&mut answer)? == 0 {
                return Err("the server hung up".into());
            }
        }
        rounds.push(begin.elapsed().as_nanos() as f64 / f64::from(EXCHANGES));
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds.get(ROUNDS / 2).copied().unwrap_or_default())
}

/// The highest rate that is sustained, in spans a second.
fn sustained(to: To, children: u32, high: f64, time: Duration, server: &mut Server) -> Result<f64> {
    let (mut low, mut high) = (high / 256.0, high);
    while high / low > PRECISION {
        let middle = (low * high).sqrt();
        let run = run(to, Pace::Paced(middle), children, time, server)?;
        let is_late = run.took > time.mul_f64(1.0 + GRACE);
        if run.first.is_some() || is_late || run.recorded != run.arrived {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(low)
}

fn config(to: To, server: &Server, folder: &Path) -> Config {
    let (http_version, compression) = match to {
        To::Http(version, compression) => (version, compression),
        _ => (HttpVersion::Http1, Compression::None),
    };
    Config {
        dsn: Some(server.dsn()),
        release: Some("shop@2.14.0".into()),
        environment: Some("production".into()),
        transport: match to {
            To::Null => Delivery::Null,
            To::File => Delivery::File(folder.to_path_buf()),
            To::Http(..) => Delivery::Http,
        },
        compression,
        http_version,
        traces_sample_rate: Some(1.0),
        // What is recorded is not to depend on what gets through; reports would be requests, too.
        enable_backpressure_handling: false,
        send_client_reports: false,
        ..Config::default()
    }
}

fn run(to: To, pace: Pace, children: u32, time: Duration, server: &mut Server) -> Result<Run> {
    let folder = PathBuf::from(format!("target/throughput-{}", std::process::id()));
    let (before, taken) = (stats(), server.taken()?);
    let guard = hotspan::init(config(to, server, &folder))?;
    let (cpu, begun) = (ProcessTime::now(), Instant::now());
    let over = AtomicBool::new(false);
    let first = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&before, &over));
        load::record(pace, children, time);
        over.store(true, Ordering::Relaxed);
        watching.join().unwrap_or(None)
    });
    let report = guard.close(Duration::from_secs(60));
    let (cpu, took) = (cpu.elapsed(), begun.elapsed());
    let after = stats();
    let _ = std::fs::remove_dir_all(&folder);
    let arrived = after.delivered - before.delivered;
    let lost = losses(&before, &after);
    let requests = server.taken()? - taken;
    let books = if let Err(imbalance) = after.check() {
        Err(imbalance.to_string())
    } else if report.left != Count::default() {
        Err("not all was settled in a minute".to_owned())
    } else if matches!(to, To::Http(..)) && requests != arrived.transactions {
        Err(format!("{requests} requests for {} transactions", arrived.transactions))
    } else {
        Ok(())
    };
    let first = first.or_else(|| Some(lost.first()?.0));
    Ok(Run { recorded: after.started - before.started, arrived, lost, first, took, cpu, books })
}

/// Spans that were lost between two looks, by reason.
fn losses(before: &Stats, after: &Stats) -> Vec<(Reason, u64)> {
    let of = |stats: &Stats, reason| stats.dropped.get(&reason).map_or(0, |count| count.spans);
    let all =
        after.dropped.keys().map(|reason| (*reason, of(after, *reason) - of(before, *reason)));
    all.filter(|(_, spans)| *spans > 0).collect()
}

/// What is lost first, while it is recorded.
fn watch(before: &Stats, over: &AtomicBool) -> Option<Reason> {
    while !over.load(Ordering::Relaxed) {
        let mut lost = losses(before, &stats());
        lost.sort_by_key(|(_, spans)| std::cmp::Reverse(*spans));
        if let Some((reason, _)) = lost.first() {
            return Some(*reason);
        }
        thread::sleep(LOOK);
    }
    None
}

/// The setting that a loss of this kind comes from, and what was too slow for it.
fn bound(reason: Reason) -> String {
    match reason {
        Reason::RingFull => "ring_slots: the flusher".to_owned(),
        Reason::QueueFull => "queue_bytes: the transport".to_owned(),
        other => other.as_str().to_owned(),
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_header(header.iter().copied());
    for column in table.column_iter_mut().skip(3).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn row(name: &str, children: u32, what: &str, time: Duration, run: &Run) -> [String; 8] {
    let (recorded, arrived) = (run.recorded.spans as f64, run.arrived.spans as f64);
    let share = |spans: f64| format!("{:.1} %", 100.0 * spans / recorded);
    let lost = match run.lost.as_slice() {
        [] => "nothing".to_owned(),
        lost => {
            let each = lost
                .iter()
                .map(|(reason, spans)| format!("{} {}", reason.as_str(), share(*spans as f64)));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    [
        name.to_owned(),
        children.to_string(),
        what.to_owned(),
        format!("{:.2} M", recorded / time.as_secs_f64() / 1e6),
        format!("{:.2} M", arrived / run.took.as_secs_f64() / 1e6),
        lost,
        format!("{:.0}", run.cpu.as_nanos() as f64 / arrived),
        run.first.map_or_else(|| "none".to_owned(), bound),
    ]
}
