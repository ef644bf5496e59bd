//! Whatever a server puts into its headers silences us for a day at most, and never panics.
//!
//! Input: lines, each an answer: its first byte says which status, and which headers are there;
//! they are divided by a tab. The length of the input moves the clocks.
#![no_main]

use std::time::Duration;

use hotspan::fuzzing::rate_limits;
use hotspan::transport::Response;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let answers: Vec<Response> = text.split('\n').map(answer).collect();
    let now = Duration::from_secs(text.len() as u64);
    for unix_now in [Duration::ZERO, Duration::from_secs(1_767_225_600), Duration::MAX] {
        rate_limits(&answers, now, unix_now);
    }
});

fn answer(line: &str) -> Response {
    let flags = line.bytes().next().unwrap_or(0);
    let mut response = Response::status(if flags & 1 == 0 { 429 } else { 200 });
    let (limits, retry_after) = line
        .get(1..)
        .unwrap_or_default()
        .split_once('\t')
        .unwrap_or((line.get(1..).unwrap_or_default(), ""));
    if flags & 2 == 0 {
        response.rate_limits = Some(limits.to_owned());
    }
    if flags & 4 == 0 {
        response.retry_after = Some(retry_after.to_owned());
    }
    response
}
