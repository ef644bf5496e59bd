//! Names that were escaped once: each name of the name table, in each part it plays, is kept as the
//! JSON that it becomes.
//!
//! The table of a part is indexed by name id; its entries point into one buffer. Ids beyond
//! [`IDS_MAX`], what comes when that buffer holds [`KEPT_MAX`] bytes, and names that travelled
//! inline are escaped again each time, into a second buffer that is forgotten with the transaction.
//!
//! # Limits
//! At most 6 tables of 128 KiB and one buffer of 1 MiB.

use std::ops::Range;

use crate::shared::id::NameId;
use crate::shared::names;

use super::{json, value};

/// Name ids that are remembered; ids count up from 1 in the order of first use.
const IDS_MAX: usize = 16 * 1024;
/// Bytes of remembered fragments.
const KEPT_MAX: usize = 1024 * 1024;

/// Pieces of at most so many bytes are copied as if they had so many.
const SHORT: usize = 64;
/// A short key, and room for a short value.
pub(super) const MEMBER: usize = SHORT + value::ROOM;

/// Bytes at its end that a piece is told by, at first sight.
const MARKED: usize = 16;

/// The longest op, in characters.
pub(super) const OP_MAX: usize = 128;
/// The longest transaction name, tag key, tag value, in characters.
pub(super) const NAME_MAX: usize = 200;
/// The longest description, in characters.
pub(super) const DESCRIPTION_MAX: usize = 1024;

/// What the product shows for a transaction without a name.
const UNLABELED: &str = "<unlabeled transaction>";

/// The part that a name plays.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// `,"op":"…"`, or nothing.
    Op,
    /// `,"description":"…"`, or nothing.
    Description,
    /// `"…"`: the name of a transaction.
    Transaction,
    /// `,"…":` in `tags`.
    TagKey,
    /// `,"…":` in `data`.
    DataKey,
    /// `,"…":` in `measurements`.
    Measurement,
}

const ROLES: usize = 6;

/// A piece of JSON in [`Fragments`]; good until the next [`Fragments::begin`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Piece {
    start: u32,
    len: u16,
    state: State,
    mark: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nobody asked yet.
    #[default]
    Unknown,
    /// In the buffer that stays.
    Kept,
    /// The same, and the text was longer.
    KeptCut,
    /// In the buffer of this transaction.
    Passing,
    PassingCut,
    /// The name cannot play this part.
    Unfit,
}

impl Piece {
    /// Whether the text was longer.
    pub(super) const fn is_cut(self) -> bool {
        matches!(self.state, State::KeptCut | State::PassingCut)
    }

    /// Its bytes.
    #[inline]
    pub(super) const fn len(self) -> usize {
        self.len as usize
    }

    /// One of 64 bits, the same for pieces that say the same.
    #[inline]
    pub(super) const fn bit(self) -> u64 {
        1 << (self.mark % 64)
    }
}

/// The escaped names.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    tables: [Vec<Piece>; ROLES],
    /// Zeros stand behind the last one, so that it can be copied as if it had [`MEMBER`] bytes.
    kept: Vec<u8>,
    passing: Vec<u8>,
}

impl Fragments {
    /// A fragment that the encoder itself needs, kept for ever.
    pub(super) fn fixed(&mut self, role: Role, text: &str) -> Piece {
        let start = self.kept.len().saturating_sub(MEMBER);
        self.kept.truncate(start);
        let cut = render(&mut self.kept, role, text, false);
        let end = self.kept.len();
        self.kept.resize(end + MEMBER, 0);
        match cut {
            Some(cut) => {
                piece(&self.kept, start..end, if cut { State::KeptCut } else { State::Kept })
            }
            None => Piece { state: State::Unfit, ..Piece::default() },
        }
    }

    /// A new transaction: what was passing is forgotten.
    pub(super) fn begin(&mut self) {
        self.passing.clear();
        self.passing.shrink_to(KEPT_MAX);
    }

    /// The name as JSON; `None` when there is no such name, or when it is unfit for the part.
    #[inline]
    pub(super) fn name(&mut self, role: Role, id: NameId) -> Option<Piece> {
        #[expect(clippy::indexing_slicing, reason = "one table per role")]
        let table = &self.tables[role as usize];
        match table.get(id.0 as usize) {
            Some(piece) if piece.state == State::Unfit => None,
            Some(piece) if piece.state != State::Unknown => Some(*piece),
            _ => self.look_up(role, id),
        }
    }

    #[cold]
    fn look_up(&mut self, role: Role, id: NameId) -> Option<Piece> {
        let text = names::text(id)?;
        let index = id.0 as usize;
        if index >= IDS_MAX || self.kept.len() >= KEPT_MAX {
            return self.text(role, text, false);
        }
        let made = self.fixed(role, text);
        #[expect(clippy::indexing_slicing, reason = "one table per role")]
        let table = &mut self.tables[role as usize];
        if table.len() <= index {
            table.resize(index + 1, Piece::default());
        }
        if let Some(entry) = table.get_mut(index) {
            *entry = made;
        }
        (made.state != State::Unfit).then_some(made)
    }

