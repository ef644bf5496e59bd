//! From what hooks made of an event back to slots, as the encoder reads them.
//!
//! What did not change is copied as it is. Of what did, the slots are left out, and new ones follow
//! behind all others, so that they count. Spans that are gone are left out with all that was set on
//! them; what was below one hangs below the nearest span that is left.
//!
//! An HTTP status is one slot for four things: a status, a tag, a datum and the response's context.
//! If the tag or the datum changed, or there is to be no status any more, what is left of the four
//! is written one by one, without the context.

use std::collections::{BTreeMap, BTreeSet};

use crate::shared::id::NameId;
use crate::shared::layout::{
    self, AttributeHeader, CUT, INLINE_NAME_MAX, Kind, LIST, Scalar, Slot, SpanRecord, UNIT_MAX,
    VALUE_MAX, attribute_header, bounded, flag, items,
};
use crate::shared::ledger::Reason;
use crate::shared::names;
use crate::status::SpanStatus;

use super::decode::ByKey;
use super::{
    HTTP_STATUS_DATA, HTTP_STATUS_TAG, Measurement, SpanEvent, TransactionEvent, Value, decode,
};

/// The keys of the spans that hooks removed, and for which reason each is gone.
pub(in crate::flush) type Removed = ByKey<Reason>;

/// What hooks made of a run.
#[derive(Debug)]
pub(in crate::flush) struct Rewritten {
    pub(in crate::flush) run: Vec<Slot>,
    /// Texts, lists and keys that were cut here.
    pub(in crate::flush) cut: u64,
}

/// The run with what is different in `after`; `None`: nothing is. `after` has no span that `before`
/// does not have.
pub(in crate::flush) fn rewrite(
    run: &[Slot],
    before: &TransactionEvent,
    after: &TransactionEvent,
    removed: &Removed,
) -> Option<Rewritten> {
    let root = before.facts.key;
    let left: ByKey<&SpanEvent> = after.spans.iter().map(|span| (span.facts.key, span)).collect();
    let of_children = before.spans.iter().filter_map(|span| {
        let now = left.get(&span.facts.key)?;
        Some((span.facts.key, Edit::between(&span.into(), (*now).into())))
    });
    let of_root = (root, Edit::between(&before.into(), after.into()));
    let changed: Vec<(u64, Edit<'_>)> =
        std::iter::once(of_root).chain(of_children).filter(|(_, edit)| edit.is_any()).collect();
    let edits: ByKey<&Edit<'_>> = changed.iter().map(|(key, edit)| (*key, edit)).collect();
    if edits.is_empty() && removed.is_empty() {
        return None;
    }
    let parents: ByKey<u64> = items(run)
        .filter_map(|item| SpanRecord::of(item.first()?))
        .filter(|record| record.kind == Kind::Child && removed.contains_key(&record.key))
        .map(|record| (record.key, record.parent))
        .collect();
    let mut page = Page { slots: Vec::with_capacity(run.len()), root, cut: 0 };
    let mut root_slot = None;
    let mut payload = Vec::new();
    for item in items(run) {
        let Some(first) = item.first() else { continue };
        let [_, key, ..] = *first;
        if key != root && removed.contains_key(&key) {
            continue;
        }
        let edit = edits.get(&key);
        if let Some(mut record) = SpanRecord::of(first) {
            if let Some(edit) = edit {
                edit.apply(&mut record);
            }
            if record.kind == Kind::Root {
                root_slot = Some(record.words());
                continue;
            }
            record.parent = nearest(record.parent, &parents);
            page.slots.push(record.words());
            continue;
        }
        if let (Some(edit), Some(header)) = (edit, AttributeHeader::of(first)) {
            layout::payload(item, &mut payload);
            if edit.replaces(&header, &payload) {
                continue;
            }
        }
        page.slots.extend_from_slice(item);
    }
    // In the order of the event, so that the same edits make the same bytes.
    for (key, edit) in &changed {
        page.write(*key, edit);
    }
    // L3 of the layout.
    page.slots.extend(root_slot);
    Some(Rewritten { run: page.slots, cut: page.cut })
}

/// The nearest one above that is not gone.
fn nearest(parent: u64, gone: &ByKey<u64>) -> u64 {
    let mut found = parent;
    // Records of any bits may be each other's parents.
    for _ in 0..gone.len() {
        match gone.get(&found) {
            Some(above) => found = *above,
            None => break,
        }
    }
    found
}

/// What there is to a span, a root or another one.
struct Content<'a> {
    op: &'a str,
    text: &'a str,
    status: Option<SpanStatus>,
    tags: &'a BTreeMap<String, String>,
    data: &'a BTreeMap<String, Value>,
    measurements: &'a BTreeMap<String, Measurement>,
}

impl<'a> From<&'a TransactionEvent> for Content<'a> {
    fn from(event: &'a TransactionEvent) -> Self {
        let TransactionEvent { name, op, status, tags, data, measurements, .. } = event;
        Self { op, text: name, status: *status, tags, data, measurements }
    }
}

