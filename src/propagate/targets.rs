//! Which requests carry the trace: `trace_propagation_targets`.
//!
//! Without a list all do, with an empty one none. Requests to the own Sentry server never do.

use std::fmt;

use regex_lite::Regex;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// One entry of the list of addresses that requests may carry the trace to.
///
/// In a file a text is what an address must contain, `{"regex": "…"}` an expression that must be
/// found in it.
///
/// ```
/// use hotspan::PropagationTarget;
///
/// let targets: Vec<PropagationTarget> =
///     serde_json::from_str(r#"["internal.example.com", {"regex": "^https://[^/]*/v[0-9]/"}]"#)?;
/// assert_eq!(targets[0], "internal.example.com".into());
/// assert_eq!(targets[1], PropagationTarget::Regex("^https://[^/]*/v[0-9]/".into()));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PropagationTarget {
    /// Addresses that contain this text, case and all. An empty text: all of them.
    Contains(String),
    /// Addresses in which this regular expression finds something (the syntax of the crate
    /// `regex-lite`; `^` and `$` tie it to the ends). One that does not compile is an error at
    /// `init`.
    Regex(String),
}

impl From<&str> for PropagationTarget {
    fn from(text: &str) -> Self {
        Self::Contains(text.to_owned())
    }
}

impl From<String> for PropagationTarget {
    fn from(text: String) -> Self {
        Self::Contains(text)
    }
}

impl<'de> Deserialize<'de> for PropagationTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TargetVisitor)
    }
}

struct TargetVisitor;

impl<'de> Visitor<'de> for TargetVisitor {
    type Value = PropagationTarget;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a text, or {"regex": "…"}"#)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Key {
            Regex,
        }
        let Some((Key::Regex, regex)) = map.next_entry()? else {
            return Err(A::Error::missing_field("regex"));
        };
        match map.next_key::<Key>()? {
            Some(Key::Regex) => Err(A::Error::duplicate_field("regex")),
            None => Ok(PropagationTarget::Regex(regex)),
        }
    }
}

/// The list, compiled.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// `None`: all addresses.
    list: Option<Vec<Target>>,
    /// `host`, or `host:port`, of the own server.
    own: Option<String>,
}

#[derive(Debug)]
enum Target {
    Contains(String),
    Regex(Regex),
}

/// An expression does not compile. It shows the place in the list and nothing of the expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TargetError {
    pub(crate) index: usize,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} is not a regular expression that compiles", self.index)
    }
}

impl std::error::Error for TargetError {}

impl Targets {
    /// `own` is the host of the own DSN, with its port if it is not the scheme's.
    pub(crate) fn new(
        targets: Option<&[PropagationTarget]>,
        own: Option<&str>,
    ) -> Result<Self, TargetError> {
        let compile = |(index, target): (usize, &PropagationTarget)| match target {
            PropagationTarget::Contains(text) => Ok(Target::Contains(text.clone())),
            PropagationTarget::Regex(text) => {
                Regex::new(text).map(Target::Regex).map_err(|_| TargetError { index })
            }
        };
        let list =
            targets.map(|targets| targets.iter().enumerate().map(compile).collect()).transpose()?;
        Ok(Self { list, own: own.map(str::to_owned) })
    }

    /// Whether a request to this address carries the trace.
    pub(crate) fn matches(&self, url: &str) -> bool {
        if self.own.as_ref().is_some_and(|own| host(url).eq_ignore_ascii_case(own)) {
            return false;
        }
        self.list.as_ref().is_none_or(|list| {
            list.iter().any(|target| match target {
                Target::Contains(text) => url.contains(text.as_str()),
                Target::Regex(regex) => regex.is_match(url),
            })
        })
    }
}

/// What stands between `//` and the path: the host, with its port.
fn host(url: &str) -> &str {
    let behind_scheme = url.split_once("//").map_or(url, |(_, rest)| rest);
    let authority = behind_scheme.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(json: &str) -> Targets {
        let list: Vec<PropagationTarget> = serde_json::from_str(json).unwrap();
        Targets::new(Some(&list), Some("o1.ingest.example.com")).unwrap()
    }

    #[test]
    fn texts_are_contained_and_expressions_found() {
        const URL: &str = "https://api.example.com/v1/orders?x=1";
        for (list, expected) in [
            (r#"[]"#, false),
            (r#"[""]"#, true),
            (r#"["example.com"]"#, true),
            (r#"["api.example.com/v1"]"#, true),
            (r#"["Example.com"]"#, false),
            (r#"["example.org"]"#, false),
            (r#"["example.org", "orders"]"#, true),
            (r#"[".*"]"#, false),
            (r#"[{"regex": ".*"}]"#, true),
            (r#"[{"regex": "^https://api\\."}]"#, true),
            (r#"[{"regex": "^api"}]"#, false),
            (r#"[{"regex": "/v[0-9]+/orders"}]"#, true),
            (r#"[{"regex": "(?i)EXAMPLE"}]"#, true),
        ] {
            assert_eq!(targets(list).matches(URL), expected, "{list}");
        }
        assert!(Targets::default().matches(URL) && Targets::default().matches(""));
    }

    #[test]
    fn the_own_server_gets_none() {
        let all = targets(r#"[""]"#);
        for (url, expected) in [
            ("https://o1.ingest.example.com/api/1/envelope/", false),
            ("HTTPS://O1.INGEST.EXAMPLE.COM", false),
            ("https://user@o1.ingest.example.com?x", false),
            ("o1.ingest.example.com/api", false),
            ("https://o2.ingest.example.com/", true),
            ("https://example.com/?u=https://o1.ingest.example.com/", true),
            ("https://o1.ingest.example.com.evil.example/", true),
        ] {
            assert_eq!(all.matches(url), expected, "{url}");
        }
    }

    #[test]
    fn an_expression_that_does_not_compile_is_named_by_its_place() {
        let list = ["a".into(), PropagationTarget::Regex("s3cret(".into())];
        let error = Targets::new(Some(&list), None).unwrap_err();
        assert_eq!(error, TargetError { index: 1 });
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn only_the_two_forms_are_read() {
        for (json, expected) in [
            (r#"{"regex": "a"}"#, Ok(PropagationTarget::Regex("a".into()))),
            (r#""a""#, Ok(PropagationTarget::Contains("a".into()))),
            ("{}", Err("missing field `regex`")),
            (r#"{"regexp": "a"}"#, Err("unknown variant `regexp`, expected `regex`")),
            (r#"{"regex": "a", "regex": "b"}"#, Err("duplicate field `regex`")),
            (r#"{"regex": 1}"#, Err("invalid type: integer `1`, expected a string")),
            ("1", Err("expected a text, or {\"regex\": \"…\"}")),
        ] {
            let read = serde_json::from_str::<PropagationTarget>(json);
            match (read, expected) {
                (Ok(read), expected) => assert_eq!(Ok(read), expected, "{json}"),
                (Err(error), expected) => {
                    let expected = expected.unwrap_err();
                    assert!(error.to_string().contains(expected), "{json}: {error}");
                }
            }
        }
    }
}
