//! Threads of ours, and whether they are gone.
//!
//! A thread that has said its last word still has to end, and std takes a lock of the process for
//! that (it forgets where the thread's stack lay). Who forks in that moment gets a child that has
//! it locked for ever, in which no thread ever begins. So whoever closes waits for that, too.
//!
//! `JoinHandle::join` waits for more: for the thread-locals of a stranger's code that ran on the
//! thread, and without a limit. What is told here is told by a thread-local of our own, which is
//! the last one that is made, and so the first that is dropped, right after std's lock.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_utils::atomic::AtomicCell;

use crate::shared::clock;

const STACK_BYTES: usize = 512 * 1024;

/// How long a thread that has said its last word is waited for.
const TIMEOUT: Duration = Duration::from_millis(75);
/// Between two looks.
const POLL: Duration = Duration::from_micros(100);

/// The end of a thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending(Arc<AtomicCell<bool>>);

/// Starts a thread. The name has at most 15 bytes: that is what Linux keeps.
///
/// # Errors
/// When the system gives none.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<Ending> {
    let ending = Ending::default();
    let told = ending.clone();
    let run = move || {
        run();
        // After a panic nobody is told, and waits in vain, within the limit.
        told.tell_last();
    };
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run)?;
    Ok(ending)
}

/// Waits for threads that have nothing more to do to be gone, for [`TIMEOUT`] at most in all.
pub(super) fn wait(endings: impl IntoIterator<Item = Ending>) {
    let deadline = clock::monotonic().saturating_add(TIMEOUT);
    for ending in endings {
        while !ending.is_over() && clock::monotonic() < deadline {
            thread::sleep(POLL);
        }
    }
}

impl Ending {
    fn is_over(&self) -> bool {
        self.0.load()
    }

    /// Tells it when this thread is gone, as far as we are concerned.
    fn tell_last(self) {
        let _ = LAST.try_with(|last| last.0.set(Some(self)));
    }
}

struct Last(Cell<Option<Ending>>);

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(ending) = self.0.take() {
            ending.0.store(true);
        }
    }
}

thread_local! {
    static LAST: Last = const { Last(Cell::new(None)) };
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// What a stranger leaves on a thread.
    struct Slow(Cell<Option<Receiver<()>>>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.0.take().map(|until| until.recv());
        }
    }

    thread_local! {
        static SLOW: Slow = const { Slow(Cell::new(None)) };
    }

    #[test]
    fn it_is_told_at_the_end_and_before_what_strangers_left() {
        let (go_on, until) = channel::<()>();
        let (end, ended) = channel::<()>();
        let ending = spawn("hotspan-test", move || {
            SLOW.try_with(|slow| slow.0.set(Some(until))).unwrap();
            let _ = ended.recv();
        })
        .unwrap();
        wait([ending.clone()]);
        assert!(!ending.is_over(), "it has not said its last word");
        drop(end);
        let begun = clock::monotonic();
        while !ending.is_over() {
            assert!(clock::monotonic() - begun < Duration::from_secs(60), "it waits for strangers");
            thread::sleep(POLL);
        }
        drop(go_on);
    }
}
