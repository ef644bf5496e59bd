//! The spool from the outside: what no server takes survives the library, and the next one sends it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "helpers of tests panic as tests do, and ask the real clock"
)]
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hotspan::{Config, Count, Guard, Reason, Report, Stats, start_child, start_transaction, stats};

mod support;

use support::envelope::Opened;
use support::faults::kept::Kept;
use support::faults::{FaultServer, Mode};
use support::folder::Folder;
use support::segments::Disk;
use support::session::{LONG, alone, count, lost_between};

/// Set for another process that uses the same folder.
const DSN: &str = "HOTSPAN_TEST_SPOOL_DSN";
const DIR: &str = "HOTSPAN_TEST_SPOOL_DIR";

/// By how much a busy machine may be late. Only against hanging.
const SLACK: Duration = Duration::from_secs(20);

fn start(dsn: String, dir: &Path, change: impl FnOnce(&mut Config)) -> (Guard, Stats) {
    let before = stats();
    let mut config = Config {
        dsn: Some(dsn),
        http_proxy: Some(String::new()),
        traces_sample_rate: Some(1.0),
        enable_backpressure_handling: false,
        upload_concurrency: 1,
        spool_dir: Some(dir.to_owned()),
        request_timeout: LONG,
        ..Config::default()
    };
    change(&mut config);
    (hotspan::init(config).unwrap(), before)
}

/// Transactions of two spans each, with a number as their tag.
fn record(numbers: std::ops::Range<u64>) {
    for n in numbers {
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.set_tag("item", n.to_string());
        drop(start_child("step", "one"));
    }
}

fn item(opened: &Opened) -> u64 {
    opened.payload["tags"]["item"].as_str().unwrap().parse().unwrap()
}

/// Closes; the books must be exact.
fn close(guard: &Guard) -> (Report, Stats) {
    let report = guard.close(LONG);
    let after = stats();
    after.check().unwrap();
    assert!(after.is_at_rest() && after.in_spool == Count::default(), "{after}");
    assert_eq!(report.left, Count::default(), "{after}");
    (report, after)
}

/// Waits until something is so.
fn wait(what: &str, done: impl Fn(&Stats) -> bool) -> Stats {
    let began = Instant::now();
    loop {
        let now = stats();
        now.check().unwrap();
        if done(&now) {
            return now;
        }
        assert!(began.elapsed() < LONG, "not so: {what}: {now}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Leaves so many transactions in the spool, for a server that is absent.
fn leave(server: &FaultServer, dir: &Path, many: u64) {
    server.set(Mode::Refused);
    let (guard, _) = start(server.dsn(), dir, |_| {});
    record(0..many);
    let (report, after) = close(&guard);
    assert_eq!(report.spooled, count(many, 2 * many), "{after}");
}

#[test]
fn what_no_server_takes_is_sent_by_the_next_in_order_and_not_all_at_once() {
    const MANY: u64 = 15;
    let _alone = alone();
    let (server, folder) = (FaultServer::start(), Folder::new());
    server.set(Mode::Refused);
    let (guard, before) = start(server.dsn(), folder.path(), |_| {});
    record(0..MANY);
    let began = Instant::now();
    let report = guard.close(Duration::from_secs(10));
    assert!(began.elapsed() < Duration::from_secs(10) + SLACK);
    let after = stats();
    after.check().unwrap();
    assert!(after.is_at_rest(), "{after}");
    let all = count(MANY, 2 * MANY);
    let nothing = Count::default();
    assert_eq!(report.spooled, all, "{after}");
    assert_eq!((report.delivered, report.dropped, report.left), (nothing, nothing, nothing));
    assert!(report.complete, "nothing is lost");
    assert_eq!(after.spool.left_behind - before.spool.left_behind, all);
    assert!(after.to_string().contains("left in the spool"), "{after}");

    // Nobody else can read it, and it does not say where it goes.
    let disk = Disk::read(folder.path());
    assert_eq!(disk.count(), all);
    let order: Vec<u64> = disk.waiting.iter().map(item).collect();
    let address = server.address().to_string();
    for entry in walkdir::WalkDir::new(folder.path()) {
        use std::os::unix::fs::PermissionsExt;
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let expected = if entry.file_type().is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}", entry.path().display());
        if entry.file_type().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(&address) && !text.contains("http"), "{text}");
        }
    }

    server.set(Mode::Healthy);
    let began = Instant::now();
    let (guard, before) = start(server.dsn(), folder.path(), |_| {});
    let now = wait("all is sent", |now| now.delivered - before.delivered == all);
    let least = Duration::from_millis(100) * (u32::try_from(MANY).unwrap() - 1);
    assert!(began.elapsed() >= least, "{:?}: they came too fast", began.elapsed());
    assert_eq!(now.spool.recovered - before.spool.recovered, all);
    assert!(now.to_string().contains("recovered from disk"), "{now}");
    let (report, _) = close(&guard);
    assert_eq!((report.delivered, report.spooled, report.dropped), (all, nothing, nothing));
    assert!(report.complete);
    let received = server.finish();
    let sent: Vec<u64> = received.transactions().map(|kept| item(&kept.opened)).collect();
    assert_eq!(sent, order, "once each, the oldest first");
    let disk = Disk::read(folder.path());
    assert!(disk.segments.is_empty() && disk.folders == 0, "{disk:?}");
}

