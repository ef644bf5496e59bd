//! The uploader: a thread that sends what the queue holds, and its handle.
//!
//! The thread runs a [`Courier`] until the queue is closed and empty, or given up. It may block in
//! the transport for as long as the transport likes: nobody waits for it without a limit. A
//! shutdown whose time is up writes down what is left as `shutdown_deadline` ([`Queue::abandon`]),
//! asks the transport to break off if it knows how, and leaves the thread to end by itself.
//!
//! # Limits
//! Signals: the thread inherits the signal mask of the thread that starts it. A host that waits for
//! signals in a thread of its own blocks them before `init`.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::flush::courier::{Courier, Health, Moment};
use crate::flush::queue::Queue;
use crate::shared::clock;
use crate::shared::ledger::{Books, Count, Reason};
use crate::transport::{Interrupter, Transport};

/// At most 15 bytes: that is what Linux keeps.
const THREAD_NAME: &str = "hotspan-upload";

const STACK_BYTES: usize = 512 * 1024;

/// A running uploader.
pub(crate) struct Uploader {
    queue: Arc<Queue>,
    health: Arc<Mutex<Health>>,
    interrupter: Mutex<Option<Interrupter>>,
}

impl Uploader {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread. The transport is dropped then.
    pub(crate) fn start(
        transport: Box<dyn Transport>,
        queue: Arc<Queue>,
        books: &'static Books,
        client_reports: bool,
    ) -> io::Result<Self> {
        let health = Arc::new(Mutex::new(Health::default()));
        let interrupter = Mutex::new(transport.interrupter());
        let stopping = Stopping(Arc::clone(&queue));
        let courier = Courier::new(
            transport,
            Arc::clone(&queue),
            books,
            Arc::clone(&health),
            client_reports,
            Moment::now,
        );
        thread::Builder::new().name(THREAD_NAME.to_owned()).stack_size(STACK_BYTES).spawn(
            move || {
                // Dropped last, after the transport, and on a panic, too.
                let _stopping = stopping;
                let mut courier = courier;
                while courier.cycle() {}
            },
        )?;
        Ok(Self { queue, health, interrupter })
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Waits until everything that was pushed before is settled and the losses are reported, at
    /// most `timeout`. True if all of that happened.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        self.queue.flush(timeout, clock::monotonic)
    }

    /// Accepts nothing more, sends what is left and a last report, and returns when that is done or
    /// `timeout` is over. What was not settled by then is counted as `shutdown_deadline` and
    /// returned. May be called again, then it finds nothing to do.
    pub(crate) fn close(&self, timeout: Duration) -> Count {
        self.queue.close();
        if self.queue.wait_stopped(timeout) {
            return Count::default();
        }
        let lost = self.queue.abandon(Reason::ShutdownDeadline);
        let interrupter = self.interrupter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(interrupt) = interrupter {
            // A stranger's code: its panic must not reach the one who shuts down.
            let _ = catch_unwind(AssertUnwindSafe(interrupt));
        }
        lost
    }

    /// How sending goes.
    pub(crate) fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Uploader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploader").field("held", &self.queue.held()).finish_non_exhaustive()
    }
}

/// Tells the queue that the thread is gone, however it went.
struct Stopping(Arc<Queue>);

impl Drop for Stopping {
    fn drop(&mut self) {
        // Nothing is left, unless the thread was never started or died of a panic.
        self.0.abandon(Reason::Internal);
        self.0.stopped();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::flush::envelope::{Category, Envelope, Parcel};
    use crate::transport::{Response, SendError};

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
        uploader: Uploader,
        books: &'static Books,
        entered: mpsc::Receiver<()>,
        open: mpsc::Sender<()>,
        interrupted: mpsc::Receiver<()>,
        dropped: mpsc::Receiver<()>,
    }

    fn rig() -> Rig {
        let books: &'static Books = Box::leak(Box::new(Books::new()));
        let queue = Arc::new(Queue::new(10_000, books));
        let (entered_sender, entered) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let (interrupt, interrupted) = mpsc::channel();
        let (dropping, dropped) = mpsc::channel();
        let transport = Gate { entered: entered_sender, open: gate, interrupt, dropped: dropping };
        let uploader = Uploader::start(Box::new(transport), queue, books, true).unwrap();
        Rig { uploader, books, entered, open, interrupted, dropped }
    }

    fn parcel(children: u64) -> Parcel {
        Parcel {
            bytes: b"{}\n".to_vec(),
            sent_at: 0..0,
            category: Category::Transaction,
            event_id: None,
            count: Count::transaction(children),
        }
    }

    #[test]
    fn the_name_fits() {
        assert!(THREAD_NAME.len() <= 15);
    }

    #[test]
    fn flush_returns_when_all_is_settled_or_at_its_deadline() {
        let rig = rig();
        assert!(rig.uploader.flush(LONG), "nothing to wait for");
        rig.uploader.queue().push(parcel(1)).unwrap();
        rig.uploader.queue().push(parcel(2)).unwrap();
        rig.entered.recv().unwrap();
        assert!(!rig.uploader.flush(SHORT));
        assert_eq!(rig.books.delivered.read(), Count::default());
        rig.open.send(()).unwrap();
        rig.open.send(()).unwrap();
        assert!(rig.uploader.flush(LONG));
        assert_eq!(rig.books.delivered.read(), Count { transactions: 2, spans: 5 });
        assert!(rig.uploader.health().last_success.is_some());
        assert_eq!(rig.uploader.close(LONG), Count::default());
        rig.dropped.recv().unwrap();
        assert!(rig.interrupted.try_recv().is_err(), "nothing was under way");
    }

    #[test]
    fn a_hanging_transport_is_given_up_at_the_deadline_and_settles_nothing_later() {
        let rig = rig();
        for children in 0..3 {
            rig.uploader.queue().push(parcel(children)).unwrap();
        }
        rig.entered.recv().unwrap();
        let all = Count { transactions: 3, spans: 6 };
        assert_eq!(rig.uploader.close(SHORT), all);
        rig.interrupted.recv().unwrap();
        assert_eq!(rig.books.lost.of(Reason::ShutdownDeadline).read(), all);
        let start = clock::monotonic();
        assert_eq!(rig.uploader.close(LONG), Count::default(), "the second call finds nothing");
        assert!(clock::monotonic() - start < LONG / 2, "and does not wait");

        rig.open.send(()).unwrap();
        rig.dropped.recv().unwrap();
        assert!(rig.entered.try_recv().is_err(), "nothing was sent after that");
        assert_eq!(rig.books.delivered.read(), Count::default());
        assert_eq!(rig.books.lost.of(Reason::ShutdownDeadline).read(), all);
        assert_eq!(rig.books.taken.read(), all);
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
        let queue = Arc::new(Queue::new(10_000, books));
        let uploader = Uploader::start(Box::new(Bomb), queue, books, true).unwrap();
        uploader.queue().push(parcel(0)).unwrap();
        assert_eq!(uploader.close(LONG), Count::default());
        assert_eq!(books.delivered.read(), Count::transaction(0));
    }
}
