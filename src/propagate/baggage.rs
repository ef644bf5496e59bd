//! The list `baggage`: `key=value;property, key=value`, which many programs on the way add to.
//!
//! Here is what holds for every member, whosesoever it is: how a list is taken apart, which bytes
//! may stand in it, how much of it there may be, and how ours is added to one that an outgoing
//! request has already. What our members mean is in [`super::dsc`].

use std::fmt;

use super::dsc;

/// Bytes of a header that goes out (W3C's limit).
pub(crate) const BYTES_MAX: usize = 8192;
/// Members of a header that goes out (W3C's limit).
pub(crate) const MEMBERS_MAX: usize = 64;

/// The members of a list without the white space around them; empty ones are left out.
pub(super) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == b',').unwrap_or(rest.len());
            let (member, behind) = rest.split_at_checked(end)?;
            rest = behind.get(1..).unwrap_or_default();
            let member = member.trim_ascii();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    })
}

/// Key and value of a member that does not begin with white space, without what there is of it
/// around `=` and at the end, and without properties.
pub(super) fn key_and_value(member: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = member.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (member.get(..at)?, member.get(at + 1..)?);
    let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
    Some((key.trim_ascii_end(), value.get(..end)?.trim_ascii()))
}

const TOKEN: u8 = 1;
const OCTET: u8 = 2;

/// What each byte may be part of.
#[expect(clippy::indexing_slicing, reason = "at compile time")]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 127 {
        let is_mark = matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        if byte.is_ascii_alphanumeric() || is_mark {
            classes[byte as usize] |= TOKEN;
        }
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\') {
            classes[byte as usize] |= OCTET;
        }
        byte += 1;
    }
    classes
};

#[expect(clippy::indexing_slicing, reason = "a byte indexes 256")]
const fn class(byte: u8) -> u8 {
    CLASSES[byte as usize]
}

/// Whether a byte may stand in a key: what HTTP calls a token.
pub(super) const fn is_token(byte: u8) -> bool {
    class(byte) & TOKEN != 0
}

/// Whether a byte may stand in a value.
pub(super) const fn is_octet(byte: u8) -> bool {
    class(byte) & OCTET != 0
}

/// What a header has room for yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    bytes: usize,
    members: usize,
}

impl Room {
    pub(super) const fn new() -> Self {
        // The first member has no comma before it.
        Self { bytes: BYTES_MAX + 1, members: MEMBERS_MAX }
    }

    /// Takes the place of a member and its comma, if both limits leave it.
    fn take(&mut self, member: usize) -> bool {
        let fits = member < self.bytes && self.members > 0;
        if fits {
            self.bytes -= member + 1;
            self.members -= 1;
        }
        fits
    }
}

/// Those of `own` that fit, in order, from the front. Without room for what the context cannot do
/// without there are none: half of one is worse than none, as who comes next must take it whole.
pub(super) fn fitting(own: &str, room: Room) -> impl Iterator<Item = &str> {
    let mut all = room;
    let mut essential = room;
    let is_whole = own.split(',').all(|member| all.take(member.len()));
    let is_any = own
        .split(',')
        .filter(|member| dsc::is_essential(member))
        .all(|member| essential.take(member.len()));
    let mut has_room = true;
    own.split(',').filter(move |member| {
        is_any
            && (is_whole || dsc::is_essential(member) || {
                // Once one is left out, all behind it are.
                has_room = has_room && essential.take(member.len());
                has_room
            })
    })
}

