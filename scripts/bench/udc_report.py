"""The target table of ``udc``: gaps to the named peers on the same instances.

``python scripts/bench/udc_report.py ROWS.jsonl ...`` takes rows of ``nco bench
scripts/bench/udc.toml``. The reference of an instance is the best of its stored one and of all
rows of its peers, of one of a library the best known value; rows of ``udc`` itself are none.
Gaps are in per cent with standard errors over instances; positive is worse than the peer,
negative better. ``mis`` has mean sizes.
"""

import argparse
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """What a set should reach: a gap at most (of ``mis``: a mean size at least)."""

    goal: float
    floor: float
    peers: tuple[str, ...]


def _targets() -> dict[str, Target]:
    made = {}
    for problem, sizes, goals, floors, peers in (
        ("tsp", (500, 1000, 2000, 10_000, 100_000), (0.8, 1.0, 1.5, 2.0, 3.0), (4, 5, 6, 7, 9),
         ("fast-tsp", "lkh")),
        ("cvrp", (500, 1000, 2000, 5000), (3, 3, 4, 2), (6, 7, 9, 12), ("hgs", "pyvrp")),
        ("ovrp", (500, 1000, 2000), (2, 2, 4), (6, 7, 10), ("pyvrp",)),
        ("op", (500, 1000, 2000), (2.3, 3, 5), (6, 8, 12), ("pyvrp", "prize-tour")),
        ("pctsp", (500, 1000, 2000), (-8, -8, -8), (3, 3, 3), ("ortools",)),
        ("spctsp", (500, 1000, 2000), (-8, -8, -8), (3, 3, 3), ("ortools",)),
        ("atsp", (250, 500, 1000), (3, 3, 4), (10, 12, 15), ("lkh",)),
        ("mtsp", ("500-m30", "500-m50", "1000-m50"), (0.3, 0.3, 0.3), (2, 2, 2),
         ("ortools", "ruin-recreate")),
        ("tsplib", (1000, 5000), (1.5, 2.5), (5, 7), ()),
        ("cvrplib-x", (1000,), (4,), (9,), ()),
    ):  # fmt: skip
        for size, goal, floor in zip(sizes, goals, floors, strict=True):
            made[f"{problem}{size}"] = Target(goal, floor, peers)
    return made


TARGETS = _targets()
KNAPSACK = Target(math.nan, math.nan, ("knapsack",))
#: Mean sizes of independent sets: within 5 % of the published one is the floor.
SIZES = {
    "mis-er": Target(44, 41.5, ()),
    "mis-er720-p0.05": Target(94.5, 0.95 * 94.5, ()),
    "mis-er720-p0.25": Target(26.4, 0.95 * 26.4, ()),
    "mis-er2000-p0.05": Target(122.9, 0.95 * 122.9, ()),
}
#: Mean length, in the unit square, of the tours that published tables compare with; no peer comes
#: near it in the time given.
LENGTHS = {"tsp100000": 225.6}
#: Rows of peers, by set and digest of the instance.
Peers = dict[tuple[str, str], list[dict[str, Any]]]

COLUMNS = ("set", "solver", "limit s", "instances", "mean", "error", "worst", "goal", "floor",
           "holds", "reference")  # fmt: skip


def set_of(row: dict[str, Any]) -> str:
    """Name of the set a row's instance is of; of a library's range of sizes, with the largest."""
    file = Path(row["file"])
    if file.suffix == ".tsp" and 500 <= row["n"] <= 5000:
        return "tsplib1000" if row["n"] <= 1000 else "tsplib5000"
    if file.match("X-*.vrp") and 500 <= row["n"] <= 1000:
        return "cvrplib-x1000"
    return file.stem.rpartition("-")[0] if row["problem"] == "mis" else file.stem


def gap(row: dict[str, Any], reference: float) -> float:
    """Per cent worse than a reference."""
    sign = 1.0 if row["sense"] == "minimize" else -1.0
    return 100.0 * sign * (row["objective"] - reference) / abs(reference)


def reference(row: dict[str, Any], peers: Sequence[dict[str, Any]]) -> tuple[float, str] | None:
    """The best value known of a row's instance without ``udc``, and whose it is.

    The farthest way and back bounds the longest tour of ``mtsp``: peers count where they are
    above it, as both are needed to say that a tour cannot be shorter.
    """
    name = set_of(row)
    named = TARGETS.get(name, KNAPSACK).peers
    found = [
        (p["objective"], f"{p['spec']} {p['time_limit']:g} s")
        for p in peers
        if p["solver"] in named
    ]
    if row["problem"] == "mtsp":
        return max(min(found, default=(0.0, "")), (row["bound"], "farthest way and back"))
    if name in LENGTHS:
        found.append((LENGTHS[name], "per unit square"))
    if name.startswith(("tsplib", "cvrplib")) and row["reference"] is not None:
        found.append((row["reference"], "best known"))
    # Stored references of these come of stronger solvers than the peer that is named.
    if row["ref_cost"] is not None and row["problem"] not in ("pctsp", "spctsp"):
        found.append((row["ref_cost"], "stored"))
    pick = min if row["sense"] == "minimize" else max
    return pick(found) if found else None


def target(name: str, group: Sequence[dict[str, Any]], peers: Peers) -> Target:
    """The set's own; of ``knapsack`` the gap of greedy, of which a third is the goal."""
    if group[0]["problem"] != "knapsack":
        return (SIZES if name in SIZES else TARGETS)[name]
    floors = []
    for row in group:
        others = peers[name, row["digest"]]
        known = reference(row, others)
        floors += [gap(p, known[0]) for p in others if p["solver"] == "greedy" and known]
    floor = statistics.mean(floors) if floors else math.nan
    return Target(floor / 3, floor, KNAPSACK.peers)


def table(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One line for each set of :data:`TARGETS` and each way of ``udc``."""
    peers: Peers = defaultdict(list)
    ours: dict[tuple[str, str, float], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        name = set_of(row)
        if row["objective"] is None:
            continue
        if row["solver"] == "udc":
            ours[name, row["spec"], row["time_limit"]].append(row)
        else:
            peers[name, row["digest"]].append(row)
    lines = []
    for (name, spec, limit), group in sorted(ours.items()):
        if name not in TARGETS and name not in SIZES and group[0]["problem"] != "knapsack":
            continue
        if name in SIZES:
            values, used = [float(r["objective"]) for r in group], {"published mean"}
        else:
            known = [(r, reference(r, peers[name, r["digest"]])) for r in group]
            values = [gap(r, k[0]) for r, k in known if k]
            used = {k[1] for _, k in known if k}
        if not values:
            continue
        asked = target(name, group, peers)
        mean = statistics.mean(values)
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        largest = name in SIZES
        lines.append((
            name, spec, f"{limit:g}", str(len(values)), f"{mean:.3g}", f"{error:.2g}",
            f"{(min if largest else max)(values):.3g}", f"{asked.goal:.3g}", f"{asked.floor:.3g}",
            "yes" if (mean >= asked.floor if largest else mean <= asked.floor) else "no",
            ", ".join(sorted(used)),
        ))  # fmt: skip
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The target table of udc.")
    parser.add_argument("rows", nargs="+", type=Path)
    options = parser.parse_args()
    rows = {}
    for path in options.rows:
        with path.open() as file:
            for line in file:
                row = json.loads(line)
                rows[row["key"]] = row
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for line in table(list(rows.values())):
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
