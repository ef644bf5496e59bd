//! A thread's short way from a text to its number.
//!
//! Two places for each text, by the address at which it ends: a literal always comes from the same
//! place. The bytes are compared all the same, since a buffer that is filled anew has the address
//! of the old text. A miss asks the name table, which allocates when the text is new.

use std::cell::Cell;

use crate::shared::id::NameId;
use crate::shared::names;

use super::local::{LOCAL, Local};

const PLACES: usize = 256;

/// Places by address, multiplied by the golden ratio (Knuth, TAOCP 6.4): literals lie side by side,
/// and no two that end less than 144 bytes apart have the same place.
pub(super) struct Cache {
    places: [Place; PLACES],
}

struct Place {
    address: Cell<usize>,
    text: Cell<&'static str>,
    id: Cell<NameId>,
}

impl Cache {
    pub(super) const fn new() -> Self {
        Self { places: [const { Place::new() }; PLACES] }
    }

    /// The text's place, and the one to look at next.
    #[inline]
    fn places(&self, text: &str) -> (&Place, &Place) {
        self.places_of(text.as_ptr() as usize, text.len())
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "eight bits index 256 places")]
    fn places_of(&self, address: usize, len: usize) -> (&Place, &Place) {
        let mixed = address.wrapping_add(len).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        (&self.places[mixed], &self.places[mixed ^ 1])
    }

    /// Puts a text into its place. What was at home there moves over, so that two texts of one
    /// place can stay both; a guest goes, or two neighbours would drive each other out for ever.
    fn keep(&self, text: &str, known: &'static str, id: NameId) {
        let (place, second) = self.places(text);
        let (home, _) = self.places_of(place.address.get(), place.text.get().len());
        if std::ptr::eq(home, place) {
            second.address.set(place.address.get());
            second.text.set(place.text.get());
            second.id.set(place.id.get());
        }
        place.address.set(text.as_ptr() as usize);
        place.text.set(known);
        place.id.set(id);
    }
}

impl Place {
    const fn new() -> Self {
        Self { address: Cell::new(0), text: Cell::new(""), id: Cell::new(NameId::NONE) }
    }

    #[inline]
    fn holds(&self, text: &str) -> bool {
        self.address.get() == text.as_ptr() as usize && is_same(self.text.get(), text)
    }
}

/// The number of a text; [`NameId::INLINE`] when the table has no room for it.
#[inline]
pub(crate) fn name_id(text: &str) -> NameId {
    LOCAL.try_with(|local| name_id_in(local, text)).unwrap_or(NameId::INLINE)
}

// How this is cut into functions: `open.rs`.
#[inline(never)]
fn name_id_in(local: &Local, text: &str) -> NameId {
    let (place, second) = local.cache.places(text);
    if place.holds(text) {
        return place.id.get();
    }
    look_further(local, second, text)
}

#[inline(never)]
fn look_further(local: &Local, second: &Place, text: &str) -> NameId {
    if second.holds(text) {
        return second.id.get();
    }
    // T1: the table may allocate.
    let Some(lane) = local.enter() else { return NameId::INLINE };
    let id = names::intern(text);
    if let Some(known) = names::text(id) {
        local.cache.keep(text, known, id);
    }
    local.leave(lane);
    id
}

/// Whether two texts are the same. Names are short: two overlapping loads say it, without a call.
#[inline]
fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    match a.len() {
        len if len != b.len() => false,
        0..4 => a.iter().eq(b),
        4..8 => a.first_chunk::<4>() == b.first_chunk() && a.last_chunk::<4>() == b.last_chunk(),
        8..=16 => a.first_chunk::<8>() == b.first_chunk() && a.last_chunk::<8>() == b.last_chunk(),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_means_every_byte() {
        for len in 0..40 {
            let text = "x".repeat(len);
            assert!(is_same(&text, &text.clone()));
            assert!(!is_same(&text, &"x".repeat(len + 1)));
            for at in 0..len {
                let mut other = text.clone();
                other.replace_range(at..=at, "y");
                assert!(!is_same(&text, &other), "{at} of {len}");
            }
        }
    }

    #[test]
    fn neighbours_have_places_of_their_own() {
        let cache = Cache::new();
        for apart in 1..144 {
            let [one, other] = [0, apart].map(|at| cache.places_of(0x5555_0000 + at, 8).0);
            assert!(!std::ptr::eq(one, other), "{apart}");
        }
    }

    #[test]
    fn two_texts_of_one_place_stay_both_and_so_do_two_of_neighbours() {
        // So many names, each with an address that no other has, that every place gets some.
        let texts: &str = Box::leak("a text".repeat(1000).into());
        let pieces: Vec<&str> = (0..texts.len() - 8)
            .flat_map(|at| (1..8).map(move |len| &texts[at..at + len]))
            .collect();
        for neighbours in [false, true] {
            let cache = Cache::new();
            let home_of = |text: &str| {
                let (home, second) = cache.places(text);
                if neighbours { second } else { home }
            };
            let first = pieces[0];
            let other = |text: &&&str| {
                text.as_ptr() != first.as_ptr()
                    && std::ptr::eq(cache.places(text).0, home_of(first))
            };
            let pair = [first, pieces.iter().find(other).expect("some piece lies there")];
            let is_kept = |text: &str| {
                let (place, second) = cache.places(text);
                place.holds(text) || second.holds(text)
            };
            for _ in 0..3 {
                for text in pair.into_iter().filter(|text| !is_kept(text)) {
                    cache.keep(text, text, NameId(1));
                }
            }
            assert!(pair.into_iter().all(is_kept), "neighbours: {neighbours}");
        }
    }
}
