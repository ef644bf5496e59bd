//! Ticks now, and ticks as wall-clock time.
//!
//! Recording threads read raw ticks: the TSC where the kernel and the processor vouch for it, the
//! monotonic clock elsewhere (`quanta` decides; where it took the TSC, its instruction stands in
//! the recording code itself, which saves a call). The flusher takes an [`Anchor`] at every drain:
//! one moment in ticks and in unix time, and the rate between them. Records of that drain are
//! converted with that anchor, so a slewing or stepping wall clock shows up as a new anchor and
//! never as a negative duration.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(target_arch = "x86_64")]
use fast_clock::{Clock as _, tsc::Tsc};
#[cfg(not(target_arch = "x86_64"))]
use none::Tsc;
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

/// The TSC, if the clock's ticks are its. Who does not see it yet asks the clock, which says the
/// same.
static TSC: OnceLock<Tsc> = OnceLock::new();

/// The clock, made at the first call, which is in the first `init` (`guard.rs` sees to it that no
/// fork's child waits for one that its parent was making). Making it calibrates the TSC, which
/// takes up to 200 ms once.
pub(crate) fn clock() -> &'static Clock {
    CLOCK.get_or_init(|| {
        let clock = Clock::new();
        if let Ok(tsc) = Tsc::try_new_assume_stable()
            && is_same(|| clock.raw(), || tsc.now().to_ticks())
        {
            let _ = TSC.set(tsc);
        }
        clock
    })
}

/// Raw ticks now; 0 before the clock was made.
#[inline]
pub(crate) fn ticks() -> u64 {
    ticks_in_line().unwrap_or_else(ticks_by_call)
}

/// Raw ticks now, if no call is needed for that.
#[inline]
pub(crate) fn ticks_in_line() -> Option<u64> {
    TSC.get().map(|tsc| tsc.now().to_ticks())
}

/// Raw ticks now.
#[cold]
#[inline(never)]
pub(crate) fn ticks_by_call() -> u64 {
    CLOCK.get().map_or(0, Clock::raw)
}

/// Whether a clock reads the TSC, as it does not say itself: each of its readings lies between two
/// of that.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "there is no TSC"))]
fn is_same(mut clock: impl FnMut() -> u64, mut tsc: impl FnMut() -> u64) -> bool {
    (0..READINGS).all(|_| {
        let (before, reading, after) = (tsc(), clock(), tsc());
        (before..=after).contains(&reading)
    })
}

/// Elsewhere than on x86-64.
#[cfg(not(target_arch = "x86_64"))]
mod none {
    pub(super) enum Tsc {}

    impl Tsc {
        pub(super) const fn try_new_assume_stable() -> Result<Self, ()> {
            Err(())
        }

        pub(super) const fn now(&self) -> Self {
            match *self {}
        }

        pub(super) const fn to_ticks(&self) -> u64 {
            match *self {}
        }
    }
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
    use std::cell::Cell;

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
    fn a_clock_is_taken_for_the_tsc_only_if_it_is() {
        let counter = Cell::new(1 << 40);
        let tick = || counter.replace(counter.get() + 1);
        assert!(is_same(tick, tick));
        assert!(!is_same(|| 1 << 39, tick), "another clock");
        let mut readings = [counter.get(), counter.get() + 2, 7].into_iter();
        assert!(!is_same(|| readings.next().unwrap(), tick), "by chance, for a while");
    }

    #[test]
    fn ticks_in_line_are_those_of_the_clock() {
        let clock = clock();
        assert!(is_same(|| clock.raw(), ticks));
        assert!(is_same(|| clock.raw(), ticks_by_call));
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
