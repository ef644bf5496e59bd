//! [`Connection`]: `h2` at work, driven by the thread that sends.
//!
//! A turn is: let `h2` work through what came, and write what it wants to say. Then whoever drives
//! it reads, which waits. Wakers do nothing: after each turn all that may have gone on is looked
//! at.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use ureq::{Error, Timeout};

use super::fault::Fault;
use super::line::Line;
use super::pipe::Pipe;
use crate::shared::clock;
use crate::transport::http::{IDLE_AGE_MAX, INPUT_BUFFER, RESPONSE_HEADER_MAX};

/// What the server may send of answers' bodies before they are read: all together, and each.
const CONNECTION_WINDOW: u32 = 256 * 1024;
const STREAM_WINDOW: u32 = 64 * 1024;

/// An answer's headers, as HTTP/2 counts them; as much as elsewhere.
const HEADERS_MAX: u32 = 32 * 1024;
const _: () = assert!(HEADERS_MAX as usize == RESPONSE_HEADER_MAX);

/// After so long without a word it is looked whether there was one.
const PAUSE: Duration = Duration::from_millis(100);

/// How long looking takes where there was none.
const GLANCE: Duration = Duration::from_millis(1);

/// Whoever has more to say in a pause than so many pieces of [`INPUT_BUFFER`] is heard later.
const PIECES_MAX: usize = 8;

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
    /// No lot has gone over it yet.
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
        match new.hear(deadline)? {
            Came::Bytes => new.turn(deadline)?,
            Came::End => return Err(Fault::Ended),
            Came::Nothing => return Err(Fault::Line(Error::Timeout(Timeout::Connect))),
        }
        Ok(new)
    }

    /// Whether it may be used again. After a pause it is looked at what came meanwhile: what the
    /// server still had to say then is no word to what comes now, and it may have gone.
    pub(super) fn is_good(&mut self, deadline: Duration) -> bool {
        let idle = clock::monotonic().saturating_sub(self.used);
        if idle >= IDLE_AGE_MAX {
            return false;
        }
        if idle >= PAUSE {
            for _ in 0..PIECES_MAX {
                let moment = clock::monotonic().saturating_add(GLANCE);
                match self.hear(moment.min(deadline)) {
                    Ok(Came::Bytes) if self.turn(deadline).is_ok() => {}
                    Ok(Came::Nothing) => break,
                    _ => return false,
                }
            }
        }
        // As far as is known.
        !matches!(self.requests.poll_ready(&mut context()), Poll::Ready(Err(_)))
    }

    /// After a lot: itself, unless it is over.
    pub(super) fn for_later(mut self) -> Option<Self> {
        (self.used, self.is_new) = (clock::monotonic(), false);
        (!self.is_over).then_some(self)
    }

    /// Works through what came, and writes what is to go. After an error it is over.
    pub(super) fn turn(&mut self, deadline: Duration) -> Result<(), Fault> {
        if self.is_over {
            return Err(Fault::Ended);
        }
        let turned = self.try_turn(deadline);
        self.is_over = turned.is_err();
        turned
    }

    fn try_turn(&mut self, deadline: Duration) -> Result<(), Fault> {
        loop {
            let is_pending = self.work()?;
            if !self.going.is_empty() {
                self.line.write(&self.going, deadline)?;
            } else if is_pending {
                return Ok(());
            }
            if !is_pending {
                return Err(Fault::Ended);
            }
        }
    }

    /// Lets `h2` work through what came, and takes what it wants to say. False when it is done.
    fn work(&mut self) -> Result<bool, Fault> {
        let ended = Pin::new(&mut self.machine).poll(&mut context());
        self.pipe.empty_into(&mut self.going);
        match ended {
            Poll::Ready(Ok(())) => Ok(false),
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Pending => Ok(true),
        }
    }

    /// Waits for something to come, until this moment.
    pub(super) fn hear(&mut self, until: Duration) -> Result<Came, Fault> {
        let came = match self.line.read(&mut self.input, until) {
            Ok(0) => Came::End,
            Ok(count) => {
                self.pipe.feed(self.input.get(..count).unwrap_or_default());
                return Ok(Came::Bytes);
            }
            Err(Fault::Line(Error::Timeout(_))) => return Ok(Came::Nothing),
            // TLS without a farewell: HTTP/2 has one of its own.
            Err(Fault::Line(Error::Io(error))) if error.kind() == ErrorKind::UnexpectedEof => {
                Came::End
            }
            Err(fault) => return Err(fault),
        };
        self.pipe.feed(&[]);
        Ok(came)
    }

    /// The other side does not read any more: hears what it has said by then. Whether that was
    /// anything.
    pub(super) fn hear_out(&mut self, deadline: Duration) -> bool {
        let until = deadline.min(clock::monotonic().saturating_add(PAUSE));
        let mut heard = false;
        while let Ok(came @ (Came::Bytes | Came::End)) = self.hear(until) {
            heard |= came == Came::Bytes;
            // What it would answer is not written.
            if !matches!(self.work(), Ok(true)) || came == Came::End {
                break;
            }
        }
        heard
    }
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Bytes,
    /// There will be no more.
    End,
    /// In time, that is.
    Nothing,
}

/// One in which nobody is woken.
pub(super) fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
