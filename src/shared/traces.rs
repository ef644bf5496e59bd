//! The traces that open transactions continue: their ids and their sampling context, to be found by
//! the key of the transaction's root, from any thread.
//!
//! A transaction that continues a trace puts what came with it here when it starts, and takes it
//! out when it ends. Whoever wants headers for another service in between, on the same thread or on
//! one that the transaction was carried to, looks it up. What goes to the flusher is written into
//! the ring besides: nothing here outlives its transaction.
//!
//! A table of fixed size, searched from where the key's hash says, a few places on. A key is never
//! used twice, so a reader that finds its key before and after copying has copied what belongs to
//! it. A trace that finds no place is not handed on: its transaction sends no headers, rather than
//! wrong ones.
//!
//! # Invariants
//! * X1: the words of a place are written by who changed its owner from 0 to [`BUSY`], until they
//!   set it to their key.
//! * X2: a place is given up by changing its owner from the key to 0, by one thread: that who ends
//!   the transaction, or `clear`.
//!
//! # Orderings
//! | here | pairs with | licenses |
//! |---|---|---|
//! | `insert`: store of `owner`, Release | `read`: first load, Acquire | who finds the key sees the words written before |
//! | `insert`: fence Release after `BUSY` | `read`: fence Acquire before the second load | who copied a word of a later owner sees that the owner has changed |
//! | `insert`: store of `owner`, Release | a later `insert`: fence Acquire after `BUSY` | words of two owners are written in the order of the owners |
//!
//! The last pair goes over `remove`: that and the change to `BUSY` are read-modify-writes, which
//! carry on what the store released.
//!
//! # Limits
//! [`PLACES`] transactions at a time, [`DSC_MAX`] bytes of context each: 1 MiB, touched as used.

#[cfg(not(hotspan_loom))]
use once_cell::race::OnceBox;

use super::id::mix;
use super::sync::{AtomicU64, Ordering, fence};

/// Transactions that continue a trace and are open at the same time.
#[cfg(not(hotspan_loom))]
const PLACES: usize = 1024;
/// Transactions that continue a trace and are open at the same time: all in one place.
#[cfg(hotspan_loom)]
const PLACES: usize = 1;
/// Places that are looked at for one key.
#[cfg(not(hotspan_loom))]
const PROBES: usize = 8;
/// Places that are looked at for one key.
#[cfg(hotspan_loom)]
const PROBES: usize = 1;
/// Bytes of sampling context that are kept of a trace.
#[cfg(not(hotspan_loom))]
pub(crate) const DSC_MAX: usize = 960;
/// Bytes of sampling context that are kept of a trace.
#[cfg(hotspan_loom)]
pub(crate) const DSC_MAX: usize = 8;
const DSC_WORDS: usize = DSC_MAX / 8;
/// A place that is being written.
const BUSY: u64 = u64::MAX;

/// What a transaction continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Continued {
    pub(crate) trace_id: u128,
    /// The span there that this transaction is a child of.
    pub(crate) parent: u64,
    /// `sample_rand` of the trace, in millionths.
    pub(crate) rand: u32,
    /// As in [`continued`](super::layout::continued).
    pub(crate) flags: u32,
}

impl Continued {
    /// Nothing.
    pub(crate) const NONE: Self = Self { trace_id: 0, parent: 0, rand: 0, flags: 0 };
}

type Place = [AtomicU64; WORDS];
/// Owner, trace id, parent, rand and flags, length, unused, unused; then the context.
const HEAD: usize = 8;
const WORDS: usize = HEAD + DSC_WORDS;

#[cfg(not(hotspan_loom))]
static TABLE: OnceBox<Box<[Place]>> = OnceBox::new();

/// Puts in what a transaction continues; `dsc` beyond [`DSC_MAX`] is cut. The first call allocates.
/// False: there is no place.
#[cfg(not(hotspan_loom))]
pub(crate) fn insert(key: u64, continued: &Continued, dsc: &[u8]) -> bool {
    let table = TABLE.get_or_try_init(|| {
        bytemuck::allocation::try_zeroed_slice_box::<Place>(PLACES).map(Box::new)
    });
    table.is_ok_and(|table| insert_into(table, key, continued, dsc))
}

/// What the transaction with this key continues; `dsc` is given its context.
#[cfg(not(hotspan_loom))]
pub(crate) fn read(key: u64, dsc: impl FnMut(&[u8])) -> Option<Continued> {
    read_from(TABLE.get()?, key, dsc)
}

/// Takes out what the transaction with this key continued.
#[cfg(not(hotspan_loom))]
pub(crate) fn remove(key: u64) {
    if let Some(table) = TABLE.get() {
        remove_from(table, key);
    }
}

