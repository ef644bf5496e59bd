//! What loom must not find.

use loom::sync::Arc;
use loom::thread;

use super::*;

fn entry(n: u64) -> Entry {
    Entry { key: n, root: n, ..Entry::default() }
}

/// Every interleaving in which threads are interrupted at most so many times.
fn check(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(model);
}

/// FORBIDDEN: a copy that was accepted holds words of two writes.
#[test]
fn torn_copy_is_forbidden() {
    check(3, || {
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
    check(3, || {
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
    check(3, || {
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
    check(2, || {
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
