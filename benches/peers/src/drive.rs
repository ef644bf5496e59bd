//! The processes of the peers, as their parent sees them.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use hotspan_peers::Result;
use hotspan_peers::peer::Mode;
use hotspan_peers::peers::Entry;
use serde_json::Value;

/// Where the binaries are.
pub struct Peers {
    folder: PathBuf,
}

impl Peers {
    /// # Errors
    /// The system does not say where this binary is.
    pub fn beside_this_binary() -> Result<Self> {
        let binary = std::env::current_exe()?;
        Ok(Self { folder: binary.parent().ok_or("no folder")?.to_owned() })
    }

    /// A file of our own, below the folder of the binaries.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join("peers");
        std::fs::create_dir_all(&folder)?;
        Ok(folder.join(name))
    }

    pub fn binary(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A process of this peer; or why there is none.
    pub fn start(&self, entry: &Entry, mode: Mode) -> Result<Started> {
        let mut command = Command::new(self.binary("child"));
        command.args([entry.name, &mode.to_string()]);
        Peer::of(Process::start(&mut command)?)
    }

    /// The same with an allocator that counts.
    pub fn start_counting(&self, entry: &Entry, mode: Mode) -> Result<Started> {
        let mut command = Command::new(self.binary("child_allocations"));
        command.args([entry.name, &mode.to_string()]);
        Peer::of(Process::start(&mut command)?)
    }

    /// The same under callgrind, which writes a file each time that the measured function has
    /// returned: `out`, a dot and a number.
    pub fn start_counted(&self, entry: &Entry, mode: Mode, out: &Path) -> Result<Started> {
        let mut file = OsStr::new("--callgrind-out-file=").to_owned();
        file.push(out);
        let mut command = Command::new("valgrind");
        command
            .args(["--quiet", "--tool=callgrind", "--collect-atstart=no"])
            .args(["--toggle-collect=*measured_items*", "--dump-before=*counted_items*"])
            .arg(file)
            .arg(self.binary("child"))
            .args([entry.name, &mode.to_string()])
            .stderr(Stdio::null());
        Peer::of(Process::start(&mut command)?)
    }
}

/// A process that answers each line with a line.
pub struct Process {
    child: std::process::Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { child, requests, answers })
    }

    pub fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(format!("a process ended without an answer: {status}").into());
        }
        Ok(line)
    }

    pub fn ask(&mut self, request: &str) -> Result<Value> {
        if let Some(requests) = &mut self.requests {
            writeln!(requests, "{request}")?;
        }
        Ok(serde_json::from_str(&self.hear()?)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input is the end of it.
        self.requests = None;
        let _ = self.child.wait();
    }
}

/// What became of starting a peer.
pub enum Started {
    Ready(Peer),
    NotOffered(String),
}

/// A peer that is ready.
pub struct Peer(Process);

impl Peer {
    fn of(mut process: Process) -> Result<Started> {
        let first: Value = serde_json::from_str(&process.hear()?)?;
        Ok(match first.get("not_offered").and_then(Value::as_str) {
            Some(why) => Started::NotOffered(why.to_owned()),
            None => Started::Ready(Self(process)),
        })
    }

    pub fn ask(&mut self, request: &str) -> Result<Value> {
        self.0.ask(request)
    }
}
