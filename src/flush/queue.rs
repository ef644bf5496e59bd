//! The queue between flusher and uploader: bounded in bytes, never waited for by the one who fills
//! it.
//!
//! A parcel goes through three states, and one lock guards all of them, together with the books
//! they are counted in:
//!
//! ```text
//!  push ──► queued ──── pop ───► in flight ── settle ──► delivered | lost
//!             │                      │
//!             └───── abandon ────────┴─────────────────► lost (shutdown_deadline)
//! ```
//!
//! The uploader holds the bytes of the parcel in flight, but what is lost with them stays here.
//! Whoever comes first, the uploader with an outcome or a shutdown whose time is up, takes it and
//! writes it down; the other finds nothing. So a transport that returns after it was given up
//! cannot settle twice.
//!
//! # Invariants
//! * Q1: `bytes` is the capacity of all queued parcels together, at most `bytes_max`. One parcel
//!   more may be in flight.
//! * Q2: every parcel that `push` accepted is settled exactly once; `settled <= popped <= pushed`.
//! * Q3: no lock is held while anything blocks, and no code of a user runs under it.
//!
//! # Costs
//! In steady state a parcel allocates nothing: the byte buffers go round ([`Queue::buffer`],
//! [`Queue::recycle`]), and the list of parcels keeps its room.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::flush::envelope::Parcel;
use crate::shared::ledger::{Books, Count, Reason};

/// Byte buffers that wait to be used again, at most this many, of so many bytes together: about
/// what one look at busy rings finds.
const SPARES_MAX: usize = 512;
const SPARES_BYTES_MAX: usize = 1024 * 1024;

/// A buffer that grew beyond this is freed: one huge envelope must not pin its memory.
const SPARE_BYTES_MAX: usize = 256 * 1024;

/// What [`Queue::pop`] found.
#[derive(Debug)]
pub(crate) enum Popped {
    /// A parcel: now in flight, until it is settled.
    Parcel(Parcel),
    /// Somebody waits for a client report; answer with [`Queue::reported`].
    Report,
    /// Nothing came in time.
    Idle,
    /// Closed and empty: nothing will come any more.
    Closed,
    /// Given up: nothing is to be sent any more.
    Abandoned,
}

/// What became of a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Lost(Reason),
}

/// What the queue holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Transactions and spans that wait.
    pub(crate) queued: Count,
    /// Transactions and spans of the parcel that is being sent.
    pub(crate) in_flight: Count,
    /// Memory of the parcels that wait.
    pub(crate) bytes: usize,
    /// Parcels that wait.
    pub(crate) envelopes: usize,
}

/// How the way to the server is, for those who send less when it cannot take it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strain {
    /// Parcels that found no room, so far.
    pub(crate) refused: u64,
    /// One more like the last would find none.
    pub(crate) is_full: bool,
    /// No transaction is sent before this moment, as the server wishes.
    pub(crate) limited_until: Duration,
}

#[derive(Debug)]
pub(crate) struct Queue {
    books: &'static Books,
    bytes_max: usize,
    state: Mutex<State>,
    /// Signalled when the uploader has something to do.
    work: Condvar,
    /// Signalled when something was settled, reported or stopped.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct State {
    parcels: VecDeque<Parcel>,
    queued: Count,
    bytes: usize,
    in_flight: Option<Count>,
    pushed: u64,
    settled: u64,
    reports_asked: u64,
    reports_done: u64,
    closed: bool,
    abandoned: bool,
    stopped: bool,
    spares: Vec<Vec<u8>>,
    spare_bytes: usize,
    /// Length of the last parcel: the guess for the next one.
    length: usize,
    refused: u64,
    limited_until: Duration,
}

