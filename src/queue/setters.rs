//! What can be said about any message, on either side: written once, for every guard here.

use std::fmt::{self, Write as _};

use smallvec::SmallVec;

/// Text of something that is usually short, such as an id.
#[derive(Default)]
pub(super) struct Text(SmallVec<[u8; 64]>);

impl Text {
    /// Allocates for more than 64 bytes.
    pub(super) fn of(value: impl fmt::Display) -> Self {
        let mut text = Self::default();
        // What a `Display` that fails has written counts.
        let _ = write!(text, "{value}");
        text
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The setters of a guard that dereferences to its span.
macro_rules! message_setters {
    ($ty:ty) => {
        impl $ty {
            /// Sets what delivers the messages: `kafka`, `aws_sqs`, `rabbitmq`, `redis`, ...
            pub fn set_system(&mut self, system: &str) -> &mut Self {
                self.set_data(&attributes::SYSTEM, system);
                self
            }

            /// Sets the message's id. What is no text is written as its `Display` has it; more than
            /// 64 bytes allocate, where the span is recorded.
            pub fn set_message_id(&mut self, id: impl fmt::Display) -> &mut Self {
                if self.is_recording() {
                    self.set_data(&attributes::MESSAGE_ID, Text::of(id).as_str());
                }
                self
            }

            /// Sets the size of the body, in bytes.
            pub fn set_body_size(&mut self, bytes: usize) -> &mut Self {
                self.set_data(&attributes::MESSAGE_BODY_SIZE, bytes);
                self
            }

            /// Sets the size of body and metadata together, in bytes.
            pub fn set_envelope_size(&mut self, bytes: usize) -> &mut Self {
                self.set_data(&attributes::MESSAGE_ENVELOPE_SIZE, bytes);
                self
            }

            /// Sets the partition or shard, by number or name, as [`set_message_id`] does.
            ///
            /// [`set_message_id`]: Self::set_message_id
            pub fn set_partition(&mut self, id: impl fmt::Display) -> &mut Self {
                if self.is_recording() {
                    self.set_data(&attributes::DESTINATION_PARTITION_ID, Text::of(id).as_str());
                }
                self
            }

            /// Sets what request and reply have in common, as [`set_message_id`] does.
            ///
            /// [`set_message_id`]: Self::set_message_id
            pub fn set_conversation_id(&mut self, id: impl fmt::Display) -> &mut Self {
                if self.is_recording() {
                    self.set_data(&attributes::MESSAGE_CONVERSATION_ID, Text::of(id).as_str());
                }
                self
            }

            /// Sets RabbitMQ's routing key.
            pub fn set_routing_key(&mut self, key: &str) -> &mut Self {
                self.set_data(&attributes::RABBITMQ_DESTINATION_ROUTING_KEY, key);
                self
            }

            /// Sets the offset of Kafka's record in its partition.
            pub fn set_kafka_offset(&mut self, offset: i64) -> &mut Self {
                self.set_data(&attributes::KAFKA_OFFSET, offset);
                self
            }
        }
    };
}
pub(super) use message_setters;
