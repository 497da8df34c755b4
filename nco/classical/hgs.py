"""HGS-CVRP (through hygese): hybrid genetic search for the CVRP."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nco.classical.constructive import initial_routes
from nco.classical.routing import (
    distances_of,
    length_limit,
    load_limit,
    space_arrays,
    surely_infeasible,
    tracked,
    version,
)
from nco.classical.worker import Worker
from nco.instances.core import Budget, Instance, Listener, Result, Status, Stop
from nco.instances.cvrp import CVRP

#: Seconds of search when nothing limits it.
DEFAULT_SECONDS = 10.0
#: Seconds from which on a search keeps a reserve.
LONG_SEARCH = 20.0


@dataclass(frozen=True)
class HGS:
    """Adapter to HGS-CVRP.

    T. Vidal, Hybrid genetic search for the CVRP: open-source implementation and SWAP*
    neighborhood, Computers & OR 140 (2022). It works in a child process, as it cannot be
    stopped; after Ctrl-C the routes of a short first search are returned. Iterations of a
    budget are its iterations without improvement, and it has no warm start: a start is
    only a floor.

    Parameters
    ----------
    granular
        Neighbours that moves are restricted to.
    """

    name: ClassVar[str] = "hgs"

    granular: int = 20

    def __post_init__(self) -> None:
        if self.granular < 1:
            raise ValueError("granular < 1 not understood.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """Symmetric CVRP of up to 10,000 nodes."""
        if not isinstance(instance, CVRP) or instance.problem != "cvrp":
            return f"solves cvrp, not {instance.problem}"
        if not instance.distances.symmetric:
            return "needs symmetric costs"
        return None if instance.nodes <= 10_000 else "needs n < 10,000"

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Search until the budget is used up; 10 s without a limit."""
        assert isinstance(instance, CVRP)
        tracker = tracked(self.name, instance, budget, seed, start, on_event)
        if surely_infeasible(instance):
            return tracker.result(Stop.PROVED, status=Status.INFEASIBLE)
        arrays = space_arrays(instance.distances) | {"demands": instance.demands}
        if instance.coords is not None:
            # Polar angles around the depot serve its SWAP* neighbourhood.
            arrays["points"] = instance.coords
        params = {
            "capacity": load_limit(instance),
            "limit": None if instance.max_distance is None else length_limit(instance),
            "service": instance.service_time,
            "granular": self.granular,
            "seed": seed,
            "iterations": budget.iterations,
        }
        if budget.time_limit is None and budget.iterations is None:
            budget = budget.reserve(0.0)
            budget.time_limit = budget.elapsed() + DEFAULT_SECONDS
        first = initial_routes(instance, budget)
        if first is not None:
            tracker.offer(first, by="constructive")
        params["vehicles"] = instance.vehicles or _fleet(instance, first)
        ended = False
        if not tracker.done():
            with Worker("nco.classical.hgs:search", arrays, params, budget) as worker:
                for routes in worker:
                    # Without a feasible solution the library gives its best infeasible one.
                    if not instance.violations(routes):
                        tracker.offer(routes)
                    if tracker.done():
                        break
                ended = worker.ended and budget.iterations is not None
        return tracker.result(
            tracker.done() or (Stop.ITERATIONS if ended else Stop.TIME),
            params={"granular": self.granular},
            versions=version("hygese"),
        )


def _fleet(instance: CVRP, routes: list[list[int]] | None) -> int:
    """Enough vehicles for a free fleet: the library's own count knows no length limit."""
    needed = float(instance.demands.sum()) / max(instance.capacity, 1e-300)
    return min(instance.n, math.ceil(1.3 * max(needed, len(routes or ()))) + 3)


def search(
    arrays: dict[str, Any],
    deadline: float | None,
    capacity: float,
    limit: float | None,
    service: float,
    vehicles: int,
    granular: int,
    seed: int,
    iterations: int | None,
) -> Iterator[list[list[int]]]:
    """Worker side: a short search, then one with all the time left."""
    import hygese

    matrix = distances_of(arrays).matrix
    n = len(matrix)
    demands = arrays["demands"].astype(np.float64)
    if not matrix.any():
        return  # every solution costs nothing
    # The library refuses costs and loads that are all tiny or huge.
    scale = 1.0 if 10.0 <= matrix.max() <= 50_000.0 else 10_000.0 / float(matrix.max())
    if not demands.any():
        demands[1:], capacity = 1.0, float(n)
    unit = 1.0 if 1.0 <= demands.max() <= 50_000.0 else 10_000.0 / float(demands.max())
    data = {
        "distance_matrix": matrix * scale,
        "demands": demands * unit,
        "vehicle_capacity": capacity * unit,
        "service_times": np.r_[0.0, np.full(n - 1, service * scale)],
        "num_vehicles": vehicles,
    }
    if limit is not None:
        data["duration_limit"] = limit * scale
    if "points" in arrays:
        points = arrays["points"] - arrays["points"].min(0)
        data["x_coordinates"], data["y_coordinates"] = points[:, 0], points[:, 1]

    def run(seconds: float, steps: int) -> list[list[int]]:
        parameters = hygese.AlgorithmParameters(
            timeLimit=seconds,
            nbIter=steps,
            seed=seed % 2**31,
            nbGranular=granular,
            useSwapStar="points" in arrays,
        )
        solution = hygese.Solver(parameters=parameters, verbose=False).solve_cvrp(data)
        return [[int(k) for k in route] for route in solution.routes]

    if iterations is not None or deadline is None:
        yield run(0.0, max(1, iterations or 1))
        return
    # Its limit is in CPU seconds: the short search shows how many a second brings.
    way_back = 0.02 + 1e-5 * n
    begin, spent = time.monotonic(), time.process_time()
    yield run(max(0.01, min(2.0, 0.1 * (deadline - begin))), 2**31 - 1)
    pace = min(1.0, (time.process_time() - spent) / max(1e-9, time.monotonic() - begin))
    # It gives its solution only at its end, and the pace may fall meanwhile: a long search
    # keeps a reserve. What is left is worth another seed.
    while (left := deadline - time.monotonic() - way_back) > 0.02:
        yield run((0.97 if left < LONG_SEARCH else 0.8) * pace * left, 2**31 - 1)
        seed += 1
