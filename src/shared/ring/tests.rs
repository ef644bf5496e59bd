use super::*;
use crate::shared::layout::WORDS;

const ALL: u64 = u64::MAX / 2;

fn new(arena: &'static Arena) -> (&'static Arena, Ring, Writer) {
    (arena, Ring::new(arena), Writer::new())
}

fn slot(n: u64) -> Slot {
    [n; WORDS]
}

fn push(writer: &Writer, ring: &Ring, limit: u64, n: u64) -> bool {
    writer.room(ring, 1, || limit) && {
        writer.put(ring, &slot(n));
        true
    }
}

fn collected(ring: &Ring) -> Vec<u64> {
    let mut out = Vec::new();
    ring.collect(&mut out, ALL);
    out.iter()
        .map(|slot| {
            assert_eq!(slot, &[slot[0]; WORDS], "torn");
            slot[0]
        })
        .collect()
}

#[test]
fn nothing_is_seen_before_it_is_published() {
    let (_, ring, writer) = new(Arena::leaked(4));
    assert!(push(&writer, &ring, 1000, 1));
    assert!(collected(&ring).is_empty());
    writer.publish(&ring);
    assert_eq!(collected(&ring), [1]);
    assert!(collected(&ring).is_empty());
}

#[test]
fn slots_come_out_in_order_over_many_chunks_and_chunks_come_back() {
    let (arena, ring, writer) = new(Arena::leaked(4));
    let mut expected = 0;
    for n in 0..100 * CHUNK {
        assert!(push(&writer, &ring, ALL, n), "{n}");
        if n % 37 == 0 {
            writer.publish(&ring);
            for got in collected(&ring) {
                assert_eq!(got, expected);
                expected += 1;
            }
        }
    }
    writer.publish(&ring);
    expected += collected(&ring).len() as u64;
    assert_eq!(expected, 100 * CHUNK);
    ring.retire();
    ring.reset();
    assert_eq!(std::iter::from_fn(|| arena.take()).count(), 4);
}

#[test]
fn a_full_ring_takes_as_many_as_its_limit_says_and_roots_find_the_reserve() {
    let (_, ring, writer) = new(Arena::leaked(16));
    let limit = 3 * CHUNK + 5;
    let taken = (0..10 * CHUNK).filter(|n| push(&writer, &ring, limit, *n)).count() as u64;
    assert_eq!(taken, limit - RESERVE);
    for n in 0..RESERVE {
        assert!(writer.room_for_root(&ring, || limit), "root {n}");
        writer.put(&ring, &slot(n));
    }
    assert!(!writer.room_for_root(&ring, || limit));
    writer.publish(&ring);
    assert_eq!(collected(&ring).len() as u64, limit);
    assert!(push(&writer, &ring, limit, 1), "room again");
}

#[test]
fn an_empty_arena_fills_the_ring_and_roots_still_find_room() {
    let (_, ring, writer) = new(Arena::leaked(2));
    let taken = (0..10 * CHUNK).filter(|n| push(&writer, &ring, ALL, *n)).count() as u64;
    assert_eq!(taken, 2 * CHUNK - RESERVE);
    for _ in 0..RESERVE {
        assert!(writer.room_for_root(&ring, || ALL));
        writer.put(&ring, &slot(9));
    }
    assert!(!writer.room_for_root(&ring, || ALL));
}

#[test]
fn a_long_transaction_is_published_early() {
    let (_, ring, writer) = new(Arena::leaked(16));
    let limit = 4 * CHUNK;
    (0..2 * CHUNK).for_each(|n| assert!(push(&writer, &ring, limit, n)));
    assert_eq!(collected(&ring), (0..CHUNK).collect::<Vec<_>>());
}

#[test]
fn runs_of_slots_cross_chunk_edges_whole() {
    for before in 0..CHUNK {
        let (_, ring, writer) = new(Arena::leaked(4));
        (0..before).for_each(|n| assert!(push(&writer, &ring, ALL, n)));
        assert!(writer.room(&ring, 20, || ALL));
        (0..20).for_each(|n| writer.put(&ring, &slot(before + n)));
        writer.publish(&ring);
        assert_eq!(collected(&ring), (0..before + 20).collect::<Vec<_>>());
    }
}

#[test]
fn what_was_not_published_can_be_taken_back_from_anywhere() {
    for published in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1] {
        for private in [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK] {
            let (arena, ring, writer) = new(Arena::leaked(8));
            (0..published).for_each(|n| assert!(push(&writer, &ring, ALL, n)));
            writer.publish(&ring);
            (0..private).for_each(|_| assert!(push(&writer, &ring, ALL, 99)));
            let mut seen = 0;
            writer.each_private(&ring, |words| {
                assert_eq!(words, &slot(99));
                seen += 1;
            });
            assert_eq!(seen, private);
            writer.retreat(&ring);
            (published..published + 3 * CHUNK).for_each(|n| {
                assert!(push(&writer, &ring, ALL, n));
            });
            writer.publish(&ring);
            assert_eq!(collected(&ring), (0..published + 3 * CHUNK).collect::<Vec<_>>());
            ring.retire();
            ring.reset();
            assert_eq!(std::iter::from_fn(|| arena.take()).count(), 8);
        }
    }
}

#[test]
fn a_fast_writer_cannot_hold_the_reader() {
    let (_, ring, writer) = new(Arena::leaked(8));
    (0..2 * CHUNK).for_each(|n| assert!(push(&writer, &ring, ALL, n)));
    writer.publish(&ring);
    let mut out = Vec::new();
    assert_eq!(ring.collect(&mut out, 10), 10);
    assert_eq!(ring.waiting(), 2 * CHUNK - 10);
    assert_eq!(ring.collect(&mut out, ALL), 2 * CHUNK - 10);
}

