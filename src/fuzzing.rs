//! The pure parts, opened to the fuzz targets in `fuzz/` and to `benches/encode.rs`. Compiled only
//! under `cfg(fuzzing)`, which cargo-fuzz sets.

use std::time::Duration;

use crate::flush::encode::{Encoder, Site};
use crate::flush::envelope::Category;
use crate::flush::limits::Limits;
use crate::flush::spool::record::{HEAD_BYTES, MARK, Next, Reader};
use crate::propagate::{
    Dsc, Incoming, Outgoing, Policy, Trace, TraceHeaders, back_calculate, dsc, traceparent,
};
#[cfg(feature = "rules-file")]
use crate::sampling::{self, Found, Rule, RuleError, Sampling, Table, naive};
use crate::shared::clock::Anchor;
use crate::shared::id::WireIds;
use crate::shared::layout::{Kind, Scalar, Slot, SpanRecord, WORDS, attribute_header};
use crate::shared::names;
use crate::transport::Response;
#[cfg(feature = "http")]
use crate::transport::http::wire::{End, play};

/// Feeds answers to the rate limits, and checks after each that no wait is longer than a day and
/// that a transaction never waits less than a client report.
pub fn rate_limits(answers: &[Response], now: Duration, unix_now: Duration) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let mut limits = Limits::default();
    for answer in answers {
        let before = limits;
        limits.update(answer, now, unix_now);
        let wait = |limits: &Limits, category| limits.blocked(category, now).unwrap_or_default();
        let [transaction, internal] = [Category::Transaction, Category::Internal].map(|category| {
            let wait_now = wait(&limits, category);
            assert!(wait_now >= wait(&before, category), "a limit was shortened");
            wait_now
        });
        assert!(internal <= transaction && transaction <= DAY);
    }
}

/// Reads any bytes as a segment of the spool. What is yielded is what stands there, one after the
/// other, and writes itself the same again; what does not check ends it.
pub fn spool_reader(data: &[u8]) {
    let mut reader = Reader::new(data);
    let mut end = MARK.len();
    let mut head_bytes = Vec::new();
    loop {
        match reader.next().expect("memory has no errors") {
            Next::Record(offset, head) => {
                assert!(data.starts_with(&MARK));
                assert_eq!(offset, end as u64, "a gap");
                let start = end;
                end += usize::try_from(head.bytes()).expect("it fits into the data");
                let record = data.get(start..end).expect("it is there");
                let (found, payload) = record.split_at(HEAD_BYTES);
                head_bytes.clear();
                head.encode(&mut head_bytes);
                assert_eq!(head_bytes, found);
                assert!(head.is_of(payload));
                assert_eq!(reader.sound(), end as u64);
            }
            Next::End => {
                assert_eq!(end, data.len());
                break;
            }
            Next::Damage => {
                assert!(reader.sound() == 0 || reader.sound() == end as u64);
                assert!(reader.sound() <= data.len() as u64);
                break;
            }
        }
    }
}

/// Sends to a server that answers with these bytes, in two pieces divided at `split`, after which
/// it closes, resets the connection, falls silent, or goes on with zeros, by `end`. What comes of
/// it is bounded and shows no key.
#[cfg(feature = "http")]
pub fn http_response(bytes: &[u8], split: usize, end: u8) {
    let end = match end % 4 {
        0 => End::Close,
        1 => End::Reset,
        2 => End::Silence,
        _ => End::Zeros,
    };
    play(bytes, split, end);
}

/// Encodes slots made of any bytes, 64 to a slot, and returns the envelope, if they held one root.
///
/// Kinds, types, names, lengths and keys are folded to where something can happen: all of them
/// known, many of them wrong. Texts are whatever bytes come.
pub fn envelope(data: &[u8]) -> Option<Vec<u8>> {
    const NAMES: [&str; 8] =
        ["", "op", "a b", "http.status_code", "release", "\u{2028}\"\\", "Name_1.x", "é\0"];
    let ids = NAMES.map(names::intern);
    let run: Vec<Slot> = data
        .chunks(WORDS * 8)
        .map(|chunk| {
            let mut slot = Slot::default();
            for (word, bytes) in slot.iter_mut().zip(chunk.chunks(8)) {
                let mut padded = [0; 8];
                padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                *word = u64::from_le_bytes(padded);
            }
            let [header, key, ..] = &mut slot;
            let [kind, code, low, high, name, ..] = header.to_le_bytes();
            // Lists and cut values keep their bits; lengths stay below two kilobytes.
            let len = u64::from(low) | u64::from(high & 7) << 8;
            let name = match name % 10 {
                9 => u32::MAX,
                index => ids.get(usize::from(index)).map_or(12_345, |id| id.0),
            };
            *header = u64::from(kind % 17)
                | u64::from(code & 0xc7) << 8
                | len << 16
                | u64::from(name) << 32;
            *key %= 6;
            slot
        })
        .collect();
    let site = Site {
        public_key: Some("0123456789abcdef0123456789abcdef".into()),
        sdk_name: "hotspan",
        sdk_version: "0",
        max_spans: 4,
        ..Site::default()
    };
    let anchor = Anchor { ticks: 1 << 40, unix_nanos: 1 << 60, nanos_per_4g_ticks: 1 << 32 };
    let wire = WireIds { seed: [1, 2, 3, 4] };
    let (parcel, encoded) =
        Encoder::new(site).transaction(&run, &wire, &anchor, Vec::new()).ok()?;
    assert_eq!(parcel.count.spans, 1 + encoded.children_kept);
    assert!(encoded.children_kept <= 4);
    Some(parcel.bytes)
}

