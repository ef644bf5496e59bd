//! Each row of the rules of precedence, and what the two decisions make of them.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::*;
use crate::shared::id::{WireIds, sample_rand};

const SECOND: u64 = 1_000_000_000;

/// Nothing said, nothing continued, half of all.
fn ask() -> Ask<'static> {
    Ask {
        explicit: None,
        sampler: None,
        parent: None,
        parent_rate: None,
        rand: 400_000,
        rate: 500_000,
        rule: None,
        cap: None,
        floor: None,
        pressure: 0,
        first: false,
    }
}

fn rule() -> Compiled {
    Compiled {
        rate: None,
        follows_parent: true,
        cap: None,
        first: false,
        conditions: Conditions::default(),
        slower_than: None,
    }
}

fn facts() -> Facts {
    Facts { nanos: 1_000, failed: false, asked: None, name: 1, random: 0 }
}

/// A cap with that share.
fn capped(share: u32) -> Lease {
    let lease = Lease::by_hand(1e6);
    lease.budget().fix(share);
    lease
}

/// The threshold, and whether the item is sampled.
fn decided(ask: &Ask<'_>) -> (u32, bool) {
    let head = head(ask);
    (head.threshold, head.sampled)
}

#[test]
fn precedence_is_explicit_then_sampler_then_parent_then_rule_then_rate() {
    let rule = Compiled { rate: Some(600_000), ..rule() };
    let ignoring = Compiled { follows_parent: false, ..rule.clone() };
    let cap = capped(10_000);
    let all = Ask {
        sampler: Some(300_000),
        parent: Some(true),
        parent_rate: Some(700_000),
        rule: Some(&rule),
        ..ask()
    };
    for (row, ask, threshold) in [
        ("the rate", ask(), 500_000),
        ("a rate of 0", Ask { rate: 0, ..ask() }, 0),
        ("a rate of 1", Ask { rate: WHOLE, ..ask() }, WHOLE),
        ("the rule before the rate", Ask { rule: Some(&rule), ..ask() }, 600_000),
        ("the parent before the rule", Ask { sampler: None, ..all }, 700_000),
        ("a parent without a rate", Ask { sampler: None, parent_rate: None, ..all }, WHOLE),
        ("a parent that said no", Ask { sampler: None, parent: Some(false), ..all }, 0),
        ("a parent with a rate alone", Ask { sampler: None, parent: None, ..all }, 600_000),
        ("a parent ignored", Ask { sampler: None, rule: Some(&ignoring), ..all }, 600_000),
        (
            "a parent that said no, ignored",
            Ask { sampler: None, rule: Some(&ignoring), parent: Some(false), ..all },
            600_000,
        ),
        ("the sampler before the parent", all, 300_000),
        ("the sampler before a parent's no", Ask { parent: Some(false), ..all }, 300_000),
        ("a sampler's 0", Ask { sampler: Some(0), ..all }, 0),
        ("more than 1 is 1", Ask { sampler: Some(u32::MAX), ..all }, WHOLE),
        ("explicitly", Ask { explicit: Some(true), ..all }, WHOLE),
        ("explicitly not", Ask { explicit: Some(false), ..all }, 0),
        (
            "explicitly, under cap and pressure",
            Ask { explicit: Some(true), pressure: 10, cap: Some(&cap), ..all },
            WHOLE,
        ),
    ] {
        assert_eq!(decided(&ask), (threshold, ask.rand < threshold), "{row}");
    }
}

#[test]
fn sampled_is_when_the_number_lies_below_the_rate_and_not_when_it_is_equal() {
    for (rate, rand, sampled) in [
        (0, 0, false),
        (1, 0, true),
        (1, 1, false),
        (250_000, 249_999, true),
        (250_000, 250_000, false),
        (999_999, 999_999, false),
        (WHOLE, 999_999, true),
    ] {
        assert_eq!(decided(&Ask { rate, rand, ..ask() }), (rate, sampled), "{rand} at {rate}");
    }
}

