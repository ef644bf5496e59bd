"""Relay's judgement of transaction envelopes; started by scripts/relay-normaliser.

Each transaction goes through Relay's own normaliser. What comes out must say the same as what went in:
nothing dropped, changed or marked in `_meta`. What Relay may add is listed in ADDED, each with its
reason; everything else is a finding.
"""

import copy
import json
import math
import pathlib
import sys

from sentry_relay.consts import SPAN_STATUS_CODE_TO_NAME
from sentry_relay.processing import VALID_PLATFORMS, StoreNormalizer

# What Relay may add, by place ("*" is any one name), and why that is no change of meaning.
ADDED = {
    "level": "every event has a level: info",
    "logger": "every event has a logger: empty",
    "received": "the time of arrival",
    "project": "the project it arrived in",
    "tags.server_name": "the fact server_name becomes this tag",
    "contexts.*.type": "the name of the context, said again inside",
    "contexts.os.os": "name and version in one text",
    "contexts.runtime.runtime": "name and version in one text",
    "contexts.trace.op": "`default`, if none was given",
    "contexts.trace.status": "`unknown`, if none was given",
    "measurements.*.unit": "`none`, if none was given",
    "spans.*.op": "`default`, if none was given",
    "spans.*.measurements.*.unit": "`none`, if none was given",
}
# What the values of some additions must be.
DEFAULTS = {
    "level": "info",
    "logger": "",
    "contexts.trace.op": "default",
    "contexts.trace.status": "unknown",
    "measurements.*.unit": "none",
    "spans.*.op": "default",
    "spans.*.measurements.*.unit": "none",
}

# What Relay may make of a status: its versions differ over this one word. Older ones read it as code 2,
# which they write as `unknown` but do not read; newer ones read it as `internal_error`. It stays a failure
# of unsaid kind, and no other word of the specification says that to both.
STATUS_ALIASES = {"unknown_error": {"unknown", "internal_error"}}
STATUSES = {
    "unknown_error" if name == "unknown" else name for name in SPAN_STATUS_CODE_TO_NAME.values()
}


class Finding(Exception):
    """The envelope cannot even be judged."""


def unique(pairs):
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise Finding(f"a key stands twice in {keys}")
    return dict(pairs)


def loads(data):
    try:
        return json.loads(data, object_pairs_hook=unique)
    except ValueError as error:
        raise Finding(f"no JSON: {error}") from error


def parse(data):
    """The header and the items of an envelope: pairs of item header and payload."""
    line, _, rest = data.partition(b"\n")
    header, items = loads(line), []
    while rest:
        line, _, rest = rest.partition(b"\n")
        item = loads(line)
        payload, rest = rest[: item["length"]], rest[item["length"] :]
        if len(payload) != item["length"] or (rest and not rest.startswith(b"\n")):
            raise Finding(f"length {item['length']} is not the payload's")
        items.append((item, payload))
        rest = rest[1:]
    return header, items


def normalise(payload):
    """What Relay stores. The bounds keep old recordings from being moved in time."""
    normalizer = StoreNormalizer(
        project_id=1,
        is_renormalize=False,
        remove_other=True,
        enable_trimming=True,
        normalize_user_agent=False,
        measurements={"builtinMeasurements": [], "maxCustomMeasurements": 10},
        max_secs_in_past=100 * 365 * 86400,
        max_secs_in_future=60,
    )
    return normalizer.normalize_event(raw_event=payload)


def pattern(place):
    """The place with names that vary replaced by `*`."""
    parts = place.split("\0")
    if parts[0] == "spans" and len(parts) > 1:
        return ".".join(["spans", "*", *pattern("\0".join(parts[2:])).split(".")])
    if parts[0] == "measurements" and len(parts) > 1:
        parts[1] = "*"
    return ".".join(parts)


def is_allowed(place, value):
    name = pattern(place)
    if name.startswith("contexts.") and name.endswith(".type") and name.count(".") == 2:
        return value == place.split("\0")[1]
    return name in ADDED and (name not in DEFAULTS or value == DEFAULTS[name])


def same_float(before, after):
    """Relay's parser rounds a 17-digit number to a neighbour of the nearest double now and then."""
    return before == after or math.nextafter(before, after) == after


