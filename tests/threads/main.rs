//! Random programs of spans that stay on their thread, travel, are entered, forgotten, dropped by
//! panics and by threads that end, on up to four threads and over several lives of the library;
//! against a model of lists (`model.rs`, `travel.rs`, `trial.rs`, `outcome.rs`).
//!
//! The steps of a program are handed to its threads one at a time, so there is one right outcome:
//! the trees with their parents, statuses and last values; the books by reason; what is current on
//! each thread, open and in flight meanwhile.
//!
//! 300 programs are run in each property. More: `PROPTEST_CASES=20000 cargo test --test threads`; a failure is
//! shrunk, and printed with its steps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::mem_forget,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::allow_attributes,
    reason = "tests may panic, start threads, and forget what should not be"
)]

mod compare;
mod driver;
mod model;
mod outcome;
mod panics;
mod program;
mod steps;
#[path = "../support/mod.rs"]
mod support;
mod travel;
mod trial;
mod worker;

use model::Mode;
use proptest::prelude::*;

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(300),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn programs_on_four_threads_leave_what_the_model_says(program in program::program(4, 60)) {
        driver::run(Mode::Sampled, &program);
    }

    #[test]
    fn what_is_recorded_on_trial_is_kept_whole_or_discarded_whole(
        program in program::on_trial(3, 60)
    ) {
        driver::run(Mode::Trial, &program);
    }

    #[test]
    fn what_several_threads_set_on_one_span_follows_their_turns(
        program in program::around_one(3, 30)
    ) {
        driver::run(Mode::Sampled, &program);
    }
}

/// A program that is known to need the rules of the model.
#[test]
fn the_model_is_not_vacuous() {
    use hotspan::Reason;
    use program::Act::*;
    use program::{End as How, Key, Step};

    let on = |thread, act| Step { thread, act };
    let program = [
        // Two children, ended in the wrong order, and one that is forgotten.
        on(0, Transaction),
        on(0, Child),
        on(0, Child),
        on(0, End(1, How::Drop)),
        on(0, Child),
        on(0, Forget(2)),
        on(0, End(0, How::Drop)),
        on(0, End(0, How::Drop)),
        // One that travels: the last value is that of the last turn.
        on(0, Transaction),
        on(0, Set(0, Key::Data)),
        on(0, Detach(0)),
        on(1, EnterDetached(0)),
        on(1, Set(0, Key::Data)),
        on(2, SetDetached(0, Key::Data)),
        on(1, Set(0, Key::Data)),
        on(1, Child),
        on(1, Child),
        on(1, End(2, How::At)),
        on(3, Finish(0, How::Finish)),
        on(1, Panic(0, 2, None, true)),
        on(1, Flush),
        // In several lives of the library.
        on(2, Transaction),
        on(2, Restart(Mode::Unsampled)),
        on(2, Transaction),
        on(2, Renew),
        on(0, Transaction),
        on(0, Detach(0)),
        on(0, Restart(Mode::Off)),
        on(0, ForgetDetached(0)),
        on(0, Restart(Mode::Sampled)),
        on(0, Transaction),
        on(0, Restart(Mode::Sampled)),
        on(0, End(0, How::Drop)),
    ];
    let model = driver::run(Mode::Sampled, &program);
    let told = |root: &str, of: &str| model.trees[root][of].to_string();
    assert_eq!(
        told("span 0", "span 0"),
        r#"{"parent":"span 0","said":{"data":{"hotspan.unfinished":2}},"status":null}"#
    );
    assert_eq!(
        told("span 4", "span 4"),
        r#"{"parent":"span 4","said":{"data":{"data":3,"hotspan.unfinished":2}},"status":null}"#
    );
    assert_eq!(model.trees["span 4"].len(), 2);
    assert_eq!(model.lost[&Reason::LateChild].spans, 2);
    assert_eq!(model.lost[&Reason::AfterShutdown].transactions, 1);
    assert_eq!(model.lost[&Reason::Unfinished].transactions, 1);
    assert!(model.misnested > 0 && model.unsampled == 2);
}

/// Nor is a transaction that ends while something waits in the line of another one's child.
#[test]
fn what_waits_in_a_childs_line_is_not_in_the_way_of_taking_back() {
    use program::Act::*;
    use program::{End as How, Key, Step};

    let acts = [
        Transaction,
        Continued(None),
        End(0, How::Drop),
        Context(0),
        EnterContext(0),
        ChildOf(0),
        Transaction,
        Transaction,
        Set(2, Key::Tag),
        End(4, How::Drop),
    ];
    let model = driver::run(Mode::Trial, &acts.map(|act| Step { thread: 0, act }));
    assert_eq!(model.discarded.transactions, 2);
}

/// Books are compared before anybody but the thread itself has looked at what it recorded.
#[test]
fn a_detached_child_of_what_is_not_recorded_publishes_nothing_of_the_thread() {
    use program::Act::*;
    use program::{End as How, Step};

    let acts = [
        Continued(Some(false)),
        Detach(0),
        Continued(None),
        DetachedChild(0),
        End(0, How::Drop),
        Transaction,
    ];
    let model = driver::run(Mode::Trial, &acts.map(|act| Step { thread: 0, act }));
    assert_eq!(model.discarded.transactions, 1);
}
