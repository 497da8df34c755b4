"""Tables of MIP campaigns: primal integrals, final gaps, and the targets against each peer.

The primal gap is Berthold's, in [0, 1]; its integral runs over the time limit; the mean is
geometric with a shift of 1 s. The reference is the stored one, or the best of the rows.
Only pairs of runs with the same instance, limit and seed are compared.
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from nco.instances.core import primal_gap

SHIFT = 1.0
#: A final gap this close to another one is the same.
TIE = 1e-4
OURS = "balans"

Key = tuple[str, float, int]


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


def mean(values: list[float]) -> float:
    """Shifted geometric mean."""
    return math.exp(sum(math.log(v + SHIFT) for v in values) / len(values)) - SHIFT


def read(paths: list[Path]) -> list[dict[str, Any]]:
    """Rows with a result, the last one of each key."""
    rows: dict[str, dict[str, Any]] = {}
    for path in paths:
        for line in path.read_text().splitlines():
            row = json.loads(line) if line.strip() else {}
            if "trajectory" in row:
                rows[row["key"]] = row
    return list(rows.values())


def references(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Best known objective by digest."""
    best: dict[str, float] = {}
    for row in rows:
        known = [v for v in (row.get("reference"), row["objective"]) if v is not None]
        choose = max if row["sense"] == "maximize" else min
        for value in known:
            old = best.get(row["digest"])
            best[row["digest"]] = value if old is None else choose(old, value)
    return best


def compare(ours: dict[Key, Any], theirs: dict[Key, Any]) -> str | None:
    """One line: ratio of integrals, and final gaps better, worse and alike."""
    keys = sorted(ours.keys() & theirs.keys())
    if not keys:
        return None
    mine = mean([ours[k]["integral"] for k in keys])
    other = mean([theirs[k]["integral"] for k in keys])
    open_ = [k for k in keys if "optimal" not in (ours[k]["status"], theirs[k]["status"])]
    better = sum(ours[k]["gap"] < theirs[k]["gap"] - TIE for k in open_)
    worse = sum(ours[k]["gap"] > theirs[k]["gap"] + TIE for k in open_)
    missing = sum(theirs[k]["found"] and not ours[k]["found"] for k in keys)
    first = [ours[k]["first"] / max(theirs[k]["first"], 1e-3) for k in keys
             if math.isfinite(ours[k]["first"]) and math.isfinite(theirs[k]["first"])]  # fmt: skip
    share = max(1, len(open_))
    return (
        f"{len(keys):5d} {mine:9.3f} {other:9.3f} {mine / max(other, 1e-9):7.2f} "
        f"{len(open_):5d} {100 * better / share:6.0f}% {100 * worse / share:6.0f}% "
        f"{missing:8d} {max(first, default=math.nan):9.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("--ours", default=OURS, help="the specification that is compared")
    arguments = parser.parse_args()
    rows = read(arguments.rows)
    best = references(rows)
    runs: dict[tuple[str, float], dict[Key, Any]] = defaultdict(dict)
    instances: dict[str, str] = {}
    for row in rows:
        goal = best.get(row["digest"])
        if goal is None:
            continue
        limit = float(row["time_limit"])
        instances[row["digest"]] = row["instance"]
        times = [t for t, value, _, _ in row["trajectory"] if value is not None]
        runs[row["spec"], limit][row["digest"], limit, row["seed"]] = {
            "integral": integral(row, limit, goal),
            "gap": primal_gap(row["objective"], goal),
            "found": row["objective"] is not None,
            "first": times[0] if times else math.inf,
            "status": row["status"],
            "over": row["seconds"] - limit,
        }
    print(f"{'solver':34} {'limit':>6} {'runs':>5} {'found':>6} {'optimal':>8} {'<0.1%':>6} "
          f"{'integral':>9} {'gap':>8} {'over':>6}")  # fmt: skip
    for (spec, limit), of in sorted(runs.items()):
        values = list(of.values())
        count = len(values)
        print(
            f"{spec:34} {limit:6g} {count:5d} {sum(v['found'] for v in values):6d} "
            f"{sum(v['status'] == 'optimal' for v in values):8d} "
            f"{sum(v['gap'] < 1e-3 for v in values):6d} "
            f"{mean([v['integral'] for v in values]):9.3f} "
            f"{100 * sum(v['gap'] for v in values) / count:7.2f}% "
            f"{max(v['over'] for v in values):6.2f}"
        )
    print(f"\n{arguments.ours + ' against':34} {'limit':>6} {'pairs':>5} {'integral':>9} "
          f"{'theirs':>9} {'ratio':>7} {'open':>5} {'better':>7} {'worse':>7} "
          f"{'unfound':>8} {'first x':>9}")  # fmt: skip
    for (spec, limit), of in sorted(runs.items()):
        line = compare(runs.get((arguments.ours, limit), {}), of)
        if spec != arguments.ours and line is not None:
            print(f"{spec:34} {limit:6g} {line}")
    print(f"\n{'instance':28} {'limit':>6} {'solver':34} {'integral':>9} {'gap':>8}")
    for digest, name in sorted(instances.items(), key=lambda item: item[1]):
        for (spec, limit), of in sorted(runs.items()):
            values = [v for (d, _, _), v in of.items() if d == digest]
            if values:
                gap = sum(v["gap"] for v in values) / len(values)
                of_all = mean([v["integral"] for v in values])
                print(f"{name[:28]:28} {limit:6g} {spec:34} {of_all:9.3f} {100 * gap:7.2f}%")


if __name__ == "__main__":
    main()
