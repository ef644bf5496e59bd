//! The name table: texts that repeat (ops, descriptions, keys, units) as small numbers.
//!
//! Append-only. A text is copied once, at its first use, and keeps its number for the life of the
//! process, so a record that carries the number can be read at any later time, even after the
//! plugin that brought the text was unloaded. The table is bounded in entries and bytes; a text
//! that finds no room is answered with [`NameId::INLINE`] and travels in the ring of whoever uses
//! it.
//!
//! Texts lie in pages that are made when needed, by number. The index is three open-addressed
//! levels, in pages that are made when needed, too; the next level is used when the eight places of
//! the one before are taken. A program with fifty names touches 16 KiB.
//!
//! ```text
//!   place:  hash:32 | number:32     0: empty
//! ```
//!
//! # Invariants
//! * N1: entries are set once and never change, so a reader that meets an empty place knows that
//!   the text is not further on.
//! * N2: a number is found in the index only after its text is in its page.
//! * N3: nothing is waited for. A process may be forked off while a thread, which is not there
//!   then, is anywhere in this file: its number stays unused, and no more.
//!
//! There is no ordering of our own here: pages and texts are set once (`OnceBox`), a place is an
//! `AtomicCell`, whose stores release and loads acquire.
//!
//! # Costs
//! Finding costs a hash and a comparison; recording threads keep a cache of their own
//! in front (`record/cache.rs`).

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::atomic::AtomicCell;
use once_cell::race::OnceBox;

use super::id::NameId;
use super::layout::NAME_MAX;

/// Names there can be.
pub(crate) const NAMES_MAX: usize = 65_535;
/// Bytes that all names can have together.
pub(crate) const BYTES_MAX: usize = 8 << 20;

const PAGE: usize = 1024;
/// Pages of each level of the index.
const LEVELS: [usize; 3] = [1, 8, 128];
const INDEX_PAGES: usize = 1 + 8 + 128;
/// Places tried on a level.
const PROBES: usize = 8;

type Page<T> = OnceBox<Box<[T]>>;

struct Table {
    hasher: foldhash::fast::RandomState,
    index: [Page<AtomicCell<u64>>; INDEX_PAGES],
    texts: [Page<OnceBox<Box<str>>>; NAMES_MAX / PAGE + 1],
    next: AtomicUsize,
    bytes: AtomicUsize,
    turned_away: AtomicUsize,
}

const _: () = assert!(AtomicCell::<u64>::is_lock_free());

static TABLE: OnceBox<Table> = OnceBox::new();

fn page<T>(page: &Page<T>, empty: fn() -> T) -> &[T] {
    page.get_or_init(|| Box::new((0..PAGE).map(|_| empty()).collect()))
}

impl Table {
    fn new() -> Self {
        Self {
            hasher: foldhash::fast::RandomState::default(),
            index: [const { OnceBox::new() }; INDEX_PAGES],
            texts: [const { OnceBox::new() }; NAMES_MAX / PAGE + 1],
            next: AtomicUsize::new(1),
            bytes: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
        }
    }

    fn text(&self, id: NameId) -> Option<&str> {
        let number = id.0 as usize;
        Some(self.texts.get(number / PAGE)?.get()?.get(number % PAGE)?.get()?)
    }

