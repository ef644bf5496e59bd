//! [`Fault`]: why a stream got no answer, and whether it may be asked again at once.

use h2::Reason;
use ureq::{Error, Timeout};

use crate::transport::http::fault;
use crate::transport::{SendError, SendErrorKind};

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection, or its coming about.
    Line(Error),
    /// What the two sides say to each other.
    Protocol(h2::Error),
    /// The other side has closed.
    Ended,
}

impl Fault {
    /// The time is up.
    pub(super) const LATE: Self = Self::Line(Error::Timeout(Timeout::Global));

    /// Whether this is how a connection ends that the other side has closed.
    pub(super) fn is_hang_up(&self) -> bool {
        match self {
            Self::Line(error) => fault::is_hang_up(error),
            Self::Protocol(error) => error.get_io().is_some_and(|io| fault::is_end(io.kind())),
            Self::Ended => true,
        }
    }

    /// Whether the server says that it did nothing with this stream (RFC 9113, section 8.7): it
    /// refused it, or it goes away and had not come so far.
    pub(super) fn is_refusal(&self) -> bool {
        let Self::Protocol(error) = self else { return false };
        let reason = error.reason();
        error.is_remote()
            && ((error.is_reset() && reason == Some(Reason::REFUSED_STREAM))
                || (error.is_go_away() && reason == Some(Reason::NO_ERROR)))
    }

    pub(super) fn send_error(&self, has_proxy: bool) -> SendError {
        let broken = |text| SendError::of(SendErrorKind::Broken, false, text);
        match self {
            Self::Line(error) => fault::send_error(error, has_proxy),
            // Not its own text: that holds what the server sends along.
            Self::Protocol(error) => broken(match error.reason() {
                Some(reason) if error.is_remote() => {
                    format!("HTTP/2: the server says: {}", reason.description())
                }
                Some(reason) => format!("HTTP/2: {}", reason.description()),
                None if error.is_io() => "HTTP/2: the connection broke".to_owned(),
                None => "HTTP/2: no request can be made".to_owned(),
            }),
            Self::Ended => broken("HTTP/2: the server closed the connection".to_owned()),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Line(error)
    }
}

impl From<h2::Error> for Fault {
    fn from(error: h2::Error) -> Self {
        Self::Protocol(error)
    }
}
