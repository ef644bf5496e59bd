//! The dynamic sampling context: the members of `baggage` that are Sentry's.
//!
//! Where a trace begins it is written down who began it and with what chances, so that servers can
//! keep or drop all of it alike. Whoever continues hands on what came, each member `sentry-key=
//! value` with the value percent-encoded.
//!
//! What came is a stranger's text. [`Intake`] takes the members out of any number of headers and
//! leaves one list that is legal in a header by its bytes, bounded, without a key twice:
//!
//! ```text
//!   sentry-trace_id=4c79…,sentry-release=app%401.0,sentry-sample_rand=0.25
//!   ▲ entries: where each member begins, how long its key is, where it ends
//! ```
//!
//! Values stay as they were encoded; a byte that should have been encoded, and was not, is. The
//! rest of this file reads such a list.

use std::borrow::Cow;

use percent_encoding::{percent_decode, percent_encode_byte};
use smallvec::SmallVec;

use super::baggage::{self, MEMBERS_MAX};
use crate::shared::layout::VALUE_MAX;

pub(crate) const PREFIX: &str = "sentry-";

/// What is kept of an incoming context.
pub(crate) const BYTES_MAX: usize = 4096;
/// What is kept of one member, so that each has room in a value of the ring.
pub(crate) const MEMBER_MAX: usize = VALUE_MAX;
/// An incoming header that is longer is not read.
pub(super) const READ_MAX: usize = 16_384;

/// A list of members. A usual context has 200 to 400 bytes.
pub(super) type Bytes = SmallVec<[u8; 512]>;

/// Whether a member, with its prefix, is one of those by which the server decides.
pub(super) fn is_essential(member: &str) -> bool {
    let key = member.split('=').next().and_then(|key| key.strip_prefix(PREFIX));
    key.is_some_and(|key| is_essential_key(key.as_bytes()))
}

fn is_essential_key(key: &[u8]) -> bool {
    matches!(
        key,
        b"trace_id" | b"public_key" | b"sample_rate" | b"sampled" | b"sample_rand" | b"org_id"
    )
}

/// Appends a member of our own, with a comma before it if it is not the first: `key`, which is with
/// its prefix and its `=`, and the value, of which all is encoded but what needs it nowhere.
pub(super) fn push(out: &mut Bytes, key: &str, value: &[u8]) {
    if !out.is_empty() {
        out.push(b',');
    }
    out.extend_from_slice(key.as_bytes());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if value.iter().copied().all(is_plain) {
        out.extend_from_slice(value);
        return;
    }
    for &byte in value {
        if is_plain(byte) {
            out.push(byte);
        } else {
            out.extend(percent_encode_byte(byte).bytes());
        }
    }
}

/// The members that come in, being collected.
#[derive(Default)]
pub(super) struct Intake {
    bytes: Bytes,
    entries: SmallVec<[Entry; 16]>,
    /// A bit for each key that was taken: where a key's bit is not set, it is new.
    taken: u64,
    /// A member was left out for lack of room: none comes in behind it but essential ones.
    is_full: bool,
}

#[derive(Clone, Copy)]
struct Entry {
    start: usize,
    /// Where the `=` is.
    equals: usize,
    end: usize,
}

impl Intake {
    /// Takes in what is ours of one header. Of members with the same key the first counts.
    pub(super) fn read(&mut self, header: &[u8]) {
        if header.len() > READ_MAX {
            return;
        }
        let mut list = header;
        while !list.is_empty() {
            list = list.trim_ascii_start();
            let mut end = self.run(list);
            if end == 0 {
                end = list.iter().position(|&byte| byte == b',').unwrap_or(list.len());
                self.single(list.get(..end).unwrap_or_default());
            }
            list = list.get(end + 1..).unwrap_or_default();
        }
    }

