//! [`Limits`]: what the server asked us not to send for a while.
//!
//! Two headers say so. `X-Sentry-Rate-Limits`, on any answer, holds entries separated by commas,
//!
//! ```text
//! 60:transaction;span:organization:quota, 2700::key
//! ```
//!
//! each with seconds, categories (none: all of them), and more that does not concern us.
//! `Retry-After`, on a 429 without the first header, holds seconds or a date, for all categories. A
//! bare 429 means a minute.
//!
//! The headers come from the network: whatever they hold, the worst they can do is to silence us
//! for [`LIMIT_MAX`]. An entry that cannot be read is skipped alone. Where two limits overlap the
//! later end wins. Time is the caller's monotonic clock; the wall clock is used only to make a date
//! a duration.
//!
//! # Limits
//! Two moments are all the state there is: two categories concern us, however many the server
//! names.

use std::time::{Duration, UNIX_EPOCH};

use super::envelope::Category;
use crate::transport::Response;

/// The active rate limits of one DSN. Moments are those of the monotonic clock that `now` comes
/// from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Nothing at all before this moment.
    all: Duration,
    /// No transactions before this moment.
    transaction: Duration,
}

impl Limits {
    /// Takes note of what an answer says. Never shortens a limit.
    pub(crate) fn update(&mut self, response: &Response, now: Duration, unix_now: Duration) {
        let header = response.rate_limits.as_deref().unwrap_or_default();
        let entries = header.split(',').filter_map(Entry::parse);
        let mut readable = false;
        for entry in entries {
            readable = true;
            let until = now.saturating_add(entry.retry_after);
            if entry.names_all() {
                self.all = self.all.max(until);
            } else if entry.names("transaction") {
                self.transaction = self.transaction.max(until);
            }
        }
        // A header in which nothing is readable counts as absent: a 429 always has some effect.
        if response.status == 429 && !readable {
            let retry_after = response.retry_after.as_deref().unwrap_or_default();
            let pause = read_retry_after(retry_after, unix_now).unwrap_or(RETRY_AFTER_DEFAULT);
            self.all = self.all.max(now.saturating_add(pause));
        }
    }

    /// How long an envelope must still wait; `None`: it may go now.
    ///
    /// A limit on `span` alone does not hold transactions back: the server takes the spans out
    /// itself.
    pub(crate) fn blocked(&self, category: Category, now: Duration) -> Option<Duration> {
        self.until(category).checked_sub(now).filter(|wait| !wait.is_zero())
    }

    /// The moment from which on an envelope may go.
    pub(crate) fn until(&self, category: Category) -> Duration {
        match category {
            Category::Transaction => self.transaction.max(self.all),
            Category::Internal => self.all,
        }
    }
}

/// One readable entry of `X-Sentry-Rate-Limits`.
struct Entry<'a> {
    retry_after: Duration,
    categories: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (seconds, rest) = text.split_once(':')?;
        let categories = rest.split(':').next().unwrap_or_default().trim();
        Some(Self { retry_after: read_seconds(seconds)?, categories })
    }

    fn names_all(&self) -> bool {
        self.categories.is_empty()
    }

    fn names(&self, category: &str) -> bool {
        self.categories.split(';').any(|name| name.trim() == category)
    }
}

/// `Retry-After`: seconds, or a date in the future. A date in the past says more about the clocks
/// than about the limit.
fn read_retry_after(text: &str, unix_now: Duration) -> Option<Duration> {
    read_seconds(text).or_else(|| {
        let date = httpdate::parse_http_date(text.trim()).ok()?;
        let unix = date.duration_since(UNIX_EPOCH).ok()?;
        let wait = unix.checked_sub(unix_now).filter(|wait| !wait.is_zero())?;
        Some(wait.min(LIMIT_MAX))
    })
}

/// A number of seconds, whole or not, rounded up and clamped to [`LIMIT_MAX`]. It must begin with a
/// digit: `inf`, `nan` and `-1` are no waiting times, while `1e400` is one, if a long one.
fn read_seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let seconds: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(seconds.ceil().min(LIMIT_MAX.as_secs_f64())).ok()
}

