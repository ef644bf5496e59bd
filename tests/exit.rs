//! Processes that end in every way there is: at once, in an orderly fashion, with the guard leaked,
//! with a transport that hangs, from another thread, while thread-locals are torn down. None hangs.
//!
//! A test of its own without a harness: it runs itself again for each way, with a limit on time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::mem_forget,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "helpers of tests panic as tests do"
)]

use std::cell::{Cell, RefCell};
use std::process::{self, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, mem, thread};

use hotspan::transport::{Envelope, Response, SendError, Transport};
use hotspan::{Config, Delivery, Detached, Guard, Report, stats};

/// A process that takes longer hangs.
const LIFE_MAX: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(30);
/// Time for closing where it will not be enough.
const SHORT: Duration = Duration::from_millis(50);
const WAY: &str = "HOTSPAN_TEST_EXIT";

/// How a process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Code(i32),
    /// By a signal.
    Abort,
}

/// A way to end, what it does, and what becomes of the process.
type Way = (&'static str, fn(), Expected);

const WAYS: [Way; 12] = [
    ("exit without the guard's drop", exit_with_a_guard, Expected::Code(3)),
    ("return with the guard leaked", leak, Expected::Code(0)),
    ("return with everything open", open, Expected::Code(0)),
    ("abort", abort, Expected::Abort),
    ("exit while the transport hangs", exit_while_sending, Expected::Code(4)),
    ("drop while the transport hangs", drop_while_sending, Expected::Code(0)),
    ("exit on another thread while threads record", exit_elsewhere, Expected::Code(5)),
    ("exit on another thread while the guard closes", exit_while_closing, Expected::Code(6)),
    ("panic with the guard and spans", panicking, Expected::Code(101)),
    ("return, recording in thread-locals", tear_down, Expected::Code(0)),
    ("return, recording in thread-locals, closed", tear_down_closed, Expected::Code(0)),
    ("exit, recording in thread-locals", tear_down_at_exit, Expected::Code(7)),
];

fn main() {
    if let Ok(name) = env::var(WAY) {
        let (_, way, _) = WAYS.iter().find(|(way, ..)| *way == name).unwrap();
        return way();
    }
    for (name, _, expected) in WAYS {
        let mut child = Command::new(env::current_exe().unwrap())
            .env(WAY, name)
            .env("RUST_BACKTRACE", "0")
            .stderr(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > LIFE_MAX {
                child.kill().unwrap();
                panic!("it hangs: {name}");
            }
            thread::sleep(Duration::from_millis(1));
        };
        match expected {
            Expected::Code(code) => assert_eq!(status.code(), Some(code), "{name}: {status}"),
            Expected::Abort => {
                assert!(!status.success() && status.code().is_none_or(|it| it != 101))
            }
        }
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut said).unwrap();
        if name.contains("thread-locals") {
            // Both destructors ran, and found the books in order.
            assert_eq!(said.matches("torn down").count(), 2, "{name}: {said:?}");
        }
        println!("{name}: {:?}", start.elapsed());
    }
}

fn start(transport: Delivery, shutdown_timeout: Duration) -> Guard {
    let config =
        Config { transport, traces_sample_rate: Some(1.0), shutdown_timeout, ..Config::default() };
    hotspan::init(config).unwrap()
}

fn record() {
    let _transaction = hotspan::start_transaction("queue.process", "orders");
    drop(hotspan::start_child("step", "one"));
}

/// Never comes back.
struct Hanging;

impl Transport for Hanging {
    fn send(&mut self, _: &Envelope<'_>) -> Result<Response, SendError> {
        loop {
            thread::park();
        }
    }
}

fn hanging() -> Guard {
    let guard = start(Delivery::Custom(Arc::new(|| Box::new(Hanging))), SHORT);
    record();
    while stats().in_flight.transactions == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    record();
    guard
}

fn exit_with_a_guard() {
    let _guard = start(Delivery::Null, LONG);
    let _transaction = hotspan::start_transaction("queue.process", "open");
    record();
    process::exit(3);
}

fn leak() {
    let guard = start(Delivery::Null, LONG);
    record();
    mem::forget(guard);
}

fn open() {
    let transaction = hotspan::start_transaction("queue.process", "before");
    let _guard = start(Delivery::Null, LONG);
    let opened = hotspan::start_transaction("queue.process", "open");
    mem::forget(opened.start_child("step", "forgotten"));
    mem::forget(hotspan::start_transaction("queue.process", "forgotten").detach());
    drop(transaction);
    mem::forget(opened);
}

fn abort() {
    let _guard = start(Delivery::Null, LONG);
    let _transaction = hotspan::start_transaction("queue.process", "open");
    process::abort();
}

fn exit_while_sending() {
    let _guard = hanging();
    process::exit(4);
}

fn drop_while_sending() {
    let guard = hanging();
    drop(guard);
    let stats = stats();
    stats.check().unwrap();
    assert!(stats.is_at_rest(), "{stats}");
}

fn exit_elsewhere() {
    let _guard = start(Delivery::Null, LONG);
    for _ in 0..3 {
        thread::spawn(|| {
            loop {
                record();
            }
        });
    }
    thread::spawn(|| {
        thread::sleep(Duration::from_millis(5));
        process::exit(5);
    });
    loop {
        let _ = stats();
        record();
    }
}

fn exit_while_closing() {
    let guard = hanging();
    thread::spawn(|| {
        thread::sleep(SHORT);
        process::exit(6);
    });
    let _: Report = guard.close(LONG * 10);
    panic!("closed too soon");
}

fn panicking() {
    let _guard = start(Delivery::Null, LONG);
    let _transaction = hotspan::start_transaction("queue.process", "orders");
    let _span = hotspan::start_child("step", "one");
    panic!("on purpose");
}

/// Records when it is dropped, with what it holds, and with what there is no more.
struct Last {
    kept: Cell<Option<Detached>>,
}

impl Drop for Last {
    fn drop(&mut self) {
        let transaction = hotspan::start_transaction("queue.process", "torn down");
        drop(transaction.start_child("step", "torn down"));
        if let Some(kept) = self.kept.take() {
            drop(kept.enter().start_child("step", "torn down"));
        }
        let _ = (hotspan::inflight(), hotspan::Hub::current().scope().transaction().is_some());
        drop(transaction);
        stats().check().unwrap();
        println!("torn down");
    }
}

thread_local! {
    static BEFORE: Last = const { Last { kept: Cell::new(None) } };
    static AFTER: Last = const { Last { kept: Cell::new(None) } };
    static GUARD: RefCell<Option<Guard>> = const { RefCell::new(None) };
}

/// Makes the main thread's locals: one before and one after those of the library.
fn thread_locals() -> Guard {
    BEFORE.with(|_| ());
    let guard = start(Delivery::Null, LONG);
    record();
    let keep = |last: &Last| {
        last.kept.set(Some(hotspan::start_transaction("queue.process", "kept").detach()));
    };
    BEFORE.with(keep);
    AFTER.with(keep);
    guard
}

fn tear_down() {
    let guard = thread_locals();
    // The guard is one of them.
    GUARD.with(|place| *place.borrow_mut() = Some(guard));
}

fn tear_down_closed() {
    drop(thread_locals());
}

fn tear_down_at_exit() {
    mem::forget(thread_locals());
    process::exit(7);
}
