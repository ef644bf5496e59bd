//! The command line: what can be asked for, and what is wrong with it.

use std::env;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Parser;
use lexopt::prelude::*;

pub(crate) const VERSION: &str = concat!("queue_worker ", env!("CARGO_PKG_VERSION"), "\n");

pub(crate) const HELP: &str = "\
Processes every file in FOLDER through a queue, each as one traced transaction.

Usage: queue_worker [OPTIONS] FOLDER

Options:
      --workers N        threads that take files off the queue, 1 to 256 [default: 2]
      --dsn DSN          upload the envelopes to this Sentry DSN [default: $SENTRY_DSN];
                         without one they go to a new folder below target/hotspan/
      --sample-rate R    share of the files to trace, 0 to 1 [default: 1]
      --rules FILE       which files to trace, by the rules in FILE, which may be edited meanwhile; a
                         line on stderr says when they are taken over or refused, and what is kept
      --for SECONDS      go through FOLDER again and again for that long, 0.1 to 86400
      --hang SECONDS     let one worker hang in one step of one file for that long, 0.5 to 3600; what
                         hangs is named on stderr meanwhile, after a quarter of the time
      --ring-slots N     slots of 64 bytes that a worker may fill before they are read
      --json             print the summary as one JSON object
  -h, --help             print this
  -V, --version          print the version

Exit codes: 0 done (files that failed are part of the result), 1 transactions could not be
delivered, 2 the command line asks for what cannot be done, 130 ended by Ctrl-C.
";

const WORKERS_MAX: usize = 256;
const FOR_SECONDS: RangeInclusive<f64> = 0.1..=86_400.0;
const HANG_SECONDS: RangeInclusive<f64> = 0.5..=3600.0;

/// What the command line asks for.
pub(crate) enum Asked {
    Run(Options),
    Help,
    Version,
}

pub(crate) struct Options {
    pub(crate) folder: PathBuf,
    pub(crate) workers: usize,
    pub(crate) dsn: Option<String>,
    pub(crate) sample_rate: f64,
    /// The rules file.
    pub(crate) rules: Option<PathBuf>,
    /// How long to go on; `None`: once through the folder.
    pub(crate) lasts: Option<Duration>,
    /// `None`: the library's default.
    pub(crate) ring_slots: Option<usize>,
    /// How long one worker is to hang.
    pub(crate) hang: Option<Duration>,
    pub(crate) json: bool,
}

/// Reads the arguments and `SENTRY_DSN`.
pub(crate) fn parse() -> Result<Asked, lexopt::Error> {
    let mut parser = Parser::from_env();
    let mut folder: Option<PathBuf> = None;
    let (mut dsn, mut hang, mut rules, mut lasts) = (None, None, None, None);
    let (mut workers, mut sample_rate, mut ring_slots, mut json) = (2, 1.0, None, false);

    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Asked::Help),
            Short('V') | Long("version") => return Ok(Asked::Version),
            Long("workers") => workers = number(&mut parser, "--workers")?,
            Long("sample-rate") => sample_rate = number(&mut parser, "--sample-rate")?,
            Long("ring-slots") => ring_slots = Some(number(&mut parser, "--ring-slots")?),
            Long("rules") => rules = Some(parser.value()?.into()),
            Long("for") => lasts = Some(number(&mut parser, "--for")?),
            Long("hang") => hang = Some(number(&mut parser, "--hang")?),
            Long("dsn") => dsn = Some(parser.value()?.string()?),
            Long("json") => json = true,
            Value(value) if folder.is_none() => folder = Some(value.into()),
            other => return Err(other.unexpected()),
        }
    }

    let folder = folder.ok_or("name the FOLDER to process (--help tells more)")?;
    if !(1..=WORKERS_MAX).contains(&workers) {
        return Err(format!("--workers takes 1 to {WORKERS_MAX}, not {workers}").into());
    }
    if !(0.0..=1.0).contains(&sample_rate) {
        return Err(format!("--sample-rate takes 0 to 1, not {sample_rate}").into());
    }
    if let Some(seconds) = hang.filter(|seconds| !HANG_SECONDS.contains(seconds)) {
        return Err(format!("--hang takes 0.5 to 3600 seconds, not {seconds}").into());
    }
    if let Some(seconds) = lasts.filter(|seconds| !FOR_SECONDS.contains(seconds)) {
        return Err(format!("--for takes 0.1 to 86400 seconds, not {seconds}").into());
    }
    let lasts = lasts.map(Duration::from_secs_f64);
    let hang = hang.map(Duration::from_secs_f64);
    let dsn = dsn.or_else(|| env::var("SENTRY_DSN").ok()).filter(|dsn| !dsn.is_empty());
    Ok(Asked::Run(Options {
        folder,
        workers,
        dsn,
        sample_rate,
        rules,
        lasts,
        ring_slots,
        hang,
        json,
    }))
}

fn number<T: std::str::FromStr>(parser: &mut Parser, option: &str) -> Result<T, lexopt::Error> {
    let text = parser.value()?.string()?;
    text.parse().map_err(|_| format!("{option} takes a number, not {text:?}").into())
}
