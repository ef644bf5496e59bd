//! The example as a person runs it: the binary, a folder, and what comes out.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;

use serde_json::Value;

mod support;
use support::server::{Reply, Server};

/// The example's binary, built in the profile of this test: `cargo test --test queue_worker` alone
/// would leave an old one, or none.
fn binary() -> &'static Path {
    static BINARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BINARY.get_or_init(|| support::process::example("queue_worker"));
    built.as_deref().unwrap()
}

/// A new folder to work in, with `files` to process inside.
fn workplace(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("queue_worker").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(folder.join("files")).unwrap();
    folder
}

fn with_sources(name: &str, count: usize) -> PathBuf {
    let place = workplace(name);
    for number in 0..count {
        let text = format!("fn main() {{\n    println!(\"{number}\");\n}}\n");
        fs::write(place.join(format!("files/{number}.rs")), text).unwrap();
    }
    place
}

fn command(place: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(place).args(arguments).stdin(Stdio::null());
    for variable in
        ["SENTRY_DSN", "SENTRY_TRACES_SAMPLE_RATE", "HTTP_PROXY", "http_proxy", "ALL_PROXY"]
    {
        command.env_remove(variable);
    }
    command
}

fn run(place: &Path, arguments: &[&str]) -> Output {
    command(place, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The summary of a run that went well.
fn summary(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The run was refused: a line on stderr with these words, nothing on stdout.
fn assert_refused(output: &Output, words: &str) {
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(complaint.contains(words), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert_eq!(text(&output.stdout), "");
}

/// Transactions in the ledger that were dropped, whatever the reason.
fn dropped(ledger: &Value) -> u64 {
    let reasons = ledger["dropped"].as_object().unwrap();
    reasons.values().map(|count| count["transactions"].as_u64().unwrap()).sum()
}

/// A DSN at a port of this machine where nobody listens.
fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn every_file_becomes_a_delivered_transaction() {
    let place = with_sources("every_file", 40);
    let summary = summary(&run(&place, &["--json", "files"]));
    assert_eq!(summary["items"], 40);
    assert_eq!(summary["failures"], 0);
    assert_eq!(summary["ledger"]["delivered"]["transactions"], 40);
    assert_eq!(summary["ledger"]["delivered"]["spans"], 160);
    for op in ["queue.process", "file.read", "text.count", "hash.sha256"] {
        assert_eq!(summary["ops"][op]["count"], 40, "{op}");
        assert_eq!(summary["ops"][op]["failures"], 0, "{op}");
    }
    assert_eq!(summary["slowest"].as_array().unwrap().len(), 5);
    assert_eq!(summary["slowest"][0]["steps"].as_array().unwrap().len(), 3);

    let folder = place.join(summary["envelopes"]["to"].as_str().unwrap());
    let written = fs::read_dir(folder).unwrap().count();
    assert_eq!(summary["envelopes"]["delivered"], written);
    assert!(written >= 40);
}

#[test]
fn a_ring_too_small_loses_only_what_the_ledger_says() {
    let place = with_sources("small_ring", 3_000);
    let summary = summary(&run(&place, &["--json", "--ring-slots", "64", "files"]));
    let delivered = summary["ledger"]["delivered"]["transactions"].as_u64().unwrap();
    assert_eq!(summary["items"], 3_000);
    assert_eq!(delivered + dropped(&summary["ledger"]), 3_000);
    assert_eq!(summary["ops"]["queue.process"]["count"], delivered);
    assert_eq!(summary["ledger"]["started"]["transactions"], 3_000);
    assert!(delivered > 0 && delivered < 3_000, "{delivered}");
}

#[test]
fn sampling_leaves_out_what_the_ledger_says() {
    let place = with_sources("sampling", 400);
    let summary = summary(&run(&place, &["--json", "--sample-rate", "0.25", "files"]));
    let delivered = summary["ledger"]["delivered"]["transactions"].as_u64().unwrap();
    assert_eq!(summary["items"], 400);
    assert!((20..=200).contains(&delivered), "{delivered}");

    let output = run(&place, &["--sample-rate", "0.25", "files"]);
    let note = text(&output.stdout).lines().nth(1).unwrap().to_owned();
    assert!(note.ends_with("of 400 files: --sample-rate is 0.25."), "{note}");
}

#[test]
fn failures_carry_the_status_of_their_reason() {
    let place = workplace("failures");
    fs::write(place.join("files/not_text.txt"), b"caf\xe9\n").unwrap();
    fs::write(place.join("files/broken.json"), "{\"open\": [1, 2").unwrap();
    fs::write(place.join("files/whole.json"), "{\"open\": [1, 2]}").unwrap();
    let summary = summary(&run(&place, &["--json", "files"]));
    assert_eq!(summary["items"], 3);
    assert_eq!(summary["failures"], 2);
    assert_eq!(summary["ops"]["queue.process"]["failures"], 2);
    assert_eq!(summary["ops"]["text.count"]["failures"], 1);
    assert_eq!(summary["ops"]["json.parse"]["failures"], 1);
    assert_eq!(item(&summary, "not_text.txt")["status"], "invalid_argument");
    assert_eq!(item(&summary, "broken.json")["status"], "invalid_argument");
    assert_eq!(item(&summary, "whole.json")["status"], "ok");
}

#[cfg(unix)]
#[test]
fn a_read_that_fails_is_tried_twice() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let place = workplace("retry");
    symlink("nowhere", place.join("files/gone.txt")).unwrap();
    fs::write(place.join("files/locked.txt"), "secret").unwrap();
    fs::set_permissions(place.join("files/locked.txt"), fs::Permissions::from_mode(0o000)).unwrap();
    let locked = fs::read(place.join("files/locked.txt")).is_err();

    let summary = summary(&run(&place, &["--json", "files"]));
    let gone = item(&summary, "gone.txt");
    assert_eq!(gone["status"], "not_found");
    assert_eq!(steps(gone), [("file.read", "not_found"), ("file.read", "not_found")]);
    // Root may read everything.
    if locked {
        let locked = item(&summary, "locked.txt");
        assert_eq!(locked["status"], "permission_denied");
        assert_eq!(steps(locked).len(), 2);
    }
    assert_eq!(summary["failures"], 1 + u64::from(locked));

    let folder = place.join(summary["envelopes"]["to"].as_str().unwrap());
    let envelopes = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let retried = envelopes.map(|path| fs::read_to_string(path).unwrap());
    let retry = "\"messaging.message.retry.count\":1";
    assert_eq!(retried.filter(|it| it.contains(retry)).count(), 1 + usize::from(locked));
}

fn item<'a>(summary: &'a Value, id: &str) -> &'a Value {
    summary["slowest"].as_array().unwrap().iter().find(|item| item["message_id"] == id).unwrap()
}

fn steps(item: &Value) -> Vec<(&str, &str)> {
    let steps = item["steps"].as_array().unwrap();
    steps.iter().map(|it| (it["op"].as_str().unwrap(), it["status"].as_str().unwrap())).collect()
}

#[test]
fn what_cannot_be_done_is_refused_in_one_line() {
    let place = workplace("refused");
    fs::write(place.join("a_file"), "").unwrap();
    assert_refused(&run(&place, &["nowhere"]), "there is no folder nowhere");
    assert_refused(&run(&place, &["files"]), "there are no files in files");
    assert_refused(&run(&place, &["a_file"]), "a_file is not a folder");
    assert_refused(&run(&place, &[]), "name the FOLDER");
    assert_refused(&run(&place, &["--workers", "0", "files"]), "--workers takes 1 to 256");
    assert_refused(&run(&place, &["--workers", "two", "files"]), "--workers takes a number");
    assert_refused(&run(&place, &["--sample-rate", "1.5", "files"]), "--sample-rate takes 0 to 1");
    assert_refused(&run(&place, &["--sample-rate", "NaN", "files"]), "--sample-rate takes 0 to 1");
    assert_refused(&run(&place, &["--hang", "0", "files"]), "--hang takes 0.5 to 3600");
    assert_refused(&run(&place, &["--hang", "NaN", "files"]), "--hang takes 0.5 to 3600");
    assert_refused(&run(&place, &["--frobnicate", "files"]), "--frobnicate");
    assert_refused(&run(&place, &["files", "files"]), "unexpected argument");

    fs::write(place.join("files/one.rs"), "").unwrap();
    assert_refused(&run(&place, &["--ring-slots", "0", "files"]), "ring_slots");
    let refused = run(&place, &["--dsn", "http://topsecret@", "files"]);
    assert_refused(&refused, "dsn");
    assert!(!text(&refused.stderr).contains("topsecret"));
    assert_eq!(fs::read_dir(place.join("target/hotspan")).unwrap().count(), 0);
}

#[test]
fn an_unreachable_server_is_reported_with_count_and_reason() {
    let place = with_sources("unreachable", 7);
    let address = closed_port();
    let dsn = format!("http://topsecret@{address}/1");
    let output = run(&place, &["--json", "--dsn", &dsn, "files"]);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    let words = format!("7 of 7 transactions could not be delivered to {address}: ");
    assert!(complaint.contains(&words), "{complaint}");
    assert!(complaint.to_lowercase().contains("refused"), "{complaint}");
    assert!(!complaint.contains("topsecret") && !text(&output.stdout).contains("topsecret"));

    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["items"], 7);
    assert_eq!(summary["ledger"]["delivered"]["transactions"], 0);
    assert_eq!(dropped(&summary["ledger"]), 7);
    assert!(!place.join("target").exists());
}

