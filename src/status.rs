//! [`SpanStatus`]: how a span or transaction ended, in Sentry's words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! statuses {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)*) => {
        /// How a span or transaction ended: the vocabulary of the Sentry spec, in the order of the
        /// gRPC codes it was taken from.
        ///
        /// ```
        /// use hotspan::SpanStatus;
        ///
        /// assert_eq!(SpanStatus::from_http(404), SpanStatus::NotFound);
        /// assert_eq!("not_found".parse(), Ok(SpanStatus::NotFound));
        /// assert_eq!(SpanStatus::NotFound.to_string(), "not_found");
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum SpanStatus {
            $($(#[$doc])* $variant = $code,)*
        }

        impl SpanStatus {
            /// The word that goes over the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The status with this code, 0 to 16.
            pub(crate) const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }

        impl FromStr for SpanStatus {
            type Err = ParseStatusError;

            /// Reads the words that Relay reads: `unknown` is not among them, `success` and
            /// `failure` are.
            fn from_str(text: &str) -> Result<Self, ParseStatusError> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    "success" => Ok(Self::Ok),
                    "failure" => Ok(Self::InternalError),
                    _ => Err(ParseStatusError),
                }
            }
        }
    };
}

statuses! {
    /// Not an error.
    Ok = 0, "ok";
    /// The caller gave up.
    Cancelled = 1, "cancelled";
    /// An error of no known kind.
    UnknownError = 2, "unknown_error";
    /// The caller asked for something that makes no sense.
    InvalidArgument = 3, "invalid_argument";
    /// Too late.
    DeadlineExceeded = 4, "deadline_exceeded";
    /// What was asked for is not there.
    NotFound = 5, "not_found";
    /// What was to be made is there already.
    AlreadyExists = 6, "already_exists";
    /// Known, and not allowed.
    PermissionDenied = 7, "permission_denied";
    /// A quota or a rate limit.
    ResourceExhausted = 8, "resource_exhausted";
    /// The system was not in the state that the operation needs.
    FailedPrecondition = 9, "failed_precondition";
    /// Given up, perhaps to be tried again.
    Aborted = 10, "aborted";
    /// Past the end.
    OutOfRange = 11, "out_of_range";
    /// Not built.
    Unimplemented = 12, "unimplemented";
    /// Something broke; also what a panic leaves.
    InternalError = 13, "internal_error";
    /// Not now.
    Unavailable = 14, "unavailable";
    /// Data is gone.
    DataLoss = 15, "data_loss";
    /// Not known.
    Unauthenticated = 16, "unauthenticated";
}

impl SpanStatus {
    /// The status for an HTTP status code, by the table of the Sentry SDKs (499: the spec's).
    #[must_use]
    pub const fn from_http(code: u16) -> Self {
        match code {
            0..400 => Self::Ok,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::NotFound,
            409 => Self::AlreadyExists,
            413 => Self::FailedPrecondition,
            429 => Self::ResourceExhausted,
            499 => Self::Cancelled,
            400..500 => Self::InvalidArgument,
            501 => Self::Unimplemented,
            503 => Self::Unavailable,
            504 => Self::DeadlineExceeded,
            500..600 => Self::InternalError,
            _ => Self::UnknownError,
        }
    }
}

impl fmt::Display for SpanStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text was no span status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseStatusError;

impl fmt::Display for ParseStatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a span status of the Sentry spec")
    }
}

impl std::error::Error for ParseStatusError {}
