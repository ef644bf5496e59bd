//! Why no answer came: from `ureq`'s errors to [`SendError`].
//!
//! None of its texts holds a header or a password, and its types are nobody's concern: what is kept
//! is the text, and how far it got.

use std::io::ErrorKind as Io;

use ureq::{Error, Timeout};

use super::lookup::LookUpError;
use crate::transport::{SendError, SendErrorKind};

pub(super) fn send_error(error: &Error, has_proxy: bool) -> SendError {
    let (kind, is_timeout) = classify(error, has_proxy);
    let text = match error {
        Error::Other(error) => error.to_string(),
        Error::Timeout(Timeout::Connect) => "timeout: connecting took too long".to_owned(),
        error => error.to_string(),
    };
    SendError::of(kind, is_timeout, text)
}

/// Those before it took all the time there was.
#[cfg(feature = "http2")]
pub(super) fn not_sent() -> SendError {
    SendError::of(SendErrorKind::Timeout, true, "timeout: those sent before it took too long")
}

fn classify(error: &Error, has_proxy: bool) -> (SendErrorKind, bool) {
    let kind = match error {
        Error::Other(error) => match error.downcast_ref() {
            Some(LookUpError::Closed) => SendErrorKind::Broken,
            Some(LookUpError::Late) => return (SendErrorKind::Resolve, true),
            Some(_) => SendErrorKind::Resolve,
            None => SendErrorKind::Other,
        },
        Error::HostNotFound => SendErrorKind::Resolve,
        Error::Timeout(Timeout::Connect) => return (SendErrorKind::Connect, true),
        Error::Timeout(_) => return (SendErrorKind::Timeout, true),
        Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => SendErrorKind::Proxy,
        Error::ConnectionFailed => SendErrorKind::Connect,
        Error::Tls(_) | Error::TlsRequired => SendErrorKind::Tls,
        #[cfg(feature = "rustls")]
        Error::Rustls(_) | Error::Pem(_) => SendErrorKind::Tls,
        Error::Io(error) => match error.kind() {
            Io::ConnectionRefused
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown
            | Io::AddrNotAvailable
            | Io::PermissionDenied => match has_proxy {
                true => SendErrorKind::Proxy,
                false => SendErrorKind::Connect,
            },
            // The system's own, where packets vanish.
            Io::TimedOut => return (SendErrorKind::Timeout, true),
            // rustls wraps what it does not like into this.
            Io::InvalidData if error.get_ref().is_some() => SendErrorKind::Tls,
            _ => SendErrorKind::Broken,
        },
        _ => SendErrorKind::Broken,
    };
    (kind, false)
}

/// Whether this is how a connection ends that the other side has closed.
pub(super) fn is_hang_up(error: &Error) -> bool {
    matches!(error, Error::Io(error) if is_end(error.kind()))
}

/// The same, of what the system says.
pub(super) fn is_end(kind: Io) -> bool {
    matches!(kind, Io::UnexpectedEof | Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe)
}
