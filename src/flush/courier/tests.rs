use std::cell::Cell;
use std::rc::Rc;
use std::sync::Mutex;

use super::*;
use crate::flush::depot::{ERROR_CHARS_MAX, REPORT_INTERVAL};
use crate::flush::envelope::SENT_AT_BLANK;
use crate::flush::pressure::Pressure;
use crate::flush::queue::Rules;
use crate::shared::ledger::{Books, Count, Reason};
use crate::transport::SendError;

mod lots;

/// What the scripted transport does next.
enum Act {
    Answer(Response),
    Error(&'static str),
    Panic,
}

#[derive(Default)]
struct Script {
    acts: std::collections::VecDeque<Act>,
    sent: Vec<String>,
}

/// Plays its script, then answers 200.
struct Scripted(Arc<Mutex<Script>>);

impl Transport for Scripted {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        let act = {
            let mut script = self.0.lock().unwrap();
            script.sent.push(String::from_utf8(envelope.as_bytes().to_vec()).unwrap());
            script.acts.pop_front()
        };
        match act {
            None => Ok(Response::status(200)),
            Some(Act::Answer(response)) => Ok(response),
            Some(Act::Error(text)) => Err(SendError::new(text)),
            Some(Act::Panic) => panic!("on purpose"),
        }
    }
}

struct Rig<Now> {
    courier: Courier<Now>,
    script: Arc<Mutex<Script>>,
    seconds: Rc<Cell<u64>>,
}

fn rig() -> Rig<impl Fn() -> Moment> {
    rig_with(1)
}

fn rig_with(tries_max: u32) -> Rig<impl Fn() -> Moment + 'static> {
    let books: &'static Books = Box::leak(Box::new(Books::new()));
    let script = Arc::new(Mutex::new(Script::default()));
    let seconds = Rc::new(Cell::new(1000));
    let now = {
        let seconds = Rc::clone(&seconds);
        move || Moment {
            monotonic: Duration::from_secs(seconds.get()),
            unix: Duration::from_secs(1_709_251_199),
        }
    };
    let queue =
        Arc::new(Queue::new(Rules { bytes_max: 100_000, parcels_max: 1000, tries_max }, books));
    let transport = Box::new(Scripted(Arc::clone(&script)));
    let start = Duration::from_secs(seconds.get());
    let depot = Arc::new(Depot::new(queue, books, true, false, start));
    let courier = Courier::new(Worker(0), transport, depot, now);
    Rig { courier, script, seconds }
}

impl<Now: Fn() -> Moment> Rig<Now> {
    fn push(&self, children: u64) {
        let bytes = format!("{{\"a\":1{SENT_AT_BLANK}}}\n").into_bytes();
        let sent_at = 6..6 + SENT_AT_BLANK.len();
        let count = Count::transaction(children);
        let category = Category::Transaction;
        let way = Way::default();
        let parcel = Parcel { bytes, sent_at, category, event_id: None, count, way };
        self.courier.queue().push(parcel, self.now()).unwrap();
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.seconds.get())
    }

    fn books(&self) -> &'static Books {
        self.courier.depot.books()
    }

    fn act(&self, act: Act) {
        self.script.lock().unwrap().acts.push_back(act);
    }

    /// Pushes one, lets the transport do `act`, and goes one cycle.
    fn one(&mut self, act: Act) {
        self.act(act);
        self.push(1);
        assert!(self.courier.cycle());
    }

    /// How many envelopes of each kind were sent: transactions, reports.
    fn sent(&self) -> (usize, usize) {
        let script = self.script.lock().unwrap();
        let reports = script.sent.iter().filter(|text| text.contains("client_report")).count();
        (script.sent.len() - reports, reports)
    }

    fn lost(&self, reason: Reason) -> u64 {
        self.books().lost.of(reason).read().transactions
    }

    fn unreported(&self, reason: Reason) -> u64 {
        self.books().unreported.of(reason).read().transactions
    }

    fn last_error(&self) -> String {
        self.courier.depot.health().last_error.map(|it| it.text).unwrap_or_default()
    }
}

