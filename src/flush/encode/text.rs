//! The texts of a span: what its record names, or what was set in its place.

use crate::shared::id::NameId;
use crate::shared::layout::{CUT, Scalar, Slot};

use super::attributes::Page;
use super::fragments::{Piece, Role};
use super::scan;
use super::value::{self, Payload};

/// A text that replaces the one in the record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Text {
    Name(NameId),
    /// An attribute that begins at this slot.
    Slot(usize),
}

/// A text as a fragment: the slot or name that replaces the record's own, if there is one and it is
/// good, else the record's own.
#[inline]
pub(super) fn of(
    page: &mut Page<'_>,
    role: Role,
    own: NameId,
    replaced_by: Option<Text>,
    scratch: &mut Payload,
) -> Option<Piece> {
    let piece = match replaced_by {
        Some(Text::Name(id)) => page.fragments.name(role, id),
        Some(Text::Slot(at)) => text_in_slot(page.run, at, scratch)
            .and_then(|(text, was_cut)| page.fragments.text(role, text, was_cut)),
        None => None,
    };
    page.trims.dropped += u64::from(replaced_by.is_some() && piece.is_none());
    let piece = match (piece, own) {
        (None, NameId::NONE | NameId::INLINE) => None,
        (None, id) => page.fragments.name(role, id),
        (piece, _) => piece,
    };
    page.trims.cut += u64::from(piece.is_some_and(Piece::is_cut));
    piece
}

/// The name that left with the trace's headers; `None`: they left without one. Where it cannot be
/// read, `now`.
pub(super) fn frozen(
    page: &mut Page<'_>,
    frozen: Text,
    now: Piece,
    scratch: &mut Payload,
) -> Option<Piece> {
    let piece = match frozen {
        Text::Name(id) => page.fragments.name(Role::Transaction, id),
        Text::Slot(at) if is_blank(page.run, at) => return None,
        Text::Slot(at) => text_in_slot(page.run, at, scratch)
            .and_then(|(text, was_cut)| page.fragments.text(Role::Transaction, text, was_cut)),
    };
    page.trims.dropped += u64::from(piece.is_none());
    Some(piece.unwrap_or(now))
}

fn is_blank(run: &[Slot], at: usize) -> bool {
    scan::attribute(run, at).is_some_and(|(header, _)| header.len == 0)
}

fn text_in_slot<'a>(run: &[Slot], at: usize, scratch: &'a mut Payload) -> Option<(&'a str, bool)> {
    let (header, slots) = scan::attribute(run, at)?;
    if Scalar::of(header.code) != Some(Scalar::Text) {
        return None;
    }
    let was_cut = header.code & CUT != 0;
    let bytes = scratch.of(slots, &header)?;
    Some((value::text(bytes, was_cut)?, was_cut))
}
