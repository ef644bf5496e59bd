//! What recording threads need to know of the configuration: one word, and the seeds.
//!
//! ```text
//!   state:  - | threshold:20 | - | generation:12 | - | ruled:1 | on:1
//! ```
//!
//! # Invariants
//! * G1: the seeds and the slot limit are written before `state` says on, and not while it is on.
//! * G2: every `init` and every `close` changes the generation, so what ends in another generation
//!   than it began in can tell.
//!
//! # Orderings
//! | here | pairs with | licenses |
//! |---|---|---|
//! | `switch_on`: change of `state`, Release | `state`: load, Acquire | who sees "on" sees the seeds and the limit (G1), and the table that was put in force before |

use super::id::WireIds;
use super::sync::{AtomicU64, Ordering};

/// Bit of a state: recording is on.
pub(crate) const ON: u64 = 1;
/// Bit of a state: the threshold is not all there is to sampling, and is none: in its place stands
/// the tag of the table that says the rest.
pub(crate) const RULED: u64 = 2;
/// Bits of a state that hold the generation.
pub(crate) const GENERATION: u64 = 0xfff << GENERATION_SHIFT;
/// Bits of a state that hold the sampling threshold, in millionths.
pub(crate) const THRESHOLD: u64 = 0xf_ffff << THRESHOLD_SHIFT;
pub(crate) const THRESHOLD_SHIFT: u32 = 32;
const GENERATION_SHIFT: u32 = 18;

/// Everything that recording threads read.
#[derive(Debug)]
pub(crate) struct Settings {
    state: AtomicU64,
    ring_slots: AtomicU64,
    seeds: [AtomicU64; 4],
}

/// The settings of this process.
#[cfg(not(hotspan_loom))]
pub(crate) static SETTINGS: Settings = Settings {
    state: AtomicU64::new(0),
    ring_slots: AtomicU64::new(0),
    seeds: [const { AtomicU64::new(0) }; 4],
};

impl Settings {
    #[cfg(hotspan_loom)]
    fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            ring_slots: AtomicU64::new(0),
            seeds: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// The state word.
    #[inline]
    pub(crate) fn state(&self) -> u64 {
        // ORDERING: Acquire, with the Release in `switch_on`.
        self.state.load(Ordering::Acquire)
    }

    /// The state word, for those that read nothing else by it.
    #[inline]
    pub(crate) fn word(&self) -> u64 {
        self.state.load(Ordering::Relaxed)
    }

    /// Begins a generation. `sampling` is what [`sampling`] makes.
    pub(crate) fn switch_on(&self, wire: &WireIds, sampling: u64, ring_slots: u64) {
        for (to, from) in self.seeds.iter().zip(wire.seed) {
            to.store(from, Ordering::Relaxed);
        }
        self.ring_slots.store(ring_slots, Ordering::Relaxed);
        // ORDERING: Release, with the Acquire in `state` (G1).
        let (set, get) = (Ordering::Release, Ordering::Relaxed);
        let _ = self.state.fetch_update(set, get, |state| Some(next(state) | sampling | ON));
    }

    /// Changes how a generation samples, as long as it goes on: the one of `seen`, a state that was
    /// read before what `sampling` was made from.
    pub(crate) fn resample(&self, seen: u64, sampling: u64) {
        // Relaxed: a read-modify-write goes on with the release of `switch_on`, and hands nothing
        // over by itself.
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.state.fetch_update(set, get, |state| {
            let goes_on = (state ^ seen) & GENERATION == 0 && state & ON != 0;
            goes_on.then_some(state & !(THRESHOLD | RULED) | sampling)
        });
    }

    /// Ends a generation.
    pub(crate) fn switch_off(&self) {
        // Relaxed: nothing is handed over by going off.
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.state.fetch_update(set, get, |state| Some(next(state)));
    }

    /// Slots a thread may hold unread.
    pub(crate) fn ring_slots(&self) -> u64 {
        self.ring_slots.load(Ordering::Relaxed)
    }

    /// The seed of sampling draws.
    #[inline]
    pub(crate) fn sample_seed(&self) -> u64 {
        let [.., seed] = &self.seeds;
        seed.load(Ordering::Relaxed)
    }

