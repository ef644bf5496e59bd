//! What a user's function may do while `init` runs it.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use hotspan::transport::Null;
use hotspan::{Config, Delivery};

#[test]
fn a_function_that_makes_a_transport_may_ask_for_stats() {
    let (done, waiting) = mpsc::channel();
    thread::Builder::new()
        .spawn(move || {
            let make = || -> Box<dyn hotspan::transport::Transport> {
                let _ = hotspan::stats();
                Box::new(Null)
            };
            let guard = hotspan::init(Config {
                traces_sample_rate: Some(1.0),
                transport: Delivery::Custom(Arc::new(make)),
                ..Config::default()
            });
            done.send(guard.is_ok()).unwrap();
        })
        .unwrap();
    assert_eq!(waiting.recv_timeout(Duration::from_secs(5)), Ok(true));
}
