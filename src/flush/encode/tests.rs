//! What an envelope holds, case by case, and the golden files.

mod cost;
mod hooks;
mod oracle;
mod property;
mod trace;

use std::path::Path;

use super::fixture::{Run, Value};
use super::{Encoded, Encoder, Invalid, RELAY_ADDS, SPANS_MAX, Site};
use crate::SpanStatus;
use crate::flush::envelope::Parcel;
use crate::shared::clock::Anchor;
use crate::shared::id::{NameId, SpanId, TraceId, WireIds};
use crate::shared::layout::{CUT, Kind, LIST, Scalar, Slot, flag};
use crate::shared::payload::Link;
use crate::shared::traces::Continued;
use oracle::{Header, Item, Oracle, Transaction};

const WIRE: WireIds = WireIds { seed: [1, 2, 3, 4] };
/// A tick is a nanosecond; tick 0 is a moment in November 2023, so that no server takes it for the
/// future.
const ANCHOR: Anchor =
    Anchor { ticks: 0, unix_nanos: 1_700_000_000_123_456_789, nanos_per_4g_ticks: 1 << 32 };

fn site() -> Site {
    let some = |text: &str| Some(text.to_owned());
    Site {
        release: some("shop@1.2.3"),
        environment: some("production"),
        dist: some("42"),
        server_name: some("worker-1"),
        public_key: some("0123456789abcdef0123456789abcdef"),
        org_id: some("77"),
        sdk_name: "hotspan",
        sdk_version: "0.1.0",
        max_spans: 1000,
        runtime_version: some("1.88.0"),
        os_name: some("Linux"),
        os_version: some("6.1.0-1-amd64"),
    }
}

fn encode_with(site: Site, run: &[Slot]) -> (Parcel, Encoded) {
    Encoder::new(site).transaction(run, &WIRE, &ANCHOR, Vec::new()).unwrap()
}

fn encode(run: &[Slot]) -> (Parcel, Encoded) {
    encode_with(site(), run)
}

/// Envelope header, item header and payload, by the grammar alone: lines, and the item's `length`.
fn parse(bytes: &[u8]) -> (Header, Item, Transaction) {
    fn json<T: for<'de> serde::Deserialize<'de>>(bytes: &[u8]) -> T {
        let mut bytes = bytes.to_vec();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        simd_json::serde::from_slice(&mut bytes).unwrap_or_else(|error| panic!("{error} in {text}"))
    }
    let line = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let (header, rest) = bytes.split_at(line(bytes));
    let (item, rest) = rest[1..].split_at(line(&rest[1..]));
    let item: Item = json(item);
    let (payload, end) = rest[1..].split_at(item.length);
    assert_eq!(end, b"\n", "nothing behind the payload but the line's end");
    assert!(!payload.contains(&b'\n'));
    (json(header), item, json(payload))
}

