//! Hooks and the encoder together: what a hook leaves alone is sent as if there were none, and what
//! it takes away is not sent.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::event::{EventProcessor, TransactionEvent};
use crate::flush::hooks::{Fate, Hooks, Outcome};
use crate::shared::ledger::{Books, Count};

/// What becomes of a run with this one hook.
fn ask(
    run: &[Slot],
    hook: impl Fn(TransactionEvent) -> Option<TransactionEvent> + Send + Sync + 'static,
) -> Outcome {
    let hook: EventProcessor = Arc::new(hook);
    Hooks::new(vec![hook], None).unwrap().ask(run, &WIRE, &ANCHOR, &Books::new())
}

fn changed(outcome: Outcome) -> Vec<Slot> {
    match outcome.fate {
        Fate::Changed(rewritten) => rewritten.run,
        fate => panic!("{fate:?}"),
    }
}

fn records(run: &[Slot]) -> Count {
    crate::flush::intake::records(run).0
}

fn for_any_run(cases: u32, test: impl Fn(Vec<Slot>)) {
    let config = Config { failure_persistence: None, cases, ..Config::default() };
    let run = |run| {
        test(run);
        Ok(())
    };
    TestRunner::new(config).run(&property::run(), run).unwrap();
}

#[test]
fn a_hook_that_changes_nothing_changes_no_byte() {
    for_any_run(256, |run| {
        assert!(matches!(ask(&run, Some).fate, Fate::Untouched));
    });
}

#[test]
fn what_a_hook_did_not_touch_is_sent_as_without_it() {
    const ADDED: &str = "zz.added";
    let encoder = RefCell::new(Encoder::new(site()));
    let encode = |run: &[Slot]| {
        let (parcel, encoded) =
            encoder.borrow_mut().transaction(run, &WIRE, &ANCHOR, Vec::new()).unwrap();
        let (header, _, transaction) = parse(&parcel.bytes);
        (header, transaction, encoded)
    };
    for_any_run(256, |run| {
        let with = changed(ask(&run, |mut event| {
            event.data.insert(ADDED.to_owned(), 1.into());
            for span in &mut event.spans {
                span.tags.insert(ADDED.to_owned(), "x".to_owned());
            }
            Some(event)
        }));
        let (header, mut transaction, encoded) = encode(&with);
        assert!(transaction.contexts.trace.data.0.remove(ADDED).is_some());
        for span in &mut transaction.spans {
            assert_eq!(span.tags.0.remove(ADDED).as_deref(), Some("x"));
        }
        assert_eq!((header, transaction, encoded), encode(&run));
    });
}

/// E1 of the event: what is not in it cannot be taken out.
#[test]
fn a_hook_that_takes_everything_away_leaves_nothing() {
    let encoder = RefCell::new(Encoder::new(site()));
    for_any_run(256, |run| {
        let outcome = ask(&run, |mut event| {
            event.name.clear();
            event.op.clear();
            event.status = None;
            event.tags.clear();
            event.data.clear();
            event.measurements.clear();
            for span in &mut event.spans {
                span.description.clear();
                span.op.clear();
                span.status = None;
                span.tags.clear();
                span.data.clear();
                span.measurements.clear();
            }
            Some(event)
        });
        let run = match outcome.fate {
            Fate::Changed(rewritten) => rewritten.run,
            // There was nothing.
            _ => run,
        };
        let (parcel, _) =
            encoder.borrow_mut().transaction(&run, &WIRE, &ANCHOR, Vec::new()).unwrap();
        let (_, _, transaction) = parse(&parcel.bytes);
        assert_eq!(transaction.transaction, "<unlabeled transaction>");
        assert!(transaction.tags.0.is_empty() && transaction.measurements.0.is_empty());
        assert_eq!(transaction.contexts.response, None);
        let root = transaction.contexts.trace;
        assert_eq!((root.op, root.status), (None, None));
        // What is left is the encoder's own.
        assert!(root.data.0.keys().all(|key| key.starts_with("hotspan.")), "{:?}", root.data);
        for span in transaction.spans {
            assert_eq!((span.op, span.description, span.status), (None, None, None));
            assert!(span.tags.0.is_empty() && span.data.0.is_empty());
            assert!(span.measurements.0.is_empty());
        }
    });
}

