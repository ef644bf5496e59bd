//! A thread's short way from a text to its number.
//!
//! Two places for each address and length: a literal always comes from the same place. The bytes
//! are compared all the same, since a buffer that is filled anew has the address of the old text. A
//! miss asks the name table, which allocates when the text is new.

use std::cell::Cell;

use crate::shared::id::NameId;
use crate::shared::names;

use super::local::{LOCAL, Local};

const PLACES: usize = 256;

/// Places by address.
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
    #[expect(clippy::indexing_slicing, reason = "eight bits index 256 places")]
    fn places(&self, text: &str) -> (&Place, &Place) {
        let address = text.as_ptr() as usize;
        let mixed = (address ^ text.len() << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        (&self.places[mixed], &self.places[mixed ^ 1])
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
pub(crate) fn name_id(text: &str) -> NameId {
    LOCAL
        .try_with(|local| {
            let (place, second) = local.cache.places(text);
            if place.holds(text) {
                return place.id.get();
            }
            look_further(local, place, second, text)
        })
        .unwrap_or(NameId::INLINE)
}

#[inline(never)]
fn look_further(local: &Local, place: &Place, second: &Place, text: &str) -> NameId {
    if second.holds(text) {
        return second.id.get();
    }
    // T1: the table may allocate.
    let Some(lane) = local.enter() else { return NameId::INLINE };
    let id = names::intern(text);
    if let Some(known) = names::text(id) {
        // What was here moves over, so that two texts of one place can stay both.
        second.address.set(place.address.get());
        second.text.set(place.text.get());
        second.id.set(place.id.get());
        place.address.set(text.as_ptr() as usize);
        place.text.set(known);
        place.id.set(id);
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
}
