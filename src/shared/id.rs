//! Newtypes for every identifier, and how a span's key becomes its wire id.
//!
//! Recording threads deal in *keys*: `ring number << 52 | counter`, unique in the process, made by
//! one addition. What goes over the wire is derived from a key and a seed that the operating system
//! drew once per [`crate::init`]: span ids by a bijection, trace and event ids by two mixes of 64
//! bits each, `sample_rand` by a generator of its own. So the recording side stores no id, and
//! asking for one twice gives the same answer.
//!
//! # Invariants
//! * K1: no key is 0, and no two spans of one process share a key.
//! * K2: [`WireIds::span_id`] is injective over keys and never yields zero.

use std::fmt;
#[cfg(not(hotspan_loom))]
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An entry of the name table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NameId(pub(crate) u32);

impl NameId {
    /// No name was given.
    pub(crate) const NONE: Self = Self(0);
    /// The name table was full: the text travels in the ring.
    pub(crate) const INLINE: Self = Self(u32::MAX);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex_digits<const N: usize>(mut value: u128) -> [u8; N] {
    let mut out = [0; N];
    for digit in out.iter_mut().rev() {
        #[expect(clippy::indexing_slicing, reason = "four bits index sixteen digits")]
        {
            *digit = HEX[(value & 15) as usize];
        }
        value >>= 4;
    }
    out
}

fn parse_hex(text: &str, digits: usize) -> Option<u128> {
    if text.len() != digits || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().filter(|&value| value != 0)
}

/// The text was not an id: wrong length, a character that is no hex digit, or all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id: it takes hex digits of the right number, not all zero")
    }
}

impl std::error::Error for ParseIdError {}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(crate) $inner);

        impl $name {
            /// The lower-case hex digits, without allocating.
            #[must_use]
            pub fn to_hex(self) -> [u8; $digits] {
                hex_digits(u128::from(self.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&self.to_hex()).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text, $digits)
                    .and_then(|value| value.try_into().ok())
                    .map(Self)
                    .ok_or(ParseIdError)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id! {
    /// The id that all spans of one trace share: 128 bits, 32 lower-case hex digits, never zero
    /// (Sentry's and W3C's trace id).
    ///
    /// ```
    /// let id: hotspan::TraceId = "4c79f60c11214eb38604f4ae0781bfb2".parse().unwrap();
    /// assert_eq!(id.to_string(), "4c79f60c11214eb38604f4ae0781bfb2");
    /// assert!("00000000000000000000000000000000".parse::<hotspan::TraceId>().is_err());
    /// ```
    TraceId, u128, 32
}

id! {
    /// The id of one span: 64 bits, 16 lower-case hex digits, never zero.
    ///
    /// ```
    /// let id: hotspan::SpanId = "fa90fdead5f74052".parse().unwrap();
    /// assert_eq!(id.to_string(), "fa90fdead5f74052");
    /// ```
    SpanId, u64, 16
}

id! {
    /// The id of one delivered event: 128 bits, 32 lower-case hex digits.
    EventId, u128, 32
}

/// One process's mapping from keys to wire ids.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireIds {
    pub(crate) seed: [u64; 4],
}

impl WireIds {
    /// Seeds drawn from the operating system at this moment: a process that was forked off has
    /// copies of whatever its parent drew before. `now` stands in where the system gives nothing.
    #[cfg(not(hotspan_loom))]
    pub(crate) fn from_os(now: u64) -> Self {
        // That is std's keys, which a fork copies, with what tells two processes apart.
        let (hasher, here) = (RandomState::new(), (std::process::id(), now));
        let seed = |nth: u64| getrandom::u64().unwrap_or_else(|_| hasher.hash_one((here, nth)));
        Self { seed: [seed(1), seed(2), seed(3), seed(4)] }
    }

    /// K2: a bijection, with the one zero moved to where key 0 would be, which no span has (K1).
    pub(crate) const fn span_id(&self, key: u64) -> SpanId {
        let [seed, ..] = self.seed;
        match mix(key ^ seed) {
            0 => SpanId(mix(seed)),
            id => SpanId(id),
        }
    }

    pub(crate) const fn trace_id(&self, root: u64) -> TraceId {
        let [_, high, low, _] = self.seed;
        TraceId(never_zero(self.wide(root, high, low)))
    }

    pub(crate) const fn event_id(&self, root: u64) -> EventId {
        let [high, _, _, low] = self.seed;
        EventId(never_zero(self.wide(root, !high, !low)))
    }

    /// The trace's `sample_rand`, in millionths: 0 to 999,999.
    #[inline]
    pub(crate) const fn sample_rand(&self, root: u64) -> u32 {
        let [.., seed] = self.seed;
        sample_rand(root, seed)
    }

    const fn wide(&self, root: u64, high: u64, low: u64) -> u128 {
        (mix(root.wrapping_add(high)) as u128) << 64 | mix(root.wrapping_add(low) ^ high) as u128
    }
}

const fn never_zero(id: u128) -> u128 {
    if id == 0 { 1 } else { id }
}

/// [`WireIds::sample_rand`] for a thread that keeps only that seed.
///
/// This is wyrand (Wang Yi, wyhash 2019), entered at the place that the key says: one wide
/// multiplication, a third of what `mix` takes on the recording thread. It is no bijection, and
/// need be none.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "halves; below 1,000,000")]
pub(crate) const fn sample_rand(root: u64, seed: u64) -> u32 {
    let state = seed.wrapping_add(root.wrapping_mul(0xa076_1d64_78bd_642f));
    let product = state as u128 * (state ^ 0xe703_7ed1_a0b4_28db) as u128;
    let mixed = product as u64 ^ (product >> 64) as u64;
    ((mixed as u128 * 1_000_000) >> 64) as u32
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64 bits that passes for
/// random over consecutive inputs.
#[inline]
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