#[test]
fn a_parent_wins_over_its_own_numbers() {
    let parent = Ask { parent: Some(true), ..ask() };
    for (rate, rand, threshold) in [
        (Some(300_000), 299_999, 300_000),
        (Some(300_000), 300_000, 300_001),
        (Some(0), 999_999, WHOLE),
        (Some(0), 0, 1),
        (None, 999_999, WHOLE),
    ] {
        let ask = Ask { parent_rate: rate, rand, ..parent };
        assert_eq!(decided(&ask), (threshold, true), "{rand} at {rate:?}");
    }
}

#[test]
fn pressure_halves_every_rate_but_what_was_said_explicitly() {
    let parent = Ask { parent: Some(true), parent_rate: Some(800_000), rand: 0, ..ask() };
    for (row, ask, threshold) in [
        ("the rate", Ask { pressure: 1, ..ask() }, 250_000),
        ("ten times", Ask { pressure: 10, ..ask() }, 488),
        ("the sampler", Ask { sampler: Some(WHOLE), pressure: 3, ..ask() }, 125_000),
        ("the parent", Ask { pressure: 2, ..parent }, 200_000),
        ("little", Ask { rate: 3, pressure: 5, ..ask() }, 1),
        ("nothing", Ask { rate: 0, pressure: 5, ..ask() }, 0),
        ("explicit", Ask { explicit: Some(true), pressure: 5, ..ask() }, WHOLE),
    ] {
        assert_eq!(decided(&ask), (threshold, ask.rand < threshold), "{row}");
    }
}

#[test]
fn caps_multiply_and_close_nothing() {
    let (ten, one) = (capped(100_000), capped(1));
    let rule_of = |cap: Lease| Compiled { cap: Some(Arc::new(cap)), ..rule() };
    let (tenth, millionth) = (rule_of(capped(100_000)), rule_of(capped(1)));
    for (row, ask, threshold) in [
        ("the global", Ask { cap: Some(&ten), ..ask() }, 50_000),
        ("the rule's", Ask { rule: Some(&tenth), ..ask() }, 50_000),
        ("both", Ask { cap: Some(&ten), rule: Some(&tenth), ..ask() }, 5_000),
        ("at least one", Ask { cap: Some(&one), rule: Some(&millionth), ..ask() }, 1),
        ("unless 0", Ask { rate: 0, cap: Some(&one), ..ask() }, 0),
    ] {
        assert_eq!(decided(&Ask { rand: 999_999, ..ask }), (threshold, false), "{row}");
    }
}

#[test]
fn floors_lift_over_caps_and_pressure_and_not_over_a_parent() {
    let floor = Budget::new();
    floor.set(1e9);
    floor.fix(300_000);
    let low = Ask { rate: 1_000, floor: Some(&floor), rand: 999_999, ..ask() };
    let cap = capped(100);
    for (row, ask, threshold) in [
        ("a low rate", low, 300_000),
        ("a high rate", Ask { rate: 400_000, ..low }, 400_000),
        ("a cap", Ask { cap: Some(&cap), ..low }, 300_000),
        ("pressure", Ask { pressure: 10, ..low }, 300_000),
        ("a parent that said no", Ask { parent: Some(false), ..low }, 0),
        ("explicitly not", Ask { explicit: Some(false), ..low }, 0),
    ] {
        assert_eq!(decided(&ask), (threshold, false), "{row}");
    }
    // Of what the parent has let through at a tenth, no more than a tenth was there to be kept.
    let parent = Ask { parent: Some(true), parent_rate: Some(100_000), rand: 99_999, ..low };
    assert_eq!(decided(&parent), (100_000, true));
    assert_eq!(decided(&Ask { cap: Some(&cap), ..parent }), (100_000, true));
    // Nor over a 0 that somebody meant.
    floor.fix(300_000);
    let none = Compiled { rate: Some(0), ..rule() };
    assert_eq!(head(&Ask { rate: 0, ..low }).threshold, 300_000);
    assert_eq!(head(&Ask { rule: Some(&none), ..low }).threshold, 0);
    assert_eq!(head(&Ask { sampler: Some(0), ..low }).threshold, 0);
    assert_eq!(head(&Ask { sampler: Some(1), rule: Some(&none), ..low }).threshold, 300_000);
}

