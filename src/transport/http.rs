//! [`Http`]: posts envelopes to a Sentry server. This file and its folder alone name `ureq` and
//! `flate2`.
//!
//! The server is not trusted. What it answers is a status and two headers; the body is read so that
//! the connection can be kept, at most [`BODY_MAX`] of it, and thrown away. A redirect is not
//! followed: it would carry the key to another host and turn the post into a get. Every phase has a
//! time-out, and all of them together have one.
//!
//! Nothing is read from the environment but by [`HttpOptions::for_config`]: a proxy is used when
//! [`HttpOptions::proxy`] names one.
//!
//! # Costs
//! About a dozen allocations a request inside `ureq`. The compressor (about 250 KiB) and its output
//! buffer are made once and used again. One connection is kept and used for one request after the
//! other.

use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use ureq::http::{Method, Request, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Proxy};

use super::{Envelope, Interrupter, Response, SendError, Transport};
use crate::config::{Config, Delivery, Resolved, process_environment};
use crate::dsn::Dsn;
use crate::error::ConfigError;

mod gzip;
mod lookup;

use gzip::Gzip;
use lookup::{Lookup, LookupCache};

/// Who we are, in `User-Agent` and `X-Sentry-Auth`.
const CLIENT: &str = concat!("hotspan/", env!("CARGO_PKG_VERSION"));

/// Of an answer's body, at most this much is read. A longer one costs the connection.
const BODY_MAX: u64 = 64 * 1024;

/// Bodies up to this size are sent as they are: one packet either way.
const PLAIN_MAX: usize = 1024;

/// An answer's status line and headers must fit into this.
const RESPONSE_HEADER_MAX: usize = 64 * 1024;

/// How long the body of an answer may take once its status is known.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection idle for longer is not used again.
const IDLE_AGE_MAX: Duration = Duration::from_secs(15);

/// Where and how [`Http`] sends.
///
/// ```
/// use hotspan::transport::{Http, HttpOptions};
///
/// let dsn = "https://0123456789abcdef0123456789abcdef@o1.ingest.example.com/42".parse()?;
/// let options = HttpOptions::for_dsn(&dsn).proxy("http://proxy.example.com:3128");
/// let transport = Http::new(options)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct HttpOptions {
    url: String,
    auth: String,
    user_agent: String,
    proxy: Option<String>,
    ca_certs: Option<PathBuf>,
    timeout: Duration,
    connect_timeout: Duration,
}

impl HttpOptions {
    /// Posts to the DSN's project, with its key.
    #[must_use]
    pub fn for_dsn(dsn: &Dsn) -> Self {
        Self::new(dsn.envelope_url(), dsn.auth_header(CLIENT))
    }

    /// What [`init`](crate::init) would take for this configuration, whatever its `transport`: the
    /// DSN, the proxy, the certificates and the time-outs, from the environment where that is
    /// asked. `None` with no DSN. For a transport of one's own that wraps [`Http`].
    ///
    /// # Errors
    /// As `init`: a bad value, named and not shown.
    ///
    /// ```
    /// use hotspan::{Config, transport::HttpOptions};
    ///
    /// let dsn = Some("https://abc@example.com/1".to_owned());
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
            .connect_timeout(resolved.connect_timeout);
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

    /// A PEM file with certificates to trust besides those of the public authorities. Default:
    /// none.
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

    /// How long a connection may take to come about, TLS and proxy included. Default: 3 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
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
            .finish()
    }
}

/// What is wrong with an option of [`HttpOptions`]. Never shows its value, which may hold a secret.
#[derive(Debug)]
pub struct HttpError {
    option: &'static str,
    problem: String,
}

impl HttpError {
    #[cold]
    fn new(option: &'static str, problem: impl Into<String>) -> Self {
        Self { option, problem: problem.into() }
    }

    /// The name of the option.
    #[must_use]
    pub fn option(&self) -> &'static str {
        self.option
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.option, self.problem)
    }
}

impl std::error::Error for HttpError {}

/// Posts each envelope to a Sentry server, over HTTP or HTTPS, by the DSN's scheme.
///
/// Bodies above 1 KiB are compressed (gzip, level 1). Not more than one request is under way, and a
/// request is never repeated. Reads no environment variable, starts no thread.
///
/// Host names are looked up by the operating system, on the thread that sends; no time-out reaches
/// that call. An address is used for up to 60 s, and looked up anew after an error.
pub struct Http {
    agent: Agent,
    uri: Uri,
    headers: HeaderMap,
    gzip: Gzip,
    lookups: Arc<LookupCache>,
}

