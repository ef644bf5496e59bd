//! The payload as types, and the naive way to it: maps, strings and floats, from the same slots.
//!
//! Shares no code with the encoder but the layout of slots and the names.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::super::Site;
use crate::SpanStatus;
use crate::shared::clock::Anchor;
use crate::shared::id::{NameId, WireIds};
use crate::shared::layout::{
    self, AttributeHeader, CUT, Kind, LIST, Scalar, Slot, SpanRecord, continued, flag,
};
use crate::shared::names;

/// An object that refuses to have a key twice.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Object<V>(pub(super) BTreeMap<String, V>);

impl<V> Default for Object<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Object<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Keys<V> {
            type Value = Object<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<V>, A::Error> {
                let mut object = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, V>()? {
                    if object.insert(key.clone(), value).is_some() {
                        return Err(de::Error::custom(format!("twice: {key}")));
                    }
                }
                Ok(Object(object))
            }
        }
        deserializer.deserialize_map(Keys(PhantomData))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) event_id: String,
    pub(super) sdk: Object<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<Object<String>>,
    pub(super) sent_at: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    pub(super) r#type: String,
    pub(super) length: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transaction {
    pub(super) r#type: String,
    pub(super) event_id: String,
    pub(super) transaction: String,
    pub(super) transaction_info: Object<String>,
    pub(super) start_timestamp: f64,
    pub(super) timestamp: f64,
    pub(super) platform: String,
    pub(super) sdk: Object<String>,
    pub(super) release: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) dist: Option<String>,
    pub(super) server_name: Option<String>,
    pub(super) spans: Vec<Span>,
    pub(super) contexts: Contexts,
    #[serde(default)]
    pub(super) tags: Object<String>,
    #[serde(default)]
    pub(super) measurements: Object<Measurement>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    pub(super) trace: Trace,
    pub(super) response: Option<Object<Value>>,
    pub(super) runtime: Object<String>,
    pub(super) os: Option<Object<String>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trace {
    pub(super) r#type: String,
    pub(super) trace_id: String,
    pub(super) span_id: String,
    pub(super) parent_span_id: Option<String>,
    pub(super) origin: String,
    pub(super) op: Option<String>,
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) data: Object<Value>,
    #[serde(default)]
    pub(super) links: Vec<Link>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    pub(super) trace_id: String,
    pub(super) span_id: String,
    pub(super) sampled: Option<bool>,
    pub(super) attributes: Option<Object<String>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Span {
    pub(super) trace_id: String,
    pub(super) span_id: String,
    pub(super) parent_span_id: String,
    pub(super) start_timestamp: f64,
    pub(super) timestamp: f64,
    pub(super) origin: String,
    pub(super) op: Option<String>,
    pub(super) description: Option<String>,
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) tags: Object<String>,
    #[serde(default)]
    pub(super) data: Object<Value>,
    #[serde(default)]
    pub(super) links: Vec<Link>,
    #[serde(default)]
    pub(super) measurements: Object<Measurement>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measurement {
    pub(super) value: f64,
    pub(super) unit: Option<String>,
}

/// What was set on one span.
#[derive(Default)]
struct Set {
    tags: Object<String>,
    data: Object<Value>,
    /// Values that a later one may still replace are not judged before the end, so each keeps its
    /// payload: name, then code and bytes.
    raw: BTreeMap<(Kind3, String), (u8, Vec<u8>)>,
    measurements: Object<Measurement>,
    status: Option<SpanStatus>,
    response: Option<u16>,
    op: Option<(String, bool)>,
    description: Option<(String, bool)>,
    links: Vec<Link>,
    /// Trace, parent, flags.
    continued: Option<(u128, u64, u32)>,
    members: String,
    frozen: Option<(String, bool)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind3 {
    Tag,
    Data,
    Measurement,
}

/// The naive encoder.
pub(super) struct Oracle<'a> {
    pub(super) site: &'a Site,
    pub(super) wire: &'a WireIds,
    pub(super) anchor: &'a Anchor,
    pub(super) cut: u64,
    pub(super) dropped: u64,
}

