//! What a person, or with `--json` a program, reads.

use std::fmt::Write;

use comfy_table::{Table, TableStyle};
use serde::Serialize;

use crate::findings::{Findings, Step};
use crate::veil::Veil;

#[derive(Serialize)]
struct Json {
    ok: bool,
    steps: Vec<JsonStep>,
}

#[derive(Serialize)]
struct JsonStep {
    step: Step,
    ok: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

pub(crate) fn as_json(findings: &Findings, veil: &Veil) -> Result<String, String> {
    let steps = findings.0.iter().map(|finding| JsonStep {
        step: finding.step,
        ok: finding.advice.is_none(),
        found: veil.over(&finding.found),
        advice: finding.advice,
    });
    serde_json::to_string(&Json { ok: findings.all_is_well(), steps: steps.collect() })
        .map(|text| text + "\n")
        .map_err(|error| format!("the findings cannot be written as JSON: {error}"))
}

pub(crate) fn as_text(findings: &Findings, veil: &Veil) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    for finding in &findings.0 {
        let verdict = if finding.advice.is_none() { "ok" } else { "failed" };
        table.add_row([finding.step.as_str(), verdict, &veil.over(&finding.found)]);
    }
    let mut text = format!("{}\n", table.trim_fmt());
    for finding in &findings.0 {
        if let Some(advice) = finding.advice {
            // Writing to a text cannot fail.
            let _ = write!(text, "\n{}: {advice}\n", finding.step.as_str());
        }
    }
    if findings.all_is_well() {
        text += "\nAll is well.\n";
    }
    text
}