def compare(before, after, place, findings):
    here = place.replace("\0", ".") or "the event"
    number = isinstance(before, (int, float)) and not isinstance(before, bool)
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before:
            below = f"{place}\0{key}" if place else key
            if after.get(key) is None:
                findings.append(f"{below.replace(chr(0), '.')}: dropped")
            else:
                compare(before[key], after[key], below, findings)
        for key in after.keys() - before.keys():
            below = f"{place}\0{key}" if place else key
            if not is_allowed(below, after[key]):
                findings.append(f"{below.replace(chr(0), '.')}: added {after[key]!r:.80}")
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            findings.append(f"{here}: {len(before)} became {len(after)}")
        for index, (one, other) in enumerate(zip(before, after)):
            compare(one, other, f"{place}\0{index}", findings)
    elif number and place.split("\0")[-1] == "value" and "measurements" in place:
        # Relay reads these as floats.
        if not same_float(float(before), after):
            findings.append(f"{here}: {before!r} became {after!r}")
    elif place.split("\0")[-1] == "status" and after in STATUS_ALIASES.get(before, ()):
        pass
    elif isinstance(before, float) and isinstance(after, float) and same_float(before, after):
        pass
    elif type(before) is not type(after) or before != after:
        findings.append(f"{here}: {before!r:.80} became {after!r:.80}")


def judge_trace(header, event, findings):
    """The `trace` header: what Relay reads only as strings, and what must agree.

    A trace that was continued (its root has a parent) has the header of its head, or none."""
    trace = header.get("trace")
    is_head = "parent_span_id" not in event["contexts"]["trace"]
    if trace is None:
        return
    findings.extend(f"trace.{key}: not a string" for key in trace if not isinstance(trace[key], str))
    if findings:
        return
    if trace["trace_id"] != event["contexts"]["trace"]["trace_id"]:
        findings.append("trace.trace_id: another one than the event's")
    if len(trace["public_key"]) != 32:
        findings.append("trace.public_key: not 32 characters")
    rate, rand = float(trace["sample_rate"]), float(trace["sample_rand"])
    if not (0 <= rate <= 1 and 0 <= rand < 1 and math.isfinite(rate)):
        findings.append("trace.sample_rate: out of range")
    if trace["sampled"] != "true" or (not is_head and rand >= rate):
        findings.append("trace.sampled: it was kept, so the rate must be above the number")
    for key in ("release", "environment", "transaction"):
        if is_head and key in trace and trace[key] != event.get(key):
            findings.append(f"trace.{key}: not the event's")


def judge_event(header, payload):
    before = loads(payload)
    findings = []
    if header.get("event_id") != before.get("event_id"):
        findings.append("event_id: the header has another one")
    try:
        judge_trace(header, before, findings)
        raw = normalise(payload)
    except (KeyError, TypeError, ValueError) as error:
        return before, [f"unreadable: {error!r}"]
    except Exception as error:  # Relay's own errors have no common class of their own.
        return before, [f"Relay refuses it: {error}"]
    if raw.get("_meta"):
        findings.append(f"_meta: {json.dumps(raw['_meta']):.300}")
    if raw.get("errors"):
        findings.append(f"errors: {json.dumps(raw['errors']):.300}")
    after = {key: value for key, value in raw.items() if key not in ("_meta", "errors")}
    # The two members that Relay stores in another form, brought back into ours.
    after["tags"] = {str(key): value for key, value in after.get("tags") or []}
    if "server_name" in before and after["tags"].get("server_name") == before["server_name"]:
        after["server_name"] = after["tags"]["server_name"]
    before_compared = dict(before, tags=before.get("tags", {}))
    compare(before_compared, after, "", findings)

    spans = before.get("spans", [])
    trace = before["contexts"]["trace"]
    for place, status in [("trace", trace.get("status"))] + [
        (f"spans.{index}", span.get("status")) for index, span in enumerate(spans)
    ]:
        if status is not None and status not in STATUSES:
            findings.append(f"{place}.status: {status!r} is not in Relay's table")
    if before.get("platform") not in VALID_PLATFORMS:
        findings.append(f"platform: {before.get('platform')!r} is not in Relay's table")
    # What the normaliser lets pass and the transaction processor refuses.
    ids = {trace["span_id"]}
    for index, span in enumerate([before, *spans]):
        if span["timestamp"] < span["start_timestamp"]:
            findings.append(f"{f'spans.{index - 1}' if index else 'the event'}: ends before it starts")
    for index, span in enumerate(spans):
        if span["span_id"] in ids:
            findings.append(f"spans.{index}.span_id: not unique")
        ids.add(span["span_id"])
        if span["trace_id"] != trace["trace_id"]:
            findings.append(f"spans.{index}.trace_id: another one")
    for index, span in enumerate(spans):
        if span["parent_span_id"] not in ids:
            findings.append(f"spans.{index}.parent_span_id: nobody's")
        # Nothing of Relay looks at the tags of spans; they follow the rules of an event's.
        for key, value in span.get("tags", {}).items():
            if not value.strip() or len(value) > 200 or "\n" in value:
                findings.append(f"spans.{index}.tags.{key}: a bad value")
    # The limit is the project's, so this normaliser has none.
    measurements = sum(len(place.get("measurements") or {}) for place in [before, *spans])
    if measurements > 10:
        findings.append(f"measurements: {measurements} are more than the 10 that are kept")
    if len(payload) > 1024 * 1024:
        findings.append(f"{len(payload)} bytes are more than an item may have")
    return before, findings


