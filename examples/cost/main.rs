//! What hotspan costs on this machine, beside the clock that it must read.
//!
//! `cargo run --release --example cost [-- --json]`
//!
//! Every figure is a median over rounds in which all rows take turns, so that what disturbs one
//! disturbs all; `clock pairs` is the figure over the cost of two clock reads in the same rounds,
//! and `at best` the same of the twentieth of the rounds that were disturbed least. Where the two
//! are far apart, the core was shared with somebody else: the clock takes as long as ever then, and
//! all else up to twice as long.
//!
//! Between rounds the flusher drains the rings; what it costs itself is the last row, taken from
//! its thread's CPU time.

#![expect(clippy::print_stdout, reason = "a table for people")]
#![expect(clippy::indexing_slicing, reason = "an example may panic")]
#![expect(clippy::disallowed_methods, reason = "it measures time itself")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use hotspan::{Config, Delivery, Guard, Keep, Name, Rule, start_child, start_transaction};
use serde::Serialize;

const ROUNDS: usize = 301;

/// A line of the table.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    what: &'static str,
    ns: f64,
    clock_pairs: f64,
    clock_pairs_at_best: f64,
    allocations: f64,
    target: &'static str,
}

#[derive(Serialize)]
struct Table {
    clock_pair_ns: f64,
    rows: Vec<Row>,
}

/// Something to measure: `times` operations.
struct Case {
    name: &'static str,
    what: &'static str,
    target: &'static str,
    times: usize,
    /// Operations by which one call is divided, less `base`'s cost.
    per: f64,
    base: Option<&'static str>,
    run: fn(usize),
}

static OP: Name = Name::new("queue.process");
static NAME: Name = Name::new("orders");
static CHILD_OP: Name = Name::new("db.query");
static CHILD: Name = Name::new("load order");
static KEYS: [Name; 5] = [
    Name::new("queue"),
    Name::new("http.status_code"),
    Name::new("rows"),
    Name::new("cached"),
    Name::new("session"),
];

fn clock_pair(times: usize) {
    let clock = quanta::Clock::new();
    for _ in 0..times {
        black_box(clock.raw());
        black_box(clock.raw());
    }
}

fn child(times: usize) {
    for _ in 0..times {
        drop(black_box(start_child(&CHILD_OP, &CHILD)));
    }
}

fn root(times: usize) {
    for _ in 0..times {
        drop(black_box(start_transaction(&OP, &NAME)));
    }
}

fn root_with_20(times: usize) {
    for _ in 0..times {
        let _transaction = start_transaction(&OP, &NAME);
        for _ in 0..20 {
            drop(black_box(start_child(&CHILD_OP, &CHILD)));
        }
    }
}

/// Steps: each ends where the next one begins.
fn root_with_20_steps(times: usize) {
    for _ in 0..times {
        let mut transaction = start_transaction(&OP, &NAME);
        for _ in 0..20 {
            black_box(transaction.step(&CHILD_OP, &CHILD));
        }
    }
}

fn root_with_20_and_attributes(times: usize) {
    let [.., rows, cached, _] = &KEYS;
    for n in 0..times {
        let _transaction = start_transaction(&OP, &NAME);
        for _ in 0..20 {
            let mut span = start_child(&CHILD_OP, &CHILD);
            span.set_data(rows, n).set_data(cached, true);
            black_box(&mut span);
        }
    }
}

/// A transaction, three children, five attributes.
fn item(times: usize) {
    let [queue, status, rows, cached, session] = &KEYS;
    for n in 0..times {
        let mut transaction = start_transaction(&OP, &NAME);
        transaction.set_tag(queue, "orders").set_tag(session, "0123456789abcdef");
        for step in 0..3_u32 {
            let mut span = start_child(&CHILD_OP, &CHILD);
            match step {
                0 => span.set_data(rows, n),
                1 => span.set_data(cached, true),
                _ => span.set_tag(status, 200),
            };
            black_box(&mut span);
        }
        black_box(&mut transaction);
    }
}

