//! This machine's clock against the server's.

use std::time::Duration;

use crate::advice;
use crate::findings::{Findings, Step};
use crate::send::Answer;

/// Spans that end this far in the future are not believed.
const SKEW_MAX: Duration = Duration::from_secs(60);

pub(crate) fn compare(answer: &Answer, findings: &mut Findings) {
    let Some(server) = answer.response.date else {
        findings.ok(Step::Clock, "the server does not say what time it is");
        return;
    };
    // The server tells whole seconds, and the answer took its time.
    let (skew, word) = match answer.received.duration_since(server) {
        Ok(behind) => (behind, "ahead of"),
        Err(ahead) => (ahead.duration(), "behind"),
    };
    if skew <= SKEW_MAX {
        findings.ok(Step::Clock, format!("within {} s of the server's", skew.as_secs() + 1));
    } else {
        let found = format!("{} s {word} the server's", skew.as_secs());
        findings.failed(Step::Clock, found, advice::CLOCK);
    }
}
