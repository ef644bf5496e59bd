//! Every row of what is continued, from which organisation, and what is then sent on.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::super::outgoing::{Outgoing, TraceHeaders, site_members};
use super::*;

const TRACE: &str = "4c79f60c11214eb38604f4ae0781bfb2";
const SPAN: &str = "fa90fdead5f74052";
const MEMBERS: &str = "sentry-trace_id=4c79f60c11214eb38604f4ae0781bfb2,sentry-public_key=aa,\
                       sentry-sample_rate=0.25,sentry-sample_rand=0.123456,sentry-x=%20";

fn read(headers: &[(&str, &str)]) -> Incoming {
    Incoming::read(headers.iter().copied(), &Policy::default())
}

fn valid(flag: &str) -> String {
    format!("{TRACE}-{SPAN}{flag}")
}

/// What this process sends on: that of a head begins with the own key.
fn sent(incoming: &Incoming, own: Option<bool>, rate: Option<u32>) -> TraceHeaders {
    let site = site_members(Some("own"), Some("app@1"), None, None);
    let head = Dsc::Head { rate, rand: 654_321, transaction: Some("orders"), site: &site };
    TraceHeaders::new(&Outgoing {
        trace_id: incoming.trace_id().unwrap_or(TraceId(1)),
        span_id: SpanId(2),
        sampled: sampled_out(own, incoming.trace()),
        dsc: incoming.dsc().unwrap_or(head),
        traceparent: false,
    })
}

#[test]
fn rows_of_continuing() {
    let flagged = valid("-1");
    let foreign = "tenant=blue,sentryx=1";
    for (sentry_trace, baggage, continued, sent_on) in [
        // Valid, with members: they go on unchanged.
        (Some(&*flagged), Some(MEMBERS), true, Some(MEMBERS)),
        // Valid, without: nothing is invented.
        (Some(&*flagged), None, true, None),
        (Some(&*flagged), Some(""), true, None),
        (Some(&*flagged), Some(foreign), true, None),
        // Third parties' members are not handed on.
        (Some(&*flagged), Some("tenant=blue,sentry-a=1,b=2"), true, Some("sentry-a=1")),
        // Missing, empty, invalid: this process is the head, whatever members came.
        (None, Some(MEMBERS), false, None),
        (None, None, false, None),
        (Some(""), Some(MEMBERS), false, None),
        (Some("nonsense"), Some(MEMBERS), false, None),
        (Some("00000000000000000000000000000000-fa90fdead5f74052-1"), Some(MEMBERS), false, None),
        (Some("4c79f60c11214eb38604f4ae0781bfb2-0000000000000000-1"), Some(MEMBERS), false, None),
        (Some("1"), Some(MEMBERS), false, None),
    ] {
        let mut headers = vec![("host", "example.com")];
        headers.extend(baggage.map(|value| ("baggage", value)));
        headers.extend(sentry_trace.map(|value| ("sentry-trace", value)));
        let row = format!("{headers:?}");
        let incoming = read(&headers);
        assert_eq!(incoming.trace().is_some(), continued, "{row}");
        let headers = sent(&incoming, Some(true), Some(500_000));
        if continued {
            let trace = incoming.trace().unwrap();
            assert_eq!(trace.trace_id, TRACE.parse().unwrap(), "{row}");
            assert_eq!(trace.parent, SPAN.parse().unwrap(), "{row}");
            assert_eq!(trace.sampled, Some(true), "{row}");
            assert_eq!(headers.baggage(), sent_on, "{row}");
        } else {
            assert_eq!(incoming.members(), b"", "{row}");
            let own = headers.baggage().unwrap();
            assert!(own.contains("sentry-public_key=own,") && !own.contains("=aa"), "{row}: {own}");
        }
    }
}

#[test]
fn what_members_say_is_read() {
    let of = |flag: &str, members: &str| {
        *read(&[("sentry-trace", &valid(flag)), ("baggage", members)]).trace().unwrap()
    };
    let trace = of("-0", MEMBERS);
    assert_eq!(
        (trace.sampled, trace.rate, trace.rand),
        (Some(false), Some(250_000), Some(123_456))
    );
    // The header decides, not the member.
    assert_eq!(of("", "sentry-sampled=true").sampled, None);
    let trace = of("-1", "sentry-sample_rate=1.5,sentry-sample_rand=1.0");
    assert_eq!((trace.rate, trace.rand), (None, None));
    let trace = of("-1", "sentry-sample_rate=,sentry-sample_rand=x");
    assert_eq!((trace.rate, trace.rand), (None, None));

    let incoming = read(&[("sentry-trace", &valid("-1")), ("baggage", MEMBERS)]);
    assert_eq!(incoming.trace_id(), Some(TRACE.parse().unwrap()));
    assert_eq!(incoming.parent_span_id(), Some(SPAN.parse().unwrap()));
    assert_eq!((incoming.sampled(), incoming.sample_rate()), (Some(true), Some(0.25)));
    let shown = format!("{incoming:?}");
    assert!(shown.contains("members: 5") && !shown.contains("public_key"), "{shown}");
    let none = Incoming::default();
    assert_eq!((none.trace_id(), none.parent_span_id()), (None, None));
    assert_eq!((none.sampled(), none.sample_rate()), (None, None));
}

