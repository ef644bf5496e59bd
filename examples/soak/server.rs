//! A server that changes its mind every few seconds, in a process of its own: what it keeps must not
//! count as the recorder's.
//!
//! It says its port on standard output and ends with its standard input. One thread serves each
//! connection. What it answered with 200 is counted, and printed at the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Result;

/// The argument that makes this program a server.
pub(crate) const ARGUMENT: &str = "--serve";

/// How long it stays of one mind.
const FLAP: Duration = Duration::from_secs(7);

/// Requests that were answered with 200.
static TAKEN: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// Takes connections, and closes them.
    Gone,
    /// Reads, and does not answer.
    Hanging,
    Failing,
    /// Wants nothing for two seconds, and says so.
    Limiting,
    /// Answers late.
    Slow,
    /// Half an answer.
    Cutting,
}

/// Well every other time.
const MOODS: [Mood; 12] = [
    Mood::Well,
    Mood::Gone,
    Mood::Well,
    Mood::Hanging,
    Mood::Well,
    Mood::Failing,
    Mood::Well,
    Mood::Limiting,
    Mood::Well,
    Mood::Slow,
    Mood::Well,
    Mood::Cutting,
];

/// Serves until standard input ends.
pub(crate) fn serve() -> Result<ExitCode> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        println!("{}", TAKEN.load(Ordering::Relaxed));
        std::process::exit(0);
    });
    let begun = Instant::now();
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || converse(&stream, begun));
    }
    Ok(ExitCode::SUCCESS)
}

fn mood(begun: Instant) -> Mood {
    let flaps = begun.elapsed().as_secs() / FLAP.as_secs();
    let at = flaps % MOODS.len() as u64;
    MOODS.into_iter().zip(0..).find(|(_, n)| *n == at).map_or(Mood::Well, |(mood, _)| mood)
}

fn converse(mut stream: &TcpStream, begun: Instant) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    loop {
        if mood(begun) == Mood::Gone || read(&mut reader).is_err() {
            return;
        }
        let mood = mood(begun);
        let answer: &[u8] = match mood {
            Mood::Well | Mood::Slow => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            Mood::Failing => b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            Mood::Limiting => {
                b"HTTP/1.1 429 Slow down\r\nX-Sentry-Rate-Limits: 2:transaction:key\r\n\
                  Content-Length: 0\r\n\r\n"
            }
            Mood::Cutting => b"HTTP/1.1 200 O",
            Mood::Gone | Mood::Hanging => b"",
        };
        match mood {
            Mood::Hanging => thread::sleep(Duration::from_secs(2)),
            Mood::Slow => thread::sleep(Duration::from_millis(20)),
            _ => {}
        }
        if matches!(mood, Mood::Well | Mood::Slow) {
            TAKEN.fetch_add(1, Ordering::Relaxed);
        }
        if stream.write_all(answer).is_err()
            || matches!(mood, Mood::Cutting | Mood::Gone | Mood::Hanging)
        {
            return;
        }
    }
}

/// Reads a request, and forgets it.
fn read(reader: &mut impl BufRead) -> std::io::Result<()> {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    Ok(())
}