#[test]
fn a_dsn_has_everything_uploaded() {
    let place = with_sources("upload", 9);
    let server = Server::start();
    let address = server.address().to_string();
    let mut command = command(&place, &["--json", "files"]);
    command.env("SENTRY_DSN", format!("http://topsecret@{address}/1"));
    let summary = summary(&command.output().unwrap());
    assert_eq!(summary["ledger"]["delivered"]["transactions"], 9);
    assert_eq!(summary["ops"]["queue.process"]["count"], 9);
    assert_eq!(summary["envelopes"]["to"], address);
    assert_eq!(summary["envelopes"]["delivered"], server.requests().len());
    assert!(!place.join("target").exists());
}

#[test]
fn a_server_that_refuses_is_reported_with_its_status() {
    let place = with_sources("refusing", 3);
    let server = Server::start();
    for _ in 0..10 {
        server.reply(Reply::status(403, &[], b"{}"));
    }
    let dsn = format!("http://topsecret@{}/1", server.address());
    let output = run(&place, &["--dsn", &dsn, "files"]);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("3 of 3 transactions could not be delivered"), "{complaint}");
    assert!(complaint.contains("HTTP status 403"), "{complaint}");
}

#[test]
fn a_worker_that_hangs_is_named_while_it_hangs() {
    let place = with_sources("hang", 9);
    let output = run(&place, &["--json", "--hang", "1", "--workers", "3", "files"]);
    let report = text(&output.stderr);
    let summary = summary(&output);
    assert_eq!((&summary["items"], &summary["ledger"]["stuck"]), (&9.into(), &1.into()));
    let slowest = &summary["slowest"][0];
    assert!(slowest["duration_us"].as_u64().unwrap() >= 1_000_000, "{slowest}");

    // queue_worker: stuck: worker-2 has been in hang (3.rs) for 252 ms; its queue.process ...
    assert_eq!(report.lines().count(), 1, "{report}");
    let line = report.strip_prefix("queue_worker: stuck: worker-").unwrap();
    let file = slowest["message_id"].as_str().unwrap();
    let (worker, line) = line.split_once(&format!(" has been in hang ({file}) for ")).unwrap();
    assert!(["1", "2", "3"].contains(&worker), "{report}");
    let (step, item) = line.split_once("; its queue.process (rust source) is open for ").unwrap();
    // Both were open for as long as it takes to be stuck, and for less than in the end.
    for age in [step, item] {
        let (milliseconds, _) = age.split_once(" ms").expect("less than a second");
        assert!(milliseconds.parse::<f64>().unwrap() > 200.0, "{report}");
    }
}

