//! Lots of several parcels, and transports that say of them what they like.

use super::*;

type Say<'a> = &'a mut dyn FnMut(usize, Result<Response, SendError>);

/// Likes so many at a time, and says what its function says.
struct Many<F> {
    most: usize,
    sizes: Arc<Mutex<Vec<usize>>>,
    send_all: F,
}

impl<F: FnMut(&[Envelope<'_>], Say<'_>) + Send> Transport for Many<F> {
    fn send(&mut self, _: &Envelope<'_>) -> Result<Response, SendError> {
        Ok(Response::status(200))
    }

    fn at_once(&self) -> usize {
        self.most
    }

    fn send_all(&mut self, envelopes: &[Envelope<'_>], answered: Say<'_>) {
        self.sizes.lock().unwrap().push(envelopes.len());
        (self.send_all)(envelopes, answered);
    }
}

/// A courier with such a transport, with `pushed` parcels of 0, 1, 2 ... children.
fn many<F>(most: usize, tries_max: u32, pushed: u64, send_all: F) -> (Rig<Clock>, Sizes)
where
    F: FnMut(&[Envelope<'_>], Say<'_>) + Send + 'static,
{
    let mut rig = rig_boxed(tries_max);
    let sizes = Sizes::default();
    let transport = Many { most, sizes: Arc::clone(&sizes), send_all };
    rig.courier.transport = Box::new(transport);
    (0..pushed).for_each(|children| rig.push(children));
    (rig, sizes)
}

type Clock = Box<dyn Fn() -> Moment>;
type Sizes = Arc<Mutex<Vec<usize>>>;

fn rig_boxed(tries_max: u32) -> Rig<Clock> {
    let Rig { courier, script, seconds } = rig_with(tries_max);
    let Courier { worker, transport, depot, now, .. } = courier;
    let courier = Courier::new(worker, transport, depot, Box::new(now) as Clock);
    Rig { courier, script, seconds }
}

fn ok() -> Result<Response, SendError> {
    Ok(Response::status(200))
}

fn gone() -> Result<Response, SendError> {
    Err(SendError::new("gone"))
}

fn status(status: u16) -> Result<Response, SendError> {
    Ok(Response::status(status))
}

/// What is lost for each reason for which anything is.
fn losses(rig: &Rig<Clock>) -> Vec<(Reason, Count)> {
    let lost = |reason| (reason, rig.books().lost.of(reason).read());
    Reason::ALL.map(lost).into_iter().filter(|(_, count)| !count.is_zero()).collect()
}

fn sum(children: impl IntoIterator<Item = u64>) -> Count {
    children.into_iter().fold(Count::default(), |sum, each| sum + Count::transaction(each))
}

#[test]
fn answers_count_for_their_place_in_whatever_order_they_come() {
    let (mut rig, sizes) = many(8, 1, 6, |_, say| {
        say(5, ok());
        say(1, status(503));
        say(0, ok());
        say(4, status(429));
        say(3, gone());
        say(2, ok());
    });
    assert!(rig.courier.cycle());
    assert_eq!(*sizes.lock().unwrap(), [6]);
    assert_eq!(rig.books().delivered.read(), sum([0, 2, 5]));
    let expected = [
        (Reason::NetworkError, sum([3])),
        (Reason::Refused, sum([4])),
        (Reason::SendError, sum([1])),
    ];
    let mut lost = losses(&rig);
    lost.sort_by_key(|(reason, _)| format!("{reason:?}"));
    assert_eq!(lost, expected);
    assert_eq!(rig.courier.queue().held(), Default::default());
}

#[test]
fn what_is_said_twice_counts_once_and_what_is_not_there_is_ignored() {
    let (mut rig, _) = many(8, 1, 2, |_, say| {
        say(2, status(503));
        say(0, ok());
        say(0, status(503));
        say(usize::MAX, gone());
        say(1, status(503));
        say(1, ok());
        say(0, gone());
    });
    assert!(rig.courier.cycle());
    assert_eq!(rig.books().delivered.read(), sum([0]));
    assert_eq!(losses(&rig), [(Reason::SendError, sum([1]))]);
    assert_eq!(rig.last_error(), "the server answered with status 503");
    assert_eq!(rig.courier.queue().held(), Default::default());
}

#[test]
fn what_nothing_was_said_of_was_not_answered_and_is_sent_again() {
    let (mut rig, sizes) = many(8, 2, 3, |_, say| say(1, ok()));
    assert!(rig.courier.cycle());
    assert_eq!(rig.books().delivered.read(), sum([1]));
    assert_eq!(rig.last_error(), "no answer: the transport did not say what became of it");
    assert_eq!(rig.courier.depot.health().last_error.unwrap().kind, "other");
    assert_eq!((losses(&rig), rig.books().retries.get()), (vec![], 2));
    assert_eq!(rig.courier.queue().held().queued, sum([0, 2]));
    assert!(rig.courier.cycle());
    assert_eq!(*sizes.lock().unwrap(), [3, 1], "a probe goes alone");
    assert_eq!(losses(&rig), [(Reason::NetworkError, sum([0]))]);
}

#[test]
fn a_probe_goes_alone_and_after_its_answer_many_go_again() {
    let (mut rig, sizes) = many(8, 5, 4, {
        let mut answers = [gone as fn() -> _, gone, ok].into_iter();
        move |envelopes, say| {
            let answer = answers.next().unwrap_or(ok);
            (0..envelopes.len()).for_each(|place| say(place, answer()));
        }
    });
    for _ in 0..4 {
        assert!(rig.courier.cycle());
        rig.seconds.set(rig.seconds.get() + 2);
    }
    assert_eq!(*sizes.lock().unwrap(), [4, 1, 1, 3]);
    assert_eq!((rig.books().delivered.read(), losses(&rig)), (sum(0..4), vec![]));
}

#[test]
fn one_that_was_not_answered_is_no_sign_of_a_server_that_is_gone_if_others_are_later() {
    let (mut rig, sizes) = many(8, 2, 3, |envelopes, say| {
        if envelopes.len() > 1 {
            say(0, gone());
            (1..envelopes.len()).for_each(|place| say(place, ok()));
        } else {
            say(0, ok());
        }
    });
    assert!(rig.courier.cycle());
    assert_eq!(rig.courier.queue().held().queued, sum([0]));
    rig.push(7);
    rig.push(8);
    assert!(rig.courier.cycle());
    assert_eq!(*sizes.lock().unwrap(), [3, 3]);
    assert_eq!(
        (rig.books().delivered.read(), losses(&rig)),
        (sum([1, 2, 7, 8]), vec![(Reason::NetworkError, sum([0]))])
    );
}

#[test]
fn after_a_panic_what_was_said_stands_and_the_rest_is_lost() {
    let (mut rig, _) = many(8, 3, 5, |_, say| {
        say(3, ok());
        say(1, gone());
        say(0, status(503));
        panic!("on purpose");
    });
    assert!(rig.courier.cycle());
    assert_eq!(rig.books().delivered.read(), sum([3]));
    let mut lost = losses(&rig);
    lost.sort_by_key(|(reason, _)| format!("{reason:?}"));
    assert_eq!(lost, [(Reason::Internal, sum([2, 4])), (Reason::SendError, sum([0]))]);
    assert_eq!(rig.courier.queue().held().queued, sum([1]), "that is sent again");
    assert_eq!(rig.last_error(), "the transport panicked");
}

#[test]
fn a_panic_counts_once_with_however_many() {
    let (mut rig, sizes) = many(3, 1, 18, |_, _| panic!("on purpose"));
    for _ in 0..4 {
        assert!(rig.courier.cycle());
    }
    assert!(!rig.courier.depot.health().dead, "four, with twelve");
    assert_eq!(losses(&rig), [(Reason::Internal, sum(0..12))]);
    assert!(rig.courier.cycle());
    assert!(rig.courier.depot.health().dead);
    assert!(rig.courier.cycle());
    assert_eq!(*sizes.lock().unwrap(), [3; 5], "none is called again");
    assert_eq!(losses(&rig)[0].1, sum(0..16), "one at a time, as nobody was asked");
}

#[test]
fn limits_are_asked_for_each_lot_and_heard_of_in_it() {
    let (mut rig, sizes) = many(3, 1, 6, |_, say| {
        let mut limited = Response::status(429);
        limited.retry_after = Some("20".to_owned());
        say(0, ok());
        say(1, Ok(limited));
        say(2, ok());
    });
    assert!(rig.courier.cycle());
    let delivered = sum([0, 2]);
    assert_eq!(
        (rig.books().delivered.read(), losses(&rig)),
        (delivered, vec![(Reason::Refused, sum([1]))])
    );
    assert!(rig.courier.cycle());
    assert_eq!(rig.lost(Reason::RateLimited), 3);
    assert_eq!(*sizes.lock().unwrap(), [3], "nothing was sent");
    assert_eq!(rig.courier.queue().held(), Default::default());
    rig.seconds.set(1020);
    rig.push(9);
    assert!(rig.courier.cycle());
    assert_eq!(*sizes.lock().unwrap(), [3, 1]);
}

#[test]
fn limits_are_asked_for_each_parcel() {
    let (mut rig, sizes) = many(8, 1, 1, |envelopes, say| {
        for (place, envelope) in envelopes.iter().enumerate() {
            assert_eq!(envelope.category(), Category::Internal);
            say(place, ok());
        }
    });
    let mut limited = Response::status(200);
    limited.rate_limits = Some("60:transaction:key".to_owned());
    rig.courier.depot.answered(&limited, rig.courier.now.as_ref()());
    let parcel = Parcel {
        bytes: b"{}\n".to_vec(),
        sent_at: 0..0,
        category: Category::Internal,
        event_id: None,
        count: Count::transaction(70),
        way: Way::default(),
    };
    rig.courier.queue().push(parcel, rig.now()).unwrap();
    rig.push(2);
    assert!(rig.courier.cycle());
    assert_eq!(*sizes.lock().unwrap(), [1], "of three");
    assert_eq!(losses(&rig), [(Reason::RateLimited, sum([0, 2]))]);
    assert_eq!(rig.books().delivered.read(), sum([70]));
}

#[test]
fn giving_up_in_the_middle_loses_what_is_not_known_and_that_alone() {
    let queue = Arc::new(Mutex::new(None::<Arc<Depot>>));
    let lost = Arc::new(Mutex::new(Count::default()));
    let (mut rig, _) = many(4, 1, 6, {
        let (queue, lost) = (Arc::clone(&queue), Arc::clone(&lost));
        move |_, say| {
            say(2, ok());
            say(0, status(503));
            say(1, gone());
            let depot = queue.lock().unwrap().take().unwrap();
            *lost.lock().unwrap() = depot.queue().abandon(Reason::ShutdownDeadline);
            say(3, ok());
        }
    });
    *queue.lock().unwrap() = Some(Arc::clone(&rig.courier.depot));
    assert!(rig.courier.cycle());
    assert!(!rig.courier.cycle());
    assert_eq!(*lost.lock().unwrap(), sum([3, 4, 5]));
    assert_eq!(rig.books().delivered.read(), sum([2]), "the last one came too late");
    let mut all = losses(&rig);
    all.sort_by_key(|(reason, _)| format!("{reason:?}"));
    let expected = [
        (Reason::NetworkError, sum([1])),
        (Reason::SendError, sum([0])),
        (Reason::ShutdownDeadline, sum([3, 4, 5])),
    ];
    assert_eq!(all, expected);
}

#[test]
fn what_is_to_be_sent_again_is_lost_if_all_is_given_up_meanwhile() {
    let depot = Arc::new(Mutex::new(None::<Arc<Depot>>));
    let (mut rig, _) = many(4, 3, 2, {
        let depot = Arc::clone(&depot);
        move |_, say| {
            say(0, gone());
            let depot = depot.lock().unwrap().take().unwrap();
            depot.queue().abandon(Reason::ShutdownDeadline);
        }
    });
    *depot.lock().unwrap() = Some(Arc::clone(&rig.courier.depot));
    assert!(rig.courier.cycle());
    assert_eq!(losses(&rig), [(Reason::ShutdownDeadline, sum([0, 1]))]);
    assert_eq!(rig.books().retries.get(), 0);
}

#[test]
fn who_flushes_goes_on_when_all_is_known_though_the_transport_has_not_returned() {
    let depot = Arc::new(Mutex::new(None::<Arc<Depot>>));
    let flushes = Arc::new(Mutex::new(Vec::new()));
    let (mut rig, _) = many(4, 1, 2, {
        let (depot, flushes) = (Arc::clone(&depot), Arc::clone(&flushes));
        move |_, say| {
            let depot = depot.lock().unwrap().take().unwrap();
            // There is no worker that could report.
            let flush = || depot.queue().flush(Duration::ZERO, || Duration::ZERO);
            flushes.lock().unwrap().push(flush());
            say(0, ok());
            flushes.lock().unwrap().push(flush());
            say(1, ok());
            flushes.lock().unwrap().push(flush());
            assert_eq!(depot.queue().held(), Default::default());
            assert_eq!(depot.queue().spares(), 0, "their buffers are still out");
        }
    });
    *depot.lock().unwrap() = Some(Arc::clone(&rig.courier.depot));
    assert!(rig.courier.cycle());
    assert_eq!(*flushes.lock().unwrap(), [false, false, true]);
    assert!(!rig.courier.depot.health().dead && rig.last_error().is_empty());
    rig.push(0);
    assert!(rig.courier.cycle());
    assert_eq!(rig.courier.queue().spares(), 2);
}

#[test]
fn a_stored_one_goes_with_the_others_and_stays_in_the_spool_if_it_is_not_answered() {
    let (mut rig, sizes) = many(8, 1, 1, |_, say| say(0, ok()));
    rig.courier.queue().set_spooling(true);
    let stored = Parcel::stored(b"{\"a\":1}\n{}\n".to_vec(), 7, Count::transaction(40));
    rig.courier.queue().push(stored, rig.now()).unwrap();
    rig.push(2);
    assert!(rig.courier.cycle());
    assert_eq!(*sizes.lock().unwrap(), [3]);
    assert_eq!((rig.books().delivered.read(), losses(&rig)), (sum([0]), vec![]));
    let mut fates = Vec::new();
    rig.courier.queue().wait_for_spool(Duration::ZERO, &mut fates);
    assert_eq!(fates, [crate::flush::queue::Fate::Back(7)]);
    assert_eq!(rig.books().retries.get(), 1, "only what is queued again");
    assert_eq!(rig.courier.queue().held().queued, sum([2]));
}

#[test]
fn how_many_it_likes_is_asked_each_time_and_a_panic_is_one() {
    struct Moody(Arc<Mutex<Vec<usize>>>, Mutex<std::vec::IntoIter<usize>>);
    impl Transport for Moody {
        fn send(&mut self, _: &Envelope<'_>) -> Result<Response, SendError> {
            Ok(Response::status(200))
        }
        fn at_once(&self) -> usize {
            match self.1.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next() {
                Some(13) => panic!("on purpose"),
                most => most.unwrap_or(0),
            }
        }
        fn send_all(&mut self, envelopes: &[Envelope<'_>], say: Say<'_>) {
            self.0.lock().unwrap().push(envelopes.len());
            (0..envelopes.len()).for_each(|place| say(place, ok()));
        }
    }
    let mut rig = rig();
    let sizes = Sizes::default();
    let moods = vec![3, 13, 0, usize::MAX].into_iter();
    rig.courier.transport = Box::new(Moody(Arc::clone(&sizes), Mutex::new(moods)));
    (0..80).for_each(|_| rig.push(0));
    (0..4).for_each(|_| assert!(rig.courier.cycle()));
    assert_eq!(*sizes.lock().unwrap(), [3, 1, 1, 64]);
}

#[test]
fn without_a_way_of_its_own_they_are_sent_one_after_the_other() {
    struct Two(Scripted);
    impl Transport for Two {
        fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
            self.0.send(envelope)
        }
        fn at_once(&self) -> usize {
            2
        }
    }
    let mut rig = rig_with(1);
    // Boxed twice: a box passes on all there is to a transport.
    rig.courier.transport = Box::new(Box::new(Two(Scripted(Arc::clone(&rig.script)))));
    (0..4).for_each(|children| rig.push(children));
    rig.act(Act::Answer(Response::status(200)));
    rig.act(Act::Panic);
    assert!(rig.courier.cycle());
    assert_eq!(rig.books().delivered.read(), sum([0]));
    assert_eq!(rig.books().lost.of(Reason::Internal).read(), sum([1]));
    assert_eq!(rig.sent().0, 2);
    assert!(rig.courier.cycle());
    assert_eq!(rig.books().delivered.read(), sum([0, 2, 3]));
}

#[test]
fn an_error_whose_text_panics_costs_no_other() {
    #[derive(Debug)]
    struct Mute;
    impl std::fmt::Display for Mute {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("on purpose");
        }
    }
    impl std::error::Error for Mute {}
    let (mut rig, _) = many(3, 1, 3, |_, say| {
        say(0, ok());
        say(1, Err(SendError::new(Mute)));
        say(2, ok());
    });
    assert!(rig.courier.cycle());
    assert_eq!(rig.books().delivered.read(), sum([0, 2]));
    assert_eq!(losses(&rig), [(Reason::Internal, sum([1]))]);
}

#[test]
fn each_is_stamped() {
    let (mut rig, _) = many(3, 1, 3, |envelopes, say| {
        for (place, envelope) in envelopes.iter().enumerate() {
            let text = std::str::from_utf8(envelope.as_bytes()).unwrap();
            let is_stamped = text.contains("\"sent_at\":\"2024-02-29T23:59:59.000000Z\"");
            say(place, if is_stamped { ok() } else { status(500) });
        }
    });
    assert!(rig.courier.cycle());
    assert_eq!(rig.books().delivered.read(), sum(0..3));
}

#[test]
fn a_panic_of_our_own_loses_what_was_in_hand_and_forgets_it() {
    let (mut rig, sizes) = many(4, 1, 3, |_, say| (0..3).for_each(|place| say(place, ok())));
    rig.courier.lot.most = 4;
    let (queue, now) = (Arc::clone(&rig.courier.depot), rig.now());
    queue.queue().pop(Worker(0), &mut rig.courier.lot, now, Duration::ZERO, || now);
    queue.queue().lose_in_hand(Worker(0));
    rig.courier.survived_panic();
    assert_eq!(losses(&rig), [(Reason::Internal, sum(0..3))]);
    rig.push(5);
    assert!(rig.courier.cycle());
    assert_eq!((*sizes.lock().unwrap()).clone(), [1]);
    assert_eq!(rig.books().delivered.read(), sum([5]));
}
