//! When to say in the log that spans are being lost: loudly at first, then at most once a minute.
//!
//! Pure: [`Announcer::look`] compares the books with what was last said and returns the line, if it
//! is time for one. Counts come from the books, so a burst is one line that names each reason, and
//! what is lost between two lines is in the next.

use std::fmt::Write;
use std::time::Duration;

use log::Level;

use crate::shared::ledger::{Books, Count, Reason};

/// Between two lines.
const INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Announcer {
    /// The losses that were said.
    said: [Count; Reason::ALL.len()],
    last: Option<Duration>,
    /// The last line was about losses.
    losing: bool,
}

/// A line for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) level: Level,
    pub(crate) text: String,
}

impl Announcer {
    /// Says nothing about what was lost before.
    pub(crate) fn new(books: &Books) -> Self {
        Self { said: read(books), last: None, losing: false }
    }

    /// The line that is due at `now`, if any.
    pub(crate) fn look(
        &mut self,
        books: &Books,
        now: Duration,
        last_error: Option<&str>,
    ) -> Option<Announcement> {
        if self.last.is_some_and(|last| now.saturating_sub(last) < INTERVAL) {
            return None;
        }
        let lost = read(books);
        if lost == self.said {
            if !self.losing {
                return None;
            }
            self.losing = false;
            self.last = Some(now);
            let text = "no more spans are being lost".to_owned();
            return Some(Announcement { level: Level::Info, text });
        }
        let level = if self.last.is_none() { Level::Error } else { Level::Warn };
        let mut text = "spans are being lost".to_owned();
        let mut separator = ':';
        for ((reason, now), before) in Reason::ALL.into_iter().zip(lost).zip(self.said) {
            let Count { transactions, spans } = now - before;
            if transactions > 0 || spans > 0 {
                let reason = reason.as_str();
                // Writing into a String does not fail.
                let _ = write!(
                    text,
                    "{separator} {reason}, {transactions} transactions with {spans} spans"
                );
                separator = ';';
            }
        }
        if let Some(error) = last_error {
            let _ = write!(text, ". Last error: {error}");
        }
        self.said = lost;
        self.last = Some(now);
        self.losing = true;
        Some(Announcement { level, text })
    }
}

fn read(books: &Books) -> [Count; Reason::ALL.len()] {
    Reason::ALL.map(|reason| match reason.is_wanted() {
        true => Count::default(),
        false => books.lost_so_far(reason),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_hooks_drop_is_not_said() {
        let books = Books::new();
        let mut announcer = Announcer::new(&books);
        books.lose(Reason::BeforeSend, Count::transaction(1));
        books.lose(Reason::EventProcessor, Count::spans(1));
        assert_eq!(announcer.look(&books, at(0), None), None);
    }

    #[test]
    fn the_first_loss_is_loud_and_names_reason_and_count() {
        let books = Books::new();
        let mut announcer = Announcer::new(&books);
        assert_eq!(announcer.look(&books, at(0), None), None);
        books.lose(Reason::NetworkError, Count::transaction(2));
        let line = announcer.look(&books, at(1), Some("no answer: refused")).unwrap();
        assert_eq!(line.level, Level::Error);
        assert_eq!(
            line.text,
            "spans are being lost: network_error, 1 transactions with 3 spans. \
             Last error: no answer: refused"
        );
    }

    #[test]
    fn at_most_one_line_a_minute_and_nothing_is_left_out_of_them() {
        let books = Books::new();
        let mut announcer = Announcer::new(&books);
        let mut lines = Vec::new();
        for second in 0..150 {
            books.lose(Reason::QueueFull, Count::transaction(0));
            lines.extend(announcer.look(&books, at(second), None).map(|line| (second, line)));
        }
        let levels: Vec<_> = lines.iter().map(|(second, line)| (*second, line.level)).collect();
        assert_eq!(levels, [(0, Level::Error), (60, Level::Warn), (120, Level::Warn)]);
        assert!(lines[0].1.text.contains("1 transactions"), "{lines:?}");
        assert!(lines[1].1.text.contains("60 transactions"), "{lines:?}");
        assert!(lines[2].1.text.contains("60 transactions"), "{lines:?}");
    }

    #[test]
    fn the_end_is_said_once() {
        let books = Books::new();
        let mut announcer = Announcer::new(&books);
        books.lose(Reason::SendError, Count::spans(1));
        announcer.look(&books, at(0), None).unwrap();
        assert_eq!(announcer.look(&books, at(59), None), None);
        assert_eq!(announcer.look(&books, at(61), None).unwrap().level, Level::Info);
        assert_eq!(announcer.look(&books, at(200), None), None);
        books.lose(Reason::SendError, Count::spans(1));
        assert_eq!(announcer.look(&books, at(300), None).unwrap().level, Level::Warn);
    }

    #[test]
    fn losses_of_an_earlier_start_are_not_said_again() {
        let books = Books::new();
        books.lose(Reason::SendError, Count::spans(1));
        assert_eq!(Announcer::new(&books).look(&books, at(0), None), None);
    }
}
