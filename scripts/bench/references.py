"""Reference sets by recipe: instances from a seed, references by the best solver at hand.

    python scripts/bench/references.py op500 pctsp1000 --out references --seconds 60

writes ``references/op500.npz`` with instances, objectives, solutions and, in ``ref_method``,
the solvers and the time that gave them. A set that exists is improved: its references are
starts, and only better ones replace them. Any ``.npz`` batch can be named instead of a set.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        Size.
    count
        Number of instances; instance k has seed ``1000 + k``.
    names
        Solvers; the best of their solutions is the reference.
    options
        Options of the generator.
    """

    problem: str
    n: int
    count: int
    names: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


#: Sizes and definitions: BQ-NCO (NeurIPS 2023) and UDC (NeurIPS 2024).
RECIPES = {
    **{f"atsp{n}": Recipe("atsp", n, 16, ("lkh",)) for n in (200, 500, 1000)},
    **{f"op{n}": Recipe("op", n, 16, ("pyvrp", "ruin-recreate")) for n in (200, 500, 1000)},
    **{f"pctsp{n}": Recipe("pctsp", n, 16, ("pyvrp", "ruin-recreate")) for n in (500, 1000)},
    **{f"spctsp{n}": Recipe("spctsp", n, 16, ("ruin-recreate",)) for n in (500, 1000)},
    "ovrp500": Recipe("ovrp", 500, 16, ("pyvrp", "ruin-recreate"), {"preset": "udc"}),
    "ovrp1000": Recipe("ovrp", 1000, 16, ("pyvrp", "ruin-recreate"), {"preset": "udc"}),
    **{
        f"mtsp{n}-m{m}": Recipe("mtsp", n, 16, ("ortools", "ruin-recreate"), {"salesmen": m})
        for n, m in ((500, 30), (500, 50), (1000, 50))
    },
    # UDC's graphs have 700 to 800 nodes; a batch holds one size, the middle one.
    "mis-er750": Recipe("mis", 750, 16, ("auto",), {"p": 0.15}),
}


def instances(recipe: Recipe) -> list[Instance[Any]]:
    """The instances of a set, without references."""
    cls = problems.load(recipe.problem)
    seeds = range(1000, 1000 + recipe.count)
    return [cls.generate(recipe.n, seed=seed, **recipe.options) for seed in seeds]


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
    parser.add_argument("sets", nargs="+", help=f"{', '.join(RECIPES)}, or .npz files")
    parser.add_argument("--out", type=Path, default=Path("references"))
    parser.add_argument("--seconds", type=float, default=60.0, help="per instance and solver")
    parser.add_argument("--count", type=int, help="fewer instances")
    args = parser.parse_args()
    if not (math.isfinite(args.seconds) and args.seconds > 0):
        parser.error("--seconds must be a number > 0")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        recipe = RECIPES.get(name)
        target = args.out / (f"{name}.npz" if recipe else Path(name).name)
        source = target if target.exists() or recipe else Path(name)
        try:
            known = io.read(source) if source.exists() or not recipe else instances(recipe)
        except InputError as error:
            parser.error(str(error))
        batch = list(known) if isinstance(known, (Batch, list)) else [known]
        batch = batch[: args.count]
        names = recipe.names if recipe else fitting(batch[0])
        done = []
        for k, instance in enumerate(batch):
            done.append(refer(instance, names, args.seconds))
            print(f"{name}[{k}]: {done[-1].ref_cost}", file=sys.stderr, flush=True)
        method = f"best of {' '.join(names)}, {args.seconds:g} s each"
        done = [i.replace(ref_method=method) for i in done]
        io.write(Batch.of(done, name=name), target)
    return 0


def fitting(instance: Instance[Any]) -> tuple[str, ...]:
    """The strong solvers that support an instance."""
    known = ("lkh", "hgs", "pyvrp", "ruin-recreate", "knapsack", "cp-sat")
    found = [
        name
        for name in known
        if solvers.entry(name).installed and solvers.load(name)().supports(instance) is None
    ]
    return tuple(found) or ("auto",)


if __name__ == "__main__":
    sys.exit(main())
