//! One logger for a test binary: to a test that listens, and, with `HOTSPAN_TEST_LOG` set, to standard
//! error, debug lines too: `scripts/secrets` searches that.

use std::sync::{Once, OnceLock};

use log::{LevelFilter, Log, Metadata, Record};

static LISTENER: OnceLock<&'static dyn Log> = OnceLock::new();

struct Logger {
    is_loud: bool,
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    #[expect(clippy::print_stderr, reason = "that is what it is for")]
    fn log(&self, record: &Record<'_>) {
        if self.is_loud {
            eprintln!("log: {} {}: {}", record.level(), record.target(), record.args());
        }
        if let Some(listener) = LISTENER.get() {
            listener.log(record);
        }
    }

    fn flush(&self) {}
}

/// Whether everything is to be logged; the first call sees to it.
pub(crate) fn is_wanted() -> bool {
    let is_loud = std::env::var_os("HOTSPAN_TEST_LOG").is_some();
    if is_loud {
        install();
    }
    is_loud
}

/// From now on this one hears what is logged; the first one that asks.
pub(crate) fn listen(listener: &'static dyn Log) {
    LISTENER.get_or_init(|| listener);
    install();
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let is_loud = std::env::var_os("HOTSPAN_TEST_LOG").is_some();
        log::set_logger(Box::leak(Box::new(Logger { is_loud }))).unwrap();
        log::set_max_level(if is_loud { LevelFilter::Debug } else { LevelFilter::Info });
    });
}
