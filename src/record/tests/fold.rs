//! The attribute that waits for its span's record.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::*;
use crate::Span;
use crate::shared::layout::contents;
use crate::shared::seqlock::{Entry, meta};
use crate::shared::sync::Ordering;

type Attributes = Vec<(Kind, u8, NameId, Vec<u8>)>;

impl Session {
    /// What this thread has published, as it lies in the ring.
    fn raw(&self) -> Vec<Slot> {
        let mut raw = Vec::new();
        lane().ring.collect(&mut raw, 1 << 40);
        raw
    }

    /// The attributes of what this thread has published.
    fn attributes(&self) -> Attributes {
        let of = |(header, bytes): (AttributeHeader, Vec<u8>)| {
            (header.kind, header.code, header.name, bytes)
        };
        let attributes = self.published().1.into_iter();
        // Others of their shape only say that a span left its thread.
        attributes.filter(|(header, _)| header.kind.is_attribute()).map(of).collect()
    }
}

#[test]
fn a_child_with_one_small_attribute_takes_one_slot() {
    let session = Session::recording();
    warm();
    session.raw();
    let slots = |set: &dyn Fn(&mut Span)| {
        let transaction = start_transaction("op", "t");
        set(&mut start_child("op", "child"));
        drop(transaction);
        let raw = session.raw();
        let attributes: u64 = raw.iter().map(|slot| contents(slot).1).sum();
        (raw.len() - 1, attributes)
    };
    assert_eq!(slots(&|_| ()), (1, 0));
    assert_eq!(slots(&|child| _ = child.set_data("n", 1_u64 << 63)), (1, 1));
    assert_eq!(slots(&|child| _ = child.set_data("n", -1.5)), (1, 1));
    assert_eq!(slots(&|child| _ = child.set_tag("n", true)), (1, 1));
    assert_eq!(slots(&|child| _ = child.set_tag("n", "")), (1, 1));
    assert_eq!(slots(&|child| _ = child.set_tag("n", "8 bytes.")), (1, 1));
    assert_eq!(slots(&|child| _ = child.set_tag("n", "9 bytes..")), (2, 1));
    assert_eq!(slots(&|child| _ = child.set_data("n", 1).set_data("m", 2)), (2, 2));
    assert_eq!(slots(&|child| _ = child.set_data("n", 1).set_tag("m", "9 bytes..")), (3, 2));
    assert_eq!(slots(&|child| _ = child.set_tag("m", "9 bytes..").set_data("n", 1)), (2, 2));
}

#[test]
fn what_went_out_before_its_record_is_not_in_it() {
    let session = Session::recording();
    warm();
    session.raw();
    for text in ["9 bytes..", "seventeen bytes.."] {
        let transaction = start_transaction("op", "t");
        start_child("op", "child").set_data("n", 7).set_tag("m", text);
        drop(transaction);
        let raw = session.raw();
        let [number, tag, record, _] = &raw[..] else { panic!("{raw:?}") };
        assert_eq!((contents(number), contents(tag)), ((0, 1), (0, 1)));
        assert_eq!((record[0], record[7]), (Kind::Child as u64, 0));
    }
}

#[test]
fn a_child_has_nothing_of_the_one_before_it_in_its_line() {
    let session = Session::recording();
    warm();
    session.raw();
    let transaction = start_transaction("op", "t");
    start_child("op", "one").set_data("n", u64::MAX);
    drop(start_child("op", "another"));
    drop(transaction);
    let raw = session.raw();
    assert_eq!((raw[0][7], raw[1][0], raw[1][7]), (u64::MAX, Kind::Child as u64, 0));
}

/// One way to set something.
fn set(span: &mut Span, way: usize) {
    match way {
        0 => span.set_data("small", 500_u64),
        1 => span.set_tag("short", "orders"),
        2 => span.set_tag("long", "0123456789abcdef"),
        3 => span.set_data("list", &[1_u64, 2, 3, 4, 5, 6][..]),
        4 => span.set_data("small", false),
        5 => span.set_status(SpanStatus::Aborted),
        6 => span.set_data("very long", "x".repeat(300)),
        _ => span.set_measurement("size", 1.5, "byte"),
    };
}

const WAYS: usize = 8;

/// Ends a child in one way, and its transaction.
type End = fn(crate::Transaction, Span);

