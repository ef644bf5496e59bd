//! Values of attributes: from payload bytes to JSON, with their type kept, or to the text of a tag.

use crate::shared::id::NameId;
use crate::shared::layout::{self, CUT, LIST, Scalar, VALUE_MAX};

use super::fragments::NAME_MAX;
use super::json;

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Whole,
    Cut,
    /// The payload is not what its type says; nothing useful was appended.
    Unfit,
}

impl Written {
    pub(super) const fn cut_if(cut: bool) -> Self {
        if cut { Self::Cut } else { Self::Whole }
    }
}

/// One scalar, taken out of its bytes.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    I128(i128),
    U128(u128),
    Text(&'a str),
}

/// Reads a scalar from the front of a payload and moves the payload on; `None` if it is not there.
fn take<'a>(
    scalar: Scalar,
    bytes: &mut &'a [u8],
    is_list: bool,
    was_cut: bool,
) -> Option<Value<'a>> {
    fn number<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (head, tail) = bytes.split_first_chunk::<N>()?;
        *bytes = tail;
        Some(*head)
    }
    Some(match scalar {
        Scalar::Bool => match number(bytes)? {
            [byte @ (0 | 1)] => Value::Bool(byte == 1),
            _ => return None,
        },
        Scalar::I64 => Value::I64(i64::from_le_bytes(number(bytes)?)),
        Scalar::U64 => Value::U64(u64::from_le_bytes(number(bytes)?)),
        Scalar::F64 => Value::F64(f64::from_le_bytes(number(bytes)?)),
        Scalar::I128 => Value::I128(i128::from_le_bytes(number(bytes)?)),
        Scalar::U128 => Value::U128(u128::from_le_bytes(number(bytes)?)),
        Scalar::Text => {
            let len =
                if is_list { usize::from(u16::from_le_bytes(number(bytes)?)) } else { bytes.len() };
            let (head, tail) = bytes.split_at_checked(len)?;
            *bytes = tail;
            Value::Text(text(head, was_cut)?)
        }
    })
}

/// The text in a payload. One that was cut may end inside a character, which is then left out.
pub(super) fn text(bytes: &[u8], was_cut: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if was_cut && error.error_len().is_none() => {
            std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()
        }
        Err(_) => None,
    }
}

/// Appends a value with its type kept.
pub(super) fn typed(out: &mut Vec<u8>, code: u8, mut bytes: &[u8]) -> Written {
    let Some(scalar) = Scalar::of(code) else { return Written::Unfit };
    let mut cut = code & CUT != 0;
    if code & LIST == 0 {
        let Some(value) = take(scalar, &mut bytes, false, cut) else { return Written::Unfit };
        if !bytes.is_empty() {
            return Written::Unfit;
        }
        if let Value::Text(text) = value {
            cut |= text.len() > VALUE_MAX;
            out.push(b'"');
            json::escape(out, if cut { json::floor(text, VALUE_MAX - 3) } else { text });
            out.extend_from_slice(if cut { b"...\"" } else { b"\"" });
        } else {
            append(out, value);
        }
        return Written::cut_if(cut);
    }
    out.push(b'[');
    let mark = out.len();
    while !bytes.is_empty() {
        let Some(value) = take(scalar, &mut bytes, true, cut) else { return Written::Unfit };
        append(out, value);
        out.push(b',');
    }
    if out.len() > mark {
        out.pop();
    }
    out.push(b']');
    Written::cut_if(cut)
}

fn append(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Value::I64(value) => json::integer(out, value),
        Value::U64(value) => json::integer(out, value),
        Value::F64(value) => {
            if !json::float(out, value) {
                json::string(out, json::non_finite(value));
            }
        }
        Value::I128(value) if i64::try_from(value).is_ok() || u64::try_from(value).is_ok() => {
            json::integer(out, value);
        }
        Value::U128(value) if u64::try_from(value).is_ok() => json::integer(out, value),
        Value::I128(value) => quoted(out, |out| json::integer(out, value)),
        Value::U128(value) => quoted(out, |out| json::integer(out, value)),
        Value::Text(value) => json::string(out, value),
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// Appends a value as the text of a tag: at most [`NAME_MAX`] characters on one line, a list with commas
/// between. A tag of nothing but white space is unfit: Relay drops it. `plain` is scratch space.
pub(super) fn tag(out: &mut Vec<u8>, code: u8, mut bytes: &[u8], plain: &mut Vec<u8>) -> Written {
    let Some(scalar) = Scalar::of(code) else { return Written::Unfit };
    let (is_list, was_cut) = (code & LIST != 0, code & CUT != 0);
    if !is_list && scalar == Scalar::Text {
        return match text(bytes, was_cut) {
            Some(value) => line(out, value, was_cut),
            None => Written::Unfit,
        };
    }
    plain.clear();
    loop {
        if bytes.is_empty() && is_list {
            break;
        }
        match take(scalar, &mut bytes, is_list, was_cut) {
            None => return Written::Unfit,
            Some(Value::Text(value)) => plain.extend_from_slice(value.as_bytes()),
            Some(Value::F64(value)) if !value.is_finite() => {
                plain.extend_from_slice(json::non_finite(value).as_bytes());
            }
            Some(Value::I128(value)) => json::integer(plain, value),
            Some(Value::U128(value)) => json::integer(plain, value),
            Some(value) => append(plain, value),
        }
        if bytes.is_empty() {
            break;
        }
        if !is_list {
            return Written::Unfit;
        }
        plain.push(b',');
    }
    match text(plain, false) {
        Some(value) => line(out, value, was_cut),
        None => Written::Unfit,
    }
}

/// Appends a text as a tag's value.
fn line(out: &mut Vec<u8>, value: &str, was_cut: bool) -> Written {
    let value = value.trim();
    if value.is_empty() {
        return Written::Unfit;
    }
    let (head, cut) = json::cut_again(value, NAME_MAX, was_cut);
    out.push(b'"');
    for (index, piece) in head.split(['\n', '\r']).enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        json::escape(out, piece);
    }
    out.extend_from_slice(if cut { b"...\"" } else { b"\"" });
    Written::cut_if(cut)
}

/// An attribute's payload: the name in front, if it travelled inline, and the value.
pub(super) fn split_name(name: NameId, payload: &[u8]) -> Option<(&str, &[u8])> {
    if name != NameId::INLINE {
        return Some(("", payload));
    }
    let (len, rest) = payload.split_first()?;
    let (name, value) = rest.split_at_checked(usize::from(*len))?;
    Some((text(name, false)?, value))
}

/// The whole payload of the attribute that begins a piece of a run; `None` if slots are missing.
pub(super) fn payload<'a>(
    slots: &[layout::Slot],
    header: &layout::AttributeHeader,
    scratch: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    layout::payload(slots, scratch);
    (scratch.len() == usize::from(header.len)).then_some(scratch)
}
