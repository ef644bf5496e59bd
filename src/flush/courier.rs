//! What the uploader does with one parcel: check the limits, stamp, send, settle, and report.
//!
//! A [`Courier`] owns the transport. It takes what the [`Queue`] hands out, one thing a cycle, and
//! never looks at a clock but the one it was given, so tests drive it by hand. Its rules:
//!
//! * Rate limits are asked as late as possible, when the parcel is about to be sent.
//! * The status alone decides: 2xx is delivered, 429 is `refused`, any other is `send_error`; no
//!   answer is `network_error`. Nothing is sent twice.
//! * A transport that panics costs the parcel (`internal`), not the thread. After
//!   [`PANICS_MAX`] in a row nothing is sent any more, and everything is counted.
//! * A client report travels alone: after a parcel or when idle, if the last is 30 s old, and
//!   whenever somebody flushes or closes. What it held is put back unless the server took it. It is
//!   never a loss.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::flush::announce::Announcer;
use crate::flush::envelope::{Category, Envelope, Parcel};
use crate::flush::limits::Limits;
use crate::flush::queue::{Outcome, Popped, Queue};
use crate::flush::report::Report;
use crate::shared::clock;
use crate::shared::ledger::{Books, Count, Reason};
use crate::transport::{Response, Transport};

/// Panics of a transport in a row after which it is not called again.
const PANICS_MAX: u32 = 5;

