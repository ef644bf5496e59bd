//! What memory the library takes beyond the process itself, by how fast is recorded and by the bound
//! of a ring.
//!
//! `cargo run --release --example memory`
//!
//! Each line is a process of its own, in which one thread records items (a transaction with three
//! children and five attributes) for a while, to a transport that throws away. Linux.

#![expect(clippy::print_stdout, reason = "a program talks")]
#![expect(clippy::disallowed_methods, reason = "a program has clocks of its own")]

use std::fs::read_to_string;
use std::hint::black_box;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use hotspan::{Config, Delivery, Name, start_child, start_transaction, stats};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Spans a second; 0: as many as can be, ten million of them.
const RATES: [u64; 4] = [40_000, 200_000, 1_000_000, 0];
const SLOTS: [usize; 5] = [4_096, 16_384, 32_768, 65_536, 131_072];
const FLAT_OUT: u64 = 10_000_000;
const SECONDS: u64 = 2;
const SPANS: u64 = 4;
/// Until what a rush needed has been given up.
const REST: Duration = Duration::from_millis(3_500);

static OP: Name = Name::new("queue.process");
static NAME: Name = Name::new("orders");
static CHILD_OP: Name = Name::new("db.query");
static CHILD: Name = Name::new("select");
static QUEUE: Name = Name::new("queue");
static ATTEMPT: Name = Name::new("attempt");
static TABLE: Name = Name::new("table");

fn item(n: u64) {
    let mut transaction = start_transaction(&OP, &NAME);
    transaction.set_data(&QUEUE, "orders-eu-1").set_data(&ATTEMPT, n);
    for _ in 1..SPANS {
        black_box(start_child(&CHILD_OP, &CHILD)).set_data(&TABLE, "customers");
    }
}

fn resident_mib() -> Result<f64> {
    let status = read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// One line of the table: resident at first, with the library, at the end, a while later, and what
/// was lost.
fn one(rate: u64, ring_slots: usize) -> Result<()> {
    let before = resident_mib()?;
    let guard = hotspan::init(Config {
        dsn: Some("http://0123456789abcdef0123456789abcdef@127.0.0.1:9/1".to_owned()),
        traces_sample_rate: Some(1.0),
        enable_backpressure_handling: false,
        transport: Delivery::Null,
        ring_slots,
        ..Config::default()
    })?;
    let begun_with = resident_mib()?;
    let items = if rate == 0 { FLAT_OUT } else { rate * SECONDS } / SPANS;
    let begin = Instant::now();
    for n in 0..items {
        item(n);
        let due = (n * SPANS * 1_000_000).checked_div(rate).map(Duration::from_micros);
        while due.is_some_and(|due| begin.elapsed() < due) {
            sleep(Duration::from_micros(200));
        }
    }
    let at_the_end = resident_mib()?;
    if !guard.flush(Duration::from_secs(10)).complete {
        return Err("not everything was handed on in time".into());
    }
    sleep(REST);
    let lost: u64 = stats().dropped.values().map(|count| count.spans).sum();
    let lost = 100.0 * lost as f64 / (items * SPANS) as f64;
    println!("{before:.1} {begun_with:.1} {at_the_end:.1} {:.1} {lost:.1}%", resident_mib()?);
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [rate, slots] = &arguments[..] {
        return one(rate.parse()?, slots.parse()?);
    }
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_header(["spans/s", "ring_slots", "process", "init", "end", "later", "lost"]);
    for (rate, slots) in RATES.into_iter().flat_map(|rate| SLOTS.map(|slots| (rate, slots))) {
        let mut command = Command::new(std::env::current_exe()?);
        let output = command.args([rate.to_string(), slots.to_string()]).output()?;
        let line = String::from_utf8(output.stdout)?;
        let name = if rate == 0 { "flat out".to_owned() } else { rate.to_string() };
        let figures = line.split_whitespace().map(str::to_owned);
        table.add_row([name, slots.to_string()].into_iter().chain(figures));
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("Resident, MiB\n{table}");
    Ok(())
}