    /// The mapping from keys to wire ids.
    pub(crate) fn wire_ids(&self) -> WireIds {
        WireIds {
            seed: std::array::from_fn(|n| match self.seeds.get(n) {
                Some(seed) => seed.load(Ordering::Relaxed),
                None => 0,
            }),
        }
    }
}

/// The generation after that of a state.
const fn next(state: u64) -> u64 {
    (state & GENERATION).wrapping_add(1 << GENERATION_SHIFT) & GENERATION
}

/// How transactions are sampled, as a state word has it: by a threshold in millionths, or by the
/// table of rules with this tag.
pub(crate) const fn sampling(threshold: u32, ruled: bool) -> u64 {
    (threshold as u64) << THRESHOLD_SHIFT & THRESHOLD | if ruled { RULED } else { 0 }
}

/// The threshold in a state word or in a root's `meta`, in millionths.
pub(crate) const fn threshold_of(word: u64) -> u32 {
    ((word & THRESHOLD) >> THRESHOLD_SHIFT) as u32
}

#[cfg(all(test, hotspan_loom))]
mod models {
    use loom::sync::Arc;
    use loom::thread;

    use super::super::arena::Arena;
    use super::super::layout::{Kind, Slot};
    use super::super::ring::{Ring, Writer};
    use super::*;

    /// FORBIDDEN: a thread sees that recording is on, and a seed or a limit from before.
    #[test]
    fn on_without_its_seeds_is_forbidden() {
        loom::model(|| {
            let settings = Arc::new(Settings::new());
            let reader = Arc::clone(&settings);
            let thread = thread::spawn(move || {
                if reader.state() & ON != 0 {
                    assert_eq!(reader.wire_ids().seed, [1, 2, 3, 4]);
                    assert_eq!(reader.ring_slots(), 6);
                }
            });
            // Here and not on the other thread, as loom begins with this one: it takes the writer's
            // own load of `state` for the only access its store competes with, and would not run
            // the store before the reader's load.
            settings.switch_on(&WireIds { seed: [1, 2, 3, 4] }, sampling(5, false), 6);
            thread.join().unwrap();
        });
    }

    const LIMIT: u64 = 6;

    fn slot(key: u64) -> Slot {
        [Kind::Child as u64, key, key, 0, 0, 0, 0, 0]
    }

    /// A recording thread with a transaction whose root is key 2.
    struct Owner {
        writer: Writer,
        taken_back: u64,
    }

    impl Owner {
        fn put(&self, ring: &Ring, key: u64) {
            assert!(self.writer.room(ring, 1, || LIMIT));
            self.writer.put(ring, &slot(key));
        }

        /// As `Local::close_root`: in another generation than `begun`, what was not published is
        /// taken back and counted.
        fn end_root(&mut self, settings: &Settings, ring: &Ring, begun: u64) {
            if (begun ^ settings.state()) & GENERATION == 0 {
                self.put(ring, 2);
                self.writer.publish(ring);
            } else {
                self.writer.each_private(ring, |_| self.taken_back += 1);
                self.writer.retreat(ring);
                self.taken_back += 1;
            }
        }
    }

    /// Off; the last looks; on again, and the look that discards. What each found: keys.
    fn close_and_begin_anew(settings: &Settings, ring: &Ring) -> (Vec<u64>, Vec<u64>) {
        let mut found = [Vec::new(), Vec::new()];
        let [collected, discarded] = &mut found;
        settings.switch_off();
        ring.collect(collected, ring.waiting());
        ring.collect(collected, ring.waiting());
        ring.collect(discarded, u64::MAX / 2);
        settings.switch_on(&WireIds { seed: [1, 2, 3, 4] }, sampling(5, false), 6);
        let [collected, discarded] = found.map(|slots| slots.iter().map(|slot| slot[1]).collect());
        (collected, discarded)
    }

