use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(40);
/// Waited for where nothing comes.
const SHORT: Duration = Duration::from_millis(30);

/// A name service that does what it is told, one question after the other.
struct Service {
    names: Arc<Names>,
    /// What it comes back with; without one it hangs.
    script: Sender<io::Result<Vec<SocketAddr>>>,
    /// A word for each question.
    asked: Receiver<String>,
    running: Arc<AtomicUsize>,
}

impl Service {
    fn new(wait_max: Duration) -> Self {
        let (script, answers) = channel();
        let (asking, asked) = channel();
        let (answers, running) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
        let at_once = Arc::clone(&running);
        let look_up = move |host: &str, port: u16| {
            assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0, "L1");
            asking.send(format!("{host}:{port}")).unwrap();
            let answer = answers.lock().unwrap().recv().unwrap();
            at_once.fetch_sub(1, Ordering::SeqCst);
            answer
        };
        Self { names: Arc::new(Names::new(Arc::new(look_up), wait_max)), script, asked, running }
    }

    /// It will come back with this address, or say that there is none.
    fn answer(&self, last: Option<u8>) {
        let found = last.map(|last| vec![address(last)]);
        self.script.send(found.ok_or_else(|| io::Error::other("no such host"))).unwrap();
    }

    fn ask(&self, host: &str, wait: Duration) -> Result<u8, LookUpError> {
        let place = Place { host: host.to_owned(), port: 1 };
        self.names.addresses(&place, wait).map(|found| {
            let [SocketAddr::V4(address)] = found[..] else { panic!("{found:?}") };
            address.ip().octets()[3]
        })
    }

    fn questions(&self) -> usize {
        self.asked.try_iter().count()
    }

    /// Waits until the question that is under way has come back.
    fn settle(&self) {
        let state = self.names.lock();
        let (state, waited) =
            self.names.came_back.wait_timeout_while(state, LONG, |it| it.asking.is_some()).unwrap();
        assert!(!waited.timed_out() && state.asking.is_none());
    }
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 1))
}

#[test]
fn the_name_fits() {
    assert!(THREAD_NAME.len() <= 15);
}

#[test]
fn an_answer_is_used_until_a_request_fails_and_for_its_host_only() {
    let service = Service::new(LONG);
    for last in 1..5 {
        service.answer(Some(last));
    }
    let before = clock::monotonic();
    assert_eq!(service.ask("a", LONG).unwrap(), 1);
    let until = service.names.lock().answer.as_ref().unwrap().until;
    assert!(before + KEEP <= until && until <= clock::monotonic() + KEEP);
    assert_eq!(service.ask("a", LONG).unwrap(), 1);
    assert_eq!(service.questions(), 1);
    service.names.doubt();
    assert_eq!(service.ask("a", LONG).unwrap(), 2);
    assert_eq!(service.ask("b", LONG).unwrap(), 3);
    assert_eq!(service.ask("a", LONG).unwrap(), 4);
    assert_eq!(service.questions(), 3);
}

#[test]
fn an_error_is_not_remembered() {
    let service = Service::new(LONG);
    service.answer(None);
    service.answer(Some(1));
    let error = service.ask("a", LONG).unwrap_err();
    assert!(error.to_string().ends_with("no such host"), "{error}");
    assert_eq!(service.ask("a", LONG).unwrap(), 1);
}

#[test]
fn no_address_and_a_panic_are_errors() {
    let place = Place { host: "a".into(), port: 1 };
    let names = |look_up: Arc<LookUp>| Arc::new(Names::new(look_up, LONG));
    let error = names(Arc::new(|_, _| Ok(Vec::new()))).addresses(&place, LONG).unwrap_err();
    assert!(error.to_string().contains("no address"), "{error}");
    let error = names(Arc::new(|_, _| panic!("on purpose"))).addresses(&place, LONG).unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    let many = names(Arc::new(|_, _| Ok(vec![address(1); 40])));
    assert_eq!(many.addresses(&place, LONG).unwrap().len(), ADDRESSES_MAX);
}

#[test]
fn one_question_answers_everybody() {
    let service = Service::new(LONG);
    let place = Place { host: "a".into(), port: 1 };
    for outcome in [Some(7), None] {
        thread::scope(|scope| {
            let (names, place) = (&service.names, &place);
            let askers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| names.addresses(place, LONG).ok())).collect();
            service.asked.recv_timeout(LONG).unwrap();
            service.answer(outcome);
            // Who comes after it was settled asks again, if there was no answer.
            while askers.iter().any(|asker| !asker.is_finished()) {
                if service.asked.recv_timeout(SHORT).is_ok() {
                    assert_eq!(outcome, None, "answered already");
                    service.answer(None);
                }
            }
            for asker in askers {
                assert_eq!(asker.join().unwrap(), outcome.map(|last| vec![address(last)]));
            }
        });
        *service.names.lock() = State::default();
    }
}

