"""Reference sets by recipe: instances from a seed, references by the best solver at hand.

    python scripts/bench/references.py op500 pctsp1000 --out references --seconds 60

writes ``references/op500.npz`` with instances, objectives, solutions and, in ``ref_method``,
the solvers and the time that gave them. Without names all sets are made. A set that exists is
improved: its references are starts, and only better ones replace them. It is written anew after
every instance, so that whoever stops it keeps what there is; the same call goes on with the
rest. Any ``.npz`` batch can be named instead of a set. A set whose instances differ in size is
a folder with a file for each. ``--recipes`` makes the instances alone, in a moment.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import nco
from nco.instances import io
from nco.instances.core import Batch, InputError, Instance, better
from nco.instances.registry import problems, solvers


@dataclass(frozen=True)
class Recipe:
    """How the instances of a set are made.

    Parameters
    ----------
    problem
        Name of the problem.
    n
        Size; of two, every instance draws its own between them.
    count
        Number of instances; instance k has seed ``1000 + k``.
    names
        Solvers; the best of their solutions is the reference. Those not installed are left
        out.
    options
        Options of the generator.
    """

    problem: str
    n: int | tuple[int, int]
    count: int
    names: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


#: Sizes and definitions: BQ-NCO (NeurIPS 2023) and UDC (NeurIPS 2024).
RECIPES = {
    # Beside those of routing/, to which their rows are added.
    "tsp1000": Recipe("tsp", 1000, 16, ("fast-tsp", "lkh")),
    "tsp10000": Recipe("tsp", 10_000, 14, ("fast-tsp",)),
    "tsp5000": Recipe("tsp", 5000, 16, ("fast-tsp",)),
    "tsp2000": Recipe("tsp", 2000, 32, ("fast-tsp", "lkh")),
    **{
        f"tsp{n}-{kind}": Recipe("tsp", n, count, ("fast-tsp",), {"distribution": kind})
        for kind in ("clustered", "explosion", "rotation")
        for n, count in ((100, 32), (1000, 16))
    },
    "tsp100000": Recipe("tsp", 100_000, 16, ("fast-tsp",)),
    "cvrp5000": Recipe("cvrp", 5000, 16, ("hgs", "pyvrp"), {"preset": "udc"}),
    **{f"atsp{n}": Recipe("atsp", n, 32, ("lkh",)) for n in (200, 250, 500, 1000)},
    **{f"op{n}": Recipe("op", n, 32, ("prize-tour",)) for n in (200, 500, 1000, 2000)},
    **{
        f"pctsp{n}": Recipe("pctsp", n, 32, ("ruin-recreate", "prize-tour"))
        for n in (500, 1000, 2000)
    },
    **{
        f"spctsp{n}": Recipe("spctsp", n, 32, ("prize-tour", "ruin-recreate"))
        for n in (500, 1000, 2000)
    },
    **{
        f"{problem}{n}": Recipe(problem, n, 32 if n <= 2000 else 16, names, {"preset": "udc"})
        for problem, sizes, names in (
            ("cvrp", (500, 1000, 2000), ("hgs", "pyvrp")),
            ("ovrp", (500, 1000, 2000), ("pyvrp", "ruin-recreate")),
            ("knapsack", (500, 1000, 2000, 5000), ("knapsack",)),
        )
        for n in sizes
    },
    **{
        f"mtsp{n}-m{m}": Recipe("mtsp", n, 32, ("ortools", "ruin-recreate"), {"salesmen": m})
        for n, m in ((500, 30), (500, 50), (1000, 50))
    },
    "mis-er": Recipe("mis", (700, 800), 32, ("mis-tabu", "kamis"), {"p": 0.15}),
    # Of two equal sizes: the graphs differ in edges, and each has a file of its own.
    **{
        f"mis-er{n}-p{p:.2f}": Recipe("mis", (n, n), 32, ("mis-tabu", "kamis"), {"p": p})
        for n, p in ((720, 0.05), (720, 0.25), (2000, 0.05))
    },
}

#: What improves a file: the strong solvers.
STRONG = (
    "lkh", "or-opt", "hgs", "pyvrp", "prize-tour", "ruin-recreate", "knapsack", "mis-tabu",
    "kamis", "cp-sat",
)  # fmt: skip


def instances(recipe: Recipe, first: int, end: int) -> list[Instance[Any]]:
    """The instances ``first..end-1`` of a set, without references."""
    cls = problems.load(recipe.problem)
    made = []
    for seed in range(1000 + first, 1000 + end):
        n = recipe.n
        if not isinstance(n, int):
            n = int(np.random.default_rng(seed).integers(n[0], n[1] + 1))
        made.append(cls.generate(n, seed=seed, **recipe.options))
    return made


def refer(instance: Instance[Any], names: tuple[str, ...], seconds: float) -> Instance[Any]:
    """The instance with the best solution found as its reference, never a worse one."""
    best = instance
    for name in names:
        # A solution of a stochastic problem cannot be improved with hindsight.
        start = None if instance.problem == "spctsp" else best.ref_solution
        result = nco.solve(instance, solver=name, time_limit=seconds, start=start)
        found = result.objective
        if found is not None and (
            best.ref_cost is None or better(found, best.ref_cost, instance.sense)
        ):
            best = instance.replace(ref_cost=found, ref_solution=result.solution)
    return best


def main() -> int:
    """Make or improve the sets named on the command line."""
    parser = argparse.ArgumentParser(description="Make or improve reference sets.")
    parser.add_argument("sets", nargs="*", help=f"{', '.join(RECIPES)} (all), or .npz files")
    parser.add_argument("--out", type=Path, default=Path("references"))
    parser.add_argument("--seconds", type=float, default=60.0, help="per instance and solver")
    parser.add_argument("--count", type=int, help="fewer instances")
    parser.add_argument("--recipes", action="store_true", help="instances without references")
    args = parser.parse_args()
    if not (math.isfinite(args.seconds) and args.seconds > 0):
        parser.error("--seconds must be a number > 0")
    if args.count is not None and args.count < 1:
        parser.error("--count must be at least 1")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.sets or RECIPES:
        recipe = RECIPES.get(name)
        try:
            known = _known(name, recipe, args.out)
        except InputError as error:
            parser.error(str(error))
        whole = recipe.count if recipe else len(known)
        wanted = min(whole, args.count or whole)
        if recipe:
            known += instances(recipe, len(known), wanted)
        if args.recipes:
            _write(known, name, recipe, args.out)
            continue
        names = fitting(known[0], recipe.names if recipe else STRONG)
        method = f"best of {' '.join(names)}, {args.seconds:g} s each"
        for k, instance in enumerate(known[:wanted]):
            found = refer(instance, names, args.seconds)
            if found is not instance:
                known[k] = found.replace(ref_method=method)
            print(f"{name}[{k}]: {found.ref_cost}", file=sys.stderr, flush=True)
            # What was found so far outlives a kill.
            done = [i for i in known if i.ref_cost is not None or k + 1 == wanted]
            # A batch has one line for all of its references.
            methods = {m: None for i in done for m in i.ref_method.split("; ") if m}
            done = [i.replace(ref_method="; ".join(methods)) for i in done]
            if done:
                _write(done, name, recipe, args.out)
    return 0


def _known(name: str, recipe: Recipe | None, out: Path) -> list[Instance[Any]]:
    """The instances of a set as far as it exists."""
    target = out / (name if recipe and not isinstance(recipe.n, int) else f"{name}.npz")
    if recipe is None:
        target = out / Path(name).name
        target = target if target.exists() else Path(name)
    if recipe and not target.exists():
        return []
    files = sorted(target.glob("*.npz")) if target.is_dir() else [target]
    known: list[Instance[Any]] = []
    for file in files:
        read = io.read(file)
        known += list(read) if isinstance(read, Batch) else [read]
    return known


def _write(done: list[Instance[Any]], name: str, recipe: Recipe | None, out: Path) -> None:
    if recipe is None or isinstance(recipe.n, int):
        target = out / (f"{name}.npz" if recipe else Path(name).name)
        io.write(Batch.of(done, name=Path(name).stem), target)
        return
    (out / name).mkdir(exist_ok=True)
    for k, instance in enumerate(done):
        io.write(instance, out / name / f"{name}-{k:02}.npz")


def fitting(instance: Instance[Any], names: tuple[str, ...]) -> tuple[str, ...]:
    """Those solvers that are installed and support the instance, else ``auto``."""
    found = [
        name
        for name in names
        if solvers.entry(name).installed and solvers.load(name)().supports(instance) is None
    ]
    return tuple(found) or ("auto",)


if __name__ == "__main__":
    sys.exit(main())
