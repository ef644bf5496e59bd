//! [`RuleError`]: what is wrong with a set of rules, and where.
//!
//! Of what people wrote, an error shows ids and unknown names alone, escaped and cut.

use std::borrow::Cow;
use std::fmt;

/// Characters of someone else's text in an error.
const SHOWN_MAX: usize = 40;

/// Why rules cannot be used. Its text needs no more around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuleError {
    /// Position from 1, and the id as shown.
    rule: Option<(usize, Option<String>)>,
    /// Empty: no single field.
    field: Cow<'static, str>,
    /// What was expected.
    right: Cow<'static, str>,
    out_of_range: bool,
}

impl RuleError {
    /// `right` says what was expected and holds nothing that was not [`shown`].
    #[cold]
    pub(crate) fn new(
        field: impl Into<Cow<'static, str>>,
        right: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { rule: None, field: field.into(), right: right.into(), out_of_range: false }
    }

    /// The same for a number or a duration that is outside of its bounds.
    #[cold]
    pub(crate) fn out_of_range(field: &'static str, right: &'static str) -> Self {
        Self { out_of_range: true, ..Self::new(field, right) }
    }

    /// Every item that the rule matches is taken by the rule of this index (from 0), with this id.
    #[cold]
    pub(crate) fn never_reached(earlier: usize, id: Option<&str>) -> Self {
        let position = earlier + 1;
        let id = id.map(|id| format!(" ({})", shown(id))).unwrap_or_default();
        Self::new("", format!("no item reaches it: rule {position}{id} matches all that it would"))
    }

    /// In the rule of this index (from 0), with this id.
    pub(crate) fn in_rule(mut self, index: usize, id: Option<&str>) -> Self {
        self.rule = Some((index + 1, id.map(shown)));
        self
    }

    /// The position of the rule that is to blame, from 1.
    pub(crate) fn rule(&self) -> Option<usize> {
        self.rule.as_ref().map(|(position, _)| *position)
    }

    /// The field that is to blame: within a rule if there is one, else of all; empty if none is.
    pub(crate) fn field(&self) -> &str {
        &self.field
    }

    /// Whether a number or a duration was outside of its bounds.
    pub(crate) fn is_out_of_range(&self) -> bool {
        self.out_of_range
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some((position, Some(id))) => write!(f, "rule {position} ({id}): ")?,
            Some((position, None)) => write!(f, "rule {position}: ")?,
            None => {}
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.right)
    }
}

impl std::error::Error for RuleError {}

/// Someone else's text in quotes, on one line, at most 40 characters of it.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_where_and_what() {
        let error = RuleError::out_of_range("rate", "expected a number from 0 to 1");
        assert_eq!(error.to_string(), "rate: expected a number from 0 to 1");
        let error = error.in_rule(2, Some("orders"));
        assert_eq!(error.to_string(), r#"rule 3 ("orders"): rate: expected a number from 0 to 1"#);
        assert_eq!((error.rule(), error.field()), (Some(3), "rate"));
        assert!(error.is_out_of_range());
        let error = RuleError::new("", "it is never reached").in_rule(0, None);
        assert_eq!(error.to_string(), "rule 1: it is never reached");
        assert!(!error.is_out_of_range());
    }

    #[test]
    fn what_others_wrote_is_cut_and_stays_on_its_line() {
        assert_eq!(shown("a\nb\u{7}\""), r#""a\nb\u{7}\"""#);
        assert_eq!(shown(&"é".repeat(40)), format!("\"{}\"", "é".repeat(40)));
        assert_eq!(shown(&"é".repeat(41)), format!("\"{}\"…", "é".repeat(40)));
    }
}
