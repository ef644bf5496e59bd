//! Links of a span: other spans it has to do with, mostly in other traces.
//!
//! What the server keeps of them was found out by asking its normaliser: any number below a child,
//! below a root as many as fit into what it gives a context, together with the root's data.

use crate::shared::id::NameId;
use crate::shared::layout::AttributeHeader;
use crate::shared::names;
use crate::shared::payload;

use super::attributes::SECTION_MAX;
use super::value::split_name;
use super::{json, time};

/// Links of one span; what comes later is dropped.
pub(super) const LINKS_MAX: usize = 128;
/// What the server gives a context, in bytes as it counts them: values without their keys.
const CONTEXT_MAX: usize = 8192;
/// What the rest of a trace context takes of that at most: ids, op, status, origin.
const FIXED: usize = 320;
/// What a link takes of it at most.
const LINK: usize = 68;

/// The longest type of a link, in bytes.
const TYPE_MAX: usize = 64;

/// What a link takes at most as JSON.
const JSON_MAX: usize = 160 + 2 * TYPE_MAX;
// A root that has links has hardly any data: together they are less than one section.
const _: () = assert!(LINKS_MAX * JSON_MAX + CONTEXT_MAX < SECTION_MAX);

/// How many links a root may have beside so many bytes of data.
pub(super) const fn beside(data: usize) -> usize {
    let fit = (CONTEXT_MAX - FIXED).saturating_sub(data) / LINK;
    if fit < LINKS_MAX { fit } else { LINKS_MAX }
}

/// A link, and its type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    link: payload::Link,
    of_type: NameId,
}

impl Link {
    /// The link in a payload, if it is one. A type that is not in the table, or is no word, is left
    /// out.
    pub(super) fn of(header: &AttributeHeader, payload: &[u8]) -> Option<Self> {
        let (_, payload) = split_name(header.name, payload)?;
        Some(Self { link: payload::Link::of(payload)?, of_type: header.name })
    }

    /// Its type, if that is a word.
    fn type_text(&self) -> Option<&'static str> {
        let is_word = |text: &&str| {
            (1..=TYPE_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        names::text(self.of_type).filter(is_word)
    }

    /// Appends the link's object.
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"trace_id\":\"");
        out.extend_from_slice(&time::wide_hex(self.link.trace.0));
        out.extend_from_slice(b"\",\"span_id\":\"");
        out.extend_from_slice(&time::hex(self.link.span.0));
        out.push(b'"');
        if let Some(sampled) = self.link.sampled {
            out.extend_from_slice(b",\"sampled\":");
            out.extend_from_slice(if sampled { b"true" } else { b"false" });
        }
        if let Some(of_type) = self.type_text() {
            out.extend_from_slice(b",\"attributes\":{\"sentry.link.type\":");
            json::string(out, of_type);
            out.push(b'}');
        }
        out.push(b'}');
    }
}

/// Appends `,"links":[…]`; nothing, if there is none.
pub(super) fn write(out: &mut Vec<u8>, links: &[Link]) {
    if links.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"links\":");
    for (index, link) in links.iter().enumerate() {
        out.push(if index == 0 { b'[' } else { b',' });
        link.write(out);
    }
    out.push(b']');
}
