use std::sync::Arc;
use std::thread;

use super::sleepers::Sleepers;
use super::*;
use crate::flush::envelope::{Category, Ticket, Way};
use crate::shared::clock;

mod lots;

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(60);

fn books() -> &'static Books {
    Box::leak(Box::new(Books::new()))
}

pub(super) const NOW: Duration = Duration::from_secs(1000);
pub(super) const A: Worker = Worker(0);
const B: Worker = Worker(1);
const NO_ANSWER: Outcome = Outcome::NoAnswer { jitter: u32::MAX / 2 };

pub(super) fn queue(bytes_max: usize) -> Queue {
    queue_with(bytes_max, books())
}

fn queue_with(bytes_max: usize, books: &'static Books) -> Queue {
    Queue::new(Rules { bytes_max, parcels_max: 1000, tries_max: 3 }, books)
}

pub(super) fn push(queue: &Queue, parcel: Parcel) -> Result<(), Vec<u8>> {
    queue.push(parcel, NOW)
}

fn admit(queue: &Queue) -> Result<Vec<u8>, Reason> {
    queue.admit(&mut queue.batch())
}

pub(super) fn parcel(bytes: usize, children: u64) -> Parcel {
    Parcel {
        bytes: vec![b'x'; bytes],
        sent_at: 0..0,
        category: Category::Transaction,
        event_id: None,
        count: Count::transaction(children),
        way: Way::default(),
    }
}

/// Whatever `worker` finds at this moment.
pub(super) fn look(queue: &Queue, worker: Worker, now: Duration) -> Popped {
    queue.pop(worker, &mut Lot::default(), now, Duration::ZERO, || now)
}

pub(super) fn pop(queue: &Queue) -> Parcel {
    pop_by(queue, A, NOW)
}

fn pop_by(queue: &Queue, worker: Worker, now: Duration) -> Parcel {
    let mut lot = Lot::default();
    let popped = queue.pop(worker, &mut lot, now, Duration::ZERO, || now);
    assert_eq!((popped, lot.parcels.len()), (Popped::Lot, 1));
    lot.parcels.remove(0)
}

pub(super) fn settle(queue: &Queue, parcel: Parcel, outcome: Outcome) -> Settled {
    queue.settle(A, parcel, outcome, NOW)
}

/// One that the spool hands in, under this ticket.
fn stored(ticket: Ticket, children: u64) -> Parcel {
    let way = Way { stored: Some(ticket), ..Way::default() };
    Parcel { way, ..parcel(10, children) }
}

fn fates(queue: &Queue) -> Vec<Fate> {
    let mut fates = Vec::new();
    queue.wait_for_spool(Duration::ZERO, &mut fates);
    fates
}

fn after(millis: u64) -> Duration {
    NOW + Duration::from_millis(millis)
}

#[test]
fn full_is_refused_without_waiting_and_counts_nothing() {
    let queue = queue(100);
    push(&queue, parcel(60, 0)).unwrap();
    assert_eq!(push(&queue, parcel(41, 1)).unwrap_err().len(), 41);
    push(&queue, parcel(40, 2)).unwrap();
    assert_eq!(queue.held().bytes, 100);
    assert_eq!(queue.held().envelopes, 2);
    assert_eq!(queue.held().queued, Count { transactions: 2, spans: 4 });
    let taken = pop(&queue);
    assert!(push(&queue, parcel(60, 0)).is_err(), "what is in flight is in memory, too");
    settle(&queue, taken, Outcome::Delivered);
    push(&queue, parcel(60, 0)).unwrap();
}

#[test]
fn there_are_so_many_parcels_at_most() {
    let queue = Queue::new(Rules { bytes_max: 1000, parcels_max: 2, tries_max: 1 }, books());
    push(&queue, parcel(1, 0)).unwrap();
    push(&queue, parcel(1, 0)).unwrap();
    let taken = pop(&queue);
    assert!(push(&queue, parcel(1, 0)).is_err(), "one is in flight");
    assert!(queue.strain().is_full);
    settle(&queue, taken, Outcome::Delivered);
    push(&queue, parcel(1, 0)).unwrap();
}

