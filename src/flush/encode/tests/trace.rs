//! Continued traces, links, and what a transaction was kept for.

use std::collections::BTreeMap;

use super::*;
use crate::shared::layout::continued::{HAS_DSC, PARENT_DECIDED, PARENT_KNOWN, PARENT_SAMPLED};

const TRACE: TraceId = TraceId(0x4c79_f60c_1121_4eb3_8604_f4ae_0781_bfb2);
const PARENT: SpanId = SpanId(0xfa90_fdea_d5f7_4052);
/// What a browser might have sent.
const MEMBERS: &str = "sentry-trace_id=4c79f60c11214eb38604f4ae0781bfb2,\
    sentry-public_key=fedcba9876543210fedcba9876543210,sentry-sample_rate=0.5,sentry-sampled=true,\
    sentry-sample_rand=0.386768,sentry-release=front%402.0,sentry-environment=production,\
    sentry-transaction=GET%20%2Fcaf%C3%A9,sentry-org_id=1,sentry-of_tomorrow=%22x%22";

fn continues(flags: u32) -> Run {
    let continued = Continued { trace_id: TRACE.0, parent: PARENT.0, rand: 386_768, flags };
    Run::new(1).continues(&continued)
}

fn ended(run: Run) -> Run {
    run.child(2, 1, "db", "load", (1_000, 2_000)).root("queue.process", "orders", (0, 3_000))
}

pub(super) fn continued_item() -> Run {
    let flags = PARENT_KNOWN | PARENT_SAMPLED | PARENT_DECIDED | HAS_DSC;
    ended(continues(flags).dsc(MEMBERS)).edit(|root| root.threshold = 500_000)
}

/// The parent was not sampled; kept because it was slow.
pub(super) fn own_decision() -> Run {
    let members = "sentry-public_key=fedcba9876543210fedcba9876543210,sentry-sample_rate=0.01,\
        sentry-sampled=false,sentry-sample_rand=0.386768";
    let flags = PARENT_KNOWN | PARENT_DECIDED | HAS_DSC;
    ended(continues(flags).dsc(members)).edit(|root| (root.threshold, root.why) = (400_000, 1))
}

pub(super) fn without_context() -> Run {
    ended(continues(PARENT_KNOWN | PARENT_SAMPLED | PARENT_DECIDED))
}

fn link(number: u64) -> Link {
    let sampled = [Some(true), Some(false), None][usize::try_from(number % 3).unwrap()];
    Link { trace: TraceId(TRACE.0 + u128::from(number)), span: SpanId(PARENT.0 - number), sampled }
}

pub(super) fn linked_item() -> Run {
    let mut run = Run::new(1).status(1, SpanStatus::Ok).tag(1, "batch", "yes");
    for number in 0..115 {
        run = run.link(1, &link(number), ["previous_trace", ""][usize::from(number > 100)]);
    }
    for number in 0..128 {
        run = run.link(2, &link(number), "follows_from");
    }
    let op = "an op that is as long as an op may be ".repeat(4);
    run.child(2, 1, "queue.process", "batch", (1_000, 2_000)).root(&op[..128], "orders", (0, 3_000))
}

fn header_of(run: &Run) -> Option<BTreeMap<String, String>> {
    Some(parse(&checked(run).1.bytes).0.trace?.0)
}

