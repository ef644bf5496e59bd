//! A lock-free, allocation-conscious span recorder for hot loops, compatible with Sentry.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(not(hotspan_loom))]
mod config;
#[cfg(not(hotspan_loom))]
mod flush;
mod shared;
#[cfg(not(hotspan_loom))]
mod status;
#[cfg(not(hotspan_loom))]
pub mod transport;

pub use config::{Config, Delivery};
pub use shared::id::{EventId, ParseIdError, SpanId, TraceId};
pub use shared::ledger::{Count, Reason};
pub use status::{ParseStatusError, SpanStatus};
