//! Several parcels in the hands of one uploader.

use super::super::lot::{BYTES_MAX, PARCELS_MAX};
use super::*;

/// What `worker` finds when it wants so many.
fn take(queue: &Queue, worker: Worker, most: usize, now: Duration) -> Vec<Parcel> {
    let mut lot = Lot { most, ..Lot::default() };
    assert_eq!(queue.pop(worker, &mut lot, now, Duration::ZERO, || now), Popped::Lot);
    lot.parcels
}

fn lengths(lot: &[Parcel]) -> Vec<usize> {
    lot.iter().map(|parcel| parcel.bytes.len()).collect()
}

#[test]
fn a_lot_is_the_oldest_in_their_order_and_no_more_than_is_wanted() {
    let queue = queue(10_000);
    (1..=70).for_each(|bytes| push(&queue, parcel(bytes, 0)).unwrap());
    assert_eq!(lengths(&take(&queue, A, 0, NOW)), [1]);
    assert_eq!(lengths(&take(&queue, A, 1, NOW)), [2]);
    assert_eq!(lengths(&take(&queue, A, 3, NOW)), [3, 4, 5]);
    assert_eq!(take(&queue, A, usize::MAX, NOW).len(), PARCELS_MAX);
    assert_eq!(lengths(&take(&queue, A, 9, NOW)), [70], "nobody waits for more");
    assert_eq!(queue.held().in_flight.transactions, 70);
}

#[test]
fn a_lot_is_bounded_in_bytes_but_for_the_first() {
    let queue = queue(10 * BYTES_MAX);
    let half = BYTES_MAX / 2;
    for bytes in [half, half, 1, BYTES_MAX + 1, 1, half, half, 1] {
        push(&queue, parcel(bytes, 0)).unwrap();
    }
    let next = || lengths(&take(&queue, A, 64, NOW));
    assert_eq!(next(), [half, half]);
    assert_eq!(next(), [1], "the next is too large to go with it");
    assert_eq!(next(), [BYTES_MAX + 1], "and goes alone");
    assert_eq!(next(), [1, half]);
    assert_eq!(next(), [half, 1]);
}

#[test]
fn while_nothing_is_answered_one_is_taken_in_a_shutdown_too() {
    let queue = queue(1000);
    (1..=4).for_each(|bytes| push(&queue, parcel(bytes, 0)).unwrap());
    let first = pop(&queue);
    settle(&queue, first, NO_ANSWER);
    let probe = take(&queue, A, 8, NOW);
    assert_eq!(lengths(&probe), [1]);
    assert!(matches!(look(&queue, B, NOW), Popped::Idle), "one at a time");
    queue.close();
    assert_eq!(lengths(&take(&queue, B, 8, NOW)), [2]);
    let [probe] = <[Parcel; 1]>::try_from(probe).unwrap();
    settle(&queue, probe, Outcome::Delivered);
    assert_eq!(lengths(&take(&queue, A, 8, NOW)), [3, 4]);
}

#[test]
fn an_end_is_written_down_while_the_parcel_is_lent() {
    let books = books();
    let queue = queue_with(100, books);
    push(&queue, parcel(40, 1)).unwrap();
    push(&queue, parcel(60, 2)).unwrap();
    let lot = take(&queue, A, 2, NOW);
    let ahead = |at: usize, worker, outcome| queue.settle_ahead(worker, &lot[at], outcome, NOW);
    assert_eq!(ahead(0, B, Outcome::Delivered), Some(Settled::Before), "A has it");
    let settled = Some(Settled::For(Count::transaction(1)));
    assert_eq!(ahead(0, A, Outcome::Delivered), settled);
    assert_eq!(ahead(0, A, Outcome::Delivered), Some(Settled::Before));
    assert_eq!((books.delivered.read(), queue.held().bytes), (Count::transaction(1), 60));
    assert_eq!(queue.held().in_flight, Count::transaction(2));
    push(&queue, parcel(40, 0)).unwrap();
    assert_eq!(queue.abandon(Reason::ShutdownDeadline), Count { transactions: 2, spans: 4 });
    assert_eq!(ahead(1, A, Outcome::Delivered), Some(Settled::Before));
}

