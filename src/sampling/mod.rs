//! Which items are kept, and with which probability: decided once per transaction, from one number
//! drawn per trace.

pub(crate) mod budget;
pub(crate) mod decide;
pub(crate) mod floors;
pub(crate) mod history;
pub(crate) mod plan;
pub(crate) mod pressure;
pub(crate) mod table;
