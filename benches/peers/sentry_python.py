"""The usual item through Sentry's SDK for Python, for scale: a line with a mode on standard input,
a line of JSON on standard output. Nanoseconds of an item, the median of batches."""

import json
import statistics
import sys
import time

import sentry_sdk
from sentry_sdk.transport import Transport

CHILDREN, ITEMS, BATCHES = 3, 200, 9


class Counting(Transport):
    """Counts spans, and throws them away."""

    spans = 0

    def capture_envelope(self, envelope):
        for item in envelope.items:
            if item.type == "transaction":
                Counting.spans += 1 + len(item.payload.json["spans"])


def item(n):
    with sentry_sdk.start_transaction(op="queue.process", name="orders") as transaction:
        transaction.set_data("queue", "orders-eu")
        transaction.set_data("attempt", n)
        for child in range(CHILDREN):
            with sentry_sdk.start_span(op="db.query", name="load order") as span:
                if child % 2 == 0:
                    span.set_data("table", "order_lines")
                else:
                    span.set_data("rows", child)


def start(mode):
    sentry_sdk.init(
        dsn="http://0123456789abcdef0123456789abcdef@127.0.0.1:9/1",
        transport=Counting,
        traces_sample_rate=1.0 if mode == "sampled" else 0.0,
    )


for mode in sys.stdin:
    mode = mode.strip()
    if mode == "off":
        sentry_sdk.get_global_scope().set_client(None)
    else:
        start(mode)
    Counting.spans = 0
    for n in range(ITEMS):
        item(n)
    times = []
    for _ in range(BATCHES):
        begun = time.perf_counter_ns()
        for n in range(ITEMS):
            item(n)
        times.append((time.perf_counter_ns() - begun) / ITEMS)
    result = {
        "mode": mode,
        "version": sentry_sdk.VERSION,
        "python": sys.version.split()[0],
        "wall_ns_item": {
            "median": statistics.median(times), "min": min(times), "max": max(times)
        },
        "recorded": (BATCHES + 1) * ITEMS * (CHILDREN + 1) if mode == "sampled" else 0,
        "delivered": Counting.spans,
    }
    print(json.dumps(result), flush=True)
