"""Experts: solvers that make labels, one instance at a time, in worker processes.

An expert takes the arrays of one instance, an effort and a seed, and gives the label's
arrays. The libraries are imported on use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.training.labels import Arrays

Fields = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Expert:
    """One way to make labels.

    Parameters
    ----------
    problem
        What it solves.
    solve
        Function of the instance's arrays, the effort and the seed.
    effort
        Default effort, in ``unit``.
    unit
        What the effort counts.
    recipe
        Default recipe of the instances.
    least
        Smallest size that it solves.
    """

    problem: str
    solve: Callable[[Fields, float, int], Arrays]
    effort: float
    unit: str
    recipe: str
    least: int = 1


def _distances(coords: NDArray[Any]) -> NDArray[np.float64]:
    d = coords[:, None].astype(np.float64) - coords[None].astype(np.float64)
    return np.sqrt((d * d).sum(-1))


def fast_tsp(fields: Fields, seconds: float, seed: int) -> Arrays:
    """Or-opt local search for so many seconds.

    It has no seed and follows the clock: its labels are not made again exactly. Those of the
    expert ``or-opt``, by kicks and seed, are.
    """
    import fast_tsp

    d = _distances(fields["coords"])
    costs = np.rint(d * (65_000.0 / max(float(d.max()), 1e-300))).astype(np.uint16)
    return {"tour": np.asarray(fast_tsp.find_tour(costs, duration_seconds=seconds))}


def hgs(fields: Fields, iterations: float, seed: int) -> Arrays:
    """HGS-CVRP for so many iterations without improvement."""
    import hygese

    coords = (fields["coords"] - fields["coords"].min(0)) * 10_000.0
    data = {
        "x_coordinates": coords[:, 0].astype(np.float64),
        "y_coordinates": coords[:, 1].astype(np.float64),
        "demands": fields["demands"].astype(np.float64),
        "vehicle_capacity": float(fields["capacity"]),
        "service_times": np.zeros(len(coords)),
        "depot": 0,
    }
    parameters = hygese.AlgorithmParameters(nbIter=int(iterations), seed=seed)
    routes = hygese.Solver(parameters=parameters, verbose=False).solve_cvrp(data, rounding=False)
    tour = np.concatenate([np.asarray(route) for route in routes.routes if len(route)])
    start = np.zeros(len(tour), dtype=bool)
    start[np.cumsum([0, *(len(r) for r in routes.routes if len(r))])[:-1]] = True
    return {"tour": tour, "start": start}


def knapsack(fields: Fields, states: float, seed: int) -> Arrays:
    """Exact dynamic programming over an expanding core. Its effort cannot be limited."""
    from nco.classical.knapsack import KnapsackDP
    from nco.instances.core import Budget, Status
    from nco.instances.knapsack import Knapsack

    instance = Knapsack(
        values=fields["values"], weights=fields["weights"], capacity=int(fields["capacity"])
    )
    result = KnapsackDP().solve(instance, Budget())
    if result.status is not Status.OPTIMAL:
        raise RuntimeError("the knapsack is too hard for exact labels.")
    chosen = np.zeros(instance.n, dtype=bool)
    chosen[result.solution] = True
    return {"chosen": chosen}


def lkh(fields: Fields, runs: float, seed: int) -> Arrays:
    """The best of so many runs of LKH."""
    import tempfile

    from nco.classical.lkh import search
    from nco.classical.routing import space_arrays
    from nco.instances.atsp import ATSP

    instance = ATSP(matrix=fields["matrix"])
    with tempfile.TemporaryDirectory(prefix="nco-lkh-") as folder:
        tours = list(search(space_arrays(instance.distances), None, seed, int(runs), folder))
    return {"tour": np.asarray(min(tours, key=instance.objective))}


def classical(problem: str, solver: str, fields: Fields, iterations: float, seed: int) -> Arrays:
    """A solver of that name, for so many iterations."""
    from nco.instances.core import Budget
    from nco.instances.registry import problems, solvers

    given = {k: v.item() if np.ndim(v) == 0 else v for k, v in fields.items()}
    instance = problems.load(problem)(**given)
    budget = Budget(iterations=int(iterations))
    solution = solvers.load(solver)().solve(instance, budget, seed=seed).solution
    if solution is None:
        raise RuntimeError(f"{solver} found no solution of {instance.name or problem}.")
    form = instance.solution_form
    if form == "items":
        chosen = np.zeros(instance.n, dtype=bool)
        chosen[solution] = True
        return {"chosen": chosen}
    tour = np.zeros(instance.n, dtype=np.int64)
    if form != "routes":
        tour[: len(solution)] = solution
        return {"tour": tour}
    routes = [route for route in solution if route]
    start = np.zeros(instance.n, dtype=bool)
    start[np.cumsum([0, *map(len, routes[:-1])])] = True
    return {"tour": np.concatenate(routes), "start": start}


def _search(problem: str, solver: str, iterations: float, recipe: str, policy: str = "") -> Expert:
    solve = partial(classical, problem, solver)
    return Expert(policy or problem, solve, iterations, "iterations", recipe)


_EXPERTS = (
    ("fast-tsp", Expert("tsp", fast_tsp, 0.01, "seconds", "tsp-uniform", least=2)),
    ("or-opt", Expert("tsp", partial(classical, "tsp", "or-opt"), 1000, "kicks", "tsp-uniform", 3)),
    ("lkh", Expert("atsp", lkh, 1, "runs", "atsp-tmat", least=3)),
    ("hgs", Expert("cvrp", hgs, 1000, "iterations without improvement", "cvrp-mixed", 2)),
    ("pyvrp", _search("cvrp", "pyvrp", 500, "acvrp-tmat", "acvrp")),
    ("pyvrp", _search("ovrp", "pyvrp", 1000, "ovrp-mixed")),
    ("ruin-recreate", _search("ovrp", "ruin-recreate", 20_000, "ovrp-mixed")),
    ("prize-tour", _search("op", "prize-tour", 5000, "op-mixed")),
    ("pyvrp", _search("op", "pyvrp", 1000, "op-mixed")),
    ("prize-tour", _search("pctsp", "prize-tour", 5000, "pctsp-mixed")),
    ("pyvrp", _search("pctsp", "pyvrp", 1000, "pctsp-mixed")),
    ("ruin-recreate", _search("spctsp", "ruin-recreate", 20_000, "spctsp-mixed")),
    ("ruin-recreate", _search("mtsp", "ruin-recreate", 20_000, "mtsp-mixed")),
    ("knapsack", Expert("knapsack", knapsack, 0, "-", "knapsack-mixed")),
    ("mis-tabu", _search("mis", "mis-tabu", 50_000, "mis-er")),
)
#: By problem and name; the first of a problem is its default.
EXPERTS = {(expert.problem, name): expert for name, expert in _EXPERTS}


def expert_for(problem: str, name: str = "") -> tuple[str, Expert]:
    """The expert of that name, or the problem's first; and its name.

    Raises
    ------
    ValueError
        When there is none.
    """
    for (what, key), expert in EXPERTS.items():
        if what == problem and name in ("", key):
            return key, expert
    known = ", ".join(f"{key} ({what})" for what, key in EXPERTS)
    raise ValueError(f"no expert {name or 'at all'} for {problem}; known: {known}.")
