//! One world: its names, their items, and the clock that they run by.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "numbers of a small world"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::super::*;
use crate::sampling::floors::Floors;

/// Names of a world; each has the same shape in all of them.
pub(super) const NAMES: usize = 8;
const SECOND: u64 = 1_000_000_000;

/// What is wrong in a world on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Nothing,
    /// Caps are token buckets, and items carry the rate alone.
    Bucket,
    /// What is kept at the end carries the head's threshold.
    HeadsRate,
    /// The threshold that is carried is read again after the draw.
    ReadAgain,
}

/// What is configured at one moment.
struct Setup {
    rate: u32,
    rules: Vec<Compiled>,
    /// The rule of each name.
    rule_of: [Option<usize>; NAMES],
    cap: Option<Lease>,
    floors: Option<Floors>,
}

#[derive(Clone, Debug)]
struct Item {
    name: usize,
    nanos: u64,
    failed: bool,
    asked: Option<bool>,
    explicit: Option<bool>,
    sampler: Option<u32>,
    /// The rate with which the service before has decided on the trace.
    parent_rate: Option<u32>,
    /// From when it reads shares to when it draws.
    delay: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Start(usize),
    Draw(usize),
    End(usize),
    Tick,
    Pressure,
    Reconfigure,
}

/// An item that is open: what was settled about it.
#[derive(Clone, Copy, Debug)]
struct Open {
    settled: Option<Settled>,
    /// The probability of being kept by the head, in the eyes of whoever sees both decisions of a
    /// parent.
    whole_head: u32,
    /// That of being kept at the end.
    end: u32,
    setup: usize,
    first: bool,
    rand: u32,
    parent: Option<bool>,
    pressure: u32,
    head: Option<Head>,
}

/// What a world came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) items: f64,
    pub(super) estimate: f64,
    pub(super) variance: f64,
}

#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) all: Sums,
    pub(super) names: [Sums; NAMES],
    pub(super) kept: u64,
}

struct World {
    wrong: Wrong,
    rng: Rng,
    /// Apart from the world's own, so that a world has the same items whatever they draw.
    rands: Rng,
    setups: Vec<Setup>,
    pressure: u32,
    history: Box<History>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    items: Vec<Item>,
    open: Vec<Option<Open>>,
    outcome: Outcome,
    turn: u64,
    /// The naive bucket's tokens, and when it was filled.
    bucket: (f64, u64),
}

pub(super) fn run(seed: u64, draws: u64, wrong: Wrong) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let seconds = rng.u64(5..40);
    let flow = 10_f64.powf(1.3 + rng.f64());
    let items = items(&mut rng, seconds, flow);
    let mut world = World {
        wrong,
        rands: Rng::with_seed(!(2 * seed + draws)),
        setups: vec![setup(&mut rng, flow)],
        pressure: 0,
        history: Box::new(History::new()),
        events: BinaryHeap::new(),
        open: vec![None; items.len()],
        items: Vec::new(),
        outcome: Outcome::default(),
        turn: 0,
        bucket: (0.0, 0),
        rng,
    };
    for (at, item) in items {
        let index = world.items.len();
        world.items.push(item);
        world.add(at, Event::Start(index));
    }
    world.add(SECOND, Event::Tick);
    for _ in 0..world.rng.u32(0..3) {
        let at = world.rng.u64(SECOND..SECOND * (1 + seconds));
        world.add(at, Event::Reconfigure);
        let at = world.rng.u64(SECOND..SECOND * (1 + seconds));
        world.add(at, Event::Pressure);
    }
    while let Some(Reverse((now, _, event))) = world.events.pop() {
        match event {
            Event::Start(item) => world.start(now, item),
            Event::Draw(item) => world.draw(now, item),
            Event::End(item) => world.end(item),
            Event::Tick if now > SECOND * (2 + seconds) => {}
            Event::Tick => world.tick(now),
            Event::Pressure => world.pressure = world.rng.u32(0..4),
            Event::Reconfigure => {
                let setup = setup(&mut world.rng, flow);
                world.setups.push(setup);
            }
        }
    }
    assert!(world.open.iter().all(Option::is_none), "all items have ended");
    world.outcome
}

