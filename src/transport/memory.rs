//! [`Memory`]: keeps envelopes for a test to look at.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Envelope, Response, SendError, Transport};

/// Collects envelopes in memory. Clones share what they collect, so a test keeps one and gives the
/// other away. It grows until [`take`](Self::take) is called.
///
/// ```
/// use hotspan::transport::{EnvelopeBuf, Memory, Response, Transport};
///
/// let memory = Memory::new();
/// let mut transport = memory.clone();
/// memory.respond_with(Response::status(503));
/// let envelope = EnvelopeBuf::from_bytes(&b"{}\n"[..]);
/// assert_eq!(transport.send(&envelope.as_envelope()).unwrap().status, 503);
/// assert_eq!(memory.take(), [b"{}\n"]);
/// assert!(memory.take().is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Memory {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    envelopes: Vec<Vec<u8>>,
    response: Option<Response>,
}

impl Memory {
    /// An empty collection, whose answer is 200.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The envelopes since the last call, oldest first, as they would have gone to a server. Those
    /// that were answered with an error are among them.
    #[must_use]
    pub fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.lock().envelopes)
    }

    /// How many envelopes wait to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().envelopes.len()
    }

    /// Whether no envelope waits to be taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Answers with this from now on.
    pub fn respond_with(&self, response: Response) {
        self.lock().response = Some(response);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for Memory {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        let mut shared = self.lock();
        shared.envelopes.push(envelope.as_bytes().to_vec());
        Ok(shared.response.clone().unwrap_or_else(|| Response::status(200)))
    }
}
