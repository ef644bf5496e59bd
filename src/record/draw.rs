//! Whether a transaction is kept, where one threshold does not say it: rules, a sampler, a trace
//! that is continued, or a decision of the caller's own.
//!
//! The decision itself is a pure function (`sampling/decide.rs`) of one compiled table, which each
//! thread reads through a snapshot of its own. Which rule a transaction falls under is found once
//! for each pair of names, and remembered by the thread: a rule more costs an item nothing. Names
//! are looked up only as far as the rules ask: a transaction's name, when rules for its op do.
//!
//! Where a rate, caps and conditions are all there is to the rule, the thread remembers those
//! instead, and does not ask the table again until there is another one ([`draw_known`]).
//!
//! The lane is not held while a sampler runs, which may record itself. A transaction that is
//! started inside one is not recorded, and counted: it would be sampled for ever.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use arc_swap::cache::Cache;

use crate::propagate::{Incoming, Trace, back_calculate};
use crate::sampling::decide::{Ask, Why, head};
use crate::sampling::live::CURRENT;
use crate::sampling::plan::Plan;
use crate::sampling::quick::{Judged, Quick};
use crate::sampling::{Found, SamplingContext, Table, history, millionths, pressure};
use crate::shared::id::{NameId, mix, sample_rand};
use crate::shared::layout::continued;
use crate::shared::ledger::{self, Reason};
use crate::shared::registry::Lane;
use crate::shared::seqlock::{DEPTH, meta};
use crate::shared::settings::{ON, SETTINGS, THRESHOLD, THRESHOLD_SHIFT, sampling, threshold_of};
use crate::shared::traces::{self, Continued};

use super::handle::Handle;
use super::local::{LOCAL, Local};
use super::open::Admission;

thread_local! {
    /// The table as this thread saw it last.
    static SNAPSHOT: RefCell<Snapshot> = RefCell::new(Cache::new(&CURRENT));
}

type Snapshot = Cache<&'static ArcSwapOption<Table>, Option<Arc<Table>>>;

/// A transaction that somebody wants to start.
pub(crate) struct Request<'a> {
    pub(crate) op: NameId,
    pub(crate) op_text: &'a str,
    pub(crate) name_text: &'a str,
    /// Looks the name up.
    pub(crate) name: &'a dyn Fn() -> NameId,
    /// The caller's own decision.
    pub(crate) sampled: Option<bool>,
    /// The trace to go on with.
    pub(crate) incoming: Option<&'a Incoming>,
    /// What the caller has for the sampler.
    pub(crate) custom: Option<&'a dyn Any>,
}

/// What was decided about a transaction that is recorded, until it is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// About whom. What came in between, in a signal's handler, may have put in its own.
    pub(super) key: u64,
    pub(super) plan: u64,
    pub(super) rand: u32,
    /// If the transaction is `CONTINUED`.
    pub(super) continued: Continued,
}

impl Pending {
    /// A number that nothing is kept below: nobody knows what it was to be kept for.
    pub(super) const NONE: Self =
        Self { key: 0, plan: 0, rand: u32::MAX, continued: Continued::NONE };

    /// What was decided about that transaction.
    #[inline]
    pub(super) fn of(self, key: u64) -> Self {
        if self.key == key { self } else { Self::NONE }
    }
}

/// Whether transactions are decided on at all.
pub(crate) fn is_on() -> bool {
    SETTINGS.word() & ON != 0
}

/// Decides on a transaction of a thread that remembers what it falls under, about which nobody has
/// said anything; open, if the thread does not, or more is to be asked. `name` is none until the
/// answer to that is that it matters.
#[inline(never)]
pub(crate) fn draw_known(op: NameId, name: NameId) -> Admission {
    let state = SETTINGS.state();
    LOCAL
        .try_with(|local| {
            if !local.is_fit(state) || local.deciding.get() {
                return Admission::BY_RULES;
            }
            match local.verdicts.known(threshold_of(state), op, name) {
                Some((_, quick)) if quick.is_known() => local.draw_by(quick, state),
                Some((Found::ByName, _)) => Admission::BY_NAME,
                _ => Admission::BY_RULES,
            }
        })
        .unwrap_or(Admission::no(Handle::NONE))
}