def judge(data):
    """Counts and findings of one envelope."""
    counts = dict.fromkeys(("transactions", "spans", "tags", "data", "measurements", "links"), 0)
    statuses, findings = set(), []
    try:
        header, items = parse(data)
        for item, payload in items:
            if item["type"] != "transaction":
                continue
            event, found = judge_event(header, payload)
            findings += found
            trace = event.get("contexts", {}).get("trace", {})
            spans = event.get("spans", [])
            counts["transactions"] += 1
            counts["spans"] += len(spans)
            for name, root in (
                ("tags", event), ("data", trace), ("measurements", event), ("links", trace),
            ):
                counts[name] += sum(len(place.get(name) or {}) for place in [root, *spans])
            statuses |= {place.get("status") for place in [trace, *spans]} - {None}
    except (Finding, KeyError, TypeError, AttributeError) as error:
        findings.append(f"unreadable: {error}")
    return counts, statuses, findings


def missing_cases(all_data):
    """What no golden envelope shows, of what one must."""
    wanted = {
        "a continued trace with its head's context",
        "a continued trace without context",
        "links of a root",
        "links of a child",
    }
    for data in all_data:
        header, [(_, payload)] = parse(data)
        event = loads(payload)
        trace = event["contexts"]["trace"]
        if "parent_span_id" in trace:
            with_context = "a continued trace with its head's context"
            wanted.discard(with_context if "trace" in header else "a continued trace without context")
        if trace.get("links"):
            wanted.discard("links of a root")
        if any(span.get("links") for span in event["spans"]):
            wanted.discard("links of a child")
    return [f"the golden envelopes miss {case}" for case in sorted(wanted)]


def envelopes(paths):
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            found = sorted(path.rglob("*.envelope"))
            if not found:
                sys.exit(f"relay-normaliser: no *.envelope in {path}")
            yield from found
        elif path.is_file():
            yield path
        else:
            sys.exit(f"relay-normaliser: no such file or folder: {path}")


def table(rows):
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [str(cell).rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join([str(row[0]).ljust(widths[0]), *cells]).rstrip())


def main(paths):
    golden = not paths
    rows = [("envelope", "transactions", "spans", "tags", "data", "measurements", "links", "verdict")]
    failures, seen = [], set()
    for path in envelopes(paths or ["tests/golden"]):
        counts, statuses, findings = judge(path.read_bytes())
        seen |= statuses
        rows.append((path.name, *counts.values(), f"{len(findings)} findings" if findings else "kept as it is"))
        failures += [f"{path}: {finding}" for finding in findings]
    if len(rows) > 40 and not failures:
        totals = [sum(row[column] for row in rows[1:]) for column in range(1, 7)]
        rows = [rows[0], (f"{len(rows) - 1} envelopes", *totals, "kept as they are")]
    table(rows)
    if golden:
        failures += missing_cases(path.read_bytes() for path in envelopes(["tests/golden"]))
    if golden and seen != STATUSES:
        failures.append(f"the golden envelopes miss the statuses {sorted(STATUSES - seen)}")
    for failure in failures[:50]:
        print(failure)
    print("Relay may add: " + ", ".join(ADDED))
    return 1 if failures else 0


