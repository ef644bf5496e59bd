//! What the flusher and an uploader cost, by processor time of their threads;
//! `scripts/flusher-cost` says by stage, in instructions, where that goes.
//!
//! `cargo run --release --features zstd --example flusher_cost`
//!
//! ```text
//!   rings ─ collect ─► assemble ─► encode ─► queue ─► compress ─► send
//!           └────── hotspan-flush ─────────┘         └─ hotspan-upload ─┘
//! ```
//!
//! Items of different sizes, bare or with two data values on each span, take turns; each figure is
//! a median over the rounds, in nanoseconds for each span, roots included. `flusher` is its
//! thread's whole work; `uploader` is that of its thread with a transport that throws away; `http`
//! is the same with one that posts to a server on loopback, uncompressed, the kernel's part
//! included; compressing is measured by itself. On a machine that does other things the columns
//! still compare with each other.
//!
//! With arguments it only does the work, for tools that look from outside:
//! `flusher_cost null|http|http-plain|http-zstd CHILDREN VALUES ITEMS`.

#![expect(clippy::print_stdout, reason = "a program talks")]

#[path = "throughput/server.rs"]
mod server;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use cpu_time::ThreadTime;
use hotspan::transport::{Compressor, Memory};
use hotspan::{Compression, Config, Delivery, Guard, Name, start_child, start_transaction};

use server::Server;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CHILDREN: [u32; 4] = [1, 4, 20, 100];
const VALUES: [u32; 2] = [0, 2];
const ROUNDS: usize = 9;
/// A measurement covers about so many spans.
const SPANS: u32 = 100_000;
/// Spans recorded between two waits for the flusher: its rings hold them.
const BURST: u32 = 4_000;
/// Long: under a tool that counts instructions everything is slow.
const WAIT: Duration = Duration::from_secs(600);

static OP: Name = Name::new("queue.process");
static NAME: Name = Name::new("orders");
static CHILD_OP: Name = Name::new("db.query");
static CHILD: Name = Name::new("SELECT * FROM orders WHERE id = $1");
static ROWS: Name = Name::new("db.rows");
static SYSTEM: Name = Name::new("db.system");

/// One kind of item.
#[derive(Clone, Copy, Debug)]
struct Item {
    children: u32,
    values: u32,
}

impl Item {
    const fn spans(self) -> u32 {
        self.children + 1
    }

    fn record(self) {
        let mut transaction = start_transaction(&OP, &NAME);
        for n in 0..self.children {
            let mut span = start_child(&CHILD_OP, &CHILD);
            if self.values > 0 {
                span.set_data(&ROWS, n).set_data(&SYSTEM, "postgresql");
            }
            black_box(&mut span);
        }
        if self.values > 0 {
            transaction.set_data(&ROWS, self.children).set_data(&SYSTEM, "postgresql");
        }
    }