const ENDS: [(&str, End); 7] = [
    ("dropped", |transaction, child| {
        drop(child);
        drop(transaction);
    }),
    ("at a given time", |_transaction, child| child.finish_at(UNIX_EPOCH)),
    ("left open", |transaction, child| {
        drop(transaction);
        drop(child);
    }),
    ("forgotten", |_transaction, child| std::mem::forget(child)),
    ("detached", |_transaction, child| drop(child.detach())),
    ("left behind by its transaction", |transaction, child| {
        let transaction = transaction.detach();
        drop(child);
        drop(transaction);
    }),
    ("in a panic", |transaction, child| {
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _guards = (child, transaction);
            resume_unwind(Box::new(()));
        }));
        assert!(unwound.is_err());
    }),
];

#[test]
fn attributes_come_in_the_order_in_which_they_were_set_however_the_span_ends() {
    let session = Session::recording();
    warm();
    session.raw();
    let of = |ways: &[usize], end: End| -> Attributes {
        let transaction = start_transaction("op", "t");
        let mut child = start_child("op", "child");
        ways.iter().for_each(|way| set(&mut child, *way));
        end(transaction, child);
        session.attributes()
    };
    let (_, dropped) = ENDS[0];
    // What each is alone.
    let alone: Vec<_> = (0..WAYS).map(|way| of(&[way], dropped)).collect();
    assert!(alone.iter().all(|attributes| attributes.len() == 1));
    let mut sequences = vec![vec![]];
    for length in 0..3 {
        let longer = sequences.iter().filter(|ways: &&Vec<_>| ways.len() == length);
        let longer = longer.flat_map(|ways| (0..WAYS).map(|way| [&ways[..], &[way]].concat()));
        sequences.extend(longer.collect::<Vec<_>>());
    }
    assert_eq!(sequences.len(), 1 + WAYS + WAYS.pow(2) + WAYS.pow(3));
    for ways in sequences {
        let expected: Attributes = ways.iter().flat_map(|way| alone[*way].clone()).collect();
        for (name, end) in ENDS {
            // Of what was published at all.
            assert_eq!(of(&ways, end), expected, "{ways:?}, {name}");
        }
    }
}

#[test]
fn what_is_set_on_a_step_goes_with_it() {
    let session = Session::recording();
    warm();
    session.raw();
    let mut transaction = start_transaction("op", "t");
    for n in 0..3_u64 {
        transaction.step("op", "step").set_data("n", n);
    }
    drop(transaction);
    assert_eq!(session.attributes().len(), 3);
}

#[test]
fn nothing_is_set_on_what_has_ended() {
    let session = Session::recording();
    let mut transaction = start_transaction("op", "t");
    let mut first = transaction.step("op", "first");
    first.set_data("n", 1);
    let mut second = transaction.step("op", "second");
    // It stood where the second one stands now; and with none above, its line is as it was.
    first.set_data("m", 2).set_tag("o", "longer than a word");
    transaction.end_step();
    second.set_tag("o", "longer than a word").set_data("m", 2).set_tag("o", "once again");
    drop(transaction);
    assert_eq!(session.attributes().len(), 1);
}

