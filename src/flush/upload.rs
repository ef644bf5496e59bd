//! The uploaders: threads that send what the queue holds, and their handle.
//!
//! One thread runs from the start. Another one begins when an envelope has waited from one look of
//! the flusher to the next while all that run were busy, up to as many as there are transports: a
//! server that is 40 ms away takes 25 envelopes a second over one connection, and a server that is
//! near needs no second thread.
//!
//! Each runs a [`Courier`] until the queue is closed and empty, or given up. It may block in the
//! transport for as long as the transport likes: nobody waits for it without a limit. A shutdown
//! whose time is nearly up has the spool save what is left, if there is one. What cannot be saved
//! is written down as `shutdown_deadline` ([`Queue::abandon`]), transports are asked to break off
//! if they know how, and the threads are left to end by themselves.
//!
//! # Limits
//! Signals: the threads inherit the signal mask of the thread that starts them: the first that of
//! `init`'s caller, the others that of the flusher, which is the same. A host that waits for
//! signals in a thread of its own blocks them before `init`.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::flush::courier::{Courier, Moment, forget};
use crate::flush::depot::{Depot, Health};
use crate::flush::ending::{self, Ending};
use crate::flush::queue::{Queue, Worker};
use crate::shared::clock;
use crate::shared::ledger::{Count, Reason};
use crate::transport::{Interrupter, Transport};

const THREAD_NAME: &str = "hotspan-upload";

/// Panics of our own code in a row after which an uploader ends.
const PANICS_MAX: u32 = 5;

/// The part of a shutdown's time that is kept for the spool, if there is one, and its bound.
const RESCUE_SHARE: u32 = 4;
const RESCUE_MAX: Duration = Duration::from_millis(500);

/// The uploaders of one client.
pub(crate) struct Uploads {
    queue: Arc<Queue>,
    depot: Arc<Depot>,
    bench: Arc<Mutex<Bench>>,
    interrupters: Mutex<Vec<Interrupter>>,
    threads: Mutex<Vec<Ending>>,
}

/// Transports that have no thread yet.
#[derive(Default)]
struct Bench {
    transports: Vec<(Worker, Box<dyn Transport>)>,
    /// The youngest of those parcels that waited for an uploader at the last look.
    waited: Option<u64>,
}

impl Bench {
    /// Ends those that never had a thread. A stranger's code runs in their destructors: each may
    /// panic for itself, and no lock is held.
    fn clear(bench: &Mutex<Self>) {
        let spare = std::mem::take(&mut lock(bench).transports);
        for (_, transport) in spare {
            end(transport);
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for (_, transport) in self.transports.drain(..) {
            end(transport);
        }
    }
}

/// Drops what is a stranger's, and survives it.
fn end<T>(stranger: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(stranger))) {
        forget(payload);
    }
}

impl Uploads {
    /// Starts the first thread.
    ///
    /// # Errors
    /// When the system gives no thread. The transports are dropped then.
    pub(crate) fn start(
        transports: Vec<Box<dyn Transport>>,
        queue: Arc<Queue>,
        depot: Arc<Depot>,
    ) -> io::Result<Self> {
        let interrupters = transports.iter().filter_map(|each| each.interrupter()).collect();
        let transports = (0..Worker::SPOOL.0).map(Worker).zip(transports).collect();
        let bench = Bench { transports, ..Bench::default() };
        let uploads = Self {
            queue,
            depot,
            bench: Arc::new(Mutex::new(bench)),
            interrupters: Mutex::new(interrupters),
            threads: Mutex::default(),
        };
        uploads.start_one()?;
        Ok(uploads)
    }

    /// Gives a thread to one more transport, if the oldest parcel has been waiting for one since
    /// the last call. For the flusher, after each look.
    pub(crate) fn grow(&self) {
        let waits = self.queue.wants_hands(clock::monotonic());
        let mut bench = self.lock();
        let is_late = waits
            .zip(bench.waited)
            .is_some_and(|((oldest, _), youngest_then)| oldest <= youngest_then);
        let is_late = is_late && !bench.transports.is_empty();
        bench.waited = waits.map(|(_, youngest)| youngest);
        drop(bench);
        if is_late {
            // No thread to be had: those that run go on, and the next look tries again.
            let _ = self.start_one();
        }
    }

    fn start_one(&self) -> io::Result<()> {
        let Some((worker, transport)) = self.lock().transports.pop() else { return Ok(()) };
        self.queue.begin();
        // The transport lies here, so that it is not lost with a thread that does not start.
        let hand = Arc::new(Mutex::new(Some(transport)));
        let run = {
            let stopping = Stopping { queue: Arc::clone(&self.queue), worker };
            let (hand, depot) = (Arc::clone(&hand), Arc::clone(&self.depot));
            let bench = Arc::clone(&self.bench);
            move || {
                // Dropped last, after the transports, and on a panic, too.
                let stopping = stopping;
                let transport = hand.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(transport) = transport {
                    work(Courier::new(worker, transport, depot, Moment::clock()), &stopping);
                }
                Bench::clear(&bench);
            }
        };
        match ending::spawn(THREAD_NAME, run) {
            Ok(ending) => {
                self.adopt(ending);
                Ok(())
            }
            Err(error) => {
                let transport = hand.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.lock().transports.extend(transport.map(|transport| (worker, transport)));
                Err(error)
            }
        }
    }

