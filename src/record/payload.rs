//! Values as the bytes that go into slots: lists, long integers, texts with a name in front.

use crate::shared::layout::{CUT, INLINE_NAME_MAX, LIST, PAYLOAD_MAX, Scalar, VALUE_MAX, bounded};
use crate::value::{List, Value};

/// A payload that is put together before it is written.
pub(super) struct Payload {
    bytes: [u8; PAYLOAD_MAX],
    len: usize,
    /// Where the value must end.
    end: usize,
}

impl Payload {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; PAYLOAD_MAX], len: 0, end: VALUE_MAX }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Appends, if it fits before the array's end.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        let end = self.len + bytes.len();
        match self.bytes.get_mut(self.len..end) {
            Some(to) => {
                to.copy_from_slice(bytes);
                self.len = end;
                true
            }
            None => false,
        }
    }

    /// Appends a name with its length; true if it had to be cut.
    pub(super) fn name(&mut self, name: &str) -> bool {
        let (name, cut) = bounded(name, INLINE_NAME_MAX);
        #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
        self.push(&[name.len() as u8]);
        self.push(name.as_bytes());
        cut
    }

    pub(super) fn value(&mut self, value: Value<'_>) -> u8 {
        self.end = (self.len + VALUE_MAX).min(PAYLOAD_MAX);
        match value {
            Value::List(list) => return self.list(list),
            Value::Text(text) => {
                let (text, cut) = bounded(text, self.end - self.len);
                self.push(text.as_bytes());
                return Scalar::Text as u8 | if cut { CUT } else { 0 };
            }
            scalar => {
                self.scalar(scalar);
            }
        }
        scalar_of(value) as u8
    }

    /// Appends a scalar other than text.
    fn scalar(&mut self, value: Value<'_>) -> bool {
        match value {
            Value::Bool(value) => self.push(&[u8::from(value)]),
            Value::I64(value) => self.push(&value.to_le_bytes()),
            Value::U64(value) => self.push(&value.to_le_bytes()),
            Value::F64(value) => self.push(&value.to_le_bytes()),
            Value::I128(value) => self.push(&value.to_le_bytes()),
            Value::U128(value) => self.push(&value.to_le_bytes()),
            Value::Text(_) | Value::List(_) => false,
        }
    }

    /// Appends as many items as fit. The code says whether that was all.
    fn list(&mut self, list: List<'_>) -> u8 {
        let scalar = scalar_of(list.sample());
        let mut cut = 0;
        list.each(|item| {
            let fits = match item {
                Value::Text(text) => {
                    let (short, was_cut) = bounded(text, VALUE_MAX - 2);
                    let fits = self.len + 2 + short.len() <= self.end;
                    if fits {
                        #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
                        self.push(&(short.len() as u16).to_le_bytes());
                        self.push(short.as_bytes());
                    }
                    if was_cut {
                        cut = CUT;
                    }
                    fits
                }
                item => self.len + scalar.width() <= self.end && self.scalar(item),
            };
            if !fits {
                cut = CUT;
            }
            fits
        });
        scalar as u8 | LIST | cut
    }
}

const fn scalar_of(value: Value<'_>) -> Scalar {
    match value {
        Value::Bool(_) => Scalar::Bool,
        Value::I64(_) => Scalar::I64,
        Value::U64(_) => Scalar::U64,
        Value::F64(_) => Scalar::F64,
        Value::I128(_) => Scalar::I128,
        Value::U128(_) => Scalar::U128,
        // A list holds no lists: `IntoValue` is not there for them.
        Value::Text(_) | Value::List(_) => Scalar::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_what_fits_and_say_when_that_was_not_all() {
        let mut payload = Payload::new();
        assert_eq!(payload.list(List::U8s(&[1, 2])), Scalar::U64 as u8 | LIST);
        assert_eq!(payload.bytes(), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        let mut payload = Payload::new();
        assert_eq!(payload.list(List::I64s(&[7; 500])), Scalar::I64 as u8 | LIST | CUT);
        assert_eq!(payload.bytes().len(), VALUE_MAX);
        let mut payload = Payload::new();
        assert_eq!(payload.list(List::Strs(&["a", ""])), Scalar::Text as u8 | LIST);
        assert_eq!(payload.bytes(), [1, 0, b'a', 0, 0]);
    }
}
