//! Messages: what producers and consumers of queues and topics record, so that one trace shows
//! both, and Sentry's Queues page its numbers.
//!
//! The producer [`publish`](publish())es inside of a transaction and [injects](Publish::inject)
//! headers into the message; the consumer [`process`](process())es it, given these headers, in a
//! transaction of its own that continues the trace. The headers are those of Sentry's SDKs: the two
//! ends may be written in different languages.
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::mpsc;
//!
//! use hotspan::queue;
//!
//! struct Message {
//!     headers: HashMap<String, String>,
//!     body: Vec<u8>,
//! }
//!
//! fn send(queue: &mpsc::Sender<Message>, body: Vec<u8>) {
//!     let _transaction = hotspan::start_transaction("http.server", "POST /orders");
//!     let mut headers = HashMap::new();
//!     let mut publish = queue::publish("orders");
//!     publish.set_system("mpsc").set_body_size(body.len());
//!     publish.inject(|name, value| drop(headers.insert(name.to_owned(), value.to_owned())));
//!     publish.finish_with(&queue.send(Message { headers, body }));
//! }
//!
//! fn work(queue: &mpsc::Receiver<Message>) {
//!     while let Ok(message) = queue.recv() {
//!         // There is a message: from here on it is recorded, and not a moment before.
//!         let mut process = queue::process("orders", &message.headers);
//!         process.set_system("mpsc").set_body_size(message.body.len());
//!         process.finish_with(&store(&message.body));
//!     }
//! }
//! # fn store(_: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
//! # let (to_worker, queue) = mpsc::channel();
//! # send(&to_worker, vec![0; 5]);
//! # drop(to_worker);
//! # work(&queue);
//! ```
//!
//! # The consumer's loop
//! A transaction an item, started when there is an item. A poll that finds nothing is not recorded,
//! and costs nothing:
//!
//! ```
//! # use std::time::Duration;
//! # use hotspan::queue;
//! # struct Message { attempt: u64, headers: Vec<(String, Vec<u8>)>, id: String }
//! # struct Broker(u8);
//! # impl Broker {
//! #     fn poll(&mut self, _: Duration) -> Result<Option<Message>, ()> {
//! #         self.0 += 1;
//! #         let headers = Vec::new();
//! #         let message = Message { attempt: 0, headers, id: "a".into() };
//! #         if self.0 > 3 { Err(()) } else { Ok((self.0 == 2).then_some(message)) }
//! #     }
//! #     fn ack(&self, _: &Message) {}
//! #     fn give_back(&self, _: &Message) {}
//! # }
//! # enum Fault { Busy, Broken }
//! # fn handle(_: &Message) -> Result<(), Fault> { Err(Fault::Busy) }
//! # fn run(broker: &mut Broker) -> Result<(), ()> {
//! loop {
//!     let Some(message) = broker.poll(Duration::from_secs(1))? else { continue };
//!     let headers = message.headers.iter().map(|(name, value)| (name, value));
//!     let mut process = queue::process("orders", headers);
//!     process.set_message_id(&message.id).set_retry_count(message.attempt);
//!     match handle(&message) {
//!         Err(Fault::Busy) => {
//!             process.retry(); // the status `aborted`
//!             let _span = queue::settle("orders", queue::Settlement::Return);
//!             broker.give_back(&message);
//!         }
//!         result => {
//!             process.record_result(&result);
//!             let _span = queue::settle("orders", queue::Settlement::Acknowledge);
//!             broker.ack(&message);
//!         }
//!     }
//! }
//! # }
//! # let _ = run(&mut Broker(0));
//! ```
//!
//! # Why the transaction itself has the op
//! Sentry's Queues page counts spans whose op is exactly `queue.publish` or `queue.process`; a
//! transaction counts as the span that it is the root of. So one with the op `queue.process` is
//! counted once, its duration is the time that processing took, and its status, by which the page
//! reckons its share of errors, is that of the trace. Other SDKs start a transaction with an op of
//! a task framework and a child with this op in it: two spans with the same times, where one says
//! it all. To have it their way, start the transaction with
//! [`TransactionOptions`](crate::TransactionOptions), a child with the op `queue.process`, set
//! [`attributes`] on the child, and the status on both.
//!
//! # What is reckoned
//! The latency, `messaging.message.receive.latency`, is what lies between publishing and
//! receiving, in milliseconds, by the wall clocks of the two machines. When the message was
//! published its headers say (`sentry-task-enqueued-time`, Unix seconds), or the broker
//! ([`Process::published_at`]).
//!
//! # Brokers
//! Headers go through any carrier of names and values. RabbitMQ (a table of short and long
//! strings), Kafka (bytes) and SQS (attributes by name, ten of them at most: these are three or
//! four) look like this, with the clients' types left out:
//!
//! ```
//! use std::collections::{BTreeMap, HashMap};
//! use std::time::{Duration, SystemTime};
//!
//! use hotspan::queue::{self, Process};
//!
//! // As in AMQP's field table: values of several types, of which text is read.
//! enum Field { LongString(Vec<u8>), Int(i64) }
//! fn rabbitmq(headers: &BTreeMap<String, Field>, tag: u64, redelivered: bool) -> Process {
//!     let text = headers.iter().filter_map(|(name, value)| match value {
//!         Field::LongString(text) => Some((name, text)),
//!         Field::Int(_) => None,
//!     });
//!     let mut process = queue::process("orders", text);
//!     process.set_system("rabbitmq").set_message_id(tag);
//!     process.set_retry_count(u64::from(redelivered));
//!     process
//! }
//!
//! // As in Kafka: a value may be missing; the record says when it was written.
//! struct Record<'a> { headers: Vec<(&'a str, Option<&'a [u8]>)>, timestamp: i64, offset: i64 }
//! fn kafka(record: &Record<'_>, partition: i32) -> Process {
//!     let headers = record.headers.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
//!     let mut process = queue::process("orders", headers);
//!     process.set_system("kafka").set_partition(partition).set_kafka_offset(record.offset);
//!     let millis = u64::try_from(record.timestamp).unwrap_or(0); // -1: not known
//!     process.published_at(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
//!     process
//! }
//!
//! // As in SQS: attributes of the sender, and those of the service.
//! struct Attribute { string_value: Option<String> }
//! fn sqs(sent: &HashMap<String, Attribute>, service: &HashMap<&str, String>) -> Process {
//!     let headers = sent.iter().filter_map(|(name, it)| Some((name, it.string_value.as_ref()?)));
//!     let mut process = queue::process("orders", headers);
//!     process.set_system("aws_sqs");
//!     let number = |name| service.get(name).and_then(|text| text.parse::<u64>().ok());
//!     if let Some(millis) = number("SentTimestamp") {
//!         process.published_at(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
//!     }
//!     if let Some(receives) = number("ApproximateReceiveCount") {
//!         process.set_retry_count(receives.saturating_sub(1));
//!     }
//!     process
//! }
//! # drop(rabbitmq(&BTreeMap::from([("a".to_owned(), Field::Int(1)),
//! #     ("b".to_owned(), Field::LongString(vec![1]))]), 1, true));
//! # drop(kafka(&Record { headers: vec![("a", None)], timestamp: -1, offset: 1 }, 3));
//! # let sent = HashMap::from([("a".to_owned(), Attribute { string_value: None })]);
//! # drop(sqs(&sent, &HashMap::new()));
//! ```
//!
//! # Batches
//! A batch that is worked on as one is one transaction with links to where its messages come from:
//! [`batch`](batch()). One whose messages are worked on one by one is one transaction each, in the
//! trace of each:
//!
//! ```
//! # use hotspan::queue;
//! # struct Message { headers: Vec<(String, String)> }
//! # let messages = vec![Message { headers: Vec::new() }];
//! # fn handle(_: &Message) -> Result<(), std::io::Error> { Ok(()) }
//! for message in &messages {
//!     let headers = message.headers.iter().map(|(name, value)| (name, value));
//!     queue::process("orders", headers).finish_with(&handle(message));
//! }
//! ```
//!
//! Either, not both: a transaction with the op `queue.process` around them would count the messages
//! twice.
//!
//! # Keeping what went wrong
//! A sample shows what is usual. What is not, rules keep: all that failed or will be tried again
//! (`aborted` is not ok), and whatever code asks for, such as the last attempt there is:
//!
//! ```
//! use hotspan::{Config, Keep, Rule};
//!
//! let config = Config {
//!     traces_sample_rate: Some(0.001),
//!     rules: vec![Rule {
//!         op: Some("queue.process".into()),
//!         rate: Some(0.001),
//!         max_per_second: Some(10.0),
//!         keep: Keep { failed: true, asked: true, ..Keep::default() },
//!         ..Rule::default()
//!     }],
//!     ..Config::default()
//! };
//! # drop(config);
//!
//! # let (headers, attempts) = ([("", ""); 0], 5);
//! let mut process = hotspan::queue::process("orders", headers);
//! process.set_retry_count(attempts);
//! if attempts == 5 {
//!     process.keep();
//! }
//! ```
//!
//! # Costs
//! A message costs its span or transaction, and an attribute for each thing that is said about it;
//! its headers about 100 bytes to read and 300 to write. Nothing allocates that did not say so.

pub mod attributes;
mod batch;
mod process;
mod publish;
mod receipt;
mod setters;
mod settle;

pub use batch::{Batch, batch, batch_with};
pub use process::{Process, process, process_with};
pub use publish::{Publish, publish};
pub use settle::{Settlement, settle};

use crate::name::Name;

/// The op of all that consumes.
static PROCESS: Name = Name::new("queue.process");
