//! A lock-free, allocation-conscious span recorder for hot loops, compatible with Sentry.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(not(hotspan_loom))]
mod config;
#[cfg(not(hotspan_loom))]
mod dsn;
#[cfg(not(hotspan_loom))]
mod error;
#[cfg(not(hotspan_loom))]
mod flush;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(not(hotspan_loom))]
mod guard;
#[cfg(not(hotspan_loom))]
mod hub;
#[cfg(not(hotspan_loom))]
mod inflight;
#[cfg(not(hotspan_loom))]
mod macros;
#[cfg(not(hotspan_loom))]
mod name;
#[cfg(not(hotspan_loom))]
mod record;
mod shared;
#[cfg(not(hotspan_loom))]
mod span;
#[cfg(not(hotspan_loom))]
mod stats;
#[cfg(not(hotspan_loom))]
mod status;
#[cfg(not(hotspan_loom))]
mod transaction;
#[cfg(not(hotspan_loom))]
pub mod transport;
#[cfg(not(hotspan_loom))]
mod value;

#[cfg(not(hotspan_loom))]
pub use config::{Config, Delivery};
#[cfg(not(hotspan_loom))]
pub use dsn::{Dsn, ParseDsnError};
#[cfg(not(hotspan_loom))]
pub use error::ConfigError;
#[cfg(not(hotspan_loom))]
pub use guard::{Guard, Report, init};
#[cfg(not(hotspan_loom))]
pub use hub::{Hub, Scope};
#[cfg(not(hotspan_loom))]
pub use inflight::{InFlight, inflight};
#[cfg(not(hotspan_loom))]
pub use name::{IntoName, Name};
#[cfg(not(hotspan_loom))]
pub use shared::id::{EventId, ParseIdError, SpanId, TraceId};
#[cfg(not(hotspan_loom))]
pub use shared::ledger::{Count, Reason};
#[cfg(not(hotspan_loom))]
pub use span::{Span, SpanRef, start_child};
#[cfg(not(hotspan_loom))]
pub use stats::{Imbalance, Names, Rings, Stats, Threads, stats};
#[cfg(not(hotspan_loom))]
pub use status::{ParseStatusError, SpanStatus};
#[cfg(not(hotspan_loom))]
pub use transaction::{Transaction, TransactionRef, start_transaction};
#[cfg(not(hotspan_loom))]
pub use value::IntoValue;