impl Http {
    /// Checks the options and gets everything ready, but does not connect.
    ///
    /// # Errors
    /// When an option is not what it should be, or the certificates cannot be read.
    pub fn new(options: HttpOptions) -> Result<Self, HttpError> {
        let uri = server(&options.url)?;
        let mut headers = HeaderMap::new();
        let mut auth = header(&options.auth, "auth")?;
        auth.set_sensitive(true);
        headers.insert(HeaderName::from_static("x-sentry-auth"), auth);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-sentry-envelope"));
        header(&options.user_agent, "user_agent")?;
        for (name, timeout) in
            [("timeout", options.timeout), ("connect_timeout", options.connect_timeout)]
        {
            if timeout.is_zero() {
                return Err(HttpError::new(name, "must be longer than zero"));
            }
        }
        let lookups = Arc::new(LookupCache::default());
        let agent = agent(&options, &uri, Lookup(Arc::clone(&lookups)))?;
        Ok(Self { agent, uri, headers, gzip: Gzip::new(), lookups })
    }

    fn post(&mut self, body: &[u8]) -> Result<Response, ureq::Error> {
        let compress = body.len() > PLAIN_MAX;
        let mut request = Request::new(if compress { self.gzip.compress(body) } else { body });
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if compress {
            request.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let mut answer = self.agent.run(request)?;
        let response = Response {
            status: answer.status().as_u16(),
            rate_limits: joined(answer.headers(), "x-sentry-rate-limits"),
            retry_after: joined(answer.headers(), "retry-after"),
        };
        // The status decides, whatever becomes of the body. Read to its end, the connection is
        // kept; given up before, it is closed. The bound is on what comes out of the reader: should
        // the host's build have decompression in `ureq`, a small body may unpack to a huge one.
        let _ = io::copy(&mut answer.body_mut().as_reader().take(BODY_MAX), &mut io::sink());
        Ok(response)
    }
}

impl Transport for Http {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        self.post(envelope.as_bytes()).map_err(|error| {
            self.lookups.forget();
            // As text: none of its texts holds a header or a password, and its type is nobody's
            // concern.
            SendError::new(error.to_string())
        })
    }

    fn interrupter(&self) -> Option<Interrupter> {
        let agent = self.agent.clone();
        Some(Box::new(move || agent.shutdown()))
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("url", &self.uri).finish_non_exhaustive()
    }
}

fn agent(options: &HttpOptions, uri: &Uri, lookup: Lookup) -> Result<Agent, HttpError> {
    let timeout = Some(options.timeout);
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .https_only(uri.scheme_str() == Some("https"))
        .max_redirects(0)
        .proxy(proxy(options)?)
        .tls_config(TlsConfig::builder().root_certs(roots(options)?).build())
        .user_agent(&options.user_agent)
        .accept("")
        .accept_encoding("")
        .max_response_header_size(RESPONSE_HEADER_MAX)
        .max_idle_connections(1)
        .max_idle_connections_per_host(1)
        .max_idle_age(IDLE_AGE_MAX)
        .timeout_global(timeout)
        .timeout_per_call(timeout)
        .timeout_per_read(timeout)
        .timeout_per_write(timeout)
        .timeout_resolve(timeout)
        .timeout_connect(Some(options.connect_timeout))
        .timeout_send_request(timeout)
        .timeout_send_body(timeout)
        .timeout_recv_response(timeout)
        .timeout_recv_body(Some(BODY_TIMEOUT.min(options.timeout)))
        .build();
    Ok(Agent::with_parts(config, DefaultConnector::default(), lookup))
}

