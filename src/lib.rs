//! A lock-free span recorder for hot loops, compatible with Sentry.
//!
//! It records what a loop does, item by item, at little more than the cost of reading the clock,
//! and delivers it to Sentry or a Sentry-compatible server as transactions and spans.
//!
//! ```no_run
//! use hotspan::{Config, ConfigError};
//!
//! fn main() -> Result<(), ConfigError> {
//!     // With `SENTRY_DSN` unset this records nothing and costs a load per call.
//!     let _guard = hotspan::init(Config { traces_sample_rate: Some(0.01), ..Config::default() })?;
//!     for order in ["shoes", "socks"] {
//!         let mut transaction = hotspan::start_transaction("queue.process", "orders");
//!         transaction.set_tag("kind", order);
//!         let _span = hotspan::start_child("db.query", "load order");
//!     } // span and transaction end here
//!     Ok(()) // the guard delivers what is left
//! }
//! ```
//!
//! # Concepts
//! - A **transaction** is one item of the loop: a root span, with a name by which the server
//!   groups. [`start_transaction`] returns its guard, [`Transaction`]. Whether it is kept is
//!   decided there, by [`Config::traces_sample_rate`], a sampler, or rules.
//! - **Rules** ([`Rule`]) say by op and name what share is kept, at most how many a second, and
//!   what is kept for how it ended ([`Keep`]): slow, failed, the first of its name. They can be
//!   changed while the program runs ([`reconfigure()`], `watch_rules`). Whatever kept a
//!   transaction, the rate that is sent with it is the probability of that.
//! - A **trace** goes from one service to the next in headers: [`continue_from`] reads those that
//!   came, [`trace_headers`] makes those that go along; the module [`queue`] does both for
//!   messages.
//! - A **span** is a step inside it: [`start_child`] returns a [`Span`], a child of whatever is
//!   innermost on the thread; [`Transaction::start_child`] and [`Span::start_child`] name the
//!   parent.
//! - **Guards** end what they stand for when they are dropped: at the end of a block, by `?`, by a
//!   panic (which marks it `internal_error`). They belong to their thread. Without [`init`], or
//!   when the transaction was not sampled, they are no-ops.
//! - What **crosses threads** is [`Detached`]: a transaction or a span as 64 bytes of plain data,
//!   entered for a scope by whoever works on it, ended where it is dropped. A [`SpanContext`] is
//!   the parent alone, to be copied, for parts that run at the same time.
//! - **Futures** get spans by [`FutureExt`]: `future.in_span(..)` and `future.in_transaction(..)`
//!   are current at each poll, and `cancelled` when they are dropped before they are done.
//! - The **scope** finds what is open from anywhere on the thread:
//!   [`Hub::current`]`().`[`scope`](Hub::scope)`().`[`transaction`](Scope::transaction)`()`.
//! - **Tags** are short texts to search by, **data** are values of any type, **measurements**
//!   numbers with a unit, a **status** says how it ended ([`SpanStatus`]).
//! - **Names** (ops, descriptions, keys) are looked up in a table: any [`IntoName`] is quick, a
//!   static [`Name`] or the macros [`transaction!`] and [`span!`] are quickest.
//! - The **guard** of [`init`] keeps threads running, a flusher and uploaders, and stops
//!   them. Bind it: `let _ = init(..)` would drop it at once.
//! - The **books**: [`stats`](stats()) says at any time what was started, delivered, held, or
//!   dropped and for which [`Reason`]; [`Stats::check`] that it adds up. [`inflight`](inflight())
//!   says what each thread is doing now.
//!
//! # In applications, in libraries
//! An application depends on `hotspan`, calls [`init`] early in `main`, and keeps the guard.
//!
//! A library that instruments itself leaves delivery to the application: it depends on `hotspan`
//! with `default-features = false`, which has no HTTP stack in its tree, and never calls [`init`].
//! Its calls do nothing until an application does.
//!
//! # Features
//! | feature | default | brings |
//! |---|---|---|
//! | `http` | yes | `transport::Http`: delivery over HTTP, gzip bodies |
//! | `rustls` | yes | HTTPS; trusts the public authorities, and those of a file. Brings `http` |
//! | `platform-verifier` | no | HTTPS trusts whom the system trusts. Brings `rustls` |
//! | `http2` | no | HTTP/2, where [`Config::http_version`] says so. Brings `http` |
//! | `zstd` | no | zstd bodies, where [`Config::compression`] says so. Brings `http` |
//! | `rules-file` | yes | sampling rules from a JSON file, watched while the program runs |
//!
//! # Limits and defaults
//! Everything is bounded, and what is beyond a bound is dropped and counted, never waited for. What
//! can be set is in [`Config`], each field with its default and its range. Fixed are: 4,096 threads
//! that record at the same time; on each of them 256 open spans, of which 16 sampled transactions;
//! 65,535 names of 8 MiB together, beyond which texts travel with their span; 1,024 bytes for a
//! text value, and for a list; ten measurements a transaction; 1,000 rules; floors for 256 ops, and
//! 1,024 names of which it is known what is slow; 1,024 open transactions that continue traces,
//! with 960 bytes of context each. The README has the whole table, with the counter for each.
//!
//! # Costs
//! A recorded span reads the clock twice and writes one 64-byte record; each attribute writes one
//! more, or a few for long text. An unsampled transaction costs a few stores, its children a load
//! each. Nothing allocates, locks or calls the system, but for a thread's first recorded call and a
//! name's first use. Figures: the README, or `cargo run --release --example cost`.
//!
//! # Platforms
//! Timestamps are TSC reads where processor and kernel vouch for it, else the system's monotonic
//! clock; calibrating takes up to 200 ms, once, in [`init`]. 64-bit atomics are needed. With
//! `panic = "abort"`, and on [`std::process::exit`], no guard is dropped: call [`Guard::close`]
//! where it matters.
//!
//! A process that was forked off has none of the threads. Nothing waits for them there; what it
//! records goes nowhere, and dropping its copies of guards does nothing. It may call [`init`]
//! itself, and has books and ids of its own then.
//!
//! # Map
//! - Starting and stopping: [`init`], [`Config`], [`Delivery`], [`Dsn`], [`ConfigError`],
//!   [`Guard`], [`Report`], [`flush`](flush()), [`close`].
//! - Recording: [`start_transaction`], [`start_child`], [`Transaction`], [`Span`],
//!   [`transaction!`], [`span!`].
//! - Across threads and awaits: [`Detached`], [`SpanContext`], [`Entered`], [`FutureExt`],
//!   [`InSpan`], [`InTransaction`].
//! - What is recorded: [`IntoName`], [`Name`], [`IntoValue`], [`SpanStatus`], [`TraceId`],
//!   [`SpanId`].
//! - What is open: [`Hub`], [`Scope`], [`TransactionRef`], [`SpanRef`], [`inflight`](inflight()),
//!   [`InFlight`].
//! - Who is kept: [`Sampling`], [`Rule`], [`Keep`], [`Parent`], [`TracesSampler`],
//!   [`SamplingContext`], [`TransactionOptions`], [`reconfigure()`], [`sampling()`], `watch_rules`.
//! - Traces of several services: [`continue_from`], [`Incoming`], [`trace_headers`],
//!   [`trace_headers_for`], [`TraceHeaders`]; the module [`queue`].
//! - What became of it: [`stats`](stats()), [`Stats`], [`Count`], [`Reason`], [`Imbalance`].
//! - What is changed or dropped before it is sent: the module [`event`], with
//!   [`TransactionEvent`] and [`SpanEvent`].
//! - Where it goes: the module [`transport`], with the trait, and HTTP, files, memory, nothing.
//! - Testing what is recorded: the module [`test`](mod@test), with [`capture`](test::capture).
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod config;
mod detached;
mod dsn;
mod error;
pub mod event;
mod flush;
mod future;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guard;
mod hub;
mod inflight;
mod macros;
mod methods;
mod name;
mod options;
mod propagate;
mod propagation;
pub mod queue;
mod read;
mod record;
#[cfg(feature = "rules-file")]
mod rules;
mod running;
mod sampling;
mod shared;
mod span;
mod stats;
mod status;
pub mod test;
mod transaction;
pub mod transport;
mod tuning;
mod value;

