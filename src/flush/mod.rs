//! Cold: runs in the flusher and uploader threads only.
//!
//! ```text
//!   rings ─ collect ─► assemble ─► encode ─► queue ─► courier ─► transport
//!           └────── flusher thread ────────┘         └── uploader thread ──┘
//! ```
//!
//! The flusher never waits for the uploader: a hanging server fills the queue, and then costs
//! envelopes, counted, but the rings go on being drained. An uploader hands one envelope to its
//! transport, or a lot of them if that sends several side by side. Everything between the rings and
//! the queue is pure, given a time; only `client` and `upload` know of threads. `watch` looks at
//! what is still open.

pub(crate) mod announce;
mod arrange;
pub(crate) mod assemble;
mod backoff;
mod buffers;
pub(crate) mod client;
pub(crate) mod courier;
pub(crate) mod depot;
pub(crate) mod encode;
mod ending;
pub(crate) mod envelope;
pub(crate) mod event;
pub(crate) mod flusher;
mod gone;
pub(crate) mod hooks;
mod intake;
pub(crate) mod keep;
pub(crate) mod limits;
mod pressure;
pub(crate) mod queue;
mod rates;
pub(crate) mod report;
#[cfg(test)]
mod simulation;
pub(crate) mod spool;
pub(crate) mod spooler;
pub(crate) mod upload;
mod verdict;
pub(crate) mod watch;
