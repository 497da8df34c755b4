"""Tables of MIP campaigns: primal integrals, final gaps, and the targets against each peer.

The primal gap is Berthold's, in [0, 1]; its integral runs over the time limit; the mean is
geometric with a shift of 1 s. The reference is the stored one, or the best of the rows.
Only pairs of runs with the same instance, limit and seed are compared. The first table has
the targets that the rows say something about; rows of `mip_engines.py`, `mip_memory.py` and
`mip_overhead.py` may be among them.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nco.instances.core import primal_gap

SHIFT = 1.0
#: A final gap this close to another one is the same.
TIE = 1e-4
OURS = "balans"

#: Engines that `balans` drives.
ENGINES = ("highs", "scip")

Row = dict[str, Any]
Key = tuple[str, float, int]
Runs = Mapping[tuple[str, float], dict[Key, Any]]


def integral(row: Row, limit: float, reference: float) -> float:
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


def read(paths: list[Path]) -> tuple[list[Row], list[Row], list[Row]]:
    """Runs of campaigns, runs of `mip_engines.py`, rows of `mip_overhead.py`.

    Of each key the last one, without runs that ended in an error.
    """
    rows: dict[str, Row] = {}
    overheads: dict[str, Row] = {}
    for path in paths:
        for line in path.read_text().splitlines():
            row = json.loads(line) if line.strip() else {}
            if "overhead" in row:
                overheads[row["instance"]] = row
            elif "trajectory" in row:
                rows[row["key"]] = row
    runs = [row for row in rows.values() if "mib" not in row]
    return runs, [row for row in rows.values() if "mib" in row], list(overheads.values())


def references(rows: list[Row]) -> dict[str, float]:
    """Best known objective by digest."""
    best: dict[str, float] = {}
    for row in rows:
        known = [v for v in (row.get("reference"), row["objective"]) if v is not None]
        choose = max if row["sense"] == "maximize" else min
        for value in known:
            old = best.get(row["digest"])
            best[row["digest"]] = value if old is None else choose(old, value)
    return best


@dataclass(frozen=True)
class Pairs:
    """Our runs beside another solver's, where both have one."""

    mine: list[Any]
    theirs: list[Any]

    def __len__(self) -> int:
        return len(self.mine)

    @property
    def ratio(self) -> float:
        """Our mean integral by theirs."""
        return self.integral / max(mean([v["integral"] for v in self.theirs]), 1e-9)

    @property
    def integral(self) -> float:
        """Our mean integral."""
        return mean([v["integral"] for v in self.mine])

    @property
    def open(self) -> list[tuple[Any, Any]]:
        """Pairs of which neither is solved to optimality."""
        pairs = zip(self.mine, self.theirs, strict=True)
        return [(a, b) for a, b in pairs if "optimal" not in (a["status"], b["status"])]

    def finals(self) -> tuple[float, float]:
        """Shares of the open pairs whose final gap is better, and worse, in per cent."""
        count = max(1, len(self.open))
        better = sum(a["gap"] < b["gap"] - TIE for a, b in self.open)
        worse = sum(a["gap"] > b["gap"] + TIE for a, b in self.open)
        return 100 * better / count, 100 * worse / count

    @property
    def missing(self) -> int:
        """Where they have a solution and we have none."""
        return sum(
            b["found"] and not a["found"] for a, b in zip(self.mine, self.theirs, strict=True)
        )


def pair(runs: Runs, ours: str, other: str, limit: float) -> Pairs:
    """Runs of two solvers with the same instance, limit and seed."""
    a, b = runs.get((ours, limit), {}), runs.get((other, limit), {})
    keys = sorted(a.keys() & b.keys())
    return Pairs([a[k] for k in keys], [b[k] for k in keys])


#: What, how many pairs or runs it rests on, the figure, the target, and whether it holds.
Target = tuple[str, int, str, str, bool]


def at_most(what: str, pairs: Pairs, most: float) -> Iterator[Target]:
    """A row for the ratio of two integrals."""
    if len(pairs):
        yield what, len(pairs), f"{pairs.ratio:.2f}", f"<= {most:.2f}", pairs.ratio <= most


def below(what: str, pairs: Pairs) -> Iterator[Target]:
    """A row for an integral that is to be the smaller one."""
    if len(pairs):
        yield what, len(pairs), f"{pairs.ratio:.3f}", "< 1", pairs.ratio < 1


