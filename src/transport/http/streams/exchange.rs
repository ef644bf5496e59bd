//! A lot of envelopes over one connection: each a stream, all at the same time.

use std::iter::{Copied, Peekable};
use std::slice::Iter;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ureq::http::Request;
use ureq::http::header::CONTENT_LENGTH;

use super::connection::{Came, Connection, context};
use super::fault::Fault;
use super::stream::{End, Look, Stream};
use crate::shared::clock;
use crate::transport::http::{AUTH, Compressor, OUTPUT_BUFFER, Shared};
use crate::transport::{Envelope, Response, SendError};

/// So much of bodies is written at a time.
const WRITE_AT: usize = OUTPUT_BUFFER;

/// What is to be sent, and whom to tell.
pub(super) struct Lot<'a, 'e> {
    pub(super) shared: &'a Shared,
    pub(super) compressor: &'a mut Compressor,
    /// Memory for bodies, used again once all of them are sent.
    pub(super) bodies: &'a mut BytesMut,
    pub(super) envelopes: &'a [Envelope<'e>],
    pub(super) answered: &'a mut dyn FnMut(usize, Result<Response, SendError>),
}

/// An envelope without an answer.
pub(super) struct Unanswered {
    pub(super) place: usize,
    pub(super) error: SendError,
    /// It may be sent again at once, on another connection: the server has done nothing with it, or
    /// it was sent over one that was closed by then.
    pub(super) is_untouched: bool,
}

impl Lot<'_, '_> {
    /// Sends those at these places and tells what comes back; returns those to which nothing did.
    ///
    /// What has begun to be answered is answered: its status says what became of it.
    pub(super) fn exchange(
        &mut self,
        connection: &mut Connection,
        places: &[usize],
        deadline: Duration,
    ) -> Vec<Unanswered> {
        let mut waiting = places.iter().copied().peekable();
        let mut open: Vec<Stream> = Vec::with_capacity(places.len());
        let mut failed = Vec::new();
        let (mut heard, mut closing) = (false, None);
        let ended = loop {
            if closing.is_none() {
                // What is open may still be answered.
                closing = self.open(connection, &mut waiting, &mut open, deadline).err();
            }
            let turned = connection.turn(deadline);
            if let Err(fault) = &turned
                && fault.is_hang_up()
            {
                heard |= connection.hear_out(deadline);
            }
            let now = clock::monotonic();
            open.retain_mut(|stream| match stream.look(self.shared, now) {
                Look::Open => true,
                Look::Answered(response, is_open) => {
                    (self.answered)(stream.place, Ok(response));
                    is_open
                }
                Look::Over => false,
                Look::Failed(fault) if fault.is_refusal() || fault.is_hang_up() => {
                    failed.push((stream.place, fault));
                    false
                }
                // Before the answers that come later: they say that the server is there.
                Look::Failed(fault) => {
                    let error = fault.send_error(self.shared.has_proxy);
                    (self.answered)(stream.place, Err(error));
                    false
                }
            });
            if let Err(fault) = turned {
                break Some(closing.unwrap_or(fault));
            }
            if open.is_empty() && (closing.is_some() || waiting.peek().is_none()) {
                break closing;
            }
            if now >= deadline {
                break Some(Fault::LATE);
            }
            let until = open.iter().map(|stream| stream.until).min().unwrap_or(deadline);
            match connection.hear(until) {
                Ok(came) => heard |= came == Came::Bytes,
                Err(fault) => break Some(fault),
            }
        };
        connection.is_over |= ended.is_some();
        // H1.
        let is_stale = |fault: &Fault| !connection.is_new && !heard && fault.is_hang_up();
        let mut unanswered = Vec::new();
        for (place, fault) in failed {
            let is_untouched = fault.is_refusal() || is_stale(&fault);
            unanswered.push(self.unanswered(place, &fault, is_untouched));
        }
        let Some(fault) = ended else { return unanswered };
        for stream in open {
            let place = stream.place;
            match stream.end(self.shared) {
                End::Told => {}
                End::Answered(response) => (self.answered)(place, Ok(response)),
                End::Unheard => unanswered.push(self.unanswered(place, &fault, is_stale(&fault))),
            }
        }
        unanswered.extend(waiting.map(|place| self.unanswered(place, &fault, true)));
        unanswered
    }

    /// Nothing could be sent.
    pub(super) fn fail(&mut self, places: &[usize], fault: &Fault) {
        self.shared.names.doubt();
        for &place in places {
            (self.answered)(place, Err(fault.send_error(self.shared.has_proxy)));
        }
    }

    /// Opens as many streams as the server lets us, and writes while it does: what was copied just
    /// now is in the processor's caches still.
    fn open(
        &mut self,
        connection: &mut Connection,
        waiting: &mut Peekable<Copied<Iter<'_, usize>>>,
        open: &mut Vec<Stream>,
        deadline: Duration,
    ) -> Result<(), Fault> {
        let mut unwritten = 0;
        while let Some(&place) = waiting.peek() {
            match connection.requests.poll_ready(&mut context()) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => break,
            }
            if let Some((request, body)) = self.request(place) {
                unwritten += body.len();
                let (answer, mut sender) = connection.requests.send_request(request, false)?;
                // Where this fails, the answer does, too, and says why.
                let _ = sender.send_data(body, true);
                open.push(Stream::new(place, answer, sender, deadline));
            }
            waiting.next();
            if unwritten >= WRITE_AT {
                connection.turn(deadline)?;
                unwritten = 0;
            }
        }
        Ok(())
    }

    /// The request and its body.
    fn request(&mut self, place: usize) -> Option<(Request<()>, Bytes)> {
        let (body, encoding) = self.compressor.compress(self.envelopes.get(place)?.as_bytes());
        let mut request = self.shared.request((), encoding);
        let headers = request.headers_mut();
        headers.insert(CONTENT_LENGTH, body.len().into());
        if let Some(auth) = headers.get_mut(AUTH) {
            // So that it goes over the wire once, and a number stands for it from then on. What may
            // not be compressed is a secret beside which strangers can put words of their own (RFC
            // 7541, section 7.1); nobody else has a header here, and the key of a DSN is public.
            auth.set_sensitive(false);
        }
        self.bodies.extend_from_slice(body);
        Some((request, self.bodies.split().freeze()))
    }

    fn unanswered(&self, place: usize, fault: &Fault, is_untouched: bool) -> Unanswered {
        Unanswered { place, error: fault.send_error(self.shared.has_proxy), is_untouched }
    }
}