fn shorten(text: &str, max: usize, was_cut: bool) -> (String, bool) {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= max && !was_cut {
        return (text.to_owned(), false);
    }
    let kept = chars.iter().take(max - 3);
    (kept.collect::<String>() + "...", true)
}

fn seconds(nanos: u64) -> f64 {
    format!("{}.{:06}", nanos / 1_000_000_000, nanos % 1_000_000_000 / 1000).parse().unwrap()
}

/// The scalars in a payload, as JSON, with text as it is.
fn scalars(code: u8, bytes: &[u8]) -> Vec<Value> {
    let scalar = Scalar::of(code).unwrap();
    if scalar == Scalar::Text {
        if code & LIST == 0 {
            return vec![Value::from(std::str::from_utf8(bytes).unwrap())];
        }
        let mut rest = bytes;
        let mut texts = Vec::new();
        while !rest.is_empty() {
            let len = usize::from(rest[0]) + 256 * usize::from(rest[1]);
            texts.push(Value::from(std::str::from_utf8(&rest[2..2 + len]).unwrap()));
            rest = &rest[2 + len..];
        }
        return texts;
    }
    let chunks = bytes.chunks(scalar.width());
    chunks
        .map(|chunk| match scalar {
            Scalar::Bool => Value::from(chunk[0] == 1),
            Scalar::I64 => Value::from(i64::from_le_bytes(chunk.try_into().unwrap())),
            Scalar::U64 => Value::from(u64::from_le_bytes(chunk.try_into().unwrap())),
            Scalar::F64 => {
                let number = f64::from_le_bytes(chunk.try_into().unwrap());
                let word = match number {
                    number if number.is_finite() => return Value::from(number),
                    number if number.is_nan() => "NaN",
                    f64::INFINITY => "Infinity",
                    _ => "-Infinity",
                };
                Value::from(word)
            }
            Scalar::I128 => {
                let number = i128::from_le_bytes(chunk.try_into().unwrap());
                match (i64::try_from(number), u64::try_from(number)) {
                    (Ok(number), _) => Value::from(number),
                    (_, Ok(number)) => Value::from(number),
                    _ => Value::from(number.to_string()),
                }
            }
            Scalar::U128 => {
                let number = u128::from_le_bytes(chunk.try_into().unwrap());
                u64::try_from(number).map_or_else(|_| Value::from(number.to_string()), Value::from)
            }
            Scalar::Text => unreachable!(),
        })
        .collect()
}

