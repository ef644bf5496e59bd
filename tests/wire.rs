//! What the server is told about losses: client reports add up to exactly what was lost, by the
//! server's reasons and in both of its categories, where a lost transaction of n children is 1
//! transaction and n + 1 spans, and one that sampling left out is 1 transaction and 1 span.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::mem_forget,
    clippy::allow_attributes,
    reason = "tests may panic, and forget what should not be"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hotspan::transport::{Envelope, Memory, Response, SendError, Transport};
use hotspan::{Delivery, Reason, start_child, start_transaction};

mod support;

use support::session::{Ending, LONG, Session, count};

fn item(children: usize) {
    let _transaction = start_transaction("queue.process", "orders");
    (0..children).for_each(|_| drop(start_child("step", "usual")));
}

/// Reason, transactions, spans; nothing else may have been reported.
fn assert_reported(ending: &Ending, expected: &[(&str, u64, u64)]) {
    let mut all = BTreeMap::new();
    for (reason, transactions, spans) in expected {
        for (category, quantity) in [("transaction", *transactions), ("span", *spans)] {
            if quantity > 0 {
                all.insert(((*reason).to_owned(), category.to_owned()), quantity);
            }
        }
    }
    assert_eq!(ending.reported, all, "{}", ending.after);
}

#[test]
fn no_loss_is_no_report() {
    let session = Session::start(|_| {});
    (0..10).for_each(|_| item(3));
    assert!(session.guard.flush(LONG).complete);
    let ending = session.end();
    assert_eq!((ending.transactions.len(), ending.report.delivered), (10, count(10, 40)));
    assert!(ending.report.complete);
    assert_reported(&ending, &[]);
}

#[test]
fn a_full_ring() {
    let session = Session::start(|config| {
        config.ring_slots = 64;
        // The flusher looks when it is asked to.
        config.flush_interval = Duration::from_secs(3600);
    });
    assert!(session.guard.flush(LONG).complete);
    (0..100).for_each(|_| item(3));
    // A part of a transaction, too: its children find no room, it does.
    assert!(session.guard.flush(LONG).complete);
    item(100);
    let ending = session.end();
    let arrived = ending.transactions.iter().fold(count(0, 0), |sum, one| sum + one.count());
    let lost = count(101, 501) - arrived;
    assert!(lost.transactions > 80 && lost.spans > 4 * lost.transactions, "{lost:?}");
    assert_eq!(ending.lost(Reason::RingFull), lost);
    assert_eq!(ending.lost_in_all(), lost);
    assert_reported(&ending, &[("buffer_overflow", lost.transactions, lost.spans)]);
    // The one that lacks children says how many.
    let part = ending.transactions.last().unwrap();
    assert_eq!(part.root()["data"]["hotspan.lost"], 100 - part.spans().len());
}

#[test]
fn a_full_queue() {
    let session = Session::start(|config| config.queue_bytes = 1);
    (0..7).for_each(|_| item(3));
    let ending = session.end();
    assert_eq!(ending.lost(Reason::QueueFull), count(7, 28));
    assert!(ending.transactions.is_empty());
    assert_reported(&ending, &[("queue_overflow", 7, 28)]);
}

#[test]
fn sampling_at_zero() {
    let session = Session::start(|config| config.traces_sample_rate = Some(0.0));
    (0..25).for_each(|_| item(3));
    let ending = session.end();
    assert_eq!(ending.after.unsampled - ending.before.unsampled, 25);
    assert_eq!(ending.lost_in_all(), count(0, 0), "left out is not lost");
    assert!(ending.transactions.is_empty());
    assert_reported(&ending, &[("sample_rate", 25, 25)]);
}

#[test]
fn sampling_at_a_half() {
    let session = Session::start(|config| {
        config.traces_sample_rate = Some(0.5);
        config.dsn = Some("https://0123456789abcdef@o77.ingest.example.com/1".to_owned());
    });
    (0..400).for_each(|_| item(3));
    let ending = session.end();
    let kept = ending.transactions.len() as u64;
    assert!((100..300).contains(&kept), "{kept} of 400: ten standard deviations");
    assert_eq!(ending.after.unsampled - ending.before.unsampled, 400 - kept);
    assert_reported(&ending, &[("sample_rate", 400 - kept, 400 - kept)]);
    for kept in &ending.transactions {
        let trace = &kept.header["trace"];
        assert_eq!(trace["sample_rate"], "0.5");
        assert_eq!(trace["sampled"], "true");
        let rand: f64 = trace["sample_rand"].as_str().unwrap().parse().unwrap();
        assert!((0.0..0.5).contains(&rand), "{rand}");
    }
}

