"""``nco generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nco.cli.options import Seed, check_writable, complete_problem


def generate(
    problem: Annotated[
        str,
        typer.Argument(
            help="Problem; see nco list problems.",
            autocompletion=complete_problem,
            show_default=False,
        ),
    ],
    n: Annotated[
        int, typer.Option("--n", "-n", help="Customers, items or cities.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="File; the suffix chooses the format.", show_default=False
        ),
    ],
    count: Annotated[
        int | None,
        typer.Option("--count", "-c", help="So many: one .npz, or numbered files."),
    ] = None,
    seed: Seed = 0,
    distribution: Annotated[
        str | None, typer.Option("--distribution", "-d", help="Distribution of the data.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Capacities of a paper: bq or udc.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="KEY=VALUE", help="Option of the distribution."),
    ] = None,
) -> int:
    """Make random instances; prints the files written."""
    from nco.api import parse_params
    from nco.conversion import generate as make
    from nco.conversion import write_many
    from nco.instances import io
    from nco.instances.core import InputError

    check_writable(out)
    options = parse_params(param or ())
    for name in ("problem", "n", "seed", "count", "distribution"):
        if name in options:
            hint = "name it first" if name == "problem" else f"give --{name}"
            raise InputError(None, None, f"{name} is no option of a distribution", hint)
    if preset is not None:
        options["preset"] = preset
    if count is None:
        io.write(make(problem, n, seed=seed, distribution=distribution, **options), out)
        written = [out]
    else:
        batch = make(problem, n, seed=seed, distribution=distribution, count=count, **options)
        written = write_many(batch, out)
    for path in written:
        print(path)
    return 0
