//! [`HttpOptions`] and what may be wrong with them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use super::CLIENT;
use super::lookup::{LookUp, system};
use crate::config::{Compression, Config, Delivery, HttpVersion, Resolved, process_environment};
use crate::dsn::Dsn;
use crate::error::ConfigError;

/// Where and how [`Http`](super::Http) sends.
///
/// ```
/// use hotspan::transport::{Http, HttpOptions};
///
/// let dsn = "http://0123456789abcdef0123456789abcdef@relay.example.com:3000/42".parse()?;
/// let options = HttpOptions::for_dsn(&dsn).proxy("http://proxy.example.com:3128");
/// let transport = Http::new(options)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct HttpOptions {
    pub(super) url: String,
    pub(super) auth: String,
    pub(super) user_agent: String,
    pub(super) proxy: Option<String>,
    pub(super) ca_certs: Option<PathBuf>,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) connections: usize,
    pub(super) compression: Compression,
    pub(super) version: HttpVersion,
    pub(super) lookup: Arc<LookUp>,
}

impl HttpOptions {
    /// Posts to the DSN's project, with its key.
    #[must_use]
    pub fn for_dsn(dsn: &Dsn) -> Self {
        Self::new(dsn.envelope_url(), dsn.auth_header(CLIENT))
    }

    /// What [`init`](crate::init) would take for this configuration, whatever its `transport`: the
    /// DSN, the proxy, the certificates, the compression and the time-outs, from the environment
    /// where that is asked. `None` with no DSN. For a transport of one's own that wraps
    /// [`Http`](super::Http).
    ///
    /// # Errors
    /// As `init`: a bad value, named and not shown.
    ///
    /// ```
    /// use hotspan::{Config, transport::HttpOptions};
    ///
    /// let dsn = Some("http://abc@example.com/1".to_owned());
    /// let options = HttpOptions::for_config(&Config { dsn, ..Config::default() })?;
    /// assert!(options.is_some());
    /// # Ok::<(), hotspan::ConfigError>(())
    /// ```
    pub fn for_config(config: &Config) -> Result<Option<Self>, ConfigError> {
        let config = Config { transport: Delivery::Http, ..config.clone() };
        let resolved = config.resolve(&process_environment)?;
        Ok(resolved.dsn.as_ref().map(|dsn| Self::resolved(&resolved, dsn)))
    }

    pub(crate) fn resolved(resolved: &Resolved, dsn: &Dsn) -> Self {
        let mut options = Self::for_dsn(dsn)
            .timeout(resolved.request_timeout)
            .connect_timeout(resolved.connect_timeout)
            .compression(resolved.compression)
            .version(resolved.http_version);
        if let Some(proxy) = &resolved.proxy {
            options = options.proxy(proxy.url());
        }
        if let Some(file) = &resolved.ca_certs {
            options = options.ca_certs(file.clone());
        }
        options
    }

