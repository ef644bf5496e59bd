//! A lock-free, allocation-conscious span recorder for hot loops, compatible with Sentry.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod config;
mod dsn;
mod error;
mod flush;
#[cfg(fuzzing)]
pub mod fuzzing;
mod shared;
mod status;
pub mod transport;

pub use config::{Config, Delivery};
pub use dsn::{Dsn, ParseDsnError};
pub use error::ConfigError;
pub use shared::id::{EventId, ParseIdError, SpanId, TraceId};
pub use shared::ledger::{Count, Reason};
pub use status::{ParseStatusError, SpanStatus};
