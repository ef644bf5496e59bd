//! What one item is: how many children, with attributes or without, side by side or nested.

use std::fmt;
use std::str::FromStr;

/// How deep [`Shape::Nested`] goes.
pub const DEPTH: u64 = 10;

/// The names that all peers give their spans and attributes, as literals where their macros want
/// those.
pub mod names {
    pub const ROOT_OP: &str = "queue.process";
    pub const ROOT: &str = "orders";
    pub const CHILD_OP: &str = "db.query";
    pub const CHILD: &str = "load order";
    /// Attributes of the root: a text and a number.
    pub const QUEUE: &str = "queue";
    pub const QUEUE_VALUE: &str = "orders-eu";
    pub const ATTEMPT: &str = "attempt";
    /// Of children by turns: a text, a number.
    pub const TABLE: &str = "table";
    pub const TABLE_VALUE: &str = "order_lines";
    pub const ROWS: &str = "rows";
}

/// One kind of item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub shape: Shape,
    /// Two on the root, a text and a number; one on each child, a text and a number by turns.
    pub attributes: bool,
    /// How many threads do this at the same time.
    pub threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// So many children of the root, one after the other.
    Flat(u64),
    /// A chain of [`DEPTH`] children, each inside of the one before it.
    Nested,
}

impl Work {
    /// All that are measured.
    pub const ALL: [Self; 10] = [
        Self::flat(1, false),
        Self::flat(1, true),
        Self::flat(3, false),
        Self::flat(3, true),
        Self::flat(5, false),
        Self::flat(5, true),
        Self::flat(20, false),
        Self::flat(20, true),
        Self { shape: Shape::Nested, attributes: false, threads: 1 },
        Self { threads: 2, ..Self::USUAL },
    ];

    /// The item of the chart.
    pub const USUAL: Self = Self::flat(3, true);

    const fn flat(children: u64, attributes: bool) -> Self {
        Self { shape: Shape::Flat(children), attributes, threads: 1 }
    }

    /// Spans of one item, its root included.
    #[must_use]
    pub const fn spans(self) -> u64 {
        match self.shape {
            Shape::Flat(children) => children + 1,
            Shape::Nested => DEPTH + 1,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape {
            Shape::Flat(children) => write!(f, "flat-{children}")?,
            Shape::Nested => write!(f, "nested-{DEPTH}")?,
        }
        f.write_str(if self.attributes { "-attributes" } else { "" })?;
        f.write_str(if self.threads > 1 { "-two-threads" } else { "" })
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|work| work.to_string() == text);
        found.ok_or_else(|| format!("no work is called {text:?}"))
    }
}
