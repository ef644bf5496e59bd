//! Spans that leave their thread: carried as plain data, entered elsewhere for a while, ended
//! wherever they are dropped.
//!
//! ```text
//!   thread A                 in a message, a task, ...          thread B
//!   line on the stack ──detach──►  Carried (64 bytes)  ──enter──►  line, for a scope
//!     its slots published               │                            children below it
//!                                       └──finish──►  record in the ring of whoever drops it
//! ```
//!
//! A carried span is in nobody's stack: what is needed to enter it, or to write its record, is what
//! is carried. Where it is entered it becomes a line like any other, marked `ENTERED`, so that
//! children, attributes and the list of what is in flight find it as they find the thread's own; a
//! child has a line for its root below it. The record and all that ends below an entered line is
//! published at once, so that whoever ends the root afterwards, on any thread, ends it after its
//! children were there to be seen.
//!
//! # Invariants
//! * D1: a span is on the stack it was started on, or carried by one `Carried` that will be
//!   finished; copies of it (`context`) are entered and never finished.
//! * D2: the root of a span that was detached, or whose context was taken, is `SHARED`: its record
//!   tells the flusher to look at the other rings once more.
//! * D3: everything written under an `ENTERED` line is published when its span ends, or when the
//!   line is left.

use std::time::SystemTime;

use crate::shared::clock;
use crate::shared::id::NameId;
use crate::shared::layout::{Kind, flag, parted};
use crate::shared::ledger::{self, Count, Reason};
use crate::shared::registry::{self, Lane};
use crate::shared::seqlock::{DEPTH, Entry, meta};
use crate::shared::settings::{GENERATION, ON, SETTINGS, THRESHOLD, threshold_of};
use crate::shared::sync::Ordering;

use super::close::{adorn, child_record};
use super::handle::{Handle, UNSAMPLED, VISITING, current_root, is_live, low};
use super::local::{LOCAL, Local, forget_trace};
use super::trial::{asked, asked_flags, first};

/// A span on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried {
    entry: Entry,
    /// op:32 | name:32 of its root, for the line that it gets where a child is entered; of a root,
    /// its plan.
    root_names: u64,
    /// The root's start, for the same; of a root, the slots of it that were lost.
    root_start: u64,
}

const _: () = assert!(size_of::<Carried>() == 64);

/// How a carried span ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ending {
    pub(crate) at: Option<SystemTime>,
    /// Its future was dropped before it was done.
    pub(crate) cancelled: bool,
}

impl Carried {
    /// What is carried of nothing.
    pub(crate) const NONE: Self = Self { entry: Entry::NONE, root_names: 0, root_start: 0 };

    /// What a child is of a transaction that is not recorded: it again, and nothing that ends.
    pub(crate) fn unrecorded_child(&self) -> Option<Self> {
        let mut copy = *self;
        copy.entry.meta &= !meta::ROOT;
        self.is_unsampled().then_some(copy)
    }

    /// Asks for a transaction to be kept, or not to be.
    pub(crate) fn ask(&mut self, keep: bool) {
        if self.is_recording() && self.is_root() {
            self.entry.meta = asked(self.entry.meta, keep);
        }
    }

    const fn is_root(&self) -> bool {
        self.entry.meta & meta::ROOT != 0
    }

    const fn is_unsampled(&self) -> bool {
        self.entry.meta & meta::UNSAMPLED != 0
    }

    pub(crate) const fn is_recording(&self) -> bool {
        self.entry.key != 0
    }

    const fn count(&self) -> Count {
        if self.is_root() { Count::transaction(0) } else { Count::spans(1) }
    }

    /// Gives it another start.
    pub(crate) fn restart(&mut self, at: SystemTime) {
        self.entry.start = clock::nanos_since_epoch(at);
        self.entry.meta |= meta::START_UNIX;
    }

    /// Gives it another description, as far as the list of what is in flight goes.
    pub(crate) fn redescribe(&mut self, description: NameId) {
        let op = NameId(low(self.entry.names));
        self.entry.names = super::handle::names(op, description);
    }
}

