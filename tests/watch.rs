//! What is open for too long is reported while it is: once, with its name, its step and its thread.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests may panic and start threads"
)]

use std::future::{Future, pending};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use hotspan::{Config, FutureExt, InFlight, inflight, start_child, start_transaction, stats};

mod support;

use support::session::{LONG, Session, count};

const AFTER: Duration = Duration::from_millis(40);

/// A session in which somebody watches, and what is reported.
fn watched(change: impl FnOnce(&mut Config)) -> (Session, Receiver<InFlight>) {
    let (reports, at_test) = channel();
    let session = Session::start(|config| {
        config.flush_interval = Duration::from_millis(1);
        config.stuck_after = Some(AFTER);
        config.on_stuck = Some(Arc::new(move |open: &InFlight| {
            reports.send(open.clone()).unwrap();
        }));
        change(config);
    });
    (session, at_test)
}

fn next(reports: &Receiver<InFlight>) -> InFlight {
    reports.recv_timeout(LONG).expect("a report")
}

/// Waits until the flusher has looked often enough for anything that it should see.
fn let_it_look() {
    let enough = stats().threads.cycles + 30;
    while stats().threads.cycles < enough {
        thread::sleep(Duration::from_millis(1));
    }
}

fn none_further(reports: &Receiver<InFlight>) {
    let_it_look();
    thread::sleep(2 * AFTER);
    let_it_look();
    let further: Vec<_> = reports.try_iter().collect();
    assert!(further.is_empty(), "{further:?}");
}

/// What a report says in words.
fn words(open: &InFlight) -> [&str; 4] {
    [&open.op, &open.name, &open.span_op, &open.span_description]
}

fn assert_on_no_thread(open: &InFlight) {
    assert_eq!((&open.thread_name, open.thread_id), (&None, 0), "{open:?}");
}

/// A thread that runs `work` for every message, and hangs in it for as long as that likes.
fn worker(name: &str, work: impl Fn(u32) + Send + 'static) -> (Sender<u32>, JoinHandle<()>) {
    let (queue, items) = channel::<u32>();
    let thread = thread::Builder::new().name(name.to_owned());
    (queue, thread.spawn(move || items.iter().for_each(work)).unwrap())
}

#[test]
fn a_worker_that_hangs_in_a_step_is_reported_while_it_hangs_and_once() {
    let (session, reports) = watched(|_| {});
    let (release, hanging) = channel();
    let (tell, told) = channel();
    let (queue, thread) = worker("worker-7", move |n| {
        let transaction = start_transaction("queue.process", format!("orders {n}"));
        drop(start_child("db", "load"));
        let span = start_child("http", "GET /");
        tell.send((transaction.trace_id(), span.span_id())).unwrap();
        hanging.recv().unwrap();
    });
    for item in [1, 2] {
        queue.send(item).unwrap();
        let (trace, span) = told.recv().unwrap();
        let report = next(&reports);
        assert_eq!(words(&report), ["queue.process", &format!("orders {item}"), "http", "GET /"]);
        assert_eq!((Some(report.trace_id), Some(report.span_id)), (trace, span));
        assert_eq!(report.thread_name.as_deref(), Some("worker-7"));
        assert!(report.thread_id > 0 || !cfg!(target_os = "linux"));
        assert!(report.age >= AFTER && report.age < LONG, "{report:?}");
        assert!(report.span_age <= report.age, "{report:?}");
        // It hangs still, and is what `inflight` lists, too.
        let now = inflight();
        assert_eq!(words(&now[0]), words(&report));
        assert!(now[0].age >= report.age, "{now:?}");
        none_further(&reports);
        release.send(()).unwrap();
    }
    drop(queue);
    thread.join().unwrap();
    let ending = session.end();
    assert_eq!(ending.after.stuck - ending.before.stuck, 2);
    assert_eq!(ending.report.delivered, count(2, 6));
    assert!(ending.after.to_string().contains("reported as stuck"), "{}", ending.after);
}

#[test]
fn a_detached_item_that_lies_in_a_queue_is_reported_with_the_step_it_is_in() {
    let (session, reports) = watched(|_| {});
    let plain = start_transaction("queue.process", "plain").detach();
    let report = next(&reports);
    assert_eq!(words(&report), ["queue.process", "plain", "queue.process", "plain"]);
    assert_eq!((Some(report.trace_id), Some(report.span_id)), (plain.trace_id(), plain.span_id()));
    assert_on_no_thread(&report);
    assert!(report.age >= AFTER && report.age < LONG, "{report:?}");

    let mut stepped = start_transaction("queue.process", "old name").detach();
    stepped.set_description("stepped");
    let ended = stepped.start_child("step", "ended");
    let mut waiting = stepped.start_child("step", "old step");
    waiting.set_description("waiting");
    let between = stepped.start_child("step", "between");
    drop((ended, between));
    let report = next(&reports);
    assert_eq!(words(&report), ["queue.process", "stepped", "step", "waiting"]);
    assert_eq!(Some(report.span_id), waiting.span_id());
    assert_on_no_thread(&report);

    // Neither is reported anew when somebody takes it up.
    let scope = stepped.enter();
    let _hanging = start_child("step", "hanging");
    none_further(&reports);
    drop(scope);
    none_further(&reports);
    drop((_hanging, plain, waiting, stepped));
    let ending = session.end();
    assert_eq!(ending.after.stuck - ending.before.stuck, 2);
    assert_eq!(ending.lost_in_all(), count(0, 0));
}

