//! [`ConfigError`]: what `init` says when it cannot begin.
//!
//! One opaque type: callers ask what they need to know with predicates, people read the message.
//! The message names the field, says what was wrong and what would be right, and never repeats the
//! value: a DSN holds a key, a proxy may hold a password, and errors end up in logs.

use std::error::Error;
use std::{fmt, io};

use crate::dsn::ParseDsnError;
use crate::sampling::RuleError;

/// Why a configuration cannot be used.
///
/// ```
/// # fn show(error: &hotspan::ConfigError) {
/// if error.is_dsn() {
///     eprintln!("check the DSN: {error}");
/// }
/// # }
/// ```
pub struct ConfigError(Box<Inner>);

struct Inner {
    kind: Kind,
    field: Option<&'static str>,
    variable: Option<&'static str>,
}

enum Kind {
    /// The DSN does not parse.
    Dsn(ParseDsnError),
    /// A number or a duration; what would be right.
    OutOfRange(&'static str),
    /// A text that the field cannot hold; what would be right.
    Malformed(&'static str),
    /// A setting that this build has no code for; what it would take.
    Unsupported(&'static str),
    /// What is wrong with the sampling, or one of its rules.
    Sampling(RuleError),
    /// A rules file that could not be read.
    #[cfg_attr(not(feature = "rules-file"), expect(dead_code, reason = "nobody reads one"))]
    RulesFile(io::Error),
    AlreadyInitialised,
    NotRunning,
    Thread(io::Error),
    Memory,
    Transport(Box<dyn Error + Send + Sync>),
}

impl ConfigError {
    /// The field of `Config` that is to blame, if one is. For a field of a rule, `rules`.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        self.0.field
    }

    /// The environment variable that the value came from, if it came from one.
    #[must_use]
    pub fn variable(&self) -> Option<&'static str> {
        self.0.variable
    }

    /// Whether the DSN could not be parsed.
    #[must_use]
    pub fn is_dsn(&self) -> bool {
        matches!(self.0.kind, Kind::Dsn(_))
    }

    /// Whether what says how transactions are sampled was wrong: a rate, a cap, a rule, or the text
    /// of a rules file. The message names the rule and what was expected.
    ///
    /// ```
    /// # fn show(error: &hotspan::ConfigError) {
    /// if error.is_sampling() {
    ///     eprintln!("the old rules stay: {error}");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn is_sampling(&self) -> bool {
        matches!(self.0.kind, Kind::Sampling(_))
    }

