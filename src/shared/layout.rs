//! What the 64 bytes of a ring slot mean: the only file that knows the bits.
//!
//! A slot is eight words. Three kinds of slot share one ring, in the order in which they were
//! written:
//!
//! ```text
//!          span record                            attribute                      continuation
//!  w0   kind | flags | - | - | lost:32         kind | type | len:16 | name:32     text ...
//!  w1   key of the span                        key of the span it belongs to      ...
//!  w2   key of its root (own key: a root)      key of that span's root            ...
//!  w3   key of its parent; root: its plan      payload, 40 bytes                  ...
//!  w4   start, ticks or unix nanoseconds       ...                                ...
//!  w5   end, ticks or unix nanoseconds         ...                                ...
//!  w6   op:32 | description:32                 ...                                ...
//!  w7   root: threshold:20, why:4, unfin.:32   ...                                ...
//! ```
//!
//! A root's plan is 0, or says under which conditions it is kept: the recording thread could not
//! decide that. `why` is what it was kept for (`sampling/decide.rs`).
//!
//! Two more kinds concern spans that leave their thread. [`Kind::Turn`] stands in front of what a
//! thread sets on a span that is not its own alone: its w3 is the moment (ticks) from which that
//! thread set it, which orders values of one key that were set on several threads.
//! [`Kind::Parted`] is the first half of a span record, written when a span is detached: for those
//! who watch what is open. Neither reaches the encoder.
//!
//! An attribute whose payload is longer than 40 bytes goes on in the slots behind it, 64 bytes
//! each. The payload is plain bytes, little endian:
//!
//! | type | payload |
//! |---|---|
//! | `Bool` | one byte, 0 or 1 |
//! | `I64`, `U64`, `F64` | 8 bytes |
//! | `I128`, `U128` | 16 bytes |
//! | `Text` | UTF-8 |
//! | list of a scalar | the scalars one after the other, in the widths above |
//! | list of text | each as a `u16` length and its UTF-8 |
//!
//! Four kinds of attribute are not set by users' keys. [`Kind::Trace`], on a root: the trace that
//! it continues. [`Kind::Dsc`], behind it: the `sentry-` members of the incoming `baggage` as they
//! came, in pieces that end between members. [`Kind::Frozen`], on a root that is the head of its
//! trace: the name that went out with its headers. [`Kind::Link`], on any span. What the payloads
//! of `Trace` and `Link` hold is in `shared/payload.rs`.
//!
//! A child's record may hold an attribute of one word, and is then neither of the two as it lies in
//! the ring (`layout/fold.rs`).
//!
//! A name that found no room in the name table is [`NameId::INLINE`]; the payload then begins with
//! the name itself: one byte of length, then its UTF-8.
//!
//! # Invariants
//! * L1: `len` counts payload bytes, an inline name included, and is at most [`PAYLOAD_MAX`].
//! * L2: the slots of one attribute are adjacent in the ring, and are published together.
//! * L3: a root's record is the last slot of its transaction in the ring it is written to.

#![expect(clippy::cast_possible_truncation, reason = "fields are cut out of words here")]

use super::id::NameId;
use super::sync::AtomicU64;

mod fold;
mod put;

pub(crate) use fold::{FOLDED, PLAIN, contents, is_folded, unfold};
pub(crate) use put::{one_word, put_attribute, put_child, put_root, two_words, with_len, words};

/// Words in a slot.
pub(crate) const WORDS: usize = 8;
/// A slot copied out of a ring.
pub(crate) type Slot = [u64; WORDS];
/// A slot where it lies.
pub(crate) type AtomicSlot = [AtomicU64; WORDS];
/// Payload bytes in the first slot of an attribute.
pub(crate) const INLINE_BYTES: usize = 40;
/// Payload bytes in each further slot.
pub(crate) const CONTINUATION_BYTES: usize = 64;
/// The longest value, in bytes.
pub(crate) const VALUE_MAX: usize = 1024;
/// The longest text of a name (op, description, key, unit), in bytes.
pub(crate) const NAME_MAX: usize = 1024;
/// The longest name that may travel inline in front of a value: its length is one byte.
pub(crate) const INLINE_NAME_MAX: usize = 200;
/// The longest payload: an inline name and a value.
pub(crate) const PAYLOAD_MAX: usize = 1 + INLINE_NAME_MAX + VALUE_MAX;
/// The longest unit that is sent, in bytes.
pub(crate) const UNIT_MAX: usize = 15;

