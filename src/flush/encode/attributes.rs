//! What was set on one span: gathered from its slots in the order of setting, then written section
//! by section. The same key set twice leaves the later one; no object gets a key twice.

use crate::shared::id::NameId;
use crate::shared::layout::{AttributeHeader, Kind, Slot, UNIT_MAX};
use crate::shared::names;
use crate::shared::traces::Continued;
use crate::status::SpanStatus;

use super::fragments::{Fragments, Piece, Role};
use super::links::{LINKS_MAX, Link};
use super::text::Text;
use super::value::{self, Payload, Written};
use super::{json, scan};

/// Bytes of one section of one span; what comes later is dropped.
pub(super) const SECTION_MAX: usize = 64 * 1024;
/// Measurements a transaction: Relay keeps no more.
pub(super) const MEASUREMENTS_MAX: usize = 10;
/// Up to so many, looking at all pairs is cheaper than sorting.
const PAIRWISE_MAX: usize = 16;
/// The tags of an event that mean something else to Relay, which takes them away.
const RESERVED_TAGS: [&[u8]; 6] = [
    b",\"release\":",
    b",\"dist\":",
    b",\"environment\":",
    b",\"user\":",
    b",\"filename\":",
    b",\"function\":",
];

/// The same, when the event has a server name.
const SERVER_NAME_TAG: &[u8] = b",\"server_name\":";

/// An object of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Tags,
    Data,
    Measurements,
}

impl Section {
    /// Appends what stands in front of its members. Each of the three is a copy of known length.
    #[inline]
    pub(super) fn open(self, out: &mut Vec<u8>) {
        match self {
            Self::Tags => out.extend_from_slice(b",\"tags\":"),
            Self::Data => out.extend_from_slice(b",\"data\":"),
            Self::Measurements => out.extend_from_slice(b",\"measurements\":"),
        }
    }
}

/// Makes an object of members that begin here, each with a comma in front.
#[inline]
pub(super) fn close(out: &mut Vec<u8>, members: usize) {
    if let Some(comma) = out.get_mut(members) {
        *comma = b'{';
    }
    out.push(b'}');
}

/// What is being read, and where to.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) run: &'a [Slot],
    pub(super) out: &'a mut Vec<u8>,
    pub(super) fragments: &'a mut Fragments,
    pub(super) trims: Trims,
}

/// One member of an object.
#[derive(Clone, Copy, Debug)]
struct Item {
    section: Section,
    /// A later one has the same key.
    is_replaced: bool,
    key: Piece,
    value: Source,
}

/// Where a member's value is.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// An attribute that begins at this slot.
    Slot(usize),
    Number(u64),
    Word(&'static str),
}

/// What was cut, and what was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trims {
    pub(super) cut: u64,
    pub(super) dropped: u64,
}

/// Keys that the encoder sets itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    status_tag: Piece,
    status_data: Piece,
    pub(super) lost: Piece,
    pub(super) unfinished: Piece,
    pub(super) over_limit: Piece,
    pub(super) kept: Piece,
}

impl Keys {
    pub(super) fn new(fragments: &mut Fragments) -> Self {
        Self {
            status_tag: fragments.fixed(Role::TagKey, "http.status_code"),
            status_data: fragments.fixed(Role::DataKey, "http.response.status_code"),
            lost: fragments.fixed(Role::DataKey, "hotspan.lost"),
            unfinished: fragments.fixed(Role::DataKey, "hotspan.unfinished"),
            over_limit: fragments.fixed(Role::DataKey, "hotspan.over_limit"),
            kept: fragments.fixed(Role::DataKey, "hotspan.kept"),
        }
    }
}

