//! [`Table`]: rules, checked and compiled once, looked up many times.
//!
//! ```text
//!   exact ──► op ──► Names        a rule whose op is a text
//!   loose ──► [ (pattern, Names), .. ]   the others: one place for each pattern, in the order of
//!                                        the first rule of each
//!   Names:  exact ──► name ──► rule;  loose: [ (pattern, rule), .. ] in order
//! ```
//!
//! The first rule of the list that matches applies. So what is looked for is the lowest index: the
//! exact op gives one by two hashes, and of the loose places those that begin later than what is
//! found already are not tried.
//!
//! A table holds its caps' places among the budgets. Where a table takes the place of another
//! ([`Table::compile_after`]), rules that stayed the same keep theirs, with what they have counted.
//!
//! # Invariants
//! * T1: every index in a table is one of `compiled`, which has at most [`RULES_MAX`].
//! * T2: no two tables of a process have the same number, and none has 0.
//!
//! # Costs
//! `by_op` hashes the op once; each loose op pattern before the rule found costs a match. `by_name`
//! hashes the name for each place whose op matches. Nothing allocates.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::atomic::AtomicCell;

use super::budget::Lease;
use super::error::RuleError;
use super::floors::Floors;
use super::millionths;
use super::pattern::Pattern;
use super::plan::Conditions;
use super::rule::{Keep, Parent, Rule, Sampling, TracesSampler};

/// Rules there can be.
const RULES_MAX: usize = 1000;
/// Bytes of an id.
const ID_MAX: usize = 200;
/// What a cap or a floor can be at most, in transactions per second.
const PER_SECOND_MAX: f64 = 1e9;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

type Map<V> = HashMap<Box<str>, V, foldhash::fast::RandomState>;

/// Everything that decides what is kept, as of one moment.
pub(crate) struct Table {
    /// T2.
    pub(crate) number: u64,
    /// The number of the table that was the first of those that took each other's places.
    pub(crate) session: u64,
    /// What it was made from.
    pub(crate) source: Sampling,
    /// In millionths.
    pub(crate) rate: Option<u32>,
    pub(crate) sampler: Option<TracesSampler>,
    /// Of all rules together.
    pub(crate) cap: Option<Arc<Lease>>,
    pub(crate) floors: Option<Arc<Floors>>,
    compiled: Vec<Compiled>,
    exact: Map<Names>,
    loose: Vec<(Pattern, Names)>,
}

/// One rule.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    /// In millionths; `None`: the table's.
    pub(crate) rate: Option<u32>,
    pub(crate) follows_parent: bool,
    pub(crate) cap: Option<Arc<Lease>>,
    pub(crate) first: bool,
    pub(crate) conditions: Conditions,
    pub(crate) slower_than: Option<Duration>,
}

/// Which rule applies, as far as the op says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This, whatever the name.
    Rule(u16),
    /// None, whatever the name.
    NoRule,
    /// It depends on the name: ask [`Table::by_name`].
    ByName,
}

