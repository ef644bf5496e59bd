//! Times: rounds in which all peers and modes take turns, in an order drawn from a seed.
//!
//! Each turn is a new process. What a machine does to one of them, by where its memory lies or by
//! what else runs at that moment, is then spread over all, and the median of the rounds is shown
//! beside the least and the most.

use hotspan_peers::Result;
use hotspan_peers::peer::Mode;
use hotspan_peers::peers::PEERS;
use hotspan_peers::work::Work;
use serde_json::Value;

use crate::drive::{Peers, Started};
use crate::results::{Results, median};

const SEED: u64 = 0x6873_7061_6e73;

/// How often.
#[derive(Clone, Copy)]
pub struct Plan {
    rounds: usize,
    batches: usize,
}

impl Plan {
    pub const FULL: Self = Self { rounds: 9, batches: 5 };
    pub const QUICK: Self = Self { rounds: 3, batches: 3 };
}

pub fn run(
    peers: &Peers,
    plan: Plan,
    modes: &[Mode],
    works: &[Work],
    results: &mut Results,
) -> Result<()> {
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut turns: Vec<_> =
        PEERS.iter().flat_map(|entry| modes.iter().map(move |mode| (entry, *mode))).collect();
    let mut works = works.to_vec();
    for round in 0..plan.rounds {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        rng.shuffle(&mut turns);
        for &(entry, mode) in &turns {
            let mut peer = match peers.start(entry, mode)? {
                Started::Ready(peer) => peer,
                Started::NotOffered(why) => {
                    results.not_offered(entry.name, &mode.to_string(), why);
                    continue;
                }
            };
            rng.shuffle(&mut works);
            for &work in &works {
                let times = peer.ask(&format!("time {work} {}", plan.batches))?;
                let cell = results.cell_mut(entry.name, mode, work);
                cell.walls.extend(median(&numbers(&times, "wall")));
                cell.threads.extend(median(&numbers(&times, "thread")));
                cell.processes.extend(times.get("process").and_then(Value::as_f64));
            }
        }
    }
    Ok(())
}

fn numbers(value: &Value, name: &str) -> Vec<f64> {
    let list = value.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_f64).collect()
}
