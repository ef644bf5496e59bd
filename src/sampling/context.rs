//! [`SamplingContext`]: what a sampler is told about the transaction that begins.

use std::any::Any;

use crate::shared::id::TraceId;

/// What a [`TracesSampler`](crate::TracesSampler) decides by.
///
/// ```
/// use std::sync::Arc;
/// use hotspan::{Sampling, SamplingContext};
///
/// struct Order {
///     is_large: bool,
/// }
///
/// fn sampler(context: &SamplingContext<'_>) -> f64 {
///     match context.custom::<Order>() {
///         Some(order) if order.is_large => 1.0,
///         // What would apply if there were no sampler: the parent's decision, a rule, the rate.
///         _ => context.rate().unwrap_or(0.0),
///     }
/// }
///
/// let sampling = Sampling { traces_sampler: Some(Arc::new(sampler)), ..Sampling::default() };
/// # assert!(sampling.traces_sampler.is_some());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SamplingContext<'a> {
    pub(crate) op: &'a str,
    pub(crate) name: &'a str,
    pub(crate) parent_sampled: Option<bool>,
    pub(crate) parent_sample_rate: Option<f64>,
    pub(crate) trace_id: TraceId,
    pub(crate) custom: Option<&'a dyn Any>,
    pub(crate) rate: Option<f64>,
}

impl<'a> SamplingContext<'a> {
    /// What the transaction does; may be empty.
    ///
    /// ```
    /// # fn decide(context: &hotspan::SamplingContext<'_>) -> f64 {
    /// if context.op() == "queue.process" { 0.1 } else { 0.001 }
    /// # }
    /// ```
    #[must_use]
    pub fn op(&self) -> &'a str {
        self.op
    }

    /// The name of the transaction, as it is when it begins; may be empty.
    ///
    /// ```
    /// # fn decide(context: &hotspan::SamplingContext<'_>) -> f64 {
    /// if context.name().starts_with("GET /health") { 0.0 } else { 0.01 }
    /// # }
    /// ```
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// What the caller of this process decided for the trace; `None` when the trace begins here, or
    /// the caller left it open.
    ///
    /// ```
    /// # fn decide(context: &hotspan::SamplingContext<'_>) -> f64 {
    /// // A trace that somebody keeps is kept here, too.
    /// if context.parent_sampled() == Some(true) { 1.0 } else { 0.01 }
    /// # }
    /// ```
    #[must_use]
    pub fn parent_sampled(&self) -> Option<bool> {
        self.parent_sampled
    }

    /// The rate by which the trace was decided where it began, 0 to 1, if the caller passed it on.
    ///
    /// ```
    /// # fn decide(context: &hotspan::SamplingContext<'_>) -> f64 {
    /// // The same share of the traces, hence the same traces.
    /// context.parent_sample_rate().unwrap_or(0.01)
    /// # }
    /// ```
    #[must_use]
    pub fn parent_sample_rate(&self) -> Option<f64> {
        self.parent_sample_rate
    }

    /// The trace that the transaction belongs to.
    ///
    /// ```
    /// # fn decide(context: &hotspan::SamplingContext<'_>) -> f64 {
    /// # let suspect = context.trace_id();
    /// if context.trace_id() == suspect { 1.0 } else { 0.01 }
    /// # }
    /// ```
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The caller's own value, if the transaction was begun with one of this type.
    ///
    /// ```
    /// struct Order {
    ///     is_large: bool,
    /// }
    /// # fn decide(context: &hotspan::SamplingContext<'_>) -> f64 {
    /// if context.custom::<Order>().is_some_and(|order| order.is_large) { 1.0 } else { 0.01 }
    /// # }
    /// ```
    #[must_use]
    pub fn custom<T: 'static>(&self) -> Option<&'a T> {
        self.custom?.downcast_ref()
    }

    /// The rate that would apply without a sampler, 0 to 1: the caller's decision, that of the rule
    /// that matches, or `traces_sample_rate`. To fall back on. `None` when nothing says anything.
    ///
    /// ```
    /// # fn decide(context: &hotspan::SamplingContext<'_>) -> f64 {
    /// if context.op() == "debug" { 1.0 } else { context.rate().unwrap_or(0.0) }
    /// # }
    /// ```
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_values_are_found_by_their_type() {
        let value = 7_u32;
        let context = SamplingContext {
            op: "op",
            name: "name",
            parent_sampled: Some(true),
            parent_sample_rate: Some(0.25),
            trace_id: TraceId(5),
            custom: Some(&value),
            rate: Some(0.5),
        };
        assert_eq!((context.custom::<u32>(), context.custom::<u64>()), (Some(&7), None));
        let without = SamplingContext { custom: None, ..context };
        assert_eq!(without.custom::<u32>(), None);
    }
}
