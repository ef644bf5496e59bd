//! From [`Config`] to [`Resolved`]: the environment asked, every value parsed, every bound checked.
//!
//! The environment is a function, so that tests need not touch the process's own; it is read here
//! alone, on the thread that calls `init`. An explicit value beats a variable, an empty variable is
//! none, and whatever is wrong is named by field and variable, and never shown.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Compression, Config, Delivery, HttpVersion, OnStuck, Proxy, proxy};
use crate::dsn::{Dsn, Scheme};
use crate::error::ConfigError;
use crate::flush::hooks::Hooks;
use crate::propagate::{Incoming, Policy, PropagationTarget, Targets};
use crate::sampling::{Sampling, Table, millionths};

/// A configuration that has been checked: behind it nothing needs to be checked again.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "HTTP delivery reads the rest"))]
pub(crate) struct Resolved {
    /// `None`: nothing goes over HTTP.
    pub(crate) dsn: Option<Dsn>,
    pub(crate) release: Option<String>,
    pub(crate) environment: Option<String>,
    pub(crate) dist: Option<String>,
    pub(crate) server_name: Option<String>,
    pub(crate) debug: bool,
    /// Whether anything says what is to be kept; if not, traces are handed on and nothing is
    /// recorded.
    pub(crate) is_tracing: bool,
    pub(crate) sampling: Arc<Table>,
    pub(crate) enable_backpressure_handling: bool,
    pub(crate) targets: Arc<Targets>,
    pub(crate) propagate_traceparent: bool,
    pub(crate) strict_trace_continuation: bool,
    pub(crate) org_id: Option<String>,
    /// The trace that the process was started in.
    pub(crate) inherited: Incoming,
    pub(crate) max_spans: usize,
    pub(crate) send_client_reports: bool,
    pub(crate) shutdown_timeout: Duration,
    /// The proxy on the way to the DSN's host; exceptions are already applied.
    pub(crate) proxy: Option<Proxy>,
    pub(crate) ca_certs: Option<PathBuf>,
    /// The variable that names them, if one does.
    pub(crate) ca_certs_variable: Option<&'static str>,
    pub(crate) compression: Compression,
    pub(crate) http_version: HttpVersion,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) transport: Delivery,
    pub(crate) ring_slots: usize,
    pub(crate) ring_bytes: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) queue_envelopes: usize,
    pub(crate) upload_concurrency: usize,
    pub(crate) upload_retries: u32,
    pub(crate) spool_dir: Option<PathBuf>,
    pub(crate) spool_bytes: usize,
    pub(crate) spool_envelopes: usize,
    pub(crate) spool_age: Duration,
    pub(crate) flush_interval: Duration,
    pub(crate) open_transactions: usize,
    pub(crate) open_slots: usize,
    pub(crate) open_age: Duration,
    pub(crate) stuck_after: Option<Duration>,
    pub(crate) on_stuck: Option<OnStuck>,
    pub(crate) hooks: Option<Hooks>,
}

