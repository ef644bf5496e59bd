//! Rate limits, in words.

use hotspan::transport::Response;

use crate::advice;
use crate::findings::{Findings, Step};
use crate::veil::Veil;

/// Entries that are told; a server may send any number.
const TOLD_MAX: usize = 8;

pub(crate) fn tell(response: &Response, veil: &Veil, findings: &mut Findings) {
    // Before it is cut: half a key is one, too.
    let hidden = |text: &Option<String>| text.as_deref().map(|text| veil.over(text));
    let header = hidden(&response.rate_limits).unwrap_or_default();
    let mut told: Vec<_> = header.split(',').filter_map(in_words).take(TOLD_MAX).collect();
    if told.is_empty() && response.status == 429 {
        told.push(match hidden(&response.retry_after).map(|text| shown(&text)) {
            Some(after) => format!("nothing is taken until this is over: Retry-After {after}"),
            None => "nothing is taken for 60 s, as the server does not say how long".to_owned(),
        });
    }
    if told.is_empty() {
        findings.ok(Step::Limits, "none");
    } else {
        findings.failed(Step::Limits, told.join("; "), advice::LIMITS);
    }
}

/// `60:transaction;span:organization:quota` as a sentence.
fn in_words(entry: &str) -> Option<String> {
    let mut parts = entry.split(':').map(str::trim);
    let seconds: f64 = parts.next()?.parse().ok()?;
    let categories = parts.next()?;
    if !seconds.is_finite() || seconds <= 0.0 {
        return None;
    }
    let what = match categories {
        "" => "nothing".to_owned(),
        some => {
            let names: Vec<_> =
                some.split(';').map(|name| format!("no {}s", shown(name.trim()))).collect();
            names.join(", ")
        }
    };
    let mut text = format!("{what} for {seconds:.0} s");
    let scope = parts.next().map(shown).unwrap_or_default();
    let reason = parts.next().map(shown).unwrap_or_default();
    match (&*scope, &*reason) {
        ("", "") => {}
        (scope, "") => text += &format!(" (of the {scope})"),
        ("", reason) => text += &format!(" ({reason})"),
        (scope, reason) => text += &format!(" (of the {scope}: {reason})"),
    }
    Some(text)
}

/// A stranger's word, such that it can be shown.
fn shown(text: &str) -> String {
    text.chars().take(40).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_in_words() {
        for (entry, expected) in [
            (
                "60:transaction;span:organization:quota",
                Some("no transactions, no spans for 60 s (of the organization: quota)"),
            ),
            (" 10::key", Some("nothing for 10 s (of the key)")),
            ("10:error", Some("no errors for 10 s")),
            ("10:error::why", Some("no errors for 10 s (why)")),
            ("10", None),
            ("soon:error", None),
            ("inf::key", None),
            ("-1::key", None),
            ("0::key", None),
        ] {
            assert_eq!(in_words(entry).as_deref(), expected, "{entry}");
        }
    }
}
