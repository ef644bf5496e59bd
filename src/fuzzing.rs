//! The pure parts, opened to the fuzz targets in `fuzz/` and to `benches/encode.rs`. Compiled only
//! under `cfg(fuzzing)`, which cargo-fuzz sets.

use std::time::Duration;

use crate::flush::encode::{Encoder, Site};
use crate::flush::envelope::Category;
use crate::flush::limits::Limits;
use crate::shared::clock::Anchor;
use crate::shared::id::WireIds;
use crate::shared::layout::{Kind, Scalar, Slot, SpanRecord, WORDS, attribute_header};
use crate::shared::names;
use crate::transport::Response;

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
            *header = u64::from(kind % 16)
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
