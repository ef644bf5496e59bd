//! A test kit: what a piece of code records, captured in memory, as trees to assert on.
//!
//! ```
//! use hotspan::SpanStatus;
//! use hotspan::test::capture;
//!
//! fn process(order: u64) {
//!     let mut transaction = hotspan::start_transaction("queue.process", "orders");
//!     transaction.set_tag("queue", "eu");
//!     hotspan::start_child("db", "load order").set_data("rows", order);
//!     transaction.set_status(SpanStatus::Ok);
//! }
//!
//! // In a test:
//! let captured = capture(|| process(3));
//! assert_eq!(captured.transaction().tag("queue"), Some("eu"));
//! assert_eq!(captured.find("load order").unwrap().data("rows").unwrap(), &3);
//! assert_eq!(
//!     captured.to_string(),
//!     "orders [queue.process] ok tags{queue=\"eu\"}\n  load order [db] data{rows=3}\n",
//! );
//! assert!(captured.is_complete(), "{captured}");
//! ```
//!
//! # What belongs to a capture
//! Every transaction that the calling thread starts while the closure runs, with all children,
//! whatever thread they are recorded on: hand spans to threads ([`Transaction::detach`],
//! [`Transaction::context`]) and to futures ([`FutureExt`]) as usual. A thread that starts
//! transactions of its own joins the capture by a [`Handle`]. Children of a transaction that was
//! open before the closure began are not captured.
//!
//! Tests run side by side: what other threads record meanwhile, in captures of their own or in
//! none, does not show up.
//!
//! What has ended when the closure returns is captured: have it wait for the threads it started.
//! What has not is listed by [`Captured::open`], and what was lost by [`Captured::lost`]; both are
//! printed with the tree.
//!
//! # While it runs
//! The first capture starts the library for the process, with every transaction sampled (but those
//! that the code, or a trace that they continue, says not to be) and nothing sent, and the last one
//! stops it. So [`init`] fails meanwhile, as it does when the library is
//! running already, and a capture panics when it was `init` that started it. Put tests that call
//! `init` into a test binary of their own, or have them take turns. [`stats`] counts what is
//! captured as delivered.
//!
//! # Time and ids
//! [`Capture::fixed_clock`] makes time stand still but for [`advance`], [`Capture::fixed_ids`]
//! makes trace and span ids the same in every run. Nothing changes on the recording side for
//! either; times are worked out afterwards. [`inflight`]'s ages are real, always.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use hotspan::test::{Capture, advance};
//!
//! let capture = Capture::new().fixed_ids(7).fixed_clock(SystemTime::UNIX_EPOCH);
//! let (trace_id, captured) = capture.run(|| {
//!     let transaction = hotspan::start_transaction("queue.process", "orders");
//!     advance(Duration::from_millis(5));
//!     transaction.trace_id()
//! });
//! let transaction = captured.transaction();
//! assert_eq!(Some(transaction.trace_id()), trace_id);
//! assert_eq!(transaction.duration(), Duration::from_millis(5));
//! println!("{}", captured.with_times()); // the same in every run
//! ```
//!
//! [`init`]: crate::init
//! [`inflight`]: crate::inflight()
//! [`stats`]: crate::stats()
//! [`FutureExt`]: crate::FutureExt
//! [`Transaction::context`]: crate::Transaction::context
//! [`Transaction::detach`]: crate::Transaction::detach

mod capture;
mod client;
mod decode;
pub(crate) mod ids;
mod losses;
pub(crate) mod now;
mod open;
mod running;
mod text;
mod tree;

pub use capture::{Capture, Handle, advance, capture, handle};
pub use tree::{Captured, Node, Open};

pub use crate::flush::event::{Link, Measurement, Value};