/// Takes out everything. In front of a session, when nothing is being put in: what was forgotten in
/// the last one, or was open in the process that this one was forked off, is not to take up places
/// for ever.
#[cfg(not(hotspan_loom))]
pub(crate) fn clear() {
    for [owner, ..] in TABLE.get().into_iter().flat_map(|table| table.iter()) {
        let key = owner.load(Ordering::Relaxed);
        if key != 0 && key != BUSY {
            give_up(owner, key);
        }
    }
}

fn places(table: &[Place], key: u64) -> impl Iterator<Item = &Place> {
    #[expect(clippy::cast_possible_truncation, reason = "taken modulo PLACES")]
    let first = mix(key) as usize;
    (0..PROBES).filter_map(move |probe| table.get(first.wrapping_add(probe) % PLACES))
}

fn insert_into(table: &[Place], key: u64, continued: &Continued, dsc: &[u8]) -> bool {
    // Relaxed: the words are only stored to, and what was read of them is judged by X1.
    let free = places(table, key).find(|[owner, ..]| {
        owner.load(Ordering::Relaxed) == 0
            && owner.compare_exchange(0, BUSY, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    });
    let Some([owner, high, low, parent, facts, length, _, _, context @ ..]) = free else {
        return false;
    };
    // ORDERING: Release fence, with the Acquire fence in `read`: no word below is seen without the
    // change of owner above. Acquire, with the Release store below of the place's last owner: its
    // words are older than these.
    fence(Ordering::AcqRel);
    let dsc = dsc.get(..DSC_MAX).unwrap_or(dsc);
    #[expect(clippy::cast_possible_truncation, reason = "halves")]
    for (to, word) in [
        (high, (continued.trace_id >> 64) as u64),
        (low, continued.trace_id as u64),
        (parent, continued.parent),
        (facts, u64::from(continued.rand) | u64::from(continued.flags) << 32),
        (length, dsc.len() as u64),
    ] {
        to.store(word, Ordering::Relaxed);
    }
    let (words, rest) = dsc.as_chunks();
    for (to, word) in context.iter().zip(words) {
        to.store(u64::from_le_bytes(*word), Ordering::Relaxed);
    }
    if let Some(to) = context.get(words.len()).filter(|_| !rest.is_empty()) {
        let mut word = [0; 8];
        word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        to.store(u64::from_le_bytes(word), Ordering::Relaxed);
    }
    // ORDERING: Release, with the first load in `read`: who sees the key sees the words.
    owner.store(key, Ordering::Release);
    true
}

fn read_from(table: &[Place], key: u64, mut dsc: impl FnMut(&[u8])) -> Option<Continued> {
    places(table, key).find_map(|place| {
        let [owner, high, low, parent, facts, length, _, _, context @ ..] = place;
        // ORDERING: Acquire, with the Release store in `insert`.
        if owner.load(Ordering::Acquire) != key {
            return None;
        }
        let [high, low, parent, facts, length] =
            [high, low, parent, facts, length].map(|word| word.load(Ordering::Relaxed));
        let mut bytes = [0; DSC_MAX];
        let length = usize::try_from(length).unwrap_or(0).min(DSC_MAX);
        for (to, from) in bytes.chunks_mut(8).zip(context).take(length.div_ceil(8)) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_le_bytes());
        }
        // ORDERING: Acquire fence, with the Release fence in `insert`.
        fence(Ordering::Acquire);
        if owner.load(Ordering::Relaxed) != key {
            return None;
        }
        dsc(bytes.get(..length).unwrap_or_default());
        #[expect(clippy::cast_possible_truncation, reason = "halves")]
        Some(Continued {
            trace_id: u128::from(high) << 64 | u128::from(low),
            parent,
            rand: facts as u32,
            flags: (facts >> 32) as u32,
        })
    })
}

fn remove_from(table: &[Place], key: u64) {
    if let Some([owner, ..]) =
        places(table, key).find(|[owner, ..]| owner.load(Ordering::Relaxed) == key)
    {
        give_up(owner, key);
    }
}

/// X2.
fn give_up(owner: &AtomicU64, key: u64) {
    // Relaxed: goes on with what `insert_into` released.
    let _ = owner.compare_exchange(key, 0, Ordering::Relaxed, Ordering::Relaxed);
}