/// Decides on a transaction by everything there is.
#[cold]
#[inline(never)]
pub(crate) fn draw_by_rules(request: &Request<'_>) -> Admission {
    let state = SETTINGS.state();
    if state & ON == 0 {
        return Admission::no(Handle::NONE);
    }
    LOCAL
        .try_with(|local| {
            if local.deciding.replace(true) {
                return local.refuse(Reason::Reentrant);
            }
            let admission = local.draw_by_rules(state, request);
            local.deciding.set(false);
            admission
        })
        .unwrap_or(Admission::no(Handle::NONE))
}

/// What the table says.
#[derive(Default)]
struct Verdict {
    threshold: u32,
    sampled: bool,
    plan: u64,
    /// Kept as the first of its name.
    is_first: bool,
    /// The decision was the parent's.
    by_parent: bool,
}

impl Local {
    /// (How this is cut into functions: `open.rs`.)
    #[inline]
    fn draw_by(&self, quick: Quick, state: u64) -> Admission {
        if quick.is_capped() {
            return self.draw_under_caps(quick, state);
        }
        let Some(lane) = self.enter() else { return Admission::BY_RULES };
        let now = lane.spans.state();
        if now.len() >= DEPTH {
            self.leave(lane);
            return self.draw_under_caps(quick, state);
        }
        let judged = quick.judge_alone();
        let (key, rand, word) = self.drawn(lane, state, judged);
        if Quick::records(judged, rand) {
            return self.admit_drawn(lane, key, rand, word, quick.plan(judged, rand));
        }
        let admission = self.leave_out_at(lane, now.len(), now, key, word);
        self.leave(lane);
        admission
    }

    /// Under caps or none, on any stack.
    #[inline(never)]
    fn draw_under_caps(&self, quick: Quick, state: u64) -> Admission {
        let Some(lane) = self.enter() else { return Admission::BY_RULES };
        let judged = quick.judge();
        let (key, rand, word) = self.drawn(lane, state, judged);
        if Quick::records(judged, rand) {
            if rand < judged.threshold {
                quick.charge(judged);
            }
            return self.admit_drawn(lane, key, rand, word, quick.plan(judged, rand));
        }
        self.make_depth(lane);
        let admission = self.leave_out(lane, key, word);
        self.leave(lane);
        admission
    }

    /// A transaction's key, its random number, and its word for an [`Admission`].
    #[inline]
    fn drawn(&self, lane: &Lane, state: u64, judged: Judged) -> (u64, u32, u64) {
        let key = self.take_key();
        // The keys first: started = keys - unsampled must not run backwards.
        self.note_keys(lane);
        let rand = sample_rand(key, SETTINGS.sample_seed());
        (key, rand, state & !THRESHOLD | sampling(judged.threshold, false))
    }

    /// Leaves the lane.
    #[inline(never)]
    fn admit_drawn(
        &self,
        lane: &'static Lane,
        key: u64,
        rand: u32,
        mut word: u64,
        plan: Plan,
    ) -> Admission {
        if !plan.is_none() {
            word |= meta::PLANNED;
            self.pending.set(Pending { key, plan: plan.0, rand, ..Pending::NONE });
        }
        lane.counters.sampled.add(1);
        self.leave(lane);
        Admission::yes(key, word)
    }

    fn draw_by_rules(&self, state: u64, request: &Request<'_>) -> Admission {
        let lane = match self.ready(state) {
            Ok(lane) => lane,
            Err(reason) => return self.refuse(reason),
        };
        let key = self.take_key();
        self.leave(lane);
        let trace = request.incoming.and_then(Incoming::trace);
        let rand = match trace {
            Some(trace) => back_calculate(trace, mix(key ^ SETTINGS.sample_seed())),
            None => sample_rand(key, SETTINGS.sample_seed()),
        };
        let verdict = self.verdict(request, trace, key, rand);
        let Some(lane) = self.enter() else { return self.refuse(Reason::Reentrant) };
        // The keys first: started = keys - unsampled must not run backwards.
        self.note_keys(lane);
        let mut word = state & !THRESHOLD | sampling(verdict.threshold, false) & THRESHOLD;
        let mut pending = Pending { key, plan: verdict.plan, rand, ..Pending::NONE };
        if let (Some(trace), Some(incoming)) = (trace, request.incoming) {
            word |= meta::CONTINUED;
            pending.continued = facts(trace, incoming, rand, verdict.by_parent);
            if !traces::insert(key, &pending.continued, incoming.members()) {
                ledger::books().traces_lost.add(1);
            }
        }
        let admission = if verdict.sampled || verdict.plan != 0 {
            lane.counters.sampled.add(1);
            if verdict.plan != 0 {
                word |= meta::PLANNED;
            }
            if verdict.is_first {
                word |= meta::PLANNED | meta::FIRST;
            }
            self.pending.set(pending);
            Admission::yes(key, word)
        } else {
            self.make_depth(lane);
            self.leave_out(lane, key, word)
        };
        self.leave(lane);
        admission
    }