#[test]
fn a_folder_that_cannot_be_made_is_no_error_of_init_and_costs_nothing_else() {
    let _alone = alone();
    let (server, folder) = (FaultServer::start(), Folder::new());
    std::fs::write(folder.path(), "a file").unwrap();
    let below = folder.path().join("spool");
    let (guard, before) = start(server.dsn(), &below, |_| {});
    let now = wait("it was tried", |now| now.spool.errors > before.spool.errors);
    assert_eq!(now.threads.last_error_kind, Some("spool"), "{now}");
    let text = now.to_string();
    assert!(text.contains("spool errors") && text.contains("cannot be opened"), "{text}");
    record(0..3);
    wait("they are sent", |now| now.delivered - before.delivered == count(3, 6));
    // Without a spool what has no answer is lost after so many tries.
    server.set(Mode::Refused);
    record(3..5);
    let (report, after) = close(&guard);
    assert_eq!((report.delivered, report.spooled), (count(3, 6), Count::default()));
    assert_eq!(report.dropped, count(2, 4), "{after}");
    assert_eq!(lost_between(&before, &after, Reason::NetworkError), count(2, 4), "{after}");
    std::fs::remove_file(folder.path()).unwrap();
}

#[test]
fn the_oldest_go_when_there_is_no_more_room_and_the_server_is_told() {
    const MANY: u64 = 120;
    const BYTES: usize = 16 * 1024;
    let _alone = alone();
    let (server, folder) = (FaultServer::start(), Folder::new());
    server.set(Mode::Refused);
    let (guard, before) = start(server.dsn(), folder.path(), |config| config.spool_bytes = BYTES);
    record(0..MANY);
    let (report, after) = close(&guard);
    let evicted = lost_between(&before, &after, Reason::SpoolEvicted);
    assert!(report.spooled.transactions > 0 && evicted.transactions > 0, "{after}");
    assert_eq!(report.spooled + evicted, count(MANY, 2 * MANY), "{after}");
    assert_eq!(report.dropped, evicted, "{after}");
    assert!(after.to_string().contains("dropped: spool_evicted"), "{after}");
    let disk = Disk::read(folder.path());
    assert_eq!(disk.count(), report.spooled);
    let bytes: u64 = disk.segments.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes <= BYTES as u64, "{bytes} bytes");
    // One may have been at the uploader's while the others passed it.
    let old = disk.waiting.iter().filter(|opened| item(opened) < evicted.transactions);
    assert!(old.count() <= 1, "the newest stay");

    server.set(Mode::Healthy);
    let (guard, _) = start(server.dsn(), folder.path(), |_| {});
    let (report, _) = close(&guard);
    assert_eq!(report.dropped, Count::default());
    let told = server.finish().reported();
    let of =
        |category: &str| told.get(&("cache_overflow".to_owned(), category.to_owned())).copied();
    assert_eq!(of("transaction"), Some(evicted.transactions), "{told:?}");
    assert_eq!(of("span"), Some(evicted.spans), "{told:?}");
}

#[test]
fn no_envelope_goes_to_another_server() {
    let _alone = alone();
    let (first, second, folder) = (FaultServer::start(), FaultServer::start(), Folder::new());
    leave(&first, folder.path(), 3);
    let (guard, before) = start(second.dsn(), folder.path(), |_| {});
    record(10..12);
    wait("its own are sent", |now| now.delivered - before.delivered == count(2, 4));
    let (report, after) = close(&guard);
    assert_eq!(report.delivered, count(2, 4), "{after}");
    assert_eq!(after.spool.recovered, before.spool.recovered, "{after}");
    assert_eq!(Disk::read(folder.path()).count(), count(3, 6));
    let items: Vec<u64> = second.finish().transactions().map(|kept| item(&kept.opened)).collect();
    assert_eq!(items, [10, 11]);

    first.set(Mode::Healthy);
    let (guard, before) = start(first.dsn(), folder.path(), |_| {});
    wait("they are sent", |now| now.delivered - before.delivered == count(3, 6));
    close(&guard);
    assert_eq!(first.finish().accepted(), count(3, 6));
}

