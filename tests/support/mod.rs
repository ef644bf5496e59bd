//! What several test binaries share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "every test binary is a crate of its own, uses a part of this, and may panic"
)]

pub(crate) mod envelope;
#[cfg(feature = "http")]
pub(crate) mod faults;
pub(crate) mod folder;
pub(crate) mod log;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod segments;
#[cfg(feature = "http")]
pub(crate) mod server;
pub(crate) mod session;
#[cfg(all(feature = "http2", feature = "rustls"))]
pub(crate) mod streams;
#[cfg(feature = "http")]
pub(crate) mod tls;
#[cfg(feature = "http")]
pub(crate) mod tunnel;
