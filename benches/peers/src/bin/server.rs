//! A server on loopback: takes what is posted, and counts the spans in it when it is asked to.
//!
//! It prints its port. For each line on standard input it prints a line of JSON with what arrived
//! since the last one. While a peer sends, bodies are only kept, up to a bound: unpacking them
//! meanwhile would take processor time from the peer that sends them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use h2::RecvStream;
use h2::server::{SendResponse, handshake};
use hotspan_peers::Result;
use hotspan_peers::envelope::envelope_spans;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::json;

/// Bodies kept; beyond, they are counted at once.
const KEPT_MAX: usize = 512 << 20;

fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let arrived = Arc::new(Mutex::new(Arrived::default()));
    let shared = Arc::clone(&arrived);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let arrived = Arc::clone(&shared);
            thread::spawn(move || {
                // An error is the client's going away; what it had sent by then is counted.
                let _ = converse(stream, &arrived);
            });
        }
    });
    for line in io::stdin().lock().lines() {
        line?;
        let mut arrived = std::mem::take(&mut *lock(&arrived));
        for body in std::mem::take(&mut arrived.bodies) {
            arrived.count(&body);
        }
        let Arrived { spans, requests, bytes, unread, .. } = arrived;
        println!(
            "{}",
            json!({ "spans": spans, "requests": requests, "bytes": bytes, "unread": unread })
        );
    }
    Ok(())
}

fn lock(arrived: &Mutex<Arrived>) -> std::sync::MutexGuard<'_, Arrived> {
    arrived.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came since it was last asked for.
#[derive(Default)]
struct Arrived {
    spans: u64,
    requests: u64,
    bytes: u64,
    /// Bodies that are nothing we know.
    unread: u64,
    bodies: Vec<Body>,
    kept: usize,
}

struct Body {
    is_otlp: bool,
    is_gzip: bool,
    bytes: Vec<u8>,
}

impl Arrived {
    fn add(&mut self, body: Body) {
        self.requests += 1;
        self.bytes += body.bytes.len() as u64;
        if self.kept + body.bytes.len() <= KEPT_MAX {
            self.kept += body.bytes.len();
            self.bodies.push(body);
        } else {
            self.count(&body);
        }
    }

    fn count(&mut self, body: &Body) {
        match body.spans() {
            Some(spans) => self.spans += spans,
            None => self.unread += 1,
        }
    }
}

/// With this a client begins that speaks HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Answers each request at once, as a server does that queues what it gets, until the client goes.
fn converse(stream: TcpStream, arrived: &Arc<Mutex<Arrived>>) -> Result<()> {
    stream.set_nodelay(true)?;
    // Both sides are on this machine: what was written in one piece comes in one.
    let mut begun = [0; PREFACE.len()];
    if stream.peek(&mut begun)? == begun.len() && begun == PREFACE {
        return converse_in_streams(stream, arrived);
    }
    let mut stream = &stream;
    let mut reader = BufReader::new(stream);
    while let Some(body) = request(&mut reader)? {
        // An empty body is an answer in protobuf: nothing was refused.
        let (kind, answer) =
            if body.is_otlp { ("application/x-protobuf", "") } else { ("application/json", "{}") };
        let length = answer.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{answer}").as_bytes())?;
        lock(arrived).add(body);
    }
    Ok(())
}

/// The same over HTTP/2.
fn converse_in_streams(stream: TcpStream, arrived: &Arc<Mutex<Arrived>>) -> Result<()> {
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut connection = handshake(tokio::net::TcpStream::from_std(stream)?).await?;
        while let Some(request) = connection.accept().await {
            let (request, respond) = request?;
            let arrived = Arc::clone(arrived);
            tokio::spawn(async move {
                let is_gzip =
                    request.headers().get("content-encoding").is_some_and(|it| it == "gzip");
                let bytes = answer(request.into_body(), respond).await?;
                lock(&arrived).add(Body { is_otlp: false, is_gzip, bytes });
                Ok::<(), h2::Error>(())
            });
        }
        Ok(())
    })
}

async fn answer(
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> std::result::Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        bytes.extend_from_slice(&part);
    }
    let mut head = http::Response::new(());
    head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    respond.send_response(head, false)?.send_data(Bytes::from_static(b"{}"), true)?;
    Ok(bytes)
}

/// The next request. `None`: there is no more.
fn request(reader: &mut impl BufRead) -> io::Result<Option<Body>> {
    let mut body = Body { is_otlp: false, is_gzip: false, bytes: Vec::new() };
    let (mut length, mut is_chunked, mut line) = (0, false, String::new());
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    body.is_otlp = line.starts_with("POST /v1/traces");
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim().to_ascii_lowercase();
        match header.split_once(':').map(|(name, value)| (name, value.trim())) {
            None => break,
            Some(("content-length", value)) => length = value.parse().unwrap_or_default(),
            Some(("transfer-encoding", value)) => is_chunked = value == "chunked",
            Some(("content-encoding", value)) => body.is_gzip = value == "gzip",
            Some(_) => {}
        }
    }
    loop {
        if is_chunked {
            line.clear();
            reader.read_line(&mut line)?;
            length = u64::from_str_radix(line.trim(), 16).unwrap_or_default();
        }
        reader.take(length).read_to_end(&mut body.bytes)?;
        if !is_chunked {
            return Ok(Some(body));
        }
        // The line break behind each chunk, and behind the last one, which is empty.
        line.clear();
        reader.read_line(&mut line)?;
        if length == 0 {
            return Ok(Some(body));
        }
    }
}

impl Body {
    /// The spans in it, roots included. `None`: it cannot be read.
    fn spans(&self) -> Option<u64> {
        let mut unpacked = Vec::new();
        let bytes = if self.is_gzip {
            MultiGzDecoder::new(self.bytes.as_slice()).read_to_end(&mut unpacked).ok()?;
            &unpacked
        } else {
            &self.bytes
        };
        if self.is_otlp { otlp_spans(bytes) } else { envelope_spans(bytes) }
    }
}

fn otlp_spans(bytes: &[u8]) -> Option<u64> {
    let request = ExportTraceServiceRequest::decode(bytes).ok()?;
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    Some(scopes.map(|scope| scope.spans.len() as u64).sum())
}
