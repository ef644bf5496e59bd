//! Roots that their threads left undecided: drawn, and in the model's words.

use fastrand::Rng;

use crate::sampling::plan::{Conditions, Plan};
use crate::shared::layout::flag;

/// What a root's record says about whether it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    pub(super) threshold: u32,
    pub(super) plan: Option<Planned>,
    /// What code asked for where the root ended.
    pub(super) wish: Option<bool>,
    /// It panicked, or was dropped.
    pub(super) broken: bool,
    pub(super) nanos: u64,
}

/// What a plan keeps it for, and with which probability in millionths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) slower_than: Option<u64>,
    pub(super) failed: bool,
    pub(super) asked: bool,
    pub(super) end: u32,
}

impl Trial {
    /// One of `share` percent is undecided.
    pub(super) fn any(nanos: u64, share: u32, rng: &mut Rng) -> Self {
        let is_one = rng.u32(..100) < share;
        let rate = |rng: &mut Rng| [0, 1_000_000, rng.u32(..1_000_000)][rng.usize(..3)];
        let planned = |rng: &mut Rng| {
            let slower_than = rng.bool().then(|| 16 * rng.u64(..25));
            let failed = slower_than.is_none() || rng.bool();
            Planned { slower_than, failed, asked: rng.bool(), end: rate(rng) }
        };
        let (plan, threshold) = match is_one {
            true => (Some(planned(rng)).filter(|_| rng.u32(..5) > 0), rate(rng)),
            false => (None, 1_000_000),
        };
        Self {
            threshold,
            plan,
            wish: (is_one && rng.u32(..3) == 0).then(|| rng.bool()),
            broken: is_one && rng.u32(..5) == 0,
            nanos,
        }
    }

    /// Flags of the record.
    pub(super) fn flags(&self) -> u8 {
        let wish = self.wish.map_or(0, |keep| if keep { flag::KEEP } else { flag::DISCARD });
        let broken = [flag::PANICKED, flag::CANCELLED][usize::from(self.nanos.is_multiple_of(2))];
        wish | if self.broken { broken } else { 0 }
    }

    /// The plan in the record.
    pub(super) fn plan(&self) -> u64 {
        self.plan.map_or(0, |plan| {
            let bit = |on: bool, bit: u8| if on { bit } else { 0 };
            let conditions = bit(plan.slower_than.is_some(), Conditions::SLOW)
                | bit(plan.failed, Conditions::FAILED)
                | bit(plan.asked, Conditions::ASKED);
            assert_ne!(conditions, 0, "without a condition there is no plan");
            let nanos = plan.slower_than.unwrap_or(0);
            Plan::new(Conditions::new(conditions), plan.end, [0, 0], nanos).0
        })
    }
}
