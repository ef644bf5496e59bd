//! Verdicts, case by case, and against what the encoder makes of the same run.

use fastrand::Rng;

use super::*;
use crate::flush::encode::fixture::Run;
use crate::flush::encode::{Encoder, Site};
use crate::sampling::plan::Conditions;
use crate::shared::id::NameId;
use crate::shared::layout::Scalar;

const WIRE: WireIds = WireIds { seed: [1, 2, 3, 4] };
/// A tick is two nanoseconds.
const ANCHOR: Anchor =
    Anchor { ticks: 0, unix_nanos: 1_700_000_000_000_000_000, nanos_per_4g_ticks: 1 << 33 };
const ROOT: u64 = 7;
const CHILD: u64 = 8;

/// A run with a child that failed, and a root with this plan, whatever the head made of it.
fn run(conditions: u8, change: impl FnOnce(&mut SpanRecord)) -> Run {
    with(conditions, |run| run, change)
}

/// The same, with something set on the root before it ends.
fn with(conditions: u8, set: impl FnOnce(Run) -> Run, change: impl FnOnce(&mut SpanRecord)) -> Run {
    let run = Run::new(ROOT).status(CHILD, SpanStatus::InternalError).child(
        CHILD,
        ROOT,
        "op",
        "child",
        (0, 10),
    );
    set(run).root("op", "name", (1000, 2000)).edit(|record| {
        record.plan = Plan::new(Conditions::new(conditions), 1_000_000, [0, 0], 1_008).0;
        record.threshold = 0;
        change(record);
    })
}

fn verdict(run: &Run) -> Verdict {
    Verdict::of(&run.slots, &WIRE, &ANCHOR)
}

/// Threshold and reason of what is kept.
fn kept(run: &Run) -> Option<(u32, u8)> {
    match verdict(run) {
        Verdict::Kept(root) => SpanRecord::of(&root).map(|root| (root.threshold, root.why)),
        _ => None,
    }
}

fn asked(run: Run, keep: u8) -> Run {
    run.raw(ROOT, Kind::Asked, Scalar::Bool as u8, NameId::NONE, &[keep])
}

#[test]
fn what_was_decided_goes_on_as_it_is_and_asks_for_nothing() {
    let decided = |change: fn(&mut SpanRecord)| {
        let run = run(0, |record| {
            record.plan = 0;
            change(record);
        });
        assert_eq!(Verdict::of(&run.slots, &WIRE, &ANCHOR), Verdict::Decided);
    };
    decided(|_| ());
    decided(|record| record.flags = flag::KEEP | flag::PANICKED | flag::SHARED);
    assert_eq!(Verdict::of(&[], &WIRE, &ANCHOR), Verdict::Decided);
}

#[test]
fn without_what_its_plan_asks_for_it_is_not_kept() {
    let none = |_: &mut SpanRecord| ();
    assert_eq!(verdict(&run(0, none)), Verdict::Discarded);
    assert_eq!(verdict(&run(Conditions::FAILED, none)), Verdict::Discarded, "a child failed");
    assert_eq!(verdict(&run(Conditions::ASKED, none)), Verdict::Discarded);
    let ok = |run: Run| run.status(ROOT, SpanStatus::Ok);
    assert_eq!(verdict(&with(Conditions::FAILED, ok, none)), Verdict::Discarded);
}

#[test]
fn what_is_kept_says_how_likely_that_was_and_why_and_is_decided_for_good() {
    let slow = run(Conditions::SLOW, |record| {
        record.threshold = 250_000;
        (record.lost, record.unfinished) = (3, 4);
    });
    let Verdict::Kept(slot) = verdict(&slow) else { panic!("it took 2000 ns") };
    let before = SpanRecord::of(slow.slots.last().unwrap()).unwrap();
    let after = SpanRecord::of(&slot).unwrap();
    let expected = SpanRecord { threshold: 1_000_000, why: Why::Slow as u8, plan: 0, ..before };
    assert_eq!(after.words(), expected.words());
    assert_eq!((after.lost, after.unfinished), (3, 4));
}

#[test]
fn how_long_it_took_is_what_is_sent() {
    for (start, end, flags, is_slow) in [
        (1000, 1504, 0, false),
        (1000, 1505, 0, true),
        (5000, 1000, 0, false),
        (5000, 6008, flag::START_UNIX | flag::END_UNIX, false),
        (5000, 6009, flag::START_UNIX | flag::END_UNIX, true),
        (500, ANCHOR.unix_nanos + 2008, flag::END_UNIX, false),
        (500, ANCHOR.unix_nanos + 2009, flag::END_UNIX, true),
    ] {
        let run = run(Conditions::SLOW, |record| {
            (record.start, record.end) = (start, end);
            record.flags = flags;
        });
        assert_eq!(kept(&run).is_some(), is_slow, "{start} to {end}, {flags}");
    }
}