impl Config {
    /// Asks `env` for what is left open, and checks everything.
    pub(crate) fn resolve(
        self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Resolved, ConfigError> {
        let env = Environment(env);
        let dsn = resolve_dsn(&self, &env)?;
        let proxy = match (&dsn, &self.transport) {
            (Some(dsn), Delivery::Http) => proxy::choose(&self, dsn, &env)?,
            _ => None,
        };
        self.check_bounds()?;
        if self.compression == Compression::Zstd && !cfg!(feature = "zstd") {
            let needed = "compressing by zstd needs the feature `zstd`";
            return Err(ConfigError::unsupported("compression", needed));
        }
        if self.http_version == HttpVersion::Http2 && !cfg!(feature = "http2") {
            let needed = "HTTP/2 needs the feature `http2`";
            return Err(ConfigError::unsupported("http_version", needed));
        }
        let (ca_certs, ca_certs_variable) =
            resolve_ca_certs(self.ca_certs, dsn.as_ref(), proxy.as_ref(), &env);

        let release = env.first("release", self.release.as_deref(), ["SENTRY_RELEASE"]);
        let release = check_text(release, &RELEASE)?;
        let dist = check_text(env.first("dist", self.dist.as_deref(), []), &DIST)?;
        if dist.is_some() && release.is_none() {
            return Err(ConfigError::malformed("dist", "it says nothing without a release"));
        }
        let environment =
            env.first("environment", self.environment.as_deref(), ["SENTRY_ENVIRONMENT"]);
        let environment = match environment {
            None => Some(ENVIRONMENT_DEFAULT.to_owned()),
            set => check_text(set, &ENVIRONMENT)?,
        };
        let server_name = match env.first("server_name", self.server_name.as_deref(), []) {
            None => host_name(),
            set => check_text(set, &SERVER_NAME)?,
        };
        let sampling = Sampling {
            traces_sample_rate: resolve_rate(self.traces_sample_rate, &env)?.map(rate_of),
            traces_sampler: self.traces_sampler,
            rules: self.rules,
            max_per_second: self.max_per_second,
            floor_per_second: self.floor_per_second,
        };
        let is_tracing = sampling.traces_sample_rate.is_some()
            || sampling.traces_sampler.is_some()
            || !sampling.rules.is_empty();
        let org_id = resolve_org(self.org_id, dsn.as_ref())?;
        let strict = self.strict_trace_continuation;
        let policy = Policy { org_id: org_id.as_deref(), strict };
        Ok(Resolved {
            is_tracing,
            sampling: Arc::new(Table::compile(sampling).map_err(ConfigError::sampling)?),
            enable_backpressure_handling: self.enable_backpressure_handling,
            targets: resolve_targets(self.trace_propagation_targets.as_deref(), dsn.as_ref())?,
            propagate_traceparent: self.propagate_traceparent,
            strict_trace_continuation: strict,
            inherited: inherited(&env, &policy),
            org_id,
            debug: resolve_debug(self.debug, &env)?,
            dsn,
            release,
            environment,
            dist,
            server_name,
            max_spans: self.max_spans,
            send_client_reports: self.send_client_reports,
            shutdown_timeout: self.shutdown_timeout,
            proxy,
            ca_certs,
            ca_certs_variable,
            compression: self.compression,
            http_version: self.http_version,
            request_timeout: self.request_timeout,
            connect_timeout: self.connect_timeout,
            transport: self.transport,
            ring_slots: self.ring_slots,
            ring_bytes: self.ring_bytes,
            queue_bytes: self.queue_bytes,
            queue_envelopes: self.queue_envelopes,
            upload_concurrency: self.upload_concurrency,
            upload_retries: self.upload_retries.try_into().unwrap_or(u32::MAX),
            spool_dir: self.spool_dir,
            spool_bytes: self.spool_bytes,
            spool_envelopes: self.spool_envelopes,
            spool_age: self.spool_age,
            flush_interval: self.flush_interval,
            open_transactions: self.open_transactions,
            open_slots: self.open_slots,
            open_age: self.open_age,
            stuck_after: self.stuck_after,
            on_stuck: self.on_stuck.map(OnStuck),
            hooks: Hooks::new(self.event_processors, self.before_send_transaction),
        })
    }

    /// Every number and duration within what its documentation says.
    fn check_bounds(&self) -> Result<(), ConfigError> {
        let bytes = match usize::BITS {
            64.. => "expected 1 byte to 64 GiB",
            _ => "expected 1 byte to 1 GiB",
        };
        for (field, value, max, right) in [
            ("max_spans", self.max_spans, 100_000, "expected 1 to 100000"),
            ("queue_bytes", self.queue_bytes, BYTES_MAX, bytes),
            ("queue_envelopes", self.queue_envelopes, 1 << 20, "expected 1 to 1048576"),
            ("upload_concurrency", self.upload_concurrency, 64, "expected 1 to 64"),
            ("spool_envelopes", self.spool_envelopes, 1 << 20, "expected 1 to 1048576"),
            ("open_transactions", self.open_transactions, OPEN_MAX, "expected 1 to 16777216"),
            ("open_slots", self.open_slots, OPEN_MAX, "expected 1 to 16777216"),
        ] {
            if value == 0 || value > max {
                return Err(ConfigError::out_of_range(field, right));
            }
        }
        if self.ring_bytes < RING_SLOTS_MIN * SLOT_BYTES || self.ring_bytes > RING_BYTES_MAX {
            let right = "expected 4096 bytes (64 slots of 64) to 1 GiB";
            return Err(ConfigError::out_of_range("ring_bytes", right));
        }
        if self.ring_slots < RING_SLOTS_MIN || self.ring_slots > self.ring_bytes / SLOT_BYTES {
            let right = "expected 64 to ring_bytes / 64";
            return Err(ConfigError::out_of_range("ring_slots", right));
        }
        for (field, value) in [
            ("request_timeout", self.request_timeout),
            ("connect_timeout", self.connect_timeout),
            ("flush_interval", self.flush_interval),
            ("open_age", self.open_age),
            ("stuck_after", self.stuck_after.unwrap_or(DAY)),
        ] {
            if value < Duration::from_millis(1) || value > DAY {
                return Err(ConfigError::out_of_range(field, "expected 1 ms to 1 day"));
            }
        }
        if self.spool_bytes < 4096 || self.spool_bytes > 1 << 30 {
            return Err(ConfigError::out_of_range("spool_bytes", "expected 4096 bytes to 1 GiB"));
        }
        if self.spool_age < Duration::from_secs(1) || self.spool_age > DAY * 30 {
            return Err(ConfigError::out_of_range("spool_age", "expected 1 second to 30 days"));
        }
        if self.spool_dir.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(ConfigError::malformed("spool_dir", "expected a path"));
        }
        if self.upload_retries > 100 {
            return Err(ConfigError::out_of_range("upload_retries", "expected 0 to 100"));
        }
        if self.shutdown_timeout > DAY {
            return Err(ConfigError::out_of_range("shutdown_timeout", "expected at most 1 day"));
        }
        Ok(())
    }
}

