//! Whether a request had a connection of its own, and whether anything was heard on it.
//!
//! `ureq` looks whether an idle connection was closed before it uses it, but a server may close it
//! between that look and the request. Then the request is lost without anybody's fault, and is sent
//! again on a new connection; but not if it had a new one, and not once the server has said a word.
//! `ureq` does not tell, so this stands between it and the sockets, and notes what happens, for the
//! thread on which it happens: that is the one that sends.

use std::cell::Cell;

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::thrift::Thrift;

/// What happened on this thread since [`Trail::begin`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trail {
    connected: bool,
    heard: bool,
}

thread_local! {
    static TRAIL: Cell<Trail> = const { Cell::new(Trail { connected: false, heard: false }) };
}

impl Trail {
    pub(super) fn begin() {
        note(|trail| *trail = Self::default());
    }

    /// Whether nothing was heard, on a connection that had been used before.
    pub(super) fn is_stale() -> bool {
        TRAIL.try_with(|trail| !trail.get().connected && !trail.get().heard).unwrap_or(false)
    }
}

fn note(change: impl FnOnce(&mut Trail)) {
    let _ = TRAIL.try_with(|cell| {
        let mut trail = cell.get();
        change(&mut trail);
        cell.set(trail);
    });
}

/// A connector whose connections leave a trail.
#[derive(Debug)]
pub(super) struct Watched<C>(pub(super) C);

impl<C: Connector> Connector for Watched<C> {
    type Out = WatchedTransport<C::Out>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        note(|trail| trail.connected = true);
        Ok(self.0.connect(details, chained)?.map(|inner| WatchedTransport(Thrift::new(inner))))
    }
}

#[derive(Debug)]
pub(super) struct WatchedTransport<T>(Thrift<T>);

impl<T: Transport> Transport for WatchedTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let came = self.0.await_input(timeout)?;
        if came {
            note(|trail| trail.heard = true);
        }
        Ok(came)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
