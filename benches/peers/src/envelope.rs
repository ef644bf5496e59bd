//! How many spans an envelope of Sentry's holds: its transaction is one, its children are the rest.

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Deserialize)]
struct ItemHeader {
    #[serde(rename = "type")]
    kind: String,
    length: Option<usize>,
}

/// As far as it is to be counted.
#[derive(Deserialize)]
struct Transaction {
    #[serde(default)]
    spans: Vec<IgnoredAny>,
}

/// `None`: it cannot be read.
#[must_use]
pub fn envelope_spans(bytes: &[u8]) -> Option<u64> {
    let mut spans = 0;
    let (_, mut rest) = line(bytes);
    while !rest.is_empty() {
        let (header, after) = line(rest);
        if header.is_empty() {
            rest = after;
            continue;
        }
        let header: ItemHeader = serde_json::from_slice(header).ok()?;
        let payload = match header.length {
            Some(length) => after.get(..length)?,
            None => line(after).0,
        };
        rest = after.get(payload.len()..)?;
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        if header.kind == "transaction" {
            spans += 1 + serde_json::from_slice::<Transaction>(payload).ok()?.spans.len() as u64;
        }
    }
    Some(spans)
}

/// The first line, and what follows it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    (line, rest.strip_prefix(b"\n").unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_and_their_children_are_counted_and_nothing_else() {
        let one = br#"{"type":"transaction","spans":[{},{"a":[{}]}]}"#;
        let report = b"{\"type\":\"client_report\"}\n{\"spans\":[1,2]}\n";
        let mut bytes = b"{\"event_id\":\"1\"}\n".to_vec();
        bytes.extend(format!("{{\"type\":\"transaction\",\"length\":{}}}\n", one.len()).bytes());
        bytes.extend(one);
        bytes.push(b'\n');
        bytes.extend(report);
        bytes.extend(b"{\"type\":\"transaction\"}\n{\"type\":\"transaction\"}");
        assert_eq!(envelope_spans(&bytes), Some(4));
        assert_eq!(envelope_spans(&bytes[..60]), None);
    }
}
