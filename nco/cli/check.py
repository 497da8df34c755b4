"""``nco check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nco.cli.app import NOTHING, OK
from nco.cli.options import Json, Metric, Problem


def check(
    file: Annotated[Path, typer.Argument(help="Instance file.", show_default=False)],
    solution: Annotated[
        Path, typer.Argument(help="Solution file, or a result as JSON.", show_default=False)
    ],
    problem: Problem = "",
    metric: Metric = None,
    json_: Json = False,
) -> int:
    """Check a solution and evaluate it.

    Exit code 1 if it is infeasible, or states another objective than it has.
    """
    from nco.cli.report import number, percent
    from nco.inspection import check as check_solution

    report = check_solution(file, solution, problem=problem, metric=metric)
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
        print(line)
        if not report.truthful:
            print(f"  the file states {number(report.stated)}")
    return OK if passed else NOTHING
