//! The `sentry-` members of a `baggage` header, one after the other.

/// Raw keys, without their prefix, and raw values. What is no member of ours is passed over.
pub(super) fn members(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == b',').filter_map(|member| {
        let member = member.split(|byte| *byte == b';').next()?;
        let at = member.iter().position(|byte| *byte == b'=')?;
        let (key, value) = member.split_at_checked(at)?;
        let key = key.trim_ascii().strip_prefix(b"sentry-")?;
        Some((key, value.get(1..)?.trim_ascii()))
    })
}

/// Percent-decoded; `None` when that is not UTF-8. A `%` that is not followed by two digits stays.
pub(super) fn decoded<'a>(raw: &[u8], plain: &'a mut Vec<u8>) -> Option<&'a str> {
    plain.clear();
    let mut rest = raw;
    while let Some((byte, behind)) = rest.split_first() {
        let digit = |at: usize| char::from(*behind.get(at)?).to_digit(16);
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                plain.extend(u8::try_from(high << 4 | low));
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => {
                plain.push(*byte);
                rest = behind;
            }
        }
    }
    std::str::from_utf8(plain).ok()
}