/// Takes an open span of this thread off the stack. Its step ends; other children of it that are
/// open here stay, and end as its children.
pub(crate) fn detach(handle: Handle) -> Carried {
    LOCAL
        .try_with(|local| {
            let Some(lane) = local.enter() else { return Carried::NONE };
            let carried = local.detach(lane, handle);
            local.leave(lane);
            carried
        })
        .unwrap_or(Carried::NONE)
}

/// What other threads need to start children of an open span of this thread (D1).
pub(crate) fn context(handle: Handle) -> Carried {
    LOCAL
        .try_with(|local| {
            let Some(lane) = local.enter() else { return Carried::NONE };
            let mut carried = Carried::NONE;
            // A line without a key is no line of a handle without one.
            if !handle.is_none() && is_live(lane, handle) {
                carried = local.carry(lane, handle.depth());
                local.share(lane, handle.depth());
            }
            local.leave(lane);
            carried
        })
        .unwrap_or(Carried::NONE)
}

/// What is carried of a child of this thread's innermost transaction, if that is not recorded: what
/// is begun there elsewhere is not recorded either, and what leaves from there has its trace.
pub(crate) fn unrecorded() -> Carried {
    let root = current_root().filter(|root| root.place & UNSAMPLED != 0);
    root.and_then(|root| context(root).unrecorded_child()).unwrap_or(Carried::NONE)
}

/// Makes a carried span the innermost one of this thread, until [`leave`].
pub(crate) fn enter(carried: &Carried) -> Handle {
    if carried.entry.meta == 0 {
        return Handle::NONE;
    }
    let state = SETTINGS.state();
    if (state ^ carried.entry.meta) & GENERATION != 0 || state & ON == 0 {
        return Handle::NONE;
    }
    LOCAL
        .try_with(|local| match local.ready(state) {
            Ok(lane) => {
                let handle = local.enter_line(lane, carried);
                local.leave(lane);
                handle
            }
            Err(reason) => {
                // What is started or set there will find nothing; nobody knows how much that is.
                if carried.is_recording() {
                    local.turned_away(reason, Count::spans(1));
                }
                Handle::NONE
            }
        })
        .unwrap_or(Handle::NONE)
}

/// Undoes [`enter`]. Children that are still open end as what they are.
pub(crate) fn leave(handle: Handle) {
    if handle.is_none() {
        return;
    }
    let _ = LOCAL.try_with(|local| {
        if let Some(lane) = local.enter() {
            local.leave_line(lane, handle);
            local.leave(lane);
        }
    });
}

/// Ends a carried span: its record goes into this thread's ring.
pub(crate) fn finish(carried: &Carried, ending: Ending) {
    forget_trace(&carried.entry);
    if !carried.is_recording() {
        return;
    }
    let end = clock::ticks();
    let state = SETTINGS.state();
    let done = LOCAL.try_with(|local| {
        let lane = if state & ON == 0 {
            // Nothing will be written: any lane does, for counting.
            local.enter().ok_or(Reason::AfterShutdown)
        } else {
            local.ready(state)
        };
        match lane {
            Ok(lane) => {
                local.finish(lane, carried, end, ending);
                local.leave(lane);
            }
            Err(reason) => lost(carried, reason),
        }
    });
    if done.is_err() {
        lost(carried, Reason::NoRing);
    }
}

/// Counts a span that ends where nothing can be written.
#[cold]
fn lost(carried: &Carried, reason: Reason) {
    if !registry::is_ours(carried.entry.key) {
        return;
    }
    let books = ledger::books();
    books.lose(reason, carried.count());
    books.settled.add(carried.count());
}

/// Clears what a line says besides its entry, for a visit: the line was another's.
fn forget_extras(lane: &Lane, depth: usize) {
    let [.., first, second] = lane.spans.at(depth);
    first.store(0, Ordering::Relaxed);
    second.store(0, Ordering::Relaxed);
}