/// Bits of a threshold: up to 1,000,000.
const THRESHOLD_BITS: u32 = 20;

/// What a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A finished child span.
    Child = 1,
    /// A finished transaction: the last slot of its run.
    Root = 2,
    /// `set_tag`.
    Tag = 3,
    /// `set_data`.
    Data = 4,
    /// `set_measurement`: `F64` payload, then the unit's name id as `u32`.
    Measurement = 5,
    /// `set_status`: one byte, the code of the status.
    Status = 6,
    /// `set_http_status`: the code as `U64`.
    HttpStatus = 7,
    /// `set_name` on a transaction, or a description: as `name` id, or `Text` when that is
    /// `INLINE`.
    Description = 8,
    /// An op that found no room in the name table: `Text`.
    Op = 9,
    /// What follows about this span in this ring was set from the moment in w3 on.
    Turn = 10,
    /// A span was detached from its thread.
    Parted = 11,
    /// The trace that a root continues.
    Trace = 12,
    /// What came with that trace: sampling context for the whole of it.
    Dsc = 13,
    /// A span that this one has to do with; `name`: how.
    Link = 14,
    /// The transaction's name when headers of its trace first left the process: as `name` id, or
    /// `Text` when that is `INLINE`; an empty one: they left without.
    Frozen = 15,
    /// Whether code asked for a root to be kept: one byte, 0 or 1. The last one counts.
    Asked = 16,
}

impl Kind {
    /// The kind in a header word; `None` for bits that no writer leaves.
    pub(crate) const fn of(header: u64) -> Option<Self> {
        Some(match header as u8 {
            1 => Self::Child,
            2 => Self::Root,
            3 => Self::Tag,
            4 => Self::Data,
            5 => Self::Measurement,
            6 => Self::Status,
            7 => Self::HttpStatus,
            8 => Self::Description,
            9 => Self::Op,
            10 => Self::Turn,
            11 => Self::Parted,
            12 => Self::Trace,
            13 => Self::Dsc,
            14 => Self::Link,
            15 => Self::Frozen,
            16 => Self::Asked,
            _ => return None,
        })
    }

    /// Whether the slot ends a span (and so is not an attribute).
    pub(crate) const fn is_span(self) -> bool {
        matches!(self, Self::Child | Self::Root)
    }

    /// Whether the slot holds something that was set on a span.
    pub(crate) const fn is_attribute(self) -> bool {
        matches!(
            self,
            Self::Tag
                | Self::Data
                | Self::Measurement
                | Self::Status
                | Self::HttpStatus
                | Self::Description
                | Self::Op
                | Self::Link
        )
    }
}

/// The type of an attribute's payload. `LIST` added to a scalar's code makes a list of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Scalar {
    Bool = 1,
    I64 = 2,
    U64 = 3,
    F64 = 4,
    Text = 5,
    I128 = 6,
    U128 = 7,
}

impl Scalar {
    /// The scalar of a type code, its list bit put aside.
    pub(crate) const fn of(code: u8) -> Option<Self> {
        Some(match code & !LIST & !CUT {
            1 => Self::Bool,
            2 => Self::I64,
            3 => Self::U64,
            4 => Self::F64,
            5 => Self::Text,
            6 => Self::I128,
            7 => Self::U128,
            _ => return None,
        })
    }

    /// Bytes one takes in a payload; 0 for text, which says its own length.
    pub(crate) const fn width(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::I64 | Self::U64 | Self::F64 => 8,
            Self::I128 | Self::U128 => 16,
            Self::Text => 0,
        }
    }
}

/// Bit of a type code: the payload is a list.
pub(crate) const LIST: u8 = 0x40;
/// Bit of a type code: the value was longer and has been cut.
pub(crate) const CUT: u8 = 0x80;

/// Flags of a span record.
pub(crate) mod flag {
    /// A panic unwound through the guard.
    pub(crate) const PANICKED: u8 = 1;
    /// The start is unix nanoseconds given by the caller, not ticks.
    pub(crate) const START_UNIX: u8 = 2;
    /// The end is unix nanoseconds given by the caller, not ticks.
    pub(crate) const END_UNIX: u8 = 4;
    /// On a root: spans of the transaction may lie in other rings.
    pub(crate) const SHARED: u8 = 8;
    /// The span's future was dropped before it was done.
    pub(crate) const CANCELLED: u8 = 16;
    /// On a root: code asked for it to be kept, or not to be.
    pub(crate) const KEEP: u8 = 32;
    pub(crate) const DISCARD: u8 = 64;
}

