//! Runs of slots from a readable description, for tests and measurements.
//!
//! Writes what the recording side would write, by `shared::layout` alone.

use crate::shared::id::NameId;
use crate::shared::layout::{
    CUT, INLINE_NAME_MAX, Kind, LIST, Scalar, Slot, SpanRecord, VALUE_MAX, append, attribute_header,
};
use crate::shared::names;
use crate::shared::payload::Link;
use crate::shared::traces::Continued;

/// A value as a caller sets it.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    I128(i128),
    U128(u128),
    Text(String),
    /// All of the type of the first; that type for an empty one.
    List(u8, Vec<Self>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::I64(number)
    }
}

impl Value {
    fn code(&self) -> u8 {
        match self {
            Self::Bool(_) => Scalar::Bool as u8,
            Self::I64(_) => Scalar::I64 as u8,
            Self::U64(_) => Scalar::U64 as u8,
            Self::F64(_) => Scalar::F64 as u8,
            Self::I128(_) => Scalar::I128 as u8,
            Self::U128(_) => Scalar::U128 as u8,
            Self::Text(_) => Scalar::Text as u8,
            Self::List(code, _) => *code | LIST,
        }
    }

    fn scalar_bytes(&self) -> Vec<u8> {
        match self {
            Self::Bool(value) => vec![u8::from(*value)],
            Self::I64(value) => value.to_le_bytes().to_vec(),
            Self::U64(value) => value.to_le_bytes().to_vec(),
            Self::F64(value) => value.to_le_bytes().to_vec(),
            Self::I128(value) => value.to_le_bytes().to_vec(),
            Self::U128(value) => value.to_le_bytes().to_vec(),
            Self::Text(value) => value.as_bytes().to_vec(),
            Self::List(..) => Vec::new(),
        }
    }

    /// Type code and payload bytes, cut as the recording side cuts.
    fn encode(&self) -> (u8, Vec<u8>) {
        let mut code = self.code();
        let bytes = match self {
            Self::Text(text) => {
                let mut end = text.len().min(VALUE_MAX);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                if end < text.len() {
                    code |= CUT;
                }
                text.as_bytes()[..end].to_vec()
            }
            Self::List(_, items) => {
                let mut bytes = Vec::new();
                for item in items {
                    let mut next = item.scalar_bytes();
                    if let Self::Text(_) = item {
                        next.splice(0..0, u16::try_from(next.len()).unwrap().to_le_bytes());
                    }
                    if bytes.len() + next.len() > VALUE_MAX {
                        code |= CUT;
                        break;
                    }
                    bytes.extend(next);
                }
                bytes
            }
            scalar => scalar.scalar_bytes(),
        };
        (code, bytes)
    }
}

/// A run in the making. Spans are named by their keys; times are ticks.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) slots: Vec<Slot>,
    pub(crate) root: u64,
    /// Names travel in the ring, as when the name table is full.
    pub(crate) inline: bool,
}

impl Run {
    pub(crate) fn new(root: u64) -> Self {
        Self { slots: Vec::new(), root, inline: false }
    }

    fn name(&self, text: &str) -> NameId {
        if self.inline { NameId::INLINE } else { names::intern(text) }
    }

    /// A slot of any kind with its payload.
    pub(crate) fn raw(
        mut self,
        key: u64,
        kind: Kind,
        code: u8,
        name: NameId,
        payload: &[u8],
    ) -> Self {
        let len = u16::try_from(payload.len()).unwrap();
        let header = attribute_header(kind, code, len, name);
        append(&mut self.slots, [header, key, self.root], payload);
        self
    }

    fn attribute(self, span: u64, kind: Kind, key: &str, code: u8, value: &[u8]) -> Self {
        let name = self.name(key);
        let mut payload = Vec::new();
        if name == NameId::INLINE {
            let mut end = key.len().min(INLINE_NAME_MAX);
            while !key.is_char_boundary(end) {
                end -= 1;
            }
            payload.push(u8::try_from(end).unwrap());
            payload.extend_from_slice(&key.as_bytes()[..end]);
        }
        payload.extend_from_slice(value);
        self.raw(span, kind, code, name, &payload)
    }

