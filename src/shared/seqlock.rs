//! The open spans of one thread, as a stack that its owner changes and that any thread can read.
//!
//! The owner writes an entry when a span starts and moves the length back when it ends. Readers
//! (the list of what is in flight) copy an entry and check that nothing was written meanwhile. The
//! owner never waits; a reader tries again, a bounded number of times.
//!
//! ```text
//!   entry:  key | root | parent | start | names | meta | two more  one cache line
//!   meta:   flags:8 | (threshold:20) | flags:2 | generation:12 | flags:9 | root's depth:9
//! ```
//!
//! The last two words are the owner's alone. Of a transaction: what was lost of it, and its plan;
//! of a child: how its record will begin, and end (`layout/fold.rs`).
//!
//! How long the stack is, and a version, are one word, the state. Starting a span writes an entry
//! above the length and then one state; ending it writes one state. Only an entry that is in use
//! and changes takes two, an odd version before and an even one after.
//!
//! # Invariants
//! * S1: one thread writes, and each state has another version (until 2^47 of them have passed).
//! * S2: an entry below the length is written only while the version is odd.
//! * S3: an entry at the length or above it may be written at any time. Whoever copies it meanwhile
//!   does so by a state in which it lay below, and finds another one afterwards.
//! * S4: an entry whose key is 0 is of no use to children: the span is over, or not recorded.
//! * S5: an entry with `ENTERED` is not the thread's own: its span is counted, and ended,
//!   elsewhere.
//!
//! # Orderings
//! | here | pairs with | licenses |
//! |---|---|---|
//! | `write_line`: fence Release before the words | `undisturbed`: fence Acquire before the second load of the state | a reader that saw a new word sees the state before it too (the odd one, or that which took the entry off), and throws its copy away |
//! | `set`: store of the state, Release | `undisturbed`: first load of the state, Acquire | a reader that starts from a state sees all words written before it |
//!
//! This is the form of Boehm (MSPC 2012), with every word an atomic.

use super::sync::{AtomicU64, Ordering, fence};

mod entry;

pub(crate) use entry::{Entry, NewChild, meta};

use entry::USED;

/// Open spans on one thread that can be told apart. What is opened deeper is not recorded, and
/// counted.
#[cfg(not(hotspan_loom))]
pub(crate) const DEPTH: usize = 256;
/// Open spans on one thread that can be told apart.
#[cfg(hotspan_loom)]
pub(crate) const DEPTH: usize = 2;

/// Tries of a reader before it gives up.
const TRIES: usize = 64;

/// How many entries there are, and which version of them that is: `version:48 | length:16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(u64);

impl State {
    const LENGTH: u64 = 0xffff;
    const VERSION: u64 = 1 << 16;

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "at most DEPTH")]
    pub(crate) const fn len(self) -> usize {
        self.0 as u16 as usize
    }

    const fn is_odd(self) -> bool {
        self.0 & Self::VERSION != 0
    }

    const fn odd(self) -> Self {
        Self(self.0.wrapping_add(Self::VERSION))
    }

    #[inline]
    const fn longer(self) -> Self {
        Self(self.0.wrapping_add(2 * Self::VERSION + 1))
    }

    /// Of what is not empty.
    #[inline]
    const fn shorter(self) -> Self {
        Self(self.0.wrapping_add(2 * Self::VERSION - 1))
    }

    #[inline]
    const fn of_length(self, len: usize) -> Self {
        Self((self.0 & !Self::LENGTH | len as u64).wrapping_add(2 * Self::VERSION))
    }
}

/// The stack.
#[derive(Debug)]
pub(crate) struct OpenSpans {
    state: AtomicU64,
    entries: &'static [[AtomicU64; 8]; DEPTH],
}

impl OpenSpans {
    /// An empty stack, its memory leaked: it belongs to a ring, and rings are for ever.
    #[cfg(not(hotspan_loom))]
    pub(crate) fn leaked() -> Option<Self> {
        let memory = bytemuck::allocation::try_zeroed_slice_box::<[AtomicU64; 8]>(DEPTH).ok()?;
        let entries = Box::leak(memory).first_chunk::<DEPTH>()?;
        Some(Self { state: AtomicU64::new(0), entries })
    }

    #[cfg(hotspan_loom)]
    pub(crate) fn leaked() -> Option<Self> {
        let entries = Box::leak(Box::new(std::array::from_fn(|_| {
            std::array::from_fn(|_| AtomicU64::new(0))
        })));
        Some(Self { state: AtomicU64::new(0), entries })
    }

    /// Owner: an entry of its own stack.
    #[inline]
    pub(crate) fn at(&self, depth: usize) -> &[AtomicU64; 8] {
        #[expect(clippy::indexing_slicing, reason = "masked to the stack's length")]
        &self.entries[depth % DEPTH]
    }

    /// Owner: the entry at `above` and the next one, if there are both.
    #[inline]
    pub(crate) fn pair(&self, above: usize) -> Option<&[[AtomicU64; 8]; 2]> {
        self.entries.get(above..)?.first_chunk()
    }

    /// Owner: an entry, decoded.
    #[inline]
    pub(crate) fn entry(&self, depth: usize) -> Entry {
        let [key, root, parent, start, names, meta, ..] = self.at(depth);
        Entry {
            key: key.load(Ordering::Relaxed),
            root: root.load(Ordering::Relaxed),
            parent: parent.load(Ordering::Relaxed),
            start: start.load(Ordering::Relaxed),
            names: names.load(Ordering::Relaxed),
            meta: meta.load(Ordering::Relaxed),
        }
    }

    /// Owner: what there is now.
    #[inline]
    pub(crate) fn state(&self) -> State {
        State(self.state.load(Ordering::Relaxed))
    }

