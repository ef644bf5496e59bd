//! What a consumer makes of a message's headers, and of when it was published.

use crate::propagate::{ENQUEUED_TIME, Incoming, is_named, publish_time};
use crate::propagation::continue_from;
use crate::shared::ledger;

pub(super) use crate::test::now::unix_nanos as now;

/// The trace, and when the message was published, in unix nanoseconds. One pass.
pub(super) fn read<I, K, V>(headers: I) -> (Incoming, Option<u64>)
where
    I: IntoIterator<Item = (K, V)>,
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let mut published = None;
    let incoming = continue_from(headers.into_iter().inspect(|(name, value)| {
        if published.is_none() && is_named(name.as_ref(), ENQUEUED_TIME) {
            published = publish_time::parse(value.as_ref());
        }
    }));
    (incoming, published)
}

/// Nanoseconds between the two; `None` where one is not known, that is, 0. Below 0 is 0, and
/// counted: clocks differ.
pub(super) fn waited(published: u64, received: u64) -> Option<u64> {
    if published == 0 || received == 0 {
        return None;
    }
    Some(received.checked_sub(published).unwrap_or_else(|| {
        ledger::books().messages_skewed.add(1);
        0
    }))
}

/// With a fraction.
pub(super) const fn milliseconds(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}
