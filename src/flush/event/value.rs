//! Values as events and captures hold them, and as hooks and tests write them down.

use std::fmt;

use crate::flush::encode::value::{Value as Recorded, take};
use crate::shared::layout::{CUT, LIST, Scalar, VALUE_MAX};

/// A value that was recorded, with its type. Integers compare by value, whatever width and sign
/// they were recorded with. Literals and anything that [`From`] takes can be compared with it.
///
/// ```
/// use hotspan::event::Value;
///
/// assert_eq!(Value::from(3_u8), Value::from(3_i64));
/// assert_eq!(Value::from("eu"), "eu");
/// assert_eq!(Value::from([1, 2]).to_string(), "[1, 2]");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// Any integer up to `i128::MAX`.
    Int(i128),
    /// An integer beyond that.
    Huge(u128),
    /// Both float widths.
    Float(f64),
    /// Text. What was cut ends in `...`, as it does where it is delivered.
    Text(String),
    /// A list.
    List(Vec<Self>),
}

impl Value {
    /// The value in an attribute's payload.
    pub(super) fn decode(code: u8, mut bytes: &[u8]) -> Option<Self> {
        let scalar = Scalar::of(code)?;
        let was_cut = code & CUT != 0;
        if code & LIST == 0 {
            let value = Self::of(take(scalar, &mut bytes, false, was_cut)?);
            return Some(match value {
                Self::Text(text) if was_cut => Self::Text(shortened(text)),
                value => value,
            });
        }
        let mut list = Vec::new();
        while !bytes.is_empty() {
            list.push(Self::of(take(scalar, &mut bytes, true, was_cut)?));
        }
        Some(Self::List(list))
    }

    fn of(value: Recorded<'_>) -> Self {
        match value {
            Recorded::Bool(value) => value.into(),
            Recorded::I64(value) => value.into(),
            Recorded::U64(value) => value.into(),
            Recorded::F64(value) => value.into(),
            Recorded::I128(value) => value.into(),
            Recorded::U128(value) => value.into(),
            Recorded::Text(value) => value.into(),
        }
    }

    /// As the text of a tag.
    pub(super) fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::List(list) => list.iter().map(Self::plain).collect::<Vec<_>>().join(","),
            value => value.to_string(),
        }
    }
}

fn shortened(mut text: String) -> String {
    let mut len = text.len().min(VALUE_MAX - 3);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    text.truncate(len);
    text + "..."
}

/// As in Rust: text in quotes, its special characters escaped.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Huge(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::List(list) => {
                f.write_str("[")?;
                for (n, value) in list.iter().enumerate() {
                    let comma = if n > 0 { ", " } else { "" };
                    write!(f, "{comma}{value}")?;
                }
                f.write_str("]")
            }
        }
    }
}

macro_rules! from {
    ($($ty:ty => $value:ident, $make:expr;)*) => { $(
        impl From<$ty> for Value {
            fn from($value: $ty) -> Self {
                $make
            }
        }

        impl PartialEq<$ty> for Value {
            fn eq(&self, other: &$ty) -> bool {
                let other: Self = other.clone().into();
                *self == other
            }
        }
    )* };
}

from! {
    bool => value, Self::Bool(value);
    i8 => value, Self::Int(value.into());
    i16 => value, Self::Int(value.into());
    i32 => value, Self::Int(value.into());
    i64 => value, Self::Int(value.into());
    i128 => value, Self::Int(value);
    isize => value, Self::Int(value as i128);
    u8 => value, Self::Int(value.into());
    u16 => value, Self::Int(value.into());
    u32 => value, Self::Int(value.into());
    u64 => value, Self::Int(value.into());
    usize => value, Self::Int(value as i128);
    u128 => value, i128::try_from(value).map_or(Self::Huge(value), Self::Int);
    f32 => value, Self::Float(value.into());
    f64 => value, Self::Float(value);
    &str => value, Self::Text(value.to_owned());
    String => value, Self::Text(value);
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Self>, const N: usize> From<[T; N]> for Value {
    fn from(list: [T; N]) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_compare_by_value_and_other_types_do_not() {
        assert_eq!(Value::from(5_u128), 5_i8);
        assert_eq!(Value::from(u128::MAX), u128::MAX);
        assert_ne!(Value::from(u128::MAX), -1);
        assert_ne!(Value::from(1), true);
        assert_ne!(Value::from(1), 1.0);
        assert_eq!(Value::from(vec!["a", "b"]), Value::from(["a", "b"]));
    }

    #[test]
    fn text_that_was_cut_says_so_and_ends_with_a_whole_character() {
        let text = "ä".repeat(VALUE_MAX / 2);
        let code = Scalar::Text as u8 | CUT;
        let Some(Value::Text(cut)) = Value::decode(code, text.as_bytes()) else { panic!() };
        assert_eq!(cut, "ä".repeat((VALUE_MAX - 3) / 2) + "...");
        assert_eq!(Value::decode(Scalar::Text as u8, b"a"), Some(Value::from("a")));
        assert_eq!(Value::decode(Scalar::Bool as u8, &[2]), None);
        assert_eq!(Value::decode(99, &[]), None);
    }

    #[test]
    fn tags_are_plain_and_data_is_quoted() {
        let list = Value::from(["a", "b\n"]);
        assert_eq!(list.to_string(), r#"["a", "b\n"]"#);
        assert_eq!(list.plain(), "a,b\n");
    }
}
