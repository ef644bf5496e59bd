//! What was captured, as text.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write};
use std::time::Duration;

use crate::flush::event::{Measurement, Value};
use crate::sampling::decide::Why;
use crate::shared::ledger::{Count, Reason};

use super::tree::{Captured, Node, Open, Record};

/// See [`Captured::with_times`].
pub(super) struct WithTimes<'a>(pub(super) &'a Captured);

impl Display for WithTimes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        captured(f, self.0, true)
    }
}

impl Display for Captured {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        captured(f, self, false)
    }
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Captured:\n{self}")
    }
}

impl Display for Node<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        line(f, self.record, 0, false)?;
        for node in self.below() {
            line(f, node.record, node.record.depth - self.record.depth, false)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Node:\n{self}")
    }
}

fn captured(f: &mut Formatter<'_>, captured: &Captured, times: bool) -> fmt::Result {
    for record in &captured.records {
        line(f, record, record.depth, times)?;
    }
    for Open { op, description, is_transaction } in &captured.open {
        let kind = if *is_transaction { "open transaction" } else { "open" };
        write!(f, "{kind}:")?;
        names(f, op, description)?;
        f.write_char('\n')?;
    }
    lost(f, &captured.lost)
}

fn lost(f: &mut Formatter<'_>, losses: &BTreeMap<Reason, Count>) -> fmt::Result {
    for (reason, Count { transactions, spans }) in losses {
        let plural = |n: u64| if n == 1 { "" } else { "s" };
        write!(f, "lost: {} {spans} span{}", reason.as_str(), plural(*spans))?;
        if *transactions > 0 {
            write!(f, " in {transactions} transaction{}", plural(*transactions))?;
        }
        f.write_char('\n')?;
    }
    Ok(())
}

fn line(f: &mut Formatter<'_>, record: &Record, depth: usize, times: bool) -> fmt::Result {
    for _ in 0..depth {
        f.write_str("  ")?;
    }
    Line { f, is_first: true }.record(record, times)
}

/// Puts a space between parts, and none in front.
struct Line<'a, 'b> {
    f: &'a mut Formatter<'b>,
    is_first: bool,
}

impl Line<'_, '_> {
    fn part(&mut self, part: impl Display) -> fmt::Result {
        let space = if std::mem::take(&mut self.is_first) { "" } else { " " };
        write!(self.f, "{space}{part}")
    }

    fn record(mut self, record: &Record, times: bool) -> fmt::Result {
        if !record.description.is_empty() || record.op.is_empty() {
            self.part(Name(&record.description))?;
        }
        if !record.op.is_empty() {
            self.part(format_args!("[{}]", Name(&record.op)))?;
        }
        if let Some(status) = record.status {
            self.part(status)?;
        }
        self.object("tags", &record.tags, |value| format!("{value:?}"))?;
        self.object("data", &record.data, Value::to_string)?;
        self.object("measurements", &record.measurements, |Measurement { value, unit }| {
            if unit.is_empty() { value.to_string() } else { format!("{value} {unit}") }
        })?;
        let links = u32::try_from(record.links.len()).unwrap_or(u32::MAX);
        for (title, count) in
            [("links", links), ("lost", record.lost), ("unfinished", record.unfinished)]
        {
            if count > 0 {
                self.part(format_args!("{title}={count}"))?;
            }
        }
        if record.why != Why::Head {
            self.part(format_args!("kept={}", record.why.as_str()))?;
        }
        if times {
            let (start, end) = (Duration::from_nanos(record.start), record.end);
            let took = Duration::from_nanos(end.saturating_sub(record.start));
            self.part(format_args!("at={}.{:09}", start.as_secs(), start.subsec_nanos()))?;
            self.part(format_args!("for={took:?}"))?;
            self.part(format_args!("trace={}", record.trace_id))?;
            self.part(format_args!("span={}", record.span_id))?;
            if let (0, Some(parent)) = (record.depth, record.parent_id) {
                self.part(format_args!("parent={parent}"))?;
            }
        }
        self.f.write_char('\n')
    }

    fn object<T>(
        &mut self,
        title: &str,
        members: &BTreeMap<String, T>,
        text: impl Fn(&T) -> String,
    ) -> fmt::Result {
        if members.is_empty() {
            return Ok(());
        }
        let members: Vec<String> =
            members.iter().map(|(key, value)| format!("{}={}", Name(key), text(value))).collect();
        self.part(format_args!("{title}{{{}}}", members.join(", ")))
    }
}

fn names(f: &mut Formatter<'_>, op: &str, description: &str) -> fmt::Result {
    if op.is_empty() && description.is_empty() {
        return f.write_str(" (name not known)");
    }
    if !description.is_empty() {
        write!(f, " {}", Name(description))?;
    }
    if !op.is_empty() {
        write!(f, " [{}]", Name(op))?;
    }
    Ok(())
}

/// A name as it is; quoted and escaped where it would not be one line, or none at all.
struct Name<'a>(&'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_plain = !self.0.trim().is_empty()
            && self.0.trim() == self.0
            && !self.0.contains(char::is_control);
        if is_plain { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}