/// Leaves something in the spool, says so, and lives until its input ends. Then it is gone at once.
#[test]
#[ignore = "not a test by itself: another process"]
fn another_process() {
    let Ok(dsn) = std::env::var(DSN) else { return };
    let dir = std::env::var_os(DIR).unwrap();
    let (guard, _) = start(dsn, Path::new(&dir), |_| {});
    record(100..104);
    wait("all is in the spool", |now| now.in_spool == count(4, 8));
    println!("\nready");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    #[expect(clippy::mem_forget, reason = "it dies with what it has")]
    std::mem::forget(guard);
    std::process::exit(0);
}

#[test]
fn what_a_living_process_has_is_left_to_it_and_taken_over_once_it_is_dead() {
    let _alone = alone();
    let (server, folder) = (FaultServer::start(), Folder::new());
    server.set(Mode::Refused);
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "another_process", "--nocapture"])
        .env(DSN, server.dsn())
        .env(DIR, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"), "it is ready");

    let (guard, before) = start(server.dsn(), folder.path(), |_| {});
    record(0..2);
    // It has looked around before it writes.
    wait("it spools", |now| now.in_spool == count(2, 4));
    let (report, after) = close(&guard);
    assert_eq!(report.spooled, count(2, 4), "{after}");
    assert_eq!(after.spool.recovered, before.spool.recovered, "the other one lives: {after}");
    assert_eq!(Disk::read(folder.path()).count(), count(6, 12));

    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    server.set(Mode::Healthy);
    let (guard, before) = start(server.dsn(), folder.path(), |_| {});
    wait("all is sent", |now| now.delivered - before.delivered == count(6, 12));
    let (report, _) = close(&guard);
    assert_eq!(report.delivered, count(6, 12));
    assert_eq!(server.finish().accepted(), count(6, 12));
    let disk = Disk::read(folder.path());
    assert!(disk.segments.is_empty() && disk.folders == 0, "{disk:?}");
}

#[test]
fn damage_is_laid_aside_and_counted_and_the_rest_is_sent() {
    let _alone = alone();
    let (server, folder) = (FaultServer::start(), Folder::new());
    leave(&server, folder.path(), 5);
    let disk = Disk::read(folder.path());
    let [segment] = &disk.segments[..] else { panic!("{disk:?}") };
    let mut bytes = std::fs::read(segment).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    std::fs::write(segment, bytes).unwrap();
    assert_eq!(Disk::read(folder.path()).damaged, 1);

    server.set(Mode::Healthy);
    let (guard, before) = start(server.dsn(), folder.path(), |_| {});
    let now = wait("the rest is sent", |now| now.delivered - before.delivered == count(4, 8));
    assert_eq!(now.spool.recovered - before.spool.recovered, count(4, 8), "{now}");
    assert_eq!(now.spool.damaged_files - before.spool.damaged_files, 1, "{now}");
    assert!(now.to_string().contains("damaged spool files"), "{now}");
    let (report, _) = close(&guard);
    assert_eq!((report.delivered, report.dropped), (count(4, 8), Count::default()));
    let disk = Disk::read(folder.path());
    assert_eq!((disk.aside, disk.segments.len(), disk.folders), (1, 0, 0), "{disk:?}");

    // It is counted once.
    let (guard, before) = start(server.dsn(), folder.path(), |_| {});
    record(10..11);
    wait("it is sent", |now| now.delivered - before.delivered == count(1, 2));
    let (_, after) = close(&guard);
    assert_eq!(after.spool.damaged_files, before.spool.damaged_files, "{after}");
    assert_eq!(server.finish().accepted(), count(5, 10));
}

#[test]
fn what_is_stored_waits_while_the_server_wants_nothing() {
    let _alone = alone();
    let (server, folder) = (FaultServer::start(), Folder::new());
    leave(&server, folder.path(), 4);
    // The first one is taken, and then no transactions are wanted for a minute.
    server.set(Mode::LimitsOnSuccess);
    let (guard, before) = start(server.dsn(), folder.path(), |_| {});
    wait("one is sent", |now| now.delivered - before.delivered == count(1, 2));
    // Long enough for more, if they were sent.
    thread::sleep(Duration::from_millis(500));
    record(10..12);
    wait("what is new is held back", |now| {
        lost_between(&before, now, Reason::RateLimited) == count(2, 4)
    });
    let (report, after) = close(&guard);
    assert_eq!(report.delivered, count(1, 2), "{after}");
    assert_eq!(report.spooled, count(3, 6), "{after}");
    assert_eq!(report.dropped, count(2, 4), "{after}");
    assert_eq!(Disk::read(folder.path()).count(), count(3, 6));
    let received = server.finish();
    assert!(received.transactions().all(Kept::is_accepted));
    assert_eq!(received.transactions().count(), 1);
}