fn members(pairs: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

const ID: (&str, &str) = ("trace_id", "4c79f60c11214eb38604f4ae0781bfb2");

#[test]
fn a_continued_trace_is_the_envelopes_trace_and_its_members_go_on_as_they_came() {
    let run = continued_item();
    let (transaction, ..) = checked(&run);
    let trace = transaction.contexts.trace;
    assert_eq!(trace.trace_id, ID.1);
    assert_eq!(trace.parent_span_id.as_deref(), Some("fa90fdead5f74052"));
    assert_eq!(transaction.spans[0].trace_id, ID.1);
    assert_eq!(transaction.spans[0].parent_span_id, trace.span_id);
    let expected = [
        ID,
        ("public_key", "fedcba9876543210fedcba9876543210"),
        ("sample_rate", "0.5"),
        ("sampled", "true"),
        ("sample_rand", "0.386768"),
        ("release", "front@2.0"),
        ("environment", "production"),
        ("transaction", "GET /café"),
        ("org_id", "1"),
        ("of_tomorrow", "\"x\""),
    ];
    assert_eq!(header_of(&run), members(&expected));
}

#[test]
fn only_an_own_decision_replaces_the_parents_rate() {
    let rate = |flags, why, came: &str| {
        let run = ended(continues(flags | HAS_DSC).dsc(came));
        let run = run.edit(|root| (root.threshold, root.why) = (250_000, why));
        let mut header = header_of(&run).unwrap();
        assert_eq!(header.remove("a").as_deref(), Some("1"));
        (header.remove("sample_rate"), header.remove("sampled"))
    };
    let some = |rate: &str, sampled: &str| (Some(rate.to_owned()), Some(sampled.to_owned()));
    let came = "sentry-a=1,sentry-sampled=false,sentry-sample_rate=0.1";
    assert_eq!(rate(PARENT_DECIDED, 0, came), some("0.1", "false"));
    // What the parent left open stays open.
    assert_eq!(rate(PARENT_DECIDED, 0, "sentry-a=1"), (None, None));
    for why in 1..=5 {
        assert_eq!(rate(PARENT_DECIDED, why, came), some("0.25", "true"));
    }
    assert_eq!(rate(0, 0, came), some("0.25", "true"));
    assert_eq!(rate(PARENT_KNOWN | PARENT_SAMPLED, 0, "sentry-a=1"), some("0.25", "true"));
    // Theirs need not be readable to be replaced.
    let unreadable = "sentry-sample_rate=%ff,sentry-sampled=%ff,sentry-a=1";
    assert_eq!(rate(0, 0, unreadable), some("0.25", "true"));
}

#[test]
fn a_trace_that_came_without_context_goes_on_without() {
    assert_eq!(header_of(&without_context()), None);
    // Said to be there, and lost or unreadable; there, and not said to be.
    for members in ["", ",,=,", "vendor=1,sentry-=2,sentry", "sentry-trace_id=x"] {
        assert_eq!(header_of(&ended(continues(HAS_DSC).dsc(members))), None);
    }
    assert_eq!(header_of(&ended(continues(HAS_DSC))), None);
    assert_eq!(header_of(&ended(continues(0).dsc(MEMBERS))), None);
    // Without a trace it is nobody's.
    let header = header_of(&ended(Run::new(1).dsc(MEMBERS))).unwrap();
    assert_eq!(header["public_key"], "0123456789abcdef0123456789abcdef");
}

#[test]
fn the_first_of_a_member_counts_and_what_is_none_is_passed_over() {
    let run = continues(HAS_DSC | PARENT_DECIDED)
        .dsc(" sentry-a = 1 ;p=q, sentry-b=%2c%3B%, other=x, sentry-c=%ff, SENTRY-d=1,sentry-e")
        .dsc(
            "sentry-a=2,sentry-trace_id=11111111111111111111111111111111,sentry-f=,sentry-%22\"=u",
        );
    let expected = [ID, ("a", "1"), ("b", ",;%"), ("c", "\u{fffd}"), ("f", ""), ("%22\"", "u")];
    assert_eq!(header_of(&ended(run)), members(&expected));
}

/// The sender may not write more; whatever comes, the line stays short.
#[test]
fn members_are_bounded() {
    let header = |run: Run| parse(&encode(&ended(run).slots).0.bytes).0.trace.unwrap().0;
    let mut run = continues(HAS_DSC | PARENT_DECIDED);
    for number in 0..200 {
        run = run.dsc(&format!("sentry-key{number}={number}"));
    }
    let trace = header(run);
    assert_eq!(trace.len(), 64);
    assert!(trace.contains_key("trace_id") && trace.contains_key("key62"));

    let mut run = continues(HAS_DSC | PARENT_DECIDED);
    for number in 0..60 {
        run = run.dsc(&format!("sentry-{number}={}", "%01".repeat(300)));
    }
    assert_eq!(header(run).len(), 1 + 16 * 1024 / 1800 + 1);
}

/// Half a trace is none: the transaction is the head of its own.
#[test]
fn a_trace_that_cannot_be_read_is_as_if_it_were_not_there() {
    let payload =
        Continued { trace_id: TRACE.0, parent: PARENT.0, rand: 0, flags: HAS_DSC }.payload();
    let mut no_trace = payload;
    no_trace[..16].fill(0);
    let mut no_parent = payload;
    no_parent[16..24].fill(0);
    let (plain, _) = encode(&ended(Run::new(1)).slots);
    for payload in [&payload[..31], &[], &no_trace, &no_parent] {
        let run = ended(Run::new(1).raw(1, Kind::Trace, 0, NameId::NONE, payload).dsc(MEMBERS));
        let (parcel, encoded) = encode(&run.slots);
        assert_eq!(parcel.bytes, plain.bytes);
        assert_eq!(encoded.dropped, 1);
    }
    // The first that can be read counts.
    let continued = Continued { trace_id: TRACE.0, parent: PARENT.0, rand: 0, flags: 0 };
    let other = Continued { trace_id: 7, ..continued };
    let run = Run::new(1).raw(1, Kind::Trace, 0, NameId::NONE, &[1; 8]);
    let run = ended(run.continues(&continued).continues(&other));
    assert_eq!(parse(&encode(&run.slots).0.bytes).2.contexts.trace.trace_id, ID.1);
    // A child has no trace of its own.
    let run = Run::new(1).raw(2, Kind::Trace, 0, NameId::NONE, &continued.payload());
    assert_eq!(encode(&ended(run).slots).0.bytes, plain.bytes);
}

#[test]
fn the_name_that_left_with_the_headers_stays_in_the_context() {
    let transaction =
        |run: Run| header_of(&run.root("op", "now", (0, 1))).unwrap().remove("transaction");
    let before = |name: &str| Run::new(1).text(1, Kind::Frozen, name);
    assert_eq!(transaction(before("then")).as_deref(), Some("then"));
    assert_eq!(transaction(before("then").text(1, Kind::Frozen, "later")).as_deref(), Some("then"));
    assert_eq!(transaction(Run::new(1)).as_deref(), Some("now"));
    // They left without a name.
    assert_eq!(transaction(before("").text(1, Kind::Frozen, "later")), None);
    assert_eq!(transaction(Run::new(1).raw(1, Kind::Frozen, 0, NameId::NONE, &[])), None);
    let long = "é".repeat(300);
    let inline = |text: &str| {
        let mut run = Run::new(1);
        run.inline = true;
        run.text(1, Kind::Frozen, text).root("op", "now", (0, 1))
    };
    let cut = "é".repeat(197) + "...";
    assert_eq!(header_of(&inline(&long)).unwrap()["transaction"], cut);
    assert_eq!(checked(&inline("then")).0.transaction, "now");
    // A continued trace has its head's.
    let run = ended(continues(HAS_DSC).dsc("sentry-a=1").text(1, Kind::Frozen, "then"));
    assert!(!header_of(&run).unwrap().contains_key("transaction"));
    // One that cannot be read.
    for (name, code, payload) in [
        (NameId::INLINE, Scalar::Text as u8, &b"\xff"[..]),
        (NameId::INLINE, Scalar::U64 as u8, b"12345678"),
        (NameId(u32::MAX - 1), 0, b""),
    ] {
        let run = Run::new(1).raw(1, Kind::Frozen, code, name, payload).root("op", "now", (0, 1));
        let (parcel, encoded) = encode(&run.slots);
        assert_eq!(parse(&parcel.bytes).0.trace.unwrap().0["transaction"], "now");
        assert_eq!(encoded.dropped, 1);
    }
}

#[test]
fn a_root_says_what_it_was_kept_for() {
    let kept = |why| {
        let run = Run::new(1).data(1, "hotspan.kept", "mine").root("op", "name", (0, 1));
        let (transaction, ..) = checked(&run.edit(|root| root.why = why));
        transaction.contexts.trace.data.0["hotspan.kept"].as_str().unwrap().to_owned()
    };
    let words = [0, 1, 2, 3, 4, 5, 6, 15].map(kept);
    assert_eq!(words, ["mine", "slow", "slow_p99", "failed", "first", "asked", "mine", "mine"]);
}

#[test]
fn links_stand_on_the_span_that_they_were_set_on() {
    let (transaction, _, encoded) = checked(&linked_item());
    assert_eq!(encoded.dropped, 0);
    let (root, child) = (&transaction.contexts.trace.links, &transaction.spans[0].links);
    assert_eq!((root.len(), child.len()), (115, 128));
    assert_eq!(root[1].trace_id, "4c79f60c11214eb38604f4ae0781bfb3");
    assert_eq!(root[1].span_id, "fa90fdead5f74051");
    let sampled: Vec<_> = root.iter().take(3).map(|link| link.sampled).collect();
    assert_eq!(sampled, [Some(true), Some(false), None]);
    let of_type =
        |link: &oracle::Link| link.attributes.as_ref()?.0.get("sentry.link.type").cloned();
    assert_eq!(of_type(&root[0]).as_deref(), Some("previous_trace"));
    assert_eq!(of_type(&root[114]), None);
    assert_eq!(of_type(&child[0]).as_deref(), Some("follows_from"));
}

#[test]
fn links_beyond_what_the_server_keeps_are_dropped_and_counted() {
    let linked = |run: Run, count: u64| {
        (0..count)
            .fold(run, |run, number| run.link(1, &link(number), "").link(2, &link(number), ""))
    };
    let counts = |run: Run| {
        let (transaction, _, encoded) = checked(&ended(run));
        let trace = &transaction.contexts.trace;
        (trace.links.len(), transaction.spans[0].links.len(), encoded.dropped)
    };
    assert_eq!(counts(linked(Run::new(1), 115)), (115, 115, 0));
    assert_eq!(counts(linked(Run::new(1), 130)), (115, 128, 15 + 2));
    // Below a root, data takes their room.
    let with_data = |bytes| linked(Run::new(1).data(1, "d", "x".repeat(bytes).as_str()), 10);
    assert_eq!(counts(with_data(1000)), (10, 10, 0));
    let mut run = linked(Run::new(1), 10);
    for number in 0..8 {
        run = run.data(1, &format!("d{number}"), "x".repeat(960).as_str());
    }
    assert_eq!(counts(run), (1, 10, 9));
    for payload in [&link(1).payload()[..24], &[], &[0; 32]] {
        let run = ended(Run::new(1).raw(1, Kind::Link, 0, NameId::NONE, payload));
        let (parcel, encoded) = encode(&run.slots);
        let links = parse(&parcel.bytes).2.contexts.trace.links;
        assert_eq!((links.len(), encoded.dropped), (0, 1));
    }
    // A type that is no word: the link goes without.
    for of_type in ["two words", "é", &"x".repeat(65)] {
        let run = ended(Run::new(1).link(1, &link(1), of_type));
        let (parcel, _) = encode(&run.slots);
        assert_eq!(parse(&parcel.bytes).2.contexts.trace.links[0].attributes, None);
    }
}