/// Flags in [`Kind::Trace`].
pub(crate) mod continued {
    /// Whether the parent was sampled is known, and whether it was.
    pub(crate) const PARENT_KNOWN: u32 = 1;
    pub(crate) const PARENT_SAMPLED: u32 = 2;
    /// The decision was the parent's: its sample rate stands.
    pub(crate) const PARENT_DECIDED: u32 = 4;
    /// `sentry-` members came with the trace, and follow.
    pub(crate) const HAS_DSC: u32 = 8;
}

/// `sample_rand` in a slot of [`Kind::Trace`].
pub(crate) const fn sample_rand_of(trace: &Slot) -> u32 {
    let [_, _, _, _, _, _, facts, _] = *trace;
    facts as u32
}

/// A span's record, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanRecord {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    /// Slots of this transaction that found no room in the ring (on a root).
    pub(crate) lost: u32,
    pub(crate) key: u64,
    pub(crate) root: u64,
    pub(crate) parent: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) op: NameId,
    pub(crate) description: NameId,
    /// Root: the probability with which it was kept, in millionths.
    pub(crate) threshold: u32,
    /// Root: what it was kept for.
    pub(crate) why: u8,
    /// Root: under which conditions it is kept; 0: that is decided.
    pub(crate) plan: u64,
    /// Root: children that were still open when it ended.
    pub(crate) unfinished: u32,
}

impl SpanRecord {
    /// The words as they go into the ring.
    #[inline]
    pub(crate) const fn words(&self) -> Slot {
        [
            self.kind as u64 | (self.flags as u64) << 8 | (self.lost as u64) << 32,
            self.key,
            self.root,
            // One of them is 0.
            self.parent | self.plan,
            self.start,
            self.end,
            self.op.0 as u64 | (self.description.0 as u64) << 32,
            self.threshold as u64
                | (self.why as u64) << THRESHOLD_BITS
                | (self.unfinished as u64) << 32,
        ]
    }

    /// The record in a slot, if it holds one.
    #[inline]
    pub(crate) const fn of(slot: &Slot) -> Option<Self> {
        match Kind::of(slot[0]) {
            Some(kind) if kind.is_span() => Some(Self::decoded(kind, slot)),
            _ => None,
        }
    }

    /// What is known of a span that was detached, if the slot says that.
    pub(crate) const fn of_parted(slot: &Slot) -> Option<Self> {
        match Kind::of(slot[0]) {
            Some(Kind::Parted) => Some(Self::decoded(Kind::Parted, slot)),
            _ => None,
        }
    }

    #[inline]
    const fn decoded(kind: Kind, slot: &Slot) -> Self {
        let &[header, key, root, third, start, end, names, extra] = slot;
        let (parent, plan) = if matches!(kind, Kind::Root) { (0, third) } else { (third, 0) };
        Self {
            kind,
            flags: (header >> 8) as u8,
            lost: (header >> 32) as u32,
            key,
            root,
            parent,
            start,
            end,
            op: NameId(names as u32),
            description: NameId((names >> 32) as u32),
            threshold: extra as u32 & ((1 << THRESHOLD_BITS) - 1),
            why: (extra >> THRESHOLD_BITS) as u8 & 0xf,
            plan,
            unfinished: (extra >> 32) as u32,
        }
    }
}

/// What a header says an attribute is, and how it is called.
pub(crate) const fn kind_and_name(header: u64) -> Option<(Kind, NameId)> {
    match Kind::of(header) {
        Some(kind) => Some((kind, NameId((header >> 32) as u32))),
        None => None,
    }
}

/// The slot in front of what a thread sets on a span that others set things on, too.
pub(crate) const fn turn(key: u64, root: u64, ticks: u64) -> Slot {
    [Kind::Turn as u64, key, root, ticks, 0, 0, 0, 0]
}

/// The slot that says that a span was detached: of its record, what is known by then.
pub(crate) const fn parted(record: &SpanRecord) -> Slot {
    let [_, key, root, parent, start, _, names, _] = record.words();
    [Kind::Parted as u64 | (record.flags as u64) << 8, key, root, parent, start, 0, names, 0]
}

/// The header word of an attribute.
#[inline]
pub(crate) const fn attribute_header(kind: Kind, code: u8, len: u16, name: NameId) -> u64 {
    kind as u64 | (code as u64) << 8 | (len as u64) << 16 | (name.0 as u64) << 32
}

