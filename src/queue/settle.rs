//! Telling the broker what became of a message.

use super::attributes;
use crate::name::{IntoName, Name};
use crate::span::{self, Span};

static OP: Name = Name::new("queue.settle");

/// What the broker is told about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// It is done, and need not be delivered again: `ack`.
    Acknowledge,
    /// It is to be delivered again: `nack`.
    Return,
    /// It is not wanted, and not to be delivered again: `reject`.
    Reject,
    /// It goes to where those go that cannot be processed: `dead_letter`.
    DeadLetter,
}

impl Settlement {
    /// What is sent as `messaging.operation.name`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledge => "ack",
            Self::Return => "nack",
            Self::Reject => "reject",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// Starts the settling of a message: a child of this thread's innermost span, with the op
/// `queue.settle` and the queue's or topic's name as its description, for the time that telling the
/// broker takes. The status of the processing is another matter
/// ([`Process::retry`](super::Process::retry),
/// [`Process::finish_with`](super::Process::finish_with)).
///
/// Costs a child and three attributes; never allocates.
///
/// ```
/// use hotspan::queue::{self, Settlement};
///
/// # fn acknowledge() -> Result<(), std::io::Error> { Ok(()) }
/// let mut span = queue::settle("orders", Settlement::Acknowledge);
/// span.record_result(&acknowledge());
/// ```
pub fn settle(destination: impl IntoName, settlement: Settlement) -> Span {
    let mut span = span::start_child(&OP, &destination);
    if span.at().is_recording() {
        span.set_data(&attributes::DESTINATION_NAME, destination.text())
            .set_data(&attributes::OPERATION_TYPE, "settle")
            .set_data(&attributes::OPERATION_NAME, settlement.as_str());
    }
    span
}
