//! What sampling left out, and how the ways in which users steer it do.

#[cfg(feature = "rules-file")]
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::{Count, Tally, Total};

/// Why a transaction was left out, in the words of Sentry's client reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its rate, its rule, or its end said so.
    SampleRate,
    /// The same, while rates were lowered because the transport did not keep up.
    Backpressure,
}

impl Cause {
    pub(crate) const ALL: [Self; 2] = [Self::SampleRate, Self::Backpressure];

    /// The reason in a client report.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::SampleRate => "sample_rate",
            Self::Backpressure => "backpressure",
        }
    }
}

/// The part of the books that is about sampling.
#[derive(Debug)]
pub(crate) struct Sampling {
    /// Transactions that were left out, by cause: since the books were opened, and not yet in a
    /// client report. A transaction counts as one span there: its children were never made, or
    /// never meant to be seen.
    left_out: [Total; Cause::ALL.len()],
    unreported: [Tally; Cause::ALL.len()],
    /// Sets of rules that took effect, and those that were refused, with the last one's fault.
    rules_loaded: Total,
    rules_refused: Total,
    refusal: ArcSwapOption<String>,
    /// Results of the host's sampler that are no rate, and its panics.
    pub(crate) sampler_invalid: Total,
    pub(crate) sampler_panics: Total,
}

impl Sampling {
    pub(super) const fn new() -> Self {
        Self {
            left_out: [const { Total::new() }; Cause::ALL.len()],
            unreported: [const { Tally::new() }; Cause::ALL.len()],
            rules_loaded: Total::new(),
            rules_refused: Total::new(),
            refusal: ArcSwapOption::const_empty(),
            sampler_invalid: Total::new(),
            sampler_panics: Total::new(),
        }
    }

    /// Writes down that so many transactions were left out, for `stats()` and for the next client
    /// report.
    #[expect(clippy::indexing_slicing, reason = "one cell per variant, by ALL's length")]
    pub(crate) fn leave_out(&self, cause: Cause, transactions: u64) {
        self.left_out[cause as usize].add(transactions);
        self.unreported(cause).add(Count { transactions, spans: transactions });
    }

    #[expect(clippy::indexing_slicing, reason = "one cell per variant, by ALL's length")]
    pub(crate) fn left_out(&self, cause: Cause) -> u64 {
        self.left_out[cause as usize].get()
    }

    #[expect(clippy::indexing_slicing, reason = "one cell per variant, by ALL's length")]
    pub(crate) fn unreported(&self, cause: Cause) -> &Tally {
        &self.unreported[cause as usize]
    }

    /// Rules took effect.
    #[cfg(feature = "rules-file")]
    pub(crate) fn rules_loaded(&self) {
        self.rules_loaded.add(1);
    }

    /// Rules were refused, for this fault; those from before stay. The text is shown as it is.
    #[cfg(feature = "rules-file")]
    pub(crate) fn rules_refused(&self, fault: String) {
        self.rules_refused.add(1);
        self.refusal.store(Some(Arc::new(fault)));
    }

    /// How often rules took effect, how often they were refused, and the last fault.
    pub(crate) fn rules(&self) -> (u64, u64, Option<String>) {
        let fault = self.refusal.load().as_deref().cloned();
        (self.rules_loaded.get(), self.rules_refused.get(), fault)
    }
}
