//! [`HttpVersion`]: what is spoken with the server.

use serde::Deserialize;

/// Which version of HTTP is spoken with the server. In files: `"1.1"` or `"2"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub enum HttpVersion {
    /// HTTP/1.1: one request after the other on each connection. Every server speaks it.
    #[default]
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2: many requests at a time on one connection. For those who send much: a request takes
    /// a third to a half of the processor's time, and does not wait for the ones before it, which
    /// counts the more the further away the server is. Needs the feature `http2`.
    ///
    /// With an `https` DSN the two sides agree on it (by ALPN), and a server that does not speak it
    /// is spoken to in HTTP/1.1, for ten minutes until it is asked again. With an `http` DSN it is
    /// spoken without asking: only for a server that is known to understand it.
    #[serde(rename = "2")]
    Http2,
}
