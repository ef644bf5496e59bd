//! How many envelopes a second arrive at a server that is some way off, over one connection and over
//! several: `cargo run --release --example upload_rate -- [DELAY_MS] [SECONDS]`.
//!
//! A server on loopback waits before each answer, as a server does that is that far away. A loop
//! records small transactions faster than any of this can take; what does not fit into the queue is
//! counted. Rounds take turns, and the median of three is shown. With `--features http2` there are
//! rows for HTTP/2, too.

#![expect(clippy::print_stdout, reason = "a program talks")]
#![expect(clippy::disallowed_methods, reason = "a program has clocks of its own")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use hotspan::{Config, HttpVersion, Reason, start_child, start_transaction, stats};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is spoken, and over how many connections.
const WAYS: &[(&str, HttpVersion, usize)] = &[
    ("HTTP/1.1", HttpVersion::Http1, 1),
    ("HTTP/1.1", HttpVersion::Http1, 4),
    ("HTTP/1.1", HttpVersion::Http1, 16),
    #[cfg(feature = "http2")]
    ("HTTP/2", HttpVersion::Http2, 1),
    #[cfg(feature = "http2")]
    ("HTTP/2", HttpVersion::Http2, 4),
];
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
    let mut rounds = [[Round::default(); ROUNDS]; WAYS.len()];
    for turn in 0..ROUNDS {
        for (&(_, version, connections), rounds) in WAYS.iter().zip(&mut rounds) {
            if let Some(round) = rounds.get_mut(turn) {
                *round = run(port, version, connections, Duration::from_secs_f64(seconds))?;
            }
        }
    }
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_header(["", "connections", "arrived a second", "queue_full", "books"]);
    for (&(name, _, connections), mut rounds) in WAYS.iter().zip(rounds) {
        rounds.sort_by(|left, right| left.a_second.total_cmp(&right.a_second));
        let Some(median) = rounds.get(ROUNDS / 2) else { continue };
        let exact = rounds.iter().all(|round| round.exact);
        table.add_row([
            name.to_owned(),
            connections.to_string(),
            format!("{:.0}", median.a_second),
            median.queue_full.to_string(),
            if exact { "exact" } else { "NOT EXACT" }.to_owned(),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}\nanswers after {delay} ms; {ROUNDS} rounds of {seconds} s each, medians");
    Ok(())
}

/// Records for so long, and closes.
fn run(port: u16, version: HttpVersion, connections: usize, time: Duration) -> Result<Round> {
    let before = stats();
    let guard = hotspan::init(Config {
        dsn: Some(format!("http://0123456789abcdef0123456789abcdef@127.0.0.1:{port}/1")),
        traces_sample_rate: Some(1.0),
        http_version: version,
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
    #[cfg(feature = "http2")]
    if streams::are_spoken(stream)? {
        return streams::converse(stream.try_clone()?, delay);
    }
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

/// The same over HTTP/2.
#[cfg(feature = "http2")]
mod streams {
    use std::io::{Error, Result};
    use std::net::TcpStream;
    use std::time::Duration;

    use bytes::Bytes;
    use h2::RecvStream;
    use h2::server::{SendResponse, handshake};

    /// With this a client begins (RFC 9113, section 3.4).
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";

    pub(super) fn are_spoken(stream: &TcpStream) -> Result<bool> {
        // Both sides are on this machine: what was written in one piece comes in one.
        let mut begun = [0; PREFACE.len()];
        let read = stream.peek(&mut begun)?;
        Ok(read == begun.len() && begun == PREFACE)
    }

    pub(super) fn converse(stream: TcpStream, delay: Duration) -> Result<()> {
        stream.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let mut connection = handshake(stream).await.map_err(Error::other)?;
            while let Some(request) = connection.accept().await {
                let (request, respond) = request.map_err(Error::other)?;
                tokio::spawn(answer(request.into_body(), respond, delay));
            }
            Ok(())
        })
    }

    async fn answer(
        mut body: RecvStream,
        mut respond: SendResponse<Bytes>,
        delay: Duration,
    ) -> std::result::Result<(), h2::Error> {
        while let Some(part) = body.data().await {
            body.flow_control().release_capacity(part?.len())?;
        }
        tokio::time::sleep(delay).await;
        respond.send_response(ureq::http::Response::new(()), true)?;
        Ok(())
    }
}