    /// A text that is in no table, as JSON; it may have been cut before.
    pub(super) fn text(&mut self, role: Role, text: &str, was_cut: bool) -> Option<Piece> {
        let start = self.passing.len();
        let cut = render(&mut self.passing, role, text, was_cut)?;
        let (end, state) =
            (self.passing.len(), if cut { State::PassingCut } else { State::Passing });
        Some(piece(&self.passing, start..end, state))
    }

    /// Whether two pieces say the same.
    #[inline]
    pub(super) fn is_same(&self, one: Piece, other: Piece) -> bool {
        one.len == other.len && self.bytes(one) == self.bytes(other)
    }

    /// The name as JSON, if it was asked for before and is short, as nearly all are; with what
    /// happens to stand behind it.
    #[inline]
    pub(super) fn short(&self, role: Role, id: NameId) -> Option<(Piece, &[u8; MEMBER])> {
        #[expect(clippy::indexing_slicing, reason = "one table per role")]
        let piece = *self.tables[role as usize].get(id.0 as usize)?;
        if piece.state != State::Kept || usize::from(piece.len) > SHORT {
            return None;
        }
        let (_, bytes) = self.kept.split_at_checked(piece.start as usize)?;
        Some((piece, bytes.first_chunk()?))
    }

    /// Appends a piece. A short one is copied with what stands behind it, and that is taken away
    /// again: so many bytes at once are a few instructions, and any other number is a call.
    #[inline]
    pub(super) fn put(&self, out: &mut Vec<u8>, piece: Piece) {
        let (start, len) = (piece.start as usize, usize::from(piece.len));
        match self.kept.get(start..start + SHORT).and_then(<[u8]>::first_chunk::<SHORT>) {
            Some(chunk) if len <= SHORT && piece.state == State::Kept => {
                let end = out.len() + len;
                out.extend_from_slice(chunk);
                out.truncate(end);
            }
            _ => out.extend_from_slice(self.bytes(piece)),
        }
    }

    /// The bytes of a piece.
    #[inline]
    pub(super) fn bytes(&self, piece: Piece) -> &[u8] {
        let buffer = match piece.state {
            State::Kept | State::KeptCut => &self.kept,
            _ => &self.passing,
        };
        let start = piece.start as usize;
        buffer.get(start..start + usize::from(piece.len)).unwrap_or_default()
    }
}

/// A piece that is too long or too far out for its fields comes out unfit, and not wrong.
fn piece(buffer: &[u8], Range { start, end }: Range<usize>, state: State) -> Piece {
    // The ends of keys differ more than their beginnings do.
    let last = buffer.get(start..end).unwrap_or_default().iter().rev().take(MARKED);
    let mark = last.fold(0_u8, |mark, byte| mark.wrapping_mul(5).wrapping_add(*byte));
    match (u32::try_from(start), u16::try_from(end - start)) {
        (Ok(start), Ok(len)) => Piece { start, len, state, mark },
        _ => Piece { state: State::Unfit, ..Piece::default() },
    }
}

/// Appends a name in its part. Whether it was cut; `None`, and nothing appended, if it is unfit.
fn render(out: &mut Vec<u8>, role: Role, text: &str, was_cut: bool) -> Option<bool> {
    match role {
        Role::Op => Some(member(out, ",\"op\":\"", text, OP_MAX, was_cut)),
        Role::Description => {
            Some(member(out, ",\"description\":\"", text, DESCRIPTION_MAX, was_cut))
        }
        Role::Transaction => {
            let text = text.trim();
            Some(match text.is_empty() {
                true => member(out, "\"", UNLABELED, NAME_MAX, false),
                false => member(out, "\"", text, NAME_MAX, was_cut),
            })
        }
        Role::TagKey => {
            key(out, text, |byte| match byte {
                b' ' => Some(b'-'),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b':' | b'-' => Some(byte),
                _ => None,
            })?;
            Some(false)
        }
        Role::Measurement => {
            // Relay takes these alone, and makes them lower case.
            text.starts_with(|first: char| first.is_ascii_alphabetic()).then_some(())?;
            key(out, text, |byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => {
                    Some(byte.to_ascii_lowercase())
                }
                _ => None,
            })?;
            Some(false)
        }
        Role::DataKey => {
            if text.is_empty() || json::cut_chars(text, NAME_MAX).1 {
                return None;
            }
            out.push(b',');
            json::string(out, text);
            out.push(b':');
            Some(false)
        }
    }
}

fn member(out: &mut Vec<u8>, opening: &str, text: &str, chars: usize, was_cut: bool) -> bool {
    if text.is_empty() {
        return false;
    }
    out.extend_from_slice(opening.as_bytes());
    let (head, cut) = json::cut_again(text, chars, was_cut);
    json::escape(out, head);
    out.extend_from_slice(if cut { b"...\"" } else { b"\"" });
    // What was cut before was counted then.
    cut && !was_cut
}

/// Appends `,"key":` with each byte mapped; `None`, and nothing, if one has no place in a key.
fn key(out: &mut Vec<u8>, text: &str, map: impl Fn(u8) -> Option<u8>) -> Option<()> {
    if text.is_empty() || text.len() > NAME_MAX {
        return None;
    }
    let mark = out.len();
    out.extend_from_slice(b",\"");
    for byte in text.bytes() {
        let Some(byte) = map(byte) else {
            out.truncate(mark);
            return None;
        };
        out.push(byte);
    }
    out.extend_from_slice(b"\":");
    Some(())
}
