//! What was found, step by step.

use serde::Serialize;

/// A part of the way, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Step {
    Dsn,
    Settings,
    Name,
    Connect,
    Tls,
    Answer,
    Clock,
    Limits,
    Delivery,
}

impl Step {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Dsn => "DSN",
            Self::Settings => "settings",
            Self::Name => "name",
            Self::Connect => "connection",
            Self::Tls => "TLS",
            Self::Answer => "answer",
            Self::Clock => "clock",
            Self::Limits => "limits",
            Self::Delivery => "delivery",
        }
    }
}

/// One step that was taken.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) step: Step,
    pub(crate) found: String,
    /// What to do about it; `None`: it went well.
    pub(crate) advice: Option<&'static str>,
}

#[derive(Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    pub(crate) fn ok(&mut self, step: Step, found: impl ToString) {
        self.0.push(Finding { step, found: found.to_string(), advice: None });
    }

    pub(crate) fn failed(&mut self, step: Step, found: impl ToString, advice: &'static str) {
        self.0.push(Finding { step, found: found.to_string(), advice: Some(advice) });
    }

    pub(crate) fn all_is_well(&self) -> bool {
        self.0.iter().all(|finding| finding.advice.is_none())
    }
}
