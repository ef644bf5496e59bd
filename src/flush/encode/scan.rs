//! The index of a run: which slot is the root, where the children are, whose each attribute is.
//!
//! One pass over the slots and two sorts of small vectors, which are reused. A run comes nearly
//! sorted (keys count up), so the sorts are mostly one more pass.

use crate::shared::layout::{self, AttributeHeader, Kind, Slot, SpanRecord};

/// Why a run is no transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// No root record.
    NoRoot,
    /// More than one.
    TwoRoots,
}

/// A child in a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    pub(super) key: u64,
    /// Its record's slot.
    pub(super) slot: usize,
    /// Its attributes in [`Scan::attributes`].
    pub(super) first: usize,
    pub(super) count: usize,
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// By key.
    pub(super) children: Vec<Child>,
    /// Span key and first slot of each attribute, in this order.
    pub(super) attributes: Vec<(u64, usize)>,
    /// The root's attributes.
    pub(super) root_first: usize,
    pub(super) root_count: usize,
    /// Child records that cannot be told apart from another span.
    pub(super) children_unfit: u64,
    /// Attributes of spans that are not here, and slots of no known kind.
    pub(super) attributes_lost: u64,
}

impl Scan {
    /// Indexes a run and returns its root.
    pub(super) fn run(&mut self, run: &[Slot]) -> Result<SpanRecord, Invalid> {
        self.children.clear();
        self.attributes.clear();
        self.attributes_lost = 0;
        let mut root = None;
        let mut at = 0;
        while let Some(slot) = run.get(at) {
            let [header, key, ..] = *slot;
            match Kind::of(header) {
                Some(Kind::Child) => {
                    self.children.push(Child { key, slot: at, first: 0, count: 0 })
                }
                Some(Kind::Root) if root.is_some() => return Err(Invalid::TwoRoots),
                Some(Kind::Root) => root = SpanRecord::of(slot),
                Some(_) => {
                    self.attributes.push((key, at));
                    at += layout::slots_of(slot);
                    continue;
                }
                None => self.attributes_lost += 1,
            }
            at += 1;
        }
        let root = root.ok_or(Invalid::NoRoot)?;
        self.order(root.key);
        Ok(root)
    }

    /// Sorts both vectors and joins them.
    fn order(&mut self, root: u64) {
        let found = self.children.len();
        self.children.retain(|child| child.key != root && child.key != 0);
        self.children.sort_unstable_by_key(|child| (child.key, child.slot));
        self.children.dedup_by_key(|child| child.key);
        self.children_unfit = (found - self.children.len()) as u64;

        self.attributes.sort_unstable();
        (self.root_first, self.root_count) = (0, 0);
        let mut children = self.children.iter_mut();
        let mut at = 0;
        let mut child = children.next();
        // A merge: each step moves one of the two on.
        for group in self.attributes.chunk_by(|(one, _), (other, _)| one == other) {
            let key = group.first().map_or(0, |(key, _)| *key);
            while child.as_ref().is_some_and(|child| child.key < key) {
                child = children.next();
            }
            match &mut child {
                _ if key == root => (self.root_first, self.root_count) = (at, group.len()),
                Some(child) if child.key == key => (child.first, child.count) = (at, group.len()),
                _ => self.attributes_lost += group.len() as u64,
            }
            at += group.len();
        }
    }

    /// The attributes from `first` on, as slots of the run.
    pub(super) fn attributes(&self, first: usize, count: usize) -> &[(u64, usize)] {
        self.attributes.get(first..first + count).unwrap_or_default()
    }
}

/// The slots of the attribute that begins at `at`, and its header.
#[inline]
pub(super) fn attribute(run: &[Slot], at: usize) -> Option<(AttributeHeader, &[Slot])> {
    let slots = run.get(at..)?;
    let header = AttributeHeader::of(slots.first()?)?;
    // Slots that are missing at the end of the run leave the payload short, which is found out
    // later.
    Some((header, slots.get(..layout::slots_for(usize::from(header.len))).unwrap_or(slots)))
}
