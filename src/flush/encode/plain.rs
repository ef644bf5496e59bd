//! What is set on most children: tags and data by keys that were used before, with short values.
//! Written straight from the slots.
//!
//! For anything else this gives up, and [`Attributes`](super::attributes::Attributes) gathers what
//! is set, sorts out what was replaced, and writes it in a longer way. Both write the same.

use crate::shared::layout::{AttributeHeader, Kind};

use super::attributes::{Page, Section, close};
use super::fragments::Role;
use super::value;

/// The kinds that are written here, as bits.
pub(super) const KINDS: u32 = TAG | DATA;
const TAG: u32 = 1 << Kind::Tag as u32;
const DATA: u32 = 1 << Kind::Data as u32;

/// Appends the tags and the data that are set by these slots, as the bits say which of them there
/// are. `false`: there is something else about them, and only a part was appended.
#[inline]
pub(super) fn write(page: &mut Page<'_>, slots: &[(u64, usize)], kinds: u32) -> bool {
    (kinds & TAG == 0 || section(page, slots, Section::Tags))
        && (kinds & DATA == 0 || section(page, slots, Section::Data))
}

fn section(page: &mut Page<'_>, slots: &[(u64, usize)], section: Section) -> bool {
    let (kind, role) = match section {
        Section::Tags => (Kind::Tag, Role::TagKey),
        Section::Data => (Kind::Data, Role::DataKey),
        Section::Measurements => return false,
    };
    section.open(page.out);
    let members = page.out.len();
    // As each key has a bit of its own there are at most 64, which is far from `SECTION_MAX`.
    let mut bits = 0;
    for (_, at) in slots {
        let Some(slot) = page.run.get(*at) else { return false };
        let Some(header) = AttributeHeader::of(slot) else { return false };
        if header.kind != kind {
            continue;
        }
        let Some((key, bytes)) = page.fragments.short(role, header.name) else { return false };
        if bits & key.bit() != 0 {
            return false;
        }
        bits |= key.bit();
        let at = page.out.len();
        page.out.extend_from_slice(bytes);
        let room = page.out.get_mut(at + key.len()..).and_then(<[u8]>::first_chunk_mut);
        let is_tag = kind == Kind::Tag;
        let Some(len) = room.and_then(|room| value::short(room, &header, slot, is_tag)) else {
            return false;
        };
        page.out.truncate(at + key.len() + len);
    }
    close(page.out, members);
    true
}
