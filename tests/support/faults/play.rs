//! One connection of the fault server: a conversation, as the mode has it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustls::{ServerConnection, StreamOwned};

use super::super::envelope::Opened;
use super::super::server::{Request, read_head};
use super::kept::Kept;
use super::{Mode, Shared, bomb};

/// How often somebody who does nothing looks whether it is over.
const LOOK: Duration = Duration::from_millis(2);

/// Between two bytes of an answer that drips.
const DRIP: Duration = Duration::from_millis(20);

/// A connection as bytes: plain, or under TLS.
pub(super) enum Wire {
    Plain(Socket),
    Tls(Box<StreamOwned<ServerConnection, Socket>>),
}

/// The socket, of which others hold a share to break it off. It is closed when all have let go.
#[derive(Clone)]
pub(super) struct Socket(pub(super) Arc<TcpStream>);

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// What becomes of a connection after a request.
enum Then {
    Keep,
    Close,
    Reset,
}

pub(super) struct Connection<'a> {
    pub(super) shared: &'a Shared,
    pub(super) number: usize,
    pub(super) socket: Socket,
    pub(super) wire: BufReader<Wire>,
    /// When what comes next was begun, as far as can be told from here: a connection with its first
    /// request, and later ones with their first byte.
    pub(super) begun: Option<Instant>,
    /// What was kept, by its number, and has no answer yet.
    pub(super) unanswered: Option<usize>,
    /// The next request is to be answered with a reset.
    pub(super) is_stale: bool,
}

