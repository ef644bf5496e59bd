//! How the fields of [`Config`](super::Config) are read where serde's own way will not do:
//! durations are seconds, a transport is a word or a folder.
//!
//! A value of the wrong type is described and never repeated: it may be a DSN that slipped into the
//! wrong line. (That is why each visitor here says something about text, and why the fields whose
//! type is a number or a switch are read through them too.)

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::Delivery;

/// Seconds, whole or not.
pub(super) fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    scalar::<D, Duration>(from)
}

/// Seconds, or nothing.
pub(super) fn open_seconds<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    scalar::<D, Option<Duration>>(from)
}

/// A number of bytes, slots and the like.
pub(super) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    scalar::<D, usize>(from)
}

/// A number, or nothing.
pub(super) fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    scalar::<D, Option<f64>>(from)
}

/// A switch.
pub(super) fn switch<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    scalar::<D, bool>(from)
}

/// A switch, or nothing.
pub(super) fn open_switch<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    scalar::<D, Option<bool>>(from)
}

fn scalar<'de, D: Deserializer<'de>, T: FromScalar>(from: D) -> Result<T, D::Error> {
    from.deserialize_any(ScalarVisitor(PhantomData))
}

/// What can be made of a number, a switch or nothing in a file.
trait FromScalar: Sized {
    const EXPECTED: &'static str;

    fn from_integer(_: u64) -> Option<Self> {
        None
    }

    fn from_float(_: f64) -> Option<Self> {
        None
    }

    fn from_switch(_: bool) -> Option<Self> {
        None
    }

    fn from_nothing() -> Option<Self> {
        None
    }
}

impl FromScalar for Duration {
    const EXPECTED: &'static str = "a number of seconds, not negative";

    fn from_integer(number: u64) -> Option<Self> {
        Some(Self::from_secs(number))
    }

    fn from_float(number: f64) -> Option<Self> {
        Self::try_from_secs_f64(number).ok()
    }
}

impl FromScalar for Option<Duration> {
    const EXPECTED: &'static str = "a number of seconds, not negative, or null";

    fn from_integer(number: u64) -> Option<Self> {
        Duration::from_integer(number).map(Some)
    }

    fn from_float(number: f64) -> Option<Self> {
        Duration::from_float(number).map(Some)
    }

    fn from_nothing() -> Option<Self> {
        Some(None)
    }
}

impl FromScalar for usize {
    const EXPECTED: &'static str = "a whole number, not negative";

    fn from_integer(number: u64) -> Option<Self> {
        number.try_into().ok()
    }
}

impl FromScalar for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_switch(on: bool) -> Option<Self> {
        Some(on)
    }
}

impl FromScalar for Option<bool> {
    const EXPECTED: &'static str = "true, false or null";

    fn from_switch(on: bool) -> Option<Self> {
        Some(Some(on))
    }

    fn from_nothing() -> Option<Self> {
        Some(None)
    }
}

impl FromScalar for Option<f64> {
    const EXPECTED: &'static str = "a number or null";

    #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 it is out of range anyway")]
    fn from_integer(number: u64) -> Option<Self> {
        Some(Some(number as f64))
    }

    fn from_float(number: f64) -> Option<Self> {
        Some(Some(number))
    }

    fn from_nothing() -> Option<Self> {
        Some(None)
    }
}

struct ScalarVisitor<T>(PhantomData<T>);

impl<T: FromScalar> ScalarVisitor<T> {
    fn done<E: Error>(value: Option<T>) -> Result<T, E> {
        value.ok_or_else(|| E::custom(format_args!("expected {}", T::EXPECTED)))
    }
}

impl<'de, T: FromScalar> Visitor<'de> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        Self::done(T::from_integer(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        Self::done(number.try_into().ok().and_then(T::from_integer))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        Self::done(T::from_float(number))
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<T, E> {
        Self::done(T::from_switch(on))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<T, E> {
        Self::done(None)
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Self::done(T::from_nothing())
    }

    fn visit_none<E: Error>(self) -> Result<T, E> {
        Self::done(T::from_nothing())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Deserialize<'de> for Delivery {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(DeliveryVisitor)
    }
}

struct DeliveryVisitor;

const DELIVERY_EXPECTED: &str = r#""http", "null" or {"file": "FOLDER"}"#;

impl<'de> Visitor<'de> for DeliveryVisitor {
    type Value = Delivery;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DELIVERY_EXPECTED)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Delivery, E> {
        match word {
            "http" => Ok(Delivery::Http),
            "null" => Ok(Delivery::Null),
            _ => Err(E::custom(format_args!("expected {DELIVERY_EXPECTED}"))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Delivery, A::Error> {
        match map.next_entry::<String, PathBuf>()? {
            Some((key, folder)) if key == "file" && map.next_key::<String>()?.is_none() => {
                Ok(Delivery::File(folder))
            }
            _ => Err(A::Error::custom(format_args!("expected {DELIVERY_EXPECTED}"))),
        }
    }
}
