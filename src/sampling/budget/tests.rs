//! Budgets under flows: how much passes, and when.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "times and counts of a test"
)]

use fastrand::Rng;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// A budget, a clock, and who asks.
struct Bench {
    budget: Box<Budget>,
    rng: Rng,
    now: u64,
    next_tick: u64,
    /// Nanoseconds between ticks, at least and at most.
    ticks: (u64, u64),
    /// When something was admitted.
    admitted: Vec<u64>,
    offered: u64,
    shares: f64,
}

impl Bench {
    fn new(per_second: f64, seed: u64) -> Self {
        let budget = Box::new(Budget::new());
        budget.set(per_second);
        Self {
            budget,
            rng: Rng::with_seed(seed),
            now: SECOND,
            next_tick: SECOND,
            ticks: (SECOND / 25, SECOND / 16),
            admitted: Vec::new(),
            offered: 0,
            shares: 0.0,
        }
    }

    /// Offers `flow` items a second, at random moments, for so many seconds.
    fn run(&mut self, flow: f64, seconds: f64, class: Class) {
        let end = self.now + (seconds * 1e9) as u64;
        loop {
            let wait = -(1.0 - self.rng.f64()).ln() / flow * 1e9;
            let at = self.now.saturating_add(wait as u64);
            self.pass(at.min(end));
            if at >= end {
                return;
            }
            self.offer(class);
        }
    }

    fn offer(&mut self, class: Class) -> bool {
        let share = self.budget.share(class);
        self.offered += 1;
        self.shares += f64::from(share) / 1e6;
        let is_admitted = self.rng.u32(0..WHOLE) < share;
        if is_admitted {
            self.budget.admit(class, share);
            self.admitted.push(self.now);
        }
        is_admitted
    }

    fn pass(&mut self, until: u64) {
        while self.next_tick <= until {
            self.budget.tick(self.next_tick);
            self.next_tick += self.rng.u64(self.ticks.0..self.ticks.1);
        }
        self.now = until;
    }

    /// Admitted, forgetting it.
    fn take(&mut self) -> f64 {
        let count = self.admitted.len() as f64;
        self.admitted.clear();
        count
    }

    /// The most admitted in any stretch of that length.
    fn most_in(&self, seconds: f64) -> usize {
        let length = (seconds * 1e9) as u64;
        let times = &self.admitted;
        let within = |at: &u64| times.partition_point(|it| *it < at + length);
        let counts = times.iter().enumerate().map(|(index, at)| within(at) - index);
        counts.max().unwrap_or(0)
    }
}

const CAPS: [f64; 6] = [0.2, 1.0, 3.5, 10.0, 100.0, 1_000.0];

/// What a flow that goes on may have admitted in any stretch as long as a window.
fn most(per_second: f64) -> usize {
    (1.5 * per_second.max(1.0) + 10.0) as usize
}

/// What may be admitted in any such stretch, whatever comes: it may hold the end of one window and
/// the beginning of the next.
fn flood(per_second: f64) -> usize {
    (2.25 * per_second.max(1.0) + 10.0) as usize
}

const fn window(per_second: f64) -> f64 {
    if per_second < 1.0 { 1.0 / per_second } else { 1.0 }
}

#[test]
fn a_flow_below_its_cap_passes_as_a_whole() {
    for cap in [3.5, 10.0, 100.0, 1_000.0] {
        let mut bench = Bench::new(cap, 1);
        bench.run(cap / 2.0, (200.0 / cap).max(10.0), Class::Head);
        let passed = bench.take() / bench.offered as f64;
        assert!(passed > 0.98, "{passed} of half of {cap}");
    }
}

