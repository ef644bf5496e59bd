//! A lot, from the queue to its end: what limits forbid is turned away, the rest is stamped and
//! given to the transport all at once, and every answer is heeded and written down as it comes.
//!
//! ```text
//!   lot ─ may_send ─┬─► limited
//!                   └─► stamp ► send_all ─┬─ said: heed, settle_ahead ─┬─► the end, bytes spent
//!                                         └─ unsaid: no answer, or     └─► no answer: settled
//!                                            a panic                       when it has returned
//! ```
//!
//! A transport is a stranger's: it may say something twice, of what is not there, or nothing at
//! all, and panic in between. What it said first, of what it has, stands.
//!
//! One parcel goes the same way: it costs one lock of the queue for its answer, one look at the
//! clock, and no allocation.

use std::panic::{AssertUnwindSafe, catch_unwind};

use smallvec::SmallVec;

use super::{Answer, Courier, Moment, forget, jitter};
use crate::flush::depot::Depot;
use crate::flush::envelope::Envelope;
use crate::flush::queue::{Outcome, PARCELS_MAX, Settled, Worker};
use crate::shared::id::EventId;
use crate::shared::ledger::Reason;
use crate::transport::{Response, SendError};

/// What is known of a parcel that was given to a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    /// It is written down, and was the end.
    End,
    /// It is to be queued again.
    Back(Outcome),
}

impl<Now: Fn() -> Moment> Courier<Now> {
    /// Delivers the lot, which was taken from the queue at this moment; returns when that was done,
    /// if anything was tried.
    pub(super) fn deliver(&mut self, before: Moment) -> Option<Moment> {
        self.turn_away(before);
        let after = self.send_lot()?;
        for (parcel, told) in self.lot.parcels.drain(..).zip(self.told.drain(..)) {
            let Told::Back(outcome) = told else {
                self.lot.spent.push(parcel.bytes);
                continue;
            };
            let event_id = parcel.event_id;
            let queue = self.depot.queue();
            let settled = queue.settle(self.worker, parcel, outcome, after.monotonic);
            if settled == Settled::Again {
                self.depot.books().retries.add(1);
            }
            tell(&self.depot, event_id, outcome, settled);
        }
        Some(after)
    }

    /// Settles what may not be sent now, and stamps the rest.
    fn turn_away(&mut self, before: Moment) {
        let Self { worker, depot, lot, .. } = self;
        lot.parcels.retain_mut(|parcel| {
            let Err(outcome) = depot.may_send(parcel.category, before.monotonic) else {
                parcel.stamp(before.unix_nanos());
                return true;
            };
            let settled = depot.queue().settle_ahead(*worker, parcel, outcome, before.monotonic);
            tell(depot, parcel.event_id, outcome, settled.unwrap_or(Settled::Again));
            lot.spent.push(std::mem::take(&mut parcel.bytes));
            false
        });
    }

    /// Gives all of it to the transport, and hears of each parcel.
    // Each look at the clocks costs as much as encoding a span: one for each answer, and the last
    // is the one before the next lot, if that is not long ago.
    fn send_lot(&mut self) -> Option<Moment> {
        let Self { worker, transport, depot, now, lot, told, .. } = self;
        if lot.parcels.is_empty() {
            return None;
        }
        let (one, many): (_, SmallVec<[_; PARCELS_MAX]>);
        let envelopes: &[Envelope<'_>] = match &lot.parcels[..] {
            [parcel] => {
                one = [Envelope { parcel }];
                &one
            }
            parcels => {
                many = parcels.iter().map(|parcel| Envelope { parcel }).collect();
                &many
            }
        };
        told.clear();
        told.resize(envelopes.len(), Told::Nothing);
        let mut ear = Ear { worker: *worker, depot, envelopes, told };
        let mut last = None;
        let sent = catch_unwind(AssertUnwindSafe(|| {
            transport.send_all(envelopes, &mut |place, sent| {
                if ear.is_waiting_for(place) {
                    let at = now();
                    ear.hear(place, Answer::of(sent), at);
                    last = Some(at);
                }
            });
        }));
        let is_one = sent.is_ok() && envelopes.len() == 1;
        let after = last.filter(|_| is_one).unwrap_or_else(now);
        match sent {
            Ok(()) => ear.hear_nothing(after),
            Err(payload) => {
                forget(payload);
                ear.hear_panic(after);
            }
        }
        Some(after)
    }
}

/// Hears what a transport says of a lot.
struct Ear<'a> {
    worker: Worker,
    depot: &'a Depot,
    envelopes: &'a [Envelope<'a>],
    told: &'a mut [Told],
}

impl Ear<'_> {
    /// Whether there is such a parcel, and nothing was said of it.
    fn is_waiting_for(&self, place: usize) -> bool {
        self.told.get(place) == Some(&Told::Nothing)
    }

    fn hear(&mut self, place: usize, answer: Answer, at: Moment) {
        answer.heed(self.depot, at);
        let failed = |kind, error: &str| self.depot.failed(kind, error, at.monotonic);
        let outcome = match answer {
            Answer::Response(Response { status: 200..=299, .. }) => Outcome::Delivered,
            Answer::Response(Response { status: 429, .. }) => {
                failed("status", "the server refused: 429, too many requests");
                Outcome::Lost(Reason::Refused)
            }
            Answer::Response(Response { status, .. }) => {
                failed("status", &format!("the server answered with status {status}"));
                Outcome::Lost(Reason::SendError)
            }
            Answer::Error(kind, error) => {
                failed(kind.as_str(), &error);
                Outcome::NoAnswer { jitter: jitter() }
            }
            Answer::Panic => {
                failed("panic", "the transport panicked");
                Outcome::Lost(Reason::Internal)
            }
        };
        self.settle(place, outcome, at);
    }

    /// It returned: what it did not speak of was not answered.
    fn hear_nothing(&mut self, at: Moment) {
        for place in 0..self.told.len() {
            if self.is_waiting_for(place) {
                let error = "the transport did not say what became of it";
                self.hear(place, Answer::of(Err(SendError::new(error))), at);
            }
        }
    }

    /// It panicked, once, with however many.
    fn hear_panic(&mut self, at: Moment) {
        Answer::Panic.heed(self.depot, at);
        self.depot.failed("panic", "the transport panicked", at.monotonic);
        for place in 0..self.told.len() {
            if self.is_waiting_for(place) {
                self.settle(place, Outcome::Lost(Reason::Internal), at);
            }
        }
    }

    fn settle(&mut self, place: usize, outcome: Outcome, at: Moment) {
        let told = self.told.get_mut(place).zip(self.envelopes.get(place));
        let Some((told, Envelope { parcel })) = told else { return };
        let queue = self.depot.queue();
        *told = match queue.settle_ahead(self.worker, parcel, outcome, at.monotonic) {
            None => Told::Back(outcome),
            Some(settled) => {
                tell(self.depot, parcel.event_id, outcome, settled);
                Told::End
            }
        };
    }
}

/// Says in the log what became of an envelope, if that is wanted.
fn tell(depot: &Depot, event_id: Option<EventId>, outcome: Outcome, settled: Settled) {
    depot.debug(|| match event_id {
        Some(id) => format!("envelope {id}: {outcome:?}, {settled:?}"),
        None => format!("envelope: {outcome:?}, {settled:?}"),
    });
}
