use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use super::*;
use crate::flush::envelope::{Category, SENT_AT_BLANK, Way};
use crate::flush::queue::{Held, Lot, Popped, Rules};

const NO_ANSWER: Outcome = Outcome::NoAnswer { jitter: u32::MAX / 2 };
const A: Worker = Worker(0);

/// A folder that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let name = format!("hotspan-spooler-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Rig<Now> {
    spooler: Spooler<Now>,
    queue: Arc<Queue>,
    books: &'static Books,
    millis: Rc<Cell<u64>>,
}

fn rig(dir: &Path) -> Rig<impl Fn() -> Moment> {
    rig_with(dir, 1 << 20)
}

fn rig_with(dir: &Path, bytes: u64) -> Rig<impl Fn() -> Moment> {
    let books: &'static Books = Box::leak(Box::new(Books::new()));
    let queue =
        Arc::new(Queue::new(Rules { bytes_max: 100_000, parcels_max: 1000, tries_max: 3 }, books));
    let depot = Arc::new(Depot::new(Arc::clone(&queue), books, false, false, Duration::ZERO));
    let millis = Rc::new(Cell::new(1_000_000));
    let now = {
        let millis = Rc::clone(&millis);
        move || {
            let monotonic = Duration::from_millis(millis.get());
            Moment { monotonic, unix: monotonic + Duration::from_secs(1_700_000_000) }
        }
    };
    let bounds = Bounds { bytes, envelopes: 100, age: Duration::from_secs(3600) };
    let plan = SpoolPlan { dir: dir.to_owned(), destination: 7, bounds };
    let spooler = Spooler::new(plan, Arc::clone(&queue), depot, now);
    Rig { spooler, queue, books, millis }
}

impl<Now: Fn() -> Moment> Rig<Now> {
    /// What was settled is seen, and then what follows from it.
    fn turn(&mut self) {
        self.spooler.cycle();
        self.spooler.cycle();
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.millis.get())
    }

    fn pass(&self, millis: u64) {
        self.millis.set(self.millis.get() + millis);
    }

    fn push(&self, text: &str, children: u64) {
        let head = format!("{{\"a\":\"{text}\"");
        let bytes = format!("{head}{SENT_AT_BLANK}}}\n{{}}\n").into_bytes();
        let sent_at = head.len()..head.len() + SENT_AT_BLANK.len();
        let (count, way) = (Count::transaction(children), Way::default());
        let category = Category::Transaction;
        let parcel = Parcel { bytes, sent_at, category, event_id: None, count, way };
        self.queue.push(parcel, self.now()).unwrap();
    }

    fn pop(&self) -> Option<Parcel> {
        let mut lot = Lot::default();
        match self.queue.pop(A, &mut lot, self.now(), Duration::ZERO, || self.now()) {
            Popped::Lot => lot.parcels.pop(),
            _ => None,
        }
    }

    fn settle(&self, parcel: Parcel, outcome: Outcome) {
        self.queue.settle(A, parcel, outcome, self.now());
    }

    /// The server does not answer, twice: it is left alone for a second.
    fn break_down(&self) {
        self.push("first", 0);
        for _ in 0..2 {
            let parcel = self.pop().unwrap();
            self.settle(parcel, NO_ANSWER);
        }
    }

    /// What is in the spool, by the books and by itself: the same.
    fn in_spool(&self) -> Count {
        let held = self.spooler.spool.as_ref().unwrap().held();
        assert_eq!(self.books.spool.holds(), held.count, "T1");
        held.count
    }

    fn end(&mut self) -> Count {
        self.queue.close();
        while self.spooler.cycle() {}
        self.spooler.finish();
        assert_eq!(self.books.spool.holds(), Count::default());
        self.books.spool.put_aside.read()
    }
}

#[test]
fn a_spool_is_counted_on_before_it_is_open_and_not_when_it_cannot_be() {
    let dir = Dir::new("counted-on");
    let below = dir.0.join("a-file/below");
    let mut rig = rig(&below);
    assert!(rig.queue.is_spooling(), "who closes now is not to lose anything");
    std::fs::create_dir_all(&dir.0).unwrap();
    std::fs::write(dir.0.join("a-file"), b"").unwrap();
    rig.turn();
    assert!(!rig.queue.is_spooling());
}