/// Encodes and compares everything with the oracle.
fn check(
    site: &Site,
    encoder: &mut Encoder,
    run: &[Slot],
    buffer: Vec<u8>,
) -> (Transaction, Parcel, Encoded) {
    let (parcel, encoded) = encoder.transaction(run, &WIRE, &ANCHOR, buffer).unwrap();
    let (header, item, transaction) = parse(&parcel.bytes);
    let mut oracle = Oracle { site, wire: &WIRE, anchor: &ANCHOR, cut: 0, dropped: 0 };
    let (header_expected, expected, over) = oracle.transaction(run);
    assert_eq!(header, header_expected);
    assert_eq!(item.r#type, "transaction");
    assert_eq!(transaction, expected);
    assert_eq!(
        encoded,
        Encoded {
            children_kept: expected.spans.len() as u64,
            children_over_limit: over,
            children_unfit: 0,
            cut: oracle.cut,
            dropped: oracle.dropped,
        }
    );
    assert_eq!(parcel.count, crate::Count { transactions: 1, spans: 1 + encoded.children_kept });
    let sent_at = &parcel.bytes[parcel.sent_at.clone()];
    assert_eq!(sent_at, crate::flush::envelope::SENT_AT_BLANK.as_bytes());
    (transaction, parcel, encoded)
}

fn checked(run: &Run) -> (Transaction, Parcel, Encoded) {
    check(&site(), &mut Encoder::new(site()), &run.slots, Vec::new())
}

// -------------------------------------------------------------------------------------------------
// The golden files

/// The item of the README.
fn plain_item() -> Run {
    Run::new(1)
        .tag(1, "queue", "orders")
        .child(2, 1, "file.read", "orders/17.json", (2_000, 150_000))
        .child(3, 1, "parse", "", (151_000, 400_000))
        .data(4, "http.foobarsessionid", "c0ffee")
        .tag(4, "http.status_code", 200)
        .child(5, 4, "db", "SELECT 1", (500_000, 600_000))
        .child(4, 1, "http", "GET /", (450_000, 1_900_000))
        .data(1, "messaging.message.id", "17")
        .status(1, SpanStatus::Ok)
        .root("queue.process", "process order", (0, 2_000_000))
}

fn all_types() -> Run {
    let list = |scalar: Scalar, items: Vec<Value>| Value::List(scalar as u8, items);
    let mut run = Run::new(1 << 52 | 1);
    let (root, child) = (run.root, run.root + 1);
    for span in [root, child] {
        run = run
            .data(span, "bool", Value::Bool(true))
            .data(span, "i64", i64::MIN)
            .data(span, "u64", Value::U64(u64::MAX))
            .data(span, "f64", Value::F64(0.1))
            .data(span, "f64.whole", Value::F64(3.0))
            .data(span, "nan", Value::F64(f64::NAN))
            .data(span, "infinity", Value::F64(f64::NEG_INFINITY))
            .data(span, "i128.fits", Value::I128(-5))
            .data(span, "i128", Value::I128(i128::MIN))
            .data(span, "u128.fits", Value::U128(u128::from(u64::MAX)))
            .data(span, "u128", Value::U128(u128::MAX))
            .data(span, "text", "plain")
            .data(
                span,
                "list.bool",
                list(Scalar::Bool, vec![Value::Bool(true), Value::Bool(false)]),
            )
            .data(span, "list.i64", list(Scalar::I64, vec![1.into(), (-2).into()]))
            .data(span, "list.f64", list(Scalar::F64, vec![Value::F64(0.5), Value::F64(2.0)]))
            .data(span, "list.text", list(Scalar::Text, vec!["a".into(), "".into(), "c d".into()]))
            .data(span, "list.empty", list(Scalar::U64, vec![]))
            .tag(span, "tag.bool", Value::Bool(false))
            .tag(span, "tag.i64", -7)
            .tag(span, "tag.f64", Value::F64(1.5))
            .tag(span, "tag.u128", Value::U128(u128::MAX))
            .tag(span, "tag.list", list(Scalar::Text, vec!["".into(), "a".into(), "b".into()]))
            .measurement(span, "bytes", 4096.0, "byte")
            .measurement(span, "share", 0.25, "ratio")
            .measurement(span, "plain", 1.0, "");
    }
    run.child(child, root, "work", "all types", (10_000, 20_000)).root(
        "types",
        "all types",
        (0, 30_000),
    )
}

fn errors_and_http() -> Run {
    let mut run = Run::new(1).http_status(1, 503);
    for (index, code) in
        [200, 302, 400, 401, 403, 404, 409, 413, 429, 499, 500, 501, 504].into_iter().enumerate()
    {
        let key = index as u64 + 2;
        run = run.http_status(key, code);
        run = run.child(key, 1, "http.client", "GET /status", (1_000, 2_000));
    }
    for code in 0..=16 {
        run = run.status(20 + code, SpanStatus::from_code(u8::try_from(code).unwrap()).unwrap());
        run = run.child(20 + code, 1, "step", "each status", (3_000, 4_000));
    }
    run.status(40, SpanStatus::Ok)
        .child(40, 1, "step", "panicked", (5_000, 6_000))
        .edit(|record| record.flags |= flag::PANICKED)
        // The end before the start, and a parent whose record was lost.
        .child(41, 1234, "step", "clock went back", (9_000, 8_000))
        .root("queue.process", "failing", (0, 10_000))
        .edit(|record| {
            record.lost = 3;
            record.unfinished = 2;
            record.threshold = 250_000;
        })
}

fn unicode_and_escapes() -> Run {
    let text = "quote \" backslash \\ nul \0 bell \u{7} tab \t line \n return \r \
                ls \u{2028} ps \u{2029} é 漢 \u{1f980} \u{10ffff}";
    Run::new(1)
        .tag(1, "tag with spaces", text)
        .tag(2, "t", text)
        .data(1, text, text)
        .data(2, "d", text)
        .child(2, 1, "opé \"x\"", text, (1_000, 2_000))
        .root("op\t\\", text, (0, 3_000))
}

fn limits() -> Run {
    let long = "é".repeat(1500);
    let mut run = Run::new(1)
        .tag(1, "bad key!", "dropped")
        .tag(1, "empty", "  ")
        .tag(1, "release", "dropped")
        .tag(1, "twice", "first")
        .tag(1, "twice", "second")
        .tag(1, &"k".repeat(201), "dropped")
        .tag(1, "long", long.as_str())
        .data(1, "long", long.as_str())
        .data(99_999, "nobody's", 1)
        .measurement(1, "bad name", 1.0, "byte")
        .measurement(1, "nan", f64::NAN, "byte")
        .measurement(1, "odd_unit", 1.0, "per square foot");
    for index in 0..12 {
        run = run.measurement(1, &format!("m{index}"), 1.0, "none");
    }
    for key in 2..1010 {
        run = run.child(key, 1, "step", "one of many", (key * 1_000, key * 1_000 + 500));
    }
    run.child(1010, 1, "o", "beyond the limit", (0, 1)).root(
        &long[..1024],
        &long[..1024],
        (0, 2_000_000),
    )
}

#[test]
fn golden_envelopes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (name, run) in [
        ("plain_item", plain_item()),
        ("all_types", all_types()),
        ("errors_and_http", errors_and_http()),
        ("unicode_and_escapes", unicode_and_escapes()),
        ("limits", limits()),
        ("continued", trace::continued_item()),
        ("continued_own_decision", trace::own_decision()),
        ("continued_without_context", trace::without_context()),
        ("links", trace::linked_item()),
    ] {
        // The mirror has no say about which measurements are one too many.
        let parcel = if name == "limits" { encode(&run.slots).0 } else { checked(&run).1 };
        let path = folder.join(name).with_extension("envelope");
        if update {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &parcel.bytes).unwrap();
        }
        let expected = std::fs::read(&path).unwrap();
        assert!(
            expected == parcel.bytes,
            "{name} differs from its golden file: look at it with UPDATE_GOLDEN=1 and git diff\n{}",
            String::from_utf8_lossy(&parcel.bytes)
        );
    }
}

