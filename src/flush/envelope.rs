//! An envelope: the unit that is queued, sent and counted.
//!
//! Its bytes are written once, by the encoder, with room for `sent_at` as the last member of the
//! first line. The member is stamped just before the bytes go to a socket, and left out of what is
//! stored.

use std::ops::Range;
use std::time::Duration;

use crate::shared::id::EventId;
use crate::shared::ledger::Count;

/// `,"sent_at":"` and the time and `"`: this many bytes, always.
pub(crate) const SENT_AT_BLANK: &str = ",\"sent_at\":\"0000-00-00T00:00:00.000000Z\"";

/// What an envelope carries; decides which rate limit holds it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Category {
    /// A transaction and its spans.
    Transaction,
    /// Only a client report.
    Internal,
}

/// A finished envelope, complete but for its `sent_at`, with what it holds counted beside the
/// bytes.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// The whole envelope. Its capacity is reused.
    pub(crate) bytes: Vec<u8>,
    /// Where [`SENT_AT_BLANK`] stands in `bytes`.
    pub(crate) sent_at: Range<usize>,
    pub(crate) category: Category,
    /// `None` for what has no id of its own, such as a client report.
    pub(crate) event_id: Option<EventId>,
    /// What is lost if this is.
    pub(crate) count: Count,
    pub(crate) way: Way,
}

/// Which record of the spool.
pub(crate) type Ticket = u64;

/// What a parcel has been through; the queue writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// In the order of being queued.
    pub(crate) number: u64,
    /// When that was.
    pub(crate) since: Duration,
    /// How often it was sent without an answer.
    pub(crate) tries: u32,
    /// It lies in the spool, too.
    pub(crate) stored: Option<Ticket>,
}

impl Parcel {
    /// What was stored, with room for `sent_at` again.
    pub(crate) fn stored(mut bytes: Vec<u8>, ticket: Ticket, count: Count) -> Self {
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        // Behind the other members: there is one at least.
        let sent_at = match line.len().checked_sub(1) {
            Some(at) if at > 1 && line.ends_with(b"}") => at..at + SENT_AT_BLANK.len(),
            _ => 0..0,
        };
        let event_id = event_id_of(line);
        if !sent_at.is_empty() {
            bytes.splice(sent_at.start..sent_at.start, SENT_AT_BLANK.bytes());
        }
        let way = Way { stored: Some(ticket), ..Way::default() };
        Self { bytes, sent_at, category: Category::Transaction, event_id, count, way }
    }

    /// Writes the time of sending into the blank, in place: RFC 3339, UTC, six decimals. May be
    /// called again, for another attempt.
    pub(crate) fn stamp(&mut self, unix_nanos: u64) {
        // The time stands before the last byte of the member, its closing quote.
        let Some(end) = self.sent_at.end.checked_sub(1) else { return };
        let Some(start) = end.checked_sub(TIME_LEN).filter(|&start| start >= self.sent_at.start)
        else {
            return;
        };
        if let Some(blank) = self.bytes.get_mut(start..end) {
            blank.copy_from_slice(&rfc3339(unix_nanos));
        }
    }
}

/// An envelope as a [`Transport`](crate::transport::Transport) gets it.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub(crate) parcel: &'a Parcel,
}

impl<'a> Envelope<'a> {
    /// All bytes, `sent_at` included, as they go to a server.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        &self.parcel.bytes
    }

    /// The bytes without the `sent_at` member, in two pieces, as they go to a disk: the Sentry spec
    /// has `sent_at` written at sending and never stored.
    #[must_use]
    pub fn without_sent_at(&self) -> [&'a [u8]; 2] {
        let bytes = self.as_bytes();
        let Range { start, end } = self.parcel.sent_at.clone();
        [bytes.get(..start).unwrap_or(bytes), bytes.get(end..).unwrap_or_default()]
    }

    /// The event id, if what it carries has one.
    #[must_use]
    pub fn event_id(&self) -> Option<EventId> {
        self.parcel.event_id
    }

    /// What it carries.
    #[must_use]
    pub fn category(&self) -> Category {
        self.parcel.category
    }

    /// Transactions and spans inside.
    #[must_use]
    pub fn count(&self) -> Count {
        self.parcel.count
    }
}

