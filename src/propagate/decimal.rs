//! Rates and random numbers as decimal text, exact to a millionth, never through floats.

use super::Short;

const MILLION: u32 = 1_000_000;
/// A longer number is none.
const LEN_MAX: usize = 64;

/// What was read: whole millionths, and whether something smaller was behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Millionths {
    whole: u32,
    has_more: bool,
}

/// `sample_rate`: 0 to 1. What lies between two millionths is rounded up, so that no rate above
/// 0 becomes 0.
pub(super) fn parse_rate(text: &[u8]) -> Option<u32> {
    let Millionths { whole, has_more } = parse(text)?;
    Some(whole + u32::from(has_more)).filter(|&rate| rate <= MILLION)
}

/// `sample_rand`: 0 to below 1. Digits behind the sixth are cut off.
pub(super) fn parse_rand(text: &[u8]) -> Option<u32> {
    parse(text).map(|number| number.whole).filter(|&rand| rand < MILLION)
}

/// `0.` and digits, as nearly every number comes; all others are [`parse_any`]'s.
fn parse(text: &[u8]) -> Option<Millionths> {
    let Some(digits) = text.strip_prefix(b"0.").filter(|_| text.len() <= LEN_MAX) else {
        return parse_any(text);
    };
    let mut number = Millionths { whole: 0, has_more: false };
    for place in 0..digits.len().max(6) {
        let digit = digits.get(place).map_or(0, |digit| digit.wrapping_sub(b'0'));
        match place {
            _ if digit > 9 => return parse_any(text),
            0..6 => number.whole = number.whole * 10 + u32::from(digit),
            _ => number.has_more |= digit != 0,
        }
    }
    Some(number)
}

/// A number of at most [`LEN_MAX`] characters with digits, a point, an exponent; no sign in front.
fn parse_any(text: &[u8]) -> Option<Millionths> {
    if text.len() > LEN_MAX {
        return None;
    }
    let is_exponent = |byte: &u8| matches!(byte, b'e' | b'E');
    let (mantissa, exponent) = match text.iter().position(is_exponent) {
        Some(at) => (text.get(..at)?, parse_exponent(text.get(at + 1..)?)?),
        None => (text, 0),
    };
    let mut parts = mantissa.split(|&byte| byte == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or_default());
    if parts.next().is_some() || whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // The power of ten, in millionths, that the first digit stands for.
    let mut power = i32::try_from(whole.len()).ok()? - 1 + exponent + 6;
    let mut number = Millionths { whole: 0, has_more: false };
    for digit in whole.iter().chain(fraction) {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        match power {
            _ if digit == 0 => {}
            ..0 => number.has_more = true,
            0..=6 => number.whole += digit * 10_u32.pow(power.unsigned_abs()),
            _ => return None,
        }
        power -= 1;
    }
    Some(number)
}

/// A sign and at most three digits.
fn parse_exponent(text: &[u8]) -> Option<i32> {
    let (digits, sign) = match text {
        [b'-', digits @ ..] => (digits, -1),
        [b'+', digits @ ..] => (digits, 1),
        digits => (digits, 1),
    };
    if digits.is_empty() || digits.len() > 3 {
        return None;
    }
    let mut value = 0;
    for digit in digits {
        value = value * 10 + digit.is_ascii_digit().then(|| i32::from(digit - b'0'))?;
    }
    Some(sign * value)
}

/// A rate without superfluous zeros and without an exponent: `0.0`, `0.25`, `1.0`.
pub(super) fn rate(millionths: u32) -> Short<8> {
    let mut text = Short::new();
    if millionths >= MILLION {
        text.push(b"1.0");
        return text;
    }
    text = rand(millionths);
    while text.len > 3 && text.as_bytes().ends_with(b"0") {
        text.len -= 1;
    }
    text
}

/// Six decimals: `0.000000` to `0.999999`.
pub(super) fn rand(millionths: u32) -> Short<8> {
    let mut rest = millionths.min(MILLION - 1);
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    let mut text = Short::new();
    text.push(b"0.");
    text.push(&digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rounded_up_and_bounded() {
        for (text, expected) in [
            ("0", Some(0)),
            ("0.0", Some(0)),
            ("1", Some(1_000_000)),
            ("1.0", Some(1_000_000)),
            ("1.", Some(1_000_000)),
            (".25", Some(250_000)),
            ("0.25", Some(250_000)),
            ("00.250", Some(250_000)),
            ("0.07", Some(70_000)),
            ("0.000001", Some(1)),
            ("0.0000001", Some(1)),
            ("0.9999999", Some(1_000_000)),
            ("1e-05", Some(10)),
            ("1E-5", Some(10)),
            ("2.5e-1", Some(250_000)),
            ("0.0025e+2", Some(250_000)),
            ("0.5e-1", Some(50_000)),
            ("0.12389261611242897", Some(123_893)),
            ("0.12300000000000000", Some(123_000)),
            ("0.", Some(0)),
            ("1e-9", Some(1)),
            ("0e999", Some(0)),
            ("1.0000001", None),
            ("1.000000000000000000000000000000000000000000000000000000000001", None),
            ("1.1", None),
            ("2", None),
            ("10e-1", Some(1_000_000)),
            ("1e1", None),
            ("1e999", None),
            ("-0.5", None),
            ("+0.5", None),
            ("", None),
            (".", None),
            ("0.5.0", None),
            ("0.:", None),
            ("0.1/", None),
            ("0.1234567x", None),
            ("0,5", None),
            ("1e", None),
            ("1e-", None),
            ("1e1000", None),
            ("e5", None),
            ("NaN", None),
            ("inf", None),
            ("0x1", None),
            (" 0.5", None),
            ("true", None),
        ] {
            assert_eq!(parse_rate(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(parse_rate(&[b'0'; 64]), Some(0));
        assert_eq!(parse_rate(&[b'0'; 65]), None);
        let long = |digits: usize| format!("0.{}", "0".repeat(digits));
        assert_eq!(parse_rate(long(62).as_bytes()), Some(0));
        assert_eq!(parse_rate(long(63).as_bytes()), None);
        assert_eq!(parse_rate(&[0xff]), None);
    }

    #[test]
    fn random_numbers_are_cut_and_below_one() {
        for (text, expected) in [
            ("0.000000", Some(0)),
            ("0.999999", Some(999_999)),
            ("0.9999999", Some(999_999)),
            ("0.1234567890123456789", Some(123_456)),
            ("0.1e-2", Some(1_000)),
            ("5.3e-8", Some(0)),
            ("1.0", None),
            ("1", None),
            ("1.000000", None),
        ] {
            assert_eq!(parse_rand(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (millionths, expected) in [
            (0, "0.0"),
            (1, "0.000001"),
            (10, "0.00001"),
            (100_000, "0.1"),
            (250_000, "0.25"),
            (999_999, "0.999999"),
            (1_000_000, "1.0"),
            (u32::MAX, "1.0"),
        ] {
            assert_eq!(rate(millionths).as_str(), expected);
        }
        assert_eq!(rand(0).as_str(), "0.000000");
        assert_eq!(rand(123_456).as_str(), "0.123456");
        assert_eq!(rand(u32::MAX).as_str(), "0.999999");
        for millionths in (0..=1_000_000).step_by(97) {
            assert_eq!(parse_rate(rate(millionths).as_bytes()), Some(millionths));
            let below = millionths.min(999_999);
            assert_eq!(parse_rand(rand(below).as_bytes()), Some(below));
        }
    }
}
