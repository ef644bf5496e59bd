//! When a message was published, as its headers say it: Unix seconds with a fraction, in decimal.
//!
//! Exact to the microsecond when written and to the nanosecond when read, never through floats. A
//! time of 0 is none: brokers say that, or less, of messages whose time they do not know.

use super::Short;

/// `18446744073.709551`.
const LEN_MAX: usize = 18;
const BILLION: u64 = 1_000_000_000;

/// Unix nanoseconds as text; what is below a microsecond is cut off, so that nothing seems to be
/// published later than it was.
pub(crate) fn text(nanos: u64) -> Short<LEN_MAX> {
    let mut text = Short::new();
    let mut power = 10_u64.pow(10);
    let seconds = nanos / BILLION;
    while power > seconds && power > 1 {
        power /= 10;
    }
    while power > 0 {
        push_digit(&mut text, seconds / power);
        power /= 10;
    }
    text.push(b".");
    let mut power = BILLION / 10;
    while power >= 1_000 {
        push_digit(&mut text, nanos % BILLION / power);
        power /= 10;
    }
    text
}

fn push_digit(text: &mut Short<LEN_MAX>, number: u64) {
    let digit = u8::try_from(number % 10).unwrap_or_default();
    text.push(&[b'0' + digit]);
}

/// Unix nanoseconds of a text, with any number of digits behind the point and blanks around.
/// `None`: it is none, or 0, or later than 64 bits hold.
pub(crate) fn parse(text: &[u8]) -> Option<u64> {
    const TEXT_MAX: usize = 64;
    let text = text.trim_ascii();
    if text.len() > TEXT_MAX {
        return None;
    }
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or_default());
    if whole.is_empty() || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    let seconds = whole.iter().try_fold(0, add)?;
    let nanos = fraction.iter().chain(&[b'0'; 9]).take(9).try_fold(0, add)?;
    seconds.checked_mul(BILLION)?.checked_add(nanos).filter(|nanos| *nanos > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_to_the_microsecond() {
        for (nanos, written) in [
            (0, "0.000000"),
            (999, "0.000000"),
            (1_000, "0.000001"),
            (9_999_999_999, "9.999999"),
            (10_000_000_000, "10.000000"),
            (1_732_847_252_123_456_789, "1732847252.123456"),
            (u64::MAX, "18446744073.709551"),
        ] {
            assert_eq!(text(nanos).as_str(), written);
            let read = Some(nanos / 1_000 * 1_000).filter(|nanos| *nanos > 0);
            assert_eq!(parse(written.as_bytes()), read);
        }
    }

    #[test]
    fn what_others_write_is_read() {
        for (text, nanos) in [
            ("1732847252", 1_732_847_252_000_000_000),
            ("1732847252.", 1_732_847_252_000_000_000),
            (" 1732847252.5\t", 1_732_847_252_500_000_000),
            ("1732847252.1234567", 1_732_847_252_123_456_700),
            ("1732847252.1234567891234", 1_732_847_252_123_456_789),
            ("0.000000001", 1),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        let long = format!("1.{}", "0".repeat(64));
        for text in [
            "",
            ".",
            ".5",
            "-1",
            "+1",
            "1e9",
            "1,5",
            "1.2.3",
            "now",
            "NaN",
            "1 2",
            "0",
            "0.0",
            "18446744074",
            "99999999999999999999",
            "1.x",
            "١٢",
            &long,
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