/// An envelope that owns its bytes: to try a [`Transport`](crate::transport::Transport) without a
/// recorder, or to send again what was stored.
///
/// ```
/// use hotspan::transport::{EnvelopeBuf, Memory, Transport};
///
/// let bytes = &b"{}\n{\"type\":\"client_report\",\"length\":2}\n{}\n"[..];
/// let stored = EnvelopeBuf::from_bytes(bytes);
/// let mut memory = Memory::new();
/// let answer = memory.send(&stored.as_envelope()).unwrap();
/// assert_eq!(answer.status, 200);
/// assert_eq!(memory.take(), [stored.as_envelope().as_bytes()]);
/// ```
#[derive(Debug)]
pub struct EnvelopeBuf {
    parcel: Parcel,
}

impl EnvelopeBuf {
    /// Takes the bytes as they are; nothing is checked.
    ///
    /// An `event_id` that opens the first line, and a `sent_at` that closes it, are recognised in
    /// the form in which this crate writes them. With an event id the category is
    /// [`Category::Transaction`], without one [`Category::Internal`]; the count is zero.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let header = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let sent_at = sent_at_of(header);
        let event_id = event_id_of(header);
        let category = if event_id.is_some() { Category::Transaction } else { Category::Internal };
        let (count, way) = (Count::default(), Way::default());
        Self { parcel: Parcel { bytes, sent_at, category, event_id, count, way } }
    }

    /// Says what it carries.
    #[must_use]
    pub fn with_category(mut self, category: Category) -> Self {
        self.parcel.category = category;
        self
    }

    /// Says how many transactions and spans are inside.
    #[must_use]
    pub fn with_count(mut self, count: Count) -> Self {
        self.parcel.count = count;
        self
    }

    /// The envelope, as a transport gets it.
    #[must_use]
    pub fn as_envelope(&self) -> Envelope<'_> {
        Envelope { parcel: &self.parcel }
    }
}

/// Where `,"sent_at":"…"` stands as the last member of a first line; empty if it does not.
fn sent_at_of(header: &[u8]) -> Range<usize> {
    let Some(end) = header.len().checked_sub(1) else { return 0..0 };
    let Some(start) = end.checked_sub(SENT_AT_BLANK.len()) else { return 0..0 };
    let (key, _) = SENT_AT_BLANK.split_at(SENT_AT_BLANK.len() - TIME_LEN - 1);
    let found = header
        .get(start..)
        .is_some_and(|tail| tail.starts_with(key.as_bytes()) && tail.ends_with(b"\"}"));
    if found { start..end } else { 0..0 }
}

/// The `event_id` that opens a first line.
fn event_id_of(header: &[u8]) -> Option<EventId> {
    let hex = header.strip_prefix(b"{\"event_id\":\"")?.get(..32)?;
    std::str::from_utf8(hex).ok()?.parse().ok()
}

/// Bytes of a time in a stamp.
const TIME_LEN: usize = "0000-00-00T00:00:00.000000Z".len();

