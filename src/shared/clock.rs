//! Ticks now, and ticks as wall-clock time.
//!
//! Recording threads read raw ticks: the TSC where the kernel and the processor vouch for it, the
//! monotonic clock elsewhere (`quanta` decides). The flusher takes an [`Anchor`] at every drain:
//! one moment in ticks and in unix time, and the rate between them. Records of that drain are
//! converted with that anchor, so a slewing or stepping wall clock shows up as a new anchor and
//! never as a negative duration.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use once_cell::race::OnceBox;
use quanta::Clock;

/// What the wall clock may differ from the ticks between two anchors, at most.
const JUMP_NANOS: u64 = 1_000_000_000;

/// Of these, one was hardly disturbed.
const READINGS: usize = 3;

static CLOCK: OnceLock<Clock> = OnceLock::new();

/// One moment on both clocks, and how fast the ticks run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Anchor {
    pub(crate) ticks: u64,
    pub(crate) unix_nanos: u64,
    /// Nanoseconds in 2^32 ticks.
    pub(crate) nanos_per_4g_ticks: u64,
}

impl Anchor {
    /// Unix nanoseconds of a moment in ticks, before or after the anchor; saturating.
    #[inline]
    pub(crate) fn unix_nanos(&self, ticks: u64) -> u64 {
        if ticks <= self.ticks {
            self.unix_nanos.saturating_sub(self.scale(self.ticks - ticks))
        } else {
            self.unix_nanos.saturating_add(self.scale(ticks - self.ticks))
        }
    }

    /// Whether the wall clock has been set since `before`, by more than it may have been slewed, or
    /// the machine was asleep meanwhile.
    pub(crate) fn is_off(&self, before: &Self) -> bool {
        self.unix_nanos.abs_diff(before.unix_nanos(self.ticks)) > JUMP_NANOS
    }

    /// What lies between a start, in ticks or in unix nanoseconds, and the anchor; nothing if it
    /// lies behind.
    pub(crate) fn age(&self, start: u64, is_unix: bool) -> Duration {
        let start = if is_unix { start } else { self.unix_nanos(start) };
        Duration::from_nanos(self.unix_nanos.saturating_sub(start))
    }

    /// Nanoseconds in a number of ticks.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "2^64 ns are 584 years")]
    pub(crate) fn scale(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.nanos_per_4g_ticks)) >> 32) as u64
    }
}

/// The clock, made at the first call, which is in the first `init` (`guard.rs` sees to it that no
/// fork's child waits for one that its parent was making). Making it calibrates the TSC, which
/// takes up to 200 ms once.
pub(crate) fn clock() -> &'static Clock {
    CLOCK.get_or_init(Clock::new)
}

/// Raw ticks now; 0 before the clock was made.
#[inline]
pub(crate) fn ticks() -> u64 {
    CLOCK.get().map_or(0, Clock::raw)
}

/// Nanoseconds in a number of ticks; 0 before the clock was made.
pub(crate) fn nanos(ticks: u64) -> u64 {
    CLOCK.get().map_or(0, |clock| clock.delta_as_nanos(0, ticks))
}

/// Time since the first call, for time-outs and back-offs: never goes back, never jumps.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub(crate) fn monotonic() -> Duration {
    static START: OnceBox<std::time::Instant> = OnceBox::new();
    START.get_or_init(|| Box::new(std::time::Instant::now())).elapsed()
}

/// Wall-clock time since 1970; zero before it.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub(crate) fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// [`unix`] in nanoseconds, at most those of 2554, where 64 bits end.
pub(crate) fn unix_nanos() -> u64 {
    u64::try_from(unix().as_nanos()).unwrap_or(u64::MAX)
}

/// Unix nanoseconds of a time that a caller gave.
pub(crate) fn nanos_since_epoch(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Anchor {
    /// Ties ticks to the wall clock now, with the rate the clock was calibrated to.
    pub(crate) fn now() -> Self {
        let clock = clock();
        let (ticks, unix_nanos) = narrowest(|| (clock.raw(), unix_nanos(), clock.raw()));
        Self { ticks, unix_nanos, nanos_per_4g_ticks: clock.delta_as_nanos(0, 1 << 32) }
    }
}

/// A moment on both clocks, of several readings (ticks, wall clock, ticks) that one whose ticks lie
/// closest together: a thread that is preempted in between is off by as much as that took.
fn narrowest(mut read: impl FnMut() -> (u64, u64, u64)) -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..READINGS {
        let (before, wall, after) = read();
        let width = after.saturating_sub(before);
        if width < best.0 {
            // The wall clock stands for the middle.
            best = (width, before + width / 2, wall);
        }
    }
    (best.1, best.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_converts_both_ways_from_its_moment() {
        let anchor = Anchor { ticks: 1000, unix_nanos: 5_000, nanos_per_4g_ticks: 1 << 31 };
        assert_eq!(anchor.unix_nanos(1000), 5_000);
        assert_eq!(anchor.unix_nanos(1100), 5_050);
        assert_eq!(anchor.unix_nanos(900), 4_950);
        assert_eq!(anchor.unix_nanos(u64::MAX), 5_000 + (u64::MAX - 1000) / 2);
        assert_eq!(Anchor { ticks: u64::MAX, ..anchor }.unix_nanos(0), 0, "saturates");
    }

    #[test]
    fn a_jump_is_told_from_a_slew() {
        let before = Anchor { ticks: 1000, unix_nanos: 5 << 32, nanos_per_4g_ticks: 1 << 32 };
        let later = |nanos: u64| Anchor { ticks: 3000, unix_nanos: nanos, ..before };
        let expected = (5 << 32) + 2000;
        assert!(!later(expected).is_off(&before));
        for (difference, is_off) in [(JUMP_NANOS, false), (JUMP_NANOS + 1, true)] {
            assert_eq!(later(expected + difference).is_off(&before), is_off);
            assert_eq!(later(expected - difference).is_off(&before), is_off);
        }
    }

    #[test]
    fn a_reading_that_was_interrupted_is_not_taken() {
        let mut readings = [(1000, 70, 9000), (9100, 80, 9120), (9200, 90, 9260)].into_iter();
        assert_eq!(narrowest(|| readings.next().unwrap()), (9110, 80));
        assert!(readings.next().is_none());
        assert_eq!(narrowest(|| (5, 1, 4)), (5, 1), "ticks that went back");
    }

    #[test]
    fn now_is_now() {
        let anchor = Anchor::now();
        let (early, ticks, late) = (unix_nanos(), ticks(), unix_nanos());
        let converted = anchor.unix_nanos(ticks);
        // Within a millisecond of the wall clock, on either side.
        assert!(converted + 1_000_000 > early && converted < late + 1_000_000);
    }
}
