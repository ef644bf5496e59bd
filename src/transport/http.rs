//! [`Http`]: posts envelopes to a Sentry server. This file and its folder alone name `ureq` and the
//! compressors.
//!
//! ```text
//!   envelope ─► compress ─┬► ureq ─► watch ─► thrift ─► sockets   trust: whom TLS believes
//!                         │   └─ lookup ─► one thread             answer: what came back
//!                         └► streams: HTTP/2                      fault: why nothing did
//! ```
//!
//! The server is not trusted. What it answers is a status and some headers; the body is read so
//! that the connection can be kept, and thrown away (`answer`). A redirect is not followed: it
//! would carry the key to another host and turn the post into a get. Every phase has a time-out,
//! and all of them together have one.
//!
//! Nothing is read from the environment but by [`HttpOptions::for_config`]: a proxy is used when
//! [`HttpOptions::proxy`] names one.
//!
//! # Invariants
//! * H1: a request is sent again only when a connection that had been idle turns out to be closed,
//!   with nothing heard on it (over HTTP/2 also where the server says that it did nothing with it);
//!   once, on a new connection, within the same time-out. Any other trying again is the courier's.
//! * H2: when the transport is broken off, every request on every clone ends, and no other begins.
//!   A connection that is just coming about is the exception: that ends by its own time-out.
//!
//! # Costs
//! Two system calls a request, and three more once in 50 ms (`thrift`); about a dozen allocations
//! inside `ureq`. The compressor and its output buffer are made once and used again. One connection
//! is kept for each clone that sends, if [`HttpOptions::connections`] says so, and used for one
//! request after the other.

use std::fmt;
use std::net::IpAddr;
#[cfg(feature = "http2")]
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use ureq::http::{Method, Request, Uri};
use ureq::unversioned::transport::{Connector, DefaultConnector};
use ureq::{Agent, Proxy};

use super::{Envelope, Interrupter, Response, SendError, Transport};
use crate::config::{Compression, HttpVersion};
use crate::shared::clock;

mod answer;
mod compress;
mod fault;
mod gzip;
mod lookup;
mod options;
#[cfg(feature = "http2")]
mod streams;
mod thrift;
#[cfg(feature = "rustls")]
mod trust;
mod watch;
#[cfg(any(test, fuzzing))]
pub(crate) mod wire;
#[cfg(feature = "zstd")]
mod zstd;

pub use compress::Compressor;
pub use options::{HttpError, HttpOptions};

use answer::Secrets;
use lookup::{Lookup, Names};
use watch::{Trail, Watched};

/// Who we are, in `User-Agent` and `X-Sentry-Auth`.
const CLIENT: &str = concat!("hotspan/", env!("CARGO_PKG_VERSION"));

/// The header with the key.
const AUTH: HeaderName = HeaderName::from_static("x-sentry-auth");

/// An answer's status line and headers must fit into this, which each connection holds.
const RESPONSE_HEADER_MAX: usize = 32 * 1024;

/// What each connection holds for what comes: more than that, so that too much is seen to be too
/// much; and for what goes out at a time.
const INPUT_BUFFER: usize = RESPONSE_HEADER_MAX + 1024;
const OUTPUT_BUFFER: usize = 32 * 1024;

/// How long the body of an answer may take once its status is known.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection idle for longer is not used again.
const IDLE_AGE_MAX: Duration = Duration::from_secs(15);

/// Posts each envelope to a Sentry server, over HTTP or HTTPS, by the DSN's scheme.
///
/// Bodies above 1 KiB are compressed, if they leave this machine ([`HttpOptions::compression`]). A
/// request is not repeated but in one case: when an idle connection turns out to have been closed
/// by the server, or the server refuses a stream of HTTP/2, the envelope is sent once more on a new
/// one. Reads no environment variable.
///
/// # Names
/// Host names are looked up by the operating system, or by [`HttpOptions::lookup`], on a thread
/// which lives as long as the look-up and is the only one. It is waited for no longer than
/// [`HttpOptions::connect_timeout`]; if it comes back later, the next envelope finds its answer. An
/// address is used for up to 60 s, and looked up anew after an error; one that is older is used
/// when looking up fails or takes too long.
///
/// # Clones
/// For several threads that send at the same time: a clone shares the connections
/// ([`HttpOptions::connections`] of them are kept while idle; with HTTP/2 each has one of its own,
/// for up to 64 envelopes at a time), the addresses and the fate: the
/// [`interrupter`](Transport::interrupter) of any breaks off all. It has a compressor of its own,
/// made when it is first needed.
///
/// ```
/// use hotspan::transport::{Http, HttpOptions};
///
/// let url = "http://relay.internal/api/1/envelope/";
/// let options = HttpOptions::new(url, "Sentry sentry_key=abc").connections(4);
/// let senders: Vec<Http> = vec![Http::new(options)?; 4];
/// # assert_eq!(senders.len(), 4);
/// # Ok::<(), hotspan::transport::HttpError>(())
/// ```
pub struct Http {
    shared: Arc<Shared>,
    compressor: Compressor,
    #[cfg(feature = "http2")]
    streams: streams::Streams,
}

