//! The books while a transaction is open that has already lost children.

use std::thread;
use std::time::Duration;

use hotspan::{Config, Delivery};

#[test]
fn losses_of_an_open_transaction_never_outrun_what_was_started() {
    let guard = hotspan::init(Config {
        traces_sample_rate: Some(1.0),
        transport: Delivery::Null,
        ring_slots: 64,
        max_spans: 5,
        ..Config::default()
    })
    .unwrap();
    let transaction = hotspan::start_transaction("queue.process", "orders");
    // Too fast for the ring.
    for _ in 0..10_000 {
        drop(hotspan::start_child("step", "of many"));
    }
    let full = hotspan::stats();
    // More than a transaction may have, published early.
    for _ in 0..100 {
        drop(hotspan::start_child("step", "of many"));
        thread::sleep(Duration::from_millis(2));
    }
    let cut = hotspan::stats();
    drop(transaction);
    let report = guard.close(Duration::from_secs(5));
    assert_eq!(report.left.spans, 0);
    hotspan::stats().check().unwrap();
    full.check().unwrap();
    cut.check().unwrap();
}
