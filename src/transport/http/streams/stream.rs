//! One envelope under way: asked, heard, told.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};

use super::connection::context;
use super::fault::Fault;
use crate::transport::Response;
use crate::transport::http::answer::{self, BODY_MAX, DETAIL_BODY_MAX};
use crate::transport::http::{BODY_TIMEOUT, Shared};

/// A stream, and what was heard on it so far.
pub(super) struct Stream {
    /// Which of the envelopes this is.
    pub(super) place: usize,
    /// Nothing is waited for after this moment.
    pub(super) until: Duration,
    stage: Stage,
    request: SendStream<Bytes>,
}

/// A server may answer before it has let all of the request in; what is left of that would wait in
/// memory for as long as the connection lives.
impl Drop for Stream {
    fn drop(&mut self) {
        if self.is_heard() {
            // Nothing, where all of it is sent (S2).
            self.request.send_reset(Reason::NO_ERROR);
        }
    }
}

enum Stage {
    Asked(ResponseFuture),
    /// The head is there, and its body may say what is wrong: the start of it.
    Heard(Response, Vec<u8>, Body),
    /// Only the rest of the body is missing.
    Told(Body),
}

/// What comes of looking at a stream.
pub(super) enum Look {
    /// Something is missing still.
    Open,
    /// This is the answer; whether its body is missing still.
    Answered(Response, bool),
    /// Nothing is missing, and it was told.
    Over,
    Failed(Fault),
}

/// What a stream comes to when its connection ends.
pub(super) enum End {
    /// It was answered before.
    Told,
    /// The status was heard, and that decides.
    Answered(Response),
    Unheard,
}

impl Stream {
    pub(super) fn new(
        place: usize,
        answer: ResponseFuture,
        request: SendStream<Bytes>,
        until: Duration,
    ) -> Self {
        Self { place, until, stage: Stage::Asked(answer), request }
    }

    /// Whether the status is there.
    fn is_heard(&self) -> bool {
        !matches!(self.stage, Stage::Asked(_))
    }

    /// Goes on with what came by this moment.
    pub(super) fn look(&mut self, shared: &Shared, now: Duration) -> Look {
        if let Stage::Asked(answer) = &mut self.stage {
            let head = match Pin::new(answer).poll(&mut context()) {
                Poll::Pending => return Look::Open,
                Poll::Ready(Err(error)) => return Look::Failed(error.into()),
                Poll::Ready(Ok(head)) => head,
            };
            self.until = self.until.min(now.saturating_add(BODY_TIMEOUT));
            let response = answer::head(head.status(), head.headers(), &shared.secrets);
            let mut body = Body { stream: head.into_body(), left: BODY_MAX };
            if !answer::wants_body(&response) {
                let is_open = !body.read(|_| {});
                self.stage = Stage::Told(body);
                return Look::Answered(response, is_open);
            }
            self.stage = Stage::Heard(response, Vec::new(), body);
        }
        let is_late = now >= self.until;
        match &mut self.stage {
            Stage::Heard(response, start, body) => {
                let is_read = body.read(|bytes| {
                    let room = usize::from(DETAIL_BODY_MAX).saturating_sub(start.len());
                    start.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
                });
                if !is_read && !is_late {
                    return Look::Open;
                }
                let mut response = std::mem::take(response);
                answer::explain(&mut response, start, &shared.secrets);
                Look::Answered(response, false)
            }
            Stage::Told(body) => match body.read(|_| {}) || is_late {
                true => Look::Over,
                false => Look::Open,
            },
            Stage::Asked(_) => Look::Open,
        }
    }

    /// Its connection has ended, or the time is up.
    pub(super) fn end(mut self, shared: &Shared) -> End {
        match &mut self.stage {
            Stage::Asked(_) => End::Unheard,
            Stage::Heard(response, start, _) => {
                let mut response = std::mem::take(response);
                answer::explain(&mut response, start, &shared.secrets);
                End::Answered(response)
            }
            Stage::Told(_) => End::Told,
        }
    }
}

/// The body of an answer, read so that its stream ends by itself: one that is given up is reset,
/// and servers count that as an attack.
struct Body {
    stream: RecvStream,
    /// More than this is not read.
    left: u64,
}

impl Body {
    /// Hands on what came of it; true once that is all, it broke off, or it is too long.
    fn read(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        loop {
            match self.stream.poll_data(&mut context()) {
                Poll::Pending => return false,
                Poll::Ready(None | Some(Err(_))) => return true,
                Poll::Ready(Some(Ok(bytes))) => {
                    take(&bytes);
                    // An error says that the stream is gone, and that is found below.
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                    match self.left.checked_sub(bytes.len() as u64) {
                        Some(left) => self.left = left,
                        None => return true,
                    }
                }
            }
        }
    }
}
