//! The decision at the start, where a rate, caps and conditions are all there is to it: in two
//! words, which a thread keeps for each pair of names, so that most items need neither the table
//! nor its rules.
//!
//! It is the decision of `decide.rs` for an item that nobody has said anything about: no parent, no
//! sampler, no floor, and nothing about the first of a name.

use super::budget::{Budget, Class, WHOLE, budget, whole_nanos};
use super::decide::joint;
use super::plan::Plan;
use super::pressure;
use super::table::{Found, Table};

/// ```text
///   known:1 | - | budget of all:10 | budget of the rule:10 | rate:20
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quick {
    word: u64,
    /// But for the probability.
    plan: Plan,
}

const RULE_SHIFT: u32 = 20;
const ALL_SHIFT: u32 = 30;
const INDEX: u64 = 0x3ff;
const CAPPED: u64 = INDEX << RULE_SHIFT | INDEX << ALL_SHIFT;
const KNOWN: u64 = 1 << 63;

/// What an item is judged by: all of it settled before its random number is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    /// The probability of being kept by the head, in millionths.
    pub(crate) threshold: u32,
    /// Of being kept if it meets a condition at its end; 0 if there is none.
    end: u32,
    /// Of the rule's cap, and of the one over everything.
    shares: [u32; 2],
}

impl Quick {
    /// The whole decision is to be asked for.
    pub(crate) const UNKNOWN: Self = Self { word: 0, plan: Plan::NONE };

    /// What applies to items under that rule, or under none.
    pub(crate) fn of(table: &Table, found: Found) -> Self {
        let rule = match found {
            Found::Rule(index) => table.rule(index),
            Found::NoRule => None,
            Found::ByName => return Self::UNKNOWN,
        };
        let is_first = rule.is_some_and(|rule| rule.first);
        if is_first || table.sampler.is_some() || table.floors.is_some() {
            return Self::UNKNOWN;
        }
        let rate = rule.and_then(|rule| rule.rate).or(table.rate).unwrap_or(0);
        let caps = [rule.and_then(|rule| rule.cap.as_deref()), table.cap.as_deref()];
        let [of_rule, of_all] = caps.map(|cap| cap.map_or(0, |cap| cap.index()));
        let word = KNOWN
            | u64::from(rate.min(WHOLE))
            | u64::from(of_rule) << RULE_SHIFT
            | u64::from(of_all) << ALL_SHIFT;
        let plan = match rule {
            Some(rule) if !rule.conditions.is_empty() => {
                let slower_than = rule.slower_than.map_or(u64::MAX, whole_nanos);
                Plan::new(rule.conditions, 0, [of_rule, of_all], slower_than)
            }
            _ => Plan::NONE,
        };
        Self { word, plan }
    }

    #[inline]
    pub(crate) const fn is_known(self) -> bool {
        self.word & KNOWN != 0
    }

    /// Whether caps say something, too.
    #[inline]
    pub(crate) const fn is_capped(self) -> bool {
        self.word & CAPPED != 0
    }

    /// What an item is judged by at this moment.
    pub(crate) fn judge(self) -> Judged {
        if self.is_capped() { self.judge_under_caps() } else { self.judge_alone() }
    }

    /// The same where there are no caps.
    #[inline]
    pub(crate) fn judge_alone(self) -> Judged {
        let end = if self.plan.is_none() { 0 } else { WHOLE };
        Judged { threshold: self.rate(), end, shares: [WHOLE; 2] }
    }

    /// The rate that applies now.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "20 bits")]
    fn rate(self) -> u32 {
        pressure::apply(self.word as u32 & 0xf_ffff)
    }

    fn judge_under_caps(self) -> Judged {
        let rate = self.rate();
        let shares = self.shares(Class::Head);
        let end = if self.plan.is_none() { 0 } else { joint(WHOLE, self.shares(Class::End)) };
        Judged { threshold: joint(rate, shares), end, shares }
    }

    /// The plan of an item with this random number, which is to be recorded if there is one. One
    /// that cannot change anything is none.
    #[inline]
    pub(crate) const fn plan(self, judged: Judged, rand: u32) -> Plan {
        if judged.end > judged.threshold && rand < judged.end {
            self.plan.with_end(judged.end)
        } else {
            Plan::NONE
        }
    }

