//! Rates are honest: in any world, the sum of one over the rates of what was kept estimates how
//! much there was, without bias, overall and of each name.
//!
//! A world is drawn from a seed: rules with rates, caps, floors and conditions; names with flows of
//! every shape (steady, bursts at the start of seconds, on and off, rising a hundredfold, rare);
//! caps overrun up to a thousandfold; slow and failing items; parents, samplers, explicit
//! decisions; pressure that changes, rules that change while items are open, ticks that come late,
//! threads that have read a share and draw later. Its items run through the code that decides.
//!
//! # The statistic
//! For each item the world knows the probability p with which it is kept, whether it was or not.
//! What is kept adds 1/p; so the error, kept minus true, is a sum of terms each of which has the
//! mean 0 given all before it, and the variance 1/p - 1. Errors and variances add up over items.
//!
//! Over worlds they have to be brought to one scale, or the few with the smallest rates would drown
//! all others. A world's own variance is no scale, as it depends on the draws. So each world is run
//! twice, with other draws, and each run is measured by the standard error of the other. The sum,
//! in standard errors, is to lie within 3. An item that had no way to be kept (a rate of 0), or
//! that code discarded, is not counted: nobody could estimate those.
//!
//! A world in which a plain token bucket stands for the caps, and kept items carry the plain rate,
//! fails the same test by far.

mod world;

use world::{NAMES, Sums, Wrong, run};

const SHAPES: [&str; NAMES] =
    ["steady", "bursts", "on and off", "rising", "rare", "slow when many", "failing", "falling"];

/// Many worlds together.
#[derive(Debug, Default)]
struct Total {
    error: f64,
    variance: f64,
    /// Of worlds alone: how many, how many beyond 3 and beyond 5 standard errors.
    worlds: u32,
    beyond: [u32; 2],
}

impl Total {
    /// A world's sums, and those of its other run.
    fn add(&mut self, sums: &Sums, other: &Sums) {
        if other.variance == 0.0 {
            return;
        }
        let off = (sums.estimate - sums.items) / other.variance.sqrt();
        self.error += off;
        self.variance += sums.variance / other.variance;
        self.worlds += 1;
        self.beyond[0] += u32::from(off.abs() > 3.0);
        self.beyond[1] += u32::from(off.abs() > 5.0);
    }

    /// In standard errors.
    fn off(&self) -> f64 {
        self.error / self.variance.sqrt()
    }
}

#[derive(Debug, Default)]
struct Totals {
    all: Total,
    names: [Total; NAMES],
    kept: u64,
    items: f64,
}

fn worlds(seeds: std::ops::Range<u64>, wrong: Wrong) -> Totals {
    let mut totals = Totals::default();
    for seed in seeds {
        let runs = [0, 1].map(|draws| run(seed, draws, wrong));
        let [one, two] = &runs;
        for (outcome, other) in [(one, two), (two, one)] {
            totals.all.add(&outcome.all, &other.all);
            let names = outcome.names.iter().zip(&other.names);
            for (total, (sums, other)) in totals.names.iter_mut().zip(names) {
                total.add(sums, other);
            }
            totals.kept += outcome.kept;
            totals.items += outcome.all.items;
        }
    }
    totals
}

impl Totals {
    fn rows(&self) -> impl Iterator<Item = (&str, &Total)> {
        std::iter::once(("all", &self.all)).chain(SHAPES.into_iter().zip(&self.names))
    }

    fn is_honest(&self) -> bool {
        self.rows().all(|(_, total)| total.off().abs() < 3.0)
    }

    fn print(&self) {
        let Self { kept, items, .. } = self;
        println!("{items} items, {kept} kept; standard errors off:");
        for (name, total) in self.rows() {
            let Total { worlds, beyond: [three, five], .. } = total;
            let off = total.off();
            println!("  {name:14} {off:6.2}  (of {worlds} runs beyond 3: {three}, 5: {five})");
        }
    }
}

#[test]
fn rates_are_honest_in_some_worlds() {
    let totals = worlds(0..80, Wrong::Nothing);
    totals.print();
    assert!(totals.is_honest());
}

#[test]
fn a_token_bucket_that_reports_the_plain_rate_is_found_out() {
    let totals = worlds(0..80, Wrong::Bucket);
    totals.print();
    assert!(totals.all.off() < -6.0);
}

#[test]
fn carrying_the_heads_threshold_is_found_out() {
    let totals = worlds(0..20, Wrong::HeadsRate);
    totals.print();
    assert!(!totals.is_honest());
}

#[test]
fn a_share_that_is_read_after_the_draw_is_found_out() {
    let totals = worlds(0..20, Wrong::ReadAgain);
    totals.print();
    assert!(!totals.is_honest());
}

#[test]
#[ignore = "scripts/rates"]
fn rates_are_honest_in_many_worlds() {
    let number = |name, or| std::env::var(name).map_or(or, |it| it.parse::<u64>().unwrap());
    let (first, count) = (number("HOTSPAN_SEED", 0), number("HOTSPAN_SEEDS", 2_000));
    let totals = worlds(first..first + count, Wrong::Nothing);
    totals.print();
    assert!(totals.is_honest());
}
