//! An answer from memory: the real `ureq` over a connection that is none, for the fuzz target
//! `http_response` and for tests.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::answer::{BODY_MAX, DETAIL_CHARS_MAX};
use super::{Http, HttpOptions, RESPONSE_HEADER_MAX};
use crate::transport::{EnvelopeBuf, Transport as _};

/// What comes after the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The other side closes.
    Close,
    Reset,
    /// Nothing, until the time is up.
    Silence,
    /// Zeros, for ever.
    Zeros,
}

/// At once there are at most this many bytes.
const PIECE_MAX: usize = 16 * 1024;

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Sends twice to a server that answers with these bytes, in two pieces, and checks what comes of
/// it. Every connection gets the same answer.
#[cfg_attr(test, expect(clippy::expect_used, reason = "a check panics where it finds something"))]
pub(crate) fn play(bytes: &[u8], split: usize, end: End) {
    let given = Arc::<Given>::default();
    let script = Script { bytes: bytes.into(), split: split % (bytes.len() + 1), end };
    let wire = Wire { script, given: Arc::clone(&given) };
    let options = HttpOptions::new("http://127.0.0.1/api/1/envelope/", format!("sentry_key={KEY}"));
    let mut http = Http::over(options, wire).expect("the options are good");
    let envelope = EnvelopeBuf::from_bytes("{}\n{\"type\":\"transaction\"}\n{}\n");
    for _ in 0..2 {
        let before = given.total();
        let result = http.send(&envelope.as_envelope());
        // Not more than stands there, and of what never ends not more than is read of a head and of
        // a body. A connection that is closed is tried twice.
        let taken = given.total() - before;
        let head = 2 * bytes.len() + RESPONSE_HEADER_MAX + 2 * PIECE_MAX;
        assert!(taken as u64 <= head as u64 + BODY_MAX, "{taken} bytes read");
        match result {
            Ok(response) => {
                assert!((100..=999).contains(&response.status));
                for text in [&response.rate_limits, &response.retry_after].into_iter().flatten() {
                    assert!(text.len() <= RESPONSE_HEADER_MAX);
                }
                let Some(detail) = response.detail else { continue };
                assert!(!(200..300).contains(&response.status));
                assert!((1..=DETAIL_CHARS_MAX).contains(&detail.chars().count()));
                assert!(!detail.chars().any(char::is_control) && !detail.contains(KEY));
            }
            Err(error) => {
                let text = format!("{error} {error:?}");
                assert!(text.len() < 1000 && !text.contains(KEY), "{text}");
            }
        }
    }
}

/// How many bytes were given to the client.
#[derive(Debug, Default)]
struct Given(Mutex<usize>);

impl Given {
    fn add(&self, count: usize) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += count;
    }

    fn total(&self) -> usize {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug)]
struct Script {
    bytes: Arc<[u8]>,
    /// Where the first piece ends.
    split: usize,
    end: End,
}

#[derive(Debug)]
struct Wire {
    script: Script,
    given: Arc<Given>,
}

impl Connector for Wire {
    type Out = Connection;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Connection>, Error> {
        let (script, given) = (self.script.clone(), Arc::clone(&self.given));
        let buffers = LazyBuffers::new(128 * 1024, 16 * 1024);
        Ok(Some(Connection { script, given, at: 0, buffers }))
    }
}

#[derive(Debug)]
struct Connection {
    script: Script,
    given: Arc<Given>,
    at: usize,
    buffers: LazyBuffers,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), Error> {
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let Script { bytes, split, end } = &self.script;
        let until = if self.at < *split { *split } else { bytes.len() };
        let rest = bytes.get(self.at..until).unwrap_or_default();
        let piece = match end {
            _ if !rest.is_empty() => rest,
            End::Close => return Ok(false),
            End::Reset => return Err(Error::Io(ErrorKind::ConnectionReset.into())),
            End::Silence => return Err(Error::Timeout(timeout.reason)),
            End::Zeros => &[0; PIECE_MAX],
        };
        let room = self.buffers.input_append_buf();
        let count = piece.len().min(room.len()).min(PIECE_MAX);
        room.iter_mut().zip(piece).take(count).for_each(|(to, from)| *to = *from);
        self.buffers.input_appended(count);
        self.at += count;
        self.given.add(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.at >= self.script.bytes.len() && matches!(self.script.end, End::Silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_server_says_is_survived() {
        let good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let chunked =
            "HTTP/1.1 429 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"det\r\n0\r\n\r\n";
        let told = format!("HTTP/1.1 400 No\r\n\r\n{{\"detail\":\"{KEY}\"}}");
        let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000));
        for answer in [good, chunked, &told, &huge, "HTTP/1.1 200 OK\r\n\r\n", "\0", ""] {
            for end in [End::Close, End::Reset, End::Silence, End::Zeros] {
                for split in (0..answer.len() + 1).step_by(1 + answer.len() / 12) {
                    play(answer.as_bytes(), split, end);
                }
            }
        }
    }
}
