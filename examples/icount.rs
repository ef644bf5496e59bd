//! Each operation many times in a function of its own, for tools that look from outside:
//! `scripts/icount` (instructions, by callgrind) and `scripts/syscalls` (system calls, by strace).
//!
//! `cargo run --release --example icount -- TIMES [OPERATION]`
//!
//! With an operation's name, only that one runs, between two marks that a tracer can see: attempts
//! to open files that do not exist.

#![expect(clippy::print_stdout, reason = "a program talks")]

use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Duration;

use hotspan::{Config, Delivery, Guard, Keep, Name, Rule, start_child, start_transaction};

static OP: Name = Name::new("queue.process");
static NAME: Name = Name::new("orders");
static CHILD_OP: Name = Name::new("db.query");
static CHILD: Name = Name::new("load order");
static QUEUE: Name = Name::new("queue");
static STATUS: Name = Name::new("http.status_code");
static ROWS: Name = Name::new("rows");
static CACHED: Name = Name::new("cached");
static SESSION: Name = Name::new("session");

/// What a message brings along: a trace of somebody else's, kept there, or not.
const KEPT: Headers = headers("4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-1");
const LEFT_OUT: Headers = headers("4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-0");

type Headers = [(&'static str, &'static str); 2];

const fn headers(sentry_trace: &'static str) -> Headers {
    [("sentry-trace", sentry_trace), ("baggage", BAGGAGE)]
}

const BAGGAGE: &str = "sentry-trace_id=4c79f60c11214eb38604f4ae0781bfb2,\
    sentry-public_key=0123456789abcdef0123456789abcdef,sentry-org_id=1,\
    sentry-environment=production,sentry-release=shop%402.14.0,sentry-sample_rate=0.25,\
    sentry-sampled=true,sentry-sample_rand=0.123456,sentry-transaction=POST%20%2Forders";

