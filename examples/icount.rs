//! Each operation many times in a function of its own, for tools that look from outside:
//! `scripts/icount` (instructions, by callgrind) and `scripts/syscalls` (system calls, by strace).
//!
//! `cargo run --release --example icount -- TIMES [OPERATION]`
//!
//! With an operation's name, only that one runs, between two marks that a tracer can see: attempts to
//! open files that do not exist.

#![expect(clippy::print_stdout, reason = "a program talks")]

use std::fs::File;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Duration;

use hotspan::{Config, Delivery, Guard, Name, start_child, start_transaction};

static OP: Name = Name::new("queue.process");
static NAME: Name = Name::new("orders");
static CHILD_OP: Name = Name::new("db.query");
static CHILD: Name = Name::new("load order");
static QUEUE: Name = Name::new("queue");
static STATUS: Name = Name::new("http.status_code");
static ROWS: Name = Name::new("rows");
static CACHED: Name = Name::new("cached");
static SESSION: Name = Name::new("session");

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
    count_item_texts(n) {
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.set_tag("queue", "orders").set_tag("session", "0123456789abcdef");
        start_child("db.query", "load order").set_data("rows", n);
        start_child("db.query", "load order").set_data("cached", true);
        start_child("db.query", "load order").set_tag("http.status_code", 200);
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

/// Rings and a queue with room for all that is recorded, so that nothing is refused.
fn start(rate: f64) -> Result<Guard, hotspan::ConfigError> {
    hotspan::init(Config {
        transport: Delivery::Null,
        traces_sample_rate: Some(rate),
        ring_bytes: 256 << 20,
        ring_slots: 4 << 20,
        queue_bytes: 1 << 30,
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
    let guard = start(0.0)?;
    run(UNSAMPLED, times, only, Some(&guard));
    drop(guard);
    let guard = start(1.0)?;
    run(SAMPLED, times, only, Some(&guard));
    let stats = hotspan::stats();
    drop(guard);
    stats.check()?;
    println!("{} spans delivered, {} dropped", stats.delivered.spans, stats.dropped_in_all().spans);
    Ok(())
}