/// The variables of this process. One that is not UTF-8 comes with its bad parts replaced, so that
/// it is refused rather than overlooked.
pub(crate) fn process_environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Where open fields are looked up.
pub(super) struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

/// A text that was set, and where.
pub(super) struct Setting {
    pub(super) field: &'static str,
    /// `None`: in the `Config`.
    pub(super) variable: Option<&'static str>,
    /// Empty only if set explicitly, to say "none".
    pub(super) value: String,
}

impl Environment<'_> {
    /// A variable that is set and not empty.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim_ascii().is_empty())
    }

    /// The explicit value, else the first of the variables that is there.
    pub(super) fn first(
        &self,
        field: &'static str,
        explicit: Option<&str>,
        names: impl IntoIterator<Item = &'static str>,
    ) -> Option<Setting> {
        if let Some(value) = explicit {
            return Some(Setting { field, variable: None, value: value.to_owned() });
        }
        names.into_iter().find_map(|name| {
            let value = self.read(name)?;
            Some(Setting { field, variable: Some(name), value })
        })
    }
}

fn resolve_dsn(config: &Config, env: &Environment<'_>) -> Result<Option<Dsn>, ConfigError> {
    let setting = env.first("dsn", config.dsn.as_deref(), ["SENTRY_DSN"]);
    let Some(setting) = setting.filter(|setting| !setting.value.trim_ascii().is_empty()) else {
        return Ok(None);
    };
    let dsn: Dsn = setting
        .value
        .parse()
        .map_err(|error| ConfigError::dsn(error).with_variable(setting.variable))?;
    if !cfg!(feature = "http") && matches!(config.transport, Delivery::Http) {
        let needed = "sending to a DSN needs the feature `http`";
        return Err(ConfigError::unsupported("dsn", needed).with_variable(setting.variable));
    }
    let is_https = dsn.scheme() == Scheme::Https.as_str();
    if is_https && !cfg!(feature = "rustls") && matches!(config.transport, Delivery::Http) {
        let needed = "sending over https needs the feature `rustls`";
        return Err(ConfigError::unsupported("dsn", needed).with_variable(setting.variable));
    }
    Ok(Some(dsn))
}