#[test]
fn a_cap_is_used_and_hardly_exceeded() {
    for cap in CAPS {
        for overload in [10.0, 100.0, 1_000.0] {
            if cap * overload > 50_000.0 {
                continue;
            }
            let mut bench = Bench::new(cap, 2);
            let seconds = (100.0 / cap).max(10.0);
            bench.run(cap * overload, seconds, Class::Head);
            let found = bench.most_in(window(cap));
            assert!(found <= most(cap), "{found} at {cap}, {overload} times");
            let used = bench.take() / seconds / cap;
            assert!((0.85..1.2).contains(&used), "{used} of {cap}, {overload} times");
            let share = bench.shares / bench.offered as f64 * overload;
            assert!((0.7..1.6).contains(&share), "{share} at {cap}, {overload} times");
        }
    }
}

#[test]
fn a_flood_after_idleness_uses_up_little_more_than_two_windows() {
    for cap in CAPS {
        let mut bench = Bench::new(cap, 3);
        bench.run(cap / 10.0, 20.0 * window(cap), Class::Head);
        bench.take();
        bench.run(cap * 1_000.0, 3.0 * window(cap).min(10.0), Class::Head);
        let found = bench.most_in(window(cap));
        assert!(found <= flood(cap), "{found} at {cap}");
        // And it dries up after: the cap is there again for what comes then.
        bench.run(cap / 3.0, 8.0 * window(cap), Class::Head);
        bench.take();
        bench.offered = 0;
        bench.run(cap / 3.0, 20.0 * window(cap), Class::Head);
        let passed = bench.take() / bench.offered as f64;
        assert!(passed > 0.8, "{passed} of {cap}");
    }
}

#[test]
fn bursts_at_the_start_of_seconds_use_most_of_the_cap() {
    for cap in [10.0, 100.0, 1_000.0] {
        let mut bench = Bench::new(cap, 4);
        for _ in 0..20 {
            bench.run(cap * 100.0, 0.1, Class::Head);
            bench.pass(bench.now + SECOND * 9 / 10);
        }
        assert!(bench.most_in(1.0) <= most(cap));
        let used = bench.take() / 20.0 / cap;
        assert!((0.5..1.1).contains(&used), "{used} of {cap}");
    }
}

#[test]
fn without_ticks_it_stays_bounded_and_recovers_with_them() {
    for cap in CAPS {
        let mut bench = Bench::new(cap, 5);
        bench.next_tick = u64::MAX;
        bench.run(cap * 100.0, 60.0 * window(cap).min(2.0), Class::Head);
        let admitted = bench.take();
        assert!(admitted <= flood(cap) as f64, "{admitted} at {cap} without a tick");
        bench.next_tick = bench.now;
        bench.run(cap * 100.0, 4.0 * window(cap), Class::Head);
        bench.take();
        bench.run(cap * 100.0, 50.0_f64.max(20.0 * cap) / cap, Class::Head);
        let used = bench.take() / 50.0_f64.max(20.0 * cap);
        assert!((0.75..1.25).contains(&used), "{used} of {cap} afterwards");
    }
}

#[test]
fn late_ticks_do_no_harm() {
    for cap in [1.0, 10.0, 100.0] {
        let mut bench = Bench::new(cap, 6);
        bench.ticks = (SECOND / 100, 3 * SECOND);
        bench.run(cap * 50.0, 200.0, Class::Head);
        let used = bench.take() / 200.0 / cap;
        assert!((0.3..1.1).contains(&used), "{used} of {cap}");
    }
}

#[test]
fn the_end_goes_before_the_head() {
    for cap in [10.0, 100.0] {
        let mut bench = Bench::new(cap, 7);
        let (mut end, mut ended, mut head) = (0, 0, 0);
        for turn in 0..40_000 {
            bench.pass(bench.now + (1e9 / cap / 20.0) as u64);
            // Of twenty times the cap, nine tenths of the cap at the end.
            if turn % 22 == 0 {
                end += 1;
                ended += u32::from(bench.offer(Class::End));
            } else {
                head += u32::from(bench.offer(Class::Head));
            }
        }
        let seconds = 40_000.0 / 20.0 / cap;
        let passed = f64::from(ended) / f64::from(end);
        assert!(passed > 0.85, "{passed} of the end at {cap}");
        let used = f64::from(ended + head) / seconds / cap;
        assert!((0.85..1.1).contains(&used), "{used} of {cap} together");
    }
}

