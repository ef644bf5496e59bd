//! The server of the simulation, behind a transport that answers by seed: one at a time, or lots of
//! up to eight, in any order, some twice, some not at all, and with panics in between. In some
//! worlds all is given up while a lot is under way.
//!
//! What it counts is what the flusher's side has to believe: the first that was said of each
//! envelope, before all was given up.

use std::ops::AddAssign;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};

use fastrand::Rng;

use crate::flush::envelope::{Category, Envelope};
use crate::flush::queue::Queue;
use crate::shared::ledger::{Count, Reason};
use crate::transport::{Response, SendError, Transport};

/// What the server saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Transactions and spans in what it took.
    pub(super) taken: Count,
    /// The same that client reports told it of.
    pub(super) reported: Count,
    /// A transport's panic is survived, so what is wrong is kept here.
    pub(super) wrong: Option<&'static str>,
    /// After so many further answers all is given up; then nothing it takes counts.
    pub(super) gives_up_after: Option<u32>,
    pub(super) has_given_up: bool,
    pub(super) lots: Lots,
}

/// What happened with several envelopes at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lots {
    pub(super) many: u64,
    pub(super) unsaid: u64,
    pub(super) twice: u64,
    pub(super) panics: u64,
    /// Given up in the middle.
    pub(super) ended: u64,
}

impl AddAssign for Lots {
    fn add_assign(&mut self, other: Self) {
        self.many += other.many;
        self.unsaid += other.unsaid;
        self.twice += other.twice;
        self.panics += other.panics;
        self.ended += other.ended;
    }
}

pub(super) struct Server {
    pub(super) rng: Rng,
    pub(super) queue: Arc<Queue>,
    pub(super) seen: Arc<Mutex<Seen>>,
    pub(super) at_once: usize,
    /// The last that was said of an envelope was that nobody answered.
    pub(super) is_down: bool,
}

impl Server {
    /// What it says of one envelope; what it takes is not counted yet.
    fn answer(&mut self) -> Result<Response, SendError> {
        match self.rng.u32(..20) {
            0 => self.panic(),
            1 => Err(SendError::new("gone")),
            2 => Ok(Response::status(503)),
            3 => {
                let mut response = Response::status(429);
                response.retry_after = Some("2".to_owned());
                Ok(response)
            }
            _ => Ok(Response::status(200)),
        }
    }

    fn panic(&self) -> ! {
        self.seen.lock().unwrap().lots.panics += u64::from(self.at_once > 1);
        // Without the hook that prints.
        resume_unwind(Box::new("on purpose"));
    }

    /// Counts what was said first of an envelope.
    fn note(&mut self, envelope: &Envelope<'_>, answer: &Result<Response, SendError>) {
        let is_report = envelope.parcel.category == Category::Internal;
        // Of a report only an answer says something about the way to the server.
        self.is_down = answer.is_err() && (self.is_down || !is_report);
        if !matches!(answer, Ok(Response { status: 200, .. })) {
            return;
        }
        let text = std::str::from_utf8(envelope.as_bytes()).unwrap();
        let mut seen = self.seen.lock().unwrap();
        if is_report {
            seen.reported += told(text);
        } else if !seen.has_given_up {
            let spans = text.matches("\"origin\":\"manual\"").count() as u64;
            seen.taken += Count { transactions: 1, spans };
        }
    }

    /// Gives up, if it is time for that.
    fn count_down(&self) {
        let mut seen = self.seen.lock().unwrap();
        match &mut seen.gives_up_after {
            None => {}
            Some(0) => {
                seen.gives_up_after = None;
                seen.has_given_up = true;
                seen.lots.ended += 1;
                self.queue.abandon(Reason::ShutdownDeadline);
            }
            Some(left) => *left -= 1,
        }
    }

    fn check(&self, envelopes: &[Envelope<'_>]) {
        let mut seen = self.seen.lock().unwrap();
        if envelopes.is_empty() || envelopes.len() > self.at_once {
            seen.wrong = Some("more than it likes");
        }
        if self.is_down && envelopes.len() > 1 {
            seen.wrong = Some("a probe in company");
        }
        if seen.has_given_up {
            seen.wrong = Some("sent after all was given up");
        }
        if !envelopes.iter().is_sorted_by_key(|envelope| envelope.parcel.way.number) {
            seen.wrong = Some("out of order");
        }
        seen.lots.many += u64::from(envelopes.len() > 1);
    }
}

impl Transport for Server {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        let answer = self.answer();
        self.note(envelope, &answer);
        answer
    }

    fn at_once(&self) -> usize {
        self.at_once
    }

    fn send_all(
        &mut self,
        envelopes: &[Envelope<'_>],
        answered: &mut dyn FnMut(usize, Result<Response, SendError>),
    ) {
        self.check(envelopes);
        let mut places: Vec<usize> = (0..envelopes.len()).collect();
        self.rng.shuffle(&mut places);
        let mut is_unsaid = false;
        for &place in &places {
            self.count_down();
            // Where it takes one at a time it says all, as most do.
            if self.at_once > 1 && self.rng.u32(..30) == 0 {
                is_unsaid = true;
                self.seen.lock().unwrap().lots.unsaid += 1;
                continue;
            }
            let answer = self.answer();
            self.note(&envelopes[place], &answer);
            answered(place, answer);
            if self.at_once > 1 && self.rng.u32(..10) == 0 {
                self.seen.lock().unwrap().lots.twice += 1;
                let other = if self.rng.bool() { Ok(Response::status(200)) } else { gone() };
                answered([place, envelopes.len(), usize::MAX][self.rng.usize(..3)], other);
            }
        }
        if self.at_once > 1 && self.rng.u32(..30) == 0 {
            self.panic();
        }
        self.is_down |= is_unsaid;
    }
}

fn gone() -> Result<Response, SendError> {
    Err(SendError::new("gone"))
}

/// What a client report tells.
fn told(text: &str) -> Count {
    let mut told = Count::default();
    let report: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    for event in report["discarded_events"].as_array().unwrap() {
        let quantity = event["quantity"].as_u64().unwrap();
        match event["category"].as_str().unwrap() {
            "span" => told.spans += quantity,
            _ => told.transactions += quantity,
        }
    }
    told
}
