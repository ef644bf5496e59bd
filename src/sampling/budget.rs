//! What may be kept per second, as a share: a number that items are compared with, rather than a
//! token that says no.
//!
//! A cap that lets the first 50 of a second pass and turns the rest away cannot say what the 50
//! stand for. Here an item is kept with a probability that was settled before anybody looked at its
//! own random number, and the probability is made such that about 50 pass. So each item that was
//! kept stands for one over its share, and the sum of these is an unbiased estimate of what there
//! was, whatever the share did meanwhile.
//!
//! 1. Everybody reads the **share** ([`Budget::share`]), one load. Who is turned away by it writes
//!    nothing, and reads no clock.
//! 2. Who is **admitted** ([`Budget::admit`]) takes a token, adds its weight (one over its share)
//!    to the flow, and lowers the share with the square of what is left of the tokens: when half is
//!    left, to a quarter. So an unforeseen flood, or a flusher that has stopped, uses up a second's
//!    tokens only slowly.
//! 3. A **tick** ([`tick`]), every 50 ms or so, makes the share anew: from the tokens left in this
//!    second, the time left in it, and the flow, which is the weights that were admitted, smoothed.
//!
//! A budget has two classes. What is kept at the end (slow, failed, ..) goes first: the head's
//! share is made from what its expected needs leave over.
//!
//! # Windows
//! A budget of `per_second` has that many tokens in each second; one of less than one a second has
//! one token in as long as that takes. What was not used is gone, but for one token; what was
//! overdrawn is taken from the next window. There is no hard end: without tokens the share is
//! small, and smaller with each token overdrawn, rather than nothing. A share of nothing would
//! leave a gap in the estimate, and a share of nearly nothing weights that spoil it.
//!
//! What a window admits is about its tokens, whatever comes: a steady flow a tenth more at most
//! where there are many, a few items more where there are few, and the next window makes up for it.
//! A stretch as long as a window may hold the end of one and the beginning of the next.
//!
//! Not held back are: items that were open already when what they are kept for became frequent, as
//! their share is of when they began; and those that are exempt, which use up the others' tokens.
//!
//! # Races
//! All is Relaxed: an item carries the share it has read, so no order between threads can make it
//! wrong, and what a race costs is a token. Shares are lowered by `fetch_min`, and raised by ticks
//! alone. Budgets are places in a static pool, so an index that outlived its budget charges another
//! one by a token, and nothing else.

use std::time::Duration;

use crate::shared::sync::{AtomicU32, AtomicU64, Ordering};

/// A probability of one, in the unit of all rates and shares: millionths.
pub(crate) const WHOLE: u32 = 1_000_000;
/// Places in the pool; place 0 is nobody's.
const PLACES: usize = 1024;

/// Who wants to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// What is decided at the start.
    Head,
    /// What is kept for how it ended; or for being the first of its name.
    End,
}

/// One cap, or the floor of one op.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Budget {
    head: Side,
    end: Side,
    /// Tokens taken since the last tick by who is exempt.
    exempt: AtomicU64,
    // Written by ticks, read when something is admitted.
    /// Tokens left at the last tick, of them those that the end is expected to need, and how many
    /// are few.
    left: Float,
    reserve: Float,
    few: Float,
    // For ticks alone.
    pub(super) per_second: Float,
    ticked: AtomicU64,
    window_start: AtomicU64,
    /// For how long flows have been measured, in seconds.
    age: Float,
    /// FREE, TAKEN or LIVE.
    state: AtomicU32,
}

/// What a budget knows of one class.
#[derive(Debug)]
struct Side {
    /// In millionths.
    share: AtomicU32,
    /// The share as the last tick made it: what it would be if there were shares above one, up to
    /// [`SPARE_MAX`]. So a flow below the cap can use up part of the tokens before it is lowered.
    share_ticked: AtomicU32,
    /// Tokens taken since the last tick.
    taken: AtomicU64,
    /// One over the shares of what was admitted since the last tick, in [`WEIGHT`]ths of a million.
    weight: AtomicU64,
    /// Items per second, smoothed: for ticks alone.
    flow: Float,
    /// Items in this window.
    items: Float,
}

