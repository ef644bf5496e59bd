//! A server that takes everything, in a process of its own: what it costs is not the recorder's.
//!
//! It says its port on standard output, how many requests it has answered whenever a line comes in
//! on standard input, and ends with that. One thread serves each connection, with as little work as
//! an answer takes: it is to be the last thing that gives way.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

#[path = "streams.rs"] // others take this file by its path, too
mod streams;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The argument that makes this program a server.
pub(crate) const ARGUMENT: &str = "--serve";

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// Requests that were answered.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// The server, as this process knows it; it ends with this.
pub(crate) struct Server {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    port: u16,
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = process.stdin.take().ok_or("no way to ask the server")?;
        let answers = process.stdout.take().ok_or("no way to hear the server")?;
        let mut server = Self { process, questions, answers: BufReader::new(answers), port: 0 };
        server.port = u16::try_from(server.number()?)?;
        Ok(server)
    }

    pub(crate) fn dsn(&self) -> String {
        format!("http://0123456789abcdef0123456789abcdef@127.0.0.1:{}/1", self.port())
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Requests that it has answered so far.
    pub(crate) fn taken(&mut self) -> Result<u64> {
        self.questions.write_all(b"\n")?;
        self.number()
    }

    fn number(&mut self) -> Result<u64> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves until standard input ends.
pub(crate) fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    thread::Builder::new().spawn(move || {
        for stream in listener.incoming().flatten() {
            // Without a thread the connection is closed, and the client says so.
            let _ = thread::Builder::new().spawn(move || converse(stream));
        }
    })?;
    for line in std::io::stdin().lines() {
        line?;
        println!("{}", TAKEN.load(Ordering::Relaxed));
    }
    Ok(())
}

/// Answers until the other side hangs up.
fn converse(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 256 << 10];
    let mut filled = 0;
    while filled < streams::PREFACE.len() {
        match stream.read(buffer.get_mut(filled..).unwrap_or_default())? {
            0 => return Ok(()),
            read => filled += read,
        }
    }
    if buffer.starts_with(streams::PREFACE) {
        return streams::converse(stream, buffer.get(..filled).unwrap_or_default());
    }
    loop {
        // What is there of the next request; then what its body still wants.
        let missing = loop {
            let here = buffer.get(..filled).unwrap_or_default();
            if let Some((head, length)) = head(here) {
                break (head + length).saturating_sub(filled);
            }
            let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) else {
                return Ok(());
            };
            match stream.read(room)? {
                0 => return Ok(()),
                read => filled += read,
            }
        };
        std::io::copy(&mut (&stream).take(missing as u64), &mut std::io::sink())?;
        // The client waits for the answer before it sends again: nothing else is in the buffer.
        filled = 0;
        TAKEN.fetch_add(1, Ordering::Relaxed);
        stream.write_all(ANSWER)?;
    }
}

/// How long the head of a request is, and its body; `None` if it is not all there.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let lines = bytes.get(..head)?.split(|byte| *byte == b'\n');
    let mut lengths = lines.filter_map(|line| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse().ok())?
    });
    Some((head, lengths.next().unwrap_or(0)))
}
