//! The recording side alone: what ends up in the ring, and in the counters.

#![expect(clippy::mem_forget, reason = "forgotten guards are what is tested")]
#![expect(clippy::disallowed_methods, reason = "threads of tests may panic")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use crate::sampling::{Sampling, Table, live};
use crate::shared::arena::{Arena, BYTES_MAX};
use crate::shared::id::{NameId, WireIds};
use crate::shared::layout::{
    AttributeHeader, Kind, Slot, SpanRecord, flag, payload, slots_of, unfold,
};
use crate::shared::ledger::{Count, Reason};
use crate::shared::registry::Lane;
use crate::shared::settings::{ON, RULED, SETTINGS, sampling, threshold_of};
use crate::shared::{clock, names};
use crate::{Hub, SpanStatus, start_child, start_transaction};

use super::local::LOCAL;

mod fold;
mod short;

static ALONE: Mutex<()> = Mutex::new(());

/// Recording without a flusher, one test at a time.
struct Session {
    _alone: MutexGuard<'static, ()>,
}

impl Session {
    fn new(threshold: u32, ring_slots: u64) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Arena::global().reserve(BYTES_MAX / 64).unwrap();
        clock::clock();
        SETTINGS.switch_on(&WireIds::from_os(0), sampling(threshold, false), ring_slots);
        Self { _alone: alone }
    }

    fn recording() -> Self {
        Self::new(1_000_000, 10_000)
    }

    /// What this thread has published, split into records and attributes.
    fn published(&self) -> (Vec<SpanRecord>, Vec<(AttributeHeader, Vec<u8>)>) {
        let (mut raw, mut slots): (Vec<Slot>, Vec<Slot>) = Default::default();
        lane().ring.collect(&mut raw, 1 << 40);
        unfold(&raw, &mut slots);
        let (mut records, mut attributes) = (Vec::new(), Vec::new());
        let mut rest = &slots[..];
        while let Some(first) = rest.first() {
            let (one, others) = rest.split_at(slots_of(first));
            match SpanRecord::of(first) {
                Some(record) => records.push(record),
                None => {
                    let mut bytes = Vec::new();
                    payload(one, &mut bytes);
                    attributes.push((AttributeHeader::of(first).unwrap(), bytes));
                }
            }
            rest = others;
        }
        (records, attributes)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        SETTINGS.switch_off();
    }
}

fn lane() -> &'static Lane {
    LOCAL.try_with(|local| local.lane()).unwrap().expect("this thread has recorded")
}

fn lost(reason: Reason) -> Count {
    lane().counters.lost(reason).unwrap().get()
}

fn text(id: NameId) -> &'static str {
    names::text(id).unwrap_or_default()
}

#[test]
fn an_item_arrives_as_its_records_children_first() {
    let session = Session::recording();
    {
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.set_tag("queue", "orders");
        let child = start_child("db", "load");
        let grandchild = child.start_child("db.row", "fetch");
        grandchild.finish();
        drop(child);
        transaction.start_child("cpu", "hash").finish();
    }
    let (records, attributes) = session.published();
    let [grandchild, child, sibling, root] = &records[..] else { panic!("{records:?}") };
    assert_eq!(
        (root.kind, text(root.op), text(root.description)),
        (Kind::Root, "queue.process", "orders")
    );
    assert_eq!((text(child.op), text(child.description)), ("db", "load"));
    assert_eq!(child.parent, root.key);
    assert_eq!(grandchild.parent, child.key);
    assert_eq!(sibling.parent, root.key);
    assert!(records.iter().all(|record| record.root == root.key && record.start <= record.end));
    assert!(root.start <= child.start && child.end <= root.end);
    assert_eq!(root.threshold, 1_000_000);
    assert_eq!(attributes.len(), 1);
    assert_eq!((attributes[0].0.key, text(attributes[0].0.name)), (root.key, "queue"));
    assert_eq!(attributes[0].1, b"orders");
}