/// How far the share that the tokens are worth may lie above one.
const SPARE_MAX: f64 = 4.0;
/// An item that was admitted with a share of one millionth weighs this much.
const WEIGHT: u64 = 1024 * WHOLE as u64;

impl Budget {
    pub(crate) const fn new() -> Self {
        Self {
            head: Side::new(),
            end: Side::new(),
            exempt: AtomicU64::new(0),
            left: Float::new(),
            reserve: Float::new(),
            few: Float::new(),
            per_second: Float::new(),
            ticked: AtomicU64::new(0),
            window_start: AtomicU64::new(0),
            age: Float::new(),
            state: AtomicU32::new(FREE),
        }
    }

    /// Begins anew, with everything open and a window's tokens.
    pub(crate) fn set(&self, per_second: f64) {
        let tokens = per_second.max(1.0);
        self.per_second.set(per_second);
        self.left.set(tokens);
        self.few.set((tokens / 8.0).max(1.0));
        self.reserve.set(0.0);
        self.age.set(0.0);
        self.exempt.store(0, Ordering::Relaxed);
        self.ticked.store(0, Ordering::Relaxed);
        self.head.open();
        self.end.open();
    }

    /// The probability with which an item is admitted at this moment, in millionths: at least one.
    #[inline]
    pub(crate) fn share(&self, class: Class) -> u32 {
        self.side(class).share.load(Ordering::Relaxed).clamp(1, WHOLE)
    }

    /// An item was admitted: it takes a token. `share` is what it was admitted with.
    pub(crate) fn admit(&self, class: Class, share: u32) {
        let side = self.side(class);
        side.weight.fetch_add(WEIGHT / u64::from(share.max(1)), Ordering::Relaxed);
        side.taken.fetch_add(1, Ordering::Relaxed);
        self.lower();
    }

    /// Something was kept that did not ask: it takes a token, and says nothing about the flow.
    pub(crate) fn spend(&self) {
        self.exempt.fetch_add(1, Ordering::Relaxed);
        self.lower();
    }

    /// Sets both shares, until the next tick.
    #[cfg(test)]
    pub(super) fn fix(&self, share: u32) {
        for side in [&self.head, &self.end] {
            side.share.store(share, Ordering::Relaxed);
            side.share_ticked.store(share, Ordering::Relaxed);
        }
    }

    /// Tokens taken since the last tick by the head, the end, and who is exempt.
    #[cfg(test)]
    pub(super) fn taken(&self) -> [u64; 3] {
        [&self.head.taken, &self.end.taken, &self.exempt].map(|it| it.load(Ordering::Relaxed))
    }

    const fn side(&self, class: Class) -> &Side {
        match class {
            Class::Head => &self.head,
            Class::End => &self.end,
        }
    }

    /// Lowers the shares to what the tokens left now are worth.
    fn lower(&self) {
        let (left, reserve, few) = (self.left.get(), self.reserve.get(), self.few.get());
        let head = number(self.head.taken.load(Ordering::Relaxed));
        let others =
            number(self.end.taken.load(Ordering::Relaxed) + self.exempt.load(Ordering::Relaxed));
        self.end.lower(worth(left, few), worth(left - head - others, few));
        // What the end takes of its own part is not taken from the head's.
        let beyond = (others - reserve).max(0.0);
        let left = left - reserve;
        self.head.lower(worth(left, few), worth(left - head - beyond, few));
    }