/// A function's name, and the function.
type Operation = (&'static str, fn(u64));

/// Makes functions that are seen from outside by their names, and a list of them.
macro_rules! operations {
    ($list:ident: $($name:ident($n:ident) $body:block)*) => {
        $(
            #[inline(never)]
            fn $name(times: u64) {
                // Keeps functions that are otherwise the same from being made one.
                black_box(stringify!($name));
                for $n in 0..black_box(times) $body
            }
        )*
        const $list: &[Operation] = &[$((stringify!($name), $name)),*];
    };
}

// Each body holds the whole operation; what the loop itself costs is `count_nothing`.
operations! { OFF:
    count_nothing(n) {
        black_box(n);
    }
    count_clock_pair(_n) {
        black_box(clock().raw());
        black_box(clock().raw());
    }
    count_not_initialised(_n) {
        drop(black_box(start_child(&CHILD_OP, &CHILD)));
    }
}

operations! { UNSAMPLED:
    count_item_unsampled(n) { item(n); }
    count_transaction_unsampled(_n) {
        drop(black_box(start_transaction(&OP, &NAME)));
    }
    count_20_children_unsampled(_n) {
        let _transaction = start_transaction(&OP, &NAME);
        for _ in 0..20 {
            drop(black_box(start_child(&CHILD_OP, &CHILD)));
        }
    }
}

// The item's op is matched by the last of the rules.
operations! { RULES_10:
    count_item_rules_10(n) { item(n); }
}

// That rule has a cap, which does nothing at its rate of one in a million.
operations! { RULES_CAPPED:
    count_item_rules_capped(n) { item(n); }
}

operations! { RULES_200:
    count_item_rules_200(n) { item(n); }
    count_item_rules_200_texts(n) { item_texts(n); }
}

// 200 rules for the one op, of which the name settles which.
operations! { RULES_200_BY_NAME:
    count_item_rules_200_by_name(n) { item(n); }
    count_item_rules_200_by_name_texts(n) { item_texts(n); }
}

// A rule keeps what is slow, and the item is not.
operations! { ON_TRIAL:
    count_item_discarded(n) { item(n); }
    count_transaction_discarded(_n) {
        drop(black_box(start_transaction(&OP, &NAME)));
    }
}

operations! { CONTINUED:
    count_read_headers(_n) {
        black_box(hotspan::continue_from(black_box(KEPT)));
    }
    count_continued_unsampled(_n) {
        let incoming = hotspan::continue_from(black_box(LEFT_OUT));
        drop(black_box(incoming.start_transaction(&OP, &NAME)));
    }
    count_continued(_n) {
        let incoming = hotspan::continue_from(black_box(KEPT));
        drop(black_box(incoming.start_transaction(&OP, &NAME)));
    }
    count_20_headers_continued(_n) {
        let incoming = hotspan::continue_from(black_box(KEPT));
        let _transaction = black_box(incoming.start_transaction(&OP, &NAME));
        for _ in 0..20 {
            write_headers();
        }
    }
}

operations! { SAMPLED:
    count_transaction(_n) {
        drop(black_box(start_transaction(&OP, &NAME)));
    }
    count_20_children(_n) {
        let _transaction = start_transaction(&OP, &NAME);
        for _ in 0..20 {
            drop(black_box(start_child(&CHILD_OP, &CHILD)));
        }
    }
    count_20_children_two_attributes(n) {
        let _transaction = start_transaction(&OP, &NAME);
        for _ in 0..20 {
            let mut span = start_child(&CHILD_OP, &CHILD);
            span.set_data(&ROWS, n).set_data(&CACHED, true);
            black_box(&mut span);
        }
    }
    count_20_children_number_and_text(n) {
        let _transaction = start_transaction(&OP, &NAME);
        for _ in 0..20 {
            let mut span = start_child(&CHILD_OP, &CHILD);
            span.set_data(&ROWS, n).set_data(&SESSION, "postgresql");
            black_box(&mut span);
        }
    }
    count_20_results(_n) {
        let mut transaction = start_transaction(&OP, &NAME);
        for _ in 0..20 {
            transaction.record_result(&black_box(Ok::<(), ()>(())));
        }
    }
    count_20_inner(_n) {
        let _transaction = start_transaction(&OP, &NAME);
        for _ in 0..20 {
            drop(black_box(start_transaction(&OP, &NAME)));
        }
    }
    count_step(_n) {
        let mut transaction = start_transaction(&OP, &NAME);
        black_box(transaction.step(&CHILD_OP, &CHILD));
    }
    count_21_steps(_n) {
        let mut transaction = start_transaction(&OP, &NAME);
        for _ in 0..21 {
            black_box(transaction.step(&CHILD_OP, &CHILD));
        }
    }
    count_detach_finish(_n) {
        black_box(start_transaction(&OP, &NAME).detach()).finish();
    }
    count_20_enter_child_leave(_n) {
        let transaction = black_box(start_transaction(&OP, &NAME).detach());
        for _ in 0..20 {
            let _scope = transaction.enter();
            drop(black_box(start_child(&CHILD_OP, &CHILD)));
        }
    }
    count_item(n) { item(n); }
    count_item_texts(n) { item_texts(n); }
    count_20_headers(_n) {
        let _transaction = start_transaction(&OP, &NAME);
        for _ in 0..20 {
            write_headers();
        }
    }
}

/// The clock that the library uses.
#[inline(always)]
fn clock() -> &'static quanta::Clock {
    static CLOCK: OnceLock<quanta::Clock> = OnceLock::new();
    CLOCK.get_or_init(quanta::Clock::new)
}

/// A transaction, three children, five attributes.
#[inline(always)]
fn item(n: u64) {
    let mut transaction = start_transaction(&OP, &NAME);
    transaction.set_tag(&QUEUE, "orders").set_tag(&SESSION, "0123456789abcdef");
    start_child(&CHILD_OP, &CHILD).set_data(&ROWS, n);
    start_child(&CHILD_OP, &CHILD).set_data(&CACHED, true);
    start_child(&CHILD_OP, &CHILD).set_tag(&STATUS, 200);
}

/// The same with texts for names.
#[inline(always)]
fn item_texts(n: u64) {
    let mut transaction = start_transaction("queue.process", "orders");
    transaction.set_tag("queue", "orders").set_tag("session", "0123456789abcdef");
    start_child("db.query", "load order").set_data("rows", n);
    start_child("db.query", "load order").set_data("cached", true);
    start_child("db.query", "load order").set_tag("http.status_code", 200);
}

/// A buffer that is there already. Copying takes more or fewer instructions by where its ends lie, and
/// the stack begins where the environment ends: aligned, all below it lies the same way each time.
#[repr(align(64))]
struct Buffer {
    bytes: [u8; 1024],
    len: usize,
}

