"""``nco plot``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nco.cli.options import Metric, Problem, check_writable

if TYPE_CHECKING:
    from nco.instances.core import Result


#: Pictures of results.
KINDS = ("convergence", "gap", "arms", "iterations", "time")


def plot(
    file: Annotated[
        Path,
        typer.Argument(
            help="Instance file, results (.jsonl), or folder of a training run.",
            show_default=False,
        ),
    ],
    solution: Annotated[
        Path | None, typer.Argument(help="Solution file.", show_default=False)
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Picture: .png, .svg or .pdf.", show_default=False),
    ] = ...,  # type: ignore[assignment]
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            "-k",
            help="Of results: convergence (one instance), gap (mean over instances), arms; "
            "of two-stage problems: iterations (one instance), time.",
            autocompletion=lambda: list(KINDS),
        ),
    ] = None,
    arms: Annotated[
        bool, typer.Option("--arms", help="Of balans' results: what each arm did.")
    ] = False,
    problem: Problem = "",
    metric: Metric = None,
) -> int:
    """Draw an instance, a solution, how results came about, or how a policy was trained."""
    from nco.instances import io
    from nco.instances import plot as pictures
    from nco.instances.core import Batch, InputError

    if out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(out, None, "unknown kind of picture", "use .png, .svg or .pdf")
    check_writable(out)
    kind = "arms" if arms else kind
    if kind is not None and (file.is_dir() or solution is not None):
        what = "a solution" if solution is not None else "a training run"
        raise InputError(None, None, f"--kind is of results, not of {what}", "leave it out")
    if solution is not None and (file.is_dir() or io.suffix(file) == ".jsonl"):
        raise InputError(solution, None, "a solution goes with its instance", "name that first")
    if file.is_dir():
        from nco.training.plot import plot_curve

        try:
            ax = plot_curve(file)
        except OSError:
            hint = "name the folder that nco train wrote"
            raise InputError(file, None, "is no training run: no metrics.jsonl", hint) from None
    elif kind is not None or io.suffix(file) == ".jsonl":
        if kind not in (None, *KINDS):
            raise InputError(None, None, f"unknown kind {kind!r}", f"known: {', '.join(KINDS)}")
        results, references = _results(file)
        kind = kind or ("convergence" if len({r.digest for r in results}) == 1 else "gap")
        try:
            if kind == "arms":
                ax = pictures.arms(results)
            elif kind == "iterations":
                ax = pictures.iterations(results)
            elif kind == "time":
                ax = pictures.time_split(results)
            elif kind == "gap":
                ax = pictures.gap(results, references=references)
            else:
                ax = pictures.convergence(results)
        except ValueError as error:
            raise InputError(file, None, str(error)) from None
    else:
        instance = io.read(file, problem, metric)
        if isinstance(instance, Batch):
            raise InputError(file, None, f"holds {len(instance)} instances", "plot a single one")
        chosen = None if solution is None else io.read_solution(solution, instance)
        violations = [] if chosen is None else instance.violations(chosen)
        if violations:
            raise InputError(solution, None, f"infeasible: {violations[0]}", "see nco check")
        try:
            ax = pictures.plot(instance, chosen)
        except ValueError as error:
            raise InputError(file, None, str(error)) from None
    save(ax, out)
    print(out)
    return 0


def save(ax: Any, path: Path) -> None:
    """Write the figure of ``ax``, whole or not at all."""
    from nco.instances.core import atomic_write

    with atomic_write(path, "wb") as file:
        ax.figure.savefig(file, format=path.suffix.lower().lstrip("."), dpi=150)


def _results(path: Path) -> tuple[list[Result], dict[str, float]]:
    from nco.instances import io
    from nco.instances.core import InputError, Result

    results, references = [], {}
    for number, line in enumerate(io.read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            # Rows of a benchmark also tell of runs that gave no result.
            if not isinstance(values, dict) or "unsupported" in values or "error" in values:
                continue
            result = Result.from_dict(values)
        except ValueError as error:
            raise InputError(
                path, number, f"not a result: {error}", "see nco solve --json"
            ) from None
        if isinstance(values.get("spec"), str):
            # One solver with other parameters is another line of the picture.
            result = dataclasses.replace(result, solver=values["spec"])
        results.append(result)
        if isinstance(values.get("reference"), (int, float)):
            references[result.digest] = float(values["reference"])
    if not results:
        raise InputError(path, None, "holds no results", "see nco solve --json")
    return results, references
