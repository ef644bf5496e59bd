//! The part of [`Stats`](super::Stats) that is about sampling.

use std::fmt;

use serde::Serialize;

use crate::sampling::pressure;
use crate::shared::ledger::Books;
use crate::shared::ledger::sampling::Cause;

/// What sampling left out, and how the ways in which it is steered do.
///
/// What a thread left out is noted in [`sample_rate`](Self::sample_rate) or
/// [`backpressure`](Self::backpressure) at the flusher's next look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Decisions {
    /// Transactions that were left out, at their start or at their end.
    pub sample_rate: u64,
    /// The same, while backpressure was on. The server is told of the two apart.
    pub backpressure: u64,
    /// How often the rates are halved at this moment, for want of a transport that keeps up: 0
    /// (not at all) to 10.
    pub backpressure_factor: u32,
    /// Sets of rules that took effect.
    pub rules_loaded: u64,
    /// Sets of rules that were refused; the ones before them stayed.
    pub rules_refused: u64,
    /// What was wrong with the last one that was refused.
    pub last_refusal: Option<String>,
    /// Results of the sampler that were no rate: nothing was sampled then.
    pub sampler_invalid: u64,
    /// Panics of the sampler; also among
    /// [`callback_panics`](super::Stats::callback_panics).
    pub sampler_panics: u64,
    /// Continued traces of transactions that sent no headers, as too many of them (about 1,000)
    /// were open at the same time.
    pub traces_lost: u64,
}

impl Decisions {
    pub(super) fn look(books: &Books) -> Self {
        let sampling = &books.sampling;
        let (rules_loaded, rules_refused, last_refusal) = sampling.rules();
        Self {
            sample_rate: sampling.left_out(Cause::SampleRate),
            backpressure: sampling.left_out(Cause::Backpressure),
            backpressure_factor: pressure::factor(),
            rules_loaded,
            rules_refused,
            last_refusal,
            sampler_invalid: sampling.sampler_invalid.get(),
            sampler_panics: sampling.sampler_panics.get(),
            traces_lost: books.traces_lost.get(),
        }
    }

    /// A row for each that is not zero.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, number) in [
            ("for backpressure", self.backpressure),
            ("rates are halved, times", u64::from(self.backpressure_factor)),
            ("rules taken over", self.rules_loaded),
            ("rules refused", self.rules_refused),
            ("sampler: no rate", self.sampler_invalid),
            ("sampler: panics", self.sampler_panics),
            ("traces not handed on", self.traces_lost),
        ] {
            super::number_row(f, name, number)?;
        }
        match &self.last_refusal {
            Some(fault) => writeln!(f, "refused for: {fault}"),
            None => Ok(()),
        }
    }
}