const SECONDS_IN_DAY: u64 = 24 * 60 * 60;

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`, cut to microseconds. Unix nanoseconds in 64 bits end in 2554, so
/// four digits are enough for the year.
fn rfc3339(unix_nanos: u64) -> [u8; TIME_LEN] {
    let seconds = unix_nanos / 1_000_000_000;
    let (year, month, day) = civil(seconds / SECONDS_IN_DAY);
    let second = seconds % SECONDS_IN_DAY;
    let micros = unix_nanos / 1000 % 1_000_000;
    let [[c, d], [y, z]] = [pair(year / 100), pair(year % 100)];
    let [[m, n], [e, f]] = [pair(month), pair(day)];
    let [[g, h], [i, j], [k, l]] = [pair(second / 3600), pair(second / 60 % 60), pair(second % 60)];
    let [[o, p], [q, r], [s, t]] =
        [pair(micros / 10_000), pair(micros / 100 % 100), pair(micros % 100)];
    [
        c, d, y, z, b'-', m, n, b'-', e, f, b'T', g, h, b':', i, j, b':', k, l, b'.', o, p, q, r,
        s, t, b'Z',
    ]
}

/// Two digits of a number below 100.
#[expect(clippy::cast_possible_truncation, reason = "a digit")]
const fn pair(value: u64) -> [u8; 2] {
    [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]
}

/// Days since 1970-01-01 as year, month and day of the Gregorian calendar.
///
/// Counted in years that begin on 1 March: a leap day is then the last of its year, and the lengths
/// of the months repeat as 31 30 31 30 31 every five months, 153 days.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 400 * 365 + 97;
    // From 1 March of the year 0 to 1 January 1970.
    const EPOCH: u64 = 719_468;

    let day = days + EPOCH;
    let (era, day) = (day / DAYS_IN_400_YEARS, day % DAYS_IN_400_YEARS);
    // Leave out the leap days before this one, and every year has 365 days. A leap day ends every
    // 4th year (1461 days) but the 100th (36,524 days), yet every 400th again (146,097 days).
    let year = (day - day / 1460 + day / 36_524 - day / (DAYS_IN_400_YEARS - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    // Months 10 and 11 of a year from March are January and February of the next.
    let (next, month) = if month < 10 { (0, month + 3) } else { (1, month - 9) };
    (400 * era + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel() -> Parcel {
        let head = "{\"event_id\":\"9ec79c33ec9942ab8353589fcb2e04dc\"";
        let bytes = format!("{head}{SENT_AT_BLANK}}}\n{{}}\n").into_bytes();
        Parcel {
            bytes,
            sent_at: head.len()..head.len() + SENT_AT_BLANK.len(),
            category: Category::Transaction,
            event_id: None,
            count: Count::transaction(1),
            way: Way::default(),
        }
    }

    fn time(unix_nanos: u64) -> String {
        String::from_utf8(rfc3339(unix_nanos).to_vec()).unwrap()
    }

    #[test]
    fn known_times() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(time(951_782_400_000_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(time(1_709_251_199_999_999_999), "2024-02-29T23:59:59.999999Z");
        assert_eq!(time(1_767_225_600_000_001_000), "2026-01-01T00:00:00.000001Z");
        assert_eq!(time(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000000Z");
        assert_eq!(time(u64::MAX), "2554-07-21T23:34:33.709551Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let mut expected = (1970, 1, 1);
        for days in 0..600 * 366 {
            assert_eq!(civil(days), expected, "day {days}");
            let (year, month, day) = expected;
            let length = match month {
                2 => 28 + u64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (month, day) if day == length => (year, month + 1, 1),
                (month, day) => (year, month, day + 1),
            };
        }
    }

    #[test]
    fn a_stamp_fills_the_blank_and_may_be_repeated() {
        let mut parcel = parcel();
        let before = parcel.bytes.len();
        parcel.stamp(0);
        parcel.stamp(1_709_251_199_999_999_999);
        assert_eq!(parcel.bytes.len(), before);
        assert_eq!(
            std::str::from_utf8(&parcel.bytes).unwrap(),
            "{\"event_id\":\"9ec79c33ec9942ab8353589fcb2e04dc\",\
             \"sent_at\":\"2024-02-29T23:59:59.999999Z\"}\n{}\n"
        );
        let [head, tail] = Envelope { parcel: &parcel }.without_sent_at();
        assert_eq!(head, b"{\"event_id\":\"9ec79c33ec9942ab8353589fcb2e04dc\"");
        assert_eq!(tail, b"}\n{}\n");
    }

    #[test]
    fn a_parcel_without_a_blank_is_not_stamped() {
        for sent_at in [0..0, 5..5, 3..9, 0..10_000] {
            let mut parcel = Parcel { sent_at, ..parcel() };
            let before = parcel.bytes.clone();
            parcel.stamp(1_709_251_199_999_999_999);
            assert_eq!(parcel.bytes, before);
        }
    }

    #[test]
    fn what_was_stored_has_room_for_the_time_again() {
        let written = parcel();
        let bytes = Envelope { parcel: &written }.without_sent_at().concat();
        let read = Parcel::stored(bytes, 7, written.count);
        assert_eq!((&read.bytes, &read.sent_at), (&written.bytes, &written.sent_at));
        assert_eq!(read.event_id.unwrap().to_string(), "9ec79c33ec9942ab8353589fcb2e04dc");
        assert_eq!((read.way.stored, read.count), (Some(7), written.count));
        for bytes in ["", "\n", "{}\n", "}", "nonsense\n{}"] {
            let read = Parcel::stored(bytes.into(), 7, written.count);
            assert_eq!((&*read.bytes, read.sent_at), (bytes.as_bytes(), 0..0));
        }
    }

    #[test]
    fn stored_bytes_are_recognised() {
        let written = parcel();
        let read = EnvelopeBuf::from_bytes(written.bytes.clone());
        assert_eq!(read.parcel.sent_at, written.sent_at);
        assert_eq!(
            read.as_envelope().event_id().unwrap().to_string(),
            "9ec79c33ec9942ab8353589fcb2e04dc"
        );
        assert_eq!(read.as_envelope().category(), Category::Transaction);
        for bytes in ["", "{}", "{}\n", "\n", "{\"sent_at\":\"x\"}\n", "no envelope at all"] {
            let envelope = EnvelopeBuf::from_bytes(bytes);
            assert_eq!(envelope.as_envelope().without_sent_at().concat(), bytes.as_bytes());
            assert_eq!(envelope.as_envelope().category(), Category::Internal);
        }
    }
}