#[test]
fn a_person_gets_a_table_the_slowest_and_the_ledger() {
    let place = with_sources("text", 3);
    let output = run(&place, &["files"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "", "no progress bar where there is no terminal");
    let report = text(&output.stdout);
    for words in ["3 files in ", " queue.process       3 ", "0.rs (rust source)", "The ledger"] {
        assert!(report.contains(words), "{words:?} is missing:\n{report}");
    }
    assert!(report.lines().last().unwrap().contains("target/hotspan/"), "{report}");
}

#[test]
fn help_and_version_are_answered() {
    let place = workplace("help");
    let help = run(&place, &["--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("--ring-slots N"));
    assert!(text(&help.stdout).contains("--hang SECONDS"));
    let version = run(&place, &["--version"]);
    assert_eq!(text(&version.stdout), concat!("queue_worker ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_in_good_order() {
    let place = workplace("ctrl_c");
    // Enough work for many seconds, in little space.
    fs::write(place.join("original"), "some words in a line\n".repeat(50_000)).unwrap();
    for number in 0..2_000 {
        fs::hard_link(place.join("original"), place.join(format!("files/{number}.txt"))).unwrap();
    }
    let mut command = command(&place, &["--json", "files"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !envelope_below(&place.join("target/hotspan")) {
        thread::sleep(std::time::Duration::from_millis(10));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();

    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let items = summary["items"].as_u64().unwrap();
    assert!((1..2_000).contains(&items), "{items}");
    assert_eq!(summary["interrupted"], true);
    assert_eq!(summary["ledger"]["delivered"]["transactions"], items);
}

#[cfg(unix)]
fn envelope_below(folder: &Path) -> bool {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .any(|entry| entry.file_type().is_file())
}

/// Reads lines until one is as wanted; what it says.
fn line_that<T>(lines: &mut impl Iterator<Item = String>, wanted: impl Fn(&str) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let found = lines.by_ref().take(600).find_map(|line| {
        seen.push(line);
        seen.last().and_then(|line| wanted(line))
    });
    assert!(found.is_some(), "none of these lines is it: {seen:#?}");
    found.unwrap()
}

/// `queue_worker: rules: kept 12 of 340 (3.5 %)`: kept, and of how many.
fn share(line: &str) -> Option<(u64, u64)> {
    let (kept, rest) = line.strip_prefix("queue_worker: rules: kept ")?.split_once(" of ")?;
    Some((kept.parse().ok()?, rest.split_once(' ')?.0.parse().ok()?))
}

#[test]
fn rules_that_are_edited_meanwhile_apply_at_once() {
    let place = with_sources("rules", 20);
    let rules = place.join("rules.json");
    let write = |text: &str| {
        fs::write(place.join("new.json"), text).unwrap();
        fs::rename(place.join("new.json"), &rules).unwrap();
    };
    write(r#"{"rules": [{"op": "queue.process", "rate": 0}]}"#);
    let mut child = command(&place, &["--json", "--rules", "rules.json", "--for", "600", "files"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let nothing = |line: &str| share(line).filter(|(kept, of)| *kept == 0 && *of > 0);
    line_that(&mut lines, nothing);

    write(
        r#"{
            "rules": [{"op": "queue.process", "rate": 0, "keep": {"slower_than": 1e-9}}],
            "max_per_second": 100
        }"#,
    );
    let taken = |line: &str| line.contains("rules: taken over from").then_some(());
    line_that(&mut lines, taken);
    line_that(&mut lines, |line| share(line).filter(|(kept, of)| *kept > 0 && kept < of));

    write(r#"{"rules": [{"op": "queue.process", "rate": 2}]}"#);
    let why =
        line_that(&mut lines, |line| line.split_once("rules: refused").map(|l| l.1.to_owned()));
    assert!(why.contains("rule 1") && why.contains("rate"), "{why}");

    write(r#"{"rules": [{"op": "queue.process", "rate": 0, "keep": {"slower_than": 3600}}]}"#);
    line_that(&mut lines, taken);
    line_that(&mut lines, nothing);

    let stopped = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    for _ in lines {}
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let slow = summary["kept"]["slow"].as_u64().unwrap();
    assert!(slow > 0);
    assert_eq!(summary["ledger"]["delivered"]["transactions"], slow);
    assert!(summary["ledger"]["unsampled"].as_u64().unwrap() > 0);
    assert!(summary["ledger"]["discarded"]["transactions"].as_u64().unwrap() > 0);
}

#[test]
fn rules_that_are_wrong_are_refused_before_anything_is_done() {
    let place = with_sources("wrong_rules", 1);
    fs::write(place.join("rules.json"), r#"{"rules": [{"id": "mine", "rate": 2}]}"#).unwrap();
    assert_refused(&run(&place, &["--rules", "rules.json", "files"]), "(\"mine\")");
    assert_refused(&run(&place, &["--rules", "none.json", "files"]), "none.json");
    assert_refused(&run(&place, &["--for", "0", "files"]), "--for takes");
}