    /// Copies a text into its page; `None` when a bound is reached.
    fn add(&self, text: &str) -> Option<NameId> {
        let bytes = self.bytes.fetch_add(text.len(), Ordering::Relaxed);
        let number = self.next.load(Ordering::Relaxed);
        if bytes + text.len() > BYTES_MAX || number > NAMES_MAX {
            self.bytes.fetch_sub(text.len(), Ordering::Relaxed);
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number > NAMES_MAX {
            self.next.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let texts = page(self.texts.get(number / PAGE)?, OnceBox::new);
        texts.get(number % PAGE)?.set(Box::new(text.into())).ok()?;
        Some(NameId(u32::try_from(number).ok()?))
    }

    fn intern(&self, text: &str) -> NameId {
        let hash = self.hasher.hash_one(text);
        let mut added = None;
        let mut before = 0;
        for pages in LEVELS {
            for probe in 0..PROBES {
                let index = ((hash >> 32) as usize + probe) % (pages * PAGE);
                let Some(found) = self.index.get(before + index / PAGE) else { break };
                let Some(place) = page(found, || AtomicCell::new(0)).get(index % PAGE) else {
                    break;
                };
                let mut taken = place.load();
                if taken == 0 {
                    // N2: the text first.
                    let Some(id) = added.or_else(|| self.add(text)) else {
                        self.turned_away.fetch_add(1, Ordering::Relaxed);
                        return NameId::INLINE;
                    };
                    added = Some(id);
                    match place.compare_exchange(0, place_of(hash, id)) {
                        Ok(_) => return id,
                        Err(other) => taken = other,
                    }
                }
                let id = id_of(taken);
                if taken == place_of(hash, id) && self.text(id) == Some(text) {
                    // Two threads may add a text at once; the slower one's number stays unused.
                    return id;
                }
            }
            before += pages;
        }
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        NameId::INLINE
    }
}

/// A place that holds a number: never 0, as no number is.
const fn place_of(hash: u64, id: NameId) -> u64 {
    // The other half chooses the place.
    hash << 32 | id.0 as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is the number")]
const fn id_of(place: u64) -> NameId {
    NameId(place as u32)
}

/// The table, made by the first `init`.
pub(crate) fn prepare() {
    table();
}

fn table() -> &'static Table {
    TABLE.get_or_init(|| Box::new(Table::new()))
}

/// The number of a text, given now if it has none. Empty texts are [`NameId::NONE`]. Allocates at
/// the first use of a text and never after.
pub(crate) fn intern(text: &str) -> NameId {
    if text.is_empty() {
        return NameId::NONE;
    }
    if text.len() > NAME_MAX {
        return NameId::INLINE;
    }
    table().intern(text)
}

/// The text of a number.
pub(crate) fn text(id: NameId) -> Option<&'static str> {
    TABLE.get()?.text(id)
}

/// How full the table is: names, bytes, and texts that were turned away.
pub(crate) fn usage() -> (usize, usize, usize) {
    match TABLE.get() {
        Some(table) => (
            table.next.load(Ordering::Relaxed).min(NAMES_MAX + 1) - 1,
            table.bytes.load(Ordering::Relaxed),
            table.turned_away.load(Ordering::Relaxed),
        ),
        None => (0, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_gets_the_same_number_on_every_thread() {
        let table = Table::new();
        let numbers: Vec<Vec<NameId>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..3000).map(|n| table.intern(&format!("n{n}"))).collect())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for other in &numbers {
            assert_eq!(other, &numbers[0]);
        }
        for (n, id) in numbers[0].iter().enumerate() {
            assert_eq!(table.text(*id), Some(&*format!("n{n}")));
        }
    }

    #[test]
    fn a_full_table_turns_new_texts_away_and_knows_the_old_ones() {
        let table = Table::new();
        let mut kept = 0;
        for n in 0..70_000 {
            if table.intern(&format!("name {n}")) != NameId::INLINE {
                kept += 1;
            }
        }
        // Every number may be given out; a few texts may find their places on all levels taken.
        assert!((NAMES_MAX - 100..=NAMES_MAX).contains(&kept), "{kept}");
        assert_eq!(table.turned_away.load(Ordering::Relaxed), 70_000 - kept);
        assert_eq!(table.text(table.intern("name 5")), Some("name 5"));
        assert_eq!(table.intern("one more"), NameId::INLINE);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let table = Table::new();
        let long = "x".repeat(1000);
        let kept =
            (0..10_000).filter(|n| table.intern(&format!("{n}{long}")) != NameId::INLINE).count();
        assert!(kept * 1004 <= BYTES_MAX + 10_000 && kept > 8000, "{kept}");
    }

    #[test]
    fn empty_and_overlong_texts_take_no_room() {
        assert_eq!(intern(""), NameId::NONE);
        assert_eq!(intern(&"y".repeat(NAME_MAX + 1)), NameId::INLINE);
        assert_eq!(text(NameId::NONE), None);
        assert_eq!(text(NameId::INLINE), None);
    }
}
