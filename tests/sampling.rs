//! Which transactions are kept, seen from outside: who decides, and what changes while running.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests may panic"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hotspan::{
    Config, Keep, Parent, Rule, SpanStatus, TransactionOptions, reconfigure, start_child,
    start_transaction, stats,
};

mod support;

use support::session::{Session, count};

const DSN: &str = "http://0123456789abcdef0123456789abcdef@127.0.0.1:1/1";
const TRACE: &str = "4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052";

fn session(change: impl FnOnce(&mut Config)) -> Session {
    Session::start(|config| {
        config.dsn = Some(DSN.into());
        config.traces_sample_rate = Some(0.0);
        change(config);
    })
}

fn rule(op: &str, rate: f64) -> Rule {
    Rule { op: Some(op.into()), rate: Some(rate), ..Rule::default() }
}

/// A transaction whose parent decided that.
fn continued(flag: &str, op: &str, name: &str) {
    drop(
        hotspan::continue_from([("sentry-trace", format!("{TRACE}{flag}"))])
            .start_transaction(op, name),
    );
}

#[test]
fn the_caller_goes_before_the_sampler_the_parent_and_the_rate() {
    let session = session(|config| {
        config.rules =
            vec![rule("rule", 1.0), Rule { parent: Parent::Ignore, ..rule("ignore", 1.0) }];
        config.traces_sampler = Some(Arc::new(|context| match context.name() {
            "sampler yes" => 1.0,
            "sampler no" => 0.0,
            // As if there were none.
            _ => context.rate().unwrap(),
        }));
    });
    let explicit = |sampled| TransactionOptions::new().sampled(sampled);
    drop(explicit(true).start("any", "sampler no"));
    drop(explicit(false).start("any", "sampler yes"));
    drop(start_transaction("any", "sampler yes"));
    drop(start_transaction("rule", "sampler no"));
    continued("-0", "rule", "sampler yes");
    continued("-1", "rule", "sampler no");
    continued("-1", "any", "parent yes");
    continued("-0", "rule", "parent no");
    continued("", "rule", "parent undecided");
    continued("-0", "ignore", "parent ignored");
    drop(start_transaction("rule", "rule"));
    drop(start_transaction("any", "rate"));
    let ending = session.end();
    let mut names: Vec<_> = ending.transactions.iter().map(|opened| opened.name()).collect();
    names.sort_unstable();
    let expected = [
        "parent ignored",
        "parent undecided",
        "parent yes",
        "rule",
        "sampler no",
        "sampler yes",
        "sampler yes",
    ];
    assert_eq!(names, expected);
    // What was left out: one transaction and one span each, its children not counted.
    assert_eq!(ending.after.unsampled - ending.before.unsampled, 5);
    assert_eq!(ending.reported[&("sample_rate".into(), "transaction".into())], 5);
    assert_eq!(ending.reported[&("sample_rate".into(), "span".into())], 5);
}

#[test]
fn a_sampler_sees_everything_and_its_mistakes_are_counted() {
    struct Message {
        retries: u32,
    }
    let asked = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&asked);
    let session = session(move |config| {
        config.traces_sample_rate = Some(1.0);
        config.traces_sampler = Some(Arc::new(move |context| {
            seen.fetch_add(1, Ordering::Relaxed);
            match context.name() {
                "nan" => f64::NAN,
                "two" => 2.0,
                "panic" => panic!("on purpose"),
                "nested" => {
                    // Would be asked for ever.
                    drop(start_transaction("any", "inside"));
                    1.0
                }
                "message" => {
                    assert_eq!(context.custom::<Message>().unwrap().retries, 3);
                    assert_eq!(context.parent_sampled(), Some(false));
                    assert_eq!(context.parent_sample_rate(), Some(0.25));
                    assert_eq!(context.trace_id().to_string(), &TRACE[..32]);
                    assert_eq!((context.op(), context.rate()), ("queue.process", Some(0.0)));
                    1.0
                }
                _ => 1.0,
            }
        }));
    });
    let incoming = hotspan::continue_from([
        ("sentry-trace", format!("{TRACE}-0")),
        ("baggage", "sentry-sample_rate=0.25".to_owned()),
    ]);
    let options = TransactionOptions::new().continue_from(&incoming);
    drop(options.context(&Message { retries: 3 }).start("queue.process", "message"));
    for name in ["nan", "two", "panic", "nested"] {
        drop(start_transaction("any", name));
    }
    let ending = session.end();
    let names: Vec<_> = ending.transactions.iter().map(|opened| opened.name()).collect();
    // A sampler that panicked is as if it were not there: the rate decides.
    assert_eq!(names, ["message", "panic", "nested"]);
    assert_eq!(asked.load(Ordering::Relaxed), 5);
    let (before, after) = (&ending.before.sampling, &ending.after.sampling);
    assert_eq!(after.sampler_invalid - before.sampler_invalid, 2);
    assert_eq!(after.sampler_panics - before.sampler_panics, 1);
    assert_eq!(ending.lost(hotspan::Reason::Reentrant), count(1, 1));
}

