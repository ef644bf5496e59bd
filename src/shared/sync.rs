//! The atomics of the crate: the standard library's, or loom's while a model is being checked.
//!
//! Everything lock-free in `shared/` takes its atomics from here, so that the code that is checked
//! is the code that runs.

#[cfg(not(hotspan_loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(hotspan_loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
