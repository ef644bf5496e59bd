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
//! The last two words are the owner's alone. Of a transaction: what was lost of it, and its plan; of a
//! child: how its record will begin, and end (`layout/fold.rs`).
//!
//! How long the stack is, and a version, are one word, the state. Starting a span writes an entry above
//! the length and then one state; ending it writes one state. Only an entry that is in use and changes
//! takes two, an odd version before and an even one after.
//!
//! # Invariants
//! * S1: one thread writes, and no two states are the same: each has another version.
//! * S2: an entry below the length is written only while the version is odd.
//! * S3: an entry at the length or above it may be written at any time. Whoever copies it meanwhile does
//!   so by a state in which it lay below, and finds another one afterwards.
//! * S4: an entry whose key is 0 is of no use to children: the span is over, or not recorded.
//! * S5: an entry with `ENTERED` is not the thread's own: its span is counted, and ended,
//!   elsewhere.
//!
//! # Orderings
//! | here | pairs with | licenses |
//! |---|---|---|
//! | `write_at`: fence Release before the words | `undisturbed`: fence Acquire before the second load of the state | a reader that saw a new word sees the state before it too (the odd one, or that which took the entry off), and throws its copy away |
//! | `set`: store of the state, Release | `undisturbed`: first load of the state, Acquire | a reader that starts from a state sees all words written before it |
//!
//! This is the form of Boehm (MSPC 2012), with every word an atomic.

use super::layout::{PLAIN, Slot};
use super::sync::{AtomicU64, Ordering, fence};

/// Open spans on one thread that can be told apart. What is opened deeper is not recorded, and
/// counted.
#[cfg(not(hotspan_loom))]
pub(crate) const DEPTH: usize = 256;
/// Open spans on one thread that can be told apart.
#[cfg(hotspan_loom)]
pub(crate) const DEPTH: usize = 2;

/// Tries of a reader before it gives up.
const TRIES: usize = 64;

