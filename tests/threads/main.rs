//! Random programs of spans that stay on their thread, travel, are entered, forgotten, dropped by
//! panics and by threads that end, on up to four threads and over several lives of the library;
//! against a model of lists (`model.rs`, `flusher.rs`).
//!
//! The steps of a program are handed to its threads one at a time, so there is one right outcome:
//! the trees with their parents, statuses and last values; the books by reason; what is current on
//! each thread, open and in flight meanwhile.
//!
//! 300 programs are run in each of the two properties. More: `PROPTEST_CASES=20000 cargo test
//! --test threads`; a failure is shrunk, and printed with its steps.
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

mod driver;
mod flusher;
mod model;
mod program;
#[path = "../support/mod.rs"]
mod support;
mod worker;

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
        driver::run(&program);
    }
}
