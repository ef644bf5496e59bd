//! Transactions as values: what hooks look at, change and drop before it is sent.
//!
//! [`Config::event_processors`] and [`Config::before_send_transaction`] are functions that get each
//! transaction that sampling keeps, and return it, changed or not, or `None`: then it is dropped.
//!
//! ```
//! use std::sync::Arc;
//!
//! use hotspan::Config;
//!
//! let config = Config {
//!     before_send_transaction: Some(Arc::new(|mut event| {
//!         if event.name == "GET /health" {
//!             return None; // dropped
//!         }
//!         event.tags.remove("user.email");
//!         event.spans.retain(|span| span.op != "cache.get");
//!         for span in &mut event.spans {
//!             if let Some(url) = span.data.get_mut("url") {
//!                 *url = "[filtered]".into();
//!             }
//!         }
//!         Some(event)
//!     })),
//!     ..Config::default()
//! };
//! # assert!(config.before_send_transaction.is_some());
//! ```
//!
//! # When
//! Event processors first, in their order, then `before_send_transaction`, each with what the one
//! before it returned. All run on the flusher's thread (its stack has 512 KiB), one transaction at
//! a time, before it is written: neither the queue nor a file ever holds what they took out. Rings
//! are not drained meanwhile, so hooks must be quick. They must not wait for
//! [`Guard::flush`](crate::Guard::flush) or [`Guard::close`](crate::Guard::close), which wait for
//! that thread. What tests capture ([`test`](mod@crate::test)) does not go through hooks.
//!
//! # What can be changed
//! The public fields. What a hook leaves alone is sent as if there were no hook. What it sets is
//! bounded and counted as what is recorded: texts and lists are cut at 1024 bytes, keys at 200
//! ([`Stats::cut`](crate::Stats::cut)); what the server would not take is left out
//! ([`Stats::attributes_dropped`](crate::Stats::attributes_dropped)). A list is sent with its type
//! if all it holds is of one type, else as texts. A hook that changes or removes the tag
//! `http.status_code` or the data `http.response.status_code`, or takes away the status that came
//! with them, removes the response's context with it.
//!
//! Not to be changed are ids, times and links, and what has already been said of the trace: the
//! context of one that was continued, and the name that left in trace headers before the program
//! itself set another one. Otherwise a hook that renames a transaction renames it there, too.
//!
//! Spans can be removed, and not added: a span of another transaction, or one that is there twice,
//! is left out. A hook that returns another transaction than it was given drops this one.
//!
//! # What is dropped
//! It is counted in [`Stats::dropped`](crate::Stats::dropped) and told the server: under
//! [`Reason::EventProcessor`](crate::Reason::EventProcessor) what a processor dropped, under
//! [`Reason::BeforeSend`](crate::Reason::BeforeSend) what `before_send_transaction` did. A
//! transaction counts with all its spans, a span that was removed as itself.
//!
//! # Panics
//! A panic is caught and counted ([`Stats::callback_panics`](crate::Stats::callback_panics)), and
//! the transaction is dropped as if the hook had returned `None`. A hook may be what keeps secrets
//! in: where it fails nothing is sent, and however often it fails it is never switched off. With
//! `panic = "abort"` nothing can be caught.
//!
//! # Recording in hooks
//! A transaction that a hook starts, or [`Config::on_stuck`], is recorded and sent like any other,
//! but no hook is asked about it: one that records what it does would never be done.
//!
//! # Costs
//! With no hook set, a branch for each transaction. Else each one is made a value, and a copy is
//! kept for comparison; both allocate, on the flusher's thread alone.
//!
//! [`Config::on_stuck`]: crate::Config::on_stuck
//! [`Config::event_processors`]: crate::Config::event_processors
//! [`Config::before_send_transaction`]: crate::Config::before_send_transaction

pub use crate::flush::event::{
    BeforeSend, EventProcessor, Link, Measurement, SpanEvent, TransactionEvent, Value,
};