#[test]
fn a_question_that_hangs_costs_one_thread_and_its_answer_is_kept() {
    let service = Service::new(LONG);
    for _ in 0..3 {
        let began = clock::monotonic();
        assert!(matches!(service.ask("a", SHORT), Err(LookUpError::Late)));
        let waited = clock::monotonic() - began;
        assert!(SHORT <= waited && waited < LONG, "{waited:?}");
    }
    // Another host has to wait for it as well.
    assert!(matches!(service.ask("b", SHORT), Err(LookUpError::Late)));
    assert_eq!(service.questions(), 1);
    assert_eq!(service.running.load(Ordering::SeqCst), 1);
    service.answer(Some(1));
    service.settle();
    assert_eq!(service.ask("a", SHORT).unwrap(), 1);
    assert_eq!(service.questions(), 0);
}

#[test]
fn what_connecting_may_take_is_the_other_bound() {
    let service = Service::new(SHORT);
    assert!(matches!(service.ask("a", LONG), Err(LookUpError::Late)));
    // For somebody who came while the question was under way, too: there is nothing old.
    let began = clock::monotonic();
    assert!(matches!(service.ask("a", LONG), Err(LookUpError::Late)));
    assert!(clock::monotonic() - began >= SHORT);
    service.answer(None);
}

#[test]
fn an_old_answer_is_used_while_asking_anew_fails() {
    let service = Service::new(LONG);
    service.answer(Some(1));
    service.answer(None);
    assert_eq!(service.ask("a", LONG).unwrap(), 1);
    service.names.doubt();
    assert_eq!(service.ask("a", LONG).unwrap(), 1);
    // For a while nobody asks again.
    assert_eq!(service.ask("a", LONG).unwrap(), 1);
    assert_eq!(service.questions(), 2);
    let until = service.names.lock().answer.as_ref().unwrap().until;
    assert!(until <= clock::monotonic() + KEEP_OLD);
    // A request that fails with it asks at once.
    service.names.doubt();
    service.answer(Some(2));
    assert_eq!(service.ask("a", LONG).unwrap(), 2);
}

#[test]
fn an_old_answer_is_used_while_asking_anew_hangs_and_waited_for_once() {
    let wait = Duration::from_millis(200);
    let service = Service::new(wait);
    service.answer(Some(1));
    assert_eq!(service.ask("a", LONG).unwrap(), 1);
    service.names.doubt();
    let began = clock::monotonic();
    assert_eq!(service.ask("a", LONG).unwrap(), 1);
    assert!(clock::monotonic() - began >= wait);
    // A hundred more would take 20 s if each waited.
    let began = clock::monotonic();
    for _ in 0..100 {
        assert_eq!(service.ask("a", LONG).unwrap(), 1);
    }
    assert!(clock::monotonic() - began < 50 * wait);
    assert_eq!(service.questions(), 2);
    service.answer(Some(2));
    service.settle();
    assert_eq!(service.ask("a", LONG).unwrap(), 2);
}

#[test]
fn who_waits_is_let_go_when_it_is_over() {
    let service = Service::new(LONG);
    thread::scope(|scope| {
        let names = &service.names;
        let place = Place { host: "a".into(), port: 1 };
        let began = clock::monotonic();
        let asker = scope.spawn(move || names.addresses(&place, LONG));
        service.asked.recv_timeout(LONG).unwrap();
        names.close();
        assert!(matches!(asker.join().unwrap(), Err(LookUpError::Closed)));
        assert!(clock::monotonic() - began < LONG / 2);
    });
    assert!(matches!(service.ask("a", LONG), Err(LookUpError::Closed)));
}

#[test]
fn an_address_is_taken_as_it_is() {
    let lookup = Lookup(Arc::new(Names::new(Arc::new(|_, _| panic!("asked")), LONG)));
    let timeout = NextTimeout::default();
    for (url, expected) in [
        ("http://127.0.0.1/", "127.0.0.1:80"),
        ("https://10.1.2.3/", "10.1.2.3:443"),
        ("http://[::1]:9000/", "[::1]:9000"),
    ] {
        let uri = url.parse().unwrap();
        let found = lookup.resolve(&uri, &Config::default(), timeout).unwrap();
        assert_eq!(found[..], [expected.parse().unwrap()], "{url}");
    }
}

#[test]
fn the_system_finds_this_host() {
    // Stands in the file of hosts.
    let found = system("localhost", 80).unwrap();
    assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
    // Longer than a label may be: nobody is asked.
    assert!(system(&"x".repeat(64), 80).is_err());
}
