"""``nco demo``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from nco.cli.app import NOTHING, OK
from nco.cli.options import Seed, Verbose, check_writable, start_logging


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the pictures.")] = Path(
        "demo-out"
    ),
    time_limit: Annotated[
        float, typer.Option("--time-limit", "-t", min=0.0, help="Seconds for each instance.")
    ] = 4.0,
    seed: Seed = 0,
    verbose: Verbose = 0,
) -> int:
    """Solve the bundled instances, compare with the best known, draw the solutions."""
    import sys
    import threading

    from nco import api, examples
    from nco.classical import compiling
    from nco.cli.plot import save
    from nco.cli.report import Progress, Row, print_table
    from nco.instances import io, plot
    from nco.instances.core import Batch, Budget

    start_logging(verbose)
    check_writable(out, folder=True)
    out.mkdir(parents=True, exist_ok=True)
    known = examples.references()
    solver = api.make_solver("auto")
    limits = api.Limits(time_limit)
    # Said only where it takes long: compiled kernels are loaded in less.
    say = threading.Timer(
        1.0, print, ["compiling kernels, once per machine ..."], {"file": sys.stderr}
    )
    say.start()
    compiling.compile_all()
    say.cancel()
    rows: list[Row] = []
    code, drawn = OK, 0
    budget = Budget()
    with budget.catch_interrupt(), Progress(sys.stderr.isatty(), len(known)) as progress:
        for name, cost in known.items():
            if budget.interrupted():
                break
            own = limits.budget(budget)
            instance = io.read(examples.path(name))
            assert not isinstance(instance, Batch)
            instance = instance.replace(ref_cost=cost)
            progress.start(instance, "auto")
            result = api.run(instance, solver, own, seed=seed, on_event=progress.on_event)
            progress.finish(result, instance.n)
            rows.append(Row(name, instance.n, [result]))
            if result.solution is None:
                code = NOTHING
                continue
            stem = name.split(".")[0]
            try:
                ax = plot.plot(instance, result.solution)
            except ValueError:
                # A matrix or a model has no picture; its run has one.
                ax = plot.convergence(dataclasses.replace(result, instance=stem))
            save(ax, out / f"{stem}.png")
            drawn += 1
    print_table(rows)
    print(f"{drawn} pictures in {out}/")
    return code
