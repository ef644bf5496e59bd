//! Any bytes are a rules file or an error, which is short and on one line. What is read is what an
//! independent parser reads; what is compiled finds the rules that a scan finds.
#![no_main]

use hotspan::Sampling;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let theirs = serde_json::from_slice::<Sampling>(data);
    match (hotspan::fuzzing::rules_file(data), theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(format!("{ours:?}"), format!("{theirs:?}")),
        // A mark at the start is let pass.
        (Ok(_), Err(error)) => assert!(data.starts_with(b"\xef\xbb\xbf"), "{error}"),
        (Err(_), Err(_)) => {}
        // A number of more digits than fit is one for them, and a list is as good as an object.
        (Err(error), Ok(_)) => assert!(has_long_number(data) || has_list(data), "{error}"),
    }
});

fn has_long_number(data: &[u8]) -> bool {
    data.split(|byte| !byte.is_ascii_digit()).any(|digits| digits.len() > 18)
}

fn has_list(data: &[u8]) -> bool {
    data.trim_ascii_start().starts_with(b"[")
}
