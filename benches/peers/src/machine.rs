//! Where, when and with what: what figures mean nothing without. No host name, no path.

use std::fs::read_to_string;
use std::process::Command;
use std::thread::available_parallelism;

use serde_json::{Map, Value, json};

/// Versions as they were built.
const LOCK: &str = include_str!("../Cargo.lock");
const SHOWN: [&str; 10] = [
    "hotspan",
    "sentry",
    "fastrace",
    "fastrace-opentelemetry",
    "tracing",
    "tracing-subscriber",
    "tracing-opentelemetry",
    "opentelemetry_sdk",
    "emit",
    "tracy-client",
];

pub fn describe() -> Value {
    let processor = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name"));
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    json!({
        "processor": model.map(|model| model.trim_start_matches(['\t', ' ', ':'])),
        "cores": available_parallelism().map_or(0, usize::from),
        "kernel": kernel.trim().split('-').next(),
        "clock_source": read_to_string(clock).unwrap_or_default().trim(),
        // Of the minute before: what else the machine had to do.
        "load_before": read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next(),
        "rustc": output("rustc", &["--version"]),
        "commit": output("git", &["rev-parse", "--short", "HEAD"]),
        "date": output("date", &["-u", "+%F %H:%M UTC"]),
        "profile": "cargo's release: opt-level 3, no LTO, 16 codegen units; the system's allocator",
        "commands": ["benches/peers/run"],
        "versions": versions(),
    })
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().trim().to_owned()
}

fn versions() -> Map<String, Value> {
    let mut versions = Map::new();
    let mut name = "";
    for line in LOCK.lines() {
        let quoted = |key: &str| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"');
        if let Some(found) = quoted("name") {
            name = found;
        } else if let Some(version) = quoted("version")
            && SHOWN.contains(&name)
        {
            versions.insert(name.to_owned(), version.into());
        }
    }
    versions
}
