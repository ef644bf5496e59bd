//! [`Route`]: how long to leave a server alone that does not answer.
//!
//! The way to the server is one for all uploaders, so what is paced is the way and not the
//! envelope: while requests get no answer, one is tried at a time, and ever less often.
//!
//! ```text
//!  failures in a row   1    2     3     4     5     6     7     8 ...
//!  pause, about        0    1 s   2 s   4 s   8 s  16 s  32 s  60 s
//! ```
//!
//! After the first failure there is no pause: most often it is a kept connection that the server
//! had closed, and the next request makes a new one. Pauses vary by a quarter to either side, so
//! that a thousand processes whose server comes back do not all come at once. Any answer, an error
//! too, says that the server is there, and all is as before.
//!
//! Pure: moments and jitter come from the caller.

use std::time::Duration;

/// The pause after the second failure; it doubles from there.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What is known of the way to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    failures: u32,
    until: Duration,
}

impl Route {
    /// A request got no answer. `jitter` is any number, best a random one.
    pub(crate) fn failed(&mut self, now: Duration, jitter: u32) {
        self.failures = self.failures.saturating_add(1);
        // 0.75 to 1.25.
        let spread = 0.75 + f64::from(jitter) / f64::from(u32::MAX) / 2.0;
        self.until = now.saturating_add(pause(self.failures).mul_f64(spread));
    }

    /// One got an answer.
    pub(crate) fn answered(&mut self) {
        *self = Self::default();
    }

    /// Whether the last request got no answer.
    pub(crate) fn is_down(&self) -> bool {
        self.failures > 0
    }

    /// The moment before which nothing is tried.
    pub(crate) fn until(&self) -> Duration {
        self.until
    }

    /// How long not to try; zero if there is no reason to wait.
    pub(crate) fn pause(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }
}

fn pause(failures: u32) -> Duration {
    match failures.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => PAUSE_MIN.saturating_mul(1 << doublings.min(6)).min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    /// The pauses after one, two and so on failures, in milliseconds.
    fn pauses(jitter: u32) -> Vec<u128> {
        let mut route = Route::default();
        let after_one_more = |_| {
            route.failed(NOW, jitter);
            route.pause(NOW).as_millis()
        };
        (0..10).map(after_one_more).collect()
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_vary_by_a_quarter() {
        let middle = pauses(u32::MAX / 2);
        let expected = [0, 1, 2, 4, 8, 16, 32, 60, 60, 60];
        for (pause, seconds) in middle.iter().zip(expected) {
            assert!(pause.abs_diff(seconds * 1000) <= 1, "{middle:?}");
        }
        assert_eq!(pauses(0), [0, 750, 1500, 3000, 6000, 12_000, 24_000, 45_000, 45_000, 45_000]);
        assert_eq!(pauses(u32::MAX)[9], 75_000);
    }

    #[test]
    fn a_pause_runs_out_and_an_answer_ends_it() {
        let mut route = Route::default();
        assert!(!route.is_down());
        route.failed(NOW, 0);
        assert!(route.is_down() && route.pause(NOW).is_zero());
        route.failed(NOW, 0);
        let later = |millis| NOW + Duration::from_millis(millis);
        assert_eq!(route.pause(later(250)), Duration::from_millis(500));
        assert!(route.pause(later(750)).is_zero() && route.is_down());
        route.answered();
        assert_eq!(route, Route::default());
    }

    #[test]
    fn extreme_numbers_are_survived() {
        let mut route = Route { failures: u32::MAX, until: Duration::ZERO };
        route.failed(Duration::MAX, u32::MAX);
        assert_eq!(route.pause(Duration::MAX), Duration::ZERO);
        assert_eq!(route.failures, u32::MAX);
    }
}