/// Words of an entry that are used.
#[cfg(not(hotspan_loom))]
const USED: usize = 6;
/// Words of an entry that are used: two, as models pay for each.
#[cfg(hotspan_loom)]
const USED: usize = 2;

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
    /// A root of which spans may be on other threads.
    pub(crate) const SHARED: u64 = 1 << 13;
    /// What is set next takes a [`Kind::Turn`](super::super::layout::Kind::Turn) in front.
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
    pub(crate) const fn words(&self) -> Slot {
        [self.key, self.root, self.parent, self.start, self.names, self.meta, 0, 0]
    }

    #[inline]
    pub(crate) const fn of(words: &Slot) -> Self {
        let &[key, root, parent, start, names, meta, ..] = words;
        Self { key, root, parent, start, names, meta }
    }

    #[inline]
    fn writer(&self) -> impl FnOnce(&[AtomicU64; 8]) {
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
    pub(crate) fn age(&self, now: &super::clock::Anchor) -> std::time::Duration {
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
    fn writer(&self, parent: &[AtomicU64; 8]) -> impl FnOnce(&[AtomicU64; 8]) {
        let [its_key, its_root, _, _, _, its_meta, ..] = parent;
        |line| {
            let [key, root, parent, start, names, meta, header, value] = line;
            key.store(self.key, Ordering::Relaxed);
            root.store(its_root.load(Ordering::Relaxed), Ordering::Relaxed);
            parent.store(its_key.load(Ordering::Relaxed), Ordering::Relaxed);
            start.store(self.start, Ordering::Relaxed);
            names.store(self.names, Ordering::Relaxed);
            let inherited = its_meta.load(Ordering::Relaxed) & self.inherits;
            meta.store(inherited | self.flags, Ordering::Relaxed);
            header.store(PLAIN, Ordering::Relaxed);
            value.store(0, Ordering::Relaxed);
        }
    }
}

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

    /// Owner: the key of an entry.
    #[inline]
    pub(crate) fn key(&self, depth: usize) -> u64 {
        let [key, ..] = self.at(depth);
        key.load(Ordering::Relaxed)
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
        self.write_at(now.len(), entry.writer());
        self.set(now.longer());
    }

    /// Owner: the same of a child of the entry at `above`. Its words go from there to here at once,
    /// so that no register has to hold them meanwhile.
    #[inline]
    pub(crate) fn push_child(&self, now: State, above: usize, child: &NewChild) {
        self.write_at(now.len(), child.writer(self.at(above)));
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
        // ORDERING: Release fence, with the Acquire fence in `undisturbed`: no word below is seen
        // without the state before it.
        fence(Ordering::Release);
        write(self.at(depth));
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
        // ORDERING: Acquire fence, with the Release fence in `write_at`.
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

#[cfg(all(test, not(hotspan_loom)))]
mod tests {
    use super::*;

    fn entry(n: u64) -> Entry {
        Entry { key: n, root: n, parent: n, start: n, names: n, meta: n & !meta::ROOT_DEPTH }
    }

    #[test]
    fn reads_what_was_written_last_and_nothing_when_empty() {
        let spans = OpenSpans::leaked().unwrap();
        assert_eq!(spans.read(), None);
        spans.push(spans.state(), &entry(1 << 20));
        spans.push(spans.state(), &entry(2 << 20));
        assert_eq!(spans.read(), Some((entry(2 << 20), entry(1 << 20))));
        let mut lines = Vec::new();
        assert!(spans.read_all(&mut lines));
        assert_eq!(lines, [entry(1 << 20), entry(2 << 20)]);
        spans.shorten(1);
        assert_eq!(spans.read(), Some((entry(1 << 20), entry(1 << 20))));
        assert!(spans.read_all(&mut lines));
        assert_eq!(lines, [entry(1 << 20)]);
    }

    #[test]
    fn readers_never_see_a_torn_entry() {
        let spans = OpenSpans::leaked().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut lines = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        if spans.read_all(&mut lines)
                            && let [below, above] = &*lines
                        {
                            assert_eq!(below.key + (1 << 20), above.key);
                            assert_eq!(above.key, above.names);
                        }
                        if let Some((top, _)) = spans.read() {
                            assert!(
                                top.key == top.root && top.key == top.start && top.key == top.names,
                                "torn: {top:?}"
                            );
                        }
                    }
                });
            }
            spans.push(spans.state(), &entry(0));
            for n in 1..300_000_u64 {
                spans.write(0, &entry(n << 20));
                spans.push(spans.state(), &entry((n + 1) << 20));
                spans.pop(spans.state());
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    /// Mixes a number into what looks like any other (the finaliser of splitmix64).
    fn mixed(n: u64) -> u64 {
        let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ n >> 31
    }

    /// An entry whose names are a checksum of the rest.
    fn sealed(n: u64, root_depth: usize) -> Entry {
        let meta = mixed(n + 1) & !meta::ROOT_DEPTH | root_depth as u64;
        let mut entry = Entry {
            key: mixed(n),
            root: mixed(n + 2),
            parent: mixed(n + 3),
            start: mixed(n + 4),
            names: 0,
            meta,
        };
        entry.names = checksum(&entry);
        entry
    }

    fn checksum(entry: &Entry) -> u64 {
        [entry.key, entry.root, entry.parent, entry.start, entry.meta].into_iter().fold(7, mix)
    }

    fn mix(sum: u64, word: u64) -> u64 {
        (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    }

    /// Transactions with a child each, as fast as they go; how many spans, and the processor time
    /// they took, in nanoseconds.
    fn write_spans(spans: &OpenSpans, seconds: f64) -> (u64, u64) {
        let (begun, cpu) = (crate::shared::clock::monotonic(), processor_time());
        let mut n = 0;
        while (crate::shared::clock::monotonic() - begun).as_secs_f64() < seconds {
            for _ in 0..10_000 {
                spans.push(spans.state(), &sealed(n, 0));
                spans.push(spans.state(), &sealed(n + 1, 0));
                spans.pop(spans.state());
                spans.shorten(0);
                n += 2;
            }
        }
        (n, processor_time() - cpu)
    }

    /// Of the calling thread, in nanoseconds. Not the wall clock's: readers and the writer share
    /// the processors of the machine, and that is not what is asked.
    fn processor_time() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    }

    /// One writer flat out, four readers, every word under a checksum.
    #[test]
    #[ignore = "takes a minute: run by scripts/seqlock-readers"]
    fn seqlock_readers() {
        let seconds: f64 =
            std::env::var("SEQLOCK_SECONDS").map_or(60.0, |seconds| seconds.parse().unwrap());
        let spans = OpenSpans::leaked().unwrap();
        let per_second = |(written, cpu): (u64, u64)| written as f64 / (cpu as f64 / 1e9);
        let alone = per_second(write_spans(&spans, (seconds / 6.0).min(5.0)));
        let done = std::sync::atomic::AtomicBool::new(false);
        let (mut accepted, mut nothing, mut again) = (0_u64, 0_u64, 0_u64);
        let watched = std::thread::scope(|scope| {
            let readers = [(); 4].map(|()| {
                scope.spawn(|| {
                    let (mut accepted, mut nothing, mut again) = (0_u64, 0_u64, 0_u64);
                    while !done.load(Ordering::Relaxed) {
                        match spans.undisturbed(|len| spans.innermost(len)) {
                            Some(Some((top, root))) => {
                                assert_eq!(top.names, checksum(&top), "torn: {top:?}");
                                assert_eq!(root.names, checksum(&root), "torn: {root:?}");
                                accepted += 1;
                            }
                            Some(None) => nothing += 1,
                            None => again += 1,
                        }
                    }
                    (accepted, nothing, again)
                })
            });
            let watched = write_spans(&spans, seconds);
            done.store(true, Ordering::Relaxed);
            for reader in readers {
                let (a, b, c) = reader.join().unwrap();
                (accepted, nothing, again) = (accepted + a, nothing + b, again + c);
            }
            watched
        });
        assert!(accepted > 0 && again > 0, "readers and writer never met");
        println!(
            "{} spans opened and ended; {accepted} reads accepted, none torn, {nothing} found \
             nothing open, {again} had to look again",
            watched.0
        );
        println!(
            "the writer, per second of processor time: {:.1} million spans alone, {:.1} million \
             watched by four ({:.2})",
            alone / 1e6,
            per_second(watched) / 1e6,
            per_second(watched) / alone
        );
    }
}

