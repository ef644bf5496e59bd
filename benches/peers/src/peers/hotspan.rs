//! hotspan, with names registered once ([`Statics`]) and with names as plain texts ([`Texts`]); and how
//! it sends over HTTP/2 ([`Multiplexed`]).
//!
//! The null runs encode: `Delivery::Null` throws away finished envelopes. The proof unpacks each of
//! them with a parser of its own and counts what it finds.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hotspan::transport::{Envelope, Response, SendError, Transport};
use hotspan::{Config, Delivery, Guard, HttpVersion, Name, start_child, start_transaction};

use crate::envelope::envelope_spans;
use crate::peer::{Absent, Mode, Peer};
use crate::work::{DEPTH, Shape, Work, names};

static ROOT_OP: Name = Name::new(names::ROOT_OP);
static ROOT: Name = Name::new(names::ROOT);
static CHILD_OP: Name = Name::new(names::CHILD_OP);
static CHILD: Name = Name::new(names::CHILD);
static QUEUE: Name = Name::new(names::QUEUE);
static ATTEMPT: Name = Name::new(names::ATTEMPT);
static TABLE: Name = Name::new(names::TABLE);
static ROWS: Name = Name::new(names::ROWS);

/// Spans that the proof found in envelopes.
static FOUND: AtomicU64 = AtomicU64::new(0);

/// What both have in common.
struct Running {
    guard: Option<Guard>,
    is_proof: bool,
}

pub struct Statics(Running);
pub struct Texts(Running);
pub struct Multiplexed(Statics);

/// One item, with these names.
macro_rules! item {
    ($work:ident, $n:ident, $root_op:expr, $root:expr, $child_op:expr, $child:expr,
     $queue:expr, $attempt:expr, $table:expr, $rows:expr) => {{
        fn nest(left: u64) {
            if left > 0 {
                let _span = start_child($child_op, $child);
                nest(black_box(left - 1));
            }
        }
        let mut transaction = start_transaction($root_op, $root);
        if $work.attributes {
            transaction.set_data($queue, names::QUEUE_VALUE).set_data($attempt, $n);
        }
        match $work.shape {
            Shape::Nested => nest(DEPTH),
            Shape::Flat(children) => {
                for child in 0..children {
                    let mut span = start_child($child_op, $child);
                    if $work.attributes {
                        match child % 2 {
                            0 => span.set_data($table, names::TABLE_VALUE),
                            _ => span.set_data($rows, child),
                        };
                    }
                    // Else the compiler would see that nothing happens, where nothing does.
                    black_box(&span);
                }
            }
        }
    }};
}

impl Peer for Statics {
    fn start(mode: Mode) -> Result<Self, Absent> {
        Running::start(mode, HttpVersion::Http1).map(Self)
    }

    fn item(&self, work: Work, n: u64) {
        item!(work, n, &ROOT_OP, &ROOT, &CHILD_OP, &CHILD, &QUEUE, &ATTEMPT, &TABLE, &ROWS);
    }

    fn settle(&self) {
        self.0.settle();
    }

    fn delivered(&self) -> Option<u64> {
        self.0.delivered()
    }

    fn booked(&self) -> Option<u64> {
        Some(hotspan::stats().delivered.spans)
    }

    fn complaint(&self) -> Option<String> {
        complaint()
    }
}

impl Peer for Texts {
    fn start(mode: Mode) -> Result<Self, Absent> {
        if let Mode::Send(_) = mode {
            return Err(Absent::NotOffered("it sends what the row with statics does"));
        }
        Running::start(mode, HttpVersion::Http1).map(Self)
    }

    fn item(&self, work: Work, n: u64) {
        use names::{ATTEMPT, CHILD, CHILD_OP, QUEUE, ROOT, ROOT_OP, ROWS, TABLE};
        item!(work, n, ROOT_OP, ROOT, CHILD_OP, CHILD, QUEUE, ATTEMPT, TABLE, ROWS);
    }

    fn settle(&self) {
        self.0.settle();
    }

    fn delivered(&self) -> Option<u64> {
        self.0.delivered()
    }

    fn booked(&self) -> Option<u64> {
        Some(hotspan::stats().delivered.spans)
    }

    fn complaint(&self) -> Option<String> {
        complaint()
    }
}

impl Peer for Multiplexed {
    fn start(mode: Mode) -> Result<Self, Absent> {
        if !matches!(mode, Mode::Send(_)) {
            return Err(Absent::NotOffered("it records as the row without HTTP/2 does"));
        }
        Running::start(mode, HttpVersion::Http2).map(|running| Self(Statics(running)))
    }

    fn item(&self, work: Work, n: u64) {
        self.0.item(work, n);
    }

    fn settle(&self) {
        self.0.settle();
    }

    fn delivered(&self) -> Option<u64> {
        self.0.delivered()
    }

    fn booked(&self) -> Option<u64> {
        self.0.booked()
    }

    fn complaint(&self) -> Option<String> {
        self.0.complaint()
    }
}

impl Running {
    fn start(mode: Mode, http_version: HttpVersion) -> Result<Self, Absent> {
        let (rate, transport) = match mode {
            Mode::Off => return Ok(Self { guard: None, is_proof: false }),
            Mode::Sampled => (1.0, Delivery::Null),
            Mode::Unsampled => (0.0, Delivery::Null),
            Mode::Proof => (1.0, Delivery::Custom(Arc::new(|| Box::new(Unpacking)))),
            Mode::Send(_) => (1.0, Delivery::Http),
        };
        let port = if let Mode::Send(port) = mode { port } else { 9 };
        let guard = hotspan::init(Config {
            dsn: Some(format!("http://0123456789abcdef0123456789abcdef@127.0.0.1:{port}/1")),
            traces_sample_rate: Some(rate),
            // Right for users; here halving the rate under pressure would look like a loss.
            enable_backpressure_handling: false,
            transport,
            http_version,
            ..Config::default()
        })?;
        Ok(Self { guard: Some(guard), is_proof: mode == Mode::Proof })
    }

    fn settle(&self) {
        if let Some(guard) = &self.guard {
            let _ = guard.flush(Duration::from_secs(10));
        }
    }

    fn delivered(&self) -> Option<u64> {
        self.guard.as_ref()?;
        let found = FOUND.load(Ordering::Relaxed);
        Some(if self.is_proof { found } else { hotspan::stats().delivered.spans })
    }
}

/// Unpacks what it gets.
struct Unpacking;

impl Transport for Unpacking {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        FOUND.fetch_add(envelope_spans(envelope.as_bytes()).unwrap_or(0), Ordering::Relaxed);
        Ok(Response::status(200))
    }
}

/// The books, when nothing is open or on the way.
fn complaint() -> Option<String> {
    let stats = hotspan::stats();
    if !stats.is_at_rest() {
        return Some(format!("not at rest:\n{stats}"));
    }
    stats.check().err().map(|imbalance| imbalance.to_string())
}
