//! What was said of whom: that each item is reported once, and when it is time for a line in the log.
//!
//! Pure: keys and times in, decisions out. What is remembered is bounded by what was open in the
//! last two looks, or by [`KEPT`] items, whichever is more.

use std::collections::HashMap;
use std::time::Duration;

/// Items that are remembered whether they are still there or not.
const KEPT: usize = 1024;
/// Between two lines in the log.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// What was told of an item.
#[derive(Debug)]
struct Item {
    /// The look that saw it last.
    seen: u64,
    in_log: bool,
}

/// The items that were reported.
#[derive(Debug, Default)]
pub(super) struct Told {
    items: HashMap<u64, Item, foldhash::fast::RandomState>,
    look: u64,
    /// Reported since the last line.
    unsaid: u64,
    last_line: Option<Duration>,
}

impl Told {
    /// A look begins. Items that were seen neither in the last one nor in the one before are
    /// forgotten when there are many. (An item on its way from a thread's stack to the assembler
    /// may be in neither for one look.)
    pub(super) fn begin(&mut self) {
        if self.items.len() > KEPT {
            let look = self.look;
            self.items.retain(|_, item| item.seen + 1 >= look);
        }
        self.look += 1;
    }

    /// Whether this item, which is stuck, has not been reported.
    pub(super) fn is_new(&mut self, root: u64) -> bool {
        match self.items.get_mut(&root) {
            Some(item) => {
                item.seen = self.look;
                false
            }
            None => true,
        }
    }

    /// It is reported now.
    pub(super) fn report(&mut self, root: u64) {
        self.items.insert(root, Item { seen: self.look, in_log: false });
        self.unsaid += 1;
    }

    /// If it is time for a line in the log: the item it should name, out of those that are stuck,
    /// and how many others were reported since the last line.
    pub(super) fn line(
        &mut self,
        now: Duration,
        stuck: impl IntoIterator<Item = u64>,
    ) -> Option<(u64, u64)> {
        if self.unsaid == 0
            || self.last_line.is_some_and(|last| now.saturating_sub(last) < BETWEEN_LINES)
        {
            return None;
        }
        let unsaid = |root: &u64| self.items.get(root).is_some_and(|item| !item.in_log);
        // None: those that were not named are over; the next line counts them.
        let named = stuck.into_iter().find(unsaid)?;
        for item in self.items.values_mut() {
            item.in_log = true;
        }
        self.last_line = Some(now);
        Some((named, std::mem::take(&mut self.unsaid) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One look that finds these items; those that are reported.
    fn look(told: &mut Told, stuck: &[u64]) -> Vec<u64> {
        told.begin();
        let fresh: Vec<u64> = stuck.iter().copied().filter(|root| told.is_new(*root)).collect();
        for root in &fresh {
            told.report(*root);
        }
        fresh
    }

    #[test]
    fn each_is_reported_once_also_when_it_is_out_of_sight_for_a_while() {
        let mut told = Told::default();
        assert_eq!(look(&mut told, &[1, 2]), [1, 2]);
        assert_eq!(look(&mut told, &[1, 2, 3]), [3]);
        for _ in 0..5 {
            assert!(look(&mut told, &[]).is_empty());
        }
        assert!(look(&mut told, &[1, 2, 3]).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_stuck_is_never_forgotten() {
        let mut told = Told::default();
        let stuck: Vec<u64> = (0..10).collect();
        for round in 1..100 {
            let passing: Vec<u64> = (0..KEPT as u64).map(|n| round * 10_000 + n).collect();
            let all = [&*stuck, &*passing].concat();
            let expected = if round == 1 { all.clone() } else { passing };
            // Out of sight for one look in between.
            assert_eq!(look(&mut told, &all), expected);
            look(&mut told, &[]);
            assert!(told.items.len() <= 2 * (KEPT + stuck.len()), "{}", told.items.len());
        }
    }

    #[test]
    fn one_line_a_minute_names_one_and_counts_the_others() {
        let mut told = Told::default();
        assert_eq!(told.line(at(0), [1]), None, "it was not reported");
        look(&mut told, &[1, 2, 3]);
        assert_eq!(told.line(at(0), [1, 2, 3]), Some((1, 2)));
        let mut lines = Vec::new();
        for second in 1..200 {
            // One more each second; all of them go on being stuck.
            let stuck: Vec<u64> = (1..=3 + second).collect();
            look(&mut told, &stuck);
            lines.extend(told.line(at(second), stuck).map(|line| (second, line)));
        }
        assert_eq!(lines, [(60, (4, 59)), (120, (64, 59)), (180, (124, 59))]);
    }

    #[test]
    fn what_came_too_early_for_a_line_is_in_the_next_without_a_further_one() {
        let mut told = Told::default();
        look(&mut told, &[1]);
        assert_eq!(told.line(at(0), [1]), Some((1, 0)));
        look(&mut told, &[1, 2]);
        assert_eq!(told.line(at(1), [1, 2]), None);
        assert_eq!(told.line(at(60), [1, 2]), Some((2, 0)));
        // One that ends in time for no line is counted in the next that names another.
        look(&mut told, &[3]);
        assert_eq!((told.line(at(61), [3]), told.line(at(200), [])), (None, None));
        look(&mut told, &[4]);
        assert_eq!(told.line(at(201), [4]), Some((4, 1)));
        assert_eq!(told.line(at(900), [4]), None);
    }
}
