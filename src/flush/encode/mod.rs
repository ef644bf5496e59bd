//! From the slots of a transaction to the bytes of its envelope.
//!
//! Pure: no thread, clock or socket. [`Encoder::transaction`] takes every slot of one transaction,
//! in the order of the ring, and appends JSON to a buffer that it is given and gives back inside a
//! [`Parcel`]. Four steps:
//!
//! 1. `scan` finds the root and sorts the children and the attributes by span key, which joins
//!    them;
//! 2. the root's attributes are gathered, because its name goes into the header;
//! 3. the children are written, each from a form (`form`, `span`) and from names that were escaped
//!    once (`fragments`) and joined (`tails`), then what was set on them: what is usual straight
//!    from its slots (`plain`), anything else gathered (`attributes`, `text`, `value`);
//! 4. `contexts`, tags and measurements of the root close the payload, and its length is put into
//!    the item's header.
//!
//! # Costs
//! No allocation once the vectors have grown to the largest run, and linear in it. An item of 20
//! children of 273 bytes takes about 9,500 instructions, each attribute on them about 250 more
//! (`encode_instructions` in `tests/cost.rs` says how that is counted).
//!
//! # Limits
//! `max_spans` children, 819,200 bytes of them, 64 KiB for each section of a span. What is beyond
//! is left out and counted in [`Encoded`]; a root is always written. Together that stays below the
//! 1 MiB that an item may have.

mod attributes;
mod form;
mod fragments;
mod header;
mod json;
mod links;
mod plain;
mod root;
mod scan;
mod site;
mod span;
mod tails;
mod text;
mod time;
pub(crate) mod value;

#[cfg(test)]
pub(super) mod fixture;
#[cfg(test)]
mod tests;

use crate::flush::envelope::{Category, Parcel, Way};
use crate::sampling::decide::Why;
use crate::shared::clock::Anchor;
use crate::shared::id::{NameId, TraceId, WireIds};
use crate::shared::layout::{Slot, SpanRecord, flag};
use crate::shared::ledger::Count;
use crate::status::SpanStatus;

use attributes::{Attributes, Keys, MEASUREMENTS_MAX, Page, SECTION_MAX, Section, Trims};
use fragments::{Fragments, Piece, Role};
use header::{Header, Heading};
use scan::{Child, Scan};
use site::Pieces;
use span::Template;
use tails::Tails;
use value::Payload;

pub(crate) use scan::Invalid;
pub(crate) use site::Site;

/// Bytes of the `spans` array that Relay keeps; it cuts off what comes later.
const SPANS_MAX: usize = 819_200;
/// What Relay adds to each span before it counts, seen on Relay 26.9: of 700 spans of 1,263 bytes
/// it kept 592.
const RELAY_ADDS: usize = 128;
/// The largest item that Relay takes.
const ITEM_MAX: usize = 1024 * 1024;
/// Everything of a root but its sections: name, site, contexts, measurements. Far more than they
/// take.
const ROOT_MAX: usize = 32 * 1024;
/// The longest single value may come on top of a section that was just short of full.
const VALUE_JSON_MAX: usize = 8 * 1024;
const _: () = assert!(SPANS_MAX + 2 * (SECTION_MAX + VALUE_JSON_MAX) + ROOT_MAX < ITEM_MAX);

/// What went into an envelope, and what did not. Of the run's span records `1 + children_kept +
/// children_over_limit + children_unfit` were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Children that were written.
    pub(crate) children_kept: u64,
    /// Children beyond `max_spans`, or beyond the bytes that the server takes.
    pub(crate) children_over_limit: u64,
    /// Child records that had no key, or the key of another span.
    pub(crate) children_unfit: u64,
    /// Texts and values that were cut here; what the recording side cut, it has counted.
    pub(crate) cut: u64,
    /// Attributes that were left out: a key or value that the server would drop, one too many, or
    /// one whose span is not in the run. What was replaced by a later value is not counted.
    pub(crate) dropped: u64,
}

/// Turns runs of slots into envelopes; see the module.
pub(crate) struct Encoder {
    site: Pieces,
    fragments: Fragments,
    keys: Keys,
    scan: Scan,
    template: Template,
    tails: Tails,
    header: Header,
    root: Attributes,
    child: Attributes,
    scratch: Payload,
    /// Digits of the last payload's length: the guess for the next one.
    length_digits: usize,
}

