//! How many envelopes a second arrive at a server that is some way off, over one connection and over
//! several: `cargo run --release --example upload_rate -- [DELAY_MS] [SECONDS]`.
//!
//! A server on loopback waits before each answer, as a server does that is that far away. A loop
//! records small transactions faster than any of this can take; what does not fit into the queue is
//! counted. Rounds take turns, and the median of three is shown.

#![expect(clippy::print_stdout, reason = "a program talks")]
#![expect(clippy::disallowed_methods, reason = "a program has clocks of its own")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use hotspan::{Config, Reason, start_child, start_transaction, stats};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CONNECTIONS: [usize; 3] = [1, 4, 16];
const ROUNDS: usize = 3;

/// One round's figures.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    a_second: f64,
    queue_full: u64,
    exact: bool,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let delay: u64 = arguments.next().map_or(Ok(40), |text| text.parse())?;
    let seconds: f64 = arguments.next().map_or(Ok(3.0), |text| text.parse())?;
    let port = serve(Duration::from_millis(delay))?;
    let mut rounds = [[Round::default(); ROUNDS]; CONNECTIONS.len()];
    for turn in 0..ROUNDS {
        for (connections, rounds) in CONNECTIONS.into_iter().zip(&mut rounds) {
            if let Some(round) = rounds.get_mut(turn) {
                *round = run(port, connections, Duration::from_secs_f64(seconds))?;
            }
        }
    }
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_header(["connections", "arrived a second", "queue_full", "books"]);
    for (connections, mut rounds) in CONNECTIONS.into_iter().zip(rounds) {
        rounds.sort_by(|left, right| left.a_second.total_cmp(&right.a_second));
        let Some(median) = rounds.get(ROUNDS / 2) else { continue };
        let exact = rounds.iter().all(|round| round.exact);
        table.add_row([
            connections.to_string(),
            format!("{:.0}", median.a_second),
            median.queue_full.to_string(),
            if exact { "exact" } else { "NOT EXACT" }.to_owned(),
        ]);
    }
    for column in table.column_iter_mut().take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}\nanswers after {delay} ms; {ROUNDS} rounds of {seconds} s each, medians");
    Ok(())
}

/// Records for so long, and closes.
fn run(port: u16, connections: usize, time: Duration) -> Result<Round> {
    let before = stats();
    let guard = hotspan::init(Config {
        dsn: Some(format!("http://0123456789abcdef0123456789abcdef@127.0.0.1:{port}/1")),
        traces_sample_rate: Some(1.0),
        upload_concurrency: connections,
        enable_backpressure_handling: false,
        queue_bytes: 256 << 10,
        ..Config::default()
    })?;
    let begun = Instant::now();
    while begun.elapsed() < time {
        for _ in 0..10 {
            let _transaction = start_transaction("queue.process", "orders");
            drop(start_child("db.query", "load order"));
        }
        thread::sleep(Duration::from_millis(2));
    }
    let (took, arrived) = (begun.elapsed(), stats().delivered.transactions);
    let _ = guard.close(Duration::from_secs(30));
    let after = stats();
    let full = |stats: &hotspan::Stats| {
        stats.dropped.get(&Reason::QueueFull).map_or(0, |count| count.transactions)
    };
    Ok(Round {
        a_second: (arrived - before.delivered.transactions) as f64 / took.as_secs_f64(),
        queue_full: full(&after) - full(&before),
        exact: after.is_at_rest() && after.check().is_ok(),
    })
}

/// Answers each request with 200, after `delay`; returns the port.
fn serve(delay: Duration) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::Builder::new().spawn(move || {
        for stream in listener.incoming().flatten() {
            let converse = move || converse(&stream, delay);
            // Without a thread the connection is closed, and the client says so.
            let _ = thread::Builder::new().spawn(converse);
        }
    })?;
    Ok(port)
}

fn converse(mut stream: &TcpStream, delay: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
        thread::sleep(delay);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
    }
}