    /// Owner: how many entries there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.state().len()
    }

    /// Owner: writes an entry on top (S3).
    #[inline]
    pub(crate) fn push(&self, now: State, entry: &Entry) {
        self.push_at(now.len(), now, entry);
    }

    /// Owner: the same where it is known at which depth the top is.
    #[inline]
    pub(crate) fn push_at(&self, depth: usize, now: State, entry: &Entry) {
        self.write_at(depth, entry.writer());
        self.set(now.longer());
    }

    /// Owner: the same of a child of the entry at `above`. Its words go from there to here at once,
    /// so that no register has to hold them meanwhile.
    #[inline]
    pub(crate) fn push_child(&self, now: State, above: usize, child: &NewChild) {
        self.write_at(now.len(), child.writer(self.at(above)));
        self.set(now.longer());
    }

    /// Owner: the same where both lines are at hand: that of the topmost entry, and the next one.
    #[inline]
    pub(crate) fn push_child_on(&self, now: State, lines: &[[AtomicU64; 8]; 2], child: &NewChild) {
        let [above, line] = lines;
        write_line(line, child.writer(above));
        self.set(now.longer());
    }

    /// Owner: writes an entry that is there already (S2).
    #[inline]
    pub(crate) fn write(&self, depth: usize, entry: &Entry) {
        self.rewrite(depth, entry.writer());
    }

    /// Owner: writes a child of the entry at `above` over one that is there already (S2).
    #[inline]
    pub(crate) fn write_child(&self, depth: usize, above: usize, child: &NewChild) {
        self.rewrite(depth, child.writer(self.at(above)));
    }

    /// Owner: takes off the topmost entry.
    #[inline]
    pub(crate) fn pop(&self, now: State) {
        self.set(now.shorter());
    }

    /// Owner: moves the length back.
    #[inline]
    pub(crate) fn shorten(&self, len: usize) {
        self.set(self.state().of_length(len));
    }

    #[inline]
    fn rewrite(&self, depth: usize, write: impl FnOnce(&[AtomicU64; 8])) {
        let now = self.state();
        self.set(now.odd());
        self.write_at(depth, write);
        self.set(now.of_length(now.len()));
    }

    #[inline]
    fn write_at(&self, depth: usize, write: impl FnOnce(&[AtomicU64; 8])) {
        write_line(self.at(depth), write);
    }

    #[inline]
    fn set(&self, state: State) {
        // ORDERING: Release, with the first load in `undisturbed`: who sees this state sees the
        // words.
        self.state.store(state.0, Ordering::Release);
    }

    /// Anyone: how many recorded spans of this thread are open; exact when the owner stands still.
    #[cfg(not(hotspan_loom))]
    pub(crate) fn open(&self) -> super::ledger::Count {
        let mut open = super::ledger::Count::default();
        for entry in (0..self.len().min(DEPTH)).map(|depth| self.copy(depth)) {
            if entry.key == 0 || entry.meta & meta::ENTERED != 0 {
                continue;
            }
            open.spans += 1;
            open.transactions += u64::from(entry.meta & meta::ROOT != 0);
        }
        open
    }

    /// Anyone: the innermost entry, and its transaction's; `None` when nothing is open, or when the
    /// owner was faster [`TRIES`] times.
    pub(crate) fn read(&self) -> Option<(Entry, Entry)> {
        self.consistently(|len| self.innermost(len))?
    }

    /// Anyone: all entries, outermost first, into `lines`, which is cleared first. False when the
    /// owner was faster [`TRIES`] times.
    #[cfg(not(hotspan_loom))]
    pub(crate) fn read_all(&self, lines: &mut Vec<Entry>) -> bool {
        let read = self.consistently(|len| {
            lines.clear();
            lines.extend((0..len.min(DEPTH)).map(|depth| self.copy(depth)));
        });
        read.is_some()
    }

    fn innermost(&self, len: usize) -> Option<(Entry, Entry)> {
        let entry = self.copy(len.checked_sub(1)?);
        Some((entry, self.copy(entry.root_depth())))
    }

    /// What `copy` makes of the stack, given its length, at a moment at which nothing was written.
    fn consistently<T>(&self, mut copy: impl FnMut(usize) -> T) -> Option<T> {
        for _ in 0..TRIES {
            let copied = self.undisturbed(&mut copy);
            if copied.is_some() {
                return copied;
            }
            #[cfg(hotspan_loom)]
            loom::thread::yield_now();
            #[cfg(not(hotspan_loom))]
            std::hint::spin_loop();
        }
        None
    }

    /// One try of [`consistently`](Self::consistently): `None` when the owner was writing.
    fn undisturbed<T>(&self, copy: impl FnOnce(usize) -> T) -> Option<T> {
        // ORDERING: Acquire, with the Release store in `set`.
        let before = State(self.state.load(Ordering::Acquire));
        if before.is_odd() {
            return None;
        }
        let copied = copy(before.len());
        // ORDERING: Acquire fence, with the Release fence in `write_line`.
        fence(Ordering::Acquire);
        (self.state() == before).then_some(copied)
    }

    fn copy(&self, depth: usize) -> Entry {
        let mut words = [0; 8];
        for (to, from) in words.iter_mut().zip(self.at(depth)).take(USED) {
            *to = from.load(Ordering::Relaxed);
        }
        Entry::of(&words)
    }
}

#[inline]
fn write_line(line: &[AtomicU64; 8], write: impl FnOnce(&[AtomicU64; 8])) {
    // ORDERING: Release fence, with the Acquire fence in `undisturbed`: no word below is seen
    // without the state before it.
    fence(Ordering::Release);
    write(line);
}

#[cfg(all(test, not(hotspan_loom)))]
mod tests;

#[cfg(all(test, hotspan_loom))]
mod models;