#[test]
fn the_wall_clock_is_carried_on_for_a_while() {
    let at = |millis| Duration::from_millis(millis);
    let last = Moment { monotonic: at(1000), unix: at(50_000) };
    assert_eq!(Moment::carried_on(None, at(1000)), None);
    let soon = Moment { monotonic: at(1009), unix: at(50_009) };
    assert_eq!(Moment::carried_on(Some(last), at(1009)), Some(soon));
    assert_eq!(Moment::carried_on(Some(last), at(1010)), None);
    let clock = Moment::clock();
    let (first, second, exact) = (clock(), clock(), Moment::now());
    assert!(first.monotonic <= second.monotonic && first.unix <= second.unix);
    let off = exact.unix.abs_diff(second.unix + (exact.monotonic - second.monotonic));
    assert!(off < Duration::from_secs(1), "{off:?}");
}

#[test]
fn the_status_decides_and_each_parcel_is_settled_once() {
    for (status, reason) in [
        (200, None),
        (204, None),
        (299, None),
        (302, Some(Reason::SendError)),
        (400, Some(Reason::SendError)),
        (413, Some(Reason::SendError)),
        (429, Some(Reason::Refused)),
        (503, Some(Reason::SendError)),
        (0, Some(Reason::SendError)),
        (999, Some(Reason::SendError)),
    ] {
        let mut rig = rig();
        rig.one(Act::Answer(Response::status(status)));
        let delivered = rig.books().delivered.read();
        assert_eq!(delivered.transactions, u64::from(reason.is_none()), "{status}");
        for each in Reason::ALL {
            assert_eq!(rig.lost(each), u64::from(reason == Some(each)), "{status} {each:?}");
        }
        assert_eq!(rig.courier.queue().held(), Default::default());
    }
}

#[test]
fn no_answer_is_a_network_error_with_a_text_of_one_bounded_line() {
    let mut rig = rig();
    rig.one(Act::Error("connection\nrefused"));
    assert_eq!(rig.lost(Reason::NetworkError), 1);
    assert_eq!(rig.last_error(), "no answer: connection refused");
    rig.one(Act::Error(Box::leak("x".repeat(10_000).into_boxed_str())));
    assert_eq!(rig.last_error().len(), ERROR_CHARS_MAX);
}

#[test]
fn what_got_no_answer_is_sent_again_as_it_was() {
    let mut rig = rig_with(3);
    rig.push(1);
    for _ in 0..2 {
        rig.act(Act::Error("gone"));
        rig.courier.cycle();
        rig.seconds.set(rig.seconds.get() + 2);
    }
    assert_eq!((rig.lost(Reason::NetworkError), rig.books().retries.get()), (0, 2));
    rig.courier.cycle();
    assert_eq!((rig.sent().0, rig.books().delivered.read()), (3, Count::transaction(1)));
    let sent = &rig.script.lock().unwrap().sent;
    assert!(sent.iter().all(|envelope| *envelope == sent[0]));
    for reason in Reason::ALL {
        assert_eq!((rig.lost(reason), rig.unreported(reason)), (0, 0), "{reason:?}");
    }
}

#[test]
fn the_time_of_sending_is_stamped() {
    let mut rig = rig();
    rig.push(0);
    rig.courier.cycle();
    let sent = rig.script.lock().unwrap().sent.concat();
    assert_eq!(sent, "{\"a\":1,\"sent_at\":\"2024-02-29T23:59:59.000000Z\"}\n");
}

#[test]
fn a_limit_holds_back_what_was_queued_before_it_and_ends_in_time() {
    let mut rig = rig();
    for _ in 0..3 {
        rig.push(1);
    }
    let mut limited = Response::status(429);
    limited.retry_after = Some("20".to_owned());
    rig.act(Act::Answer(limited));
    rig.courier.cycle();
    rig.seconds.set(1019);
    rig.courier.cycle();
    assert_eq!(rig.sent().0, 1);
    assert_eq!((rig.lost(Reason::Refused), rig.lost(Reason::RateLimited)), (1, 1));
    rig.seconds.set(1020);
    rig.courier.cycle();
    assert_eq!(rig.sent().0, 2);
    assert_eq!(rig.books().delivered.read().transactions, 1);
}