#[test]
fn an_item_on_its_way_between_threads_is_reported_once() {
    let (session, reports) = watched(|_| {});
    let (release, hanging) = channel::<()>();
    let first = thread::spawn(move || {
        let transaction = start_transaction("queue.process", "travels");
        hanging.recv().unwrap();
        transaction.detach()
    });
    assert_eq!(next(&reports).name, "travels");
    release.send(()).unwrap();
    let mut transaction = first.join().unwrap();
    // Out of sight and back, on thread after thread.
    for _ in 0..30 {
        transaction = thread::spawn(move || {
            for _ in 0..3 {
                let _scope = transaction.enter();
                thread::sleep(Duration::from_millis(1));
            }
            transaction
        })
        .join()
        .unwrap();
    }
    none_further(&reports);
    drop(transaction);
    session.end();
}

#[test]
fn what_is_entered_is_reported_from_the_thread_that_hangs_in_a_step() {
    let (session, reports) = watched(|_| {});
    let (release, hanging) = channel::<()>();
    let hanging = Mutex::new(hanging);
    // Its thread does nothing but wait for the others.
    let transaction = start_transaction("batch", "orders");
    let (context, hanging, reports) = (transaction.context(), &hanging, &reports);
    thread::scope(move |scope| {
        let hang = move || {
            let _scope = context.enter();
            let _span = start_child("part", "hangs");
            let lock = hanging.lock().unwrap();
            // Let go by a message, or by the end of this test.
            let _ = lock.recv();
        };
        thread::Builder::new().name("hanging".to_owned()).spawn_scoped(scope, hang).unwrap();
        scope.spawn(move || {
            // Late enough for its step to be the younger one.
            while inflight().iter().all(|open| open.span_description != "hangs") {
                thread::yield_now();
            }
            let _scope = context.enter();
            while hanging.try_lock().is_err() {
                let _span = start_child("part", "works");
                thread::sleep(Duration::from_millis(1));
            }
        });
        let report = next(reports);
        assert_eq!(words(&report), ["batch", "orders", "part", "hangs"]);
        assert_eq!(report.thread_name.as_deref(), Some("hanging"));
        none_further(reports);
        drop(release);
    });
    drop(transaction);
    session.end();
}

#[test]
fn a_child_whose_transaction_went_away_is_its_step() {
    let (session, reports) = watched(|_| {});
    let transaction = start_transaction("queue.process", "orders");
    let _child = start_child("step", "stays");
    let transaction = transaction.detach();
    let report = next(&reports);
    assert_eq!(words(&report), ["queue.process", "orders", "step", "stays"]);
    assert_eq!(report.thread_name.as_deref(), thread::current().name());
    assert_eq!(Some(report.trace_id), transaction.trace_id());
    none_further(&reports);
    drop((_child, transaction));
    session.end();
}