// -------------------------------------------------------------------------------------------------
// One by one

#[test]
fn what_is_beyond_a_limit_is_counted() {
    let (parcel, encoded) = encode(&limits().slots);
    let (_, _, transaction) = parse(&parcel.bytes);
    assert_eq!(transaction.spans.len(), 1000);
    assert_eq!(transaction.contexts.trace.data.0["hotspan.over_limit"], 9);
    assert_eq!(encoded.children_over_limit, 9);
    assert_eq!(transaction.measurements.0.len(), 10);
    assert_eq!(transaction.tags.0.len(), 2);
    assert_eq!(transaction.tags.0["twice"], "second");
    assert_eq!(transaction.tags.0["long"], "é".repeat(197) + "...");
    assert_eq!(transaction.transaction, "é".repeat(197) + "...");
    assert_eq!(transaction.contexts.trace.op.unwrap(), "é".repeat(125) + "...");
    // Tags: three bad ones and a reserved one; one orphan; a bad name, a NaN, and of 13 others
    // three.
    assert_eq!(encoded.dropped, 4 + 1 + 2 + 3);
    // The name, the op, the odd unit; the long values were cut, and counted, when they were
    // recorded.
    assert_eq!(encoded.cut, 3);
}

#[test]
fn a_run_without_a_root_or_with_two_is_refused_with_its_buffer() {
    let mut encoder = Encoder::new(site());
    let none = Run::new(1).tag(1, "a", "b").child(2, 1, "a", "b", (0, 1));
    let (buffer, invalid) =
        encoder.transaction(&none.slots, &WIRE, &ANCHOR, Vec::with_capacity(123)).unwrap_err();
    assert_eq!((buffer.capacity(), invalid), (123, Invalid::NoRoot));
    let two = Run::new(1).root("a", "b", (0, 1)).root("a", "b", (0, 1));
    let (_, invalid) = encoder.transaction(&two.slots, &WIRE, &ANCHOR, Vec::new()).unwrap_err();
    assert_eq!(invalid, Invalid::TwoRoots);
    assert!(encoder.transaction(&[], &WIRE, &ANCHOR, Vec::new()).is_err());
    // And it goes on.
    check(&site(), &mut encoder, &plain_item().slots, Vec::new());
}