/// What all clones have in common.
struct Shared {
    agent: Agent,
    uri: Uri,
    headers: HeaderMap,
    secrets: Secrets,
    names: Arc<Names>,
    timeout: Duration,
    has_proxy: bool,
    #[cfg(feature = "http2")]
    connect_timeout: Duration,
    /// Where HTTP/2 is wanted.
    #[cfg(feature = "http2")]
    http2: Option<streams::Common>,
}

impl Http {
    /// Checks the options and gets everything ready, but does not connect.
    ///
    /// # Errors
    /// When an option is not what it should be, needs a feature that is not there, or the
    /// certificates cannot be read.
    pub fn new(options: HttpOptions) -> Result<Self, HttpError> {
        Self::over(options, DefaultConnector::default())
    }

    /// With a connector that makes the connections.
    pub(crate) fn over(options: HttpOptions, connector: impl Connector) -> Result<Self, HttpError> {
        let uri = server(&options.url)?;
        let mut headers = HeaderMap::new();
        let mut auth = header(&options.auth, "auth")?;
        auth.set_sensitive(true);
        headers.insert(AUTH, auth);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-sentry-envelope"));
        headers.insert(USER_AGENT, header(&options.user_agent, "user_agent")?);
        for (name, timeout) in
            [("timeout", options.timeout), ("connect_timeout", options.connect_timeout)]
        {
            if timeout.is_zero() {
                return Err(HttpError::new(name, "must be longer than zero"));
            }
        }
        if options.ca_certs.is_some() && !cfg!(feature = "rustls") {
            return Err(HttpError::unsupported("ca_certs", "it needs the feature `rustls`"));
        }
        if options.version == HttpVersion::Http2 && !cfg!(feature = "http2") {
            return Err(HttpError::unsupported("version", "HTTP/2 needs the feature `http2`"));
        }
        let proxy = proxy(&options)?;
        let has_proxy = proxy.is_some();
        let is_here = !has_proxy && uri.host().is_some_and(is_loopback);
        let compressor = Compressor::new(match options.compression {
            Compression::Auto if is_here => Compression::None,
            Compression::Auto => Compression::Gzip,
            other => other,
        })?;
        let names = Arc::new(Names::new(Arc::clone(&options.lookup), options.connect_timeout));
        let config = agent_config(&options, &uri, proxy)?;
        let agent = Agent::with_parts(config, Watched(connector), Lookup(Arc::clone(&names)));
        #[cfg(feature = "http2")]
        let http2 = streams::Common::wanted(&options, &uri, &names, has_proxy)?;
        let (secrets, timeout) = (Secrets::of(&options.auth), options.timeout);
        let shared = Shared {
            agent,
            uri,
            headers,
            secrets,
            names,
            timeout,
            has_proxy,
            #[cfg(feature = "http2")]
            connect_timeout: options.connect_timeout,
            #[cfg(feature = "http2")]
            http2,
        };
        Ok(Self {
            shared: Arc::new(shared),
            compressor,
            #[cfg(feature = "http2")]
            streams: streams::Streams::default(),
        })
    }

    fn send_alone(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        self.post(envelope.as_bytes()).map_err(|error| {
            self.shared.names.doubt();
            fault::send_error(&error, self.shared.has_proxy)
        })
    }

    fn post(&mut self, body: &[u8]) -> Result<Response, ureq::Error> {
        let shared = &*self.shared;
        let (body, encoding) = self.compressor.compress(body);
        let began = clock::monotonic();
        Trail::begin();
        match shared.run(shared.request(body, encoding)) {
            // H1.
            Err(error) if Trail::is_stale() && fault::is_hang_up(&error) => {
                let spent = clock::monotonic().saturating_sub(began);
                let left = shared.timeout.saturating_sub(spent);
                if left.is_zero() {
                    return Err(error);
                }
                let again = shared.agent.configure_request(shared.request(body, encoding));
                // No idle connection is young enough.
                shared.run(again.max_idle_age(Duration::ZERO).timeout_global(Some(left)).build())
            }
            result => result,
        }
    }
}

impl Shared {
    fn request<B>(&self, body: B, encoding: Option<&'static str>) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(encoding) = encoding {
            request.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        request
    }

    #[cfg(feature = "http2")]
    fn speaks_http2(&self) -> bool {
        self.http2.as_ref().is_some_and(streams::Common::is_open)
    }

    fn run(&self, request: Request<&[u8]>) -> Result<Response, ureq::Error> {
        Ok(answer::read(&mut self.agent.run(request)?, &self.secrets))
    }
}

impl Clone for Http {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            compressor: self.compressor.another(),
            #[cfg(feature = "http2")]
            streams: streams::Streams::default(),
        }
    }
}