/// The same, with texts instead of registered names.
fn item_with_texts(times: usize) {
    for n in 0..times {
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.set_tag("queue", "orders").set_tag("session", "0123456789abcdef");
        for step in 0..3_u32 {
            let mut span = start_child("db.query", "load order");
            match step {
                0 => span.set_data("rows", n),
                1 => span.set_data("cached", true),
                _ => span.set_tag("http.status_code", 200),
            };
            black_box(&mut span);
        }
        black_box(&mut transaction);
    }
}

/// A buffer that is there already.
struct Buffer {
    bytes: [u8; 1024],
    len: usize,
}

impl std::fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// `sentry-trace` and `baggage` of the innermost span.
fn write_headers(times: usize) {
    let mut buffer = Buffer { bytes: [0; 1024], len: 0 };
    for _ in 0..times {
        buffer.len = 0;
        if let Some(headers) = hotspan::trace_headers() {
            let _ = headers.write_http(&mut buffer);
        }
        black_box(&buffer);
    }
}

/// Of a trace that begins here.
fn headers(times: usize) {
    let _transaction = start_transaction(&OP, &NAME);
    write_headers(times);
}

/// Of one that began elsewhere.
fn headers_continued(times: usize) {
    let incoming = hotspan::continue_from(black_box(KEPT));
    let _transaction = incoming.start_transaction(&OP, &NAME);
    write_headers(times);
}

type Headers = [(&'static str, &'static str); 2];

/// What a message brings along: a trace of somebody else's, kept there, or not.
const KEPT: Headers = incoming("4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-1");
const LEFT_OUT: Headers = incoming("4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-0");

const fn incoming(sentry_trace: &'static str) -> Headers {
    [("sentry-trace", sentry_trace), ("baggage", BAGGAGE)]
}

const BAGGAGE: &str = "sentry-trace_id=4c79f60c11214eb38604f4ae0781bfb2,\
    sentry-public_key=0123456789abcdef0123456789abcdef,sentry-org_id=1,\
    sentry-environment=production,sentry-release=shop%402.14.0,sentry-sample_rate=0.25,\
    sentry-sampled=true,sentry-sample_rand=0.123456,sentry-transaction=POST%20%2Forders";

fn continued(times: usize) {
    for _ in 0..times {
        let incoming = hotspan::continue_from(black_box(KEPT));
        drop(black_box(incoming.start_transaction(&OP, &NAME)));
    }
}

fn continued_unsampled(times: usize) {
    for _ in 0..times {
        let incoming = hotspan::continue_from(black_box(LEFT_OUT));
        drop(black_box(incoming.start_transaction(&OP, &NAME)));
    }
}

/// Rules of which the last one is the item's: the others are for other ops, or for other names.
fn rules(count: usize, by_name: bool, last: Rule) -> Vec<Rule> {
    let op = || Some(OP.as_str().to_owned());
    let other = |n| {
        let text = Some(format!("other {n}"));
        let (op, name) = if by_name { (op(), text) } else { (text, None) };
        Rule { op, name, rate: Some(0.5), ..Rule::default() }
    };
    let name = by_name.then(|| NAME.as_str().to_owned());
    (1..count).map(other).chain([Rule { op: op(), name, ..last }]).collect()
}

/// Measures under rules of which the last one leaves the item out.
fn under_rules(
    name: &'static str,
    what: &'static str,
    rules: Vec<Rule>,
    table: &mut Table,
) -> Result<(), hotspan::ConfigError> {
    let guard = start_with(1.0, rules)?;
    let case = Case { times: 10_000, ..case(name, what, "<= 15 ns", item) };
    rows_of(&guard, case, table);
    Ok(())
}

