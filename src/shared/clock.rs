//! Ticks now, and ticks as wall-clock time.
//!
//! Recording threads read raw ticks: the TSC where the kernel and the processor vouch for it, the
//! monotonic clock elsewhere (`quanta` decides). The flusher takes an [`Anchor`] at every drain: one
//! moment in ticks and in unix time, and the rate between them. Records of that drain are converted with
//! that anchor, so a slewing or stepping wall clock shows up as a new anchor and never as a negative
//! duration.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quanta::Clock;

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

    /// Nanoseconds in a number of ticks.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "2^64 ns are 584 years")]
    pub(crate) fn scale(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.nanos_per_4g_ticks)) >> 32) as u64
    }
}

/// Time on the monotonic clock, since a moment that is fixed for the process. For waits and limits.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub(crate) fn monotonic() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Wall-clock time since 1970; zero if the clock is set before that.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub(crate) fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
