//! [`Report`]: a client report, by which the server learns what it never got to see.
//!
//! Losses pile up in the books, by reason. Now and then the uploader *takes* what is there,
//! *writes* it as an envelope of its own and sends it. If that fails it *restores* what it took,
//! and the next report carries it. Counts move: a loss is in the books or in one report, never in
//! both, however many threads add meanwhile. A report that is lost for ever is itself no loss that
//! anybody counts.
//!
//! The server knows a closed list of reasons, and discards others; several of ours share one of
//! its, and are merged when written. A transaction that sampling left out, at its start or at its
//! end, counts as one transaction and one span: its children were never made, or not meant to be
//! seen.
//!
//! # Limits
//! The spec has a report hold at most 4 KiB. The reasons being a closed list, the largest possible
//! report is about half of that (a test writes it), so none is ever split. The server reads
//! quantities as `u32`: what is above that waits in the books for the next report.

use std::io::Write;
use std::time::Duration;

use super::envelope::{Category, Parcel, SENT_AT_BLANK};
use crate::shared::ledger::sampling;
use crate::shared::ledger::{Books, Count, Reason, Tally};

/// Losses that were taken out of the books, to be sent or restored.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what it holds is gone from the books until it is sent or restored"]
pub(crate) struct Report {
    taken: Vec<(Cause, Count)>,
}

/// Which tally of the books a count was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Lost(Reason),
    LeftOut(sampling::Cause),
}

impl Report {
    /// Takes everything that no report has carried yet; `None` if there is nothing.
    pub(crate) fn take(books: &Books) -> Option<Self> {
        let mut report = Self { taken: Vec::new() };
        let lost = Reason::ALL.into_iter().map(Cause::Lost);
        for cause in lost.chain(sampling::Cause::ALL.into_iter().map(Cause::LeftOut)) {
            let Some(name) = cause.wire_name() else { continue };
            let tally = cause.tally(books);
            let there = tally.take();
            let room = QUANTITY_MAX - report.quantity(name);
            let taken = Count {
                transactions: there.transactions.min(room.transactions),
                spans: there.spans.min(room.spans),
            };
            if taken != there {
                tally.add(there - taken);
            }
            if !taken.is_zero() {
                report.taken.push((cause, taken));
            }
        }
        if report.taken.is_empty() { None } else { Some(report) }
    }

    /// Puts back exactly what was taken.
    pub(crate) fn restore(self, books: &Books) {
        for (cause, count) in self.taken {
            cause.tally(books).add(count);
        }
    }

    /// Writes the report as a whole envelope into `parcel`, replacing what was there but for its
    /// memory.
    pub(crate) fn write_envelope(&self, parcel: &mut Parcel, unix_now: Duration) {
        let payload = self.payload(unix_now);
        let bytes = &mut parcel.bytes;
        bytes.clear();
        bytes.extend_from_slice(HEADER_OPEN);
        let sent_at = bytes.len()..bytes.len() + SENT_AT_BLANK.len();
        bytes.extend_from_slice(SENT_AT_BLANK.as_bytes());
        bytes.extend_from_slice(b"}\n{\"type\":\"client_report\",\"length\":");
        bytes.extend_from_slice(itoa::Buffer::new().format(payload.len()).as_bytes());
        bytes.extend_from_slice(b"}\n");
        bytes.extend_from_slice(&payload);
        bytes.push(b'\n');
        parcel.sent_at = sent_at;
        parcel.category = Category::Internal;
        parcel.event_id = None;
        parcel.count = Count::default();
    }

