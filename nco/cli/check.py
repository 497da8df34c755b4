"""``nco check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nco.cli.app import NOTHING, OK
from nco.cli.options import Json, Metric, Problem, TruncateBudget

if TYPE_CHECKING:
    from nco.inspection import Check


def check(
    file: Annotated[Path, typer.Argument(help="Instance file.", show_default=False)],
    solution: Annotated[
        Path,
        typer.Argument(
            help="Solution file, or a result as JSON; of a batch, its results (.jsonl).",
            show_default=False,
        ),
    ],
    problem: Problem = "",
    metric: Metric = None,
    evaluation: Annotated[
        str,
        typer.Option(
            "--evaluation",
            help="'strong': evaluate the first stage of a two-stage problem anew, "
            "however long it takes.",
            show_default=False,
        ),
    ] = "",
    truncate_budget: TruncateBudget = False,
    json_: Json = False,
) -> int:
    """Check a solution, or the results of a batch, and evaluate them.

    Exit code 1 if one is infeasible, or states another objective than it has.
    """
    from nco.inspection import check as check_solution
    from nco.inspection import check_results
    from nco.instances import io
    from nco.instances.core import Batch

    content = io.read(file, problem, metric)
    options: dict[str, Any] = {"evaluation": evaluation, "truncate_budget": truncate_budget}
    if isinstance(content, Batch) or _lines(solution) > 1:
        reports = check_results(content, solution, **options)
    else:
        reports = [check_solution(content, solution, **options)]
    for report in reports:
        _print(report, json_)
    return OK if all(r.feasible and r.truthful for r in reports) else NOTHING


def _lines(solution: Path) -> int:
    """How many results a file holds, 0 for any other file."""
    from nco.instances import io

    if io.suffix(solution) != ".jsonl":
        return 0
    return sum(bool(line.strip()) for line in io.read_text(solution).splitlines())


def _print(report: Check, json_: bool) -> None:
    from nco.cli.report import number, percent

    if json_:
        print(json.dumps(report.to_dict(), allow_nan=False))
    elif not report.feasible:
        print(f"{report.instance}: infeasible")
        for violation in report.violations:
            print(f"  {violation}")
    else:
        line = f"{report.instance}: feasible, objective {number(report.objective)}"
        if report.ref_gap is not None:
            line += f", reference {number(report.ref_cost)}"
            line += f" ({percent(report.ref_gap, signed=True)})"
        if report.evaluation != "exact":
            line += f", {report.evaluation}"
        print(line)
        if not report.truthful:
            print(f"  the file states {number(report.stated)}")