#[cfg(all(test, hotspan_loom))]
mod models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    fn entry(n: u64) -> Entry {
        Entry { key: n, root: n, ..Entry::default() }
    }

    /// FORBIDDEN: a copy that was accepted holds words of two writes.
    #[test]
    fn torn_copy_is_forbidden() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let spans = Arc::new(OpenSpans::leaked().unwrap());
            let writer = Arc::clone(&spans);
            let thread = thread::spawn(move || {
                writer.push(writer.state(), &entry(1));
                writer.write(0, &entry(2));
            });
            if let Some((top, _)) = spans.read() {
                assert_eq!(top.key, top.root, "torn");
                assert_ne!(top.key, 0, "the length was seen without the entry");
            }
            thread.join().unwrap();
        });
    }

    /// FORBIDDEN: when a span has ended, the one below it is not seen as it was written.
    #[test]
    fn length_moved_back_seen_without_the_entries_below_is_forbidden() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let spans = Arc::new(OpenSpans::leaked().unwrap());
            let writer = Arc::clone(&spans);
            let thread = thread::spawn(move || {
                writer.push(writer.state(), &entry(1));
                writer.push(writer.state(), &entry(2));
                writer.pop(writer.state());
            });
            if let Some((top, root)) = spans.read() {
                assert_eq!(top.key, top.root, "torn");
                assert_eq!(root.key, 1);
            }
            thread.join().unwrap();
        });
    }

    /// FORBIDDEN: after a span ended and another began at its depth, a copy mixes the two.
    #[test]
    fn mixing_a_span_with_its_successor_is_forbidden() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let spans = Arc::new(OpenSpans::leaked().unwrap());
            spans.push(spans.state(), &entry(1));
            let writer = Arc::clone(&spans);
            let thread = thread::spawn(move || {
                writer.push(writer.state(), &entry(2));
                writer.pop(writer.state());
                writer.push(writer.state(), &entry(3));
            });
            if let Some((top, root)) = spans.read() {
                assert_eq!(top.key, top.root, "torn");
                assert_eq!(root.key, 1);
            }
            thread.join().unwrap();
        });
    }

    /// FORBIDDEN: of two readers, one after the other, either copy is torn, or the second one's is
    /// older than the first one's.
    #[test]
    fn second_reader_seeing_a_torn_or_an_older_copy_is_forbidden() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(|| {
            let spans = Arc::new(OpenSpans::leaked().unwrap());
            spans.push(spans.state(), &entry(1));
            let told = Arc::new(AtomicU64::new(0));
            let (writer, first, tell) = (Arc::clone(&spans), Arc::clone(&spans), Arc::clone(&told));
            let threads = [
                thread::spawn(move || writer.write(0, &entry(2))),
                thread::spawn(move || {
                    if let Some(Some((top, _))) = first.undisturbed(|len| first.innermost(len)) {
                        assert_eq!(top.key, top.root, "torn");
                        // ORDERING: Release, with the Acquire below: a hand-over of the user's.
                        tell.store(top.key, Ordering::Release);
                    }
                }),
            ];
            // ORDERING: Acquire, with the Release above.
            let before = told.load(Ordering::Acquire);
            match spans.undisturbed(|len| spans.innermost(len)) {
                Some(Some((top, _))) => {
                    assert_eq!(top.key, top.root, "torn");
                    assert!(top.key >= before, "{before}, then {}", top.key);
                }
                Some(None) => panic!("nothing, after {before}"),
                None => {}
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }
}
