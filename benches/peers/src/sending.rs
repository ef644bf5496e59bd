//! From end to end: recorded here, sent over loopback, counted by a server in a process of its own.

use std::process::Command;
use std::thread;
use std::time::Duration;

use hotspan_peers::Result;
use hotspan_peers::peer::Mode;
use hotspan_peers::peers::PEERS;
use hotspan_peers::work::{Shape, Work};
use serde_json::Value;

use crate::drive::{Peers, Process, Started};
use crate::results::{Results, Sent, rounded};

/// How often and how long.
#[derive(Clone, Copy)]
pub struct Plan {
    rounds: usize,
    seconds: f64,
    /// What, and how many items of it a second; 0: as many as can be.
    loads: &'static [(Work, u64)],
}

const FEW: Work = Work::USUAL;
const MANY: Work = Work { shape: Shape::Flat(20), ..Work::USUAL };

pub const FULL: Plan =
    Plan { rounds: 3, seconds: 2.0, loads: &[(FEW, 1_000), (FEW, 25_000), (FEW, 0), (MANY, 0)] };
pub const QUICK: Plan = Plan { rounds: 1, seconds: 0.5, loads: &[(FEW, 1_000), (MANY, 0)] };

/// What is on its way when the client has ended.
const ON_ITS_WAY: Duration = Duration::from_millis(200);

pub fn run(peers: &Peers, plan: Plan, results: &mut Results) -> Result<()> {
    let mut server = Process::start(&mut Command::new(peers.binary("server")))?;
    let port: u16 = server.hear()?.trim().parse()?;
    for round in 0..plan.rounds {
        eprintln!("sending, round {} of {}", round + 1, plan.rounds);
        for &(work, a_second) in plan.loads {
            for entry in PEERS {
                let mut peer = match peers.start(entry, Mode::Send(port))? {
                    Started::Ready(peer) => peer,
                    Started::NotOffered(why) => {
                        results.not_offered(entry.name, "sending", why);
                        continue;
                    }
                };
                let told = peer.ask(&format!("send {work} {a_second} {}", plan.seconds))?;
                drop(peer);
                thread::sleep(ON_ITS_WAY);
                let arrived = server.ask("count")?;
                results.sent.push(sent(entry.name, work, a_second, &told, &arrived));
            }
        }
    }
    Ok(())
}

fn sent(peer: &str, work: Work, a_second: u64, told: &Value, found: &Value) -> Sent {
    let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64).unwrap_or_default();
    let seconds = |name: &str| told.get(name).and_then(Value::as_f64).unwrap_or_default();
    let (recorded, arrived) = (number(told, "recorded"), number(found, "spans"));
    let cpu = number(told, "cpu_ns") as f64;
    Sent {
        peer: peer.to_owned(),
        work: work.to_string(),
        a_second,
        recorded,
        arrived,
        lost: recorded.saturating_sub(arrived),
        cpu_ns_arrived_span: (arrived > 0).then(|| rounded(cpu / arrived as f64)),
        recorded_a_second: (recorded as f64 / seconds("seconds_recording")).round(),
        seconds: rounded(seconds("seconds")),
        requests: number(found, "requests"),
        bytes: number(found, "bytes"),
        unread: number(found, "unread"),
        delivered: told.get("delivered").and_then(Value::as_u64),
        complaint: told.get("complaint").and_then(Value::as_str).map(str::to_owned),
    }
}
