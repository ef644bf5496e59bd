//! What the fault server can do to a client, and what must become of an envelope then.

use std::time::Duration;

/// A way to fail, or not to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// 200, connection kept.
    Healthy,
    /// This status, with a detail and a header that repeat the key.
    Status(u16),
    /// Nobody listens.
    Refused,
    /// Somebody listens, and connections do not come about.
    BlackHole,
    /// There is no such name.
    NameUnknown,
    /// The look-up of the name does not return.
    NameHangs,
    /// Accepted, and closed.
    AcceptClose,
    /// Reset in the middle of the answer's headers.
    ResetInHeaders,
    /// Reset in the middle of the request's body.
    ResetInBody,
    /// Accepted, and not read from.
    NeverReads,
    /// One byte a second is read.
    ReadsSlowly,
    /// The answer's headers come byte by byte, and do not end.
    SlowHeaders,
    /// Accepted, and the TLS handshake is not answered.
    HandshakeStalls,
    /// Expired, of another host or of an unknown authority, in turn.
    BadCertificate,
    /// 200 as if the connection were kept, and then it is closed.
    StaleClosed,
    /// 200, and the next request on that connection is answered with a reset.
    StaleReset,
    /// Not HTTP.
    Garbage,
    /// Closed without an answer.
    EmptyReply,
    /// 200 with 200 KiB of headers.
    HugeHeaders,
    /// `100 Continue` for ever.
    ContinueFlood,
    /// 200, and a body byte by byte that does not end.
    SlowBody,
    /// 200, and a body of 16 MiB.
    HugeBody,
    /// 200, and a body that does not end.
    EndlessBody,
    /// 200, and a small body that unpacks to 16 MiB.
    GzipBomb,
    /// 200, and less of a body than announced. Over TLS the end is not announced either.
    EarlyClose,
    /// 200, and no transactions for a minute.
    LimitsOnSuccess,
    /// 200 before the body of the request was read.
    EarlyAnswer,
    /// 301, 302, 303, 307, 308, in turn, to another server.
    Redirect,
    /// 400, 401, 403, 404, in turn.
    ClientError,
    /// 413.
    TooLarge,
    /// 500, 502, 503, 504, in turn.
    ServerError,
    /// 999.
    OddStatus,
    /// 429 with `Retry-After: 1`.
    TooManySeconds,
    /// 429 with `Retry-After` and a date two seconds from now.
    TooManyDate,
    /// 429 with `X-Sentry-Rate-Limits`, for everything and a second.
    TooManyLimits,
    /// 429 and nothing else: a minute.
    TooManyBare,
    /// 429 with limits that nobody can read: a minute.
    TooManyMalformed,
}

/// What must become of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    NetworkError,
    SendError,
    /// With 429; what comes after it is held back.
    Refused,
    /// Delivered; what comes after it is held back.
    LastDelivered,
}

/// What a test must know of a mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) fate: Fate,
    /// The server read the whole request, and its answer did not come through: it may have counted
    /// what the client thinks lost.
    pub(crate) ambiguous: bool,
    /// Only a time-out ends it.
    pub(crate) by_time_out: bool,
    /// It takes an `https` DSN.
    pub(crate) needs_tls: bool,
    /// It takes a look-up of names that asks the server.
    pub(crate) needs_lookup: bool,
    /// It shows in a new connection only.
    pub(crate) on_connect: bool,
    /// How long client reports are held back after it.
    pub(crate) silence: Duration,
}

impl Mode {
    /// All ways to fail, in the order of the reliability rules' table.
    pub(crate) const ALL: [Self; 35] = [
        Self::Refused,
        Self::BlackHole,
        Self::NameUnknown,
        Self::NameHangs,
        Self::AcceptClose,
        Self::ResetInHeaders,
        Self::ResetInBody,
        Self::NeverReads,
        Self::ReadsSlowly,
        Self::SlowHeaders,
        Self::HandshakeStalls,
        Self::BadCertificate,
        Self::StaleClosed,
        Self::StaleReset,
        Self::Garbage,
        Self::EmptyReply,
        Self::HugeHeaders,
        Self::ContinueFlood,
        Self::SlowBody,
        Self::HugeBody,
        Self::EndlessBody,
        Self::GzipBomb,
        Self::EarlyClose,
        Self::LimitsOnSuccess,
        Self::EarlyAnswer,
        Self::Redirect,
        Self::ClientError,
        Self::TooLarge,
        Self::ServerError,
        Self::OddStatus,
        Self::TooManySeconds,
        Self::TooManyDate,
        Self::TooManyLimits,
        Self::TooManyBare,
        Self::TooManyMalformed,
    ];

    pub(crate) fn facts(self) -> Facts {
        let plain = Facts {
            fate: self.fate(),
            ambiguous: false,
            by_time_out: false,
            needs_tls: false,
            needs_lookup: false,
            on_connect: false,
            silence: Duration::ZERO,
        };
        let connect = Facts { on_connect: true, ..plain };
        let ambiguous = Facts { ambiguous: true, ..plain };
        let silent = |seconds| Facts { silence: Duration::from_secs(seconds), ..plain };
        match self {
            Self::Refused | Self::AcceptClose => connect,
            Self::BlackHole | Self::NeverReads | Self::ReadsSlowly => {
                Facts { by_time_out: true, ..connect }
            }
            Self::NameUnknown => Facts { needs_lookup: true, ..connect },
            Self::NameHangs => Facts { needs_lookup: true, by_time_out: true, ..connect },
            Self::HandshakeStalls => Facts { needs_tls: true, by_time_out: true, ..connect },
            Self::BadCertificate => Facts { needs_tls: true, ..connect },
            Self::ResetInHeaders | Self::Garbage | Self::EmptyReply | Self::HugeHeaders => {
                ambiguous
            }
            Self::SlowHeaders | Self::ContinueFlood => Facts { by_time_out: true, ..ambiguous },
            Self::TooManySeconds | Self::TooManyLimits => silent(1),
            Self::TooManyDate => silent(2),
            Self::TooManyBare | Self::TooManyMalformed => silent(60),
            _ => plain,
        }
    }

    fn fate(self) -> Fate {
        match self {
            Self::Status(429)
            | Self::TooManySeconds
            | Self::TooManyDate
            | Self::TooManyLimits
            | Self::TooManyBare
            | Self::TooManyMalformed => Fate::Refused,
            Self::Status(_)
            | Self::Redirect
            | Self::ClientError
            | Self::TooLarge
            | Self::ServerError
            | Self::OddStatus => Fate::SendError,
            Self::LimitsOnSuccess => Fate::LastDelivered,
            Self::Healthy
            | Self::StaleClosed
            | Self::StaleReset
            | Self::SlowBody
            | Self::HugeBody
            | Self::EndlessBody
            | Self::GzipBomb
            | Self::EarlyClose
            | Self::EarlyAnswer => Fate::Delivered,
            _ => Fate::NetworkError,
        }
    }
}