    pub(crate) fn tag(self, span: u64, key: &str, value: impl Into<Value>) -> Self {
        let (code, bytes) = value.into().encode();
        self.attribute(span, Kind::Tag, key, code, &bytes)
    }

    pub(crate) fn data(self, span: u64, key: &str, value: impl Into<Value>) -> Self {
        let (code, bytes) = value.into().encode();
        self.attribute(span, Kind::Data, key, code, &bytes)
    }

    pub(crate) fn measurement(self, span: u64, key: &str, value: f64, unit: &str) -> Self {
        let unit = if unit.is_empty() { NameId::NONE } else { names::intern(unit) };
        let mut bytes = value.to_le_bytes().to_vec();
        bytes.extend(unit.0.to_le_bytes());
        self.attribute(span, Kind::Measurement, key, Scalar::F64 as u8, &bytes)
    }

    pub(crate) fn status(self, span: u64, status: crate::status::SpanStatus) -> Self {
        self.raw(span, Kind::Status, Scalar::U64 as u8, NameId::NONE, &[status as u8])
    }

    pub(crate) fn http_status(self, span: u64, code: u64) -> Self {
        let payload = code.to_le_bytes();
        self.raw(span, Kind::HttpStatus, Scalar::U64 as u8, NameId::NONE, &payload)
    }

    /// The root continues a trace.
    pub(crate) fn continues(self, continued: &Continued) -> Self {
        let root = self.root;
        self.raw(root, Kind::Trace, 0, NameId::NONE, &continued.payload())
    }

    /// What came with that trace, in one piece.
    pub(crate) fn dsc(self, members: &str) -> Self {
        let root = self.root;
        self.raw(root, Kind::Dsc, Scalar::Text as u8, NameId::NONE, members.as_bytes())
    }

    pub(crate) fn link(self, span: u64, link: &Link, of_type: &str) -> Self {
        let of_type = if of_type.is_empty() { NameId::NONE } else { names::intern(of_type) };
        self.raw(span, Kind::Link, 0, of_type, &link.payload())
    }

    /// An op, a description or a frozen name in a slot of its own.
    pub(crate) fn text(self, span: u64, kind: Kind, text: &str) -> Self {
        match self.name(text) {
            name @ (NameId::INLINE | NameId::NONE) => {
                let (code, bytes) = Value::from(text).encode();
                self.raw(span, kind, code, name, &bytes)
            }
            name => self.raw(span, kind, 0, name, &[]),
        }
    }

    pub(crate) fn child(
        self,
        key: u64,
        parent: u64,
        op: &str,
        description: &str,
        times: (u64, u64),
    ) -> Self {
        let mut record = self.span(Kind::Child, key, op, description, times);
        record.parent = parent;
        self.push(record, op, description)
    }

    /// The root's record; everything is sampled unless the caller says otherwise.
    pub(crate) fn root(self, op: &str, name: &str, times: (u64, u64)) -> Self {
        let record = self.span(Kind::Root, self.root, op, name, times);
        self.push(record, op, name)
    }

    pub(crate) fn span(
        &self,
        kind: Kind,
        key: u64,
        op: &str,
        description: &str,
        (start, end): (u64, u64),
    ) -> SpanRecord {
        SpanRecord {
            kind,
            flags: 0,
            lost: 0,
            key,
            root: self.root,
            parent: 0,
            start,
            end,
            op: self.name(op),
            description: self.name(description),
            threshold: 1_000_000,
            why: 0,
            plan: 0,
            unfinished: 0,
        }
    }

    /// A record, with its texts in front of it if they are not in the table.
    pub(crate) fn push(mut self, record: SpanRecord, op: &str, description: &str) -> Self {
        if record.op == NameId::INLINE {
            self = self.text(record.key, Kind::Op, op);
        }
        if record.description == NameId::INLINE {
            self = self.text(record.key, Kind::Description, description);
        }
        self.slots.push(record.words());
        self
    }

    /// Changes the record that was pushed last.
    pub(crate) fn edit(mut self, change: impl FnOnce(&mut SpanRecord)) -> Self {
        let last = self.slots.last_mut().unwrap();
        let mut record = SpanRecord::of(last).unwrap();
        change(&mut record);
        *last = record.words();
        self
    }
}