#[test]
fn rules_that_come_into_force_during_a_draw_are_not_taken_for_a_threshold() {
    let _session = Session::recording();
    let state = SETTINGS.state();
    assert!(super::open::draw(state | RULED).is_open());
    let drawn = super::open::draw(state);
    assert!(drawn.refused().is_none());
    assert!(super::open_root(drawn, NameId::NONE, NameId::NONE).is_recording());
    LOCAL.with(|local| local.abandon_open(lane()));
}

#[test]
fn what_is_changed_while_a_session_begins_holds_in_it() {
    let _session = Session::recording();
    SETTINGS.switch_off();
    let rate = |rate| Sampling { traces_sample_rate: Some(rate), ..Sampling::default() };
    live::begin(Table::compile(rate(1.0)).unwrap().into(), |word| {
        assert!(live::change(|sampling| *sampling = rate(0.25)).unwrap());
        SETTINGS.switch_on(&WireIds::from_os(0), word, 10_000);
    });
    assert_eq!(threshold_of(SETTINGS.word()), 250_000);
    SETTINGS.switch_off();
    assert!(live::change(|sampling| *sampling = rate(0.5)).unwrap());
    assert_eq!(SETTINGS.word() & ON, 0);
    live::end();
}

#[test]
fn the_scope_follows_the_guards() {
    let _session = Session::recording();
    let scope = || Hub::current().scope();
    assert!(scope().transaction().is_none() && scope().span().is_none());
    let outer = start_transaction("op", "outer");
    let child = start_child("op", "child");
    assert_eq!(scope().span().unwrap().span_id(), child.span_id());
    assert_eq!(scope().transaction().unwrap().span_id(), outer.span_id());
    let inner = start_transaction("op", "inner");
    assert_eq!(scope().transaction().unwrap().span_id(), inner.span_id());
    assert_ne!(inner.trace_id(), outer.trace_id());
    drop(inner);
    assert_eq!(scope().transaction().unwrap().span_id(), outer.span_id());
    assert_eq!(scope().span().unwrap().span_id(), child.span_id());
    drop(child);
    assert_eq!(scope().span().unwrap().span_id(), outer.span_id());
    drop(outer);
    assert!(scope().transaction().is_none() && scope().span().is_none());
}

#[test]
fn guards_dropped_out_of_order_leave_a_sane_scope() {
    let session = Session::recording();
    let transaction = start_transaction("op", "t");
    let a = start_child("op", "a");
    let b = start_child("op", "b");
    let c = start_child("op", "c");
    let current = || Hub::current().scope().span().and_then(|span| span.span_id());
    drop(b);
    assert_eq!(current(), c.span_id());
    drop(a);
    assert_eq!(current(), c.span_id());
    drop(c);
    assert_eq!(current(), transaction.span_id());
    drop(transaction);
    assert_eq!(current(), None);
    let (records, _) = session.published();
    assert_eq!(records.len(), 4);
    assert_eq!(records[3].unfinished, 0);
}

#[test]
fn children_open_at_the_end_are_left_out_and_counted_once() {
    let session = Session::recording();
    warm();
    session.published();
    let before = (lost(Reason::Unfinished), lane().counters.late.get());
    let transaction = start_transaction("op", "t");
    let early = start_child("op", "early");
    let open = start_child("op", "open");
    drop(early);
    drop(transaction);
    assert!(Hub::current().scope().span().is_none(), "its transaction is over");
    assert!(!open.is_recording());
    assert!(!open.start_child("op", "under a dead one").is_recording());
    drop(open);
    let (records, _) = session.published();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].unfinished, 1);
    assert_eq!(lost(Reason::Unfinished) - before.0, Count::spans(1));
    assert_eq!(lane().counters.late.get() - before.1, 1);
}

// Threads of the test harness are new for each test: give them a lane first.
fn warm() {
    drop(start_transaction("op", "warm"));
}

