//! What was set on the spans of a transaction, read back out of its slots.
//!
//! It reads as the encoder does: the last value of a key counts, a name in front of a value is its
//! key, what is no good says nothing. The difference is that everything becomes a value of its own,
//! which somebody may keep: hooks get it as an event, tests as a tree.

use std::collections::{BTreeMap, HashMap};

use crate::flush::encode::value::split_name;
use crate::shared::id::NameId;
use crate::shared::layout::{self, AttributeHeader, Kind, Slot, SpanRecord, flag, items};
use crate::shared::names;
use crate::shared::payload;
use crate::shared::traces::Continued;
use crate::status::SpanStatus;

use super::value::Value;
use super::{HTTP_STATUS_DATA, HTTP_STATUS_TAG, Link, Measurement};

/// Something for each span, by its key.
pub(crate) type ByKey<T> = HashMap<u64, T, foldhash::fast::RandomState>;

/// The spans of a run, and what was set on each.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// The last root's record.
    pub(crate) root: Option<SpanRecord>,
    /// Root records there are: one, in a run that is a transaction.
    pub(crate) roots: usize,
    /// The children's records, in the order of the run.
    pub(crate) children: Vec<SpanRecord>,
    /// By key.
    pub(crate) set: ByKey<Set>,
}

impl Decoded {
    /// Reads a run.
    pub(crate) fn of(run: &[Slot]) -> Self {
        let mut decoded = Self::default();
        for item in items(run) {
            let Some(first) = item.first() else { continue };
            match SpanRecord::of(first) {
                Some(record) if record.kind == Kind::Root => {
                    decoded.root = Some(record);
                    decoded.roots += 1;
                }
                Some(record) => decoded.children.push(record),
                None => {
                    let [_, key, ..] = *first;
                    let _ = decoded.set.entry(key).or_default().apply(item);
                }
            }
        }
        decoded
    }
}

/// What was set on one span.
#[derive(Debug, Default)]
pub(crate) struct Set {
    pub(crate) op: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) status: Option<SpanStatus>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) data: BTreeMap<String, Value>,
    pub(crate) measurements: BTreeMap<String, Measurement>,
    pub(crate) links: Vec<Link>,
    /// On a root: the trace that it continues.
    pub(crate) continued: Option<Continued>,
}

impl Set {
    /// Takes one attribute in; `None` if it is no good. As for the encoder, one that cannot be read
    /// still replaces the one before.
    fn apply(&mut self, item: &[Slot]) -> Option<()> {
        let header = AttributeHeader::of(item.first()?)?;
        let mut bytes = Vec::new();
        layout::payload(item, &mut bytes);
        match header.kind {
            Kind::Op => {
                self.op = text_of(&header, &bytes);
                return Some(());
            }
            Kind::Description => {
                self.description = text_of(&header, &bytes);
                return Some(());
            }
            _ => {}
        }
        let (_, value) = split_name(header.name, &bytes)?;
        let key = || key(&header, &bytes).unwrap_or_default().to_owned();
        match header.kind {
            Kind::Tag => {
                let value = Value::decode(header.code, value).map(|value| value.plain());
                put(&mut self.tags, key(), value);
            }
            Kind::Data => put(&mut self.data, key(), Value::decode(header.code, value)),
            Kind::Measurement => put(&mut self.measurements, key(), measurement(value)),
            Kind::Status => {
                self.status = Some(SpanStatus::from_code(*value.first()?)?);
            }
            Kind::HttpStatus => {
                let code = u16::try_from(u64::from_le_bytes(value.try_into().ok()?)).ok()?;
                self.status = Some(SpanStatus::from_http(code));
                self.tags.insert(HTTP_STATUS_TAG.to_owned(), code.to_string());
                self.data.insert(HTTP_STATUS_DATA.to_owned(), code.into());
            }
            Kind::Link => {
                let payload::Link { trace, span, sampled } = payload::Link::of(value)?;
                self.links.push(Link { trace_id: trace, span_id: span, sampled });
            }
            Kind::Trace => self.continued = self.continued.or(Continued::of(value)),
            // What is sent with a trace besides its ids.
            Kind::Dsc | Kind::Frozen | Kind::Asked => {}
            _ => return None,
        }
        Some(())
    }
}

fn put<T>(map: &mut BTreeMap<String, T>, key: String, value: Option<T>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// An op or a description: they have no key, so an inline name says that the text is the payload.
fn text_of(header: &AttributeHeader, payload: &[u8]) -> Option<String> {
    match header.name {
        NameId::NONE | NameId::INLINE => match Value::decode(header.code, payload)? {
            Value::Text(text) => Some(text),
            _ => None,
        },
        name => Some(text(name)),
    }
}

fn measurement(payload: &[u8]) -> Option<Measurement> {
    let (number, unit) = payload.split_first_chunk::<8>()?;
    let unit = NameId(u32::from_le_bytes(unit.try_into().ok()?));
    Some(Measurement { value: f64::from_le_bytes(*number), unit: text(unit) })
}

/// The key of an attribute with this payload; `None` if it has none that can be read.
pub(super) fn key<'a>(header: &AttributeHeader, payload: &'a [u8]) -> Option<&'a str> {
    match header.name {
        NameId::INLINE => split_name(header.name, payload).map(|(name, _)| name),
        name => names::text(name),
    }
}

/// The status of a span on which this one was set: that its future was dropped beats a panic, and
/// a panic beats what was set.
pub(crate) fn status(span: &SpanRecord, set: Option<SpanStatus>) -> Option<SpanStatus> {
    match span.flags & (flag::PANICKED | flag::CANCELLED) {
        0 => set,
        flag::PANICKED => Some(SpanStatus::InternalError),
        _ => Some(SpanStatus::Cancelled),
    }
}

/// A name, or nothing.
pub(crate) fn text(id: NameId) -> String {
    names::text(id).unwrap_or_default().to_owned()
}
