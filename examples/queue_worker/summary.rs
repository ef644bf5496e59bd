//! The figures: what was delivered, per op, and the slowest items.

use std::collections::BTreeMap;

use serde::Serialize;

/// How many of the slowest items are shown.
const SLOWEST: usize = 5;

/// Filled span by span while envelopes are delivered.
#[derive(Default)]
pub(crate) struct Summary {
    /// Envelopes that were accepted, client reports among them.
    pub(crate) envelopes: u64,
    pub(crate) bytes: u64,
    /// Why the latest envelope that was not accepted was not.
    pub(crate) failure: Option<String>,
    /// Transactions that were delivered and could not be read back.
    pub(crate) unreadable: u64,
    pub(crate) slowest: Vec<Slow>,
    /// Transactions that were delivered, by what they were kept for: `rate`, or the condition of a
    /// rule.
    pub(crate) kept: BTreeMap<String, u64>,
    ops: BTreeMap<String, Durations>,
}

/// One item among the slowest.
#[derive(Serialize)]
pub(crate) struct Slow {
    pub(crate) name: String,
    pub(crate) message_id: String,
    pub(crate) duration_us: u64,
    pub(crate) status: String,
    pub(crate) steps: Vec<Step>,
}

/// A child of it; those of depth 1 are children of the step of depth 0 before them.
#[derive(Serialize)]
pub(crate) struct Step {
    pub(crate) depth: usize,
    pub(crate) op: String,
    pub(crate) duration_us: u64,
    pub(crate) status: String,
}

/// A row of the table. Percentiles are by nearest rank: durations that did occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct OpFigures {
    pub(crate) count: usize,
    pub(crate) failures: u64,
    pub(crate) p50_us: u64,
    pub(crate) p95_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
    pub(crate) total_us: u64,
}

#[derive(Default)]
struct Durations {
    micros: Vec<u64>,
    failures: u64,
}

impl Summary {
    pub(crate) fn delivered(&mut self, bytes: usize) {
        self.envelopes += 1;
        self.bytes += bytes as u64;
    }

    pub(crate) fn failed(&mut self, reason: String) {
        self.failure = Some(reason);
    }

    pub(crate) fn unreadable(&mut self) {
        self.unreadable += 1;
    }

    pub(crate) fn span(&mut self, op: &str, micros: u64, failed: bool) {
        // Looked up before it is entered: the name is copied once an op, not once a span.
        if !self.ops.contains_key(op) {
            self.ops.insert(op.to_owned(), Durations::default());
        }
        if let Some(durations) = self.ops.get_mut(op) {
            durations.micros.push(micros);
            durations.failures += u64::from(failed);
        }
    }

    pub(crate) fn kept(&mut self, why: Option<&str>) {
        *self.kept.entry(why.unwrap_or("rate").to_owned()).or_default() += 1;
    }

    pub(crate) fn is_among_slowest(&self, micros: u64) -> bool {
        self.slowest.len() < SLOWEST || self.slowest.last().is_some_and(|l| micros > l.duration_us)
    }

    pub(crate) fn slow(&mut self, item: Slow) {
        let place = self.slowest.partition_point(|other| other.duration_us >= item.duration_us);
        self.slowest.insert(place, item);
        self.slowest.truncate(SLOWEST);
    }

    /// The rows, by name.
    pub(crate) fn ops(&self) -> BTreeMap<&str, OpFigures> {
        self.ops.iter().map(|(op, durations)| (op.as_str(), durations.figures())).collect()
    }
}

impl Durations {
    fn figures(&self) -> OpFigures {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        OpFigures {
            count: sorted.len(),
            failures: self.failures,
            p50_us: percentile(50),
            p95_us: percentile(95),
            p99_us: percentile(99),
            max_us: percentile(100),
            total_us: sorted.iter().sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_durations_that_occurred() {
        let mut summary = Summary::default();
        for micros in (1..=200).rev() {
            summary.span("op", micros, micros % 50 == 0);
        }
        let expected = OpFigures {
            count: 200,
            failures: 4,
            p50_us: 100,
            p95_us: 190,
            p99_us: 198,
            max_us: 200,
            total_us: 20_100,
        };
        assert_eq!(summary.ops()["op"], expected);
    }

    #[test]
    fn the_slowest_are_kept_in_order() {
        let mut summary = Summary::default();
        for duration_us in [3, 9, 1, 7, 5, 8, 2] {
            if summary.is_among_slowest(duration_us) {
                let (name, message_id) = (String::new(), String::new());
                let status = "ok".to_owned();
                summary.slow(Slow { name, message_id, duration_us, status, steps: Vec::new() });
            }
        }
        let kept: Vec<_> = summary.slowest.iter().map(|item| item.duration_us).collect();
        assert_eq!(kept, [9, 8, 7, 5, 3]);
    }
}