    /// Runs an owner whose transaction ends against a shutdown and a new `init`. `published`: its
    /// child was published early.
    fn race(published: bool) {
        let settings = Arc::new(Settings::new());
        settings.switch_on(&WireIds { seed: [1, 2, 3, 4] }, sampling(5, false), 6);
        let ring = Arc::new(Ring::new(Arena::leaked(2)));
        let mut owner = Owner { writer: Writer::new(), taken_back: 0 };
        let begun = settings.state();
        owner.put(&ring, 1);
        if published {
            owner.writer.publish(&ring);
        }
        let (shared, of_owner) = (Arc::clone(&settings), Arc::clone(&ring));
        let thread = thread::spawn(move || {
            owner.end_root(&shared, &of_owner, begun);
            // Its next transaction, where it was taken back.
            owner.put(&of_owner, 3);
            owner.writer.publish(&of_owner);
            owner.taken_back
        });
        let (mut all, discarded) = close_and_begin_anew(&settings, &ring);
        all.extend(discarded);
        let taken_back = thread.join().unwrap();
        let mut left = Vec::new();
        ring.collect(&mut left, u64::MAX / 2);
        for slot in &left {
            assert_eq!(slot[1], slot[2], "torn slot");
        }
        all.extend(left.iter().map(|slot| slot[1]));
        match (taken_back, published) {
            (0, _) => assert_eq!(all, [1, 2, 3]),
            (1, true) => assert_eq!(all, [1, 3]),
            (2, false) => assert_eq!(all, [3]),
            _ => panic!("{taken_back} taken back of {all:?}"),
        }
    }

    fn bounded(published: bool) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || race(published));
    }

    /// FORBIDDEN: a root that ends while the library closes is neither collected, nor counted as
    /// taken back, nor left for the next generation; or it is two of these.
    #[test]
    fn root_lost_or_counted_twice_at_shutdown_is_forbidden() {
        bounded(false);
    }

    /// FORBIDDEN: the same; or what the reader has collected of a transaction is taken back.
    #[test]
    fn collected_child_taken_back_at_shutdown_is_forbidden() {
        bounded(true);
    }

    /// As `refresh` in `sampling/live.rs`: `table` is what is in force, and says how to sample.
    fn refresh(settings: &Settings, table: &AtomicU64) {
        let state = settings.state();
        let word = table.load(Ordering::Acquire);
        settings.resample(state, word);
    }

    const OLD: u64 = sampling(1, false);
    const CHANGED: u64 = sampling(2, true);
    const NEW: u64 = sampling(3, false);

    /// FORBIDDEN: a change of sampling that is late switches recording on again, or makes the next
    /// generation sample as the last one did.
    #[test]
    fn old_sampling_in_a_new_generation_is_forbidden() {
        loom::model(|| {
            let settings = Arc::new(Settings::new());
            let table = Arc::new(AtomicU64::new(OLD));
            settings.switch_on(&WireIds { seed: [1, 2, 3, 4] }, OLD, 6);
            let of_change = (Arc::clone(&settings), Arc::clone(&table));
            let thread = thread::spawn(move || {
                let (settings, table) = of_change;
                // The change of a table: lost if another one is in force by now.
                let (set, get) = (Ordering::AcqRel, Ordering::Acquire);
                let _ = table.compare_exchange(OLD, CHANGED, set, get);
                refresh(&settings, &table);
            });
            settings.switch_off();
            assert_eq!(settings.word() & ON, 0, "on again");
            table.swap(NEW, Ordering::AcqRel);
            settings.switch_on(&WireIds { seed: [1, 2, 3, 4] }, NEW, 6);
            assert_eq!(settings.word() & (THRESHOLD | RULED), NEW);
            thread.join().unwrap();
            let state = settings.word();
            assert_eq!(state & (THRESHOLD | RULED | ON), NEW | ON, "an old sampling");
        });
    }

    /// FORBIDDEN: recording is on after it was switched off, whatever was changed meanwhile.
    #[test]
    fn on_again_after_off_is_forbidden() {
        loom::model(|| {
            let settings = Arc::new(Settings::new());
            settings.switch_on(&WireIds { seed: [1, 2, 3, 4] }, OLD, 6);
            let changing = Arc::clone(&settings);
            let thread = thread::spawn(move || changing.resample(changing.state(), CHANGED));
            settings.switch_off();
            thread.join().unwrap();
            assert_eq!(settings.word() & ON, 0);
        });
    }
}