#[test]
fn unsampled_transactions_hide_the_outer_one_and_cost_no_record() {
    let session = Session::recording();
    let outer = start_transaction("op", "outer");
    SETTINGS.switch_off();
    SETTINGS.switch_on(&WireIds::from_os(0), 0, 10_000);
    let unsampled = lane().counters.unsampled.get();
    {
        let mut inner = start_transaction("op", "inner");
        assert!(!inner.is_recording() && inner.trace_id().is_some());
        inner.set_tag("a", 1).set_data_with("b", || -> i32 { panic!("evaluated") });
        assert!(!start_child("op", "child").is_recording());
        assert!(Hub::current().scope().transaction().is_some());
        assert!(Hub::current().scope().span().is_none());
        // The outer one can still be used by those who hold it.
        let child = outer.start_child("op", "of the outer");
        assert!(child.is_recording());
        drop(child);
        assert!(!start_child("op", "child").is_recording(), "the inner one is innermost again");
    }
    assert_eq!(lane().counters.unsampled.get() - unsampled, 1);
    assert!(start_child("op", "of the outer again").is_recording());
    drop(outer);
    // It began in a generation that is over.
    assert_eq!(session.published().0.len(), 0);
    assert_eq!(lost(Reason::AfterShutdown), Count { transactions: 1, spans: 3 });
}

#[test]
fn sampling_keeps_the_share_it_was_told() {
    let session = Session::new(250_000, 10_000);
    let mut kept = 0;
    for _ in 0..40_000 {
        let transaction = start_transaction("op", "t");
        kept += u32::from(transaction.is_recording());
        drop(transaction);
        session.published();
    }
    // 10,000 expected; five standard deviations are 433.
    assert!((9_567..=10_433).contains(&kept), "{kept}");
}

#[test]
fn a_full_ring_is_counted_exactly_and_the_transaction_says_so() {
    let session = Session::new(1_000_000, 64);
    warm();
    session.published();
    let before = lost(Reason::RingFull);
    let transaction = start_transaction("op", "t");
    for _ in 0..1000 {
        drop(start_child("op", "child"));
    }
    drop(transaction);
    let full = lost(Reason::RingFull) - before;
    let (records, _) = session.published();
    let root = records.last().unwrap();
    assert_eq!(root.kind, Kind::Root, "a root that was let in finds room");
    assert_eq!(u64::from(root.lost), full.spans);
    assert_eq!(records.len() as u64 - 1 + full.spans, 1000);
    assert_eq!(full.transactions, 0);
    assert!(full.spans > 900);
}

#[test]
fn a_transaction_that_finds_no_room_is_counted_with_its_children() {
    let session = Session::new(1_000_000, 64);
    warm();
    let before = lost(Reason::RingFull);
    let started = lane().counters.started();
    for _ in 0..100 {
        let _transaction = start_transaction("op", "t");
        drop(start_child("op", "child"));
    }
    let full = lost(Reason::RingFull) - before;
    let (records, _) = session.published();
    let roots = records.iter().filter(|record| record.kind == Kind::Root).count() as u64;
    assert_eq!(roots + full.transactions, 101);
    assert_eq!(records.len() as u64 + full.spans, 201);
    assert_eq!(lane().counters.started() - started, Count { transactions: 100, spans: 200 });
}

#[test]
fn attributes_of_every_length_come_out_as_they_went_in() {
    let session = Session::recording();
    let texts: Vec<String> = (0..300).step_by(7).map(|len| "é".repeat(len)).collect();
    {
        let mut transaction = start_transaction("op", "t");
        for text in &texts {
            transaction.set_data("text", text);
        }
        transaction.set_data("long", "x".repeat(5000));
        transaction.set_data("wide", u128::MAX).set_data("list", [1.5_f32, -2.0]);
    }
    let (_, attributes) = session.published();
    for (text, (header, bytes)) in texts.iter().zip(&attributes) {
        assert_eq!((text.as_bytes(), header.len as usize), (&bytes[..], text.len()));
    }
    let rest: Vec<_> = attributes[texts.len()..].iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(rest, [1024, 16, 16]);
}

