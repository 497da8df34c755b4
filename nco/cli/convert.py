"""``nco convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nco.cli.options import Metric, Problem, TruncateBudget, check_writable


def convert(
    source: Annotated[Path, typer.Argument(help="Instance file.", show_default=False)],
    target: Annotated[
        Path, typer.Argument(help="New file; the suffix chooses its format.", show_default=False)
    ],
    problem: Problem = "",
    metric: Metric = None,
    truncate_budget: TruncateBudget = False,
) -> int:
    """Write an instance in another format; prints the files written.

    A problem with a compact model becomes that model with .mps or .lp. A batch becomes
    one .npz, or numbered files.
    """
    from nco.conversion import convert as convert_file

    check_writable(target)
    for path in convert_file(
        source, target, problem=problem, metric=metric, truncate_budget=truncate_budget
    ):
        print(path)
    return 0
