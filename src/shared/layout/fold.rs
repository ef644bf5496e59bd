//! An attribute in its span's own record.
//!
//! Most children carry one attribute or none, and a child's record has room for one of eight bytes:
//! its last word is not used, and neither is most of its header. So what was set last on a child
//! waits in the child's line (`seqlock.rs`), with the header that the record will have, and is
//! written when that is: two slots become one, and the ring holds as much more.
//!
//! ```text
//!  line     word 6                             word 7
//!           PLAIN                              0        nothing waits
//!           FOLDED | the attribute's header    value    what was set last
//! ```
//!
//! A record begins with what word 6 says, and ends with word 7. What waits is written into a slot
//! of its own before the next attribute is set, and when the span leaves in any but the usual way;
//! so attributes lie in the order in which they were set. The flusher [`unfold`]s what it collects
//! before anything else looks at it: behind `intake.rs` there are no folded records.

use super::{Kind, Slot, slots_of};

/// Bit of a kind: the slot is a child's record, and the kind that of the attribute in it.
pub(crate) const FOLDED: u64 = 0x80;
/// The header of a child's record that carries nothing.
pub(crate) const PLAIN: u64 = Kind::Child as u64;

/// Whether a record's header, or what will be one, has an attribute in it.
#[inline]
pub(crate) const fn is_folded(header: u64) -> bool {
    header & FOLDED != 0
}

/// The attribute and the record in a slot that begins neither, if it is a folded record.
#[inline]
pub(crate) const fn unfolded(slot: &Slot) -> Option<[Slot; 2]> {
    let &[header, key, root, parent, start, end, names, value] = slot;
    if !is_folded(header) {
        return None;
    }
    let attribute = [header & !FOLDED, key, root, value, 0, 0, 0, 0];
    Some([attribute, [PLAIN, key, root, parent, start, end, names, 0]])
}

/// Spans that end in a slot as it lies in the ring, and attributes that begin there.
pub(crate) const fn contents(slot: &Slot) -> (u64, u64) {
    let [header, ..] = *slot;
    match Kind::of(header & !FOLDED) {
        Some(kind) if is_folded(header) => (1, kind.is_attribute() as u64),
        Some(kind) => (kind.is_span() as u64, kind.is_attribute() as u64),
        None => (0, 0),
    }
}

/// Appends the slots of whole attributes and records to `out`, each folded record as two.
pub(crate) fn unfold(slots: &[Slot], out: &mut Vec<Slot>) {
    let (mut at, mut from) = (0, 0);
    while let Some(slot) = slots.get(at) {
        if let Some(two) = unfolded(slot) {
            out.extend_from_slice(slots.get(from..at).unwrap_or_default());
            out.extend_from_slice(&two);
            from = at + 1;
        }
        at += slots_of(slot);
    }
    out.extend_from_slice(slots.get(from..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::super::{LIST, NameId, Scalar, SpanRecord, attribute_header, payload};
    use super::*;

    fn folded(key: u64) -> Slot {
        let header = attribute_header(Kind::Tag, Scalar::U64 as u8, 8, NameId(7));
        [header | FOLDED, key, 1, 2, 30, 40, 5 << 32 | 4, 500]
    }

    #[test]
    fn a_folded_record_is_an_attribute_and_a_record() {
        let [attribute, record] = unfolded(&folded(3)).unwrap();
        let mut bytes = Vec::new();
        payload(&[attribute], &mut bytes);
        assert_eq!(bytes, 500_u64.to_le_bytes());
        assert_eq!(attribute[..3], [folded(3)[0] & !FOLDED, 3, 1]);
        let record = SpanRecord::of(&record).unwrap();
        assert_eq!((record.kind, record.key, record.root, record.parent), (Kind::Child, 3, 1, 2));
        assert_eq!((record.start, record.end), (30, 40));
        assert_eq!((record.op, record.description), (NameId(4), NameId(5)));
        assert_eq!(SpanRecord::of(&folded(3)), None, "neither one nor the other as it lies there");
    }

    #[test]
    fn only_what_begins_a_record_is_unfolded() {
        let plain = [PLAIN, 8, 1, 2, 30, 40, 0, 0];
        let header = attribute_header(Kind::Data, Scalar::U64 as u8 | LIST, 168, NameId(1));
        // Two slots of a value that look like folded records.
        let value = [[header, 3, 1, 1, 1, 1, 1, 1], folded(4), folded(5)];
        let slots = [&[folded(3), plain][..], &value, &[folded(6), folded(7), plain]].concat();
        let mut out = vec![plain];
        unfold(&slots, &mut out);
        let two = |key| unfolded(&folded(key)).unwrap();
        let expected =
            [&[plain][..], &two(3), &[plain], &value, &two(6), &two(7), &[plain]].concat();
        assert_eq!(out, expected);
    }

    #[test]
    fn no_kind_has_the_bit() {
        for kind in 0..=255 {
            assert!(Kind::of(kind).is_none() || !is_folded(kind));
        }
        assert!(!is_folded(PLAIN));
    }
}
