//! Who sleeps, counted under the queue's lock: to call where nobody sleeps costs no system call.
//!
//! A condition variable of the standard library asks the kernel at every call whether there is
//! anybody to wake. Most of the time there is not: uploaders under load find the next parcel
//! without sleeping.
//!
//! # Invariants
//! * S1: whoever is not called was either awake or called before, and looks at the state again
//!   before sleeping: the count is changed under the lock that guards the state.

/// Those who wait for one condition.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    asleep: usize,
    /// Of these, called and not yet up.
    called: usize,
}

impl Sleepers {
    /// How many sleep.
    pub(super) const fn count(&self) -> usize {
        self.asleep
    }

    /// Called, and not yet up.
    #[cfg(test)]
    pub(super) const fn called(&self) -> usize {
        self.called
    }

    /// Before waiting.
    pub(super) fn lie_down(&mut self) {
        self.asleep += 1;
    }

    /// After waiting, whatever ended it.
    pub(super) fn get_up(&mut self) {
        self.asleep = self.asleep.saturating_sub(1);
        self.called = self.called.saturating_sub(1).min(self.asleep);
    }

    /// Whether there is one to be called, which the caller must then do.
    pub(super) fn call_one(&mut self) -> bool {
        let is_there = self.called < self.asleep;
        self.called += usize::from(is_there);
        is_there
    }

    /// The same for all of them.
    pub(super) fn call_all(&mut self) -> bool {
        let are_there = self.called < self.asleep;
        self.called = self.asleep;
        are_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_called_twice_and_nobody_is_forgotten() {
        let mut sleepers = Sleepers::default();
        assert!(!sleepers.call_one() && !sleepers.call_all());
        sleepers.lie_down();
        sleepers.lie_down();
        assert!(sleepers.call_one() && sleepers.call_one());
        assert!(!sleepers.call_one(), "both were called");
        sleepers.get_up();
        sleepers.lie_down();
        assert!(sleepers.call_one(), "that one sleeps again");
        sleepers.get_up();
        sleepers.get_up();
        assert_eq!(sleepers.count(), 0);
        assert!(!sleepers.call_one());
    }

    #[test]
    fn one_who_gets_up_by_himself_takes_no_call_with_him() {
        let mut sleepers = Sleepers::default();
        sleepers.lie_down();
        sleepers.lie_down();
        // His time was up.
        sleepers.get_up();
        assert_eq!(sleepers.count(), 1);
        assert!(sleepers.call_one() && !sleepers.call_one());
        sleepers.lie_down();
        assert!(sleepers.call_all());
        assert!(!sleepers.call_all());
    }
}
