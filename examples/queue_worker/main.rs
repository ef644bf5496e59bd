//! A queue and its workers, watched by hotspan: the crate's main job, on real input.
//!
//! ```text
//! cargo run --release --example queue_worker -- FOLDER
//! ```
//!
//! A producer walks FOLDER and puts each file on a bounded queue; workers take the files off it,
//! read them, count or parse their text, and hash them. Each file becomes one transaction, each
//! step a child span, each failure a status. At the end the program prints what it learnt from its
//! own envelopes: a table per op, the slowest files with their steps, and the ledger. It needs no
//! account and no network: unless a DSN is given, the envelopes stay in a new folder below
//! `target/hotspan/`.
//!
//! To read it: `worker.rs` holds the loop and is all that an application would have to write;
//! `stuck.rs` says what hangs, while it does; `rules.rs` has rules changed meanwhile; `tee.rs` is a transport of one's own; the rest is a
//! command line around them.
#![forbid(unsafe_code)]

mod cli;
mod files;
mod kinds;
mod outlet;
mod progress;
mod report;
mod rules;
mod stuck;
mod summary;
mod tee;
mod worker;

use std::io::{self, Write};
use std::iter;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use hotspan::{Config, Count, Guard};

use crate::cli::{Asked, Options};
use crate::files::{Item, Source};
use crate::outlet::Outlet;
use crate::progress::Progress;
use crate::report::Run;
use crate::rules::Rules;
use crate::stuck::Hang;
use crate::worker::Tally;

/// Files that may wait between the producer and the workers.
const QUEUE_LENGTH: usize = 256;
/// How long the end of the program waits for the next envelope to be delivered.
const PATIENCE: Duration = Duration::from_secs(10);
/// What it waits after that.
const GRACE: Duration = Duration::from_secs(1);
/// How often the progress bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Everything went well, also when some files could not be processed: failures are what is
/// measured.
const FINE: u8 = 0;
/// Transactions were recorded and could not be delivered.
const UNDELIVERED: u8 = 1;
/// The command line asks for what cannot be done.
const USAGE: u8 = 2;
/// Ctrl-C, by the shells' convention 128 + SIGINT.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let done = match cli::parse() {
        Ok(Asked::Help) => print(cli::HELP).map(|()| FINE),
        Ok(Asked::Version) => print(cli::VERSION).map(|()| FINE),
        Ok(Asked::Run(options)) => run(&options),
        Err(problem) => Err(problem.to_string()),
    };
    ExitCode::from(done.unwrap_or_else(|problem| {
        complain(&problem);
        USAGE
    }))
}

/// Does the work and says what came of it. An error is what keeps the work from being started.
fn run(options: &Options) -> Result<u8, String> {
    let source = Source::open(&options.folder)?;
    let outlet = Outlet::open(options.dsn.as_deref())?;
    let source = source.except(outlet.folder());
    let tally = Tally::default();
    let mut files = source.files(&tally).peekable();
    if files.peek().is_none() {
        outlet.discard();
        return Err(format!(
            "there are no files in {}: name a folder with something to process",
            options.folder.display()
        ));
    }

    let board = Arc::default();
    let hang = Hang::new(options.hang);
    let progress = Progress::new();
    let shown = progress.clone();
    let mut config = Config {
        dsn: options.dsn.clone(),
        traces_sample_rate: Some(options.sample_rate),
        transport: outlet.delivery(&board),
        queue_bytes: outlet.queue_bytes(),
        stuck_after: Some(hang.stuck_after()),
        on_stuck: Some(Arc::new(move |open| shown.aside(|| complain(&stuck::describe(open))))),
        ..Config::default()
    };
    if let Some(slots) = options.ring_slots {
        config.ring_slots = slots;
    }
    let hotspan = hotspan::init(config).map_err(|error| {
        outlet.discard();
        error.to_string()
    })?;

    let rules = options.rules.as_deref().map(Rules::watch).transpose();
    let rules = rules.inspect_err(|_| outlet.discard())?;

    let stop = stop_on_ctrl_c()?;
    let started = now();
    let is_time_left = || options.lasts.is_some_and(|lasts| started.elapsed() < lasts);
    let again = iter::repeat_with(|| source.files(&tally))
        .take_while(|_| is_time_left() && !stop.load(Ordering::Relaxed))
        .flatten();
    let files = files.chain(again).take_while(|_| options.lasts.is_none() || is_time_left());
    let work =
        Work { source: &source, tally: &tally, hang: &hang, progress: &progress, stop: &stop };
    work.off(options.workers, files, rules)?;
    let elapsed = started.elapsed();
    deliver_the_rest(hotspan, &progress);
    progress.finish();

    let [items, failures, unlisted] = tally.read();
    let run = Run {
        options,
        elapsed,
        items,
        failures,
        unlisted,
        interrupted: stop.load(Ordering::Relaxed),
        summary: &tee::lock(&board),
        ledger: hotspan::stats(),
        outlet: &outlet,
    };
    print(&if options.json { run.as_json()? } else { run.as_text() })?;
    let complaint = run.complaint();
    if let Some(complaint) = &complaint {
        complain(complaint);
    }
    Ok(match complaint {
        _ if run.interrupted => INTERRUPTED,
        Some(_) => UNDELIVERED,
        None => FINE,
    })
}

