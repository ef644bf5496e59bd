//! What threads lost, told apart by thread: counters are read at the begin and at the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::shared::ledger::{self, Count, Reason};
use crate::shared::registry::{self, LOST_ON_THREAD, Lane};

/// Counts by reason; none that is zero.
pub(super) type Losses = BTreeMap<Reason, Count>;

/// Losses without a thread to count them on.
const ON_NO_THREAD: [Reason; 3] = [Reason::NoRing, Reason::Reentrant, Reason::AfterShutdown];

pub(super) fn add(sum: &mut Losses, losses: &Losses) {
    for (reason, count) in losses {
        *sum.entry(*reason).or_default() += *count;
    }
}

/// Everything that a lane's threads have lost so far.
fn of(lane: &Lane) -> Losses {
    let count = |reason| Some((reason, lane.counters.lost(reason)?.get()));
    LOST_ON_THREAD.into_iter().filter_map(count).collect()
}

fn since(now: Losses, before: Option<&Losses>) -> Losses {
    let fresh = |(reason, count): (Reason, Count)| {
        let known = before.and_then(|before| before.get(&reason)).copied().unwrap_or_default();
        (reason, count - known)
    };
    now.into_iter().map(fresh).filter(|(_, count)| !count.is_zero()).collect()
}

/// The counters of one lane at a moment.
#[derive(Debug)]
pub(super) struct Mark {
    lane: u32,
    lost: Losses,
}

impl Mark {
    pub(super) fn of(number: u32) -> Self {
        Self { lane: number, lost: now(number) }
    }

    pub(super) fn since(&self) -> Losses {
        since(now(self.lane), Some(&self.lost))
    }
}

fn now(number: u32) -> Losses {
    lane(number).map(of).unwrap_or_default()
}

pub(super) fn lane(number: u32) -> Option<&'static Lane> {
    registry::lanes().find(|lane| lane.number == number)
}

/// The counters of all lanes, and of what has none, at a moment.
#[derive(Debug)]
pub(super) struct Marks {
    lanes: BTreeMap<u32, Losses>,
    on_none: Losses,
    internal: Count,
}

impl Marks {
    pub(super) fn now() -> Self {
        let lanes = registry::lanes().map(|lane| (lane.number, of(lane))).collect();
        Self { lanes, on_none: Self::on_none(), internal: Self::internal() }
    }

    fn internal() -> Count {
        ledger::books().lost.of(Reason::Internal).read()
    }

    /// What the flusher lost since, in a panic: that is everybody's.
    pub(super) fn lost_inside(&self) -> Losses {
        let lost = Self::internal() - self.internal;
        if lost.is_zero() { Losses::new() } else { Losses::from([(Reason::Internal, lost)]) }
    }

    fn on_none() -> Losses {
        ON_NO_THREAD
            .into_iter()
            .map(|reason| (reason, ledger::books().lost.of(reason).read()))
            .collect()
    }

    /// What was lost since, on these lanes and on none, but for what is known already.
    pub(super) fn since(&self, lanes: &BTreeSet<u32>, known: &BTreeMap<u32, Losses>) -> Losses {
        let mut sum = since(Self::on_none(), Some(&self.on_none));
        for lane in registry::lanes().filter(|lane| lanes.contains(&lane.number)) {
            let mut settled = self.lanes.get(&lane.number).cloned().unwrap_or_default();
            if let Some(known) = known.get(&lane.number) {
                add(&mut settled, known);
            }
            add(&mut sum, &since(of(lane), Some(&settled)));
        }
        sum
    }
}