    /// Posts to `url`, with `auth` as `X-Sentry-Auth`.
    #[must_use]
    pub fn new(url: impl Into<String>, auth: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            auth: auth.into(),
            user_agent: CLIENT.to_owned(),
            proxy: None,
            ca_certs: None,
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            connections: 1,
            compression: Compression::default(),
            version: HttpVersion::default(),
            lookup: Arc::new(system),
        }
    }

    /// The `User-Agent`. Default: `hotspan/` and its version.
    #[must_use]
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// Goes through this proxy (`http://` or `https://`, a password included if it wants one), by
    /// `CONNECT` whatever the scheme of the server. Default: none. An empty text means none.
    #[must_use]
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// The proxy that is gone through, to be shown: without user and password. `None` if there is
    /// none.
    ///
    /// ```
    /// use hotspan::transport::HttpOptions;
    ///
    /// let options = HttpOptions::new("http://relay.internal/api/1/envelope/", "Sentry");
    /// let options = options.proxy("http://user:password@proxy.internal:3128");
    /// assert_eq!(options.shown_proxy().as_deref(), Some("http://proxy.internal:3128"));
    /// ```
    #[must_use]
    pub fn shown_proxy(&self) -> Option<String> {
        let url = self.proxy.as_deref().filter(|url| !url.is_empty())?;
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
        Some(format!("{scheme}://{address}"))
    }

    /// A PEM file with certificates to trust besides those of the public authorities. Default:
    /// none. Needs the feature `rustls`.
    ///
    /// With the feature `platform-verifier` the system's own store is not asked when a file is
    /// named: trusted are the public authorities that are built in, and the file.
    #[must_use]
    pub fn ca_certs(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_certs = Some(file.into());
        self
    }

    /// How long one envelope may take in all, from the look-up of the name to the end of the
    /// answer. Default: 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a connection may take to come about, TLS and proxy included; and how long the
    /// look-up of a name is waited for. Default: 3 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How many connections are kept open while nothing is sent: as many as there are clones that
    /// send at the same time. Default: 1.
    #[must_use]
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = count;
        self
    }

    /// How bodies are compressed. Default: by gzip, but not to a server on this machine
    /// ([`Compression::Auto`]).
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Which version of HTTP is spoken. Default: [`HttpVersion::Http1`].
    ///
    /// With [`Http2`](HttpVersion::Http2) each clone has a connection of its own and sends up to 64
    /// envelopes over it at a time ([`Transport::send_all`](super::Transport::send_all)); the
    /// [`timeout`](Self::timeout) is for all of them together.
    #[must_use]
    pub fn version(mut self, version: HttpVersion) -> Self {
        self.version = version;
        self
    }

    /// How the address of a host (the proxy's, if there is one) is found, given its name and port.
    /// Default: the operating system is asked. Addresses that stand in a URL are not asked about.
    ///
    /// It is called on a thread of its own, never twice at a time, and may block: a request waits
    /// for it only as long as it may take to connect. Its answer is used for 60 s, or until a
    /// request fails. The text of its error may be logged; a panic counts as one.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use std::sync::Arc;
    /// use hotspan::transport::HttpOptions;
    ///
    /// let url = "http://relay.internal/api/1/envelope/";
    /// let options = HttpOptions::new(url, "Sentry sentry_key=abc")
    ///     .lookup(Arc::new(|_host, port| Ok(vec![SocketAddr::from(([10, 0, 0, 7], port))])));
    /// ```
    #[must_use]
    #[expect(clippy::type_complexity, reason = "users write a closure, and no type")]
    pub fn lookup(
        mut self,
        lookup: Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>,
    ) -> Self {
        self.lookup = lookup;
        self
    }
}

/// Shows no key and no password.
impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions")
            .field("url", &self.url)
            .field("auth", &"***")
            .field("user_agent", &self.user_agent)
            .field("proxy", &self.proxy.as_ref().map(|_| "***"))
            .field("ca_certs", &self.ca_certs)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("connections", &self.connections)
            .field("compression", &self.compression)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What is wrong with an option of [`HttpOptions`]. Never shows its value, which may hold a secret.
#[derive(Debug)]
pub struct HttpError {
    option: &'static str,
    is_unsupported: bool,
    problem: String,
}

impl HttpError {
    #[cold]
    pub(super) fn new(option: &'static str, problem: impl Into<String>) -> Self {
        Self { option, is_unsupported: false, problem: problem.into() }
    }

    /// `needed` follows "is not supported by this build: ".
    #[cold]
    pub(super) fn unsupported(option: &'static str, needed: &str) -> Self {
        let problem = format!("is not supported by this build: {needed}");
        Self { option, is_unsupported: true, problem }
    }

    /// The name of the option.
    #[must_use]
    pub fn option(&self) -> &'static str {
        self.option
    }

    /// Whether the option needs a feature that this build was made without.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.is_unsupported
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.option, self.problem)
    }
}

impl std::error::Error for HttpError {}
