//! A server on loopback: takes what is posted, and counts the spans in it when it is asked to.
//!
//! It prints its port. For each line on standard input it prints a line of JSON with what arrived
//! since the last one. While a peer sends, bodies are only kept, up to a bound: unpacking them
//! meanwhile would take processor time from the peer that sends them.

use std::io::{BufRead, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flate2::read::MultiGzDecoder;
use hotspan_peers::Result;
use hotspan_peers::envelope::envelope_spans;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::json;
use tiny_http::{Method, Request, Response, Server};

/// Bodies kept; beyond, they are counted at once.
const KEPT_MAX: usize = 512 << 20;
const THREADS: usize = 4;

fn main() -> Result<()> {
    let server = Server::http("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = server.server_addr().to_ip().ok_or("no port")?.port();
    println!("{port}");
    let (server, arrived) = (Arc::new(server), Arc::new(Mutex::new(Arrived::default())));
    for _ in 0..THREADS {
        let (server, arrived) = (Arc::clone(&server), Arc::clone(&arrived));
        thread::spawn(move || {
            for request in server.incoming_requests() {
                take(request, &arrived);
            }
        });
    }
    for line in std::io::stdin().lock().lines() {
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
    fn count(&mut self, body: &Body) {
        match body.spans() {
            Some(spans) => self.spans += spans,
            None => self.unread += 1,
        }
    }
}

/// Answers at once, as a server does that queues what it gets.
fn take(mut request: Request, arrived: &Mutex<Arrived>) {
    let is_post = *request.method() == Method::Post;
    let is_otlp = request.url().starts_with("/v1/traces");
    let says_gzip = |header: &&tiny_http::Header| {
        header.field.equiv("Content-Encoding") && header.value.as_str() == "gzip"
    };
    let is_gzip = request.headers().iter().find(says_gzip).is_some();
    let mut bytes = Vec::with_capacity(request.body_length().unwrap_or_default());
    let read = request.as_reader().read_to_end(&mut bytes);
    let answered = if is_otlp {
        // An empty body is an answer in protobuf: nothing was refused.
        let kind = tiny_http::Header::from_bytes("Content-Type", "application/x-protobuf");
        let response = Response::from_data(Vec::new());
        request.respond(match kind {
            Ok(kind) => response.with_header(kind),
            Err(()) => response,
        })
    } else {
        request.respond(Response::from_string("{}"))
    };
    if !is_post || read.is_err() || answered.is_err() {
        return;
    }
    let mut arrived = lock(arrived);
    arrived.requests += 1;
    arrived.bytes += bytes.len() as u64;
    let body = Body { is_otlp, is_gzip, bytes };
    if arrived.kept + body.bytes.len() <= KEPT_MAX {
        arrived.kept += body.bytes.len();
        arrived.bodies.push(body);
    } else {
        arrived.count(&body);
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