#[test]
fn the_first_of_its_name_is_kept_with_the_share_of_the_end() {
    let keeping = Compiled { first: true, ..rule() };
    let first = Ask { rate: 0, rule: Some(&keeping), first: true, ..ask() };
    let kept = head(&first);
    assert_eq!((kept.threshold, kept.sampled, kept.why), (WHOLE, true, Why::First));
    let not = head(&Ask { first: false, ..first });
    assert_eq!((not.threshold, not.sampled, not.why), (0, false, Why::Head));
    let plain = rule();
    assert!(!head(&Ask { rule: Some(&plain), ..first }).sampled, "the rule does not ask");
    // Above the share's threshold it is not; the rate, if higher, is what counts.
    let cap = Lease::by_hand(1e6);
    cap.budget().fix(200_000);
    let capped = head(&Ask { cap: Some(&cap), ..first });
    assert_eq!((capped.threshold, capped.sampled), (200_000, false));
}

#[test]
fn the_parents_rate_stands_only_where_it_is_what_counted() {
    let cap = capped(100_000);
    let parent = Ask { parent: Some(true), parent_rate: Some(500_000), ..ask() };
    let ignoring = Compiled { follows_parent: false, ..rule() };
    for (row, ask, stands) in [
        ("followed", parent, true),
        ("followed in its no", Ask { parent: Some(false), ..parent }, true),
        ("no parent", ask(), false),
        ("the sampler decided, alike", Ask { sampler: Some(500_000), ..parent }, false),
        ("ignored, alike", Ask { rule: Some(&ignoring), ..parent }, false),
        ("explicit", Ask { explicit: Some(true), ..parent }, false),
        ("capped", Ask { cap: Some(&cap), ..parent }, false),
        ("under pressure", Ask { pressure: 1, ..parent }, false),
    ] {
        assert_eq!(head(&ask).by_parent, stands, "{row}");
    }
}

#[test]
fn plans_are_made_where_an_end_could_change_something() {
    let failed = Compiled { conditions: Conditions::new(Conditions::FAILED), ..rule() };
    let first = Compiled { first: true, ..rule() };
    let low = Ask { rule: Some(&failed), rate: 10_000, ..ask() };
    let cap = Lease::by_hand(1e6);
    cap.budget().fix(300_000);
    for (row, ask, planned) in [
        ("not sampled", low, true),
        ("sampled: the threshold may rise", Ask { rand: 0, ..low }, true),
        ("no conditions", Ask { rule: Some(&first), ..low }, false),
        ("no rule", Ask { rule: None, ..low }, false),
        ("kept for sure", Ask { rate: WHOLE, ..low }, false),
        ("explicitly", Ask { explicit: Some(true), ..low }, false),
        ("explicitly not", Ask { explicit: Some(false), ..low }, false),
        ("a parent that said no", Ask { parent: Some(false), ..low }, true),
        ("a sampler that said no", Ask { sampler: Some(0), ..low }, true),
        ("no end would keep it", Ask { cap: Some(&cap), ..low }, false),
        ("one might", Ask { cap: Some(&cap), rand: 299_999, ..low }, true),
    ] {
        assert_eq!(!head(&ask).plan.is_none(), planned, "{row}");
    }
    let plan = head(&Ask { cap: Some(&cap), rand: 0, ..low }).plan;
    assert_eq!((plan.end(), plan.caps()), (300_000, [0, cap.index()]));
}

