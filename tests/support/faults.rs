//! A server on loopback that fails in every way that servers fail, and remembers what it got.
//!
//! [`FaultServer::set`] changes at any time how: connections that are between two requests are
//! closed where the new mode shows in new ones only, and a connection that hangs is reset. One
//! thread accepts, one serves each connection; dropping the server ends them all.
//!
//! What it read in full is kept, with what it said to that, *before* the first byte of the answer:
//! what a client knows to be delivered is in [`FaultServer::received`].

mod door;
pub(crate) mod kept;
pub(crate) mod modes;
mod play;

use std::collections::HashMap;
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use self::door::{Door, Doorway};
use self::kept::Received;
pub(crate) use self::modes::Mode;
use self::play::{Connection, Socket, Wire};
use super::server::{Request, Server};
use super::tls::Authority;

/// The key in the server's DSNs. Nothing that a person or a log sees may hold it.
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";

pub(crate) struct FaultServer {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when the mode changes.
    changed: Condvar,
    tls: Option<Tls>,
    kept: Mutex<Received>,
    connects: Mutex<Vec<Request>>,
    open: Mutex<HashMap<usize, Open>>,
    serving: Mutex<Vec<JoinHandle<()>>>,
    connections: AtomicUsize,
    turns: AtomicUsize,
    written: AtomicU64,
    clock_ahead: AtomicI64,
    over: AtomicBool,
    /// Where redirects lead.
    elsewhere: Server,
}

struct State {
    mode: Mode,
    doorway: Doorway,
}

/// A connection that can be broken off.
struct Open {
    stream: Arc<TcpStream>,
    is_idle: bool,
}

struct Tls {
    authority: Authority,
    good: Arc<ServerConfig>,
    bad: [Arc<ServerConfig>; 3],
}

impl FaultServer {
    /// Healthy, without TLS.
    pub(crate) fn start() -> Self {
        Self::new(None)
    }

    /// Healthy, with TLS and a certificate of [`FaultServer::ca_certs`].
    pub(crate) fn start_tls() -> Self {
        let authority = Authority::new();
        let unknown = Authority::new();
        let bad = [authority.expired(), authority.of_another_host(), unknown.config(|_| {})];
        let good = authority.config(|_| {});
        Self::new(Some(Tls { authority, good, bad }))
    }

