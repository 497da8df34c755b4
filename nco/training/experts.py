"""Experts: solvers that make labels, one instance at a time, in worker processes.

An expert takes the arrays of one instance, an effort and a seed, and gives the label's
arrays. The libraries are imported on use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    packed
        Arrays of truth values that are stored as bits.
    """

    problem: str
    solve: Callable[[Fields, float, int], Arrays]
    effort: float
    unit: str
    recipe: str
    packed: tuple[str, ...] = ()


def _distances(coords: NDArray[Any]) -> NDArray[np.float64]:
    d = coords[:, None].astype(np.float64) - coords[None].astype(np.float64)
    return np.sqrt((d * d).sum(-1))


def fast_tsp(fields: Fields, seconds: float, seed: int) -> Arrays:
    """Or-opt local search for so many seconds. It has no seed."""
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
        tours = list(search(space_arrays(instance), None, seed, int(runs), folder))
    return {"tour": np.asarray(min(tours, key=instance.objective))}


def pyvrp(fields: Fields, iterations: float, seed: int) -> Arrays:
    """PyVRP with prizes and a length limit, for so many iterations."""
    from nco.classical.pyvrp import PyVRP
    from nco.instances.core import Budget
    from nco.instances.op import OP

    instance = OP(
        coords=fields["coords"], prizes=fields["prizes"], max_length=float(fields["max_length"])
    )
    result = PyVRP().solve(instance, Budget(iterations=int(iterations)), seed=seed)
    tour = np.zeros(instance.n, dtype=np.int64)
    tour[: len(result.solution)] = result.solution
    return {"tour": tour}


EXPERTS: dict[str, Expert] = {
    "fast-tsp": Expert("tsp", fast_tsp, 0.01, "seconds", "tsp-uniform"),
    "lkh": Expert("atsp", lkh, 1, "runs", "atsp-tmat"),
    "hgs": Expert("cvrp", hgs, 1000, "iterations without improvement", "cvrp-mixed", ("start",)),
    "pyvrp": Expert("op", pyvrp, 1000, "iterations", "op-mixed"),
    "knapsack": Expert("knapsack", knapsack, 0, "-", "knapsack-mixed", ("chosen",)),
}


def expert_for(problem: str, name: str = "") -> tuple[str, Expert]:
    """The expert of that name, or the problem's first; and its name.

    Raises
    ------
    ValueError
        When there is none.
    """
    for key, expert in EXPERTS.items():
        if expert.problem == problem and name in ("", key):
            return key, expert
    known = ", ".join(f"{key} ({expert.problem})" for key, expert in EXPERTS.items())
    raise ValueError(f"no expert {name or 'at all'} for {problem}; known: {known}.")