    /// Whether an item with this random number is to be recorded: kept by the head, or on trial.
    #[inline]
    pub(crate) const fn records(judged: Judged, rand: u32) -> bool {
        rand < judged.threshold || rand < judged.end
    }

    /// Charges the caps for an item that the head has kept.
    pub(crate) fn charge(self, judged: Judged) {
        for (cap, share) in self.caps().into_iter().zip(judged.shares) {
            if let Some(cap) = cap {
                cap.admit(Class::Head, share);
            }
        }
    }

    #[inline]
    fn shares(self, class: Class) -> [u32; 2] {
        self.caps().map(|cap| cap.map_or(WHOLE, |cap| cap.share(class)))
    }

    #[inline]
    fn caps(self) -> [Option<&'static Budget>; 2] {
        [RULE_SHIFT, ALL_SHIFT].map(|shift| budget((self.word >> shift & INDEX) as u16))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sampling::decide::{Ask, head};
    use crate::sampling::plan::Conditions;
    use crate::sampling::{Keep, Rule, Sampling};

    const OPS: [&str; 8] = [
        "half",
        "capped",
        "no rate",
        "nothing",
        "slow",
        "slow or failed",
        "all or failed",
        "no rule's",
    ];

    fn table(sampling: Sampling) -> Table {
        let table = Table::compile(sampling).unwrap();
        let rules = (0..).map_while(|index| table.rule(index)).filter_map(|rule| rule.cap.as_ref());
        // Nobody else's clock is to change them.
        rules.chain(&table.cap).for_each(|lease| lease.take_in_hand());
        table
    }

    /// By the whole decision, at this moment; of the plan, the probability.
    fn in_full(table: &Table, found: Found, rand: u32) -> (u32, bool, Plan) {
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
        (head.threshold, head.sampled, head.plan)
    }

    /// A plan but for its budgets, which are two tables' own.
    fn alike(plan: Plan) -> (bool, u32, u8, u64) {
        let conditions = plan.conditions();
        let bits = [Conditions::SLOW, Conditions::FAILED].map(|bit| u8::from(conditions.has(bit)));
        (plan.is_none(), plan.end(), bits[0] << 1 | bits[1], plan.slower_than())
    }

    /// Both decisions, each under caps of its own that began alike and are charged alike.
    #[test]
    fn says_what_the_whole_decision_says_and_charges_what_it_charges() {
        let rule = |op: &str, rate, max_per_second| Rule {
            op: Some(op.into()),
            rate,
            max_per_second,
            keep: Keep {
                failed: op.ends_with("failed"),
                slower_than: op.starts_with("slow").then(|| Duration::from_millis(1500)),
                ..Keep::default()
            },
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
                    rule("slow", Some(0.1), None),
                    rule("slow or failed", Some(0.2), Some(30.0)),
                    rule("all or failed", Some(1.0), None),
                ],
                max_per_second,
                ..Sampling::default()
            };
            let (quick, full) = (table(sampling.clone()), table(sampling));
            let (mut kept, mut planned) = (0, 0);
            for n in 0..400_u32 {
                for op in OPS {
                    let rand = n.wrapping_mul(7_919) % WHOLE * 83 % WHOLE;
                    let found = quick.by_op(op);
                    let word = Quick::of(&quick, found);
                    assert!(word.is_known());
                    let judged = word.judge();
                    let sampled = rand < judged.threshold;
                    let plan = word.plan(judged, rand);
                    if sampled {
                        kept += 1;
                        word.charge(judged);
                    }
                    planned += u32::from(!plan.is_none());
                    let (threshold, is_kept, expected) = in_full(&full, full.by_op(op), rand);
                    assert_eq!((judged.threshold, sampled), (threshold, is_kept), "{n}, {op}");
                    assert_eq!(alike(plan), alike(expected), "{n}, {op}");
                }
            }
            assert!(planned > 10, "{planned}");
            assert!(kept > 40, "{kept}");
        }
    }

    #[test]
    fn leaves_to_the_whole_decision_what_needs_it() {
        let first = Keep { first: true, ..Keep::default() };
        let ruled = |keep| {
            table(Sampling { rules: vec![Rule { keep, ..Rule::default() }], ..Sampling::default() })
        };
        let table_of_first = ruled(first);
        assert_eq!(Quick::of(&table_of_first, table_of_first.by_op("any")), Quick::UNKNOWN);
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