#[test]
fn a_parcel_larger_than_the_bound_is_refused_even_when_empty() {
    let queue = queue(100);
    assert!(push(&queue, parcel(101, 0)).is_err());
    assert!(push(&queue, parcel(100, 0)).is_ok());
}

#[test]
fn memory_is_bounded_not_just_what_is_used_of_it() {
    let queue = queue(100);
    let mut roomy = parcel(10, 0);
    roomy.bytes.reserve_exact(200);
    assert!(push(&queue, roomy).is_err());
}

#[test]
fn parcels_come_out_in_order_and_are_settled_once_by_whom_they_were_given_to() {
    let books = books();
    let queue = queue_with(1000, books);
    push(&queue, parcel(1, 0)).unwrap();
    push(&queue, parcel(2, 4)).unwrap();
    let (first, second) = (pop(&queue), pop_by(&queue, B, NOW));
    assert_eq!((first.bytes.len(), second.bytes.len()), (1, 2));
    assert_eq!(queue.held().in_flight, Count { transactions: 2, spans: 6 });
    let copy = Parcel { way: first.way, ..parcel(1, 0) };
    assert_eq!(queue.settle(B, copy, Outcome::Delivered, NOW), Settled::Before, "A has it");
    let copy = Parcel { way: first.way, ..parcel(1, 0) };
    assert_eq!(settle(&queue, first, Outcome::Delivered), Settled::For(Count::transaction(0)));
    assert_eq!(settle(&queue, copy, Outcome::Delivered), Settled::Before);
    let lost = Outcome::Lost(Reason::SendError);
    assert_eq!(queue.settle(B, second, lost, NOW), Settled::For(Count::transaction(4)));
    assert_eq!(books.delivered.read(), Count::transaction(0));
    assert_eq!(books.lost.of(Reason::SendError).read(), Count::transaction(4));
    assert_eq!(queue.held(), Held::default());
    assert!(matches!(look(&queue, A, NOW), Popped::Idle));
}

#[test]
fn without_an_answer_a_parcel_is_sent_again_so_many_times_and_is_then_lost() {
    let books = books();
    let queue = queue_with(1000, books);
    push(&queue, parcel(1, 0)).unwrap();
    push(&queue, parcel(2, 0)).unwrap();
    // The first time at once, then after about a second, which a quarter may be missing from.
    for (now, again) in [(NOW, NOW), (NOW, after(1300))] {
        let parcel = pop_by(&queue, A, now);
        assert_eq!(parcel.bytes.len(), 1, "it keeps its place");
        assert_eq!(queue.settle(A, parcel, NO_ANSWER, now), Settled::Again);
        if again > now {
            assert!(matches!(look(&queue, A, after(700)), Popped::Idle), "it pauses");
            assert!(queue.held().paused_until > now);
        }
    }
    let parcel = pop_by(&queue, A, after(1300));
    assert_eq!(parcel.way.tries, 2);
    assert!(matches!(look(&queue, B, after(1300)), Popped::Idle), "one at a time");
    let end = queue.settle(A, parcel, NO_ANSWER, after(1300));
    assert_eq!(end, Settled::For(Count::transaction(0)));
    assert_eq!(books.lost.of(Reason::NetworkError).read(), Count::transaction(0));
    assert!(matches!(look(&queue, A, after(2600)), Popped::Idle), "two seconds now");

    // An answer, whatever it is, ends that for all.
    let parcel = pop_by(&queue, A, after(5000));
    queue.settle(A, parcel, Outcome::Lost(Reason::SendError), after(5000));
    for bytes in 1..=2 {
        push(&queue, self::parcel(bytes, 0)).unwrap();
    }
    drop((pop(&queue), pop_by(&queue, B, NOW)));
}