/// An encoder over one transaction with children, each with two values of data if wanted, for
/// `benches/encode.rs`: every call encodes it into the same buffer and returns the envelope's
/// bytes.
pub fn encode(children: u64, attributes: bool) -> impl FnMut() -> usize {
    const ROOT: u64 = 1 << 52 | 1;
    let [op, name, child_op, child, rows, cached] =
        ["queue.process", "orders", "db.query", "load order", "rows", "cached"].map(names::intern);
    let span = |kind, key, parent, (op, description), (start, end)| {
        let (flags, lost, unfinished, threshold, why, plan) = (0, 0, 0, 1_000_000, 0, 0);
        SpanRecord {
            kind,
            flags,
            lost,
            key,
            root: ROOT,
            parent,
            start,
            end,
            op,
            description,
            threshold,
            why,
            plan,
            unfinished,
        }
        .words()
    };
    let mut run: Vec<Slot> = Vec::new();
    for n in 1..=children {
        let key = ROOT + n;
        if attributes {
            let mut data = |code: Scalar, len, name, value| {
                let header = attribute_header(Kind::Data, code as u8, len, name);
                run.push([header, key, ROOT, value, 0, 0, 0, 0]);
            };
            data(Scalar::U64, 8, rows, n);
            data(Scalar::Bool, 1, cached, 1);
        }
        run.push(span(Kind::Child, key, ROOT, (child_op, child), (n * 1000, n * 1000 + 750)));
    }
    run.push(span(Kind::Root, ROOT, 0, (op, name), (0, 1_000_000)));

    let site = Site { sdk_name: "hotspan", sdk_version: "0", max_spans: 1000, ..Site::default() };
    let anchor = Anchor { ticks: 0, unix_nanos: 1 << 60, nanos_per_4g_ticks: 1 << 32 };
    let wire = WireIds { seed: [1, 2, 3, 4] };
    let mut encoder = Encoder::new(site);
    let mut buffer = Vec::new();
    move || {
        let taken = std::mem::take(&mut buffer);
        if let Ok((parcel, _)) =
            encoder.transaction(std::hint::black_box(&run), &wire, &anchor, taken)
        {
            buffer = parcel.bytes;
        }
        buffer.len()
    }
}

/// Reads a `sentry-trace`. One that is valid means the same when it is written again.
pub fn sentry_trace(value: &[u8]) {
    let incoming = Incoming::read([("sentry-trace", value)], &Policy::default());
    let Some(&trace) = incoming.trace() else { return };
    assert!(trace.trace_id.0 != 0 && trace.parent.0 != 0);
    let headers = TraceHeaders::new(&Outgoing {
        trace_id: trace.trace_id,
        span_id: trace.parent,
        sampled: trace.sampled,
        dsc: Dsc::Empty,
        traceparent: true,
    });
    let text = headers.sentry_trace().as_bytes();
    // One of those that were joined by commas, but for capitals.
    let mut parts = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    assert!(parts.any(|part| part.eq_ignore_ascii_case(text)));
    let again = Incoming::read(&headers, &Policy::default());
    assert_eq!(again.trace(), Some(&trace));
    let parent = headers.traceparent().and_then(|text| traceparent::parse(text.as_bytes()));
    assert_eq!(parent, Some((trace.trace_id, trace.parent, trace.sampled == Some(true))));
}

/// Reads a `traceparent`. The ids and the flag of a valid one stand where they should.
pub fn traceparent(value: &[u8]) {
    let Some((trace_id, span_id, sampled)) = traceparent::parse(value) else { return };
    let text = String::from_utf8_lossy(value.trim_ascii()).into_owned();
    let parts: Vec<&str> = text.split('-').collect();
    assert!(parts.len() >= 4 && parts.first().is_some_and(|version| version.len() == 2));
    assert_eq!(parts.get(1).map(|id| id.parse()), Some(Ok(trace_id)));
    assert_eq!(parts.get(2).map(|id| id.parse()), Some(Ok(span_id)));
    let flags = parts.get(3).and_then(|flags| u8::from_str_radix(flags, 16).ok());
    assert_eq!(flags.map(|flags| flags & 1 == 1), Some(sampled));
}

