//! A rules file: JSON with the fields of [`Sampling`].
//!
//! simd-json checks the bytes and lays them out as a flat tape, in one pass and without recursion,
//! to a bounded depth. serde's own code for [`Sampling`] then reads the tape through [`Walk`], so
//! the file has the one shape that code has, too. [`Walk`] notes the way to wherever reading
//! failed; that is how an error names the rule and the field. Its errors say what was expected and
//! never what was there, but for unknown fields, cut to 40 characters.
//!
//! A key that the file leaves out keeps what the program says ([`Edits`]); `null` says none.

use std::fmt::{self, Display};

use serde::de::{
    DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use simd_json::value::tape::Node;
use simd_json::{Buffers, ErrorType, StaticNode};

use super::error::{RuleError, shown};
use super::rule::{Rule, Sampling};

/// Bytes a rules file may have.
pub(crate) const FILE_MAX: usize = 1 << 20;
/// The deepest there is: a rule's `keep`, in a rule, in the rules, in the object.
const DEPTH_MAX: usize = 8;
/// Characters of an error that serde words.
const TEXT_MAX: usize = 200;

/// Some of the fields of a [`Sampling`]: those that a file has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Edits {
    traces_sample_rate: Option<Option<f64>>,
    rules: Option<Vec<Rule>>,
    max_per_second: Option<Option<f64>>,
    floor_per_second: Option<Option<f64>>,
}

impl Edits {
    /// Puts this in the place of earlier edits: what these had hidden, and this leaves out, is as
    /// it was. Returns what is hidden now.
    pub(crate) fn lay(&self, sampling: &mut Sampling, hidden: &Self) -> Self {
        Self {
            traces_sample_rate: lay(
                &self.traces_sample_rate,
                &mut sampling.traces_sample_rate,
                &hidden.traces_sample_rate,
            ),
            rules: lay(&self.rules, &mut sampling.rules, &hidden.rules),
            max_per_second: lay(
                &self.max_per_second,
                &mut sampling.max_per_second,
                &hidden.max_per_second,
            ),
            floor_per_second: lay(
                &self.floor_per_second,
                &mut sampling.floor_per_second,
                &hidden.floor_per_second,
            ),
        }
    }

    /// What the program says, with this put over it.
    pub(crate) fn over(&self, program: &Sampling) -> Sampling {
        let mut sampling = program.clone();
        self.lay(&mut sampling, &Self::default());
        sampling
    }
}

fn lay<T: Clone>(new: &Option<T>, field: &mut T, hidden: &Option<T>) -> Option<T> {
    if let Some(program) = hidden {
        field.clone_from(program);
    }
    let new = new.as_ref()?;
    Some(std::mem::replace(field, new.clone()))
}

/// Reads a rules file. The numbers in it are not yet checked: `Table::compile` does that.
pub(crate) fn parse(bytes: &[u8]) -> Result<Edits, RuleError> {
    if bytes.len() > FILE_MAX {
        return Err(RuleError::new("", "expected a file of at most 1 MiB"));
    }
    // Some editors put the mark there.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut scratch = bytes.to_vec();
    let mut buffers = Buffers::with_max_depth(scratch.len(), DEPTH_MAX);
    let tape = simd_json::to_tape_with_buffers(&mut scratch, &mut buffers)
        .map_err(|error| syntax(&error, bytes))?;
    let mut rest = tape.0.as_slice();
    let sampling: Sampling =
        crate::read::object(Walk { rest: &mut rest }).map_err(|problem| problem.placed(&tape.0))?;
    let has = |key| member(&tape.0, key).is_some();
    Ok(Edits {
        traces_sample_rate: has("traces_sample_rate").then_some(sampling.traces_sample_rate),
        rules: has("rules").then_some(sampling.rules),
        max_per_second: has("max_per_second").then_some(sampling.max_per_second),
        floor_per_second: has("floor_per_second").then_some(sampling.floor_per_second),
    })
}

/// What is no JSON, and where, as far as the parser says.
#[cold]
fn syntax(error: &simd_json::Error, bytes: &[u8]) -> RuleError {
    match error.error() {
        ErrorType::DepthLimitExceeded => {
            return RuleError::new("", "expected lists and objects at most 8 deep");
        }
        ErrorType::InvalidUtf8 => return RuleError::new("", "expected JSON in UTF-8"),
        _ => {}
    }
    let before = match bytes.get(..error.index()) {
        Some(before) if !before.is_empty() => before,
        _ => return RuleError::new("", "expected JSON"),
    };
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    RuleError::new("", format!("expected JSON; it breaks off at line {line}"))
}

/// The value of a key of the object that a tape begins with.
fn member<'t, 'de>(tape: &'t [Node<'de>], key: &str) -> Option<&'t [Node<'de>]> {
    let (Node::Object { len, .. }, mut rest) = tape.split_first()? else { return None };
    for _ in 0..*len {
        let (Node::String(found), value) = rest.split_first()? else { return None };
        if *found == key {
            return Some(value);
        }
        rest = value.get(nodes(value)..)?;
    }
    None
}