impl Encoder {
    /// An encoder for one process's envelopes. Allocates its first tables.
    pub(crate) fn new(site: Site) -> Self {
        let mut fragments = Fragments::default();
        let keys = Keys::new(&mut fragments);
        Self {
            site: Pieces::new(&site),
            fragments,
            keys,
            scan: Scan::default(),
            template: Template::new(),
            tails: Tails::default(),
            header: Header::default(),
            root: Attributes::default(),
            child: Attributes::default(),
            scratch: Payload::default(),
            length_digits: 4,
        }
    }

    /// Writes the envelope of a transaction into `buffer`, which is cleared first.
    ///
    /// `run` holds exactly one root record; children and attributes stand anywhere in it. A child
    /// whose parent is not in the run hangs below the root.
    ///
    /// # Errors
    /// The buffer, and why the run is no transaction.
    pub(crate) fn transaction(
        &mut self,
        run: &[Slot],
        wire: &WireIds,
        anchor: &Anchor,
        mut buffer: Vec<u8>,
    ) -> Result<(Parcel, Encoded), (Vec<u8>, Invalid)> {
        buffer.clear();
        self.fragments.begin();
        let root = match self.scan.run(run) {
            Ok(root) => root,
            Err(invalid) => return Err((buffer, invalid)),
        };
        let mut page = Page {
            run,
            out: &mut buffer,
            fragments: &mut self.fragments,
            trims: Trims { cut: 0, dropped: self.scan.attributes_lost },
        };

        let slots = self.scan.attributes(self.scan.root_first, self.scan.root_count);
        self.root.gather(&mut page, slots, &self.keys);
        self.root.drop_reserved(&mut page, self.site.has_server_name);
        let name = text::of(
            &mut page,
            Role::Transaction,
            root.description,
            self.root.description,
            &mut self.scratch,
        );
        let name = name.or_else(|| page.fragments.text(Role::Transaction, "", false));
        let name = name.unwrap_or_default();

        let event_id = wire.event_id(root.key);
        let event_id_hex = time::wide_hex(event_id.0);
        let continued = self.root.continued;
        let trace = match &continued {
            Some(continued) => TraceId(continued.trace_id),
            None => wire.trace_id(root.key),
        };
        let why = Why::of(root.why);
        let trace_id = time::wide_hex(trace.0);
        let heading = Heading {
            event_id: &event_id_hex,
            trace_id: &trace_id,
            threshold: root.threshold,
            why,
            sample_rand: wire.sample_rand(root.key),
            name: match self.root.frozen {
                Some(frozen) => text::frozen(&mut page, frozen, name, &mut self.scratch),
                None => Some(name),
            },
            continued,
            slots,
        };
        let sent_at = self.header.write(&mut page, &self.site, &heading);

        let length_at = root::item(page.out, self.length_digits, &event_id_hex);
        let payload_at = length_at + self.length_digits + root::LENGTH_END;
        page.fragments.put(page.out, name);
        root::times(page.out, times(&root, anchor));
        page.out.extend_from_slice(&self.site.facts);

        self.template.set_trace(&trace_id);
        let measured = self.root.count(Section::Measurements).min(MEASUREMENTS_MAX);
        let mut writer = Children {
            scan: &self.scan,
            template: &mut self.template,
            tails: &mut self.tails,
            attributes: &mut self.child,
            keys: &self.keys,
            scratch: &mut self.scratch,
            wire,
            anchor,
            root: root.key,
            measurements_left: MEASUREMENTS_MAX - measured,
        };
        let kept = writer.write(&mut page, self.site.max_spans);
        let over = (self.scan.children.len() - kept) as u64;

        for (key, count) in [
            (self.keys.lost, u64::from(root.lost)),
            (self.keys.unfinished, u64::from(root.unfinished)),
            (self.keys.over_limit, over),
        ] {
            if count > 0 {
                self.root.number(Section::Data, key, count);
            }
        }
        if why != Why::Head {
            self.root.word(self.keys.kept, why.as_str());
        }
        self.root.keep_last(page.fragments);
        root::ids(page.out, &trace_id, wire.span_id(root.key).0, continued.map(|it| it.parent));
        contexts(&mut page, &self.site, &mut self.root, &mut self.scratch, &root);
        self.root.write(&mut page, Section::Tags, usize::MAX);
        self.root.write(&mut page, Section::Measurements, MEASUREMENTS_MAX);
        page.out.extend_from_slice(b"}\n");

        let trims = page.trims;
        let length = buffer.len() - 1 - payload_at;
        self.length_digits = root::patch_length(&mut buffer, length_at, self.length_digits, length);
        let parcel = Parcel {
            bytes: buffer,
            sent_at,
            category: Category::Transaction,
            event_id: Some(event_id),
            count: Count::transaction(kept as u64),
            way: Way::default(),
        };
        let encoded = Encoded {
            children_kept: kept as u64,
            children_over_limit: over,
            children_unfit: self.scan.children_unfit,
            cut: trims.cut,
            dropped: trims.dropped,
        };
        Ok((parcel, encoded))
    }
}

