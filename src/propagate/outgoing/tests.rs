//! What is written, byte by byte; that it is legal whatever is given; that it is read as it was
//! meant.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample;
use proptest::test_runner::Config;

use super::super::{Incoming, Policy};
use super::*;

const TRACE: TraceId = TraceId(0x4c79_f60c_1121_4eb3_8604_f4ae_0781_bfb2);
const SPAN: SpanId = SpanId(0xfa90_fdea_d5f7_4052);

fn outgoing(dsc: Dsc<'_>) -> Outgoing<'_> {
    Outgoing { trace_id: TRACE, span_id: SPAN, sampled: Some(true), dsc, traceparent: false }
}

fn head<'a>(transaction: Option<&'a str>, site: &'a str) -> Dsc<'a> {
    Dsc::Head { rate: Some(250_000), rand: 1, transaction, site }
}

#[test]
fn a_head_writes_all_that_it_knows() {
    let site = site_members(Some("abc"), Some("app@1.0+2"), Some("production"), Some("42"));
    let out = Outgoing { traceparent: true, ..outgoing(head(Some("load orders"), &site)) };
    let headers = TraceHeaders::new(&out);
    let expected = [
        ("sentry-trace", "4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-1"),
        (
            "baggage",
            "sentry-trace_id=4c79f60c11214eb38604f4ae0781bfb2,sentry-sample_rate=0.25,\
             sentry-sampled=true,sentry-sample_rand=0.000001,sentry-public_key=abc,\
             sentry-org_id=42,sentry-environment=production,sentry-release=app%401.0%2B2,\
             sentry-transaction=load%20orders",
        ),
        ("traceparent", "00-4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-01"),
    ];
    assert_eq!(headers.iter().collect::<Vec<_>>(), expected);
    assert_eq!((&headers).into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(headers.sentry_trace(), expected[0].1);
    assert_eq!(headers.baggage(), Some(expected[1].1));
    assert_eq!(headers.traceparent(), Some(expected[2].1));
    let mut http = String::new();
    headers.write_http(&mut http).unwrap();
    assert_eq!(http, expected.map(|(name, value)| format!("{name}: {value}\r\n")).concat());
    let mut merged = String::new();
    headers.merge_baggage("a=1,sentry-release=old", &mut merged).unwrap();
    assert_eq!(merged, format!("a=1,{}", expected[1].1));

    let shown = format!("{headers:?}");
    assert!(shown.contains("fa90fdead5f74052-1") && !shown.contains("abc"), "{shown}");
}

#[test]
fn what_is_not_known_is_not_written() {
    for (release, environment, org_id, expected) in [
        (None, None, None, "sentry-public_key=k"),
        (Some(""), Some(""), Some(""), "sentry-public_key=k"),
        (Some("r"), None, None, "sentry-public_key=k,sentry-release=r"),
        (None, Some("e"), None, "sentry-public_key=k,sentry-environment=e"),
        (None, None, Some("7"), "sentry-public_key=k,sentry-org_id=7"),
    ] {
        assert_eq!(site_members(Some("k"), release, environment, org_id), expected);
        // Without a key a context is of no use to anybody.
        assert_eq!(site_members(None, release, environment, org_id), "");
        assert_eq!(site_members(Some(""), release, environment, org_id), "");
    }
    for dsc in [head(Some("orders"), ""), Dsc::Empty, Dsc::Frozen(b"")] {
        let headers = TraceHeaders::new(&outgoing(dsc));
        assert_eq!(headers.baggage(), None);
        assert_eq!(headers.iter().count(), 1);
        let mut merged = String::new();
        headers.merge_baggage("sentry-a=1,b=2", &mut merged).unwrap();
        assert_eq!(merged, "b=2");
    }
    for name in [None, Some("")] {
        let headers = TraceHeaders::new(&outgoing(head(name, "sentry-public_key=k")));
        assert!(!headers.baggage().unwrap().contains("transaction"));
    }
    let deferred = Outgoing {
        sampled: None,
        traceparent: true,
        ..outgoing(head(None, "sentry-public_key=k"))
    };
    let headers = TraceHeaders::new(&deferred);
    assert_eq!(headers.sentry_trace(), "4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052");
    assert!(headers.traceparent().unwrap().ends_with("-00"));
    assert!(!headers.baggage().unwrap().contains("sampled="));
}

#[test]
fn a_frozen_context_that_no_header_may_hold_is_read_anew() {
    let of = |members: &[u8]| {
        TraceHeaders::new(&outgoing(Dsc::Frozen(members))).baggage().map(str::to_owned)
    };
    assert_eq!(of(b"sentry-a=1,sentry-b=%20").unwrap(), "sentry-a=1,sentry-b=%20");
    assert_eq!(of(b"sentry-a=1\r\nx: y,b=2,\xff=1").unwrap(), "sentry-a=1%0D%0Ax:%20y");
    assert_eq!(of(b"\0\xff"), None);
    let long = vec!["sentry-a=1"; 1000].join(",");
    assert_eq!(of(long.as_bytes()).unwrap(), "sentry-a=1");
}

#[test]
fn too_long_for_a_header_goes_without_its_last_members() {
    // The transaction alone.
    let name = "x".repeat(TRANSACTION_MAX);
    for (name, is_sent) in [(name.clone(), true), (format!("{name}x"), false)] {
        let site = site_members(Some("k"), None, None, None);
        let headers = TraceHeaders::new(&outgoing(head(Some(&name), &site)));
        assert_eq!(headers.baggage().unwrap().contains("transaction"), is_sent);
    }
    let (release, name) = ("é".repeat(600), "é".repeat(1000));
    let site = site_members(Some("k"), Some(&release), None, Some("1"));
    let baggage = TraceHeaders::new(&outgoing(head(Some(&name), &site)));
    let baggage = baggage.baggage().unwrap();
    assert!(baggage.contains("sentry-release=") && !baggage.contains("transaction"), "{baggage}");
    let site = site_members(Some("k"), Some(&"é".repeat(1400)), Some("e"), Some("1"));
    let baggage = TraceHeaders::new(&outgoing(head(Some("short"), &site)));
    let baggage = baggage.baggage().unwrap();
    assert!(baggage.ends_with("sentry-org_id=1,sentry-environment=e"), "{baggage}");
}

/// What must hold for every header that goes out.
fn assert_legal(value: &str) {
    assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{value:?}");
    assert!(value.len() <= 8192 && value.split(',').count() <= 64, "{} bytes", value.len());
    assert_eq!(value.trim(), value);
    assert!(!value.starts_with(',') && !value.ends_with(',') && !value.contains(",,"));
}

fn text() -> impl Strategy<Value = String> {
    let letter = sample::select(vec!["x", " ", "é", "漢", "\u{1f980}", "\n"]);
    prop_oneof![
        4 => "[ -~]{0,30}",
        2 => vec(any::<char>(), 0..40).prop_map(String::from_iter),
        2 => vec(prop_oneof![
            Just(','), Just('='), Just(';'), Just('%'), Just('\r'), Just('\n'), Just('\0'),
            Just('"'), Just('\\'), Just('é'), Just(' '), Just('\u{7f}'), Just('x'),
        ], 0..30).prop_map(String::from_iter),
        1 => (letter, 190..3000_usize).prop_map(|(one, count)| one.repeat(count)),
    ]
}

fn list() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just(b"sentry-".to_vec()),
        Just(b"sentry-trace_id=1".to_vec()),
        Just(b"org_id".to_vec()),
        Just(b"=".to_vec()),
        Just(b",".to_vec()),
        Just(b";".to_vec()),
        Just(b" ".to_vec()),
        Just(b"%20".to_vec()),
        Just(b"%f".to_vec()),
        "[a-z]{1,4}".prop_map(String::into_bytes),
        (b'a'..=b'z', 100..900_usize).prop_map(|(one, count)| [one].repeat(count)),
        vec(any::<u8>(), 0..4),
    ];
    vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn what_a_head_writes_is_legal_and_is_read_as_it_was_meant(
        (id, span) in (1_u128.., 1_u64..),
        sampled: Option<bool>,
        rate in proptest::option::of(0_u32..=1_000_000),
        rand in 0_u32..1_000_000,
        transaction in proptest::option::of(text()),
        (key, release, environment) in ("[a-f0-9]{32}", text(), text()),
        org in proptest::option::of("[0-9]{1,9}"),
        existing in text(),
    ) {
        let site = site_members(Some(&key), Some(&release), Some(&environment), org.as_deref());
        let dsc = Dsc::Head { rate, rand, transaction: transaction.as_deref(), site: &site };
        let (trace_id, span_id) = (TraceId(id), SpanId(span));
        let out = Outgoing { trace_id, span_id, sampled, dsc, traceparent: true };
        let headers = TraceHeaders::new(&out);
        headers.iter().for_each(|(_, value)| assert_legal(value));
        let mut merged = String::new();
        headers.merge_baggage(&existing, &mut merged).unwrap();
        assert_legal(&merged);

        let policy = Policy { org_id: org.as_deref(), strict: true };
        let incoming = Incoming::read(&headers, &policy);
        let trace = *incoming.trace().expect("from the same organisation");
        let read = (trace.trace_id, trace.parent, trace.sampled);
        prop_assert_eq!(read, (trace_id, span_id, sampled));
        prop_assert_eq!((trace.rate, trace.rand), (rate, Some(rand)));
        let baggage = headers.baggage().unwrap();
        let texts = [&*release, &*environment, transaction.as_deref().unwrap_or_default()];
        let is_short = texts.iter().all(|text| text.len() * 3 < 2048);
        for (name, value, is_sent) in [
            ("public_key", &*key, true),
            ("release", &*release, true),
            ("environment", &*environment, true),
            ("transaction", transaction.as_deref().unwrap_or_default(), rate.is_some()),
        ] {
            let read = dsc::members(baggage.as_bytes()).find(|(key, _)| *key == name);
            let read = read.map(|(_, text)| text.into_owned());
            // Of texts that are too long together, some had to go.
            if is_sent && !value.is_empty() && is_short {
                prop_assert_eq!(read.as_deref(), Some(value));
            } else if !is_sent {
                prop_assert_eq!(read, None);
            }
        }
    }

    #[test]
    fn what_comes_in_goes_on_unchanged_and_legal(
        (list, more) in (list(), list()),
        existing in text(),
    ) {
        let trace = format!("{TRACE}-{SPAN}-1").into_bytes();
        let headers = [("baggage", &list), ("sentry-trace", &trace), ("baggage", &more)];
        let incoming = Incoming::read(headers, &Policy::default());
        let kept = incoming.members();
        prop_assert!(kept.len() <= dsc::BYTES_MAX);
        let out = TraceHeaders::new(&outgoing(incoming.dsc().expect("continued")));
        prop_assert_eq!(out.baggage().unwrap_or_default().as_bytes(), kept);
        if let Some(baggage) = out.baggage() {
            assert_legal(baggage);
        }
        let mut merged = String::new();
        out.merge_baggage(&existing, &mut merged).unwrap();
        if !merged.is_empty() {
            assert_legal(&merged);
        }
        // Reading it again changes nothing, and pieces of it are it.
        let again = Incoming::read(&out, &Policy::default());
        prop_assert_eq!(again.members(), kept);
        let pieces: Vec<_> = dsc::pieces(kept, dsc::MEMBER_MAX).collect();
        prop_assert!(pieces.iter().all(|piece| piece.len() <= dsc::MEMBER_MAX));
        prop_assert_eq!(pieces.join(&b','), kept);
        let mut buffer = Vec::new();
        for ((key, text), (same, raw)) in dsc::members(kept).zip(dsc::raw_members(kept)) {
            prop_assert_eq!(key, same);
            prop_assert_eq!(dsc::decode_into(raw, &mut buffer), &*text);
        }
    }
}
