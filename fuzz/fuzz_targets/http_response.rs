//! Whatever a server answers, in whatever pieces, a request ends: with an answer that is bounded and
//! shows no key, or with an error. The real HTTP client reads it, from memory.
//!
//! Input: a byte that says how the connection ends, two where the answer is divided, the answer.
#![no_main]

use hotspan::fuzzing::http_response;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [end, low, high, answer @ ..] = data else { return };
    http_response(answer, usize::from(u16::from_le_bytes([*low, *high])), *end);
});
