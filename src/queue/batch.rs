//! Several messages that are processed as one.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::SystemTime;

use super::setters::{Text, message_setters};
use super::{PROCESS, attributes, receipt};
use crate::detached::Detached;
use crate::name::IntoName;
use crate::options::TransactionOptions;
use crate::record::Handle;
use crate::shared::ledger;
use crate::transaction::Transaction;

/// More would not be sent.
const LINKS_MAX: u32 = 128;

/// Starts the processing of a batch of messages: one transaction with the op `queue.process`, the
/// queue's or topic's name as its own, and the number of messages. It begins a trace of its own:
/// the messages come from many. [`add_message`](Batch::add_message) links each of them.
///
/// Never allocates.
///
/// ```
/// # struct Message { headers: Vec<(String, String)> }
/// # let messages: Vec<Message> = Vec::new();
/// # fn store(_: &[Message]) -> Result<(), std::io::Error> { Ok(()) }
/// let mut batch = hotspan::queue::batch("orders", messages.len());
/// for message in &messages {
///     batch.add_message(message.headers.iter().map(|(name, value)| (name, value)));
/// }
/// batch.finish_with(&store(&messages));
/// ```
pub fn batch(destination: impl IntoName, messages: usize) -> Batch {
    batch_with(&TransactionOptions::new(), destination, messages)
}

/// [`batch`] with more to say about the transaction: whether it is kept, what the sampler is to
/// see, a trace to go on with.
pub fn batch_with(
    options: &TransactionOptions<'_>,
    destination: impl IntoName,
    messages: usize,
) -> Batch {
    let mut transaction = options.start(&PROCESS, &destination);
    let mut received = 0;
    if transaction.at().is_recording() {
        transaction.set_data(&attributes::DESTINATION_NAME, destination.text());
        transaction.set_data(&attributes::BATCH_MESSAGE_COUNT, messages);
        received = receipt::now();
    }
    Batch { transaction, received, links: 0, waits: 0, waited: 0 }
}

/// The processing of a batch of messages. It ends when it is dropped, and can do all that its
/// [`Transaction`] can.
#[must_use = "processing ends when its guard is dropped: bind it, and not to `_`"]
#[derive(Debug)]
pub struct Batch {
    transaction: Transaction,
    /// In unix nanoseconds; 0 when it is not recorded.
    received: u64,
    links: u32,
    /// Messages that say when they were published.
    waits: u64,
    /// How long these waited, together, in nanoseconds.
    waited: u64,
}

impl Batch {
    /// Links the trace found in a message's headers, and takes note of when it was published: the
    /// batch's latency is the mean of the messages that say so.
    ///
    /// Of links the first 128 are recorded, the others are counted in
    /// [`Stats::attributes_dropped`](crate::Stats::attributes_dropped). One slot each; nothing when
    /// the batch is not recorded.
    pub fn add_message<I, K, V>(&mut self, headers: I) -> &mut Self
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        if self.received > 0 {
            let (incoming, published) = receipt::read(headers);
            if let (Some(trace), Some(span)) = (incoming.trace_id(), incoming.parent_span_id()) {
                if self.links < LINKS_MAX {
                    self.links += 1;
                    self.transaction.add_link(trace, span, incoming.sampled());
                } else {
                    ledger::books().attributes_dropped.add(1);
                }
            }
            if let Some(waited) = receipt::waited(published.unwrap_or_default(), self.received) {
                self.waits += 1;
                self.waited = self.waited.saturating_add(waited);
            }
        }
        self
    }

    /// Sets the status from a result, `ok` or `internal_error`, and ends it.
    pub fn finish_with<T, E>(mut self, result: &Result<T, E>) {
        self.transaction.record_result(result);
    }

    /// Ends it now, as dropping it does.
    pub fn finish(self) {}

    /// Ends it at a given time, as [`Transaction::finish_at`] does.
    pub fn finish_at(mut self, at: SystemTime) {
        self.take().finish_at(at);
    }

    /// Takes it off this thread, as [`Transaction::detach`] does.
    pub fn detach(mut self) -> Detached {
        self.take().detach()
    }

    /// What is known when all messages were added, and then the transaction.
    fn take(&mut self) -> Transaction {
        if let Some(mean) = self.waited.checked_div(self.waits) {
            self.waits = 0;
            self.transaction
                .set_data(&attributes::MESSAGE_RECEIVE_LATENCY, receipt::milliseconds(mean));
        }
        std::mem::replace(&mut self.transaction, Transaction::new(Handle::NONE))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        drop(self.take());
    }
}

message_setters!(Batch);

impl Deref for Batch {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}

impl DerefMut for Batch {
    fn deref_mut(&mut self) -> &mut Transaction {
        &mut self.transaction
    }
}

impl From<Batch> for Detached {
    /// As [`Batch::detach`].
    fn from(batch: Batch) -> Self {
        batch.detach()
    }
}