fn server(url: &str) -> Result<Uri, HttpError> {
    let uri: Uri = url.parse().map_err(|_| HttpError::new("url", "is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(HttpError::new("url", "must start with http:// or https://"));
    }
    let Some(authority) = uri.authority().filter(|it| !it.host().is_empty()) else {
        return Err(HttpError::new("url", "names no host"));
    };
    if authority.as_str().contains('@') {
        return Err(HttpError::new("url", "must not hold a user or a key"));
    }
    if authority.as_str() != authority.host() && authority.port_u16().is_none() {
        return Err(HttpError::new("url", "has a bad port"));
    }
    Ok(uri)
}

fn header(text: &str, option: &'static str) -> Result<HeaderValue, HttpError> {
    HeaderValue::from_str(text)
        .map_err(|_| HttpError::new(option, "holds a character that no header may"))
}

fn proxy(options: &HttpOptions) -> Result<Option<Proxy>, HttpError> {
    let Some(url) = options.proxy.as_deref().filter(|url| !url.is_empty()) else {
        return Ok(None);
    };
    let malformed = |_| HttpError::new("proxy", "is not the URL of a proxy");
    let proxy = Proxy::new(url).map_err(malformed)?;
    if !matches!(proxy.protocol(), ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https) {
        return Err(HttpError::new("proxy", "must start with http:// or https://"));
    }
    Ok(Some(proxy))
}

fn roots(options: &HttpOptions) -> Result<RootCerts, HttpError> {
    let Some(file) = &options.ca_certs else { return Ok(RootCerts::WebPki) };
    let problem = |problem: String| HttpError::new("ca_certs", problem);
    let pem = std::fs::read(file).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(problem("is not PEM".to_owned())),
        }
    }
    if certificates.is_empty() {
        return Err(problem("holds no certificate".to_owned()));
    }
    let public = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    certificates.extend(public.map(|root| Certificate::from_der(root)));
    Ok(RootCerts::from(certificates))
}

/// All headers of that name, joined by commas; those that are no text are left out.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut all = values.next()?.to_owned();
    for value in values {
        all.push(',');
        all.push_str(value);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> HttpOptions {
        HttpOptions::new("https://sentry.example.com/api/1/envelope/", "Sentry sentry_key=hushhush")
    }

    fn refused(options: HttpOptions) -> &'static str {
        let error = Http::new(options).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains("hush"), "{text}");
        }
        error.option()
    }

    #[test]
    fn bad_options_are_named_and_not_shown() {
        for url in [
            "",
            "sentry.example.com",
            "ftp://sentry.example.com/",
            "/api/1/envelope/",
            "https://",
            "https:///api",
            "https://hushhush@sentry.example.com/1",
            "https://sentry.example.com:99999/hush",
            "https://exa mple.com/",
        ] {
            assert_eq!(refused(HttpOptions::new(url, "x")), "url", "{url}");
        }
        let url = options().url;
        assert_eq!(refused(HttpOptions::new(url, "hush\r\nhush: 1")), "auth");
        assert_eq!(refused(options().user_agent("a\nb")), "user_agent");
        for proxy in ["http://user:hush@", "socks5://user:hush@host", "gopher://user:hush@host"] {
            assert_eq!(refused(options().proxy(proxy)), "proxy", "{proxy}");
        }
        assert_eq!(refused(options().timeout(Duration::ZERO)), "timeout");
        assert_eq!(refused(options().connect_timeout(Duration::ZERO)), "connect_timeout");
        assert_eq!(refused(options().ca_certs("/nowhere/hushhush")), "ca_certs");
        assert_eq!(refused(options().ca_certs("Cargo.toml")), "ca_certs");
    }

    #[test]
    fn nothing_shows_a_secret() {
        let options = options().proxy("http://user:hush@proxy.example.com:1");
        assert!(!format!("{options:?}").contains("hush"), "{options:?}");
        let http = Http::new(options).unwrap();
        assert!(!format!("{http:?}").contains("hush"), "{http:?}");
        assert!(!format!("{:?}", http.headers).contains("hush"));
    }

    #[test]
    fn an_empty_proxy_is_none() {
        assert!(proxy(&options().proxy("")).unwrap().is_none());
        assert!(proxy(&options()).unwrap().is_none());
        assert!(proxy(&options().proxy("http://proxy.example.com:1")).unwrap().is_some());
    }

    #[test]
    fn headers_of_one_name_are_joined() {
        let mut headers = HeaderMap::new();
        assert_eq!(joined(&headers, "x-sentry-rate-limits"), None);
        headers.append("x-sentry-rate-limits", HeaderValue::from_static("1:span:key"));
        headers.append("x-sentry-rate-limits", HeaderValue::from_bytes(b"\xff").unwrap());
        headers.append("X-Sentry-Rate-Limits", HeaderValue::from_static("2::key"));
        assert_eq!(joined(&headers, "x-sentry-rate-limits").unwrap(), "1:span:key,2::key");
    }
}
