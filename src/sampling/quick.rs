//! The decision at the start, where a rate and caps are all there is to it: in one word, which a
//! thread keeps for each pair of names, so that most items need neither the table nor its rules.
//!
//! It is the decision of `decide.rs` for an item that nobody has said anything about: no parent, no
//! sampler, no floor, no plan.

use super::budget::{Budget, Class, WHOLE, budget};
use super::decide::joint;
use super::pressure;
use super::table::{Found, Table};

/// ```text
///   known:1 | - | budget of all:10 | budget of the rule:10 | rate:20
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quick(u64);

const RULE_SHIFT: u32 = 20;
const ALL_SHIFT: u32 = 30;
const INDEX: u64 = 0x3ff;
const CAPPED: u64 = INDEX << RULE_SHIFT | INDEX << ALL_SHIFT;
const KNOWN: u64 = 1 << 63;

/// What an item was judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    /// In millionths, under caps and pressure.
    pub(crate) threshold: u32,
    /// Of the rule's cap, and of the one over everything.
    shares: [u32; 2],
}

impl Quick {
    /// The whole decision is to be asked for.
    pub(crate) const UNKNOWN: Self = Self(0);

    /// What applies to items under that rule, or under none.
    pub(crate) fn of(table: &Table, found: Found) -> Self {
        let rule = match found {
            Found::Rule(index) => table.rule(index),
            Found::NoRule => None,
            Found::ByName => return Self::UNKNOWN,
        };
        let is_more = rule.is_some_and(|rule| rule.first || !rule.conditions.is_empty());
        if is_more || table.sampler.is_some() || table.floors.is_some() {
            return Self::UNKNOWN;
        }
        let rate = rule.and_then(|rule| rule.rate).or(table.rate).unwrap_or(0);
        let of_rule = rule.and_then(|rule| rule.cap.as_deref()).map_or(0, |cap| cap.index());
        let of_all = table.cap.as_deref().map_or(0, |cap| cap.index());
        Self(
            KNOWN
                | u64::from(rate.min(WHOLE))
                | u64::from(of_rule) << RULE_SHIFT
                | u64::from(of_all) << ALL_SHIFT,
        )
    }

    #[inline]
    pub(crate) const fn is_known(self) -> bool {
        self.0 & KNOWN != 0
    }

    /// What an item is kept below at this moment.
    #[inline]
    pub(crate) fn judge(self) -> Judged {
        #[expect(clippy::cast_possible_truncation, reason = "20 bits")]
        let rate = pressure::apply(self.0 as u32 & 0xf_ffff);
        if self.0 & CAPPED == 0 {
            return Judged { threshold: rate, shares: [WHOLE; 2] };
        }
        let shares = self.caps().map(|cap| cap.map_or(WHOLE, |cap| cap.share(Class::Head)));
        Judged { threshold: joint(rate, shares), shares }
    }

    /// Charges the caps for an item that was kept.
    #[inline]
    pub(crate) fn charge(self, judged: Judged) {
        if self.0 & CAPPED != 0 {
            self.charge_caps(judged);
        }
    }

    #[cold]
    fn charge_caps(self, judged: Judged) {
        for (cap, share) in self.caps().into_iter().zip(judged.shares) {
            if let Some(cap) = cap {
                cap.admit(Class::Head, share);
            }
        }
    }

    #[inline]
    fn caps(self) -> [Option<&'static Budget>; 2] {
        [RULE_SHIFT, ALL_SHIFT].map(|shift| budget((self.0 >> shift & INDEX) as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::decide::{Ask, head};
    use crate::sampling::{Keep, Rule, Sampling};

    fn table(sampling: Sampling) -> Table {
        let table = Table::compile(sampling).unwrap();
        let rules = (0..).map_while(|index| table.rule(index)).filter_map(|rule| rule.cap.as_ref());
        // Nobody else's clock is to change them.
        rules.chain(&table.cap).for_each(|lease| lease.take_in_hand());
        table
    }

    /// By the whole decision, at this moment.
    fn in_full(table: &Table, found: Found, rand: u32) -> (u32, bool) {
        let rule = match found {
            Found::Rule(index) => table.rule(index),
            _ => None,
        };
        let head = head(&Ask {
            explicit: None,
            sampler: None,
            parent: None,
            parent_rate: None,
            rand,
            rate: table.rate.unwrap_or(0),
            rule,
            cap: table.cap.as_deref(),
            floor: None,
            pressure: 0,
            first: false,
        });
        (head.threshold, head.sampled)
    }

    /// Both decisions, each under caps of its own that began alike and are charged alike.
    #[test]
    fn says_what_the_whole_decision_says_and_charges_what_it_charges() {
        let rule = |op: &str, rate, max_per_second| Rule {
            op: Some(op.into()),
            rate,
            max_per_second,
            ..Rule::default()
        };
        for max_per_second in [None, Some(40.0)] {
            let sampling = Sampling {
                traces_sample_rate: Some(0.9),
                rules: vec![
                    rule("half", Some(0.5), None),
                    rule("capped", Some(0.7), Some(20.0)),
                    rule("no rate", None, Some(100.0)),
                    rule("nothing", Some(0.0), Some(1.0)),
                ],
                max_per_second,
                ..Sampling::default()
            };
            let (quick, full) = (table(sampling.clone()), table(sampling));
            let mut kept = 0;
            for n in 0..400_u32 {
                for op in ["half", "capped", "no rate", "nothing", "other"] {
                    let rand = n.wrapping_mul(7_919) % WHOLE * 83 % WHOLE;
                    let found = quick.by_op(op);
                    let word = Quick::of(&quick, found);
                    assert!(word.is_known());
                    let judged = word.judge();
                    let sampled = rand < judged.threshold;
                    if sampled {
                        kept += 1;
                        word.charge(judged);
                    }
                    let expected = in_full(&full, full.by_op(op), rand);
                    assert_eq!((judged.threshold, sampled), expected, "item {n}, {op}");
                }
            }
            assert!(kept > 40, "{kept}");
        }
    }

    #[test]
    fn leaves_to_the_whole_decision_what_needs_it() {
        let keep = Keep { failed: true, ..Keep::default() };
        let first = Keep { first: true, ..Keep::default() };
        let ruled = |keep| {
            table(Sampling { rules: vec![Rule { keep, ..Rule::default() }], ..Sampling::default() })
        };
        for keep in [keep, first] {
            let table = ruled(keep);
            assert_eq!(Quick::of(&table, table.by_op("any")), Quick::UNKNOWN);
        }
        for sampling in [
            Sampling { floor_per_second: Some(1.0), ..Sampling::default() },
            Sampling { traces_sampler: Some(std::sync::Arc::new(|_| 0.5)), ..Sampling::default() },
        ] {
            let table = table(sampling);
            assert_eq!(Quick::of(&table, Found::NoRule), Quick::UNKNOWN);
        }
        let table = ruled(Keep::default());
        assert!(Quick::of(&table, table.by_op("any")).is_known());
        assert!(!Quick::of(&table, Found::ByName).is_known());
        assert!(!Quick::UNKNOWN.is_known());
    }
}