#[test]
fn code_may_ask_from_the_thread_that_holds_it_or_one_that_entered_it() {
    let (keep, discard) = (flag::KEEP, flag::DISCARD);
    for (flags, slots, wish) in [
        (0, &[][..], None),
        (keep, &[], Some(true)),
        (discard, &[], Some(false)),
        (0, &[1], Some(true)),
        (0, &[0], Some(false)),
        (0, &[1, 0], Some(false)),
        (0, &[0, 1], Some(true)),
        (keep, &[0], Some(false)),
        (discard, &[1], Some(true)),
    ] {
        let set = |run| slots.iter().fold(run, |run, wish| asked(run, *wish));
        let change = |record: &mut SpanRecord| record.flags = flags | flag::SHARED;
        // It is slow, too: who asks for it to go is heard first.
        let both = kept(&with(Conditions::SLOW | Conditions::ASKED, set, change));
        let why = match wish {
            None => Some((1_000_000, Why::Slow as u8)),
            Some(true) => Some((1_000_000, Why::Asked as u8)),
            Some(false) => None,
        };
        assert_eq!(both, why, "{flags} {slots:?}");
        // The head keeps it, and nothing is planned: that somebody wants it kept changes nothing.
        let head = with(0, set, |record| {
            change(record);
            (record.plan, record.threshold) = (0, 1_000_000);
        });
        let expected = if wish == Some(false) { Verdict::Discarded } else { Verdict::Decided };
        assert_eq!(verdict(&head), expected, "{flags} {slots:?}");
    }
}

#[test]
fn a_wish_on_another_span_is_none() {
    let set = |run: Run| run.raw(CHILD, Kind::Asked, Scalar::Bool as u8, NameId::NONE, &[1]);
    let run = with(Conditions::ASKED, set, |record| record.flags = flag::SHARED);
    assert_eq!(verdict(&run), Verdict::Discarded);
}

#[test]
fn the_random_number_is_the_one_of_the_trace() {
    let own = WIRE.sample_rand(ROOT);
    let judged = |rand: Option<u32>, end: u32| {
        let trace = |run: Run| {
            let Some(rand) = rand else { return run };
            let mut payload = [0xff; 40];
            payload[24..28].copy_from_slice(&rand.to_le_bytes());
            run.raw(ROOT, Kind::Trace, Scalar::U64 as u8, NameId::NONE, &payload)
        };
        let plan = Plan::new(Conditions::new(Conditions::SLOW), end, [0, 0], 1_000);
        kept(&with(0, trace, |record| record.plan = plan.0))
    };
    assert!(own > 10 && own < 999_990);
    assert_eq!(judged(None, own), None);
    assert_eq!(judged(None, own + 1), Some((own + 1, Why::Slow as u8)));
    assert_eq!(judged(Some(123_456), 123_456), None);
    assert_eq!(judged(Some(123_456), 123_457), Some((123_457, Why::Slow as u8)));
}

#[test]
fn what_the_head_had_kept_keeps_its_reason_unless_the_end_has_a_better_one() {
    let head = |conditions, threshold| {
        kept(&run(conditions, |record| {
            (record.threshold, record.why) = (threshold, Why::First as u8);
        }))
    };
    assert_eq!(head(Conditions::FAILED, 1_000_000), Some((1_000_000, Why::First as u8)));
    assert_eq!(head(Conditions::SLOW, 1_000_000), Some((1_000_000, Why::First as u8)));
    assert_eq!(head(Conditions::SLOW, 999_999), Some((1_000_000, Why::Slow as u8)));
}

/// The status that the encoder sends with the root of a run.
fn status_sent(run: &Run) -> Option<String> {
    let mut encoder = Encoder::new(Site::default());
    let (parcel, _) = encoder.transaction(&run.slots, &WIRE, &ANCHOR, Vec::new()).unwrap();
    let text = String::from_utf8(parcel.bytes).unwrap();
    let payload: serde_json::Value = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
    Some(payload["contexts"]["trace"].get("status")?.as_str().unwrap().to_owned())
}

#[test]
fn failed_is_what_is_sent_as_anything_but_ok() {
    let mut rng = Rng::with_seed(1);
    let (mut failed, mut sent) = (0, 0);
    for _ in 0..2000 {
        let set = |mut run: Run| {
            for _ in 0..rng.usize(..4) {
                let key = if rng.u32(..5) == 0 { CHILD } else { ROOT };
                let code = Scalar::U64 as u8;
                run = match rng.u32(..5) {
                    // Some of these are no statuses.
                    0 => run.raw(key, Kind::Status, code, NameId::NONE, &[rng.u8(..20)]),
                    1 => run.status(key, SpanStatus::Ok),
                    2 => run.http_status(key, rng.u64(100..700)),
                    3 => run.http_status(key, 0x1_0000 + rng.u64(..600)),
                    _ => run.raw(key, Kind::Status, code, NameId::NONE, &[0, 5]),
                };
            }
            run
        };
        let mut run = with(Conditions::FAILED, set, |_| ());
        if rng.u32(..4) == 0 {
            run = run.edit(|record| {
                record.flags = [flag::PANICKED, flag::CANCELLED, flag::START_UNIX][rng.usize(..3)];
            });
        }
        let status = status_sent(&run);
        let has_failed = status.as_deref().is_some_and(|status| status != "ok");
        assert_eq!(kept(&run).is_some(), has_failed, "{status:?}");
        failed += u32::from(has_failed);
        sent += u32::from(status.is_some());
    }
    assert!(failed > 300 && sent > failed + 300 && sent < 1900, "{failed} of {sent}");
}
