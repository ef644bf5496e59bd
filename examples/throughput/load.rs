//! What is recorded, and how fast: items of a transaction and its children, flat out or paced.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hotspan::{Name, start_child, start_transaction};

static OP: Name = Name::new("queue.process");
static NAME: Name = Name::new("orders");
static CHILD_OP: Name = Name::new("db.query");
static CHILD: Name = Name::new("SELECT * FROM orders WHERE id = $1");

/// A paced thread records what is due so often.
const BEAT: Duration = Duration::from_millis(1);

/// Between two looks at the time, flat out.
const BURST: u32 = 64;

/// How fast to record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    FlatOut {
        threads: usize,
    },
    /// Spans a second, on one thread.
    Paced(f64),
}

/// A transaction with so many children.
pub(crate) fn item(children: u32) {
    let _transaction = start_transaction(&OP, &NAME);
    for _ in 0..children {
        drop(black_box(start_child(&CHILD_OP, &CHILD)));
    }
}

/// Records for so long.
pub(crate) fn record(pace: Pace, children: u32, time: Duration) {
    match pace {
        Pace::FlatOut { threads } => {
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        while !over.load(Ordering::Relaxed) {
                            (0..BURST).for_each(|_| item(children));
                        }
                    });
                }
                thread::sleep(time);
                over.store(true, Ordering::Relaxed);
            });
        }
        Pace::Paced(spans) => paced(spans / f64::from(children + 1), children, time),
    }
}

/// Items that are due by the time that has passed: what one beat was late for is made up by the
/// next.
fn paced(items_a_second: f64, children: u32, time: Duration) {
    let begun = Instant::now();
    let mut done = 0.0;
    loop {
        let passed = begun.elapsed().min(time);
        let due = passed.as_secs_f64() * items_a_second;
        while done < due {
            item(children);
            done += 1.0;
        }
        if passed == time {
            return;
        }
        thread::sleep(BEAT);
    }
}
