//! Many envelopes at a time over one connection: HTTP/2 (RFC 9113), by `h2`.
//!
//! ```text
//!   envelopes ─► exchange ─► h2 ─► pipe ─► line ─► ureq's connectors, TLS
//!                   ▲        ▲                │
//!                   │     connection ◄────────┘  turns, and waits
//!                 stream: one envelope each
//! ```
//!
//! A request over HTTP/1.1 costs a system call to write and one to read, and waits for its answer
//! before the next one begins. Here a lot of them share those calls, and the wait.
//!
//! Whether HTTP/2 is spoken is agreed on while TLS shakes hands (ALPN); to a server without TLS it
//! is spoken without asking (*prior knowledge*, section 3.3), so that one has to be told. Where the
//! server chooses HTTP/1.1, that is what it gets, and it is not asked again for [`ASK_AGAIN`].
//!
//! # Invariants
//! * H1 (as for HTTP/1.1) goes for each envelope: it is sent again only when the server refused it
//!   (sections 6.8 and 8.7), or it never left, or a connection that had been used before ended
//!   without a word since; once, on a new connection, within the same time-out.
//! * S1: the time-out is the lot's. When it is over, what has no answer has none, and the
//!   connection is given up. Each read and each write of the socket looks at the time (`socket`).
//! * S2: no stream is reset but one that is answered while its request is not all sent, and one
//!   whose answer is too long ([`BODY_MAX`](super::answer::BODY_MAX)) or too late
//!   ([`BODY_TIMEOUT`](super::BODY_TIMEOUT)).
//!
//! # Limits
//! Nothing is read between lots: a server's farewell is noticed by the next one, and its `PING`s
//! are answered then. A write that has begun in time may take as long again, if the server takes a
//! part of it. A connection idle for [`IDLE_AGE_MAX`](super::IDLE_AGE_MAX) is not used
//! again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use crossbeam_utils::atomic::AtomicCell;
use ureq::http::Uri;

use super::lookup::{Lookup, Names};
use super::options::{HttpError, HttpOptions};
use super::{Compressor, Shared};
use crate::config::HttpVersion;
use crate::shared::clock;
use crate::transport::{Envelope, Response, SendError};

mod connection;
mod exchange;
mod fault;
mod line;
mod pipe;
mod socket;
mod stream;
#[cfg(feature = "rustls")]
mod tls;

use connection::Connection;
use exchange::{Lot, Unanswered};
use fault::Fault;
use line::Way;

/// So many envelopes at a time: most servers allow 100 streams or more (RFC 9113 wants that), and
/// the queue's batches are as large.
pub(super) const AT_ONCE: usize = 64;

/// A server that chose HTTP/1.1 is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(600);

/// What the clones have in common.
#[derive(Debug)]
pub(super) struct Common {
    way: Way,
    /// Until then the server is taken to speak nothing but HTTP/1.1.
    refused_until: AtomicCell<Duration>,
}

impl Common {
    /// A way for HTTP/2, where these options want one.
    pub(super) fn wanted(
        options: &HttpOptions,
        uri: &Uri,
        names: &Arc<Names>,
        has_proxy: bool,
    ) -> Result<Option<Self>, HttpError> {
        if options.version != HttpVersion::Http2 {
            return Ok(None);
        }
        let way = Way::new(options, uri, Lookup(Arc::clone(names)), has_proxy)?;
        Ok(Some(Self { way, refused_until: AtomicCell::default() }))
    }

    /// Whether HTTP/2 is to be tried.
    pub(super) fn is_open(&self) -> bool {
        clock::monotonic() >= self.refused_until.load()
    }

    /// H2.
    pub(super) fn break_off(&self) {
        self.way.breaker().break_off();
    }
}

/// One clone's connection.
#[derive(Default)]
pub(super) struct Streams {
    kept: Option<Connection>,
    bodies: BytesMut,
}

impl Streams {
    /// Sends these envelopes and tells what comes back. Returns the places of those that are to be
    /// sent over HTTP/1.1, as the server wishes.
    pub(super) fn send_all(
        &mut self,
        common: &Common,
        shared: &Shared,
        compressor: &mut Compressor,
        envelopes: &[Envelope<'_>],
        answered: &mut dyn FnMut(usize, Result<Response, SendError>),
    ) -> Vec<usize> {
        let deadline = clock::monotonic().saturating_add(shared.timeout);
        let bodies = &mut self.bodies;
        let mut lot = Lot { shared, compressor, bodies, envelopes, answered };
        let mut places: Vec<usize> = (0..envelopes.len()).collect();
        for is_last in [false, true] {
            let kept = self.kept.take().filter(|_| !is_last);
            let good = kept.and_then(|mut kept| kept.is_good(deadline).then_some(kept));
            let connected = match good {
                Some(kept) => Ok(Some(kept)),
                None => connect(common, shared, deadline),
            };
            let mut connection = match connected {
                Ok(Some(connection)) => connection,
                Ok(None) => {
                    common.refused_until.store(clock::monotonic().saturating_add(ASK_AGAIN));
                    return places;
                }
                Err(fault) => {
                    lot.fail(&places, &fault);
                    return Vec::new();
                }
            };
            let unanswered = lot.exchange(&mut connection, &places, deadline);
            self.kept = connection.for_later();
            places.clear();
            for Unanswered { place, error, is_untouched } in unanswered {
                if is_untouched && !is_last && clock::monotonic() < deadline {
                    places.push(place);
                } else {
                    shared.names.doubt();
                    (lot.answered)(place, Err(error));
                }
            }
            if places.is_empty() {
                break;
            }
        }
        Vec::new()
    }
}

fn connect(
    common: &Common,
    shared: &Shared,
    deadline: Duration,
) -> Result<Option<Connection>, Fault> {
    if common.way.breaker().is_broken() {
        return Err(Fault::Ended);
    }
    let now = clock::monotonic();
    let until = deadline.min(now.saturating_add(shared.connect_timeout));
    let line = common.way.connect(shared.agent.config(), until)?;
    line.map(|line| Connection::begin(line, until)).transpose()
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("is_connected", &self.kept.is_some()).finish()
    }
}