impl Queue {
    /// A queue for parcels of `bytes_max` bytes together. `books` are written as parcels move:
    /// `queued` at push, `taken` at pop, `delivered` and `lost` when they are settled.
    pub(crate) fn new(bytes_max: usize, books: &'static Books) -> Self {
        Self {
            books,
            bytes_max,
            state: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    /// Appends a parcel and counts it as queued. Never waits for room.
    ///
    /// # Errors
    /// The parcel, when there is no room for it or the queue is closed; nothing was counted.
    pub(crate) fn push(&self, parcel: Parcel) -> Result<(), Parcel> {
        let mut state = self.lock();
        let bytes = state.bytes.saturating_add(parcel.bytes.capacity());
        if state.closed || bytes > self.bytes_max {
            state.refused += u64::from(!state.closed);
            return Err(parcel);
        }
        self.books.queued.add(parcel.count);
        state.bytes = bytes;
        state.length = parcel.bytes.len();
        state.queued += parcel.count;
        state.pushed += 1;
        state.parcels.push_back(parcel);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Waits for something to do, at most `timeout`. The parcel that it returns must be settled
    /// before the next call. For the uploader alone.
    pub(crate) fn pop(&self, timeout: Duration) -> Popped {
        let (mut state, _) = self
            .work
            .wait_timeout_while(self.lock(), timeout, |state| state.is_quiet())
            .unwrap_or_else(PoisonError::into_inner);
        if state.abandoned {
            return Popped::Abandoned;
        }
        if state.reports_done < state.reports_asked {
            return Popped::Report;
        }
        if let Some(parcel) = state.parcels.pop_front() {
            state.bytes = state.bytes.saturating_sub(parcel.bytes.capacity());
            state.queued = state.queued - parcel.count;
            state.in_flight = Some(parcel.count);
            self.books.taken.add(parcel.count);
            return Popped::Parcel(parcel);
        }
        if state.closed { Popped::Closed } else { Popped::Idle }
    }

    /// Writes down what became of the parcel in flight, and says how much that was; `None` if it
    /// was abandoned before, or settled already.
    pub(crate) fn settle(&self, outcome: Outcome) -> Option<Count> {
        let mut state = self.lock();
        let count = state.in_flight.take()?;
        match outcome {
            Outcome::Delivered => self.books.delivered.add(count),
            Outcome::Lost(reason) => self.books.lose(reason, count),
        }
        state.settled += 1;
        drop(state);
        self.progress.notify_all();
        Some(count)
    }

    /// The report that was asked for is sent, or there was nothing to report.
    pub(crate) fn reported(&self) {
        let mut state = self.lock();
        state.reports_done = state.reports_asked;
        drop(state);
        self.progress.notify_all();
    }

    /// Waits until all that was pushed before is settled, and after that a client report was tried.
    /// True if that happened within `timeout`.
    pub(crate) fn flush(&self, timeout: Duration, now: impl Fn() -> Duration) -> bool {
        let deadline = now().saturating_add(timeout);
        let pushed = self.lock().pushed;
        if !self.wait(timeout, |state| state.settled >= pushed) {
            return false;
        }
        let mut state = self.lock();
        if state.stopped || state.abandoned {
            return true;
        }
        state.reports_asked += 1;
        let asked = state.reports_asked;
        drop(state);
        self.work.notify_one();
        let left = deadline.saturating_sub(now());
        self.wait(left, |state| state.reports_done >= asked || state.stopped)
    }

    /// From now on nothing is accepted; what is queued is still handed out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Gives up what is queued and what is in flight: lost, for this reason, here and now. Says how
    /// much that was.
    pub(crate) fn abandon(&self, reason: Reason) -> Count {
        let mut state = self.lock();
        state.closed = true;
        state.abandoned = true;
        let queued = std::mem::take(&mut state.queued);
        let in_flight = state.in_flight.take().unwrap_or_default();
        self.books.taken.add(queued);
        self.books.lose(reason, queued + in_flight);
        state.settled = state.pushed;
        state.bytes = 0;
        let parcels = std::mem::take(&mut state.parcels);
        state.spares = Vec::new();
        state.spare_bytes = 0;
        drop(state);
        drop(parcels);
        self.work.notify_all();
        self.progress.notify_all();
        queued + in_flight
    }

    /// The uploader's last word: it has let go of its transport.
    pub(crate) fn stopped(&self) {
        self.lock().stopped = true;
        self.progress.notify_all();
    }

    /// Waits until the uploader stopped or was given up, at most `timeout`.
    pub(crate) fn wait_stopped(&self, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.stopped || state.abandoned)
    }

    /// What waits and what is being sent, at one moment.
    pub(crate) fn held(&self) -> Held {
        let state = self.lock();
        Held {
            queued: state.queued,
            in_flight: state.in_flight.unwrap_or_default(),
            bytes: state.bytes,
            envelopes: state.parcels.len(),
        }
    }

    /// The server wants no transactions before this moment.
    pub(crate) fn limit(&self, until: Duration) {
        self.lock().limited_until = until;
    }

    /// How the way to the server is.
    pub(crate) fn strain(&self) -> Strain {
        let state = self.lock();
        Strain {
            refused: state.refused,
            is_full: state.bytes + state.length > self.bytes_max,
            limited_until: state.limited_until,
        }
    }

    /// An empty buffer to encode into: a used one if there is any, else a new one with room for
    /// about what the last parcel had in it.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        let mut state = self.lock();
        let spare = state.spares.pop();
        state.spare_bytes -= spare.as_ref().map_or(0, Vec::capacity);
        let length = state.length;
        drop(state);
        spare.unwrap_or_else(|| Vec::with_capacity(length + length / 4))
    }

    /// Takes a buffer back.
    pub(crate) fn recycle(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > SPARE_BYTES_MAX {
            return;
        }
        buffer.clear();
        let mut state = self.lock();
        let bytes = state.spare_bytes + buffer.capacity();
        if state.spares.len() < SPARES_MAX && bytes <= SPARES_BYTES_MAX && !state.abandoned {
            state.spare_bytes = bytes;
            state.spares.push(buffer);
        }
    }

    #[cfg(test)]
    pub(crate) fn spares(&self) -> usize {
        self.lock().spares.len()
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&State) -> bool) -> bool {
        let (state, _) = self
            .progress
            .wait_timeout_while(self.lock(), timeout, |state| !done(state))
            .unwrap_or_else(PoisonError::into_inner);
        done(&state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_quiet(&self) -> bool {
        self.parcels.is_empty() && !self.closed && self.reports_done >= self.reports_asked
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::flush::envelope::Category;
    use crate::shared::clock;

    const SHORT: Duration = Duration::from_millis(5);
    const LONG: Duration = Duration::from_secs(60);

    fn books() -> &'static Books {
        Box::leak(Box::new(Books::new()))
    }

    fn parcel(bytes: usize, children: u64) -> Parcel {
        Parcel {
            bytes: vec![b'x'; bytes],
            sent_at: 0..0,
            category: Category::Transaction,
            event_id: None,
            count: Count::transaction(children),
        }
    }

    fn pop(queue: &Queue) -> Parcel {
        match queue.pop(SHORT) {
            Popped::Parcel(parcel) => parcel,
            other => panic!("no parcel but {other:?}"),
        }
    }

    #[test]
    fn full_is_refused_without_waiting_and_counts_nothing() {
        let books = books();
        let queue = Queue::new(100, books);
        queue.push(parcel(60, 0)).unwrap();
        assert_eq!(queue.push(parcel(41, 1)).unwrap_err().bytes.len(), 41);
        queue.push(parcel(40, 2)).unwrap();
        assert_eq!(queue.held().bytes, 100);
        assert_eq!(queue.held().envelopes, 2);
        assert_eq!(queue.held().queued, Count { transactions: 2, spans: 4 });
        assert_eq!(books.queued.read(), Count { transactions: 2, spans: 4 });
        pop(&queue);
        queue.settle(Outcome::Delivered);
        queue.push(parcel(60, 0)).unwrap();
    }

    #[test]
    fn a_parcel_larger_than_the_bound_is_refused_even_when_empty() {
        let queue = Queue::new(100, books());
        assert!(queue.push(parcel(101, 0)).is_err());
        assert!(queue.push(parcel(100, 0)).is_ok());
    }

    #[test]
    fn memory_is_bounded_not_just_what_is_used_of_it() {
        let queue = Queue::new(100, books());
        let mut roomy = parcel(10, 0);
        roomy.bytes.reserve_exact(200);
        assert!(queue.push(roomy).is_err());
    }

    #[test]
    fn parcels_come_out_in_order_and_are_settled_once() {
        let books = books();
        let queue = Queue::new(1000, books);
        queue.push(parcel(1, 0)).unwrap();
        queue.push(parcel(2, 4)).unwrap();
        assert_eq!(pop(&queue).bytes.len(), 1);
        assert_eq!(queue.held().in_flight, Count::transaction(0));
        assert_eq!(queue.settle(Outcome::Delivered), Some(Count::transaction(0)));
        assert_eq!(queue.settle(Outcome::Delivered), None);
        assert_eq!(pop(&queue).bytes.len(), 2);
        assert_eq!(queue.settle(Outcome::Lost(Reason::SendError)), Some(Count::transaction(4)));
        assert_eq!(books.taken.read(), Count { transactions: 2, spans: 6 });
        assert_eq!(books.delivered.read(), Count::transaction(0));
        assert_eq!(books.lost.of(Reason::SendError).read(), Count::transaction(4));
        assert_eq!(queue.held(), Held::default());
        assert!(matches!(queue.pop(SHORT), Popped::Idle));
    }

    #[test]
    fn closing_hands_out_the_rest_and_refuses_more() {
        let queue = Queue::new(1000, books());
        queue.push(parcel(1, 0)).unwrap();
        queue.close();
        assert!(queue.is_closed());
        assert!(queue.push(parcel(1, 0)).is_err());
        pop(&queue);
        queue.settle(Outcome::Delivered);
        assert!(matches!(queue.pop(LONG), Popped::Closed));
    }

    #[test]
    fn abandoning_counts_queued_and_in_flight_once() {
        let books = books();
        let queue = Queue::new(1000, books);
        for children in 0..3 {
            queue.push(parcel(1, children)).unwrap();
        }
        pop(&queue);
        let all = Count { transactions: 3, spans: 6 };
        assert_eq!(queue.abandon(Reason::ShutdownDeadline), all);
        assert_eq!(queue.abandon(Reason::ShutdownDeadline), Count::default());
        assert_eq!(queue.settle(Outcome::Delivered), None, "the transport came too late");
        assert_eq!(books.lost.of(Reason::ShutdownDeadline).read(), all);
        assert_eq!(books.delivered.read(), Count::default());
        assert_eq!(books.taken.read(), books.queued.read());
        assert_eq!(queue.held(), Held::default());
        assert!(matches!(queue.pop(LONG), Popped::Abandoned));
        assert!(queue.flush(LONG, clock::monotonic), "nothing is left to wait for");
    }

    #[test]
    fn flush_waits_for_what_was_pushed_before_it_and_then_for_a_report() {
        let queue = Arc::new(Queue::new(1000, books()));
        queue.push(parcel(1, 0)).unwrap();
        assert!(!queue.flush(SHORT, clock::monotonic), "nobody took it");
        let uploader = thread::Builder::new().spawn({
            let queue = Arc::clone(&queue);
            move || {
                let mut seen = Vec::new();
                loop {
                    match queue.pop(LONG) {
                        Popped::Parcel(_) => {
                            seen.push("parcel");
                            queue.settle(Outcome::Delivered);
                        }
                        Popped::Report => {
                            seen.push("report");
                            queue.reported();
                        }
                        Popped::Idle => seen.push("idle"),
                        Popped::Closed | Popped::Abandoned => return seen,
                    }
                }
            }
        });
        assert!(queue.flush(LONG, clock::monotonic));
        assert!(queue.flush(LONG, clock::monotonic), "a second one gets its own report");
        queue.close();
        assert_eq!(uploader.unwrap().join().unwrap(), ["parcel", "report", "report"]);
    }

    #[test]
    fn waiters_are_let_go_when_the_uploader_stops() {
        let queue = Queue::new(1000, books());
        assert!(!queue.wait_stopped(SHORT));
        queue.stopped();
        assert!(queue.wait_stopped(LONG));
        assert!(queue.flush(LONG, clock::monotonic));
    }

    #[test]
    fn buffers_go_round_within_bounds() {
        let queue = Queue::new(1000, books());
        assert_eq!(queue.buffer().capacity(), 0);
        let mut used = Vec::with_capacity(77);
        used.push(1);
        let address = used.as_ptr();
        queue.recycle(used);
        let again = queue.buffer();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (address, 0, 77));
        queue.recycle(Vec::with_capacity(SPARE_BYTES_MAX + 1));
        assert_eq!(queue.buffer().capacity(), 0);
        for _ in 0..SPARES_MAX + 3 {
            queue.recycle(Vec::with_capacity(8));
        }
        assert_eq!(queue.spares(), SPARES_MAX);
        while queue.buffer().capacity() > 0 {}
        assert_eq!(queue.lock().spare_bytes, 0);
        for _ in 0..SPARES_MAX {
            queue.recycle(Vec::with_capacity(SPARE_BYTES_MAX));
        }
        let held = SPARES_BYTES_MAX / SPARE_BYTES_MAX;
        assert_eq!(queue.spares(), held);
    }

    #[test]
    fn a_new_buffer_has_room_for_what_the_last_parcel_held() {
        let queue = Queue::new(10_000, books());
        queue.push(parcel(1000, 0)).unwrap();
        assert!((1000..2000).contains(&queue.buffer().capacity()));
    }

    #[test]
    fn what_finds_no_room_strains_and_what_comes_after_closing_does_not() {
        let queue = Queue::new(1000, books());
        assert_eq!(
            queue.strain(),
            Strain { refused: 0, is_full: false, limited_until: Duration::ZERO }
        );
        queue.push(parcel(400, 0)).unwrap();
        assert!(!queue.strain().is_full);
        queue.push(parcel(400, 0)).unwrap();
        assert!(queue.strain().is_full, "no room for a third one");
        assert!(queue.push(parcel(400, 0)).is_err());
        queue.limit(LONG);
        assert_eq!(queue.strain(), Strain { refused: 1, is_full: true, limited_until: LONG });
        pop(&queue);
        queue.close();
        assert!(queue.push(parcel(1, 0)).is_err());
        assert_eq!(queue.strain(), Strain { refused: 1, is_full: false, limited_until: LONG });
    }

    #[test]
    fn a_poisoned_lock_is_used_on() {
        let queue = Arc::new(Queue::new(1000, books()));
        let poisoner = Arc::clone(&queue);
        let result = thread::Builder::new().spawn(move || {
            let _state = poisoner.state.lock();
            panic!("on purpose");
        });
        assert!(result.unwrap().join().is_err());
        queue.push(parcel(1, 0)).unwrap();
        pop(&queue);
        assert!(queue.settle(Outcome::Delivered).is_some());
    }
}
