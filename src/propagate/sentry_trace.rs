//! `sentry-trace`: a trace's id, the id of the span that sends, and whether the trace is sampled.
//!
//! ```text
//!   4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-1
//!   └─ trace id, 32 hex digits ─────┘└─ span id, 16 ─┘└─ 1 sampled, 0 not, absent: not decided
//! ```
//!
//! Read strictly: parts of the right length, ids that are not zero, and nothing else but white
//! space around it. Upper-case digits are read and never written. A header that was sent several
//! times may arrive joined by commas; the first of them that is valid counts.

use super::Short;
use crate::shared::id::{SpanId, TraceId};

/// The longest one there is.
pub(super) const MAX: usize = 51;
/// More than this is not looked at, several of them joined included.
const READ_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentryTrace {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    /// `None`: the decision is left to who comes next.
    pub(crate) sampled: Option<bool>,
}

impl SentryTrace {
    /// The first valid one in a header's value.
    pub(crate) fn first(value: &[u8]) -> Option<Self> {
        if value.len() > READ_MAX {
            return None;
        }
        // There is hardly ever more than one.
        Self::parse(value).or_else(|| value.split(|&byte| byte == b',').find_map(Self::parse))
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (trace_id, rest) = value.trim_ascii().split_at_checked(32)?;
        let (span_id, rest) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
        let sampled = match rest {
            b"" => None,
            b"-0" => Some(false),
            b"-1" => Some(true),
            _ => return None,
        };
        let (trace_id, span_id) = ids(trace_id, span_id)?;
        Some(Self { trace_id, span_id, sampled })
    }

    pub(super) fn text(&self) -> Short<MAX> {
        let mut text = Short::new();
        text.push(&self.trace_id.to_hex());
        text.push(b"-");
        text.push(&self.span_id.to_hex());
        match self.sampled {
            None => {}
            Some(false) => text.push(b"-0"),
            Some(true) => text.push(b"-1"),
        }
        text
    }
}

/// Both ids, if all of it is hex digits and neither is zero. Lengths are the caller's business.
pub(super) fn ids(trace_id: &[u8], span_id: &[u8]) -> Option<(TraceId, SpanId)> {
    let (high, low) = trace_id.split_at_checked(16)?;
    let trace_id = u128::from(hex(high)?) << 64 | u128::from(hex(low)?);
    let span_id = hex(span_id)?;
    (trace_id != 0 && span_id != 0).then_some((TraceId(trace_id), SpanId(span_id)))
}

/// At most 16 hex digits as a number.
pub(super) fn hex(digits: &[u8]) -> Option<u64> {
    let (mut value, mut seen) = (0, 0);
    for &digit in digits {
        #[expect(clippy::indexing_slicing, reason = "a byte indexes 256")]
        let nibble = NIBBLES[digit as usize];
        seen |= nibble;
        value = value << 4 | u64::from(nibble);
    }
    (seen < 16).then_some(value)
}

/// The value of each hex digit; of what is none, more than 15.
#[expect(clippy::indexing_slicing, reason = "at compile time")]
const NIBBLES: [u8; 256] = {
    let mut nibbles = [255; 256];
    let mut digit = 0_u8;
    while digit < 16 {
        nibbles[b"0123456789abcdef"[digit as usize] as usize] = digit;
        nibbles[b"0123456789ABCDEF"[digit as usize] as usize] = digit;
        digit += 1;
    }
    nibbles
};

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4c79f60c11214eb38604f4ae0781bfb2";
    const SPAN: &str = "fa90fdead5f74052";

    fn of(sampled: Option<bool>) -> SentryTrace {
        SentryTrace { trace_id: TRACE.parse().unwrap(), span_id: SPAN.parse().unwrap(), sampled }
    }

    #[test]
    fn every_form_is_read_and_written() {
        for (flag, sampled) in [("", None), ("-0", Some(false)), ("-1", Some(true))] {
            let text = format!("{TRACE}-{SPAN}{flag}");
            assert_eq!(SentryTrace::first(text.as_bytes()), Some(of(sampled)), "{text}");
            assert_eq!(of(sampled).text().as_str(), text);
        }
        let upper = format!("{TRACE}-{SPAN}-1").to_uppercase();
        assert_eq!(SentryTrace::first(upper.as_bytes()), Some(of(Some(true))));
        let padded = format!(" \t{TRACE}-{SPAN}-1\t ");
        assert_eq!(SentryTrace::first(padded.as_bytes()), Some(of(Some(true))));
    }

    #[test]
    fn what_is_no_sentry_trace_is_none() {
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            ",".into(),
            "1".into(),
            "-1".into(),
            TRACE.into(),
            format!("{TRACE}-"),
            format!("{TRACE}{SPAN}-1"),
            format!("{TRACE}-{SPAN}-"),
            format!("{TRACE}-{SPAN}-2"),
            format!("{TRACE}-{SPAN}-10"),
            format!("{TRACE}-{SPAN}-1-"),
            format!("{TRACE}-{SPAN}--1"),
            format!("{TRACE}_{SPAN}_1"),
            format!("{TRACE} - {SPAN} - 1"),
            format!("00-{TRACE}-{SPAN}-01"),
            format!("0{TRACE}-{SPAN}-1"),
            format!("{TRACE}-0{SPAN}-1"),
            format!("{}-{SPAN}-1", &TRACE[1..]),
            format!("{TRACE}-{}-1", &SPAN[1..]),
            format!("{}-{SPAN}-1", TRACE.replace('c', "g")),
            format!("{TRACE}-{}-1", SPAN.replace('f', "\u{e9}")),
            format!("{TRACE}-+{}-1", &SPAN[1..]),
            format!("{zeros}-{SPAN}-1"),
            format!("{TRACE}-{}-1", &zeros[..16]),
            "é".repeat(26),
        ] {
            assert_eq!(SentryTrace::first(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_first_valid_of_several_counts() {
        let other = format!("{}-{SPAN}-0", TRACE.replace('4', "5"));
        for text in [
            format!("{TRACE}-{SPAN}-1,{other}"),
            format!(",, {TRACE}-{SPAN}-1 , {other}"),
            format!("nonsense,{TRACE}-{SPAN}-1,{other}"),
        ] {
            assert_eq!(SentryTrace::first(text.as_bytes()), Some(of(Some(true))), "{text}");
        }
    }

    #[test]
    fn beyond_a_bound_nothing_is_looked_at() {
        let text = |commas: usize| format!("{}{TRACE}-{SPAN}-1", ",".repeat(commas));
        assert!(SentryTrace::first(text(READ_MAX - MAX).as_bytes()).is_some());
        assert!(SentryTrace::first(text(READ_MAX - MAX + 1).as_bytes()).is_none());
    }
}
