//! [`watch_rules`]: sampling rules in a file that an operator edits while the program runs.
//!
//! 1. `watch_rules` reads the file on the caller's thread, so that a mistake is an error there, and
//!    puts it in force.
//! 2. A thread looks at the file four times a second (`rules/look.rs` says whether there is
//!    anything new), and puts what is right in force (`rules/follow.rs`).
//! 3. What is wrong is not put in force. It is reported when the next look finds the same: a file
//!    that is only just being written, or away for a moment, is nobody's mistake.
//! 4. Dropping the watch stops the thread. The rules stay.
//!
//! Nothing here has a lock: the thread sleeps until it is woken, and a process that was forked off
//! only leaves alone what belongs to its parent.

mod follow;
mod look;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_utils::atomic::AtomicCell;

use self::follow::Follower;
use crate::error::ConfigError;
use crate::shared::ledger;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a drop looks whether the thread has ended, in milliseconds and times. It takes longer
/// than a moment where the file system hangs.
const STOP_STEP: Duration = Duration::from_millis(1);
const STOP_STEPS: u32 = 1000;

/// Samples by the rules in a file, and keeps to them while the file is edited: what it says applies
/// within half a second or so, to transactions that start later.
///
/// The file is JSON with the fields of [`Sampling`](crate::Sampling): all of them optional, in an
/// object, of at most 1 MiB. A field that it has goes before what the program says, in the
/// [`Config`](crate::Config), in the environment or by [`reconfigure`](crate::reconfigure); `null`
/// says "none". A field that it leaves out, or no longer has, is as the program says.
///
/// ```json
/// {
///     "traces_sample_rate": 0.01,
///     "max_per_second": 50,
///     "rules": [
///         {"op": "health*", "rate": 0},
///         {"id": "orders", "op": "queue.process", "name": "orders", "rate": 0.02,
///          "keep": {"failed": true, "slower_than": 0.5}}
///     ]
/// }
/// ```
///
/// A file that is broken, away or too large changes nothing: the rules before stay. That is logged
/// (target `hotspan`, level warn), once for as long as the same is wrong, and counted in
/// [`Stats::sampling`](crate::Stats::sampling).
///
/// It may be called before [`init`](crate::init) or after it, and goes on over a later one: what
/// the file says then applies from shortly after `init`. It does not turn on tracing where `init`
/// found neither a rate, nor a sampler, nor rules, nor where to send to. Of two watches, the one
/// whose file changed last has its way. It starts one thread, `hotspan-rules`, which looks at the
/// file four times a second; threads that record do not wait for it.
///
/// # Errors
/// The file cannot be read ([`ConfigError::is_rules_file`]), or says what cannot be
/// ([`ConfigError::is_sampling`], which names the rule): then nothing has changed. The thread
/// cannot be started ([`ConfigError::is_thread`]).
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("hotspan-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("rules.json");
/// use hotspan::{Config, Delivery};
///
/// std::fs::write(&path, r#"{"rules": [{"op": "health*", "rate": 0}]}"#)?;
/// let guard = hotspan::init(Config {
///     transport: Delivery::Null,
///     traces_sample_rate: Some(1.0),
///     ..Config::default()
/// })?;
/// let watch = hotspan::watch_rules(&path)?;
///
/// drop(hotspan::start_transaction("health.live", "probe")); // not recorded
/// drop(hotspan::start_transaction("queue.process", "orders"));
/// let report = guard.close(std::time::Duration::from_secs(2));
/// assert_eq!(report.delivered.transactions, 1);
/// # drop(watch);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn watch_rules(path: impl AsRef<Path>) -> Result<RulesWatch, ConfigError> {
    let path = path.as_ref();
    // The program may change its folder later.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut follower = Follower::begin(&path)?;
    let stop = Arc::new(AtomicCell::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::Builder::new()
        .name("hotspan-rules".into())
        .spawn(move || {
            while !stopped.load() {
                // The log is the host's code. A look that panics is followed by the next.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| follower.look())) {
                    ledger::books().callback_panics.add(1);
                    forget(payload);
                }
                thread::park_timeout(LOOK_EVERY);
            }
        })
        .map_err(ConfigError::thread)?;
    Ok(RulesWatch { path, thread: Some(thread), stop, process: std::process::id() })
}

/// Leaks a panic's payload: its destructor is a stranger's, and may panic again.
#[expect(clippy::mem_forget, reason = "see above; a payload is small, and rare")]
fn forget(payload: Box<dyn std::any::Any + Send>) {
    std::mem::forget(payload);
}

/// A watch over a rules file, by [`watch_rules`]: it ends when this is dropped.
///
/// The rules that are in force then stay in force. Dropping takes milliseconds, and a second at
/// most, where the file system hangs.
///
/// ```no_run
/// let _guard = hotspan::init(hotspan::Config::default())?;
/// let _watch = hotspan::watch_rules("/etc/worker/rules.json")?;
/// // .. the loop ..
/// # Ok::<(), hotspan::ConfigError>(())
/// ```
#[must_use = "the file is no longer watched once this is dropped"]
pub struct RulesWatch {
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicCell<bool>>,
    process: u32,
}

impl RulesWatch {
    /// The file, from the root.
    ///
    /// ```no_run
    /// let watch = hotspan::watch_rules("/etc/worker/rules.json")?;
    /// assert!(watch.path().ends_with("rules.json"));
    /// # Ok::<(), hotspan::ConfigError>(())
    /// ```
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for RulesWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RulesWatch").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for RulesWatch {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.process != std::process::id() {
            // A fork's copy: the thread is the parent's.
            #[expect(clippy::mem_forget, reason = "there is no such thread in this process")]
            std::mem::forget(thread);
            return;
        }
        self.stop.store(true);
        for _ in 0..STOP_STEPS {
            if thread.is_finished() {
                break;
            }
            thread.thread().unpark();
            thread::sleep(STOP_STEP);
        }
    }
}
