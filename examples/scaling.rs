//! Whether a span costs the same however many there are: as the transaction grows, as names grow,
//! as threads grow, as the process ages.
//!
//! `cargo run --release --example scaling -- [children] [names] [threads] [age]`
//!
//! All four unless some are named; `scripts/scaling` adds what the same takes in instructions.
//! Figures are nanoseconds of processor time for each span: `recording` on the thread that records,
//! `flushing` on the flusher's thread, up to finished envelopes that are thrown away. Sizes take
//! turns, and the median of the rounds is shown. Nothing may be lost, or the program fails: a lost
//! span is cheap.

#![expect(clippy::print_stdout, reason = "a program talks")]

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use cpu_time::ThreadTime;
use fastrand::Rng;
use hotspan::{Config, Delivery, Guard, Name, start_child, start_transaction, stats};

type Measurement = fn(&Guard) -> Result<()>;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CHILDREN: [u32; 8] = [0, 1, 3, 10, 30, 100, 300, 1000];
const NAMES: [usize; 6] = [1, 10, 100, 1000, 10_000, 100_000];
const THREADS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
const ROUNDS: usize = 11;
/// Spans between two waits for the flusher: the rings hold them.
const BURST: u32 = 60_000;
/// Children of an item where it does not matter.
const USUAL: u32 = 20;
/// Of the process, in spans, and how often it is looked at.
const AGE: u64 = 100_000_000;
const LOOKS: u64 = 10;
const WAIT: Duration = Duration::from_secs(60);

static OP: Name = Name::new("queue.process");
static NAME: Name = Name::new("orders");
static CHILD_OP: Name = Name::new("db.query");
static CHILD: Name = Name::new("SELECT * FROM orders WHERE id = $1");

fn item(children: u32) {
    let _transaction = start_transaction(&OP, &NAME);
    for _ in 0..children {
        drop(black_box(start_child(&CHILD_OP, &CHILD)));
    }
}

/// A few spans of each name in turn, in no order that a processor could guess.
fn named(names: &[&str], rng: &mut Rng) {
    let _transaction = start_transaction(&OP, &NAME);
    for _ in 0..USUAL {
        let name = rng.choice(names).copied().unwrap_or_default();
        drop(black_box(start_child(&CHILD_OP, black_box(name))));
    }
}

/// What one size cost.
#[derive(Clone, Debug, Default)]
struct Costs {
    recording: Vec<f64>,
    flushing: Vec<f64>,
}

impl Costs {
    fn medians(&self) -> [f64; 2] {
        [&self.recording, &self.flushing].map(|values| {
            let mut values = values.clone();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        })
    }
}

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, what, size, times] = wanted.as_slice()
        && mode == "--count"
    {
        return count(what, size.parse()?, times.parse()?);
    }
    let all: [(&str, Measurement); 4] =
        [("children", children), ("names", names), ("threads", threads), ("age", age)];
    if !wanted.iter().all(|word| all.iter().any(|(name, _)| name == word)) {
        return Err("usage: scaling [children] [names] [threads] [age]".into());
    }
    let guard = start()?;
    for (name, measure) in all {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            measure(&guard)?;
        }
    }
    drop(guard);
    let stats = stats();
    stats.check()?;
    let lost = stats.dropped_in_all().spans;
    if lost > 0 {
        return Err(format!("{lost} spans were lost:\n{stats}").into());
    }
    println!("{} spans delivered, none lost", stats.delivered.spans);
    Ok(())
}

fn start() -> Result<Guard> {
    Ok(hotspan::init(Config {
        transport: Delivery::Null,
        traces_sample_rate: Some(1.0),
        // Room for what is recorded between two waits.
        queue_bytes: 64 << 20,
        queue_envelopes: 1 << 20,
        send_client_reports: false,
        ..Config::default()
    })?)
}

/// Spans that are recorded so many times, for a tool that counts instructions from outside.
const COUNTED: u32 = 20_000;

