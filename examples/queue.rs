//! A producer and two consumers over a channel, with headers of text: what each end records, and
//! how long the messages waited.
//!
//! ```sh
//! cargo run --release --example queue
//! ```
//!
//! Nothing is sent anywhere, unless `SENTRY_DSN` says where.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, thread};

use hotspan::queue::{self, Settlement};
use hotspan::{Config, Delivery};

struct Message {
    id: u64,
    headers: HashMap<String, String>,
    body: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config { traces_sample_rate: Some(1.0), ..Config::default() };
    if env::var("SENTRY_DSN").is_err() {
        config.transport = Delivery::Null;
    }
    let _guard = hotspan::init(config)?;
    let (to_workers, messages) = crossbeam_channel::bounded::<Message>(16);
    let failed = thread::scope(|scope| {
        scope.spawn(move || produce(&to_workers));
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(|| consume(&messages))).collect();
        workers.into_iter().any(|worker| !matches!(worker.join(), Ok(Ok(()))))
    });
    if failed { Err("a worker could not write".into()) } else { Ok(()) }
}

fn produce(to_workers: &crossbeam_channel::Sender<Message>) {
    for id in 1..=6 {
        let _transaction = hotspan::start_transaction("http.server", "POST /orders");
        let body = format!("order {id}");
        let mut headers = HashMap::new();
        let mut publish = queue::publish("orders");
        publish.set_system("crossbeam").set_message_id(id).set_body_size(body.len());
        publish.inject(|name, value| drop(headers.insert(name.to_owned(), value.to_owned())));
        let ids = (publish.trace_id(), publish.span_id());
        if let (Some(trace), Some(span)) = ids {
            let _ = writeln!(io::stdout(), "published {id}: trace {trace}, span {span}");
        }
        publish.finish_with(&to_workers.send(Message { id, headers, body }));
    }
}

fn consume(messages: &crossbeam_channel::Receiver<Message>) -> io::Result<()> {
    while let Ok(message) = messages.recv() {
        let mut process = queue::process("orders", &message.headers);
        process.set_system("crossbeam").set_message_id(message.id).set_retry_count(0);
        process.set_body_size(message.body.len());
        {
            let _span = process.start_child("db.query", "store order");
            thread::sleep(Duration::from_millis(5));
        }
        drop(queue::settle("orders", Settlement::Acknowledge));
        if let Some(trace) = process.trace_id() {
            let parent = message.headers.get("sentry-trace").and_then(|text| text.get(33..49));
            writeln!(
                io::stdout(),
                "processed {}: trace {trace}, parent {}, {:.1} ms since it was published",
                message.id,
                parent.unwrap_or("none"),
                since_published(&message.headers).unwrap_or_default()
            )?;
        }
        process.finish_with(&Ok::<_, ()>(()));
    }
    Ok(())
}

/// In milliseconds; what is recorded is when the processing begins, this is when it ends.
#[expect(clippy::disallowed_methods, reason = "a program's own clock")]
fn since_published(headers: &HashMap<String, String>) -> Option<f64> {
    let published: f64 = headers.get("sentry-task-enqueued-time")?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some((now.as_secs_f64() - published) * 1e3)
}