#[test]
fn lines_of_transactions_and_of_visits_hold_none() {
    let session = Session::recording();
    warm();
    session.raw();
    let mut transaction = start_transaction("op", "t");
    transaction.set_data("n", 1).set_data("m", 2);
    let child = start_child("op", "child");
    let mut child = child.detach();
    let transaction = transaction.detach();
    // Where a child was, with words of its own.
    transaction.enter().start_child("op", "below").set_data("n", 3);
    child.enter().set_data("n", 4).set_data("m", 5);
    transaction.enter().set_data("n", 6).set_data("m", 7);
    child.set_data("n", 8);
    drop(child);
    drop(transaction);
    let attributes = session.attributes();
    let data = attributes.iter().filter(|(kind, ..)| *kind == Kind::Data);
    let values: Vec<_> = data.map(|(.., bytes)| bytes[0]).collect();
    assert_eq!(values, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn one_that_finds_no_room_is_counted() {
    let session = Session::new(1_000_000, 64);
    warm();
    session.raw();
    let before = (lost(Reason::RingFull), lane().counters.attributes_lost.get());
    let transaction = start_transaction("op", "t");
    let mut waiting = start_child("op", "child");
    waiting.set_data("n", 1);
    for _ in 0..100 {
        drop(start_child("op", "child"));
    }
    waiting.finish_at(UNIX_EPOCH);
    drop(transaction);
    let (records, attributes) = session.published();
    let full = lost(Reason::RingFull) - before.0;
    assert_eq!(records.len() as u64 + full.spans, 102);
    assert_eq!(lane().counters.attributes_lost.get() - before.1, 1);
    assert_eq!(attributes.len(), 0);
    assert_eq!(u64::from(records.last().unwrap().lost), full.spans + 1);
}

#[test]
fn what_a_thread_leaves_behind_is_counted() {
    let _session = Session::recording();
    let given_up = |lane: &Lane| {
        let lost = lane.counters.lost(Reason::Unfinished).unwrap().get();
        (lost, lane.counters.attributes_lost.get())
    };
    let (lane, before) = std::thread::spawn(move || {
        warm();
        let before = given_up(lane());
        let transaction = start_transaction("op", "t");
        // One in a record, one in a line.
        start_child("op", "ended").set_data("n", 1);
        let mut open = start_child("op", "open");
        open.set_data("n", 1);
        std::mem::forget(open);
        std::mem::forget(transaction);
        (lane(), before)
    })
    .join()
    .unwrap();
    let (lost, attributes) = given_up(lane);
    assert_eq!(lost - before.0, Count { transactions: 1, spans: 3 });
    assert_eq!(attributes - before.1, 2);
}

#[test]
fn what_is_set_on_a_visit_of_this_thread_keeps_its_turn() {
    let session = Session::recording();
    warm();
    session.raw();
    let transaction = start_transaction("op", "t");
    let mut child = start_child("op", "child");
    child.set_data("k", 1);
    let context = child.context();
    child.set_data("k", 2).set_data("k", 3);
    {
        let mut visit = context.enter();
        visit.set_data("k", 4);
        child.set_data("k", 5);
        visit.set_data("k", 6);
    }
    drop(child);
    drop(transaction);
    let values: Vec<_> = session.attributes().into_iter().map(|(.., bytes)| bytes[0]).collect();
    assert_eq!(values, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_line_that_is_over_or_another_s_is_not_read() {
    let session = Session::recording();
    warm();
    session.raw();
    let before = lane().counters.attributes_lost.get();
    let transaction = start_transaction("op", "t");
    start_child("op", "child").set_data("n", 1);
    let carried = start_child("op", "carried").detach();
    // Where the first child was, and left from the middle.
    let visit = carried.enter();
    let above = start_child("op", "above");
    drop(visit);
    let unsampled = start_child("op", "another");
    LOCAL.with(|local| local.abandon_open(lane()));
    drop((above, unsampled, carried, transaction));
    session.raw();
    drop(start_transaction("op", "next"));
    assert_eq!(session.attributes().len(), 0);
    assert_eq!(lane().counters.attributes_lost.get(), before);
}

#[test]
fn a_transaction_that_lost_much_is_no_attribute() {
    let session = Session::recording();
    warm();
    session.raw();
    let outer = start_transaction("op", "outer");
    // As if so many slots had found no room: with the bit that says that something waits.
    let [.., lost, _] = lane().spans.at(0);
    lost.store(130, Ordering::Relaxed);
    let inner = start_transaction("op", "inner");
    drop(outer);
    session.raw();
    LOCAL.with(|local| local.abandon_open(lane()));
    drop(inner);
    drop(start_transaction("op", "next"));
    assert_eq!(session.raw().len(), 1);
}

#[test]
fn a_text_of_any_length_keeps_its_name() {
    let session = Session::recording();
    warm();
    for name in ["one", "two", "three", "four"] {
        session.raw();
        let mut transaction = start_transaction("op", "t");
        for len in [0, 1, 8, 9, 16, 17, 40, 41, 1024, 65_535, 65_536, 70_000, 200_000] {
            transaction.set_data(name, "x".repeat(len));
        }
        drop(transaction);
        let attributes = session.attributes();
        assert_eq!(attributes.len(), 13);
        for (_, _, id, bytes) in attributes {
            assert_eq!(text(id), name, "of {} bytes", bytes.len());
        }
    }
}

#[test]
fn a_name_that_left_is_kept_where_a_child_had_its_line() {
    let session = Session::recording();
    let carried = start_transaction("op", "before");
    // As headers mark it.
    let entry = lane().spans.entry(0);
    lane().spans.write(0, &Entry { meta: entry.meta | meta::FROZEN, ..entry });
    let mut carried = carried.detach();
    let transaction = start_transaction("op", "t");
    start_child("op", "child").set_data("n", 1);
    session.raw();
    carried.set_description("after");
    drop(transaction);
    let kinds: Vec<_> = session.published().1.into_iter().map(|(header, _)| header.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Frozen).count(), 1, "{kinds:?}");
}