/// The attributes of one span.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    items: Vec<Item>,
    order: Vec<usize>,
    payload: Payload,
    plain: Vec<u8>,
    /// Of each section, the bits of its keys: nothing was set where there is none.
    bits: [u64; 3],
    /// Two keys of one section had one bit: they may be the same.
    may_repeat: bool,
    pub(super) status: Option<SpanStatus>,
    pub(super) response: Option<u16>,
    pub(super) description: Option<Text>,
    pub(super) op: Option<Text>,
    pub(super) links: Vec<Link>,
    /// Of a root.
    pub(super) continued: Option<Continued>,
    pub(super) frozen: Option<Text>,
}

impl Attributes {
    /// Reads the attributes at these slots of the run.
    pub(super) fn gather(&mut self, page: &mut Page<'_>, slots: &[(u64, usize)], keys: &Keys) {
        self.items.clear();
        (self.bits, self.may_repeat) = ([0; 3], false);
        (self.status, self.response, self.description, self.op) = (None, None, None, None);
        self.links.clear();
        (self.continued, self.frozen) = (None, None);
        for (_, at) in slots {
            if self.add(page.run, *at, keys, page.fragments).is_none() {
                page.trims.dropped += 1;
            }
        }
        self.keep_last(page.fragments);
    }

    /// Takes one attribute in; `None` if it is no good.
    #[inline]
    fn add(
        &mut self,
        run: &[Slot],
        at: usize,
        keys: &Keys,
        fragments: &mut Fragments,
    ) -> Option<()> {
        let header = AttributeHeader::of(run.get(at)?)?;
        let (section, role) = match header.kind {
            Kind::Tag => (Section::Tags, Role::TagKey),
            Kind::Data => (Section::Data, Role::DataKey),
            Kind::Measurement => (Section::Measurements, Role::Measurement),
            _ => return self.add_other(run, at, keys),
        };
        let key = if header.name == NameId::INLINE {
            let payload = self.payload.at(run, at, &header)?;
            let (name, _) = value::split_name(header.name, payload)?;
            fragments.text(role, name, false)?
        } else {
            fragments.name(role, header.name)?
        };
        self.push(section, key, Source::Slot(at));
        Some(())
    }

    /// Takes in what is not set by a key.
    #[inline(never)]
    fn add_other(&mut self, run: &[Slot], at: usize, keys: &Keys) -> Option<()> {
        let header = AttributeHeader::of(run.get(at)?)?;
        match header.kind {
            Kind::Description | Kind::Op | Kind::Frozen => {
                let text = match header.name {
                    NameId::NONE | NameId::INLINE => Text::Slot(at),
                    name => Text::Name(name),
                };
                match header.kind {
                    Kind::Op => self.op = Some(text),
                    Kind::Description => self.description = Some(text),
                    _ => self.frozen = self.frozen.or(Some(text)),
                }
            }
            Kind::Status => {
                let payload = self.payload.at(run, at, &header)?;
                let [code] = payload else { return None };
                self.status = Some(SpanStatus::from_code(*code)?);
            }
            Kind::HttpStatus => {
                let payload = self.payload.at(run, at, &header)?;
                let code = u64::from_le_bytes(payload.try_into().ok()?);
                let code = u16::try_from(code).ok()?;
                self.status = Some(SpanStatus::from_http(code));
                self.response = Some(code);
                self.number(Section::Tags, keys.status_tag, u64::from(code));
                self.number(Section::Data, keys.status_data, u64::from(code));
            }
            Kind::Link => {
                let payload = self.payload.at(run, at, &header)?;
                let link = Link::of(&header, payload)?;
                if self.links.len() >= LINKS_MAX {
                    return None;
                }
                self.links.push(link);
            }
            Kind::Trace => {
                if self.continued.is_none() {
                    let payload = self.payload.at(run, at, &header)?;
                    self.continued = Some(Continued::of(payload)?);
                }
            }
            // Read when the header is written; what decided whether there is an envelope.
            Kind::Dsc | Kind::Asked => return Some(()),
            // The three that are set by a key are not seen here.
            Kind::Tag | Kind::Data | Kind::Measurement => return None,
            Kind::Child | Kind::Root | Kind::Turn | Kind::Parted => return None,
        }
        Some(())
    }

