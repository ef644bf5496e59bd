//! What is known of names: whether one was seen before, and how long the slowest hundredth of its
//! items takes.
//!
//! The 99th percentile is followed by steps (frugal streaming: Ma, Muthukrishnan, Sandler 2013), on
//! a scale of logarithms: an item above the estimate moves it up a step in 99 of 100 cases, one
//! that is not above moves it down in one of 100. It comes to rest where one item in a hundred lies
//! above, whatever the distribution; and 98 of 100 items write nothing. The first hundred of a name
//! only set where it begins, at the longest of them.
//!
//! An item is compared with what was known before it. So whether it is kept depends on its own time
//! and on the past, and not on its own random number.
//!
//! The table is static, of fixed size, and forgets nothing. A name that finds no place is never the
//! first, nor slow.

use crate::shared::id::mix;
use crate::shared::sync::{AtomicU32, Ordering};

/// A power of two.
const PLACES: usize = 1024;
/// How far from its own place a name may lie.
const PROBES: usize = 32;
/// Items of a name before its estimate counts.
const SEEN_MIN: u32 = 100;
/// Levels in which a time doubles.
const LEVELS: u32 = 1 << LEVEL_BITS;
const LEVEL_BITS: u32 = 10;
/// How far the estimate moves at a time, in levels: by 2 %.
const STEP: u32 = LEVELS / 32;

pub(super) static HISTORY: History = History::new();

/// Whether this is the first time that it was asked for this name, in this process.
pub(crate) fn is_first(name: u32) -> bool {
    HISTORY.is_first(name)
}

/// A table of names.
#[derive(Debug)]
pub(super) struct History {
    places: [Place; PLACES],
}

#[derive(Debug)]
struct Place {
    /// The name's number above 0, or 0 for nobody's; written once.
    key: AtomicU32,
    /// 1 when somebody asked whether it is the first.
    asked: AtomicU32,
    /// Up to [`SEEN_MIN`] and little more.
    seen: AtomicU32,
    /// The estimate.
    level: AtomicU32,
}

impl Place {
    const fn new() -> Self {
        Self {
            key: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            level: AtomicU32::new(0),
        }
    }
}

impl History {
    pub(super) const fn new() -> Self {
        Self { places: [const { Place::new() }; PLACES] }
    }

    pub(super) fn is_first(&self, name: u32) -> bool {
        self.place(name).is_some_and(|place| {
            place.asked.load(Ordering::Relaxed) == 0 && place.asked.swap(1, Ordering::Relaxed) == 0
        })
    }

