//! With `HOTSPAN_TEST_LOG` set, all that the library logs goes to standard error, debug lines too:
//! `scripts/secrets` searches it.

use std::sync::Once;

use log::{LevelFilter, Log, Metadata, Record};

struct ToStderr;

impl Log for ToStderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    #[expect(clippy::print_stderr, reason = "that is what it is for")]
    fn log(&self, record: &Record<'_>) {
        eprintln!("log: {} {}: {}", record.level(), record.target(), record.args());
    }

    fn flush(&self) {}
}

/// Whether that is wanted; the first call sees to it.
pub(crate) fn is_wanted() -> bool {
    static ONCE: Once = Once::new();
    let is_wanted = std::env::var_os("HOTSPAN_TEST_LOG").is_some();
    if is_wanted {
        ONCE.call_once(|| {
            // A test that has a logger of its own keeps it.
            if log::set_logger(&ToStderr).is_ok() {
                log::set_max_level(LevelFilter::Trace);
            }
        });
    }
    is_wanted
}
