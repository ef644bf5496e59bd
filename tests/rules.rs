//! A rules file that is watched: what it says applies, also after edits of every kind; what is
//! broken changes nothing, and is said once.
#![cfg(feature = "rules-file")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic, and wait with a bound"
)]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hotspan::{ConfigError, RulesWatch, Sampling, sampling, start_transaction, stats, watch_rules};
use support::session::{LONG, Session, alone};

/// A file in a folder of its own, which goes with it.
struct Rules {
    folder: PathBuf,
    path: PathBuf,
}

impl Rules {
    fn new(text: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("hotspan-rules-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let rules = Self { path: folder.join("rules.json"), folder };
        rules.write(text);
        rules
    }

    fn write(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
    }

    /// As editors and deployments do it.
    fn replace(&self, text: &str) {
        let new = self.folder.join("rules.json.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    fn watch(&self) -> RulesWatch {
        watch_rules(&self.path).unwrap()
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn in_force() -> Sampling {
    sampling().expect("it is running")
}

fn wait_for_rate(rate: f64) {
    wait_until(&format!("a rate of {rate}"), || in_force().traces_sample_rate == Some(rate));
}

/// What the log said of rules files, at level warn.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
static PANIC: AtomicBool = AtomicBool::new(false);

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        if record.level() == log::Level::Warn && text.contains("rules stay") {
            assert_eq!(record.target(), "hotspan");
            SAID.lock().unwrap().push(text);
        }
        assert!(!PANIC.load(Ordering::Relaxed), "a logger that panics");
    }

    fn flush(&self) {}
}

/// From now on.
fn listen() {
    support::log::listen(&Log);
    SAID.lock().unwrap().clear();
}

fn said() -> Vec<String> {
    SAID.lock().unwrap().clone()
}

#[test]
fn what_it_says_applies_when_the_call_returns() {
    let session = Session::start(|config| config.traces_sample_rate = Some(0.25));
    let rules = Rules::new(r#"{"traces_sample_rate": 1, "rules": [{"op": "health*", "rate": 0}]}"#);
    let watch = rules.watch();
    assert_eq!(watch.path(), rules.path);
    assert_eq!((in_force().traces_sample_rate, in_force().rules.len()), (Some(1.0), 1));
    for _ in 0..20 {
        drop(start_transaction("health.live", "probe"));
        drop(start_transaction("queue.process", "orders"));
    }
    let ending = session.end();
    assert_eq!(ending.transactions.len(), 20);
    assert!(ending.transactions.iter().all(|it| it.payload["transaction"] == "orders"));
}

#[test]
fn what_is_wrong_at_first_is_an_error_and_changes_nothing() {
    let session = Session::start(|config| config.traces_sample_rate = Some(0.25));
    let error_of = |path: &Path| watch_rules(path).expect_err("a mistake");
    let rules = Rules::new(r#"{"traces_sample_rate": 0.5, "rules": [{"id": "a", "rate": 7}]}"#);
    let error = error_of(&rules.path);
    assert_eq!(error.to_string(), r#"rule 1 ("a"): rate: expected a number from 0 to 1"#);
    assert!(error.is_sampling() && error.rule() == Some(1));
    rules.write(r#"{"traces_sample_rate": 0.5"#);
    assert!(error_of(&rules.path).is_sampling());
    rules.write("");
    assert_eq!(error_of(&rules.path).to_string(), "expected JSON");
    fs::remove_file(&rules.path).unwrap();
    for path in [&rules.path, &rules.folder] {
        let error: ConfigError = error_of(path);
        assert!(error.is_rules_file() && std::error::Error::source(&error).is_some(), "{error}");
    }
    assert_eq!(in_force().traces_sample_rate, Some(0.25));
    drop(session.end());

    // The same where nothing is running.
    let _alone = alone();
    let rules = Rules::new(r#"{"max_per_second": 0}"#);
    let right = "max_per_second: expected a number above 0, at most 1000000000";
    assert_eq!(error_of(&rules.path).to_string(), right);
    assert!(sampling().is_none());
}

#[test]
fn edits_of_every_kind_are_followed() {
    let session = Session::start(|_| {});
    let rules = Rules::new(r#"{"traces_sample_rate": 0.10}"#);
    let _watch = rules.watch();
    rules.write(r#"{"traces_sample_rate": 0.11}"#);
    wait_for_rate(0.11);
    rules.replace(r#"{"traces_sample_rate": 0.12}"#);
    wait_for_rate(0.12);
    // As long, and with the same time, as if the clock of the file system were coarse.
    let time = fs::metadata(&rules.path).unwrap().modified().unwrap();
    rules.write(r#"{"traces_sample_rate": 0.13}"#);
    File::options().write(true).open(&rules.path).unwrap().set_modified(time).unwrap();
    wait_for_rate(0.13);
    // Away, and back with another text.
    fs::remove_file(&rules.path).unwrap();
    rules.write(r#"{"traces_sample_rate": 0.14}"#);
    wait_for_rate(0.14);
    // By a link that is turned to another file.
    #[cfg(unix)]
    {
        let [one, other] = ["one", "other"].map(|name| rules.folder.join(name));
        fs::write(&one, r#"{"traces_sample_rate": 0.15}"#).unwrap();
        fs::write(&other, r#"{"traces_sample_rate": 0.16}"#).unwrap();
        for (target, rate) in [(one, 0.15), (other, 0.16)] {
            let link = rules.folder.join("link");
            std::os::unix::fs::symlink(target, &link).unwrap();
            fs::rename(link, &rules.path).unwrap();
            wait_for_rate(rate);
        }
    }
    drop(session.end());
}

#[test]
fn the_share_that_is_kept_follows_and_what_is_open_goes_on() {
    let session = Session::start(|_| {});
    let rules = Rules::new(r#"{"rules": [{"op": "queue.*", "rate": 0}]}"#);
    let _watch = rules.watch();
    let open_before = start_transaction("queue.process", "begun before");
    let kept_before = start_transaction("cron", "kept before");
    for _ in 0..50 {
        drop(start_transaction("queue.process", "before").detach());
    }
    rules.replace(r#"{"rules": [{"op": "cron", "rate": 0}]}"#);
    wait_until("the new rule", || in_force().rules[0].op.as_deref() == Some("cron"));
    drop(kept_before);
    drop(open_before);
    for _ in 0..50 {
        drop(start_transaction("queue.process", "after"));
    }
    let ending = session.end();
    let of = |name: &str| {
        ending.transactions.iter().filter(|it| it.payload["transaction"] == *name).count()
    };
    assert_eq!((of("before"), of("begun before")), (0, 0));
    assert_eq!((of("kept before"), of("after")), (1, 50));
}

#[test]
fn a_broken_file_keeps_the_rules_and_is_said_and_counted_once() {
    let session = Session::start(|_| {});
    listen();
    let counted = || stats().sampling.rules_refused - session.before.sampling.rules_refused;
    let rules = Rules::new(r#"{"traces_sample_rate": 0.5}"#);
    let _watch = rules.watch();
    rules.write(r#"{"traces_sample_rate": 0.6, "rules": [{"rate": 2}]}"#);
    wait_until("it was said", || counted() == 1);
    wait_until("it was logged", || said().len() == 1);
    let text = said().remove(0);
    let right = "rules.json: rule 1: rate: expected a number from 0 to 1";
    assert!(text.contains(right), "{text}");
    assert_eq!(in_force().traces_sample_rate, Some(0.5));
    // Touched, and still wrong: many looks later it was not said again.
    rules.write(r#"{"traces_sample_rate": 0.7, "rules": [{"rate": 2}]}"#);
    thread::sleep(Duration::from_millis(1000));
    assert_eq!((counted(), said().len()), (1, 1));
    // Something else is wrong.
    rules.write(r#"{"traces_sample_rate": 0.7, "#);
    wait_until("the other mistake was said", || counted() == 2);
    assert_eq!(in_force().traces_sample_rate, Some(0.5));
    // Right again, and wrong as at first.
    rules.write(r#"{"traces_sample_rate": 0.8}"#);
    wait_for_rate(0.8);
    rules.write(r#"{"traces_sample_rate": 0.6, "rules": [{"rate": 2}]}"#);
    wait_until("it was said again", || counted() == 3);
    // Away, for long.
    fs::remove_file(&rules.path).unwrap();
    wait_until("it was missed", || counted() == 4);
    assert!(said().pop().unwrap().contains("it cannot be read"), "{:?}", said());
    assert!(stats().sampling.last_refusal.unwrap().starts_with("it cannot be read"));
    assert_eq!(in_force().traces_sample_rate, Some(0.8));
    rules.write(r#"{"traces_sample_rate": 0.9}"#);
    wait_for_rate(0.9);
    assert_eq!((counted(), said().len()), (4, 4));
    drop(session.end());
}

#[test]
fn a_logger_that_panics_does_not_end_the_watch() {
    let session = Session::start(|_| {});
    listen();
    let rules = Rules::new("{}");
    let _watch = rules.watch();
    PANIC.store(true, Ordering::Relaxed);
    rules.write("{");
    wait_until("it was counted", || stats().callback_panics > session.before.callback_panics);
    PANIC.store(false, Ordering::Relaxed);
    rules.write(r#"{"traces_sample_rate": 0.75}"#);
    wait_for_rate(0.75);
    assert_eq!(said().len(), 1);
    drop(session.end());
}

#[test]
fn what_the_file_leaves_out_is_as_the_program_says() {
    let session = Session::start(|config| {
        config.traces_sample_rate = Some(0.5);
        config.max_per_second = Some(100.0);
    });
    let rules = Rules::new(r#"{"floor_per_second": 2}"#);
    let _watch = rules.watch();
    let now = || {
        let it = in_force();
        (it.traces_sample_rate, it.max_per_second, it.floor_per_second)
    };
    assert_eq!(now(), (Some(0.5), Some(100.0), Some(2.0)));
    rules.write(r#"{"max_per_second": null, "traces_sample_rate": 0.25}"#);
    wait_until("the file's", || now() == (Some(0.25), None, None));
    // What the program changes goes on, but for what the file has.
    hotspan::reconfigure(|sampling| sampling.floor_per_second = Some(9.0)).unwrap();
    rules.write(r#"{"max_per_second": 7}"#);
    wait_until("the program's", || now() == (Some(0.5), Some(7.0), Some(9.0)));
    rules.write("{}");
    wait_until("the program's alone", || now() == (Some(0.5), Some(100.0), Some(9.0)));
    // Null turns sampling off, not the recorder: it can be turned on again.
    rules.write(r#"{"traces_sample_rate": null}"#);
    wait_until("none", || in_force().traces_sample_rate.is_none());
    drop(start_transaction("queue.process", "not kept"));
    rules.write(r#"{"traces_sample_rate": 1}"#);
    wait_for_rate(1.0);
    drop(start_transaction("queue.process", "kept"));
    let ending = session.end();
    assert_eq!(ending.only().payload["transaction"], "kept");
}

#[test]
fn a_watch_may_begin_before_init_and_outlives_it() {
    let rules = Rules::new(r#"{"traces_sample_rate": 0.125}"#);
    let nothing_runs = Session::start(|_| {}).end();
    let watch = rules.watch();
    assert!(sampling().is_none());
    let session = nothing_runs.then(|config| config.max_per_second = Some(5.0));
    wait_for_rate(0.125);
    assert_eq!(in_force().max_per_second, Some(5.0));
    let ending = session.end();
    assert!(sampling().is_none());
    let session = ending.then(|config| config.traces_sample_rate = Some(0.5));
    wait_for_rate(0.125);
    rules.write("{}");
    wait_for_rate(0.5);
    drop(watch);
    drop(session.end());
}

/// The names of this process's threads, where the system has them.
#[cfg(target_os = "linux")]
fn watching() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    threads
        .filter_map(|it| fs::read_to_string(it.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim() == "hotspan-rules")
        .count()
}

#[test]
#[cfg(target_os = "linux")]
fn a_drop_ends_the_thread_and_the_rules_stay() {
    let session = Session::start(|_| {});
    let rules = Rules::new(r#"{"traces_sample_rate": 0.5}"#);
    for _ in 0..20 {
        let watch = rules.watch();
        wait_until("it is watched", || watching() == 1);
        drop(watch);
        assert_eq!(watching(), 0);
    }
    assert_eq!(in_force().traces_sample_rate, Some(0.5));
    drop(session.end());
}

/// A child that was forked off has a copy of the watch and no thread: dropping it does nothing.
#[test]
#[cfg(unix)]
fn a_fork_drops_its_copy_at_once() {
    let session = Session::start(|_| {});
    let rules = Rules::new(r#"{"traces_sample_rate": 0.5}"#);
    let watch = rules.watch();
    for _ in 0..20 {
        // SAFETY: the child calls nothing that may wait for a thread, and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(watch);
            // SAFETY: it ends this process.
            unsafe { libc::_exit(7) };
        }
        let mut status = 0;
        // SAFETY: waits for the child above.
        let mut reaped = || unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        wait_until("the child left", || reaped() == child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7);
    }
    rules.write(r#"{"traces_sample_rate": 0.25}"#);
    wait_for_rate(0.25);
    drop(watch);
    drop(session.end());
}

/// Opening it would wait for somebody who writes.
#[test]
#[cfg(unix)]
fn a_pipe_is_refused_and_not_waited_for() {
    let rules = Rules::new("{}");
    let pipe = rules.folder.join("pipe");
    let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
    // SAFETY: a C string that lives as long as the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    assert!(watch_rules(&pipe).expect_err("it is no file").is_rules_file());
}

/// What the environment said at `init` is the program's, too.
#[test]
fn what_the_environment_said_stays_where_the_file_says_nothing() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "with_a_rate_in_the_environment", "--ignored"])
        .env("SENTRY_TRACES_SAMPLE_RATE", "0.375")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by the test above, with a variable set"]
fn with_a_rate_in_the_environment() {
    assert_eq!(std::env::var("SENTRY_TRACES_SAMPLE_RATE").as_deref(), Ok("0.375"));
    let session = Session::start(|config| config.traces_sample_rate = None);
    let rules = Rules::new(r#"{"max_per_second": 9}"#);
    let _watch = rules.watch();
    assert_eq!(in_force().traces_sample_rate, Some(0.375));
    assert_eq!(in_force().max_per_second, Some(9.0));
    rules.write(r#"{"traces_sample_rate": 0.5}"#);
    wait_for_rate(0.5);
    rules.write("{}");
    wait_for_rate(0.375);
    drop(session.end());
}
