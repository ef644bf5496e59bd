//! Every way in which a server can fail, and what must be so whatever it does: the books are exact,
//! the server was told of every loss, closing takes no longer than it may, memory, threads and
//! descriptors are what they were, and the recording threads never waited for anything.
//!
//! `HOTSPAN_FAULT_SEEDS` sets how many plans of random flapping are played, and
//! `HOTSPAN_FAULT_SEED` plays one alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "helpers of tests panic as tests do, and ask the real clock"
)]
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use hotspan::transport::{Http, HttpOptions, Memory};
use hotspan::{
    Config, Count, Delivery, Guard, Reason, Stats, start_child, start_transaction, stats,
};

mod support;

use support::envelope::{Opened, reported};
use support::faults::kept::Received;
use support::faults::modes::Fate;
use support::faults::{FaultServer, Mode};
use support::process::{Size, env_number, page_faults, threads_named, waits};
use support::session::{LONG, alone, count, lost_between};

const RING_BYTES: usize = 4 << 20;
const QUEUE_BYTES: usize = 8 << 20;

/// What the server takes, which is in the same process, with its threads and what it keeps.
const SERVER_BYTES: usize = 32 << 20;

/// How often what had no answer is sent again.
const RETRIES: usize = 2;

/// More than any request takes that is answered at all.
const PROMPT: Duration = Duration::from_millis(150);

/// By how much a busy machine may be late. Only against hanging.
const SLACK: Duration = Duration::from_secs(20);

/// What the server was told to be lost, by reason and category.
type Told = BTreeMap<(String, String), u64>;

/// The library against a server that fails, from a clean slate.
struct Trial {
    what: String,
    mode: Mode,
    server: FaultServer,
    guard: Guard,
    before: Stats,
    size: Size,
    began: Instant,
    alone: MutexGuard<'static, ()>,
}

/// What is recorded.
#[derive(Clone, Copy)]
struct Load {
    /// Threads that record.
    recorders: u64,
    /// By each thread.
    transactions: u64,
    children: u64,
    /// Texts that do not compress: more than what fits into the smallest windows.
    is_bulky: bool,
}

impl Load {
    fn of(mode: Mode) -> Self {
        let is_bulky = matches!(
            mode,
            Mode::NeverReads | Mode::ReadsSlowly | Mode::ResetInBody | Mode::EarlyAnswer
        );
        let is_slow = mode.facts().by_time_out || mode == Mode::SlowBody;
        let transactions = match (is_slow, is_bulky) {
            (true, _) => 1,
            (_, true) => 3,
            _ => 10,
        };
        let children = if is_bulky { 60 } else { 30 };
        Self { recorders: if is_slow { 2 } else { 4 }, transactions, children, is_bulky }
    }

    fn all(self) -> Count {
        let transactions = self.recorders * (1 + self.transactions);
        count(transactions, transactions * (1 + self.children))
    }
}

/// Time-outs under which a server that is well answers in time, but for a very busy machine.
const SHORT: (u64, u64) = (300, 200);

fn config(server: &FaultServer, time_outs: (u64, u64), concurrency: usize) -> Config {
    let (request, connect) = time_outs;
    Config {
        dsn: Some(server.dsn()),
        http_proxy: Some(String::new()),
        https_proxy: Some(String::new()),
        ca_certs: server.ca_certs(),
        traces_sample_rate: Some(1.0),
        enable_backpressure_handling: false,
        ring_bytes: RING_BYTES,
        ring_slots: RING_BYTES / 64,
        queue_bytes: QUEUE_BYTES,
        request_timeout: Duration::from_millis(request),
        connect_timeout: Duration::from_millis(connect),
        upload_concurrency: concurrency,
        upload_retries: RETRIES,
        ..Config::default()
    }
}

/// In milliseconds, for a request and for connecting.
fn time_outs(mode: Mode) -> (u64, u64) {
    match mode {
        // Nothing else ends it: the shorter, the sooner.
        _ if mode.facts().by_time_out => (150, 100),
        Mode::SlowBody => (1_000, 1_000),
        _ => (20_000, 20_000),
    }
}

/// The same, but for who is asked for addresses.
fn asking(server: &FaultServer, config: Config) -> Config {
    let named = Config { dsn: Some(server.named_dsn()), ..config };
    let options = HttpOptions::for_config(&named).unwrap().unwrap();
    let http = Http::new(options.lookup(Arc::new(server.look_up()))).unwrap();
    Config { transport: Delivery::Custom(Arc::new(move || Box::new(http.clone()))), ..named }
}

