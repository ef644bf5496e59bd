//! Which items are kept, and with which probability: decided once per transaction, from one number
//! drawn per trace.
//!
//! The story, in reading order: what people write ([`rule`], in code, or in a file: `file`), how
//! it is looked up ([`pattern`], [`table`]), what a sampler is told ([`context`]); then the two
//! decisions ([`decide`]), with what they take into account: caps and floors ([`budget`],
//! [`floors`]), what is known of a name ([`history`]), how the transport does ([`pressure`]), and
//! what travels from the start of an item to its end ([`plan`]). What is in force: [`live`].
//!
//! Nothing here reads a clock or knows of threads and rings: times come in, and what several
//! threads share are counters.

pub(crate) mod budget;
mod context;
pub(crate) mod decide;
mod error;
#[cfg(feature = "rules-file")]
mod file;
mod floors;
pub(crate) mod history;
pub(crate) mod live;
mod pattern;
pub(crate) mod plan;
pub(crate) mod pressure;
pub(crate) mod quick;
mod rule;
mod table;

pub use self::context::SamplingContext;
pub use self::rule::{Keep, Parent, Rule, Sampling, TracesSampler};

pub(crate) use self::error::RuleError;
#[cfg(feature = "rules-file")]
pub(crate) use self::file::{Edits, FILE_MAX, parse};
#[cfg(all(fuzzing, feature = "rules-file"))]
pub(crate) use self::pattern::naive;
pub(crate) use self::table::{Found, Table};

/// A rate from 0 to 1 in millionths, rounded up; rates of up to six decimals are exact.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number from 0 to 1,000,000"
)]
pub(crate) fn millionths(rate: f64) -> Option<u32> {
    if !(0.0..=1.0).contains(&rate) {
        return None;
    }
    // 0.07 * 1e6 is a little more than 70,000: the ceiling alone would make it 70,001. But n / 1e6
    // is the very float that a decimal of n millionths is read as.
    let scaled = rate * 1e6;
    let nearest = scaled.round();
    let whole = if nearest / 1e6 == rate { nearest } else { scaled.ceil() };
    Some(whole as u32)
}
