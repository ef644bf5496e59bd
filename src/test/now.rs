//! The wall clock as the crate asks for it where it writes a time down at once: real, or as a
//! capture has fixed it.
//!
//! Spans never come here: their times are worked out afterwards. Whoever asks pays one load more
//! when no capture fixes the time, which is always, outside tests.

use crate::shared::clock;
use crate::shared::sync::{AtomicU64, Ordering};

use super::capture;

/// Captures that fix the time.
static STANDING: AtomicU64 = AtomicU64::new(0);

/// What time it is for the calling thread, in unix nanoseconds.
pub(crate) fn unix_nanos() -> u64 {
    // Relaxed: a capture counts itself on the thread that it runs on, and other threads join it
    // after that.
    let is_standing = STANDING.load(Ordering::Relaxed) > 0;
    let fixed = if is_standing { capture::now() } else { None };
    fixed.unwrap_or_else(clock::unix_nanos)
}

/// While there is one, threads are asked for their capture's time.
#[derive(Debug)]
pub(super) struct Standing(());

impl Standing {
    pub(super) fn begin() -> Self {
        STANDING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        STANDING.fetch_sub(1, Ordering::Relaxed);
    }
}
