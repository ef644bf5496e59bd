use std::time::Duration;

use super::*;
use crate::flush::encode::fixture::Run;
use crate::shared::clock::Anchor;
use crate::shared::id::WireIds;

const WIRE: WireIds = WireIds { seed: [1, 2, 3, 4] };
const ANCHOR: Anchor = Anchor { ticks: 0, unix_nanos: 1_000, nanos_per_4g_ticks: 1 << 32 };

fn read(run: &[Slot]) -> TransactionEvent {
    TransactionEvent::of(run, &WIRE, &ANCHOR).unwrap()
}

fn edited(run: &Run, edit: impl FnOnce(&mut TransactionEvent)) -> Rewritten {
    let before = read(&run.slots);
    let mut after = before.clone();
    edit(&mut after);
    rewrite(&run.slots, &before, &after, &Removed::default()).unwrap()
}

fn kinds(run: &[Slot]) -> Vec<Kind> {
    items(run).filter_map(|item| Kind::of(item[0][0])).collect()
}

#[test]
fn an_event_says_what_was_recorded() {
    let run = Run::new(1)
        .tag(1, "queue", "eu")
        .data(1, "rows", 3)
        .measurement(1, "size", 2.5, "byte")
        .tag(2, "key", "value")
        .child(2, 1, "db", "load", (1_000, 3_000))
        .root("queue.process", "orders", (0, 5_000));
    let event = read(&run.slots);
    assert_eq!((&*event.name, &*event.op, event.status), ("orders", "queue.process", None));
    assert_eq!((&*event.tags["queue"], &event.data["rows"]), ("eu", &Value::Int(3)));
    assert_eq!(event.measurements["size"], Measurement::new(2.5, "byte"));
    assert_eq!(event.duration(), Duration::from_micros(5));
    assert_eq!((event.span_id(), event.trace_id()), (WIRE.span_id(1), WIRE.trace_id(1)));
    assert_eq!((event.event_id(), event.sample_rate()), (WIRE.event_id(1), 1.0));
    assert_eq!((event.parent_span_id(), event.kept(), event.links()), (None, None, &[][..]));
    let span = &event.spans[0];
    assert_eq!((&*span.description, &*span.op, &*span.tags["key"]), ("load", "db", "value"));
    assert_eq!(span.start(), event.start() + Duration::from_micros(1));
    assert_eq!(span.duration(), Duration::from_micros(2));
    assert_eq!((span.span_id(), span.parent_span_id()), (WIRE.span_id(2), Some(WIRE.span_id(1))));
}

#[test]
fn a_status_that_a_hook_sets_beats_a_panic() {
    for flags in [flag::PANICKED, flag::CANCELLED, flag::PANICKED | flag::CANCELLED] {
        let run = Run::new(1).root("a", "b", (0, 1)).edit(|root| root.flags |= flags);
        for status in [Some(SpanStatus::Ok), None] {
            let made = edited(&run, |event| event.status = status);
            assert_eq!(read(&made.run).status, status);
        }
        // What else it changes leaves it as it is.
        let made = edited(&run, |event| event.op.clear());
        assert_eq!(read(&made.run).status, read(&run.slots).status);
    }
}

#[test]
fn an_http_status_stays_whole_until_a_part_of_it_changes() {
    let run = Run::new(1).http_status(1, 404).root("a", "b", (0, 1));
    let made = edited(&run, |event| event.status = Some(SpanStatus::Ok));
    assert_eq!(kinds(&made.run), [Kind::HttpStatus, Kind::Status, Kind::Root]);
    let event = read(&made.run);
    assert_eq!((event.status, &*event.tags[HTTP_STATUS_TAG]), (Some(SpanStatus::Ok), "404"));

    let made = edited(&run, |event| event.status = None);
    assert_eq!(kinds(&made.run), [Kind::Tag, Kind::Data, Kind::Root]);
    let made = edited(&run, |event| drop(event.tags.remove(HTTP_STATUS_TAG)));
    assert_eq!(kinds(&made.run), [Kind::Status, Kind::Data, Kind::Root]);
    let made = edited(&run, |event| drop(event.data.insert(HTTP_STATUS_DATA.to_owned(), 1.into())));
    let event = read(&made.run);
    assert_eq!(event.data[HTTP_STATUS_DATA], 1);
    assert_eq!((event.status, &*event.tags[HTTP_STATUS_TAG]), (Some(SpanStatus::NotFound), "404"));
}

