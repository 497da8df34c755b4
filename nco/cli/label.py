"""``nco label``."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nco.cli.options import (
    Quiet,
    Seed,
    Verbose,
    check_limit,
    check_writable,
    complete_problem,
    start_logging,
)

if TYPE_CHECKING:
    from nco.cli.report import Line


def label(
    problem: Annotated[
        str,
        typer.Argument(
            help="Problem with a policy.", autocompletion=complete_problem, show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Label file, .npz.", show_default=False)],
    n: Annotated[int, typer.Option("--n", "-n", help="Size of the instances.")] = 0,
    count: Annotated[int, typer.Option("--count", "-c", help="Labels; 0: all of --from.")] = 0,
    seed: Seed = 0,
    expert: Annotated[
        str,
        typer.Option(
            "--expert",
            "-e",
            help="Who solves them: fast-tsp, or-opt, lkh, hgs, pyvrp, prize-tour, ruin-recreate, "
            "knapsack, mis-tabu, or bq, a policy itself.",
        ),
    ] = "",
    effort: Annotated[
        float | None,
        typer.Option("--effort", help="How hard it tries, in its own unit; rounds for bq."),
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", help="How instances are drawn; by default the expert's.")
    ] = "",
    first: Annotated[int, typer.Option("--first", min=0, help="Number of the first instance.")] = 0,
    weights: Annotated[
        str, typer.Option("--weights", help="For bq: weights file or run; by default as shipped.")
    ] = "",
    old: Annotated[
        str,
        typer.Option(
            "--from",
            help="For bq: labels to improve; the better ones are kept. For two-stage: the "
            "instances, a .toml file, a folder of them, or a .py file.",
        ),
    ] = "",
    views: Annotated[
        int, typer.Option("--views", min=1, help="For bq: views that are decoded.")
    ] = 1,
    device: Annotated[str, typer.Option("--device", help="For bq: auto, cpu, cuda.")] = "auto",
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes; -1: one per core.")] = 1,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", help="Stop then; the same call goes on.", show_default=False),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Solve instances to train on; prints the file and how many labels it holds.

    A call that was stopped or killed goes on when it is given again; one whose file is
    finished has nothing left to do. The labels do not depend on --jobs.
    """
    from nco.cli.report import Line
    from nco.instances.core import InputError
    from nco.robust import LEARNED, OWN
    from nco.training.label import make

    start_logging(verbose, quiet)
    check_limit(minutes)
    check_writable(out)
    if jobs < -1 or jobs == 0:
        raise InputError(None, None, f"--jobs {jobs} not understood", "give -1 or at least 1")
    if problem in (*LEARNED, OWN):
        given = {
            "--n": n, "--expert": expert, "--effort": effort is not None, "--recipe": recipe,
            "--first": first, "--weights": weights, "--views": views != 1,
            "--device": device != "auto",
        }  # fmt: skip
        idle = ", ".join(option for option, value in given.items() if value)
        if idle:
            what = f"{idle}: nothing to say for labels of {problem}"
            raise InputError(None, None, what, "leave it out")
        with Line(not quiet) as line:
            return _second_stages(problem, out, count, seed, jobs, minutes, old, line)
    with Line(not quiet) as line:
        try:
            made = make(
                problem, out, n=n, count=count, seed=seed, expert=expert, effort=effort,
                recipe=recipe, first=first, weights=weights, old=old, views=views, device=device,
                jobs=os.cpu_count() or 1 if jobs == -1 else jobs,
                minutes=math.inf if minutes is None else minutes,
                progress=lambda done, total: line.show(f"{done} of {total} labels"),
            )  # fmt: skip
        except (ValueError, MemoryError, RuntimeError, ImportError) as error:
            raise InputError(None, None, str(error) or "out of memory") from error
    print(f"{out} {made}")
    return 0


def _second_stages(
    problem: str,
    out: Path,
    count: int,
    seed: int,
    jobs: int,
    minutes: float | None,
    source: str,
    line: Line,
) -> int:
    """Labels of a value network: pairs of first stage and scenario, 256 of each instance."""
    from nco.instances.core import InputError
    from nco.robust import labels

    if count < 1:
        raise InputError(None, None, f"--count {count} not understood", "give at least 1")
    try:
        made = labels.label(
            problem,
            out,
            instances=-(-count // 256),
            seed=seed,
            jobs=os.cpu_count() or 1 if jobs == -1 else jobs,
            minutes=math.inf if minutes is None else minutes,
            source=source,
            progress=lambda done, total: line.show(f"{done} of {total} labels"),
        )
    except InputError:
        raise
    except (ValueError, MemoryError, RuntimeError) as error:
        raise InputError(None, None, str(error) or "out of memory") from error
    print(f"{out} {made}")
    return 0