impl<'a> From<&'a SpanEvent> for Content<'a> {
    fn from(event: &'a SpanEvent) -> Self {
        let SpanEvent { description, op, status, tags, data, measurements, .. } = event;
        Self { op, text: description, status: *status, tags, data, measurements }
    }
}

/// What is different about a span, and what it is now.
struct Edit<'a> {
    now: Content<'a>,
    op: bool,
    text: bool,
    status: bool,
    /// An HTTP status is to be taken apart.
    apart: bool,
    tags: BTreeSet<&'a str>,
    data: BTreeSet<&'a str>,
    measurements: BTreeSet<&'a str>,
}

impl<'a> Edit<'a> {
    fn between(before: &Content<'a>, now: Content<'a>) -> Self {
        let mut tags = differing(before.tags, now.tags, |a, b| a == b);
        let mut data = differing(before.data, now.data, is_same);
        let is_measured =
            |a: &Measurement, b: &Measurement| is_equal(a.value, b.value) && a.unit == b.unit;
        let measurements = differing(before.measurements, now.measurements, is_measured);
        let mut status = before.status != now.status;
        let apart = tags.contains(HTTP_STATUS_TAG)
            || data.contains(HTTP_STATUS_DATA)
            || (status && now.status.is_none());
        if apart {
            tags.insert(HTTP_STATUS_TAG);
            data.insert(HTTP_STATUS_DATA);
            status = true;
        }
        let (op, text) = (before.op != now.op, before.text != now.text);
        Self { now, op, text, status, apart, tags, data, measurements }
    }

    fn is_any(&self) -> bool {
        self.op
            || self.text
            || self.status
            || !self.tags.is_empty()
            || !self.data.is_empty()
            || !self.measurements.is_empty()
    }

    /// Takes out of a record what follows in slots, if there is any.
    fn apply(&self, record: &mut SpanRecord) {
        if self.op {
            record.op = NameId::NONE;
        }
        if self.text {
            record.description = NameId::NONE;
        }
        if self.status {
            // They would beat what is set.
            record.flags &= !(flag::PANICKED | flag::CANCELLED);
        }
    }

    /// Whether an attribute is no longer true, or is written anew.
    fn replaces(&self, header: &AttributeHeader, payload: &[u8]) -> bool {
        let key = || decode::key(header, payload).unwrap_or_default();
        match header.kind {
            Kind::Op => self.op,
            Kind::Description => self.text,
            Kind::Status => self.status,
            Kind::HttpStatus => self.apart,
            Kind::Tag => self.tags.contains(key()),
            Kind::Data => self.data.contains(key()),
            Kind::Measurement => self.measurements.contains(key()),
            _ => false,
        }
    }
}

/// The keys that are in one of them alone, or have another value.
fn differing<'a, T>(
    before: &'a BTreeMap<String, T>,
    now: &'a BTreeMap<String, T>,
    is_same: impl Fn(&T, &T) -> bool,
) -> BTreeSet<&'a str> {
    let changed =
        before.iter().filter(|(key, value)| !now.get(*key).is_some_and(|now| is_same(value, now)));
    let added = now.keys().filter(|key| !before.contains_key(*key));
    changed.map(|(key, _)| key).chain(added).map(String::as_str).collect()
}

/// The very same value: a NaN, too.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Float(one), Value::Float(other)) => is_equal(*one, *other),
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| is_same(a, b))
        }
        (one, other) => one == other,
    }
}

const fn is_equal(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits()
}

/// Where slots go.
struct Page {
    slots: Vec<Slot>,
    root: u64,
    cut: u64,
}

impl Page {
    /// Appends what is different about a span.
    fn write(&mut self, span: u64, edit: &Edit<'_>) {
        let now = &edit.now;
        for (kind, is_new, text) in
            [(Kind::Op, edit.op, now.op), (Kind::Description, edit.text, now.text)]
        {
            if is_new && !text.is_empty() {
                let (text, is_cut) = bounded(text, VALUE_MAX);
                let code = Scalar::Text as u8 | if is_cut { CUT } else { 0 };
                self.append(span, kind, code, NameId::NONE, text.as_bytes());
            }
        }
        if let Some(status) = now.status.filter(|_| edit.status) {
            let code = Scalar::U64 as u8;
            self.append(span, Kind::Status, code, NameId::NONE, &[status as u8]);
        }
        for (key, text) in edit.tags.iter().filter_map(|key| now.tags.get_key_value(*key)) {
            let mut bytes = Vec::new();
            let code = text_payload(text, &mut bytes);
            self.member(span, Kind::Tag, key, code, &bytes);
        }
        for (key, value) in edit.data.iter().filter_map(|key| now.data.get_key_value(*key)) {
            let mut bytes = Vec::new();
            let code = value_payload(value, &mut bytes);
            self.member(span, Kind::Data, key, code, &bytes);
        }
        for key in &edit.measurements {
            if let Some(Measurement { value, unit }) = now.measurements.get(*key) {
                // What is too long for a unit is left out by the encoder, which counts it.
                let fits = unit.len() <= UNIT_MAX;
                let unit = if fits { names::intern(unit) } else { NameId::INLINE };
                let bytes = [&value.to_le_bytes()[..], &unit.0.to_le_bytes()].concat();
                self.member(span, Kind::Measurement, key, Scalar::F64 as u8, &bytes);
            }
        }
    }