#[test]
fn a_panic_marks_what_it_unwinds_through_and_not_what_began_inside() {
    struct Cleanup;
    impl Drop for Cleanup {
        fn drop(&mut self) {
            drop(start_child("op", "cleanup"));
        }
    }
    let session = Session::recording();
    let _ = std::panic::catch_unwind(|| {
        let _transaction = start_transaction("op", "t");
        let _cleanup = Cleanup;
        let _child = start_child("op", "child");
        panic!("on purpose");
    });
    let (records, _) = session.published();
    let flags: Vec<(&str, u8)> =
        records.iter().map(|record| (text(record.description), record.flags)).collect();
    assert_eq!(flags, [("child", flag::PANICKED), ("cleanup", 0), ("t", flag::PANICKED)]);
}

#[test]
fn explicit_times_are_kept_as_they_are() {
    let session = Session::recording();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    {
        let mut transaction = start_transaction("op", "t");
        transaction.started_at(at(100));
        let mut child = transaction.start_child("op", "c");
        child.started_at(at(110)).set_status(SpanStatus::Ok);
        child.finish_at(at(120));
        transaction.finish_at(at(130));
    }
    let (records, _) = session.published();
    let times: Vec<_> = records.iter().map(|r| (r.start, r.end, r.flags)).collect();
    let both = flag::START_UNIX | flag::END_UNIX;
    assert_eq!(
        times,
        [(110_000_000_000, 120_000_000_000, both), (100_000_000_000, 130_000_000_000, both)]
    );
}

#[test]
fn forgotten_guards_are_counted_and_do_not_pile_up() {
    let session = Session::recording();
    warm();
    let before = lost(Reason::Unfinished);
    for _ in 0..1000 {
        std::mem::forget(start_transaction("op", "forgotten"));
        std::mem::forget(start_child("op", "forgotten"));
    }
    std::thread::scope(|_| ());
    let given_up = lost(Reason::Unfinished) - before;
    assert!(given_up.transactions > 900, "{given_up:?}");
    assert_eq!(given_up.spans, 2 * given_up.transactions);
    session.published();
    drop(start_transaction("op", "after"));
    let (records, _) = session.published();
    assert_eq!(records.len(), 1, "recording goes on");
}

#[test]
fn deep_nesting_is_bounded_and_counted() {
    let session = Session::recording();
    let transaction = start_transaction("op", "t");
    let before = lost(Reason::TooDeep);
    let guards: Vec<_> = (0..300).map(|_| start_child("op", "deep")).collect();
    assert_eq!((lost(Reason::TooDeep) - before).spans, 45);
    guards.into_iter().rev().for_each(drop);
    drop(transaction);
    assert_eq!(session.published().0.len(), 256);
}

#[test]
fn a_thread_that_ends_hands_its_lane_on_with_everything_counted() {
    let _session = Session::recording();
    let (lane, lost) = std::thread::spawn(|| {
        drop(start_transaction("op", "done"));
        std::mem::forget(start_transaction("op", "open"));
        drop(start_child("op", "finished, in a transaction that is not"));
        (lane(), lost(Reason::Unfinished))
    })
    .join()
    .unwrap();
    assert_eq!(lane.ring.state(), crate::shared::ring::State::Retired);
    let unfinished = lane.counters.lost(Reason::Unfinished).unwrap().get() - lost;
    assert_eq!(unfinished, Count { transactions: 1, spans: 2 });
    let mut slots = Vec::new();
    lane.ring.collect(&mut slots, 1 << 40);
    assert_eq!(slots.len(), 1);
}

#[test]
fn recording_in_destructors_of_thread_locals_does_no_harm() {
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            let _transaction = start_transaction("op", "in a destructor");
            drop(start_child("op", "child"));
        }
    }
    thread_local!(static LAST: Last = const { Last });
    let _session = Session::recording();
    for before in [true, false] {
        std::thread::spawn(move || {
            if before {
                LAST.with(|_| ());
            }
            drop(start_transaction("op", "t"));
            LAST.with(|_| ());
        })
        .join()
        .unwrap();
    }
}