fn count(what: &str, size: u32, times: u32) -> Result<()> {
    let guard = start()?;
    let texts = texts(size as usize);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    if what == "names" {
        meet(&guard, &texts)?;
    }
    let mut rng = Rng::with_seed(7);
    for _ in 0..times {
        match what {
            "children" => count_children(size),
            "names" => count_names(&texts, &mut rng),
            _ => return Err("usage: scaling --count children|names SIZE TIMES".into()),
        }
        settle(&guard)?;
    }
    Ok(())
}

#[inline(never)]
fn count_children(children: u32) {
    (0..COUNTED / (children + 1)).for_each(|_| item(children));
}

#[inline(never)]
fn count_names(texts: &[&str], rng: &mut Rng) {
    (0..COUNTED / (USUAL + 1)).for_each(|_| named(texts, rng));
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("SELECT * FROM orders_{n:06} WHERE id = $1")).collect()
}

/// Uses each once, so that none is met for the first time later.
fn meet(guard: &Guard, texts: &[&str]) -> Result<()> {
    for texts in texts.chunks(BURST as usize / 2) {
        for text in texts {
            let _transaction = start_transaction(&OP, &NAME);
            drop(start_child(&CHILD_OP, *text));
        }
        settle(guard)?;
    }
    Ok(())
}

/// Records what makes up about a burst, and waits for its delivery: nanoseconds of this thread and
/// of the flusher's.
fn burst(guard: &Guard, items: u32, mut item: impl FnMut()) -> Result<[f64; 2]> {
    let before = cpu_of("hotspan-flush")?;
    let begin = ThreadTime::now();
    (0..items).for_each(|_| item());
    let recording = begin.elapsed().as_nanos() as f64;
    settle(guard)?;
    Ok([recording, cpu_of("hotspan-flush")? - before])
}

fn settle(guard: &Guard) -> Result<()> {
    if guard.flush(WAIT).complete { Ok(()) } else { Err("not delivered in time".into()) }
}

fn children(guard: &Guard) -> Result<()> {
    let mut costs = vec![Costs::default(); CHILDREN.len()];
    // The first round warms up.
    for round in 0..=ROUNDS {
        for (children, costs) in CHILDREN.into_iter().zip(&mut costs) {
            let items = BURST / (children + 1) / if children == 0 { 4 } else { 1 };
            let [recording, flushing] = burst(guard, items, || item(children))?;
            if round > 0 {
                costs.recording.push(recording / f64::from(items));
                costs.flushing.push(flushing / f64::from(items));
            }
        }
    }
    println!(
        "as the transaction grows: ns for a transaction, and for each child beyond its root\n"
    );
    let mut table = table(&["children", "recording", "a child", "flushing", "a child"]);
    let [root, root_flushed] = costs.first().map(Costs::medians).unwrap_or_default();
    for (children, costs) in CHILDREN.into_iter().zip(&costs) {
        let [recording, flushing] = costs.medians();
        let each = |all: f64, root: f64| match children {
            0 => String::new(),
            _ => format!("{:.1}", (all - root) / f64::from(children)),
        };
        table.add_row([
            children.to_string(),
            format!("{recording:.0}"),
            each(recording, root),
            format!("{flushing:.0}"),
            each(flushing, root_flushed),
        ]);
    }
    println!("{table}\n");
    Ok(())
}

fn names(guard: &Guard) -> Result<()> {
    let mut costs = vec![Costs::default(); NAMES.len()];
    let most = NAMES.last().copied().unwrap_or_default();
    let texts = texts(most);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut rng = Rng::with_seed(7);
    let items = BURST / (USUAL + 1);
    for round in 0..=ROUNDS {
        for (count, costs) in NAMES.into_iter().zip(&mut costs) {
            let texts = texts.get(..count).unwrap_or_default();
            if round == 0 {
                meet(guard, texts)?;
            }
            let [recording, flushing] = burst(guard, items, || named(texts, &mut rng))?;
            if round > 0 {
                let spans = f64::from(items * (USUAL + 1));
                costs.recording.push(recording / spans);
                costs.flushing.push(flushing / spans);
            }
        }
    }
    println!("as names grow: ns for a span, of descriptions that are texts, drawn at random\n");
    let mut table = table(&["names", "recording", "flushing"]);
    for (count, costs) in NAMES.into_iter().zip(&costs) {
        let [recording, flushing] = costs.medians();
        table.add_row([count.to_string(), format!("{recording:.1}"), format!("{flushing:.1}")]);
    }
    let names = stats().names;
    println!(
        "{table}\n{} names in the table, {} uses found no room\n",
        names.entries, names.turned_away
    );
    Ok(())
}