impl Transport for Http {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        #[cfg(feature = "http2")]
        if self.shared.speaks_http2() {
            let mut result = None;
            self.send_all(slice::from_ref(envelope), &mut |_, answer| result = Some(answer));
            return result.unwrap_or_else(|| Err(SendError::new("nothing was sent")));
        }
        self.send_alone(envelope)
    }

    #[cfg(feature = "http2")]
    fn at_once(&self) -> usize {
        if self.shared.speaks_http2() { streams::AT_ONCE } else { 1 }
    }

    #[cfg(feature = "http2")]
    fn send_all(
        &mut self,
        envelopes: &[Envelope<'_>],
        answered: &mut dyn FnMut(usize, Result<Response, SendError>),
    ) {
        let until = clock::monotonic().saturating_add(self.shared.timeout);
        let left = match self.shared.http2.as_ref().filter(|http2| http2.is_open()) {
            Some(http2) => {
                let (shared, compressor) = (&self.shared, &mut self.compressor);
                self.streams.send_all(http2, shared, compressor, envelopes, answered)
            }
            None => {
                self.streams = streams::Streams::default();
                (0..envelopes.len()).collect()
            }
        };
        for place in left {
            let Some(envelope) = envelopes.get(place) else { continue };
            // One that begins in time may end after it, as it would alone.
            let answer = match clock::monotonic() < until {
                true => self.send_alone(envelope),
                false => Err(fault::not_sent()),
            };
            answered(place, answer);
        }
    }

    fn interrupter(&self) -> Option<Interrupter> {
        let shared = Arc::clone(&self.shared);
        Some(Box::new(move || {
            // H2: in this order, so that who was waiting for a name finds no way to connect.
            shared.agent.clone().shutdown();
            #[cfg(feature = "http2")]
            if let Some(http2) = &shared.http2 {
                http2.break_off();
            }
            shared.names.close();
        }))
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("url", &self.shared.uri).finish_non_exhaustive()
    }
}

fn agent_config(
    options: &HttpOptions,
    uri: &Uri,
    proxy: Option<Proxy>,
) -> Result<ureq::config::Config, HttpError> {
    let timeout = Some(options.timeout);
    let builder = Agent::config_builder()
        .http_status_as_error(false)
        .https_only(uri.scheme_str() == Some("https"))
        .max_redirects(0)
        .proxy(proxy)
        .user_agent(&options.user_agent)
        .accept("")
        .accept_encoding("")
        .max_response_header_size(RESPONSE_HEADER_MAX)
        .input_buffer_size(INPUT_BUFFER)
        .output_buffer_size(OUTPUT_BUFFER)
        .max_idle_connections(options.connections)
        .max_idle_connections_per_host(options.connections)
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
        .timeout_recv_body(Some(BODY_TIMEOUT.min(options.timeout)));
    #[cfg(feature = "rustls")]
    let builder = builder.tls_config(trust::tls(options)?);
    Ok(builder.build())
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
    if uri.scheme_str() == Some("https") && !cfg!(feature = "rustls") {
        return Err(HttpError::unsupported("url", "https needs the feature `rustls`"));
    }
    Ok(uri)
}

/// Whether what is sent to this host stays on this machine (RFC 6761 for the names).
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
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
    match proxy.protocol() {
        ureq::ProxyProtocol::Http => Ok(Some(proxy)),
        ureq::ProxyProtocol::Https if cfg!(feature = "rustls") => Ok(Some(proxy)),
        ureq::ProxyProtocol::Https => {
            Err(HttpError::unsupported("proxy", "https needs the feature `rustls`"))
        }
        _ => Err(HttpError::new("proxy", "must start with http:// or https://")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> HttpOptions {
        HttpOptions::new("http://sentry.example.com/api/1/envelope/", "Sentry sentry_key=hushhush")
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
        assert!(!format!("{:?}", http.shared.headers).contains("hush"));
    }

    #[test]
    fn what_stays_on_this_machine_is_known_by_the_host() {
        for host in ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        assert!(is_loopback("LocalHost.") && is_loopback("relay.localhost"));
        for host in ["10.0.0.1", "[::2]", "0.0.0.0", "localhost.example.com", "mylocalhost", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn bodies_are_compressed_by_default_where_they_leave_this_machine() {
        let body = b"{\"op\":\"db.query\"},".repeat(100);
        let encoding =
            |options: HttpOptions| Http::new(options).unwrap().clone().compressor.compress(&body).1;
        let here = || HttpOptions::new("http://localhost:3000/api/1/envelope/", "x");
        assert_eq!(encoding(options()), Some("gzip"));
        assert_eq!(encoding(options().compression(Compression::None)), None);
        assert_eq!(encoding(here()), None);
        assert_eq!(encoding(here().compression(Compression::Gzip)), Some("gzip"));
        assert_eq!(encoding(here().proxy("http://proxy.example.com:1")), Some("gzip"));
    }

    #[test]
    fn an_empty_proxy_is_none() {
        assert!(proxy(&options().proxy("")).unwrap().is_none());
        assert!(proxy(&options()).unwrap().is_none());
        assert!(proxy(&options().proxy("http://proxy.example.com:1")).unwrap().is_some());
    }
}
