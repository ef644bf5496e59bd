//! Hot: runs in the user's thread.
//!
//! # The contract
//! No lock, no allocation, no system call but the clock, no unbounded loop, no panic; a thread's
//! first recorded call and a name's first use may allocate. What goes wrong is counted, and the
//! loop goes on.
//!
//! # The story
//! A span is a line in its thread's stack of open spans ([`OpenSpans`]): starting one writes the
//! line, with one clock read; ending one reads the clock again, writes one 64-byte record into the
//! thread's ring and moves the stack back. Guards hold nothing but a key and a depth. A
//! transaction's record comes last and publishes everything before it with one store. Sampling is
//! decided before anything else is done, so that a transaction that is not kept costs a few stores,
//! and its children one load each.
//!
//! # Invariants
//! * T1: a call takes the lane out of its cell and puts it back at its end; a second call that is
//!   entered meanwhile (from a signal handler, or an allocator) finds none, and returns at once,
//!   counted.
//! * T2: a handle is live while the line at its depth holds its key, and is a visit if it is one's.
//! * T3: `parent` is the key of the innermost line, or 0 when that line is not recorded.
//! * T4: when a transaction ends, the lines of its open children lose their keys: they end as
//!   nothing. Lines that were entered stay until they are left.

mod attribute;
mod cache;
mod close;
mod detached;
mod draw;
mod fold;
mod handle;
mod local;
mod open;
mod outgoing;
mod payload;
mod position;
mod step;
#[cfg(test)]
mod tests;
mod trial;

pub(crate) use attribute::{
    attribute, attribute_with_name, http_status, link, measurement, status,
};
pub(crate) use cache::name_id;
pub(crate) use close::{close_child, close_child_at, close_root, close_root_at, close_unsampled};
pub(crate) use detached::{Carried, Ending, context, detach, enter, finish, leave, unrecorded};
pub(crate) use draw::{Request, draw_by_rules, draw_known, is_on};
pub(crate) use handle::{
    Handle, current, current_root, freeze, is_open, redescribe, restart, root_of,
};
pub(crate) use open::{
    Admission, admit, has_parent, open_child, open_child_of, open_continued, open_root,
};
pub(crate) use outgoing::{Origin, origin};
pub(crate) use position::next_key;
pub(crate) use step::{end_step, step};
pub(crate) use trial::ask;

#[cfg(doc)]
use crate::shared::seqlock::OpenSpans;
