//! A usual message costs no allocation on the way in, nor on the way out.

use std::fmt::{self, Write};
use std::hint::black_box;

use super::{Dsc, Incoming, Outgoing, Policy, TraceHeaders, dsc, site_members};
use crate::shared::id::{SpanId, TraceId};

const HEADERS: [(&str, &str); 4] = [
    ("content-type", "application/json"),
    ("sentry-trace", "4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-1"),
    ("user-agent", "somebody/1.0"),
    (
        "baggage",
        "tenant=blue,sentry-trace_id=4c79f60c11214eb38604f4ae0781bfb2,sentry-public_key=\
         0123456789abcdef0123456789abcdef,sentry-sample_rate=0.25,sentry-sampled=true,\
         sentry-sample_rand=0.123456,sentry-release=checkout%401.27.3,\
         sentry-environment=production,sentry-transaction=POST%20%2Forders,sentry-org_id=42",
    ),
];

/// A buffer of the caller's.
struct Fixed {
    bytes: [u8; 1024],
    len: usize,
}

impl Write for Fixed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let to = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        to.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

fn read() -> Incoming {
    let policy = Policy { org_id: Some("42"), strict: true };
    let incoming = Incoming::read(black_box(HEADERS), &policy);
    assert!(incoming.trace().is_some());
    incoming
}

fn write(dsc: Dsc<'_>, existing: &str) {
    let (trace_id, span_id) = (TraceId(black_box(u128::MAX / 3)), SpanId(u64::MAX / 5));
    let outgoing = Outgoing { trace_id, span_id, sampled: Some(true), dsc, traceparent: true };
    let headers = TraceHeaders::new(&outgoing);
    let mut out = Fixed { bytes: [0; 1024], len: 0 };
    headers.write_http(&mut out).unwrap();
    out.len = 0;
    headers.merge_baggage(existing, &mut out).unwrap();
    black_box(&out.bytes);
}

#[test]
fn nothing_is_allocated_for_a_usual_message() {
    let site = site_members(
        Some("0123456789abcdef0123456789abcdef"),
        Some("checkout@1.27.3"),
        Some("production"),
        Some("42"),
    );
    let transaction = Some("POST /orders");
    let head = Dsc::Head { rate: Some(250_000), rand: 123_456, transaction, site: &site };
    let mut buffer = Vec::with_capacity(64);
    let count = allocation_counter::measure(|| {
        let incoming = read();
        write(incoming.dsc().unwrap(), "tenant=blue");
        write(head, "tenant=blue,sentry-release=old");
        for (_, value) in dsc::raw_members(incoming.members()) {
            black_box(dsc::decode_into(value, &mut buffer));
        }
    });
    assert_eq!(count.count_total, 0);
    // The counter does count, and a long context does allocate.
    let long = format!("sentry-release={}", "x".repeat(600));
    let headers = [("baggage", &*long), HEADERS[1]];
    let count = allocation_counter::measure(|| {
        black_box(Incoming::read(headers, &Policy::default()));
    });
    assert_ne!(count.count_total, 0);
}

/// For callgrind: `--toggle-collect='*cost_of_*'`.
#[test]
#[ignore = "counted by hand under callgrind, in a release build"]
fn instructions() {
    let site = site_members(
        Some("0123456789abcdef0123456789abcdef"),
        Some("checkout@1.27.3"),
        Some("production"),
        Some("42"),
    );
    #[inline(never)]
    fn cost_of_reading() -> Incoming {
        let policy = Policy { org_id: Some("42"), strict: true };
        Incoming::read(black_box(HEADERS), &policy)
    }
    #[inline(never)]
    fn cost_of_writing(outgoing: &Outgoing<'_>) -> TraceHeaders {
        TraceHeaders::new(outgoing)
    }
    #[inline(never)]
    fn cost_of_copying(headers: &TraceHeaders, out: &mut Fixed) {
        headers.write_http(out).unwrap();
    }
    let incoming = read();
    let transaction = Some("POST /orders");
    let head = Dsc::Head { rate: Some(250_000), rand: 123_456, transaction, site: &site };
    let dsc = match std::env::var("DSC").as_deref() {
        Ok("frozen") => incoming.dsc().unwrap(),
        _ => head,
    };
    for _ in 0..1000 {
        match std::env::var("WHAT").as_deref() {
            Ok("read") => drop(black_box(cost_of_reading())),
            what => {
                let (trace_id, span_id) = (TraceId(black_box(u128::MAX / 3)), SpanId(u64::MAX / 5));
                let outgoing =
                    Outgoing { trace_id, span_id, sampled: Some(true), dsc, traceparent: false };
                let headers = black_box(cost_of_writing(black_box(&outgoing)));
                if what == Ok("copy") {
                    let mut out = Fixed { bytes: [0; 1024], len: 0 };
                    cost_of_copying(&headers, &mut out);
                    black_box(&out.bytes);
                }
            }
        }
    }
}