/// The certificates to trust, and the variable that they come from. The variable is asked only
/// where TLS is used, and where the system's own verifier does not see to it.
fn resolve_ca_certs(
    explicit: Option<PathBuf>,
    dsn: Option<&Dsn>,
    proxy: Option<&Proxy>,
    env: &Environment<'_>,
) -> (Option<PathBuf>, Option<&'static str>) {
    const VARIABLE: &str = "SSL_CERT_FILE";
    if let Some(file) = explicit {
        return (Some(file).filter(|file| !file.as_os_str().is_empty()), None);
    }
    let is_https = dsn.is_some_and(|dsn| dsn.scheme() == Scheme::Https.as_str())
        || proxy.is_some_and(Proxy::is_https);
    if !is_https || cfg!(feature = "platform-verifier") {
        return (None, None);
    }
    match env.read(VARIABLE) {
        Some(file) => (Some(PathBuf::from(file)), Some(VARIABLE)),
        None => (None, None),
    }
}

fn resolve_rate(explicit: Option<f64>, env: &Environment<'_>) -> Result<Option<u32>, ConfigError> {
    const FIELD: &str = "traces_sample_rate";
    const VARIABLE: &str = "SENTRY_TRACES_SAMPLE_RATE";
    const RIGHT: &str = "expected a number from 0 to 1";
    if let Some(rate) = explicit {
        let out_of_range = || ConfigError::out_of_range(FIELD, RIGHT);
        return millionths(rate).ok_or_else(out_of_range).map(Some);
    }
    let Some(text) = env.read(VARIABLE) else { return Ok(None) };
    let error = match text.trim_ascii().parse() {
        Ok(rate) => match millionths(rate) {
            Some(threshold) => return Ok(Some(threshold)),
            None => ConfigError::out_of_range(FIELD, RIGHT),
        },
        Err(_) => ConfigError::malformed(FIELD, RIGHT),
    };
    Err(error.with_variable(Some(VARIABLE)))
}

/// The rate of so many millionths.
fn rate_of(millionths: u32) -> f64 {
    f64::from(millionths) / 1e6
}

/// The organisation: what is said, else what the DSN's host says.
fn resolve_org(explicit: Option<String>, dsn: Option<&Dsn>) -> Result<Option<String>, ConfigError> {
    match explicit.map(|id| id.trim().to_owned()) {
        Some(id) if id.is_empty() => Ok(None),
        Some(id) if id.len() > ORG_DIGITS_MAX || !id.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(ConfigError::malformed("org_id", "expected up to 20 digits"))
        }
        Some(id) => Ok(Some(id)),
        None => Ok(dsn.and_then(Dsn::org_id).map(|id| id.to_string())),
    }
}

fn resolve_targets(
    list: Option<&[PropagationTarget]>,
    dsn: Option<&Dsn>,
) -> Result<Arc<Targets>, ConfigError> {
    let own = dsn.map(Dsn::authority);
    let targets = Targets::new(list, own.as_deref()).map_err(|_| {
        let right = "expected texts, or regular expressions that compile";
        ConfigError::malformed("trace_propagation_targets", right)
    })?;
    Ok(Arc::new(targets))
}

