//! The sink of the simulation: writes down what the assembler says, passes it on to the flusher's
//! own way out where there is one, and panics when its fuse has burnt down.
//!
//! Behind that way out stand the real queue and courier, and a [server](super::server) that answers
//! by seed. What the server counted must be what the books say.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;

use crate::flush::assemble::Sink;
use crate::flush::courier::{Courier, Moment};
use crate::flush::depot::Depot;
use crate::flush::encode::Site;
use crate::flush::flusher::Out;
use crate::flush::intake::{Keeper, records};
use crate::flush::queue::{Held, Queue, Rules, Worker};
use crate::flush::verdict::Verdict;
use crate::shared::id::WireIds;
use crate::shared::layout::Slot;
use crate::shared::ledger::sampling::Cause;
use crate::shared::ledger::{Books, Count, Reason};

use super::server::{Lots, Seen, Server};
use super::world::ANCHOR;

/// Burns down by one at each call; a panic at its end. 0: never.
#[derive(Debug, Default)]
pub(super) struct Fuse(pub(super) Cell<u32>);

impl Fuse {
    pub(super) fn burn(&self) {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        if left == 1 {
            // Without the hook that prints.
            resume_unwind(Box::new("on purpose"));
        }
    }
}

/// A transaction that was handed on.
pub(super) struct Handed {
    pub(super) run: Vec<Slot>,
    /// Whether that was at the end of a pass.
    pub(super) at_end: bool,
    pub(super) verdict: Verdict,
}

pub(super) struct Watch<'a> {
    pub(super) fuse: &'a Fuse,
    pub(super) out: Option<Out>,
    pub(super) taken: Count,
    pub(super) left: Count,
    pub(super) handed: Vec<Handed>,
    /// Of these, what was not kept.
    pub(super) discarded: Count,
    lost: [Count; Reason::ALL.len()],
    /// A bound was hit, perhaps at the cost of attributes alone.
    pub(super) hit: bool,
    pub(super) attributes_lost: u64,
    pub(super) at_end: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(fuse: &'a Fuse, out: Option<Out>) -> Self {
        Self {
            fuse,
            out,
            taken: Count::default(),
            left: Count::default(),
            handed: Vec::new(),
            discarded: Count::default(),
            lost: Default::default(),
            hit: false,
            attributes_lost: 0,
            at_end: false,
        }
    }

    /// Handed on, and not in the queue yet.
    pub(super) fn ready(&self) -> Count {
        self.out.as_ref().map(Out::ready).unwrap_or_default()
    }

    pub(super) fn lost(&self, reason: Reason) -> Count {
        self.lost[reason as usize]
    }
}

impl Sink for Watch<'_> {
    fn transaction(&mut self, run: &[Slot]) {
        self.fuse.burn();
        let verdict = Verdict::of(run, &WIRE, &ANCHOR);
        self.handed.push(Handed { run: run.to_vec(), at_end: self.at_end, verdict });
        let count = records(run).0;
        self.left += count;
        if verdict == Verdict::Discarded {
            self.discarded += count;
        }
        if let Some(out) = &mut self.out {
            out.transaction(run);
        }
        self.fuse.burn();
    }

    fn lost(&mut self, reason: Reason, count: Count) {
        self.fuse.burn();
        self.lost[reason as usize] += count;
        self.hit |= matches!(reason, Reason::Evicted | Reason::TransactionLimit);
        self.left += count;
        if let Some(out) = &mut self.out {
            out.lost(reason, count);
        }
        self.fuse.burn();
    }

    fn attributes_lost(&mut self, count: u64) {
        self.attributes_lost += count;
        if let Some(out) = &mut self.out {
            out.attributes_lost(count);
        }
    }
}

impl Keeper for Watch<'_> {
    fn taken_in(&mut self, count: Count) {
        self.taken += count;
        if let Some(out) = &mut self.out {
            out.taken_in(count);
        }
    }

    fn in_hand(&self) -> Count {
        let in_hand = self.taken - self.left;
        if let Some(out) = &self.out {
            assert_eq!(out.in_hand(), in_hand + self.ready(), "the flusher's own count");
        }
        in_hand
    }

    fn hand_over(&mut self) {
        if let Some(out) = &mut self.out {
            out.hand_over();
        }
    }
}

/// The seeds of ids and random numbers.
pub(super) const WIRE: WireIds = WireIds { seed: [1, 2, 3, 4] };

/// Queue, courier and server, and the books they are counted in.
pub(super) struct Post {
    books: &'static Books,
    queue: Arc<Queue>,
    courier: Courier<Box<dyn Fn() -> Moment>>,
    seen: Arc<Mutex<Seen>>,
    /// The courier goes at one in so many looks.
    pauses: u32,
    pub(super) now: Rc<Cell<Duration>>,
}

thread_local! {
    /// Books live for ever, so those of the last world are emptied and used again.
    static BOOKS: &'static Books = Box::leak(Box::new(Books::new()));
}

