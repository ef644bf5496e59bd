//! Floors: of each op, that many a second are kept in any case.
//!
//! A floor is a budget turned round. Its share is what of the op's flow makes up the floor; it is
//! joined with the rate by `max`, so it counts where an op is rare and is nothing where it is not.
//! Every item of the op that the head keeps takes a token of its floor, and weighs one over the
//! probability with which it was kept: that is how the flow is known.
//!
//! The budgets lie in a table of fixed size, keyed by the op's number. A place is taken at an op's
//! first item and never given back while the table lives. An op that finds no place has no floor.

use std::fmt;
use std::time::Duration;

use super::budget::{Budget, whole_nanos};
use crate::shared::id::mix;
use crate::shared::sync::{AtomicU32, Ordering};

/// A power of two.
const PLACES: usize = 256;
/// How far from its own place an op may lie.
const PROBES: usize = 32;

/// The floors of all ops, under one table of rules.
pub(crate) struct Floors {
    places: Box<[Place]>,
}

struct Place {
    /// The op's number above 0, or 0 for nobody's; written once.
    key: AtomicU32,
    budget: Budget,
}

impl Floors {
    /// `per_second` of each op, above 0.
    pub(crate) fn new(per_second: f64) -> Self {
        let place = |_| {
            let budget = Budget::new();
            budget.set(per_second);
            Place { key: AtomicU32::new(0), budget }
        };
        Self { places: (0..PLACES).map(place).collect() }
    }

    /// The floor of the op with that number; `None` when it has found no place.
    pub(crate) fn of(&self, op: u32) -> Option<&Budget> {
        let key = op.checked_add(1)?;
        self.probe(op).find_map(|place| {
            let mut found = place.key.load(Ordering::Relaxed);
            if found == 0 {
                let (relaxed, key_of) = (Ordering::Relaxed, &place.key);
                // The budget is ready in each place, so nothing is handed over by the number.
                found = key_of
                    .compare_exchange(0, key, relaxed, relaxed)
                    .map_or_else(|theirs| theirs, |_| key);
            }
            (found == key).then_some(&place.budget)
        })
    }

    /// Makes the shares of all floors anew. `now` is from a clock that does not go back.
    pub(crate) fn tick(&self, now: Duration) {
        let now = whole_nanos(now);
        for place in &self.places {
            if place.key.load(Ordering::Relaxed) != 0 {
                place.budget.tick(now);
            }
        }
    }

    /// The places that an op may have, in the order in which it looks for one.
    #[expect(clippy::cast_possible_truncation, reason = "masked to the table")]
    fn probe(&self, op: u32) -> impl Iterator<Item = &Place> {
        let first = mix(u64::from(op)) as usize;
        (0..PROBES).filter_map(move |step| self.places.get((first + step) % PLACES))
    }
}

impl fmt::Debug for Floors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Floors").finish_non_exhaustive()
    }
}
