//! What several test binaries share.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "every test binary is a crate of its own, and uses a part of this"
)]

pub(crate) mod envelope;
#[cfg(feature = "http")]
pub(crate) mod server;
pub(crate) mod session;
