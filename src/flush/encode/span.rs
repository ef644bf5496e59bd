//! A child span's fixed part, a form.
//!
//! ```text
//! ,{"trace_id":"…32…","span_id":"…16…","parent_span_id":"…16…",
//! "start_timestamp":…17…,"timestamp":…17…,
//! ```
//!
//! The trace id is put into the form once a transaction, the seconds only when they changed.
//! What varies in length follows: origin, op, description, status, tags, data, measurements, and
//! the closing brace.

use super::form::{self, put};
use super::time::{self, FRACTION, ID, SECONDS};

const TRACE: usize = 32;
const P0: &[u8] = b",{\"trace_id\":\"";
const P1: &[u8] = b"\",\"span_id\":\"";
const P2: &[u8] = b"\",\"parent_span_id\":\"";
const P3: &[u8] = b"\",\"start_timestamp\":";
const P4: &[u8] = b"\"timestamp\":";

const TRACE_AT: usize = P0.len();
const SPAN_AT: usize = TRACE_AT + TRACE + P1.len();
const PARENT_AT: usize = SPAN_AT + ID + P2.len();
const START_AT: usize = PARENT_AT + ID + P3.len();
const END_AT: usize = START_AT + SECONDS + FRACTION + P4.len();
/// Bytes of the fixed part, the commas around it included.
const FIXED: usize = END_AT + SECONDS + FRACTION;

const BLANK: [u8; FIXED] = form::joined(&[
    P0,
    &[b'.'; TRACE],
    P1,
    &[b'.'; ID],
    P2,
    &[b'.'; ID],
    P3,
    &[b'.'; SECONDS + FRACTION],
    P4,
    &[b'.'; SECONDS + FRACTION],
]);

/// The form.
#[derive(Debug)]
pub(super) struct Template {
    bytes: [u8; FIXED],
    /// The second that stands in each place, in nanoseconds.
    start_second: u64,
    end_second: u64,
}

impl Template {
    pub(super) fn new() -> Self {
        let mut template = Self { bytes: BLANK, start_second: 0, end_second: 0 };
        put(&mut template.bytes, START_AT, &time::seconds(0));
        put(&mut template.bytes, END_AT, &time::seconds(0));
        template
    }

    pub(super) fn set_trace(&mut self, trace: &[u8; TRACE]) {
        put(&mut self.bytes, TRACE_AT, trace);
    }

    pub(super) fn set_parent(&mut self, parent: u64) {
        put(&mut self.bytes, PARENT_AT, &time::hex(parent));
    }

    /// Appends the fixed part of a child; times in unix nanoseconds.
    #[inline]
    pub(super) fn append(&mut self, out: &mut Vec<u8>, span: u64, start: u64, end: u64) {
        let mut start_micros = start.wrapping_sub(self.start_second) / 1000;
        if start_micros >= 1_000_000 {
            (self.start_second, start_micros) = self.turn(START_AT, start);
        }
        let mut end_micros = end.wrapping_sub(self.end_second) / 1000;
        if end_micros >= 1_000_000 {
            (self.end_second, end_micros) = self.turn(END_AT, end);
        }
        let Some(copy) = form::append(out, &self.bytes) else { return };
        put(copy, SPAN_AT, &time::hex(span));
        put(copy, START_AT + SECONDS, &time::fraction(start_micros));
        put(copy, END_AT + SECONDS, &time::fraction(end_micros));
    }

    /// Writes the second of a moment into its place; returns it, in nanoseconds, and the
    /// microseconds that are left.
    #[cold]
    #[inline(never)]
    fn turn(&mut self, at: usize, nanos: u64) -> (u64, u64) {
        let (seconds, micros) = time::split(nanos);
        put(&mut self.bytes, at, &time::seconds(seconds));
        (seconds * 1_000_000_000, micros)
    }
}