/// The longest that a server can silence us with one answer.
const LIMIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// What a 429 means that does not say how long.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);
    /// 2026-01-01T00:00:00Z.
    const UNIX_NOW: Duration = Duration::from_secs(1_767_225_600);
    const DAY: u64 = 86_400;

    fn answer(status: u16, rate_limits: Option<&str>, retry_after: Option<&str>) -> Response {
        Response {
            rate_limits: rate_limits.map(str::to_owned),
            retry_after: retry_after.map(str::to_owned),
            ..Response::status(status)
        }
    }

    /// Seconds for which (transactions, client reports) are blocked after one answer; 0: not.
    fn after(status: u16, rate_limits: Option<&str>, retry_after: Option<&str>) -> (u64, u64) {
        let mut limits = Limits::default();
        limits.update(&answer(status, rate_limits, retry_after), NOW, UNIX_NOW);
        let seconds = |category| {
            let wait = limits.blocked(category, NOW).unwrap_or_default();
            assert_eq!(wait.subsec_nanos(), 0);
            wait.as_secs()
        };
        (seconds(Category::Transaction), seconds(Category::Internal))
    }

    #[test]
    fn rate_limit_headers() {
        for (header, expected) in [
            ("60:transaction:organization:quota", (60, 0)),
            ("60:transaction:organization:no_more:extra:fields", (60, 0)),
            ("60:transaction;span:organization:quota, 2700:error:key", (60, 0)),
            ("60:error;transaction:key", (60, 0)),
            (" 60 : error ; transaction : key ", (60, 0)),
            ("60::organization", (60, 60)),
            ("60: :organization", (60, 60)),
            ("60:", (60, 60)),
            ("10::key,60:transaction:key", (60, 10)),
            ("60::key,10:transaction:key", (60, 60)),
            ("60::key,10::key", (60, 60)),
            ("10:transaction:key,60:transaction:key,20:transaction:key", (60, 0)),
            ("1.2:transaction:key", (2, 0)),
            ("0.0001:transaction:key", (1, 0)),
            ("0:transaction:key", (0, 0)),
            ("0::key", (0, 0)),
            // A span limit alone, an unknown name alone, and names that are not quite ours:
            // nothing.
            ("60:span:key", (0, 0)),
            ("60:unknown:key", (0, 0)),
            ("60:;:key", (0, 0)),
            ("60:transactions:key", (0, 0)),
            ("60:Transaction:key", (0, 0)),
            ("60:internal:key", (0, 0)),
            ("60:unknown;transaction:key", (60, 0)),
            // Broken entries are skipped alone.
            ("x:transaction:key, 60:transaction:key, :::", (60, 0)),
            ("-1:transaction:key,60:transaction:key", (60, 0)),
            ("inf::key,60:transaction:key", (60, 0)),
            ("nan::key,60:transaction:key", (60, 0)),
            ("+5::key", (0, 0)),
            ("60", (0, 0)),
            ("", (0, 0)),
            (",,,", (0, 0)),
            (":::", (0, 0)),
            ("\0", (0, 0)),
            ("\0:transaction:key", (0, 0)),
            ("6\u{660}::key", (0, 0)),
            // Whatever the number, a day is the most.
            ("1e30:transaction:key", (DAY, 0)),
            ("1e400::key", (DAY, DAY)),
            ("86401::key", (DAY, DAY)),
            ("99999999999999999999999999::key", (DAY, DAY)),
            ("1e-400:transaction:key", (0, 0)),
        ] {
            assert_eq!(after(200, Some(header), None), expected, "{header:?}");
            // Retry-After is ignored on anything but a 429.
            assert_eq!(after(200, Some(header), Some("7")), expected, "{header:?}");
        }
    }

    #[test]
    fn retry_after_counts_on_a_429_without_the_other_header() {
        for (header, expected) in [
            (None, 60),
            (Some("120"), 120),
            (Some(" 120 "), 120),
            (Some("1.5"), 2),
            (Some("0"), 0),
            (Some("1e400"), DAY),
            (Some("inf"), 60),
            (Some("nan"), 60),
            (Some("-1"), 60),
            (Some(""), 60),
            (Some("soon"), 60),
            (Some("Thu, 01 Jan 2026 00:02:00 GMT"), 120),
            (Some("Thursday, 01-Jan-26 00:02:00 GMT"), 120),
            (Some("Thu Jan  1 00:02:00 2026"), 120),
            (Some("Fri, 01 Jan 2038 00:00:00 GMT"), DAY),
            (Some("Wed, 31 Dec 2025 23:59:59 GMT"), 60),
            (Some("Thu, 01 Jan 1970 00:00:00 GMT"), 60),
        ] {
            assert_eq!(after(429, None, header), (expected, expected), "{header:?}");
            assert_eq!(after(200, None, header), (0, 0), "{header:?}");
            assert_eq!(after(503, None, header), (0, 0), "{header:?}");
        }
    }

    #[test]
    fn retry_after_is_ignored_beside_a_readable_rate_limit() {
        assert_eq!(after(429, Some("60:transaction:key"), Some("120")), (60, 0));
        assert_eq!(after(429, Some("60:error:key"), Some("120")), (0, 0));
        assert_eq!(after(429, Some("garbage"), Some("120")), (120, 120));
        assert_eq!(after(429, Some(""), None), (60, 60));
    }

    #[test]
    fn the_later_end_wins_and_ends() {
        let mut limits = Limits::default();
        limits.update(&answer(200, Some("60:transaction:key"), None), NOW, UNIX_NOW);
        let later = NOW + Duration::from_secs(10);
        limits.update(&answer(200, Some("20:transaction:key"), None), later, UNIX_NOW);
        let blocked = |now| limits.blocked(Category::Transaction, now);
        assert_eq!(blocked(later), Some(Duration::from_secs(50)));
        assert_eq!(blocked(NOW + Duration::from_millis(59_999)), Some(Duration::from_millis(1)));
        assert_eq!(blocked(NOW + Duration::from_secs(60)), None);
        assert_eq!(limits.blocked(Category::Internal, later), None);
    }

    #[test]
    fn a_wall_clock_that_steps_changes_nothing() {
        let mut limits = Limits::default();
        let response = answer(200, Some("60:transaction:key"), None);
        limits.update(&response, NOW, UNIX_NOW - Duration::from_secs(DAY));
        let before = limits;
        limits.update(&response, NOW, UNIX_NOW + Duration::from_secs(DAY));
        assert_eq!(limits, before);
    }

    #[test]
    fn extreme_input_is_survived() {
        let mega = "9".repeat(1 << 20);
        assert_eq!(after(429, Some(&mega), Some(&mega)), (DAY, DAY));
        let entries = "1e9:transaction:key,".repeat(50_000);
        assert_eq!(after(200, Some(&entries), None), (DAY, 0));
        assert_eq!(after(200, Some(&",".repeat(1 << 20)), None), (0, 0));

        let mut limits = Limits::default();
        limits.update(&answer(429, Some("1e400::key"), None), Duration::MAX, Duration::MAX);
        assert_eq!(limits.blocked(Category::Transaction, Duration::MAX), None);
        assert!(limits.blocked(Category::Transaction, Duration::ZERO).is_some());
    }
}
