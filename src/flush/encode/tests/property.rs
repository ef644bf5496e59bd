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
    Link(Link, &'static str),
}

fn set() -> impl Strategy<Value = Set> {
    prop_oneof![
        4 => (name(), value()).prop_map(|(key, value)| Set::Tag(key, value)),
        4 => (name(), value()).prop_map(|(key, value)| Set::Data(key, value)),
        1 => (0..17u8).prop_map(Set::Status),
        1 => prop_oneof![100..600u64, any::<u64>()].prop_map(Set::Http),
        1 => text().prop_map(Set::Description),
        1 => text().prop_map(Set::Op),
        2 => (link(), prop_oneof![Just(""), Just("previous_trace")])
            .prop_map(|(link, of_type)| Set::Link(link, of_type)),
    ]
}

/// Ids that are none, too.
fn link() -> impl Strategy<Value = Link> {
    let ids = (
        prop_oneof![9 => any::<u128>(), 1 => Just(0)],
        prop_oneof![9 => any::<u64>(), 1 => Just(0)],
    );
    (ids, any::<Option<bool>>()).prop_map(|((trace, span), sampled)| Link {
        trace: TraceId(trace),
        span: SpanId(span),
        sampled,
    })
}

/// What may come in a `baggage` header, from anybody.
fn members() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        4 => "(public_key|sample_rate|sampled|sample_rand|trace_id|release|transaction)",
        2 => "[a-c]{0,2}",
        1 => "[ -~]{0,6}",
        1 => "(%[0-9a-fA-F]{2}|%|é){0,3}",
    ];
    let value = prop_oneof![
        2 => "[0-9.]{0,6}",
        1 => "(true|false)",
        2 => "(%[0-7][0-9a-fA-F]|[a-zA-Z]){0,12}",
        1 => "(%[0-9a-fA-F]{2}|%|%[g-z]|é|;a=b){0,4}",
        1 => "[ -~]{0,8}",
    ];
    let prefix = prop_oneof![9 => Just("sentry-"), 1 => Just(""), 1 => Just(" sentry-")];
    let member =
        (prefix, key, value).prop_map(|(prefix, key, value)| format!("{prefix}{key}={value}"));
    vec(member, 0..8).prop_map(|members| members.join(","))
}

/// What a root says of its trace.
#[derive(Clone, Debug)]
enum OfTrace {
    Continues(Link, u32),
    Dsc(String),
    Frozen(String),
}

fn of_trace() -> impl Strategy<Value = OfTrace> {
    prop_oneof![
        3 => (link(), 0..16u32).prop_map(|(link, flags)| OfTrace::Continues(link, flags)),
        4 => members().prop_map(OfTrace::Dsc),
        2 => prop_oneof![text(), "[a-z]{0,3}"].prop_map(OfTrace::Frozen),
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
pub(super) fn run() -> impl Strategy<Value = Vec<Slot>> {
    let measurements = vec((0..12u64, name(), number(), name()), 0..8);
    let parts = (vec(child(), 0..10), vec((0..12u64, set()), 0..40), measurements);
    let decision = (0..1u32 << 20, prop_oneof![Just(0), 0..16u8]);
    let root = (name(), text(), (moment(), moment()), 0..8u8, any::<(u8, u8)>(), decision);
    (parts, root, vec(of_trace(), 0..4), any::<bool>())
        .prop_map(|((children, sets, measurements), root, of_trace, inline)| {
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
                    Set::Link(link, of_type) => run.link(span, &link, of_type),
                };
                pieces.push(run.slots);
            }
            for (span, key, value, unit) in measurements {
                pieces.push(piece().measurement(span, &key, value, &unit).slots);
            }
            for one in of_trace {
                let run = piece();
                let run = match one {
                    OfTrace::Continues(link, flags) => run.continues(&Continued {
                        trace_id: link.trace.0,
                        parent: link.span.0,
                        rand: 0,
                        flags,
                    }),
                    OfTrace::Dsc(members) => run.dsc(&members),
                    OfTrace::Frozen(name) => run.text(1, Kind::Frozen, &name),
                };
                pieces.push(run.slots);
            }
            let (op, name, times, flags, (lost, unfinished), (threshold, why)) = root;
            let run = piece().root(&op, &name, times).edit(|record| {
                record.flags |= flags;
                record.lost = lost.into();
                record.unfinished = unfinished.into();
                (record.threshold, record.why) = (threshold, why);
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
            // What was seen before goes shorter ways, to the same bytes.
            let (first, _) = encode_with(site.clone(), &run);
            prop_assert_eq!(
                String::from_utf8_lossy(&parcel.bytes),
                String::from_utf8_lossy(&first.bytes)
            );
            *buffer = parcel.bytes;
            Ok(())
        })
        .unwrap();
}

/// Slots of any bits: the bytes parse, the keys are unique, and nothing is lost uncounted.
#[test]
fn any_bits_encode_to_something_that_parses() {
    let slot = (0..17u8, 0..16u8, 0..200u16, 0..20u32, 0..6u64, any::<[u64; 5]>()).prop_map(
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
