//! Where a thread is in the row of its keys: what is started from here on gets this key and those
//! after it.

use crate::shared::ledger::Reason;
use crate::shared::settings::SETTINGS;

use super::local::LOCAL;

/// The next key of this thread, which gets a lane if it has none yet.
///
/// # Errors
/// Why it cannot record.
pub(crate) fn next_key() -> Result<u64, Reason> {
    let next = LOCAL.try_with(|local| {
        let lane = local.ready(SETTINGS.state())?;
        let key = local.next_key.get();
        local.leave(lane);
        Ok(key)
    });
    next.unwrap_or(Err(Reason::NoRing))
}