/// Everything is taken away and put back, so that all of it comes from what was written here.
#[test]
fn what_a_hook_writes_is_what_it_wrote() {
    /// A key that is longer than what travels inline is cut.
    fn with_short_keys<T: Clone>(map: &BTreeMap<String, T>) -> BTreeMap<String, T> {
        map.iter()
            .filter(|(key, _)| key.len() <= 200)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }
    for_any_run(256, |run| {
        let kept = Arc::new(std::sync::Mutex::new(None));
        let keep = Arc::clone(&kept);
        let outcome = ask(&run, move |mut event| {
            for (tags, data, measurements) in event
                .spans
                .iter_mut()
                .map(|span| (&mut span.tags, &mut span.data, &mut span.measurements))
                .chain([(&mut event.tags, &mut event.data, &mut event.measurements)])
            {
                *tags = with_short_keys(tags);
                *data = with_short_keys(data);
                *measurements = with_short_keys(measurements);
            }
            *keep.lock().unwrap() = Some(event.clone());
            event.name = "-".to_owned();
            event.op = "-".to_owned();
            event.status = None;
            event.tags.clear();
            event.data.clear();
            event.measurements.clear();
            for span in &mut event.spans {
                span.description = "-".to_owned();
                span.op = "-".to_owned();
                span.status = None;
                span.tags.clear();
                span.data.clear();
                span.measurements.clear();
            }
            Some(event)
        });
        let original = kept.lock().unwrap().take().unwrap();
        let run = changed(outcome);
        let put_back = original.clone();
        let run = match ask(&run, move |_| Some(put_back.clone())).fate {
            Fate::Changed(rewritten) => rewritten.run,
            Fate::Untouched => run,
            Fate::Dropped => panic!("dropped"),
        };
        let back = TransactionEvent::of(&run, &WIRE, &ANCHOR).unwrap();
        // A unit that is none to the server is left out.
        let text = |event: &TransactionEvent| {
            let mut event = event.clone();
            let spans = event.spans.iter_mut().flat_map(|span| span.measurements.values_mut());
            for measurement in event.measurements.values_mut().chain(spans) {
                if measurement.unit.len() > 15 {
                    measurement.unit.clear();
                }
            }
            format!("{event:#?}")
        };
        assert_eq!(text(&back), text(&original));
    });
}

/// Slots of any bits, hooks of any whim: every record goes one way.
#[test]
fn nothing_is_lost_uncounted() {
    let slot = (0..17u8, 0..16u8, 0..200u16, 0..6u32, 0..6u64, any::<[u64; 4]>(), 0..6u64)
        .prop_map(|(kind, code, len, name, key, [b, c, d, e], parent)| {
            let name = if name == 5 { u32::MAX } else { name };
            let header = u64::from(kind)
                | u64::from(code) << 8
                | u64::from(len) << 16
                | u64::from(name) << 32;
            [header, key, 1, parent, b, c, d, e]
        });
    let runs = vec(slot, 0..40).prop_map(|mut run| {
        // Most have one root.
        run.retain(|[header, ..]| Kind::of(*header) != Some(Kind::Root));
        run.push([Kind::Root as u64, 1, 1, 0, 0, 0, 0, 0]);
        run
    });
    let config = Config { failure_persistence: None, cases: 1024, ..Config::default() };
    TestRunner::new(config)
        .run(&(runs, any::<u64>(), 0..8u8), |(run, which, drops)| {
            let processor: EventProcessor = Arc::new(move |mut event| {
                let mut n = 0;
                event.spans.retain(|_| {
                    n += 1;
                    which >> n & 1 == 0
                });
                event.spans.extend(event.spans.clone());
                (drops != 0).then_some(event)
            });
            let before_send: EventProcessor = Arc::new(move |mut event| {
                event.spans.truncate(2);
                event.tags.clear();
                (drops != 1).then_some(event)
            });
            let hooks = Hooks::new(vec![processor], Some(before_send)).unwrap();
            let outcome = hooks.ask(&run, &WIRE, &ANCHOR, &Books::new());
            let left = match &outcome.fate {
                Fate::Untouched => records(&run),
                Fate::Changed(rewritten) => records(&rewritten.run),
                Fate::Dropped => Count::default(),
            };
            let lost = outcome.lost.event_processor + outcome.lost.before_send;
            prop_assert_eq!(left + lost, records(&run));
            Ok(())
        })
        .unwrap();
}
