//! The name table: texts that repeat (ops, descriptions, keys, units) as small numbers.
//!
//! Append-only. A text is copied once, at its first use, and keeps its number for the life of the
//! process, so a record that carries the number can be read at any later time, even after the
//! plugin that brought the text was unloaded. The table is bounded in entries and bytes; a text
//! that finds no room is answered with [`NameId::INLINE`] and travels in the ring of whoever uses
//! it.
//!
//! Texts lie in pages that are made when needed, by number. The index is three open-addressed
//! levels, the next used when the eight places of the one before are taken: a program with fifty
//! names touches 16 KiB.
//!
//! # Invariants
//! * N1: entries are set once and never change, so a reader that meets an empty place knows that
//!   the text is not further on.
//! * N2: a number is found in the index only after its text is in its page.
//!
//! There is no ordering of our own here: places and texts are `OnceLock`s, whose set and get pair
//! up.
//!
//! # Costs
//! Finding costs a hash and a comparison; recording threads keep a cache of their own
//! in front (`record/cache.rs`).

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::id::NameId;
use super::layout::NAME_MAX;

/// Names there can be.
pub(crate) const NAMES_MAX: usize = 65_535;
/// Bytes that all names can have together.
pub(crate) const BYTES_MAX: usize = 8 << 20;

const PAGE: usize = 1024;
/// Places of each level of the index.
const LEVELS: [usize; 3] = [1024, 8192, 131_072];
/// Places tried on a level.
const PROBES: usize = 8;

type Page = Box<[OnceLock<&'static str>]>;
/// Half of a text's hash, and its number.
type Place = OnceLock<(u32, NameId)>;

struct Table {
    hasher: foldhash::fast::RandomState,
    levels: [OnceLock<Box<[Place]>>; LEVELS.len()],
    pages: [OnceLock<Page>; NAMES_MAX / PAGE + 1],
    next: AtomicUsize,
    bytes: AtomicUsize,
    turned_away: AtomicUsize,
}

static TABLE: OnceLock<Table> = OnceLock::new();

impl Table {
    fn new() -> Self {
        Self {
            hasher: foldhash::fast::RandomState::default(),
            levels: [const { OnceLock::new() }; LEVELS.len()],
            pages: [const { OnceLock::new() }; NAMES_MAX / PAGE + 1],
            next: AtomicUsize::new(1),
            bytes: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
        }
    }

    fn text(&self, id: NameId) -> Option<&'static str> {
        let number = id.0 as usize;
        self.pages.get(number / PAGE)?.get()?.get(number % PAGE)?.get().copied()
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
        let page = self
            .pages
            .get(number / PAGE)?
            .get_or_init(|| (0..PAGE).map(|_| OnceLock::new()).collect());
        page.get(number % PAGE)?.set(Box::leak(text.into())).ok()?;
        Some(NameId(u32::try_from(number).ok()?))
    }

    fn intern(&self, text: &str) -> NameId {
        let hash = self.hasher.hash_one(text);
        #[expect(clippy::cast_possible_truncation, reason = "the other half chooses the place")]
        let tag = hash as u32;
        let mut added = None;
        for (level, size) in self.levels.iter().zip(LEVELS) {
            let places = level.get_or_init(|| (0..size).map(|_| OnceLock::new()).collect());
            for probe in 0..PROBES {
                let index = ((hash >> 32) as usize + probe) % size;
                let Some(place) = places.get(index) else { break };
                loop {
                    if let Some(&(other, id)) = place.get() {
                        if other == tag && self.text(id) == Some(text) {
                            // Two threads may add a text at once; the slower one's number stays
                            // unused.
                            return id;
                        }
                        break;
                    }
                    // N2: the text first.
                    let Some(id) = added.or_else(|| self.add(text)) else {
                        self.turned_away.fetch_add(1, Ordering::Relaxed);
                        return NameId::INLINE;
                    };
                    added = Some(id);
                    if place.set((tag, id)).is_ok() {
                        return id;
                    }
                }
            }
        }
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        NameId::INLINE
    }
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
    TABLE.get_or_init(Table::new).intern(text)
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