fn empty_books() -> &'static Books {
    let books = BOOKS.try_with(|books| *books).unwrap();
    let Books { collected, delivered, discarded, .. } = books;
    for tally in [collected, delivered, discarded] {
        tally.take();
    }
    for cause in Cause::ALL {
        books.sampling.unreported(cause).take();
    }
    for reason in Reason::ALL {
        books.lost.of(reason).take();
        books.unreported.of(reason).take();
    }
    books
}

impl Post {
    /// The post, and the flusher's way to it.
    pub(super) fn open(rng: &mut Rng) -> (Self, Out) {
        let books = empty_books();
        let now = Rc::new(Cell::new(Duration::ZERO));
        let bytes_max = if rng.bool() { rng.usize(1000..20_000) } else { 10_000_000 };
        let rules = Rules { bytes_max, parcels_max: 1000, tries_max: rng.u32(1..4) };
        let queue = Arc::new(Queue::new(rules, books));
        let seen = Arc::<Mutex<Seen>>::default();
        let server = Server {
            at_once: if rng.u32(..4) > 0 { rng.usize(1..=8) } else { 1 },
            rng: rng.fork(),
            queue: Arc::clone(&queue),
            seen: Arc::clone(&seen),
            is_down: false,
        };
        let clock = {
            let now = Rc::clone(&now);
            move || Moment { monotonic: now.get(), unix: now.get() }
        };
        let clock: Box<dyn Fn() -> Moment> = Box::new(clock);
        let depot = Depot::new(Arc::clone(&queue), books, true, false, Duration::ZERO);
        let courier = Courier::new(Worker(0), Box::new(server), Arc::new(depot), clock);
        let site = Site {
            max_spans: if rng.bool() { 1000 } else { rng.usize(..5) },
            sdk_name: "simulation",
            sdk_version: "0",
            ..Site::default()
        };
        let mut out = Out::new(site, WIRE, Arc::clone(&queue), books);
        out.set_anchor(ANCHOR);
        let pauses = [1, 30][rng.usize(..2)];
        (Self { books, queue, courier, seen, pauses, now }, out)
    }

    /// What happened with several envelopes at a time.
    pub(super) fn lots(&self) -> Lots {
        self.seen.lock().unwrap().lots
    }

    /// Moves the clock.
    pub(super) fn set_now(&mut self, now: Duration) {
        self.now.set(now);
        // Else it would wait, by the true clock, for what is over by this one.
        self.courier.forget_moment();
    }

    /// The courier goes a few times, or is busy elsewhere.
    pub(super) fn deliver(&mut self, rng: &mut Rng) {
        let at_most = if rng.u32(..self.pauses) == 0 { rng.usize(..4) } else { 0 };
        for _ in 0..at_most {
            let held = self.queue.held();
            if held.envelopes == 0 || held.paused_until > self.now.get() {
                break;
            }
            assert!(self.courier.cycle());
        }
    }

    /// All is sent, or given up.
    pub(super) fn close(&mut self, discarded: Count, rng: &mut Rng) {
        match rng.u32(..3) {
            0 => {
                self.queue.abandon(Reason::ShutdownDeadline);
            }
            1 => self.seen.lock().unwrap().gives_up_after = Some(rng.u32(..6)),
            _ => {}
        }
        self.queue.close();
        while self.courier.cycle() {}
        assert_eq!(Held { paused_until: Duration::ZERO, ..self.queue.held() }, Held::default());
        self.check(Count::default(), discarded);
        let of_all = |tally: fn(&Books, Reason) -> Count| {
            let reported = Reason::ALL.into_iter().filter(|it| it.client_report().is_some());
            reported.fold(Count::default(), |sum, reason| sum + tally(self.books, reason))
        };
        let lost = of_all(|books, reason| books.lost.of(reason).read());
        let unreported = of_all(|books, reason| books.unreported.of(reason).read());
        let left_out = Cause::ALL.map(|cause| self.books.sampling.unreported(cause).read());
        let unreported = left_out.into_iter().fold(unreported, |sum, count| sum + count);
        // Of what was not kept, the server hears as of as many spans.
        let Count { transactions, .. } = self.books.discarded.read();
        let told = lost + Count { transactions, spans: transactions };
        assert_eq!(self.seen.lock().unwrap().reported + unreported, told, "client reports");
    }

    /// The ledger, with so much in the assembler, and so much not kept.
    pub(super) fn check(&self, in_assembly: Count, discarded: Count) {
        let (books, held) = (self.books, self.queue.held());
        let lost = Reason::ALL
            .into_iter()
            .fold(Count::default(), |sum, reason| sum + books.lost.of(reason).read());
        let delivered = books.delivered.read();
        assert_eq!(self.seen.lock().unwrap().wrong, None);
        assert_eq!(delivered, self.seen.lock().unwrap().taken, "what the server took");
        assert_eq!(books.discarded.read(), discarded, "what was not kept");
        let out = delivered + lost + discarded + held.queued + held.in_flight + in_assembly;
        assert_eq!(books.collected.read(), out, "the ledger");
    }
}
