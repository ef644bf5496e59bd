//! The flusher, simulated: its own code between rings and transport, in a world drawn from a seed.
//!
//! ```text
//!   world ─slots─► intake ► assembler ► watch ► verdict ► encoder ► queue ► courier ► server
//!     │                                   │              └──── in one world of four ─────┘
//!     └─────items─► model ────compare─────┘
//! ```
//!
//! A [`world`] is a program on up to six threads, whose steps fall between, and only between, the
//! flusher's looks at single rings; what a real thread publishes during a look, the look does not
//! take. The [`model`] is told what was read and says what must come of it. As long as no bound was
//! hit and nothing panicked, what the [`watch`] saw must be exactly that: the children, the values,
//! the notes, the losses by reason, at each look. With tight bounds and panics, some of it may be
//! lost; then the ledger, the bounds, the order of eviction and what the roots say are held against
//! what may be.
//!
//! One seed is one world, always the same. `scripts/simulate` runs many.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

mod model;
mod run;
mod server;
mod trial;
mod watch;
mod world;

use run::Tallies;
use watch::Fuse;

/// Runs the worlds of some seeds; panics at the first that fails, and names it.
fn simulate(first: u64, count: u64, step: u64) -> Tallies {
    let mut tallies = Tallies::default();
    for seed in (first..first + count).step_by(usize::try_from(step).unwrap()) {
        let world = || run::world(seed, &mut tallies);
        if catch_unwind(AssertUnwindSafe(world)).is_err() {
            panic!("seed {seed} fails; alone: HOTSPAN_SEED={seed} scripts/simulate 1");
        }
    }
    tallies
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect(name))
}

#[test]
fn a_few_hundred_worlds_agree_with_the_model() {
    let tallies = simulate(0, 400, 1);
    // Else a world without anything would do.
    assert!(tallies.is_varied(), "{tallies:?}");
}

#[test]
#[ignore = "takes a while: scripts/simulate"]
fn many_worlds_agree_with_the_model() {
    let (first, count) =
        (from_environment("HOTSPAN_SEED", 0), from_environment("HOTSPAN_SEEDS", 1));
    let worker = |at: u64| {
        let work = move || simulate(first + at, count - at.min(count), 2);
        thread::Builder::new().spawn(work).unwrap()
    };
    let workers = [worker(0), worker(1)];
    let mut all = Tallies::default();
    for worker in workers {
        all += worker.join().expect("a seed that fails is named above");
    }
    println!("{count} worlds from seed {first}: {all:?}");
}
