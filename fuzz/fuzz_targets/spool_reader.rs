//! Any bytes are a segment of the spool, up to where they are none. What is read writes itself the
//! same again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| hotspan::fuzzing::spool_reader(data));
