//! Wire ids as the rest of the crate asks for them: the process's own, or those that a capture has
//! fixed.
//!
//! Recording never comes here: ids are derived when somebody asks. That somebody pays one load when
//! no capture fixes ids, which is always, outside tests.

use crate::shared::id::{SpanId, TraceId, WireIds, mix};
use crate::shared::settings::SETTINGS;
use crate::shared::sync::{AtomicU64, Ordering};

use super::running;

/// Captures that fix ids.
static FIXING: AtomicU64 = AtomicU64::new(0);

/// The trace id of a root's key.
pub(crate) fn trace_id(root: u64) -> TraceId {
    match fixed(root) {
        Some((wire, number)) => wire.trace_id(number),
        None => SETTINGS.wire_ids().trace_id(root),
    }
}

/// The span id of a key.
pub(crate) fn span_id(key: u64) -> SpanId {
    match fixed(key) {
        Some((wire, number)) => wire.span_id(number),
        None => SETTINGS.wire_ids().span_id(key),
    }
}

/// The fixed mapping that a key falls under, and what stands for the key there.
fn fixed(key: u64) -> Option<(WireIds, u64)> {
    // Relaxed: a capture counts itself on the thread whose keys it fixes, and threads that it hands
    // spans to come after that by however they got them.
    if FIXING.load(Ordering::Relaxed) == 0 { None } else { running::fixed(key) }
}

/// While there is one, keys are looked up.
#[derive(Debug)]
pub(super) struct Fixing(());

impl Fixing {
    pub(super) fn begin() -> Self {
        FIXING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Fixing {
    fn drop(&mut self) {
        FIXING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The mapping that belongs to a seed.
pub(super) const fn wire(seed: u64) -> WireIds {
    let first = mix(seed);
    let (second, third) = (mix(first), mix(first ^ 1));
    WireIds { seed: [first, second, third, mix(second ^ third)] }
}