/// Reads a `baggage` that came in any number of headers, hands it on, and merges it with one that
/// an outgoing request has. What goes out is legal and bounded; what came is in it.
pub fn baggage(headers: &[&[u8]], existing: &str) {
    const VALID: &[u8] = b"4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-1";
    let named = headers.iter().map(|header| ("baggage", *header));
    let with_ids = named.chain([("sentry-trace", VALID)]);
    let incoming = Incoming::read(with_ids, &Policy::default());
    let &trace = incoming.trace().expect("it is valid");
    let kept = incoming.members();
    assert!(kept.len() <= dsc::BYTES_MAX);
    assert!(back_calculate(&trace, kept.len() as u64) < 1_000_000);
    assert!(trace.rate.is_none_or(|rate| rate <= 1_000_000));

    let Trace { trace_id, parent: span_id, sampled, .. } = trace;
    let dsc = incoming.dsc().expect("it is continued");
    let out = TraceHeaders::new(&Outgoing { trace_id, span_id, sampled, dsc, traceparent: false });
    assert_eq!(out.baggage().unwrap_or_default().as_bytes(), kept);
    assert_legal(out.baggage().unwrap_or_default());
    let mut merged = String::new();
    out.merge_baggage(existing, &mut merged).expect("a string takes it");
    assert_legal(&merged);
    // Ours are whole or not at all in the order they have, and nobody else's are called like them.
    let ours = merged.split(',').filter(|member| member.starts_with("sentry-"));
    let mut left = out.baggage().unwrap_or_default().split(',');
    ours.for_each(|member| assert!(left.any(|own| own == member), "{member}"));

    let texts = headers.iter().map(|header| String::from_utf8_lossy(header));
    let texts: Vec<_> = texts.collect();
    let mut keys = std::collections::HashSet::new();
    let mut buffer = Vec::new();
    for ((key, text), (_, value)) in dsc::members(kept).zip(dsc::raw_members(kept)) {
        assert!(keys.insert(key), "{key} twice");
        assert_eq!(dsc::decode_into(value, &mut buffer), text);
        let came = format!("sentry-{key}");
        assert!(texts.iter().any(|header| header.contains(&came)), "{came} from nowhere");
    }
    let pieces: Vec<&[u8]> = dsc::pieces(kept, dsc::MEMBER_MAX).collect();
    assert!(pieces.iter().all(|piece| piece.len() <= dsc::MEMBER_MAX));
    assert_eq!(pieces.join(&b','), kept);
    let again = Incoming::read(&out, &Policy::default());
    assert_eq!(again.members(), kept);
}

/// What must hold for any header that goes out.
fn assert_legal(value: &str) {
    assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{value:?}");
    assert!(value.len() <= 8192 && value.split(',').count() <= 64);
}

/// Reads a rules file, and looks up ops and names made of its patterns. An error is short,
/// printable and on one line.
///
/// # Errors
/// Its text, when it is no rules file; rules that do not compile are read all the same.
#[cfg(feature = "rules-file")]
pub fn rules_file(data: &[u8]) -> Result<Sampling, String> {
    let checked = |error: RuleError| {
        let text = error.to_string();
        assert!(text.chars().count() <= 400 && !text.chars().any(char::is_control), "{text:?}");
        assert!(error.rule().is_none_or(|position| position > 0));
        text
    };
    let edits = sampling::parse(data).map_err(checked)?;
    let sampling = edits.over(&Sampling::default());
    match Table::compile(sampling.clone()) {
        Ok(table) => find_rules(&table, &sampling.rules),
        Err(error) => drop(checked(error)),
    }
    Ok(sampling)
}

/// Compares what the table finds with a scan over all rules.
#[cfg(feature = "rules-file")]
fn find_rules(table: &Table, rules: &[Rule]) {
    // The naive match takes exponential time, so it is asked about short patterns alone.
    const LONG: usize = 10;
    let is_short = |text: &Option<String>| text.as_ref().is_none_or(|text| text.len() <= LONG);
    if rules.len() > 50 || !rules.iter().all(|rule| is_short(&rule.op) && is_short(&rule.name)) {
        return;
    }
    let is = |pattern: &Option<String>, text: &str| {
        pattern.as_ref().is_none_or(|pattern| naive::matches(pattern, text))
    };
    let texts = |pattern: fn(&Rule) -> &Option<String>| {
        let of_rules = rules.iter().take(8).filter_map(move |rule| pattern(rule).as_deref());
        // As they stand, without what stands for others, and with something for it.
        of_rules
            .flat_map(|text| [text.into(), text.replace(['*', '\\'], ""), text.replace('?', "x")])
    };
    for op in texts(|rule| &rule.op).chain([String::new()]) {
        let found = table.by_op(&op);
        for name in texts(|rule| &rule.name).chain([String::new(), "orders".into()]) {
            let first = rules.iter().position(|rule| is(&rule.op, &op) && is(&rule.name, &name));
            let expected = first.and_then(|index| u16::try_from(index).ok());
            assert_eq!(table.by_name(&op, &name), expected, "{op:?} {name:?}");
            match found {
                Found::Rule(index) => assert_eq!(Some(index), expected, "{op:?}"),
                Found::NoRule => assert_eq!(None, expected, "{op:?}"),
                Found::ByName => {}
            }
        }
    }
}