pub use config::{Compression, Config, Delivery, HttpVersion};
pub use detached::{Detached, Entered, SpanContext};
pub use dsn::{Dsn, ParseDsnError};
pub use error::ConfigError;
pub use event::{BeforeSend, EventProcessor, SpanEvent, TransactionEvent};
pub use future::{FutureExt, InSpan, InTransaction};
pub use guard::init;
pub use hub::{Hub, Scope};
pub use inflight::{InFlight, inflight};
pub use name::{IntoName, Name};
pub use options::TransactionOptions;
pub use propagate::{Incoming, PropagationTarget, TraceHeaders};
pub use propagation::{continue_from, trace_headers, trace_headers_for};
#[cfg(feature = "rules-file")]
pub use rules::{RulesWatch, watch_rules};
pub use running::{Guard, Report, close, flush};
pub use sampling::{Keep, Parent, Rule, Sampling, SamplingContext, TracesSampler};
pub use shared::id::{EventId, ParseIdError, SpanId, TraceId};
pub use shared::ledger::{Count, Reason};
pub use span::{Span, SpanRef, start_child};
pub use stats::{Decisions, Imbalance, Names, Rings, SpoolStats, Stats, Threads, stats};
pub use status::{ParseStatusError, SpanStatus};
pub use transaction::{Transaction, TransactionRef, start_transaction};
pub use tuning::{reconfigure, sampling};
pub use value::IntoValue;

/// The code in the README compiles, and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
