//! Whatever is recorded, the bytes parse and say what the oracle says.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~]{0,30}",
        3 => vec(any::<char>(), 0..40).prop_map(String::from_iter),
        2 => vec(prop_oneof![
            Just('"'), Just('\\'), Just('\n'), Just('\r'), Just('\u{2028}'), Just('\u{2029}'),
            Just('\0'), Just('\u{1f}'), Just('\u{7f}'), Just('\u{e2}'), Just('\u{2020}'),
            Just('x'), Just(' '),
            Just('\u{feff}'), Just('\u{1f980}'), Just('\u{85}'),
        ], 0..30).prop_map(String::from_iter),
        1 => ("[a-z é漢\u{1f980}\n]", 190..1300usize).prop_map(|(one, count)| one.repeat(count)),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-cA-C][a-c_. -]{0,3}",
        1 => Just("http.status_code".to_owned()),
        1 => Just("server_name".to_owned()),
        1 => text().prop_map(|text| {
            let mut text = text;
            while text.len() > 1024 {
                text.pop();
            }
            text
        }),
    ]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), any::<i32>().prop_map(f64::from), Just(f64::NAN), Just(-0.0)]
}

fn scalar(kind: u8) -> BoxedStrategy<Value> {
    match kind {
        1 => any::<bool>().prop_map(Value::Bool).boxed(),
        2 => any::<i64>().prop_map(Value::I64).boxed(),
        3 => any::<u64>().prop_map(Value::U64).boxed(),
        4 => number().prop_map(Value::F64).boxed(),
        5 => text().prop_map(Value::Text).boxed(),
        6 => prop_oneof![any::<i128>(), any::<i64>().prop_map(i128::from)]
            .prop_map(Value::I128)
            .boxed(),
        _ => prop_oneof![any::<u128>(), any::<u64>().prop_map(u128::from)]
            .prop_map(Value::U128)
            .boxed(),
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => (1..8u8).prop_flat_map(scalar),
        1 => (1..8u8, 0..6usize).prop_flat_map(|(code, count)| {
            vec(scalar(code), count).prop_map(move |items| Value::List(code, items))
        }),
    ]
}

/// Something set on a span.
#[derive(Clone, Debug)]
enum Set {
    Tag(String, Value),
    Data(String, Value),
    Status(u8),
    Http(u64),
    Description(String),
    Op(String),
}

fn set() -> impl Strategy<Value = Set> {
    prop_oneof![
        4 => (name(), value()).prop_map(|(key, value)| Set::Tag(key, value)),
        4 => (name(), value()).prop_map(|(key, value)| Set::Data(key, value)),
        1 => (0..17u8).prop_map(Set::Status),
        1 => prop_oneof![100..600u64, any::<u64>()].prop_map(Set::Http),
        1 => text().prop_map(Set::Description),
        1 => text().prop_map(Set::Op),
    ]
}

type Child = (u64, String, String, (u64, u64), u8);

fn moment() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..10_000_000_000u64, 1 => any::<u64>().prop_map(|nanos| nanos >> 10)]
}

fn child() -> impl Strategy<Value = Child> {
    (0..12u64, name(), text(), (moment(), moment()), 0..8u8)
}

/// A run in any order: children `2..`, parents that may be missing, attributes of spans that may
/// be.
fn run() -> impl Strategy<Value = Vec<Slot>> {
    let measurements = vec((0..12u64, name(), number(), name()), 0..8);
    let parts = (vec(child(), 0..10), vec((0..12u64, set()), 0..40), measurements);
    let root = (name(), text(), (moment(), moment()), 0..8u8, any::<(u8, u8)>(), 0..1_100_000u32);
    (parts, root, any::<bool>())
        .prop_map(|((children, sets, measurements), root, inline)| {
            let piece = || {
                let mut run = Run::new(1);
                run.inline = inline;
                run
            };
            let mut pieces = Vec::new();
            for (index, (parent, op, description, times, flags)) in children.into_iter().enumerate()
            {
                let run = piece().child(index as u64 + 2, parent, &op, &description, times);
                pieces.push(run.edit(|record| record.flags |= flags).slots);
            }
            for (span, set) in sets {
                let run = piece();
                let run = match set {
                    Set::Tag(key, value) => run.tag(span, &key, value),
                    Set::Data(key, value) => run.data(span, &key, value),
                    Set::Status(code) => run.status(span, SpanStatus::from_code(code).unwrap()),
                    Set::Http(code) => run.http_status(span, code),
                    Set::Description(text) => run.text(span, Kind::Description, &text),
                    Set::Op(text) => run.text(span, Kind::Op, &text),
                };
                pieces.push(run.slots);
            }
            for (span, key, value, unit) in measurements {
                pieces.push(piece().measurement(span, &key, value, &unit).slots);
            }
            let (op, name, times, flags, (lost, unfinished), threshold) = root;
            let run = piece().root(&op, &name, times).edit(|record| {
                record.flags |= flags;
                record.lost = lost.into();
                record.unfinished = unfinished.into();
                record.threshold = threshold;
            });
            pieces.push(run.slots);
            pieces
        })
        .prop_shuffle()
        .prop_map(|pieces| pieces.concat())
}

#[test]
fn any_run_encodes_to_what_the_oracle_says() {
    // One encoder for all, so that what it keeps between transactions is put to the test too.
    let site = Site { max_spans: 7, ..site() };
    let encoder = RefCell::new((Encoder::new(site.clone()), Vec::new()));
    let config = Config { failure_persistence: None, cases: 512, ..Config::default() };
    TestRunner::new(config)
        .run(&run(), |run| {
            let (encoder, buffer) = &mut *encoder.borrow_mut();
            let (_, parcel, _) = check(&site, encoder, &run, std::mem::take(buffer));
            *buffer = parcel.bytes;
            Ok(())
        })
        .unwrap();
}

/// Slots of any bits: the bytes parse, the keys are unique, and nothing is lost uncounted.
#[test]
fn any_bits_encode_to_something_that_parses() {
    let slot = (0..12u8, 0..16u8, 0..200u16, 0..20u32, 0..6u64, any::<[u64; 5]>()).prop_map(
        |(kind, code, len, name, key, rest)| {
            let name = if name == 19 { u32::MAX } else { name };
            let code = code & 7 | (code & 8) << 3;
            let header = u64::from(kind)
                | u64::from(code) << 8
                | u64::from(len) << 16
                | u64::from(name) << 32;
            let [a, b, c, d, e] = rest;
            [header, key, 1, a, b, c, d, e]
        },
    );
    for index in 0..20 {
        crate::shared::names::intern(&format!("name{index}"));
    }
    let encoder = RefCell::new(Encoder::new(site()));
    let config = Config { failure_persistence: None, cases: 1024, ..Config::default() };
    TestRunner::new(config)
        .run(&vec(slot, 0..60), |run| {
            let result = encoder.borrow_mut().transaction(&run, &WIRE, &ANCHOR, Vec::new());
            if let Ok((parcel, encoded)) = result {
                let (.., transaction) = parse(&parcel.bytes);
                prop_assert_eq!(transaction.spans.len() as u64, encoded.children_kept);
            }
            Ok(())
        })
        .unwrap();
}
