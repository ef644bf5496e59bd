//! The producer's side.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::SystemTime;

use super::attributes;
use super::setters::{Text, message_setters};
use crate::detached::Detached;
use crate::name::{IntoName, Name};
use crate::propagate::{ENQUEUED_TIME, publish_time};
use crate::span::{self, Span};
use crate::test::now;

static OP: Name = Name::new("queue.publish");

/// Starts the publishing of a message: a child of this thread's innermost span, with the op
/// `queue.publish` and the queue's or topic's name as its description; a no-op guard without a span
/// that is recorded, which still [injects](Publish::inject) headers. Publish inside of a
/// transaction, or Sentry does not see it.
///
/// Costs a child and one attribute. Never allocates.
///
/// ```
/// # struct Message { headers: Vec<(&'static str, String)> }
/// # let mut message = Message { headers: Vec::new() };
/// # fn send(_: &Message) -> Result<(), std::io::Error> { Ok(()) }
/// let mut publish = hotspan::queue::publish("orders");
/// publish.set_system("rabbitmq").set_message_id(17).set_body_size(2048);
/// publish.inject(|name, value| message.headers.push((name, value.to_owned())));
/// publish.finish_with(&send(&message));
/// ```
pub fn publish(destination: impl IntoName) -> Publish {
    let mut span = span::start_child(&OP, &destination);
    if span.at().is_recording() {
        span.set_data(&attributes::DESTINATION_NAME, destination.text());
    }
    Publish { span }
}

/// The publishing of a message, or of a batch of them. It ends when it is dropped, and can do all
/// that its [`Span`] can.
///
/// To publish asynchronously give it to the future: `send(message).in_span(publish)`
/// ([`FutureExt::in_span`](crate::FutureExt::in_span)).
#[must_use = "publishing ends when its guard is dropped: bind it, and not to `_`"]
#[derive(Debug)]
pub struct Publish {
    span: Span,
}

impl Publish {
    /// Hands each header that the message is to carry to `write`, name and value: `sentry-trace`;
    /// `baggage`, if there is something to say; `traceparent`, if
    /// [`Config::propagate_traceparent`](crate::Config::propagate_traceparent) asks for it; and
    /// `sentry-task-enqueued-time`, the time now. They replace those that the message has.
    ///
    /// The consumer's trace hangs on this span. Where it is not recorded, they are those of
    /// [`trace_headers`](crate::trace_headers()); before [`init`](crate::init), the time alone.
    ///
    /// A message that may have a `baggage` with members of others gets both merged by
    /// [`TraceHeaders::merge_baggage`](crate::TraceHeaders::merge_baggage). Allocates only for a
    /// `baggage` of more than 512 bytes; one reading of the wall clock.
    pub fn inject(&self, mut write: impl FnMut(&'static str, &str)) {
        if let Some(headers) = self.span.trace_headers() {
            for (name, value) in &headers {
                write(name, value);
            }
        }
        write(ENQUEUED_TIME, publish_time::text(now::unix_nanos()).as_str());
    }

    /// Sets how many messages are published at once.
    pub fn set_batch_message_count(&mut self, messages: usize) -> &mut Self {
        self.set_data(&attributes::BATCH_MESSAGE_COUNT, messages);
        self
    }

    /// Sets the status from a result, `ok` or `internal_error`, and ends it.
    pub fn finish_with<T, E>(mut self, result: &Result<T, E>) {
        self.span.record_result(result);
    }

    /// Ends it now, as dropping it does.
    pub fn finish(self) {}

    /// Ends it at a given time, as [`Span::finish_at`] does.
    pub fn finish_at(self, at: SystemTime) {
        self.span.finish_at(at);
    }

    /// Takes it off this thread, as [`Span::detach`] does: to be ended by whoever learns that the
    /// broker has the message.
    pub fn detach(self) -> Detached {
        self.span.detach()
    }
}

message_setters!(Publish);

impl Deref for Publish {
    type Target = Span;

    fn deref(&self) -> &Span {
        &self.span
    }
}

impl DerefMut for Publish {
    fn deref_mut(&mut self) -> &mut Span {
        &mut self.span
    }
}

impl From<Publish> for Detached {
    /// As [`Publish::detach`].
    fn from(publish: Publish) -> Self {
        publish.detach()
    }
}