#[test]
fn a_panicking_transport_costs_a_parcel_each_and_is_left_alone_after_five() {
    let mut rig = rig();
    for between in [Act::Answer(Response::status(200)), Act::Error("gone")] {
        for _ in 0..4 {
            rig.one(Act::Panic);
        }
        rig.one(between);
    }
    assert_eq!(rig.lost(Reason::Internal), 8);
    for _ in 0..5 {
        rig.one(Act::Panic);
    }
    assert!(rig.courier.depot.health().dead);
    let sent = rig.sent();
    assert_eq!(sent, (15, 0), "five in a row: those before the answer do not count");
    for _ in 0..3 {
        rig.push(1);
        rig.courier.cycle();
    }
    rig.seconds.set(5000);
    rig.courier.cycle();
    assert_eq!(rig.sent(), sent, "nothing more, no report either");
    assert_eq!(rig.lost(Reason::Internal), 16);
    assert_eq!(rig.books().delivered.read().transactions, 1);
}

#[test]
fn a_payload_that_panics_when_dropped_is_survived() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("again");
        }
    }
    struct Thrower;
    impl Transport for Thrower {
        fn send(&mut self, _: &Envelope<'_>) -> Result<Response, SendError> {
            std::panic::panic_any(Bomb);
        }
    }
    let mut rig = rig();
    rig.courier.transport = Box::new(Thrower);
    rig.push(1);
    assert!(rig.courier.cycle());
    assert_eq!(rig.lost(Reason::Internal), 1);
}

#[test]
fn an_error_whose_text_panics_is_survived() {
    #[derive(Debug)]
    struct Mute;
    impl std::fmt::Display for Mute {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("on purpose");
        }
    }
    impl std::error::Error for Mute {}
    struct Failing;
    impl Transport for Failing {
        fn send(&mut self, _: &Envelope<'_>) -> Result<Response, SendError> {
            Err(SendError::new(Mute))
        }
    }
    let mut rig = rig();
    rig.courier.transport = Box::new(Failing);
    rig.push(1);
    assert!(rig.courier.cycle());
    assert_eq!(rig.lost(Reason::Internal), 1);
}

#[test]
fn a_report_goes_with_a_parcel_once_the_last_is_old_enough() {
    let mut rig = rig();
    rig.one(Act::Error("gone"));
    rig.seconds.set(1029);
    rig.one(Act::Answer(Response::status(200)));
    assert_eq!(rig.sent(), (2, 0));
    rig.seconds.set(1030);
    rig.one(Act::Answer(Response::status(200)));
    assert_eq!(rig.sent(), (3, 1));
    assert_eq!(rig.unreported(Reason::NetworkError), 0);
    rig.seconds.set(1100);
    rig.one(Act::Answer(Response::status(200)));
    assert_eq!(rig.sent(), (4, 1), "there is nothing to report");
}

#[test]
fn a_report_that_is_not_taken_is_restored_and_is_no_loss() {
    for act in [
        Act::Answer(Response::status(500)),
        Act::Answer(Response::status(429)),
        Act::Error("gone"),
        Act::Panic,
    ] {
        let mut rig = rig();
        rig.one(Act::Answer(Response::status(503)));
        let lost_before = Reason::ALL.map(|reason| rig.lost(reason));
        rig.act(act);
        rig.courier.report();
        assert_eq!(rig.sent(), (1, 1));
        assert_eq!(rig.unreported(Reason::SendError), 1);
        assert_eq!(Reason::ALL.map(|reason| rig.lost(reason)), lost_before);
        rig.seconds.set(2000);
        rig.courier.report();
        assert_eq!(rig.sent(), (1, 2));
        assert_eq!(rig.unreported(Reason::SendError), 0);
    }
}

