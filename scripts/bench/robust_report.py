"""Tables of two-stage campaigns: relative errors and certified gaps, beside the published ones.

``python robust_report.py REFERENCES ROWS.jsonl ...``, where REFERENCES holds the folders
knapsack, capital_budgeting and capital_budgeting_loans, each with instances/ and reference.csv.
The best known value of an instance is the best of the published and of the rows; in the tables
of what learning adds, of the rows alone. Published
first stages of capital budgeting (without loans) are evaluated anew, by the evaluation that
ours have.
"""

import argparse
import csv
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: Folder -> problem, and published solver -> columns of value and seconds.
PUBLISHED = {
    "knapsack": (
        "two-stage-knapsack",
        {"published neur2ro": ("neur2ro_obj", "neur2ro_time"),
         "published branch-and-price": ("bp_obj", "bp_time")},
    ),
    "capital_budgeting": (
        "capital-budgeting",
        {"published neur2ro": ("neur2ro_x", "neur2ro_time"),
         **{f"published k-adaptability {k}": (f"k{k}_x", f"k{k}_time") for k in (2, 5, 10)}},
    ),
    "capital_budgeting_loans": (
        "capital-budgeting-loans", {"published branch-and-price": ("bp_obj", "bp_time")},
    ),
}  # fmt: skip

#: What learning adds: methods without it, and the same with it; then the network's own parts.
PAIRS = (
    ("ccg", "ccg:learned=0.3"),
    ("scenario:scenarios=10", "scenario:scenarios=10,learned=0.3"),
    ("two-stage", "two-stage:learned=0.3"),
    ("scenario:scenarios=10", "neur2ro:worst=false,neighbors=0"),
    ("neur2ro:worst=false,neighbors=0", "neur2ro:neighbors=0"),
    ("neur2ro:worst=false,neighbors=0", "neur2ro:worst=false"),
    ("neur2ro:worst=false,neighbors=0", "neur2ro"),
    ("ccg", "neur2ro"),
)
PAIR_COLUMNS = (
    "without", "with", "limit s", "files", "median % without", "with", "mean % without", "with",
    "better", "equal", "worse", "gap median % without", "with",
)  # fmt: skip
#: Relative difference below which two values are equal.
EQUAL = 1e-6

COLUMNS = (
    "group", "n", "solver", "runs", "median %", "mean %", "max %", "gap median %", "gap max %",
    "median s",
)  # fmt: skip


def published(folder: Path) -> list[dict[str, Any]]:
    """Rows of the published results, as those of a campaign."""
    rows = []
    for name, (problem, solvers) in PUBLISHED.items():
        path = folder / name / "reference.csv"
        if not path.is_file():
            continue
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                for solver, (value, seconds) in solvers.items():
                    row = {
                        "problem": problem, "instance": line["instance"], "spec": solver,
                        "n": int(line.get("n") or line["N"]), "time_limit": None, "bound": None,
                        "seconds": _seconds(line[seconds]), "sense": "maximize",
                        "objective": None, "group": line.get("correlation", ""),
                    }  # fmt: skip
                    if value.endswith("_x"):
                        row["objective"] = anew(
                            folder / name / "instances" / line["instance"], line[value]
                        )
                    elif line[value]:
                        row["objective"] = float(line[value])
                    rows.append(row)
    return rows


def _seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def anew(path: Path, x: str) -> float | None:
    """Value of a published first stage of capital budgeting, with the budget truncated."""
    from nco.instances import io

    if not x or not path.is_file():
        return None
    instance = io.read(path, "capital-budgeting", truncate_budget=True)
    return float(instance.two_stage.worst_case([float(c) for c in x]).value)


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Rows with a value, the last one of each key."""
    rows: dict[str, dict[str, Any]] = {}
    for path in paths:
        for line in path.read_text().splitlines():
            row = json.loads(line) if line.strip() else {}
            if row.get("objective") is not None:
                row["instance"] = row["instance"].removesuffix(".cb")
                parts = row["instance"].split("_")
                row["group"] = parts[1] if parts[0] == "RKP" else ""
                rows[row["key"]] = row
    return list(rows.values())


def best_known(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """Problem and instance -> the best value of all rows."""
    best: dict[tuple[str, str], float] = {}
    for row in rows:
        if row["objective"] is None:
            continue
        key = (row["problem"], row["instance"])
        choose = max if row["sense"] == "maximize" else min
        best[key] = choose(best.get(key, row["objective"]), row["objective"])
    return best


def error_of(row: Mapping[str, Any], known: float) -> float:
    """By how much a row's value is worse than the best known one, in per cent."""
    sign = 1.0 if row["sense"] == "maximize" else -1.0
    return float(100.0 * sign * (known - row["objective"]) / max(1e-9, abs(known)))