    /// Adds a number of the encoder's own; [`keep_last`](Self::keep_last) afterwards.
    pub(super) fn number(&mut self, section: Section, key: Piece, value: u64) {
        self.push(section, key, Source::Number(value));
    }

    /// Adds a word of the encoder's own to the data, in the same way.
    pub(super) fn word(&mut self, key: Piece, word: &'static str) {
        self.push(Section::Data, key, Source::Word(word));
    }

    #[inline]
    fn push(&mut self, section: Section, key: Piece, value: Source) {
        #[expect(clippy::indexing_slicing, reason = "one for each of the three sections")]
        let bits = &mut self.bits[section as usize];
        let before = *bits;
        *bits |= key.bit();
        self.may_repeat |= *bits == before;
        self.items.push(Item { section, is_replaced: false, key, value });
    }

    /// Marks what a later item of the same section and key replaces.
    #[inline]
    pub(super) fn keep_last(&mut self, fragments: &Fragments) {
        if self.may_repeat {
            self.mark_replaced(fragments);
        }
    }

    fn mark_replaced(&mut self, fragments: &Fragments) {
        if self.items.len() <= PAIRWISE_MAX {
            let mut rest = self.items.as_mut_slice();
            while let Some((item, later)) = rest.split_first_mut() {
                item.is_replaced = later.iter().any(|other| {
                    other.section == item.section && fragments.is_same(other.key, item.key)
                });
                rest = later;
            }
            return;
        }
        let items = &mut self.items;
        let name = |item: &Item| (item.section, fragments.bytes(item.key));
        self.order.clear();
        self.order.extend(0..items.len());
        self.order.sort_unstable_by(|one, other| match (items.get(*one), items.get(*other)) {
            (Some(a), Some(b)) => name(a).cmp(&name(b)).then(one.cmp(other)),
            _ => one.cmp(other),
        });
        for pair in self.order.windows(2) {
            let [one, next] = *pair else { continue };
            let same = match (items.get(one), items.get(next)) {
                (Some(a), Some(b)) => name(a) == name(b),
                _ => false,
            };
            if let Some(item) = items.get_mut(one) {
                item.is_replaced = same;
            }
        }
    }

    /// Drops the tags that mean something else on a transaction.
    pub(super) fn drop_reserved(&mut self, page: &mut Page<'_>, has_server_name: bool) {
        if self.has_none(Section::Tags) {
            return;
        }
        let Page { fragments, trims, .. } = page;
        self.items.retain(|item| {
            let key = fragments.bytes(item.key);
            let is_reserved = item.section == Section::Tags
                && (RESERVED_TAGS.contains(&key) || has_server_name && key == SERVER_NAME_TAG);
            trims.dropped += u64::from(is_reserved && !item.is_replaced);
            !is_reserved
        });
    }

    /// How many members a section is going to have at most.
    pub(super) fn count(&self, section: Section) -> usize {
        if self.has_none(section) {
            return 0;
        }
        self.items.iter().filter(|item| item.section == section && !item.is_replaced).count()
    }

    /// Whether nothing at all was set there.
    #[inline]
    fn has_none(&self, section: Section) -> bool {
        #[expect(clippy::indexing_slicing, reason = "one for each of the three sections")]
        let bits = self.bits[section as usize];
        bits == 0
    }

