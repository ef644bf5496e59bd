//! What no interleaving may show: of a ring's writer and its reader; of two writers, one of whom
//! waited for the other; of the threads that own a ring one after the other.
//!
//! Chunks have 2 slots, and the reserve is 1.

use loom::sync::Arc;
use loom::thread;

use crate::shared::free_list::FreeList;

use super::*;

const LIMIT: u64 = 6;

fn slot(n: u64) -> Slot {
    [n, n, 0, 0, 0, 0, 0, 0]
}

fn push(writer: &Writer, ring: &Ring, n: u64) -> bool {
    writer.room(ring, 1, || LIMIT) && {
        writer.put(ring, &slot(n));
        true
    }
}

fn numbers(slots: &[Slot]) -> Vec<u64> {
    slots
        .iter()
        .inspect(|slot| assert_eq!(slot[0], slot[1], "torn slot"))
        .map(|slot| slot[0])
        .collect()
}

/// FORBIDDEN: the reader gets a slot whose words were not written yet, or out of order.
#[test]
fn slot_seen_before_its_words_is_forbidden() {
    loom::model(|| {
        let arena = Arena::leaked(3);
        let ring = Arc::new(Ring::new(arena));
        let shared = Arc::clone(&ring);
        let thread = thread::spawn(move || {
            let writer = Writer::new();
            for n in 1..=3 {
                assert!(push(&writer, &shared, n));
                writer.publish(&shared);
            }
        });
        let mut got = Vec::new();
        ring.collect(&mut got, u64::MAX / 2);
        ring.collect(&mut got, u64::MAX / 2);
        let seen = numbers(&got);
        assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
        thread.join().unwrap();
        ring.collect(&mut got, u64::MAX / 2);
        assert_eq!(numbers(&got), [1, 2, 3]);
    });
}

/// FORBIDDEN: a chunk is written again while the reader still copies from it, or a slot is lost
/// or doubled when the chain runs through the same chunks again and again.
#[test]
fn slot_overwritten_before_it_was_read_is_forbidden() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let arena = Arena::leaked(2);
        let ring = Arc::new(Ring::new(arena));
        let shared = Arc::clone(&ring);
        let thread = thread::spawn(move || {
            let writer = Writer::new();
            let mut pushed = Vec::new();
            for n in 1..=5 {
                if push(&writer, &shared, n) {
                    pushed.push(n);
                    writer.publish(&shared);
                }
            }
            pushed
        });
        let mut got = Vec::new();
        ring.collect(&mut got, u64::MAX / 2);
        ring.collect(&mut got, u64::MAX / 2);
        let pushed = thread.join().unwrap();
        ring.collect(&mut got, u64::MAX / 2);
        assert_eq!(numbers(&got), pushed);
    });
}

/// FORBIDDEN: a retired ring is reset with a slot of its last owner unread, and a chunk goes
/// missing.
#[test]
fn slot_or_chunk_lost_at_retirement_is_forbidden() {
    loom::model(|| {
        let arena = Arena::leaked(3);
        let ring = Arc::new(Ring::new(arena));
        let shared = Arc::clone(&ring);
        let thread = thread::spawn(move || {
            let writer = Writer::new();
            shared.enliven();
            for n in 1..=3 {
                assert!(push(&writer, &shared, n));
            }
            writer.publish(&shared);
            shared.retire();
        });
        let mut got = Vec::new();
        if ring.state() == State::Retired {
            ring.collect(&mut got, u64::MAX / 2);
            assert_eq!(numbers(&got), [1, 2, 3]);
            ring.reset();
            assert_eq!(std::iter::from_fn(|| arena.take()).count(), 3);
        }
        thread.join().unwrap();
    });
}

/// FORBIDDEN: the next owner of a ring, or of its chunks, writes where the reader still reads.
#[test]
fn reuse_disturbing_the_reader_is_forbidden() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let arena = Arena::leaked(2);
        let first = Arc::new(Ring::new(arena));
        let second = Arc::new(Ring::new(arena));
        {
            let writer = Writer::new();
            first.enliven();
            assert!(push(&writer, &first, 1));
            assert!(push(&writer, &first, 2) || true);
            writer.publish(&first);
            first.retire();
        }
        let other = Arc::clone(&second);
        let thread = thread::spawn(move || {
            let writer = Writer::new();
            if push(&writer, &other, 7) {
                writer.publish(&other);
            }
        });
        let mut got = Vec::new();
        assert_eq!(first.state(), State::Retired);
        first.collect(&mut got, u64::MAX / 2);
        first.reset();
        let seen = numbers(&got);
        assert_eq!(seen.first(), Some(&1));
        thread.join().unwrap();
    });
}

/// What the flusher's walk does with one ring, without what it does with the slots.
fn look(ring: &Ring, got: &mut Vec<Slot>) -> State {
    // Before the last look: a retired ring grows no more.
    let state = ring.state();
    if state != State::Free {
        ring.collect(got, ring.waiting());
    }
    state
}

const CHILD: u64 = 1;
const ROOT: u64 = 2;