/// Writes `existing` without the members that are Sentry's, and ours behind. What does not fit into
/// a header, or may not stand in one, is left out as whole members, ours first.
pub(super) fn merge(existing: &str, own: &str, out: &mut impl fmt::Write) -> fmt::Result {
    let mut room = Room::new();
    let mut is_first = true;
    let mut write = |member: &str| {
        if !std::mem::take(&mut is_first) {
            out.write_char(',')?;
        }
        out.write_str(member)
    };
    let theirs = existing.split(',').map(|member| member.trim_matches([' ', '\t']));
    for member in theirs.filter(|member| !member.is_empty()) {
        let is_ours = member.starts_with(dsc::PREFIX);
        let is_legal = member.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !is_ours && is_legal && room.take(member.len()) {
            write(member)?;
        }
    }
    fitting(own, room).filter(|member| !member.is_empty()).try_for_each(write)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "sentry-trace_id=1,sentry-public_key=2,sentry-release=3";

    fn merged(existing: &str, own: &str) -> String {
        let mut out = String::new();
        merge(existing, own, &mut out).unwrap();
        out
    }

    #[test]
    fn others_stay_as_they_are_and_ours_follow() {
        for (existing, expected) in [
            ("", ""),
            (" , ,", ""),
            ("a=1", "a=1,"),
            ("a=1;p=q;r , b = \"2\"", "a=1;p=q;r,b = \"2\","),
            ("sentry-trace_id=9,a=1,sentry-replay_id=8", "a=1,"),
            ("a=sentry-x,sentryx=1", "a=sentry-x,sentryx=1,"),
            ("no equals sign", "no equals sign,"),
        ] {
            assert_eq!(merged(existing, OWN), format!("{expected}{OWN}"), "{existing}");
            assert_eq!(merged(existing, ""), expected.trim_end_matches(','), "{existing}");
        }
    }

    #[test]
    fn what_no_header_may_hold_does_not_go_out() {
        for bad in ["\r\nx: y", "\n", "a\0b", "a\u{7f}", "a\u{1f}b", "é", "a\tb"] {
            assert_eq!(merged(&format!("a=1,b={bad},c=3"), OWN), format!("a=1,c=3,{OWN}"), "{bad}");
        }
    }

    #[test]
    fn the_limits_are_kept_by_whole_members_and_ours_go_first() {
        // Exactly full, then one byte too many for the last of ours.
        let filler = |len: usize| format!("a={}", "x".repeat(len - 2));
        let full = BYTES_MAX - OWN.len() - 1;
        let exact = merged(&filler(full), OWN);
        assert_eq!((exact.len(), exact.ends_with(OWN)), (BYTES_MAX, true));
        let cut = merged(&filler(full + 1), OWN);
        assert!(cut.ends_with("x,sentry-trace_id=1,sentry-public_key=2"), "{}", &cut[8000..]);
        // No room for the essential ones: none of ours.
        let essential = "sentry-trace_id=1,sentry-public_key=2".len();
        assert!(merged(&filler(BYTES_MAX - essential - 1), OWN).contains("sentry-public_key"));
        assert_eq!(merged(&filler(BYTES_MAX - essential), OWN), filler(BYTES_MAX - essential));
        // Theirs alone are too much: what fits of them.
        let theirs = format!("{},{},c=3", filler(BYTES_MAX - 4), filler(10));
        assert_eq!(merged(&theirs, OWN), format!("{},c=3", filler(BYTES_MAX - 4)));

        let many = |count: usize| vec!["a=1"; count].join(",");
        assert_eq!(merged(&many(61), OWN), format!("{},{OWN}", many(61)));
        let cut = merged(&many(62), OWN);
        assert_eq!(cut, format!("{},sentry-trace_id=1,sentry-public_key=2", many(62)));
        assert_eq!(merged(&many(63), OWN), many(63));
        assert_eq!(merged(&many(65), OWN), many(64));
    }

    #[test]
    fn one_left_out_means_all_behind_it() {
        let own = format!("sentry-trace_id=1,sentry-a={},sentry-b=2", "x".repeat(100));
        let theirs = format!("a={}", "x".repeat(BYTES_MAX - 80));
        assert_eq!(merged(&theirs, &own), format!("{theirs},sentry-trace_id=1"));
    }

    #[test]
    fn keys_and_values_are_taken_apart() {
        for (member, expected) in [
            ("a=b", Some(("a", "b"))),
            ("a = b ; c=d", Some(("a", "b"))),
            ("a=", Some(("a", ""))),
            ("a=b=c", Some(("a", "b=c"))),
            ("=b", Some(("", "b"))),
            ("ab", None),
        ] {
            let parts = key_and_value(member.as_bytes());
            assert_eq!(parts, expected.map(|(k, v)| (k.as_bytes(), v.as_bytes())), "{member}");
        }
        let listed: Vec<_> = members(b" a=1,, \t,b=2 ,").collect();
        assert_eq!(listed, [&b"a=1"[..], b"b=2"]);
    }
}