/// Children of a transaction that sampling left out.
fn children_unsampled(times: usize) {
    let _transaction = start_transaction(&OP, &NAME);
    child(times);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What one call of a case takes.
#[derive(Clone, Copy)]
struct Measured {
    ns: f64,
    at_best: f64,
    allocations: f64,
}

/// Runs all cases in turns.
fn measure(guard: Option<&Guard>, cases: &[Case]) -> Vec<Measured> {
    let settle = || {
        if let Some(guard) = guard {
            let _ = guard.flush(Duration::from_secs(10));
        }
    };
    let mut times = vec![Vec::with_capacity(ROUNDS); cases.len()];
    for case in cases {
        (case.run)(case.times);
        settle();
    }
    for _ in 0..ROUNDS {
        for (case, times) in cases.iter().zip(&mut times) {
            // Awake and warm, as in a loop; the wait for the flusher was long.
            (case.run)(case.times / 4);
            let begin = Instant::now();
            (case.run)(case.times);
            times.push(begin.elapsed().as_nanos() as f64 / case.times as f64);
            settle();
        }
    }
    let measured = cases.iter().zip(times).map(|(case, mut times)| {
        // The counter starts by allocating for itself; the second run is the one that counts.
        let once = || allocation_counter::measure(|| (case.run)(case.times)).count_total;
        let _ = once();
        settle();
        let count = once();
        settle();
        times.sort_by(f64::total_cmp);
        Measured {
            ns: times[ROUNDS / 2],
            at_best: times[ROUNDS / 20],
            allocations: count as f64 / case.times as f64,
        }
    });
    measured.collect()
}

fn rows(guard: Option<&Guard>, cases: &[Case], table: &mut Table) {
    let results = measure(guard, cases);
    let floor = results[0];
    if table.clock_pair_ns == 0.0 {
        table.clock_pair_ns = floor.ns;
    }
    for (case, measured) in cases.iter().zip(&results).skip(1) {
        let base = case.base.and_then(|name| {
            let at = cases.iter().position(|case| case.name == name)?;
            Some(results[at])
        });
        let each = |of: fn(&Measured) -> f64| {
            (of(measured) - base.as_ref().map_or(0.0, of)).max(0.0) / case.per
        };
        let (ns, at_best) = (each(|it| it.ns), each(|it| it.at_best));
        table.rows.push(Row {
            name: case.name,
            what: case.what,
            ns,
            clock_pairs: ns / floor.ns,
            clock_pairs_at_best: at_best / floor.at_best,
            allocations: measured.allocations / case.per,
            target: case.target,
        });
    }
}

fn rows_of(guard: &Guard, case: Case, table: &mut Table) {
    rows(Some(guard), &[floor(), case], table);
}

fn case(name: &'static str, what: &'static str, target: &'static str, run: fn(usize)) -> Case {
    Case { name, what, target, times: 200, per: 1.0, base: None, run }
}

fn floor() -> Case {
    Case { times: 10_000, ..case("clock_pair", "two clock reads", "", clock_pair) }
}

fn start(rate: f64) -> Result<Guard, hotspan::ConfigError> {
    start_with(rate, Vec::new())
}

fn start_with(rate: f64, rules: Vec<Rule>) -> Result<Guard, hotspan::ConfigError> {
    hotspan::init(Config {
        dsn: Some("https://0123456789abcdef0123456789abcdef@localhost/1".into()),
        release: Some("shop@2.14.0".into()),
        environment: Some("production".into()),
        transport: Delivery::Null,
        traces_sample_rate: Some(rate),
        rules,
        ..Config::default()
    })
}

/// CPU time of this process's threads with this name, in nanoseconds.
fn cpu_of(thread: &str) -> Option<f64> {
    let mut sum = 0.0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let path = task.ok()?.path();
        if std::fs::read_to_string(path.join("comm")).ok()?.trim() == thread {
            let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
            sum += text.split(' ').next()?.parse::<f64>().ok()?;
        }
    }
    Some(sum)
}

