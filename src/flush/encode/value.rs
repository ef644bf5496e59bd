//! Values of attributes: from payload bytes to JSON, with their type kept, or to the text of a tag.

use crate::shared::id::NameId;
use crate::shared::layout::{
    self, AttributeHeader, CUT, INLINE_BYTES, LIST, Scalar, Slot, VALUE_MAX,
};

use super::fragments::NAME_MAX;
use super::json;

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// As it was recorded: what the recording side cut, it has counted.
    Whole,
    /// Cut here.
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
pub(crate) enum Value<'a> {
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    I128(i128),
    U128(u128),
    Text(&'a str),
}

/// Reads a scalar from the front of a payload and moves the payload on; `None` if it is not there.
pub(crate) fn take<'a>(
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
pub(crate) fn text(bytes: &[u8], was_cut: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if was_cut && error.error_len().is_none() => {
            std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()
        }
        Err(_) => None,
    }
}

/// What [`short`] writes takes at most so much room, and is written as whole words: a payload, and
/// both quotes.
pub(super) const ROOM: usize = 48;

/// Writes what most attributes are: an integer, or a text of a few plain characters, all in one
/// slot; returns how long that is. `None` for anything else, of which [`typed`] and [`tag`] know
/// more.
// As calls, of this and of what it calls, 30 instructions more of about 150 an attribute.
#[inline(always)]
pub(super) fn short(
    room: &mut [u8; ROOM],
    header: &AttributeHeader,
    slot: &Slot,
    is_tag: bool,
) -> Option<usize> {
    const TEXT: u8 = Scalar::Text as u8;
    const I64: u8 = Scalar::I64 as u8;
    const U64: u8 = Scalar::U64 as u8;

    let [_, _, _, words @ ..] = slot;
    let [first, ..] = words;
    match (header.code, usize::from(header.len)) {
        _ if header.name == NameId::INLINE => None,
        (TEXT, len) if len <= INLINE_BYTES => short_text(room, words, len, is_tag),
        (U64, 8) => Some(short_integer(room, *first, is_tag)),
        (I64, 8) if first.cast_signed() >= 0 => Some(short_integer(room, *first, is_tag)),
        _ => None,
    }
}

#[inline(always)]
fn short_integer(room: &mut [u8; ROOM], value: u64, is_tag: bool) -> usize {
    if !is_tag {
        return json::digits(room, value);
    }
    let [quote, digits @ ..] = room;
    *quote = b'"';
    let len = json::digits(digits, value);
    if let Some(quote) = digits.get_mut(len) {
        *quote = b'"';
    }
    len + 2
}

