//! The tables, as they are printed.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use hotspan_peers::peer::Mode;
use hotspan_peers::peers::PEERS;
use hotspan_peers::work::Work;
use serde_json::Value;

use crate::results::{Cell, Results, Sent, median};

const OURS: &str = "hotspan";
const FLOOR: &str = "clock";

/// What of a cell is shown.
type Figure = fn(&Cell) -> Option<f64>;

pub fn print(results: &Results) {
    usual(results);
    for mode in [Mode::Sampled, Mode::Unsampled, Mode::Off] {
        matrix(results, mode);
    }
    sent(results);
    memory(results);
    python(results);
    proofs(results);
    println!("Not there:");
    for (peer, what, why) in results.reasons() {
        println!("  {peer}, {what}: {why}");
    }
    println!("\nWhere another is ahead of hotspan:");
    for line in ahead(results) {
        println!("  {line}");
    }
}

/// The item of the chart, in all figures.
fn usual(results: &Results) {
    println!("\nRecorded: a root with three children, attributes ({})", Work::USUAL);
    let mut table = table(&[
        "peer",
        "ns an item",
        "min",
        "max",
        "ns a span",
        "of the clock",
        "thread CPU",
        "process CPU",
        "instructions",
        "allocations",
        "bytes",
    ]);
    let floor = cell(results, FLOOR, Mode::Sampled, Work::USUAL).and_then(wall);
    for entry in PEERS {
        let Some(cell) = cell(results, entry.name, Mode::Sampled, Work::USUAL) else { continue };
        let wall = wall(cell);
        let ratio = wall.zip(floor).map(|(wall, floor)| format!("{:.1}", wall / floor));
        table.add_row([
            entry.name.to_owned(),
            whole(wall),
            whole(cell.walls.iter().copied().reduce(f64::min)),
            whole(cell.walls.iter().copied().reduce(f64::max)),
            whole(wall.map(|wall| wall / Work::USUAL.spans() as f64)),
            ratio.unwrap_or_default(),
            whole(median(&cell.threads)),
            whole(median(&cell.processes)),
            whole(cell.instructions),
            tenth(cell.allocations),
            whole(cell.bytes),
        ]);
    }
    show(table, 1);
}

/// Every work of a mode, nanoseconds and instructions of an item.
fn matrix(results: &Results, mode: Mode) {
    for (what, of) in [
        ("ns an item", wall as Figure),
        ("instructions an item", |cell| cell.instructions),
        ("allocations an item", |cell| cell.allocations),
        ("ns of processor time of the whole process, an item", |cell| median(&cell.processes)),
    ] {
        let works: Vec<Work> = Work::ALL
            .into_iter()
            .filter(|&work| {
                PEERS.iter().any(|entry| {
                    cell(results, entry.name, mode, work).is_some_and(|cell| of(cell).is_some())
                })
            })
            .collect();
        if works.is_empty() {
            continue;
        }
        println!("\n{mode}: {what}");
        let names: Vec<String> =
            works.iter().map(|work| work.to_string().replace('-', " ")).collect();
        let header: Vec<&str> =
            std::iter::once("peer").chain(names.iter().map(String::as_str)).collect();
        let mut table = table(&header);
        for entry in PEERS {
            let row: Vec<Option<f64>> = works
                .iter()
                .map(|&work| cell(results, entry.name, mode, work).and_then(of))
                .collect();
            if row.iter().any(Option::is_some) {
                let figures = row.into_iter().map(tenth);
                table.add_row(std::iter::once(entry.name.to_owned()).chain(figures));
            }
        }
        show(table, 1);
    }
}

