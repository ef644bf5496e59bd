//! What is to be looked at when an item ends, in one word that travels with it.
//!
//! ```text
//!   conditions:5 | p_end:20 | budget:10 | slower than: exponent:5, mantissa:24
//! ```
//!
//! It is made at the start, with everything that the decision at the end takes from the
//! configuration; so an item sees one configuration from start to end, whatever is changed
//! meanwhile, and whoever holds the item decides alike: its thread, or the flusher.

/// What is looked at when an item ends: a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions(u8);

impl Conditions {
    /// It took longer than the plan's time.
    pub(crate) const SLOW: u8 = 1;
    /// It took longer than 99 % of its name do.
    pub(crate) const P99: u8 = 2;
    /// Its status is not ok.
    pub(crate) const FAILED: u8 = 4;
    /// Code asked for it.
    pub(crate) const ASKED: u8 = 8;
    const ALL: u8 = Self::SLOW | Self::P99 | Self::FAILED | Self::ASKED;

    /// What is no condition is left out.
    pub(crate) const fn new(bits: u8) -> Self {
        Self(bits & Self::ALL)
    }

    pub(crate) const fn has(self, condition: u8) -> bool {
        self.0 & condition != 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What is looked at when an item ends, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan(pub(crate) u64);

const MANTISSA_BITS: u32 = 24;
const EXPONENT_MAX: u32 = 31;
const BUDGET_SHIFT: u32 = 29;
const END_SHIFT: u32 = 39;
const CONDITIONS_SHIFT: u32 = 59;
/// Set in every plan, so that none is 0.
const PLANNED: u64 = 16 << CONDITIONS_SHIFT;

impl Plan {
    /// The record has no plan.
    pub(crate) const NONE: Self = Self(0);

    /// `end` is the probability, in millionths, with which an item is kept that meets one of the
    /// conditions; `budget` the index of its rule's cap, 0 for none. A time is rounded up by less
    /// than a millionth part.
    pub(crate) const fn new(conditions: Conditions, end: u32, budget: u16, nanos: u64) -> Self {
        Self(
            PLANNED
                | (conditions.0 as u64) << CONDITIONS_SHIFT
                | (end as u64 & 0xf_ffff) << END_SHIFT
                | (budget as u64 & 0x3ff) << BUDGET_SHIFT
                | short(nanos),
        )
    }

    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn conditions(self) -> Conditions {
        Conditions::new((self.0 >> CONDITIONS_SHIFT) as u8)
    }

    /// In millionths.
    pub(crate) const fn end(self) -> u32 {
        (self.0 >> END_SHIFT) as u32 & 0xf_ffff
    }

    /// 0: none.
    pub(crate) const fn budget(self) -> u16 {
        (self.0 >> BUDGET_SHIFT) as u16 & 0x3ff
    }

    /// The time beyond which an item is slow, in nanoseconds.
    pub(crate) const fn slower_than(self) -> u64 {
        let mantissa = self.0 & ((1 << MANTISSA_BITS) - 1);
        mantissa << (self.0 >> MANTISSA_BITS & EXPONENT_MAX as u64)
    }
}

/// Nanoseconds in 29 bits, rounded up; 416 days are the longest.
const fn short(nanos: u64) -> u64 {
    let bits = u64::BITS - nanos.leading_zeros();
    let mut exponent = bits.saturating_sub(MANTISSA_BITS);
    let mut mantissa = nanos >> exponent;
    if mantissa << exponent < nanos {
        mantissa += 1;
    }
    if mantissa >> MANTISSA_BITS != 0 {
        mantissa >>= 1;
        exponent += 1;
    }
    if exponent > EXPONENT_MAX {
        return (1 << BUDGET_SHIFT) - 1;
    }
    (exponent as u64) << MANTISSA_BITS | mantissa
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_holds_what_was_put_in() {
        for conditions in 0..16 {
            for (end, budget) in [(1, 0), (1_000_000, 1023), (123_456, 1), (524_288, 512)] {
                let conditions = Conditions::new(conditions);
                let plan = Plan::new(conditions, end, budget, 5_000_000);
                assert!(!plan.is_none());
                assert_eq!(plan.conditions(), conditions);
                assert_eq!((plan.end(), plan.budget()), (end, budget));
                assert_eq!(plan.slower_than(), 5_000_000);
            }
        }
        assert!(Plan::NONE.is_none());
    }

    #[test]
    fn times_are_exact_or_rounded_up_by_less_than_a_millionth_part() {
        let times = (0..56).flat_map(|bit| {
            let power = 1_u64 << bit;
            [power - 1, power, power + 1, power + power / 3, 2 * power - 1]
        });
        for nanos in times.filter(|nanos| *nanos <= 1 << 54) {
            let read = Plan::new(Conditions::default(), 0, 0, nanos).slower_than();
            assert!(read >= nanos && read - nanos <= nanos / 1_000_000, "{nanos} became {read}");
        }
        let longest = Plan::new(Conditions::default(), 0, 0, u64::MAX).slower_than();
        assert_eq!(longest, ((1 << 24) - 1) << 31);
        assert_eq!(Plan::new(Conditions::default(), 0, 0, 1 << 60).slower_than(), longest);
        assert_eq!(Plan::new(Conditions::default(), 9, 9, u64::MAX).budget(), 9);
    }

    #[test]
    fn bits_that_are_no_conditions_are_left_out() {
        assert_eq!(Conditions::new(0xff), Conditions::new(15));
        assert!(Conditions::new(16).is_empty());
        assert!(Conditions::new(Conditions::FAILED).has(Conditions::FAILED));
    }
}