/// The text in these words between quotes, if nothing in it is to be escaped, or might not be
/// UTF-8, or is white space at an end of a tag.
#[inline(always)]
fn short_text(
    room: &mut [u8; ROOM],
    words: &[u64; INLINE_BYTES / 8],
    len: usize,
    is_tag: bool,
) -> Option<usize> {
    const PLAIN: u64 = u64::from_ne_bytes([b'x'; 8]);

    // What lies behind the end of the text does not count.
    let (whole, behind) = words.split_at_checked(len / 8).unwrap_or((words, &[]));
    let mask = (1 << (8 * (len % 8))) - 1;
    let tail = behind.first().map_or(PLAIN, |word| word & mask | PLAIN & !mask);
    if !json::is_plain(tail) || !whole.iter().all(|word| json::is_plain(*word)) {
        return None;
    }
    let byte =
        |at: usize| words.get(at / 8).and_then(|word| word.to_le_bytes().get(at % 8).copied());
    if is_tag && (len == 0 || byte(0) == Some(b' ') || byte(len - 1) == Some(b' ')) {
        return None;
    }
    let [quote, text @ ..] = room;
    *quote = b'"';
    for (bytes, word) in text.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    *text.get_mut(len)? = b'"';
    Some(len + 2)
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
        return Written::cut_if(cut && code & CUT == 0);
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
    Written::Whole
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

/// Appends a value as the text of a tag: at most [`NAME_MAX`] characters on one line, a list with
/// commas between. A tag of nothing but white space is unfit: Relay drops it. `plain` is scratch
/// space.
pub(super) fn tag(out: &mut Vec<u8>, code: u8, mut bytes: &[u8], plain: &mut Vec<u8>) -> Written {
    let Some(scalar) = Scalar::of(code) else { return Written::Unfit };
    let was_cut = code & CUT != 0;
    if code & LIST == 0 {
        return match take(scalar, &mut bytes, false, was_cut) {
            Some(Value::Text(text)) => line(out, text, was_cut),
            Some(value) if bytes.is_empty() => {
                quoted(out, |out| append_plain(out, value));
                Written::Whole
            }
            _ => Written::Unfit,
        };
    }
    plain.clear();
    let whole = bytes.len();
    while !bytes.is_empty() {
        if bytes.len() < whole {
            plain.push(b',');
        }
        let Some(value) = take(scalar, &mut bytes, true, was_cut) else { return Written::Unfit };
        append_plain(plain, value);
    }
    match text(plain, false) {
        Some(value) => line(out, value, was_cut),
        None => Written::Unfit,
    }
}

/// Appends a value as it reads, without quotes or escapes.
fn append_plain(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Text(text) => out.extend_from_slice(text.as_bytes()),
        Value::F64(value) if !value.is_finite() => {
            out.extend_from_slice(json::non_finite(value).as_bytes());
        }
        Value::I128(value) => json::integer(out, value),
        Value::U128(value) => json::integer(out, value),
        value => append(out, value),
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
    json::escape_line(out, head);
    out.extend_from_slice(if cut { b"...\"" } else { b"\"" });
    Written::cut_if(cut && !was_cut)
}

/// An attribute's payload: the name in front, if it travelled inline, and the value.
pub(crate) fn split_name(name: NameId, payload: &[u8]) -> Option<(&str, &[u8])> {
    if name != NameId::INLINE {
        return Some(("", payload));
    }
    let (len, rest) = payload.split_first()?;
    let (name, value) = rest.split_at_checked(usize::from(*len))?;
    Some((text(name, false)?, value))
}

/// Room for payloads.
#[derive(Debug)]
pub(super) struct Payload {
    inline: [u8; INLINE_BYTES],
    long: Vec<u8>,
}

impl Default for Payload {
    fn default() -> Self {
        Self { inline: [0; INLINE_BYTES], long: Vec::new() }
    }
}

impl Payload {
    /// The payload of the attribute that begins at this slot of the run, and has this header.
    pub(super) fn at(
        &mut self,
        run: &[Slot],
        at: usize,
        header: &AttributeHeader,
    ) -> Option<&[u8]> {
        self.of(run.get(at..)?, header)
    }

    /// The payload of the attribute that begins these slots; `None` if some of them are missing.
    #[inline]
    pub(super) fn of(&mut self, slots: &[Slot], header: &AttributeHeader) -> Option<&[u8]> {
        let len = usize::from(header.len);
        if len > INLINE_BYTES {
            layout::payload(slots, &mut self.long);
            return (self.long.len() == len).then_some(&self.long);
        }
        let [_, _, _, words @ ..] = slots.first()?;
        for (bytes, word) in self.inline.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.inline.get(..len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::layout::{Kind, attribute_header};

    /// What is written in one go, and what the long way writes; behind the payload stands what was
    /// in the slot before.
    fn both_ways(code: u8, payload: &[u8], is_tag: bool) -> (Option<Vec<u8>>, Vec<u8>) {
        let mut slot = [u64::from_ne_bytes([b'"'; 8]); 8];
        let len = u16::try_from(payload.len()).unwrap();
        slot[0] = attribute_header(Kind::Data, code, len, NameId(1));
        let mut bytes = [0xff; INLINE_BYTES];
        bytes[..payload.len()].copy_from_slice(payload);
        for (word, bytes) in slot[3..].iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap());
        }
        let (mut fast, mut slow) = (vec![b':'], vec![b':']);
        let mut room = [0; ROOM];
        let len = short(&mut room, &AttributeHeader::of(&slot).unwrap(), &slot, is_tag);
        fast.extend_from_slice(&room[..len.unwrap_or(0)]);
        let fate = match is_tag {
            true => tag(&mut slow, code, payload, &mut Vec::new()),
            false => typed(&mut slow, code, payload),
        };
        assert!(len.is_none() || fate == Written::Whole);
        (len.map(|_| fast), slow)
    }

    #[test]
    fn short_texts_are_what_the_long_way_writes() {
        for (len, is_tag) in (0..=INLINE_BYTES).flat_map(|len| [(len, false), (len, true)]) {
            let plain = vec![b'p'; len];
            let (fast, slow) = both_ways(Scalar::Text as u8, &plain, is_tag);
            assert_eq!(fast.is_none(), len == 0 && is_tag);
            assert!(fast.is_none_or(|fast| fast == slow));
            for special in (0..=0x20).chain([b'"', b'\\', 0x7e, 0x7f, 0x80, 0xe2, 0xff]) {
                for at in 0..len {
                    let mut text = plain.clone();
                    text[at] = special;
                    let (fast, slow) = both_ways(Scalar::Text as u8, &text, is_tag);
                    assert!(fast.is_none_or(|fast| fast == slow), "{special} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn short_integers_are_what_the_long_way_writes() {
        let edges = (0..64).flat_map(|shift| [1 << shift, (1 << shift) - 1, !0 << shift]);
        let tens = (0..19).flat_map(|tens| [10_u64.pow(tens), 10_u64.pow(tens) - 1]);
        for value in edges.chain(tens).chain(0..200) {
            for (code, is_tag) in [Scalar::I64, Scalar::U64]
                .into_iter()
                .flat_map(|code| [(code as u8, false), (code as u8, true)])
            {
                let (fast, slow) = both_ways(code, &value.to_le_bytes(), is_tag);
                let is_negative = code == Scalar::I64 as u8 && value >> 63 == 1;
                assert_eq!(fast.is_none(), is_negative);
                assert!(fast.is_none_or(|fast| fast == slow), "{value}");
            }
        }
    }
}
