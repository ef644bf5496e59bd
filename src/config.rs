//! [`Config`]: everything that can be set, with its default and its bound.
//!
//! A plain struct, so that `..Config::default()` works and that a host can read it from its own
//! files with serde (`read.rs`). Nothing is checked until `init`, which turns it into a
//! [`Resolved`]: the environment asked where a field is left open, every value parsed or bounded
//! (`config/resolve.rs`), the proxy chosen (`config/proxy.rs`). Behind that point no setting can
//! hold nonsense.

mod compression;
mod http_version;
mod proxy;
mod read;
mod resolve;
mod show;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

pub use self::compression::Compression;
pub use self::http_version::HttpVersion;
pub(crate) use self::proxy::Proxy;
pub(crate) use self::resolve::{Resolved, process_environment};
use crate::event::{BeforeSend, EventProcessor};
use crate::inflight::InFlight;
use crate::propagate::PropagationTarget;
use crate::sampling::{Rule, TracesSampler};
use crate::transport::Transport;

/// Everything that can be set.
///
/// ```
/// use hotspan::Config;
///
/// let config = Config {
///     dsn: Some("https://key@example.com/1".into()),
///     traces_sample_rate: Some(0.01),
///     ..Config::default()
/// };
/// # assert_eq!(config.max_spans, 1000);
/// ```
///
/// # From a file
/// It reads from any self-describing format of serde (JSON, TOML, YAML). A field that is left out
/// keeps its default, a field that does not exist is an error which lists those that do, and
/// durations are seconds.
///
/// ```
/// let config: hotspan::Config = serde_json::from_str(
///     r#"{
///         "dsn": "https://key@example.com/1",
///         "traces_sample_rate": 0.01,
///         "shutdown_timeout": 2.5,
///         "transport": {"file": "target/envelopes"}
///     }"#,
/// )?;
/// assert_eq!(config.shutdown_timeout.as_millis(), 2500);
///
/// let error = serde_json::from_str::<hotspan::Config>(r#"{"sample_rate": 1}"#).unwrap_err();
/// assert!(error.to_string().starts_with("unknown field `sample_rate`, expected one of `dsn`"));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # From the environment
/// Fields that name a variable ask for it at `init`, if they are `None`. An explicit value beats
/// the environment, also an empty text, which means "none". A variable that is empty counts as
/// absent; one that is malformed is an error that names it. Of the proxy variables the lower-case
/// name wins.
///
/// # Memory
/// At most `ring_bytes` in whole MiB, `queue_bytes`, 64 bytes for each of `open_slots`, the table
/// of names (8 MiB of text), about 25 KiB for each of the most threads that ever recorded at once
/// (one that has ended counts until the flusher has looked at it; at most 4,096), and a few MiB of
/// buffers of fixed size; for each uploader that was needed about half a MiB for compressing; with
/// a spool 32 bytes for each envelope in it, and one envelope. None of it is touched before it is
/// needed; what rings have touched is kept and used again, also by a later `init`.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to send: `https://PUBLIC_KEY@HOST/PROJECT_ID`. Default: `SENTRY_DSN`.
    ///
    /// With none, or an empty one, recording is off unless `transport` needs no DSN.
    pub dsn: Option<String>,
    /// The version of the application. Default: `SENTRY_RELEASE`, else none.
    ///
    /// At most 200 characters, no control characters; not `.`, `..`, slashes or spaces alone. One
    /// that the server would not keep (with a slash or backslash in it, or `latest`) is not sent.
    pub release: Option<String>,
    /// Where the application runs. Default: `SENTRY_ENVIRONMENT`, else `production`, or
    /// `development` if built with debug assertions.
    ///
    /// At most 64 characters, neither control characters nor slashes, not spaces alone. One that
    /// the server would not keep (with a backslash in it, or `none`) is not sent.
    pub environment: Option<String>,
    /// The build of the release; needs a `release`. Default: none.
    ///
    /// At most 64 characters, no control characters, not spaces alone. Sent when it consists of
    /// ASCII letters, digits, `-`, `_` and `.`, which is what the server keeps.
    pub dist: Option<String>,
    /// The machine. Default: its host name, where the system has it in
    /// `/proc/sys/kernel/hostname`.
    ///
    /// At most 256 characters, of which 200 are sent; no control characters, not spaces alone. An
    /// empty text sends none.
    pub server_name: Option<String>,
    /// Logs what becomes of each envelope, through the `log` crate at the level debug. Default:
    /// `SENTRY_DEBUG` (`1`, `true`, `t`, `yes`, `y`, `on` or `0`, `false`, `f`, `no`, `n`, `off`),
    /// else off.
    ///
    /// That something was lost is logged in any case, through the `log` crate, once a minute at
    /// most.
    #[serde(deserialize_with = "crate::read::open_switch")]
    pub debug: Option<bool>,
    /// The share of transactions to keep, 0 to 1. Default: `SENTRY_TRACES_SAMPLE_RATE`, else none.
    ///
    /// None turns tracing off; 0 leaves it on and keeps nothing. The rate in force is a whole
    /// number of millionths: what lies between two is rounded up, so that nothing above 0
    /// becomes 0. That rounded rate is the one the server is told.
    #[serde(deserialize_with = "crate::read::open_number")]
    pub traces_sample_rate: Option<f64>,
    /// Asked for each transaction for which the caller decided nothing itself; its answer, 0 to 1,
    /// goes before a parent's decision, before rules' rates and before `traces_sample_rate`.
    /// Default: none. Not read from files.
    ///
    /// It runs on the thread that starts the transaction, and costs what it costs there. An answer
    /// that is no number from 0 to 1 counts as 0; a panic is caught, and the decision goes on as if
    /// there were no sampler. Both are counted ([`Stats::sampling`](crate::Stats::sampling)).
    /// A transaction that it starts itself is not recorded.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let config = hotspan::Config {
    ///     traces_sampler: Some(Arc::new(|context| match context.op() {
    ///         "health" => 0.0,
    ///         _ => context.rate().unwrap_or(0.01),
    ///     })),
    ///     ..hotspan::Config::default()
    /// };
    /// # assert!(config.traces_sampler.is_some());
    /// ```
    #[serde(skip)]
    pub traces_sampler: Option<TracesSampler>,
    /// Rates, caps and conditions for certain ops and names; the first rule that matches applies.
    /// Default: none. Rules alone turn tracing on, too: what matches none is then not kept.
    ///
    /// What can be changed while the program runs is this and the three fields around it: see
    /// [`reconfigure`](crate::reconfigure), and [`watch_rules`](crate::watch_rules) for a file.
    pub rules: Vec<Rule>,
    /// How many transactions are kept in a second, all together; see
    /// [`Sampling::max_per_second`](crate::Sampling::max_per_second). Default: no cap.
    #[serde(deserialize_with = "crate::read::open_number")]
    pub max_per_second: Option<f64>,
    /// How many transactions of each op are kept in a second whatever the rates; see
    /// [`Sampling::floor_per_second`](crate::Sampling::floor_per_second). Default: no floor.
    #[serde(deserialize_with = "crate::read::open_number")]
    pub floor_per_second: Option<f64>,
    /// Whether sampling gives way while delivering is in trouble: every 10 s in which the queue
    /// overflowed, or a rate limit of the server was active, halves the rates once more, at most
    /// ten times; as soon as neither is the case they are as before. Default: yes.
    #[serde(deserialize_with = "crate::read::switch")]
    pub enable_backpressure_handling: bool,
    /// Which requests get trace headers, by the URL as it is given to
    /// [`trace_headers_for`](crate::trace_headers_for). Default: none set, which means all; an
    /// empty list means none. The server of the DSN gets none in any case.
    pub trace_propagation_targets: Option<Vec<PropagationTarget>>,
    /// Whether W3C `traceparent` goes out besides `sentry-trace`. Default: no.
    #[serde(deserialize_with = "crate::read::switch")]
    pub propagate_traceparent: bool,
    /// Whether a trace is continued only if it names the same organisation as this process. By
    /// default one that names none is continued, too, and one of another organisation never.
    #[serde(deserialize_with = "crate::read::switch")]
    pub strict_trace_continuation: bool,
    /// The organisation's id, digits. Default: the one in the DSN's host (`o123.ingest...`), if
    /// there is one.
    pub org_id: Option<String>,
    /// Children kept in a transaction; more are dropped and counted. 1 to 100,000, default 1000.
    ///
    /// The server cuts a transaction's spans at 800 KiB, which 1000 seldom reach; what would be cut
    /// there is dropped and counted here.
    #[serde(deserialize_with = "crate::read::count")]
    pub max_spans: usize,
    /// Whether the server is told what was dropped and why: every 30 s at most, and at each flush.
    /// Default: yes.
    #[serde(deserialize_with = "crate::read::switch")]
    pub send_client_reports: bool,
    /// How long the guard's drop waits for what is still to be sent; what is not settled by then is
    /// in the spool, if there is one, else dropped and counted. 0 to 1 day, default 2 s.
    #[serde(deserialize_with = "crate::read::seconds")]
    pub shutdown_timeout: Duration,
    /// The proxy for an `http` DSN, and for an `https` one that has no proxy of its own. Default:
    /// `http_proxy`, else `HTTP_PROXY` (not read under CGI, where a client could set it).
    ///
    /// `http://[USER:PASSWORD@]HOST[:PORT]`, or the same with `https`; without a scheme it is
    /// `http`. An empty text: no proxy, whatever the environment says.
    pub http_proxy: Option<String>,
    /// The proxy for an `https` DSN, in the same form. Default: `https_proxy`, else `HTTPS_PROXY`,
    /// else as for an `http` DSN.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, separated by commas. Default: `no_proxy`, else
    /// `NO_PROXY`.
    ///
    /// Each is a host (`example.com`), which covers hosts below it, a host with a port
    /// (`example.com:8080`), or `*` for all. It does not concern a proxy that is set explicitly
    /// here, unless it is set explicitly itself.
    pub no_proxy: Option<String>,
    /// A PEM file with certificates to trust besides those of the public authorities, which are
    /// built in. Read once, by `init`. Default: `SSL_CERT_FILE`, where TLS is used at all.
    ///
    /// With the feature `platform-verifier` it is the system's store that is trusted by default,
    /// and `SSL_CERT_FILE` means there what the system says; a file that is named here is trusted
    /// besides the public authorities, and the system's store is not asked then.
    pub ca_certs: Option<PathBuf>,
    /// How the bodies of requests are compressed. Default: by gzip, but not to a server on this
    /// machine ([`Compression::Auto`]).
    pub compression: Compression,
    /// Which version of HTTP is spoken with the server. Default: [`HttpVersion::Http1`].
    pub http_version: HttpVersion,
    /// How long a request may take, the look-up of the host's name, connecting and the answer
    /// included. 1 ms to 1 day, default 10 s.
    #[serde(deserialize_with = "crate::read::seconds")]
    pub request_timeout: Duration,
    /// How long connecting may take, and how long the look-up of the host's name is waited for. 1
    /// ms to 1 day, default 3 s.
    #[serde(deserialize_with = "crate::read::seconds")]
    pub connect_timeout: Duration,
    /// Where envelopes go. Default: to the DSN's server. In files: `"http"`, `"null"` or
    /// `{"file": "FOLDER"}`.
    pub transport: Delivery,
    /// Slots of 64 bytes that one thread may fill before the flusher has read them; a span takes
    /// one, and each attribute one or more. What finds none is dropped and counted. 64 to
    /// `ring_bytes / 64`, default 131,072 (8 MiB).
    #[serde(deserialize_with = "crate::read::count")]
    pub ring_slots: usize,
    /// Memory of all rings together, in bytes, rounded up to whole MiB. From 4096, default 16 MiB,
    /// at most 1 GiB.
    ///
    /// Threads share it in pieces of 64 KiB, as they need them.
    #[serde(deserialize_with = "crate::read::count")]
    pub ring_bytes: usize,
    /// Envelopes that wait for the uploaders or are being sent, in bytes; what does not fit is
    /// dropped and counted.
    /// From 1, default 8 MiB, at most 64 GiB (1 GiB on 32 bits).
    #[serde(deserialize_with = "crate::read::count")]
    pub queue_bytes: usize,
    /// The same in envelopes. 1 to 1,048,576, default 16,384.
    #[serde(deserialize_with = "crate::read::count")]
    pub queue_envelopes: usize,
    /// Requests under way at the same time, at most: one connection to a server that is 40 ms away
    /// takes 25 envelopes a second. Threads for them are started as they are needed, beginning with
    /// one. 1 to 64, default 4.
    ///
    /// Envelopes may then arrive in another order than they were finished in, which is nothing to
    /// Sentry.
    #[serde(deserialize_with = "crate::read::count")]
    pub upload_concurrency: usize,
    /// How often an envelope is sent again when no answer came (no connection, a time-out, TLS). 0
    /// to 100, default 2. With a `spool_dir` it is tried until it is too old.
    ///
    /// Never again after an answer, whatever that was. The event id stays the same. Between two
    /// tries the server is left alone for 1 s, doubling up to 60 s, varied by a quarter; meanwhile
    /// envelopes wait in the queue. The first time is at once: most often it was a kept connection
    /// that the server had closed. While the library is being closed nothing pauses.
    #[serde(deserialize_with = "crate::read::count")]
    pub upload_retries: usize,
    /// A folder for envelopes that cannot be sent now: no answer, more than half of `queue_bytes`
    /// or `queue_envelopes` waiting, or waiting for more than a second. They survive the process,
    /// and this one or the next one sends them, ten a second. It is made if it is not there, for
    /// the owner alone. Default: none, and envelopes wait in memory alone.
    ///
    /// Several processes may share it: each has a folder of its own in there, and takes over those
    /// of processes that have died, if they sent to the same DSN. A folder that cannot be used is
    /// no error of `init`: it is counted ([`Stats::spool`](crate::Stats::spool)), and tried again.
    pub spool_dir: Option<PathBuf>,
    /// The files of one process in `spool_dir`, in bytes; beyond, the oldest envelopes go, and are
    /// counted. From 4096, default 16 MiB, at most 1 GiB.
    #[serde(deserialize_with = "crate::read::count")]
    pub spool_bytes: usize,
    /// The envelopes in them. 1 to 1,048,576, default 65,536.
    #[serde(deserialize_with = "crate::read::count")]
    pub spool_envelopes: usize,
    /// How old they may become. 1 s to 30 days, default 1 day.
    #[serde(deserialize_with = "crate::read::seconds")]
    pub spool_age: Duration,
    /// How long a finished transaction waits at most before the flusher looks for it; it looks
    /// sooner while rings fill. 1 ms to 1 day, default 20 ms.
    #[serde(deserialize_with = "crate::read::seconds")]
    pub flush_interval: Duration,
    /// Transactions of which the flusher may hold parts, because they published some of their
    /// children early; beyond, the oldest is given up and counted. 1 to 16,777,216, default 10,000.
    #[serde(deserialize_with = "crate::read::count")]
    pub open_transactions: usize,
    /// Slots of 64 bytes that the flusher holds for unfinished transactions. 1 to 16,777,216 (1
    /// GiB), default 65,536 (4 MiB).
    #[serde(deserialize_with = "crate::read::count")]
    pub open_slots: usize,
    /// The age at which an unfinished transaction is given up. 1 ms to 1 day, default 1 hour.
    #[serde(deserialize_with = "crate::read::seconds")]
    pub open_age: Duration,
    /// The age at which an open transaction is reported as stuck, once: to `on_stuck`, in the log
    /// (target `hotspan`, level warn; one line a minute at most, naming one and counting the
    /// others), and in [`Stats::stuck`](crate::Stats::stuck). 1 ms to 1 day. Default: none, nobody
    /// watches and nothing is paid for it.
    ///
    /// A report says which transaction, in which step, on which thread, and for how long. The
    /// flusher looks at what every thread has open, and at transactions that were detached and are
    /// on no thread (in a queue, in a future that waits), every eighth of this time and not more
    /// often than `flush_interval`. Recording threads are not slowed.
    ///
    /// Not seen are transactions that are not sampled; detached ones that the flusher no longer
    /// holds (`open_transactions`, `open_slots`, `open_age`) or whose leave of their thread found
    /// no room in its ring, while they are on no thread. One whose end was lost (`ring_full`,
    /// `no_ring`) may be reported.
    #[serde(deserialize_with = "crate::read::open_seconds")]
    pub stuck_after: Option<Duration>,
    /// What to call for each transaction that is stuck; needs `stuck_after`. Default: nothing. Not
    /// read from files.
    ///
    /// It runs on the flusher's thread and must be quick: rings are not drained meanwhile. It must
    /// not wait for [`Guard::flush`](crate::Guard::flush) or [`Guard::close`](crate::Guard::close),
    /// which wait for that thread. A panic is caught and counted
    /// ([`Stats::callback_panics`](crate::Stats::callback_panics)); after three it is not called
    /// again.
    ///
    /// ```
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let config = hotspan::Config {
    ///     stuck_after: Some(Duration::from_secs(30)),
    ///     on_stuck: Some(Arc::new(|open| {
    ///         let thread = open.thread_name.as_deref().unwrap_or("no thread");
    ///         eprintln!("{}: {} for {:?}, on {thread}", open.name, open.span_op, open.span_age);
    ///     })),
    ///     ..hotspan::Config::default()
    /// };
    /// # assert!(config.on_stuck.is_some());
    /// ```
    #[serde(skip)]
    #[expect(clippy::type_complexity, reason = "users write a closure, and no type")]
    pub on_stuck: Option<Arc<dyn Fn(&InFlight) + Send + Sync>>,
    /// What each transaction goes through before it is sent, in this order: each gets what the one
    /// before it returned, may change it, and drops it by returning `None`. Default: none. Not read
    /// from files.
    ///
    /// They run on the flusher's thread, must be quick and must not wait for a flush; see the
    /// module [`event`](crate::event) for that, for what can be changed, and for what a panic does.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let config = hotspan::Config {
    ///     event_processors: vec![Arc::new(|mut event| {
    ///         event.tags.insert("region".into(), "eu".into());
    ///         Some(event)
    ///     })],
    ///     ..hotspan::Config::default()
    /// };
    /// # assert_eq!(config.event_processors.len(), 1);
    /// ```
    #[serde(skip)]
    pub event_processors: Vec<EventProcessor>,
    /// The same, called last: it sees what is going to be sent. Default: none. Not read from files.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let config = hotspan::Config {
    ///     before_send_transaction: Some(Arc::new(|mut event| {
    ///         event.data.remove("password");
    ///         event.spans.retain(|span| span.op != "cache.get");
    ///         (event.name != "GET /health").then_some(event)
    ///     })),
    ///     ..hotspan::Config::default()
    /// };
    /// # assert!(config.before_send_transaction.is_some());
    /// ```
    #[serde(skip)]
    pub before_send_transaction: Option<BeforeSend>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dsn: None,
            release: None,
            environment: None,
            dist: None,
            server_name: None,
            debug: None,
            traces_sample_rate: None,
            traces_sampler: None,
            rules: Vec::new(),
            max_per_second: None,
            floor_per_second: None,
            enable_backpressure_handling: true,
            trace_propagation_targets: None,
            propagate_traceparent: false,
            strict_trace_continuation: false,
            org_id: None,
            max_spans: 1000,
            send_client_reports: true,
            shutdown_timeout: Duration::from_secs(2),
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            ca_certs: None,
            compression: Compression::Auto,
            http_version: HttpVersion::Http1,
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            transport: Delivery::Http,
            ring_slots: 131_072,
            ring_bytes: 16 << 20,
            queue_bytes: 8 << 20,
            queue_envelopes: 16_384,
            upload_concurrency: 4,
            upload_retries: 2,
            spool_dir: None,
            spool_bytes: 16 << 20,
            spool_envelopes: 65_536,
            spool_age: Duration::from_secs(24 * 60 * 60),
            flush_interval: Duration::from_millis(20),
            open_transactions: 10_000,
            open_slots: 65_536,
            open_age: Duration::from_secs(3600),
            stuck_after: None,
            on_stuck: None,
            event_processors: Vec::new(),
            before_send_transaction: None,
        }
    }
}

/// `Config::on_stuck`, with a `Debug`.
#[derive(Clone)]
pub(crate) struct OnStuck(pub(crate) Arc<dyn Fn(&InFlight) + Send + Sync>);

impl fmt::Debug for OnStuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnStuck(..)")
    }
}

/// Where finished envelopes go.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Delivery {
    /// To the DSN's server over HTTP or HTTPS; with no DSN, recording is off.
    #[default]
    Http,
    /// Into this folder, one raw envelope a file; no DSN needed.
    File(PathBuf),
    /// Nowhere: encoded, counted as delivered, thrown away. For measuring.
    Null,
    /// To transports of one's own, which this function makes, one for each of
    /// [`Config::upload_concurrency`]; no DSN needed. It is called by `init`, on the thread that
    /// calls that.
    Custom(Arc<dyn Fn() -> Box<dyn Transport> + Send + Sync>),
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http => f.write_str("Http"),
            Self::File(folder) => f.debug_tuple("File").field(folder).finish(),
            Self::Null => f.write_str("Null"),
            Self::Custom(_) => f.write_str("Custom(..)"),
        }
    }
}
