//! Any bytes are a `traceparent` or none; ids and flag are those in their places.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| hotspan::fuzzing::traceparent(value));