#[test]
fn rules_alone_turn_tracing_on() {
    let session = Session::start(|config| {
        config.traces_sample_rate = None;
        config.rules = vec![rule("item", 1.0)];
    });
    drop(start_transaction("item", "orders"));
    drop(start_transaction("other", "orders"));
    assert_eq!(session.end().transactions.len(), 1);
}

#[test]
fn rates_of_rules_are_what_the_server_is_told_and_what_is_kept() {
    let session = session(|config| {
        config.traces_sample_rate = Some(0.5);
        config.rules = vec![
            rule("quarter*", 0.25),
            Rule { op: None, name: Some("tenth".into()), ..rule("", 0.1) },
        ];
    });
    const ITEMS: u32 = 4000;
    for _ in 0..ITEMS {
        drop(start_transaction("quarter.of", "orders"));
        drop(start_transaction("other", "tenth"));
        drop(start_transaction("other", "half"));
    }
    let ending = session.end();
    for (name, rate, text) in
        [("orders", 0.25, "0.25"), ("tenth", 0.1, "0.1"), ("half", 0.5, "0.5")]
    {
        let kept: Vec<_> =
            ending.transactions.iter().filter(|opened| opened.name() == name).collect();
        for opened in &kept {
            let trace = &opened.header["trace"];
            assert_eq!((&trace["sample_rate"], &trace["sampled"]), (&text.into(), &"true".into()));
            let rand: f64 = trace["sample_rand"].as_str().unwrap().parse().unwrap();
            assert!(rand < rate, "sampled <=> sample_rand < sample_rate");
        }
        let expected = f64::from(ITEMS) * rate;
        let off = (kept.len() as f64 - expected).abs();
        // Six standard deviations: one run in 500 million.
        assert!(off < 6.0 * (expected * (1.0 - rate)).sqrt(), "{name}: {} kept", kept.len());
    }
}

#[test]
fn a_change_applies_to_what_starts_later_and_to_nothing_that_is_open() {
    let session = session(|_| {});
    let unsampled = start_transaction("item", "open while off");
    reconfigure(|sampling| sampling.traces_sample_rate = Some(1.0)).unwrap();
    let kept = start_transaction("item", "open while on");
    drop(start_child("step", "of the one that is on"));
    reconfigure(|sampling| {
        sampling.traces_sample_rate = Some(0.0);
        sampling.rules =
            vec![Rule { keep: Keep { failed: true, ..Keep::default() }, ..Rule::default() }];
    })
    .unwrap();
    drop(kept);
    drop(unsampled);
    let mut trial = start_transaction("item", "on trial");
    trial.set_status(SpanStatus::Aborted);
    // Its rule is gone; it ends by it all the same.
    reconfigure(|sampling| sampling.rules.clear()).unwrap();
    drop(trial);
    start_transaction("item", "after").set_status(SpanStatus::Aborted);
    let error = reconfigure(|sampling| sampling.traces_sample_rate = Some(2.0)).unwrap_err();
    assert!(error.is_sampling() && error.to_string().contains("traces_sample_rate"), "{error}");
    assert_eq!(hotspan::sampling().unwrap().traces_sample_rate, Some(0.0), "the old one stays");
    let ending = session.end();
    let names: Vec<_> = ending.transactions.iter().map(|opened| opened.name()).collect();
    assert_eq!(names, ["open while on", "on trial"]);
    assert!(hotspan::sampling().is_none());
    assert!(reconfigure(|_| {}).unwrap_err().is_not_running());
}

#[test]
fn a_cap_holds_and_what_is_kept_says_how_likely_it_was() {
    let session = session(|config| {
        config.traces_sample_rate = Some(1.0);
        config.max_per_second = Some(50.0);
    });
    // Takes far less than a second, however slow the machine.
    for _ in 0..5000 {
        drop(start_transaction("item", "orders"));
    }
    let now = stats();
    let ending = session.end();
    let kept = ending.transactions.len();
    assert!((25..200).contains(&kept), "{kept} of {}", now.started.transactions);
    let rate = |n: usize| -> f64 {
        ending.transactions[n].header["trace"]["sample_rate"].as_str().unwrap().parse().unwrap()
    };
    assert!(rate(0) > 0.99 && rate(kept - 1) < 0.1, "{} to {}", rate(0), rate(kept - 1));
}

#[test]
fn what_init_refuses_names_the_rule() {
    let error = hotspan::init(Config {
        rules: vec![rule("a", 1.0), Rule { id: Some("second".into()), ..rule("b", 1.5) }],
        ..Config::default()
    })
    .unwrap_err();
    assert_eq!((error.is_sampling(), error.rule()), (true, Some(2)));
    let text = "rule 2 (\"second\"): rate: expected a number from 0 to 1";
    assert_eq!(error.to_string(), text);
}
