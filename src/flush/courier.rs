//! What an uploader does with what it takes: check the limits, stamp, send, settle, and report.
//!
//! A [`Courier`] owns a transport; what all couriers of one client know together is in their
//! [`Depot`]. It takes what the [`Queue`] hands out, one thing a cycle, and never looks at a clock
//! but the one it was given, so tests drive it by hand. Its rules:
//!
//! * Rate limits are asked as late as possible, when the parcel is about to be sent.
//! * The status alone decides: 2xx is delivered, 429 is `refused`, any other is `send_error`. An
//!   answer is never asked for again. Where none came the parcel goes back to the queue, which has
//!   it sent again, under the same event id and for so many times.
//! * A transport that panics costs the parcels that it has said nothing of (`internal`), not the
//!   thread. After five in a row, of whichever courier and with whatever many parcels, nothing is
//!   sent any more, and everything is counted.
//! * A client report travels alone: after a parcel or when idle, if the last is 30 s old, and
//!   whenever somebody flushes or closes. What it held is put back unless the server took it. It is
//!   never a loss.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::flush::depot::Depot;
use crate::flush::envelope::{Category, Envelope, Parcel, Way};
use crate::flush::queue::{Lot, Popped, Queue, Worker};
use crate::flush::report::Report;
use crate::shared::clock;
use crate::shared::ledger::Count;
use crate::transport::{Response, SendError, SendErrorKind, Transport};

mod lot;

use lot::Told;

