"""Tables of two-stage campaigns: relative errors and certified gaps, beside the published ones.

``python robust_report.py REFERENCES ROWS.jsonl ...``, where REFERENCES holds the folders
knapsack, capital_budgeting and capital_budgeting_loans, each with instances/ and reference.csv.
The best known value of an instance is the best of the published and of the rows. Published
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


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: one table for each problem, one row for each solver, group and size."""
    best = best_known(rows)
    cells = defaultdict(list)
    for row in rows:
        if row["objective"] is None:
            continue
        known = best[row["problem"], row["instance"]]
        sign = 1.0 if row["sense"] == "maximize" else -1.0
        error = 100.0 * sign * (known - row["objective"]) / max(1e-9, abs(known))
        gap = None
        if row["bound"] is not None:
            gap = 100.0 * abs(row["bound"] - row["objective"]) / max(1e-9, abs(row["objective"]))
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
    print("\n".join(table([*published(args.references), *read(args.rows)])))


if __name__ == "__main__":
    main()