def envelope(header, item, body):
    item = dict(item, length=len(body))
    return b"\n".join([json.dumps(header).encode(), json.dumps(item).encode(), body])


def self_test():
    """Breaks a good envelope in every way that must be found."""
    good = pathlib.Path("tests/golden/plain_item.envelope").read_bytes()
    header, [(item, payload)] = parse(good)
    event = json.loads(payload)

    def put(*keys):
        *path, last, value = keys

        def change(header, event):
            place = event
            for key in path:
                place = place[key]
            place[last] = value

        return change

    def drop_member(name):
        return lambda header, event: event.pop(name)

    link = {"trace_id": "a" * 32, "span_id": "b" * 16}
    bad = {
        "an unknown status": put("contexts", "trace", "status", "borked"),
        "the status `unknown`": put("spans", 0, "status", "unknown"),
        "a child's unknown status": put("spans", 0, "status", "fine"),
        "a tag key with `!`": put("tags", "bad!", "x"),
        "a tag key of 201": put("tags", "k" * 201, "x"),
        "a tag value of 201": put("tags", "k", "v" * 201),
        "an empty tag": put("tags", "k", ""),
        "a reserved tag": put("tags", "release", "x"),
        "a tag of two lines": put("spans", 2, "tags", "k", "v\nw"),
        "a name of 201": put("transaction", "n" * 201),
        "an op of 129": put("contexts", "trace", "op", "o" * 129),
        "an end before the start": put("timestamp", event["start_timestamp"] - 1),
        "a child's end before its start": put("spans", 0, "timestamp", event["start_timestamp"] - 1),
        "a null child": put("spans", 0, None),
        "a child without an id": put("spans", 0, "span_id", "0" * 16),
        "two children of one id": put("spans", 0, "span_id", event["spans"][1]["span_id"]),
        "an origin with `-`": put("spans", 0, "origin", "auto-x"),
        "platform rust": put("platform", "rust"),
        "a release with `/`": put("release", "a/b"),
        "11 measurements": put("measurements", {f"m{n}": {"value": n} for n in range(11)}),
        "a measurement with a space": put("measurements", {"a b": {"value": 1}}),
        "spans of 900 KB": put(
            "spans",
            [dict(event["spans"][0], span_id=f"{n + 1:016x}", data={"x": "x" * 1000}) for n in range(800)],
        ),
        "no end": drop_member("timestamp"),
        "no source": drop_member("transaction_info"),
        "a numeric sample_rate": lambda header, event: header["trace"].update(sample_rate=0.5),
        "a trace of another id": lambda header, event: header["trace"].update(trace_id="a" * 32),
        "a link to nothing": put("spans", 0, "links", [dict(link, trace_id="0" * 32)]),
        "a link to no span": put("contexts", "trace", "links", [dict(link, span_id="x")]),
        "more links than are kept": put("contexts", "trace", "links", [link] * 140),
        "a parent that is none": put("contexts", "trace", "parent_span_id", "0" * 16),
        "a continued trace that was not sampled": lambda header, event: (
            event["contexts"]["trace"].update(parent_span_id="b" * 16),
            header["trace"].update(sample_rate="0.1", sample_rand="0.1"),
        ),
    }
    rows = [("made wrong", "found")]
    missed = 0

    def check(name, data, expected):
        nonlocal missed
        findings = judge(data)[2]
        missed += bool(findings) != expected
        [first, *_] = findings or ["nothing"]
        rows.append((name, first.splitlines()[0][:90]))

    check("nothing", good, False)
    for name, change in bad.items():
        header_changed, event_changed = copy.deepcopy(header), copy.deepcopy(event)
        change(header_changed, event_changed)
        body = json.dumps(event_changed).encode()
        check(name, envelope(header_changed, item, body), True)
    check("a wrong length", good.replace(b'"length":', b'"length":1'), True)
    platform = b'"platform":"native"'
    body = payload.replace(platform, platform + b"," + platform)
    check("a key twice", envelope(header, item, body), True)
    check("no JSON", good[:-20], True)
    width = max(len(name) for name, _ in rows)
    for name, found in rows:
        print(f"{name:<{width}}  {found}")
    print(f"{len(rows) - 1} envelopes, {missed} judged wrongly")
    return 1 if missed else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(self_test() if arguments == ["--self-test"] else main(arguments))