impl Oracle<'_> {
    fn name(id: NameId) -> Option<&'static str> {
        if id == NameId::NONE { None } else { names::text(id) }
    }

    /// Everything set on one span, in the order of the ring.
    fn set_on(&mut self, run: &[Slot], span: u64, is_root: bool) -> Set {
        let mut set = Set::default();
        let mut at = 0;
        while at < run.len() {
            let width = layout::slots_of(&run[at]);
            let slots = &run[at..at + width];
            at += width;
            let Some(header) = AttributeHeader::of(&slots[0]) else { continue };
            if header.key != span {
                continue;
            }
            let mut payload = Vec::new();
            layout::payload(slots, &mut payload);
            self.one(&mut set, &header, payload);
        }
        for ((kind, key), (code, bytes)) in std::mem::take(&mut set.raw) {
            if kind == Kind3::Tag {
                let reserved = ["release", "dist", "environment", "user", "filename", "function"]
                    .contains(&&*key)
                    || key == "server_name" && self.site.server_name.is_some();
                if is_root && reserved {
                    self.dropped += 1;
                    continue;
                }
                let texts: Vec<String> = scalars(code, &bytes)
                    .into_iter()
                    .map(|value| match value {
                        Value::String(text) => text,
                        // serde_json writes floats like the encoder's library does.
                        number => number.to_string(),
                    })
                    .collect();
                let line = texts.join(",");
                let (line, cut) = shorten(line.trim(), 200, code & CUT != 0);
                if line.trim().is_empty() || line == "..." && texts.join(",").trim().is_empty() {
                    self.dropped += 1;
                    continue;
                }
                self.cut += u64::from(cut && code & CUT == 0);
                set.tags.0.insert(key, line.replace(['\n', '\r'], " "));
            } else if kind == Kind3::Data {
                let mut values = scalars(code, &bytes);
                let value = if code & LIST != 0 {
                    Value::from(values)
                } else {
                    let value = values.remove(0);
                    match (&value, code & CUT != 0) {
                        (Value::String(text), true) => {
                            let mut text = text.clone();
                            while text.len() > 1021 {
                                text.pop();
                            }
                            Value::from(text + "...")
                        }
                        _ => value,
                    }
                };
                set.data.0.insert(key, value);
            } else {
                let value = f64::from_le_bytes(bytes[..8].try_into().unwrap());
                let unit = Self::name(NameId(u32::from_le_bytes(bytes[8..].try_into().unwrap())));
                let unit = unit.unwrap_or_default();
                if !value.is_finite() {
                    self.dropped += 1;
                    continue;
                }
                let fits =
                    unit.len() <= 15 && unit.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                self.cut += u64::from(!fits);
                let unit = (fits && !unit.is_empty()).then(|| unit.to_ascii_lowercase());
                set.measurements.0.insert(key, Measurement { value, unit });
            }
        }
        set
    }

    fn one(&mut self, set: &mut Set, header: &AttributeHeader, mut payload: Vec<u8>) {
        let kind = match header.kind {
            Kind::Tag => Kind3::Tag,
            Kind::Data => Kind3::Data,
            Kind::Measurement => Kind3::Measurement,
            Kind::Status => {
                set.status = SpanStatus::from_code(payload[0]);
                return;
            }
            Kind::HttpStatus => {
                let code = u64::from_le_bytes(payload.try_into().unwrap());
                let Ok(code) = u16::try_from(code) else {
                    self.dropped += 1;
                    return;
                };
                set.status = Some(SpanStatus::from_http(code));
                set.response = Some(code);
                let bytes = u64::from(code).to_le_bytes().to_vec();
                let number = (Scalar::U64 as u8, bytes);
                set.raw.insert((Kind3::Tag, "http.status_code".into()), number.clone());
                set.raw.insert((Kind3::Data, "http.response.status_code".into()), number);
                return;
            }
            Kind::Link => {
                let (trace, span) = ids(&payload);
                let attributes = Self::name(header.name).map(|of_type| {
                    Object([("sentry.link.type".to_owned(), of_type.to_owned())].into())
                });
                let sampled = [Some(false), Some(true), None][usize::from(payload[24])];
                let [trace_id, span_id] = [format!("{trace:032x}"), format!("{span:016x}")];
                if trace == 0 || span == 0 || set.links.len() == 128 {
                    self.dropped += 1;
                } else {
                    set.links.push(Link { trace_id, span_id, sampled, attributes });
                }
                return;
            }
            Kind::Trace => {
                let (trace, span) = ids(&payload);
                let flags = u32::from_le_bytes(payload[28..32].try_into().unwrap());
                if set.continued.is_some() {
                } else if trace == 0 || span == 0 {
                    self.dropped += 1;
                } else {
                    set.continued = Some((trace, span, flags));
                }
                return;
            }
            Kind::Dsc => {
                set.members += std::str::from_utf8(&payload).unwrap();
                set.members.push(',');
                return;
            }
            Kind::Description | Kind::Op | Kind::Frozen => {
                let text = match header.name {
                    NameId::INLINE | NameId::NONE => {
                        (String::from_utf8(payload).unwrap(), header.code & CUT != 0)
                    }
                    id => (names::text(id).unwrap().to_owned(), false),
                };
                match header.kind {
                    Kind::Op => set.op = Some(text),
                    Kind::Description => set.description = Some(text),
                    _ => set.frozen = set.frozen.take().or(Some(text)),
                }
                return;
            }
            Kind::Child | Kind::Root | Kind::Turn | Kind::Parted | Kind::Asked => return,
        };
        let key = if header.name == NameId::INLINE {
            let len = usize::from(payload[0]);
            let value = payload.split_off(1 + len);
            let key = String::from_utf8(payload[1..].to_vec()).unwrap();
            payload = value;
            key
        } else {
            names::text(header.name).unwrap_or_default().to_owned()
        };
        let key = match kind {
            Kind3::Tag => key.replace(' ', "-"),
            Kind3::Data => key,
            Kind3::Measurement => key.to_ascii_lowercase(),
        };
        let fits = !key.is_empty()
            && key.chars().count() <= 200
            && match kind {
                Kind3::Tag => key.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-".contains(c)),
                Kind3::Data => true,
                Kind3::Measurement => {
                    key.starts_with(|c: char| c.is_ascii_lowercase())
                        && key.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c))
                }
            };
        if fits {
            set.raw.insert((kind, key), (header.code, payload));
        } else {
            self.dropped += 1;
        }
    }

    fn text(&mut self, own: NameId, set: Option<(String, bool)>, max: usize) -> Option<String> {
        let (text, was_cut) = match set {
            Some(text) => text,
            None => (Self::name(own)?.to_owned(), false),
        };
        let (text, cut) = shorten(&text, max, was_cut && !text.is_empty());
        self.cut += u64::from(cut && !was_cut);
        (!text.is_empty()).then_some(text)
    }

    fn moments(&self, record: &SpanRecord) -> (f64, f64) {
        let moment = |raw, is_unix: bool| if is_unix { raw } else { self.anchor.unix_nanos(raw) };
        let start = moment(record.start, record.flags & flag::START_UNIX != 0);
        let end = moment(record.end, record.flags & flag::END_UNIX != 0);
        (seconds(start), seconds(end.max(start)))
    }

    /// Header and payload of a well-formed run, and how many children were left out.
    pub(super) fn transaction(&mut self, run: &[Slot]) -> (Header, Transaction, u64) {
        let mut records = Vec::new();
        let mut at = 0;
        while at < run.len() {
            records.extend(SpanRecord::of(&run[at]));
            at += layout::slots_of(&run[at]);
        }
        let root = *records.iter().find(|record| record.kind == Kind::Root).unwrap();
        let known: Vec<u64> = records.iter().map(|record| record.key).collect();
        at = 0;
        while at < run.len() {
            let orphan =
                AttributeHeader::of(&run[at]).is_some_and(|header| !known.contains(&header.key));
            self.dropped += u64::from(orphan);
            at += layout::slots_of(&run[at]);
        }
        records.retain(|record| record.kind == Kind::Child);
        records.sort_by_key(|record| record.key);
        let over = records.len().saturating_sub(self.site.max_spans);
        records.truncate(self.site.max_spans);
        let kept: Vec<u64> = records.iter().map(|record| record.key).collect();

        let root_id = self.wire.span_id(root.key).to_string();
        let mut set = self.set_on(run, root.key, true);
        let trace_id = match set.continued {
            Some((trace, ..)) => format!("{trace:032x}"),
            None => self.wire.trace_id(root.key).to_string(),
        };
        let name = set.description.take().map(|(text, cut)| (text.trim().to_owned(), cut));
        let name = match (name, Self::name(root.description)) {
            (Some((text, was_cut)), _) if !text.is_empty() => {
                let (text, cut) = shorten(&text, 200, was_cut);
                (text, cut && !was_cut)
            }
            (None, Some(text)) if !text.trim().is_empty() => shorten(text.trim(), 200, false),
            _ => ("<unlabeled transaction>".to_owned(), false),
        };
        self.cut += u64::from(name.1);
        let name = name.0;
        let name_before = match &set.frozen {
            None => Some(name.clone()),
            Some((text, _)) if text.is_empty() => None,
            Some((text, _)) if text.trim().is_empty() => Some("<unlabeled transaction>".to_owned()),
            Some((text, was_cut)) => Some(shorten(text.trim(), 200, *was_cut).0),
        };

        let mut spans = Vec::new();
        let mut measurements_left = 10 - set.measurements.0.len().min(10);
        for record in records {
            let mut set = self.set_on(run, record.key, false);
            let (start_timestamp, timestamp) = self.moments(&record);
            // No span is below itself.
            let has_parent = kept.contains(&record.parent) && record.parent != record.key;
            let parent = if has_parent { record.parent } else { root.key };
            let op = set.op.take();
            let description = set.description.take();
            while set.measurements.0.len() > measurements_left {
                set.measurements.0.pop_last();
                self.dropped += 1;
            }
            measurements_left -= set.measurements.0.len();
            spans.push(Span {
                trace_id: trace_id.clone(),
                span_id: self.wire.span_id(record.key).to_string(),
                parent_span_id: self.wire.span_id(parent).to_string(),
                start_timestamp,
                timestamp,
                origin: "manual".into(),
                op: self.text(record.op, op, 128),
                description: self.text(record.description, description, 1024),
                status: status(&record, set.status),
                tags: set.tags,
                data: set.data,
                links: set.links,
                measurements: set.measurements,
            });
        }
        for (key, count) in [
            ("hotspan.lost", u64::from(root.lost)),
            ("hotspan.unfinished", u64::from(root.unfinished)),
            ("hotspan.over_limit", over as u64),
        ] {
            if count > 0 {
                set.data.0.insert(key.into(), count.into());
            }
        }
        if let Some(why @ 1..=5) = Some(usize::from(root.why)) {
            let word = ["", "slow", "slow_p99", "failed", "first", "asked"][why];
            set.data.0.insert("hotspan.kept".into(), word.into());
        }
        let data = serde_json::to_string(&set.data).unwrap();
        let separators = data.matches(['\u{2028}', '\u{2029}']).count();
        let data = if set.data.0.is_empty() { 0 } else { data.len() + 8 + 3 * separators };
        while set.links.len() > (8192 - 320usize).saturating_sub(data) / 68 {
            set.links.pop();
            self.dropped += 1;
        }
        while set.measurements.0.len() > 10 {
            set.measurements.0.pop_last();
            self.dropped += 1;
        }
        let (start_timestamp, timestamp) = self.moments(&root);
        let op = set.op.take();
        let object = |pairs: &[(&str, &Option<String>)]| {
            Object(
                pairs
                    .iter()
                    .filter_map(|(key, value)| Some(((*key).to_owned(), (*value).clone()?)))
                    .collect::<BTreeMap<_, _>>(),
            )
        };
        let some = |text: &str| Some(text.to_owned());
        let sdk = object(&[
            ("name", &some(self.site.sdk_name)),
            ("version", &some(self.site.sdk_version)),
        ]);
        let event_id = self.wire.event_id(root.key).to_string();
        let rate = format!("{:.6}", f64::from(root.threshold.min(1_000_000)) / 1e6);
        let rate = rate.trim_end_matches('0');
        let rate = if rate.ends_with('.') { format!("{rate}0") } else { rate.to_owned() };
        let head = || {
            self.site.public_key.as_ref().map(|key| {
                object(&[
                    ("trace_id", &Some(trace_id.clone())),
                    ("public_key", &Some(key.clone())),
                    ("sample_rate", &Some(rate.clone())),
                    ("sampled", &some("true")),
                    ("sample_rand", &Some(format!("0.{:06}", self.wire.sample_rand(root.key)))),
                    ("release", &self.site.release),
                    ("environment", &self.site.environment),
                    ("transaction", &name_before),
                    ("org_id", &self.site.org_id),
                ])
            })
        };
        let header = Header {
            event_id: event_id.clone(),
            sdk: sdk.clone(),
            trace: match set.continued {
                None => head(),
                Some((.., flags)) if flags & continued::HAS_DSC == 0 => None,
                Some((.., flags)) => {
                    let is_theirs =
                        flags & continued::PARENT_DECIDED != 0 && !(1..=5).contains(&root.why);
                    passed_on(&set.members, &trace_id, (!is_theirs).then_some(&*rate))
                }
            },
            sent_at: "0000-00-00T00:00:00.000000Z".into(),
        };
        let transaction = Transaction {
            r#type: "transaction".into(),
            event_id,
            transaction: name,
            transaction_info: object(&[("source", &some("custom"))]),
            start_timestamp,
            timestamp,
            platform: "native".into(),
            sdk,
            release: self.site.release.clone(),
            environment: self.site.environment.clone(),
            dist: self.site.dist.clone(),
            server_name: self.site.server_name.clone(),
            spans,
            contexts: Contexts {
                trace: Trace {
                    r#type: "trace".into(),
                    trace_id,
                    span_id: root_id,
                    parent_span_id: set.continued.map(|(_, parent, _)| format!("{parent:016x}")),
                    origin: "manual".into(),
                    op: self.text(root.op, op, 128),
                    status: status(&root, set.status),
                    data: set.data,
                    links: set.links,
                },
                response: set
                    .response
                    .map(|code| Object([("status_code".to_owned(), code.into())].into())),
                runtime: object(&[
                    ("name", &some("rust")),
                    ("version", &self.site.runtime_version),
                ]),
                os: self.site.os_name.is_some().then(|| {
                    object(&[("name", &self.site.os_name), ("version", &self.site.os_version)])
                }),
            },
            tags: set.tags,
            measurements: set.measurements,
        };
        (header, transaction, over as u64)
    }
}