    /// One more thread that is to be gone when [`close`](Self::close) returns.
    pub(super) fn adopt(&self, ending: Ending) {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(ending);
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Waits until everything that was pushed before is settled and the losses are reported, at
    /// most `timeout`. True if all of that happened.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        self.queue.flush(timeout, clock::monotonic)
    }

    /// What a shutdown of `timeout` keeps for the spool.
    pub(crate) fn reserve(&self, timeout: Duration) -> Duration {
        match self.queue.is_spooling() {
            true => (timeout / RESCUE_SHARE).min(RESCUE_MAX),
            false => Duration::ZERO,
        }
    }

    /// Accepts nothing more, sends what is left and a last report, and returns when that is done or
    /// `timeout` is over. What was not settled by then is counted as `shutdown_deadline` and
    /// returned. May be called again, then it finds nothing to do.
    ///
    /// Of that time, `reserve` is the spool's, if there is one.
    pub(crate) fn close(&self, timeout: Duration, reserve: Duration) -> Count {
        let deadline = clock::monotonic().saturating_add(timeout);
        let left = || deadline.saturating_sub(clock::monotonic());
        // Nobody looks after this any more, and all hands are wanted.
        let waiting = self.lock().transports.len();
        for _ in 0..self.queue.wants_all_hands().min(waiting) {
            if self.start_one().is_err() {
                break;
            }
        }
        self.queue.close();
        if self.queue.is_spooling() {
            if self.queue.wait_stopped(left().saturating_sub(reserve)) {
                self.release();
                return Count::default();
            }
            self.queue.rescue();
            self.interrupt();
        }
        if self.queue.wait_stopped(left()) {
            self.release();
            return Count::default();
        }
        let lost = self.queue.abandon(Reason::ShutdownDeadline);
        self.interrupt();
        lost
    }

    /// Nothing is under way that could be broken off. What knows how to may hold on to connections,
    /// and so it is not kept for as long as this is.
    fn release(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *threads);
        drop(threads);
        ending::wait(all);
        let mut interrupters = self.interrupters.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *interrupters);
        drop(interrupters);
        for one in all {
            // A stranger's destructor, as below.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(one))) {
                forget(payload);
            }
        }
    }

    fn interrupt(&self) {
        let mut interrupters = self.interrupters.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *interrupters);
        drop(interrupters);
        for interrupt in all {
            // A stranger's code: its panic must not reach the one who shuts down.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(interrupt)) {
                forget(payload);
            }
        }
    }

    /// How sending goes.
    pub(crate) fn health(&self) -> Health {
        self.depot.health()
    }

    fn lock(&self) -> MutexGuard<'_, Bench> {
        lock(&self.bench)
    }
}

/// The life of an uploader. A panic of our own costs what it had in its hands.
fn work(mut courier: Courier<impl Fn() -> Moment>, stopping: &Stopping) {
    let mut panics = 0;
    while panics < PANICS_MAX {
        match catch_unwind(AssertUnwindSafe(|| courier.cycle())) {
            Ok(true) => panics = 0,
            Ok(false) => break,
            Err(payload) => {
                forget(payload);
                panics += 1;
                stopping.queue.lose_in_hand(stopping.worker);
                courier.survived_panic();
                thread::sleep(Duration::from_millis(50 << panics));
            }
        }
    }
    if panics == PANICS_MAX {
        courier.gave_up();
    }
    end(courier);
}

fn lock(bench: &Mutex<Bench>) -> MutexGuard<'_, Bench> {
    bench.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads").field("held", &self.queue.held()).finish_non_exhaustive()
    }
}

/// Tells the queue that the thread is gone, however it went.
struct Stopping {
    queue: Arc<Queue>,
    worker: Worker,
}