/// The flusher's CPU time per span: collecting, assembling, encoding, queueing.
fn flusher(guard: &Guard) -> Option<f64> {
    let mut per_span = Vec::new();
    for _ in 0..15 {
        let before = cpu_of("hotspan-flush")?;
        let mut spans = 0.0;
        for _ in 0..20 {
            root_with_20(2000);
            spans += 21.0 * 2000.0;
            let _ = guard.flush(Duration::from_secs(10));
        }
        per_span.push((cpu_of("hotspan-flush")? - before) / spans);
    }
    Some(median(per_span))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let json = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--json") => true,
        Some(_) => return Err("usage: cost [--json]".into()),
    };
    let mut table = Table { clock_pair_ns: 0.0, rows: Vec::new() };

    let off = case("not_initialised", "child, library not initialised", "<= 1 ns", child);
    rows(None, &[floor(), Case { times: 100_000, ..off }], &mut table);

    let guard = start(0.0)?;
    let unsampled = [
        floor(),
        Case {
            times: 100_000,
            ..case(
                "child_unsampled",
                "child of an unsampled transaction",
                "<= 2 ns",
                children_unsampled,
            )
        },
        Case {
            times: 10_000,
            ..case("item_unsampled", "transaction + 3 children + 5 attributes", "<= 15 ns", item)
        },
    ];
    rows(Some(&guard), &unsampled, &mut table);
    drop(guard);

    let nothing = || Rule { rate: Some(0.0), ..Rule::default() };
    under_rules(
        "item_10_rules",
        "the same under 10 rules",
        rules(10, false, nothing()),
        &mut table,
    )?;
    let what = "under 200 rules, the last one its op's";
    under_rules("item_200_rules", what, rules(200, false, nothing()), &mut table)?;
    let what = "under 200 rules for its op, the last one its name's";
    under_rules("item_200_by_name", what, rules(200, true, nothing()), &mut table)?;

    let keep = Keep { slower_than: Some(Duration::from_secs(3600)), ..Keep::default() };
    let guard = start_with(0.0, rules(10, false, Rule { keep, ..nothing() }))?;
    let discarded = case(
        "item_discarded",
        "an item recorded on trial and taken back at its end",
        "<= 1.05 x item_sampled",
        item,
    );
    rows_of(&guard, discarded, &mut table);
    drop(guard);

    let guard = start(1.0)?;
    let sampled = [
        floor(),
        Case {
            times: 5_000,
            ..case("root_recorded", "transaction without children", "<= 3.5 x", root)
        },
        Case {
            per: 20.0,
            base: Some("root_recorded"),
            ..case("child_recorded", "child, recorded (item of 20)", "<= 1.3 x", root_with_20)
        },
        Case {
            per: 20.0,
            base: Some("root_recorded"),
            ..case("step_recorded", "step, recorded (item of 20)", "<= 0.8 x", root_with_20_steps)
        },
        Case {
            per: 20.0,
            base: Some("root_recorded"),
            ..case(
                "child_two_attributes",
                "the same with two attributes",
                "<= 1.6 x",
                root_with_20_and_attributes,
            )
        },
        case(
            "item_sampled",
            "transaction + 3 children + 5 attributes",
            "<= 5.4 x (1.35 x 4)",
            item,
        ),
        case(
            "item_sampled_texts",
            "the same with &str names",
            "<= 6.4 x (1.6 x 4)",
            item_with_texts,
        ),
        case("headers", "sentry-trace and baggage into a buffer", "<= 250 ns", headers),
        case("headers_continued", "of a continued trace", "<= 250 ns", headers_continued),
        case("continued_unsampled", "headers read, transaction not kept", "", continued_unsampled),
        case("continued_recorded", "headers read, transaction recorded", "", continued),
    ];
    rows(Some(&guard), &sampled, &mut table);
    if let Some(ns) = flusher(&guard) {
        table.rows.push(Row {
            name: "encode_span",
            what: "flusher thread: collect, assemble, encode, queue",
            ns,
            clock_pairs: ns / table.clock_pair_ns,
            clock_pairs_at_best: ns / table.clock_pair_ns,
            allocations: 0.0,
            target: "<= 60 ns",
        });
    }
    let stats = hotspan::stats();
    drop(guard);
    stats.check()?;

    if json {
        println!("{}", serde_json::to_string(&table)?);
        return Ok(());
    }
    println!("two clock reads: {:.1} ns\n", table.clock_pair_ns);
    let header = ["ns", "clock pairs", "at best", "allocations"];
    let [ns, pairs, at_best, allocations] = header;
    println!("{:<22}{ns:>9}{pairs:>13}{at_best:>11}{allocations:>13}  what", "");
    for row in &table.rows {
        let Row { name, what, ns, clock_pairs, clock_pairs_at_best, allocations, target } = row;
        println!(
            "{name:<22}{ns:>9.1}{clock_pairs:>12.2}x{clock_pairs_at_best:>10.2}x{allocations:>13.2}  {what} ({target})"
        );
    }
    let lost = stats.dropped_in_all();
    println!("\n{} spans delivered, {} dropped", stats.delivered.spans, lost.spans);
    Ok(())
}