/// The rules with one op pattern.
#[derive(Default)]
struct Names {
    /// The first of them.
    first: u16,
    exact: Map<u16>,
    /// In order.
    loose: Vec<(Pattern, u16)>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Table {
    pub(crate) fn compile(sampling: Sampling) -> Result<Self, RuleError> {
        Self::build(sampling, None)
    }

    /// The end of the number: what the settings say of a table. It comes again after a million
    /// tables; a thread that has seen no item of some names all that time takes this for the old
    /// one.
    #[expect(clippy::cast_possible_truncation, reason = "20 bits")]
    pub(crate) const fn tag(&self) -> u32 {
        self.number as u32 & 0xf_ffff
    }

    /// Whether the rate is all there is to it.
    pub(crate) fn is_plain(&self) -> bool {
        self.compiled.is_empty()
            && self.sampler.is_none()
            && self.cap.is_none()
            && self.floors.is_none()
    }

    /// The table that takes the place of `before`: caps and floors that stay as they were go on
    /// counting, rather than from anew.
    pub(crate) fn compile_after(sampling: Sampling, before: &Self) -> Result<Self, RuleError> {
        Self::build(sampling, Some(before))
    }

    fn build(sampling: Sampling, before: Option<&Self>) -> Result<Self, RuleError> {
        let rate = check_rate("traces_sample_rate", sampling.traces_sample_rate)?;
        check_per_second("max_per_second", sampling.max_per_second)?;
        check_per_second("floor_per_second", sampling.floor_per_second)?;
        if sampling.rules.len() > RULES_MAX {
            return Err(RuleError::out_of_range("rules", "expected at most 1000"));
        }
        let patterns = check_rules(&sampling.rules)?;
        let number = NUMBER.fetch_add(1);
        let mut table = Self {
            number,
            session: before.map_or(number, |before| before.session),
            rate,
            sampler: sampling.traces_sampler.clone(),
            cap: None,
            floors: None,
            compiled: Vec::with_capacity(sampling.rules.len()),
            exact: Map::default(),
            loose: Vec::new(),
            source: sampling,
        };
        table.take_places(before)?;
        for (index, (op, name)) in (0..).zip(patterns) {
            table.add(index, op, name);
        }
        Ok(table)
    }

    /// Compiles the rules, all of which are right, with a place for each cap.
    fn take_places(&mut self, before: Option<&Self>) -> Result<(), RuleError> {
        let lease = |per_second: Option<f64>, earlier: Option<&Arc<Lease>>| match per_second {
            None => Ok(None),
            Some(per_second) => match earlier {
                Some(earlier) => Ok(Some(Arc::clone(earlier))),
                None => Lease::new(per_second).map(|lease| Some(Arc::new(lease))).ok_or(NO_PLACE),
            },
        };
        let no_place = |right: &'static str| RuleError::new("max_per_second", right);
        let cap = self.source.max_per_second;
        let earlier = before.filter(|before| before.source.max_per_second == cap);
        self.cap = lease(cap, earlier.and_then(|it| it.cap.as_ref())).map_err(no_place)?;
        let floor = self.source.floor_per_second;
        let earlier = before.filter(|before| before.source.floor_per_second == floor);
        self.floors = floor.map(|per_second| {
            let earlier = earlier.and_then(|it| it.floors.clone());
            earlier.unwrap_or_else(|| Arc::new(Floors::new(per_second)))
        });

        let earlier = before.map(Self::caps).unwrap_or_default();
        for (index, rule) in self.source.rules.iter().enumerate() {
            let earlier = Cap::of(rule).and_then(|cap| earlier.get(&cap));
            let cap = lease(rule.max_per_second, earlier.copied())
                .map_err(|right| no_place(right).in_rule(index, rule.id.as_deref()))?;
            self.compiled.push(Compiled {
                rate: rule.rate.and_then(millionths),
                follows_parent: rule.parent == Parent::Follow,
                cap,
                first: rule.keep.first,
                conditions: conditions(&rule.keep),
                slower_than: rule.keep.slower_than,
            });
        }
        Ok(())
    }

    /// The caps of the rules, by what makes two of them the same.
    fn caps(&self) -> HashMap<Cap<'_>, &Arc<Lease>, foldhash::fast::RandomState> {
        let pairs = self.source.rules.iter().zip(&self.compiled);
        pairs.filter_map(|(rule, it)| Some((Cap::of(rule)?, it.cap.as_ref()?))).collect()
    }

    fn add(&mut self, index: u16, op: Pattern, name: Pattern) {
        let names = match op {
            Pattern::Exact(op) => self.exact.entry(op).or_insert_with(|| Names::new(index)),
            op => {
                let found = self.loose.iter().position(|(pattern, _)| *pattern == op);
                let at = found.unwrap_or_else(|| {
                    self.loose.push((op, Names::new(index)));
                    self.loose.len() - 1
                });
                let Some((_, names)) = self.loose.get_mut(at) else { return };
                names
            }
        };
        match name {
            // No earlier rule has it: that would be an error.
            Pattern::Exact(name) => {
                names.exact.insert(name, index);
            }
            name => names.loose.push((name, index)),
        }
    }

    /// Which rule applies to this op; [`Found::ByName`] when the name has a say.
    pub(crate) fn by_op(&self, op: &str) -> Found {
        let mut found = self.exact.get(op);
        let mut first = found.map_or(u16::MAX, |names| names.first);
        for (pattern, names) in &self.loose {
            if names.first >= first {
                break;
            }
            if pattern.matches(op) {
                (found, first) = (Some(names), names.first);
            }
        }
        match found.map(|names| names.loose.first()) {
            None => Found::NoRule,
            Some(Some((Pattern::Any, index))) if *index == first => Found::Rule(*index),
            Some(_) => Found::ByName,
        }
    }

    /// Which rule applies to this op and name.
    pub(crate) fn by_name(&self, op: &str, name: &str) -> Option<u16> {
        let mut found = self.exact.get(op).and_then(|names| names.find(name, u16::MAX));
        for (pattern, names) in &self.loose {
            let before = found.unwrap_or(u16::MAX);
            if names.first >= before {
                break;
            }
            if pattern.matches(op) {
                found = names.find(name, before).or(found);
            }
        }
        found
    }

