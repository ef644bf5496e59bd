//! What compressing costs and saves: bytes and processor time a span, for each way to do it.
//!
//! `cargo run --release --features zstd --example compression`
//!
//! Needs no account: envelopes are recorded as a program would, kept in memory, and given to the
//! compressor that the HTTP transport has. Each figure of time is a median over rounds in which all
//! rows take turns, in processor time of the one thread, so that what else runs does not count.

#![expect(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use cpu_time::ThreadTime;
use fastrand::Rng;
use hotspan::transport::{Compressor, Memory};
use hotspan::{Compression, Config, Delivery, Guard, span, start_transaction};

/// Spans of an envelope, its transaction's own included.
const SIZES: [usize; 3] = [4, 100, 1000];
/// Different envelopes of each size: one alone would be learnt by heart.
const ENVELOPES: usize = 32;
const ROUNDS: usize = 31;
/// A measurement covers about so many spans, to be long enough for the clock.
const SPANS_A_ROUND: usize = 64_000;

/// One envelope size, compressed one way.
struct Row {
    spans: usize,
    compression: Compression,
    compressor: Compressor,
    bytes: usize,
    nanos: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let memory = Memory::new();
    let delivery = {
        let memory = memory.clone();
        Delivery::Custom(Arc::new(move || Box::new(memory.clone())))
    };
    let guard = hotspan::init(Config {
        traces_sample_rate: Some(1.0),
        release: Some("orders@4.2.0".into()),
        server_name: Some("worker-7".into()),
        transport: delivery,
        send_client_reports: false,
        ..Config::default()
    })?;
    let mut rng = Rng::with_seed(7);
    let mut bodies = Vec::new();
    for spans in SIZES {
        for _ in 0..ENVELOPES {
            record(spans, &mut rng, &guard);
        }
        let sent = memory.take();
        assert_eq!(sent.len(), ENVELOPES, "{}", hotspan::stats());
        bodies.push(sent);
    }
    drop(guard);

    let mut rows = Vec::new();
    for spans in SIZES {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            // Without the feature `zstd` there is no row for it.
            let Ok(compressor) = Compressor::new(compression) else { continue };
            rows.push(Row { spans, compression, compressor, bytes: 0, nanos: Vec::new() });
        }
    }
    for round in 0..=ROUNDS {
        for row in &mut rows {
            let bodies = SIZES.iter().zip(&bodies).find(|(spans, _)| **spans == row.spans);
            let (_, bodies) = bodies.ok_or("no envelopes of this size")?;
            let nanos = row.measure(bodies);
            // The first round warms up.
            if round > 0 {
                row.nanos.push(nanos);
            }
        }
    }
    print(&rows);
    Ok(())
}

impl Row {
    /// Nanoseconds a span.
    fn measure(&mut self, bodies: &[Vec<u8>]) -> f64 {
        let compress = |compressor: &mut Compressor, body: &[u8]| -> usize {
            black_box(compressor.compress(black_box(body)).0).len()
        };
        self.bytes = bodies.iter().map(|body| compress(&mut self.compressor, body)).sum();
        let times = SPANS_A_ROUND / (self.spans * bodies.len()) + 1;
        let begin = ThreadTime::now();
        for _ in 0..times {
            for body in bodies {
                compress(&mut self.compressor, body);
            }
        }
        let spent = begin.elapsed().as_nanos() as f64;
        spent / (times * bodies.len() * self.spans) as f64
    }
}

/// Records one message of a queue, with what it takes to process it.
fn record(spans: usize, rng: &mut Rng, guard: &Guard) {
    const TABLES: [&str; 5] = ["orders", "customers", "items", "stock_movements", "invoices"];
    let mut message = start_transaction("queue.process", "orders");
    message.set_tag("region", rng.choice(["eu-1", "eu-2", "us-1"]).unwrap_or("eu-1"));
    message.set_data("messaging.message.id", &*format!("{:032x}", rng.u128(..)));
    message.set_data("messaging.message.body.size", rng.u64(200..20_000));
    for _ in 1..spans {
        let table = rng.choice(TABLES).unwrap_or("orders");
        match rng.u8(..10) {
            0..=4 => {
                let mut query = span!("db.query", "SELECT * FROM orders WHERE customer_id = $1");
                query.set_data("db.system", "postgresql");
                query.set_data("db.collection.name", table);
                query.set_data("db.rows", rng.u64(..500));
            }
            5..=7 => {
                let mut get = span!("cache.get", "customer:profile");
                get.set_data("cache.key", &*format!("customer:{}", rng.u32(..100_000)));
                get.set_data("cache.hit", rng.u8(..10) > 0);
                get.set_data("cache.item_size", rng.u64(50..4_000));
            }
            8 => {
                let mut request = span!("http.client", "POST https://billing.internal/v2/charge");
                request.set_http_status(if rng.u8(..20) > 0 { 200 } else { 503 });
                request.set_data("http.response_content_length", rng.u64(100..9_000));
            }
            _ => drop(span!("serialize", "order to JSON")),
        }
        // Times that differ, as they do.
        if rng.u8(..8) == 0 {
            thread::sleep(Duration::from_micros(rng.u64(1..30)));
        }
    }
    drop(message);
    let _ = guard.flush(Duration::from_secs(60));
}

fn print(rows: &[Row]) {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_header([
        "spans",
        "",
        "bytes",
        "bytes a span",
        "ratio",
        "ns a span",
        "µs an envelope",
    ]);
    for row in rows {
        let plain = rows.iter().find(|plain| plain.spans == row.spans).map_or(0, |it| it.bytes);
        let mut nanos = row.nanos.clone();
        nanos.sort_by(f64::total_cmp);
        let nanos = nanos.get(nanos.len() / 2).copied().unwrap_or_default();
        let bytes = row.bytes as f64 / ENVELOPES as f64;
        table.add_row([
            row.spans.to_string(),
            format!("{:?}", row.compression).to_lowercase(),
            format!("{bytes:.0}"),
            format!("{:.0}", bytes / row.spans as f64),
            format!("{:.1}", plain as f64 / row.bytes as f64),
            format!("{nanos:.0}"),
            format!("{:.1}", nanos * row.spans as f64 / 1000.0),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}
