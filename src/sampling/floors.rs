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

#[cfg(test)]
mod tests {
    use std::ptr;

    use fastrand::Rng;

    use super::super::budget::{Class, WHOLE};
    use super::super::decide::{Ask, head};
    use super::*;

    #[test]
    fn an_op_has_one_floor_and_two_have_two() {
        let floors = Floors::new(1.0);
        let found: Vec<&Budget> = (0..100).map(|op| floors.of(op).unwrap()).collect();
        for (op, budget) in (0..).zip(&found) {
            assert!(ptr::eq(*budget, floors.of(op).unwrap()));
            assert_eq!(found.iter().filter(|it| ptr::eq(**it, *budget)).count(), 1);
        }
        assert!(floors.of(u32::MAX).is_none(), "the number of texts that found no place");
    }

    #[test]
    fn a_full_table_has_no_more_floors() {
        let floors = Floors::new(1.0);
        let found = (0..2_000).filter(|op| floors.of(*op).is_some()).count();
        assert!((PLACES - 20..=PLACES).contains(&found), "{found}");
        assert!(floors.of(0).is_some(), "who was there stays");
    }

    /// Rare ops are seen whatever the rate; of others, as many as the floor says.
    #[test]
    fn floors_are_seen() {
        let floors = Floors::new(2.0);
        let mut rng = Rng::with_seed(1);
        // A second's items of three ops, and what their rate of 1 in 10,000 would keep: nothing.
        let flows = [1_u32, 50, 2_000];
        let mut kept = [0_u32; 3];
        for turn in 0..60_000_u32 {
            floors.tick(Duration::from_millis(1_000 + u64::from(turn)));
            let due = |flow: u32| (turn * flow) / 1_000 != ((turn + 1) * flow) / 1_000;
            for (op, flow) in (0..).zip(flows) {
                for _ in 0..if flow > 1_000 { flow / 1_000 } else { u32::from(due(flow)) } {
                    let (rand, floor) = (rng.u32(0..WHOLE), floors.of(op));
                    let (parent, rule, cap) = (None, None, None);
                    let (explicit, sampler, parent_rate) = (None, None, None);
                    let (rate, pressure, first) = (100, 0, false);
                    let ask = Ask {
                        explicit,
                        sampler,
                        parent,
                        parent_rate,
                        rand,
                        rate,
                        rule,
                        cap,
                        floor,
                        pressure,
                        first,
                    };
                    kept[op as usize] += u32::from(head(&ask).sampled);
                }
            }
        }
        let [rare, some, many] = kept;
        assert!(rare >= 58, "{rare} of 60, one a second");
        assert!((100..150).contains(&some), "{some} of 3,000");
        assert!((100..150).contains(&many), "{many} of 120,000");
        assert!(floors.of(2).unwrap().share(Class::Head) < 10_000);
    }
}
