//! Processes that fork while everything is going on: the child never hangs, never sends what its
//! parent recorded, and may start anew with ids of its own; the parent notices nothing.
//!
//! A test of its own without a harness: the thread that forks is the main one, so that a child can
//! return from `main`. `HOTSPAN_FORKS` says how many children there are (200).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::mem_forget,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "helpers of tests panic as tests do"
)]

#[cfg(all(unix, feature = "http"))]
mod support;

#[cfg(not(all(unix, feature = "http")))]
fn main() {}

#[cfg(all(unix, feature = "http"))]
fn main() {
    unix::main();
}

#[cfg(all(unix, feature = "http"))]
mod unix {
    use std::collections::HashSet;
    use std::mem::ManuallyDrop;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};
    use std::{fs, process, thread};

    use hotspan::transport::{Http, HttpOptions};
    use hotspan::{Config, Count, Delivery, Detached, Guard, SpanContext, Transaction, stats};

    use crate::support::envelope::Opened;
    use crate::support::process::{Size, env_number};
    use crate::support::server::Server;

    /// A child that takes longer hangs.
    const CHILD_MAX: Duration = Duration::from_secs(60);
    const LONG: Duration = Duration::from_secs(30);
    const THREADS: u64 = 3;
    const TRANSACTIONS: u64 = 4;
    const CHILDREN: u64 = 5;

    static STOP: AtomicBool = AtomicBool::new(false);

    /// What a child does.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Life {
        /// Records on, looks at the books, and ends by `_exit`, or by `process::exit`.
        Records,
        RecordsAndExits,
        /// Drops its copy of the guard, and records on.
        DropsTheGuard,
        /// Begins anew, into files or to the server, and ends by `_exit`.
        Begins,
        BeginsOverHttp,
        /// Begins anew, and returns from `main` with the guard.
        BeginsAndReturns,
        /// Begins anew, leaks the guard, and ends by `process::exit`.
        BeginsAndExits,
        /// Begins anew, closes, and has a child that does the same.
        BeginsAndForks,
    }

    const LIVES: [Life; 8] = [
        Life::Records,
        Life::Begins,
        Life::RecordsAndExits,
        Life::BeginsOverHttp,
        Life::DropsTheGuard,
        Life::BeginsAndReturns,
        Life::BeginsAndExits,
        Life::BeginsAndForks,
    ];

    /// What the parent has open while it forks, and the child gets copies of.
    struct Inherited {
        guard: Guard,
        transaction: Transaction,
        detached: Detached,
        context: SpanContext,
    }

    struct Place {
        folder: PathBuf,
        url: String,
    }

    pub(super) fn main() {
        let forks = env_number("HOTSPAN_FORKS", 200);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.join(format!("fork-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        // For ever: a child that returns would wait for threads that it does not have.
        let parents: &Server = Box::leak(Box::new(Server::start()));
        let childrens: &Server = Box::leak(Box::new(Server::start()));
        let place = Place { folder, url: childrens.url() };

        let mut guard =
            hotspan::init(Config { upload_concurrency: 1, ..over_http(&parents.url()) }).unwrap();
        // A child must not let go of threads that it does not have.
        let mut busy = ManuallyDrop::new(keep_busy());
        let mut slowest = Duration::ZERO;
        parents.wait_for_requests(1);
        let resting = Size::now().threads;
        let lives = usize::try_from(forks).unwrap();
        for (number, life) in (0..forks).zip(LIVES.into_iter().cycle()) {
            let transaction = hotspan::start_transaction("queue.process", "parent's, open");
            let detached = hotspan::start_transaction("queue.process", "parent's, detached");
            let detached = detached.detach();
            let context = transaction.context();
            let inherited = Inherited { guard, transaction, detached, context };
            // std takes a lock as a thread begins or ends. Where that is held now, no thread of the
            // child ever begins: the server's have to be gone that served the child before.
            Size::at_rest(|size| size.threads <= resting);
            // SAFETY: the child goes on in this thread alone and calls what may be called there:
            // that is what is tested.
            match unsafe { libc::fork() } {
                0 => return live(life, number, inherited, &place),
                child => slowest = slowest.max(reap(child, life)),
            }
            Inherited { guard, .. } = inherited;
        }
        STOP.store(true, Ordering::Relaxed);
        busy.drain(..).for_each(|thread| thread.join().unwrap());
        let report = guard.close(LONG);
        let after = stats();
        after.check().unwrap();
        assert!(after.is_at_rest() && report.left == Count::default(), "{after}");

        // The parent's: each delivered once, by the parent.
        let mut seen = Seen::default();
        let mut delivered = Count::default();
        for request in parents.requests() {
            let opened = Opened::new(&request.unpacked());
            if opened.kind == "transaction" {
                assert!(opened.name().starts_with("parent's"), "{}", opened.name());
                delivered = add(delivered, opened.count());
                seen.add(&opened);
            }
        }
        assert_eq!(delivered, after.delivered, "what arrived is what the parent delivered");
        assert!(delivered.transactions > forks);

        // The children's: all of it, under ids that nobody else has.
        let mut opened: Vec<Opened> = Vec::new();
        for file in fs::read_dir(&place.folder).unwrap() {
            opened.push(Opened::new(&fs::read(file.unwrap().path()).unwrap()));
        }
        let http = childrens.requests();
        opened.extend(http.iter().map(|request| Opened::new(&request.unpacked())));
        opened.retain(|opened| opened.kind == "transaction");
        let begun = LIVES.iter().cycle().take(lives).map(|life| match life {
            Life::Begins | Life::BeginsOverHttp | Life::BeginsAndReturns => 1,
            Life::BeginsAndExits => 1,
            Life::BeginsAndForks => 2,
            _ => 0,
        });
        let begun: u64 = begun.sum();
        assert_eq!(opened.len() as u64, begun * THREADS * TRANSACTIONS);
        for opened in &opened {
            assert!(opened.name().starts_with("child's"), "{}", opened.name());
            assert_eq!(opened.spans().len() as u64, CHILDREN);
            seen.add(opened);
        }
        fs::remove_dir_all(&place.folder).unwrap();
        println!(
            "{forks} forks, {begun} children began anew, the slowest took {slowest:?}; the parent \
             delivered {} transactions",
            delivered.transactions
        );
    }

    /// Ids may be seen once.
    #[derive(Default)]
    struct Seen {
        spans: HashSet<u64>,
        others: HashSet<String>,
    }

    impl Seen {
        fn add(&mut self, opened: &Opened) {
            for id in opened.span_ids() {
                assert!(self.spans.insert(id), "span id {id:x} twice: {:#}", opened.payload);
            }
            for id in [&opened.root()["trace_id"], &opened.payload["event_id"]] {
                let id = id.as_str().unwrap().to_owned();
                assert!(self.others.insert(id), "an id twice: {:#}", opened.payload);
            }
        }
    }

    const fn add(a: Count, b: Count) -> Count {
        Count { transactions: a.transactions + b.transactions, spans: a.spans + b.spans }
    }

    fn over_http(url: &str) -> Config {
        let url = url.to_owned();
        config(Delivery::Custom(Arc::new(move || {
            Box::new(Http::new(HttpOptions::new(&*url, "Sentry sentry_key=test")).unwrap())
        })))
    }

    fn config(transport: Delivery) -> Config {
        Config { transport, traces_sample_rate: Some(1.0), ..Config::default() }
    }

    /// The parent's threads: recording with names that are new, passing spans on, and looking.
    fn keep_busy() -> Vec<thread::JoinHandle<()>> {
        let run = |work: fn(u64)| {
            thread::spawn(move || {
                let mut number = 0;
                while !STOP.load(Ordering::Relaxed) {
                    work(number);
                    number += 1;
                }
            })
        };
        let record = |number| {
            let _transaction = hotspan::start_transaction("queue.process", "parent's, of a thread");
            for child in 0..20 {
                drop(hotspan::start_child("step", &*format!("parent's {number} {child}")));
            }
            thread::sleep(Duration::from_millis(1));
        };
        let carry = |_| {
            let transaction = hotspan::start_transaction("queue.process", "parent's, carried");
            let transaction = transaction.detach();
            drop(transaction.start_child("step", "parent's, carried"));
            transaction.finish();
            thread::sleep(Duration::from_millis(1));
        };
        let look = |_| {
            let _ = (stats(), hotspan::inflight());
        };
        vec![run(record), run(carry), run(look)]
    }

    /// Waits for a child, kills it when it hangs, and wants it to have ended well.
    fn reap(child: libc::pid_t, life: Life) -> Duration {
        let start = Instant::now();
        let mut status = 0;
        // SAFETY: `child` is a child of this process that has not been waited for.
        while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
            if start.elapsed() > CHILD_MAX {
                // SAFETY: as above.
                unsafe { libc::kill(child, libc::SIGKILL) };
                panic!("a child hangs: {life:?}");
            }
            thread::sleep(Duration::from_micros(500));
        }
        assert!(libc::WIFEXITED(status), "{life:?} ended by {status:x}");
        assert_eq!(libc::WEXITSTATUS(status), 0, "{life:?}");
        start.elapsed()
    }

    /// The child's life. Where it returns, `main` does.
    fn live(life: Life, number: u64, inherited: Inherited, place: &Place) {
        let ends = catch_unwind(AssertUnwindSafe(|| match life {
            Life::Records | Life::RecordsAndExits => {
                record_in_vain();
                // The parent's client, and its locks, are not looked at.
                assert_eq!(stats().threads.last_success_age, None);
                let _ = hotspan::inflight();
                std::mem::forget(inherited);
                life == Life::RecordsAndExits
            }
            Life::DropsTheGuard => {
                let Inherited { guard, transaction, detached, .. } = inherited;
                assert_eq!(guard.flush(LONG).left, guard.flush(LONG).left);
                drop((transaction, guard));
                record_in_vain();
                drop(detached);
                true
            }
            Life::Begins | Life::BeginsAndForks => {
                let guard = begin(life, number, place, inherited);
                finish(guard);
                if life == Life::BeginsAndForks {
                    // SAFETY: as in `main`; the threads of `begin` have ended.
                    match unsafe { libc::fork() } {
                        0 => finish(start(&files(&place.folder), number + 1_000_000)),
                        child => _ = reap(child, life),
                    }
                }
                false
            }
            Life::BeginsOverHttp => {
                finish(begin(life, number, place, inherited));
                false
            }
            Life::BeginsAndReturns => {
                let guard = begin(life, number, place, inherited);
                // Dropped here, as at the end of `main`.
                drop(guard);
                assert_exact();
                true
            }
            Life::BeginsAndExits => {
                let guard = begin(life, number, place, inherited);
                assert!(guard.flush(LONG).complete);
                std::mem::forget(guard);
                true
            }
        }));
        match ends {
            Ok(true) if life == Life::BeginsAndReturns => {}
            Ok(true) => process::exit(0),
            // SAFETY: ends the process, with nothing to be run.
            ended => unsafe { libc::_exit(i32::from(ended.is_err())) },
        }
    }

    /// Without `init` in the child: on the thread that the parent used, and on new ones.
    fn record_in_vain() {
        let record = || {
            let mut transaction = hotspan::start_transaction("queue.process", "nobody's");
            for number in 0..300 {
                let mut span = hotspan::start_child("step", &*format!("nobody's {number}"));
                span.set_data("text", "longer than the forty bytes that fit into one slot");
            }
            transaction.set_tag("kind", "nobody's");
            let detached = transaction.detach();
            drop(detached.start_child("step", "nobody's"));
        };
        record();
        let threads: Vec<_> = (0..2).map(|_| thread::spawn(record)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    fn files(folder: &Path) -> Config {
        config(Delivery::File(folder.to_owned()))
    }

    /// Starts anew, among what the parent left.
    fn begin(life: Life, number: u64, place: &Place, inherited: Inherited) -> Guard {
        if number % 16 < 8 {
            record_in_vain();
        }
        let config = match life {
            Life::BeginsOverHttp => over_http(&place.url),
            _ => files(&place.folder),
        };
        let Inherited { guard, transaction, detached, context } = inherited;
        if number.is_multiple_of(3) {
            drop(hotspan::start_child("step", "of the parent's transaction"));
            drop(transaction);
            let guard = start(&config, number);
            drop(detached);
            drop(context.enter().start_child("step", "of the parent's transaction"));
            return guard;
        }
        let started = start(&config, number);
        drop(hotspan::start_child("step", "of the parent's transaction"));
        drop((transaction, guard, detached));
        assert!(hotspan::init(config).is_err(), "it runs already");
        started
    }

    fn start(config: &Config, number: u64) -> Guard {
        let guard = hotspan::init(config.clone()).unwrap();
        let fresh = stats();
        assert_eq!((fresh.started, fresh.delivered), Default::default(), "{fresh}");
        assert!(fresh.dropped.is_empty() && fresh.unsampled == 0, "{fresh}");
        let record = move |thread| {
            for item in 0..TRANSACTIONS {
                let name = format!("child's {number} {thread} {item}");
                let _transaction = hotspan::start_transaction("queue.process", &*name);
                for child in 0..CHILDREN {
                    drop(hotspan::start_child("step", &*format!("{name} {child}")));
                }
            }
        };
        record(0);
        let threads: Vec<_> = (1..THREADS).map(|it| thread::spawn(move || record(it))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        guard
    }

    fn finish(guard: Guard) {
        let report = guard.close(LONG);
        assert!(report.complete, "{report:?}, {}", stats());
        assert_exact();
    }

    fn assert_exact() {
        let stats = stats();
        stats.check().unwrap();
        assert!(stats.is_at_rest(), "{stats}");
        let transactions = THREADS * TRANSACTIONS;
        let all = Count { transactions, spans: transactions * (1 + CHILDREN) };
        assert_eq!((stats.started, stats.delivered), (all, all), "{stats}");
    }
}