    /// Asks the table.
    fn verdict(
        &self,
        request: &Request<'_>,
        trace: Option<&Trace>,
        key: u64,
        rand: u32,
    ) -> Verdict {
        let verdict = SNAPSHOT.try_with(|snapshot| {
            let mut snapshot = snapshot.try_borrow_mut().ok()?;
            let table = snapshot.load().as_deref()?;
            Some(self.verdict_of(table, request, trace, key, rand))
        });
        let verdict = verdict.unwrap_or_else(|_| {
            // The thread ends, and its snapshot is gone before what is started in destructors.
            let table = CURRENT.load();
            Some(self.verdict_of(table.as_deref()?, request, trace, key, rand))
        });
        verdict.unwrap_or_default()
    }

    fn verdict_of(
        &self,
        table: &Table,
        request: &Request<'_>,
        trace: Option<&Trace>,
        key: u64,
        rand: u32,
    ) -> Verdict {
        let (rule, name) = self.rule(table, request);
        let rule = rule.and_then(|index| table.rule(index));
        let first = request.sampled.is_none()
            && rule.is_some_and(|rule| rule.first)
            && history::is_first(name.unwrap_or_else(|| (request.name)()).0);
        let parent = trace.and_then(|trace| trace.sampled);
        let parent_rate = trace.and_then(|trace| trace.rate);
        let rate = rule.and_then(|rule| rule.rate).or(table.rate).unwrap_or(0);
        let follows = rule.is_none_or(|rule| rule.follows_parent);
        let sampler = table.sampler.as_ref().filter(|_| request.sampled.is_none());
        let sampler = sampler.and_then(|sampler| {
            let fallback = match parent.filter(|_| follows) {
                Some(true) => 1_000_000,
                Some(false) => 0,
                None => rate,
            };
            ask_sampler(|| {
                sampler(&SamplingContext {
                    op: request.op_text,
                    name: request.name_text,
                    parent_sampled: parent,
                    parent_sample_rate: parent_rate.map(|rate| f64::from(rate) / 1e6),
                    trace_id: match trace {
                        Some(trace) => trace.trace_id,
                        None => SETTINGS.wire_ids().trace_id(key),
                    },
                    rate: Some(f64::from(fallback) / 1e6),
                    custom: request.custom,
                })
            })
        });
        let head = head(&Ask {
            explicit: request.sampled,
            sampler,
            parent,
            parent_rate,
            rand,
            rate,
            rule,
            cap: table.cap.as_deref(),
            floor: table.floors.as_ref().and_then(|floors| floors.of(request.op.0)),
            pressure: pressure::factor(),
            first,
        });
        Verdict {
            threshold: head.threshold,
            sampled: head.sampled,
            plan: head.plan.0,
            is_first: head.why == Why::First,
            by_parent: head.by_parent,
        }
    }

    /// The rule that a transaction falls under, and its name if that was looked up.
    #[inline]
    fn rule(&self, table: &Table, request: &Request<'_>) -> (Option<u16>, Option<NameId>) {
        let op = request.op;
        let by_op = || table.by_op(request.op_text);
        let found = self.verdicts.get(table, op, NameId::NONE, by_op);
        match found {
            Found::NoRule => (None, None),
            Found::Rule(index) => (Some(index), None),
            Found::ByName => {
                let name = (request.name)();
                let found = self.verdicts.get(table, op, name, || {
                    match table.by_name(request.op_text, request.name_text) {
                        Some(index) => Found::Rule(index),
                        None => Found::NoRule,
                    }
                });
                match found {
                    Found::Rule(index) => (Some(index), Some(name)),
                    _ => (None, Some(name)),
                }
            }
        }
    }
}