#[test]
fn ends_are_kept_by_the_highest_threshold_that_applies() {
    let every = Conditions::SLOW | Conditions::FAILED | Conditions::ASKED | Conditions::P99;
    let plan = |bits| Plan::new(Conditions::new(bits), 600_000, [0, 0], 1_000_000);
    let slow = Facts { nanos: 1_000_001, ..facts() };
    let failed = Facts { failed: true, ..facts() };
    let asked = Facts { asked: Some(true), ..facts() };
    let discarded = Facts { asked: Some(false), ..slow };
    // (what, plan, facts) of an item whose head has 100,000, at 99,999, 400,000 and 700,000.
    for (row, plan, facts, threshold, why, kept) in [
        ("nothing met", plan(every), facts(), 100_000, Why::Head, [true, false, false]),
        ("slow", plan(every), slow, 600_000, Why::Slow, [true, true, false]),
        ("failed", plan(every), failed, 600_000, Why::Failed, [true, true, false]),
        ("asked", plan(every), asked, 600_000, Why::Asked, [true, true, false]),
        (
            "slow is not asked",
            plan(Conditions::FAILED),
            slow,
            100_000,
            Why::Head,
            [true, false, false],
        ),
        (
            "asking is not asked",
            plan(Conditions::SLOW),
            asked,
            100_000,
            Why::Head,
            [true, false, false],
        ),
        ("no plan", Plan::NONE, asked, 100_000, Why::Head, [true, false, false]),
        ("discarded", plan(every), discarded, 100_000, Why::Head, [false; 3]),
        ("discarded without a plan", Plan::NONE, discarded, 100_000, Why::Head, [false; 3]),
    ] {
        for (rand, kept) in [99_999, 400_000, 700_000].into_iter().zip(kept) {
            let end = end_by(&History::new(), plan, 100_000, rand, &facts);
            assert_eq!(end, End { kept, threshold, why }, "{row} at {rand}");
        }
    }
    let exactly = Facts { nanos: 1_000_000, ..facts() };
    let end = end_by(&History::new(), plan(every), 0, 0, &exactly);
    assert!(!end.kept, "as long is not longer");
    // The head's own threshold is never lowered.
    let end = end_by(&History::new(), plan(every), 800_000, 700_000, &slow);
    assert_eq!(end, End { kept: true, threshold: 800_000, why: Why::Head });
}

#[test]
fn beyond_the_slowest_hundredth_is_known_from_those_before() {
    let plan = Plan::new(Conditions::new(Conditions::P99), WHOLE, [0, 0], u64::MAX);
    let history = History::new();
    let fails = |nanos| Facts { nanos, random: u64::MAX, ..facts() };
    for nanos in 1_000..1_100 {
        assert!(!end_by(&history, plan, 0, 0, &fails(nanos)).kept, "the first hundred");
    }
    let slow = end_by(&history, plan, 0, 0, &fails(5_000));
    assert_eq!((slow.kept, slow.why), (true, Why::P99));
    assert!(!end_by(&history, plan, 0, 0, &fails(900)).kept);
}

