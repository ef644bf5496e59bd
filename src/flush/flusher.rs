//! The flusher's work: out of the rings, into the queue.
//!
//! One cycle walks all lanes, copies what each had published when its turn came, puts transactions
//! together, writes each as an envelope and pushes it into the uploader's queue. It never waits for
//! anything: a full queue means that the envelope is dropped and counted.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_utils::atomic::AtomicCell;

use crate::sampling::{self, live};
use crate::shared::clock::{self, Anchor};
use crate::shared::id::WireIds;
use crate::shared::layout::Slot;
use crate::shared::ledger::{Books, Count, Reason};
use crate::shared::registry::{self, LOST_ON_THREAD, Lane};
use crate::shared::ring::State;

use super::assemble::{Bounds, Sink};
use super::encode::{Encoder, Site};
use super::hooks::{Fate, Hooks};
use super::intake::{Intake, Keeper, Source, records};
use super::keep::Keep;
use super::pressure::{self, Pressure};
use super::queue::{Batch, Queue};
use super::verdict::Verdict;
use super::watch::Watch;

/// Slots copied at a time.
const BATCH: u64 = 4096;

/// Between two ticks of the budgets, at least.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// A copy with room for more slots is freed after use: one huge transaction must not pin its
/// memory.
const COPY_SLOTS_MAX: usize = 4096;

/// The right to read the rings: there is one (R1 of the ring). A flusher that was given up at
/// shutdown keeps it until it has really ended.
#[derive(Debug)]
pub(crate) struct Reading(());

/// The process whose flusher reads, 0 for none: a fork's copy of it names the parent, whose flusher
/// is not in the child.
static READING: AtomicCell<u32> = AtomicCell::new(0);

/// Between two looks whether the last reader has ended; a few at first, for the one that is about
/// to, are shorter.
const READING_POLL: Duration = Duration::from_millis(1);
const READING_POLLS_SHORT: u32 = 20;

impl Reading {
    /// Waits for the last reader to end, at most `timeout`.
    pub(crate) fn begin(timeout: Duration) -> Option<Self> {
        let process = std::process::id();
        let deadline = clock::monotonic().saturating_add(timeout);
        let mut polls = 0;
        loop {
            let by = READING.load();
            if by != process && READING.compare_exchange(by, process).is_ok() {
                return Some(Self(()));
            }
            if clock::monotonic() >= deadline {
                return None;
            }
            polls += 1;
            let short = polls <= READING_POLLS_SHORT;
            thread::sleep(if short { READING_POLL / READING_POLLS_SHORT } else { READING_POLL });
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READING.store(0);
    }
}

/// What a cycle found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cycle {
    /// Slots in the fullest ring.
    pub(crate) fullest: u64,
    /// A transaction waits for the next walk.
    pub(crate) unsettled: bool,
}

/// The flusher's own state.
pub(crate) struct Flusher {
    intake: Intake,
    out: Out,
    watch: Option<Watch>,
    /// `None`: rates are not lowered for a transport that does not keep up.
    pressure: Option<Pressure>,
    /// The last tick of the budgets.
    ticked: Duration,
    /// Given back when the flusher is dropped.
    _reading: Reading,
}

/// Where transactions go.
pub(super) struct Out {
    encoder: Encoder,
    wire: WireIds,
    anchor: Anchor,
    queue: Arc<Queue>,
    /// The begin of the cycle.
    now: Duration,
    /// Takes them instead of the queue.
    keep: Option<Arc<dyn Keep>>,
    /// What they go through before they are encoded.
    hooks: Option<Hooks>,
    books: &'static Books,
    /// Encoded, and not in the queue yet.
    batch: Batch,
    /// One that was decided here, with its root's record as it is to be.
    copy: Vec<Slot>,
    /// Span records taken in, and those that left again: what lies between is in the assembler or
    /// the batch, or was in hand when something panicked.
    taken_in: Count,
    left: Count,
}

impl Sink for Out {
    fn transaction(&mut self, run: &[Slot]) {
        match Verdict::of(run, &self.wire, &self.anchor) {
            Verdict::Decided => self.kept(run),
            Verdict::Kept(root) => {
                let mut copy = std::mem::take(&mut self.copy);
                copy.clear();
                copy.extend_from_slice(run);
                if let Some(last) = copy.last_mut() {
                    *last = root;
                }
                self.kept(&copy);
                if copy.capacity() <= COPY_SLOTS_MAX {
                    self.copy = copy;
                }
            }
            Verdict::Discarded => self.discarded(run),
        }
    }

    fn lost(&mut self, reason: Reason, count: Count) {
        self.leave(count);
        self.books.lose(reason, count);
    }

    fn attributes_lost(&mut self, count: u64) {
        self.books.attributes_late.add(count);
    }

    fn given_up(&mut self, reason: Reason, slots: &[Slot]) {
        if let Some(keep) = &self.keep {
            keep.given_up(reason, slots);
        }
    }

    fn pieces(&mut self, slots: &[Slot]) {
        if let Some(keep) = &self.keep {
            keep.pieces(slots);
        }
    }
}

