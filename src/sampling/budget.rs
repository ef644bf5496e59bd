//! Caps and floors.

use std::sync::Arc;

/// A cap's place among the budgets.
#[derive(Clone, Debug)]
pub(crate) struct Lease(Arc<f64>);

impl Lease {
    pub(crate) fn new(per_second: f64) -> Option<Self> {
        Some(Self(Arc::new(per_second)))
    }
}

/// The floors of all ops.
#[derive(Debug)]
pub(crate) struct Floors(f64);

impl Floors {
    pub(crate) fn new(per_second: f64) -> Self {
        Self(per_second)
    }
}