    /// Whether there is nothing to be written but texts and a status.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.links.is_empty()
    }

    /// Appends a section with at most `members_max` members; nothing if it has none. Returns how
    /// many were written.
    #[inline]
    pub(super) fn write(
        &mut self,
        page: &mut Page<'_>,
        section: Section,
        members_max: usize,
    ) -> usize {
        match self.has_none(section) {
            true => 0,
            false => self.write_members(page, section, members_max),
        }
    }

    #[inline(never)]
    fn write_members(
        &mut self,
        page: &mut Page<'_>,
        section: Section,
        members_max: usize,
    ) -> usize {
        let mark = page.out.len();
        section.open(page.out);
        let members = page.out.len();
        let mut written = 0;
        for item in self.items.iter().filter(|item| item.section == section && !item.is_replaced) {
            let before = page.out.len();
            if before - mark >= SECTION_MAX || written >= members_max {
                page.trims.dropped += 1;
                continue;
            }
            page.fragments.put(page.out, item.key);
            if section != Section::Measurements
                && let Source::Slot(at) = item.value
                && let Some(slot) = page.run.get(at)
                && put_short(page.out, slot, section == Section::Tags)
            {
                written += 1;
                continue;
            }
            let scratch = (&mut self.payload, &mut self.plain);
            match write_value(page.out, page.run, section, item.value, scratch) {
                Written::Unfit => {
                    page.out.truncate(before);
                    page.trims.dropped += 1;
                }
                fate => {
                    page.trims.cut += u64::from(fate == Written::Cut);
                    written += 1;
                }
            }
        }
        match written {
            0 => page.out.truncate(mark),
            _ => close(page.out, members),
        }
        written
    }
}

/// Appends a short value; `false`, and nothing, if it is another.
#[inline(never)]
fn put_short(out: &mut Vec<u8>, slot: &Slot, is_tag: bool) -> bool {
    let mut room = [0; value::ROOM];
    let header = AttributeHeader::of(slot);
    let written = header.and_then(|header| value::short(&mut room, &header, slot, is_tag));
    out.extend_from_slice(written.and_then(|len| room.get(..len)).unwrap_or_default());
    written.is_some()
}

#[inline(never)]
fn write_value(
    out: &mut Vec<u8>,
    run: &[Slot],
    section: Section,
    source: Source,
    (payload, plain): (&mut Payload, &mut Vec<u8>),
) -> Written {
    let at = match source {
        Source::Slot(at) => at,
        Source::Number(number) => {
            let quote: &[u8] = if section == Section::Tags { b"\"" } else { b"" };
            out.extend_from_slice(quote);
            json::integer(out, number);
            out.extend_from_slice(quote);
            return Written::Whole;
        }
        Source::Word(word) => {
            json::string(out, word);
            return Written::Whole;
        }
    };
    let Some((header, slots)) = scan::attribute(run, at) else { return Written::Unfit };
    let bytes = payload.of(slots, &header);
    let Some((_, bytes)) = bytes.and_then(|bytes| value::split_name(header.name, bytes)) else {
        return Written::Unfit;
    };
    match section {
        Section::Tags => value::tag(out, header.code, bytes, plain),
        Section::Data => value::typed(out, header.code, bytes),
        Section::Measurements => measurement(out, bytes),
    }
}

/// Appends `{"value":…,"unit":"…"}`. A unit that Relay does not take is left out.
fn measurement(out: &mut Vec<u8>, bytes: &[u8]) -> Written {
    let Some((value, unit)) = bytes.split_first_chunk::<8>() else { return Written::Unfit };
    let Ok(unit) = <[u8; 4]>::try_from(unit) else { return Written::Unfit };
    out.extend_from_slice(b"{\"value\":");
    if !json::float(out, f64::from_le_bytes(*value)) {
        return Written::Unfit;
    }
    let unit = match NameId(u32::from_le_bytes(unit)) {
        NameId::NONE => "",
        unit => names::text(unit).unwrap_or("?"),
    };
    let fits = unit.len() <= UNIT_MAX
        && unit.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fits && !unit.is_empty() {
        out.extend_from_slice(b",\"unit\":\"");
        out.extend(unit.bytes().map(|byte| byte.to_ascii_lowercase()));
        out.push(b'"');
    }
    out.push(b'}');
    Written::cut_if(!fits)
}