/// Between two client reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// An error text is kept and logged up to this many characters.
const ERROR_CHARS_MAX: usize = 200;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) monotonic: Duration,
    /// Since 1970.
    pub(crate) unix: Duration,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { monotonic: clock::monotonic(), unix: Duration::from_nanos(clock::unix_nanos()) }
    }

    fn unix_nanos(self) -> u64 {
        u64::try_from(self.unix.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// How sending goes, for `stats()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// The text of the last failure.
    pub(crate) last_error: Option<String>,
    /// When the server last took something, on the monotonic clock.
    pub(crate) last_success: Option<Duration>,
    /// The transport panicked too often: nothing is sent any more.
    pub(crate) dead: bool,
}

/// The uploader's thread, but for the thread. `Now` tells the time.
pub(crate) struct Courier<Now> {
    transport: Box<dyn Transport>,
    queue: Arc<Queue>,
    books: &'static Books,
    health: Arc<Mutex<Health>>,
    now: Now,
    limits: Limits,
    announcer: Option<Announcer>,
    /// When a client report was last tried; `None` if there are to be none.
    reported: Option<Duration>,
    report_bytes: Vec<u8>,
    panics_in_row: u32,
}

/// What came back from a transport.
enum Answer {
    Response(Response),
    /// None came; the text of the error.
    Error(String),
    Panic,
}

impl<Now: Fn() -> Moment> Courier<Now> {
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        queue: Arc<Queue>,
        books: &'static Books,
        health: Arc<Mutex<Health>>,
        client_reports: bool,
        now: Now,
    ) -> Self {
        let start = now().monotonic;
        Self {
            transport,
            queue,
            books,
            health,
            now,
            limits: Limits::default(),
            announcer: Some(Announcer::new(books)),
            reported: client_reports.then_some(start),
            report_bytes: Vec::new(),
            panics_in_row: 0,
        }
    }

    /// Waits for one thing to do, and does it. False when there will be no more.
    pub(crate) fn cycle(&mut self) -> bool {
        match self.queue.pop(self.patience()) {
            Popped::Parcel(parcel) => self.deliver(parcel),
            Popped::Report => {
                self.report();
                self.queue.reported();
            }
            Popped::Idle => {}
            Popped::Closed => {
                self.report();
                self.announce();
                return false;
            }
            Popped::Abandoned => return false,
        }
        if self.patience().is_zero() {
            self.report();
        }
        self.announce();
        true
    }

    /// How long to wait for work: until the next client report may be due.
    fn patience(&self) -> Duration {
        let since = self
            .reported
            .map_or(Duration::ZERO, |last| (self.now)().monotonic.saturating_sub(last));
        REPORT_INTERVAL.saturating_sub(since)
    }

    fn deliver(&mut self, mut parcel: Parcel) {
        let outcome = self.attempt(&mut parcel);
        self.queue.settle(outcome);
        self.queue.recycle(parcel.bytes);
    }

    fn attempt(&mut self, parcel: &mut Parcel) -> Outcome {
        if self.panics_in_row >= PANICS_MAX {
            return Outcome::Lost(Reason::Internal);
        }
        if self.limits.blocked(parcel.category, (self.now)().monotonic).is_some() {
            return Outcome::Lost(Reason::RateLimited);
        }
        match self.send(parcel) {
            Answer::Response(Response { status: 200..=299, .. }) => Outcome::Delivered,
            Answer::Response(Response { status: 429, .. }) => {
                self.failed("the server refused: 429, too many requests");
                Outcome::Lost(Reason::Refused)
            }
            Answer::Response(Response { status, .. }) => {
                self.failed(&format!("the server answered with status {status}"));
                Outcome::Lost(Reason::SendError)
            }
            Answer::Error(error) => {
                self.failed(&error);
                Outcome::Lost(Reason::NetworkError)
            }
            Answer::Panic => {
                self.failed("the transport panicked");
                Outcome::Lost(Reason::Internal)
            }
        }
    }

    /// Stamps and sends, and heeds what the answer says about limits, whatever it is.
    fn send(&mut self, parcel: &mut Parcel) -> Answer {
        parcel.stamp((self.now)().unix_nanos());
        let answer = call(&mut *self.transport, &Envelope { parcel });
        let now = (self.now)();
        match &answer {
            Answer::Response(response) => {
                self.panics_in_row = 0;
                let before = self.limits.until(Category::Transaction);
                self.limits.update(response, now.monotonic, now.unix);
                let until = self.limits.until(Category::Transaction);
                if until != before {
                    self.queue.limit(until);
                }
                if matches!(response.status, 200..=299) {
                    self.health(|health| health.last_success = Some(now.monotonic));
                }
            }
            Answer::Error(_) => self.panics_in_row = 0,
            Answer::Panic => {
                self.panics_in_row += 1;
                if self.panics_in_row >= PANICS_MAX {
                    self.health(|health| health.dead = true);
                }
            }
        }
        answer
    }

    /// Sends a client report, if there is anything to report and no limit forbids it.
    fn report(&mut self) {
        let now = (self.now)();
        let Some(last) = &mut self.reported else { return };
        // Also if it fails, or is empty: the next try is a whole interval away.
        *last = now.monotonic;
        if self.panics_in_row >= PANICS_MAX
            || self.limits.blocked(Category::Internal, now.monotonic).is_some()
        {
            return;
        }
        let Some(report) = Report::take(self.books) else { return };
        let mut parcel = Parcel {
            bytes: std::mem::take(&mut self.report_bytes),
            sent_at: 0..0,
            category: Category::Internal,
            event_id: None,
            count: Count::default(),
        };
        report.write_envelope(&mut parcel, now.unix);
        let answer = self.send(&mut parcel);
        self.report_bytes = parcel.bytes;
        if !matches!(answer, Answer::Response(Response { status: 200..=299, .. })) {
            report.restore(self.books);
        }
    }

    fn failed(&self, error: &str) {
        // One line, of bounded length, whatever a transport puts into its error.
        let visible = |char: char| if char.is_control() { ' ' } else { char };
        let text = error.chars().take(ERROR_CHARS_MAX).map(visible).collect();
        self.health(|health| health.last_error = Some(text));
    }

    fn health(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Says in the log what is being lost. The host's logger is a stranger, too: if it panics, it
    /// is not called again.
    fn announce(&mut self) {
        let now = (self.now)().monotonic;
        let Some(announcer) = &mut self.announcer else { return };
        let line = {
            let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
            announcer.look(self.books, now, health.last_error.as_deref())
        };
        let Some(line) = line else { return };
        let say = || log::log!(target: "hotspan", line.level, "{}", line.text);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(say)) {
            forget(payload);
            self.announcer = None;
        }
    }
}

/// Calls a transport, and survives it. Its error is a stranger's code, too: it is made a text and
/// dropped in here.
fn call(transport: &mut dyn Transport, envelope: &Envelope<'_>) -> Answer {
    let send = || match transport.send(envelope) {
        Ok(response) => Answer::Response(response),
        Err(error) => Answer::Error(error.to_string()),
    };
    catch_unwind(AssertUnwindSafe(send)).unwrap_or_else(|payload| {
        forget(payload);
        Answer::Panic
    })
}

/// Drops a panic's payload, or leaks it if that panics again.
pub(super) fn forget(payload: Box<dyn std::any::Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        #[expect(clippy::mem_forget, reason = "its destructor has just panicked once")]
        std::mem::forget(again);
    }
}

#[cfg(test)]
mod tests;