def targets(runs: Runs, engines: list[Row], overheads: list[Row], ours: str) -> Iterator[Target]:
    """The targets that the rows say something about."""
    for peer, most in (("highs", 0.75), ("balans-package", 0.45)):
        yield from at_most(f"integral by that of {peer}, 60 s", pair(runs, ours, peer, 60.0), most)
    for peer, least in (("highs", 40), ("scip", 70), ("balans-package", 70)):
        pairs = pair(runs, ours, peer, 60.0)
        if pairs.open:
            better, worse = pairs.finals()
            what, count = f"final gap better than of {peer}", len(pairs.open)
            yield what, count, f"{better:.0f} %", f">= {least} %", better >= least
            if peer == "highs":
                what = "final gap worse than of highs"
                yield what, count, f"{worse:.0f} %", "<= 15 %", worse <= 15
    mine = runs.get((ours, 60.0), {})
    found = {
        k for (_, limit), of in runs.items() if limit == 60 for k, v in of.items() if v["found"]
    }
    if mine:
        missing = sum(not v["found"] for k, v in mine.items() if k in found)
        yield "no solution in 60 s though a peer has one", len(mine), str(missing), "0", not missing
    yield from first_solutions(runs, ours)
    yield from at_most("integral by that of highs, 600 s", pair(runs, ours, "highs", 600.0), 0.75)
    yield from below(
        "integral by that of even choice, 20 s", pair(runs, ours, f"{ours}:policy=random", 20.0)
    )
    arms = [spec for spec, limit in runs if limit == 20 and spec.startswith(f"{ours}:arms=")]
    if arms:
        best = max(arms, key=lambda spec: pair(runs, ours, spec, 20.0).ratio)
        name = best.partition("=")[2]
        yield from below(f"integral by that of the best arm, {name}", pair(runs, ours, best, 20.0))
    two = f"{ours}:jobs=2"
    yield from at_most("integral of 2 jobs by that of 1", pair(runs, two, ours, 60.0), 0.85)
    yield from below("integral shared by unshared", pair(runs, two, f"{two},share=false", 60.0))
    yield from below("integral warm by cold", pair(runs, f"{ours}:memory", ours, 20.0))
    for row in overheads:
        share, most = row["overhead"], row["allowed"]
        what = f"outside of engines, {row['columns']} columns"
        yield what, 1, f"{100 * share:.1f} %", f"< {100 * most:.0f} %", share < most
    late = [
        (v["over"], limit)
        for (spec, limit), of in runs.items()
        if spec == ours
        for v in of.values()
    ]
    if late:
        over, limit = max(late, key=lambda pair: pair[0] - 0.05 * pair[1])
        what = f"latest end, beyond {limit:g} s"
        yield what, len(late), f"{over:.2f} s", "<= 5 % + 0.5 s", over <= 0.05 * limit + 0.5
    yield from engine_ratios(engines, ours)


def first_solutions(runs: Runs, ours: str) -> Iterator[Target]:
    """How often the first solution came later than 1.5 times the faster engine's + 0.5 s."""
    firsts: dict[Key, list[float]] = defaultdict(list)
    for (spec, _), of in runs.items():
        if spec in ENGINES:
            for key, value in of.items():
                firsts[key].append(value["first"])
    of_ours = {k: v for (spec, _), of in runs.items() if spec == ours for k, v in of.items()}
    keys = sorted(of_ours.keys() & firsts.keys())
    if keys:
        beyond = [of_ours[k]["first"] - 1.5 * min(firsts[k]) for k in keys]
        worst, late = max(beyond), sum(b > 0.5 for b in beyond)
        what = "first solution, beyond 1.5 x the faster engine's"
        yield what, len(keys), f"{worst:.2f} s ({late} late)", "<= 0.5 s", not late


def first(row: Row) -> float:
    """Seconds until the first solution of a row of `mip_engines.py`."""
    return math.inf if row["first"] is None else float(row["first"])


def engine_ratios(rows: list[Row], ours: str) -> Iterator[Target]:
    """Peak memory and first solutions of processes that did nothing else."""
    groups: dict[tuple[str, int, float], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        groups[row["file"], row["seed"], row["time_limit"]][row["spec"]] = row
    whole = [g for g in groups.values() if {ours, *ENGINES} <= g.keys()]
    if not whole:
        return
    memory = [g[ours]["mib"] / g["highs"]["mib"] for g in whole]
    yield (
        "peak memory by that of highs",
        len(whole),
        f"{max(memory):.2f}",
        "<= 2.50",
        max(memory) <= 2.5,
    )
    both = [g for g in whole if any(math.isfinite(first(g[e])) for e in ENGINES)]
    if both:
        beyond = [first(g[ours]) - 1.5 * min(first(g[e]) for e in ENGINES) for g in both]
        what = "first solution with start-up, beyond 1.5 x"
        yield what, len(both), f"{max(beyond):.2f} s", "<= 0.5 s", max(beyond) <= 0.5


def compare(pairs: Pairs) -> str:
    """One line: ratio of integrals, and final gaps better, worse and alike."""
    better, worse = pairs.finals()
    firsts = [
        (a["first"], max(b["first"], 1e-3)) for a, b in zip(pairs.mine, pairs.theirs, strict=True)
    ]
    slower = [a / b for a, b in firsts if math.isfinite(a) and math.isfinite(b)]
    other = mean([v["integral"] for v in pairs.theirs])
    return (
        f"{len(pairs):5d} {pairs.integral:9.3f} {other:9.3f} {pairs.ratio:7.2f} "
        f"{len(pairs.open):5d} {better:6.0f}% {worse:6.0f}% "
        f"{pairs.missing:8d} {max(slower, default=math.nan):9.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("--ours", default=OURS, help="the specification that is compared")
    arguments = parser.parse_args()
    rows, engines, overheads = read(arguments.rows)
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
    print(f"{'target':50} {'runs':>5} {'measured':>16} {'wanted':>16}")
    for what, count, measured, wanted, holds in targets(runs, engines, overheads, arguments.ours):
        print(f"{what:50} {count:5d} {measured:>16} {wanted:>16}  {'yes' if holds else 'no'}")
    print(f"\n{'solver':34} {'limit':>6} {'runs':>5} {'found':>6} {'optimal':>8} {'<0.1%':>6} "
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
    for spec, limit in sorted(runs):
        pairs = pair(runs, arguments.ours, spec, limit)
        if spec != arguments.ours and len(pairs):
            print(f"{spec:34} {limit:6g} {compare(pairs)}")
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
