//! What a person, or with `--json` a program, reads at the end.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use hotspan::{Count, Reason, Stats};
use serde::Serialize;

use crate::cli::Options;
use crate::outlet::Outlet;
use crate::summary::{OpFigures, Slow, Step, Summary};

/// A run that is over.
pub(crate) struct Run<'a> {
    pub(crate) options: &'a Options,
    pub(crate) elapsed: Duration,
    pub(crate) items: u64,
    pub(crate) failures: u64,
    pub(crate) unlisted: u64,
    pub(crate) interrupted: bool,
    pub(crate) summary: &'a Summary,
    pub(crate) ledger: Stats,
    pub(crate) outlet: &'a Outlet,
}

/// The summary as one JSON object.
#[derive(Serialize)]
struct Json<'a> {
    items: u64,
    failures: u64,
    seconds: f64,
    interrupted: bool,
    sample_rate: f64,
    ops: BTreeMap<&'a str, OpFigures>,
    slowest: &'a [Slow],
    kept: &'a BTreeMap<String, u64>,
    ledger: &'a Stats,
    envelopes: Envelopes<'a>,
}

#[derive(Serialize)]
struct Envelopes<'a> {
    delivered: u64,
    bytes: u64,
    /// The folder or the server they went to.
    to: String,
    /// Why the latest one that was not delivered was not.
    failure: Option<&'a str>,
}

