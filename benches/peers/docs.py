#!/usr/bin/env python3
"""Fills the tables of docs/performance.md from results.json, and prints the cells in which a peer is ahead.

    benches/peers/docs.py

What stands around the tables is written by hand: look at it after this. Needs Python 3.
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
DOC = HERE / "../../docs/performance.md"
NAMES = {
    "clock": "the clock alone",
    "hotspan": "hotspan",
    "hotspan-str": "hotspan, `&str` names",
    "tracy": "tracy (no viewer)",
    "fastrace": "fastrace",
    "tracing": "tracing (keeps nothing)",
    "opentelemetry": "opentelemetry",
    "sentry": "sentry",
    "emit": "emit",
    "tracing-opentelemetry": "tracing-opentelemetry",
}
MODES = {"sampled": "recorded", "unsampled": "not recorded", "off": "not set up"}
MEASURES = {
    "wall_ns_item": "ns of the thread",
    "process_cpu_ns_item": "process CPU, ns",
    "instructions_item": "instructions",
}


def number(value):
    return f"{value:,.0f}"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def middle(value):
    return value["median"] if isinstance(value, dict) else value


class Results:
    def __init__(self, results):
        self.all = results
        self.cells = {(cell["peer"], cell["mode"], cell["work"]): cell for cell in results["cells"]}
        self.works = sorted({cell["work"] for cell in results["cells"]})

    def item(self):
        rows = []
        for peer, name in NAMES.items():
            cell = self.cells[peer, "sampled", "flat-3-attributes"]
            wall = cell["wall_ns_item"]
            rows.append(row([
                name,
                f"{number(wall['median'])} ({number(wall['min'])} to {number(wall['max'])})",
                number(cell["instructions_item"]),
                number(cell["allocations_item"]),
                number(cell["allocated_bytes_item"]),
                number(cell["process_cpu_ns_item"]),
            ]))
        python = self.all["python"][0]["wall_ns_item"]["median"]
        return [*rows, f"| sentry-python | {number(python)} | | | | |"]

    def works_of(self, mode, works):
        rows = []
        for peer, name in NAMES.items():
            cells = [self.cells.get((peer, mode, work)) for work in works]
            if any(cells):
                rows.append(row([name, *(number(middle(cell["wall_ns_item"])) if cell else "" for cell in cells)]))
        return rows

    def sent(self):
        """Of the runs of each kind the one whose processor time is the median."""
        kinds = {}
        for run in self.all["sent"]:
            kinds.setdefault((run["peer"], run["a_second"], run["work"]), []).append(run)
        rows = []
        for (peer, a_second, work), runs in kinds.items():
            run = sorted(runs, key=lambda run: run["cpu_ns_arrived_span"])[len(runs) // 2]
            lost = 100 * (run["recorded"] - run["arrived"]) / run["recorded"]
            rows.append(row([
                peer,
                number(a_second) if a_second else "flat out",
                re.search(r"\d+", work)[0],
                number(run["recorded"]),
                number(run["arrived"]),
                f"{lost:.0f} %",
                number(run["cpu_ns_arrived_span"]),
            ]))
        return rows

    def memory(self):
        rows = []
        for peer in self.all["memory"]:
            if peer["peer"] == "clock":
                continue
            figures = peer["figures"]
            delivered = figures["delivered"]
            rows.append(row([
                NAMES[peer["peer"]],
                f"{figures['recorded'] / 1e6:.1f}",
                f"{delivered / 1e6:.2f}" if delivered is not None else "",
                number(figures["after_kib"] / 1024),
            ]))
        return rows

    def ahead(self):
        """Every cell in which a peer takes less than hotspan."""
        found = {}
        for (peer, mode, work), cell in self.cells.items():
            if peer == "clock" or peer.startswith("hotspan"):
                continue
            own = self.cells[("hotspan", mode, work)]
            for measure in MEASURES:
                theirs, ours = middle(cell[measure]), middle(own[measure])
                if theirs is not None and ours is not None and theirs < ours:
                    found.setdefault((mode, measure, peer), []).append((work, theirs, ours))
        rows = []
        for mode, said in MODES.items():
            for measure, unit in MEASURES.items():
                for peer, name in NAMES.items():
                    works = found.get((mode, measure, peer))
                    if works:
                        listed = ", ".join(f"{work} {number(theirs)} : {number(ours)}" for work, theirs, ours in sorted(works))
                        rows.append(row([f"{said}, {unit}", name, listed]))
        return rows


def put(doc, heading, rows):
    """Replaces the rows of the first table behind a heading."""
    at = doc.index("\n", doc.index("|---", doc.index(heading))) + 1
    end = at
    while doc[end] == "|":
        end = doc.index("\n", end) + 1
    return doc[:at] + "\n".join(rows) + "\n" + doc[end:]


def main():
    results = Results(json.loads((HERE / "results.json").read_text()))
    two_threads = next(work for work in results.works if "two" in work)
    flat = [f"flat-{children}" for children in (1, 3, 5, 20)]
    unrecorded = ["flat-1", "flat-3", "flat-20", "flat-3-attributes"]
    doc = DOC.read_text()
    for heading, rows in {
        "### One item, recorded": results.item(),
        "### Recorded, without attributes": results.works_of("sampled", [*flat, "nested-10"]),
        "### Recorded, with attributes": results.works_of(
            "sampled", [*(f"{work}-attributes" for work in flat), two_threads]
        ),
        "### Not recorded": results.works_of("unsampled", unrecorded),
        "### Not set up": results.works_of("off", unrecorded),
        "### To a server on loopback": results.sent(),
        "### After ten million spans": results.memory(),
        "### Every cell in which another is ahead": results.ahead(),
    }.items():
        doc = put(doc, heading, rows)
    DOC.write_text(doc)
    machine = results.all["machine"]
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")


if __name__ == "__main__":
    main()
