//! A transport of the example's own: it sends each envelope through another transport and reads
//! what was delivered, for the tables at the end.
//!
//! It runs on the uploader's thread, so that reading costs the workers nothing but their share of
//! the processor. What the tables say was recorded, encoded and accepted: nothing is measured a
//! second time.

use std::borrow::Cow;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hotspan::transport::{Envelope, Interrupter, Response, SendError, Transport};
use serde::Deserialize;

use crate::summary::{Slow, Step, Summary};

/// What all tees of a run saw, for the main thread to read at the end.
pub(crate) type Board = Summary;

pub(crate) struct Tee<T> {
    /// Or why there is none.
    inner: Result<T, String>,
    board: Arc<Mutex<Board>>,
    /// The parser unescapes in place: it gets a copy, in a buffer that is kept.
    scratch: Vec<u8>,
}

impl<T: Transport> Tee<T> {
    pub(crate) fn new<E: Error>(inner: Result<T, E>, board: Arc<Mutex<Board>>) -> Self {
        Self { inner: inner.map_err(|error| error.to_string()), board, scratch: Vec::new() }
    }
}

impl<T: Transport> Transport for Tee<T> {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        let answer = match &mut self.inner {
            Ok(inner) => inner.send(envelope),
            Err(reason) => Err(SendError::new(reason.as_str())),
        };
        let mut board = lock(&self.board);
        match &answer {
            Ok(response) if (200..300).contains(&response.status) => {
                board.delivered(envelope.as_bytes().len());
                for payload in transactions(envelope.as_bytes()) {
                    self.scratch.clear();
                    self.scratch.extend_from_slice(payload);
                    match simd_json::serde::from_slice::<Payload<'_>>(&mut self.scratch) {
                        Ok(payload) => payload.note(&mut board),
                        Err(_) => board.unreadable(),
                    }
                }
            }
            Ok(response) => board.failed(format!("HTTP status {}", response.status)),
            Err(error) => {
                board.failed(error.source().map_or_else(|| error.to_string(), ToString::to_string))
            }
        }
        answer
    }

    fn interrupter(&self) -> Option<Interrupter> {
        self.inner.as_ref().ok()?.interrupter()
    }
}

/// The board, also after a panic elsewhere: it holds nothing that could be half written.
pub(crate) fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The payloads of an envelope's transactions: a header line, then for each item a header line with
/// its type and length, that many bytes, and a line feed.
fn transactions(envelope: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line(envelope).map_or(&[][..], |(_, rest)| rest);
    std::iter::from_fn(move || {
        while let Some((header, after)) = line(rest) {
            let header: ItemHeader = simd_json::serde::from_slice(&mut header.to_vec()).ok()?;
            let (payload, after) = after.split_at_checked(header.length)?;
            rest = after.strip_prefix(b"\n").unwrap_or(after);
            if header.r#type == "transaction" {
                return Some(payload);
            }
        }
        None
    })
}

/// The first line, and what follows it; none if there is no line feed.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.strip_prefix(b"\n")?))
}

#[derive(Deserialize)]
struct ItemHeader {
    r#type: String,
    length: usize,
}

/// What the tables need of a transaction.
#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    transaction: Cow<'a, str>,
    start_timestamp: f64,
    timestamp: f64,
    contexts: Contexts<'a>,
    spans: Vec<Child<'a>>,
}

#[derive(Deserialize)]
struct Contexts<'a> {
    #[serde(borrow)]
    trace: Trace<'a>,
}

#[derive(Deserialize)]
struct Trace<'a> {
    span_id: &'a str,
    op: Cow<'a, str>,
    status: Option<Cow<'a, str>>,
    #[serde(default)]
    data: TraceData<'a>,
}

#[derive(Default, Deserialize)]
struct TraceData<'a> {
    #[serde(borrow, rename = "messaging.message.id")]
    message_id: Option<Cow<'a, str>>,
    #[serde(rename = "hotspan.kept")]
    kept: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Child<'a> {
    span_id: &'a str,
    parent_span_id: &'a str,
    #[serde(borrow)]
    op: Cow<'a, str>,
    status: Option<Cow<'a, str>>,
    start_timestamp: f64,
    timestamp: f64,
}

impl Payload<'_> {
    fn note(&self, board: &mut Board) {
        let trace = &self.contexts.trace;
        let micros = micros(self.start_timestamp, self.timestamp);
        board.kept(trace.data.kept.as_deref());
        board.span(&trace.op, micros, failed(trace.status.as_deref()));
        for child in &self.spans {
            board.span(&child.op, child.micros(), failed(child.status.as_deref()));
        }
        if board.is_among_slowest(micros) {
            let mut steps = Vec::with_capacity(self.spans.len());
            self.steps_below(trace.span_id, 0, &mut steps);
            board.slow(Slow {
                duration_us: micros,
                name: self.transaction.to_string(),
                message_id: trace.data.message_id.as_deref().unwrap_or_default().to_owned(),
                status: owned(trace.status.as_deref()),
                steps,
            });
        }
    }

    /// The children of a span, each followed by its own, in the order in which they began.
    fn steps_below(&self, parent: &str, depth: usize, steps: &mut Vec<Step>) {
        let mut children: Vec<_> =
            self.spans.iter().filter(|child| child.parent_span_id == parent).collect();
        children.sort_by(|a, b| a.start_timestamp.total_cmp(&b.start_timestamp));
        for child in children {
            steps.push(Step {
                depth,
                op: child.op.to_string(),
                duration_us: child.micros(),
                status: owned(child.status.as_deref()),
            });
            self.steps_below(child.span_id, depth + 1, steps);
        }
    }
}

impl Child<'_> {
    fn micros(&self) -> u64 {
        micros(self.start_timestamp, self.timestamp)
    }
}

/// The wire has microseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn micros(start: f64, end: f64) -> u64 {
    ((end - start) * 1e6).round() as u64
}

fn failed(status: Option<&str>) -> bool {
    status.is_some_and(|status| status != "ok")
}

fn owned(status: Option<&str>) -> String {
    status.unwrap_or("ok").to_owned()
}
