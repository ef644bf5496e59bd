//! `src/shared` of hotspan over loom's atomics, so that the models at the foot of its files can run.
//!
//! Nothing is copied: the module below is the crate's own folder. What needs no model (names, ledger,
//! registry, clock) is left out there under `cfg(hotspan_loom)`.

#![forbid(unsafe_code)]
#![allow(
    dead_code,
    reason = "the recording side and the flusher, which use the rest, are not here"
)]

#[path = "../../src/shared/mod.rs"]
mod shared;