#[test]
fn a_flush_and_a_close_force_a_report() {
    let mut rig = rig();
    rig.courier.queue().begin();
    rig.one(Act::Answer(Response::status(500)));
    assert!(!rig.courier.queue().flush(Duration::ZERO, || Duration::ZERO), "asks, and cannot wait");
    rig.courier.cycle();
    assert_eq!(rig.sent(), (1, 1));

    rig.one(Act::Answer(Response::status(500)));
    rig.courier.queue().close();
    assert!(!rig.courier.cycle());
    assert_eq!(rig.sent(), (2, 2));
}

#[test]
fn no_report_is_sent_if_there_are_to_be_none_or_a_limit_forbids_it() {
    let mut rig = rig();
    let mut limited = Response::status(429);
    limited.retry_after = Some("100".to_owned());
    rig.one(Act::Answer(Response::status(500)));
    rig.one(Act::Answer(limited));
    rig.courier.report();
    assert_eq!((rig.sent(), rig.unreported(Reason::SendError)), ((2, 0), 1));
    rig.seconds.set(1200);
    rig.courier.depot.report_never();
    rig.courier.report();
    assert_eq!(rig.sent(), (2, 0));
}

#[test]
fn waiting_never_turns_into_spinning() {
    let mut rig = rig();
    assert_eq!(rig.courier.depot.patience(rig.now()), REPORT_INTERVAL);
    rig.seconds.set(1030);
    assert_eq!(rig.courier.depot.patience(rig.now()), Duration::ZERO);
    rig.one(Act::Answer(Response::status(200)));
    assert_eq!(
        rig.courier.depot.patience(rig.now()),
        REPORT_INTERVAL,
        "an empty report counts as tried"
    );
    rig.courier.depot.report_never();
    assert_eq!(rig.courier.depot.patience(rig.now()), REPORT_INTERVAL);
}

#[test]
fn the_parcel_s_buffer_goes_back() {
    let mut rig = rig();
    rig.push(0);
    assert_eq!(rig.courier.queue().spares(), 0);
    rig.courier.cycle();
    rig.push(0);
    rig.courier.cycle();
    assert_eq!(rig.courier.queue().spares(), 1, "with the next lock that is taken");
}

#[test]
fn a_server_that_wants_no_transactions_is_pressure_for_as_long_as_it_says() {
    let mut rig = rig();
    let mut pressure = Pressure::default();
    let mut check = |rig: &Rig<_>, seconds: u64| {
        rig.seconds.set(seconds);
        let strain = || rig.courier.queue().strain();
        pressure.check(Duration::from_secs(seconds), strain)
    };
    let limit = |limits: &str| {
        let mut response = Response::status(200);
        response.rate_limits = Some(limits.to_owned());
        Act::Answer(response)
    };
    assert_eq!(check(&rig, 1000), None, "the first interval begins");
    // Spans alone do not hold transactions back.
    rig.one(limit("60:span:key"));
    assert_eq!(check(&rig, 1010), Some(true));
    rig.one(limit("25:transaction:key"));
    assert_eq!(check(&rig, 1020), Some(false));
    assert_eq!(check(&rig, 1030), Some(false));
    rig.push(1);
    assert!(rig.courier.cycle());
    assert_eq!((rig.sent().0, rig.lost(Reason::RateLimited)), (2, 1));
    assert_eq!(check(&rig, 1040), Some(true), "it has ended");
    rig.one(Act::Answer(Response::status(429)));
    assert_eq!(check(&rig, 1050), Some(false), "for a minute, if it does not say how long");
    assert_eq!(check(&rig, 1090), Some(false));
    assert_eq!(check(&rig, 1100), Some(true));
    rig.one(Act::Answer(Response::status(503)));
    assert_eq!(check(&rig, 1110), Some(true), "an error is no wish");
}