/// What comes when, in a world of so many seconds and items per second.
fn items(rng: &mut Rng, seconds: u64, flow: f64) -> Vec<(u64, Item)> {
    const STEP: u64 = SECOND / 100;
    let mut items = Vec::new();
    let of_name: Vec<f64> = (0..NAMES).map(|_| flow / 8.0 * 4_f64.powf(rng.f64() - 0.5)).collect();
    let explicit = if rng.u8(..4) == 0 { 0.05 } else { 0.0 };
    let sampler = rng.u8(..4) == 0;
    let parents = if rng.u8(..3) == 0 { 0.5 } else { 0.0 };
    let delay_max = [1, 100_000, 30_000_000][rng.usize(0..3)];
    for step in 0..seconds * 100 {
        let second = step / 100;
        for (name, flow) in of_name.iter().enumerate() {
            let shape = match name {
                1 => {
                    if step % 100 < 10 {
                        10.0
                    } else {
                        0.0
                    }
                }
                2 => {
                    if second.is_multiple_of(2) {
                        2.0
                    } else {
                        0.01
                    }
                }
                3 => {
                    if 2 * step > seconds * 100 {
                        2.0
                    } else {
                        0.02
                    }
                }
                4 => (0.5 / flow).min(1.0),
                5 => {
                    if step % 150 < 20 {
                        4.0
                    } else {
                        0.5
                    }
                }
                7 => {
                    if 2 * step > seconds * 100 {
                        0.01
                    } else {
                        2.0
                    }
                }
                _ => 1.0,
            };
            let expected = flow * shape / 100.0;
            let count = expected.floor() + f64::from(u8::from(rng.f64() < expected.fract()));
            for _ in 0..count as u64 {
                let many = name == 5 && shape > 1.0;
                let slow = if many { 50.0 } else { 1.0 };
                let failed = name == 6 && rng.f64() < 0.3 || rng.f64() < 0.01;
                let nanos =
                    slow * 2e6 * (1.0 - rng.f64()).powf(-0.6) * if failed { 3.0 } else { 1.0 };
                let chance = |rng: &mut Rng, part: f64| part > 0.0 && rng.f64() < part;
                let item = Item {
                    name,
                    nanos: nanos.min(2e9) as u64,
                    failed,
                    asked: match rng.u8(..) {
                        0..3 => Some(true),
                        3..6 => Some(false),
                        _ => None,
                    },
                    explicit: chance(rng, explicit).then(|| rng.bool()),
                    sampler: (sampler && rng.bool()).then(|| [0, 1_000, 200_000, WHOLE][name % 4]),
                    parent_rate: chance(rng, parents)
                        .then(|| [10_000, 300_000, WHOLE][rng.usize(0..3)]),
                    delay: rng.u64(0..delay_max),
                };
                items.push((SECOND + step * STEP + rng.u64(0..STEP), item));
            }
        }
    }
    items
}

fn setup(rng: &mut Rng, flow: f64) -> Setup {
    let rate = |rng: &mut Rng| match rng.u8(..4) {
        0 => WHOLE,
        1 => 0,
        _ => (1e6 * 10_f64.powf(-2.0 * rng.f64())) as u32,
    };
    // Overrun up to a thousandfold, and sometimes not reached.
    let cap = |rng: &mut Rng| (flow / 10_f64.powf(3.0 * rng.f64() - 0.5)).max(0.2);
    let rules: Vec<Compiled> = (0..rng.usize(0..5))
        .map(|_| Compiled {
            rate: rng.bool().then(|| rate(rng)),
            follows_parent: rng.u8(..4) != 0,
            cap: rng.bool().then(|| Arc::new(Lease::by_hand(cap(rng)))),
            first: rng.u8(..3) == 0,
            conditions: Conditions::new(rng.u8(..) & rng.u8(..)),
            slower_than: Some(Duration::from_millis(rng.u64(1..30))),
        })
        .collect();
    Setup {
        rate: rate(rng),
        rule_of: std::array::from_fn(|_| {
            (!rules.is_empty() && rng.u8(..5) != 0).then(|| rng.usize(0..rules.len()))
        }),
        rules,
        cap: rng.bool().then(|| Lease::by_hand(cap(rng))),
        floors: (rng.u8(..3) == 0).then(|| Floors::new(0.2 + 5.0 * rng.f64())),
    }
}

