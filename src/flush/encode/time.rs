//! Ids and times as digits of fixed width, by table and by word, never through floats.

/// Digits of a span id.
pub(super) const ID: usize = 16;
/// Digits of a time's seconds.
pub(super) const SECONDS: usize = 10;
/// Bytes of the rest: a point, six digits of microseconds, and the comma behind each time.
pub(super) const FRACTION: usize = 8;

/// The first second that has so many digits.
pub(super) const TEN_DIGITS: u64 = 1_000_000_000;

/// The last moment that is written: year 2286, where the seconds take an eleventh digit.
const MICROS_MAX: u64 = 9_999_999_999_999_999;

#[expect(clippy::indexing_slicing, reason = "at compile time")]
/// More of them than there are, so that seven bits are an index.
static PAIRS: [[u8; 2]; 128] = {
    let mut pairs = [[b'0'; 2]; 128];
    let mut value = 0;
    while value < 100 {
        pairs[value as usize] = [b'0' + value / 10, b'0' + value % 10];
        value += 1;
    }
    pairs
};

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
    let [c, d, e, f, g, h, i, j] = eight_digits(value % 100_000_000);
    #[expect(clippy::indexing_slicing, reason = "within 128 by the remainder")]
    let [a, b] = PAIRS[(value / 100_000_000) as usize % PAIRS.len()];
    let mut digits = [a, b, c, d, e, f, g, h, i, j];
    if value < TEN_DIGITS {
        for digit in digits.iter_mut().take(SECONDS - 1).take_while(|digit| **digit == b'0') {
            *digit = b' ';
        }
    }
    digits
}

/// Six digits of a number below 1,000,000: the first pair by one multiplication, the others out of
/// what is left behind its point.
#[inline]
#[expect(clippy::indexing_slicing, reason = "within 128 by the remainder")]
pub(super) const fn six(value: u64) -> [u8; 6] {
    const BELOW: u64 = (1 << 32) - 1;
    let first = value * (BELOW / 10_000 + 1);
    let second = (first & BELOW) * 100;
    let third = (second & BELOW) * 100;
    let [a, b] = PAIRS[(first >> 32) as usize % PAIRS.len()];
    let [c, d] = PAIRS[(second >> 32) as usize % PAIRS.len()];
    let [e, f] = PAIRS[(third >> 32) as usize % PAIRS.len()];
    [a, b, c, d, e, f]
}

/// Microseconds behind a point, and a comma.
#[inline]
pub(super) const fn fraction(micros: u64) -> [u8; FRACTION] {
    let [a, b, c, d, e, f] = six(micros);
    [b'.', a, b, c, d, e, f, b',']
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

#[expect(clippy::indexing_slicing, reason = "at compile time")]
static HEX: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Sixteen lower-case hex digits.
#[inline]
pub(super) fn hex(id: u64) -> [u8; ID] {
    let mut digits = [0; ID];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(id.to_be_bytes()) {
        #[expect(clippy::indexing_slicing, reason = "a byte indexes 256 entries")]
        pair.copy_from_slice(&HEX[usize::from(byte)]);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_ten_places_and_saturate() {
        assert_eq!(&seconds(0), b"         0");
        assert_eq!(&seconds(1_000_000_001), b"1000000001");
        assert_eq!(&seconds(split(u64::MAX).0), b"9999999999");
        assert_eq!(&fraction(split(u64::MAX).1), b".999999,");
    }

    #[test]
    fn six_digits_are_what_format_writes() {
        for value in 0..1_000_000 {
            assert_eq!(six(value), *format!("{value:06}").as_bytes());
        }
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