#[test]
fn unfinished_children_and_too_many() {
    let session = Session::start(|config| config.max_spans = 5);
    {
        let _transaction = start_transaction("queue.process", "orders");
        (0..3).for_each(|_| std::mem::forget(start_child("step", "forgotten")));
        drop(start_child("step", "usual"));
    }
    item(12);
    let ending = session.end();
    assert_eq!(ending.lost(Reason::Unfinished), count(0, 3));
    assert_eq!(ending.lost(Reason::TransactionLimit), count(0, 7));
    let [first, second] = &*ending.transactions else { panic!("two") };
    assert_eq!((first.count(), second.count()), (count(1, 2), count(1, 6)));
    assert_eq!(first.root()["data"]["hotspan.unfinished"], 3);
    assert_eq!(second.root()["data"]["hotspan.over_limit"], 7);
    assert_reported(&ending, &[("buffer_overflow", 0, 10)]);
}

/// Answers transactions and reports each with its own statuses, the last of which stays.
#[derive(Clone)]
struct Answers {
    memory: Memory,
    transactions: Vec<u16>,
    reports: Vec<u16>,
}

impl Transport for Answers {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        let is_report = envelope.as_bytes().windows(15).any(|word| word == b"\"client_report\"");
        let script = if is_report { &mut self.reports } else { &mut self.transactions };
        let status = if script.len() > 1 { script.remove(0) } else { script[0] };
        match status {
            0 => Err(SendError::new("no route")),
            200 => self.memory.send(envelope),
            status => Ok(Response::status(status)),
        }
    }
}

fn answering(transactions: &'static [u16], reports: &'static [u16]) -> Session {
    let kept = Memory::new();
    let memory = kept.clone();
    Session::start(|config| {
        config.transport = Delivery::Custom(Arc::new(move || {
            Box::new(Answers {
                memory: memory.clone(),
                transactions: transactions.to_vec(),
                reports: reports.to_vec(),
            })
        }));
    })
    .with_memory(kept)
}

#[test]
fn a_server_that_fails() {
    let session = answering(&[500, 413, 0, 0, 0, 200], &[200]);
    (0..9).for_each(|_| item(1));
    let ending = session.end();
    assert_eq!(ending.transactions.len(), 4);
    assert_reported(&ending, &[("send_error", 2, 4), ("network_error", 3, 6)]);
}

#[test]
fn what_the_server_refused_it_has_counted_and_what_was_held_back_it_has_not() {
    let session = answering(&[200, 429], &[200]);
    (0..9).for_each(|_| item(1));
    let ending = session.end();
    assert_eq!(ending.lost(Reason::Refused), count(1, 2));
    assert_eq!(ending.lost(Reason::RateLimited), count(7, 14));
    // A 429 without a category limits everything, reports too: nothing gets through.
    assert_reported(&ending, &[]);
    // The next one has forgotten the limit, and tells.
    let ending = ending.then(|_| {}).end();
    assert_reported(&ending, &[("ratelimit_backoff", 7, 14)]);
}

#[test]
fn a_report_that_fails_is_told_again() {
    let session = answering(&[200], &[500, 0, 200]);
    for round in 1..=3 {
        {
            let _transaction = start_transaction("queue.process", "orders");
            std::mem::forget(start_child("step", "forgotten"));
        }
        // Each flush tries to report; the third tells everything.
        assert!(session.guard.flush(LONG).complete, "{round}");
    }
    let ending = session.end();
    assert_reported(&ending, &[("buffer_overflow", 0, 3)]);
}

#[test]
fn reports_can_be_switched_off() {
    let session = Session::start(|config| {
        config.send_client_reports = false;
        config.traces_sample_rate = Some(0.0);
    });
    item(3);
    let ending = session.end();
    assert_reported(&ending, &[]);
    // They are told when it is switched on again.
    let ending = ending.then(|_| {}).end();
    assert_reported(&ending, &[("sample_rate", 1, 1)]);
}