#[cfg(all(test, not(hotspan_loom)))]
mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    const SOME: Continued =
        Continued { trace_id: 7 << 70 | 3, parent: 9, rand: 123_456, flags: 0xa };

    /// There is one table, and a test that fills it leaves no place to the others.
    static ALONE: Mutex<()> = Mutex::new(());

    fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn context(key: u64) -> Option<(Continued, Vec<u8>)> {
        let mut bytes = Vec::new();
        read(key, |dsc| bytes.extend_from_slice(dsc)).map(|continued| (continued, bytes))
    }

    #[test]
    fn comes_out_as_it_went_in_until_it_is_taken_out() {
        let _alone = alone();
        let key = 1 << 60 | 1;
        for length in [0, 1, 7, 8, 9, 500, DSC_MAX, DSC_MAX + 1] {
            let dsc: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
            assert!(insert(key, &SOME, &dsc));
            assert_eq!(context(key), Some((SOME, dsc[..length.min(DSC_MAX)].to_vec())));
            assert_eq!(context(key + 1), None);
            remove(key);
            assert_eq!(context(key), None);
        }
    }

    #[test]
    fn what_finds_no_place_is_refused_and_nothing_else_is_harmed() {
        let _alone = alone();
        let keys = (1_u64 << 59..).take(PLACES * 2);
        let (inside, outside): (Vec<u64>, Vec<u64>) =
            keys.partition(|key| insert(*key, &SOME, &key.to_le_bytes()));
        assert!(inside.len() > PLACES / 2 && !outside.is_empty());
        for key in &inside {
            assert_eq!(context(*key), Some((SOME, key.to_le_bytes().to_vec())));
        }
        assert!(outside.iter().all(|key| context(*key).is_none()));
        inside.iter().for_each(|key| remove(*key));
        assert!(inside.iter().all(|key| context(*key).is_none()));
    }

    #[test]
    fn readers_get_what_belongs_to_the_key_or_nothing() {
        let _alone = alone();
        let newest = AtomicU64::new(1 << 58);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut found = 0_u64;
                while !done.load(Ordering::Relaxed) {
                    let key = newest.load(Ordering::Relaxed);
                    if let Some((continued, dsc)) = context(key) {
                        found += 1;
                        assert_eq!(continued.parent, key);
                        let stamp = key.to_le_bytes();
                        assert!(dsc.chunks(8).all(|word| word == stamp), "torn");
                    }
                }
                found
            });
            let mut refused = 0;
            for key in 1 << 58..(1 << 58) + 200_000_u64 {
                let dsc = key.to_le_bytes().repeat(6);
                refused += u64::from(!insert(key, &Continued { parent: key, ..SOME }, &dsc));
                newest.store(key, Ordering::Relaxed);
                remove(key);
            }
            // First, as the reader is waited for whatever comes.
            done.store(true, Ordering::Relaxed);
            let _ = reader.join().unwrap();
            assert_eq!(refused, 0);
        });
    }
}

#[cfg(all(test, hotspan_loom))]
mod models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    type Table = Arc<[Place; PLACES]>;

    fn table() -> Table {
        Arc::new(std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))))
    }

    /// Every word says whose it is.
    fn put(table: &Table, key: u64) -> bool {
        let continued = Continued { trace_id: 0, parent: key, rand: 0, flags: 0 };
        insert_into(&table[..], key, &continued, &key.to_le_bytes())
    }

    /// What is read under a key: nothing, or what was put in under it.
    fn look(table: &Table, key: u64) -> bool {
        let mut context = Vec::new();
        let found = read_from(&table[..], key, |dsc| context.extend_from_slice(dsc));
        if let Some(found) = &found {
            assert_eq!(found.parent, key, "another trace's words");
            assert_eq!(context, key.to_le_bytes(), "another trace's context");
        }
        found.is_some()
    }

    fn bounded(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    /// FORBIDDEN: a reader finds a key, and not all words of it.
    #[test]
    fn key_without_its_words_is_forbidden() {
        bounded(|| {
            let table = table();
            let writer = Arc::clone(&table);
            let thread = thread::spawn(move || assert!(put(&writer, 1)));
            look(&table, 1);
            thread.join().unwrap();
            assert!(look(&table, 1));
        });
    }

    /// FORBIDDEN: a reader of a trace that is taken out meanwhile gets words of the one that is put
    /// in its place.
    #[test]
    fn words_of_another_key_are_forbidden() {
        bounded(|| {
            let table = table();
            assert!(put(&table, 1));
            let writer = Arc::clone(&table);
            let thread = thread::spawn(move || {
                remove_from(&writer[..], 1);
                assert!(put(&writer, 2));
            });
            look(&table, 1);
            look(&table, 2);
            thread.join().unwrap();
            assert!(look(&table, 2) && !look(&table, 1));
        });
    }

    /// FORBIDDEN: two traces get one place, or one of them is found in the other one's; or who
    /// takes a trace out that is out already takes out the next one.
    #[test]
    fn one_place_for_two_traces_is_forbidden() {
        bounded(|| {
            let table = table();
            assert!(put(&table, 1));
            let other = Arc::clone(&table);
            let thread = thread::spawn(move || {
                remove_from(&other[..], 1);
                put(&other, 2)
            });
            remove_from(&table[..], 1);
            let is_mine = put(&table, 3);
            let is_theirs = thread.join().unwrap();
            assert!(is_mine || is_theirs, "a free place was refused to both");
            assert!(!(is_mine && is_theirs), "two in one place");
            assert_eq!(look(&table, 3), is_mine, "taken out by another");
            assert_eq!(look(&table, 2), is_theirs, "taken out by another");
        });
    }
}