    /// Appends a member of an object. Its key goes in front of the value: what a hook makes up does
    /// not fill the name table.
    fn member(&mut self, span: u64, kind: Kind, key: &str, code: u8, value: &[u8]) {
        let (key, is_cut) = bounded(key, INLINE_NAME_MAX);
        self.cut += u64::from(is_cut);
        let Ok(len) = u8::try_from(key.len()) else { return };
        let payload = [&[len], key.as_bytes(), value].concat();
        self.append(span, kind, code, NameId::INLINE, &payload);
    }

    fn append(&mut self, span: u64, kind: Kind, code: u8, name: NameId, payload: &[u8]) {
        self.cut += u64::from(code & CUT != 0);
        // L1 of the layout.
        let Ok(len) = u16::try_from(payload.len()) else { return };
        let header = attribute_header(kind, code, len, name);
        layout::append(&mut self.slots, [header, span, self.root], payload);
    }
}

fn text_payload(text: &str, out: &mut Vec<u8>) -> u8 {
    let (text, is_cut) = bounded(text, VALUE_MAX);
    out.extend_from_slice(text.as_bytes());
    Scalar::Text as u8 | if is_cut { CUT } else { 0 }
}

/// Appends a value's payload; returns its type code.
fn value_payload(value: &Value, out: &mut Vec<u8>) -> u8 {
    let list = match value {
        Value::Text(text) => return text_payload(text, out),
        Value::List(list) => list,
        value => {
            let scalar = scalar_of(value);
            append_scalar(scalar, value, out);
            return scalar as u8;
        }
    };
    let scalar = scalar_of_all(list);
    let mut cut = 0;
    for value in list {
        let before = out.len();
        if scalar == Scalar::Text {
            let text = value.plain();
            let (text, is_cut) = bounded(&text, VALUE_MAX - 2);
            cut |= if is_cut { CUT } else { 0 };
            // Below 1024, see above.
            out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        } else {
            append_scalar(scalar, value, out);
        }
        if out.len() > VALUE_MAX {
            out.truncate(before);
            cut = CUT;
            break;
        }
    }
    scalar as u8 | LIST | cut
}

/// The narrowest type of a value.
fn scalar_of(value: &Value) -> Scalar {
    match value {
        Value::Bool(_) => Scalar::Bool,
        Value::Int(value) if i64::try_from(*value).is_ok() => Scalar::I64,
        Value::Int(value) if u64::try_from(*value).is_ok() => Scalar::U64,
        Value::Int(_) => Scalar::I128,
        Value::Huge(_) => Scalar::U128,
        Value::Float(_) => Scalar::F64,
        Value::Text(_) | Value::List(_) => Scalar::Text,
    }
}

/// The type that all values of a list have; text, if there is no other.
fn scalar_of_all(list: &[Value]) -> Scalar {
    let is_whole = |value: &Value| matches!(value, Value::Int(_) | Value::Huge(_));
    let Some(first) = list.first().map(scalar_of) else { return Scalar::Text };
    if list.iter().all(|value| scalar_of(value) == first) {
        return first;
    }
    let all_in = |scalar: Scalar| list.iter().all(|value| integer(scalar, value).is_some());
    let wide = [Scalar::U64, Scalar::I128, Scalar::U128].into_iter().find(|it| all_in(*it));
    wide.filter(|_| list.iter().all(is_whole)).unwrap_or(Scalar::Text)
}

/// An integer's bytes in this type, if it fits.
fn integer(scalar: Scalar, value: &Value) -> Option<Vec<u8>> {
    Some(match (scalar, value) {
        (Scalar::I64, Value::Int(value)) => i64::try_from(*value).ok()?.to_le_bytes().to_vec(),
        (Scalar::U64, Value::Int(value)) => u64::try_from(*value).ok()?.to_le_bytes().to_vec(),
        (Scalar::I128, Value::Int(value)) => value.to_le_bytes().to_vec(),
        (Scalar::U128, Value::Int(value)) => u128::try_from(*value).ok()?.to_le_bytes().to_vec(),
        (Scalar::U128, Value::Huge(value)) => value.to_le_bytes().to_vec(),
        _ => return None,
    })
}

/// Appends a scalar other than text in a type that it has.
fn append_scalar(scalar: Scalar, value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(value) => out.push(u8::from(*value)),
        Value::Float(value) => out.extend_from_slice(&value.to_le_bytes()),
        value => out.extend_from_slice(&integer(scalar, value).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
