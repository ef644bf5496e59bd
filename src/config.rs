//! [`Config`]: everything that can be set, with its default and its bound.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::transport::Transport;

/// Where finished envelopes go.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Delivery {
    /// To the DSN's server over HTTP or HTTPS; with no DSN, recording is off.
    #[default]
    Http,
    /// Into this folder, one raw envelope a file; no DSN needed.
    File(PathBuf),
    /// Nowhere: encoded, counted as delivered, thrown away. For measuring.
    Null,
    /// To transports that this function makes, one for each uploader thread.
    Custom(Arc<dyn Fn() -> Box<dyn Transport> + Send + Sync>),
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http => f.write_str("Http"),
            Self::File(folder) => f.debug_tuple("File").field(folder).finish(),
            Self::Null => f.write_str("Null"),
            Self::Custom(_) => f.write_str("Custom(..)"),
        }
    }
}

/// Everything that can be set.
#[allow(missing_docs)]
#[derive(Clone)]
pub struct Config {
    /// Where to send; empty or absent: recording is off (unless `transport` needs no DSN).
    pub dsn: Option<String>,
    pub release: Option<String>,
    pub environment: Option<String>,
    pub dist: Option<String>,
    pub server_name: Option<String>,
    pub debug: bool,
    /// The share of transactions to keep, 0 to 1. `None`: tracing is off.
    pub traces_sample_rate: Option<f64>,
    /// Children kept in a transaction.
    pub max_spans: usize,
    pub send_client_reports: bool,
    pub shutdown_timeout: Duration,
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    /// A PEM file with certificates to trust besides the built-in ones...
    pub transport: Delivery,
    /// Slots of 64 bytes that one thread may hold unread.
    pub ring_slots: usize,
    /// Memory of all rings together, in bytes. Reserved at `init`, touched only when used.
    pub ring_bytes: usize,
    /// Envelopes waiting for the uploader, in bytes.
    pub queue_bytes: usize,
    /// How long a record waits at most before the flusher looks for it.
    pub flush_interval: Duration,
    /// Transactions that the flusher holds unfinished.
    pub open_transactions: usize,
    /// Slots (64 bytes) that the flusher holds for unfinished transactions.
    pub open_slots: usize,
    /// Age at which an unfinished transaction is given up.
    pub open_age: Duration,
}