def gap_of(row: Mapping[str, Any]) -> float | None:
    """The certified gap in per cent, None without a bound."""
    if row["bound"] is None:
        return None
    return float(100.0 * abs(row["bound"] - row["objective"]) / max(1e-9, abs(row["objective"])))


def learning(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: for each problem, pairs of methods on the same files at equal time."""
    best = best_known(rows)
    cells: dict[tuple[str, float, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        if row["time_limit"] is not None:
            key = (row["problem"], row["time_limit"], row["spec"])
            cells[key][f"{row['instance']} {row.get('seed')}"] = row
    lines: list[str] = []
    for problem, limit in sorted({key[:2] for key in cells}):
        found: list[str] = []
        for plain, learned in PAIRS:
            sides = (
                cells.get((problem, limit, plain), {}),
                cells.get((problem, limit, learned), {}),
            )
            both = sorted(sides[0].keys() & sides[1].keys())
            if not both:
                continue
            errors, gaps = [], []
            for side in sides:
                chosen = [side[k] for k in both]
                errors.append([error_of(r, best[r["problem"], r["instance"]]) for r in chosen])
                gaps.append([g for g in map(gap_of, chosen) if g is not None])
            apart = [a - b for a, b in zip(*errors, strict=True)]
            counts = (
                sum(d > 100 * EQUAL for d in apart), sum(abs(d) <= 100 * EQUAL for d in apart),
                sum(d < -100 * EQUAL for d in apart),
            )  # fmt: skip
            shown = [
                plain, learned, f"{limit:g}", str(len(both)),
                *(f"{statistics.median(e):.3f}" for e in errors),
                *(f"{statistics.fmean(e):.3f}" for e in errors), *map(str, counts),
                *(f"{statistics.median(g):.3f}" if g else "" for g in gaps),
            ]  # fmt: skip
            found.append(f"| {' | '.join(shown)} |")
        if found:
            lines += ["", f"## What learning adds: {problem}, {limit:g} s", ""]
            lines += [f"| {' | '.join(PAIR_COLUMNS)} |", "|" + "---|" * len(PAIR_COLUMNS), *found]
    return lines


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: one table for each problem, one row for each solver, group and size."""
    best = best_known(rows)
    cells = defaultdict(list)
    for row in rows:
        if row["objective"] is None:
            continue
        error, gap = error_of(row, best[row["problem"], row["instance"]]), gap_of(row)
        limit = "" if row["time_limit"] is None else f" {row['time_limit']:g} s"
        for group in {(row["group"], row["n"]), ("all", 0)}:
            cells[row["problem"], *group, row["spec"] + limit].append((error, gap, row["seconds"]))
    lines: list[str] = []
    last = None
    for (problem, group, n, solver), values in sorted(cells.items()):
        if problem != last:
            lines += ["", f"## {problem}", "", f"| {' | '.join(COLUMNS)} |"]
            lines.append("|" + "---|" * len(COLUMNS))
            last = problem
        errors = [v[0] for v in values]
        gaps = [v[1] for v in values if v[1] is not None]
        seconds = [v[2] for v in values if v[2] is not None]
        shown = [
            statistics.median(errors), statistics.fmean(errors), max(errors),
            statistics.median(gaps) if gaps else None, max(gaps, default=None),
        ]  # fmt: skip
        numbers = " | ".join("" if v is None else f"{v:.3f}" for v in shown)
        took = f"{statistics.median(seconds):.1f}" if seconds else ""
        lines.append(f"| {group} | {n or ''} | {solver} | {len(values)} | {numbers} | {took} |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("references", type=Path)
    parser.add_argument("rows", type=Path, nargs="+")
    args = parser.parse_args()
    ours = read(args.rows)
    print("\n".join([*table([*published(args.references), *ours]), *learning(ours)]))


if __name__ == "__main__":
    main()
