//! Backpressure: fewer transactions while the way to the server cannot take them all.
//!
//! Every ten seconds the flusher asks how that way is. If an envelope found no room in the queue
//! since the last time, or would find none now, or the server wants no transactions at this moment,
//! all rates are halved once more, up to ten times (`sampling/pressure.rs`); if none of that is so,
//! they are what they were. A moment comes in, an answer goes out: no clock, no thread.

use std::time::Duration;

use crate::sampling::pressure;
use crate::shared::ledger::sampling::Cause;

use super::queue::Strain;

/// Between two checks.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is known from the last check.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    checked: Option<Duration>,
    refused: u64,
}

impl Pressure {
    /// Whether the way to the server is free; `None`: it is not the time to ask. The first call
    /// begins the first interval.
    pub(super) fn check(&mut self, now: Duration, strain: impl FnOnce() -> Strain) -> Option<bool> {
        let since = now.saturating_sub(*self.checked.get_or_insert(now));
        if since < INTERVAL {
            return None;
        }
        self.checked = Some(now);
        let Strain { refused, is_full, limited_until } = strain();
        let is_free = refused == self.refused && !is_full && limited_until <= now;
        self.refused = refused;
        Some(is_free)
    }
}

/// Why a transaction was left out that was found left out at this moment.
pub(super) fn cause() -> Cause {
    if pressure::factor() > 0 { Cause::Backpressure } else { Cause::SampleRate }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Strain = Strain { refused: 0, is_full: false, limited_until: Duration::ZERO };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(1_000_000 + millis)
    }

    /// What the checks say at these moments, in milliseconds.
    fn checks<const N: usize>(at_each: [(u64, Strain); N]) -> [Option<bool>; N] {
        let mut pressure = Pressure::default();
        at_each.map(|(millis, strain)| pressure.check(at(millis), || strain))
    }

    #[test]
    fn every_ten_seconds_and_not_sooner() {
        let said = checks(
            [0, 1, 9_999, 10_000, 10_001, 19_999, 25_000, 34_999, 35_000]
                .map(|millis| (millis, FREE)),
        );
        let free = Some(true);
        assert_eq!(said, [None, None, None, free, None, None, free, None, free]);
    }

    #[test]
    fn what_found_no_room_counts_once() {
        let strain = |refused| Strain { refused, ..FREE };
        let said = checks([
            (0, strain(0)),
            (10_000, strain(7)),
            (20_000, strain(7)),
            (30_000, strain(8)),
            (40_000, strain(8)),
        ]);
        assert_eq!(said, [None, Some(false), Some(true), Some(false), Some(true)]);
    }

    #[test]
    fn a_full_queue_and_a_limit_count_as_long_as_they_last() {
        let full = Strain { is_full: true, ..FREE };
        let limited = Strain { limited_until: at(50_001), ..FREE };
        let said = checks([
            (0, FREE),
            (10_000, full),
            (20_000, full),
            (30_000, FREE),
            (40_000, limited),
            (50_000, limited),
            (60_000, limited),
        ]);
        let (free, not) = (Some(true), Some(false));
        assert_eq!(said, [None, not, not, free, not, not, free]);
    }

    #[test]
    fn a_limit_that_ends_now_has_ended() {
        let limited = Strain { limited_until: at(10_000), ..FREE };
        assert_eq!(checks([(0, FREE), (10_000, limited)]), [None, Some(true)]);
    }

    #[test]
    fn what_is_left_out_is_told_by_the_cause_of_that_time() {
        // No other test of this binary reads or sets the factor.
        let causes = [true, false, false, true].map(|is_healthy| {
            pressure::set_healthy(is_healthy);
            cause()
        });
        use Cause::{Backpressure, SampleRate};
        assert_eq!(causes, [SampleRate, Backpressure, Backpressure, SampleRate]);
    }
}