impl Local {
    /// What is to be carried of the line at `depth`.
    fn carry(&self, lane: &Lane, depth: usize) -> Carried {
        let mut entry = lane.spans.entry(depth);
        let root = lane.spans.entry(entry.root_depth());
        entry.meta &= !(meta::ROOT_DEPTH | meta::ENTERED | meta::MOVED | meta::STEP);
        if entry.meta & meta::UNSAMPLED != 0 {
            // For `enter`; an unsampled line carries none, or one from where it was entered.
            entry.meta = entry.meta & !GENERATION | SETTINGS.state() & GENERATION;
            return Carried { entry, ..Carried::NONE };
        }
        if entry.meta & meta::ROOT != 0 {
            let [.., lost, plan] = lane.spans.at(depth);
            entry.meta |= meta::SHARED;
            let plan =
                if entry.meta & meta::PLANNED == 0 { 0 } else { plan.load(Ordering::Relaxed) };
            let lost = lost.load(Ordering::Relaxed);
            return Carried { entry, root_names: plan, root_start: lost };
        }
        // T4: a child that is open has an open root, here or (as an entered line) elsewhere.
        debug_assert!(entry.meta & meta::FOREIGN != 0 || root.key == entry.root);
        entry.meta &= !(meta::ROOT_START_UNIX | meta::ROOT_CONTINUED | THRESHOLD);
        entry.meta |= root.meta & THRESHOLD;
        if root.meta & meta::START_UNIX != 0 {
            entry.meta |= meta::ROOT_START_UNIX;
        }
        if root.meta & meta::CONTINUED != 0 {
            entry.meta |= meta::ROOT_CONTINUED;
        }
        Carried { entry, root_names: root.names, root_start: root.start }
    }

    /// D2. What the thread itself sets on the span from here on takes its turn among the others.
    fn share(&self, lane: &Lane, depth: usize) {
        self.settle_attribute(lane, depth);
        let root = lane.spans.entry(depth).root_depth();
        let marks = meta::MOVED | meta::SHARED;
        for depth in [depth, root] {
            let mut entry = lane.spans.entry(depth);
            if entry.key != 0 && entry.meta & marks != marks {
                entry.meta |= marks;
                lane.spans.write(depth, &entry);
            }
        }
    }

    fn detach(&self, lane: &Lane, handle: Handle) -> Carried {
        let depth = handle.depth();
        if handle.is_none() || !is_live(lane, handle) {
            return Carried::NONE;
        }
        if lane.spans.len() != depth + 1 {
            self.end_step(lane, handle, clock::ticks(), None);
        }
        self.share(lane, depth);
        let carried = self.carry(lane, depth);
        if carried.is_unsampled() {
            self.remove(lane, depth, depth);
            return carried;
        }
        if carried.is_root() {
            self.make_foreign(lane, depth);
            self.roots.set(self.roots.get().saturating_sub(1));
        }
        if carried.entry.meta & meta::REFUSED == 0 {
            // For those who watch what is open; that there is no room for it is no loss.
            let mut record = child_record(&carried.entry, 0);
            adorn(&mut record, &carried.entry, None);
            self.writer.push(&lane.ring, &parted(&record), || SETTINGS.ring_slots());
        }
        lane.counters.detached.add(carried.count());
        self.remove(lane, depth, depth);
        self.publish(lane, carried.entry.meta);
        carried
    }

    /// Publishes what was written for a span, unless its generation is over.
    fn publish(&self, lane: &Lane, meta: u64) {
        if (meta ^ SETTINGS.state()) & GENERATION != 0 {
            return self.take_back_own(lane, DEPTH);
        }
        self.note_keys(lane);
        self.writer.publish(&lane.ring);
    }

    /// Marks the open children of a root that goes away.
    fn make_foreign(&self, lane: &Lane, depth: usize) {
        let root = lane.spans.entry(depth).key;
        for above in depth + 1..lane.spans.len() {
            let mut entry = lane.spans.entry(above);
            if entry.key != 0 && entry.root == root {
                entry.meta |= meta::FOREIGN;
                lane.spans.write(above, &entry);
            }
        }
    }

