//! A lock-free stack of small numbers: which chunks, and which rings, are free.
//!
//! Numbers are linked through an array that the owner of the things keeps beside them (`links[n]`
//! is what lies under `n`), so pushing and popping allocate nothing and cannot fail. Last in, first
//! out: what was used last is touched first, and memory that was never needed is never touched.
//!
//! ```text
//!   top:  [ turn:32 | number + 1 ]  ->  links[number]  ->  ...  ->  0
//! ```
//!
//! # Invariants
//! * F1: `turn` goes up by one at every change of `top`, so a thread that slept between its load
//!   and its exchange cannot mistake a returned number for the one it saw (until 2^32 changes lie
//!   between).
//! * F2: `links[n]` is written only by whoever holds `n`.
//!
//! # Orderings
//! | here | pairs with | licenses |
//! |---|---|---|
//! | `push`: exchange, Release | `pop`: loads of `top`, Acquire | whoever pops `n` sees all that its last holder did with it |

use super::sync::{AtomicU32, AtomicU64, Ordering};

/// A stack of numbers below 2^32 - 1.
#[derive(Debug)]
pub(crate) struct FreeList {
    top: AtomicU64,
}

const fn top_of(turn: u64, link: u32) -> u64 {
    turn << 32 | link as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is the link")]
const fn link_of(top: u64) -> u32 {
    top as u32
}

impl FreeList {
    #[cfg(not(hotspan_loom))]
    pub(crate) const fn new() -> Self {
        Self { top: AtomicU64::new(0) }
    }

    #[cfg(hotspan_loom)]
    pub(crate) fn new() -> Self {
        Self { top: AtomicU64::new(0) }
    }

    /// Gives `number` back. Its holder must not touch what it stands for afterwards (F2).
    pub(crate) fn push(&self, links: &[AtomicU32], number: u32) {
        let Some(link) = links.get(number as usize) else { return };
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            link.store(link_of(top), Ordering::Relaxed);
            let next = top_of((top >> 32) + 1, number + 1);
            // ORDERING: Release, with the Acquire loads in `pop`: what this holder read and wrote
            // comes before what the next one does.
            match self.top.compare_exchange_weak(top, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => top = seen,
            }
        }
    }

    /// Takes a number, if there is one.
    pub(crate) fn pop(&self, links: &[AtomicU32]) -> Option<u32> {
        // ORDERING: Acquire, with the Release exchange in `push`.
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let number = link_of(top).checked_sub(1)?;
            let under = links.get(number as usize)?.load(Ordering::Relaxed);
            let next = top_of((top >> 32) + 1, under);
            // Success may be Relaxed: the value exchanged is the one acquired above (F1), and a
            // read-modify-write keeps the pushers' releases going for those who come later.
            // ORDERING: Acquire on failure, with the Release exchange in `push`: `seen` is used
            // next.
            match self.top.compare_exchange_weak(top, next, Ordering::Relaxed, Ordering::Acquire) {
                Ok(_) => return Some(number),
                Err(seen) => top = seen,
            }
        }
    }
}

#[cfg(all(test, not(hotspan_loom)))]
mod tests {
    use super::*;

    #[test]
    fn last_in_is_first_out_and_empty_is_none() {
        let links: Vec<AtomicU32> = (0..4).map(|_| AtomicU32::new(0)).collect();
        let free = FreeList::new();
        assert_eq!(free.pop(&links), None);
        for number in 0..4 {
            free.push(&links, number);
        }
        let popped: Vec<u32> = std::iter::from_fn(|| free.pop(&links)).collect();
        assert_eq!(popped, [3, 2, 1, 0]);
    }

    #[test]
    fn no_number_is_held_twice() {
        let links: Vec<AtomicU32> = (0..8).map(|_| AtomicU32::new(0)).collect();
        let held: Vec<AtomicU32> = (0..8).map(|_| AtomicU32::new(0)).collect();
        let free = FreeList::new();
        (0..8).for_each(|number| free.push(&links, number));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        if let Some(number) = free.pop(&links) {
                            let before = held[number as usize].fetch_add(1, Ordering::Relaxed);
                            assert_eq!(before, 0, "two hold {number}");
                            held[number as usize].fetch_sub(1, Ordering::Relaxed);
                            free.push(&links, number);
                        }
                    }
                });
            }
        });
        assert_eq!(std::iter::from_fn(|| free.pop(&links)).count(), 8);
    }
}

#[cfg(all(test, hotspan_loom))]
mod models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    struct Pool {
        free: FreeList,
        links: Vec<AtomicU32>,
        words: Vec<AtomicU64>,
    }

    fn pool(numbers: u32) -> Arc<Pool> {
        let pool = Pool {
            free: FreeList::new(),
            links: (0..numbers).map(|_| AtomicU32::new(0)).collect(),
            words: (0..numbers).map(|_| AtomicU64::new(0)).collect(),
        };
        (0..numbers).for_each(|number| pool.free.push(&pool.links, number));
        Arc::new(pool)
    }

    /// FORBIDDEN: a holder reads a word older than the last holder's write, or shares a number.
    #[test]
    fn next_holder_missing_the_last_ones_writes_is_forbidden() {
        loom::model(|| {
            let pool = pool(1);
            let other = Arc::clone(&pool);
            let work = |pool: &Pool| {
                let Some(number) = pool.free.pop(&pool.links) else { return 0 };
                let word = &pool.words[number as usize];
                let seen = word.load(Ordering::Relaxed);
                word.store(seen + 1, Ordering::Relaxed);
                pool.free.push(&pool.links, number);
                1
            };
            let thread = thread::spawn(move || work(&other));
            let mine = work(&pool);
            let theirs = thread.join().unwrap();
            assert_eq!(pool.words[0].load(Ordering::Relaxed), mine + theirs);
        });
    }

    /// FORBIDDEN: after a lost exchange, the number taken instead is held without its writes.
    #[test]
    fn retried_pop_missing_a_push_is_forbidden() {
        loom::model(|| {
            let pool = pool(2);
            let other = Arc::clone(&pool);
            let thread = thread::spawn(move || {
                if let Some(number) = other.free.pop(&other.links) {
                    other.words[number as usize].store(7, Ordering::Relaxed);
                    other.free.push(&other.links, number);
                }
            });
            let first = pool.free.pop(&pool.links);
            let second = pool.free.pop(&pool.links);
            thread.join().unwrap();
            if let (Some(first), Some(second)) = (first, second) {
                assert_ne!(first, second);
            }
        });
    }
}
