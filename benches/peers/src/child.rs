//! A process of one peer in one mode, which does what its parent writes to it, a line a request,
//! and answers each with a line of JSON.
//!
//! The first line is its own: whether the peer is there. Times are taken around batches, and
//! between batches, untimed, the peer settles: nobody's buffer overflows, since losing a span costs
//! less than recording it. What the background does meanwhile is in the process's time.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use cpu_time::{ProcessTime, ThreadTime};
use serde_json::{Value, json};

use crate::Result;
use crate::peer::{Absent, Mode, Peer};
use crate::work::Work;

/// Counts the allocations, and their bytes, that a function makes on this thread.
pub type Counter = fn(&mut dyn FnMut()) -> (u64, u64);

/// Spans of a batch that is recorded: no peer's buffer is smaller.
const BATCH: u64 = 4_000;
/// And of one that is not, which takes so little that the clock would matter.
const BATCH_UNRECORDED: u64 = 40_000;
/// No more than this is filled to see what memory is kept.
const MEMORY_MAX: u64 = 2 << 30;
const MEMORY_TIME: Duration = Duration::from_secs(60);

/// Serves the parent until it has no more to ask.
///
/// # Errors
/// What the parent wrote makes no sense, or it is gone.
pub fn serve<P: Peer>(mode: Mode, counter: Option<Counter>) -> Result<()> {
    let mut peer = match P::start(mode) {
        Ok(peer) => Some(peer),
        Err(Absent::NotOffered(why)) => return answer(&json!({ "not_offered": why })),
        Err(Absent::Failed(error)) => return Err(error),
    };
    answer(&json!({ "ready": true }))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let request: Vec<&str> = line.split(' ').collect();
        let there = peer.as_ref().ok_or("the peer has ended");
        let result = match *request.as_slice() {
            ["time", work, batches] => time(there?, mode, work.parse()?, batches.parse()?),
            ["allocations", work, items] => {
                let counter = counter.ok_or("this process does not count")?;
                allocations(there?, counter, work.parse()?, items.parse()?)
            }
            ["count", work, items] => count(there?, work.parse()?, items.parse()?),
            ["prove", work, items] => prove(there?, work.parse()?, items.parse()?),
            ["memory", spans] => memory(there?, spans.parse()?)?,
            ["send", work, a_second, seconds] => {
                let peer = peer.take().ok_or("the peer has ended")?;
                let time = Duration::from_secs_f64(seconds.parse()?);
                send(peer, work.parse()?, a_second.parse()?, time)
            }
            _ => return Err(format!("no such request: {line}").into()),
        };
        answer(&result)?;
    }
    Ok(())
}

fn answer(value: &Value) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{value}")?;
    Ok(stdout.flush()?)
}

/// A function of its own, so that callgrind finds it.
#[inline(never)]
fn measured_items<P: Peer>(peer: &P, work: Work, items: u64) {
    let work = black_box(work);
    for n in 0..items {
        peer.item(work, n);
    }
}

/// Nanoseconds of an item, batch by batch: by the wall clock, of this thread, of the process.
fn time<P: Peer>(peer: &P, mode: Mode, work: Work, batches: usize) -> Value {
    let spans = if mode == Mode::Sampled { BATCH } else { BATCH_UNRECORDED };
    // Two threads share a buffer, with some peers.
    let items = (spans / work.spans() / work.threads as u64).max(1);
    let warm = items / 4;
    on_threads(peer, work, items, warm);
    peer.settle();
    let (mut walls, mut threads) = (Vec::new(), Vec::new());
    let process = ProcessTime::now();
    for _ in 0..batches {
        let (wall, thread) = on_threads(peer, work, items, warm);
        walls.push(wall / items as f64);
        threads.push(thread / items as f64);
        peer.settle();
    }
    let all = batches as u64 * (items + warm) * work.threads as u64;
    let process = process.elapsed().as_nanos() as f64 / all as f64;
    json!({ "wall": walls, "thread": threads, "process": process })
}