/// How late a change of the wall clock may be noticed by an uploader, or that the machine slept.
const UNIX_AGE_MAX: Duration = Duration::from_millis(10);

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

    /// A clock that says the same, and looks at the wall clock only where its last look is older
    /// than [`UNIX_AGE_MAX`]: in between it goes on with the other one.
    pub(crate) fn clock() -> impl Fn() -> Self {
        let last = Cell::new(None);
        move || {
            let monotonic = clock::monotonic();
            Self::carried_on(last.get(), monotonic).unwrap_or_else(|| {
                let looked = Self { monotonic, ..Self::now() };
                last.set(Some(looked));
                looked
            })
        }
    }

    /// What `last` has become by this time, if it is young enough.
    fn carried_on(last: Option<Self>, monotonic: Duration) -> Option<Self> {
        let last = last?;
        let since = monotonic.saturating_sub(last.monotonic);
        (since < UNIX_AGE_MAX).then(|| Self { monotonic, unix: last.unix + since })
    }

    fn unix_nanos(self) -> u64 {
        u64::try_from(self.unix.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// An uploader's thread, but for the thread. `Now` tells the time.
pub(crate) struct Courier<Now> {
    worker: Worker,
    transport: Box<dyn Transport>,
    depot: Arc<Depot>,
    now: Now,
    /// When the last cycle ended, and how long nothing is to be reported from then on, if it ended
    /// with an answer just now: the next one begins then.
    ended: Option<(Moment, Duration)>,
    /// No transport is to be called any more, as was seen at the end of the last cycle.
    is_dead: bool,
    /// What it has in its hands, and what was said of each.
    lot: Lot,
    told: Vec<Told>,
    report_bytes: Vec<u8>,
}

/// What came back from a transport.
enum Answer {
    Response(Response),
    /// None came: how far it got, and the text of the error.
    Error(SendErrorKind, String),
    Panic,
}

impl<Now: Fn() -> Moment> Courier<Now> {
    pub(crate) fn new(
        worker: Worker,
        transport: Box<dyn Transport>,
        depot: Arc<Depot>,
        now: Now,
    ) -> Self {
        Self {
            worker,
            transport,
            depot,
            now,
            ended: None,
            is_dead: false,
            lot: Lot::default(),
            told: Vec::new(),
            report_bytes: Vec::new(),
        }
    }

    /// Waits for one thing to do, and does it. False when there will be no more.
    pub(crate) fn cycle(&mut self) -> bool {
        let (began, patience) = self.ended.take().unwrap_or_else(|| {
            let now = (self.now)();
            (now, self.depot.patience(now.monotonic))
        });
        let before = Cell::new(began);
        self.lot.most = self.at_once();
        let (queue, lot, now) = (self.depot.queue(), &mut self.lot, &self.now);
        let popped = queue.pop(self.worker, lot, began.monotonic, patience, || {
            before.set(now());
            before.get().monotonic
        });
        let mut answered = None;
        match popped {
            Popped::Lot => answered = self.deliver(before.get()),
            Popped::Report => {
                self.report();
                self.queue().reported();
            }
            Popped::Idle => {}
            Popped::Closed => {
                self.report();
                self.depot.look_back((self.now)().monotonic);
                return false;
            }
            Popped::Abandoned => return false,
        }
        let now = answered.unwrap_or_else(&self.now);
        let look = self.depot.look(now.monotonic);
        self.is_dead = look.is_dead;
        if look.patience.is_zero() {
            self.report();
        } else if !look.has_spoken && !self.depot.is_debugging() {
            self.ended = answered.map(|moment| (moment, look.patience));
        }
        true
    }

    /// Time has passed since the last cycle.
    #[cfg(test)]
    pub(super) fn forget_moment(&mut self) {
        self.ended = None;
    }

    /// A cycle panicked, and what it had in its hands is written down.
    pub(crate) fn survived_panic(&mut self) {
        self.ended = None;
        self.lot = Lot::default();
        self.depot.books().restarts.add(1);
    }

    /// Too many did.
    pub(crate) fn gave_up(&self) {
        self.depot.gave_up();
    }

    fn queue(&self) -> &Queue {
        self.depot.queue()
    }

    /// How many envelopes its transport likes at a time.
    fn at_once(&self) -> usize {
        if self.is_dead {
            return 1;
        }
        catch_unwind(AssertUnwindSafe(|| self.transport.at_once())).unwrap_or_else(|payload| {
            forget(payload);
            1
        })
    }

    /// Stamps and sends what is not the queue's, and heeds what the answer says about limits,
    /// whatever it is. Also says when that came.
    fn send(&mut self, parcel: &mut Parcel, before: Moment) -> (Answer, Moment) {
        parcel.stamp(before.unix_nanos());
        let answer = call(&mut *self.transport, &Envelope { parcel });
        let after = (self.now)();
        answer.heed(&self.depot, after);
        (answer, after)
    }

    /// Sends a client report, if there is anything to report and no limit forbids it.
    fn report(&mut self) {
        let now = (self.now)();
        if !self.depot.may_report(now.monotonic) {
            return;
        }
        let Some(report) = Report::take(self.depot.books()) else { return };
        let mut parcel = Parcel {
            bytes: std::mem::take(&mut self.report_bytes),
            sent_at: 0..0,
            category: Category::Internal,
            event_id: None,
            count: Count::default(),
            way: Way::default(),
        };
        report.write_envelope(&mut parcel, now.unix);
        let (answer, _) = self.send(&mut parcel, now);
        self.report_bytes = parcel.bytes;
        if let Answer::Response(_) = answer {
            self.queue().answered();
        }
        if !matches!(answer, Answer::Response(Response { status: 200..=299, .. })) {
            report.restore(self.depot.books());
        }
    }
}

impl Answer {
    /// An error is a stranger's code, too: it is made a text and dropped in here, and survived.
    #[inline]
    fn of(sent: Result<Response, SendError>) -> Self {
        match sent {
            Ok(response) => Self::Response(response),
            Err(error) => survive(move || Self::Error(error.kind(), error.to_string())),
        }
    }

    /// Notes what it says about limits and health.
    fn heed(&self, depot: &Depot, at: Moment) {
        match self {
            Self::Response(response) => depot.answered(response, at),
            Self::Error(..) => depot.unanswered(),
            Self::Panic => depot.panicked(),
        }
    }
}

/// Calls a transport, and survives it.
fn call(transport: &mut dyn Transport, envelope: &Envelope<'_>) -> Answer {
    survive(|| Answer::of(transport.send(envelope)))
}

/// Calls what may panic, and drops all that it held.
fn survive(call: impl FnOnce() -> Answer) -> Answer {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        forget(payload);
        Answer::Panic
    })
}

/// A number that no two processes have in common; after a failure, so it may cost something.
fn jitter() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
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