    /// Records so many, and waits for their delivery now and then.
    fn deliver(self, items: u32, guard: &Guard) -> Result<()> {
        let burst = (BURST / self.spans()).max(1);
        for first in (0..items).step_by(burst as usize) {
            (first..items.min(first + burst)).for_each(|_| self.record());
            if !guard.flush(WAIT).complete {
                return Err("not delivered".into());
            }
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [server::ARGUMENT] => server::serve(),
        [] => measure(),
        [to, children, values, items] => {
            let item = Item { children: children.parse()?, values: values.parse()? };
            work(to, item, items.parse()?)
        }
        _ => {
            Err("usage: flusher_cost [null|http|http-plain|http-zstd CHILDREN VALUES ITEMS]".into())
        }
    }
}

fn work(to: &str, item: Item, items: u32) -> Result<()> {
    let mut server = Server::start()?;
    let (transport, compression) = match to {
        "http" => (Delivery::Http, Compression::Gzip),
        "http-zstd" => (Delivery::Http, Compression::Zstd),
        "http-plain" => (Delivery::Http, Compression::None),
        _ => (Delivery::Null, Compression::None),
    };
    let guard = hotspan::init(config(transport, compression, &server))?;
    item.deliver(items, &guard)?;
    let report = guard.close(WAIT);
    println!("{} spans delivered, {} requests", report.delivered.spans, server.taken()?);
    Ok(())
}

fn config(transport: Delivery, compression: Compression, server: &Server) -> Config {
    Config {
        dsn: Some(server.dsn()),
        release: Some("shop@2.14.0".into()),
        environment: Some("production".into()),
        transport,
        compression,
        upload_concurrency: 1,
        traces_sample_rate: Some(1.0),
        send_client_reports: false,
        ..Config::default()
    }
}

/// One line of the table.
struct Row {
    item: Item,
    body: Vec<u8>,
    flusher: Vec<f64>,
    uploader: Vec<f64>,
    http: Vec<f64>,
    compress: Vec<(Compression, Compressor, Vec<f64>)>,
}

fn measure() -> Result<()> {
    let server = Server::start()?;
    let mut rows = Vec::new();
    for values in VALUES {
        for children in CHILDREN {
            rows.push(Row::new(Item { children, values }, &server)?);
        }
    }
    // The first round warms up.
    for round in 0..=ROUNDS {
        for (transport, is_http) in [(Delivery::Null, false), (Delivery::Http, true)] {
            let guard = hotspan::init(config(transport, Compression::None, &server))?;
            for row in &mut rows {
                let [flusher, uploader] = row.threads(&guard)?;
                if round == 0 {
                } else if is_http {
                    row.http.push(uploader);
                } else {
                    row.flusher.push(flusher);
                    row.uploader.push(uploader);
                }
            }
        }
        for row in &mut rows {
            row.compress(round > 0);
        }
    }
    hotspan::stats().check()?;
    print(rows);
    Ok(())
}

impl Row {
    fn new(item: Item, server: &Server) -> Result<Self> {
        let memory = Memory::new();
        let delivery = {
            let memory = memory.clone();
            Delivery::Custom(Arc::new(move || Box::new(memory.clone())))
        };
        let guard = hotspan::init(config(delivery, Compression::None, server))?;
        item.deliver(1, &guard)?;
        let body = memory.take().pop().ok_or("no envelope")?;
        // Without the feature `zstd` there is no column for it.
        let compress = [Compression::Gzip, Compression::Zstd].into_iter().filter_map(|kind| {
            let compressor = Compressor::new(kind).ok()?;
            Some((kind, compressor, Vec::new()))
        });
        let (flusher, uploader, http) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { item, body, flusher, uploader, http, compress: compress.collect() })
    }

    /// Nanoseconds a span, of the flusher's thread and of the uploader's.
    fn threads(&self, guard: &Guard) -> Result<[f64; 2]> {
        let items = SPANS / self.item.spans();
        let now =
            || -> Result<[f64; 2]> { Ok([cpu_of("hotspan-flush")?, cpu_of("hotspan-upload")?]) };
        let before = now()?;
        self.item.deliver(items, guard)?;
        let spans = f64::from(items * self.item.spans());
        let after = now()?;
        let each = before.into_iter().zip(after).map(|(before, after)| (after - before) / spans);
        let mut figures = [0.0; 2];
        figures.iter_mut().zip(each).for_each(|(figure, each)| *figure = each);
        Ok(figures)
    }

    fn compress(&mut self, counts: bool) {
        let items = SPANS / 10 / self.item.spans();
        for (_, compressor, nanos) in &mut self.compress {
            let begin = ThreadTime::now();
            for _ in 0..items {
                black_box(compressor.compress(black_box(&self.body)).0.len());
            }
            let spent = begin.elapsed().as_nanos() as f64;
            if counts {
                nanos.push(spent / f64::from(items * self.item.spans()));
            }
        }
    }
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

fn median(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).map_or_else(String::new, |value| format!("{value:.0}"))
}

fn print(rows: Vec<Row>) {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_header([
        "children",
        "values",
        "bytes a span",
        "flusher",
        "uploader",
        "gzip",
        "zstd",
        "http",
    ]);
    for row in rows {
        let of = |kind| {
            let found = row.compress.iter().find(|(each, ..)| *each == kind);
            found.map_or_else(String::new, |(.., nanos)| median(nanos.clone()))
        };
        table.add_row([
            row.item.children.to_string(),
            row.item.values.to_string(),
            (row.body.len() / row.item.spans() as usize).to_string(),
            median(row.flusher.clone()),
            median(row.uploader.clone()),
            of(Compression::Gzip),
            of(Compression::Zstd),
            median(row.http.clone()),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}\nnanoseconds of processor time for each span, roots included");
}
