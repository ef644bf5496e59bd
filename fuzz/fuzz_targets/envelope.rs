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
    let trace = &event["contexts"]["trace"];
    let (root, trace_id) = (&trace["span_id"], &trace["trace_id"]);
    if let Some(context) = header.get("trace") {
        let members = context.as_object().expect("an object");
        assert!(members.len() <= 64 && members.values().all(Value::is_string));
        assert_eq!(&context["trace_id"], trace_id);
        // Of two members with one key the parser shows the last alone.
        let text = std::str::from_utf8(lines[0]).expect("UTF-8");
        let count = |pattern: &str| text.matches(pattern).count();
        assert_eq!(count(",\"trace_id\":") + count("{\"trace_id\":"), 1);
    }
    for spans in [std::slice::from_ref(trace), event["spans"].as_array().expect("an array")] {
        for links in spans.iter().filter_map(|span| span.get("links")) {
            assert!((1..=128).contains(&links.as_array().expect("an array").len()));
        }
    }
    assert!(event["timestamp"].as_f64() >= event["start_timestamp"].as_f64());
    let spans = event["spans"].as_array().expect("an array");
    for span in spans {
        assert!(span["timestamp"].as_f64() >= span["start_timestamp"].as_f64());
        assert_eq!(&span["trace_id"], trace_id);
        let parent = &span["parent_span_id"];
        assert!(parent == root || spans.iter().any(|other| other["span_id"] == *parent));
    }
});
