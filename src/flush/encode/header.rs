//! The first line of an envelope: whose event it is, and the sampling context of its trace.
//!
//! Three cases. A transaction that is the head of its trace says what it knows itself. One that
//! continues a trace says what came with it, unchanged, but for the trace's id, which the other
//! header decides, and for the rate, where the decision was its own. One that continues a trace
//! that came without context says nothing: to make something up would contradict the head, and the
//! server can do that better.
//!
//! # Limits
//! 64 members, 16 KiB of them; what is beyond is left out, and was not to be expected: the sender
//! may not write so much. Members that cannot be read are passed over.

use std::ops::Range;

use crate::flush::envelope::SENT_AT_BLANK;
use crate::propagate::dsc::{decode_into, raw_members};
use crate::sampling::decide::Why;
use crate::shared::layout::{Kind, Scalar, continued};
use crate::shared::traces::Continued;

use super::attributes::Page;
use super::fragments::Piece;
use super::site::{EVENT_ID, Pieces};
use super::time::ID;
use super::value::Payload;
use super::{form, json, scan, time};

/// `,"sample_rand":"0.…"`.
const RAND: [u8; RAND_AT + 7] = form::joined(&[b",\"sample_rand\":\"0.", b"......", b"\""]);
const RAND_AT: usize = b",\"sample_rand\":\"0.".len();

/// How a header ends.
const END: [u8; SENT_AT_BLANK.len() + 2] = form::joined(&[SENT_AT_BLANK.as_bytes(), b"}\n"]);

/// Members that are passed on: what the W3C allows.
const MEMBERS_MAX: usize = 64;
/// Bytes of them, as JSON.
const BYTES_MAX: usize = 16 * 1024;

/// What the header of one transaction says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heading<'a> {
    pub(super) event_id: &'a [u8; 2 * ID],
    pub(super) trace_id: &'a [u8; 2 * ID],
    /// The probability with which it was kept, and what for.
    pub(super) threshold: u32,
    pub(super) why: Why,
    /// Of a head: its `sample_rand`, and its name as others know it.
    pub(super) sample_rand: u32,
    pub(super) name: Option<Piece>,
    pub(super) continued: Option<Continued>,
    /// The root's attributes.
    pub(super) slots: &'a [(u64, usize)],
}

/// Writes headers, in room that is kept.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// Where the keys of this header's members lie.
    keys: Vec<Range<usize>>,
    plain: Vec<u8>,
    payload: Payload,
}

impl Header {
    /// Appends the line; returns where its `sent_at` is.
    pub(super) fn write(
        &mut self,
        page: &mut Page<'_>,
        site: &Pieces,
        heading: &Heading<'_>,
    ) -> Range<usize> {
        let trace_at = site.trace_at.filter(|_| heading.continued.is_none());
        let opening = if trace_at.is_some() { site.opening.len() } else { site.untraced };
        let begin = page.out.len();
        page.out.extend_from_slice(site.opening.get(..opening).unwrap_or_default());
        fill(page.out, begin + EVENT_ID.len(), heading.event_id);
        match (trace_at, heading.continued) {
            (Some(at), _) => {
                fill(page.out, begin + at, heading.trace_id);
                own(page, site, heading);
            }
            (None, Some(continued)) if continued.flags & continued::HAS_DSC != 0 => {
                self.passed_on(page, heading, &continued);
            }
            _ => {}
        }
        let start = page.out.len();
        page.out.extend_from_slice(&END);
        start..start + SENT_AT_BLANK.len()
    }