fn threads(guard: &Guard) -> Result<()> {
    println!("as threads grow: ns for a span, over all threads\n");
    let mut table = table(&["threads", "recording", "flushing"]);
    let mut costs = vec![Costs::default(); THREADS.len()];
    for round in 0..=ROUNDS {
        for (count, costs) in THREADS.into_iter().zip(&mut costs) {
            let [recording, flushing] = together(guard, count)?;
            if round > 0 {
                costs.recording.push(recording);
                costs.flushing.push(flushing);
            }
        }
    }
    for (count, costs) in THREADS.into_iter().zip(&costs) {
        let [recording, flushing] = costs.medians();
        table.add_row([count.to_string(), format!("{recording:.1}"), format!("{flushing:.1}")]);
    }
    println!("{table}\n");
    Ok(())
}

/// So many threads share a burst, after one that is not counted: their rings are warm then, as
/// those of threads that live are.
fn together(guard: &Guard, count: u32) -> Result<[f64; 2]> {
    let items = (BURST / (USUAL + 1) / count).max(1);
    let spans = f64::from(items * count * (USUAL + 1));
    let turn = Barrier::new(count as usize + 1);
    let (sender, receiver) = channel();
    let mut figures = [0.0; 2];
    let measured = thread::scope(|scope| {
        for _ in 0..count {
            let (sender, turn) = (sender.clone(), &turn);
            scope.spawn(move || {
                for _ in 0..2 {
                    turn.wait();
                    let begin = ThreadTime::now();
                    (0..items).for_each(|_| item(USUAL));
                    let _ = sender.send(begin.elapsed().as_nanos() as f64);
                    turn.wait();
                }
            });
        }
        let once = || -> Result<[f64; 2]> {
            let before = cpu_of("hotspan-flush");
            turn.wait();
            let recording: f64 = receiver.iter().take(count as usize).sum();
            let settled = settle(guard);
            // Whatever happened: nobody is to wait for ever.
            turn.wait();
            settled?;
            Ok([recording / spans, (cpu_of("hotspan-flush")? - before?) / spans])
        };
        let first = once();
        let second = once();
        first.and(second)
    })?;
    figures.copy_from_slice(&measured);
    Ok(figures)
}

fn age(guard: &Guard) -> Result<()> {
    println!("as the process ages: ns for a span, and memory\n");
    let mut table = table(&["spans so far", "recording", "flushing", "resident"]);
    let items = BURST / (USUAL + 1);
    let each = u64::from(items * (USUAL + 1));
    let mut done = 0;
    for look in 1..=LOOKS {
        let (mut recording, mut flushing, mut spans) = (0.0, 0.0, 0.0);
        while done < AGE / LOOKS * look {
            let figures = burst(guard, items, || item(USUAL))?;
            recording += figures[0];
            flushing += figures[1];
            spans += each as f64;
            done += each;
        }
        table.add_row([
            format!("{} M", done / 1_000_000),
            format!("{:.1}", recording / spans),
            format!("{:.1}", flushing / spans),
            format!("{:.1} MiB", resident()? / f64::from(1 << 20)),
        ]);
    }
    println!("{table}\n");
    Ok(())
}

/// Processor time of this process's threads of this name, in nanoseconds. Linux.
fn cpu_of(thread: &str) -> Result<f64> {
    let mut sum = 0.0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        // One that has ended meanwhile is none of ours.
        let Ok(name) = std::fs::read_to_string(path.join("comm")) else { continue };
        if name.trim() == thread {
            let text = std::fs::read_to_string(path.join("schedstat"))?;
            sum += text.split(' ').next().unwrap_or_default().parse::<f64>()?;
        }
    }
    Ok(sum)
}

/// Bytes of this process in memory. Linux.
fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line.unwrap_or_default().trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_header(header.iter().copied());
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
