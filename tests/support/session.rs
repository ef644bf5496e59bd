//! One `init` after the other: the library is one a process, and libtest runs tests side by side.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hotspan::transport::{Memory, Transport};
use hotspan::{Config, Count, Delivery, Guard, Reason, Report, Stats, stats};

use super::envelope::Opened;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Enough for anything on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Waits until no other test of this binary uses the library.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything sampled, however long it takes to be sent to what `transport` makes, one after the
/// other and once each.
pub(crate) fn config<T: Transport + 'static>(
    transport: impl Fn() -> T + Send + Sync + 'static,
) -> Config {
    Config {
        transport: Delivery::Custom(Arc::new(move || Box::new(transport()))),
        traces_sample_rate: Some(1.0),
        debug: super::log::is_wanted().then_some(true),
        enable_backpressure_handling: false,
        upload_concurrency: 1,
        upload_retries: 0,
        ..Config::default()
    }
}

/// The library running, with its envelopes kept in memory.
pub(crate) struct Session {
    pub(crate) memory: Memory,
    pub(crate) guard: Guard,
    pub(crate) before: Stats,
    alone: MutexGuard<'static, ()>,
}

/// What a session left.
pub(crate) struct Ending {
    pub(crate) transactions: Vec<Opened>,
    /// What the server was told to be lost, by reason and category.
    pub(crate) reported: BTreeMap<(String, String), u64>,
    pub(crate) report: Report,
    pub(crate) before: Stats,
    pub(crate) after: Stats,
    alone: MutexGuard<'static, ()>,
}

impl Session {
    pub(crate) fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_alone(alone(), change)
    }

    fn start_alone(alone: MutexGuard<'static, ()>, change: impl FnOnce(&mut Config)) -> Self {
        let memory = Memory::new();
        let mut config = {
            let memory = memory.clone();
            config(move || memory.clone())
        };
        change(&mut config);
        let before = stats();
        let guard = hotspan::init(config).unwrap();
        Self { memory, guard, before, alone }
    }

    /// For a transport of the test's own that keeps envelopes there.
    pub(crate) fn with_memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// Closes, whatever is open, and starts the next one, with no other test's in between.
    pub(crate) fn again(self, change: impl FnOnce(&mut Config)) -> Self {
        let _ = self.guard.close(LONG);
        Self::start_alone(self.alone, change)
    }

    /// Closes, and takes apart what was sent. The books must be exact, whatever happened.
    pub(crate) fn end(self) -> Ending {
        let report = self.guard.close(LONG);
        let after = stats();
        after.check().unwrap();
        assert!(after.is_at_rest(), "{after}");
        assert_eq!(
            after.started,
            after.delivered + after.dropped_in_all() + after.discarded,
            "{after}"
        );
        let all: Vec<Opened> = self.memory.take().iter().map(|bytes| Opened::new(bytes)).collect();
        let reported = super::envelope::reported(&all);
        let transactions = all.into_iter().filter(|opened| opened.kind == "transaction").collect();
        Ending { transactions, reported, report, before: self.before, after, alone: self.alone }
    }
}

impl Ending {
    /// The next session, with no other test's in between.
    pub(crate) fn then(self, change: impl FnOnce(&mut Config)) -> Session {
        Session::start_alone(self.alone, change)
    }

    /// The only transaction.
    pub(crate) fn only(&self) -> &Opened {
        assert_eq!(self.transactions.len(), 1);
        &self.transactions[0]
    }

    /// The only transaction of this name.
    pub(crate) fn named(&self, name: &str) -> &Opened {
        let mut all = self.transactions.iter().filter(|opened| opened.name() == name);
        let found = all.next().unwrap_or_else(|| panic!("no transaction {name}"));
        assert!(all.next().is_none(), "several {name}");
        found
    }

    /// Lost in this session for this reason.
    pub(crate) fn lost(&self, reason: Reason) -> Count {
        lost_between(&self.before, &self.after, reason)
    }

    /// Lost in this session.
    pub(crate) fn lost_in_all(&self) -> Count {
        self.after.dropped_in_all() - self.before.dropped_in_all()
    }
}

pub(crate) fn lost_between(before: &Stats, after: &Stats, reason: Reason) -> Count {
    let of = |stats: &Stats| stats.dropped.get(&reason).copied().unwrap_or_default();
    of(after) - of(before)
}

pub(crate) const fn count(transactions: u64, spans: u64) -> Count {
    Count { transactions, spans }
}
