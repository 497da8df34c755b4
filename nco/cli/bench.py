"""``nco bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nco.cli.app import NOTHING, OK, fail
from nco.cli.options import (
    Quiet,
    Verbose,
    check_writable,
    complete_solver,
    sigterm_as_sigint,
    start_logging,
)

if TYPE_CHECKING:
    from nco.bench import Cell, Plan


#: What the lines of the table can be about.
GROUPS = ("problem", "file", "instance", "n")


def bench(
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Instance files or patterns, or one plan (.toml).", show_default=False),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Rows, one JSON line each; runs resume from it.")
    ] = Path("bench.jsonl"),
    plan: Annotated[str, typer.Option("--plan", help="Table of the plan file.")] = "",
    data: Annotated[Path, typer.Option("--data", help="Folder that paths start from.")] = Path(),
    solver: Annotated[
        list[str] | None,
        typer.Option(
            "--solver",
            "-s",
            help="Solver, or name:key=value,key=value; may repeat.",
            autocompletion=complete_solver,
        ),
    ] = None,
    time_limit: Annotated[
        list[float] | None, typer.Option("--time-limit", "-t", help="Seconds; may repeat.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="Seed; may repeat.")] = None,
    references: Annotated[
        list[str] | None,
        typer.Option("--references", help="CSV with columns name and best_known; may repeat."),
    ] = None,
    first: Annotated[
        int | None, typer.Option("--first", help="Only so many instances of a batch.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time.")] = 1,
    pin: Annotated[
        bool,
        typer.Option(
            "--pin/--no-pin", help="A core of its own for every run, if there are so many."
        ),
    ] = True,
    by: Annotated[
        str, typer.Option("--by", help="Group the table by problem, file, instance or n.")
    ] = "problem",
    choices: Annotated[
        Path | None, typer.Option("--choices", help="Write the table by which auto chooses.")
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="One line per group, one column per solver and limit.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Only show the table of --out.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Measure solvers: every file, solver, time limit and seed; then the table.

    Rows that --out already holds are not run again, but for those of runs that failed. A
    failed run does not stop the others; the exit code is then 1.
    """
    from nco import bench as runner
    from nco.cli.report import console
    from nco.instances.core import InputError, atomic_write

    start_logging(verbose, quiet)
    if by not in GROUPS:
        raise InputError(None, None, f"cannot group by {by!r}", f"known: {', '.join(GROUPS)}")
    if choices is not None:
        check_writable(choices)
    if show:
        if files or plan or solver or time_limit or seed or references or first is not None:
            what = "--show runs nothing, it shows all rows of --out"
            raise InputError(None, None, what, "leave files and what to run out")
        # A run that failed may have been run again.
        rows = list({row["key"]: row for row in runner.load_rows(out)}.values())
        if not rows:
            raise InputError(out, None, "holds no rows", "see nco bench --help")
    else:
        check_writable(out if out.parent.exists() else out.parent, not out.parent.exists())
        work = _plan(files or [], plan, data, solver, time_limit, seed, references, first)
        screen = console(stderr=True)

        def tell(row: dict[str, Any], done: int, total: int) -> None:
            if not quiet:
                value = row.get("objective", row.get("error", row.get("unsupported")))
                screen.print(f"{done}/{total} {row['instance']} {row['spec']}: {value}")

        with sigterm_as_sigint():
            rows = runner.run(work, out, jobs=jobs, pin=pin, on_row=tell)
    if choices is not None:
        with atomic_write(choices) as file:
            lines = [json.dumps(row) for row in runner.choices(rows)]
            file.write("[\n" + ",\n".join(lines) + "\n]\n")
    if not quiet:
        (_print_wide if wide else _print)(runner.summarize(rows, by=by), by)
    failed = [row for row in rows if "error" in row]
    if failed:
        example = f"{failed[0]['instance']} {failed[0]['spec']}: {failed[0]['error']}"
        return fail(f"{len(failed)} of {len(rows)} runs failed, first {example}", NOTHING)
    return OK


def _plan(
    files: list[str],
    section: str,
    data: Path,
    solver: list[str] | None,
    time_limit: list[float] | None,
    seed: list[int] | None,
    references: list[str] | None,
    first: int | None,
) -> Plan:
    import dataclasses

    from nco.bench import Plan
    from nco.instances.core import InputError

    given: dict[str, Any] = {
        "solvers": solver, "time_limits": time_limit, "seeds": seed,
        "references": references, "first": first,
    }  # fmt: skip
    changes = {key: value for key, value in given.items() if value is not None and value != []}
    try:
        if len(files) == 1 and _is_plan(files[0], data):
            plan = Plan.from_toml(files[0], section, data)
            return dataclasses.replace(plan, **changes)
        if section:
            raise InputError(None, None, "--plan goes with a plan file", "give one .toml")
        return Plan(files=tuple(str(data / f) for f in files), **changes)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(None, None, str(error), "see nco bench --help") from None


def _is_plan(file: str, data: Path) -> bool:
    """Whether a file is a plan: TOML, but no two-stage instance."""
    import glob
    import tomllib

    if not file.endswith(".toml") or glob.has_magic(file):
        return False
    path = Path(file)
    if not path.exists() and (data / file).exists():
        return False  # plans are not below --data
    try:
        return "second_stage" not in tomllib.loads(path.read_text())
    except (OSError, ValueError):
        return True  # reading it as a plan says what is wrong


def _print(cells: list[Cell], by: str) -> None:
    from rich import box
    from rich.table import Table

    from nco.cli.report import console, percent

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in (by, "solver", "limit", "runs", "solved", "gap", "worst", "seconds", "over"):
        table.add_column(column, justify="left" if column in (by, "solver") else "right")
    for cell in cells:
        table.add_row(
            cell.group, cell.solver, f"{cell.time_limit:g}", str(cell.runs), str(cell.solved),
            percent(cell.gap), percent(cell.worst), f"{cell.seconds:.2f}",
            f"{max(0.0, cell.overshoot):.2f}",
        )  # fmt: skip
    console().print(table)


def _print_wide(cells: list[Cell], by: str) -> None:
    """Mean gap and seconds of every solver and limit, and the solved runs if not all."""
    from rich import box
    from rich.table import Table

    from nco.cli.report import console, percent

    columns = list(dict.fromkeys((cell.solver, cell.time_limit) for cell in cells))
    columns.sort(key=lambda column: (column[0].partition(":")[0], column[1], column[0]))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(by)
    for solver, limit in columns:
        table.add_column(f"{solver} {limit:g} s", justify="right", overflow="fold")
    lines: dict[str, dict[tuple[str, float], str]] = {}
    for cell in cells:
        text = f"{percent(cell.gap)} {cell.seconds:.1f} s"
        if cell.solved < cell.runs:
            text += f" ({cell.solved} of {cell.runs})"
        lines.setdefault(cell.group, {})[cell.solver, cell.time_limit] = text
    for group in lines:
        table.add_row(group, *(lines[group].get(column, "") for column in columns))
    console().print(table)
