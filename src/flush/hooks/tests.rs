use std::sync::{Arc, Mutex};

use super::*;
use crate::flush::encode::fixture::Run;

const WIRE: WireIds = WireIds { seed: [1, 2, 3, 4] };
const ANCHOR: Anchor = Anchor { ticks: 0, unix_nanos: 1_000, nanos_per_4g_ticks: 1 << 32 };

/// A root with three children, the last below the second.
fn run() -> Vec<Slot> {
    Run::new(1)
        .child(2, 1, "step", "two", (1, 2))
        .child(3, 1, "step", "three", (2, 5))
        .child(4, 3, "step", "four", (3, 4))
        .root("item", "orders", (0, 10))
        .slots
}

fn hook(
    hook: impl Fn(TransactionEvent) -> Option<TransactionEvent> + Send + Sync + 'static,
) -> EventProcessor {
    Arc::new(hook)
}

fn ask(processors: Vec<EventProcessor>, before_send: Option<BeforeSend>) -> (Outcome, u64) {
    let books = Books::new();
    let hooks = Hooks::new(processors, before_send).unwrap();
    let outcome = hooks.ask(&run(), &WIRE, &ANCHOR, &books);
    (outcome, books.callback_panics.get())
}

fn lost(event_processor: Count, before_send: Count) -> Lost {
    Lost { event_processor, before_send }
}

#[test]
fn no_hook_is_nobody_to_ask() {
    assert!(Hooks::new(Vec::new(), None).is_none());
}

#[test]
fn they_are_called_in_order_each_with_what_the_one_before_it_returned() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let named = |name: &'static str| {
        let seen = Arc::clone(&seen);
        hook(move |mut event| {
            seen.lock().unwrap().push(event.name);
            event.name = name.to_owned();
            Some(event)
        })
    };
    let (outcome, _) = ask(vec![named("a"), named("b")], Some(named("c")));
    assert_eq!(*seen.lock().unwrap(), ["orders", "a", "b"]);
    let Fate::Changed(rewritten) = outcome.fate else { panic!() };
    assert_eq!(TransactionEvent::of(&rewritten.run, &WIRE, &ANCHOR).unwrap().name, "c");
    assert_eq!(outcome.lost, Lost::default());
}

#[test]
fn who_drops_is_whom_it_is_counted_for_and_nobody_is_asked_after_that() {
    let never = || hook(|_| panic!("asked"));
    let (outcome, panics) = ask(vec![hook(|_| None), never()], Some(never()));
    assert!(matches!(outcome.fate, Fate::Dropped));
    assert_eq!(outcome.lost, lost(Count::transaction(3), Count::default()));
    let (outcome, _) = ask(vec![hook(Some)], Some(hook(|_| None)));
    assert_eq!(outcome.lost, lost(Count::default(), Count::transaction(3)));
    assert_eq!(panics, 0);
}

#[test]
fn spans_are_counted_for_who_removed_them() {
    let without = |description: &'static str| {
        hook(move |mut event| {
            event.spans.retain(|span| span.description != description);
            Some(event)
        })
    };
    let (outcome, _) = ask(vec![without("two")], Some(without("four")));
    assert_eq!(outcome.lost, lost(Count::spans(1), Count::spans(1)));
    // Dropped after that: each record once.
    let (outcome, _) = ask(vec![without("two")], Some(hook(|_| None)));
    assert_eq!(outcome.lost, lost(Count::spans(1), Count::transaction(2)));
}

#[test]
fn what_was_below_a_span_that_is_removed_hangs_below_its_parent() {
    let (outcome, _) = ask(
        vec![hook(|mut event| {
            assert_eq!(event.spans[2].parent_span_id(), Some(event.spans[1].span_id()));
            event.spans.remove(1);
            Some(event)
        })],
        None,
    );
    let Fate::Changed(rewritten) = outcome.fate else { panic!() };
    let parents = items(&rewritten.run).filter_map(|item| SpanRecord::of(&item[0]));
    assert_eq!(parents.map(|record| record.parent).collect::<Vec<_>>(), [1, 1, 0]);
}

#[test]
fn spans_cannot_be_added_and_another_transaction_is_none() {
    let others = Run::new(8).child(9, 8, "step", "nine", (1, 2)).root("item", "other", (0, 3));
    let other = TransactionEvent::of(&others.slots, &WIRE, &ANCHOR).unwrap();
    let foreign = other.spans[0].clone();
    let (outcome, _) = ask(
        vec![hook(move |mut event| {
            let twice = event.spans[0].clone();
            event.spans.extend([twice, foreign.clone()]);
            Some(event)
        })],
        Some(hook(|event| {
            assert_eq!(event.spans.len(), 3);
            Some(event)
        })),
    );
    assert!(matches!(outcome.fate, Fate::Untouched));
    // One that was removed does not come back.
    let removed = Arc::new(Mutex::new(None));
    let back = Arc::clone(&removed);
    let (outcome, _) = ask(
        vec![hook(move |mut event| {
            *removed.lock().unwrap() = event.spans.pop();
            Some(event)
        })],
        Some(hook(move |mut event| {
            event.spans.extend(back.lock().unwrap().take());
            Some(event)
        })),
    );
    assert_eq!(outcome.lost, lost(Count::spans(1), Count::default()));
    let (outcome, _) = ask(vec![hook(move |_| Some(other.clone()))], None);
    assert!(matches!(outcome.fate, Fate::Dropped));
    assert_eq!(outcome.lost, lost(Count::transaction(3), Count::default()));
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new(()));
    }
}

#[test]
fn a_hook_that_panics_drops_whatever_it_panics_with_and_however_often() {
    let books = Books::new();
    let hooks = Hooks::new(
        Vec::new(),
        Some(hook(|_| {
            let _held = Box::new(7);
            std::panic::resume_unwind(Box::new(Bomb))
        })),
    )
    .unwrap();
    for times in 1..10 {
        let outcome = hooks.ask(&run(), &WIRE, &ANCHOR, &books);
        assert!(matches!(outcome.fate, Fate::Dropped));
        assert_eq!(outcome.lost, lost(Count::default(), Count::transaction(3)));
        assert_eq!(books.callback_panics.get(), times);
    }
}

#[test]
fn what_a_hook_holds_may_panic_when_it_is_dropped() {
    let held = || {
        let bomb = Bomb;
        hook(move |event| {
            let _ = &bomb;
            Some(event)
        })
    };
    drop(Hooks::new(vec![held(), held()], Some(held())));
}

#[test]
fn what_is_no_transaction_is_not_asked_about() {
    let hooks = Hooks::new(vec![hook(|_| panic!("asked"))], None).unwrap();
    let books = Books::new();
    for run in [vec![], run()[..3].to_vec(), [run(), run()].concat()] {
        let outcome = hooks.ask(&run, &WIRE, &ANCHOR, &books);
        assert!(matches!(outcome.fate, Fate::Untouched));
    }
    assert_eq!(books.callback_panics.get(), 0);
}