#[test]
fn what_was_set_before_does_not_come_back() {
    for inline in [false, true] {
        let mut run = Run::new(1);
        run.inline = inline;
        let run = run
            .tag(1, "key", "one")
            .tag(1, "key", "two")
            .data(1, "key", "one")
            .text(1, Kind::Description, "one")
            .text(1, Kind::Op, "one")
            .root("zero", "zero", (0, 1));
        let event = read(&run.slots);
        let last = if inline { "zero" } else { "one" };
        assert_eq!((&*event.tags["key"], &*event.name, &*event.op), ("two", last, last));
        let made = edited(&run, |event| {
            drop(event.tags.remove("key"));
            event.name.clear();
            event.op.clear();
        });
        let event = read(&made.run);
        assert_eq!((event.tags.len(), &*event.name, &*event.op), (0, "", ""));
        assert_eq!(event.data["key"], "one", "another section");
        assert_eq!(kinds(&made.run), [Kind::Data, Kind::Root]);
    }
}

/// As the encoder has it: it replaces what was set before, and says nothing.
#[test]
fn what_cannot_be_read_hides_what_was_set_before() {
    let bytes = [0xff];
    let text = Scalar::Text as u8;
    let key = names::intern("key");
    let run = Run::new(1)
        .tag(1, "key", "one")
        .text(1, Kind::Description, "one")
        .raw(1, Kind::Tag, text, key, &bytes)
        .raw(1, Kind::Description, text, NameId::INLINE, &bytes)
        .root("op", "zero", (0, 1));
    let event = read(&run.slots);
    assert_eq!((event.tags.len(), &*event.name), (0, "zero"));
}

#[test]
fn what_a_hook_sets_is_bounded_and_counted() {
    let run = Run::new(1).root("a", "b", (0, 1));
    let long = "é".repeat(600);
    let made = edited(&run, |event| {
        event.name = long.clone();
        event.tags.insert("tag".to_owned(), long.clone());
        event.data.insert("text".to_owned(), long.clone().into());
        event.data.insert("list".to_owned(), vec![1; 129].into());
        event.data.insert("texts".to_owned(), vec![long.clone(); 2].into());
        event.data.insert("k".repeat(201), 1.into());
    });
    assert_eq!(made.cut, 6);
    let event = read(&made.run);
    assert!(event.tags["tag"].ends_with("é..."));
    assert_eq!(event.data["list"], Value::from(vec![1; 128]));
    assert_eq!(event.data["texts"], Value::from(["é".repeat(511)]));
    assert_eq!(event.data[&"k".repeat(200)], 1);
    // As much as fits is not cut.
    let made = edited(&run, |event| {
        event.data.insert("list".to_owned(), vec![1; 128].into());
        event.data.insert("text".to_owned(), "é".repeat(512).into());
    });
    assert_eq!(made.cut, 0);
}

#[test]
fn lists_are_of_one_type_or_of_text() {
    let int = |value: i128| Value::Int(value);
    let huge = Value::Huge(u128::MAX);
    for (list, code, expected) in [
        (vec![], Scalar::Text, vec![]),
        (vec![int(1), int(-1)], Scalar::I64, vec![int(1), int(-1)]),
        (vec![int(1), int(u64::MAX.into())], Scalar::U64, vec![int(1), int(u64::MAX.into())]),
        (vec![int(-1), int(u64::MAX.into())], Scalar::I128, vec![int(-1), int(u64::MAX.into())]),
        (vec![int(1), huge.clone()], Scalar::U128, vec![int(1), huge.clone()]),
        (vec![int(-1), huge.clone()], Scalar::Text, vec!["-1".into(), huge.plain().into()]),
        (vec![true.into(), false.into()], Scalar::Bool, vec![true.into(), false.into()]),
        (vec![0.5.into(), f64::MAX.into()], Scalar::F64, vec![0.5.into(), f64::MAX.into()]),
        (vec![int(1), 0.5.into()], Scalar::Text, vec!["1".into(), "0.5".into()]),
        (
            vec!["a".into(), Value::List(vec![int(1), int(2)])],
            Scalar::Text,
            vec!["a".into(), "1,2".into()],
        ),
    ] {
        let mut bytes = Vec::new();
        assert_eq!(value_payload(&Value::List(list.clone()), &mut bytes), code as u8 | LIST);
        let back = Value::decode(code as u8 | LIST, &bytes);
        assert_eq!(back, Some(Value::List(expected)), "{list:?}");
    }
}

#[test]
fn units_that_are_none_do_not_fill_the_table_of_names() {
    let run = Run::new(1).root("a", "b", (0, 1));
    let unit = "furlongs_a_fortnight";
    let made = edited(&run, |event| {
        event.measurements.insert("speed".to_owned(), Measurement::new(1.0, unit));
        event.measurements.insert("size".to_owned(), Measurement::new(1.0, "byte"));
    });
    let event = read(&made.run);
    assert_eq!(event.measurements["size"].unit, "byte");
    assert_eq!(event.measurements["speed"].unit, "");
}