impl Connection<'_> {
    /// An error is the client's going away, or somebody's breaking it off.
    pub(super) fn converse(mut self) -> Result<()> {
        loop {
            self.shared.idle(self.number, true);
            self.wire.fill_buf()?;
            self.begun.get_or_insert_with(Instant::now);
            let Some(request) = read_head(&mut self.wire, self.number)? else { return Ok(()) };
            self.shared.idle(self.number, false);
            match self.request(request)? {
                Then::Keep => self.begun = None,
                Then::Close => return Ok(()),
                Then::Reset => return self.reset(),
            }
        }
    }

    /// What is unread or unsent is thrown away at both ends.
    fn reset(&self) -> Result<()> {
        socket2::SockRef::from(&*self.socket.0).set_linger(Some(Duration::ZERO))
    }

    fn request(&mut self, mut request: Request) -> Result<Then> {
        if request.method == "CONNECT" {
            self.shared.connects.lock().unwrap().push(request);
            self.write(b"HTTP/1.1 200 OK\r\n\r\n")?;
            return Ok(Then::Keep);
        }
        let mode = self.shared.mode();
        if self.is_stale || mode.facts().on_connect {
            return Ok(Then::Reset);
        }
        match mode {
            Mode::ResetInBody => {
                let half = request.body_length() / 2;
                self.read_body(&mut request, half)?;
                return Ok(Then::Reset);
            }
            Mode::EarlyAnswer => {
                self.answer(200, &[], b"{}")?;
                let length = request.body_length();
                self.read_body(&mut request, length)?;
                self.keep(&request, Some(200));
                self.unanswered = None;
                return Ok(Then::Keep);
            }
            _ => {}
        }
        let length = request.body_length();
        self.read_body(&mut request, length)?;
        self.reply(mode, &request)
    }

    fn reply(&mut self, mode: Mode, request: &Request) -> Result<Then> {
        let turn = self.shared.turn();
        match mode {
            Mode::ResetInHeaders => {
                self.keep(request, None);
                self.write(b"HTTP/1.1 200 OK\r\nContent-Le")?;
                return Ok(Then::Reset);
            }
            Mode::Garbage => {
                self.keep(request, None);
                self.write(b"SSH-2.0-OpenSSH_9.6\r\n")?;
                return Ok(Then::Close);
            }
            Mode::EmptyReply => {
                self.keep(request, None);
                return Ok(Then::Close);
            }
            Mode::HugeHeaders => {
                self.keep(request, None);
                self.write(b"HTTP/1.1 200 OK\r\n")?;
                self.write(format!("X: {}\r\n", "x".repeat(1000)).repeat(200).as_bytes())?;
                self.write(b"Content-Length: 0\r\n\r\n")?;
                return Ok(Then::Close);
            }
            Mode::ContinueFlood => {
                self.keep(request, None);
                return self.repeat(mode, b"HTTP/1.1 100 Continue\r\n\r\n", LOOK);
            }
            Mode::SlowHeaders => {
                self.keep(request, None);
                self.write(b"HTTP/1.1 200 OK\r\nX: ")?;
                return self.repeat(mode, b"x", DRIP);
            }
            Mode::SlowBody => {
                self.keep(request, Some(200));
                self.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
                return self.repeat(mode, b"x", DRIP);
            }
            Mode::EndlessBody => {
                self.keep(request, Some(200));
                self.write(b"HTTP/1.1 200 OK\r\n\r\n")?;
                return self.repeat(mode, &[b'x'; 16 * 1024], Duration::ZERO);
            }
            Mode::HugeBody => {
                self.keep(request, Some(200));
                self.write(b"HTTP/1.1 200 OK\r\nContent-Length: 16777216\r\n\r\n")?;
                for _ in 0..1024 {
                    self.write(&[b'x'; 16 * 1024])?;
                }
                return Ok(Then::Keep);
            }
            Mode::EarlyClose => {
                self.keep(request, Some(200));
                self.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"id\":")?;
                return Ok(Then::Close);
            }
            _ => {}
        }
        let elsewhere = format!("{}x", self.shared.elsewhere.url());
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
        let (status, headers, body): (u16, &[(&str, &str)], &[u8]) = match mode {
            Mode::GzipBomb => (200, &[("Content-Encoding", "gzip")], bomb()),
            Mode::LimitsOnSuccess => {
                (200, &[("X-Sentry-Rate-Limits", "60:transaction:organization:quota")], b"{}")
            }
            Mode::Redirect => {
                ([301, 302, 303, 307, 308][turn % 5], &[("Location", &elsewhere)], b"moved")
            }
            Mode::ClientError => ([400, 401, 403, 404][turn % 4], &[], b"{\"detail\":\"no\"}"),
            Mode::TooLarge => (413, &[], b"{\"detail\":\"too large\"}"),
            Mode::ServerError => ([500, 502, 503, 504][turn % 4], &[], b"<html>"),
            Mode::OddStatus => (999, &[], b""),
            Mode::TooManySeconds => (429, &[("Retry-After", "1")], b"{\"detail\":\"quota\"}"),
            Mode::TooManyDate => (429, &[("Retry-After", &date)], b""),
            Mode::TooManyLimits => {
                (429, &[("X-Sentry-Rate-Limits", "1::organization"), ("Retry-After", "60")], b"")
            }
            Mode::TooManyBare => (429, &[], b""),
            Mode::TooManyMalformed => {
                let limits = "soon:transaction, -1::key, inf::key, :::";
                (429, &[("X-Sentry-Rate-Limits", limits), ("Retry-After", "nan")], b"")
            }
            Mode::Status(status) => {
                let auth = request.header("x-sentry-auth").unwrap_or_default();
                let detail = format!("{{\"detail\":\"not with {auth}\"}}");
                self.keep(request, Some(status));
                self.answer(status, &[("Retry-After", auth)], detail.as_bytes())?;
                return Ok(Then::Keep);
            }
            _ => (200, &[], b"{}"),
        };
        self.keep(request, Some(status));
        self.answer(status, headers, body)?;
        self.is_stale = mode == Mode::StaleReset;
        Ok(if mode == Mode::StaleClosed { Then::Close } else { Then::Keep })
    }

    /// Before the answer: when the client has that, it must be known here.
    fn keep(&mut self, request: &Request, status: Option<u16>) {
        let opened = Opened::new(&request.unpacked());
        let took = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        let mut kept = self.shared.kept.lock().unwrap();
        self.unanswered = Some(kept.0.len());
        kept.0.push(Kept { opened, status, took });
    }

    fn read_body(&mut self, request: &mut Request, length: usize) -> Result<()> {
        request.body.resize(length, 0);
        self.wire.read_exact(&mut request.body)
    }

    fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
        let mut head = format!("HTTP/1.1 {status} Status\r\nDate: {}\r\n", self.shared.date());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        self.write(&[head.as_bytes(), body].concat())
    }

    /// The same for as long as there is a client and the mode is this.
    fn repeat(&mut self, mode: Mode, bytes: &[u8], pause: Duration) -> Result<Then> {
        while self.shared.is_still(mode) {
            self.write(bytes)?;
            self.shared.sleep(mode, pause);
        }
        Ok(Then::Reset)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let wire = self.wire.get_mut();
        let written = wire.write_all(bytes).and_then(|()| wire.flush());
        if let (Some(number), Err(_)) = (self.unanswered.take(), &written)
            && let Some(kept) = self.shared.kept.lock().unwrap().0.get_mut(number)
        {
            // The connection was broken off meanwhile.
            kept.status = None;
        }
        written?;
        self.shared.wrote(bytes.len());
        Ok(())
    }
}

/// What happens to a connection that is not to become one.
pub(super) fn turn_away(shared: &Shared, mode: Mode, socket: &Socket) {
    let reading = (mode == Mode::ReadsSlowly).then_some(Duration::from_secs(1));
    if mode == Mode::AcceptClose {
        return;
    }
    while shared.is_still(mode) {
        let Some(pause) = reading else {
            shared.sleep(mode, Duration::from_secs(1));
            continue;
        };
        if !matches!((&*socket.0).read(&mut [0]), Ok(1)) {
            return;
        }
        shared.sleep(mode, pause);
    }
}

impl Shared {
    fn is_still(&self, mode: Mode) -> bool {
        self.mode() == mode && !self.is_over()
    }

    /// Less than that when the mode changes.
    fn sleep(&self, mode: Mode, pause: Duration) {
        let start = Instant::now();
        while start.elapsed() < pause && self.is_still(mode) {
            thread::sleep(LOOK.min(pause));
        }
    }
}

/// Ends it for both sides.
pub(super) fn break_off(stream: &TcpStream) {
    if let Err(error) = stream.shutdown(Shutdown::Both) {
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    }
}
