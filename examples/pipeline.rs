//! One transaction an item, through all the threads that have a hand in it: a reader begins it,
//! one of several workers goes on, an acker ends it.
//!
//! `cargo run --release --example pipeline [-- FOLDER]`
//!
//! Needs no account: envelopes go into a folder, `target/pipeline` if none is given. What is
//! printed at the end is read back from there: how long each step took, and the slowest item as a
//! tree.

#![expect(clippy::print_stdout, reason = "an example talks")]
#![expect(clippy::indexing_slicing, reason = "of JSON: what is missing is null")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use hotspan::{Config, Delivery, Detached, Hub, start_child, start_transaction};
use serde_json::Value;

const ITEMS: u64 = 500;
const WORKERS: usize = 4;

/// What travels: the item, its transaction, and the span of its waiting in a queue.
struct Job {
    order: u64,
    transaction: Detached,
    waiting: Detached,
}

fn read(to_workers: &Sender<Job>) {
    for order in 1..=ITEMS {
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.set_tag("order", order);
        {
            let _span = start_child("queue.read", "parse");
            thread::sleep(Duration::from_micros(200));
        }
        // Begun here, ended by whoever takes the job.
        let waiting = transaction.start_child("queue.wait", "for a worker").detach();
        let job = Job { order, transaction: transaction.detach(), waiting };
        if to_workers.send(job).is_err() {
            return;
        }
    }
}

fn work(worker: usize, jobs: &Receiver<Job>, to_acker: &Sender<Job>) {
    for mut job in jobs {
        job.waiting.finish();
        {
            let mut scope = job.transaction.enter();
            scope.record_result(&price(job.order, worker));
        }
        job.waiting = job.transaction.start_child("queue.wait", "for the acker");
        if to_acker.send(job).is_err() {
            return;
        }
    }
}

/// Knows nothing of threads and messages: whatever is current is what it belongs to.
fn price(order: u64, worker: usize) -> Result<u64, &'static str> {
    let mut span = start_child("work", "price");
    span.set_data("worker", worker).set_data("order", order);
    {
        let _span = start_child("db.query", "load order");
        thread::sleep(Duration::from_micros(300 + order * 37 % 400));
    }
    if order.is_multiple_of(100) {
        return Err("no price");
    }
    Ok(order * 3)
}

fn acknowledge(jobs: &Receiver<Job>) {
    for job in jobs {
        job.waiting.finish();
        {
            let _scope = job.transaction.enter();
            let _span = start_child("queue.ack", "acknowledge");
            if let Some(mut transaction) = Hub::current().scope().transaction() {
                transaction.set_data("acknowledged", true);
            }
        }
        job.transaction.finish();
    }
}

/// Reader, workers and acker, until all items are through.
fn run() {
    let (to_workers, at_workers) = bounded(16);
    let (to_acker, at_acker) = bounded(16);
    thread::scope(|scope| {
        scope.spawn(move || read(&to_workers));
        for worker in 1..=WORKERS {
            let (jobs, to_acker) = (at_workers.clone(), to_acker.clone());
            scope.spawn(move || work(worker, &jobs, &to_acker));
        }
        drop((at_workers, to_acker));
        acknowledge(&at_acker);
    });
}

/// The transactions among the envelopes of a folder.
fn delivered(folder: &Path) -> Result<Vec<Value>, Box<dyn Error>> {
    let mut transactions = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(entry?.path())?;
        // Its header, the item's header, the item.
        let payload: Value = serde_json::from_str(text.lines().nth(2).unwrap_or_default())?;
        if payload["type"] == "transaction" {
            transactions.push(payload);
        }
    }
    Ok(transactions)
}

fn seconds(span: &Value) -> f64 {
    let at = |key: &str| span[key].as_f64().unwrap_or_default();
    at("timestamp") - at("start_timestamp")
}

fn children(transaction: &Value) -> &[Value] {
    transaction["spans"].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(span: &'a Value, key: &str) -> &'a str {
    span[key].as_str().unwrap_or_default()
}

fn print_table(transactions: &[Value]) {
    let mut steps: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for transaction in transactions {
        steps.entry("the whole item".to_owned()).or_default().push(seconds(transaction));
        for span in children(transaction) {
            let step = format!("{}: {}", text(span, "op"), text(span, "description"));
            steps.entry(step).or_default().push(seconds(span));
        }
    }
    println!("{:<28}{:>8}{:>12}{:>12}", "delivered", "spans", "median ms", "longest ms");
    for (step, mut times) in steps {
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or_default() * 1e3;
        let longest = times.last().copied().unwrap_or_default() * 1e3;
        println!("{step:<28}{:>8}{median:>12.3}{longest:>12.3}", times.len());
    }
}

/// A span and what is below it, in the order in which they began.
fn print_tree(span: &Value, name: &str, span_id: &Value, transaction: &Value, depth: usize) {
    println!("{:depth$}{name:<width$}{:>10.3} ms", "", seconds(span) * 1e3, width = 40 - depth);
    let mut below: Vec<&Value> =
        children(transaction).iter().filter(|child| child["parent_span_id"] == *span_id).collect();
    below.sort_by(|a, b| {
        let start = |span: &Value| span["start_timestamp"].as_f64().unwrap_or_default();
        start(a).total_cmp(&start(b))
    });
    for child in below {
        let name = format!("{} {}", text(child, "op"), text(child, "description"));
        print_tree(child, &name, &child["span_id"], transaction, depth + 2);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).map_or_else(|| "target/pipeline".into(), PathBuf::from);
    let folder = folder.join(std::process::id().to_string());
    let guard = hotspan::init(Config {
        transport: Delivery::File(folder.clone()),
        traces_sample_rate: Some(1.0),
        ..Config::default()
    })?;
    run();
    let report = guard.close(Duration::from_secs(10));

    let transactions = delivered(&folder)?;
    print_table(&transactions);
    let longest = transactions.iter().max_by(|a, b| seconds(a).total_cmp(&seconds(b)));
    if let Some(transaction) = longest {
        let (order, root) =
            (text(&transaction["tags"], "order"), &transaction["contexts"]["trace"]);
        println!("\nthe slowest: order {order}, {}", text(root, "status"));
        let name = format!("{} {}", text(root, "op"), text(transaction, "transaction"));
        print_tree(transaction, &name, &root["span_id"], transaction, 0);
    }
    println!("\n{}", hotspan::stats());
    println!("envelopes: {}", folder.display());
    if !report.complete || transactions.len() as u64 != ITEMS {
        return Err("not everything arrived".into());
    }
    Ok(())
}
