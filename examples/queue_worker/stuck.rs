//! What is stuck: `--hang` makes it happen, a report to stderr names it while it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hotspan::InFlight;

use crate::files::Item;
use crate::report::duration;

/// An item that takes longer than this is reported, unless `--hang` wants it sooner.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// The least that `--hang` makes of that.
const STUCK_AFTER_MIN: Duration = Duration::from_millis(250);

/// The item that hangs, if one is to.
pub(crate) struct Hang {
    time: Option<Duration>,
    done: AtomicBool,
}

impl Hang {
    pub(crate) fn new(time: Option<Duration>) -> Self {
        Self { time, done: AtomicBool::new(false) }
    }

    /// When an item counts as stuck.
    pub(crate) fn stuck_after(&self) -> Duration {
        self.time.map_or(STUCK_AFTER, |time| (time / 4).max(STUCK_AFTER_MIN))
    }

    /// Hangs in a step of its own: once, in the first item that is traced.
    pub(crate) fn strike(&self, item: &Item, is_traced: bool) {
        if let Some(time) = self.time
            && is_traced
            && !self.done.swap(true, Ordering::Relaxed)
        {
            let _span = hotspan::start_child("hang", item.id.as_str());
            thread::sleep(time);
        }
    }
}

/// The line for stderr.
pub(crate) fn describe(open: &InFlight) -> String {
    let took = |time: Duration| duration(time.as_micros());
    let thread = open.thread_name.as_deref().unwrap_or("no thread");
    format!(
        "stuck: {thread} has been in {} ({}) for {}; its {} ({}) is open for {}",
        open.span_op,
        open.span_description,
        took(open.span_age),
        open.op,
        open.name,
        took(open.age),
    )
}
