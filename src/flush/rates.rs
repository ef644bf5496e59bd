//! [`Rates`]: how fast spans are being lost, for `stats()`.
//!
//! Every ten seconds the counts of all reasons are noted; what was lost since the oldest note, at
//! most a minute ago, divided by the time since then, is the rate. Pure: time and counts come in.

use std::time::Duration;

use crate::shared::ledger::{Books, Reason};

const INTERVAL: Duration = Duration::from_secs(10);

/// So many notes make a minute.
const NOTES: usize = 6;

/// The spans that were lost so far, by reason.
type Lost = [u64; Reason::ALL.len()];

#[derive(Clone, Copy, Debug)]
struct Note {
    at: Duration,
    lost: Lost,
}

#[derive(Clone, Debug)]
pub(crate) struct Rates {
    /// The oldest first; none is older than that by more than [`NOTES`] intervals.
    notes: [Note; NOTES],
}

impl Rates {
    /// What was lost before counts as nothing.
    pub(crate) fn new(now: Duration, books: &Books) -> Self {
        Self { notes: [Note { at: now, lost: read(books) }; NOTES] }
    }

    /// Takes a note, if it is time for one.
    pub(crate) fn look(&mut self, now: Duration, books: &Books) {
        let [.., last] = &self.notes;
        if now.saturating_sub(last.at) >= INTERVAL {
            self.notes.rotate_left(1);
            let [.., last] = &mut self.notes;
            *last = Note { at: now, lost: read(books) };
        }
    }

    /// Spans lost a second, for each reason for which any were.
    pub(crate) fn of(
        &self,
        now: Duration,
        books: &Books,
    ) -> impl Iterator<Item = (Reason, f64)> + use<> {
        let [oldest, ..] = self.notes;
        let seconds = now.saturating_sub(oldest.at).as_secs_f64().max(1.0);
        let lost = Reason::ALL.into_iter().zip(read(books)).zip(oldest.lost);
        lost.filter(|((_, now), before)| now > before).map(move |((reason, now), before)| {
            #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 spans a minute")]
            let spans = (now - before) as f64;
            (reason, spans / seconds)
        })
    }
}

fn read(books: &Books) -> Lost {
    Reason::ALL.map(|reason| books.lost_so_far(reason).spans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::ledger::Count;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let books = Books::new();
        books.lose(Reason::SendError, Count::spans(1000));
        let mut rates = Rates::new(at(0), &books);
        let of = |rates: &Rates, second| rates.of(at(second), &books).collect::<Vec<_>>();
        assert_eq!(of(&rates, 0), [], "what was before is not told");
        books.lose(Reason::QueueFull, Count::spans(40));
        assert_eq!(of(&rates, 0), [(Reason::QueueFull, 40.0)], "a second at the least");
        assert_eq!(of(&rates, 4), [(Reason::QueueFull, 10.0)]);
        for second in 1..=200 {
            rates.look(at(second), &books);
            books.lose(Reason::RingFull, Count::spans(5));
            books.lost_on_threads.of(Reason::TooDeep).add(Count::spans(3));
        }
        let now = of(&rates, 201);
        assert_eq!(now.len(), 2, "the burst is forgotten: {now:?}");
        for ((reason, rate), (expected, about)) in
            now.into_iter().zip([(Reason::RingFull, 5.0), (Reason::TooDeep, 3.0)])
        {
            assert!(reason == expected && (rate - about).abs() < 0.2, "{reason:?} {rate}");
        }
    }
}
