//! What the process takes of the system, and numbers from the environment.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

/// How much of everything there is; zeros where nothing tells, or where what is told is more than the
/// program's own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Size {
    /// Bytes in memory.
    pub(crate) resident: usize,
    pub(crate) threads: usize,
    pub(crate) files: usize,
}

impl Size {
    /// Zeros too under `HOTSPAN_SIZES=unknown`: sanitizers have memory and a thread of their own.
    pub(crate) fn now() -> Self {
        if std::env::var("HOTSPAN_SIZES").is_ok_and(|sizes| sizes == "unknown") {
            return Self::default();
        }
        let Ok(status) = fs::read_to_string("/proc/self/status") else { return Self::default() };
        let field = |name: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        Self {
            resident: field("VmRSS:") * 1024,
            threads: field("Threads:"),
            files: fs::read_dir("/proc/self/fd").unwrap().count(),
        }
    }

    /// Once that is so; threads that were not waited for need a moment to end.
    pub(crate) fn at_rest(is_at_rest: impl Fn(&Self) -> bool) -> Self {
        for _ in 0..10_000 {
            let size = Self::now();
            if is_at_rest(&size) {
                return size;
            }
            thread::sleep(Duration::from_millis(1));
        }
        Self::now()
    }
}

/// How often this thread gave up its processor to wait for something, so far: a lock, a socket, a
/// sleep. Zero where nothing tells. What merely makes it slower does not count, such as others that
/// want the processor too.
pub(crate) fn waits() -> u64 {
    let Ok(status) = fs::read_to_string("/proc/thread-self/status") else { return 0 };
    let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    waits.map_or(0, |text| text.trim().parse().unwrap())
}

/// How often this thread touched memory that the kernel had to find first, so far. It may wait for
/// another one there, that maps some: as a thread begins, say.
pub(crate) fn page_faults() -> u64 {
    let Ok(stat) = fs::read_to_string("/proc/thread-self/stat") else { return 0 };
    // The name, in brackets, may hold anything.
    let minor = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(7));
    minor.map_or(0, |text| text.parse().unwrap())
}

/// How many threads of this process have a name that begins so.
pub(crate) fn threads_named(beginning: &str) -> usize {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(beginning)).count()
}

/// The binary of an example, built in the profile of this test: `cargo test --test NAME` alone would
/// leave an old one, or none.
pub(crate) fn example(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap().parent().unwrap();
    let profile = match folder.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", name, "--profile", profile])
        .arg("--target-dir")
        .arg(folder.parent().unwrap())
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .status();
    let binary = folder.join("examples").join(name);
    built.unwrap().success().then(|| binary.with_extension(std::env::consts::EXE_EXTENSION))
}

/// A number that scripts set.
pub(crate) fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