#[test]
fn names_are_known_in_any_case_and_spelling() {
    let value = valid("-1");
    for (trace, baggage) in [
        ("sentry-trace", "baggage"),
        ("Sentry-Trace", "Baggage"),
        ("SENTRY_TRACE", "SENTRY_BAGGAGE"),
        ("sentry_trace", "sentry-baggage"),
    ] {
        let incoming = read(&[(trace, &value), (baggage, "sentry-a=1")]);
        assert_eq!(incoming.members(), b"sentry-a=1", "{trace}, {baggage}");
    }
    for (trace, baggage) in
        [("sentry-trace ", "baggage"), ("sentrytrace", "baggage"), ("traceparent", "baggage")]
    {
        assert!(read(&[(trace, &value), (baggage, "sentry-a=1")]).trace().is_none(), "{trace}");
    }
    assert_eq!(read(&[("sentry-trace", &value), ("xbaggage", "sentry-a=1")]).members(), b"");
}

#[test]
fn of_several_headers_the_first_valid_counts() {
    let (first, second) = (valid("-1"), valid("-0").replace("4c79", "5555"));
    let joined = format!("{first}, {second}");
    for headers in [
        &[("sentry-trace", &*first), ("sentry-trace", &*second)][..],
        &[("sentry-trace", ""), ("sentry-trace", &*first), ("sentry-trace", &*second)],
        &[("sentry-trace", "nonsense"), ("Sentry-Trace", &*first)],
        &[("sentry-trace", &*joined)],
        &[("sentry-trace", ","), ("sentry-trace", &*joined)],
    ] {
        let incoming = read(headers);
        assert_eq!(incoming.trace_id(), Some(TRACE.parse().unwrap()), "{headers:?}");
        assert_eq!(incoming.sampled(), Some(true), "{headers:?}");
    }
    let incoming = read(&[
        ("baggage", "a=1"),
        ("baggage", "sentry-a=1,sentry-b=2"),
        ("sentry-trace", &first),
        ("baggage", "sentry-a=9,sentry-c=3"),
    ]);
    assert_eq!(incoming.members(), b"sentry-a=1,sentry-b=2,sentry-c=3");
}

#[test]
fn bytes_of_any_kind_are_headers() {
    let headers: [(&[u8], Vec<u8>); 3] = [
        (b"\xff\xfe", b"\xff".to_vec()),
        (b"sentry-trace", valid("-1").into_bytes()),
        (b"baggage", b"sentry-a=\xff\r\n".to_vec()),
    ];
    let incoming = Incoming::read(headers, &Policy::default());
    assert_eq!(incoming.members(), b"sentry-a=%FF");
}

/// §5.8: equal or both absent, different, one alone; each with and without strictness.
#[test]
fn rows_of_organisations() {
    for (own, theirs, lax, strict) in [
        (Some("1"), Some("1"), true, true),
        (None, None, true, true),
        (Some("1"), Some("2"), false, false),
        (Some("1"), None, true, false),
        (None, Some("1"), true, false),
        // Empty is none; one is as good as the other with space around it or encoded.
        (Some(""), None, true, true),
        (None, Some(""), true, true),
        (Some("1"), Some(""), true, false),
        (Some(""), Some("1"), true, false),
        (Some(" 1 "), Some("1"), true, true),
        (Some("1"), Some("%31"), true, true),
        (Some("1"), Some("1%20"), true, true),
        (Some("1"), Some("11"), false, false),
        (Some("1"), Some("%ff"), false, false),
    ] {
        for (is_strict, expected) in [(false, lax), (true, strict)] {
            let value = valid("-1");
            let org = theirs.map_or(String::new(), |org| format!(",sentry-org_id={org}"));
            let baggage = format!("{MEMBERS}{org}");
            let headers = [("sentry-trace", &*value), ("baggage", &baggage)];
            let policy = Policy { org_id: own, strict: is_strict };
            let incoming = Incoming::read(headers, &policy);
            let row = format!("{own:?} {theirs:?} {is_strict}");
            assert_eq!(incoming.trace_id().is_some(), expected, "{row}");
            // A new trace has nothing of theirs: no id, no flag, no member.
            assert_eq!(incoming.members().is_empty(), !expected, "{row}");
            assert_eq!(incoming.sampled(), expected.then_some(true), "{row}");
            assert_eq!(incoming.dsc().is_none(), !expected, "{row}");
        }
    }
    // Without any members the sender says nothing of an organisation.
    let value = valid("-1");
    let read = |strict| {
        let policy = Policy { org_id: Some("1"), strict };
        Incoming::read([("sentry-trace", &value)], &policy).trace().is_some()
    };
    assert_eq!((read(false), read(true)), (true, false));
}

