//! What both sides touch. All atomics of the crate live here.
pub(crate) mod clock;
pub(crate) mod id;
pub(crate) mod layout;
pub(crate) mod ledger;
pub(crate) mod names;
