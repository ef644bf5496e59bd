//! Whatever lies in a ring, the envelope is one: three lines of JSON, with the length that it says.
#![no_main]

use hotspan::fuzzing::envelope;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some(bytes) = envelope(data) else { return };
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let [header, item, payload, []] = lines[..] else { panic!("{} lines", lines.len()) };
    let [header, item, event] = [header, item, payload].map(|line| {
        let text = std::str::from_utf8(line).expect("UTF-8");
        serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    });
    assert_eq!(item["length"], payload.len());
    assert_eq!(header["event_id"], event["event_id"]);
    let root = &event["contexts"]["trace"]["span_id"];
    assert!(event["timestamp"].as_f64() >= event["start_timestamp"].as_f64());
    let spans = event["spans"].as_array().expect("an array");
    for span in spans {
        assert!(span["timestamp"].as_f64() >= span["start_timestamp"].as_f64());
        let parent = &span["parent_span_id"];
        assert!(parent == root || spans.iter().any(|other| other["span_id"] == *parent));
    }
});