/// A child ends on one thread, which says so to another one; there its root ends.
struct Handover {
    /// In the order in which they are looked at: the child's, the root's.
    rings: [Ring; 2],
    /// Rings that the walk knows of, counted as the registry does: Relaxed.
    made: AtomicU32,
    /// The user's own channel.
    told: AtomicU32,
}

impl Handover {
    fn new(made: u32) -> Arc<Self> {
        let arena = Arena::leaked(2);
        Arc::new(Self {
            rings: [Ring::new(arena), Ring::new(arena)],
            made: AtomicU32::new(made),
            told: AtomicU32::new(0),
        })
    }

    /// A record that its thread publishes by itself.
    fn end(ring: &Ring, n: u64) {
        let writer = Writer::new();
        assert!(push(&writer, ring, n));
        writer.publish(ring);
    }

    fn child_ends(&self) {
        self.rings[0].enliven();
        Self::end(&self.rings[0], CHILD);
        // ORDERING: Release, with the Acquire in `root_ends`: a hand-over of the user's.
        self.told.store(1, Ordering::Release);
    }

    fn root_ends(&self) {
        // ORDERING: Acquire, with the Release in `child_ends`.
        if self.told.load(Ordering::Acquire) == 1 {
            Self::end(&self.rings[1], ROOT);
        }
    }

    /// A walk over what there is when it begins, the newest ring last.
    fn walk(&self, got: &mut Vec<Slot>) {
        let made = self.made.load(Ordering::Relaxed) as usize;
        for ring in self.rings.iter().rev().take(made).rev() {
            look(ring, got);
        }
    }

    /// The walk that finds the root, and the further one; then the root is handed on.
    fn root_is_handed_on_with_its_child(&self) {
        let mut got = Vec::new();
        self.walk(&mut got);
        if numbers(&got).contains(&ROOT) {
            self.walk(&mut got);
            assert!(numbers(&got).contains(&CHILD), "handed on without its child");
        }
    }
}

/// FORBIDDEN: a shared root is handed on after the further walk, and a child that had ended before
/// it on another thread was not seen.
#[test]
fn root_handed_on_without_an_earlier_child_is_forbidden() {
    loom::model(|| {
        let handover = Handover::new(2);
        handover.rings[1].enliven();
        let (child, root) = (Arc::clone(&handover), Arc::clone(&handover));
        let threads =
            [thread::spawn(move || child.child_ends()), thread::spawn(move || root.root_ends())];
        handover.root_is_handed_on_with_its_child();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// FORBIDDEN: the same, when the child's thread came after the walk that found the root had begun.
#[test]
fn root_handed_on_without_a_new_threads_child_is_forbidden() {
    loom::model(|| {
        let handover = Handover::new(1);
        handover.rings[1].enliven();
        let (child, root) = (Arc::clone(&handover), Arc::clone(&handover));
        let threads = [
            thread::spawn(move || {
                child.made.fetch_add(1, Ordering::Relaxed);
                child.child_ends();
            }),
            thread::spawn(move || root.root_ends()),
        ];
        handover.root_is_handed_on_with_its_child();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// What a thread owns and hands on, as the registry's lanes: a ring and its count of keys.
struct Lanes {
    ring: Ring,
    keys: AtomicU64,
    links: [AtomicU32; 1],
    free: FreeList,
}

impl Lanes {
    /// A thread's life: it takes the lane, goes on counting where the last owner ended, and ends.
    fn live(&self, records: u64) {
        let Some(0) = self.free.pop(&self.links) else { return };
        let writer = Writer::new();
        self.ring.enliven();
        for _ in 0..records {
            let key = self.keys.load(Ordering::Relaxed) + 1;
            self.keys.store(key, Ordering::Relaxed);
            assert!(push(&writer, &self.ring, key));
            writer.publish(&self.ring);
        }
        self.ring.retire();
    }

    /// A walk of the flusher.
    fn walk(&self, got: &mut Vec<Slot>) {
        if look(&self.ring, got) == State::Retired {
            self.ring.reset();
            self.free.push(&self.links, 0);
        }
    }
}

/// FORBIDDEN: when a thread takes over the ring of one that is gone, a record of either is lost or
/// doubled, or read with the other's words.
#[test]
fn record_lost_or_doubled_or_mixed_by_a_new_owner_is_forbidden() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let lanes = Arc::new(Lanes {
            ring: Ring::new(Arena::leaked(2)),
            keys: AtomicU64::new(0),
            links: [AtomicU32::new(0)],
            free: FreeList::new(),
        });
        lanes.free.push(&lanes.links, 0);
        let threads = [2, 1].map(|records| {
            let lanes = Arc::clone(&lanes);
            thread::spawn(move || lanes.live(records))
        });
        let mut got = Vec::new();
        lanes.walk(&mut got);
        lanes.walk(&mut got);
        for thread in threads {
            thread.join().unwrap();
        }
        lanes.walk(&mut got);
        let keys = lanes.keys.load(Ordering::Relaxed);
        assert_eq!(numbers(&got), (1..=keys).collect::<Vec<_>>());
        // All chunks are back.
        assert_eq!(std::iter::from_fn(|| lanes.ring.arena.take()).count(), 2);
    });
}
