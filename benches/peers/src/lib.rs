//! The same work through several span recorders, measured side by side.
//!
//! Recorders have globals, so each runs in a process of its own, one for each peer, mode and round
//! ([`child`]); the parent (`main.rs`) gives them turns and does the sums. What a peer does for an
//! item stands in its file in [`peers`], behind the one trait of [`peer`].

pub mod child;
pub mod envelope;
pub mod peer;
pub mod peers;
pub mod work;

/// Whatever went wrong ends the measurement.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