    pub(crate) fn rule(&self, index: u16) -> Option<&Compiled> {
        self.compiled.get(usize::from(index))
    }
}

impl Names {
    fn new(first: u16) -> Self {
        Self { first, ..Self::default() }
    }

    /// The first that matches, if it comes before this one.
    fn find(&self, name: &str, before: u16) -> Option<u16> {
        let exact = self.exact.get(name).copied().filter(|index| *index < before);
        let before = exact.unwrap_or(before);
        let earlier = self.loose.iter().take_while(|(_, index)| *index < before);
        earlier.into_iter().find(|(pattern, _)| pattern.matches(name)).map(|it| it.1).or(exact)
    }
}

/// What makes the cap of a rule the same as one in the table before: the same items, as many.
#[derive(PartialEq, Eq, Hash)]
struct Cap<'a> {
    op: Option<&'a str>,
    name: Option<&'a str>,
    per_second_bits: u64,
}

impl<'a> Cap<'a> {
    fn of(rule: &'a Rule) -> Option<Self> {
        let per_second_bits = rule.max_per_second?.to_bits();
        Some(Self { op: rule.op.as_deref(), name: rule.name.as_deref(), per_second_bits })
    }
}

fn conditions(keep: &Keep) -> Conditions {
    let bit = |on: bool, bit: u8| if on { bit } else { 0 };
    Conditions::new(
        bit(keep.slower_than.is_some(), Conditions::SLOW)
            | bit(keep.slower_than_p99, Conditions::P99)
            | bit(keep.failed, Conditions::FAILED)
            | bit(keep.asked, Conditions::ASKED),
    )
}

/// The patterns of op and name of each rule.
fn check_rules(rules: &[Rule]) -> Result<Vec<(Pattern, Pattern)>, RuleError> {
    let mut patterns: Vec<(Pattern, Pattern)> = Vec::with_capacity(rules.len());
    for (index, rule) in rules.iter().enumerate() {
        let (op, name) =
            check_rule(rule).map_err(|error| error.in_rule(index, rule.id.as_deref()))?;
        let covers = |(earlier_op, earlier_name): &(Pattern, Pattern)| {
            earlier_op.covers(&op) && earlier_name.covers(&name)
        };
        if let Some(earlier) = patterns.iter().position(covers) {
            let id = rules.get(earlier).and_then(|rule| rule.id.as_deref());
            return Err(RuleError::never_reached(earlier, id).in_rule(index, rule.id.as_deref()));
        }
        patterns.push((op, name));
    }
    Ok(patterns)
}

fn check_rule(rule: &Rule) -> Result<(Pattern, Pattern), RuleError> {
    if rule.id.as_ref().is_some_and(|id| id.len() > ID_MAX) {
        return Err(RuleError::new("id", "expected a text of at most 200 bytes"));
    }
    let pattern = |field: &'static str, text: &Option<String>| match text {
        None => Ok(Pattern::Any),
        Some(text) => {
            Pattern::parse(text).map_err(|mistake| RuleError::new(field, mistake.as_str()))
        }
    };
    let op = pattern("op", &rule.op)?;
    let name = pattern("name", &rule.name)?;
    check_rate("rate", rule.rate)?;
    check_per_second("max_per_second", rule.max_per_second)?;
    if rule.keep.slower_than.is_some_and(|time| time.is_zero() || time > DAY) {
        let right = "expected more than 0 s, at most 1 day";
        return Err(RuleError::out_of_range("keep.slower_than", right));
    }
    Ok((op, name))
}

/// In millionths.
fn check_rate(field: &'static str, rate: Option<f64>) -> Result<Option<u32>, RuleError> {
    let checked = |rate| {
        millionths(rate)
            .ok_or_else(|| RuleError::out_of_range(field, "expected a number from 0 to 1"))
    };
    rate.map(checked).transpose()
}

fn check_per_second(field: &'static str, per_second: Option<f64>) -> Result<(), RuleError> {
    match per_second {
        Some(it) if !(it > 0.0 && it <= PER_SECOND_MAX) => {
            let right = "expected a number above 0, at most 1000000000";
            Err(RuleError::out_of_range(field, right))
        }
        _ => Ok(()),
    }
}

/// Budgets are few; a table that is no longer in force gives its own back when nobody holds it.
const NO_PLACE: &str = "there are too many caps at the same time";

/// The number of the next table.
static NUMBER: AtomicCell<u64> = AtomicCell::new(1);

#[cfg(test)]
mod tests;
