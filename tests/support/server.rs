//! A small HTTP/1.1 server on loopback that does what it is told, good or bad.
//!
//! One thread accepts, one serves each connection. Every request that was read whole is kept. For
//! each request the next reply of the script is played; when there is none, the default: 200 with a
//! body `{}`, connection kept. Dropping the server closes everything and waits for its threads.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Which connection it came over, from 0.
    pub(crate) connection: usize,
}

impl Request {
    /// The value of the header; panics if there are several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| &**value);
        assert!(values.next().is_none(), "several {name}");
        value
    }

    /// The body, unpacked if it was packed.
    pub(crate) fn unpacked(&self) -> Vec<u8> {
        match self.header("content-encoding") {
            None => self.body.clone(),
            Some("gzip") => {
                let mut out = Vec::new();
                flate2::read::GzDecoder::new(&*self.body).read_to_end(&mut out).unwrap();
                out
            }
            #[cfg(feature = "zstd")]
            Some("zstd") => zstd::decode_all(&*self.body).unwrap(),
            Some(other) => panic!("content-encoding {other}"),
        }
    }
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These bytes; the connection is kept.
    Bytes(Vec<u8>),
    /// These bytes, once so many requests have come in all; the connection is kept.
    After(usize, Vec<u8>),
    /// These bytes, then close.
    Close(Vec<u8>),
    /// These bytes, then a reset: the connection is closed without an end.
    #[cfg(unix)]
    Reset(Vec<u8>),
    /// These bytes, one at a time, with a pause after each; the connection is kept.
    Drip(Vec<u8>, Duration),
    /// These bytes, then zeros for ever.
    Endless(Vec<u8>),
    /// Nothing, until the server is dropped.
    Hang,
}

impl Reply {
    /// A well-formed answer.
    pub(crate) fn status(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {status} Status\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        Self::Bytes(bytes)
    }
}

pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    script: Mutex<VecDeque<Reply>>,
    requests: Mutex<Vec<Request>>,
    streams: Mutex<Vec<TcpStream>>,
    serving: Mutex<Vec<JoinHandle<()>>>,
    connections: AtomicUsize,
    closed: AtomicUsize,
    written: AtomicU64,
    stop: AtomicBool,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let accepting = {
            let shared = Arc::clone(&shared);
            spawn(move || {
                for stream in listener.incoming() {
                    if shared.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    shared.serve(stream.unwrap());
                }
            })
        };
        Self { address, shared, accepting: Some(accepting) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a project's envelopes go.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/42/envelope/", self.address)
    }

    /// Appends to the script.
    pub(crate) fn reply(&self, reply: Reply) {
        self.shared.script.lock().unwrap().push_back(reply);
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until that many requests have come.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        wait(|| self.shared.requests.lock().unwrap().len() >= count);
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until that many connections are closed.
    pub(crate) fn wait_for_closed(&self, count: usize) {
        wait(|| self.shared.closed.load(Ordering::SeqCst) >= count);
    }

    /// Bytes that `Reply::Endless` has put into sockets.
    pub(crate) fn endless_bytes(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let serving = std::mem::take(&mut *self.shared.serving.lock().unwrap());
        for thread in serving {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, stream: TcpStream) {
        let connection = self.connections.fetch_add(1, Ordering::SeqCst);
        stream.set_nodelay(true).unwrap();
        self.streams.lock().unwrap().push(stream.try_clone().unwrap());
        let shared = Arc::clone(self);
        let thread = spawn(move || {
            // An error is the client's going away, or a reset: that takes the last handle.
            match shared.converse(&stream, connection) {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    let address = stream.peer_addr().ok();
                    let of_it = |one: &TcpStream| one.peer_addr().ok() == address;
                    shared.streams.lock().unwrap().retain(|one| !of_it(one));
                    drop(stream);
                }
                _ => drop(stream.shutdown(Shutdown::Both)),
            }
            shared.closed.fetch_add(1, Ordering::SeqCst);
        });
        self.serving.lock().unwrap().push(thread);
    }

    fn converse(&self, mut stream: &TcpStream, connection: usize) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader, connection)? {
            self.requests.lock().unwrap().push(request);
            let reply = self.script.lock().unwrap().pop_front();
            match reply.unwrap_or_else(|| Reply::status(200, &[], b"{}")) {
                Reply::Bytes(bytes) => stream.write_all(&bytes)?,
                Reply::After(count, bytes) => {
                    while self.requests.lock().unwrap().len() < count {
                        thread::sleep(Duration::from_millis(2));
                        if self.stop.load(Ordering::SeqCst) {
                            return Ok(());
                        }
                    }
                    stream.write_all(&bytes)?;
                }
                Reply::Close(bytes) => return stream.write_all(&bytes),
                #[cfg(unix)]
                Reply::Reset(bytes) => {
                    stream.write_all(&bytes)?;
                    linger_no_longer(stream);
                    return Err(std::io::ErrorKind::ConnectionReset.into());
                }
                Reply::Drip(bytes, pause) => {
                    for byte in bytes {
                        stream.write_all(&[byte])?;
                        thread::sleep(pause);
                    }
                }
                Reply::Endless(bytes) => {
                    stream.write_all(&bytes)?;
                    loop {
                        stream.write_all(&[0; 4096])?;
                        self.written.fetch_add(4096, Ordering::SeqCst);
                    }
                }
                Reply::Hang => {
                    while !self.stop.load(Ordering::SeqCst) {
                        thread::sleep(Duration::from_millis(2));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Closing it sends a reset.
#[cfg(unix)]
fn linger_no_longer(stream: &TcpStream) {
    use std::os::fd::AsRawFd;

    let none = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap();
    // SAFETY: the descriptor is open, and `none` is what the option takes.
    let result = unsafe {
        let value = (&raw const none).cast();
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size)
    };
    assert_eq!(result, 0);
}

/// The next request, or `None` at the end of the connection. Reads bodies with a `Content-Length`;
/// a chunked one is an error.
fn read_request(reader: &mut impl BufRead, connection: usize) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    assert_eq!(words.next().as_deref(), Some("HTTP/1.1"));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Request { method, target, headers, body: Vec::new(), connection };
    assert_eq!(request.header("transfer-encoding"), None);
    let length = request.header("content-length").map_or(0, |text| text.parse().unwrap());
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    Ok(Some(request))
}

fn wait(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "it did not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name("test-server".to_owned()).spawn(run).unwrap()
}
