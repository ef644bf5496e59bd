//! What needs no turns, because nothing else on the machine changes it: proofs, allocations,
//! instructions, memory. And another language, for scale.

use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;

use hotspan_peers::Result;
use hotspan_peers::peer::Mode;
use hotspan_peers::peers::PEERS;
use hotspan_peers::work::Work;
use serde_json::Value;

use crate::drive::{Peers, Process, Started};
use crate::results::{Proof, Results};

/// Items of a proof: some of it fits into nobody's first buffer, all of it into everybody's last.
const PROVED: u64 = 190;
const ALLOCATING: u64 = 100;
/// So many and three times as many; the difference is divided.
const COUNTED: u64 = 40;
const MEMORY_SPANS: u64 = 10_000_000;

/// That what is recorded arrives, span by span: in the mode that looks at what arrives, and in the
/// one that is timed where its exporter counts.
pub fn proofs(peers: &Peers, results: &mut Results) -> Result<()> {
    for entry in PEERS {
        for mode in [Mode::Proof, Mode::Sampled] {
            let mut peer = match peers.start(entry, mode)? {
                Started::Ready(peer) => peer,
                Started::NotOffered(why) => {
                    results.not_offered(entry.name, &mode.to_string(), why);
                    continue;
                }
            };
            for work in Work::ALL {
                let told = peer.ask(&format!("prove {work} {PROVED}"))?;
                let number = |name: &str| told.get(name).and_then(Value::as_u64);
                results.proofs.push(Proof {
                    peer: entry.name.to_owned(),
                    mode: mode.to_string(),
                    work: work.to_string(),
                    recorded: number("recorded").unwrap_or_default(),
                    delivered: number("delivered"),
                    complaint: told.get("complaint").and_then(Value::as_str).map(str::to_owned),
                });
            }
        }
    }
    Ok(())
}

pub fn allocations(
    peers: &Peers,
    modes: &[Mode],
    works: &[Work],
    results: &mut Results,
) -> Result<()> {
    for entry in PEERS {
        for &mode in modes {
            let Started::Ready(mut peer) = peers.start_counting(entry, mode)? else { continue };
            for &work in works.iter().filter(|work| work.threads == 1) {
                let told = peer.ask(&format!("allocations {work} {ALLOCATING}"))?;
                let number = |name: &str| told.get(name).and_then(Value::as_f64);
                let cell = results.cell_mut(entry.name, mode, work);
                (cell.allocations, cell.bytes) = (number("allocations"), number("bytes"));
            }
        }
    }
    Ok(())
}

/// Instructions of the recording thread, by callgrind.
pub fn instructions(
    peers: &Peers,
    modes: &[Mode],
    works: &[Work],
    results: &mut Results,
) -> Result<()> {
    eprintln!("counting instructions");
    for entry in PEERS {
        for &mode in modes {
            let out = peers.scratch(&format!("callgrind.{}.{mode}", entry.name))?;
            let counted = count(peers, entry, mode, works, &out, results);
            if let Err(error) = counted {
                results.not_offered(
                    entry.name,
                    &format!("{mode}, instructions"),
                    error.to_string(),
                );
            }
        }
    }
    Ok(())
}

fn count(
    peers: &Peers,
    entry: &hotspan_peers::peers::Entry,
    mode: Mode,
    works: &[Work],
    out: &Path,
    results: &mut Results,
) -> Result<()> {
    let Started::Ready(mut peer) = peers.start_counted(entry, mode, out)? else { return Ok(()) };
    let works: Vec<Work> = works.iter().copied().filter(|work| work.threads == 1).collect();
    for work in &works {
        // The first time makes what is made once.
        for _ in 0..2 {
            peer.ask(&format!("count {work} {COUNTED}"))?;
        }
    }
    drop(peer);
    // A file each time that the function returned, twice in each of two requests.
    for (at, &work) in works.iter().enumerate() {
        let total = |number: usize| -> Result<f64> {
            let text = read_to_string(out.with_added_extension((4 * at + number).to_string()))?;
            let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
            Ok(line.ok_or("callgrind wrote no totals")?.trim().parse()?)
        };
        let difference = total(4)? - total(3)?;
        results.cell_mut(entry.name, mode, work).instructions =
            Some(difference / (2 * COUNTED) as f64);
    }
    Ok(())
}

pub fn memory(peers: &Peers, results: &mut Results) -> Result<()> {
    eprintln!("filling memory");
    for entry in PEERS {
        if let Started::Ready(mut peer) = peers.start(entry, Mode::Sampled)? {
            let told = peer.ask(&format!("memory {MEMORY_SPANS}"))?;
            results.memory.push((entry.name.to_owned(), told));
        }
    }
    Ok(())
}

/// Sentry's SDK for Python: the same item, by a script that answers as a peer does.
pub fn python(python: &Path, results: &mut Results) -> Result<()> {
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/sentry_python.py"));
    let mut process = Process::start(&mut command)?;
    for mode in ["sampled", "unsampled", "off"] {
        let told = process.ask(mode)?;
        results.python.push(told);
    }
    Ok(())
}
