//! One world, run: the program's steps, the flusher's looks between them, and what must hold after
//! each look and at the end.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fastrand::Rng;

use crate::flush::assemble::Bounds;
use crate::flush::intake::{Intake, Keeper, records};
use crate::flush::verdict::Verdict;
use crate::shared::layout::{AttributeHeader, Kind, Slot, SpanRecord, items};
use crate::shared::ledger::{Count, Reason};

use super::model::Model;
use super::server::Lots;
use super::watch::{Fuse, Handed, Post, WIRE, Watch};
use super::world::World;

/// What happened in the worlds so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tallies {
    worlds: u64,
    /// Worlds that had to be as the model says, to the end.
    exact: u64,
    slots: u64,
    handed_on: u64,
    /// Of these, kept by the flusher's own decision, and not kept.
    tried: u64,
    discarded: u64,
    shared: u64,
    late: u64,
    evicted: u64,
    too_many: u64,
    attributes_lost: u64,
    /// Read in their span's record.
    folded: u64,
    panics: u64,
    /// Of worlds whose envelopes are sent several at a time.
    lots: Lots,
}

impl Tallies {
    /// Whether everything happened that may.
    pub(super) fn is_varied(&self) -> bool {
        let Self { worlds, exact, slots, handed_on, shared, late, .. } = *self;
        let Self { evicted, too_many, attributes_lost, folded, panics, tried, discarded, .. } =
            *self;
        let Lots { many, unsaid, twice, panics: in_lots, ended } = self.lots;
        let lots = [many / 4, unsaid, twice, in_lots, ended];
        let rare =
            [shared, late, evicted, too_many, attributes_lost, folded, panics, tried, discarded];
        exact > worlds / 3
            && exact < worlds
            && slots > 100 * worlds
            && handed_on > 5 * worlds
            && rare.into_iter().all(|it| it > worlds / 4)
            && lots.into_iter().all(|it| it > worlds / 100)
    }
}

impl AddAssign for Tallies {
    fn add_assign(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.exact += other.exact;
        self.slots += other.slots;
        self.handed_on += other.handed_on;
        self.tried += other.tried;
        self.discarded += other.discarded;
        self.shared += other.shared;
        self.late += other.late;
        self.evicted += other.evicted;
        self.too_many += other.too_many;
        self.attributes_lost += other.attributes_lost;
        self.folded += other.folded;
        self.panics += other.panics;
        self.lots += other.lots;
    }
}

const AMPLE: Bounds = Bounds {
    transactions: 10_000,
    slots: 1_000_000,
    age: Duration::from_secs(1_000_000),
    children: 10_000,
};

/// Bounds of which some are narrow.
fn narrow(rng: &mut Rng) -> Bounds {
    let mut bounds = AMPLE;
    if rng.bool() {
        bounds.transactions = rng.usize(1..10);
    }
    if rng.bool() {
        bounds.slots = rng.usize(1..300);
    }
    if rng.u32(..3) == 0 {
        bounds.age = Duration::from_millis(rng.u64(..5000));
    }
    if rng.u32(..3) == 0 {
        bounds.children = rng.usize(1..8);
    }
    bounds
}

/// A run in progress.
struct Run<'a> {
    bounds: Bounds,
    ample: bool,
    panics: bool,
    world: World<'a>,
    model: Model,
    intake: Intake,
    watch: Watch<'a>,
    post: Option<Post>,
    now: Duration,
    /// The next ring to look at; all of them: the pass is over.
    ring: usize,
    /// Nothing happened that the model does not know of.
    exact: bool,
    panicked: u64,
    /// Nothing is waited for any more.
    closing: bool,
    /// Of the handed-on ones, so many were looked at.
    checked: usize,
    /// The transaction of each root.
    roots: HashMap<u64, usize>,
    /// All spans that were handed on.
    spans: HashSet<u64>,
}