    fn new(tls: Option<Tls>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { mode: Mode::Healthy, doorway: Doorway::new() }),
            changed: Condvar::new(),
            tls,
            kept: Mutex::default(),
            connects: Mutex::default(),
            open: Mutex::default(),
            serving: Mutex::default(),
            connections: AtomicUsize::new(0),
            turns: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            clock_ahead: AtomicI64::new(0),
            over: AtomicBool::new(false),
            elsewhere: Server::start(),
        });
        let accepting = {
            let shared = Arc::clone(&shared);
            spawn(move || {
                while !shared.is_over() {
                    let arrival = {
                        let state = shared.state.lock().unwrap();
                        state.doorway.accept().map(|stream| (stream, state.mode))
                    };
                    match arrival {
                        Some((stream, mode)) => Shared::serve(&shared, stream, mode),
                        None => thread::sleep(Duration::from_millis(1)),
                    }
                }
            })
        };
        Self { shared, accepting: Some(accepting) }
    }

    /// From now on it fails like this.
    pub(crate) fn set(&self, mode: Mode) {
        let mut state = self.shared.state.lock().unwrap();
        state.mode = mode;
        state.doorway.set(match mode {
            Mode::Refused | Mode::NameUnknown => Door::Shut,
            Mode::BlackHole | Mode::NameHangs => Door::Full,
            Mode::NeverReads | Mode::ReadsSlowly => Door::Narrow,
            _ => Door::Open,
        });
        drop(state);
        self.shared.changed.notify_all();
        if mode.facts().on_connect {
            for open in self.shared.open.lock().unwrap().values().filter(|open| open.is_idle) {
                play::break_off(&open.stream);
            }
        }
    }

    /// Where it listens, also while it refuses.
    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.state.lock().unwrap().doorway.address()
    }

    pub(crate) fn dsn(&self) -> String {
        let (scheme, host) =
            if self.shared.tls.is_some() { ("https", "localhost") } else { ("http", "127.0.0.1") };
        format!("{scheme}://{KEY}@{host}:{}/42", self.address().port())
    }

    /// With a name as its host, for who has [`FaultServer::look_up`].
    pub(crate) fn named_dsn(&self) -> String {
        self.dsn().replace("127.0.0.1", "localhost")
    }

    /// Whom to trust to trust it.
    pub(crate) fn ca_certs(&self) -> Option<std::path::PathBuf> {
        self.shared.tls.as_ref().map(|tls| tls.authority.file().to_owned())
    }

    /// Its name, looked up as the mode has it.
    pub(crate) fn look_up(&self) -> impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + use<> {
        let (shared, address) = (Arc::downgrade(&self.shared), self.address());
        move |_, _| {
            let Some(shared) = shared.upgrade() else { return Ok(vec![address]) };
            let mut state = shared.state.lock().unwrap();
            while state.mode == Mode::NameHangs && !shared.is_over() {
                state = shared.changed.wait_timeout(state, Duration::from_millis(5)).unwrap().0;
            }
            if state.mode == Mode::NameUnknown {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
            }
            Ok(vec![address])
        }
    }

    /// How far its clock is ahead in its answers, in seconds.
    pub(crate) fn set_clock_ahead(&self, seconds: i64) {
        self.shared.clock_ahead.store(seconds, Ordering::Relaxed);
    }

    /// All that came whole so far.
    pub(crate) fn received(&self) -> Received {
        self.shared.kept.lock().unwrap().clone()
    }

    /// Ends it, and waits for what it is just reading. All that came whole.
    pub(crate) fn finish(self) -> Received {
        let shared = Arc::clone(&self.shared);
        drop(self);
        shared.kept.lock().unwrap().clone()
    }

    /// What it was asked for as a proxy.
    pub(crate) fn connects(&self) -> Vec<Request> {
        self.shared.connects.lock().unwrap().clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections now.
    pub(crate) fn connections_open(&self) -> usize {
        self.shared.open.lock().unwrap().len()
    }

    /// Bytes of answers.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }

    /// Connections at the place where redirects lead.
    pub(crate) fn redirected(&self) -> usize {
        self.shared.elsewhere.connections()
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for open in self.shared.open.lock().unwrap().values() {
            play::break_off(&open.stream);
        }
        let serving = std::mem::take(&mut *self.shared.serving.lock().unwrap());
        for thread in serving {
            // What it choked on must not be lost: a client that sends nonsense is a defect.
            if let Err(panic) = thread.join()
                && !thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Shared {
    fn mode(&self) -> Mode {
        self.state.lock().unwrap().mode
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn turn(&self) -> usize {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    fn idle(&self, number: usize, is_idle: bool) {
        if let Some(open) = self.open.lock().unwrap().get_mut(&number) {
            open.is_idle = is_idle;
        }
    }

    fn date(&self) -> String {
        let ahead = self.clock_ahead.load(Ordering::Relaxed);
        let span = Duration::from_secs(ahead.unsigned_abs());
        let now = SystemTime::now();
        httpdate::fmt_http_date(if ahead < 0 { now - span } else { now + span })
    }

    fn serve(shared: &Arc<Self>, stream: TcpStream, mode: Mode) {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        let stream = Arc::new(stream);
        let open = Open { stream: Arc::clone(&stream), is_idle: true };
        shared.open.lock().unwrap().insert(number, open);
        let thread = {
            let shared = Arc::clone(shared);
            spawn(move || {
                // Gone from there when this ends, however it ends: closed, with nobody to hold it.
                let _gone = Gone(&shared, number);
                shared.attend(number, Socket(stream), mode);
            })
        };
        shared.serving.lock().unwrap().push(thread);
    }

    fn attend(&self, number: usize, socket: Socket, mode: Mode) {
        let wire = match (&self.tls, mode) {
            (_, Mode::AcceptClose | Mode::NeverReads | Mode::ReadsSlowly)
            | (_, Mode::HandshakeStalls) => return play::turn_away(self, mode, &socket),
            (None, _) => Wire::Plain(socket.clone()),
            (Some(tls), _) => {
                let config = match mode {
                    Mode::BadCertificate => &tls.bad[self.turn() % tls.bad.len()],
                    _ => &tls.good,
                };
                let session = ServerConnection::new(Arc::clone(config)).unwrap();
                Wire::Tls(Box::new(StreamOwned::new(session, socket.clone())))
            }
        };
        let wire = BufReader::new(wire);
        let connection = Connection {
            shared: self,
            number,
            socket,
            wire,
            begun: Some(Instant::now()),
            unanswered: None,
            is_stale: false,
        };
        let _ = connection.converse();
    }
}

struct Gone<'a>(&'a Shared, usize);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let mut open = self.0.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        open.remove(&self.1);
    }
}

/// 16 MiB of zeros, packed.
fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for _ in 0..16 {
            packer.write_all(&[0; 1 << 20]).unwrap();
        }
        packer.finish().unwrap()
    })
}

fn spawn(run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name("test-faults".to_owned()).spawn(run).unwrap()
}
