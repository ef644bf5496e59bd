//! A new `init` while the flusher of the one before is still at its last look.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hotspan::{Config, Delivery};

static STOP: AtomicBool = AtomicBool::new(false);

fn config(shutdown_timeout: Duration) -> Config {
    Config {
        traces_sample_rate: Some(1.0),
        transport: Delivery::Null,
        shutdown_timeout,
        ..Config::default()
    }
}

/// With a time-out that is too short for the old flusher to end, two of them read the same rings.
#[test]
fn no_ring_is_read_by_two_flushers() {
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !STOP.load(Ordering::Relaxed) {
                    let _transaction = hotspan::start_transaction("queue.process", "orders");
                    for _ in 0..20 {
                        let mut span = hotspan::start_child("step", "of many");
                        span.set_data("text", "longer than the forty bytes that fit into one slot");
                    }
                }
            });
        }
        for _ in 0..200 {
            let guard = hotspan::init(config(Duration::ZERO)).unwrap();
            thread::sleep(Duration::from_micros(800));
            drop(guard);
        }
        STOP.store(true, Ordering::Relaxed);
    });
    let guard = hotspan::init(config(Duration::from_secs(5))).unwrap();
    drop(guard);
    let stats = hotspan::stats();
    stats.check().unwrap();
    assert!(stats.is_at_rest(), "{stats}");
}
