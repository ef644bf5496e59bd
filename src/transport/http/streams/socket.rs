//! [`Socket`]: `ureq`'s connection as something that is read and written, until a certain moment.
//!
//! TLS reads and writes as often as it likes in one call of ours. So it is here, at each of them,
//! that the time is looked at (S1).

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use ureq::unversioned::transport::time::{Duration as After, Instant};
use ureq::unversioned::transport::{NextTimeout, Transport, TransportAdapter};
use ureq::{Error, Timeout};

use crate::shared::clock;
use crate::transport::http::thrift::rounded;

/// What is left until this moment, for `ureq`.
///
/// # Errors
/// Nothing is.
pub(super) fn timeout(until: Duration, reason: Timeout) -> Result<NextTimeout, Error> {
    match until.saturating_sub(clock::monotonic()) {
        Duration::ZERO => Err(Error::Timeout(reason)),
        left => {
            Ok(rounded(NextTimeout { after: After::Exact(left), reason, ..NextTimeout::default() }))
        }
    }
}

/// A connection without TLS, or what lies below it.
pub(super) struct Socket {
    adapter: TransportAdapter,
    until: Duration,
    /// What is over at that moment.
    reason: Timeout,
}

impl Socket {
    /// One that is to be connected by this moment.
    pub(super) fn new(transport: Box<dyn Transport>, until: Duration) -> Self {
        // To the adapter no time passes while it reads or writes: what is left would be another
        // time at each call, and the system would have to be told each time.
        let adapter = TransportAdapter::new(transport, Arc::new(|| Instant::AlreadyHappened));
        Self { adapter, until, reason: Timeout::Connect }
    }

    pub(super) fn wait_until(&mut self, until: Duration, reason: Timeout) {
        (self.until, self.reason) = (until, reason);
    }

    fn look_at_the_time(&mut self) -> io::Result<()> {
        let timeout = timeout(self.until, self.reason).map_err(Error::into_io)?;
        self.adapter.set_timeout(timeout);
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            self.look_at_the_time()?;
            match self.adapter.read(into) {
                // A little early, as time-outs are rounded down.
                Err(error) if is_timeout(&error) => {}
                read => return read,
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.look_at_the_time()?;
        self.adapter.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.adapter.flush()
    }
}

/// Whether this is a time-out of `ureq`'s.
fn is_timeout(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(Error::Timeout(_)))
}