impl Keeper for Out {
    fn taken_in(&mut self, count: Count) {
        self.taken_in += count;
        self.books.collected.add(count);
    }

    fn in_hand(&self) -> Count {
        self.taken_in - self.left
    }

    fn hand_over(&mut self) {
        let Some(taken) = self.queue.take_over(&mut self.batch, self.now) else { return };
        self.leave(taken.queued);
        self.lost(taken.reason, taken.refused);
    }
}

impl Out {
    /// So much is somewhere else now.
    fn leave(&mut self, count: Count) {
        // Each entry in the books is a locked instruction, and most of what may be lost is not.
        if count.is_zero() {
            return;
        }
        self.left += count;
        self.books.handed_on.add(count);
    }

    /// Sends a transaction on its way.
    fn kept(&mut self, run: &[Slot]) {
        if let Some(keep) = &self.keep {
            keep.transaction(run);
            let (kept, _) = records(run);
            self.leave(kept);
            self.books.delivered.add(kept);
            return;
        }
        match &self.hooks {
            None => self.encoded(run),
            Some(_) => self.hooked(run),
        }
    }

    /// Has the host's hooks look at a transaction first.
    #[cold]
    #[inline(never)]
    fn hooked(&mut self, run: &[Slot]) {
        // What is ready does not wait for a stranger's code.
        self.hand_over();
        let Some(hooks) = &self.hooks else { return };
        if self.queue.is_closed() {
            // Too late for hooks, which may take their time.
            self.lost(self.queue.reason_closed(), records(run).0);
            return;
        }
        let outcome = hooks.ask(run, &self.wire, &self.anchor, self.books);
        self.lost(Reason::EventProcessor, outcome.lost.event_processor);
        self.lost(Reason::BeforeSend, outcome.lost.before_send);
        match outcome.fate {
            Fate::Untouched => self.encoded(run),
            Fate::Changed(rewritten) => {
                self.books.cut.add(rewritten.cut);
                self.encoded(&rewritten.run);
            }
            Fate::Dropped => {}
        }
    }

    fn encoded(&mut self, run: &[Slot]) {
        let buffer = match self.batch.buffer(&self.queue) {
            Ok(buffer) => buffer,
            Err(reason) => return self.lost(reason, records(run).0),
        };
        match self.encoder.transaction(run, &self.wire, &self.anchor, buffer) {
            Ok((parcel, encoded)) => {
                self.lost(Reason::TransactionLimit, Count::spans(encoded.children_over_limit));
                self.lost(Reason::Invalid, Count::spans(encoded.children_unfit));
                if encoded.cut + encoded.dropped > 0 {
                    self.books.cut.add(encoded.cut);
                    self.books.attributes_dropped.add(encoded.dropped);
                }
                self.batch.add(parcel);
                if self.batch.is_due() {
                    self.hand_over();
                }
            }
            Err((buffer, _)) => {
                self.lost(Reason::Invalid, records(run).0);
                self.batch.unused(buffer);
            }
        }
    }

    /// Writes down that a transaction is not kept. No loss, so what was set on it is not counted.
    fn discarded(&mut self, run: &[Slot]) {
        if let Some(keep) = &self.keep {
            keep.discarded(run);
        }
        let (count, _) = records(run);
        self.leave(count);
        self.books.discarded.add(count);
        self.books.sampling.leave_out(pressure::cause(), count.transactions);
    }

    pub(super) fn new(site: Site, wire: WireIds, queue: Arc<Queue>, books: &'static Books) -> Self {
        let batch = queue.batch();
        Self {
            encoder: Encoder::new(site),
            wire,
            anchor: Anchor::now(),
            queue,
            now: Duration::ZERO,
            keep: None,
            hooks: None,
            books,
            batch,
            copy: Vec::new(),
            taken_in: Count::default(),
            left: Count::default(),
        }
    }
}

#[cfg(test)]
impl Out {
    /// What is in the batch.
    pub(super) fn ready(&self) -> Count {
        self.batch.count()
    }

    /// For those who have a clock of their own.
    pub(super) fn set_anchor(&mut self, anchor: Anchor) {
        self.anchor = anchor;
    }
}

impl Source for Lane {
    fn number(&self) -> u32 {
        self.number
    }

    fn waiting(&self) -> u64 {
        self.ring.waiting()
    }

    fn collect(&self, out: &mut Vec<Slot>, slots_max: u64) -> u64 {
        self.ring.collect(out, slots_max)
    }
}

impl Flusher {
    pub(crate) fn new(
        site: Site,
        bounds: Bounds,
        wire: WireIds,
        queue: Arc<Queue>,
        books: &'static Books,
        reading: Reading,
        watch: Option<Watch>,
    ) -> Self {
        Self {
            _reading: reading,
            watch,
            pressure: None,
            ticked: Duration::ZERO,
            intake: Intake::new(bounds, BATCH),
            out: Out::new(site, wire, queue, books),
        }
    }

