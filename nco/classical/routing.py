"""What the adapters to routing libraries share."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import (
    FLOAT_TOLERANCE,
    MAX_MATRIX_NODES,
    METRICS,
    Budget,
    Distances,
    Instance,
    Listener,
    Tracker,
)
from nco.instances.cvrp import CVRP
from nco.instances.tsp import TSP

#: Metrics that grow with both coordinate differences, so that a box bounds them.
_PLANAR = frozenset(METRICS) - {"GEO", "XRAY1", "XRAY2"}


def space_arrays(distances: Distances) -> dict[str, NDArray[Any]]:
    """Coordinates or matrix, for a worker process."""
    if distances.coords is None:
        return {"matrix": distances.matrix}
    return {"coords": distances.coords, "metric": np.array(distances.metric)}


def distances_of(arrays: dict[str, NDArray[Any]]) -> Distances:
    """The inverse of `space_arrays`, in the worker."""
    if "matrix" in arrays:
        return Distances(matrix=arrays["matrix"])
    return Distances(coords=arrays["coords"], metric=str(arrays["metric"]))


def cost_rows(distances: Distances, begin: int, end: int) -> NDArray[np.float64]:
    """Costs [end - begin, n] from some nodes to all; 0 from a node to itself."""
    rows = np.arange(begin, end)
    block = distances.pairs(rows[:, None], np.arange(distances.n)[None])
    block[np.arange(end - begin), rows] = 0.0
    return block


def cost_blocks(
    distances: Distances, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Some rows of `cost_rows` at a time, with their place, unless ``stop`` says so.

    Raises
    ------
    TimeoutError
        When it does.
    """
    for begin in range(0, distances.n, 32):
        if stop():
            raise TimeoutError("out of time.")
        end = min(begin + 32, distances.n)
        yield slice(begin, end), cost_rows(distances, begin, end)


def largest_cost(
    distances: Distances, *, exact: bool = False, stop: Callable[[], bool] = lambda: False
) -> float:
    """The largest cost between two nodes, or a quick upper bound on it within a factor of 2."""
    if distances.coords is not None and distances.metric in _PLANAR and not exact:
        box = Distances(
            coords=np.stack([distances.coords.min(0), distances.coords.max(0)]),
            metric=distances.metric,
        )
        return float(box.pairs(0, 1))
    return max(float(block.max()) for _, block in cost_blocks(distances, stop))


def cost_scale(distances: Distances, largest: float) -> float:
    """The factor that brings costs to integers of up to ``largest``.

    It is 1 for integral costs that fit.
    """
    top = largest_cost(distances)
    if distances.integral and top > largest:
        top = largest_cost(distances, exact=True)
    if distances.integral and top <= largest:
        return 1.0
    return largest / top if top > 0 else 1.0


def integer_costs(
    distances: Distances, largest: float, dtype: Any = np.int64
) -> tuple[NDArray[Any], float]:
    """Costs as integers [n, n] and the factor they were multiplied with.

    Integral costs stay as they are where they fit; others are scaled by `cost_scale` and
    rounded. No float matrix is made beside the result.
    """
    scale = cost_scale(distances, largest)
    costs = np.empty((distances.n, distances.n), dtype=dtype)
    for rows, block in cost_blocks(distances):
        costs[rows] = np.rint(block * scale)
    return costs, scale


def load_limit(instance: CVRP) -> float:
    """Largest load that the instance's own check surely accepts."""
    if instance.integral_demands:
        return float(instance.capacity)
    return instance.capacity + 0.5 * FLOAT_TOLERANCE * max(1.0, instance.capacity)


def length_limit(instance: CVRP) -> float:
    """Largest route length, service included, that the check surely accepts; may be inf."""
    if instance.max_distance is None:
        return math.inf
    return instance.max_distance * (1 + 0.5 * FLOAT_TOLERANCE)


def integer_loads(demands: NDArray[Any], capacity: float) -> tuple[NDArray[np.int64], int]:
    """Demands and capacity as integers; what fits after scaling fits before.

    Decimal demands are scaled exactly; others are rounded up on a grid of 10^7 steps.
    """
    integral = np.issubdtype(demands.dtype, np.integer)
    demands = demands.astype(np.float64)
    # More says nothing, and may be beyond 64 bits.
    capacity = min(capacity, 2.0 * float(demands.sum()))
    for factor in (1.0, 10.0, 100.0, 1000.0, 1e4, 1e5, 1e6):
        scaled = demands * factor
        whole = np.rint(scaled)
        if (np.abs(scaled - whole) <= 1e-9 * scaled).all():
            # The same slack as the instance's check gives to sums of floats.
            slack = 0.0 if integral else FLOAT_TOLERANCE
            return whole.astype(np.int64), math.floor(capacity * factor * (1 + slack))
    factor = 1e7 / capacity
    return np.ceil(demands * factor).astype(np.int64), 10**7


def version(package: str) -> dict[str, str]:
    """Name and version of the library behind a solver."""
    return {package: importlib.metadata.version(package)}


def tracked(
    name: str,
    instance: Instance[Any],
    budget: Budget,
    seed: int,
    start: Any,
    on_event: Listener | None,
) -> Tracker[Any]:
    """A solver's tracker, which holds the start where there is one.

    Raises
    ------
    ValueError
        When the start is infeasible; with its first violation.
    """
    problems = [] if start is None else instance.violations(start)
    if problems:
        raise ValueError(f"start is infeasible: {problems[0]}.")
    tracker = Tracker(instance, budget, solver=name, seed=seed, on_event=on_event)
    if start is not None:
        tracker.offer(start, by="start")
    return tracker


def surely_infeasible(instance: CVRP) -> bool:
    """Whether the fleet surely cannot carry the demand, or a route surely is too long."""
    return instance.to_routing().infeasible


def refuse_tour(
    instance: Instance[Any], most: int | None = None, *, symmetric: bool = False
) -> str | None:
    """The reason why a tour solver cannot take an instance, or None.

    Parameters
    ----------
    instance
        Any instance.
    most
        Largest number of nodes, or None; fixed edges take a matrix.
    symmetric
        Whether costs must be symmetric.
    """
    if not isinstance(instance, TSP) or instance.problem not in ("tsp", "atsp"):
        kinds = "tsp" if symmetric else "tsp and atsp"
        return f"solves {kinds}, not {instance.problem}"
    if symmetric and instance.directed:
        return "needs symmetric costs"
    if instance.restricted and instance.n > MAX_MATRIX_NODES:
        return f"needs n <= {MAX_MATRIX_NODES:,} where edges are fixed"
    return None if most is None or instance.n <= most else f"needs n <= {most:,}"


def search_costs(instance: TSP, budget: Budget) -> Distances | None:
    """Costs for searches that know neither fixed nor missing edges; None when time is up first."""
    costs = instance.search_distances
    if instance.restricted:
        try:
            costs.full_matrix(budget.spent)
        except TimeoutError:
            return None
    return costs