/// The trace that the environment hands on, unless it says that it is not meant.
fn inherited(env: &Environment<'_>, policy: &Policy<'_>) -> Incoming {
    let wanted = env.read("SENTRY_USE_ENVIRONMENT").is_none_or(|text| {
        let no = ["false", "f", "no", "n", "off", "0"];
        !no.contains(&text.trim_ascii().to_ascii_lowercase().as_str())
    });
    let variables = ["SENTRY_TRACE", "SENTRY_BAGGAGE"];
    let pairs = variables.into_iter().filter_map(|name| Some((name, env.read(name)?)));
    if wanted { Incoming::read(pairs, policy) } else { Incoming::default() }
}

fn resolve_debug(explicit: Option<bool>, env: &Environment<'_>) -> Result<bool, ConfigError> {
    const VARIABLE: &str = "SENTRY_DEBUG";
    if let Some(debug) = explicit {
        return Ok(debug);
    }
    let Some(text) = env.read(VARIABLE) else { return Ok(false) };
    match text.trim_ascii().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => {
            Err(ConfigError::malformed("debug", "expected true or false")
                .with_variable(Some(VARIABLE)))
        }
    }
}

/// What the server takes for one of the names that describe the application.
struct TextRule {
    chars_max: usize,
    /// Characters that may not stand in it, besides control characters.
    without: &'static [char],
    /// Whole texts that it may not be, besides white space alone.
    is_reserved: fn(&str) -> bool,
    right: &'static str,
}

const RELEASE: TextRule = TextRule {
    chars_max: 200,
    without: &[],
    is_reserved: |text| matches!(text, "." | "..") || text.chars().all(|c| c == '/'),
    right: "expected up to 200 characters, no control characters; \
            not `.`, `..`, slashes or spaces alone",
};
const ENVIRONMENT: TextRule = TextRule {
    chars_max: 64,
    without: &['/'],
    is_reserved: |_| false,
    right: "expected up to 64 characters, neither control characters nor slashes; \
            not spaces alone",
};
const DIST: TextRule = TextRule {
    chars_max: 64,
    without: &[],
    is_reserved: |_| false,
    right: "expected up to 64 characters, no control characters; not spaces alone",
};
const SERVER_NAME: TextRule = TextRule {
    chars_max: 256,
    without: &[],
    is_reserved: |_| false,
    right: "expected up to 256 characters, no control characters; not spaces alone",
};

impl TextRule {
    fn allows(&self, text: &str) -> bool {
        text.chars().count() <= self.chars_max
            && !text.chars().any(|c| c.is_control() || self.without.contains(&c))
            && !text.trim().is_empty()
            && !(self.is_reserved)(text)
    }
}

/// The text, if one is set and it is not empty.
fn check_text(setting: Option<Setting>, rule: &TextRule) -> Result<Option<String>, ConfigError> {
    match setting {
        None => Ok(None),
        Some(setting) if setting.value.is_empty() => Ok(None),
        Some(setting) if rule.allows(&setting.value) => Ok(Some(setting.value)),
        Some(Setting { field, variable, .. }) => {
            Err(ConfigError::malformed(field, rule.right).with_variable(variable))
        }
    }
}

/// The machine's name, where the system gives it as a file.
fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = text.trim();
    SERVER_NAME.allows(name).then(|| name.to_owned())
}

const ENVIRONMENT_DEFAULT: &str = if cfg!(debug_assertions) { "development" } else { "production" };
/// What the numbers of chunks can address.
const RING_BYTES_MAX: usize = 1 << 30;
const SLOT_BYTES: usize = 64;
const RING_SLOTS_MIN: usize = 64;
const ORG_DIGITS_MAX: usize = 20;
const OPEN_MAX: usize = 1 << 24;
/// Far below where adding two of them could overflow.
const BYTES_MAX: usize = if usize::BITS >= 64 { 1_usize.wrapping_shl(36) } else { 1 << 30 };
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
