//! Envelopes taken apart again, strictly: by the framing of the protocol, and by a parser that is
//! not ours.

use std::collections::BTreeMap;

use hotspan::Count;
use serde_json::Value;

/// An envelope with its one item.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) header: Value,
    /// `transaction` or `client_report`.
    pub(crate) kind: String,
    pub(crate) payload: Value,
}

impl Opened {
    /// Takes apart; panics when anything is not as the protocol has it.
    pub(crate) fn new(envelope: &[u8]) -> Self {
        let mut lines = envelope.split(|byte| *byte == b'\n');
        let header = parse(lines.next().unwrap());
        let item = parse(lines.next().unwrap());
        let payload = lines.next().unwrap();
        assert_eq!(lines.next(), Some(&b""[..]), "one item, and a newline at the end");
        assert_eq!(lines.next(), None);
        assert_eq!(item["length"], payload.len());
        let kind = item["type"].as_str().unwrap().to_owned();
        Self { header, kind, payload: parse(payload) }
    }

    /// The spans of a transaction, without its root.
    pub(crate) fn spans(&self) -> &[Value] {
        self.payload["spans"].as_array().unwrap()
    }

    /// The child with this description, which must be the only one.
    pub(crate) fn span(&self, description: &str) -> &Value {
        let mut all = self.spans().iter().filter(|span| span["description"] == description);
        let span = all.next().unwrap_or_else(|| panic!("no {description} in {:#}", self.payload));
        assert!(all.next().is_none(), "several {description}");
        span
    }

    /// The root as `contexts.trace` has it.
    pub(crate) fn root(&self) -> &Value {
        &self.payload["contexts"]["trace"]
    }

    pub(crate) fn name(&self) -> &str {
        self.payload["transaction"].as_str().unwrap()
    }

    /// The id by which the server knows a transaction again; a client report has none.
    pub(crate) fn event_id(&self) -> &str {
        self.header["event_id"].as_str().unwrap()
    }

    /// What the books must hold for it.
    pub(crate) fn count(&self) -> Count {
        Count { transactions: 1, spans: 1 + self.spans().len() as u64 }
    }

    /// The ids of all spans, the root's among them.
    pub(crate) fn span_ids(&self) -> impl Iterator<Item = u64> {
        let roots = std::iter::once(self.root());
        roots.chain(self.spans()).map(|span| {
            let text = span["span_id"].as_str().unwrap();
            assert_eq!(text.len(), 16);
            u64::from_str_radix(text, 16).unwrap()
        })
    }
}

/// What client reports among the envelopes told the server, added up: by reason and category.
pub(crate) fn reported(envelopes: &[Opened]) -> BTreeMap<(String, String), u64> {
    let mut sums = BTreeMap::new();
    for report in envelopes.iter().filter(|opened| opened.kind == "client_report") {
        for event in report.payload["discarded_events"].as_array().unwrap() {
            let text = |key: &str| event[key].as_str().unwrap().to_owned();
            let quantity = event["quantity"].as_u64().unwrap();
            assert!(quantity > 0, "the server drops entries of nothing");
            *sums.entry((text("reason"), text("category"))).or_default() += quantity;
        }
    }
    sums
}

fn parse(line: &[u8]) -> Value {
    let mut bytes = line.to_vec();
    simd_json::serde::from_slice(&mut bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(line)))
}