impl Run<'_> {
    pub(crate) fn as_json(&self) -> Result<String, String> {
        let json = Json {
            items: self.items,
            failures: self.failures,
            seconds: self.elapsed.as_secs_f64(),
            interrupted: self.interrupted,
            sample_rate: self.options.sample_rate,
            ops: self.summary.ops(),
            slowest: &self.summary.slowest,
            kept: &self.summary.kept,
            ledger: &self.ledger,
            envelopes: Envelopes {
                delivered: self.summary.envelopes,
                bytes: self.summary.bytes,
                to: self.outlet.to_string(),
                failure: self.summary.failure.as_deref(),
            },
        };
        serde_json::to_string(&json)
            .map(|text| text + "\n")
            .map_err(|error| format!("the summary cannot be written as JSON: {error}"))
    }

    pub(crate) fn as_text(&self) -> String {
        let mut text = String::new();
        match self.write_text(&mut text) {
            Ok(()) => text,
            Err(fmt::Error) => "the summary could not be formatted\n".to_owned(),
        }
    }

    fn write_text(&self, text: &mut String) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        writeln!(
            text,
            "{} in {}, {:.0} a second, by {}; {} failed",
            counted(self.items, "file"),
            duration(self.elapsed.as_micros()),
            self.items as f64 / seconds,
            counted(self.options.workers as u64, "worker"),
            self.failures,
        )?;
        for note in self.notes() {
            writeln!(text, "{note}")?;
        }
        let ops = self.summary.ops();
        if !ops.is_empty() {
            writeln!(text, "\n{}", table(ops).trim_fmt())?;
            writeln!(text, "\nThe slowest, with their steps")?;
            for item in &self.summary.slowest {
                write_slow(text, item)?;
            }
        }
        if self.options.rules.is_some() {
            writeln!(text, "\nWhat the rules kept\n{}", self.kept().trim_fmt())?;
        }
        writeln!(text, "\nThe ledger\n{}", self.ledger)?;
        writeln!(text, "\n{}", self.destination())
    }

    /// What the reader has to know before reading the table.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.interrupted {
            notes
                .push("Ended by Ctrl-C: the files that were still to come are not in here.".into());
        }
        if self.unlisted > 0 {
            let places = counted(self.unlisted, "place");
            notes.push(format!("{places} in the folder could not be listed."));
        }
        let delivered = self.ledger.delivered.transactions;
        if delivered != self.items {
            let mut why = Vec::new();
            if self.options.sample_rate < 1.0 {
                why.push(format!("--sample-rate is {}", self.options.sample_rate));
            }
            if let Some(file) = &self.options.rules {
                why.push(format!("the rules in {} left out the others", file.display()));
            }
            why.push(join(self.lost().filter(|(_, count)| count.transactions > 0)));
            why.retain(|reason| !reason.is_empty());
            notes.push(format!(
                "The table shows {delivered} of {}: {}.",
                counted(self.items, "file"),
                why.join(", ")
            ));
        }
        if self.summary.unreadable > 0 {
            let those = counted(self.summary.unreadable, "transaction");
            notes.push(format!("{those} could not be read back for the table."));
        }
        notes
    }

    /// Files that were kept, by what for, and that were not, by when that was decided.
    fn kept(&self) -> Table {
        let ledger = &self.ledger;
        let mut rows: Vec<_> =
            self.summary.kept.iter().map(|(why, count)| (format!("kept: {why}"), *count)).collect();
        rows.push(("not sampled".into(), ledger.unsampled));
        rows.push(("recorded and discarded".into(), ledger.discarded.transactions));
        let mut table = Table::new();
        table.load_style(TableStyle::new());
        for (what, count) in rows {
            table.add_row([what, count.to_string()]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// What stderr gets: why the exit code is not 0.
    pub(crate) fn complaint(&self) -> Option<String> {
        let undelivered: Vec<_> = self.lost().filter(|&(reason, _)| on_the_way(reason)).collect();
        let count: u64 = undelivered.iter().map(|(_, count)| count.transactions).sum();
        if count == 0 {
            return None;
        }
        let why = match &self.summary.failure {
            Some(failure) => failure.clone(),
            None => join(undelivered),
        };
        let advice = match self.outlet {
            Outlet::Folder { .. } => "is there space left, and is the disk fast enough?",
            Outlet::Server { .. } => "is the server up, and the DSN right?",
        };
        let all = counted(self.ledger.started.transactions, "transaction");
        let to = self.outlet;
        Some(format!("{count} of {all} could not be delivered to {to}: {why}; {advice}"))
    }

    fn lost(&self) -> impl Iterator<Item = (Reason, Count)> {
        self.ledger.dropped.iter().map(|(&reason, &count)| (reason, count))
    }

    fn destination(&self) -> String {
        let (envelopes, size) = (self.summary.envelopes, bytes(self.summary.bytes));
        match self.outlet {
            Outlet::Folder { .. } => {
                format!("{} ({size}) written to {}", counted(envelopes, "envelope"), self.outlet)
            }
            Outlet::Server { .. } => {
                format!("{} ({size}) delivered to {}", counted(envelopes, "envelope"), self.outlet)
            }
        }
    }
}

/// Whether something was recorded, and lost between the recording threads and its destination.
fn on_the_way(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::QueueFull
            | Reason::RateLimited
            | Reason::Refused
            | Reason::SendError
            | Reason::NetworkError
            | Reason::ShutdownDeadline
    )
}

/// `3 lost to ring_full, 2 lost to queue_full`.
fn join(lost: impl IntoIterator<Item = (Reason, Count)>) -> String {
    let parts = lost
        .into_iter()
        .map(|(reason, count)| format!("{} lost to {}", count.transactions, reason.as_str()));
    parts.collect::<Vec<_>>().join(", ")
}

fn table(ops: BTreeMap<&str, OpFigures>) -> Table {
    let mut rows: Vec<_> = ops.into_iter().collect();
    rows.sort_by_key(|(_, figures)| Reverse(figures.total_us));

    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_header(["op", "count", "failures", "p50", "p95", "p99", "max", "total"]);
    for (op, figures) in rows {
        let OpFigures { count, failures, p50_us, p95_us, p99_us, max_us, total_us } = figures;
        let mut row = vec![op.to_owned(), count.to_string(), failures.to_string()];
        row.extend([p50_us, p95_us, p99_us, max_us, total_us].map(|us| duration(us.into())));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The item on a line, and below it its steps, each further in than its parent.
fn write_slow(text: &mut String, item: &Slow) -> fmt::Result {
    let Slow { name, message_id, duration_us, status, steps } = item;
    let took = duration((*duration_us).into());
    writeln!(text, " {took:>8}  {message_id} ({name}){}", unless_ok(status))?;
    for Step { depth, op, duration_us, status } in steps {
        let (took, indent) = (duration((*duration_us).into()), depth * 2);
        writeln!(text, " {:8}  {took:>8}  {:indent$}{op}{}", "", "", unless_ok(status))?;
    }
    Ok(())
}

fn unless_ok(status: &str) -> String {
    if status == "ok" { String::new() } else { format!(": {status}") }
}

/// `1 file`, `2 files`.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Three digits and a unit.
pub(crate) fn duration(micros: u128) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => three_digits(micros as f64 / 1e3, "ms"),
        _ => three_digits(micros as f64 / 1e6, "s"),
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => three_digits(count as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => three_digits(count as f64 / 1e6, "MB"),
        _ => three_digits(count as f64 / 1e9, "GB"),
    }
}

fn three_digits(number: f64, unit: &str) -> String {
    let decimals = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
    format!("{number:.decimals$} {unit}")
}