impl Drop for Stopping {
    fn drop(&mut self) {
        self.queue.end(self.worker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::flush::envelope::{Category, Envelope, Parcel, Way};
    use crate::flush::queue::Rules;
    use crate::shared::ledger::Books;
    use crate::transport::{Null, Response, SendError};

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(60);

    /// Says when it is called, answers when it is told to, and says when it is dropped.
    struct Gate {
        entered: mpsc::Sender<()>,
        open: mpsc::Receiver<()>,
        interrupt: mpsc::Sender<()>,
        dropped: mpsc::Sender<()>,
    }

    impl Transport for Gate {
        fn send(&mut self, _: &Envelope<'_>) -> Result<Response, SendError> {
            self.entered.send(()).unwrap();
            self.open.recv().unwrap();
            Ok(Response::status(200))
        }

        fn interrupter(&self) -> Option<Interrupter> {
            let interrupt = self.interrupt.clone();
            Some(Box::new(move || {
                interrupt.send(()).unwrap();
                panic!("on purpose");
            }))
        }
    }

    impl Drop for Gate {
        fn drop(&mut self) {
            let _ = self.dropped.send(());
        }
    }

    struct Rig {
        uploads: Uploads,
        books: &'static Books,
        entered: mpsc::Receiver<()>,
        open: mpsc::Sender<()>,
        interrupted: mpsc::Receiver<()>,
        dropped: mpsc::Receiver<()>,
    }

    fn rig() -> Rig {
        let books: &'static Books = Box::leak(Box::new(Books::new()));
        let (entered_sender, entered) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let (interrupt, interrupted) = mpsc::channel();
        let (dropping, dropped) = mpsc::channel();
        let transport = Gate { entered: entered_sender, open: gate, interrupt, dropped: dropping };
        let uploads = start(vec![Box::new(transport)], books);
        Rig { uploads, books, entered, open, interrupted, dropped }
    }

    fn start(transports: Vec<Box<dyn Transport>>, books: &'static Books) -> Uploads {
        let queue = Arc::new(Queue::new(
            Rules { bytes_max: 10_000, parcels_max: 1000, tries_max: 1 },
            books,
        ));
        let now = clock::monotonic();
        let depot = Arc::new(Depot::new(Arc::clone(&queue), books, true, false, now));
        Uploads::start(transports, queue, depot).unwrap()
    }

    fn push(uploads: &Uploads, children: u64) {
        uploads.queue().push(parcel(children), clock::monotonic()).unwrap();
    }

    fn parcel(children: u64) -> Parcel {
        Parcel {
            bytes: b"{}\n".to_vec(),
            sent_at: 0..0,
            category: Category::Transaction,
            event_id: None,
            count: Count::transaction(children),
            way: Way::default(),
        }
    }

    #[test]
    fn the_name_fits() {
        assert!(THREAD_NAME.len() <= 15);
    }

    #[test]
    fn flush_returns_when_all_is_settled_or_at_its_deadline() {
        let rig = rig();
        assert!(rig.uploads.flush(LONG), "nothing to wait for");
        push(&rig.uploads, 1);
        push(&rig.uploads, 2);
        rig.entered.recv().unwrap();
        assert!(!rig.uploads.flush(SHORT));
        assert_eq!(rig.books.delivered.read(), Count::default());
        rig.open.send(()).unwrap();
        rig.open.send(()).unwrap();
        assert!(rig.uploads.flush(LONG));
        assert_eq!(rig.books.delivered.read(), Count { transactions: 2, spans: 5 });
        assert!(rig.uploads.health().last_success.is_some());
        assert_eq!(rig.uploads.close(LONG, Duration::ZERO), Count::default());
        rig.dropped.recv().unwrap();
        assert!(rig.interrupted.try_recv().is_err(), "nothing was under way");
    }

    #[test]
    fn a_hanging_transport_is_given_up_at_the_deadline_and_settles_nothing_later() {
        let rig = rig();
        for children in 0..3 {
            push(&rig.uploads, children);
        }
        rig.entered.recv().unwrap();
        let all = Count { transactions: 3, spans: 6 };
        assert_eq!(rig.uploads.close(SHORT, Duration::ZERO), all);
        rig.interrupted.recv().unwrap();
        assert_eq!(rig.books.lost.of(Reason::ShutdownDeadline).read(), all);
        let start = clock::monotonic();
        assert_eq!(
            rig.uploads.close(LONG, Duration::ZERO),
            Count::default(),
            "the second call finds nothing"
        );
        assert!(clock::monotonic() - start < LONG / 2, "and does not wait");

        rig.open.send(()).unwrap();
        rig.dropped.recv().unwrap();
        assert!(rig.entered.try_recv().is_err(), "nothing was sent after that");
        assert_eq!(rig.books.delivered.read(), Count::default());
        assert_eq!(rig.books.lost.of(Reason::ShutdownDeadline).read(), all);
    }

    #[test]
    fn an_uploader_that_dies_of_panics_of_our_own_is_seen() {
        let rig = rig();
        assert!(!rig.uploads.health().gave_up);
        let (queue, depot) = (Arc::clone(&rig.uploads.queue), Arc::clone(&rig.uploads.depot));
        let stopping = Stopping { queue, worker: Worker(1) };
        let courier = Courier::new(
            Worker(1),
            Box::new(Null),
            depot,
            (|| panic!("on purpose")) as fn() -> Moment,
        );
        work(courier, &stopping);
        assert!(rig.uploads.health().gave_up);
        assert_eq!(rig.books.restarts.get(), u64::from(PANICS_MAX));
    }

    #[test]
    fn a_thread_that_dies_of_a_transport_s_drop_leaves_nobody_waiting() {
        struct Bomb;
        impl Transport for Bomb {
            fn send(&mut self, _: &Envelope<'_>) -> Result<Response, SendError> {
                Ok(Response::status(200))
            }
        }
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let books: &'static Books = Box::leak(Box::new(Books::new()));
        let uploads = start(vec![Box::new(Bomb)], books);
        push(&uploads, 0);
        assert_eq!(uploads.close(LONG, Duration::ZERO), Count::default());
        assert_eq!(books.delivered.read(), Count::transaction(0));
    }
}
