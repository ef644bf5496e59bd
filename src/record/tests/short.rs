//! The short ways, and where they may not be taken.

use std::borrow::Cow;
use std::cell::Cell;

use super::*;
use crate::name::{Number, ToName};
use crate::{Keep, Rule, TransactionOptions};

/// With a table that can be asked.
struct Ruled(Session);

impl Ruled {
    fn new(rules: Vec<Rule>) -> Self {
        let session = Session::recording();
        SETTINGS.switch_off();
        let sampling = Sampling { traces_sample_rate: Some(1.0), rules, ..Sampling::default() };
        live::begin(Table::compile(sampling).unwrap().into(), |word| {
            SETTINGS.switch_on(&WireIds::from_os(0), word, 10_000);
        });
        warm();
        session.published();
        Self(session)
    }
}

impl Drop for Ruled {
    fn drop(&mut self) {
        live::end();
    }
}

fn sampled(decision: bool) -> crate::Transaction {
    TransactionOptions::new().sampled(decision).start("op", "explicit")
}

/// Recorded transactions that are open on this thread, and lines of its stack.
fn open() -> (u64, usize) {
    LOCAL.with(|local| (local.roots.get(), lane().spans.len()))
}

#[test]
fn a_transaction_is_open_until_it_ends_whatever_is_below_it() {
    let _session = Session::recording();
    warm();
    assert_eq!(open(), (0, 0));
    let outer = start_transaction("op", "outer");
    assert_eq!(open(), (1, 1));
    let inner = start_transaction("op", "inner");
    assert_eq!(open(), (2, 2));
    drop(inner);
    assert_eq!(open(), (1, 1));
    assert_eq!(LOCAL.with(|local| local.parent.get()), outer.at().key());
    drop(outer);
    assert_eq!(open(), (0, 0));
}

#[test]
fn what_lies_on_a_line_that_is_over_takes_that_along() {
    let _session = Ruled::new(vec![]);
    for decisions in [[false, true], [true, false], [true, true], [false, false]] {
        let [outer, inner] = decisions.map(sampled);
        assert_eq!([outer.is_recording(), inner.is_recording()], decisions);
        drop(outer);
        assert_eq!(open().1, 2, "{decisions:?}");
        drop(inner);
        assert_eq!(open(), (0, 0), "{decisions:?}");
    }
}

#[test]
fn a_guard_of_what_was_left_out_does_not_end_its_visit() {
    let _session = Ruled::new(vec![]);
    let outer = sampled(false);
    let context = outer.context();
    LOCAL.with(|local| local.abandon_open(lane()));
    let scope = context.enter();
    assert_eq!(open().1, 1);
    drop(outer);
    assert_eq!(open().1, 1, "the visit goes on");
    drop(scope);
    assert_eq!(open().1, 0);
}

#[test]
fn what_is_left_out_is_bounded_in_depth_too() {
    let _session = Session::new(0, 10_000);
    warm();
    let before = lane().counters.unsampled.get();
    for _ in 0..300 {
        std::mem::forget(start_transaction("op", "left out"));
        assert!((1..=256).contains(&open().1));
    }
    assert_eq!(lane().counters.unsampled.get() - before, 300);
    LOCAL.with(|local| local.abandon_open(lane()));
}

#[test]
fn outcomes_of_a_transaction_that_lost_much_are_kept() {
    let session = Session::new(1_000_000, 64);
    warm();
    session.published();
    let mut transaction = start_transaction("op", "t");
    for _ in 0..300 {
        drop(start_child("op", "child"));
    }
    let mut records = session.published().0;
    let gone = 300 - records.len();
    assert!(gone > 128, "what was lost has the bit that elsewhere says that a value waits");
    transaction.set_status(SpanStatus::Aborted).set_http_status(503).set_tag("text", "9 bytes..");
    transaction.set_measurement("size", 3.0, "byte");
    drop(transaction);
    let (rest, attributes) = session.published();
    records.extend(rest);
    assert_eq!(records.last().unwrap().lost as usize, gone);
    let kinds: Vec<_> = attributes.iter().map(|(header, _)| header.kind).collect();
    assert_eq!(kinds, [Kind::Status, Kind::HttpStatus, Kind::Tag, Kind::Measurement]);
    let payloads: Vec<_> = attributes.iter().map(|(_, bytes)| &bytes[..]).collect();
    let unit = names::intern("byte").0.to_le_bytes();
    let measured = [&3.0_f64.to_le_bytes()[..], &unit].concat();
    let status = [SpanStatus::Aborted as u8];
    assert_eq!(payloads, [&status[..], &503_u64.to_le_bytes(), b"9 bytes..", &measured]);
}

