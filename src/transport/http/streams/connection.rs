//! [`Connection`]: `h2` at work, driven by the thread that sends.
//!
//! A turn is: let `h2` work through what came, and write what it wants to say. Then whoever drives
//! it reads, which waits. Wakers do nothing: after each turn all that may have gone on is looked
//! at.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use ureq::Error;

use super::fault::Fault;
use super::line::Line;
use super::pipe::Pipe;
use crate::shared::clock;
use crate::transport::http::{INPUT_BUFFER, RESPONSE_HEADER_MAX};

/// What the server may send of answers' bodies before they are read: all together, and each.
const CONNECTION_WINDOW: u32 = 256 * 1024;
const STREAM_WINDOW: u32 = 64 * 1024;

/// An answer's headers, as HTTP/2 counts them; as much as elsewhere.
const HEADERS_MAX: u32 = 32 * 1024;
const _: () = assert!(HEADERS_MAX as usize == RESPONSE_HEADER_MAX);

/// A connection on which HTTP/2 is spoken.
pub(super) struct Connection {
    machine: client::Connection<Pipe, Bytes>,
    pub(super) requests: SendRequest<Bytes>,
    pipe: Pipe,
    line: Line,
    going: Vec<u8>,
    input: Box<[u8]>,
    /// When it was last used, on the monotonic clock.
    used: Duration,
    /// Nothing was answered on it yet.
    pub(super) is_new: bool,
    /// It is of no use any more.
    pub(super) is_over: bool,
}

impl Connection {
    /// Begins to speak, and waits for the server's first word: how many streams it allows, or that
    /// it speaks something else.
    pub(super) fn begin(line: Line, deadline: Duration) -> Result<Self, Fault> {
        let pipe = Pipe::default();
        let mut builder = client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS_MAX);
        let mut handshake = Box::pin(builder.handshake(pipe.clone()));
        // It only writes, and the pipe has room.
        let Poll::Ready(begun) = handshake.as_mut().poll(&mut context()) else {
            return Err(Fault::Ended);
        };
        drop(handshake);
        let (requests, machine) = begun?;
        let input = vec![0; INPUT_BUFFER].into_boxed_slice();
        let mut new = Self {
            machine,
            requests,
            pipe,
            line,
            going: Vec::new(),
            input,
            used: clock::monotonic(),
            is_new: true,
            is_over: false,
        };
        new.turn(deadline)?;
        new.hear(deadline)?;
        new.turn(deadline)?;
        Ok(new)
    }

    /// Whether it may be used again, where that has not been done for a while.
    pub(super) fn is_young(&self, age_max: Duration) -> bool {
        clock::monotonic().saturating_sub(self.used) < age_max
    }

    /// After a lot: itself, unless it is over.
    pub(super) fn for_later(mut self) -> Option<Self> {
        (self.used, self.is_new) = (clock::monotonic(), false);
        (!self.is_over).then_some(self)
    }

    /// Works through what came, and writes what is to go.
    pub(super) fn turn(&mut self, deadline: Duration) -> Result<(), Fault> {
        loop {
            let ended = Pin::new(&mut self.machine).poll(&mut context());
            self.pipe.empty_into(&mut self.going);
            if !self.going.is_empty() {
                self.line.write(&self.going, deadline)?;
            }
            match ended {
                Poll::Ready(Ok(())) => return Err(Fault::Ended),
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending if self.going.is_empty() => return Ok(()),
                Poll::Pending => {}
            }
        }
    }

    /// Waits for something to come.
    pub(super) fn hear(&mut self, deadline: Duration) -> Result<(), Fault> {
        let count = loop {
            match self.line.read(&mut self.input, deadline) {
                // A little early: where it is not, the next time says so.
                Err(Fault::Line(Error::Timeout(_))) if clock::monotonic() < deadline => {}
                count => break count?,
            }
        };
        self.pipe.feed(self.input.get(..count).unwrap_or_default());
        Ok(())
    }
}

/// One in which nobody is woken.
pub(super) fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
