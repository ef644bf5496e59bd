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

static HISTORY: History = History::new();

/// Whether this is the first time that it was asked for this name, in this process.
pub(crate) fn is_first(name: u32) -> bool {
    HISTORY.is_first(name)
}

/// Whether an item took longer than 99 % of its name do; then takes its time into account. `random`
/// is any 32 bits or more that have nothing to do with the item's `sample_rand`.
pub(crate) fn is_slow(name: u32, nanos: u64, random: u64) -> bool {
    HISTORY.is_slow(name, nanos, random)
}

/// A table of names.
#[derive(Debug)]
struct History {
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
    const fn new() -> Self {
        Self { places: [const { Place::new() }; PLACES] }
    }

    fn is_first(&self, name: u32) -> bool {
        self.place(name).is_some_and(|place| {
            place.asked.load(Ordering::Relaxed) == 0 && place.asked.swap(1, Ordering::Relaxed) == 0
        })
    }

    fn is_slow(&self, name: u32, nanos: u64, random: u64) -> bool {
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
#[expect(clippy::cast_possible_truncation, reason = "ten bits, and at most 64")]
const fn level(nanos: u64) -> u32 {
    if nanos == 0 {
        return 0;
    }
    let power = nanos.ilog2();
    let below = (nanos << (u64::BITS - 1 - power) << 1) >> (u64::BITS - LEVEL_BITS);
    (power + 1) * LEVELS + below as u32
}
