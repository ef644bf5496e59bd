//! `traceparent`, W3C's own header for the same ids: written where it is asked for, for services
//! that know no other.
//!
//! ```text
//!   00-4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-01
//!   └─ version                                            └─ 01 sampled, 00 not, or not decided
//! ```
//!
//! It is not read. A trace that came with nothing but this header comes from outside of Sentry:
//! its parent span would be found nowhere, and its flag, which everybody sets, would decide in
//! place of the own rate. The specification knows sending only. The parser is for the tests.

use super::Short;
use crate::shared::id::{SpanId, TraceId};

pub(super) const LEN: usize = 55;

pub(super) fn text(trace_id: TraceId, span_id: SpanId, sampled: Option<bool>) -> Short<LEN> {
    let mut text = Short::new();
    text.push(b"00-");
    text.push(&trace_id.to_hex());
    text.push(b"-");
    text.push(&span_id.to_hex());
    text.push(if sampled == Some(true) { b"-01" } else { b"-00" });
    text
}

/// Ids and the flag `sampled`. Of later versions, what version 0 promises of them: these four
/// parts, and whatever follows behind a dash. Capitals are not allowed in it.
#[cfg(any(test, fuzzing))]
pub(crate) fn parse(value: &[u8]) -> Option<(TraceId, SpanId, bool)> {
    let value = value.trim_ascii();
    if value.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let (version, rest) = value.split_at_checked(2)?;
    let (trace_id, rest) = rest.strip_prefix(b"-")?.split_at_checked(32)?;
    let (span_id, rest) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
    let (flags, rest) = rest.strip_prefix(b"-")?.split_at_checked(2)?;
    let version = super::sentry_trace::hex(version)?;
    let flags = super::sentry_trace::hex(flags)?;
    if version == 0xff || !(rest.is_empty() || (version > 0 && rest.starts_with(b"-"))) {
        return None;
    }
    let (trace_id, span_id) = super::sentry_trace::ids(trace_id, span_id)?;
    Some((trace_id, span_id, flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4c79f60c11214eb38604f4ae0781bfb2";
    const SPAN: &str = "fa90fdead5f74052";

    #[test]
    fn only_what_is_sampled_says_so() {
        let (trace_id, span_id) = (TRACE.parse().unwrap(), SPAN.parse().unwrap());
        for (sampled, flags) in [(None, "00"), (Some(false), "00"), (Some(true), "01")] {
            let written = text(trace_id, span_id, sampled);
            assert_eq!(written.as_str(), format!("00-{TRACE}-{SPAN}-{flags}"));
            let read = parse(written.as_bytes());
            assert_eq!(read, Some((trace_id, span_id, sampled == Some(true))));
        }
    }

    #[test]
    fn the_parser_holds_to_the_grammar() {
        for (text, is_valid) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-ff"), true),
            (format!("cc-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what"), true),
            (format!("cc-{TRACE}-{SPAN}-01.what"), false),
            (format!("00-{TRACE}-{SPAN}-01-what"), false),
            (format!("ff-{TRACE}-{SPAN}-01"), false),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), false),
            (format!("00-{TRACE}-{SPAN}"), false),
            (format!("00-{TRACE}-{SPAN}-"), false),
            (format!("00-{TRACE}-{SPAN}-1"), false),
            (format!("{TRACE}-{SPAN}-01"), false),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), false),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
            (String::new(), false),
        ] {
            assert_eq!(parse(text.as_bytes()).is_some(), is_valid, "{text}");
        }
    }
}
