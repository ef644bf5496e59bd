//! JSON pieces appended to a byte buffer: escaped text and numbers.
//!
//! Only what envelopes need. Text is escaped in runs: eight bytes at a time are looked at, and what
//! needs no escape is copied as it stands. U+2028 and U+2029 are escaped though JSON allows them:
//! they end a line elsewhere, and an envelope is read by lines.

use super::time;

/// What [`escape`] does with a byte: 0 copies it, [`CODE`] writes `\u00..`, [`WIDE`] looks at the
/// next two, everything else is the letter behind the backslash.
#[expect(clippy::indexing_slicing, reason = "at compile time")]
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        class[byte] = CODE;
        byte += 1;
    }
    class[0x08] = b'b';
    class[0x09] = b't';
    class[0x0a] = b'n';
    class[0x0c] = b'f';
    class[0x0d] = b'r';
    class[b'"' as usize] = b'"';
    class[b'\\' as usize] = b'\\';
    class[0xe2] = WIDE;
    class
};
const CODE: u8 = 1;
const WIDE: u8 = 2;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Whether none of eight bytes needs a look: no control character, quote, backslash, or non-ASCII
/// byte.
#[inline]
pub(super) const fn is_plain(word: u64) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    // A byte below n borrows from its high bit; a byte that equals c is zero after the exclusive
    // or. A borrow can only come from a byte that is itself found, so there are no false negatives.
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (control | quote | backslash | word) & HIGHS == 0
}

/// Appends the text with everything escaped that JSON wants escaped, without quotes around it.
pub(super) fn escape(out: &mut Vec<u8>, text: &str) {
    escape_as::<false>(out, text);
}

/// The same for what must be one line: line feeds and carriage returns become spaces.
pub(super) fn escape_line(out: &mut Vec<u8>, text: &str) {
    escape_as::<true>(out, text);
}

#[inline]
fn escape_as<const IS_LINE: bool>(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let (mut copied, mut at) = (0, 0);
    loop {
        while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
            if !is_plain(u64::from_ne_bytes(*chunk)) {
                break;
            }
            at += 8;
        }
        // The word that stopped the loop above, or the tail: byte by byte, to the first that
        // matters.
        let Some(&byte) = bytes.get(at) else { break };
        #[expect(clippy::indexing_slicing, reason = "a byte indexes 256 entries")]
        let class = CLASS[usize::from(byte)];
        if class == 0 {
            at += 1;
            continue;
        }
        let width = if class != WIDE {
            1
        } else if matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) {
            3
        } else {
            at += 1;
            continue;
        };
        out.extend_from_slice(bytes.get(copied..at).unwrap_or_default());
        match class {
            CODE => {
                let [high, low] = [byte >> 4, byte & 15].map(usize::from);
                #[expect(clippy::indexing_slicing, reason = "four bits index sixteen digits")]
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
            }
            b'n' | b'r' if IS_LINE => out.push(b' '),
            WIDE if bytes.get(at + 2) == Some(&0xa8) => out.extend_from_slice(b"\\u2028"),
            WIDE => out.extend_from_slice(b"\\u2029"),
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
        at += width;
        copied = at;
    }
    out.extend_from_slice(bytes.get(copied..).unwrap_or_default());
}

/// Appends the text as a JSON string.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escape(out, text);
    out.push(b'"');
}

/// Appends an integer.
pub(super) fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes a number that is small most times, eight bytes at once; returns how many digits it has.
#[inline]
pub(super) fn digits(room: &mut [u8], value: u64) -> usize {
    let Some(place) = room.first_chunk_mut::<8>().filter(|_| value < 100_000_000) else {
        return long_digits(room, value);
    };
    let digits = u64::from_le_bytes(time::eight_digits(value));
    // The zeros in front are taken away; the last one stays if it is a zero.
    let zeros = ((digits ^ u64::from_ne_bytes([b'0'; 8])) | 1 << 63).trailing_zeros() / 8;
    *place = (digits >> (8 * zeros)).to_le_bytes();
    8 - zeros as usize
}

#[inline(never)]
fn long_digits(room: &mut [u8], value: u64) -> usize {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value).as_bytes();
    if let Some(place) = room.get_mut(..digits.len()) {
        place.copy_from_slice(digits);
    }
    digits.len()
}

/// Appends a float as the shortest digits that read back as it; `false`, and nothing, for what JSON
/// has no number for.
pub(super) fn float(out: &mut Vec<u8>, value: f64) -> bool {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    }
    value.is_finite()
}

/// The word for a float that is not a number in JSON.
pub(super) const fn non_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value.is_sign_negative() {
        "-Infinity"
    } else {
        "Infinity"
    }
}

/// The text, or as much of its beginning as leaves room for `...` within `chars` characters, and
/// whether it was cut.
#[inline]
pub(super) fn cut_chars(text: &str, chars: usize) -> (&str, bool) {
    // So many bytes cannot be more characters.
    if text.len() <= chars || text.char_indices().nth(chars).is_none() {
        return (text, false);
    }
    let end = text.char_indices().nth(chars.saturating_sub(3)).map_or(0, |(index, _)| index);
    (text.get(..end).unwrap_or_default(), true)
}

/// The same for a text whose end may be missing already: then it ends in the dots in any case.
pub(super) fn cut_again(text: &str, chars: usize, was_cut: bool) -> (&str, bool) {
    let (head, cut) = cut_chars(text, chars);
    if cut || !was_cut {
        return (head, cut);
    }
    let end =
        text.char_indices().nth(chars.saturating_sub(3)).map_or(text.len(), |(index, _)| index);
    (text.get(..end).unwrap_or_default(), true)
}

/// The longest beginning of a text that takes at most `bytes` bytes.
pub(super) fn floor(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_must_be_escaped_is() {
        assert_eq!(escaped("a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(escaped("\0\x01\x08\t\n\x0c\r\x1f"), r#""\u0000\u0001\b\t\n\f\r\u001f""#);
        assert_eq!(
            escaped("a\u{2028}\u{2029}\u{2027}é€\u{1f980}"),
            "\"a\\u2028\\u2029\u{2027}é€\u{1f980}\""
        );
        assert_eq!(escaped(""), "\"\"");
    }

    /// Each byte that needs an escape, at each place of a word and of a tail.
    #[test]
    fn escapes_are_found_at_every_offset() {
        for special in (0..0x80u8).map(char::from).chain(['\u{2028}', '\u{e2}', '\u{2020}']) {
            for before in 0..20 {
                for after in [0, 1, 7, 8, 9] {
                    let text = format!("{}{special}{}", "x".repeat(before), "y".repeat(after));
                    let back: String = serde_json::from_str(&escaped(&text)).unwrap();
                    assert_eq!(back, text);
                    assert!(!escaped(&text).contains(|c: char| c < ' ' || c == '\u{2028}'));
                }
            }
        }
    }

    #[test]
    fn texts_are_cut_on_characters_with_room_for_the_dots() {
        assert_eq!(cut_chars("abcd", 4), ("abcd", false));
        assert_eq!(cut_chars("äöüß", 4), ("äöüß", false));
        assert_eq!(cut_chars("äöüßx", 4), ("ä", true));
        assert_eq!(floor("aé", 2), "a");
        assert_eq!(floor("aé", 9), "aé");
    }
}
