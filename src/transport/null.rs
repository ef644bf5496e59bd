//! [`Null`]: takes everything, sends nothing.

use super::{Envelope, Response, SendError, Transport};

/// Answers 200 at once and throws the envelope away. For measuring what comes before it.
///
/// ```
/// use hotspan::transport::{EnvelopeBuf, Null, Transport};
///
/// let envelope = EnvelopeBuf::from_bytes(&b"{}\n"[..]);
/// assert_eq!(Null.send(&envelope.as_envelope()).unwrap().status, 200);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it will never hold anything")]
pub struct Null;

impl Transport for Null {
    fn send(&mut self, _: &Envelope<'_>) -> Result<Response, SendError> {
        Ok(Response::status(200))
    }
}
