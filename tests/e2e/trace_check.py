"""trace_check.py FILE RANKS FIRST LAST [NAME...]: a trace is what its readers expect.

It parses; spans of one row nest or do not meet; every rank has every chosen step, whose parts lie
within it; NAMEs occur among the spans of the file.
"""

import json
import sys
from collections import defaultdict


def main():
    path, ranks, first, last = sys.argv[1], *map(int, sys.argv[2:5])
    with open(path, encoding="utf-8") as f:
        trace = json.load(f)
    spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    names = {(e["name"], e["pid"], e.get("tid")): e["args"] for e in trace["traceEvents"]
             if e["ph"] == "M"}
    problems = []

    rows = defaultdict(list)
    for e in spans:
        begin = round(1000 * e["ts"])
        rows[e["pid"], e["tid"]].append((begin, begin + round(1000 * e["dur"]), e["name"]))
    for row, members in rows.items():
        open_ends = []
        for begin, end, name in sorted(members, key=lambda m: (m[0], -m[1])):
            while open_ends and open_ends[-1] <= begin:
                open_ends.pop()
            if open_ends and end > open_ends[-1]:
                problems.append(f"{name} at {begin} of row {row} crosses the end of another span")
            open_ends.append(end)
        if ("thread_name", *row) not in names:
            problems.append(f"row {row} has no name")

    for rank in range(ranks):
        if "rank %d" % rank not in names.get(("process_name", rank, None), {}).get("name", ""):
            problems.append(f"rank {rank} has no name")
        steps = sorted(e["args"]["step"] for e in spans if e["pid"] == rank and e["name"] == "step")
        if steps != list(range(first, last + 1)):
            problems.append(f"rank {rank} has steps {steps}")
    kinds = {e["cat"] for e in spans} | {e["name"] for e in spans}
    problems += [f"no span \"{name}\"" for name in sys.argv[5:] if name not in kinds]
    for problem in problems[:20]:
        print(problem)
    print(f"{len(spans)} spans, {len(rows)} rows, {len(problems)} problems")
    return 1 if problems else 0


sys.exit(main())
