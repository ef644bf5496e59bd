//! Whether an item is kept: two functions, one for its start and one for its end.
//!
//! A trace has one random number. Every way to be kept is a threshold, and the item is kept if its
//! number lies below the highest of them:
//!
//! ```text
//!   0 ........ threshold of the head ........ threshold of the end ........ 999,999
//!   kept anyway                 kept if it meets a condition      never kept
//! ```
//!
//! So the threshold is the probability with which the item was kept, whichever way it was, and
//! that is the rate it carries. Each threshold is settled before the random number is looked at,
//! from the past and from what the item is; that makes the sum of one over the rates an estimate
//! without bias.
//!
//! # Limits
//! Items that share a trace share its number. Under a cap, the second one is judged by a share that
//! the first one may have lowered: among items of one trace the estimate is nearly unbiased, no
//! more.

use super::budget::{Budget, Class, Lease, WHOLE, budget};
use super::history;
use super::plan::{Conditions, Plan};
use super::pressure;
use super::table::Compiled;

/// What the decision at the start depends on. Rates are in millionths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// What the caller said.
    pub(crate) explicit: Option<bool>,
    /// What the sampler said; `None` also when it panicked.
    pub(crate) sampler: Option<u32>,
    /// What the trace that is continued says, and the rate it was decided with.
    pub(crate) parent: Option<bool>,
    pub(crate) parent_rate: Option<u32>,
    /// The trace's `sample_rand`.
    pub(crate) rand: u32,
    /// For what no rule has a rate for.
    pub(crate) rate: u32,
    pub(crate) rule: Option<&'a Compiled>,
    /// The global one.
    pub(crate) cap: Option<&'a Budget>,
    /// The op's.
    pub(crate) floor: Option<&'a Budget>,
    pub(crate) pressure: u32,
    /// The first of its name, if the rule wants to know.
    pub(crate) first: bool,
}

/// The decision at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The probability of being kept by now, in millionths.
    pub(crate) threshold: u32,
    /// Kept, whatever the end is like.
    pub(crate) sampled: bool,
    /// What to do at the end, if that can change anything: an item that is not sampled and has a
    /// plan is recorded on trial.
    pub(crate) plan: Plan,
    /// [`Why::Head`] or [`Why::First`].
    pub(crate) why: Why,
}

/// What the decision at the end depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) nanos: u64,
    pub(crate) failed: bool,
    /// What code asked for: to keep it, or to discard it.
    pub(crate) asked: Option<bool>,
    pub(crate) name: u32,
    /// 32 bits or more that have nothing to do with `sample_rand`.
    pub(crate) random: u64,
}

/// The decision at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) kept: bool,
    /// The probability of being kept, in millionths.
    pub(crate) threshold: u32,
    /// The way that the threshold is of.
    pub(crate) why: Why,
}

/// The way to be kept that had the highest threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Why {
    /// Rate, cap and floor; or the caller, the sampler, the parent.
    #[default]
    Head = 0,
    Slow = 1,
    P99 = 2,
    Failed = 3,
    First = 4,
    Asked = 5,
}

impl Why {
    /// From what stands in a record; what is unknown is [`Why::Head`].
    pub(crate) const fn of(code: u8) -> Self {
        match code {
            1 => Self::Slow,
            2 => Self::P99,
            3 => Self::Failed,
            4 => Self::First,
            5 => Self::Asked,
            _ => Self::Head,
        }
    }

    /// The value of `hotspan.kept`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Slow => "slow",
            Self::P99 => "slow_p99",
            Self::Failed => "failed",
            Self::First => "first",
            Self::Asked => "asked",
        }
    }
}

