//! [`Depot`]: what all uploaders of one client know together.
//!
//! Limits, health, the last client report and what was last said in the log are the server's and
//! the process's matter, not one connection's. One short lock guards them; it is never held while
//! anything is sent, logged or asked of a stranger.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::announce::{Announcement, Announcer};
use super::courier::{Moment, forget};
use super::envelope::Category;
use super::limits::Limits;
use super::queue::{Outcome, Queue};
use crate::shared::ledger::{Books, Reason};
use crate::transport::Response;

/// Panics of transports in a row after which none is called again.
pub(super) const PANICS_MAX: u32 = 5;

/// Between two client reports.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Between two looks at the books for something to say in the log.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(100);

/// An error text is kept and logged up to this many characters.
pub(super) const ERROR_CHARS_MAX: usize = 200;

/// What went wrong, in one word and in one line, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: &'static str,
    pub(crate) text: String,
    pub(crate) at: Duration,
}

/// How sending goes, for `stats()`. Moments are those of the monotonic clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// The last failure.
    pub(crate) last_error: Option<Failure>,
    /// When the server last took something.
    pub(crate) last_success: Option<Duration>,
    /// Transports panicked too often: nothing is sent any more.
    pub(crate) dead: bool,
    /// An uploader ended by panics of our own; others may go on.
    pub(crate) gave_up: bool,
}

/// What a [look](Depot::look) found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Until a client report is due.
    pub(super) patience: Duration,
    /// The host's logger was called, which may have taken its time.
    pub(super) has_spoken: bool,
    /// No transport is called any more.
    pub(super) is_dead: bool,
}

pub(crate) struct Depot {
    queue: Arc<Queue>,
    books: &'static Books,
    is_debugging: bool,
    state: Mutex<State>,
}

struct State {
    health: Health,
    limits: Limits,
    /// `None`: the host's logger panicked.
    announcer: Option<Announcer>,
    announced: Option<Duration>,
    /// When a client report was last tried; `None` if there are to be none.
    reported: Option<Duration>,
    panics_in_row: u32,
}

impl Depot {
    pub(crate) fn new(
        queue: Arc<Queue>,
        books: &'static Books,
        client_reports: bool,
        is_debugging: bool,
        now: Duration,
    ) -> Self {
        let state = State {
            health: Health::default(),
            limits: Limits::default(),
            announcer: Some(Announcer::new(books)),
            announced: None,
            reported: client_reports.then_some(now),
            panics_in_row: 0,
        };
        Self { queue, books, is_debugging, state: Mutex::new(state) }
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(super) fn books(&self) -> &'static Books {
        self.books
    }

    /// How sending goes.
    pub(crate) fn health(&self) -> Health {
        self.lock().health.clone()
    }

    /// Whether something of this kind may be sent now; else what becomes of it.
    pub(super) fn may_send(&self, category: Category, now: Duration) -> Result<(), Outcome> {
        let state = self.lock();
        if state.health.dead {
            return Err(Outcome::Lost(Reason::Internal));
        }
        match state.limits.blocked(category, now) {
            Some(_) => Err(Outcome::Limited),
            None => Ok(()),
        }
    }

    /// An answer came, whatever it was.
    pub(super) fn answered(&self, response: &Response, now: Moment) {
        let mut state = self.lock();
        state.panics_in_row = 0;
        let before = state.limits.until(Category::Transaction);
        state.limits.update(response, now.monotonic, now.unix);
        let until = state.limits.until(Category::Transaction);
        if matches!(response.status, 200..=299) {
            state.health.last_success = Some(now.monotonic);
        }
        drop(state);
        if until != before {
            self.queue.limit(until);
        }
    }

    /// None came.
    pub(super) fn unanswered(&self) {
        self.lock().panics_in_row = 0;
    }

    /// The transport panicked instead.
    pub(super) fn panicked(&self) {
        let mut state = self.lock();
        state.panics_in_row += 1;
        let dies = !state.health.dead && state.panics_in_row >= PANICS_MAX;
        state.health.dead |= dies;
        drop(state);
        if dies {
            // What lies in the spool stays there, for a process whose transports do better.
            self.queue.limit(Duration::MAX);
        }
    }

    /// An uploader ends after too many panics of our own.
    pub(super) fn gave_up(&self) {
        self.lock().health.gave_up = true;
    }

    /// Keeps the text of an error: one line, of bounded length, whatever a transport puts into it.
    pub(super) fn failed(&self, kind: &'static str, error: &str, at: Duration) {
        let visible = |char: char| if char.is_control() { ' ' } else { char };
        let text = error.chars().take(ERROR_CHARS_MAX).map(visible).collect();
        self.lock().health.last_error = Some(Failure { kind, text, at });
    }

    /// How long to wait for work: until the next client report may be due.
    pub(super) fn patience(&self, now: Duration) -> Duration {
        self.lock().patience(now)
    }

    /// After each thing that was done: says in the log what is being lost, if it is time for that.
    pub(super) fn look(&self, now: Duration) -> Look {
        let mut state = self.lock();
        let (patience, is_dead) = (state.patience(now), state.health.dead);
        let is_early = |last: Duration| now.saturating_sub(last) < ANNOUNCE_INTERVAL;
        if state.announced.is_some_and(is_early) {
            return Look { patience, has_spoken: false, is_dead };
        }
        let line = state.announcement(self.books, now);
        drop(state);
        let has_spoken = line.is_some();
        self.say(line);
        Look { patience, has_spoken, is_dead }
    }

    /// A last look at what is being lost.
    pub(super) fn look_back(&self, now: Duration) {
        let line = self.lock().announcement(self.books, now);
        self.say(line);
    }

    /// Whether a client report may be sent; the next one is then a whole interval away, also if
    /// this one fails or there is nothing to report.
    pub(super) fn may_report(&self, now: Duration) -> bool {
        let mut state = self.lock();
        let Some(last) = &mut state.reported else { return false };
        *last = now;
        !state.health.dead && state.limits.blocked(Category::Internal, now).is_none()
    }

    /// Whether what is done is told in the log.
    pub(super) fn is_debugging(&self) -> bool {
        self.is_debugging
    }

    /// Says in the log what is being done, if that is wanted.
    pub(crate) fn debug(&self, text: impl FnOnce() -> String) {
        if self.is_debugging && self.lock().announcer.is_some() {
            self.log(log::Level::Debug, &text());
        }
    }

    fn say(&self, line: Option<Announcement>) {
        if let Some(line) = line {
            self.log(line.level, &line.text);
        }
    }

    /// The host's logger is a stranger, too: if it panics, it is not called again.
    fn log(&self, level: log::Level, text: &str) {
        let say = || log::log!(target: "hotspan", level, "{text}");
        if let Err(payload) = catch_unwind(AssertUnwindSafe(say)) {
            forget(payload);
            self.lock().announcer = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn patience(&self, now: Duration) -> Duration {
        let since = self.reported.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        REPORT_INTERVAL.saturating_sub(since)
    }

    fn announcement(&mut self, books: &Books, now: Duration) -> Option<Announcement> {
        self.announced = Some(now);
        let error = self.health.last_error.as_ref().map(|failure| failure.text.as_str());
        self.announcer.as_mut()?.look(books, now, error)
    }
}

impl std::fmt::Debug for Depot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Depot").field("health", &self.health()).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Depot {
    pub(super) fn report_never(&self) {
        self.lock().reported = None;
    }
}
