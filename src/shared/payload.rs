//! What the slots of continued traces and of links hold: their payloads, written and read.
//!
//! ```text
//! Trace   trace id:16 | parent span id:8 | sample_rand:4 | flags:4 | spare:8
//! Link    trace id:16 | span id:8 | sampled:1 (0 no, 1 yes, 2 not known)
//! ```
//!
//! Little endian. The name in a link's header is its type (`sentry.link.type`), if it has one. An
//! id of zeros is none: a slot with one says nothing.

use super::id::{SpanId, TraceId};
use super::layout::INLINE_BYTES;
use super::traces::Continued;

/// Bytes of a link.
pub(crate) const LINK_BYTES: usize = 25;

impl Continued {
    pub(crate) fn payload(&self) -> [u8; INLINE_BYTES] {
        let mut payload = [0; INLINE_BYTES];
        let parts = [
            &self.trace_id.to_le_bytes()[..],
            &self.parent.to_le_bytes(),
            &self.rand.to_le_bytes(),
            &self.flags.to_le_bytes(),
        ];
        for (to, from) in payload.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        payload
    }

    /// `None`: the payload is too short, or an id is zero.
    pub(crate) fn of(payload: &[u8]) -> Option<Self> {
        let (trace, rest) = payload.split_first_chunk()?;
        let (parent, rest) = rest.split_first_chunk()?;
        let (rand, rest) = rest.split_first_chunk()?;
        let (flags, _) = rest.split_first_chunk()?;
        let (trace_id, parent) = (u128::from_le_bytes(*trace), u64::from_le_bytes(*parent));
        (trace_id != 0 && parent != 0).then_some(Self {
            trace_id,
            parent,
            rand: u32::from_le_bytes(*rand),
            flags: u32::from_le_bytes(*flags),
        })
    }
}

/// A span that another one has to do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    /// Whether that one is sampled, if it is known.
    pub(crate) sampled: Option<bool>,
}

impl Link {
    pub(crate) fn payload(&self) -> [u8; LINK_BYTES] {
        let mut payload = [0; LINK_BYTES];
        let sampled = [self.sampled.map_or(2, u8::from)];
        let parts = [&self.trace.0.to_le_bytes()[..], &self.span.0.to_le_bytes(), &sampled];
        for (to, from) in payload.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        payload
    }

    /// `None`: the payload is too short, or an id is zero.
    pub(crate) fn of(payload: &[u8]) -> Option<Self> {
        let (trace, rest) = payload.split_first_chunk()?;
        let (span, rest) = rest.split_first_chunk()?;
        let (trace, span) = (u128::from_le_bytes(*trace), u64::from_le_bytes(*span));
        let sampled = match rest.first()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        (trace != 0 && span != 0).then_some(Self {
            trace: TraceId(trace),
            span: SpanId(span),
            sampled,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: TraceId = TraceId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    const SPAN: SpanId = SpanId(0x8899_aabb_ccdd_eeff);

    #[test]
    fn payloads_come_back() {
        let continued = Continued { trace_id: TRACE.0, parent: SPAN.0, rand: 999_999, flags: 13 };
        assert_eq!(Continued::of(&continued.payload()), Some(continued));
        for sampled in [None, Some(false), Some(true)] {
            let link = Link { trace: TRACE, span: SPAN, sampled };
            assert_eq!(Link::of(&link.payload()), Some(link));
        }
    }

    #[test]
    fn short_payloads_and_ids_of_zeros_say_nothing() {
        let continued = Continued { trace_id: TRACE.0, parent: SPAN.0, rand: 1, flags: 0 };
        let link = Link { trace: TRACE, span: SPAN, sampled: None };
        for len in 0..INLINE_BYTES {
            assert_eq!(Continued::of(&continued.payload()[..len]).is_some(), len >= 32);
        }
        for len in 0..LINK_BYTES {
            assert_eq!(Link::of(&link.payload()[..len]), None);
        }
        assert_eq!(Continued::of(&Continued { trace_id: 0, ..continued }.payload()), None);
        assert_eq!(Continued::of(&Continued { parent: 0, ..continued }.payload()), None);
        assert_eq!(Link::of(&Link { trace: TraceId(0), ..link }.payload()), None);
        assert_eq!(Link::of(&Link { span: SpanId(0), ..link }.payload()), None);
    }
}
