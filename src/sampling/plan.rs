//! What is to be looked at when an item ends, in one word that travels with it.
//!
//! ```text
//!   conditions:4 | p_end:20 | rule's cap:10 | global cap:10 | slower than: exponent:5, mantissa:15
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

const MANTISSA_BITS: u32 = 15;
const EXPONENT_MAX: u32 = 31;
/// Times are in units of 16 ns.
const UNIT_SHIFT: u32 = 4;
const GLOBAL_SHIFT: u32 = 20;
const RULE_SHIFT: u32 = 30;
const END_SHIFT: u32 = 40;
const CONDITIONS_SHIFT: u32 = 60;

impl Plan {
    /// The record has no plan.
    pub(crate) const NONE: Self = Self(0);

    /// `end` is the probability, in millionths and above 0, with which an item is kept that meets
    /// one of the conditions; `caps` are the indices of its rule's cap and the global one, 0 for
    /// none. A time is rounded up: to 16 ns, and by less than a sixteen-thousandth part.
    pub(crate) const fn new(conditions: Conditions, end: u32, caps: [u16; 2], nanos: u64) -> Self {
        let [rule, global] = caps;
        Self(
            (conditions.0 as u64) << CONDITIONS_SHIFT
                | (end as u64 & 0xf_ffff) << END_SHIFT
                | (rule as u64 & 0x3ff) << RULE_SHIFT
                | (global as u64 & 0x3ff) << GLOBAL_SHIFT
                | short(nanos),
        )
    }

    /// The same for an item that is kept with this probability if it meets a condition.
    #[inline]
    pub(crate) const fn with_end(self, end: u32) -> Self {
        Self(self.0 & !(0xf_ffff << END_SHIFT) | (end as u64 & 0xf_ffff) << END_SHIFT)
    }

    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn conditions(self) -> Conditions {
        Conditions((self.0 >> CONDITIONS_SHIFT) as u8)
    }

    /// In millionths.
    pub(crate) const fn end(self) -> u32 {
        (self.0 >> END_SHIFT) as u32 & 0xf_ffff
    }

    /// The indices of the rule's cap and the global one, 0 for none.
    #[expect(clippy::cast_possible_truncation, reason = "ten bits each")]
    pub(crate) const fn caps(self) -> [u16; 2] {
        [(self.0 >> RULE_SHIFT) as u16 & 0x3ff, (self.0 >> GLOBAL_SHIFT) as u16 & 0x3ff]
    }

    /// The time beyond which an item is slow, in nanoseconds.
    pub(crate) const fn slower_than(self) -> u64 {
        let mantissa = self.0 & ((1 << MANTISSA_BITS) - 1);
        let exponent = self.0 >> MANTISSA_BITS & EXPONENT_MAX as u64;
        mantissa << exponent << UNIT_SHIFT
    }
}

/// Nanoseconds in 20 bits, rounded up; 13 days are the longest.
const fn short(nanos: u64) -> u64 {
    let units = nanos.div_ceil(1 << UNIT_SHIFT);
    let bits = u64::BITS - units.leading_zeros();
    let mut exponent = bits.saturating_sub(MANTISSA_BITS);
    let mut mantissa = units.div_ceil(1 << exponent);
    if mantissa >> MANTISSA_BITS != 0 {
        mantissa >>= 1;
        exponent += 1;
    }
    if exponent > EXPONENT_MAX {
        return (1 << GLOBAL_SHIFT) - 1;
    }
    (exponent as u64) << MANTISSA_BITS | mantissa
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_holds_what_was_put_in() {
        for conditions in 0..16 {
            for (end, caps) in
                [(1, [0, 0]), (1_000_000, [1023, 1023]), (123_456, [1, 0]), (524_288, [0, 512])]
            {
                let conditions = Conditions::new(conditions);
                let plan = Plan::new(conditions, end, caps, 80_000);
                assert!(!plan.is_none());
                assert_eq!(plan.conditions(), conditions);
                assert_eq!((plan.end(), plan.caps()), (end, caps));
                assert_eq!(plan.slower_than(), 80_000);
            }
        }
        assert!(Plan::NONE.is_none());
    }

    #[test]
    fn times_are_rounded_up_and_by_little() {
        let times = (0..51).flat_map(|bit| {
            let power = 1_u64 << bit;
            [power - 1, power, power + 1, power + power / 3, 2 * power - 1]
        });
        let longest = ((1 << 15) - 1) << 35;
        for nanos in times.filter(|nanos| *nanos <= longest) {
            let read = Plan::new(Conditions::default(), 1, [0, 0], nanos).slower_than();
            let most = (nanos / 16_384).max(15);
            assert!(read >= nanos && read - nanos <= most, "{nanos} became {read}");
        }
        for nanos in [longest + 1, 1 << 60, u64::MAX] {
            let plan = Plan::new(Conditions::default(), 1, [9, 8], nanos);
            assert_eq!((plan.slower_than(), plan.caps()), (longest, [9, 8]));
        }
    }

    #[test]
    fn bits_that_are_no_conditions_are_left_out() {
        assert_eq!(Conditions::new(0xff), Conditions::new(15));
        assert!(Conditions::new(16).is_empty());
        assert!(Conditions::new(Conditions::FAILED).has(Conditions::FAILED));
    }
}
