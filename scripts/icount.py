"""What scripts/icount makes of callgrind's two listings: a table, JSON, or a verdict.

Usage: icount.py TARGET BASELINE RUSTC [--json | --check | --accept]
"""

import json
import re
import sys

LOW, HIGH = 1000, 3000
# What an operation may take more than the baseline says, as a share of it, and at least.
ALLOWANCE, AT_LEAST = 0.03, 1.0


def inclusive(target, times):
    found = {}
    for line in open(f"{target}/icount.{times}.txt"):
        match = re.match(r"\s*([\d,]+)\s.*?\b(count_\w+)", line)
        if match and "icount" in line:
            count = int(match[1].replace(",", ""))
            found[match[2]] = max(found.get(match[2], 0), count)
    return found


def measured(target):
    """Of each operation: instructions, and how many pairs of clock reads are among them."""
    low, high = inclusive(target, LOW), inclusive(target, HIGH)
    each = {name: (high[name] - low[name]) / (HIGH - LOW) for name in high}
    nothing = each["count_nothing"]
    for name in each:
        each[name] -= nothing
    transaction = each["count_transaction"]
    return {
        "clock_pair": (each["count_clock_pair"], 1),
        "not_initialised": (each["count_not_initialised"], 0),
        "child_unsampled": (
            (each["count_20_children_unsampled"] - each["count_transaction_unsampled"]) / 20, 0),
        "item_unsampled": (each["count_item_unsampled"], 0),
        "child_recorded": ((each["count_20_children"] - transaction) / 20, 1),
        # Steps share a reading of the clock with the next one.
        "step_recorded": ((each["count_21_steps"] - each["count_step"]) / 20, 0.5),
        "child_two_attributes": ((each["count_20_children_two_attributes"] - transaction) / 20, 1),
        "child_number_and_text": (
            (each["count_20_children_number_and_text"] - transaction) / 20, 1),
        "result": ((each["count_20_results"] - transaction) / 20, 0),
        "transaction_recorded": (transaction, 1),
        # Inside of another one.
        "transaction_inner": ((each["count_20_inner"] - transaction) / 20, 1),
        # A transaction that is detached at once and finished; entering one for a child, and leaving.
        "detach_finish": (each["count_detach_finish"], 1),
        "enter_child_leave": (
            (each["count_20_enter_child_leave"] - each["count_detach_finish"]) / 20, 1),
        "item_sampled": (each["count_item"], 4),
        "item_sampled_texts": (each["count_item_texts"], 4),
        # The same item under rules, the last of which leaves it out: 10 or 200 for other ops, and
        # 200 for other names of its op.
        "item_10_rules": (each["count_item_rules_10"], 0),
        # The last of them with a cap.
        "item_10_rules_capped": (each["count_item_rules_capped"], 0),
        "item_200_rules": (each["count_item_rules_200"], 0),
        "item_200_rules_texts": (each["count_item_rules_200_texts"], 0),
        "item_200_rules_by_name": (each["count_item_rules_200_by_name"], 0),
        "item_200_rules_by_name_texts": (each["count_item_rules_200_by_name_texts"], 0),
        # Recorded on trial, and taken back at its end.
        "item_discarded": (each["count_item_discarded"], 4),
        "transaction_discarded": (each["count_transaction_discarded"], 1),
        # `sentry-trace` and `baggage` into a buffer: of a trace that begins here, and of one that
        # goes on.
        "headers": ((each["count_20_headers"] - transaction) / 20, 0),
        "headers_continued": (
            (each["count_20_headers_continued"] - each["count_continued"]) / 20, 0),
        # Reading what came, and with that a transaction, started and ended.
        "read_headers": (each["count_read_headers"], 0),
        "continued_unsampled": (each["count_continued_unsampled"], 0),
        "continued_recorded": (each["count_continued"], 1),
    }


def verdict(counts, baseline):
    """Rows (name, before, now, whether that is too much); an operation that nobody knows is."""
    rows = []
    for name in sorted(counts.keys() | baseline.keys()):
        before, now = baseline.get(name), counts.get(name)
        known = before is not None and now is not None
        allowed = known and before + max(AT_LEAST, ALLOWANCE * before)
        rows.append((name, before, now, not known or now > allowed))
    return rows


def check(counts, kept):
    rows = verdict(counts, kept["instructions"])
    print(f"{'':<30}{'baseline':>12}{'now':>12}{'change':>10}")
    for name, before, now, bad in rows:
        change = f"{100 * (now / before - 1):+.1f} %" if before and now else "unknown"
        told = [f"{value:.1f}" if value is not None else "-" for value in (before, now)]
        print(f"{name:<30}{told[0]:>12}{told[1]:>12}{change:>10}{'  TOO MUCH' if bad else ''}")
    # It bites: had one of them been 4 % and two instructions less, this would have been too much.
    for name in counts:
        less = dict(counts, **{name: counts[name] / 1.04 - 2})
        found = [row[0] for row in verdict(counts, less) if row[3]]
        assert found == [name], f"the check did not notice {name}: {found}"
    return any(bad for *_, bad in rows)


def main():
    target, path, rustc, mode = sys.argv[1:]
    rows = measured(target)
    clock = rows["clock_pair"][0]
    counts = {name: round(count, 1) for name, (count, _) in rows.items()}
    if any(count <= 0 for count in counts.values()):
        sys.exit(f"counted nothing: {counts}")
    if mode == "--check":
        sys.exit(check(counts, json.load(open(path))))
    if mode == "--accept":
        with open(path, "w") as file:
            json.dump({"rustc": rustc, "instructions": counts}, file, indent=2)
            file.write("\n")
    elif mode == "--json":
        keys = ("instructions", "clock_pairs", "without_clock")
        print(json.dumps({
            name: dict(zip(keys, (counts[name], pairs, round(count - pairs * clock, 1))))
            for name, (count, pairs) in rows.items()
        }))
    else:
        print(f"{'':<30}{'instructions':>14}{'clock pairs':>14}{'without them':>14}")
        for name, (count, pairs) in rows.items():
            print(f"{name:<30}{count:>14.1f}{pairs:>14}{count - pairs * clock:>14.1f}")


main()