    /// Whether an item took longer than 99 % of its name do; then takes its time into account.
    /// `random` is any 32 bits that have nothing to do with the item's `sample_rand`.
    pub(super) fn is_slow(&self, name: u32, nanos: u64, random: u64) -> bool {
        let Some(place) = self.place(name) else { return false };
        let level = level(nanos);
        if place.seen.load(Ordering::Relaxed) < SEEN_MIN {
            place.level.fetch_max(level, Ordering::Relaxed);
            place.seen.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let estimate = place.level.load(Ordering::Relaxed);
        let is_slow = level > estimate;
        let is_hundredth = (random & 0xffff_ffff) * 100 < 1 << 32;
        // Steps of several threads add up; two that undo each other need no order.
        if is_slow && !is_hundredth {
            place.level.fetch_add(STEP, Ordering::Relaxed);
        } else if !is_slow && is_hundredth && estimate >= STEP {
            place.level.fetch_sub(STEP, Ordering::Relaxed);
        }
        is_slow
    }

    /// What [`Self::is_slow`] would say.
    #[cfg(test)]
    pub(super) fn would_be_slow(&self, name: u32, nanos: u64) -> bool {
        self.place(name).is_some_and(|place| {
            place.seen.load(Ordering::Relaxed) >= SEEN_MIN
                && level(nanos) > place.level.load(Ordering::Relaxed)
        })
    }

    /// The name's place, taken if it has none yet.
    #[expect(clippy::cast_possible_truncation, reason = "masked to the table")]
    fn place(&self, name: u32) -> Option<&Place> {
        let key = name.checked_add(1)?;
        let first = mix(u64::from(name)) as usize;
        let mut places = (0..PROBES).filter_map(|step| self.places.get((first + step) % PLACES));
        places.find(|place| {
            let mut found = place.key.load(Ordering::Relaxed);
            if found == 0 {
                let relaxed = Ordering::Relaxed;
                let exchange = place.key.compare_exchange(0, key, relaxed, relaxed);
                found = exchange.map_or_else(|theirs| theirs, |_| key);
            }
            found == key
        })
    }
}

/// A time on a scale of logarithms: whole powers of two are exact, and in between it runs straight.
const fn level(nanos: u64) -> u32 {
    if nanos == 0 {
        return 0;
    }
    let power = nanos.ilog2();
    let below = (nanos << (u64::BITS - 1 - power) << 1) >> (u64::BITS - LEVEL_BITS);
    (power + 1) * LEVELS + below as u32
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    #[test]
    fn a_name_is_the_first_once() {
        let history = Box::new(History::new());
        for name in [0, 1, 7, u32::MAX - 1] {
            assert!(history.is_first(name), "{name}");
            assert!(!history.is_first(name), "{name} again");
        }
        assert!(!history.is_first(u32::MAX), "the number of texts that found no place");
    }

    #[test]
    fn threads_that_ask_at_once_get_one_first() {
        let history = Box::new(History::new());
        let firsts = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let own = (0..200).filter(|name| history.is_first(*name)).count();
                    firsts.fetch_add(u32::try_from(own).unwrap(), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(firsts.load(Ordering::Relaxed), 200);
    }

    #[test]
    fn a_full_table_has_no_more_firsts() {
        let history = Box::new(History::new());
        let firsts = (0..5_000).filter(|name| history.is_first(*name)).count();
        assert!((PLACES - 20..=PLACES).contains(&firsts), "{firsts}");
        assert!((0..5_000).all(|name| !history.is_first(name)));
    }

    #[test]
    fn levels_rise_with_times_and_double_with_them() {
        let times: Vec<u64> = (0..64).flat_map(|bit| [1 << bit, (3 << bit) >> 1]).collect();
        for nanos in times {
            assert!(level(nanos - 1) <= level(nanos) && level(nanos) <= level(nanos + 1));
            assert_eq!(level(nanos / 2 * 2), level(nanos / 2) + if nanos > 1 { LEVELS } else { 0 });
        }
        assert_eq!((level(0), level(1), level(2), level(3)), (0, 1024, 2048, 2048 + 512));
        assert!(level(u64::MAX) < 66 * LEVELS);
    }

    #[test]
    fn nothing_is_slow_before_a_hundred_were_seen() {
        let history = Box::new(History::new());
        for nanos in 0..100 {
            assert!(!history.is_slow(1, nanos, 0));
        }
        assert!(history.is_slow(1, 1_000, u64::MAX));
        assert!(!history.is_slow(2, 1_000, u64::MAX), "another name");
    }

    /// A time drawn from a distribution.
    type Draw = fn(&mut Rng) -> f64;

    fn normal(rng: &mut Rng) -> f64 {
        (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0
    }

    const DISTRIBUTIONS: [(&str, Draw); 7] = [
        ("uniform", |rng| 1e6 * (1.0 + rng.f64())),
        ("exponential", |rng| -1e6 * (1.0 - rng.f64()).ln()),
        ("lognormal, narrow", |rng| 1e6 * (0.05 * normal(rng)).exp()),
        ("lognormal, wide", |rng| 1e6 * (2.0 * normal(rng)).exp()),
        ("pareto", |rng| 1e4 / (1.0 - rng.f64()).powf(1.0 / 1.5)),
        ("two modes", |rng| if rng.f64() < 0.95 { 1e5 } else { 5e7 } * (1.0 + rng.f64())),
        ("constant", |_| 1e6),
    ];

    #[test]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time")]
    fn one_in_a_hundred_of_a_steady_flow_is_slow() {
        const ITEMS: u32 = 200_000;
        let history = Box::new(History::new());
        for (name, (distribution, draw)) in (0..).zip(DISTRIBUTIONS) {
            let mut rng = Rng::with_seed(u64::from(name) + 1);
            let slow = (0..ITEMS)
                .filter(|_| {
                    let nanos = draw(&mut rng) as u64;
                    history.is_slow(name, nanos, rng.u64(..))
                })
                .count();
            let part = slow as f64 / f64::from(ITEMS);
            assert!((0.007..0.014).contains(&part), "{distribution}: {part}");
        }
    }

    #[test]
    fn the_estimate_follows_a_flow_that_changes() {
        let history = Box::new(History::new());
        let mut rng = Rng::with_seed(1);
        let mut run = |items: u32, nanos: u64| {
            let slow = (0..items)
                .filter(|_| history.is_slow(9, nanos + rng.u64(0..nanos), rng.u64(..)))
                .count();
            slow as f64 / f64::from(items)
        };
        run(20_000, 1_000_000);
        assert!(run(1_000, 8_000_000) > 0.05, "eight times slower: at first many are slow");
        assert!(run(50_000, 8_000_000) < 0.014, "and then it is what is usual");
        assert!(run(5_000, 1_000_000) == 0.0, "quick again: nothing is slow");
        run(30_000, 1_000_000);
        let part = run(50_000, 1_000_000);
        assert!((0.007..0.014).contains(&part), "{part}");
    }
}
