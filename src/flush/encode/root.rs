//! The fixed parts of a transaction around its children, forms.

use super::form::{self, put};
use super::json;
use super::time::{self, FRACTION, ID, SECONDS};

const LENGTH: &[u8] = b"{\"type\":\"transaction\",\"length\":";

const ITEM: [u8; ITEM_END] = form::joined(&[I0, I1, &[b'.'; 2 * ID], I2]);
const ITEM_END: usize = EVENT_ID_AT + 2 * ID + I2.len();
const I0: &[u8] = b"}\n";
const I1: &[u8] = b"{\"type\":\"transaction\",\"event_id\":\"";
const I2: &[u8] = b"\",\"transaction\":";
const EVENT_ID_AT: usize = I0.len() + I1.len();

/// What lies between the length of an item and its payload.
pub(super) const LENGTH_END: usize = I0.len();

/// Appends the header of an item, with so many blanks for its length, and the payload up to the
/// transaction's name; returns where the blanks are.
pub(super) fn item(out: &mut Vec<u8>, digits: usize, event_id: &[u8; 2 * ID]) -> usize {
    out.extend_from_slice(LENGTH);
    let at = out.len();
    out.extend_from_slice(b"00000000".get(..digits).unwrap_or_default());
    if let Some(item) = form::append(out, &ITEM) {
        put(item, EVENT_ID_AT, event_id);
    }
    at
}

/// Writes the payload's length over its blanks, and moves the payload if they were too many or too
/// few; returns the right number of them.
pub(super) fn patch_length(bytes: &mut Vec<u8>, at: usize, blanks: usize, length: usize) -> usize {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(length).as_bytes();
    match bytes.get_mut(at..at + blanks) {
        Some(place) if digits.len() == blanks => place.copy_from_slice(digits),
        _ => drop(bytes.splice(at..at + blanks, digits.iter().copied())),
    }
    digits.len()
}

const TIMES: [u8; TIMES_END] =
    form::joined(&[T0, &[b'.'; SECONDS + FRACTION], T1, &[b'.'; SECONDS + FRACTION]]);
const TIMES_END: usize = END_AT + SECONDS + FRACTION;
const T0: &[u8] = b",\"transaction_info\":{\"source\":\"custom\"},\"start_timestamp\":";
const T1: &[u8] = b"\"timestamp\":";
const START_AT: usize = T0.len();
const END_AT: usize = START_AT + SECONDS + FRACTION + T1.len();

/// Appends what follows the name: start and end, in unix nanoseconds, and a comma.
pub(super) fn times(out: &mut Vec<u8>, (start, end): (u64, u64)) {
    let ((start, start_micros), (end, end_micros)) = (time::split(start), time::split(end));
    if start < time::TEN_DIGITS {
        return early(out, (start, start_micros), (end, end_micros));
    }
    let Some(times) = form::append(out, &TIMES) else { return };
    let start_digits = time::seconds(start);
    put(times, START_AT, &start_digits);
    put(times, START_AT + SECONDS, &time::fraction(start_micros));
    put(times, END_AT, &if end == start { start_digits } else { time::seconds(end) });
    put(times, END_AT + SECONDS, &time::fraction(end_micros));
}

/// The same for a time before September 2001, which has less digits.
#[cold]
fn early(out: &mut Vec<u8>, start: (u64, u64), end: (u64, u64)) {
    for (text, (seconds, micros)) in [(T0, start), (T1, end)] {
        out.extend_from_slice(text);
        json::integer(out, seconds);
        out.extend_from_slice(&time::fraction(micros));
    }
}

const IDS: [u8; IDS_END] = form::joined(&[C0, &[b'.'; 2 * ID], C1, &[b'.'; ID]]);
const IDS_END: usize = SPAN_AT + ID;
const C0: &[u8] = b",\"contexts\":{\"trace\":{\"type\":\"trace\",\"trace_id\":\"";
const C1: &[u8] = b"\",\"span_id\":\"";
const TRACE_AT: usize = C0.len();
const SPAN_AT: usize = C0.len() + 2 * ID + C1.len();

/// Appends how `contexts` begins: the ids, and the origin.
pub(super) fn ids(out: &mut Vec<u8>, trace: &[u8; 2 * ID], span: u64, parent: Option<u64>) {
    if let Some(ids) = form::append(out, &IDS) {
        put(ids, TRACE_AT, trace);
        put(ids, SPAN_AT, &time::hex(span));
    }
    if let Some(parent) = parent {
        out.extend_from_slice(b"\",\"parent_span_id\":\"");
        out.extend_from_slice(&time::hex(parent));
    }
    out.extend_from_slice(b"\",\"origin\":\"manual\"");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(start: u64, end: u64) -> String {
        let mut out = Vec::new();
        times(&mut out, (start, end));
        let text = String::from_utf8(out).unwrap();
        text.split("\"start_timestamp\":").nth(1).unwrap().replace("\"timestamp\":", "")
    }

    #[test]
    fn times_have_six_decimals_and_saturate() {
        let now = 1_700_000_000_123_456_789;
        assert_eq!(both(now, now), "1700000000.123456,1700000000.123456,");
        assert_eq!(both(now, now + 1_000_000_000), "1700000000.123456,1700000001.123456,");
        assert_eq!(both(0, 999_999_999_999_999), "0.000000,999999.999999,");
        assert_eq!(both(1_000, now), "0.000001,1700000000.123456,");
        assert_eq!(both(999_999_999_999_999_999, 1 << 60), "999999999.999999,1152921504.606846,");
        assert_eq!(both(now, u64::MAX), "1700000000.123456,9999999999.999999,");
    }

    #[test]
    fn a_length_finds_room_whatever_it_was_guessed() {
        for (blanks, length) in [(4, 1234), (4, 5), (3, 12_345), (1, 0)] {
            let mut bytes = b"<".to_vec();
            bytes.resize(1 + blanks, b'0');
            bytes.push(b'>');
            let digits = patch_length(&mut bytes, 1, blanks, length);
            assert_eq!(String::from_utf8(bytes).unwrap(), format!("<{length}>"));
            assert_eq!(digits, length.to_string().len());
        }
    }
}
