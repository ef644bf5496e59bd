//! Any bytes are a `sentry-trace` or none; one that is valid is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| hotspan::fuzzing::sentry_trace(value));
