//! Where envelopes go: the trait, and the transports that come with the crate.
//!
//! Each uploader thread has a transport of its own, and drives it alone: it may block, up to its
//! own time-outs, without the recording or the draining of rings being held up. It answers with
//! what the server said; rate limits, counting and client reports are the uploader's business.

use std::time::SystemTime;

mod error;
mod file;
#[cfg(feature = "http")]
pub(crate) mod http;
mod memory;
mod null;

pub use error::{SendError, SendErrorKind};
pub use file::File;
#[cfg(feature = "http")]
pub use http::{Compressor, Http, HttpError, HttpOptions};
pub use memory::Memory;
pub use null::Null;

pub use crate::flush::envelope::{Category, Envelope, EnvelopeBuf};

/// Sends envelopes somewhere. Made known to the library by
/// [`Delivery::Custom`](crate::Delivery::Custom).
///
/// Each is called from one thread, never twice at a time; there is one for each uploader
/// ([`Config::upload_concurrency`](crate::Config::upload_concurrency)). It does not retry and does
/// not count: the status decides what becomes of an envelope, and where there is none it is sent
/// again. A panic costs the envelopes that it has said nothing of; after five in a row none is
/// called again. One that can send several side by side says so ([`at_once`](Self::at_once)).
///
/// ```
/// use hotspan::transport::{Envelope, Response, SendError, Transport};
///
/// /// Counts bytes, and throws them away.
/// struct Counting(usize);
///
/// impl Transport for Counting {
///     fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
///         self.0 += envelope.as_bytes().len();
///         Ok(Response::status(200))
///     }
/// }
/// ```
pub trait Transport: Send {
    /// Sends one envelope and waits for the answer.
    ///
    /// # Errors
    /// [`SendError`] when no answer came; an answer of any status is `Ok`.
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError>;

    /// How many envelopes it likes to be given at a time, for one that sends them side by side.
    ///
    /// Asked before each lot, on the thread that sends; 0 counts as 1, and so does a panic. It is
    /// never given more than that, nor more than 64, nor several that are longer than 1 MiB
    /// together; and nobody waits for a lot to become full. While the server does not answer it is
    /// given one at a time, whatever it likes. Default: 1.
    fn at_once(&self) -> usize {
        1
    }

    /// Sends several envelopes and waits for the answers: says of each, as soon as that is known
    /// and once, its place in the slice and what [`send`](Self::send) would have returned. In which
    /// order is its own affair.
    ///
    /// All envelopes go this way, one alone, too; only client reports come by [`send`](Self::send).
    /// What was said is written down at that moment: it stands, whatever comes after it. Of what is
    /// said twice the first counts, and a place where there is no envelope is ignored. What nothing
    /// was said of when this returns counts as not answered, and is sent again; after a panic it is
    /// lost. After an [interruption](Self::interrupter) it returns as soon as it can. Default: one
    /// after the other, by [`send`](Self::send).
    ///
    /// ```
    /// use hotspan::transport::{EnvelopeBuf, Memory, Transport};
    ///
    /// let stored = [EnvelopeBuf::from_bytes("{}\n"), EnvelopeBuf::from_bytes("{}\n")];
    /// let envelopes = stored.each_ref().map(EnvelopeBuf::as_envelope);
    /// let mut answers = Vec::new();
    /// Memory::new().send_all(&envelopes, &mut |place, answer| {
    ///     answers.push((place, answer.unwrap().status));
    /// });
    /// assert_eq!(answers, [(0, 200), (1, 200)]);
    /// ```
    fn send_all(
        &mut self,
        envelopes: &[Envelope<'_>],
        answered: &mut dyn FnMut(usize, Result<Response, SendError>),
    ) {
        for (place, envelope) in envelopes.iter().enumerate() {
            answered(place, self.send(envelope));
        }
    }

    /// How to break off a [`send`](Self::send) or [`send_all`](Self::send_all) that is under way on
    /// another thread, if there is a way.
    ///
    /// Asked for once, before the first envelope. It is called when the library is closed and the
    /// time for that is up, or nearly so where a spool saves what is left; it must not wait;
    /// nothing is sent afterwards. Default: there is no way.
    fn interrupter(&self) -> Option<Interrupter> {
        None
    }
}

/// Breaks off the [`send`](Transport::send) that is under way.
pub type Interrupter = Box<dyn FnOnce() + Send>;

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        (**self).send(envelope)
    }

    fn at_once(&self) -> usize {
        (**self).at_once()
    }

    fn send_all(
        &mut self,
        envelopes: &[Envelope<'_>],
        answered: &mut dyn FnMut(usize, Result<Response, SendError>),
    ) {
        (**self).send_all(envelopes, answered);
    }

    fn interrupter(&self) -> Option<Interrupter> {
        (**self).interrupter()
    }
}

/// What the server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// `X-Sentry-Rate-Limits`, all of them joined by commas.
    pub rate_limits: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// What the server says is wrong, if it answers with anything but a success: `X-Sentry-Error`,
    /// else the `detail` of its JSON.
    ///
    /// A stranger's text: to be shown to people, and never to be acted on. At most 200 characters,
    /// none of them a control character; `***` if the key stands in it.
    pub detail: Option<String>,
    /// The server's clock, by the second: `Date`.
    pub date: Option<SystemTime>,
}

impl Response {
    /// A status without headers.
    #[must_use]
    pub const fn status(status: u16) -> Self {
        Self { status, rate_limits: None, retry_after: None, detail: None, date: None }
    }
}
