//! What [`init`](crate::init) began, and how it ends: the guard, [`flush`] and [`close`].
//!
//! There are several who may want to end it: the guard's drop at the end of `main`, a thread that
//! waits for signals, a panic that unwinds through both. The first one does it, within its own
//! time; the others wait for that, each within theirs, and all get the same [`Report`].

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::Serialize;

use crate::flush::client::Client;
use crate::guard;
use crate::shared::ledger::Count;
use crate::stats::{Stats, stats};

/// What runs, for those who have no guard.
static RUNNING: ArcSwapOption<Running> = ArcSwapOption::const_empty();

/// One `init`, from its success on.
#[derive(Debug)]
pub(crate) struct Running {
    /// `None`: tracing is off.
    client: Option<Arc<Client>>,
    shutdown_timeout: Duration,
    /// The books at `init`.
    before: Stats,
    process: u32,
    end: Mutex<End>,
    /// Signalled when the end has come.
    ended: Condvar,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Open,
    Closing,
    Closed(Report),
}

/// What became of everything since `init`, as [`Guard::flush`] and [`Guard::close`] return it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Accepted by the server; what earlier processes had left in the spool is among it.
    pub delivered: Count,
    /// Lost, for whatever reason; [`stats`] tells them apart.
    pub dropped: Count,
    /// Recorded on trial, and not kept at their end: no loss.
    pub discarded: Count,
    /// In the spool, on disk: sent when there is a server again, by the next process if need be.
    pub spooled: Count,
    /// None of these: open, or on the way.
    pub left: Count,
    /// From `flush`: whether it was through in time, with everything that had ended before either
    /// delivered, discarded, spooled or lost. From `close`: whether nothing since `init` was lost,
    /// and nothing left.
    pub complete: bool,
}

impl Report {
    /// Where nothing runs, or nothing of ours: the books are not looked at, which may take a while.
    fn nothing() -> Self {
        Self { complete: true, ..Self::default() }
    }
}

/// Keeps recording and delivering going; flushes and stops when dropped, within
/// `Config::shutdown_timeout`, also by a panic.
///
/// `let _ = init(..)` would drop it at once. In a process that was forked off after `init`,
/// dropping it does nothing: what was recorded belongs to the parent.
#[must_use = "dropping the guard stops recording: bind it, `let _guard = ...`, and not to `_`"]
#[derive(Debug)]
pub struct Guard {
    running: Arc<Running>,
}

impl Guard {
    /// Waits until everything that ended before is delivered, spooled or counted as lost, at most
    /// `timeout`, and has a client report sent if there is anything to report. Recording goes on
    /// meanwhile. A server that does not answer is waited for, with the pauses there are between
    /// two tries; a full queue is not.
    #[must_use = "the report says whether everything was delivered"]
    pub fn flush(&self, timeout: Duration) -> Report {
        self.running.flush(timeout)
    }

    /// Stops: recording goes off, what was recorded is delivered, the threads end. Returns when
    /// that is done, or when `timeout` is over; what was not settled by then is counted as lost. A
    /// spool gets what is left when three quarters of the time are over (500 ms before its end, at
    /// most), but for what a transport is sending that cannot be broken off.
    ///
    /// May be called again, and by several threads at once: the first call decides, the others wait
    /// for it, at most for their own `timeout`, and get the same report. Dropping the guard
    /// afterwards does nothing.
    #[must_use = "the report says whether everything was delivered"]
    pub fn close(&self, timeout: Duration) -> Report {
        self.running.close(timeout)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.running.close(self.running.shutdown_timeout);
    }
}

/// [`Guard::flush`], for code that has no guard at hand. With nothing running there is nothing to
/// wait for.
///
/// ```
/// let report = hotspan::flush(std::time::Duration::from_secs(2));
/// assert!(report.complete);
/// ```
#[must_use = "the report says whether everything was delivered"]
pub fn flush(timeout: Duration) -> Report {
    match running() {
        Some(running) => running.flush(timeout),
        None => Report::nothing(),
    }
}