#[test]
fn the_name_fits() {
    assert!(THREAD_NAME.len() <= 15);
}

#[test]
fn what_cannot_be_sent_is_written_and_sent_when_it_can_be() {
    let dir = Dir::new("down");
    let mut rig = rig(&dir.0);
    assert!(rig.spooler.cycle());
    rig.break_down();
    rig.push("second", 2);
    rig.turn();
    assert_eq!(rig.in_spool(), Count { transactions: 2, spans: 4 });
    assert_eq!(rig.queue.held().envelopes, 0);
    rig.pass(700);
    rig.turn();
    assert!(rig.pop().is_none(), "the server is left alone");

    // The oldest finds out that it is back, though nothing else is sent.
    rig.pass(5000);
    for text in ["first", "second"] {
        rig.pass(100);
        rig.spooler.cycle();
        let parcel = rig.pop().unwrap();
        let sent = String::from_utf8(parcel.bytes.clone()).unwrap();
        assert!(sent.starts_with(&format!("{{\"a\":\"{text}\",\"sent_at\":\"0000")), "{sent}");
        rig.settle(parcel, Outcome::Delivered);
        rig.spooler.cycle();
    }
    assert_eq!(rig.in_spool(), Count::default());
    assert_eq!(rig.books.delivered.read(), Count { transactions: 2, spans: 4 });
    assert_eq!(rig.end(), Count::default());
}

#[test]
fn stored_envelopes_come_one_in_a_tenth_of_a_second_and_after_all_others() {
    let dir = Dir::new("pace");
    let mut rig = rig(&dir.0);
    rig.turn();
    rig.break_down();
    rig.push("second", 0);
    rig.turn();
    rig.push("third", 0);
    rig.pass(10_000);
    let parcel = rig.pop().unwrap();
    rig.turn();
    assert_eq!(rig.queue.held().envelopes, 0, "it does not answer");
    rig.push("fourth", 0);
    rig.settle(parcel, Outcome::Delivered);
    rig.turn();
    assert_eq!(rig.queue.held().envelopes, 1, "another one waits");
    let parcel = rig.pop().unwrap();
    rig.settle(parcel, Outcome::Delivered);
    rig.turn();
    let parcel = rig.pop().unwrap();
    rig.settle(parcel, Outcome::Delivered);
    rig.pass(99);
    rig.turn();
    assert!(rig.pop().is_none(), "a moment too early");
    rig.pass(1);
    rig.turn();
    assert!(rig.pop().is_some());
}

#[test]
fn what_the_server_limits_stays_and_what_it_refuses_does_not() {
    let dir = Dir::new("limits");
    let mut rig = rig(&dir.0);
    rig.turn();
    rig.break_down();
    rig.turn();
    let answered = |rig: &Rig<_>| {
        rig.pass(200);
        rig.push("answered", 0);
        let parcel = rig.pop().unwrap();
        rig.settle(parcel, Outcome::Delivered);
    };
    for outcome in [Outcome::Limited, NO_ANSWER, Outcome::Lost(Reason::SendError)] {
        rig.pass(10_000);
        answered(&rig);
        rig.turn();
        let parcel = rig.pop().unwrap();
        assert_eq!(rig.in_spool(), Count::transaction(0));
        rig.settle(parcel, outcome);
        rig.turn();
    }
    assert_eq!(rig.in_spool(), Count::default());
    assert_eq!(rig.books.lost.of(Reason::SendError).read(), Count::transaction(0));
    let in_all = Reason::ALL.map(|reason| rig.books.lost.of(reason).read().transactions);
    assert_eq!(in_all.iter().sum::<u64>(), 1);
}

