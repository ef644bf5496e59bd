//! The peers: a file each, and a line each in the list below.

use serde_json::{Value, json};

use crate::Result;
use crate::child::{Counter, serve};
use crate::peer::Mode;

mod clock;
mod emit;
mod fastrace;
mod hotspan;
mod opentelemetry;
mod sentry;
mod tracing;
mod tracing_opentelemetry;
mod tracy;

/// A peer, and how a process becomes one.
pub struct Entry {
    pub name: &'static str,
    /// One line for the table.
    pub what: &'static str,
    serve: fn(Mode, Option<Counter>) -> Result<()>,
}

macro_rules! peers {
    ($($name:literal $what:literal $peer:ty;)*) => {
        /// In the order of tables.
        pub const PEERS: &[Entry] =
            &[$(Entry { name: $name, what: $what, serve: serve::<$peer> }),*];
    };
}

peers! {
    "clock" "two raw reads of the TSC a span: the floor" clock::Clock;
    "hotspan" "names as `Name` statics" hotspan::Statics;
    "hotspan-str" "names as `&str` literals" hotspan::Texts;
    "hotspan-http2" "the same as hotspan, sent over HTTP/2" hotspan::Multiplexed;
    "tracy" "zones, and texts for attributes; no viewer" tracy::Tracy;
    "fastrace" "a local parent, and local spans below it" fastrace::Fastrace;
    "tracing" "a bare registry, which keeps nothing" tracing::Tracing;
    "opentelemetry" "SDK, batch processor" opentelemetry::Opentelemetry;
    "sentry" "transactions and spans by its own API" sentry::Sentry;
    "emit" "`new_span!`, and events for an emitter" emit::Emit;
    "tracing-opentelemetry" "tracing's spans into the SDK" tracing_opentelemetry::Layered;
}

/// What the command line says: `PEER MODE`.
///
/// # Errors
/// It makes no sense, the peer cannot be started, or the parent is gone.
pub fn serve_arguments(counter: Option<Counter>) -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, mode] = arguments.as_slice() else {
        return Err("which peer, in which mode?".into());
    };
    let entry = PEERS.iter().find(|entry| entry.name == name);
    let entry = entry.ok_or_else(|| format!("no peer is called {name:?}"))?;
    (entry.serve)(mode.parse()?, counter)
}

/// The list, for those who only read results.
#[must_use]
pub fn described() -> Value {
    PEERS.iter().map(|entry| (entry.name.to_owned(), json!(entry.what))).collect()
}