/// Nanoseconds of the batch, by the wall clock and of the thread: the mean where there are two.
fn on_threads<P: Peer>(peer: &P, work: Work, items: u64, warm: u64) -> (f64, f64) {
    if work.threads == 1 {
        return batch(peer, work, items, warm, || ());
    }
    let barrier = Barrier::new(work.threads);
    std::thread::scope(|scope| {
        let one = || batch(peer, work, items, warm, || _ = barrier.wait());
        let threads: Vec<_> = (0..work.threads).map(|_| scope.spawn(one)).collect();
        let times = threads.into_iter().map(|thread| thread.join().unwrap_or_default());
        let sum = times.fold((0.0, 0.0), |sum, time| (sum.0 + time.0, sum.1 + time.1));
        (sum.0 / work.threads as f64, sum.1 / work.threads as f64)
    })
}

/// Awake and warm, as in a loop; the wait for the background was long.
fn batch<P: Peer>(peer: &P, work: Work, items: u64, warm: u64, ready: impl Fn()) -> (f64, f64) {
    measured_items(peer, work, warm);
    ready();
    let (thread, wall) = (ThreadTime::now(), Instant::now());
    measured_items(peer, work, items);
    let (wall, thread) = (wall.elapsed(), thread.elapsed());
    (wall.as_nanos() as f64, thread.as_nanos() as f64)
}

/// The second run counts: the first makes what is made once.
fn allocations<P: Peer>(peer: &P, counter: Counter, work: Work, items: u64) -> Value {
    let mut result = (0, 0);
    for _ in 0..2 {
        result = counter(&mut || measured_items(peer, work, items));
        peer.settle();
    }
    let each = |sum: u64| sum as f64 / items as f64;
    json!({ "allocations": each(result.0), "bytes": each(result.1) })
}

/// For callgrind, which looks from outside: so many items, and three times as many.
fn count<P: Peer>(peer: &P, work: Work, items: u64) -> Value {
    for items in [items, 3 * items] {
        measured_items(peer, work, items);
        counted_items();
        peer.settle();
    }
    json!({})
}

/// Callgrind writes what it counted when it comes here.
#[inline(never)]
fn counted_items() {
    black_box(());
}

/// What was recorded, and what the exporter counted.
fn prove<P: Peer>(peer: &P, work: Work, items: u64) -> Value {
    let before = peer.delivered();
    on_threads(peer, work, items, 0);
    peer.settle();
    let delivered = peer.delivered().zip(before).map(|(after, before)| after - before);
    let recorded = items * work.spans() * work.threads as u64;
    json!({ "recorded": recorded, "delivered": delivered, "complaint": peer.complaint() })
}

/// Resident memory before and after so many spans without a pause, in KiB.
fn memory<P: Peer>(peer: &P, spans: u64) -> Result<Value> {
    let before = resident()?;
    let begun = Instant::now();
    let items = spans / Work::USUAL.spans();
    let mut done = 0;
    let mut stopped = None;
    while done < items && stopped.is_none() {
        let some = (items - done).min(10_000);
        measured_items(peer, Work::USUAL, some);
        done += some;
        if resident()? << 10 > MEMORY_MAX {
            stopped = Some("2 GiB");
        } else if begun.elapsed() > MEMORY_TIME {
            stopped = Some("a minute");
        }
    }
    let flat_out = resident()?;
    if stopped.is_none() {
        peer.settle();
    }
    let (after, recorded) = (resident()?, done * Work::USUAL.spans());
    Ok(json!({
        "before_kib": before, "flat_out_kib": flat_out, "after_kib": after,
        "recorded": recorded, "stopped_at": stopped, "delivered": peer.delivered(),
    }))
}

fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    Ok(kib.ok_or("the system does not say what memory is resident")?.parse()?)
}

/// Records for so long, at most so many items a second (0: as many as can be), and ends the peer.
fn send<P: Peer>(peer: P, work: Work, a_second: u64, time: Duration) -> Value {
    let (process, begun) = (ProcessTime::now(), Instant::now());
    let mut items = 0;
    loop {
        let elapsed = begun.elapsed();
        if elapsed >= time {
            break;
        }
        let due = match a_second {
            0 => items + 100,
            _ => (elapsed.as_secs_f64() * a_second as f64) as u64,
        };
        measured_items(&peer, work, due - items);
        items = due;
        if a_second > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let recording = begun.elapsed();
    peer.settle();
    let (delivered, complaint) = (peer.booked(), peer.complaint());
    drop(peer);
    json!({
        "recorded": items * work.spans(),
        "seconds_recording": recording.as_secs_f64(),
        "seconds": begun.elapsed().as_secs_f64(),
        "cpu_ns": process.elapsed().as_nanos() as u64,
        "delivered": delivered,
        "complaint": complaint,
    })
}