/// Decides at the start, and charges what is admitted.
pub(crate) fn head(ask: &Ask<'_>) -> Head {
    if let Some(sampled) = ask.explicit {
        let threshold = if sampled { WHOLE } else { 0 };
        return Head { threshold, sampled, plan: Plan::NONE, why: Why::Head };
    }
    let rule_cap = ask.rule.and_then(|rule| rule.cap.as_deref());
    let caps = [rule_cap.map(Lease::budget), ask.cap];
    let shares = |class| caps.map(|cap| cap.map_or(WHOLE, |cap| cap.share(class)));

    let (rate, is_refused) = rate(ask);
    let head_shares = shares(Class::Head);
    let capped = joint(pressure::lowered(rate, ask.pressure), head_shares);
    let floor = ask.floor.filter(|_| !is_refused);
    let floored = capped.max(floor.map_or(0, |floor| floor.share(Class::Head)));

    let conditions = ask.rule.map_or_else(Conditions::default, |rule| rule.conditions);
    let is_first = ask.first && ask.rule.is_some_and(|rule| rule.first);
    let (end, end_shares) = if is_first || !conditions.is_empty() {
        let end_shares = shares(Class::End);
        (joint(WHOLE, end_shares), end_shares)
    } else {
        (0, [WHOLE; 2])
    };
    let threshold = if is_first { floored.max(end) } else { floored };
    let why = if threshold > floored { Why::First } else { Why::Head };

    // All thresholds are settled. From here on the random number is looked at.
    let sampled = ask.rand < threshold;
    if sampled {
        for ((cap, head), end) in caps.into_iter().zip(head_shares).zip(end_shares) {
            let Some(cap) = cap else { continue };
            if ask.rand < capped {
                cap.admit(Class::Head, head);
            } else if ask.rand < floored {
                cap.spend();
            } else {
                cap.admit(Class::End, end);
            }
        }
        if let Some(floor) = floor {
            floor.admit(Class::Head, threshold);
        }
    }
    // A plan that cannot change anything is none: what is not kept by any end is not recorded.
    let plan = match ask.rule {
        Some(rule) if !conditions.is_empty() && end > threshold && ask.rand < end => {
            let slower_than = rule.slower_than.map_or(u64::MAX, super::budget::whole_nanos);
            Plan::new(conditions, end, rule_cap.map_or(0, Lease::index), slower_than)
        }
        _ => Plan::NONE,
    };
    Head { threshold, sampled, plan, why }
}

/// The rate before pressure and caps, and whether the parent has refused the item.
fn rate(ask: &Ask<'_>) -> (u32, bool) {
    let follows = ask.rule.is_none_or(|rule| rule.follows_parent);
    let rate = match (ask.sampler, ask.parent.filter(|_| follows)) {
        (Some(rate), _) => rate,
        (None, Some(false)) => return (0, true),
        // A parent whose numbers contradict its decision is followed in the decision.
        (None, Some(true)) => ask.parent_rate.unwrap_or(WHOLE).max(ask.rand + 1),
        (None, None) => ask.rule.and_then(|rule| rule.rate).unwrap_or(ask.rate),
    };
    (rate.min(WHOLE), false)
}

/// A rate under two shares; what is open at all stays open by one millionth.
#[expect(clippy::cast_possible_truncation, reason = "at most the rate")]
fn joint(rate: u32, [rule, global]: [u32; 2]) -> u32 {
    if rate == 0 {
        return 0;
    }
    let whole = u64::from(WHOLE);
    let product = u64::from(rate) * u64::from(rule) * u64::from(global) / (whole * whole);
    (product as u32).max(1)
}

/// Decides at the end of an item that has a plan, or that code has asked to keep or to discard; and
/// charges what is kept only now. `head` is the threshold that the head has given it.
pub(crate) fn end(plan: Plan, head: u32, rand: u32, global_cap: Option<u16>, facts: &Facts) -> End {
    if facts.asked == Some(false) {
        return End { kept: false, threshold: head, why: Why::Head };
    }
    let met = met(plan, facts).filter(|_| plan.end() > head);
    let (threshold, why) = met.map_or((head, Why::Head), |why| (plan.end(), why));
    let kept = rand < threshold;
    if kept && rand >= head {
        let caps = [budget(plan.budget()), global_cap.and_then(budget)];
        for cap in caps.into_iter().flatten() {
            cap.admit(Class::End, cap.share(Class::End));
        }
    }
    End { kept, threshold, why }
}

/// The condition that an item meets; the one that says most, if there are several.
fn met(plan: Plan, facts: &Facts) -> Option<Why> {
    let conditions = plan.conditions();
    // Asked in any case: the estimate is to know all times, not only those of what succeeds.
    let is_p99 =
        conditions.has(Conditions::P99) && history::is_slow(facts.name, facts.nanos, facts.random);
    if conditions.has(Conditions::ASKED) && facts.asked == Some(true) {
        Some(Why::Asked)
    } else if conditions.has(Conditions::FAILED) && facts.failed {
        Some(Why::Failed)
    } else if conditions.has(Conditions::SLOW) && facts.nanos > plan.slower_than() {
        Some(Why::Slow)
    } else if is_p99 {
        Some(Why::P99)
    } else {
        None
    }
}