impl World {
    fn add(&mut self, at: u64, event: Event) {
        self.turn += 1;
        self.events.push(Reverse((at, self.turn, event)));
    }

    fn tick(&mut self, now: u64) {
        if let Some(setup) = self.setups.last() {
            let caps = setup.rules.iter().filter_map(|rule| rule.cap.as_deref());
            caps.chain(&setup.cap).for_each(|cap| cap.budget().tick(now));
            if let Some(floors) = &setup.floors {
                floors.tick(Duration::from_nanos(now));
            }
        }
        // About every 50 ms; now and then the flusher is away.
        let wait = match self.rng.u8(..) {
            0 => SECOND * 3,
            1..10 => SECOND / 4,
            wait => SECOND / 40 + u64::from(wait) * 200_000,
        };
        self.add(now + wait, Event::Tick);
    }

    fn ask(&self, item: &Item, open: &Open) -> Ask<'_> {
        let setup = &self.setups[open.setup];
        Ask {
            explicit: item.explicit,
            sampler: item.sampler,
            parent: open.parent,
            parent_rate: item.parent_rate,
            rand: open.rand,
            rate: setup.rate,
            rule: setup.rule_of[item.name].map(|rule| &setup.rules[rule]),
            cap: setup.cap.as_ref(),
            floor: setup.floors.as_ref().and_then(|floors| floors.of(item.name as u32 % 3)),
            pressure: open.pressure,
            first: open.first,
        }
    }

    /// Settles what is settled before the draw.
    fn start(&mut self, now: u64, index: usize) {
        let item = self.items[index].clone();
        let setup = self.setups.len() - 1;
        let rule = self.setups[setup].rule_of[item.name];
        let asks_first = rule.is_some_and(|rule| self.setups[setup].rules[rule].first);
        let mut open = Open {
            settled: None,
            whole_head: 0,
            end: 0,
            setup,
            first: asks_first && self.history.is_first(item.name as u32),
            rand: 0,
            parent: item.parent_rate.map(|_| true),
            pressure: self.pressure,
            head: None,
        };
        if item.explicit.is_none() {
            // As if the parent had said yes: of both its decisions, this is the probability.
            open.whole_head = settle(&self.ask(&item, &open)).threshold;
        }
        // What the service before has drawn, and whether it has kept the trace.
        open.rand = self.rands.u32(0..WHOLE);
        open.parent = item.parent_rate.map(|rate| open.rand < rate);
        if item.explicit.is_none() {
            let settled = settle(&self.ask(&item, &open));
            open.end = settled.end;
            open.settled = Some(settled);
        }
        self.open[index] = Some(open);
        self.add(now + item.delay, Event::Draw(index));
    }

    fn draw(&mut self, now: u64, index: usize) {
        let item = self.items[index].clone();
        let Some(mut open) = self.open[index] else { return };
        let ask = self.ask(&item, &open);
        let mut drawn = match &open.settled {
            Some(settled) => settled.draw(&ask),
            None => head(&ask),
        };
        assert_eq!(drawn.sampled, open.rand < drawn.threshold);
        match self.wrong {
            Wrong::Bucket if open.settled.is_some() => drawn = self.bucket(now, &item, &open),
            Wrong::ReadAgain if open.settled.is_some() => drawn.threshold = settle(&ask).threshold,
            _ => {}
        }
        open.head = Some(drawn);
        self.open[index] = Some(open);
        self.add(now + item.nanos, Event::End(index));
    }

    /// What a plain token bucket does: the rate, and then a token or none.
    fn bucket(&mut self, now: u64, item: &Item, open: &Open) -> Head {
        let mut ask = self.ask(item, open);
        let caps = leases(&ask).into_iter().flatten();
        let cap = caps.map(|cap| cap.budget().per_second.get()).reduce(f64::min);
        ask.cap = None;
        let uncapped = ask.rule.map(|rule| Compiled { cap: None, ..rule.clone() });
        ask.rule = uncapped.as_ref();
        let mut drawn = settle(&ask).draw(&ask);
        if let (true, Some(cap)) = (drawn.sampled, cap) {
            let (tokens, filled) = self.bucket;
            let tokens = tokens + cap * (now - filled) as f64 / SECOND as f64;
            let tokens = tokens.min(cap.max(1.0));
            if tokens < 1.0 {
                drawn = Head { sampled: false, plan: Plan::NONE, ..drawn };
                self.bucket = (tokens, now);
            } else {
                self.bucket = (tokens - 1.0, now);
            }
        }
        drawn
    }

    fn end(&mut self, index: usize) {
        let item = self.items[index].clone();
        let Some(open) = self.open[index].take() else { return };
        let Some(drawn) = open.head else { return };
        let facts = Facts {
            nanos: item.nanos,
            failed: item.failed,
            asked: item.asked,
            name: item.name as u32,
            random: self.rands.u64(..),
        };
        // Before it is taken into account.
        let meets = self.meets(&item, &open);
        let mut ended = if drawn.plan.is_none() && facts.asked != Some(false) {
            End { kept: drawn.sampled, threshold: drawn.threshold, why: drawn.why }
        } else {
            end_by(&self.history, drawn.plan, drawn.threshold, open.rand, &facts)
        };
        if item.asked == Some(false) {
            assert!(!ended.kept);
            return;
        }
        let end = if meets { open.end } else { 0 };
        if self.wrong == Wrong::Nothing {
            assert_eq!(ended.kept, open.rand < ended.threshold, "{item:?} {open:?} {ended:?}");
            // What no end can keep has no plan, and does not know what it would have had.
            if open.settled.is_some() && (ended.kept || !drawn.plan.is_none()) {
                assert_eq!(ended.threshold, drawn.threshold.max(end), "{item:?} {open:?}");
            }
        }
        if self.wrong == Wrong::HeadsRate {
            ended.threshold = drawn.threshold.max(1);
        }
        let probability = match item.explicit {
            Some(sampled) => {
                if sampled {
                    WHOLE
                } else {
                    0
                }
            }
            None => open.whole_head.max(end),
        };
        if probability == 0 {
            assert!(!ended.kept, "{item:?} {open:?} {ended:?}");
            return;
        }
        let weight = |threshold: u32| f64::from(WHOLE) / f64::from(threshold);
        for sums in [&mut self.outcome.all, &mut self.outcome.names[item.name]] {
            sums.items += 1.0;
            sums.estimate += if ended.kept { weight(ended.threshold) } else { 0.0 };
            sums.variance += weight(probability) - 1.0;
        }
        self.outcome.kept += u64::from(ended.kept);
    }

    /// Whether an item meets a condition of its rule, by another way than the code's.
    fn meets(&self, item: &Item, open: &Open) -> bool {
        let setup = &self.setups[open.setup];
        let Some(rule) = setup.rule_of[item.name].map(|rule| &setup.rules[rule]) else {
            return false;
        };
        let limit = Plan::new(
            Conditions::default(),
            1,
            [0; 2],
            rule.slower_than.map_or(u64::MAX, whole_nanos),
        );
        [
            (Conditions::SLOW, item.nanos > limit.slower_than()),
            (Conditions::P99, self.history.would_be_slow(item.name as u32, item.nanos)),
            (Conditions::FAILED, item.failed),
            (Conditions::ASKED, item.asked == Some(true)),
        ]
        .into_iter()
        .any(|(condition, is_met)| is_met && rule.conditions.has(condition))
    }
}