#[test]
fn outcomes_find_room_wherever_in_the_ring_they_are_noted() {
    let session = Session::recording();
    warm();
    session.published();
    // Past the ends of chunks, at which the short way ends.
    for n in 0..3_000 {
        let mut transaction = start_transaction("op", "t");
        transaction.set_status(SpanStatus::Aborted);
        for _ in 0..n % 4 {
            start_child("op", "child").set_data("n", n).set_status(SpanStatus::NotFound);
        }
        drop(transaction);
        let (records, attributes) = session.published();
        assert_eq!(records.last().unwrap().kind, Kind::Root);
        assert_eq!(attributes[0].1, [SpanStatus::Aborted as u8]);
        assert_eq!((records.len(), attributes.len()), (n % 4 + 1, n % 4 * 2 + 1));
    }
}

#[test]
fn what_failed_is_kept_wherever_in_the_ring_that_is_noted() {
    let rule =
        Rule { rate: Some(0.0), keep: Keep { failed: true, ..Keep::default() }, ..Rule::default() };
    let session = Ruled::new(vec![rule]);
    for n in 0..3_000 {
        let mut transaction = start_transaction("op", "t");
        // So that each place comes up.
        for _ in 0..n % 4 {
            start_child("op", "child").finish();
        }
        transaction.set_status(SpanStatus::Aborted);
        drop(transaction);
        let (records, attributes) = session.0.published();
        assert_eq!((records.len(), attributes.len()), (n % 4 + 1, 1), "{n}");
    }
}

/// A text that is turned away, and counts how often it was looked up.
#[derive(Default)]
struct TurnedAway(Cell<u32>);

impl ToName for TurnedAway {
    fn id(&self) -> Number {
        self.0.set(self.0.get() + 1);
        Number(NameId::INLINE)
    }

    fn known(&self) -> Number {
        self.id()
    }

    fn is_settled(known: Number) -> bool {
        known.0 != NameId::INLINE
    }

    fn text(&self) -> &str {
        "turned away"
    }
}

#[test]
fn what_is_turned_away_is_looked_up_once_for_each_use() {
    let session = Session::recording();
    warm();
    session.published();
    let [root_op, root_name, op, description, key]: [TurnedAway; 5] = Default::default();
    let mut transaction = start_transaction(&root_op, &root_name);
    drop(start_child(&op, &description));
    transaction.step("op", &description);
    transaction.set_data(&key, 1).set_tag(&key, "x");
    drop(transaction);
    let counts = [&root_op, &root_name, &op, &description, &key].map(|name| name.0.get());
    assert_eq!(counts, [1, 1, 1, 2, 2]);
    let inline = session.published().1.into_iter();
    let kinds: Vec<_> = inline.map(|(header, _)| header.kind).collect();
    let texts = [Kind::Op, Kind::Description];
    assert_eq!(kinds, [&texts[..], &texts, &[Kind::Description, Kind::Data, Kind::Tag]].concat());
}

#[test]
fn names_too_long_for_the_table_travel_along_wherever_they_may_stand() {
    let session = Session::recording();
    warm();
    session.published();
    let long = "n".repeat(1100);
    let mut transaction = start_transaction("op", "t");
    start_child(&*long, Cow::Borrowed(&*long)).set_data(Cow::Borrowed(&*long), 1);
    transaction.set_tag(long.clone(), 2).set_measurement(&*long, 3.0, "byte");
    drop(transaction);
    let mut kinds = Vec::new();
    for (header, bytes) in session.published().1 {
        assert_eq!(header.name, NameId::INLINE, "{:?}", header.kind);
        assert!(String::from_utf8_lossy(&bytes).contains("nnnn"), "{:?}", header.kind);
        kinds.push(header.kind);
    }
    let of_child = [Kind::Op, Kind::Description, Kind::Data];
    assert_eq!(kinds, [&of_child[..], &[Kind::Tag, Kind::Measurement]].concat());
}