#[test]
fn what_is_left_is_the_next_one_s() {
    let dir = Dir::new("next");
    let mut first = rig(&dir.0);
    first.turn();
    first.break_down();
    first.push("second", 4);
    let left = Count { transactions: 2, spans: 6 };
    assert_eq!(first.end(), left);

    let mut second = rig(&dir.0);
    while second.books.spool.recovered.read() != left {
        second.turn();
    }
    assert_eq!(second.in_spool(), left);
    let parcel = second.pop().unwrap();
    second.settle(parcel, Outcome::Delivered);
    // One more is being sent when the time is up: it stays, and may be sent twice.
    second.pass(100);
    second.turn();
    let parcel = second.pop().unwrap();
    second.queue.abandon(Reason::ShutdownDeadline);
    second.settle(parcel, Outcome::Delivered);
    assert_eq!(second.end(), Count::transaction(4));
    assert_eq!(second.books.delivered.read(), Count::transaction(0));
    assert_eq!(second.books.lost.of(Reason::ShutdownDeadline).read(), Count::default());
}

#[test]
fn the_oldest_go_when_there_is_no_room_and_are_counted() {
    let dir = Dir::new("room");
    let mut rig = rig_with(&dir.0, 4096);
    rig.turn();
    rig.break_down();
    for n in 0..30 {
        rig.push(&format!("{n}").repeat(200), 1);
        rig.turn();
    }
    let evicted = rig.books.lost.of(Reason::SpoolEvicted).read();
    assert!(evicted.transactions > 10, "{evicted:?}");
    assert_eq!(rig.in_spool() + evicted, Count { transactions: 31, spans: 61 });
    assert_eq!(rig.books.unreported.of(Reason::SpoolEvicted).read(), evicted);
    // Longer than all of it.
    rig.push(&"x".repeat(5000), 1);
    rig.turn();
    let again = rig.books.lost.of(Reason::SpoolEvicted).read();
    assert!(again.transactions > evicted.transactions);
    assert_eq!(rig.in_spool() + again, Count { transactions: 32, spans: 63 });
}

#[test]
fn a_disk_that_fails_leaves_all_in_memory_and_is_tried_again() {
    let dir = Dir::new("fails");
    // Something else is where the folder should be.
    std::fs::write(&dir.0, "a file").unwrap();
    let mut rig = rig(&dir.0);
    rig.turn();
    rig.break_down();
    assert_eq!((rig.queue.held().envelopes, rig.books.spool.errors.get()), (1, 1));
    assert!(!rig.queue.is_spooling());
    rig.pass(999);
    rig.turn();
    assert_eq!(rig.books.spool.errors.get(), 1, "the disk is left alone");
    let error = rig.spooler.depot.health().last_error.unwrap();
    assert!(error.text.starts_with("the spool cannot be opened: "), "{error:?}");
    rig.pass(1);
    rig.turn();
    assert_eq!(rig.books.spool.errors.get(), 2);

    std::fs::remove_file(&dir.0).unwrap();
    rig.pass(2000);
    rig.turn();
    assert_eq!(rig.in_spool(), Count::transaction(0));
    assert_eq!(rig.queue.held().envelopes, 0);
}

#[test]
fn what_was_given_up_while_it_was_written_is_not_kept() {
    let dir = Dir::new("given-up");
    let mut rig = rig(&dir.0);
    rig.turn();
    rig.break_down();
    let parcel = rig.queue.pop_for_spool(rig.now()).unwrap();
    rig.queue.abandon(Reason::ShutdownDeadline);
    let now = (rig.spooler.now)();
    assert!(rig.spooler.keep(parcel, now));
    assert_eq!(rig.in_spool(), Count::default());
    assert_eq!(rig.books.lost.of(Reason::ShutdownDeadline).read(), Count::transaction(0));
}

#[test]
fn a_panic_costs_what_was_in_hand() {
    let dir = Dir::new("panic");
    let mut rig = rig(&dir.0);
    rig.turn();
    rig.break_down();
    drop(rig.queue.pop_for_spool(rig.now()).unwrap());
    rig.spooler.survived_panic();
    assert_eq!(rig.books.lost.of(Reason::Internal).read(), Count::transaction(0));
    assert_eq!(Held { paused_until: Duration::ZERO, ..rig.queue.held() }, Held::default());
    assert_eq!(rig.end(), Count::default());
}
