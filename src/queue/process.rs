//! The consumer's side.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::SystemTime;

use super::setters::{Text, message_setters};
use super::{PROCESS, attributes, receipt};
use crate::detached::Detached;
use crate::name::IntoName;
use crate::options::TransactionOptions;
use crate::shared::clock;
use crate::status::SpanStatus;
use crate::transaction::Transaction;

/// Starts the processing of a message that was received: a transaction with the op `queue.process`
/// and the queue's or topic's name as its own, which continues the trace found in the headers and
/// says how long the message waited, if the headers say when it was
/// [published](super::Publish::inject).
///
/// `headers` are pairs of names and values, text or bytes, as for
/// [`continue_from`](crate::continue_from()); names are read without regard to case. No headers
/// are `[("", ""); 0]`. Call it when there is a message, not before: a poll that finds nothing is
/// nothing to record.
///
/// Costs a transaction, the reading of the headers, and when it is kept two attributes and one
/// reading of the wall clock. Never allocates, as `continue_from` does not.
///
/// ```
/// let headers = [("sentry-trace", "4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-1")];
/// # fn handle() -> Result<(), std::io::Error> { Ok(()) }
///
/// let mut process = hotspan::queue::process("orders", headers);
/// process.set_system("kafka").set_message_id("a-17").set_retry_count(0);
/// process.finish_with(&handle());
/// ```
pub fn process<I, K, V>(destination: impl IntoName, headers: I) -> Process
where
    I: IntoIterator<Item = (K, V)>,
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    process_with(&TransactionOptions::new(), destination, headers)
}

/// [`process`] with more to say about the transaction: whether it is kept, what the sampler is to
/// see, a trace to go on with where the headers have none.
///
/// ```
/// use hotspan::TransactionOptions;
/// use hotspan::queue;
///
/// struct Tenant(u32);
///
/// let tenant = Tenant(5);
/// let headers = [("tenant", "5")];
/// let options = TransactionOptions::new().context(&tenant);
/// let process = queue::process_with(&options, "orders", headers);
/// # drop(process);
/// ```
pub fn process_with<I, K, V>(
    options: &TransactionOptions<'_>,
    destination: impl IntoName,
    headers: I,
) -> Process
where
    I: IntoIterator<Item = (K, V)>,
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let (incoming, published) = receipt::read(headers);
    let mut transaction = options.or_continue_from(&incoming).start(&PROCESS, &destination);
    let mut received = 0;
    if transaction.at().is_recording() {
        transaction.set_data(&attributes::DESTINATION_NAME, destination.text());
        received = receipt::now();
    }
    let mut process = Process { transaction, received };
    if let Some(published) = published {
        process.set_published(published);
    }
    process
}

/// The processing of a message. It ends when it is dropped, and can do all that its [`Transaction`]
/// can.
///
/// To work on it elsewhere, [`detach`](Self::detach) it; to process asynchronously, give it to the
/// future: `handle(message).in_span(process)`
/// ([`FutureExt::in_span`](crate::FutureExt::in_span)).
#[must_use = "processing ends when its guard is dropped: bind it, and not to `_`"]
#[derive(Debug)]
pub struct Process {
    transaction: Transaction,
    /// In unix nanoseconds; 0 when it is not recorded.
    received: u64,
}

impl Process {
    /// Says when the message was published, where the broker does: Kafka's record timestamp, SQS's
    /// `SentTimestamp`, AMQP's `timestamp`. The latency is then reckoned from that, whatever the
    /// headers say. 1970 and before is taken as not known.
    ///
    /// A time later than the receipt, by clocks that differ, counts as a latency of 0, and in
    /// [`Stats::messages_skewed`](crate::Stats::messages_skewed).
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    ///
    /// # let (headers, timestamp_ms) = ([("", ""); 0], 1_732_847_252_123);
    /// let mut process = hotspan::queue::process("orders", headers);
    /// process.published_at(SystemTime::UNIX_EPOCH + Duration::from_millis(timestamp_ms));
    /// ```
    pub fn published_at(&mut self, at: SystemTime) -> &mut Self {
        self.set_published(clock::nanos_since_epoch(at));
        self
    }

    /// Sets how many attempts there were before this one: 0 for the first.
    pub fn set_retry_count(&mut self, attempts: u64) -> &mut Self {
        self.set_data(&attributes::MESSAGE_RETRY_COUNT, attempts);
        self
    }

    /// Says that the message will be tried again: the status is `aborted`. Not a success, and told
    /// apart from failures.
    pub fn retry(&mut self) -> &mut Self {
        self.set_status(SpanStatus::Aborted);
        self
    }

    /// Sets the status from a result, `ok` or `internal_error`, and ends it.
    pub fn finish_with<T, E>(mut self, result: &Result<T, E>) {
        self.transaction.record_result(result);
    }

    /// Ends it now, as dropping it does.
    pub fn finish(self) {}

    /// Ends it at a given time, as [`Transaction::finish_at`] does.
    pub fn finish_at(self, at: SystemTime) {
        self.transaction.finish_at(at);
    }

    /// Takes it off this thread, as [`Transaction::detach`] does. What this type has setters for is
    /// then set by [`attributes`].
    pub fn detach(self) -> Detached {
        self.transaction.detach()
    }

    fn set_published(&mut self, published: u64) {
        if let Some(waited) = receipt::waited(published, self.received) {
            self.transaction
                .set_data(&attributes::MESSAGE_RECEIVE_LATENCY, receipt::milliseconds(waited));
        }
    }
}

message_setters!(Process);

impl Deref for Process {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Transaction {
        &mut self.transaction
    }
}

impl From<Process> for Detached {
    /// As [`Process::detach`].
    fn from(process: Process) -> Self {
        process.detach()
    }
}
