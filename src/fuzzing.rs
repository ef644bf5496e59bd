//! The pure parts, opened to the fuzz targets in `fuzz/`. Compiled only under `cfg(fuzzing)`, which
//! cargo-fuzz sets.

use std::time::Duration;

use crate::flush::envelope::Category;
use crate::flush::limits::Limits;
use crate::transport::Response;

/// Feeds answers to the rate limits, and checks after each that no wait is longer than a day and
/// that a transaction never waits less than a client report.
pub fn rate_limits(answers: &[Response], now: Duration, unix_now: Duration) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let mut limits = Limits::default();
    for answer in answers {
        let before = limits;
        limits.update(answer, now, unix_now);
        let wait = |limits: &Limits, category| limits.blocked(category, now).unwrap_or_default();
        let [transaction, internal] = [Category::Transaction, Category::Internal].map(|category| {
            let wait_now = wait(&limits, category);
            assert!(wait_now >= wait(&before, category), "a limit was shortened");
            wait_now
        });
        assert!(internal <= transaction && transaction <= DAY);
    }
}
