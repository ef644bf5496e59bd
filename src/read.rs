//! How settings are read where serde's own way will not do: durations are seconds.
//!
//! A value of the wrong type is described and never repeated: it may be a DSN that slipped into the
//! wrong line. (That is why each visitor here says something about text, and why the fields whose
//! type is a number, a switch or a text are read through them too.)

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Seconds, whole or not.
pub(crate) fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    scalar::<D, Duration>(from)
}

/// Seconds, or nothing.
pub(crate) fn open_seconds<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    scalar::<D, Option<Duration>>(from)
}

/// A number of bytes, slots and the like.
pub(crate) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    scalar::<D, usize>(from)
}

/// A number, or nothing.
pub(crate) fn open_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    scalar::<D, Option<f64>>(from)
}

/// A switch.
pub(crate) fn switch<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    scalar::<D, bool>(from)
}

/// A switch, or nothing.
pub(crate) fn open_switch<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    scalar::<D, Option<bool>>(from)
}

/// A text, or nothing.
pub(crate) fn open_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    scalar::<D, Option<String>>(from)
}

/// One word of a few.
pub(crate) fn word<'de, D: Deserializer<'de>, T: FromScalar>(from: D) -> Result<T, D::Error> {
    scalar::<D, T>(from)
}

/// An object. (What serde derives would take a list as well, and repeat a text.)
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    from.deserialize_any(ObjectVisitor(PhantomData))
}

/// A list of objects.
pub(crate) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    from.deserialize_any(ObjectsVisitor(PhantomData))
}

fn scalar<'de, D: Deserializer<'de>, T: FromScalar>(from: D) -> Result<T, D::Error> {
    from.deserialize_any(ScalarVisitor(PhantomData))
}

/// What can be made of a number, a switch, a text or nothing in a file.
pub(crate) trait FromScalar: Sized {
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

    fn from_text(_: &str) -> Option<Self> {
        None
    }

    fn from_nothing() -> Option<Self> {
        None
    }
}

impl FromScalar for Option<String> {
    const EXPECTED: &'static str = "a text or null";

    fn from_text(text: &str) -> Option<Self> {
        Some(Some(text.to_owned()))
    }

    fn from_nothing() -> Option<Self> {
        Some(None)
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

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Self::done(T::from_text(text))
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

struct ObjectVisitor<T>(PhantomData<T>);

const OBJECT_EXPECTED: &str = "an object";

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OBJECT_EXPECTED)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<T, E> {
        Err(E::custom(format_args!("expected {OBJECT_EXPECTED}")))
    }
}

struct ObjectsVisitor<T>(PhantomData<T>);

const OBJECTS_EXPECTED: &str = "a list of objects";

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectsVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OBJECTS_EXPECTED)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut objects = Vec::new();
        while let Some(Object(object)) = list.next_element()? {
            objects.push(object);
        }
        Ok(objects)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Vec<T>, E> {
        Err(E::custom(format_args!("expected {OBJECTS_EXPECTED}")))
    }
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        object(from).map(Self)
    }
}
