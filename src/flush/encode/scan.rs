//! The index of a run: which slot is the root, where the children are, whose each attribute is.
//!
//! One pass over the slots into small vectors, which are reused. A run comes sorted nearly always:
//! keys count up, what is set on a child stands in front of its record, and the root's own
//! attributes, which may stand anywhere, go into a list of their own. That is noticed in passing,
//! and only a run that is out of order is sorted.

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
    /// Their [`Kind`]s, each a bit; all bits where that was not noted.
    pub(super) kinds: u32,
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// By key.
    pub(super) children: Vec<Child>,
    /// Span key and first slot of each attribute, in this order; the root's come last.
    pub(super) attributes: Vec<(u64, usize)>,
    /// The root's, while they are found.
    of_root: Vec<(u64, usize)>,
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
    // By itself, for its loop to have all registers.
    #[inline(never)]
    pub(super) fn run(&mut self, run: &[Slot]) -> Result<SpanRecord, Invalid> {
        self.children.clear();
        self.attributes.clear();
        self.of_root.clear();
        self.attributes_lost = 0;
        // The root's record is the last slot (L3). What is found by this key is looked at again if
        // it is not.
        let expected = run.last().map_or(0, |[_, key, ..]| *key);
        let (mut last_child, mut last_key) = (expected, 0);
        let (mut is_children_sorted, mut is_sorted) = (true, true);
        // Where those of the last key begin, and how many stand in front of their span's record.
        let (mut group, mut claimed) = (0, 0);
        // What kinds they are.
        let mut kinds = 0;
        let mut root = None;
        let mut at = 0;
        while let Some(slot) = run.get(at) {
            if let Some(header) = AttributeHeader::of(slot) {
                if header.key == expected {
                    self.of_root.push((expected, at));
                } else {
                    if header.key != last_key {
                        is_sorted &= header.key > last_key;
                        last_key = header.key;
                        group = self.attributes.len();
                        kinds = 0;
                    }
                    kinds |= 1 << header.kind as u32;
                    self.attributes.push((last_key, at));
                }
                at += layout::slots_for(usize::from(header.len));
                continue;
            }
            let [header, key, ..] = *slot;
            match Kind::of(header) {
                Some(Kind::Child) => {
                    is_children_sorted &= key > last_child;
                    last_child = key;
                    let (count, kinds) = match key == last_key {
                        true => (self.attributes.len() - group, kinds),
                        false => (0, 0),
                    };
                    claimed += count;
                    self.children.push(Child { key, slot: at, first: group, count, kinds });
                }
                Some(Kind::Root) if root.is_some() => return Err(Invalid::TwoRoots),
                Some(Kind::Root) => root = SpanRecord::of(slot),
                _ => self.attributes_lost += 1,
            }
            at += 1;
        }
        let root = root.ok_or(Invalid::NoRoot)?;
        self.children_unfit = 0;
        let is_expected = expected == root.key;
        if !is_children_sorted || !is_expected {
            self.sort_children(root.key);
        }
        if !is_sorted || !is_expected {
            self.sort_attributes(root.key);
        }
        if !is_children_sorted || !is_sorted || !is_expected || claimed != self.attributes.len() {
            self.join();
        }
        (self.root_first, self.root_count) = (self.attributes.len(), self.of_root.len());
        self.attributes.append(&mut self.of_root);
        Ok(root)
    }

    #[cold]
    fn sort_children(&mut self, root: u64) {
        let found = self.children.len();
        self.children.retain(|child| child.key != root && child.key != 0);
        self.children.sort_unstable_by_key(|child| (child.key, child.slot));
        self.children.dedup_by_key(|child| child.key);
        self.children_unfit = (found - self.children.len()) as u64;
    }

    #[cold]
    fn sort_attributes(&mut self, root: u64) {
        self.attributes.append(&mut self.of_root);
        self.attributes.sort_unstable();
        let first = self.attributes.partition_point(|(key, _)| *key < root);
        let behind = self.attributes.partition_point(|(key, _)| *key <= root);
        self.of_root.extend(self.attributes.drain(first..behind));
    }

    /// Gives each child its attributes, where they do not all stand in front of their records.
    #[cold]
    fn join(&mut self) {
        let mut rest = self.attributes.as_slice();
        let mut at = 0;
        // A merge: each step moves one of the two on.
        for child in &mut self.children {
            let foreign = rest.iter().take_while(|(key, _)| *key < child.key).count();
            let own = rest.iter().skip(foreign).take_while(|(key, _)| *key == child.key).count();
            self.attributes_lost += foreign as u64;
            (child.first, child.count) = (at + foreign, own);
            child.kinds = if own > 0 { u32::MAX } else { 0 };
            at += foreign + own;
            rest = rest.get(foreign + own..).unwrap_or_default();
        }
        self.attributes_lost += rest.len() as u64;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::id::NameId;

    fn attribute(key: u64) -> Slot {
        [layout::attribute_header(Kind::Tag, 1, 1, NameId(1)), key, 1, 0, 0, 0, 0, 0]
    }

    fn record(kind: Kind, key: u64) -> Slot {
        [kind as u64, key, 1, 0, 0, 0, 0, 0]
    }

    /// In any order, and with keys that are zero, the root's, or there twice.
    #[test]
    fn each_attribute_goes_to_the_span_of_its_key() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut scan = Scan::default();
        for _ in 0..20_000 {
            let mut run: Vec<Slot> = (0..random.usize(0..9))
                .map(|_| match random.bool() {
                    true => attribute(random.u64(0..6)),
                    false => record(Kind::Child, random.u64(0..6)),
                })
                .collect();
            if random.bool() {
                run.sort_by_key(|slot| (slot[1], slot[0] & 0xff == Kind::Child as u64));
            }
            let at = if random.bool() { run.len() } else { random.usize(0..=run.len()) };
            let key = random.u64(1..3);
            run.insert(at, record(Kind::Root, key));
            assert_eq!(scan.run(&run).unwrap().key, key);

            let of = |key: u64| {
                let slots = run.iter().enumerate();
                let own =
                    slots.filter(|(_, slot)| slot[1] == key && AttributeHeader::of(slot).is_some());
                own.map(|(at, _)| (key, at)).collect::<Vec<_>>()
            };
            let is_child = |slot: &&Slot| Kind::of(slot[0]) == Some(Kind::Child);
            let mut keys: Vec<u64> = run.iter().filter(is_child).map(|slot| slot[1]).collect();
            let records = keys.len();
            keys.retain(|child| *child != 0 && *child != key);
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(scan.children.iter().map(|child| child.key).collect::<Vec<_>>(), keys);
            assert_eq!(scan.children_unfit, (records - keys.len()) as u64);
            let mut found = 0;
            for child in &scan.children {
                assert_eq!(scan.attributes(child.first, child.count), of(child.key), "{run:?}");
                found += child.count;
            }
            assert_eq!(scan.attributes(scan.root_first, scan.root_count), of(key));
            let all = run.len() - records - 1;
            assert_eq!(scan.attributes_lost, (all - found - scan.root_count) as u64);
        }
    }
}