    fn payload(&self, unix_now: Duration) -> Vec<u8> {
        let mut out = Vec::with_capacity(PAYLOAD_MAX);
        let (seconds, micros) = (unix_now.as_secs(), unix_now.subsec_micros());
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{{\"timestamp\":{seconds}.{micros:06},\"discarded_events\":[");
        let mut comma = "";
        for (reason, count) in self.merged() {
            for (category, quantity) in [("transaction", count.transactions), ("span", count.spans)]
            {
                // The server drops an entry of quantity 0.
                if quantity > 0 {
                    let _ = write!(
                        out,
                        "{comma}{{\"reason\":\"{reason}\",\"category\":\"{category}\",\
                         \"quantity\":{quantity}}}"
                    );
                    comma = ",";
                }
            }
        }
        out.extend_from_slice(b"]}");
        out
    }

    /// What is written, by the server's names for the reasons.
    fn merged(&self) -> Vec<(&'static str, Count)> {
        let mut merged: Vec<(&'static str, Count)> = Vec::new();
        for (cause, count) in &self.taken {
            let Some(name) = cause.wire_name() else { continue };
            match merged.iter_mut().find(|(other, _)| *other == name) {
                Some((_, sum)) => *sum += *count,
                None => merged.push((name, *count)),
            }
        }
        merged
    }

    /// What was taken so far for one of the server's reasons.
    fn quantity(&self, name: &str) -> Count {
        let same = self.taken.iter().filter(|(cause, _)| cause.wire_name() == Some(name));
        same.fold(Count::default(), |sum, (_, count)| sum + *count)
    }
}

impl Cause {
    fn wire_name(self) -> Option<&'static str> {
        match self {
            Self::Lost(reason) => reason.client_report(),
            Self::LeftOut(cause) => Some(cause.as_str()),
        }
    }

    fn tally(self, books: &Books) -> &Tally {
        match self {
            Self::Lost(reason) => books.unreported.of(reason),
            Self::LeftOut(cause) => books.sampling.unreported(cause),
        }
    }
}

/// The envelope header up to `sent_at`, which needs a member before it.
const HEADER_OPEN: &[u8] =
    concat!(r#"{"sdk":{"name":"hotspan","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#)
        .as_bytes();

/// What the spec allows a report.
const PAYLOAD_MAX: usize = 4096;

/// The largest quantities that the server can read.
const QUANTITY_MAX: Count = Count { transactions: u32::MAX as u64, spans: u32::MAX as u64 };

#[cfg(test)]
mod tests {
    use std::thread;

    use serde_json::{Value, json};

    use super::*;
    use crate::flush::envelope::Way;
    use sampling::Cause::{Backpressure, SampleRate};

    const UNIX_NOW: Duration = Duration::new(1_767_225_600, 12_345_678);

    fn parcel() -> Parcel {
        Parcel {
            bytes: b"left over".to_vec(),
            sent_at: 0..0,
            category: Category::Transaction,
            event_id: None,
            count: Count::transaction(3),
            way: Way::default(),
        }
    }

    /// The payload of the one item in the envelope, checked to be well framed.
    fn payload_of(report: &Report) -> Value {
        let mut parcel = parcel();
        report.write_envelope(&mut parcel, UNIX_NOW);
        assert_eq!(parcel.category, Category::Internal);
        assert_eq!((parcel.event_id, parcel.count), (None, Count::default()));
        assert_eq!(&parcel.bytes[parcel.sent_at.clone()], SENT_AT_BLANK.as_bytes());

        let text = str::from_utf8(&parcel.bytes).unwrap();
        let mut lines = text.split('\n');
        let header: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert_eq!(header["sent_at"], "0000-00-00T00:00:00.000000Z");
        assert_eq!(header["sdk"]["name"], "hotspan");
        let item: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        let payload = lines.next().unwrap();
        assert_eq!(item, json!({"type": "client_report", "length": payload.len()}));
        assert_eq!((lines.next(), lines.next()), (Some(""), None));
        assert!(payload.len() <= PAYLOAD_MAX, "{}", payload.len());

        let mut stored = parcel.bytes.clone();
        stored.drain(parcel.sent_at);
        let header = str::from_utf8(&stored).unwrap().lines().next().unwrap().to_owned();
        assert!(serde_json::from_str::<Value>(&header).unwrap().get("sent_at").is_none());

        serde_json::from_str(payload).unwrap()
    }

    #[test]
    fn nothing_lost_is_no_report() {
        let books = Books::new();
        assert_eq!(Report::take(&books), None);
        // The server counted what it refused, and nobody is left to send after closing.
        for reason in [Reason::Refused, Reason::AfterShutdown, Reason::ShutdownDeadline] {
            books.lose(reason, Count::transaction(3));
        }
        assert_eq!(Report::take(&books), None);
    }

    #[test]
    fn reasons_are_merged_into_the_servers_and_unsampled_roots_count_alone() {
        let books = Books::new();
        books.lose(Reason::RingFull, Count::transaction(4));
        books.lose(Reason::Unfinished, Count::spans(2));
        books.lose(Reason::NetworkError, Count::transaction(0));
        books.lose(Reason::TransactionLimit, Count::spans(1));
        for _ in 0..7 {
            books.sampling.leave_out(SampleRate, 1);
        }
        books.sampling.leave_out(Backpressure, 3);
        let report = Report::take(&books).unwrap();
        fn event(reason: &str, category: &str, quantity: u64) -> Value {
            json!({"reason": reason, "category": category, "quantity": quantity})
        }
        assert_eq!(
            payload_of(&report),
            json!({
                "timestamp": 1_767_225_600.012_345,
                "discarded_events": [
                    event("buffer_overflow", "transaction", 1),
                    event("buffer_overflow", "span", 8),
                    event("network_error", "transaction", 1),
                    event("network_error", "span", 1),
                    event("sample_rate", "transaction", 7),
                    event("sample_rate", "span", 7),
                    event("backpressure", "transaction", 3),
                    event("backpressure", "span", 3),
                ]
            })
        );
        assert_eq!(Report::take(&books), None, "taken is gone");
    }

    #[test]
    fn no_entry_of_nothing() {
        let books = Books::new();
        books.lose(Reason::Unfinished, Count::spans(2));
        let payload = payload_of(&Report::take(&books).unwrap());
        assert_eq!(payload["discarded_events"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn restoring_puts_each_count_back_where_it_was() {
        let books = Books::new();
        for (n, reason) in (1..).zip(Reason::ALL) {
            books.lose(reason, Count::transaction(n));
        }
        books.sampling.leave_out(SampleRate, 5);
        books.sampling.leave_out(Backpressure, 6);
        let before = Reason::ALL.map(|reason| books.unreported.of(reason).read());
        let report = Report::take(&books).unwrap();
        assert!(books.unreported.of(Reason::RingFull).read().is_zero());
        // A loss that happens meanwhile is kept beside what comes back.
        books.lose(Reason::RingFull, Count::spans(1));
        report.restore(&books);
        let mut after = Reason::ALL.map(|reason| books.unreported.of(reason).read());
        after[0] = after[0] - Count::spans(1);
        assert_eq!(after, before);
        for (cause, count) in [(SampleRate, 5), (Backpressure, 6)] {
            let both = Count { transactions: count, spans: count };
            assert_eq!(books.sampling.unreported(cause).read(), both);
            assert_eq!(books.sampling.left_out(cause), count);
        }
    }

    #[test]
    fn what_the_server_cannot_read_waits_and_the_largest_report_fits() {
        let books = Books::new();
        let most = u64::from(u32::MAX);
        let huge = Count { transactions: 3 * most, spans: most + 1 };
        for reason in Reason::ALL {
            books.lose(reason, huge);
        }
        for cause in sampling::Cause::ALL {
            books.sampling.unreported(cause).add(huge);
        }
        let total = |books: &Books| {
            let lost = Reason::ALL.into_iter().map(|reason| books.unreported.of(reason).read());
            let left_out =
                sampling::Cause::ALL.map(|cause| books.sampling.unreported(cause).read());
            lost.chain(left_out).fold(Count::default(), |sum, count| sum + count)
        };
        let before = total(&books);

        let report = Report::take(&books).unwrap();
        let payload = payload_of(&report);
        let events = payload["discarded_events"].as_array().unwrap();
        assert_eq!(events.len(), 2 * 12, "every reason the server knows from us, both categories");
        assert!(events.iter().all(|event| event["quantity"].as_u64() == Some(most)), "{payload}");
        let sent = Count { transactions: 12 * most, spans: 12 * most };
        assert_eq!(total(&books) + sent, before);
        report.restore(&books);
        assert_eq!(total(&books), before);
    }

    #[test]
    fn counts_are_conserved_while_ten_threads_add() {
        const THREADS: u64 = 10;
        const LOSSES: u64 = 100_000;
        let books = Books::new();
        let mut sent = Count::default();
        let mut restored = 0;
        thread::scope(|scope| {
            let adders: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let books = &books;
                    scope.spawn(move || {
                        for n in 0..LOSSES {
                            let reason = Reason::ALL[((thread + n) % 9) as usize];
                            books.lose(reason, Count::transaction(n % 3));
                            books.sampling.leave_out(SampleRate, 1);
                        }
                    })
                })
                .collect();
            // Every second report fails and is restored, as long as anything may still come.
            for round in 0_u64.. {
                let last = adders.iter().all(thread::ScopedJoinHandle::is_finished);
                match Report::take(&books) {
                    Some(report) if round % 2 == 0 && !last => {
                        report.restore(&books);
                        restored += 1;
                    }
                    Some(report) => {
                        sent = report.taken.iter().fold(sent, |sum, (_, count)| sum + *count);
                    }
                    None => {}
                }
                if last {
                    break;
                }
                thread::yield_now();
            }
        });
        assert_eq!(Report::take(&books), None);
        let lost = Reason::ALL
            .iter()
            .filter(|reason| reason.client_report().is_some())
            .map(|reason| books.lost.of(*reason).read())
            .fold(Count::default(), |sum, count| sum + count);
        let unsampled = THREADS * LOSSES;
        assert_eq!(sent, lost + Count { transactions: unsampled, spans: unsampled });
        assert!(restored > 0);
    }
}
