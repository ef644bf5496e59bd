//! Which files are traced, by a rules file that may be edited while the program runs.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use hotspan::{RulesWatch, Stats};

/// How often it is said what share is kept.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// A rules file that is watched, and what was said about it.
pub(crate) struct Rules {
    watch: RulesWatch,
    said_at: Instant,
    said: Said,
}

/// Figures of the ledger that only grow.
#[derive(Default)]
struct Said {
    loaded: u64,
    refused: u64,
    kept: u64,
    offered: u64,
}

impl Said {
    fn of(ledger: &Stats) -> Self {
        // What is open is not decided yet.
        let undecided = ledger.open.transactions + ledger.discarded.transactions;
        let kept = ledger.started.transactions.saturating_sub(undecided);
        Self {
            loaded: ledger.sampling.rules_loaded,
            refused: ledger.sampling.rules_refused,
            kept,
            offered: kept + ledger.unsampled + ledger.discarded.transactions,
        }
    }
}

impl Rules {
    /// Puts what the file says in force.
    pub(crate) fn watch(path: &Path) -> Result<Self, String> {
        let watch = hotspan::watch_rules(path).map_err(|error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("--rules {}: {error}{cause}", path.display())
        })?;
        Ok(Self { watch, said_at: crate::now(), said: Said::of(&hotspan::stats()) })
    }

    /// Says what is new, each on a line.
    pub(crate) fn look(&mut self, mut say: impl FnMut(&str)) {
        let ledger = hotspan::stats();
        let now = Said::of(&ledger);
        if now.loaded > self.said.loaded {
            say(&format!("rules: taken over from {}", self.watch.path().display()));
        }
        if now.refused > self.said.refused {
            let why = ledger.sampling.last_refusal.as_deref().unwrap_or_default();
            say(&format!("rules: refused, those before stay: {why}"));
        }
        (self.said.loaded, self.said.refused) = (now.loaded, now.refused);
        if self.said_at.elapsed() >= SAY_EVERY {
            let kept = now.kept.saturating_sub(self.said.kept);
            let offered = now.offered.saturating_sub(self.said.offered);
            let percent = 100.0 * kept as f64 / offered.max(1) as f64;
            say(&format!("rules: kept {kept} of {offered} ({percent:.1} %)"));
            self.said_at = crate::now();
            self.said = now;
        }
    }
}