/// What writing the children takes.
struct Children<'a> {
    scan: &'a Scan,
    template: &'a mut Template,
    tails: &'a mut Tails,
    attributes: &'a mut Attributes,
    keys: &'a Keys,
    scratch: &'a mut Payload,
    wire: &'a WireIds,
    anchor: &'a Anchor,
    root: u64,
    measurements_left: usize,
}

impl Children<'_> {
    /// Appends `"spans":[…]` with the first children by key, at most `limit`; returns how many.
    fn write(&mut self, page: &mut Page<'_>, limit: usize) -> usize {
        page.out.extend_from_slice(b"\"spans\":");
        let (mark, trims, left) = (page.out.len(), page.trims, self.measurements_left);
        let mut limit = limit.min(self.scan.children.len());
        let mut kept;
        loop {
            let reach;
            (kept, reach) = self.write_first(page, limit);
            // A parent with a higher key (from another thread) may be among those that the bytes
            // left no room for. Once more, with those out of the picture: it takes the same bytes
            // at most.
            if reach <= kept || kept == limit {
                break;
            }
            limit = kept;
            page.out.truncate(mark);
            (page.trims, self.measurements_left) = (trims, left);
        }
        match page.out.get_mut(mark) {
            // In the place of the comma before the first child.
            Some(comma) => *comma = b'[',
            None => page.out.push(b'['),
        }
        page.out.push(b']');
        kept
    }

    /// How many of the first `limit` children found room, and how many of them must be kept for
    /// each child's parent to be there.
    // By itself, for its loop to have all registers.
    #[inline(never)]
    fn write_first(&mut self, page: &mut Page<'_>, limit: usize) -> (usize, usize) {
        let children = self.scan.children.get(..limit).unwrap_or_default();
        let mark = page.out.len();
        let (mut kept, mut reach) = (0, 0);
        let (mut last_parent, mut previous) = (self.root, self.root);
        self.template.set_parent(self.wire.span_id(self.root).0);
        for child in children {
            let Some(slot) = page.run.get(child.slot) else { break };
            let Some(record) = SpanRecord::of(slot) else { break };
            let found = match record.parent {
                parent if parent == self.root || parent == child.key => None,
                parent if parent == last_parent || parent == previous => Some(parent),
                parent => match children.binary_search_by_key(&parent, |child| child.key) {
                    Ok(index) => {
                        reach = reach.max(index + 1);
                        Some(parent)
                    }
                    Err(_) => None,
                },
            };
            previous = child.key;
            let parent = found.unwrap_or(self.root);
            if parent != last_parent {
                last_parent = parent;
                self.template.set_parent(self.wire.span_id(parent).0);
            }
            let (before, trims, left) = (page.out.len(), page.trims, self.measurements_left);
            self.child(page, child, record);
            if page.out.len() - mark + (kept + 1) * RELAY_ADDS > SPANS_MAX {
                page.out.truncate(before);
                (page.trims, self.measurements_left) = (trims, left);
                break;
            }
            kept += 1;
        }
        (kept, reach)
    }

    #[inline]
    fn child(&mut self, page: &mut Page<'_>, child: &Child, record: SpanRecord) {
        let (start, end) = times(&record, self.anchor);
        self.template.append(page.out, self.wire.span_id(child.key).0, start, end);
        let mark = page.out.len();
        if !self.usual(page, child, &record) {
            page.out.truncate(mark);
            self.any(page, child);
        }
        page.out.push(b'}');
    }

    /// Appends the rest of a child as most are: named as others were, without a status, with at
    /// most such tags and data as [`plain`] writes. `false`: it is another, and only a part of it
    /// was appended.
    #[inline]
    fn usual(&self, page: &mut Page<'_>, child: &Child, record: &SpanRecord) -> bool {
        record.flags & (flag::PANICKED | flag::CANCELLED) == 0
            && child.kinds & !plain::KINDS == 0
            && self.tails.put(page.out, record)
            && (child.kinds == 0 || {
                let slots = self.scan.attributes(child.first, child.count);
                plain::write(page, slots, child.kinds)
            })
    }

    /// Appends the rest of any child.
    // It decodes the record again, which in the loop then need not lie in memory.
    #[inline(never)]
    fn any(&mut self, page: &mut Page<'_>, child: &Child) {
        let Some(record) = page.run.get(child.slot).and_then(SpanRecord::of) else { return };
        let slots = self.scan.attributes(child.first, child.count);
        self.attributes.gather(page, slots, self.keys);
        let mark = page.out.len();
        page.out.extend_from_slice(tails::ORIGIN);
        let mut are_usual = true;
        for (role, own, replaced_by) in [
            (Role::Op, record.op, self.attributes.op),
            (Role::Description, record.description, self.attributes.description),
        ] {
            let piece = text::of(page, role, own, replaced_by, self.scratch);
            fragment(page, piece);
            are_usual &= replaced_by.is_none()
                && match piece {
                    Some(piece) => !piece.is_cut(),
                    None => own == NameId::NONE,
                };
        }
        if are_usual {
            self.tails.keep(&record, page.out.get(mark..).unwrap_or_default());
        }
        status(page.out, &record, self.attributes.status);
        if self.attributes.is_empty() {
            return;
        }
        self.attributes.write(page, Section::Tags, usize::MAX);
        self.attributes.write(page, Section::Data, usize::MAX);
        links::write(page.out, &self.attributes.links);
        self.measurements_left -=
            self.attributes.write(page, Section::Measurements, self.measurements_left);
    }
}