/// An attribute's header, decoded; the payload is read with [`payload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttributeHeader {
    pub(crate) kind: Kind,
    /// A [`Scalar`] code, perhaps with [`LIST`] and [`CUT`].
    pub(crate) code: u8,
    pub(crate) len: u16,
    pub(crate) name: NameId,
    pub(crate) key: u64,
    pub(crate) root: u64,
}

impl AttributeHeader {
    /// The header in a slot, if the slot begins an attribute.
    #[inline]
    pub(crate) const fn of(slot: &Slot) -> Option<Self> {
        let &[header, key, root, ..] = slot;
        let Some(kind) = Kind::of(header) else { return None };
        if kind.is_span() {
            return None;
        }
        Some(Self {
            kind,
            code: (header >> 8) as u8,
            len: (header >> 16) as u16,
            name: NameId((header >> 32) as u32),
            key,
            root,
        })
    }
}

/// Slots that an attribute with `len` payload bytes takes, its first one included.
#[inline]
pub(crate) const fn slots_for(len: usize) -> usize {
    // One, and one for each further piece that is begun, in one division.
    (len + 2 * CONTINUATION_BYTES - 1 - INLINE_BYTES) / CONTINUATION_BYTES
}

/// Slots that the attribute or record beginning with `slot` takes.
#[inline]
pub(crate) const fn slots_of(slot: &Slot) -> usize {
    match AttributeHeader::of(slot) {
        Some(header) => slots_for(header.len as usize),
        None => 1,
    }
}

/// The records and attributes in a run of slots, each with all its slots.
pub(crate) fn items(slots: &[Slot]) -> impl Iterator<Item = &[Slot]> {
    let mut rest = slots;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let (item, behind) = rest.split_at(slots_of(first).min(rest.len()));
        rest = behind;
        Some(item)
    })
}

/// Appends the slots of an attribute: its header, the keys of its span and its root, its payload.
pub(crate) fn append(slots: &mut Vec<Slot>, [header, key, root]: [u64; 3], payload: &[u8]) {
    let (first, rest) = payload.split_at(payload.len().min(INLINE_BYTES));
    let [a, b, c, d, e] = words(first);
    slots.push([header, key, root, a, b, c, d, e]);
    slots.extend(rest.chunks(CONTINUATION_BYTES).map(words::<WORDS>));
}

/// Copies an attribute's payload from its slots into `out`, which is cleared first. Slots that are
/// missing leave the payload short; nothing panics.
pub(crate) fn payload(slots: &[Slot], out: &mut Vec<u8>) {
    out.clear();
    let Some((first, rest)) = slots.split_first() else { return };
    let Some(header) = AttributeHeader::of(first) else { return };
    let len = header.len as usize;
    let (_, inline) = first.split_at(3);
    for word in inline.iter().chain(rest.iter().flatten()) {
        if out.len() >= len {
            break;
        }
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.truncate(len);
}

/// The longest beginning of `text` within `max` bytes, on a character's edge; and whether that cut
/// it.
#[inline]
pub(crate) fn bounded(text: &str, max: usize) -> (&str, bool) {
    if text.len() <= max {
        return (text, false);
    }
    let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    (text.get(..end).unwrap_or_default(), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_bytes_in_order_with_zeros_behind() {
        for len in 0..=40 {
            let bytes: Vec<u8> = (1..=len).collect();
            let words: [u64; 5] = words(&bytes);
            let back: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(back[..len as usize], bytes);
            assert!(back[len as usize..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn text_is_cut_at_characters() {
        assert_eq!(bounded("abc", 3), ("abc", false));
        assert_eq!(bounded("abcd", 3), ("abc", true));
        assert_eq!(bounded("äöü", 3), ("ä", true));
        assert_eq!(bounded("😀", 3), ("", true));
    }

    #[test]
    fn a_payload_is_appended_and_comes_back() {
        for len in [0, 1, 40, 41, 104, 105, PAYLOAD_MAX] {
            let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let header = attribute_header(Kind::Data, 0, len as u16, NameId::INLINE);
            let mut slots = Vec::new();
            append(&mut slots, [header, 2, 1], &payload);
            assert_eq!(slots.len(), slots_for(len));
            let mut back = Vec::new();
            super::payload(&slots, &mut back);
            assert_eq!(back, payload);
        }
    }
}