/// [`Guard::close`], for code that has no guard at hand: a thread that waits for signals, or what
/// calls [`std::process::exit`]. With nothing running there is nothing to close.
///
/// ```
/// use hotspan::{Config, Delivery};
///
/// let guard = hotspan::init(Config {
///     transport: Delivery::Null,
///     traces_sample_rate: Some(1.0),
///     ..Config::default()
/// })?;
/// drop(hotspan::start_transaction("queue.process", "orders"));
/// let report = hotspan::close(std::time::Duration::from_secs(2));
/// assert_eq!(report.delivered.transactions, 1);
/// assert_eq!(guard.close(std::time::Duration::ZERO), report, "it was closed before");
/// # Ok::<(), hotspan::ConfigError>(())
/// ```
#[must_use = "the report says whether everything was delivered"]
pub fn close(timeout: Duration) -> Report {
    match running() {
        Some(running) => running.close(timeout),
        None => Report::nothing(),
    }
}

/// What this process runs.
fn running() -> Option<Arc<Running>> {
    RUNNING.load_full().filter(|running| running.is_ours())
}

/// In a fork's child: what the parent runs is not touched again.
pub(crate) fn forget() {
    #[expect(clippy::mem_forget, reason = "dropping would touch what is the parent's")]
    std::mem::forget(RUNNING.swap(None));
}

impl Running {
    /// From here on there is a guard, and what it guards.
    pub(crate) fn begin(
        client: Option<Arc<Client>>,
        shutdown_timeout: Duration,
        before: Stats,
    ) -> Guard {
        let running = Arc::new(Self {
            client,
            shutdown_timeout,
            before,
            process: std::process::id(),
            end: Mutex::new(End::Open),
            ended: Condvar::new(),
        });
        RUNNING.store(Some(Arc::clone(&running)));
        Guard { running }
    }

    fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    fn flush(&self, timeout: Duration) -> Report {
        if !self.is_ours() {
            return Report::nothing();
        }
        let complete = self.client.as_ref().is_none_or(|client| client.flush(timeout));
        self.report(complete)
    }

    fn close(self: &Arc<Self>, timeout: Duration) -> Report {
        if !self.is_ours() {
            // A fork's copy: its threads are not there, its sockets are the parent's.
            #[expect(clippy::mem_forget, reason = "dropping would touch what is the parent's")]
            std::mem::forget(Arc::clone(self));
            return Report::nothing();
        }
        let mut end = self.lock();
        if matches!(*end, End::Open) {
            *end = End::Closing;
            drop(end);
            guard::stop(self.client.as_deref(), timeout);
            let report = self.report(true);
            let complete = report.left.is_zero() && report.dropped.is_zero();
            let report = Report { complete, ..report };
            *self.lock() = End::Closed(report);
            self.ended.notify_all();
            self.let_go();
            return report;
        }
        let is_closing = |end: &mut End| matches!(end, End::Closing);
        let waited = self.ended.wait_timeout_while(end, timeout, is_closing);
        let (end, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match *end {
            End::Closed(report) => report,
            End::Open | End::Closing => self.report(false),
        }
    }

    /// It is over; unless the next one runs already, nothing does.
    fn let_go(self: &Arc<Self>) {
        RUNNING.rcu(|now| match now {
            Some(now) if Arc::ptr_eq(now, self) => None,
            other => other.clone(),
        });
    }

    fn report(&self, complete: bool) -> Report {
        let (now, before) = (stats(), &self.before);
        let started = now.started + now.spool.recovered - before.started - before.spool.recovered;
        let delivered = now.delivered - before.delivered;
        let dropped = now.dropped_in_all() - before.dropped_in_all();
        let discarded = now.discarded - before.discarded;
        // The thread of an earlier spool may just be ending: what it has is not of this one.
        let put_by = |stats: &Stats| stats.in_spool + stats.spool.left_behind;
        let spooled = put_by(&now) - put_by(before);
        let left = started - delivered - dropped - discarded - spooled;
        Report { delivered, dropped, discarded, spooled, left, complete }
    }

    fn lock(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
