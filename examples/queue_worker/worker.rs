//! The loop, and what it does with an item: all that an application has to write.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::str::Utf8Error;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::Receiver;
use hotspan::{Hub, Span, SpanStatus};
use sha2::{Digest, Sha256};

use crate::files::Item;
use crate::stuck::Hang;

/// Larger files are refused, so that a worker's memory is bounded.
const SIZE_MAX: u64 = 64 << 20;
/// How often a read that failed is tried again.
const RETRIES: u32 = 1;

/// Takes items off the queue until it is closed and empty.
pub(crate) fn work(queue: &Receiver<Item>, tally: &Tally, hang: &Hang) {
    while let Ok(item) = queue.recv() {
        let mut transaction = hotspan::start_transaction("queue.process", item.kind);
        transaction.set_tag("extension", item.extension.as_str());
        transaction.set_data("messaging.system", "in_process");
        transaction.set_data("messaging.destination.name", "files");
        transaction.set_data("messaging.message.id", item.id.as_str());
        transaction.set_data("messaging.message.receive.latency", milliseconds_queued(&item));

        hang.strike(&item, transaction.is_recording());
        let outcome = process(&item);

        transaction.set_status(status(&outcome));
        transaction.finish();
        tally.done(outcome.is_ok());
    }
}

/// Every `?` here ends the spans that are open, and the loop goes on with the next item.
fn process(item: &Item) -> Result<(), Failure> {
    let bytes = read(item)?;
    let text = count(item, &bytes)?;
    if item.extension == "json" {
        parse_json(text)?;
    }
    hash(&bytes);
    Ok(())
}

/// Reads the file; when that fails, tries once more.
fn read(item: &Item) -> Result<Vec<u8>, Failure> {
    let mut retries = 0;
    let outcome = loop {
        match read_once(item, retries) {
            Err(Failure::Read(_)) if retries < RETRIES => retries += 1,
            outcome => break outcome,
        }
    };
    if let Some(mut transaction) = Hub::current().scope().transaction() {
        transaction.set_data("messaging.message.retry.count", retries);
        if let Ok(bytes) = &outcome {
            transaction.set_data("messaging.message.body.size", bytes.len());
        }
    }
    outcome
}

fn read_once(item: &Item, retries: u32) -> Result<Vec<u8>, Failure> {
    let mut span = hotspan::start_child("file.read", item.kind);
    if retries > 0 {
        span.set_data("messaging.message.retry.count", retries);
    }
    let outcome = contents(item);
    if let Ok(bytes) = &outcome {
        span.set_data("size", bytes.len());
    }
    settle(&mut span, &outcome);
    outcome
}

fn contents(item: &Item) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    File::open(&item.path)?.take(SIZE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(Failure::TooLarge);
    }
    Ok(bytes)
}

/// Takes the bytes as text, and counts what is in it.
fn count<'a>(item: &Item, bytes: &'a [u8]) -> Result<&'a str, Failure> {
    let mut span = hotspan::start_child("text.count", item.kind);
    let outcome = std::str::from_utf8(bytes).map_err(Failure::NotText);
    if let Ok(text) = outcome {
        span.set_data("lines", text.lines().count());
        span.set_data("words", text.split_whitespace().count());
        span.set_data("longest_line", text.lines().map(str::len).max().unwrap_or(0));
    }
    settle(&mut span, &outcome);
    outcome
}

fn parse_json(text: &str) -> Result<(), Failure> {
    let mut span = hotspan::start_child("json.parse", "json");
    // The parser unescapes in place.
    let mut scratch = text.as_bytes().to_vec();
    let outcome =
        simd_json::to_tape(&mut scratch).map(|tape| tape.0.len()).map_err(Failure::NotJson);
    if let Ok(values) = outcome {
        span.set_data("values", values);
    }
    settle(&mut span, &outcome);
    outcome.map(|_| ())
}

fn hash(bytes: &[u8]) {
    let mut span = hotspan::start_child("hash.sha256", "contents");
    let digest = Sha256::digest(bytes);
    span.set_data_with("digest", || {
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    });
    span.set_status(SpanStatus::Ok);
}

/// Writes on the span how its step ended.
fn settle<T>(span: &mut Span, outcome: &Result<T, Failure>) {
    span.set_status(status(outcome));
    if let Err(failure) = outcome {
        span.set_data_with("error", || failure.to_string());
    }
}

/// Why a file could not be processed.
enum Failure {
    Read(io::Error),
    TooLarge,
    NotText(Utf8Error),
    NotJson(simd_json::Error),
}

/// What Sentry calls it.
fn status<T>(outcome: &Result<T, Failure>) -> SpanStatus {
    match outcome {
        Ok(_) => SpanStatus::Ok,
        Err(Failure::Read(error)) => match error.kind() {
            ErrorKind::NotFound => SpanStatus::NotFound,
            ErrorKind::PermissionDenied => SpanStatus::PermissionDenied,
            _ => SpanStatus::InternalError,
        },
        Err(Failure::TooLarge) => SpanStatus::ResourceExhausted,
        Err(Failure::NotText(_) | Failure::NotJson(_)) => SpanStatus::InvalidArgument,
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot be read: {error}"),
            Self::TooLarge => write!(f, "larger than {} MiB", SIZE_MAX >> 20),
            Self::NotText(error) => write!(f, "not UTF-8: {error}"),
            Self::NotJson(error) => write!(f, "not JSON: {error}"),
        }
    }
}

fn milliseconds_queued(item: &Item) -> f64 {
    item.queued.elapsed().as_nanos() as f64 / 1e6
}

/// What the workers counted themselves, whatever became of the envelopes.
#[derive(Default)]
pub(crate) struct Tally {
    items: AtomicU64,
    failures: AtomicU64,
    unlisted: AtomicU64,
}

impl Tally {
    /// An item was processed.
    pub(crate) fn done(&self, ok: bool) {
        self.failures.fetch_add(u64::from(!ok), Ordering::Relaxed);
        self.items.fetch_add(1, Ordering::Relaxed);
    }

    /// A part of the folder could not be listed.
    pub(crate) fn unlisted(&self) {
        self.unlisted.fetch_add(1, Ordering::Relaxed);
    }

    /// Items processed, items among them that failed, and places that could not be listed.
    pub(crate) fn read(&self) -> [u64; 3] {
        [&self.items, &self.failures, &self.unlisted].map(|count| count.load(Ordering::Relaxed))
    }
}