/// The medians of the rounds, for each load in the order in which they were tried.
fn sent(results: &Results) {
    println!("\nSent to a server on loopback; medians");
    let mut table = table(&[
        "item",
        "a second",
        "peer",
        "spans recorded",
        "arrived",
        "lost",
        "of them",
        "recorded a second",
        "ns of CPU an arrived span",
        "requests",
        "bytes an arrived span",
    ]);
    let mut shown = Vec::new();
    for one in &results.sent {
        let load = (&one.work, one.a_second, &one.peer);
        if shown.contains(&load) {
            continue;
        }
        shown.push(load);
        let is_same = |run: &&Sent| (&run.work, run.a_second, &run.peer) == load;
        let runs: Vec<&Sent> = results.sent.iter().filter(is_same).collect();
        let of = |figure: fn(&Sent) -> Option<f64>| {
            median(&runs.iter().filter_map(|run| figure(run)).collect::<Vec<_>>())
        };
        let lost = |run: &Sent| Some(run.lost as f64 / run.recorded.max(1) as f64 * 100.0);
        let bytes = |run: &Sent| (run.arrived > 0).then(|| run.bytes as f64 / run.arrived as f64);
        table.add_row([
            one.work.replace('-', " "),
            if one.a_second == 0 { "flat out".to_owned() } else { one.a_second.to_string() },
            one.peer.clone(),
            whole(of(|run| Some(run.recorded as f64))),
            whole(of(|run| Some(run.arrived as f64))),
            whole(of(|run| Some(run.lost as f64))),
            of(lost).map_or_else(String::new, |percent| format!("{percent:.1} %")),
            whole(of(|run| Some(run.recorded_a_second))),
            whole(of(|run| run.cpu_ns_arrived_span)),
            whole(of(|run| Some(run.requests as f64))),
            whole(of(bytes)),
        ]);
    }
    show(table, 3);
}

fn memory(results: &Results) {
    if results.memory.is_empty() {
        return;
    }
    println!("\nResident memory, MiB, ten million spans without a pause");
    let mut table =
        table(&["peer", "spans", "before", "after the last", "at rest", "stopped at", "exported"]);
    for (peer, told) in &results.memory {
        let number = |name: &str| told.get(name).and_then(Value::as_f64);
        let mib = |name: &str| tenth(number(name).map(|kib| kib / 1024.0));
        table.add_row([
            peer.clone(),
            whole(number("recorded")),
            mib("before_kib"),
            mib("flat_out_kib"),
            mib("after_kib"),
            told.get("stopped_at").and_then(Value::as_str).unwrap_or_default().to_owned(),
            whole(number("delivered")),
        ]);
    }
    show(table, 1);
}

fn python(results: &Results) {
    for told in &results.python {
        println!("\nsentry-python, the same item: {told}");
    }
}

fn proofs(results: &Results) {
    let counted = results.proofs.iter().filter(|proof| proof.delivered.is_some()).count();
    let recorded: u64 = results.proofs.iter().map(|proof| proof.recorded).sum();
    println!(
        "\n{counted} of {} proofs were counted by an exporter; {recorded} spans recorded in them\n",
        results.proofs.len(),
    );
}

/// Cells in which a peer's figure is below ours. The clock is no peer.
pub fn ahead(results: &Results) -> Vec<String> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let figures: [(&str, Figure); 5] = [
        ("ns", wall),
        ("ns of thread CPU", |cell| median(&cell.threads)),
        ("ns of process CPU", |cell| median(&cell.processes)),
        ("instructions", |cell| cell.instructions),
        ("allocations", |cell| cell.allocations),
    ];
    let peers = || PEERS.iter().filter(|entry| ![FLOOR, OURS, "hotspan-str"].contains(&entry.name));
    for mode in [Mode::Sampled, Mode::Unsampled, Mode::Off] {
        for work in Work::ALL {
            let Some(ours) = cell(results, OURS, mode, work) else { continue };
            for (what, of) in figures {
                for entry in peers() {
                    let theirs = cell(results, entry.name, mode, work).and_then(of);
                    if let Some((theirs, ours)) = theirs.zip(of(ours))
                        && theirs < ours
                    {
                        let key = format!("{mode}, {what}, {}", entry.name);
                        let at = format!("{work} {theirs:.1} for {ours:.1}");
                        found.entry(key).or_default().push(at);
                    }
                }
            }
        }
    }
    found.into_iter().map(|(key, list)| format!("{key}: {}", list.join("; "))).collect()
}

fn cell<'a>(results: &'a Results, peer: &str, mode: Mode, work: Work) -> Option<&'a Cell> {
    results.cell(peer, mode, work)
}

fn wall(cell: &Cell) -> Option<f64> {
    median(&cell.walls)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_header(header.to_vec());
    table
}

/// Figures stand at the right, behind so many columns of words.
fn show(mut table: Table, words: usize) {
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

fn whole(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.0}"))
}

fn tenth(value: Option<f64>) -> String {
    match value {
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.1}"),
        None => String::new(),
    }
}