#[test]
fn writer_and_reader_at_once_lose_and_tear_nothing() {
    let (_, ring, _) = new(Arena::leaked(6));
    let total = 2_000_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let writer = Writer::new();
            let mut n = 0;
            while n < total {
                if push(&writer, &ring, ALL, n) {
                    n += 1;
                    if n % 7 == 0 || n == total {
                        writer.publish(&ring);
                    }
                } else {
                    writer.publish(&ring);
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < total {
            for n in collected(&ring) {
                assert_eq!(n, expected);
                expected += 1;
            }
        }
    });
}

/// A slot whose last word is the checksum of the others.
fn sealed(n: u64) -> Slot {
    let mut slot: Slot = std::array::from_fn(|word| {
        (n ^ (word as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    });
    slot[0] = n;
    slot[WORDS - 1] = checksum(&slot);
    slot
}

fn checksum(slot: &Slot) -> u64 {
    slot[..WORDS - 1].iter().fold(17, |sum, word| sum.rotate_left(7) ^ word)
}

/// A billion (1e9) slots, each with a checksum, through one ring, with as many chunk changes as the
/// small chunks of tests make; roots' runs of 1 to 50 slots, taken back now and then.
#[test]
#[ignore = "takes minutes: run by scripts/ring-volume"]
fn ring_volume() {
    let total: u64 = std::env::var("RING_VOLUME").map_or(1_000_000_000, |n| n.parse().unwrap());
    let ring = Ring::new(Arena::leaked(16));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let writer = Writer::new();
            let (mut n, mut full, mut retreats) = (0, 0_u64, 0_u64);
            let mut run = 1;
            while n < total {
                let begin = n;
                while n < total && n - begin < run && writer.room(&ring, 1, || ALL) {
                    writer.put(&ring, &sealed(n));
                    n += 1;
                }
                if n - begin < run && n < total {
                    full += 1;
                    std::thread::yield_now();
                }
                run = run % 50 + 1;
                if n % 1009 == 0 && writer.private() == n - begin {
                    retreats += 1;
                    writer.retreat(&ring);
                    n = begin;
                    run += 1;
                }
                writer.publish(&ring);
            }
            (full, retreats)
        });
        let (mut expected, mut rounds) = (0, 0_u64);
        let mut out = Vec::new();
        while expected < total {
            out.clear();
            if ring.collect(&mut out, 4096) == 0 {
                std::thread::yield_now();
            }
            for slot in &out {
                assert_eq!(slot[0], expected, "lost, doubled or out of order");
                assert_eq!(slot[WORDS - 1], checksum(slot), "torn: {slot:?}");
                expected += 1;
            }
            rounds += 1;
        }
        let (full, retreats) = writing.join().unwrap();
        println!("{total} slots in order, {rounds} rounds, full {full}, taken back {retreats}");
    });
}

/// A ring against a list: pushes, publications, marks and going back to them, in any order.
#[test]
fn going_back_to_a_mark_leaves_what_was_there_before_it() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (_, ring, writer) = new(Arena::leaked(8));
        let (mut expected, mut published, mut got) = (Vec::new(), 0, Vec::new());
        let mut marks: Vec<(Mark, usize)> = Vec::new();
        for n in 0..3 * CHUNK {
            match random.u8(..20) {
                0 => {
                    writer.publish(&ring);
                    published = expected.len();
                    got.extend(collected(&ring));
                }
                1 => {
                    // As a root does: this may go on to the next chunk, with nothing in it yet.
                    if writer.room(&ring, 1, || ALL) {
                        marks.push((writer.mark(), expected.len()));
                    }
                }
                2 => {
                    // Only the innermost ones are kept, as transactions end.
                    if let Some((mark, len)) = marks.pop()
                        && len <= expected.len()
                    {
                        assert_eq!(writer.is_private_since(mark), published <= len);
                        if published <= len {
                            let mut seen = Vec::new();
                            writer.each_since(&ring, mark, |slot| seen.push(slot[0]));
                            assert_eq!(seen, expected[len..]);
                            writer.retreat_to(&ring, mark);
                            expected.truncate(len);
                        }
                    }
                }
                _ => {
                    for k in 0..random.u64(1..200) {
                        if push(&writer, &ring, ALL, n << 8 | k) {
                            expected.push(n << 8 | k);
                        }
                    }
                    if writer.private() > 3 * CHUNK {
                        writer.publish(&ring);
                        published = expected.len();
                    }
                }
            }
        }
        writer.publish(&ring);
        got.extend(collected(&ring));
        assert_eq!(got, expected, "seed {seed}");
    }
}

/// A root begins at a chunk's edge, behind something private, and fills that chunk and more.
#[test]
fn a_mark_at_the_edge_of_a_chunk_is_of_the_chunk_that_begins_there() {
    let (_, ring, writer) = new(Arena::leaked(8));
    (0..CHUNK).for_each(|n| assert!(push(&writer, &ring, ALL, n)));
    assert!(writer.room(&ring, 1, || ALL));
    let mark = writer.mark();
    (0..CHUNK + 1).for_each(|_| assert!(push(&writer, &ring, ALL, 99)));
    writer.retreat_to(&ring, mark);
    (CHUNK..3 * CHUNK).for_each(|n| assert!(push(&writer, &ring, ALL, n)));
    writer.publish(&ring);
    assert_eq!(collected(&ring), (0..3 * CHUNK).collect::<Vec<_>>());
}