#[test]
fn a_future_that_is_never_woken_is_reported_at_its_await() {
    let (session, reports) = watched(|_| {});
    let item = async {
        async {}.in_span(start_child("db", "done")).await;
        pending::<()>().in_span(start_child("http", "GET /")).await;
    }
    .in_transaction("queue.process", "orders");
    let mut item = Box::pin(item);
    assert!(item.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let report = next(&reports);
    assert_eq!(words(&report), ["queue.process", "orders", "http", "GET /"]);
    assert_on_no_thread(&report);
    assert!(report.span_age <= report.age, "{report:?}");
    none_further(&reports);
    assert!(item.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    none_further(&reports);
    drop(item);
    assert_eq!(session.end().only().root()["status"], "cancelled");
}

#[test]
fn transactions_one_inside_the_other_are_reported_each_with_its_own_step() {
    let (session, reports) = watched(|_| {});
    let outer = start_transaction("batch", "outer");
    let step = start_child("part", "of outer");
    let inner = start_transaction("queue.process", "inner");
    let inner_step = start_child("part", "of inner");
    let mut both = [next(&reports), next(&reports)];
    both.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(words(&both[0]), ["queue.process", "inner", "part", "of inner"]);
    assert_eq!(words(&both[1]), ["batch", "outer", "part", "of outer"]);
    assert_eq!(Some(both[1].span_id), step.span_id());
    none_further(&reports);
    drop((inner_step, inner, step, outer));
    session.end();
}

#[test]
fn the_age_is_that_of_the_start_that_was_given() {
    let (session, reports) = watched(|_| {});
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let mut on_thread = start_transaction("op", "on thread");
    on_thread.started_at(hour_ago);
    let mut detached = start_transaction("op", "detached");
    detached.started_at(hour_ago);
    let detached = detached.detach();
    for _ in 0..2 {
        let report = next(&reports);
        let hours = report.age.as_secs_f64() / 3600.0;
        assert!((1.0..1.1).contains(&hours), "{report:?}");
    }
    drop((detached, on_thread));
    session.end();
}

#[test]
fn a_child_that_goes_on_after_its_transaction_is_not_a_stuck_transaction() {
    let (session, reports) = watched(|_| {});
    // One that is over before anybody finds it stuck.
    let late = loop {
        let transaction = start_transaction("op", "over").detach();
        let late = transaction.start_child("op", "late");
        drop(transaction);
        assert!(session.guard.flush(LONG).complete);
        if reports.try_iter().count() == 0 {
            break late;
        }
    };
    let context = late.context();
    for _ in 0..3 {
        let _scope = context.enter();
        none_further(&reports);
    }
    drop(late);
    session.end();
}

#[test]
fn unsampled_ones_are_not_seen() {
    let (session, reports) = watched(|config| config.traces_sample_rate = Some(0.0));
    let transaction = start_transaction("op", "unsampled");
    let _detached = start_transaction("op", "unsampled").detach();
    none_further(&reports);
    drop((transaction, _detached));
    session.end();
}

#[test]
fn nobody_watches_unless_told_to() {
    let (session, reports) = watched(|config| config.stuck_after = None);
    let transaction = start_transaction("op", "open");
    let _detached = start_transaction("op", "open").detach();
    none_further(&reports);
    drop((transaction, _detached));
    let ending = session.end();
    assert_eq!(ending.after.stuck, ending.before.stuck);
}

#[test]
fn a_callback_that_panics_is_called_three_times_and_hurts_nobody() {
    let calls = Arc::new(AtomicU64::new(0));
    let in_hook = Arc::clone(&calls);
    let (session, _) = watched(|config| {
        config.on_stuck = Some(Arc::new(move |_: &InFlight| {
            in_hook.fetch_add(1, Ordering::SeqCst);
            std::panic::resume_unwind(Box::new("on purpose"));
        }));
    });
    let before = stats();
    let open: Vec<_> = (0..5).map(|_| start_transaction("op", "open").detach()).collect();
    while stats().stuck - before.stuck < 5 {
        thread::sleep(Duration::from_millis(1));
    }
    let_it_look();
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert_eq!(stats().callback_panics - before.callback_panics, 3);
    drop(open);
    let ending = session.end();
    assert_eq!(ending.report.delivered, count(5, 5));
    assert_eq!(ending.after.threads.restarts, before.threads.restarts);
}

#[test]
fn a_callback_may_look_around_and_record() {
    let (reports, at_test) = channel();
    let (session, _) = watched(|config| {
        config.on_stuck = Some(Arc::new(move |open: &InFlight| {
            let transaction = start_transaction("report", "report");
            let seen = (inflight().len(), stats().open);
            // Ended before the test goes on, and may close.
            drop(transaction);
            reports.send((open.name.clone(), seen.0, seen.1)).unwrap();
        }));
    });
    let transaction = start_transaction("op", "open");
    let report = at_test.recv_timeout(LONG).unwrap();
    assert_eq!(report, ("open".to_owned(), 2, count(2, 2)));
    drop(transaction);
    assert_eq!(session.end().report.delivered, count(2, 2));
}

#[test]
fn more_than_can_be_reported_at_once_are_reported_all_the_same_oldest_first() {
    const MANY: usize = 500;
    let (session, reports) = watched(|_| {});
    let open: Vec<_> =
        (0..MANY).map(|n| start_transaction("op", format!("item {n}")).detach()).collect();
    let names: Vec<String> = (0..MANY).map(|_| next(&reports).name).collect();
    let mut distinct = names.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), MANY);
    assert_eq!(names[0], "item 0");
    none_further(&reports);
    drop(open);
    session.end();
}

/// Keeps what the log says of this crate.
struct Lines(Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target() == "hotspan" && record.level() == log::Level::Warn {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn the_log_names_one_and_says_no_more_within_a_minute() {
    static LINES: OnceLock<&'static Lines> = OnceLock::new();
    let lines = *LINES.get_or_init(|| {
        let lines: &'static Lines = Box::leak(Box::new(Lines(Mutex::default())));
        support::log::listen(lines);
        lines
    });
    let (session, reports) = watched(|_| {});
    lines.0.lock().unwrap().clear();
    let (first, step) = {
        let transaction = start_transaction("queue.process", "in the log").detach();
        let step = transaction.start_child("http", "GET /");
        (transaction, step)
    };
    next(&reports);
    let second = start_transaction("queue.process", "not in it").detach();
    next(&reports);
    none_further(&reports);
    let said = lines.0.lock().unwrap().join("\n");
    drop((step, second, first));
    session.end();
    let start = "stuck: queue.process \"in the log\", open for ";
    assert!(said.starts_with(start) && said.lines().count() == 1, "{said}");
    assert!(said.contains(", in http \"GET /\" for ") && said.ends_with("on no thread"), "{said}");
}