/// Appends the rest of `contexts`, behind the ids: the root's data, the response, and what the site
/// knows.
fn contexts(
    page: &mut Page<'_>,
    site: &Pieces,
    set: &mut Attributes,
    scratch: &mut Payload,
    root: &SpanRecord,
) {
    let op = text::of(page, Role::Op, root.op, set.op, scratch);
    fragment(page, op);
    status(page.out, root, set.status);
    let before = page.out.len();
    set.write(page, Section::Data, usize::MAX);
    let fit = links::beside(page.out.len() - before);
    page.trims.dropped += set.links.len().saturating_sub(fit) as u64;
    set.links.truncate(fit);
    links::write(page.out, &set.links);
    page.out.push(b'}');
    if let Some(code) = set.response {
        page.out.extend_from_slice(b",\"response\":{\"status_code\":");
        json::integer(page.out, code);
        page.out.push(b'}');
    }
    page.out.extend_from_slice(&site.contexts);
}

/// Start and end in unix nanoseconds; never an end before its start.
#[inline]
pub(super) fn times(record: &SpanRecord, anchor: &Anchor) -> (u64, u64) {
    let moment = |raw, is_unix: u8| {
        if record.flags & is_unix != 0 { raw } else { anchor.unix_nanos(raw) }
    };
    let start = moment(record.start, flag::START_UNIX);
    (start, moment(record.end, flag::END_UNIX).max(start))
}

#[inline]
fn fragment(page: &mut Page<'_>, piece: Option<Piece>) {
    if let Some(piece) = piece {
        page.fragments.put(page.out, piece);
    }
}

/// Appends `,"status":"…"`, if there is one. That its future was dropped outweighs a panic (which
/// may have dropped it), and a panic whatever was set.
#[inline]
fn status(out: &mut Vec<u8>, record: &SpanRecord, set: Option<SpanStatus>) {
    let set = match record.flags & (flag::PANICKED | flag::CANCELLED) {
        0 => set,
        flag::PANICKED => Some(SpanStatus::InternalError),
        _ => Some(SpanStatus::Cancelled),
    };
    if let Some(status) = set {
        out.extend_from_slice(b",\"status\":\"");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b'"');
    }
}