    /// Makes the shares anew. `now` is in nanoseconds.
    pub(crate) fn tick(&self, now: u64) {
        let ticked = self.ticked.load(Ordering::Relaxed);
        if ticked == 0 || now < ticked {
            self.ticked.store(now.max(1), Ordering::Relaxed);
            self.window_start.store(now, Ordering::Relaxed);
            return;
        }
        if now - ticked < TICK_MIN {
            return;
        }
        self.ticked.store(now, Ordering::Relaxed);
        let per_second = self.per_second.get();
        let tokens = per_second.max(1.0);

        let taken = self.head.taken.swap(0, Ordering::Relaxed)
            + self.end.taken.swap(0, Ordering::Relaxed)
            + self.exempt.swap(0, Ordering::Relaxed);
        let taken = number(taken);
        let mut left = self.left.get() - taken;

        // The flow over the last seconds; over less as long as there is less, and nearly the newest
        // alone when the budget is overdrawn: then the flow has changed.
        let past = seconds(now - ticked);
        let memory = self.age.get().min((8.0 / per_second).max(2.0));
        let mut part = past / (past + memory);
        if left < 0.0 {
            part = part.max(taken / (taken + 8.0));
        }
        self.age.set(self.age.get() + past);
        self.head.measure(past, part);
        self.end.measure(past, part);

        let window = 1.0 / per_second.min(1.0);
        let start = self.window_start.load(Ordering::Relaxed);
        let mut into = seconds(now.saturating_sub(start));
        if into >= window {
            let windows = (into / window).floor();
            self.head.close_window(into);
            self.end.close_window(into);
            left = tokens + (left + (windows - 1.0) * tokens).clamp(-tokens, 1.0);
            into -= windows * window;
            self.window_start.store(now.saturating_sub(nanos(into)), Ordering::Relaxed);
        }
        self.share_out(left, (window - into).max(window / 16.0));
    }

    /// Divides what is left of the tokens among what is expected in the time left.
    fn share_out(&self, left: f64, time: f64) {
        let few = self.few.get();
        let expected = self.end.flow.get() * time;
        let end = (worth(left, few) / expected).min(SPARE_MAX);
        let needed = expected * end.min(1.0);
        let reserve = if expected > 0.0 { needed.min(left.max(0.0)) } else { 0.0 };
        let expected = self.head.flow.get() * time;
        let head = (worth(left - reserve, few) / expected).min(SPARE_MAX);
        self.left.set(left);
        self.reserve.set(reserve);
        self.end.tick(end);
        self.head.tick(head);
    }
}

impl Side {
    const fn new() -> Self {
        Self {
            share: AtomicU32::new(0),
            share_ticked: AtomicU32::new(0),
            taken: AtomicU64::new(0),
            weight: AtomicU64::new(0),
            flow: Float::new(),
            items: Float::new(),
        }
    }

    fn open(&self) {
        self.taken.store(0, Ordering::Relaxed);
        self.weight.store(0, Ordering::Relaxed);
        self.flow.set(0.0);
        self.items.set(0.0);
        self.tick(SPARE_MAX);
    }

    fn tick(&self, share: f64) {
        let share = millionths(share);
        self.share_ticked.store(share, Ordering::Relaxed);
        self.share.store(share.min(WHOLE), Ordering::Relaxed);
    }

    fn lower(&self, worth_ticked: f64, worth: f64) {
        let ratio = worth / worth_ticked;
        let ticked = f64::from(self.share_ticked.load(Ordering::Relaxed)) / f64::from(WHOLE);
        let share = millionths(ticked * ratio * ratio);
        if share < self.share.load(Ordering::Relaxed) {
            self.share.fetch_min(share, Ordering::Relaxed);
        }
    }

    /// Takes what came in `past` seconds into the flow, as the given part of it.
    fn measure(&self, past: f64, part: f64) {
        let items = number(self.weight.swap(0, Ordering::Relaxed)) / 1024.0;
        let flow = self.flow.get();
        self.flow.set(flow + part * (items / past - flow));
        self.items.set(self.items.get() + items);
    }

    /// Over a whole window it shows when the flow has fallen, also where the share is so small that
    /// hardly anything is admitted: what was expected did not come. `past` is in seconds.
    fn close_window(&self, past: f64) {
        let ticked = f64::from(self.share_ticked.load(Ordering::Relaxed).clamp(1, WHOLE));
        // Three more could have come, and did not by chance.
        let chance = 3.0 * f64::from(WHOLE) / ticked;
        let most = 2.0 * (self.items.get() + chance) / past;
        self.flow.set(self.flow.get().min(most));
        self.items.set(0.0);
    }
}