    /// Takes in the members at the front of a list for as long as they are ours, as they should be,
    /// and new; all in one piece. Says where that ends; 0 if there is none.
    fn run(&mut self, list: &[u8]) -> usize {
        let before = self.bytes.len() + usize::from(!self.bytes.is_empty());
        let (mut at, mut run) = (0, 0);
        while let Some(Plain { equals, end }) = plain(list.get(at..).unwrap_or_default()) {
            let key = list.get(at + PREFIX.len()..at + equals).unwrap_or_default();
            let start = before + at;
            let has_room = !self.is_full
                && self.entries.len() < MEMBERS_MAX
                && end <= MEMBER_MAX
                && start + end <= BYTES_MAX;
            if !has_room || self.taken & bit_of(key) != 0 {
                break;
            }
            self.taken |= bit_of(key);
            self.entries.push(Entry { start, equals: start + equals, end: start + end });
            run = at + end;
            at = run + 1;
        }
        if run > 0 {
            self.append(list.get(..run).unwrap_or_default());
        }
        run
    }

    /// Takes in any one member, if it is ours and new.
    fn single(&mut self, member: &[u8]) {
        let Some(rest) = member.strip_prefix(PREFIX.as_bytes()) else { return };
        let Some((key, value)) = baggage::key_and_value(rest) else { return };
        let is_key = !key.is_empty() && key.iter().copied().all(baggage::is_token);
        // Encoded it is no shorter.
        let is_short = PREFIX.len() + key.len() + 1 + value.len() <= MEMBER_MAX;
        let has_room = is_short && (!self.is_full || is_essential_key(key));
        if is_key && !value.is_empty() && has_room && self.find(key).is_none() {
            self.take(key, &encoded(key, value));
        }
    }

    /// Takes in a new member that is legal as it is.
    fn take(&mut self, key: &[u8], member: &[u8]) {
        if member.len() > MEMBER_MAX {
            return;
        }
        while self.bytes.len() + 1 + member.len() > BYTES_MAX || self.entries.len() == MEMBERS_MAX {
            self.is_full = true;
            if !is_essential_key(key) || !self.evict() {
                return;
            }
        }
        self.append(member);
        let end = self.bytes.len();
        let start = end - member.len();
        let equals = start + PREFIX.len() + key.len();
        self.entries.push(Entry { start, equals, end });
        self.taken |= bit_of(key);
    }

    fn append(&mut self, members: &[u8]) {
        if !self.bytes.is_empty() {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(members);
    }

    /// Gives up the last member that is not essential.
    #[cold]
    fn evict(&mut self) -> bool {
        let is_spare = |entry: &Entry| {
            let key = self.bytes.get(entry.start + PREFIX.len()..entry.equals);
            !is_essential_key(key.unwrap_or_default())
        };
        let Some(at) = self.entries.iter().rposition(is_spare) else { return false };
        let entry = self.entries.remove(at);
        // With the comma before it, or behind it if it was the first.
        let start = entry.start.saturating_sub(1);
        let end = if at == 0 { entry.end + 1 } else { entry.end };
        let end = end.min(self.bytes.len());
        self.bytes.drain(start..end);
        for behind in self.entries.iter_mut().skip(at) {
            behind.start -= end - start;
            behind.equals -= end - start;
            behind.end -= end - start;
        }
        true
    }

    /// The value of a key, as it is in the list.
    pub(super) fn find(&self, key: &[u8]) -> Option<&[u8]> {
        let entry = self.entries.iter().find(|entry| {
            entry.equals - entry.start == PREFIX.len() + key.len()
                && self.bytes.get(entry.start + PREFIX.len()..entry.equals) == Some(key)
        })?;
        self.bytes.get(entry.equals + 1..entry.end)
    }

    pub(super) fn finish(self) -> Bytes {
        self.bytes
    }
}

/// A member of ours that is as it should be, at the front of a list.
struct Plain {
    /// Where the `=` is.
    equals: usize,
    end: usize,
}

/// The first member of a list, if it is such a one. Looks at each byte once.
fn plain(list: &[u8]) -> Option<Plain> {
    let rest = list.strip_prefix(PREFIX.as_bytes())?;
    let key = rest.iter().position(|&byte| !baggage::is_token(byte)).filter(|&key| key > 0)?;
    let value = rest.get(key..)?.strip_prefix(b"=")?;
    let len = value.iter().position(|&byte| !baggage::is_octet(byte)).unwrap_or(value.len());
    let equals = PREFIX.len() + key;
    let is_whole = len > 0 && matches!(value.get(len), None | Some(b','));
    is_whole.then_some(Plain { equals, end: equals + 1 + len })
}

/// One of 64 for a key; of those that Sentry's SDKs send, no two have the same.
fn bit_of(key: &[u8]) -> u64 {
    let at = |byte: Option<&u8>| byte.map_or(0, |&byte| usize::from(byte));
    1 << ((key.len() + at(key.last()) + 5 * at(key.first())) % 64)
}

/// A member put together anew, with what may not stand in its value encoded. Beyond what is taken
/// of a member that may be cut, and will not be taken.
fn encoded(key: &[u8], value: &[u8]) -> Bytes {
    let mut member = Bytes::new();
    for part in [PREFIX.as_bytes(), key, b"="] {
        member.extend_from_slice(part);
    }
    for &byte in value.iter().take(MEMBER_MAX) {
        if baggage::is_octet(byte) {
            member.push(byte);
        } else {
            member.extend_from_slice(percent_encode_byte(byte).as_bytes());
        }
    }
    member
}

/// Whether a list can go out as it is. Anything from [`Intake`] can.
pub(super) fn is_legal(list: &[u8]) -> bool {
    // Without leaving early: that takes 16 bytes at a time.
    list.len() <= BYTES_MAX && list.iter().fold(true, |is, byte| is & matches!(byte, b'!'..=b'~'))
}

/// Keys without their prefix, and values as text.
#[cfg(any(test, fuzzing))]
pub(crate) fn members(list: &[u8]) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    raw_members(list).map(|(key, value)| (key, text(value)))
}