#[test]
fn who_is_kept_is_charged_where_it_belongs() {
    let (cap, floor) = (Lease::by_hand(1e9), Budget::new());
    floor.set(1e9);
    let failed = Compiled {
        conditions: Conditions::new(Conditions::FAILED),
        cap: Some(Arc::new(Lease::by_hand(1e9))),
        first: true,
        ..rule()
    };
    let of_rule = failed.cap.as_ref().unwrap().budget();
    cap.budget().fix(500_000);
    of_rule.fix(500_000);
    floor.fix(300_000);
    let ask =
        Ask { rate: WHOLE, rule: Some(&failed), cap: Some(&cap), floor: Some(&floor), ..ask() };
    // [head, end, exempt] of the global cap, the rule's, and the floor.
    let taken = || [cap.budget(), of_rule, &floor].map(Budget::taken);
    let none = [0; 3];
    assert!(!head(&Ask { rand: 300_000, ..ask }).sampled);
    assert_eq!(taken(), [none; 3], "who is turned away writes nothing");
    assert!(head(&Ask { rand: 249_999, ..ask }).sampled);
    assert_eq!(taken(), [[1, 0, 0], [1, 0, 0], [1, 0, 0]], "below the caps");
    cap.budget().fix(100_000);
    assert!(head(&Ask { rand: 299_000, ..ask }).sampled);
    assert_eq!(taken(), [[1, 0, 1], [1, 0, 1], [2, 0, 0]], "the floor's, which is exempt");
    cap.budget().fix(WHOLE);
    of_rule.fix(900_000);
    floor.fix(1);
    let first = Ask { rate: 0, first: true, rand: 899_999, ..ask };
    assert!(head(&first).sampled);
    assert_eq!(taken(), [[1, 1, 1], [1, 1, 1], [3, 0, 0]], "the first of its name");
    assert!(head(&Ask { explicit: Some(true), ..ask }).sampled);
    assert_eq!(taken(), [[1, 1, 1], [1, 1, 1], [3, 0, 0]], "what was said explicitly");

    let planned = head(&Ask { rate: 0, rand: 500_000, ..ask });
    assert!(!planned.sampled && !planned.plan.is_none());
    let late = |rand, failed| {
        let facts = Facts { failed, ..facts() };
        end_by(&History::new(), planned.plan, planned.threshold, rand, &facts).kept
    };
    assert!(!late(500_000, false) && !late(999_999, true));
    assert_eq!(taken(), [[1, 1, 1], [1, 1, 1], [3, 0, 0]], "not kept at the end");
    assert!(late(500_000, true));
    assert_eq!(taken(), [[1, 2, 1], [1, 2, 1], [3, 0, 0]], "kept at the end");
    assert!(late(0, true));
    assert_eq!(taken(), [[1, 2, 1], [1, 2, 1], [3, 0, 0]], "the head had kept it");
}

#[test]
fn codes_of_ways_read_back() {
    for why in [Why::Head, Why::Slow, Why::P99, Why::Failed, Why::First, Why::Asked] {
        assert_eq!(Why::of(why as u8), why);
    }
    assert_eq!(Why::of(15), Why::Head);
}

/// Standard deviations between what was counted and what was to be expected.
fn deviation(count: u32, trials: u32, rate: f64) -> f64 {
    let (count, trials) = (f64::from(count), f64::from(trials));
    (count - trials * rate) / (trials * rate * (1.0 - rate)).sqrt()
}

/// Each way to get a rate, alone: what it keeps is its rate, by the numbers that traces have.
#[test]
fn each_sampler_keeps_the_share_that_it_says() {
    const ITEMS: u32 = 200_000;
    let wire = WireIds { seed: [11, 22, 33, 44] };
    let rule_of = |rate| Compiled { rate: Some(rate), ..rule() };
    for rate in [1, 10, 1_000, 33_333, 250_000, 500_000, 900_000, 999_000] {
        let rule = rule_of(rate);
        let parent = Ask { parent: Some(true), parent_rate: Some(rate), ..ask() };
        for (row, ask, share) in [
            ("rate", Ask { rate, ..ask() }, 1.0),
            ("rule", Ask { rule: Some(&rule), ..ask() }, 1.0),
            ("sampler", Ask { sampler: Some(rate), ..ask() }, 1.0),
            ("pressure", Ask { rate: WHOLE, sampler: Some(rate), pressure: 1, ..ask() }, 0.5),
        ] {
            let sampled = (1..=ITEMS)
                .filter(|key| {
                    let rand = wire.sample_rand(u64::from(*key));
                    head(&Ask { rand, ..ask }).sampled
                })
                .count();
            let rate = (f64::from(rate) * share).floor().max(1.0) / 1e6;
            let off = deviation(u32::try_from(sampled).unwrap(), ITEMS, rate);
            assert!(off.abs() < 4.0, "{row} at {rate}: {sampled}, {off:.1} standard deviations");
        }
        // A parent that has decided is followed, always.
        assert!((1..1_000).all(|rand| head(&Ask { rand, ..parent }).sampled));
    }
}