fn status(record: &SpanRecord, set: Option<SpanStatus>) -> Option<String> {
    if record.flags & flag::CANCELLED != 0 {
        return Some("cancelled".into());
    }
    let panicked = record.flags & flag::PANICKED != 0;
    if panicked {
        return Some("internal_error".into());
    }
    set.map(|status| status.as_str().to_owned())
}

/// A trace id and a span id at the front of a payload.
fn ids(payload: &[u8]) -> (u128, u64) {
    let (trace, rest) = payload.split_at(16);
    let trace = u128::from_le_bytes(trace.try_into().unwrap());
    (trace, u64::from_le_bytes(rest[..8].try_into().unwrap()))
}

/// The members that came, with the own rate in the place of theirs, if the decision was the own.
fn passed_on(members: &str, trace_id: &str, own: Option<&str>) -> Option<Object<String>> {
    let mut object = BTreeMap::new();
    for member in members.split(',') {
        let Some((key, value)) = member.split_once('=') else { continue };
        let value = value.split(';').next().unwrap();
        let Some(key) = key.trim().strip_prefix("sentry-") else { continue };
        if !key.is_empty() && key != "trace_id" {
            object.entry(key.to_owned()).or_insert_with(|| unescaped(value.trim()));
        }
    }
    if object.is_empty() {
        return None;
    }
    object.insert("trace_id".to_owned(), trace_id.to_owned());
    if let Some(rate) = own {
        object.insert("sample_rate".to_owned(), rate.to_owned());
        object.insert("sampled".to_owned(), "true".to_owned());
    }
    Some(Object(object))
}

/// Percent-decoded.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let code = rest.strip_prefix('%').and_then(|behind| behind.get(..2));
        let code = code.filter(|code| code.chars().all(|digit| digit.is_ascii_hexdigit()));
        let one = rest.chars().next().unwrap().len_utf8();
        match code {
            Some(code) => {
                bytes.push(u8::from_str_radix(code, 16).unwrap());
                rest = &rest[3..];
            }
            None => {
                bytes.extend(rest[..one].bytes());
                rest = &rest[one..];
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
