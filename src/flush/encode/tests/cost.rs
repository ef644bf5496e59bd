//! What encoding costs: allocations always, time and instructions when asked.
//!
//! `cargo test --release --lib encode_cost -- --ignored --nocapture`
//!
//! Instructions: run the binary that `cargo test --release --lib --no-run` names under
//! `valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*count_*'`, with the arguments
//! `encode_instructions --ignored` and two values of `ENCODINGS`, and divide the difference.

use super::*;

/// An item of `children` children, with or without two tags and two data values on each.
fn item(children: u64, attributes: bool) -> Vec<Slot> {
    let mut run = Run::new(1 << 52 | 1);
    let root = run.root;
    for index in 1..=children {
        let key = root + index;
        if attributes {
            run = run
                .tag(key, "queue", "orders")
                .tag(key, "attempt", 3)
                .data(key, "http.request.method", "GET")
                .data(key, "size", 4096);
        }
        let start = index * 1_000_000;
        run = run.child(
            key,
            root,
            "http.client",
            "GET https://shop.example/api/orders/{id}",
            (start, start + 750_123),
        );
    }
    run.root("queue.process", "process order", (0, 2_000_000_000)).slots
}

#[test]
fn nothing_is_allocated_in_steady_state() {
    let mut encoder = Encoder::new(site());
    let mut buffer = Vec::new();
    let mut inline = Run::new(1);
    inline.inline = true;
    let inline =
        inline.tag(1, "key", "value").child(2, 1, "op", "text", (0, 1)).root("a", "b", (0, 1));
    let runs = [
        item(20, true),
        plain_item().slots,
        all_types().slots,
        errors_and_http().slots,
        inline.slots,
        trace::continued_item().slots,
        trace::own_decision().slots,
        trace::linked_item().slots,
    ];
    for round in 0..40 {
        for run in &runs {
            let taken = std::mem::take(&mut buffer);
            let mut parcel = None;
            let info = allocation_counter::measure(|| {
                parcel = encoder.transaction(run, &WIRE, &ANCHOR, taken).ok();
            });
            buffer = parcel.unwrap().0.bytes;
            if round > 0 {
                assert_eq!(info.count_total, 0);
            }
        }
    }
    // The counter counts.
    assert_eq!(
        allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1)))).count_total,
        1
    );
}

#[inline(never)]
fn count_bare(encode: &mut dyn FnMut()) {
    std::hint::black_box("not the same function");
    encode();
}

#[inline(never)]
fn count_attributes(encode: &mut dyn FnMut()) {
    encode();
}

#[test]
#[ignore = "a measurement: run it in release mode, under callgrind"]
fn encode_instructions() {
    let times = std::env::var("ENCODINGS").map_or(1, |times| times.parse().unwrap());
    for (attributes, count) in
        [(false, count_bare as fn(&mut dyn FnMut())), (true, count_attributes)]
    {
        let run = item(20, attributes);
        let mut encoder = Encoder::new(site());
        let mut buffer = Some(Vec::new());
        for _ in 0..times {
            count(&mut || {
                let (parcel, _) = encoder
                    .transaction(std::hint::black_box(&run), &WIRE, &ANCHOR, buffer.take().unwrap())
                    .unwrap();
                buffer = Some(parcel.bytes);
            });
        }
    }
}

#[test]
#[ignore = "a measurement: run it in release mode"]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn encode_cost() {
    use std::time::Instant;

    fn best(rounds: u32, mut work: impl FnMut()) -> f64 {
        let mut times: Vec<f64> = (0..15)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..rounds {
                    work();
                }
                start.elapsed().as_nanos() as f64 / f64::from(rounds)
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    println!(
        "{:>9} {:>10} {:>10} {:>12} {:>9} {:>9} {:>10}",
        "children", "attributes", "ns", "ns a child", "bytes", "memcpy", "serde_json"
    );
    for attributes in [false, true] {
        let mut alone = 0.0;
        for children in [0, 1, 3, 20, 1000] {
            let run = item(children, attributes);
            let mut encoder = Encoder::new(site());
            let mut buffer = Some(Vec::new());
            let rounds = 1 + 200_000 / (u32::try_from(children).unwrap() + 4);
            let mut encode = || {
                let (parcel, _) = encoder
                    .transaction(std::hint::black_box(&run), &WIRE, &ANCHOR, buffer.take().unwrap())
                    .unwrap();
                buffer = Some(parcel.bytes);
            };
            encode();
            let nanos = best(rounds, encode);
            let bytes = buffer.unwrap();
            let mut copy = Vec::with_capacity(bytes.len());
            let memcpy = best(rounds, || {
                copy.clear();
                copy.extend_from_slice(std::hint::black_box(&bytes));
            });
            let mut oracle =
                Oracle { site: &site(), wire: &WIRE, anchor: &ANCHOR, cut: 0, dropped: 0 };
            let (_, mirror, _) = if children < 100 {
                oracle.transaction(&run)
            } else {
                (parse(&bytes).0, parse(&bytes).2, 0)
            };
            let mut json = Vec::new();
            let serde = best(1 + rounds / 20, || {
                json.clear();
                serde_json::to_writer(&mut json, std::hint::black_box(&mirror)).unwrap();
            });
            if children == 0 {
                alone = nanos;
            }
            let each = if children == 0 { 0.0 } else { (nanos - alone) / children as f64 };
            println!(
                "{children:>9} {attributes:>10} {nanos:>10.0} {each:>12.1} {:>9} {memcpy:>9.0} \
                 {serde:>10.0}",
                bytes.len(),
            );
        }
    }
}