    /// Appends `trace` with the members that came; nothing, if none of them is good.
    fn passed_on(&mut self, page: &mut Page<'_>, heading: &Heading<'_>, continued: &Continued) {
        let is_theirs =
            continued.flags & continued::PARENT_DECIDED != 0 && heading.why == Why::Head;
        let own = (!is_theirs).then_some(heading.threshold);
        let mark = page.out.len();
        page.out.extend_from_slice(b",\"trace\":{");
        self.keys.clear();
        let at = page.out.len();
        page.out.extend_from_slice(TRACE_ID);
        self.keys.push(at..page.out.len());
        page.out.extend_from_slice(b":\"");
        page.out.extend_from_slice(heading.trace_id);
        page.out.push(b'"');
        for (_, at) in heading.slots {
            let Some((header, slots)) = scan::attribute(page.run, *at) else { continue };
            if header.kind != Kind::Dsc || Scalar::of(header.code) != Some(Scalar::Text) {
                continue;
            }
            let Some(text) = self.payload.of(slots, &header) else { continue };
            for (key, value) in raw_members(text) {
                let before = page.out.len();
                if before - mark > BYTES_MAX {
                    break;
                }
                let room = (&mut self.keys, &mut self.plain);
                if member(page.out, (key, value), own, room).is_none() {
                    page.out.truncate(before);
                }
            }
        }
        if self.keys.len() == 1 {
            page.out.truncate(mark);
            return;
        }
        if let Some(threshold) = own {
            if !has(&self.keys, page.out, SAMPLE_RATE) {
                page.out.push(b',');
                page.out.extend_from_slice(SAMPLE_RATE);
                rate(page.out, threshold);
            }
            if !has(&self.keys, page.out, SAMPLED) {
                page.out.push(b',');
                page.out.extend_from_slice(SAMPLED);
                page.out.extend_from_slice(b":\"true\"");
            }
        }
        page.out.push(b'}');
    }
}

/// Keys as they are written.
const TRACE_ID: &[u8] = b"\"trace_id\"";
const SAMPLE_RATE: &[u8] = b"\"sample_rate\"";
const SAMPLED: &[u8] = b"\"sampled\"";

/// Whether a key was written.
fn has(keys: &[Range<usize>], out: &[u8], key: &[u8]) -> bool {
    keys.iter().any(|range| out.get(range.clone()) == Some(key))
}

/// Appends a comma and a member that came, with the own decision in the place of theirs, if there
/// is one. `None`: it is no good, and only a part of it was appended.
fn member(
    out: &mut Vec<u8>,
    (key, value): (&str, &[u8]),
    own: Option<u32>,
    (keys, plain): (&mut Vec<Range<usize>>, &mut Vec<u8>),
) -> Option<()> {
    let at = out.len() + 1;
    out.push(b',');
    json::string(out, key);
    let written = at..out.len();
    let key = out.get(at..)?;
    if keys.len() >= MEMBERS_MAX || has(keys, out, key) {
        return None;
    }
    match own {
        Some(threshold) if key == SAMPLE_RATE => rate(out, threshold),
        Some(_) if key == SAMPLED => out.extend_from_slice(b":\"true\""),
        _ => {
            out.push(b':');
            json::string(out, decode_into(value, plain));
        }
    }
    keys.push(written);
    Some(())
}

/// Writes an id into its blank.
fn fill(out: &mut [u8], at: usize, id: &[u8; 2 * ID]) {
    if let Some(blank) = out.get_mut(at..at + id.len()) {
        blank.copy_from_slice(id);
    }
}

/// Appends what follows in the `trace` of a transaction that is the head of its trace.
fn own(page: &mut Page<'_>, site: &Pieces, heading: &Heading<'_>) {
    rate(page.out, heading.threshold);
    if let Some(rand) = form::append(page.out, &RAND) {
        form::put(rand, RAND_AT, &time::six(u64::from(heading.sample_rand)));
    }
    page.out.extend_from_slice(&site.trace);
    if let Some(name) = heading.name {
        page.out.extend_from_slice(b",\"transaction\":");
        page.fragments.put(page.out, name);
    }
    page.out.push(b'}');
}

/// Appends `:"…"` with millionths as a decimal without superfluous zeros.
fn rate(out: &mut Vec<u8>, millionths: u32) {
    if millionths == 1_000_000 {
        return out.extend_from_slice(b":\"1.0\"");
    }
    out.extend_from_slice(b":\"");
    match millionths {
        0 => out.extend_from_slice(b"0.0"),
        1..1_000_000 => {
            out.extend_from_slice(b"0.");
            out.extend_from_slice(&time::six(u64::from(millionths)));
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
        _ => out.extend_from_slice(b"1.0"),
    }
    out.push(b'"');
}