#[test]
fn what_is_exempt_takes_tokens_and_is_no_flow() {
    let cap = 100.0;
    let mut bench = Bench::new(cap, 8);
    let mut run = |spent: u32, seconds: u32| {
        for turn in 0..seconds * 1_000 {
            bench.pass(bench.now + SECOND / 1_000);
            bench.offer(Class::Head);
            if turn % 1_000 < spent {
                bench.budget.spend();
            }
        }
        bench.take() / f64::from(seconds)
    };
    run(40, 3);
    let beside = run(40, 10);
    assert!((50.0..70.0).contains(&beside), "{beside} beside 40");
    run(300, 3);
    let beside = run(300, 10);
    assert!(beside < 10.0, "{beside} beside 300");
    run(0, 3);
    let alone = run(0, 10);
    assert!((85.0..105.0).contains(&alone), "{alone} alone again");
}

#[test]
fn odd_clocks_and_odd_caps_do_no_harm() {
    let mut rng = Rng::with_seed(9);
    for cap in [f64::MIN_POSITIVE, 1e-300, 1e-9, 0.2, 1.0, 1e9, 1e300, f64::MAX] {
        let budget = Budget::new();
        budget.set(cap);
        for turn in 0..2_000 {
            match rng.u8(..8) {
                0 => budget.tick([0, 1, u64::MAX, SECOND, rng.u64(..)][turn % 5]),
                1 => budget.tick(rng.u64(0..SECOND * 1_000)),
                2 => budget.spend(),
                3 => budget.admit(Class::End, budget.share(Class::End)),
                4 => budget.admit(Class::Head, [0, 1, WHOLE, u32::MAX][turn % 4]),
                _ => budget.admit(Class::Head, budget.share(Class::Head)),
            }
            for class in [Class::Head, Class::End] {
                assert!((1..=WHOLE).contains(&budget.share(class)), "{cap}");
            }
        }
        assert!(!budget.left.get().is_nan());
    }
}

#[test]
fn leases_are_places_of_their_own_until_they_are_dropped() {
    assert!(Lease::new(0.0).is_none() && Lease::new(-1.0).is_none());
    assert!(Lease::new(f64::NAN).is_none() && Lease::new(f64::INFINITY).is_none());
    let leases: Vec<Lease> = (0..50).map(|_| Lease::by_hand(5.0)).collect();
    let mut indices: Vec<u16> = leases.iter().map(Lease::index).collect();
    indices.sort_unstable();
    indices.dedup();
    assert_eq!(indices.len(), 50);
    assert!(indices.iter().all(|index| (1..1024).contains(index) && budget(*index).is_some()));
    assert!(budget(0).is_none() && budget(1024).is_none() && budget(u16::MAX).is_none());
}

#[test]
fn a_full_pool_has_no_place_until_one_is_left() {
    let places: Vec<Budget> = (0..8).map(|_| Budget::new()).collect();
    let indices: Vec<u16> = std::iter::from_fn(|| occupy(&places, 5.0, LIVE)).collect();
    assert_eq!(indices, [1, 2, 3, 4, 5, 6, 7], "place 0 is nobody's");
    places[3].fix(1);
    places[3].state.store(FREE, Ordering::Relaxed);
    assert_eq!(occupy(&places, 5.0, LIVE), Some(3));
    assert_eq!(places[3].share(Class::Head), WHOLE, "whoever comes next begins anew");
}

#[test]
fn ticks_are_for_those_that_live() {
    let places: Vec<Budget> = (0..4).map(|_| Budget::new()).collect();
    for (place, state) in places.iter().zip([FREE, LIVE, TAKEN, BY_HAND]) {
        place.set(5.0);
        place.state.store(state, Ordering::Relaxed);
    }
    tick_all(&mut places.iter(), 7);
    let ticked = |place: &Budget| place.ticked.load(Ordering::Relaxed);
    assert_eq!(places.iter().map(ticked).collect::<Vec<_>>(), [0, 7, 0, 0]);
}
