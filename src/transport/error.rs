//! [`SendError`]: no answer came, and how far it got.

use std::error::Error;
use std::fmt;

/// No answer came.
#[derive(Debug)]
pub struct SendError {
    kind: SendErrorKind,
    is_timeout: bool,
    error: Box<dyn Error + Send + Sync>,
}

/// How far it got before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// The host's name led to no address: there is none, or nobody said so in time.
    Resolve,
    /// No connection came about: refused, unreachable, or not in time, the handshakes with a proxy
    /// and of TLS included.
    Connect,
    /// The two sides do not agree on how to talk, or the certificate is not believed.
    Tls,
    /// There was a connection, but the answer was not there in time.
    Timeout,
    /// The proxy could not be reached, or refused.
    Proxy,
    /// The connection broke, or what came back was no answer.
    Broken,
    /// Something else: what a transport of one's own reports.
    Other,
}

impl SendErrorKind {
    /// One word, for statistics: `resolve`, `connect`, `tls`, `timeout`, `proxy`, `broken` or
    /// `other`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Proxy => "proxy",
            Self::Broken => "broken",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for SendErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl SendError {
    /// Wraps what went wrong, as [`SendErrorKind::Other`]. Its text must hold no secret: it may be
    /// logged.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::of(SendErrorKind::Other, false, error)
    }

    pub(crate) fn of(
        kind: SendErrorKind,
        is_timeout: bool,
        error: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { kind, is_timeout, error: error.into() }
    }

    /// How far it got.
    ///
    /// ```
    /// use hotspan::transport::{SendError, SendErrorKind};
    ///
    /// let error = SendError::new("the pipe is full");
    /// assert_eq!(error.kind(), SendErrorKind::Other);
    /// assert_eq!(error.to_string(), "no answer: the pipe is full");
    /// ```
    #[must_use]
    pub fn kind(&self) -> SendErrorKind {
        self.kind
    }

    /// Whether a time-out ended it, at whatever point: then the server may still have taken what
    /// was sent, unless [`kind`](Self::kind) says that it was not reached.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.is_timeout
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer: {}", self.error)
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.error)
    }
}