#[test]
fn what_comes_back_goes_to_its_old_place() {
    let queue = queue(1000);
    for bytes in 1..=4 {
        push(&queue, parcel(bytes, 0)).unwrap();
    }
    let (first, second, third) = (pop(&queue), pop_by(&queue, B, NOW), pop(&queue));
    queue.settle(B, second, Outcome::Back, NOW);
    settle(&queue, third, Outcome::Back);
    settle(&queue, first, Outcome::Back);
    assert_eq!(queue.held().bytes, 10);
    let order: Vec<_> = (0..4).map(|_| pop(&queue).bytes.len()).collect();
    assert_eq!(order, [1, 2, 3, 4]);
}

#[test]
fn nothing_pauses_while_closing_and_tries_are_counted_all_the_same() {
    let books = books();
    let queue = queue_with(1000, books);
    push(&queue, parcel(1, 0)).unwrap();
    queue.close();
    for _ in 0..3 {
        let parcel = pop(&queue);
        settle(&queue, parcel, NO_ANSWER);
    }
    assert!(matches!(look(&queue, A, NOW), Popped::Closed));
    assert_eq!(books.lost.of(Reason::NetworkError).read(), Count::transaction(0));
}

#[test]
fn closing_hands_out_the_rest_and_refuses_more() {
    let queue = queue(1000);
    push(&queue, parcel(1, 0)).unwrap();
    queue.close();
    assert!(queue.is_closed());
    assert!(push(&queue, parcel(1, 0)).is_err());
    let rest = pop(&queue);
    settle(&queue, rest, Outcome::Delivered);
    assert!(matches!(look(&queue, A, NOW), Popped::Closed));
}

#[test]
fn abandoning_counts_queued_and_in_flight_once() {
    let books = books();
    let queue = queue_with(1000, books);
    for children in 0..3 {
        push(&queue, parcel(1, children)).unwrap();
    }
    push(&queue, stored(7, 40)).unwrap();
    let taken = pop(&queue);
    let all = Count { transactions: 3, spans: 6 };
    assert_eq!(queue.abandon(Reason::ShutdownDeadline), all);
    assert_eq!(queue.abandon(Reason::ShutdownDeadline), Count::default());
    let late = settle(&queue, taken, Outcome::Delivered);
    assert_eq!(late, Settled::Before, "the transport came too late");
    assert_eq!(books.lost.of(Reason::ShutdownDeadline).read(), all);
    assert_eq!(books.delivered.read(), Count::default());
    assert_eq!(queue.held(), Held::default());
    assert!(matches!(look(&queue, A, NOW), Popped::Abandoned));
    assert!(queue.flush(LONG, clock::monotonic), "nothing is left to wait for");
}

