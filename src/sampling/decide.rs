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

use super::budget::{Budget, Class, Lease, WHOLE, budget, whole_nanos};
use super::history::{HISTORY, History};
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
    pub(crate) cap: Option<&'a Lease>,
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
    /// The parent has decided it, and the rate that the trace came with is the probability still.
    pub(crate) by_parent: bool,
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
        return Head { threshold, sampled, by_parent: false, plan: Plan::NONE, why: Why::Head };
    }
    settle(ask).draw(ask)
}

/// Everything that is settled before the random number is looked at.
#[derive(Clone, Copy, Debug)]
struct Settled {
    /// The rate under pressure and caps.
    capped: u32,
    /// That, or the floor.
    floored: u32,
    /// The probability of being kept by the head.
    threshold: u32,
    /// The probability of being kept at the end; 0 if there is nothing to be met.
    end: u32,
    head_shares: [u32; 2],
    end_shares: [u32; 2],
    /// The parent's decision and rate stand.
    by_parent: bool,
    is_refused: bool,
}

/// The lease of the rule's cap, and of the global one.
fn leases<'a>(ask: &Ask<'a>) -> [Option<&'a Lease>; 2] {
    [ask.rule.and_then(|rule| rule.cap.as_deref()), ask.cap]
}

fn settle(ask: &Ask<'_>) -> Settled {
    let caps = leases(ask);
    let shares = |class| caps.map(|cap| cap.map_or(WHOLE, |cap| cap.budget().share(class)));
    let rate = rate(ask);
    let is_refused = rate == Rate::Parent(0);
    let head_shares = shares(Class::Head);
    let capped = joint(pressure::lowered(rate.get(), ask.pressure), head_shares);
    let most = match rate {
        // What the parent has left out cannot be had here.
        Rate::Parent(rate) => rate,
        Rate::Own(_) if is_shut(ask) => 0,
        Rate::Own(_) => WHOLE,
    };
    let floor = ask.floor.map_or(0, |floor| floor.share(Class::Head).min(most));
    let floored = capped.max(floor);

    let is_first = ask.first && ask.rule.is_some_and(|rule| rule.first);
    let has_end = is_first || ask.rule.is_some_and(|rule| !rule.conditions.is_empty());
    let end_shares = if has_end { shares(Class::End) } else { [WHOLE; 2] };
    let end = if has_end { joint(WHOLE, end_shares) } else { 0 };
    let threshold = if is_first { floored.max(end) } else { floored };
    let by_parent = rate == Rate::Parent(threshold);
    Settled { capped, floored, threshold, end, head_shares, end_shares, by_parent, is_refused }
}

impl Settled {
    fn draw(&self, ask: &Ask<'_>) -> Head {
        let sampled = ask.rand < self.threshold;
        if sampled {
            self.charge(ask);
        }
        // A plan that cannot change anything is none: what no end could keep is not recorded.
        let plan = match ask.rule {
            Some(rule)
                if !rule.conditions.is_empty()
                    && self.end > self.threshold
                    && ask.rand < self.end =>
            {
                let slower_than = rule.slower_than.map_or(u64::MAX, whole_nanos);
                let caps = leases(ask).map(|lease| lease.map_or(0, Lease::index));
                Plan::new(rule.conditions, self.end, caps, slower_than)
            }
            _ => Plan::NONE,
        };
        let why = if self.threshold > self.floored { Why::First } else { Why::Head };
        Head { threshold: self.threshold, sampled, by_parent: self.by_parent, plan, why }
    }

    fn charge(&self, ask: &Ask<'_>) {
        let shares = self.head_shares.into_iter().zip(self.end_shares);
        for (cap, (head, end)) in leases(ask).into_iter().zip(shares) {
            let Some(cap) = cap.map(Lease::budget) else { continue };
            if ask.rand < self.capped {
                cap.admit(Class::Head, head);
            } else if ask.rand < self.floored {
                cap.spend();
            } else {
                cap.admit(Class::End, end);
            }
        }
        if let Some(floor) = ask.floor.filter(|_| !self.is_refused) {
            floor.admit(Class::Head, self.threshold);
        }
    }
}

/// A rate before pressure and caps, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rate {
    Own(u32),
    Parent(u32),
}

impl Rate {
    const fn get(self) -> u32 {
        let (Self::Own(rate) | Self::Parent(rate)) = self;
        rate
    }
}

fn rate(ask: &Ask<'_>) -> Rate {
    if let Some(rate) = ask.sampler {
        return Rate::Own(rate.min(WHOLE));
    }
    let follows = ask.rule.is_none_or(|rule| rule.follows_parent);
    match ask.parent.filter(|_| follows) {
        Some(false) => Rate::Parent(0),
        // A parent whose numbers contradict its decision is followed in the decision.
        Some(true) => {
            let rate = ask.parent_rate.unwrap_or(WHOLE).max(ask.rand.saturating_add(1));
            Rate::Parent(rate.min(WHOLE))
        }
        None => Rate::Own(ask.rule.and_then(|rule| rule.rate).unwrap_or(ask.rate).min(WHOLE)),
    }
}

/// Whether the sampler, or the rule, wants none of these: no floor lifts that.
fn is_shut(ask: &Ask<'_>) -> bool {
    ask.sampler.or_else(|| ask.rule?.rate) == Some(0)
}

/// A rate under two shares; what is open at all stays open by one millionth.
#[expect(clippy::cast_possible_truncation, reason = "at most the rate")]
pub(super) fn joint(rate: u32, [rule, global]: [u32; 2]) -> u32 {
    if rate == 0 {
        return 0;
    }
    let whole = u64::from(WHOLE);
    let product = u64::from(rate) * u64::from(rule) * u64::from(global) / (whole * whole);
    (product as u32).max(1)
}

/// Decides at the end of an item that has a plan, or that code has asked to keep or to discard; and
/// charges what is kept only now. `head` is the threshold that the head has given it.
pub(crate) fn end(plan: Plan, head: u32, rand: u32, facts: &Facts) -> End {
    end_by(&HISTORY, plan, head, rand, facts)
}

fn end_by(history: &History, plan: Plan, head: u32, rand: u32, facts: &Facts) -> End {
    if facts.asked == Some(false) {
        return End { kept: false, threshold: head, why: Why::Head };
    }
    let met = met(history, plan, facts).filter(|_| plan.end() > head);
    let (threshold, why) = met.map_or((head, Why::Head), |why| (plan.end(), why));
    let kept = rand < threshold;
    if kept && rand >= head {
        for cap in plan.caps().into_iter().filter_map(budget) {
            cap.admit(Class::End, cap.share(Class::End));
        }
    }
    End { kept, threshold, why }
}

/// The condition that an item meets; the one that says most, if there are several.
fn met(history: &History, plan: Plan, facts: &Facts) -> Option<Why> {
    let conditions = plan.conditions();
    // Asked in any case: the estimate is to know all times, not only those of what succeeds.
    let is_p99 =
        conditions.has(Conditions::P99) && history.is_slow(facts.name, facts.nanos, facts.random);
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

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
