//! Names that are looked up once: ops, descriptions, keys of tags and data, units.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::record;
use crate::shared::id::NameId;

/// A name that knows its number in the name table after its first use, so that using it again costs
/// one load. Make it a `static`; a `const` would be made anew, and looked up, at each use.
///
/// ```
/// use hotspan::Name;
///
/// static LOAD: Name = Name::new("load");
/// static DB: Name = Name::new("db.query");
///
/// let mut span = hotspan::start_child(&DB, &LOAD);
/// ```
#[derive(Debug)]
pub struct Name {
    text: &'static str,
    id: AtomicU32,
}

impl Name {
    /// A name with this text. What is sent of it: 200 characters of a transaction's name, 128 of an
    /// op, 1024 of a description; a tag's key beyond 200 characters is not sent.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self { text, id: AtomicU32::new(0) }
    }

    /// The text.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        self.text
    }

    #[cold]
    #[inline(never)]
    fn look_up(&self) -> NameId {
        let id = record::name_id(self.text);
        if id != NameId::INLINE {
            // Relaxed: the number means the same to everybody, and its text is found through the
            // table.
            self.id.store(id.0, Ordering::Relaxed);
        }
        id
    }
}

mod sealed {
    use crate::shared::id::NameId;

    /// What a name is made of, for the crate's own use.
    pub trait ToName {
        /// Its number.
        fn id(&self) -> Number;
        /// Its number, if that takes no more than a look; none if it is to be looked up.
        fn known(&self) -> Number;
        /// Whether what is known is its number in the table: it was looked up, and found room.
        fn is_settled(known: Number) -> bool;
        /// Its text.
        fn text(&self) -> &str;
    }

    /// A number of the name table, not to be named outside.
    #[derive(Clone, Copy, Debug)]
    pub struct Number(pub(crate) NameId);
}

pub(crate) use sealed::{Number, ToName};

/// What can name something: `&str`, `String`, `Cow<str>` (looked up in a cache of the thread, about
/// 2 ns when seen before), or a `&Name` (one load). Never allocates for a name that was used
/// before; a new one is copied once, up to 65,535 names and 8 MiB, after which new texts travel
/// with the span itself. The trait is sealed.
pub trait IntoName: ToName {}

impl<T: ToName + ?Sized> IntoName for T {}

impl<T: ToName + ?Sized> ToName for &T {
    #[inline]
    fn id(&self) -> Number {
        (**self).id()
    }

    #[inline]
    fn known(&self) -> Number {
        (**self).known()
    }

    #[inline]
    fn is_settled(known: Number) -> bool {
        T::is_settled(known)
    }

    #[inline]
    fn text(&self) -> &str {
        (**self).text()
    }
}

impl ToName for Name {
    #[inline]
    fn id(&self) -> Number {
        Number(match self.id.load(Ordering::Relaxed) {
            0 => self.look_up(),
            id => NameId(id),
        })
    }

    #[inline]
    fn known(&self) -> Number {
        Number(NameId(self.id.load(Ordering::Relaxed)))
    }

    #[inline]
    fn is_settled(known: Number) -> bool {
        // `look_up` keeps no other.
        known.0 != NameId::NONE
    }

    #[inline]
    fn text(&self) -> &str {
        self.text
    }
}

/// What is looked up at each use.
macro_rules! texts {
    ($($text:ty),*) => { $(
        impl ToName for $text {
            #[inline]
            fn id(&self) -> Number {
                Number(record::name_id(self))
            }

            #[inline]
            fn known(&self) -> Number {
                self.id()
            }

            #[inline]
            fn is_settled(known: Number) -> bool {
                known.0 != NameId::INLINE
            }

            #[inline]
            fn text(&self) -> &str {
                self
            }
        }
    )* };
}
texts!(str, String, Cow<'_, str>);
