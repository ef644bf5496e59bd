//! What a line of the stack says: an open span.

use crate::shared::layout::{PLAIN, Slot};
use crate::shared::sync::{AtomicU64, Ordering};

/// Words of an entry that are used.
#[cfg(not(hotspan_loom))]
pub(super) const USED: usize = 6;
/// Words of an entry that are used: two, as models pay for each.
#[cfg(hotspan_loom)]
pub(super) const USED: usize = 2;

/// Bits of an entry's `meta`, above the depth of its root. Where they stand, what the fast paths
/// look at is a mask of 32 bits, together with the generation (`settings.rs`).
pub(crate) mod meta {
    /// The entry's root, as a depth.
    pub(crate) const ROOT_DEPTH: u64 = 0x1ff;
    /// The entry is a transaction.
    pub(crate) const ROOT: u64 = 1 << 15;
    /// Not recorded: sampling said no. The key is 0, the real one stands in `root`.
    pub(crate) const UNSAMPLED: u64 = 1 << 12;
    /// Not recorded for want of room: it and its children are counted as they end.
    pub(crate) const REFUSED: u64 = 1 << 9;
    /// `start` is unix nanoseconds given by the caller.
    pub(crate) const START_UNIX: u64 = 1 << 11;
    /// A panic was unwinding when the span started: it is not the span's own.
    pub(crate) const BORN_PANICKING: u64 = 1 << 14;
    /// Not a span of this thread: it was entered here for a while, and ends elsewhere.
    pub(crate) const ENTERED: u64 = 1 << 16;
    /// The root's record will be written elsewhere: what ends here is published at once.
    pub(crate) const FOREIGN: u64 = 1 << 10;
    /// A root of which spans may be on other threads; a child that others may set things on.
    pub(crate) const SHARED: u64 = 1 << 13;
    /// What is set next takes a [`Kind::Turn`](crate::shared::layout::Kind::Turn) in front.
    pub(crate) const MOVED: u64 = 1 << 17;
    /// While a child is carried: `START_UNIX` of its root.
    pub(crate) const ROOT_START_UNIX: u64 = 1 << 52;
    /// A root whose end has to be looked at: it has a plan, or code asked for something.
    pub(crate) const PLANNED: u64 = 1 << 30;
    /// A root that continues a trace (`traces.rs`).
    pub(crate) const CONTINUED: u64 = 1 << 31;
    /// While a child is carried: `CONTINUED` of its root.
    pub(crate) const ROOT_CONTINUED: u64 = 1 << 53;
    /// On a planned root: the status that was set last is not ok.
    pub(crate) const FAILED: u64 = 1 << 54;
    /// On a planned root: code asked for it to be kept, or not to be.
    pub(crate) const KEEP: u64 = 1 << 55;
    pub(crate) const DISCARD: u64 = 1 << 56;
    /// On a planned root: the head kept it as the first of its name.
    pub(crate) const FIRST: u64 = 1 << 58;
    /// A step of its parent, which ends it: nobody holds a guard of it.
    pub(crate) const STEP: u64 = 1 << 59;
    /// On a root: its name has left the process, in headers.
    pub(crate) const FROZEN: u64 = 1 << 57;
    /// Anything that the fast path of an ending span leaves to the slow one.
    pub(crate) const UNUSUAL: u64 =
        REFUSED | START_UNIX | UNSAMPLED | FOREIGN | SHARED | PLANNED | CONTINUED;
}

/// An open span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: u64,
    pub(crate) root: u64,
    pub(crate) parent: u64,
    pub(crate) start: u64,
    /// op:32 | description:32
    pub(crate) names: u64,
    pub(crate) meta: u64,
}

impl Entry {
    /// Nothing.
    pub(crate) const NONE: Self = Self { key: 0, root: 0, parent: 0, start: 0, names: 0, meta: 0 };

    #[inline]
    pub(super) const fn words(&self) -> Slot {
        [self.key, self.root, self.parent, self.start, self.names, self.meta, 0, 0]
    }

    #[inline]
    pub(super) const fn of(words: &Slot) -> Self {
        let &[key, root, parent, start, names, meta, ..] = words;
        Self { key, root, parent, start, names, meta }
    }

    #[inline]
    pub(super) fn writer(&self) -> impl FnOnce(&[AtomicU64; 8]) {
        |line| {
            for (to, from) in line.iter().zip(self.words()).take(USED) {
                to.store(from, Ordering::Relaxed);
            }
        }
    }

    /// The depth at which the entry's root stands.
    #[inline]
    pub(crate) const fn root_depth(&self) -> usize {
        (self.meta & meta::ROOT_DEPTH) as usize
    }

    /// How long the span has been open.
    #[cfg(not(hotspan_loom))]
    pub(crate) fn age(&self, now: &crate::shared::clock::Anchor) -> std::time::Duration {
        now.age(self.start, self.meta & meta::START_UNIX != 0)
    }
}

/// What a child has that its parent does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewChild {
    pub(crate) key: u64,
    pub(crate) start: u64,
    /// op:32 | description:32
    pub(crate) names: u64,
    /// Bits that it has of its parent's `meta`, if the parent has them,
    pub(crate) inherits: u64,
    /// and others.
    pub(crate) flags: u64,
}

impl NewChild {
    #[inline]
    pub(super) fn writer(&self, parent: &[AtomicU64; 8]) -> impl FnOnce(&[AtomicU64; 8]) {
        let [its_key, its_root, _, _, _, its_meta, ..] = parent;
        |line| {
            let [key, root, parent, start, names, meta, header, value] = line;
            // What has a register first, so that it is free for the others.
            start.store(self.start, Ordering::Relaxed);
            names.store(self.names, Ordering::Relaxed);
            key.store(self.key, Ordering::Relaxed);
            root.store(its_root.load(Ordering::Relaxed), Ordering::Relaxed);
            parent.store(its_key.load(Ordering::Relaxed), Ordering::Relaxed);
            let inherited = its_meta.load(Ordering::Relaxed) & self.inherits;
            meta.store(inherited | self.flags, Ordering::Relaxed);
            header.store(PLAIN, Ordering::Relaxed);
            value.store(0, Ordering::Relaxed);
        }
    }
}