#[test]
fn what_is_queued_again_is_in_flight_until_it_is_given_back_and_has_failed_once() {
    let books = books();
    let queue = queue_with(1000, books);
    (1..=3).for_each(|bytes| push(&queue, parcel(bytes, 0)).unwrap());
    let mut lot = take(&queue, A, 3, NOW);
    assert_eq!(queue.settle_ahead(A, &lot[0], NO_ANSWER, NOW), None);
    assert_eq!((queue.held().in_flight.transactions, queue.held().bytes), (3, 6));
    assert!(queue.lock().route.is_down(), "all know at once");
    queue.settle_ahead(A, &lot[1], Outcome::Delivered, NOW).unwrap();
    assert!(!queue.lock().route.is_down(), "it is there after all");
    queue.settle_ahead(A, &lot[2], Outcome::Back, NOW);
    assert_eq!(settle(&queue, lot.remove(0), NO_ANSWER), Settled::Again);
    assert!(!queue.lock().route.is_down());
    let again = pop(&queue);
    assert_eq!((again.bytes.len(), again.way.tries), (1, 1));
    assert_eq!(settle(&queue, again, NO_ANSWER), Settled::Again);
    // The last try of a probe ends it.
    let probe = take(&queue, A, 3, NOW);
    assert_eq!(probe[0].way.tries, 2);
    let end = queue.settle_ahead(A, &probe[0], NO_ANSWER, NOW);
    assert_eq!(end, Some(Settled::For(Count::transaction(0))));
    assert_eq!(books.lost.of(Reason::NetworkError).read(), Count::transaction(0));
    assert!(queue.held().paused_until > NOW, "two failures, not three: about a second");
    assert!(queue.held().paused_until < after(1300));
}

#[test]
fn a_lot_calls_one_more_for_what_it_left() {
    let queue = queue(1000);
    sleep_three(&queue);
    hand_over(&queue, 5);
    let called = || queue.lock().sleepers.called();
    assert_eq!(called(), 1);
    drop(take(&queue, A, 3, NOW));
    assert_eq!(called(), 2, "once, for two");
    drop(take(&queue, B, 3, NOW));
    assert_eq!(called(), 2, "nothing is left");
}

#[test]
fn many_that_take_little_each_are_quick_and_one_that_takes_long_is_not() {
    let queue = queue(10_000);
    let micros = |micros| NOW + Duration::from_micros(micros);
    let run = |answers: &[u64]| {
        hand_over(&queue, u32::try_from(answers.len()).unwrap());
        let lot = take(&queue, A, 64, NOW);
        for (parcel, at) in lot.iter().zip(answers) {
            queue.settle_ahead(A, parcel, Outcome::Delivered, micros(*at)).unwrap();
        }
        queue.lock().is_quick
    };
    let each = |step: u64| (1..=64).map(|number| number * step).collect::<Vec<_>>();
    assert!(run(&each(31)), "two milliseconds in all");
    assert!(run(&each(999)));
    assert!(!run(&each(1000)));
    assert!(!run(&[40_000, 40_010, 40_020]), "far away");
    assert!(run(&[10]));
    assert!(!run(&[10, 1010, 1020]), "in the middle");

    // Nobody is called for what a quick one leaves, unless it has waited.
    assert!(run(&each(31)));
    sleep_three(&queue);
    hand_over(&queue, 9);
    let called = || queue.lock().sleepers.called();
    drop(take(&queue, A, 3, micros(900)));
    assert_eq!(called(), 1);
    drop(take(&queue, A, 3, micros(1000)));
    assert_eq!(called(), 2, "Q5");
    assert_eq!(queue.wants_hands(micros(1000)), None);
    assert_eq!(called(), 3, "the flusher notices, too");
}

#[test]
fn one_uploader_s_answers_say_nothing_of_another_s() {
    let queue = queue(1000);
    hand_over(&queue, 2);
    let (first, second) = (take(&queue, A, 1, NOW), take(&queue, B, 1, NOW));
    let micros = |micros| NOW + Duration::from_micros(micros);
    queue.settle_ahead(A, &first[0], Outcome::Delivered, micros(900)).unwrap();
    assert!(queue.lock().is_quick);
    queue.settle_ahead(B, &second[0], Outcome::Delivered, micros(1500)).unwrap();
    assert!(!queue.lock().is_quick, "it has waited for all of that time");
}

#[test]
fn buffers_of_a_lot_go_back_with_the_next_pop_and_not_once_all_is_given_up() {
    let queue = queue(1000);
    let mut lot = Lot { most: 2, ..Lot::default() };
    hand_over(&queue, 2);
    let cycle = |lot: &mut Lot| {
        let popped = queue.pop(A, lot, NOW, Duration::ZERO, || NOW);
        for parcel in lot.parcels.drain(..) {
            queue.settle_ahead(A, &parcel, Outcome::Delivered, NOW).unwrap();
            lot.spent.push(parcel.bytes);
        }
        popped
    };
    assert_eq!(cycle(&mut lot), Popped::Lot);
    assert_eq!((queue.spares(), queue.held().bytes), (0, 0));
    assert_eq!(cycle(&mut lot), Popped::Idle);
    assert_eq!((queue.spares(), lot.spent.len()), (2, 0));
    hand_over(&queue, 2);
    assert_eq!(cycle(&mut lot), Popped::Lot);
    queue.abandon(Reason::Internal);
    assert_eq!(cycle(&mut lot), Popped::Abandoned);
    assert_eq!(queue.spares(), 0);
}
