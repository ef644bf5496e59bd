//! The server stops while the loop runs, as `kill -STOP` does it: connections stay open, nothing is
//! read, nothing is answered. The loop must not notice, memory must stay within its bounds, and
//! when the server goes on, the books must be exact and agree with what it got.
//!
//! The server is this binary again, in a process of its own that can be stopped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "helpers of tests panic as tests do, and ask the real clock"
)]
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hotspan::{Config, Reason, start_child, start_transaction, stats};

mod support;

use support::envelope::Opened;
use support::server::Server;
use support::session::{LONG, count, lost_between};

/// Set for the server's process.
const ROLE: &str = "HOTSPAN_TEST_STOPPED_SERVER";

const RING_BYTES: usize = 2 << 20;
const QUEUE_BYTES: usize = 1 << 20;
const ITEMS: u64 = 20_000;

/// Serves until its input ends; tells its address first, and at the end what it got.
#[test]
#[ignore = "not a test by itself: the server's process"]
fn server_process() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let server = Server::start();
    println!("\naddress {}", server.address());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let mut sum = count(0, 0);
    for request in server.requests() {
        let opened = Opened::new(&request.unpacked());
        if opened.kind == "transaction" {
            sum += opened.count();
        }
    }
    println!("got {} {}", sum.transactions, sum.spans);
}

struct Remote {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
    address: String,
}

impl Remote {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "server_process", "--nocapture"])
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut remote = Self { process, output, address: String::new() };
        remote.address = remote.line("address ");
        remote
    }

    /// The rest of the next line that begins so.
    fn line(&mut self, beginning: &str) -> String {
        let mut lines = self.output.by_ref().lines().map(Result::unwrap);
        let line = lines.find(|line| line.starts_with(beginning)).expect(beginning);
        line[beginning.len()..].to_owned()
    }

    fn signal(&self, signal: &str) {
        let command = format!("kill -{signal} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    /// Ends it; what it got.
    fn finish(mut self) -> hotspan::Count {
        drop(self.process.stdin.take());
        let line = self.line("got ");
        let (transactions, spans) = line.split_once(' ').unwrap();
        assert!(self.process.wait().unwrap().success());
        count(transactions.parse().unwrap(), spans.parse().unwrap())
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // After a failed assertion: a process that is stopped can still be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A fixed amount of work; how long it took.
fn work() -> Duration {
    let start = Instant::now();
    for n in 0..ITEMS {
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.set_data("n", n).set_tag("queue", "orders");
        for step in ["read", "parse", "hash"] {
            start_child("step", step).set_data("bytes", n);
        }
        if n % 100 == 0 {
            // About as slow as a loop with something to do.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    start.elapsed()
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[test]
fn a_stopped_server_costs_envelopes_and_nothing_else() {
    let remote = Remote::start();
    let before = stats();
    let guard = hotspan::init(Config {
        dsn: Some(format!("http://key@{}/42", remote.address)),
        http_proxy: Some(String::new()),
        traces_sample_rate: Some(1.0),
        ring_bytes: RING_BYTES,
        ring_slots: RING_BYTES / 64,
        queue_bytes: QUEUE_BYTES,
        request_timeout: LONG,
        ..Config::default()
    })
    .unwrap();

    let usual = work();
    assert!(stats().delivered.transactions > before.delivered.transactions, "it runs");
    let resident = resident_bytes();

    remote.signal("STOP");
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        slowest = slowest.max(work());
        stats().check().unwrap();
    }
    let held = stats();
    println!("{held}\nusual {usual:?}, slowest while stopped {slowest:?}");
    assert!(held.in_flight.transactions > 0, "it hangs: {held}");
    assert!(held.threads.bytes_queued <= QUEUE_BYTES, "{held}");
    assert!(lost_between(&before, &held, Reason::QueueFull).transactions > 0, "{held}");
    // Sending is off the machine's hands meanwhile, so it should be faster; other tests run beside.
    assert!(slowest < usual * 3 + Duration::from_secs(2), "{usual:?}, then {slowest:?}");
    if let (Some(before), Some(after)) = (resident, resident_bytes()) {
        let grown = after.saturating_sub(before);
        println!("{} KiB resident, {} KiB more while stopped", before / 1024, grown / 1024);
        assert!(grown < RING_BYTES + QUEUE_BYTES + (4 << 20), "{grown} bytes");
    }

    remote.signal("CONT");
    work();
    let report = guard.close(LONG);
    let after = stats();
    after.check().unwrap();
    assert!(after.is_at_rest(), "{after}");
    assert_eq!(after.started - before.started, count(5 * ITEMS, 5 * ITEMS * 4), "{after}");
    assert_eq!(report.left, count(0, 0));
    assert_eq!(report.delivered + report.dropped, after.started - before.started, "{after}");
    assert_eq!(remote.finish(), report.delivered, "{after}");
}
