//! The names of what is said about messages, as Sentry knows them: keys for `set_data`.
//!
//! Each is a static [`Name`]: pass it by reference, and it costs a load. The setters of
//! [`Publish`](super::Publish), [`Process`](super::Process) and [`Batch`](super::Batch) use them;
//! what has no setter is set by name.
//!
//! | on both sides | on the consumer's side | if there is one |
//! |---|---|---|
//! | [`MESSAGE_ID`], [`DESTINATION_NAME`], [`SYSTEM`], [`MESSAGE_BODY_SIZE`] | [`MESSAGE_RETRY_COUNT`], [`MESSAGE_RECEIVE_LATENCY`] | all others |
//!
//! ```
//! use hotspan::queue::{self, attributes};
//!
//! let mut publish = queue::publish("orders");
//! publish.set_system("kafka");
//! publish.set_data(&attributes::KAFKA_MESSAGE_KEY, "customer-5");
//! ```

use crate::name::Name;

macro_rules! attributes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => { $(
        $(#[$doc])*
        #[doc = concat!("\n\n`", $text, "`")]
        pub static $name: Name = Name::new($text);
    )* };
}

attributes! {
    /// The message's id, as the broker or the sender has it: text.
    MESSAGE_ID = "messaging.message.id";
    /// The queue or the topic: text. What the server groups by; set by this module.
    DESTINATION_NAME = "messaging.destination.name";
    /// What delivers: text, such as `kafka`, `aws_sqs`, `rabbitmq`, `redis`.
    SYSTEM = "messaging.system";
    /// Bytes of the body: an integer.
    MESSAGE_BODY_SIZE = "messaging.message.body.size";
    /// Bytes of body and metadata: an integer.
    MESSAGE_ENVELOPE_SIZE = "messaging.message.envelope.size";
    /// Attempts before this one: an integer, 0 for the first.
    MESSAGE_RETRY_COUNT = "messaging.message.retry.count";
    /// Milliseconds from publishing to receiving: a number. Set by this module.
    MESSAGE_RECEIVE_LATENCY = "messaging.message.receive.latency";
    /// Messages in a batch: an integer.
    BATCH_MESSAGE_COUNT = "messaging.batch.message_count";
    /// The partition or shard: text.
    DESTINATION_PARTITION_ID = "messaging.destination.partition.id";
    /// By which connection it went: text.
    DESTINATION_CONNECTION = "messaging.destination.connection";
    /// What is done: text, one of `create`, `send`, `receive`, `process`, `settle`.
    OPERATION_TYPE = "messaging.operation.type";
    /// The same in the broker's own words: text, such as `ack`.
    OPERATION_NAME = "messaging.operation.name";
    /// What request and reply have in common, also known as correlation id: text.
    MESSAGE_CONVERSATION_ID = "messaging.message.conversation_id";
    /// Kafka: the record's offset in its partition: an integer.
    KAFKA_OFFSET = "messaging.kafka.offset";
    /// Kafka: the record's key: text.
    KAFKA_MESSAGE_KEY = "messaging.kafka.message.key";
    /// Kafka: whether the record is a tombstone: `true` or `false`.
    KAFKA_MESSAGE_TOMBSTONE = "messaging.kafka.message.tombstone";
    /// RabbitMQ: the routing key: text.
    RABBITMQ_DESTINATION_ROUTING_KEY = "messaging.rabbitmq.destination.routing_key";
}
