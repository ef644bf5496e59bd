//! A child span's fixed part: one array in which ids and times are overwritten, copied out whole.
//!
//! ```text
//! ,{"trace_id":"…32…","span_id":"…16…","parent_span_id":"…16…",
//! "start_timestamp":…17…,"timestamp":…17…,"origin":"manual"
//! ```
//!
//! The trace id is written once a transaction, the seconds only when they changed. What varies in
//! length follows: op, description, status, tags, data, measurements, and the closing brace.

use super::time::{self, ID, SECONDS, TIME};

const TRACE: usize = 32;
const P0: &[u8] = b",{\"trace_id\":\"";
const P1: &[u8] = b"\",\"span_id\":\"";
const P2: &[u8] = b"\",\"parent_span_id\":\"";
const P3: &[u8] = b"\",\"start_timestamp\":";
const P4: &[u8] = b",\"timestamp\":";
const P5: &[u8] = b",\"origin\":\"manual\"";

const TRACE_AT: usize = P0.len();
const SPAN_AT: usize = TRACE_AT + TRACE + P1.len();
const PARENT_AT: usize = SPAN_AT + ID + P2.len();
const START_AT: usize = PARENT_AT + ID + P3.len();
const END_AT: usize = START_AT + TIME + P4.len();
/// Bytes of the fixed part, the comma in front of it included.
pub(super) const FIXED: usize = END_AT + TIME + P5.len();

#[expect(clippy::indexing_slicing, reason = "at compile time")]
const BLANK: [u8; FIXED] = {
    let mut bytes = [b'.'; FIXED];
    let parts = [
        (0, P0),
        (SPAN_AT - P1.len(), P1),
        (PARENT_AT - P2.len(), P2),
        (START_AT - P3.len(), P3),
        (END_AT - P4.len(), P4),
        (FIXED - P5.len(), P5),
    ];
    let mut part = 0;
    while part < parts.len() {
        let (at, text) = parts[part];
        let mut index = 0;
        while index < text.len() {
            bytes[at + index] = text[index];
            index += 1;
        }
        part += 1;
    }
    bytes
};

/// The array.
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
        template.put(START_AT, &time::seconds(0));
        template.put(END_AT, &time::seconds(0));
        template
    }

    pub(super) fn set_trace(&mut self, trace: &[u8; TRACE]) {
        self.put(TRACE_AT, trace);
    }

    pub(super) fn set_parent(&mut self, parent: u64) {
        self.put(PARENT_AT, &time::hex(parent));
    }

    /// The fixed part of a child; times in unix nanoseconds.
    #[inline]
    pub(super) fn child(&mut self, span: u64, start: u64, end: u64) -> &[u8; FIXED] {
        self.put(SPAN_AT, &time::hex(span));
        self.start_second = self.moment(START_AT, start, self.start_second);
        self.end_second = self.moment(END_AT, end, self.end_second);
        &self.bytes
    }

    /// Writes a moment where this second stands already, and returns the second that stands there
    /// now.
    #[inline(always)]
    fn moment(&mut self, at: usize, nanos: u64, mut second: u64) -> u64 {
        let mut micros = nanos.wrapping_sub(second) / 1000;
        if micros >= 1_000_000 {
            let seconds;
            (seconds, micros) = time::split(nanos);
            second = seconds * 1_000_000_000;
            self.put(at, &time::seconds(seconds));
        }
        self.put(at + SECONDS + 1, &time::six(micros));
        second
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "callers name the fields above, all inside")]
    fn put<const N: usize>(&mut self, at: usize, value: &[u8; N]) {
        self.bytes[at..at + N].copy_from_slice(value);
    }
}
