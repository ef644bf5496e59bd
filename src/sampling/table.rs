//! One rule, compiled.

use std::sync::Arc;
use std::time::Duration;

use super::budget::Lease;
use super::plan::Conditions;

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
