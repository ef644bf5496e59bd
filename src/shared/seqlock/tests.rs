//! The stack, read while it is written.

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
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut lines = Vec::new();
                while done.load(Ordering::Relaxed) == 0 {
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
        done.store(1, Ordering::Relaxed);
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
    let done = AtomicU64::new(0);
    let (mut accepted, mut nothing, mut again) = (0_u64, 0_u64, 0_u64);
    let watched = std::thread::scope(|scope| {
        let readers = [(); 4].map(|()| {
            scope.spawn(|| {
                let (mut accepted, mut nothing, mut again) = (0_u64, 0_u64, 0_u64);
                while done.load(Ordering::Relaxed) == 0 {
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
        done.store(1, Ordering::Relaxed);
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
