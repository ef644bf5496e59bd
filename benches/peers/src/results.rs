//! What was measured: a cell for each peer, mode and work, and what goes beside them.

use std::collections::BTreeMap;

use hotspan_peers::peer::Mode;
use hotspan_peers::peers::described;
use hotspan_peers::work::Work;
use serde::Serialize;
use serde_json::{Value, json};

/// Everything of one run.
pub struct Results {
    machine: Value,
    is_quick: bool,
    cells: BTreeMap<(String, String, String), Cell>,
    pub proofs: Vec<Proof>,
    pub sent: Vec<Sent>,
    pub memory: Vec<(String, Value)>,
    pub python: Vec<Value>,
    /// Peer, what of it, and why that is not there.
    not_offered: BTreeMap<(String, String), String>,
}

/// One peer, in one mode, at one work. Times are nanoseconds of an item.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cell {
    /// The medians of the rounds.
    #[serde(skip)]
    pub walls: Vec<f64>,
    #[serde(skip)]
    pub threads: Vec<f64>,
    #[serde(skip)]
    pub processes: Vec<f64>,
    pub instructions: Option<f64>,
    pub allocations: Option<f64>,
    pub bytes: Option<f64>,
}

/// What was recorded, and what the exporter counted.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    pub peer: String,
    pub mode: String,
    pub work: String,
    pub recorded: u64,
    pub delivered: Option<u64>,
    pub complaint: Option<String>,
}

/// One run from end to end.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    pub peer: String,
    pub work: String,
    /// Items a second; 0: as many as can be.
    pub a_second: u64,
    pub recorded: u64,
    pub arrived: u64,
    pub lost: u64,
    pub cpu_ns_arrived_span: Option<f64>,
    pub recorded_a_second: f64,
    pub seconds: f64,
    pub requests: u64,
    pub bytes: u64,
    pub unread: u64,
    /// What the peer's own books say was delivered.
    pub delivered: Option<u64>,
    pub complaint: Option<String>,
}

impl Results {
    pub fn new(machine: Value, is_quick: bool) -> Self {
        Self {
            machine,
            is_quick,
            cells: BTreeMap::new(),
            proofs: Vec::new(),
            sent: Vec::new(),
            memory: Vec::new(),
            python: Vec::new(),
            not_offered: BTreeMap::new(),
        }
    }

    pub fn cell_mut(&mut self, peer: &str, mode: Mode, work: Work) -> &mut Cell {
        self.cells.entry((peer.to_owned(), mode.to_string(), work.to_string())).or_default()
    }

    pub fn cell(&self, peer: &str, mode: Mode, work: Work) -> Option<&Cell> {
        self.cells.get(&(peer.to_owned(), mode.to_string(), work.to_string()))
    }

    pub fn not_offered(&mut self, peer: &str, what: &str, why: String) {
        self.not_offered.insert((peer.to_owned(), what.to_owned()), why);
    }

    pub fn reasons(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.not_offered.iter().map(|((peer, what), why)| (&**peer, &**what, &**why))
    }

    /// What makes all other figures worthless.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for proof in &self.proofs {
            let Proof { peer, mode, work, recorded, delivered, complaint } = proof;
            if mode == "proof" && delivered.is_none() {
                failures.push(format!("{peer}, {work}: nothing counts in its proof"));
            }
            // An exporter that does not count when it is timed has that proof.
            if delivered.is_some_and(|delivered| delivered != *recorded) {
                failures.push(format!(
                    "{peer}, {mode}, {work}: {recorded} spans recorded, {delivered:?} delivered"
                ));
            }
            if let Some(complaint) = complaint {
                failures.push(format!("{peer}, {mode}, {work}: {complaint}"));
            }
        }
        for told in &self.python {
            if told.get("recorded") != told.get("delivered") {
                failures.push(format!("sentry-python: {told}"));
            }
        }
        for sent in &self.sent {
            if sent.unread > 0 {
                failures.push(format!("{}: {} bodies could not be read", sent.peer, sent.unread));
            }
            if sent.delivered.is_some_and(|delivered| delivered != sent.arrived) {
                let (peer, delivered, arrived) = (&sent.peer, sent.delivered, sent.arrived);
                failures
                    .push(format!("{peer}: {delivered:?} spans by its books, {arrived} arrived"));
            }
            if let Some(complaint) = &sent.complaint {
                failures.push(format!("{}, sending: {complaint}", sent.peer));
            }
        }
        failures
    }

    pub fn to_text(&self) -> String {
        let Value::Object(parts) = self.to_json() else { return String::new() };
        let parts: Vec<String> =
            parts.iter().map(|(name, part)| format!("\"{name}\":{}", lines(part))).collect();
        format!("{{\n{}\n}}\n", parts.join(",\n"))
    }

    fn to_json(&self) -> Value {
        let cells: Vec<Value> = self
            .cells
            .iter()
            .map(|((peer, mode, work), cell)| {
                let spans = work.parse::<Work>().map_or(1, Work::spans) as f64;
                json!({
                    "peer": peer, "mode": mode, "work": work, "spans": spans,
                    "wall_ns_item": spread(&cell.walls),
                    "wall_ns_span": median(&cell.walls).map(|ns| rounded(ns / spans)),
                    "thread_cpu_ns_item": median(&cell.threads).map(rounded),
                    "process_cpu_ns_item": median(&cell.processes).map(rounded),
                    "instructions_item": cell.instructions.map(rounded),
                    "allocations_item": cell.allocations.map(rounded),
                    "allocated_bytes_item": cell.bytes.map(rounded),
                })
            })
            .collect();
        let reasons: Vec<Value> = self
            .reasons()
            .map(|(peer, what, why)| json!({ "peer": peer, "what": what, "why": why }))
            .collect();
        let memory: Vec<Value> = self
            .memory
            .iter()
            .map(|(peer, value)| json!({ "peer": peer, "figures": value }))
            .collect();
        json!({
            "machine": self.machine, "quick": self.is_quick, "peers": described(),
            "cells": cells, "proofs": self.proofs, "sent": self.sent, "memory": memory,
            "python": self.python, "not_there": reasons,
        })
    }
}

/// JSON with a line for each entry: a diff shows which figures are others.
fn lines(value: &Value) -> String {
    let entries: Vec<String> = match value {
        Value::Object(map) => {
            map.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect()
        }
        Value::Array(list) => list.iter().map(Value::to_string).collect(),
        other => return other.to_string(),
    };
    let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    format!("{open}\n{}\n{close}", entries.join(",\n"))
}

/// Median, least and most of the rounds.
fn spread(values: &[f64]) -> Value {
    let (least, most) = (
        values.iter().copied().reduce(f64::min).map(rounded),
        values.iter().copied().reduce(f64::max).map(rounded),
    );
    json!({ "median": median(values).map(rounded), "min": least, "max": most })
}

pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// To a tenth: nothing here is known better than that.
pub fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
