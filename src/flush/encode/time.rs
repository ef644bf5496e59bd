//! Ids and times as digits of fixed width, by table and by word, never through floats.

/// Digits of a span id.
pub(super) const ID: usize = 16;
/// Digits of a time's seconds.
pub(super) const SECONDS: usize = 10;
/// Bytes of the rest: a point, six digits of microseconds, and the comma behind each time.
pub(super) const FRACTION: usize = 8;

/// The last moment that is written: year 2286, where the seconds take an eleventh digit.
const MICROS_MAX: u64 = 9_999_999_999_999_999;

#[expect(clippy::indexing_slicing, reason = "at compile time")]
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut value = 0;
    while value < 100 {
        pairs[value as usize] = [b'0' + value / 10, b'0' + value % 10];
        value += 1;
    }
    pairs
};

#[inline]
#[expect(clippy::indexing_slicing, reason = "below 100 by the remainder")]
const fn pair(value: u64) -> [u8; 2] {
    PAIRS[(value % 100) as usize]
}

/// Seconds and microseconds of a moment in nanoseconds, saturating.
#[inline]
pub(super) const fn split(nanos: u64) -> (u64, u64) {
    let micros = nanos / 1000;
    let micros = if micros > MICROS_MAX { MICROS_MAX } else { micros };
    (micros / 1_000_000, micros % 1_000_000)
}

/// Seconds as ten bytes. Before September 2001 that is too many digits, and JSON has no leading
/// zeros: spaces stand in for them, which JSON allows before a number.
#[inline]
pub(super) fn seconds(value: u64) -> [u8; SECONDS] {
    let [a, b] = pair(value / 100_000_000);
    let [c, d] = pair(value / 1_000_000);
    let [e, f] = pair(value / 10_000);
    let [g, h] = pair(value / 100);
    let [i, j] = pair(value);
    let mut digits = [a, b, c, d, e, f, g, h, i, j];
    if value < 1_000_000_000 {
        for digit in digits.iter_mut().take(SECONDS - 1).take_while(|digit| **digit == b'0') {
            *digit = b' ';
        }
    }
    digits
}

/// Six digits.
#[inline]
pub(super) const fn six(value: u64) -> [u8; 6] {
    let [a, b] = pair(value / 10_000);
    let [c, d] = pair(value / 100);
    let [e, f] = pair(value);
    [a, b, c, d, e, f]
}

/// Microseconds behind a point, and a comma.
#[inline]
pub(super) const fn fraction(micros: u64) -> [u8; FRACTION] {
    // Of the two zeros in front one makes room for the comma, the other is the point.
    let digits = u64::from_le_bytes(eight_digits(micros)) >> 8;
    (digits ^ (b'0' ^ b'.') as u64 | (b',' as u64) << 56).to_le_bytes()
}

/// Eight digits of a number below 100,000,000: halves, then pairs, then digits, side by side in one
/// word.
#[inline]
pub(super) const fn eight_digits(value: u64) -> [u8; 8] {
    let fours = (value / 10_000) | ((value % 10_000) << 32);
    // So many bits are enough for what is left to divide: 10,486 / 2^20, 103 / 2^10.
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = hundreds | (fours - hundreds * 100) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = tens | (pairs - tens * 10) << 8;
    (digits | u64::from_ne_bytes([b'0'; 8])).to_le_bytes()
}

/// Appends a moment in seconds with six decimals.
pub(super) fn append(out: &mut Vec<u8>, nanos: u64) {
    let (whole, micros) = split(nanos);
    out.extend_from_slice(seconds(whole).trim_ascii_start());
    out.push(b'.');
    out.extend_from_slice(&six(micros));
}

/// Sixteen lower-case hex digits, eight at a time in one word.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
pub(super) fn hex(id: u64) -> [u8; ID] {
    let mut digits = [0; ID];
    let (high, low) = digits.split_at_mut(ID / 2);
    high.copy_from_slice(&eight((id >> 32) as u32));
    low.copy_from_slice(&eight(id as u32));
    digits
}

/// Thirty-two lower-case hex digits.
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
pub(super) fn wide_hex(id: u128) -> [u8; 2 * ID] {
    let mut digits = [0; 2 * ID];
    let (high, low) = digits.split_at_mut(ID);
    high.copy_from_slice(&hex((id >> 64) as u64));
    low.copy_from_slice(&hex(id as u64));
    digits
}

#[inline]
const fn eight(value: u32) -> [u8; 8] {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // Each nibble into a byte of its own, the first one highest.
    let word = value as u64;
    let word = (word | word << 16) & 0x0000_ffff_0000_ffff;
    let word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
    let word = (word | word << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 10 to 15 carry into bit 4 when 6 is added: those bytes become letters.
    let letters = ((word + ONES * 6) >> 4) & ONES;
    (word + ONES * b'0' as u64 + letters * (b'a' - b'0' - 10) as u64).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(nanos: u64) -> String {
        let mut out = Vec::new();
        append(&mut out, nanos);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_have_six_decimals_and_saturate() {
        assert_eq!(time(1_700_000_000_123_456_789), "1700000000.123456");
        assert_eq!(time(999_999_999_999_999), "999999.999999");
        assert_eq!(time(0), "0.000000");
        assert_eq!(time(1_000), "0.000001");
        assert_eq!(time(u64::MAX), "9999999999.999999");
        assert_eq!(&seconds(0), b"         0");
        assert_eq!(&seconds(1_000_000_001), b"1000000001");
    }

    #[test]
    fn eight_digits_are_what_format_writes() {
        for value in (0..10_000).chain((0..10_000).map(|value| value * 10_000 + 9_999 - value)) {
            assert_eq!(eight_digits(value), *format!("{value:08}").as_bytes());
        }
    }

    #[test]
    fn hex_is_what_format_writes() {
        for id in
            (0..64).flat_map(|shift| [1 << shift, !(1 << shift), 0x0123_4567_89ab_cdef >> shift])
        {
            assert_eq!(hex(id), *format!("{id:016x}").as_bytes());
            let wide = u128::from(id) << 64 | u128::from(!id);
            assert_eq!(wide_hex(wide), *format!("{wide:032x}").as_bytes());
        }
    }
}