#[test]
fn children_whose_keys_clash_are_counted_as_unfit() {
    let run = Run::new(1)
        .child(2, 1, "a", "first", (0, 1))
        .child(2, 1, "a", "second", (0, 1))
        .child(1, 1, "a", "the root's key", (0, 1))
        .child(0, 1, "a", "no key", (0, 1))
        .root("a", "b", (0, 1));
    let (parcel, encoded) = encode(&run.slots);
    assert_eq!((encoded.children_kept, encoded.children_unfit), (1, 3));
    assert_eq!(parse(&parcel.bytes).2.spans[0].description.as_deref(), Some("first"));
}

#[test]
fn payloads_that_are_not_what_they_say_are_dropped_and_counted() {
    let text = Scalar::Text as u8;
    let bad: &[(Kind, u8, &[u8])] = &[
        (Kind::Data, text, b"\xff\xfe"),
        (Kind::Tag, text, b"\xff\xfe"),
        // Cut or not: only what is missing at the end is forgiven.
        (Kind::Data, text | CUT, b"\xffabc"),
        (Kind::Data, 99, b"x"),
        (Kind::Data, Scalar::I64 as u8, b"short"),
        (Kind::Data, Scalar::I64 as u8, b"nine byte"),
        (Kind::Data, Scalar::Bool as u8, b"\x02"),
        (Kind::Data, Scalar::Bool as u8, b""),
        (Kind::Data, Scalar::I64 as u8 | LIST, b"nine byte"),
        (Kind::Data, text | LIST, b"\xff\x00abc"),
        (Kind::Data, text | LIST, b"\x01"),
        (Kind::Tag, text | LIST, b"\x01\x00\xff"),
        (Kind::Tag, Scalar::U128 as u8, b"short"),
        (Kind::Measurement, Scalar::F64 as u8, b"short"),
        (Kind::Status, 0, b"\x11"),
        (Kind::Status, 0, b""),
        (Kind::HttpStatus, 0, b"\x00"),
        (Kind::HttpStatus, 0, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
        (Kind::Op, text, b"\xff"),
        (Kind::Description, 0, b"no text"),
    ];
    for (kind, code, payload) in bad {
        let name = match kind {
            Kind::Op | Kind::Description => NameId::INLINE,
            _ => crate::shared::names::intern("name"),
        };
        for span in [1, 2] {
            let run = Run::new(1)
                .raw(span, *kind, *code, name, payload)
                .child(2, 1, "op", "description", (0, 1))
                .root("op", "name", (0, 1));
            let (parcel, encoded) = encode(&run.slots);
            assert_eq!(encoded.dropped, 1, "{kind:?} {code} {payload:?} on {span}");
            let (_, _, transaction) = parse(&parcel.bytes);
            let (plain, _) = encode(
                &Run::new(1)
                    .child(2, 1, "op", "description", (0, 1))
                    .root("op", "name", (0, 1))
                    .slots,
            );
            assert_eq!(transaction, parse(&plain.bytes).2);
        }
    }
    // A name that is not in the table, a kind that is none, an attribute whose slots are not all
    // there.
    let mut run = Run::new(1)
        .raw(1, Kind::Data, Scalar::Bool as u8, NameId(u32::MAX - 1), &[1])
        .root("op", "name", (0, 1));
    run.slots.push([77; 8]);
    run = run.data(1, "cut off", "x".repeat(100).as_str());
    run.slots.pop();
    assert_eq!(encode(&run.slots).1.dropped, 3);
}

#[test]
fn a_text_cut_inside_a_character_keeps_what_is_whole() {
    let payload = [&b"abc"[..], &"é".as_bytes()[..1]].concat();
    let code = Scalar::Text as u8 | CUT;
    let key = crate::shared::names::intern("key");
    let run = Run::new(1)
        .raw(1, Kind::Data, code, key, &payload)
        .raw(1, Kind::Tag, code, key, &payload)
        .root("op", "name", (0, 1));
    let (parcel, encoded) = encode(&run.slots);
    let (_, _, transaction) = parse(&parcel.bytes);
    assert_eq!(transaction.contexts.trace.data.0["key"], "abc...");
    assert_eq!(transaction.tags.0["key"], "abc...");
    assert_eq!((encoded.cut, encoded.dropped), (0, 0), "counted where it was cut");
}

/// Two spellings of one tag key, an explicit status tag against the one of `set_http_status`, and
/// many keys, which are compared by sorting.
#[test]
fn no_key_stands_twice() {
    let mut run = Run::new(1)
        .tag(1, "a b", "first")
        .tag(1, "a-b", "second")
        .tag(1, "http.status_code", "mine")
        .http_status(1, 404)
        .data(1, "hotspan.lost", "mine");
    for round in 0..3 {
        for index in 0..40 {
            run = run.data(1, &format!("key {index}"), round);
            run = run.tag(1, &format!("key {index}"), round);
        }
    }
    let run = run.root("op", "name", (0, 1)).edit(|root| root.lost = 7);
    let (transaction, ..) = checked(&run);
    assert_eq!(transaction.tags.0["a-b"], "second");
    assert_eq!(transaction.tags.0["http.status_code"], "404");
    assert_eq!(transaction.tags.0["key-39"], "2");
    assert_eq!(transaction.contexts.trace.data.0["hotspan.lost"], 7);
    assert_eq!(transaction.contexts.response.unwrap().0["status_code"], 404);
}

#[test]
fn spans_stop_before_the_server_would_cut_them() {
    let mut run = Run::new(1);
    for key in 2..=1000 {
        run = run.data(key, "text", "x".repeat(1000).as_str());
        // Every child but one hangs below the last, which finds no room.
        run = run.child(key, 1000, "op", "big", (0, 1));
    }
    let run = run.root("op", "name", (0, 1));
    let (parcel, encoded) = encode(&run.slots);
    let (_, item, transaction) = parse(&parcel.bytes);
    assert_eq!(encoded.children_kept + encoded.children_over_limit, 999);
    assert!((500..800).contains(&encoded.children_kept), "{encoded:?}");
    // Each child is charged what Relay adds to it; one more would have been one too many.
    let each = item.length / transaction.spans.len() + RELAY_ADDS;
    let charged = each * transaction.spans.len();
    assert!((SPANS_MAX - 2 * each..SPANS_MAX + each).contains(&charged), "{charged}");
    assert_eq!(
        transaction.contexts.trace.data.0["hotspan.over_limit"],
        encoded.children_over_limit
    );
    let root = transaction.contexts.trace.span_id;
    assert!(transaction.spans.iter().all(|span| span.parent_span_id == root));
}

#[test]
fn a_root_with_far_too_much_on_it_still_fits() {
    let mut run = Run::new(1);
    for index in 0..2000 {
        run = run.data(1, &format!("key{index}"), "\u{1}".repeat(1000).as_str());
        run = run.tag(1, &format!("key{index}"), "\u{1}".repeat(200).as_str());
    }
    for key in 2..=1000 {
        run = run.data(key, "text", "x".repeat(1000).as_str()).child(key, 1, "op", "big", (0, 1));
    }
    let run = run.root("op", &"\u{1}".repeat(200), (0, 1));
    let (parcel, encoded) = encode(&run.slots);
    assert!(parse(&parcel.bytes).1.length < 1024 * 1024);
    assert!(encoded.dropped > 3000);
}

#[test]
fn ten_measurements_are_shared_by_a_root_and_its_children_root_first() {
    let mut run = Run::new(1);
    for index in 0..4 {
        run = run.measurement(2, &format!("m{index}"), 1.0, "");
        run = run.measurement(3, &format!("m{index}"), 1.0, "");
        run = run.measurement(1, &format!("m{index}"), 1.0, "");
    }
    let run = run.child(2, 1, "op", "first", (0, 1)).child(3, 1, "op", "second", (0, 1)).root(
        "op",
        "name",
        (0, 1),
    );
    let (parcel, encoded) = encode(&run.slots);
    let (.., transaction) = parse(&parcel.bytes);
    assert_eq!(transaction.measurements.0.len(), 4);
    assert_eq!(transaction.spans[0].measurements.0.len(), 4);
    assert_eq!(transaction.spans[1].measurements.0.len(), 2);
    assert_eq!(encoded.dropped, 2);
}

#[test]
fn without_a_dsn_there_is_no_trace_header() {
    let site = Site { public_key: None, ..site() };
    let (parcel, _) = encode_with(site, &plain_item().slots);
    assert_eq!(parse(&parcel.bytes).0.trace, None);
}

#[test]
fn a_site_with_texts_that_relay_refuses_leaves_them_out() {
    let some = |text: &str| Some(text.to_owned());
    for release in ["a/b", "a\\b", "a\nb", ".", "..", "latest", "", &"x".repeat(201)] {
        let site = Site { release: some(release), ..site() };
        assert_eq!(parse(&encode_with(site, &plain_item().slots).0.bytes).2.release, None);
    }
    let site = Site {
        release: some("a/b"),
        environment: some("None"),
        dist: some("1"),
        server_name: some(" "),
        os_version: some(""),
        ..site()
    };
    let (parcel, _) = encode_with(site, &plain_item().slots);
    let (header, _, transaction) = parse(&parcel.bytes);
    assert!(!header.trace.unwrap().0.contains_key("release"));
    assert_eq!(transaction.release, None);
    assert_eq!(transaction.environment, None);
    assert_eq!(transaction.dist, None);
    assert_eq!(transaction.server_name, None);
}

#[test]
fn a_site_does_not_show_its_key() {
    assert!(!format!("{:?}", site()).contains("0123456789abcdef"));
}

#[test]
fn explicit_times_are_unix_nanoseconds_and_early_ones_have_no_leading_zeros() {
    let run = Run::new(1)
        .child(2, 1, "a", "b", (5_000_000_000, 7_000_001_999))
        .edit(|record| record.flags |= flag::START_UNIX | flag::END_UNIX)
        .root("a", "b", (u64::MAX, u64::MAX));
    let (parcel, _) = encode(&run.slots);
    let (_, _, transaction) = parse(&parcel.bytes);
    assert_eq!(transaction.spans[0].start_timestamp, 5.0);
    assert_eq!(transaction.spans[0].timestamp, 7.000001);
    assert_eq!(transaction.timestamp, 9999999999.999999);
}

/// The name table may be full: then nothing is cached, and everything travels inline.
#[test]
fn inline_names_give_the_same_envelope() {
    let item = |inline| {
        let mut run = Run::new(1);
        run.inline = inline;
        run.tag(1, "queue", "orders")
            .data(2, "size", 3)
            .measurement(2, "m", 1.0, "byte")
            .child(2, 1, "op", "description", (1, 2))
            .root("queue.process", "name", (0, 3))
    };
    assert_eq!(checked(&item(true)).1.bytes, checked(&item(false)).1.bytes);
}

/// 200,000 children, each below the one before: nothing here recurses.
#[test]
fn depth_costs_no_stack() {
    let mut run = Run::new(1);
    for key in 2..200_000 {
        run = run.child(key, key - 1, "op", "deep", (0, 1));
    }
    let run = run.root("op", "name", (0, 1));
    let site = Site { max_spans: usize::MAX, ..site() };
    let thread = std::thread::Builder::new().stack_size(512 * 1024);
    let encoded = thread.spawn(move || encode_with(site, &run.slots).1).unwrap().join().unwrap();
    assert!(encoded.children_kept > 1000 && encoded.children_over_limit > 100_000);
}