/// What a number of tokens is good for: itself, and a little when there are few or none, ever less
/// the more were overdrawn. Smooth, and never 0.
fn worth(tokens: f64, few: f64) -> f64 {
    if tokens >= few {
        return tokens;
    }
    let part = 1.0 / (1.0 + (1.0 - tokens / few) / 4.0);
    few * (part * part) * (part * part)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to 4,000,000; not a number becomes 0"
)]
fn millionths(share: f64) -> u32 {
    ((share * f64::from(WHOLE)) as u32).max(1)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a second")]
const fn number(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "a part in 10^15 is no matter")]
const fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
const fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Ticks that come sooner after one another are left out, in nanoseconds.
const TICK_MIN: u64 = 1_000_000;

/// A float that one thread writes and others may read.
#[derive(Debug)]
pub(super) struct Float(AtomicU64);

impl Float {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const LIVE: u32 = 2;
#[cfg(test)]
const BY_HAND: u32 = 3;

static POOL: [Budget; PLACES] = [const { Budget::new() }; PLACES];
/// Leases there are.
static LEASES: AtomicU32 = AtomicU32::new(0);
/// The highest place that was ever taken: what lies above need not be ticked.
static HIGHEST: AtomicU32 = AtomicU32::new(0);

/// A place in the pool, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease(u16);

impl Lease {
    /// A budget of that many tokens a second, above 0; `None` when all places are taken, or for a
    /// number that is none.
    pub(crate) fn new(per_second: f64) -> Option<Self> {
        if !(per_second > 0.0 && per_second.is_finite()) {
            return None;
        }
        Self::take(per_second, LIVE)
    }

    /// One that only who holds it ticks: other tests have clocks of their own.
    #[cfg(test)]
    pub(super) fn by_hand(per_second: f64) -> Self {
        Self::take(per_second, BY_HAND).unwrap()
    }

    /// Makes this one such.
    #[cfg(test)]
    pub(super) fn take_in_hand(&self) {
        self.budget().state.store(BY_HAND, Ordering::Relaxed);
    }

    fn take(per_second: f64, state: u32) -> Option<Self> {
        let index = occupy(&POOL, per_second, state)?;
        HIGHEST.fetch_max(u32::from(index), Ordering::Relaxed);
        LEASES.fetch_add(1, Ordering::Relaxed);
        Some(Self(index))
    }

    /// 1 to 1023.
    pub(crate) const fn index(&self) -> u16 {
        self.0
    }

    #[expect(clippy::indexing_slicing, reason = "an index of the pool, by new")]
    pub(crate) fn budget(&self) -> &'static Budget {
        &POOL[usize::from(self.0)]
    }
}

/// Takes a free place and opens it.
fn occupy(places: &[Budget], per_second: f64, state: u32) -> Option<u16> {
    let relaxed = Ordering::Relaxed;
    let (index, budget) = (0..)
        .zip(places)
        .skip(1)
        .find(|(_, budget)| budget.state.compare_exchange(FREE, TAKEN, relaxed, relaxed).is_ok())?;
    budget.set(per_second);
    budget.state.store(state, relaxed);
    Some(index)
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget().state.store(FREE, Ordering::Relaxed);
        LEASES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The budget with that index; `None` for 0. It may be another's by now.
pub(crate) fn budget(index: u16) -> Option<&'static Budget> {
    POOL.get(usize::from(index)).filter(|_| index != 0)
}

/// Makes the shares of all caps anew. `now` is from a clock that does not go back.
pub(crate) fn tick(now: Duration) {
    if !is_any() {
        return;
    }
    let now = whole_nanos(now);
    let highest = HIGHEST.load(Ordering::Relaxed) as usize;
    tick_all(&mut POOL.iter().take(highest + 1), now);
}

fn tick_all(budgets: &mut dyn Iterator<Item = &Budget>, now: u64) {
    for budget in budgets {
        if budget.state.load(Ordering::Relaxed) == LIVE {
            budget.tick(now);
        }
    }
}

/// Whether there is anything to be ticked; floors are their table's.
pub(crate) fn is_any() -> bool {
    LEASES.load(Ordering::Relaxed) != 0
}

/// 584 years at most.
pub(super) fn whole_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
