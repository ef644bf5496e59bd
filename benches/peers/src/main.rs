//! Gives the peers turns, does the sums, prints tables, and writes results and chart.
//!
//! `hotspan-peers [--quick] [--python PYTHON] [--results FILE] [--chart FILE]`; `run` calls it with
//! the paths. Exit code 1: a peer delivered another number of spans than were recorded, or
//! hotspan's books are not exact.

use std::path::PathBuf;
use std::process::ExitCode;

use hotspan_peers::Result;
use hotspan_peers::peer::Mode;
use hotspan_peers::work::{Shape, Work};

mod chart;
mod drive;
mod extent;
mod machine;
mod results;
mod rounds;
mod sending;
mod tables;

use crate::drive::Peers;
use crate::results::Results;

struct Arguments {
    is_quick: bool,
    python: Option<PathBuf>,
    results: Option<PathBuf>,
    chart: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = arguments()?;
    let peers = Peers::beside_this_binary()?;
    let mut results = Results::new(machine::describe(), arguments.is_quick);
    let is_quick = arguments.is_quick;
    let works: Vec<Work> =
        Work::ALL.into_iter().filter(|work| !is_quick || is_few(*work)).collect();
    let modes = [Mode::Sampled, Mode::Unsampled, Mode::Off];

    extent::proofs(&peers, &mut results)?;
    extent::allocations(&peers, &modes, &works, &mut results)?;
    let plan = if is_quick { rounds::Plan::QUICK } else { rounds::Plan::FULL };
    rounds::run(&peers, plan, &modes, &works, &mut results)?;
    sending::run(&peers, if is_quick { sending::QUICK } else { sending::FULL }, &mut results)?;
    if !is_quick {
        extent::instructions(&peers, &modes, &works, &mut results)?;
        extent::memory(&peers, &mut results)?;
    }
    if let Some(python) = &arguments.python {
        extent::python(python, &mut results)?;
    }

    tables::print(&results);
    if let Some(path) = &arguments.results {
        std::fs::write(path, results.to_text())?;
    }
    if let Some(path) = &arguments.chart {
        chart::draw(&results, path)?;
    }
    let failures = results.failures();
    for failure in &failures {
        println!("WRONG: {failure}");
    }
    Ok(ExitCode::from(u8::from(!failures.is_empty())))
}

/// What a quick run looks at.
fn is_few(work: Work) -> bool {
    work == Work::USUAL || (work.shape == Shape::Flat(20) && !work.attributes)
}

fn arguments() -> Result<Arguments> {
    use lexopt::prelude::{Long, ValueExt};

    let mut found = Arguments { is_quick: false, python: None, results: None, chart: None };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        let path = |parser: &mut lexopt::Parser| -> Result<Option<PathBuf>> {
            Ok(Some(PathBuf::from(parser.value()?.string()?)))
        };
        match argument {
            Long("quick") => found.is_quick = true,
            Long("python") => found.python = path(&mut parser)?,
            Long("results") => found.results = path(&mut parser)?,
            Long("chart") => found.chart = path(&mut parser)?,
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(found)
}