/// The numbers are uniform, in each of their six decimals and as a whole, and one says nothing
/// about the next.
#[test]
fn numbers_of_traces_are_uniform() {
    const DRAWS: u32 = 300_000;
    // As many keys lie between two transactions as the first has spans.
    for (seed, spans) in [(1, 1), (0, 4), (0x5eed, 1), (0x5eed, 4), (u64::MAX, 21), (7, 1_000)] {
        let mut decimals = [[0_u32; 10]; 6];
        let (mut parts, mut pairs) = (vec![0_u32; 1_000], vec![0_u32; 100]);
        let mut last = 0;
        for key in 1..=DRAWS {
            let rand = sample_rand(u64::from(key) * spans, seed);
            assert!(rand < WHOLE);
            for (place, counts) in decimals.iter_mut().enumerate() {
                let power = 10_u32.pow(u32::try_from(place).unwrap());
                counts[(rand / power % 10) as usize] += 1;
            }
            parts[(rand / 1_000) as usize] += 1;
            pairs[(last / 100_000 * 10 + rand / 100_000) as usize] += 1;
            last = rand;
        }
        for counts in decimals {
            assert_uniform(&counts, DRAWS);
        }
        assert_uniform(&parts, DRAWS);
        assert_uniform(&pairs, DRAWS);
    }
}

/// Chi-square, as a number of standard deviations by its normal approximation.
fn assert_uniform(counts: &[u32], draws: u32) {
    let cells = u32::try_from(counts.len()).unwrap();
    let expected = f64::from(draws) / f64::from(cells);
    let chi: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2)).sum::<f64>();
    let freedom = f64::from(cells - 1);
    let off = (chi / expected - freedom) / (2.0 * freedom).sqrt();
    assert!(off.abs() < 4.0, "{off:.1} standard deviations over {cells} cells");
}

/// Threads that decide at once, with ticks in between: each item is kept if and only if its number
/// lies below the threshold that it carries, and the weights add up.
#[test]
fn threads_that_share_a_cap_carry_what_they_were_compared_with() {
    const ITEMS: u32 = 20_000;
    let cap = Lease::by_hand(2_000.0);
    let sums = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let cap = &cap;
                scope.spawn(move || {
                    let mut rng = Rng::with_seed(thread + 1);
                    let (mut estimate, mut variance) = (0.0, 0.0);
                    for item in 0..ITEMS {
                        if thread == 0 && item % 500 == 0 {
                            cap.budget().tick(SECOND + u64::from(item) * 100_000);
                        }
                        let rand = rng.u32(0..WHOLE);
                        let head = head(&Ask { rate: WHOLE, cap: Some(cap), rand, ..ask() });
                        assert_eq!(head.sampled, rand < head.threshold);
                        let weight = f64::from(WHOLE) / f64::from(head.threshold);
                        estimate += if head.sampled { weight } else { 0.0 };
                        variance += weight - 1.0;
                    }
                    (estimate, variance)
                })
            })
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
    });
    let estimate: f64 = sums.iter().map(|(estimate, _)| estimate).sum();
    let variance: f64 = sums.iter().map(|(_, variance)| variance).sum();
    let off = (estimate - f64::from(4 * ITEMS)) / variance.sqrt();
    assert!(off.abs() < 5.0, "{estimate}: {off:.1} standard deviations");
}

#[test]
fn a_long_time_is_a_long_time() {
    let slow = Compiled {
        conditions: Conditions::new(Conditions::SLOW),
        slower_than: Some(Duration::from_millis(250)),
        ..rule()
    };
    let plan = head(&Ask { rule: Some(&slow), rate: 0, ..ask() }).plan;
    assert!((250_000_000..250_020_000).contains(&plan.slower_than()));
}