/// Keys without their prefix, and values as they are in the list. Empty and foreign members are
/// left out.
pub(crate) fn raw_members(list: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    baggage::members(list).filter_map(|member| {
        let (key, value) = baggage::key_and_value(member)?;
        let key = std::str::from_utf8(key.strip_prefix(PREFIX.as_bytes())?).ok()?;
        (!key.is_empty()).then_some((key, value))
    })
}

/// A value as text: decoded, and what is not UTF-8 replaced.
pub(crate) fn text(value: &[u8]) -> Cow<'_, str> {
    percent_decode(value).decode_utf8_lossy()
}

/// The same in a buffer, which is emptied first: it allocates nothing else.
pub(crate) fn decode_into<'a>(value: &[u8], buffer: &'a mut Vec<u8>) -> &'a str {
    buffer.clear();
    buffer.extend(percent_decode(value));
    if let Err(error) = std::str::from_utf8(buffer) {
        return replaced(buffer, error.valid_up_to());
    }
    std::str::from_utf8(buffer).unwrap_or_default()
}

/// Replaces what is not UTF-8, which begins at `valid`.
#[cold]
fn replaced(buffer: &mut Vec<u8>, valid: usize) -> &str {
    let tail = buffer.split_off(valid.min(buffer.len()));
    buffer.extend_from_slice(String::from_utf8_lossy(&tail).as_bytes());
    std::str::from_utf8(buffer).unwrap_or_default()
}

/// A list in pieces of whole members, each of at most `max` bytes, in order. Joined by commas they
/// are the list again. A member that is longer than `max` is left out; with [`MEMBER_MAX`] none is.
pub(crate) fn pieces(list: &[u8], max: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            if rest.len() <= max {
                return Some(std::mem::take(&mut rest));
            }
            // A piece may end where a comma stands: at `max` at the latest.
            let window = rest.get(..=max)?;
            match window.iter().rposition(|&byte| byte == b',') {
                Some(at) => {
                    let piece = rest.get(..at)?;
                    rest = rest.get(at + 1..)?;
                    if !piece.is_empty() {
                        return Some(piece);
                    }
                }
                None => {
                    let end = rest.iter().position(|&byte| byte == b',')?;
                    rest = rest.get(end + 1..)?;
                }
            }
        }
        None
    })
}

#[cfg(test)]
mod tests;