    /// Gives transactions to `keep` instead of the queue.
    pub(crate) fn keep(&mut self, keep: Option<Arc<dyn Keep>>) {
        self.out.keep = keep;
    }

    /// Asks the host's hooks about each transaction that is to be sent.
    pub(crate) fn consult(&mut self, hooks: Option<Hooks>) {
        self.out.hooks = hooks;
    }

    /// Lowers the rates while the transport does not keep up.
    pub(crate) fn heed_pressure(&mut self) {
        self.pressure = Some(Pressure::default());
    }

    /// Drops what is in the rings, without looking into it: what an earlier generation left there,
    /// as its flusher was gone when it was published, or what this one could not read.
    pub(crate) fn discard_leftovers(&mut self, reason: Reason) {
        let mut batch = Vec::new();
        for lane in registry::lanes() {
            batch.clear();
            lane.ring.collect(&mut batch, u64::MAX >> 1);
            let (count, _) = records(&batch);
            self.out.books.collected.add(count);
            self.out.books.handed_on.add(count);
            self.out.books.lose(reason, count);
        }
    }

    /// One walk over all lanes.
    // By itself: `scripts/flusher-cost` looks for it by its name.
    #[inline(never)]
    pub(crate) fn cycle(&mut self, now: Duration) -> Cycle {
        #[cfg(test)]
        faults::may_panic();
        let (before, anchor) = (self.out.anchor, Anchor::now());
        if anchor.is_off(&before) {
            self.out.books.clock_jumps.add(1);
        }
        self.out.anchor = anchor;
        self.out.now = now;
        let mut found = Cycle::default();
        for lane in registry::lanes() {
            // Before the last look at the ring: a retired lane publishes no more.
            let state = lane.ring.state();
            if state == State::Free {
                continue;
            }
            let collected = self.intake.collect(lane, now, &mut self.out);
            found.fullest = found.fullest.max(collected);
            self.account(lane);
            if state == State::Retired {
                registry::recycle(lane);
            }
        }
        self.intake.pass_done(now, &mut self.out);
        if let Some(keep) = &self.out.keep {
            self.intake.assembler().each_waiting(|slots| keep.waiting(slots));
        }
        self.out.books.cycles.add(1);
        self.out.queue.rest(now);
        found.unsettled = self.intake.has_ended();
        // After the accounts: what was left out before is told by the cause of that time.
        self.look_for_pressure(now);
        if let Some(watch) = &mut self.watch {
            watch.look(now, &self.out.anchor, self.intake.assembler(), self.out.books);
        }
        found
    }

    /// Has caps and floors take stock, if the last time is long enough ago; whether there are any.
    pub(crate) fn tick(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.ticked) >= TICK {
            self.ticked = now;
            live::tick(now);
        }
        live::is_ticking()
    }

    fn look_for_pressure(&mut self, now: Duration) {
        let Some(pressure) = &mut self.pressure else { return };
        let queue = &self.out.queue;
        if let Some(is_healthy) = pressure.check(now, || queue.strain()) {
            sampling::pressure::set_healthy(is_healthy);
            live::refresh();
        }
    }

    /// What is left when the library closes, and nothing follows.
    pub(crate) fn finish(&mut self) {
        self.intake.clear(Reason::AfterShutdown, &mut self.out);
    }

    /// After a panic: what was ready goes on, whatever was in hand or in the table is lost, and
    /// written down.
    pub(crate) fn recover(&mut self, bounds: Bounds) {
        self.intake.recover(bounds, &mut self.out);
        self.out.books.restarts.add(1);
    }

    /// Takes what a thread lost or left out since the last time into the next client report.
    fn account(&self, lane: &Lane) {
        let unsampled = lane.counters.unsampled.get();
        let discarded = lane.counters.discarded.get() - lane.reported.discarded.get();
        let unsampled_before = lane.reported.unsampled.get();
        let left_out = unsampled.saturating_sub(unsampled_before) + discarded.transactions;
        if left_out > 0 {
            lane.reported.unsampled.set(unsampled);
            lane.reported.discarded.add(discarded);
            self.out.books.sampling.leave_out(pressure::cause(), left_out);
        }
        for reason in LOST_ON_THREAD {
            let (Some(lost), Some(known)) =
                (lane.counters.lost(reason), lane.reported.lost(reason))
            else {
                continue;
            };
            let fresh = lost.get() - known.get();
            if !fresh.is_zero() {
                known.add(fresh);
                self.out.books.lost_on_threads.of(reason).add(fresh);
                if reason.client_report().is_some() {
                    self.out.books.unreported.of(reason).add(fresh);
                }
            }
        }
    }
}

/// Cycles that panic, as nothing from outside can have them do.
#[cfg(test)]
pub(crate) mod faults {
    use crossbeam_utils::atomic::AtomicCell;

    /// So many of the next ones.
    pub(crate) static PANICS: AtomicCell<u32> = AtomicCell::new(0);

    pub(super) fn may_panic() {
        if PANICS.fetch_update(|left| left.checked_sub(1)).is_ok() {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }
}
