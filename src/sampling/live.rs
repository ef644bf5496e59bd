//! The table that is in force, and changing it while items are sampled by it.
//!
//! Whoever decides about items reads it through a snapshot of its own, which notices a new table by
//! one load; what an item was begun with is what it ends with, as everything that its end needs is
//! taken along. Where a threshold alone says it all, as without rules, caps and samplers, that
//! threshold is in the state of the settings, and nobody asks the table.
//!
//! # Invariant
//! * V1: when nobody is changing anything, the settings say what the newest table says under the
//!   pressure of the moment: who changes one of them makes them agree, and looks again afterwards.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::RuleError;
use super::rule::Sampling;
use super::table::Table;
use super::{budget, pressure};
use crate::shared::settings::{SETTINGS, sampling};

/// The table in force; none while nothing is sampled.
pub(crate) static CURRENT: ArcSwapOption<Table> = ArcSwapOption::const_empty();

/// Puts a first table in force. `switch_on` is told what the settings are to say of it.
pub(crate) fn begin(table: Arc<Table>, switch_on: impl FnOnce(u64)) {
    CURRENT.store(Some(Arc::clone(&table)));
    switch_on(word(&table));
    // Who has changed something meanwhile found the settings off, and could not say it there.
    refresh();
}

/// Nothing is sampled any more.
pub(crate) fn end() {
    CURRENT.store(None);
}

/// Changes the sampling that is in force. False: none is. `change` is called again if somebody else
/// was faster.
///
/// # Errors
/// What is wrong with the new one; the old one stays.
pub(crate) fn change(mut change: impl FnMut(&mut Sampling)) -> Result<bool, RuleError> {
    change_in(|_, sampling| change(sampling))
}

/// The same; `change` is told which session it is.
pub(crate) fn change_in(mut change: impl FnMut(u64, &mut Sampling)) -> Result<bool, RuleError> {
    loop {
        let Some(before) = CURRENT.load_full() else { return Ok(false) };
        let mut source = before.source.clone();
        change(before.session, &mut source);
        let table = Arc::new(Table::compile_after(source, &before)?);
        let found = CURRENT.compare_and_swap(&before, Some(table));
        if found.as_ref().is_some_and(|found| Arc::ptr_eq(found, &before)) {
            refresh();
            return Ok(true);
        }
    }
}

/// Has caps and floors take stock. `now` is from a clock that does not go back.
pub(crate) fn tick(now: Duration) {
    budget::tick(now);
    if let Some(floors) = CURRENT.load().as_ref().and_then(|table| table.floors.as_ref()) {
        floors.tick(now);
    }
}

/// Whether anything takes stock.
pub(crate) fn is_ticking() -> bool {
    budget::is_any() || CURRENT.load().as_ref().is_some_and(|table| table.floors.is_some())
}

/// From one [`begin`] to its [`end`], numbered; `None`: nothing is sampled.
#[cfg(feature = "rules-file")]
pub(crate) fn session() -> Option<u64> {
    CURRENT.load().as_ref().map(|table| table.session)
}

/// The sampling in force.
pub(crate) fn source() -> Option<Sampling> {
    CURRENT.load().as_ref().map(|table| table.source.clone())
}

/// V1, after a change of table or pressure.
pub(crate) fn refresh() {
    loop {
        // Before the table: what is in force later is not said of an earlier session's.
        let state = SETTINGS.state();
        let (Some(table), factor) = (CURRENT.load_full(), pressure::factor()) else { return };
        SETTINGS.resample(state, word(&table));
        let newest = CURRENT.load();
        let is_newest = newest.as_ref().is_some_and(|newest| Arc::ptr_eq(newest, &table));
        if is_newest && pressure::factor() == factor {
            return;
        }
    }
}

fn word(table: &Table) -> u64 {
    if table.is_plain() {
        return sampling(pressure::apply(table.rate.unwrap_or(0)), false);
    }
    // Nobody takes this for a threshold: it says which table a thread's memory must be of.
    sampling(table.tag(), true)
}