/// The element of the list that a tape begins with.
fn element<'t, 'de>(tape: &'t [Node<'de>], index: usize) -> Option<&'t [Node<'de>]> {
    let (Node::Array { len, .. }, mut rest) = tape.split_first()? else { return None };
    for _ in 0..index.min(*len) {
        rest = rest.get(nodes(rest)..)?;
    }
    (index < *len).then_some(rest)
}

/// How many nodes the first value takes.
fn nodes(tape: &[Node<'_>]) -> usize {
    match tape.first() {
        Some(Node::Object { count, .. } | Node::Array { count, .. }) => 1 + count,
        _ => 1,
    }
}

/// Why a tape is no [`Sampling`], and the way there, innermost first.
#[derive(Debug)]
struct Problem {
    way: Vec<Step>,
    right: String,
}

#[derive(Debug)]
enum Step {
    Field(String),
    Index(usize),
}

impl Problem {
    #[cold]
    fn new(right: String) -> Self {
        Self { way: Vec::new(), right }
    }

    /// With the rule looked up whose number is on the way.
    fn placed(mut self, tape: &[Node<'_>]) -> RuleError {
        let mut in_rule = None;
        if let [.., Step::Index(index), Step::Field(rules)] = self.way.as_slice()
            && rules == "rules"
        {
            in_rule = Some(*index);
            self.way.truncate(self.way.len() - 2);
        }
        let fields = self.way.iter().rev().map(|step| match step {
            Step::Field(field) => field.clone(),
            Step::Index(index) => (index + 1).to_string(),
        });
        let error = RuleError::new(fields.collect::<Vec<_>>().join("."), self.right);
        let Some(index) = in_rule else { return error };
        let rule = member(tape, "rules").and_then(|rules| element(rules, index));
        let id = match rule.and_then(|rule| member(rule, "id")).and_then(<[_]>::first) {
            Some(Node::String(id)) => Some(*id),
            _ => None,
        };
        error.in_rule(index, id)
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.right)
    }
}

impl std::error::Error for Problem {}

/// What serde would repeat is left out.
impl Error for Problem {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string().chars().take(TEXT_MAX).collect())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("expected one of {}", expected.join(", ")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let (field, expected) = (shown(field), expected.join(", "));
        Self::new(format!("unknown field {field}, expected one of {expected}"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("{field} is there twice"))
    }
}

/// One value of a tape, which is taken off its front.
struct Walk<'w, 't, 'de> {
    rest: &'w mut &'t [Node<'de>],
}

impl<'de> Deserializer<'de> for Walk<'_, '_, 'de> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let Some((first, after)) = self.rest.split_first() else {
            return Err(Problem::custom("expected a value"));
        };
        *self.rest = after;
        match *first {
            Node::String(text) => visitor.visit_borrowed_str(text),
            Node::Static(StaticNode::Null) => visitor.visit_unit(),
            Node::Static(StaticNode::Bool(on)) => visitor.visit_bool(on),
            Node::Static(StaticNode::U64(number)) => visitor.visit_u64(number),
            Node::Static(StaticNode::I64(number)) => visitor.visit_i64(number),
            Node::Static(StaticNode::F64(number)) => visitor.visit_f64(number),
            Node::Array { len, .. } => visitor.visit_seq(Members::new(self.rest, len)),
            Node::Object { len, .. } => visitor.visit_map(Members::new(self.rest, len)),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

/// What is in a list or an object.
struct Members<'w, 't, 'de> {
    rest: &'w mut &'t [Node<'de>],
    count: usize,
    taken: usize,
    key: &'de str,
}

impl<'w, 't, 'de> Members<'w, 't, 'de> {
    fn new(rest: &'w mut &'t [Node<'de>], count: usize) -> Self {
        Self { rest, count, taken: 0, key: "" }
    }
}

impl<'de> SeqAccess<'de> for Members<'_, '_, 'de> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Problem> {
        if self.taken == self.count {
            return Ok(None);
        }
        self.taken += 1;
        seed.deserialize(Walk { rest: self.rest }).map(Some).map_err(|mut problem| {
            problem.way.push(Step::Index(self.taken - 1));
            problem
        })
    }
}

impl<'de> MapAccess<'de> for Members<'_, '_, 'de> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        if self.taken == self.count {
            return Ok(None);
        }
        self.taken += 1;
        let Some((Node::String(key), after)) = self.rest.split_first() else {
            return Err(Problem::custom("expected a key"));
        };
        (*self.rest, self.key) = (after, key);
        seed.deserialize((*key).into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        seed.deserialize(Walk { rest: self.rest }).map_err(|mut problem| {
            // Only fields that there are have values that are read.
            problem.way.push(Step::Field(self.key.to_owned()));
            problem
        })
    }
}

#[cfg(test)]
mod tests;
