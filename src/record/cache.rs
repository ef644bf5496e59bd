//! A thread's short way from a text to its number.
//!
//! Direct-mapped by the text's address and length: a literal always comes from the same place. The bytes
//! are compared all the same, since a buffer that is filled anew has the address of the old text. A miss
//! asks the name table, which allocates when the text is new.

use std::cell::Cell;

use crate::shared::id::NameId;
use crate::shared::names;

use super::local::LOCAL;

const PLACES: usize = 256;

/// Places by address.
pub(super) struct Cache {
    places: [Cell<(usize, Option<&'static str>, NameId)>; PLACES],
}

impl Cache {
    pub(super) const fn new() -> Self {
        Self { places: [const { Cell::new((0, None, NameId::NONE)) }; PLACES] }
    }

    #[inline]
    fn place(&self, text: &str) -> &Cell<(usize, Option<&'static str>, NameId)> {
        let address = text.as_ptr() as usize;
        let mixed = (address ^ text.len() << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        #[expect(clippy::indexing_slicing, reason = "eight bits index 256 places")]
        &self.places[mixed >> 56]
    }
}

/// The number of a text; [`NameId::INLINE`] when the table has no room for it.
pub(crate) fn name_id(text: &str) -> NameId {
    LOCAL
        .try_with(|local| {
            let place = local.cache.place(text);
            let (address, known, id) = place.get();
            if address == text.as_ptr() as usize && known == Some(text) {
                return id;
            }
            // T1: the table may allocate.
            if local.busy.replace(true) {
                return NameId::INLINE;
            }
            let id = names::intern(text);
            if let Some(known) = names::text(id) {
                place.set((text.as_ptr() as usize, Some(known), id));
            }
            local.busy.set(false);
            id
        })
        .unwrap_or(NameId::INLINE)
}