impl fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// The header pair of the innermost span, into a buffer.
#[inline(always)]
fn write_headers() {
    let mut buffer = Buffer { bytes: [0; 1024], len: 0 };
    if let Some(headers) = hotspan::trace_headers() {
        let written = headers.write_http(&mut buffer);
        debug_assert!(written.is_ok());
    }
    black_box(&buffer);
}

/// Leaves a trace: a system call that nothing else here makes.
fn mark(name: &str) {
    black_box(File::open(format!("hotspan-mark-{name}"))).ok();
}

fn run(operations: &[Operation], times: u64, only: Option<&str>, guard: Option<&Guard>) {
    for (name, operation) in operations {
        if only.is_some_and(|only| only != *name) {
            continue;
        }
        if only.is_some() {
            // First uses may allocate; they are not what is looked for.
            operation(1000);
            mark("begin");
        }
        operation(times);
        if only.is_some() {
            mark("end");
        }
        if let Some(guard) = guard {
            let _ = guard.flush(Duration::from_secs(60));
        }
    }
}

/// A rate, and rules.
type Sampling = (f64, Vec<Rule>);

/// Rules for other ops, and as the last one this one.
fn other_ops(count: usize, last: Rule) -> Vec<Rule> {
    let other = |n| Rule { op: Some(format!("other.{n}")), rate: Some(0.5), ..Rule::default() };
    let last = Rule { op: Some(OP.as_str().to_owned()), ..last };
    (1..count).map(other).chain([last]).collect()
}

/// Rules for other names of the same op, and as the last one this one.
fn other_names(count: usize, last: Rule) -> Vec<Rule> {
    let op = || Some(OP.as_str().to_owned());
    let other = |n| Rule {
        op: op(),
        name: Some(format!("others {n}")),
        rate: Some(0.5),
        ..Rule::default()
    };
    let last = Rule { op: op(), name: Some(NAME.as_str().to_owned()), ..last };
    (1..count).map(other).chain([last]).collect()
}

fn rate(rate: f64) -> Rule {
    Rule { rate: Some(rate), ..Rule::default() }
}

fn capped() -> Rule {
    Rule { max_per_second: Some(1000.0), ..rate(1e-6) }
}

fn slow() -> Rule {
    let keep = Keep { slower_than: Some(Duration::from_secs(3600)), ..Keep::default() };
    Rule { keep, ..rate(0.0) }
}

/// Rings and a queue with room for all that is recorded, so that nothing is refused, however slowly
/// the threads behind them run; and where it is, rates stay what they are.
fn start((rate, rules): Sampling) -> Result<Guard, hotspan::ConfigError> {
    hotspan::init(Config {
        dsn: Some("https://0123456789abcdef0123456789abcdef@localhost/1".into()),
        release: Some("shop@2.14.0".into()),
        environment: Some("production".into()),
        transport: Delivery::Null,
        traces_sample_rate: Some(rate),
        rules,
        ring_bytes: 256 << 20,
        ring_slots: 4 << 20,
        queue_bytes: 1 << 30,
        queue_envelopes: 1 << 20,
        enable_backpressure_handling: false,
        ..Config::default()
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let times = arguments.next().ok_or("usage: icount TIMES [OPERATION]")?.parse()?;
    let only = arguments.next();
    let only = only.as_deref();
    // Making a clock takes up to 200 ms; it is not what is counted.
    let _ = clock();
    run(OFF, times, only, None);
    let (mut delivered, mut dropped) = (0, 0);
    for (operations, sampling) in [
        (UNSAMPLED, (0.0, vec![])),
        (RULES_10, (1.0, other_ops(10, rate(0.0)))),
        (RULES_CAPPED, (1.0, other_ops(10, capped()))),
        (RULES_200, (1.0, other_ops(200, rate(0.0)))),
        (RULES_200_BY_NAME, (1.0, other_names(200, rate(0.0)))),
        (ON_TRIAL, (0.0, other_ops(10, slow()))),
        (CONTINUED, (0.0, vec![])),
        (SAMPLED, (1.0, vec![])),
    ] {
        if only.is_some_and(|only| operations.iter().all(|(name, _)| *name != only)) {
            continue;
        }
        let guard = start(sampling)?;
        run(operations, times, only, Some(&guard));
        let stats = hotspan::stats();
        drop(guard);
        stats.check()?;
        (delivered, dropped) = (stats.delivered.spans, stats.dropped_in_all().spans);
    }
    println!("{delivered} spans delivered, {dropped} dropped");
    Ok(())
}
