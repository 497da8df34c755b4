"""Primal integrals and final gaps of benchmark rows, per solver.

The primal gap is Berthold's, in [0, 1]; its integral runs over the time limit; the mean is
geometric with a shift of 1 s. The reference is the stored one, or the best of the rows.
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from nco.instances.core import primal_gap

SHIFT = 1.0


def integral(row: dict[str, Any], limit: float, reference: float) -> float:
    """Primal integral in seconds of one row."""
    total, last, gap = 0.0, 0.0, 1.0
    for seconds, objective, _, _ in row["trajectory"]:
        if objective is None:
            continue
        now = min(seconds, limit)
        total += gap * (now - last)
        last, gap = now, primal_gap(objective, reference)
    return total + gap * (limit - last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path, nargs="+")
    arguments = parser.parse_args()
    lines = [line for path in arguments.rows for line in path.read_text().splitlines()]
    rows = [json.loads(line) for line in lines if line.strip()]
    rows = [row for row in rows if "trajectory" in row]
    reference: dict[str, float] = {}
    for row in rows:
        known = [v for v in (row["ref_cost"], row["objective"]) if v is not None]
        best = max if row["sense"] == "maximize" else min
        for value in known:
            old = reference.get(row["digest"])
            reference[row["digest"]] = value if old is None else best(old, value)
    table: dict[tuple[str, float], list[tuple[float, float, bool]]] = defaultdict(list)
    for row in rows:
        limit = row.get("time_limit") or row["seconds"]
        goal = reference.get(row["digest"])
        if goal is None:
            continue
        label = row.get("spec") or row["solver"]
        gap = primal_gap(row["objective"], goal)
        table[label, limit].append((integral(row, limit, goal), gap, row["objective"] is not None))
    print(f"{'solver':32} {'limit':>6} {'runs':>5} {'found':>6} {'integral':>9} {'gap':>8}")
    for (label, limit), values in sorted(table.items()):
        mean = math.exp(sum(math.log(v[0] + SHIFT) for v in values) / len(values)) - SHIFT
        gap = sum(v[1] for v in values) / len(values)
        found = sum(v[2] for v in values)
        print(f"{label:32} {limit:6g} {len(values):5d} {found:6d} {mean:9.3f} {100 * gap:7.2f}%")


if __name__ == "__main__":
    main()