/// Runs the world of a seed.
pub(super) fn world(seed: u64, tallies: &mut Tallies) {
    let mut rng = Rng::with_seed(seed);
    let fuse = Fuse::default();
    let ample = rng.u32(..10) < 6;
    let bounds = if ample { AMPLE } else { narrow(&mut rng) };
    let batch_slots = if rng.bool() { rng.u64(1..20) } else { 4096 };
    let (post, out) = match rng.u32(..4) {
        0 => {
            let (post, out) = Post::open(&mut rng);
            (Some(post), Some(out))
        }
        _ => (None, None),
    };
    let mut run = Run {
        bounds,
        ample,
        panics: rng.u32(..4) == 0,
        world: World::new(&mut rng, &fuse),
        model: Model::default(),
        intake: Intake::new(bounds, batch_slots),
        watch: Watch::new(&fuse, out),
        post,
        now: Duration::from_secs(100),
        ring: 0,
        exact: true,
        panicked: 0,
        closing: false,
        checked: 0,
        roots: HashMap::new(),
        spans: HashSet::new(),
    };
    let (looks, pace) = (rng.usize(20..300), [2, 10, 60][rng.usize(..3)]);
    for _ in 0..looks {
        for _ in 0..rng.usize(..=pace) {
            run.world.step(&mut rng);
        }
        run.look(&mut rng);
    }
    run.world.end_all(&mut rng);
    run.panics = false;
    run.end(&mut rng);

    tallies.worlds += 1;
    tallies.exact += u64::from(run.exact);
    tallies.folded += run.world.rings.iter().map(|ring| ring.folded.get()).sum::<u64>();
    tallies.slots += run.world.rings.iter().map(|ring| ring.read.get() as u64).sum::<u64>();
    tallies.handed_on += run.watch.handed.len() as u64;
    let kept = |handed: &&Handed| matches!(handed.verdict, Verdict::Kept(_));
    tallies.tried += run.watch.handed.iter().filter(kept).count() as u64;
    tallies.discarded += run.watch.discarded.transactions;
    tallies.shared += run.model.shared_closed as u64;
    tallies.late += run.watch.lost(Reason::LateChild).spans;
    tallies.evicted += run.watch.lost(Reason::Evicted).spans;
    tallies.too_many += run.watch.lost(Reason::TransactionLimit).spans;
    tallies.attributes_lost += run.watch.attributes_lost;
    tallies.panics += run.panicked;
    tallies.lots += run.post.as_ref().map(Post::lots).unwrap_or_default();
}