#[test]
fn flush_waits_for_what_was_pushed_before_it_and_then_for_a_report() {
    let queue = Arc::new(queue(1000));
    push(&queue, parcel(1, 0)).unwrap();
    assert!(!queue.flush(SHORT, clock::monotonic), "nobody took it");
    queue.begin();
    let uploader = thread::Builder::new().spawn({
        let queue = Arc::clone(&queue);
        move || {
            let (mut seen, mut lot) = (Vec::new(), Lot::default());
            loop {
                match queue.pop(A, &mut lot, clock::monotonic(), LONG, clock::monotonic) {
                    Popped::Lot => {
                        seen.push("parcel");
                        settle(&queue, lot.parcels.remove(0), Outcome::Delivered);
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
fn flush_waits_for_the_oldest_and_not_for_what_came_later() {
    let queue = queue(1000);
    push(&queue, parcel(1, 0)).unwrap();
    let slow = pop(&queue);
    let flushing = |queue: &Queue| queue.flush(Duration::ZERO, || NOW);
    // Others come and go: as many as were there, but not those.
    push(&queue, parcel(2, 0)).unwrap();
    let quick = pop_by(&queue, B, NOW);
    queue.settle(B, quick, Outcome::Delivered, NOW);
    assert!(!flushing(&queue));
    settle(&queue, slow, Outcome::Delivered);
    assert!(flushing(&queue), "there is no worker that could report");
}

#[test]
fn one_report_at_a_time() {
    let queue = queue(1000);
    queue.begin();
    assert!(!queue.flush(Duration::ZERO, || NOW));
    assert!(matches!(look(&queue, A, NOW), Popped::Report));
    assert!(matches!(look(&queue, B, NOW), Popped::Idle), "A is at it");
    queue.reported();
    assert!(matches!(look(&queue, B, NOW), Popped::Idle));
}

#[test]
fn waiters_are_let_go_when_the_last_worker_ends_and_what_it_had_is_lost() {
    let books = books();
    let queue = queue_with(1000, books);
    queue.begin();
    queue.begin();
    push(&queue, parcel(1, 0)).unwrap();
    push(&queue, parcel(1, 1)).unwrap();
    push(&queue, parcel(1, 2)).unwrap();
    drop((pop(&queue), pop_by(&queue, B, NOW)));
    queue.end(B);
    assert!(!queue.wait_stopped(SHORT));
    let lost = || books.lost.of(Reason::Internal).read();
    assert_eq!(lost(), Count::transaction(1), "only what was in its hands");
    queue.end(A);
    assert!(queue.wait_stopped(LONG));
    assert_eq!(lost(), Count { transactions: 3, spans: 6 });
    assert!(queue.flush(LONG, clock::monotonic));
    assert_eq!(queue.held(), Held::default());
}

#[test]
fn more_hands_are_wanted_for_what_waits_while_all_are_busy() {
    let queue = queue(1000);
    assert_eq!(queue.wants_hands(NOW), None);
    push(&queue, parcel(1, 0)).unwrap();
    push(&queue, parcel(1, 0)).unwrap();
    let first = pop(&queue);
    assert_eq!(queue.wants_hands(NOW), Some((2, 2)));
    settle(&queue, first, NO_ANSWER);
    assert_eq!(queue.wants_hands(NOW), None, "more would not help");
    let first = pop(&queue);
    settle(&queue, first, Outcome::Delivered);
    assert_eq!(queue.wants_hands(NOW), Some((2, 2)));
    queue.close();
    assert_eq!(queue.wants_hands(NOW), None);
}

/// Three uploaders that sleep.
fn sleep_three(queue: &Queue) {
    (0..3).for_each(|_| queue.lock().sleepers.lie_down());
}

fn hand_over(queue: &Queue, parcels: u32) {
    let mut batch = queue.batch();
    (0..parcels).for_each(|_| batch.add(parcel(1, 0)));
    queue.take_over(&mut batch, NOW).unwrap();
}

#[test]
fn where_requests_take_long_each_who_takes_one_calls_another() {
    let queue = queue(1000);
    let called = || queue.lock().sleepers.called();
    sleep_three(&queue);
    hand_over(&queue, 3);
    assert_eq!(called(), 1, "one for all of them");
    let first = pop(&queue);
    assert_eq!(called(), 2, "nobody knows how long this one takes");
    drop(pop_by(&queue, B, NOW));
    assert_eq!(called(), 3);
    drop(pop_by(&queue, B, NOW));
    queue.settle(A, first, Outcome::Delivered, after(1));
    queue.lock().sleepers = Sleepers::default();
    sleep_three(&queue);
    hand_over(&queue, 2);
    drop(pop_by(&queue, B, NOW));
    assert_eq!(called(), 2, "a millisecond is long");
}

#[test]
fn where_requests_are_quick_another_is_called_only_for_what_waits() {
    let queue = queue(1000);
    let called = || queue.lock().sleepers.called();
    push(&queue, parcel(1, 0)).unwrap();
    let quick = pop(&queue);
    queue.settle(A, quick, Outcome::Delivered, NOW + Duration::from_micros(999));
    sleep_three(&queue);
    hand_over(&queue, 5);
    drop(pop_by(&queue, B, NOW + Duration::from_micros(999)));
    assert_eq!(called(), 1, "the next has hardly waited");
    drop(pop_by(&queue, B, after(1)));
    assert_eq!(called(), 2, "Q5");
    // That one hangs, and nobody else comes.
    assert_eq!(queue.wants_hands(NOW), None);
    assert_eq!(called(), 2);
    assert_eq!(queue.wants_hands(after(1)), None);
    assert_eq!(called(), 3, "the flusher notices");
    (0..3).for_each(|_| drop(pop_by(&queue, B, after(2))));
    queue.lock().sleepers.get_up();
    queue.lock().sleepers.lie_down();
    assert_eq!(queue.wants_hands(after(9)), None);
    assert_eq!(called(), 2, "nothing waits any more");
}

#[test]
fn buffers_go_round() {
    let queue = queue(1000);
    assert_eq!(queue.buffer().capacity(), 0);
    let mut used = Vec::with_capacity(77);
    used.push(1);
    let address = used.as_ptr();
    queue.recycle(used);
    let again = queue.buffer();
    assert_eq!((again.as_ptr(), again.len(), again.capacity()), (address, 0, 77));
    push(&queue, parcel(500, 0)).unwrap();
    assert!((500..1000).contains(&queue.buffer().capacity()));
    let taken = pop(&queue);
    settle(&queue, taken, Outcome::Delivered);
    assert_eq!(queue.spares(), 1);
}

#[test]
fn what_finds_no_room_strains_and_what_comes_after_closing_does_not() {
    let queue = queue(1000);
    assert_eq!(
        queue.strain(),
        Strain { refused: 0, is_full: false, limited_until: Duration::ZERO }
    );
    push(&queue, parcel(400, 0)).unwrap();
    assert!(!queue.strain().is_full);
    push(&queue, parcel(400, 0)).unwrap();
    assert!(queue.strain().is_full, "no room for a third one");
    assert!(push(&queue, parcel(400, 0)).is_err());
    queue.limit(LONG);
    assert_eq!(queue.strain(), Strain { refused: 1, is_full: true, limited_until: LONG });
    let taken = pop(&queue);
    settle(&queue, taken, Outcome::Delivered);
    queue.close();
    assert!(push(&queue, parcel(1, 0)).is_err());
    assert_eq!(queue.strain(), Strain { refused: 1, is_full: false, limited_until: LONG });
}

#[test]
fn a_poisoned_lock_is_used_on() {
    let queue = Arc::new(queue(1000));
    let poisoner = Arc::clone(&queue);
    let result = thread::Builder::new().spawn(move || {
        let _state = poisoner.state.lock();
        panic!("on purpose");
    });
    assert!(result.unwrap().join().is_err());
    push(&queue, parcel(1, 0)).unwrap();
    let taken = pop(&queue);
    assert_ne!(settle(&queue, taken, Outcome::Delivered), Settled::Before);
}

#[test]
fn the_spool_takes_what_waits_too_long_what_fills_and_what_is_not_answered() {
    let queue = queue(100);
    queue.set_spooling(true);
    assert!(queue.pop_for_spool(NOW).is_none());
    push(&queue, parcel(10, 0)).unwrap();
    assert!(queue.pop_for_spool(after(999)).is_none());
    let taken = queue.pop_for_spool(after(1000)).unwrap();
    let settled = queue.settle(Worker::SPOOL, taken, Outcome::Spooled, NOW);
    assert_eq!(settled, Settled::For(Count::transaction(0)));
    assert_eq!(queue.books.spool.holds(), Count::transaction(0));

    push(&queue, parcel(30, 0)).unwrap();
    push(&queue, parcel(30, 0)).unwrap();
    let taken = queue.pop_for_spool(NOW).unwrap();
    queue.settle(Worker::SPOOL, taken, Outcome::Spooled, NOW);
    assert!(queue.pop_for_spool(NOW).is_none(), "half full is not full");

    let parcel = pop(&queue);
    assert_eq!(settle(&queue, parcel, NO_ANSWER), Settled::Again);
    let taken = queue.pop_for_spool(NOW).unwrap();
    assert!(matches!(look(&queue, A, after(9000)), Popped::Idle));
    queue.settle(Worker::SPOOL, taken, Outcome::Back, NOW);
    assert_eq!(pop_by(&queue, A, after(9000)).bytes.len(), 30);
}

#[test]
fn with_a_spool_no_parcel_is_lost_for_want_of_an_answer() {
    let queue = queue(1000);
    queue.set_spooling(true);
    push(&queue, parcel(1, 0)).unwrap();
    let mut now = NOW;
    for _ in 0..20 {
        now += Duration::from_secs(100);
        let parcel = pop_by(&queue, A, now);
        assert_eq!(queue.settle(A, parcel, NO_ANSWER, now), Settled::Again);
    }
    // Closing, it is the spool's: nobody knocks at that door again.
    queue.close();
    assert!(matches!(look(&queue, A, now), Popped::Closed));
    assert!(queue.pop_for_spool(now).is_some());
}

#[test]
fn a_stored_parcel_counts_as_nothing_until_it_is_settled() {
    let books = books();
    let queue = queue_with(5, books);
    queue.set_spooling(true);
    books.spool.recovered.add(Count::transaction(3));
    assert!(queue.has_time_for_stored(NOW));
    push(&queue, stored(7, 3)).unwrap();
    assert!(push(&queue, stored(8, 3)).is_err(), "one at a time");
    assert!(!queue.has_time_for_stored(NOW));
    assert_eq!(queue.held().queued, Count::default());
    let parcel = pop(&queue);
    assert_eq!(queue.held().in_flight, Count::default());
    assert_eq!(books.spool.holds(), Count::transaction(3));
    settle(&queue, parcel, Outcome::Delivered);
    assert_eq!(books.delivered.read(), Count::transaction(3));
    assert_eq!(books.spool.holds(), Count::default());
    assert_eq!(fates(&queue), [Fate::Done(7)]);
    assert_eq!(queue.held(), Held::default());
}

#[test]
fn a_stored_parcel_that_cannot_be_sent_stays_in_the_spool() {
    let books = books();
    let queue = queue_with(1000, books);
    queue.set_spooling(true);
    for outcome in [NO_ANSWER, Outcome::Limited] {
        push(&queue, stored(7, 3)).unwrap();
        let parcel = pop(&queue);
        assert_eq!(settle(&queue, parcel, outcome), Settled::Again);
        assert_eq!(fates(&queue), [Fate::Back(7)]);
    }
    assert!(queue.has_time_for_stored(NOW), "to see whether anything is answered");
    push(&queue, stored(7, 3)).unwrap();
    assert!(queue.pop_for_spool(NOW).is_none());
    assert_eq!(fates(&queue), [Fate::Back(7)]);
    push(&queue, stored(7, 3)).unwrap();
    let _ = pop_by(&queue, B, NOW);
    queue.lose_in_hand(B);
    assert_eq!(fates(&queue), [Fate::Back(7)]);

    push(&queue, stored(7, 3)).unwrap();
    let parcel = pop(&queue);
    settle(&queue, parcel, Outcome::Lost(Reason::SendError));
    assert_eq!(fates(&queue), [Fate::Done(7)], "an answer is an answer");
    assert_eq!(books.lost.of(Reason::SendError).read(), Count::transaction(3));
    assert_eq!(Reason::ALL.map(|it| books.lost.of(it).read().transactions).iter().sum::<u64>(), 1);
    assert_eq!(queue.held().bytes, 0);
    queue.limit(after(10));
    assert!(!queue.has_time_for_stored(after(9)));
    assert!(queue.has_time_for_stored(after(10)));
}

#[test]
fn a_stored_parcel_finds_out_whether_the_server_is_back_one_at_a_time_and_after_a_pause() {
    let queue = queue(1000);
    queue.set_spooling(true);
    for _ in 0..2 {
        push(&queue, parcel(1, 0)).unwrap();
        let first = pop(&queue);
        settle(&queue, first, NO_ANSWER);
        let taken = queue.pop_for_spool(NOW).unwrap();
        queue.settle(Worker::SPOOL, taken, Outcome::Spooled, NOW);
    }
    assert!(!queue.has_time_for_stored(after(700)), "it is left alone");
    assert!(queue.has_time_for_stored(after(1300)));
    queue.push(stored(7, 0), after(1300)).unwrap();
    let probe = pop_by(&queue, A, after(1300));
    assert!(!queue.has_time_for_stored(after(1300)), "one is on its way");
    queue.settle(A, probe, NO_ANSWER, after(1300));
    assert!(!queue.has_time_for_stored(after(2600)), "twice as long");
    queue.answered();
    assert!(queue.has_time_for_stored(after(2600)), "a report was answered");
}

#[test]
fn what_hangs_since_before_the_server_went_is_no_probe_and_many_failures_at_once_are_one() {
    let queue = queue(1000);
    for _ in 0..4 {
        push(&queue, parcel(1, 0)).unwrap();
    }
    let hanging = pop(&queue);
    let (first, second) = (pop_by(&queue, B, NOW), pop_by(&queue, Worker(2), NOW));
    queue.settle(B, first, NO_ANSWER, NOW);
    queue.settle(Worker(2), second, NO_ANSWER, NOW);
    let probe = pop_by(&queue, B, NOW);
    assert!(matches!(look(&queue, Worker(2), NOW), Popped::Idle), "one at a time");
    queue.settle(B, probe, NO_ANSWER, NOW);
    assert!(!queue.held().paused_until.is_zero());
    settle(&queue, hanging, NO_ANSWER);
    let before = queue.held().paused_until;
    assert!(before <= after(1250), "it failed with the others, and not a third time");
}

#[test]
fn a_stored_parcel_is_not_in_the_way_of_others() {
    let queue = Queue::new(Rules { bytes_max: 100, parcels_max: 1, tries_max: 1 }, books());
    queue.set_spooling(true);
    push(&queue, stored(7, 0)).unwrap();
    assert!(!queue.strain().is_full);
    push(&queue, parcel(100, 0)).unwrap();
    assert_eq!(queue.held().bytes, 110);
    let first = pop(&queue);
    settle(&queue, first, Outcome::Delivered);
    assert_eq!(queue.held().bytes, 100);
}

#[test]
fn a_flush_is_not_content_with_a_report_that_began_before_it() {
    let queue = queue(1000);
    queue.begin();
    let ask = |queue: &Queue| assert!(!queue.flush(Duration::ZERO, || NOW));
    ask(&queue);
    assert!(matches!(look(&queue, A, NOW), Popped::Report));
    ask(&queue);
    queue.reported();
    assert!(matches!(look(&queue, B, NOW), Popped::Report), "the second one");
    queue.lose_in_hand(B);
    assert!(matches!(look(&queue, A, NOW), Popped::Report), "B panicked");
    queue.reported();
    assert!(matches!(look(&queue, A, NOW), Popped::Idle));
}

#[test]
fn limits_only_grow() {
    let queue = queue(1000);
    queue.limit(after(20));
    queue.limit(after(10));
    assert_eq!(queue.strain().limited_until, after(20));
}

#[test]
fn a_shutdown_that_runs_out_of_time_leaves_all_to_the_spool() {
    let queue = queue(1000);
    queue.rescue();
    push(&queue, parcel(1, 0)).unwrap();
    push(&queue, parcel(2, 0)).unwrap();
    assert!(queue.pop_for_spool(NOW).is_none(), "there is none");
    queue.set_spooling(true);
    let hanging = pop(&queue);
    queue.close();
    queue.rescue();
    assert!(matches!(look(&queue, B, NOW), Popped::Closed));
    let taken = queue.pop_for_spool(NOW).unwrap();
    queue.settle(Worker::SPOOL, taken, Outcome::Spooled, NOW);
    let mut none = Vec::new();
    assert!(queue.wait_for_spool(Duration::ZERO, &mut none), "one is in flight");
    settle(&queue, hanging, NO_ANSWER);
    let taken = queue.pop_for_spool(NOW).unwrap();
    queue.settle(Worker::SPOOL, taken, Outcome::Spooled, NOW);
    assert!(!queue.wait_for_spool(LONG, &mut none), "that was all");
}

#[test]
fn after_an_overflow_nothing_is_encoded_before_there_is_room_again() {
    let queue = queue(100);
    assert!(admit(&queue).is_ok(), "an empty one");
    push(&queue, parcel(40, 0)).unwrap();
    push(&queue, parcel(40, 0)).unwrap();
    assert!(admit(&queue).is_ok(), "full, for all that is known, but a small one may fit");
    push(&queue, parcel(40, 0)).unwrap_err();
    assert_eq!(admit(&queue).unwrap_err(), Reason::QueueFull);
    assert_eq!(queue.strain().refused, 2, "both are to be seen by those who send less");
    let taken = pop(&queue);
    assert_eq!(admit(&queue).unwrap_err(), Reason::QueueFull, "in flight takes room, too");
    settle(&queue, taken, Outcome::Delivered);
    assert!(admit(&queue).is_ok());
    push(&queue, parcel(40, 0)).unwrap();
    assert!(admit(&queue).is_ok(), "that one found room");

    push(&queue, parcel(40, 0)).unwrap_err();
    queue.close();
    assert_eq!(admit(&queue).unwrap_err(), Reason::ShutdownDeadline);
    queue.abandon(Reason::Internal);
    assert_eq!(admit(&queue).unwrap_err(), Reason::Internal);
    assert_eq!(queue.strain().refused, 4, "what comes after closing strains nobody");
}

#[test]
fn small_ones_are_not_refused_for_ever_after_a_large_one_was() {
    let queue = queue(100);
    push(&queue, parcel(80, 0)).unwrap();
    let large = pop(&queue);
    settle(&queue, large, Outcome::Delivered);
    push(&queue, parcel(30, 0)).unwrap();
    push(&queue, parcel(80, 0)).unwrap_err();
    push(&queue, parcel(60, 0)).unwrap();
    push(&queue, parcel(80, 0)).unwrap_err();
    let tries = (0..100).map(|_| admit(&queue).is_ok()).take_while(|is_tried| !is_tried).count();
    assert!(tries < 16, "one of them is tried");
    push(&queue, parcel(1, 0)).unwrap();
    assert!(admit(&queue).is_ok(), "and those like it after it");
}

#[test]
fn each_flush_returns_when_its_own_is_settled() {
    let queue = Arc::new(queue(1000));
    let flush = |queue: &Arc<Queue>| {
        let flushing = Arc::clone(queue);
        let run = move || {
            flushing.begin();
            flushing.flush(LONG, clock::monotonic)
        };
        let handle = thread::Builder::new().spawn(run).unwrap();
        while queue.lock().awaiting == 0 {
            thread::sleep(SHORT);
        }
        handle
    };
    push(&queue, parcel(10, 0)).unwrap();
    let first = flush(&queue);
    push(&queue, parcel(10, 0)).unwrap();
    assert!(!queue.lock().is_awaited());
    let one = pop(&queue);
    let two = pop(&queue);
    settle(&queue, two, Outcome::Delivered);
    assert!(!queue.lock().is_awaited(), "the first is still under way");
    settle(&queue, one, Outcome::Delivered);
    assert!(matches!(queue.pop(A, &mut Lot::default(), NOW, LONG, || NOW), Popped::Report));
    queue.reported();
    assert!(first.join().unwrap());
    assert_eq!(queue.lock().awaiting, 0);
}

#[test]
fn what_a_rush_left_behind_is_given_back_when_nobody_needs_it_for_a_second() {
    let queue = queue(1000);
    for _ in 0..600 {
        queue.recycle(Vec::with_capacity(8));
    }
    queue.lock().parcels.reserve(5_000);
    queue.rest(after(1_000));
    queue.rest(after(1_999));
    assert_eq!(queue.spares(), 600, "they may have been needed until just now");
    queue.rest(after(2_000));
    assert_eq!(queue.spares(), 512);
    assert!((512..5_000).contains(&queue.lock().parcels.capacity()));
}