/// What the threads of a run share.
struct Work<'a> {
    source: &'a Source,
    tally: &'a Tally,
    hang: &'a Hang,
    progress: &'a Progress,
    stop: &'a AtomicBool,
}

impl Work<'_> {
    /// One producer, some workers, and this thread, which says how it goes until they are done.
    fn off(
        &self,
        workers: usize,
        files: impl Iterator<Item = Item> + Send,
        mut rules: Option<Rules>,
    ) -> Result<(), String> {
        let &Self { source, tally, hang, progress, stop } = self;
        let (sender, queue) = crossbeam_channel::bounded(QUEUE_LENGTH);
        // Nothing is ever sent here: it disconnects when the last worker lets go of its end.
        let (working, done) = crossbeam_channel::bounded::<()>(0);
        let no_thread = |error: io::Error| format!("a thread could not be started: {error}");

        thread::scope(|scope| {
            for number in 1..=workers {
                let (queue, working) = (queue.clone(), working.clone());
                let name = format!("worker-{number}");
                thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, move || {
                        worker::work(&queue, tally, hang);
                        drop(working);
                    })
                    .map_err(no_thread)?;
            }
            drop(working);
            thread::Builder::new()
                .name("producer".to_owned())
                .spawn_scoped(scope, move || files::feed(files, &sender, stop))
                .map_err(no_thread)?;

            if progress.is_shown() {
                thread::Builder::new()
                    .name("counter".to_owned())
                    .spawn_scoped(scope, || progress.count(source, stop))
                    .map_err(no_thread)?;
            }
            while done.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                progress.show(tally);
                if let Some(rules) = &mut rules {
                    rules.look(|line| progress.aside(|| complain(line)));
                }
                if stop.load(Ordering::Relaxed) {
                    empty(&queue);
                }
            }
            Ok(())
        })
    }
}

/// Waits for the envelopes, as long as any are delivered. What became of each is in the ledger.
fn deliver_the_rest(hotspan: Guard, progress: &Progress) {
    let (mut delivered, mut waited) = (Count::default(), Duration::ZERO);
    while waited < PATIENCE {
        let report = hotspan.flush(TICK);
        if report.complete {
            break;
        }
        waited = if report.delivered == delivered { waited + TICK } else { Duration::ZERO };
        delivered = report.delivered;
        progress.show_rest(report.left.transactions);
    }
    let _ = hotspan.close(GRACE);
}

/// Takes back what no worker has taken yet, so that the workers finish what they hold and stop.
fn empty(queue: &Receiver<Item>) {
    queue.try_iter().for_each(drop);
}

/// The first Ctrl-C asks for an orderly end, the second one ends the program at once.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
    })
    .map_err(|error| format!("Ctrl-C cannot be caught: {error}"))?;
    Ok(stop)
}

#[expect(clippy::disallowed_methods, reason = "an application has no clock seam")]
fn now() -> Instant {
    Instant::now()
}

/// Writes to stdout; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> Result<(), String> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("stdout cannot be written: {error}"))
        }
        _ => Ok(()),
    }
}

/// One line on stderr. When even that is closed there is nobody left to tell.
fn complain(problem: &str) {
    drop(writeln!(io::stderr(), "queue_worker: {problem}"));
}
