//! How a [`Delivery`] is read: a word, or a folder.

use std::fmt;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::Delivery;

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
