//! A static that a forked process replaces by one of its own, without a lock and without touching
//! the one it was born with: who still holds that, or was at work on it when the process was
//! forked off, holds what is the parent's.

use once_cell::race::OnceBox;

/// The value of the first process of a line, and of each after it that wanted one of its own.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    value: T,
    next: OnceBox<Self>,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { value, next: OnceBox::new() }
    }

    /// The newest value. As many steps as there were forks, each of a process that was itself
    /// forked off, that called `init`.
    pub(crate) fn current(&'static self) -> &'static T {
        let mut newest = self;
        while let Some(next) = newest.next.get() {
            newest = next;
        }
        &newest.value
    }

    /// Puts a new value in the place of the newest. The old one is kept: it has readers.
    pub(crate) fn renew(&'static self, value: T) {
        let mut newest = self;
        let mut next = Box::new(Self::new(value));
        while let Err(ours) = newest.next.set(next) {
            next = ours;
            if let Some(theirs) = newest.next.get() {
                newest = theirs;
            }
        }
    }
}

#[cfg(all(test, not(hotspan_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_current_and_the_old_ones_stay() {
        static NUMBER: PerProcess<u32> = PerProcess::new(1);
        let first = NUMBER.current();
        NUMBER.renew(2);
        let second = NUMBER.current();
        NUMBER.renew(3);
        assert_eq!((*first, *second, *NUMBER.current()), (1, 2, 3));
    }
}