impl Trial {
    fn start(mode: Mode, tls: bool, concurrency: usize) -> Self {
        let what = format!("{mode:?}, {concurrency} at once{}", if tls { ", TLS" } else { "" });
        Self::start_as(what, mode, tls, |server| {
            let config = config(server, time_outs(mode), concurrency);
            if mode.facts().needs_lookup { asking(server, config) } else { config }
        })
    }

    fn start_as(
        what: String,
        mode: Mode,
        tls: bool,
        config: impl FnOnce(&FaultServer) -> Config,
    ) -> Self {
        let alone = alone();
        collect_debts();
        let size = Size::now();
        let server = if tls { FaultServer::start_tls() } else { FaultServer::start() };
        server.set(mode);
        let before = stats();
        let guard = hotspan::init(config(&server)).unwrap();
        let began = Instant::now();
        Self { what, mode, server, guard, before, size, began, alone }
    }

    /// Records on several threads, and sees that none of them waited.
    fn record(&self, load: Load) {
        let waited = record(load);
        let now = stats();
        now.check().unwrap();
        assert!(waited.iter().all(|&waits| waits == 0), "{}: threads waited {waited:?}", self.what);
        self.check_memory();
        let full = lost_between(&self.before, &now, Reason::RingFull);
        assert_eq!(full, count(0, 0), "{}: {now}", self.what);
        assert!(now.threads.bytes_queued <= QUEUE_BYTES, "{}: {now}", self.what);
    }

    /// Memory is within the bounds that were set. Before the server is well: it keeps all it gets.
    fn check_memory(&self) {
        let grown = Size::now().resident.saturating_sub(self.size.resident);
        assert!(grown < RING_BYTES + QUEUE_BYTES + SERVER_BYTES, "{}: {grown} bytes", self.what);
    }