impl Run<'_> {
    /// The flusher looks at one ring, or ends its pass.
    fn look(&mut self, rng: &mut Rng) {
        self.now += Duration::from_millis(rng.u64(..200));
        if self.panics && rng.u32(..20) == 0 {
            self.watch.fuse.0.set(rng.u32(1..6));
        }
        let (ring, before) = (self.ring, self.intake.assembler().table());
        let closed: Vec<_> = self.model.transactions.iter().map(|it| it.closed).collect();
        let from = self.world.rings.get(ring).map(|ring| ring.read.get());
        self.watch.at_end = from.is_none();
        let done = catch_unwind(AssertUnwindSafe(|| match self.world.rings.get(ring) {
            Some(ring) => {
                self.intake.collect(ring, self.now, &mut self.watch);
            }
            None => self.intake.pass_done(self.now, &mut self.watch),
        }));
        let blown = self.watch.fuse.0.replace(0) == 0;
        if let Some(from) = from {
            let to = self.world.rings[ring].read.get();
            self.model.read(&self.world, ring, from, to);
        }
        self.ring = if from.is_none() { 0 } else { ring + 1 };
        match done {
            Ok(()) => {
                self.judge(&before);
                if from.is_none() {
                    self.model.pass_done();
                }
                self.compare();
            }
            Err(payload) => {
                assert!(blown && payload.is::<&str>(), "a panic that was not planned");
                self.recover(&closed);
            }
        }
        let held = self.intake.held();
        assert_eq!(self.watch.in_hand(), held, "M1");
        // What is ready and waits for the end of a pass is the flusher's still.
        let held = held + self.watch.ready();
        if let Some(post) = &mut self.post {
            post.set_now(self.now);
            post.deliver(rng);
            post.check(held, self.watch.discarded);
        }
    }

    fn recover(&mut self, closed: &[bool]) {
        self.panicked += 1;
        self.exact = false;
        self.ring = 0;
        for (at, expected) in self.model.transactions.iter_mut().enumerate() {
            let was_closed = closed.get(at).is_some_and(|closed| *closed);
            expected.disturbed |= expected.items_read > 0 && !was_closed;
        }
        self.intake.recover(self.bounds, &mut self.watch);
        assert_eq!(self.watch.in_hand(), Count::default());
        // Those that came through before the panic.
        while self.checked < self.watch.handed.len() {
            self.handed_on();
        }
    }

    /// What holds in any world after a look: each transaction that was handed on is one, the table
    /// is within its bounds, and the oldest went first.
    fn judge(&mut self, before: &[(u64, u64, Duration, bool)]) {
        let fresh = self.checked;
        while self.checked < self.watch.handed.len() {
            self.handed_on();
        }
        let table = self.intake.assembler().table();
        let (slots, remembered) = self.intake.assembler().sizes();
        assert!(table.len() <= self.bounds.transactions, "transactions");
        assert!(slots <= self.bounds.slots, "slots");
        assert!(remembered <= self.bounds.transactions, "remembered");
        if self.watch.at_end {
            let too_old = |since: &Duration| self.now - *since > self.bounds.age;
            assert!(!table.iter().any(|(_, _, since, _)| too_old(since)), "age");
        }
        let roots: HashSet<u64> =
            self.watch.handed[fresh..].iter().filter_map(|it| Some(it.run.last()?[1])).collect();
        for (serial, _, since, _) in &table {
            let was = before.iter().find(|it| it.0 == *serial);
            assert_eq!(*since, was.map_or(self.now, |was| was.2), "its age");
        }
        let is_there = |serial: u64| table.iter().any(|it| it.0 == serial);
        let given_up = |it: &&(u64, u64, Duration, bool)| !is_there(it.0) && !roots.contains(&it.1);
        if let Some((youngest, ..)) = before.iter().rev().find(given_up) {
            let older = table.iter().find(|it| it.0 < *youngest);
            assert_eq!(older, None, "older than one that was given up");
        }
    }

    /// Looks at the next transaction that was handed on.
    fn handed_on(&mut self) {
        let handed = &self.watch.handed[self.checked];
        self.checked += 1;
        let Some((last, rest)) = handed.run.split_last() else { panic!("an empty run") };
        let record = SpanRecord::of(last).expect("the root comes last");
        assert!(record.kind == Kind::Root && record.key == record.root);
        for (at, transaction) in self.world.transactions.iter().enumerate().skip(self.roots.len()) {
            self.roots.insert(transaction.root, at);
        }
        let at = self.roots[&record.root];
        assert!(self.spans.insert(record.root), "handed on twice");
        let mut children = 0;
        for item in items(rest) {
            assert_eq!(item[0][2], record.root, "of another transaction");
            match Kind::of(item[0][0]) {
                Some(Kind::Child) => {
                    children += 1;
                    assert!(self.spans.insert(item[0][1]), "a child handed on twice");
                }
                Some(Kind::Root) => panic!("two roots"),
                Some(Kind::Turn | Kind::Parted) => {
                    assert!(!self.world.transactions[at].shared, "a slot of no use");
                }
                _ => {}
            }
        }
        let expected = &self.model.transactions[at];
        let Some(root) = expected.root else { panic!("the root was not read") };
        let is_early = root.shared && !(handed.at_end && root.pass < self.model.pass);
        if is_early {
            assert!(!self.ample, "handed on too early");
            self.exact = false;
        }
        // With nothing forgotten, what lacks is noted.
        let all_known = self.world.transactions.len() <= self.bounds.transactions;
        if all_known && self.panicked == 0 && !is_early {
            let missing = expected.children_read() - children;
            let noted = record.lost - root.lost + (record.unfinished - root.unfinished);
            assert!(u64::from(noted) >= missing, "{missing} missing, {noted} noted");
        }
        if self.ample && !expected.disturbed {
            self.whole(at, &self.watch.handed[self.checked - 1]);
        }
    }

    /// A transaction of which nothing may lack.
    fn whole(&self, at: usize, handed: &Handed) {
        let run = &handed.run[..];
        let (expected, transaction) = (&self.model.transactions[at], &self.world.transactions[at]);
        let record = SpanRecord::of(&run[run.len() - 1]).unwrap();
        let root = expected.root.unwrap();
        let children = items(run).filter(|item| Kind::of(item[0][0]) == Some(Kind::Child));
        let children: BTreeSet<u64> = children.map(|item| item[0][1]).collect();
        assert_eq!(expected.in_time(), children);
        for key in &transaction.before {
            // Unless the library closed before the flusher could look.
            assert!(self.closing || children.contains(key), "published before the root ended");
        }
        let late = if root.shared { expected.late() } else { 0 };
        assert_eq!(record.lost, root.lost);
        assert_eq!(u64::from(record.unfinished), u64::from(root.unfinished) + late);
        let kept = expected.kept(WIRE.sample_rand(transaction.root));
        match handed.verdict {
            Verdict::Decided => {
                assert_eq!((record.plan, kept), (0, Some(record.threshold)), "not its to decide");
            }
            Verdict::Kept(root) => {
                let root = SpanRecord::of(&root).unwrap();
                assert_eq!(kept, Some(root.threshold), "kept");
            }
            Verdict::Discarded => assert_eq!(kept, None, "not kept"),
        }
        let values: HashMap<_, _> = values(run).collect();
        let wanted = expected.values(transaction.root);
        for (name, (ring, number)) in &wanted {
            let ring = &self.world.rings[*ring];
            let item = &ring.items[*number];
            let value = &ring.slots[item.at..item.at + item.slots];
            assert_eq!(values.get(name).copied(), Some(value), "{name:?}");
        }
    }

    /// As long as nothing happened that the model does not know of, all is as it says.
    fn compare(&mut self) {
        if self.watch.hit {
            assert!(!self.ample, "no bound was hit");
            self.exact = false;
        }
        // Then some may be forgotten.
        self.exact &= self.model.shared_closed <= self.bounds.transactions;
        if self.exact {
            assert_eq!(self.intake.held(), self.model.held(), "what waits");
            assert_eq!(self.intake.has_ended(), self.model.has_ended());
            assert_eq!(self.watch.lost(Reason::LateChild), Count::spans(self.model.late), "late");
            self.compare_attributes();
        }
    }

    fn compare_attributes(&self) {
        // Those of children that are too many go before the children do.
        if self.bounds.children == AMPLE.children {
            assert_eq!(self.watch.attributes_lost, self.model.attributes_lost);
        }
    }

    /// Everything is published: two more passes, or none, and what is left is given up.
    fn end(&mut self, rng: &mut Rng) {
        self.closing = rng.u32(..4) == 0;
        let closing = self.closing;
        let looks = if closing { 0 } else { 3 * (self.world.rings.len() + 1) };
        for _ in 0..looks {
            self.look(rng);
        }
        let late = self.watch.lost(Reason::LateChild);
        let reason = if closing { Reason::AfterShutdown } else { Reason::Evicted };
        let before = self.watch.lost(reason);
        let exact = self.exact;
        if closing {
            self.intake.clear(reason, &mut self.watch);
        } else {
            self.now += self.bounds.age + Duration::from_millis(1);
            self.watch.at_end = true;
            self.intake.pass_done(self.now, &mut self.watch);
        }
        self.model.clear();
        while self.checked < self.watch.handed.len() {
            let handed = &self.watch.handed[self.checked];
            assert!(closing || handed.at_end);
            // That they did not wait is what was asked for.
            self.model.pass = u64::MAX;
            self.watch.handed[self.checked].at_end = true;
            self.handed_on();
        }
        assert_eq!(self.intake.held(), Count::default());
        assert_eq!(self.watch.in_hand(), Count::default(), "M1 at the end");
        let taken = self.world.rings.iter().map(|ring| records(&ring.slots[..ring.read.get()]).0);
        assert_eq!(self.watch.taken, taken.fold(Count::default(), |sum, it| sum + it));
        if exact {
            let given_up = self.watch.lost(reason) - before;
            assert_eq!(given_up, Count::spans(self.model.given_up), "given up");
            assert_eq!(self.watch.lost(Reason::LateChild), Count::spans(self.model.late));
            self.compare_attributes();
        }
        assert!(closing || late == self.watch.lost(Reason::LateChild));
        self.reasons();
        self.all_there();
        if let Some(post) = &mut self.post {
            post.close(self.watch.discarded, rng);
        }
    }

    /// Nothing was lost for a reason that there was not.
    fn reasons(&self) {
        let closing = self.closing;
        for reason in Reason::ALL {
            let may_be = match reason {
                Reason::LateChild => true,
                Reason::Evicted => !closing || !self.ample,
                Reason::TransactionLimit => !self.ample,
                Reason::AfterShutdown => closing,
                Reason::Internal => self.panicked > 0,
                _ => false,
            };
            assert!(may_be || self.watch.lost(reason).is_zero(), "{reason:?}");
        }
    }

    /// Every transaction whose root was read was handed on, but for what was disturbed.
    fn all_there(&self) {
        for (expected, transaction) in self.model.transactions.iter().zip(&self.world.transactions)
        {
            let must_be = expected.root.is_some() && !expected.disturbed;
            let is_there = self.spans.contains(&transaction.root);
            // A bound so narrow that a root found no room loses it, counted.
            let lost = !self.ample && self.watch.hit;
            assert!(is_there || !must_be || lost, "a transaction lacks");
        }
    }
}

/// Span and label of each value in a run, in order.
fn values(run: &[Slot]) -> impl Iterator<Item = ((u64, u64), &[Slot])> {
    items(run).filter_map(|item| {
        let header = AttributeHeader::of(&item[0])?;
        let label = header.kind as u64 | u64::from(header.name.0) << 32;
        Some(((header.key, label), item))
    })
}