    /// The position of the sampling rule that is to blame, from 1, if one is.
    ///
    /// ```
    /// # fn show(error: &hotspan::ConfigError) {
    /// if let Some(position) = error.rule() {
    ///     eprintln!("look at rule {position}");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn rule(&self) -> Option<usize> {
        match &self.0.kind {
            Kind::Sampling(error) => error.rule(),
            _ => None,
        }
    }

    /// Whether a rules file could not be read. [`source`](Error::source) is the system's error.
    ///
    /// ```
    /// # fn show(error: &hotspan::ConfigError) {
    /// if error.is_rules_file() {
    ///     eprintln!("is it there? {error}");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn is_rules_file(&self) -> bool {
        matches!(self.0.kind, Kind::RulesFile(_))
    }

    /// Whether a number or a duration was outside of its bounds.
    #[must_use]
    pub fn is_out_of_range(&self) -> bool {
        match &self.0.kind {
            Kind::OutOfRange(_) => true,
            Kind::Sampling(error) => error.is_out_of_range(),
            _ => false,
        }
    }

    /// Whether a text (a name, a proxy, a variable of the environment) was not of the right form.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(self.0.kind, Kind::Malformed(_))
    }

    /// Whether the setting needs a feature that this build was made without.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self.0.kind, Kind::Unsupported(_))
    }

    /// Whether sampling was to be changed, and is not going on.
    #[must_use]
    pub fn is_not_running(&self) -> bool {
        matches!(self.0.kind, Kind::NotRunning)
    }

    /// Whether the library was running already.
    #[must_use]
    pub fn is_already_initialised(&self) -> bool {
        matches!(self.0.kind, Kind::AlreadyInitialised)
    }

    /// Whether a thread could not be started. [`source`](Error::source) is the system's error.
    #[must_use]
    pub fn is_thread(&self) -> bool {
        matches!(self.0.kind, Kind::Thread(_))
    }

    /// Whether the memory for the rings could not be reserved.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        matches!(self.0.kind, Kind::Memory)
    }

    /// Whether the transport could not be made. [`source`](Error::source) says why.
    #[must_use]
    pub fn is_transport(&self) -> bool {
        matches!(self.0.kind, Kind::Transport(_))
    }

    #[cold]
    fn new(field: Option<&'static str>, kind: Kind) -> Self {
        Self(Box::new(Inner { kind, field, variable: None }))
    }

    #[cold]
    pub(crate) fn dsn(error: ParseDsnError) -> Self {
        Self::new(Some("dsn"), Kind::Dsn(error))
    }

    /// `right` follows "is out of range: ", and must hold nothing of the value.
    #[cold]
    pub(crate) fn out_of_range(field: &'static str, right: &'static str) -> Self {
        Self::new(Some(field), Kind::OutOfRange(right))
    }

    /// `right` follows "is malformed: ", and must hold nothing of the value.
    #[cold]
    pub(crate) fn malformed(field: &'static str, right: &'static str) -> Self {
        Self::new(Some(field), Kind::Malformed(right))
    }

    /// `needed` follows "is not supported by this build: ".
    #[cold]
    pub(crate) fn unsupported(field: &'static str, needed: &'static str) -> Self {
        Self::new(Some(field), Kind::Unsupported(needed))
    }

    /// How transactions are sampled: the error says all, within a rule or not.
    #[cold]
    pub(crate) fn sampling(error: RuleError) -> Self {
        let fields = ["traces_sample_rate", "max_per_second", "floor_per_second", "rules"];
        let field = match error.rule() {
            Some(_) => Some("rules"),
            None => fields.into_iter().find(|field| *field == error.field()),
        };
        Self::new(field, Kind::Sampling(error))
    }

    #[cold]
    #[cfg(feature = "rules-file")]
    pub(crate) fn rules_file(error: io::Error) -> Self {
        Self::new(None, Kind::RulesFile(error))
    }

    #[cold]
    pub(crate) fn not_running() -> Self {
        Self::new(None, Kind::NotRunning)
    }

    #[cold]
    pub(crate) fn already_initialised() -> Self {
        Self::new(None, Kind::AlreadyInitialised)
    }

    #[cold]
    pub(crate) fn thread(error: io::Error) -> Self {
        Self::new(None, Kind::Thread(error))
    }

    #[cold]
    pub(crate) fn memory() -> Self {
        Self::new(Some("ring_bytes"), Kind::Memory)
    }

    /// The error's own text is shown as the source: it must hold no secret.
    #[cold]
    pub(crate) fn transport(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Some("transport"), Kind::Transport(error.into()))
    }

    /// Notes that the value was read from the environment.
    #[cold]
    pub(crate) fn with_variable(mut self, variable: Option<&'static str>) -> Self {
        self.0.variable = variable;
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, field, variable } = &*self.0;
        match (field, variable) {
            // It names its field, in its rule.
            _ if matches!(kind, Kind::Sampling(_)) => {}
            (Some(field), Some(variable)) => write!(f, "{field} (from {variable}) ")?,
            (Some(field), None) => write!(f, "{field} ")?,
            (None, _) => {}
        }
        match kind {
            Kind::Dsn(error) => {
                write!(f, "is malformed: {error}; expected https://PUBLIC_KEY@HOST/PROJECT_ID")
            }
            Kind::OutOfRange(right) => write!(f, "is out of range: {right}"),
            Kind::Malformed(right) => write!(f, "is malformed: {right}"),
            Kind::Sampling(error) => write!(f, "{error}"),
            Kind::RulesFile(_) => f.write_str("the rules file could not be read"),
            Kind::Unsupported(needed) => write!(f, "is not supported by this build: {needed}"),
            Kind::NotRunning => f.write_str(
                "nothing is sampled: the library is not running, or tracing was off when it began",
            ),
            Kind::AlreadyInitialised => f.write_str(
                "hotspan is running already: drop the first guard before starting again",
            ),
            Kind::Thread(_) => f.write_str("a thread could not be started"),
            Kind::Memory => f.write_str("could not be reserved: ask for less"),
            Kind::Transport(_) => f.write_str("could not be made"),
        }
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ConfigError");
        out.field("message", &format_args!("{self}"));
        if let Some(source) = self.source() {
            out.field("source", &format_args!("{source}"));
        }
        out.finish()
    }
}

