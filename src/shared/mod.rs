//! What both sides touch. All lock-free code of the crate lives here, over the atomics of [`sync`].
//!
//! ```text
//!   registry, settings, payload ─► ring, names, traces ─► seqlock, arena ─► free_list, layout ─┐
//!                                                   sync, per_process ◄─ id, clock, ledger ◄──┘
//! ```

pub(crate) mod arena;
#[cfg(not(hotspan_loom))]
pub(crate) mod clock;
pub(crate) mod free_list;
pub(crate) mod id;
pub(crate) mod layout;
#[cfg(not(hotspan_loom))]
pub(crate) mod ledger;
#[cfg(not(hotspan_loom))]
pub(crate) mod names;
#[cfg(not(hotspan_loom))]
pub(crate) mod payload;
pub(crate) mod per_process;
#[cfg(not(hotspan_loom))]
pub(crate) mod registry;
pub(crate) mod ring;
pub(crate) mod seqlock;
pub(crate) mod settings;
pub(crate) mod sync;
pub(crate) mod traces;
