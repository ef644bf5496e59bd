//! A process that forks as soon as `close` has returned: threads can be started in the child.
//!
//! std takes a lock of the process as a thread begins and as it ends. A child that was forked off
//! meanwhile has it locked for ever: none of its threads gets to what it is to do. What a thread
//! frees under that lock is its name; an allocator that takes its time over it stretches the moment.
//!
//! A thread of the host can be in that moment all the same. `init` in the child says so then.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic and say why not"
)]

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() {
    unix::main();
}

#[cfg(unix)]
mod unix {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::{Duration, Instant};

    use hotspan::{Config, ConfigError, Delivery, Guard};

    const LONG: Duration = Duration::from_secs(30);
    const CHILD_MAX: Duration = Duration::from_secs(20);

    struct Slow;

    // SAFETY: all of it is the system's.
    unsafe impl GlobalAlloc for Slow {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as the caller says.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            if layout.align() == 1 && (13..=14).contains(&layout.size()) {
                // SAFETY: allocated, and of that size.
                let bytes = unsafe { std::slice::from_raw_parts(at, layout.size()) };
                if [&b"hotspan-flush"[..], b"hotspan-spool", b"hotspan-upload"].contains(&bytes) {
                    thread::sleep(Duration::from_millis(20));
                } else if bytes == HOST.as_bytes() && ARMED.swap(false, Ordering::Relaxed) {
                    HELD.store(true, Ordering::Relaxed);
                    let begun = Instant::now();
                    while HELD.load(Ordering::Relaxed) && begun.elapsed() < LONG {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            }
            // SAFETY: as the caller says.
            unsafe { System.dealloc(at, layout) }
        }
    }

    #[global_allocator]
    static SLOW: Slow = Slow;

    /// A thread of the host, as long a name as the others.
    const HOST: &str = "somebody-else";
    /// The next time its name is freed.
    static ARMED: AtomicBool = AtomicBool::new(false);
    /// It is in that moment, until the other says that it is over.
    static HELD: AtomicBool = AtomicBool::new(false);

    pub(super) fn main() {
        let spool = std::env::temp_dir().join(format!("hotspan-fork-{}", std::process::id()));
        for round in 0..6 {
            let spool_dir = (round % 2 == 1).then(|| spool.clone());
            let guard = init(spool_dir).unwrap();
            drop(hotspan::start_transaction("queue.process", "orders"));
            assert!(guard.close(LONG).complete);
            let is_well = in_child(|| thread::spawn(|| ()).join().is_ok());
            assert!(is_well, "no thread begins in the child of round {round}");
        }
        let _ = std::fs::remove_dir_all(&spool);

        let (end, ended) = channel::<()>();
        let run = move || assert!(ended.recv().is_err());
        let host = thread::Builder::new().name(HOST.to_owned()).spawn(run).unwrap();
        // To start it, a name was freed, too.
        ARMED.store(true, Ordering::Relaxed);
        drop(end);
        let begun = Instant::now();
        while !HELD.load(Ordering::Relaxed) {
            if begun.elapsed() > LONG {
                eprintln!("this std frees no name as a thread ends: nothing to be tested");
                return;
            }
        }
        let child = fork(|| init(None).is_err());
        HELD.store(false, Ordering::Relaxed);
        assert!(is_well(child), "a library without threads");
        host.join().unwrap();
        assert!(in_child(|| init(None).is_ok()));
    }

    fn init(spool_dir: Option<PathBuf>) -> Result<Guard, ConfigError> {
        hotspan::init(Config {
            transport: Delivery::Null,
            traces_sample_rate: Some(1.0),
            spool_dir,
            ..Config::default()
        })
    }

    /// What a child says that is forked off now; false if it does not end.
    fn in_child(run: impl FnOnce() -> bool) -> bool {
        is_well(fork(run))
    }

    fn fork(run: impl FnOnce() -> bool) -> libc::pid_t {
        // SAFETY: that is what is tested.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let is_well = run();
            // SAFETY: ends the process, with nothing to be run.
            unsafe { libc::_exit(i32::from(!is_well)) }
        }
        child
    }

    fn is_well(child: libc::pid_t) -> bool {
        let start = Instant::now();
        let mut status = 0;
        // SAFETY: a child of this process that has not been waited for.
        while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
            if start.elapsed() > CHILD_MAX {
                // SAFETY: as above.
                unsafe { libc::kill(child, libc::SIGKILL) };
            }
            thread::sleep(Duration::from_millis(1));
        }
        status == 0
    }
}