    fn enter_line(&self, lane: &Lane, carried: &Carried) -> Handle {
        let now = lane.spans.state();
        let base = now.len();
        // A root takes one line, a child two; the second may find no room.
        let two = !carried.is_root() && !carried.is_unsampled();
        let depth = base + usize::from(two && base + 1 < DEPTH);
        if depth >= DEPTH {
            // What is started from here on is too deep, and counted as that.
            return Handle::NONE;
        }
        let mut entry = carried.entry;
        if carried.is_unsampled() {
            entry.meta |= depth as u64 | meta::ENTERED;
            lane.spans.push(now, &entry);
            self.parent.set(0);
            return Handle { key: entry.root, place: depth as u64 | UNSAMPLED | VISITING };
        }
        let visiting = meta::ENTERED | meta::FOREIGN | meta::MOVED;
        if depth > base {
            let mut inherited = entry.meta & (GENERATION | THRESHOLD | meta::REFUSED);
            if entry.meta & meta::ROOT_START_UNIX != 0 {
                inherited |= meta::START_UNIX;
            }
            if entry.meta & meta::ROOT_CONTINUED != 0 {
                inherited |= meta::CONTINUED;
            }
            let root = Entry {
                key: entry.root,
                root: entry.root,
                parent: 0,
                start: carried.root_start,
                names: carried.root_names,
                meta: base as u64 | meta::ROOT | visiting | inherited,
            };
            lane.spans.push(now, &root);
            forget_extras(lane, base);
        }
        entry.meta |= base as u64 | visiting;
        lane.spans.push(lane.spans.state(), &entry);
        forget_extras(lane, depth);
        self.parent.set(entry.key);
        Handle { key: entry.key, place: depth as u64 | VISITING }
    }

    fn leave_line(&self, lane: &Lane, handle: Handle) {
        let depth = handle.depth();
        if !is_live(lane, handle) {
            return;
        }
        let entry = lane.spans.entry(depth);
        let mut base = depth;
        if entry.meta & meta::ROOT == 0
            && let Some(below) = depth.checked_sub(1)
        {
            let root = lane.spans.entry(below);
            if root.key == entry.root && root.meta & meta::ENTERED != 0 {
                base = below;
            }
        }
        self.remove(lane, base, depth);
        if self.writer.private() > 0 {
            self.publish(lane, entry.meta);
        }
    }

    /// Takes the lines from `base` to `depth` off the stack, or out of it when others lie on them:
    /// name and start of a root stay there, as its children may be carried elsewhere yet.
    fn remove(&self, lane: &Lane, base: usize, depth: usize) {
        let len = lane.spans.len();
        if len == depth + 1 {
            return self.settle(lane, base);
        }
        for line in base..=depth {
            // Children that stay may be detached later, and then tell of their root.
            let Entry { start, names, meta, .. } = lane.spans.entry(line);
            let meta = meta & (meta::START_UNIX | meta::CONTINUED | THRESHOLD);
            let rest = Entry { start, names, meta, ..Entry::NONE };
            lane.spans.write(line, &rest);
        }
        self.settle(lane, len);
    }

    fn finish(&self, lane: &Lane, carried: &Carried, end: u64, ending: Ending) {
        let entry = &carried.entry;
        let mut record = child_record(entry, end);
        if carried.is_root() {
            record.kind = Kind::Root;
            record.lost = low(carried.root_start);
            record.threshold = threshold_of(entry.meta);
            // Its spans may be anywhere: the flusher decides.
            record.plan = carried.root_names;
            record.flags |= asked_flags(entry.meta);
            record.why = first(entry.meta);
        }
        adorn(&mut record, entry, ending.at);
        if ending.cancelled {
            record.flags |= flag::CANCELLED;
        }
        self.note_keys(lane);
        let limit = || SETTINGS.ring_slots();
        if (entry.meta ^ SETTINGS.state()) & GENERATION != 0 {
            if !registry::is_ours(entry.key) {
                // It was carried into a fork's child, and is the parent's to end and to count.
                return;
            }
            lane.counters.lose(Reason::AfterShutdown, carried.count());
            self.has_lost_a_stranger();
        } else if entry.meta & meta::REFUSED != 0
            || !self.writer.push(&lane.ring, &record.words(), limit)
        {
            lane.counters.lose(Reason::RingFull, carried.count());
            self.has_lost_a_stranger();
        } else {
            self.writer.publish(&lane.ring);
        }
        lane.counters.settled.add(carried.count());
    }
}
