//! Whatever comes as `baggage`, what is kept of it is bounded, and what goes out is a legal header.
//!
//! Input: headers, divided by `|`; the first is what an outgoing request has already. The first
//! byte says how often each is repeated, so that short inputs come to the limits, too.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [times, data @ ..] = data else { return };
    let repeated = |header: &[u8]| {
        let mut header = header.repeat(usize::from(*times % 64).max(1));
        header.truncate(20_000); // more than is read of one
        header
    };
    let headers: Vec<Vec<u8>> = data.split(|&byte| byte == b'|').map(repeated).collect();
    let headers: Vec<&[u8]> = headers.iter().map(Vec::as_slice).collect();
    let [existing, headers @ ..] = &headers[..] else { return };
    hotspan::fuzzing::baggage(headers, &String::from_utf8_lossy(existing));
});