impl Error for ConfigError {
    /// The foreign error behind this one. What the crate itself found wrong is in the message.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.kind {
            Kind::Thread(error) | Kind::RulesFile(error) => Some(error),
            Kind::Transport(error) => Some(&**error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_field_variable_and_what_would_be_right() {
        let error = ConfigError::dsn(ParseDsnError::Scheme).with_variable(Some("SENTRY_DSN"));
        assert_eq!(
            error.to_string(),
            "dsn (from SENTRY_DSN) is malformed: the scheme is neither http nor https; \
             expected https://PUBLIC_KEY@HOST/PROJECT_ID"
        );
        assert_eq!((error.field(), error.variable()), (Some("dsn"), Some("SENTRY_DSN")));
        assert!(error.is_dsn() && !error.is_out_of_range() && error.source().is_none());

        let error = ConfigError::out_of_range("max_spans", "1 to 10");
        assert_eq!(error.to_string(), "max_spans is out of range: 1 to 10");
        assert!(error.is_out_of_range() && error.variable().is_none());
    }

    #[test]
    fn foreign_errors_are_the_source_and_not_the_message() {
        let error = ConfigError::transport("no such folder");
        assert_eq!(error.to_string(), "transport could not be made");
        assert_eq!(error.source().unwrap().to_string(), "no such folder");
        assert_eq!(
            format!("{error:?}"),
            r#"ConfigError { message: transport could not be made, source: no such folder }"#
        );

        let error = ConfigError::thread(io::ErrorKind::WouldBlock.into());
        assert!(error.is_thread() && error.field().is_none());
        assert!(error.source().unwrap().downcast_ref::<io::Error>().is_some());
    }

    #[test]
    fn rules_speak_for_themselves() {
        let error = RuleError::out_of_range("rate", "expected a number from 0 to 1");
        let error = ConfigError::sampling(error.in_rule(2, Some("orders")));
        let text = r#"rule 3 ("orders"): rate: expected a number from 0 to 1"#;
        assert_eq!(error.to_string(), text);
        assert_eq!((error.field(), error.rule()), (Some("rules"), Some(3)));
        assert!(error.is_sampling() && error.is_out_of_range());

        let error = ConfigError::sampling(RuleError::out_of_range("max_per_second", "r"));
        assert_eq!((error.field(), error.rule()), (Some("max_per_second"), None));
        assert_eq!(error.to_string(), "max_per_second: r");
        let error = ConfigError::sampling(RuleError::new("", "expected JSON"));
        assert_eq!((error.field(), error.is_out_of_range()), (None, false));

        #[cfg(feature = "rules-file")]
        {
            let error = ConfigError::rules_file(io::ErrorKind::NotFound.into());
            assert_eq!(error.to_string(), "the rules file could not be read");
            assert!(error.source().is_some());
        }
    }

    #[test]
    fn each_kind_has_its_predicate() {
        type Predicate = fn(&ConfigError) -> bool;
        let predicates: &[Predicate] = &[
            ConfigError::is_dsn,
            ConfigError::is_out_of_range,
            ConfigError::is_malformed,
            ConfigError::is_unsupported,
            ConfigError::is_already_initialised,
            ConfigError::is_thread,
            ConfigError::is_memory,
            ConfigError::is_transport,
            ConfigError::is_sampling,
            #[cfg(feature = "rules-file")]
            ConfigError::is_rules_file,
            ConfigError::is_not_running,
        ];
        let errors = [
            ConfigError::dsn(ParseDsnError::Host),
            ConfigError::out_of_range("f", "r"),
            ConfigError::malformed("f", "r"),
            ConfigError::unsupported("f", "r"),
            ConfigError::already_initialised(),
            ConfigError::thread(io::ErrorKind::Other.into()),
            ConfigError::memory(),
            ConfigError::transport("t"),
            ConfigError::sampling(RuleError::new("rules", "r")),
            #[cfg(feature = "rules-file")]
            ConfigError::rules_file(io::ErrorKind::NotFound.into()),
            ConfigError::not_running(),
        ];
        for (e, error) in errors.iter().enumerate() {
            for (p, predicate) in predicates.iter().enumerate() {
                assert_eq!(predicate(error), e == p, "{error}");
            }
        }
    }
}
