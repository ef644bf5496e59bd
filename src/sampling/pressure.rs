//! Backpressure: while what was recorded cannot be sent, rates are halved, and halved again.
//!
//! The flusher says every ten seconds how it is ([`set_healthy`]). Each time that it is not, the
//! factor goes up by one, to at most ten; once it is, the factor is 0 again. A factor of n divides
//! rates by 2^n.

use crate::shared::sync::{AtomicU32, Ordering};

const FACTOR_MAX: u32 = 10;

static FACTOR: AtomicU32 = AtomicU32::new(0);

/// 0 to 10.
#[inline]
pub(crate) fn factor() -> u32 {
    FACTOR.load(Ordering::Relaxed).min(FACTOR_MAX)
}

/// How the last ten seconds were: unhealthy is a full queue, or any rate limit that was active.
pub(crate) fn set_healthy(is_healthy: bool) {
    // One thread says so; a forked process begins with what its parent had, and corrects it.
    FACTOR.store(if is_healthy { 0 } else { next(factor()) }, Ordering::Relaxed);
}

const fn next(factor: u32) -> u32 {
    if factor < FACTOR_MAX { factor + 1 } else { FACTOR_MAX }
}

/// A rate in millionths under the pressure of this moment.
#[inline]
pub(crate) fn apply(rate: u32) -> u32 {
    lowered(rate, factor())
}

/// A rate in millionths over 2^`factor`; what was open at all stays open by one millionth.
#[inline]
pub(crate) fn lowered(rate: u32, factor: u32) -> u32 {
    if rate == 0 { 0 } else { (rate >> factor.min(FACTOR_MAX)).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_goes_up_by_one_to_ten_and_back_to_none() {
        let all: Vec<u32> = (0..14).scan(0, |at, _| (*at, *at = next(*at)).0.into()).collect();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10]);
    }

    #[test]
    fn each_step_halves_and_nothing_open_is_closed() {
        for (rate, factor, lower) in [
            (0, 0, 0),
            (0, 10, 0),
            (1_000_000, 0, 1_000_000),
            (1_000_000, 1, 500_000),
            (1_000_000, 10, 976),
            (1_000_000, 40, 976),
            (1_000, 10, 1),
            (1, 3, 1),
            (7, 2, 1),
        ] {
            assert_eq!(lowered(rate, factor), lower, "{rate} under {factor}");
        }
    }
}
