"""``nco check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nco.cli.app import NOTHING, OK
from nco.cli.options import Json, Metric, Problem, TruncateBudget


def check(
    file: Annotated[Path, typer.Argument(help="Instance file.", show_default=False)],
    solution: Annotated[
        Path, typer.Argument(help="Solution file, or a result as JSON.", show_default=False)
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
    """Check a solution and evaluate it.

    Exit code 1 if it is infeasible, or states another objective than it has.
    """
    from nco.cli.report import number, percent
    from nco.inspection import check as check_solution

    report = check_solution(
        file, solution, problem=problem, metric=metric, evaluation=evaluation,
        truncate_budget=truncate_budget,
    )  # fmt: skip
    passed = report.feasible and report.truthful
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
    return OK if passed else NOTHING