#[test]
fn an_organisation_is_seen_behind_any_number_of_members() {
    let filler: Vec<_> = (0..70).map(|n| format!("sentry-k{n}={}", "x".repeat(90))).collect();
    let baggage = format!("{},sentry-org_id=2", filler.join(","));
    let value = valid("-1");
    let policy = Policy { org_id: Some("1"), strict: false };
    let incoming = Incoming::read([("sentry-trace", &value), ("baggage", &baggage)], &policy);
    assert!(incoming.trace().is_none());
}

/// §5.5: the flag and the members that go out, by the flag that came and the own decision (`None`:
/// tracing is not configured).
#[test]
fn rows_of_tracing_without_performance() {
    for (came, own, flag) in [
        // Head: no flag, -0 at rate 0, its own decision.
        (None, None, None),
        (None, Some(false), Some(false)),
        (None, Some(true), Some(true)),
        // Deferred.
        (Some(""), None, None),
        (Some(""), Some(false), Some(false)),
        (Some(""), Some(true), Some(true)),
        // What came goes on; own decisions follow it.
        (Some("-1"), None, Some(true)),
        (Some("-1"), Some(true), Some(true)),
        (Some("-0"), None, Some(false)),
        (Some("-0"), Some(false), Some(false)),
    ] {
        let value = came.map(valid);
        let headers = value.iter().map(|value| ("sentry-trace", value));
        let incoming = Incoming::read(headers, &Policy::default());
        let rate = own.map(|sampled| u32::from(sampled) * 500_000);
        let headers = sent(&incoming, own, rate);
        let row = format!("{came:?} {own:?}");
        let suffix = match flag {
            None => "-0000000000000002",
            Some(true) => "-0000000000000002-1",
            Some(false) => "-0000000000000002-0",
        };
        assert!(headers.sentry_trace().ends_with(suffix), "{row}: {}", headers.sentry_trace());
        let expected = match (came, own) {
            (Some(_), _) => None,
            // Neither rate nor decision nor transaction, but the random number.
            (None, None) => Some(""),
            (None, Some(true)) => Some("sentry-sample_rate=0.5,sentry-sampled=true,"),
            (None, Some(false)) => Some("sentry-sample_rate=0.0,sentry-sampled=false,"),
        };
        let expected = expected.map(|middle| {
            let transaction = if middle.is_empty() { "" } else { ",sentry-transaction=orders" };
            format!(
                "sentry-trace_id=00000000000000000000000000000001,{middle}sentry-sample_rand=\
                 0.654321,sentry-public_key=own,sentry-release=app%401{transaction}"
            )
        });
        assert_eq!(headers.baggage(), expected.as_deref(), "{row}");
    }
}

#[test]
fn rows_of_back_calculation() {
    const MILLION: u32 = 1_000_000;
    let base =
        Trace { trace_id: TraceId(1), parent: SpanId(1), sampled: None, rate: None, rand: None };
    for (sampled, rate, low, high) in [
        (Some(true), Some(250_000), 0, 250_000),
        (Some(false), Some(250_000), 250_000, MILLION),
        (None, Some(250_000), 0, MILLION),
        (Some(true), None, 0, MILLION),
        (Some(false), None, 0, MILLION),
        (None, None, 0, MILLION),
        (Some(true), Some(MILLION), 0, MILLION),
        (Some(false), Some(0), 0, MILLION),
        (Some(true), Some(1), 0, 1),
        (Some(false), Some(999_999), 999_999, MILLION),
        // Nothing fits: as if no rate had come.
        (Some(true), Some(0), 0, MILLION),
        (Some(false), Some(MILLION), 0, MILLION),
    ] {
        let trace = Trace { sampled, rate, ..base };
        let row = format!("{sampled:?} {rate:?}");
        // The ends are reached and not passed, and between them it is spread evenly.
        assert_eq!(back_calculate(&trace, 0), low, "{row}");
        assert_eq!(back_calculate(&trace, u64::MAX), high - 1, "{row}");
        let middle = back_calculate(&trace, 1 << 63);
        assert_eq!(middle, low + (high - low) / 2, "{row}");
        // One that came is used as it is, even if it does not fit.
        let trace = Trace { rand: Some(999_999), ..trace };
        assert_eq!(back_calculate(&trace, 0), 999_999, "{row}");
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    /// The decision that a random number made this way would give is the one that came.
    #[test]
    fn back_calculated_numbers_agree_with_the_decision(
        sampled: bool, rate in 1_u32..1_000_000, random: u64,
    ) {
        let (trace_id, parent) = (TraceId(1), SpanId(1));
        let trace =
            Trace { trace_id, parent, sampled: Some(sampled), rate: Some(rate), rand: None };
        let rand = back_calculate(&trace, random);
        prop_assert!(rand < 1_000_000);
        prop_assert_eq!(rand < rate, sampled);
    }
}
