//! Running a closure with what it records captured.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::record;
use crate::shared::clock::{self, Anchor};
use crate::shared::layout::Kind;

use super::client::InUse;
use super::decode::{self, Time};
use super::ids::{self, Fixing};
use super::losses::{Mark, Marks};
use super::now::Standing;
use super::open;
use super::running::{Remains, Running, lane_of, slots_of_kind};
use super::tree::Captured;

thread_local! {
    /// The capture that this thread records for.
    static CURRENT: RefCell<Option<Arc<Running>>> = const { RefCell::new(None) };
}

/// Runs a closure and returns what it recorded. See the [module](crate::test) for what that is, and
/// for [`Capture`], which can be told more.
///
/// The first capture of a process calibrates the clock, which takes up to 200 ms.
///
/// ```
/// let captured = hotspan::test::capture(|| {
///     let _transaction = hotspan::start_transaction("queue.process", "orders");
///     drop(hotspan::start_child("db", "load"));
/// });
/// assert_eq!(captured.to_string(), "orders [queue.process]\n  load [db]\n");
/// ```
///
/// # Panics
/// When the closure does; when the library was started by [`init`](crate::init); inside another
/// capture on the same thread.
#[track_caller]
pub fn capture(work: impl FnOnce()) -> Captured {
    Capture::new().run(work).1
}

/// How to capture; [`run`](Self::run) does it.
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "nothing is captured before `run`"]
pub struct Capture {
    seed: Option<u64>,
    start: Option<SystemTime>,
}

impl Capture {
    /// Real time, ids as drawn: what [`capture`] does.
    pub const fn new() -> Self {
        Self { seed: None, start: None }
    }

    /// Trace and span ids that are the same in every run: they follow from `seed` and from the
    /// order in which the closure starts its transactions and spans. What the closure is told by
    /// `trace_id()` and `span_id()` agrees with the result. A span that another thread started
    /// gets, in the result, an id by its place in the tree; what that thread is told is another
    /// one.
    pub const fn fixed_ids(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Time that stands still at `start`, but for [`advance`]. Times that the program gives itself
    /// (`started_at`, `finish_at`) are taken as they are. The times at which messages are published
    /// and received ([`queue`](crate::queue)) are this time, too.
    pub const fn fixed_clock(mut self, start: SystemTime) -> Self {
        self.start = Some(start);
        self
    }

    /// Runs the closure; returns what it returned, and what it recorded.
    ///
    /// # Panics
    /// As [`capture`] does.
    #[track_caller]
    #[expect(clippy::panic, reason = "made for tests")]
    pub fn run<R>(self, work: impl FnOnce() -> R) -> (R, Captured) {
        assert!(current().is_none(), "a capture inside another one on the same thread");
        let in_use = match InUse::begin() {
            Ok(in_use) => in_use,
            Err(error) if error.is_already_initialised() => {
                panic!("a capture needs the library to itself, and `hotspan::init` has started it")
            }
            Err(error) => panic!("a capture could not start the library: {error}"),
        };
        let running = Arc::new(Running::new(
            self.seed.map(ids::wire),
            self.start.map(clock::nanos_since_epoch),
        ));
        let _fixing = self.seed.map(|_| Fixing::begin());
        let _standing = self.start.map(|_| Standing::begin());
        let before = Marks::now();
        let forget = Forget(&running);
        let visit = Visit::begin(&running);
        let result = work();
        let lane = visit.lane();
        drop(visit);
        running.is_about_to_end();
        assert!(in_use.flush(), "the flusher does not answer");
        let remains = running.remains(&before);
        drop(forget);
        (result, captured(&running, remains, lane))
    }
}

/// The capture that the calling thread records for, to be sent to other threads.
///
/// # Panics
/// Outside of a capture.
#[must_use]
#[track_caller]
#[expect(clippy::panic, reason = "made for tests")]
pub fn handle() -> Handle {
    match current() {
        Some(running) => Handle { running },
        None => panic!("no capture runs on this thread"),
    }
}

/// Moves time on, in the capture that the calling thread records for.
///
/// # Panics
/// Outside of a capture, and in one without [`Capture::fixed_clock`].
#[track_caller]
pub fn advance(by: Duration) {
    handle().advance(by);
}

/// A capture, for threads other than the one it runs on. Does nothing once the capture is over.
///
/// ```
/// use std::thread;
///
/// let captured = hotspan::test::capture(|| {
///     let handle = hotspan::test::handle();
///     let worker = thread::spawn(move || {
///         handle.run(|| drop(hotspan::start_transaction("queue.process", "orders")))
///     });
///     worker.join().unwrap();
/// });
/// assert_eq!(captured.transactions().len(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    running: Arc<Running>,
}