    /// The server is well again; what was lost reaches it as soon as it has not forbidden that.
    fn recover(&self) {
        self.server.set(Mode::Healthy);
        let start = Instant::now();
        loop {
            let _ = self.guard.flush(SLACK);
            let (owed, told) = (owed(&self.before, &stats()), self.server.received().reported());
            if owed.iter().all(|(what, quantity)| told.get(what) >= Some(quantity)) {
                return;
            }
            assert!(start.elapsed() < SLACK, "{}: {told:?} of {owed:?}", self.what);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Closes in that time, and checks what is so whatever happened.
    fn end(self, all: Count, timeout: Duration) -> Ending {
        let what = self.what;
        let start = Instant::now();
        let report = self.guard.close(timeout);
        let took = start.elapsed();
        assert!(took < timeout + Duration::from_millis(100) + SLACK, "{what}: {took:?}");
        // What the flusher was busy with when time was up is counted as soon as it is done with it.
        let left = report.left;
        let after = until_at_rest();
        after.check().unwrap();
        assert!(after.is_at_rest(), "{what}: {after}");
        assert_eq!(after.started - self.before.started, all, "{what}: {after}");
        assert!(left == count(0, 0) || timeout < LONG, "{what}: {left:?} left");
        let delivered = after.delivered - self.before.delivered;
        let dropped = after.dropped_in_all() - self.before.dropped_in_all();
        assert_eq!(delivered + dropped, all, "{what}: {after}");

        assert_eq!(self.server.redirected(), 0, "{what}: a redirect was followed");
        let received = self.server.finish();
        received.check_spans();
        let unique = received.unique();
        // What was being sent when time was up is no success, whatever the server thinks of it.
        let cut_off = lost_between(&self.before, &after, Reason::ShutdownDeadline);
        let in_doubt = received.count(|kept| kept.status.is_none()) + cut_off;
        assert!(covers(unique, delivered), "{what}: {delivered:?} of {unique:?}");
        // Of an answer that came late nobody knows whether the client still saw it.
        let is_sure = received.is_prompt(PROMPT);
        assert!(covers(delivered + in_doubt, unique) || !is_sure, "{what}: {unique:?}, {after}");

        let size =
            Size::at_rest(|size| size.files <= self.size.files && threads_named("hotspan-") == 0);
        assert!(size.files <= self.size.files, "{what}: {size:?}, before {:?}", self.size);
        assert_eq!(threads_named("hotspan-"), 0, "{what}: threads are left");
        println!("{what}: {:?}, delivered {delivered:?}", self.began.elapsed());
        let Self { mode, before, alone, .. } = self;
        Ending { what, mode, all, delivered, received, before, after, _alone: alone }
    }
}

struct Ending {
    what: String,
    mode: Mode,
    all: Count,
    delivered: Count,
    received: Received,
    before: Stats,
    after: Stats,
    _alone: MutexGuard<'static, ()>,
}

/// What the server must be told of what was lost between two looks at the books.
fn owed(before: &Stats, after: &Stats) -> Told {
    let mut told = Told::new();
    for &reason in after.dropped.keys() {
        let Some(name) = reason.client_report() else { continue };
        let lost = lost_between(before, after, reason);
        for (category, quantity) in [("transaction", lost.transactions), ("span", lost.spans)] {
            if quantity > 0 {
                *told.entry((name.to_owned(), category.to_owned())).or_default() += quantity;
            }
        }
    }
    told
}

impl Ending {
    /// What was lost was told to this server, or is told to the next one, and not to both.
    fn check_told(&self) {
        let owed = owed(&self.before, &self.after);
        let mut told = self.received.reported();
        for (what, quantity) in collect_debts() {
            *told.entry(what).or_default() += quantity;
        }
        // What a late answer acknowledged may have been told again.
        let is_sure = self.received.is_prompt(PROMPT);
        let is_covered = owed.iter().all(|(what, quantity)| told.get(what) >= Some(quantity));
        assert!(is_covered && (told == owed || !is_sure), "{}: {told:?} of {owed:?}", self.what);
    }

    fn lost(&self, reason: Reason) -> Count {
        lost_between(&self.before, &self.after, reason)
    }

    /// Each envelope met the fate that its mode has for it.
    fn check_fate(&self, concurrency: usize) {
        let Self { what, after, received, all, .. } = self;
        let nothing = count(0, 0);
        let facts = self.mode.facts();
        let with_status = |status| received.count(|kept| kept.status == Some(status));
        match facts.fate {
            Fate::Delivered => {
                assert_eq!(self.delivered, *all, "{what}: {after}");
                assert_eq!(received.accepted(), *all, "{what}");
            }
            Fate::NetworkError => {
                assert_eq!(self.lost(Reason::NetworkError), *all, "{what}: {after}");
                let read = if facts.ambiguous { *all } else { nothing };
                assert_eq!(received.unique(), read, "{what}");
                // Each as often as it may be, and no oftener.
                let tries =
                    if facts.ambiguous { all.transactions * (1 + RETRIES as u64) } else { 0 };
                assert_eq!(received.transactions().count() as u64, tries, "{what}");
            }
            Fate::SendError => {
                assert_eq!(self.lost(Reason::SendError), *all, "{what}: {after}");
                assert_eq!(received.count(|kept| !kept.is_accepted()), *all, "{what}");
                let sent = received.transactions().count() as u64;
                assert_eq!(sent, all.transactions, "{what}: sent again");
            }
            Fate::Refused => {
                let (refused, held) = (self.lost(Reason::Refused), self.lost(Reason::RateLimited));
                assert_eq!(refused, with_status(429), "{what}: {after}");
                assert!(refused.transactions > 0, "{what}: {after}");
                assert_eq!(refused + held, *all, "{what}: {after}");
            }
            Fate::LastDelivered => {
                let held = self.lost(Reason::RateLimited);
                assert_eq!(self.delivered, received.accepted(), "{what}: {after}");
                assert!((1..=concurrency as u64).contains(&self.delivered.transactions), "{what}");
                assert_eq!(self.delivered + held, *all, "{what}: {after}");
            }
        }
    }
}

/// What the server has not been told yet goes to another one.
fn collect_debts() -> Told {
    let memory = Memory::new();
    let config = {
        let memory = memory.clone();
        support::session::config(move || memory.clone())
    };
    let _ = hotspan::init(config).unwrap().close(LONG);
    let all: Vec<Opened> = memory.take().iter().map(|bytes| Opened::new(bytes)).collect();
    reported(&all)
}

fn covers(all: Count, part: Count) -> bool {
    part.transactions <= all.transactions && part.spans <= all.spans
}

fn until_at_rest() -> Stats {
    let start = Instant::now();
    loop {
        let now = stats();
        if now.is_at_rest() && now.check().is_ok() || start.elapsed() > SLACK {
            return now;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Records; how often each thread waited meanwhile.
fn record(load: Load) -> Vec<u64> {
    let ready = Barrier::new(usize::try_from(load.recorders).unwrap());
    thread::scope(|scope| {
        let recorders: Vec<_> = (0..load.recorders)
            .map(|seed| {
                let ready = &ready;
                scope.spawn(move || {
                    let noise = noise(seed, if load.is_bulky { 6_000 } else { 60 });
                    // What is new to the process, or to the thread, may take a lock once.
                    item(load, &noise);
                    ready.wait();
                    let (pages, before) = (page_faults(), waits());
                    for _ in 0..load.transactions {
                        item(load, &noise);
                    }
                    let waited = waits() - before;
                    // For memory it may have waited once, and for nothing else.
                    waited.saturating_sub((page_faults() - pages).min(1))
                })
            })
            .collect();
        recorders.into_iter().map(|recorder| recorder.join().unwrap()).collect()
    })
}

fn item(load: Load, noise: &str) {
    let mut transaction = start_transaction("queue.process", "orders");
    transaction.set_tag("queue", "orders");
    for n in 0..load.children {
        start_child("step", "step").set_data("n", n).set_data("noise", noise);
    }
}

/// Letters that do not compress well.
fn noise(seed: u64, length: usize) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.alphanumeric()).take(length).collect()
}

/// All is lost, or not, as the mode has it, and told to the server when it is well, or to the next.
fn fails_as_it_should(mode: Mode, tls: bool) {
    for concurrency in [1, 4] {
        let load = Load::of(mode);
        let trial = Trial::start(mode, tls, concurrency);
        trial.record(load);
        let is_silenced = mode.facts().silence > Duration::from_secs(10);
        if mode.facts().fate != Fate::NetworkError {
            let settled = trial.guard.flush(LONG).complete;
            assert!(settled, "{}: {}", trial.what, stats());
            trial.check_memory();
            if !is_silenced {
                trial.recover();
            }
        }
        // Else it is tried without pauses now, while nobody is there to be told.
        let ending = trial.end(load.all(), LONG);
        ending.check_told();
        ending.check_fate(concurrency);
    }
}

/// Nothing holds up whoever closes, and what was not sent by then is in the books.
fn can_be_closed_soon(mode: Mode, tls: bool) {
    for concurrency in [1, 4] {
        let load = Load::of(mode);
        let trial = Trial::start(mode, tls, concurrency);
        trial.record(load);
        let ending = trial.end(load.all(), Duration::from_millis(50));
        if mode.facts().fate == Fate::NetworkError {
            assert_eq!(ending.delivered, count(0, 0), "{}", ending.what);
        }
        ending.check_told();
    }
}

macro_rules! modes {
    ($($name:ident $mode:ident)*) => {
        $(
            #[test]
            fn $name() {
                let mode = Mode::$mode;
                fails_as_it_should(mode, mode.facts().needs_tls);
                can_be_closed_soon(mode, mode.facts().needs_tls);
            }
        )*
        const TESTED: &[Mode] = &[$(Mode::$mode),*];
    };
}

modes! {
    nobody_listens Refused
    connections_do_not_come_about BlackHole
    a_name_that_there_is_not NameUnknown
    a_name_that_nobody_looks_up NameHangs
    accepted_and_closed AcceptClose
    reset_in_the_answer_s_headers ResetInHeaders
    reset_in_the_request_s_body ResetInBody
    never_reads NeverReads
    reads_a_byte_a_second ReadsSlowly
    headers_that_drip SlowHeaders
    a_handshake_that_stalls HandshakeStalls
    a_bad_certificate BadCertificate
    kept_connections_that_were_closed StaleClosed
    kept_connections_that_are_reset StaleReset
    no_http Garbage
    no_answer EmptyReply
    huge_headers HugeHeaders
    continue_for_ever ContinueFlood
    a_body_that_drips SlowBody
    a_huge_body HugeBody
    a_body_without_an_end EndlessBody
    a_body_that_unpacks_to_more GzipBomb
    less_of_a_body_than_announced EarlyClose
    limits_with_a_success LimitsOnSuccess
    an_answer_before_its_time EarlyAnswer
    redirects Redirect
    errors_of_the_client ClientError
    too_large TooLarge
    errors_of_the_server ServerError
    a_status_that_there_is_not OddStatus
    too_many_for_seconds TooManySeconds
    too_many_until_a_date TooManyDate
    too_many_by_limits TooManyLimits
    too_many_and_no_more TooManyBare
    too_many_and_nonsense TooManyMalformed
}

#[test]
fn no_mode_is_forgotten() {
    let missing: Vec<_> = Mode::ALL.iter().filter(|mode| !TESTED.contains(mode)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn over_tls_it_is_no_different() {
    for mode in [
        Mode::Healthy,
        Mode::ResetInHeaders,
        Mode::SlowHeaders,
        Mode::StaleClosed,
        Mode::EmptyReply,
        Mode::EarlyClose,
        Mode::EndlessBody,
        Mode::TooManySeconds,
    ] {
        fails_as_it_should(mode, true);
    }
}

#[test]
fn what_had_no_answer_is_sent_again_under_its_id() {
    let trial = Trial::start_as("again".to_owned(), Mode::EmptyReply, false, |server| Config {
        upload_retries: 20,
        ..config(server, (20_000, 20_000), 4)
    });
    let load = Load { recorders: 2, transactions: 1, children: 3, is_bulky: false };
    trial.record(load);
    let start = Instant::now();
    while trial.server.received().transactions().count() == 0 {
        assert!(start.elapsed() < SLACK, "{}", stats());
        thread::sleep(Duration::from_millis(1));
    }
    trial.server.set(Mode::Healthy);
    assert!(trial.guard.flush(LONG).complete, "{}", stats());
    let ending = trial.end(load.all(), LONG);
    assert_eq!(ending.delivered, load.all());
    assert_eq!(ending.received.unique(), load.all());
    assert!(ending.received.transactions().count() as u64 > load.all().transactions);
}

#[test]
fn a_thread_that_waits_is_seen() {
    let before = waits();
    let mut sum = 0_u64;
    for n in 0..1_000_000 {
        sum = std::hint::black_box(sum + n);
    }
    assert_eq!(waits(), before, "working is not waiting");
    thread::sleep(Duration::from_micros(1));
    assert!(waits() > before, "sleeping is");
}

/// All modes once, in an order and for times that the seed says, while several threads record.
fn flap(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (tls, concurrency) = (random.bool(), [1, 2, 4, 16][random.usize(..4)]);
    let mut modes: Vec<Mode> =
        Mode::ALL.into_iter().filter(|mode| tls || !mode.facts().needs_tls).collect();
    random.shuffle(&mut modes);
    // What silences the client for a minute comes last, or not at all.
    let is_long = |mode: &Mode| {
        *mode == Mode::LimitsOnSuccess || mode.facts().silence > Duration::from_secs(10)
    };
    let ends_silent = random.bool();
    let (silencing, mut modes): (Vec<_>, Vec<_>) = modes.into_iter().partition(is_long);
    if ends_silent {
        modes.extend(silencing);
    }
    let what = format!("HOTSPAN_FAULT_SEED={seed}, {concurrency} at once, TLS {tls}");
    let trial = Trial::start_as(what, Mode::Healthy, tls, |server| {
        asking(server, config(server, SHORT, concurrency))
    });
    let (server, over) = (&trial.server, &AtomicBool::new(false));
    let (all, waited) = thread::scope(|scope| {
        let recorders: Vec<_> =
            (0..4).map(|number| scope.spawn(move || record_until(over, seed ^ number))).collect();
        for mode in modes {
            server.set(mode);
            thread::sleep(Duration::from_millis(random.u64(5..150)));
            if random.u8(..4) == 0 {
                server.set(Mode::Healthy);
                thread::sleep(Duration::from_millis(random.u64(5..50)));
            }
            stats().check().unwrap();
            trial.check_memory();
        }
        over.store(true, Ordering::SeqCst);
        let all = recorders.into_iter().map(|recorder| recorder.join().unwrap());
        all.fold((count(0, 0), 0), |(sum, most), (all, waited)| (sum + all, most + waited))
    });
    assert_eq!(waited, 0, "{}: a recording thread waited", trial.what);
    if !ends_silent {
        trial.recover();
    }
    trial.end(all, LONG).check_told();
}

/// Records until it is over. What that was, and how often this thread waited but when it meant to.
fn record_until(over: &AtomicBool, seed: u64) -> (Count, u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let noise = noise(seed, 60);
    let (mut all, mut pauses, mut before) = (count(0, 0), 0, 0);
    while !over.load(Ordering::SeqCst) {
        let children = random.u64(..20);
        let load = Load { recorders: 1, transactions: 1, children, is_bulky: false };
        item(load, &noise);
        all += count(1, 1 + load.children);
        if before == 0 {
            // What is new to the process, or to the thread, may take a lock once.
            before = waits() + 1;
        } else {
            thread::sleep(Duration::from_micros(random.u64(..2_000)));
            pauses += 1;
        }
    }
    (all, (waits() + 1).saturating_sub(before + pauses))
}

#[test]
fn flapping_among_all_of_them() {
    if let Ok(seed) = std::env::var("HOTSPAN_FAULT_SEED") {
        return flap(seed.parse().unwrap());
    }
    (0..env_number("HOTSPAN_FAULT_SEEDS", 3)).for_each(flap);
}
