//! Writing slots in place, as the recording thread does where it matters: each word goes from where
//! it is to where it belongs at once, so that no register has to hold it meanwhile. What is written
//! is what [`SpanRecord::words`](super::SpanRecord::words) and [`append`](super::append) say.

use super::{AtomicSlot, Kind};
use crate::shared::sync::Ordering;

/// Writes the record of a child that ended as most do, out of its line (`seqlock.rs`), the
/// attribute that waits there with it (`fold.rs`).
#[inline(always)]
pub(crate) fn put_child(slot: &AtomicSlot, line: &AtomicSlot, end: u64) {
    let [header, key, root, parent, start, to_end, names, value] = slot;
    let [its_key, its_root, its_parent, its_start, its_names, _, its_header, its_value] = line;
    for (to, from) in [
        (header, its_header),
        (key, its_key),
        (root, its_root),
        (parent, its_parent),
        (start, its_start),
        (names, its_names),
        (value, its_value),
    ] {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    to_end.store(end, Ordering::Relaxed);
}

/// The same for a transaction.
#[inline(always)]
pub(crate) fn put_root(slot: &AtomicSlot, line: &AtomicSlot, end: u64, lost: u32, threshold: u32) {
    let [header, key, root, plan, start, to_end, names, extra] = slot;
    let [its_key, its_root, _, its_start, its_names, ..] = line;
    header.store(Kind::Root as u64 | u64::from(lost) << 32, Ordering::Relaxed);
    for (to, from) in [(key, its_key), (root, its_root), (start, its_start), (names, its_names)] {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    plan.store(0, Ordering::Relaxed);
    to_end.store(end, Ordering::Relaxed);
    extra.store(u64::from(threshold), Ordering::Relaxed);
}

/// Writes an attribute whose payload fits into its slot, of the span of a line (`seqlock.rs`). What
/// lies behind the payload stays as it was: nobody reads on past its length (L1).
#[inline(always)]
pub(crate) fn put_attribute(slot: &AtomicSlot, header: u64, line: &AtomicSlot, payload: &[u8]) {
    let [to_header, key, root, to_payload @ ..] = slot;
    let [its_key, its_root, ..] = line;
    to_header.store(header, Ordering::Relaxed);
    key.store(its_key.load(Ordering::Relaxed), Ordering::Relaxed);
    root.store(its_root.load(Ordering::Relaxed), Ordering::Relaxed);
    let (whole, rest) = payload.as_chunks::<8>();
    for (to, word) in to_payload.iter().zip(whole) {
        to.store(u64::from_le_bytes(*word), Ordering::Relaxed);
    }
    if let Some(to) = to_payload.get(whole.len())
        && !rest.is_empty()
    {
        to.store(last_word(payload, rest), Ordering::Relaxed);
    }
}

/// A text's header with the length of the text.
#[inline]
pub(crate) const fn with_len(header: u64, len: usize) -> u64 {
    header | (len as u64) << 16
}

/// Up to `N` words of little-endian bytes, zeros behind them.
#[inline]
pub(crate) fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut out = [0; N];
    let (whole, rest) = bytes.as_chunks::<8>();
    for (word, chunk) in out.iter_mut().zip(whole) {
        *word = u64::from_le_bytes(*chunk);
    }
    if let Some(word) = out.get_mut(whole.len())
        && !rest.is_empty()
    {
        *word = last_word(bytes, rest);
    }
    out
}

/// The word of up to eight bytes, zeros behind them.
#[inline]
pub(crate) fn one_word(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(whole) => u64::from_le_bytes(*whole),
        None => short_word(bytes),
    }
}

/// The words of nine to sixteen bytes, zeros behind them: by two reads that overlap.
#[inline]
pub(crate) fn two_words(bytes: &[u8]) -> (u64, u64) {
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => {
            let [first, last] = [first, last].map(|part| u64::from_le_bytes(*part));
            (first, last >> (8 * (16 - bytes.len().clamp(9, 16))))
        }
        _ => (short_word(bytes), 0),
    }
}

/// The word of the bytes behind the last whole word: `rest`, the end of `bytes`, and zeros.
#[inline]
fn last_word(bytes: &[u8], rest: &[u8]) -> u64 {
    match bytes.last_chunk::<8>() {
        // The last eight bytes at once; the shift drops those that are there already.
        Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        None => short_word(rest),
    }
}

/// The word of fewer than eight bytes, and zeros: by two reads that overlap.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    let behind = |len: usize| 8 * (bytes.len() - len);
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let [first, last] = [first, last].map(|part| u64::from(u32::from_le_bytes(*part)));
        first | last << behind(4)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let [first, last] = [first, last].map(|part| u64::from(u16::from_le_bytes(*part)));
        first | last << behind(2)
    } else {
        bytes.first().map_or(0, |byte| u64::from(*byte))
    }
}

#[cfg(all(test, not(hotspan_loom)))]
mod tests {
    use super::super::{NameId, PLAIN, Slot, SpanRecord, attribute_header};
    use super::*;
    use crate::shared::sync::AtomicU64;

    fn atomic(words: Slot) -> AtomicSlot {
        words.map(AtomicU64::new)
    }

    fn read(slot: &AtomicSlot) -> Slot {
        slot.each_ref().map(|word| word.load(Ordering::Relaxed))
    }

    #[test]
    fn what_is_put_is_what_the_records_words_are() {
        // key, root, parent, start, names, meta
        let child = SpanRecord::of(&[Kind::Child as u64, 3, 1, 2, 40, 50, 7 << 32 | 6, 0]).unwrap();
        let slot = atomic([u64::MAX; 8]);
        put_child(&slot, &atomic([3, 1, 2, 40, 7 << 32 | 6, u64::MAX, PLAIN, 0]), 50);
        assert_eq!(read(&slot), child.words());
        let root = SpanRecord {
            kind: Kind::Root,
            lost: 5,
            key: 1,
            root: 1,
            parent: 0,
            threshold: 250_000,
            ..child
        };
        put_root(&slot, &atomic([1, 1, 0, 40, 7 << 32 | 6, u64::MAX, 5, 9]), 50, 5, 250_000);
        assert_eq!(read(&slot), root.words());
    }

    #[test]
    fn one_word_and_two_are_words() {
        for len in 0..=16 {
            let bytes: Vec<u8> = (1..=len).map(|n| n * 15).collect();
            match len {
                0..=8 => assert_eq!([one_word(&bytes)], words(&bytes)),
                _ => assert_eq!(<[u64; 2]>::from(two_words(&bytes)), words(&bytes)),
            }
        }
    }

    #[test]
    fn an_attribute_is_put_as_it_is_appended() {
        for len in 0..=40 {
            let payload: Vec<u8> = (1..=len).collect();
            let header = attribute_header(Kind::Data, 0, 0, NameId(7));
            let header = with_len(header, payload.len());
            let slot = atomic([u64::MAX; 8]);
            put_attribute(&slot, header, &atomic([3, 1, 0, 0, 0, 0, 0, 0]), &payload);
            let mut slots = Vec::new();
            super::super::append(&mut slots, [header, 3, 1], &payload);
            let used = 3 + payload.len().div_ceil(8);
            assert_eq!(read(&slot)[..used], slots[0][..used]);
            assert!(read(&slot)[used..].iter().all(|word| *word == u64::MAX), "left as it was");
        }
    }
}
