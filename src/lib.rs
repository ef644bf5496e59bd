//! A lock-free, allocation-conscious span recorder for hot loops, compatible with Sentry.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod config;
mod dsn;
mod error;
mod flush;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guard;
mod hub;
mod inflight;
mod macros;
mod name;
mod record;
mod shared;
mod span;
mod stats;
mod status;
mod transaction;
pub mod transport;
mod value;

pub use config::{Config, Delivery};
pub use dsn::{Dsn, ParseDsnError};
pub use error::ConfigError;
pub use guard::{Guard, Report, init};
pub use hub::{Hub, Scope};
pub use inflight::{InFlight, inflight};
pub use name::{IntoName, Name};
pub use shared::id::{EventId, ParseIdError, SpanId, TraceId};
pub use shared::ledger::{Count, Reason};
pub use span::{Span, SpanRef, start_child};
pub use stats::{Imbalance, Names, Rings, Stats, Threads, stats};
pub use status::{ParseStatusError, SpanStatus};
pub use transaction::{Transaction, TransactionRef, start_transaction};
pub use value::IntoValue;