/// What is kept of a trace for as long as the transaction is open, and told the flusher.
fn facts(trace: &Trace, incoming: &Incoming, rand: u32, by_parent: bool) -> Continued {
    let mut flags = 0;
    if let Some(sampled) = trace.sampled {
        flags |= continued::PARENT_KNOWN;
        flags |= if sampled { continued::PARENT_SAMPLED } else { 0 };
        flags |= if by_parent { continued::PARENT_DECIDED } else { 0 };
    }
    if !incoming.members().is_empty() {
        flags |= continued::HAS_DSC;
    }
    Continued { trace_id: trace.trace_id.0, parent: trace.parent.0, rand, flags }
}

/// What a sampler says, in millionths: what is no rate from 0 to 1 counts as 0. `None`: it
/// panicked, and is as if it were not there.
fn ask_sampler(sampler: impl FnOnce() -> f64) -> Option<u32> {
    match catch_unwind(AssertUnwindSafe(sampler)) {
        Ok(rate) => Some(millionths(rate).unwrap_or_else(|| {
            ledger::books().sampling.sampler_invalid.add(1);
            0
        })),
        Err(payload) => {
            #[expect(clippy::mem_forget, reason = "its drop is a stranger's, and may panic")]
            std::mem::forget(payload);
            ledger::books().callback_panics.add(1);
            ledger::books().sampling.sampler_panics.add(1);
            None
        }
    }
}

/// What a thread remembers of which names fall under which rule.
pub(super) struct Verdicts {
    /// Of ops.
    ops: [Cell<Place>; 1 << OPS],
    /// Of ops with names, where the op does not settle it.
    names: [Cell<Place>; 1 << NAMES],
}

const OPS: u32 = 6;
const NAMES: u32 = 8;

/// What was found for some names.
#[derive(Clone, Copy)]
struct Place {
    /// Op, and above it the name, if it was asked for.
    names: u64,
    /// The table's number, and which rule of it.
    code: u64,
    quick: Quick,
}

impl Verdicts {
    pub(super) const fn new() -> Self {
        const NONE: Place = Place { names: 0, code: 0, quick: Quick::UNKNOWN };
        Self { ops: [const { Cell::new(NONE) }; _], names: [const { Cell::new(NONE) }; _] }
    }

    /// What was found for these names in the table, or what `find` says.
    #[inline]
    fn get(&self, table: &Table, op: NameId, name: NameId, find: impl FnOnce() -> Found) -> Found {
        if op == NameId::INLINE || name == NameId::INLINE {
            return find();
        }
        let (place, names) = self.place(op, name);
        let known = place.get();
        if known.names == names && known.code >> CODE_BITS == table.number {
            return decoded(known.code);
        }
        let found = find();
        let code = table.number << CODE_BITS | coded(found);
        place.set(Place { names, code, quick: Quick::of(table, found) });
        found
    }

    /// What was found for these names in the table with this tag, and in short.
    #[inline]
    fn known(&self, tag: u32, op: NameId, name: NameId) -> Option<(Found, Quick)> {
        // Nothing is remembered of names without a number.
        let (place, names) = self.place(op, name);
        let known = place.get();
        let is_of_table = (known.code >> CODE_BITS ^ u64::from(tag)) & TAG == 0;
        (known.names == names && is_of_table).then(|| (decoded(known.code), known.quick))
    }

    #[inline]
    fn place(&self, op: NameId, name: NameId) -> (&Cell<Place>, u64) {
        let names = u64::from(op.0) | u64::from(name.0) << 32;
        let hash = names.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        #[expect(clippy::indexing_slicing, reason = "as many places as the bits can say")]
        let place = if name == NameId::NONE {
            &self.ops[(hash >> (u64::BITS - OPS)) as usize]
        } else {
            &self.names[(hash >> (u64::BITS - NAMES)) as usize]
        };
        (place, names)
    }
}

/// The bits of a table's number that are its tag.
const TAG: u64 = THRESHOLD >> THRESHOLD_SHIFT;

/// Below the table's number: which rule.
const CODE_BITS: u32 = 18;

const fn coded(found: Found) -> u64 {
    match found {
        Found::NoRule => 0,
        Found::ByName => 1,
        Found::Rule(index) => 2 + index as u64,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "coded from 16 bits")]
const fn decoded(value: u64) -> Found {
    match value & ((1 << CODE_BITS) - 1) {
        0 => Found::NoRule,
        1 => Found::ByName,
        code => Found::Rule((code - 2) as u16),
    }
}