impl Handle {
    /// Runs a closure on this thread with the transactions it starts captured, too. They follow
    /// those of the thread that the capture runs on, thread by thread in the order of joining; with
    /// fixed ids, it is on that order that theirs depend.
    ///
    /// # Panics
    /// When the closure does; inside another capture on the same thread.
    #[track_caller]
    pub fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        let _visit = match current() {
            Some(other) if Arc::ptr_eq(&other, &self.running) => None,
            other => {
                assert!(other.is_none(), "a capture inside another one on the same thread");
                Some(Visit::begin(&self.running))
            }
        };
        work()
    }

    /// Moves time on, for all threads.
    ///
    /// # Panics
    /// In a capture without [`Capture::fixed_clock`].
    #[track_caller]
    pub fn advance(&self, by: Duration) {
        assert!(self.running.clock.is_some(), "time moves by itself without `fixed_clock`");
        self.running.advance(by);
    }
}

/// What time it is for the calling thread, in unix nanoseconds, if it stands still.
pub(super) fn now() -> Option<u64> {
    current()?.now()
}

fn current() -> Option<Arc<Running>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

fn set_current(running: Option<Arc<Running>>) {
    let _ = CURRENT.try_with(|current| current.replace(running));
}

/// The calling thread records for a capture until this is dropped.
struct Visit<'a> {
    running: &'a Arc<Running>,
    before: Mark,
    first: u64,
}

impl<'a> Visit<'a> {
    #[track_caller]
    #[expect(clippy::panic, reason = "made for tests")]
    fn begin(running: &'a Arc<Running>) -> Self {
        let first = match record::next_key() {
            Ok(key) => key,
            Err(reason) => panic!("this thread cannot record: {}", reason.as_str()),
        };
        let before = Mark::of(lane_of(first));
        running.begin(first);
        set_current(Some(Arc::clone(running)));
        Self { running, before, first }
    }

    const fn lane(&self) -> u32 {
        lane_of(self.first)
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        set_current(None);
        if let Ok(key) = record::next_key() {
            self.running.end(key, &self.before.since());
        }
    }
}

/// Takes a capture out of the table, however it ends.
struct Forget<'a>(&'a Arc<Running>);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.forget();
    }
}

fn captured(running: &Running, mut remains: Remains, lane: u32) -> Captured {
    let open = open::open(&remains, lane);
    let time = Time::new(Anchor::now(), running.clock, &remains.state.advances);
    let mut runs = std::mem::take(&mut remains.state.runs);
    runs.sort_by_cached_key(|run| {
        let root = slots_of_kind(run, Kind::Root).next();
        root.and_then(|[_, key, ..]| remains.number(key))
    });
    let mut records = Vec::new();
    for run in runs {
        let first = records.len();
        let mut spans = decode::transaction(&run, &time, running.ids.as_ref(), &remains);
        spans.iter_mut().for_each(|span| span.after += first);
        records.append(&mut spans);
    }
    let lost = std::mem::take(&mut remains.state.lost);
    Captured { records, open, lost, elsewhere: remains.elsewhere }
}
