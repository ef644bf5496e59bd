//! A connection to the server, by `ureq`'s own connectors, on which HTTP/2 is spoken.
//!
//! `ureq` does the looking up, the proxy and the socket. It has no way to say what is to be spoken
//! behind TLS, so that TLS is put on top of it here, with the same roots; and it registers each
//! socket, so that it can be broken off from another thread.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use std::{fmt, io};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::time::Instant;
use ureq::unversioned::transport::{
    ConnectionDetails, Connector, DefaultConnector, ShutdownHandle,
};
use ureq::{Error, Timeout};

use super::fault::Fault;
use super::socket::{Socket, timeout};
#[cfg(feature = "rustls")]
use super::tls::{Stream, Tls};
use crate::shared::clock;
use crate::transport::http::lookup::Lookup;
use crate::transport::http::options::{HttpError, HttpOptions};

/// Everything it takes to connect.
pub(super) struct Way {
    /// The server, with its port, and with `http` for a scheme: TLS to it is no matter of `ureq`.
    base: Uri,
    #[cfg(feature = "rustls")]
    tls: Option<Tls>,
    connector: Arc<DefaultConnector>,
    lookup: Lookup,
    has_proxy: bool,
    breaker: Arc<Breaker>,
}

impl Way {
    pub(super) fn new(
        options: &HttpOptions,
        uri: &Uri,
        lookup: Lookup,
        has_proxy: bool,
    ) -> Result<Self, HttpError> {
        let is_https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let server = format!("http://{}:{port}/", uri.host().unwrap_or_default());
        let base = server.parse().map_err(|_| HttpError::new("url", "is not a URL"))?;
        #[cfg(not(feature = "rustls"))]
        let _ = options;
        Ok(Self {
            base,
            #[cfg(feature = "rustls")]
            tls: is_https.then(|| Tls::new(options, uri)).transpose()?,
            connector: Arc::new(DefaultConnector::default()),
            lookup,
            has_proxy,
            breaker: Arc::default(),
        })
    }

    pub(super) fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    /// Connects, until this moment. `None` where the server wishes to speak something else.
    pub(super) fn connect(&self, config: &Config, until: Duration) -> Result<Option<Line>, Error> {
        let timeout = || timeout(until, Timeout::Connect);
        let addrs = match self.has_proxy {
            true => self.lookup.empty(),
            false => self.lookup.resolve(&self.base, config, timeout()?)?,
        };
        let run = Arc::clone(&self.connector);
        let breaker = Arc::clone(&self.breaker);
        let now: Arc<dyn Fn() -> Instant + Send + Sync> = Arc::new(Instant::now);
        let details = ConnectionDetails {
            uri: &self.base,
            addrs,
            config,
            request_level: false,
            resolver: &self.lookup,
            now: now(),
            timeout: timeout()?,
            current_time: Arc::clone(&now),
            run_connector: Arc::new(move |details| {
                run.connect(details, None)?.ok_or(Error::ConnectionFailed)
            }),
            register_shutdown: Arc::new(move |handle| breaker.register(handle)),
        };
        let socket = self.connector.connect(&details, None)?.ok_or(Error::ConnectionFailed)?;
        let socket = Socket::new(socket, until);
        #[cfg(feature = "rustls")]
        if let Some(tls) = &self.tls {
            return tls.shake_hands(socket).map(|stream| stream.map(Line::Tls));
        }
        Ok(Some(Line::Plain(socket)))
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("base", &self.base).finish_non_exhaustive()
    }
}

/// A connection that blocks.
pub(super) enum Line {
    Plain(Socket),
    #[cfg(feature = "rustls")]
    Tls(Stream),
}

impl Line {
    /// Writes all of it, until this moment.
    pub(super) fn write(&mut self, bytes: &[u8], until: Duration) -> Result<(), Fault> {
        self.socket().wait_until(until, Timeout::Global);
        let written = match self {
            Self::Plain(socket) => socket.write_all(bytes),
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
        match written {
            // TLS does not say why it writes nothing.
            Err(_) if clock::monotonic() >= until => Err(Fault::LATE),
            written => Ok(written.map_err(Error::from)?),
        }
    }

    /// Waits until something comes, until this moment; how much that was, 0 at the end.
    pub(super) fn read(&mut self, into: &mut [u8], until: Duration) -> Result<usize, Fault> {
        self.socket().wait_until(until, Timeout::Global);
        let read = match self {
            Self::Plain(socket) => socket.read(into),
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => stream.read(into),
        };
        Ok(read.map_err(Error::from)?)
    }

    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => stream.get_mut(),
        }
    }
}

/// Breaks off all connections, and lets no other come about.
#[derive(Default)]
pub(super) struct Breaker(Mutex<Sockets>);

#[derive(Default)]
struct Sockets {
    open: Vec<Weak<dyn ShutdownHandle>>,
    is_broken: bool,
}

impl Breaker {
    fn register(&self, handle: Weak<dyn ShutdownHandle>) -> Result<(), Error> {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sockets.is_broken {
            return Err(Error::Io(io::ErrorKind::NotConnected.into()));
        }
        sockets.open.retain(|each| each.strong_count() > 0);
        sockets.open.push(handle);
        Ok(())
    }

    pub(super) fn is_broken(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_broken
    }

    pub(super) fn break_off(&self) {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.is_broken = true;
        let open = std::mem::take(&mut sockets.open);
        drop(sockets);
        open.iter().filter_map(Weak::upgrade).for_each(|socket| socket.shutdown());
    }
}
