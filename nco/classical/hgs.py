"""HGS-CVRP (through hygese): hybrid genetic search for the CVRP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nco.classical.constructive import initial_routes
from nco.classical.routing import check_start, too_few_vehicles, version
from nco.classical.thread import deadline_of, run_thread
from nco.instances.core import Budget, Instance, Listener, Result, Status, Stop, Tracker
from nco.instances.cvrp import CVRP


@dataclass(frozen=True)
class HGS:
    """Adapter to HGS-CVRP.

    T. Vidal, Hybrid genetic search for the CVRP: open-source implementation and SWAP*
    neighborhood, Computers & OR 140 (2022). Iterations of a budget are its iterations
    without improvement.

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
        if not isinstance(instance, CVRP):
            return f"solves cvrp, not {instance.problem}"
        if not instance.distances.symmetric:
            return "needs symmetric costs"
        return None if instance.nodes <= 10_000 else "needs n < 10000"

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
        check_start(instance, start)
        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        if too_few_vehicles(instance):
            return tracker.result(Stop.PROVED, status=Status.INFEASIBLE)
        if start is not None:
            tracker.offer(start, by="start")
        first = initial_routes(instance, budget)
        if first is not None:
            tracker.offer(first, by="constructive")
        found = search(instance, deadline_of(budget), self.granular, seed, budget.iterations)
        grace = 0.25 + 0.03 * min(budget.left(), 60.0)
        for routes in run_thread(found, budget, grace=grace):
            # Without a feasible solution the library hands out its best infeasible one.
            if not instance.violations(routes):
                tracker.offer(routes)
            if tracker.done():
                break
        return tracker.result(
            tracker.done() or Stop.FINISHED,
            params={"granular": self.granular},
            versions=version("hygese"),
        )


def search(
    instance: CVRP, deadline: float | None, granular: int, seed: int, iterations: int | None
) -> Iterator[list[list[int]]]:
    """A short search, then one with all the time left.

    Parameters
    ----------
    instance
        Symmetric routes.
    deadline
        In `time.monotonic` seconds, or None.
    granular, seed, iterations
        As in the library.
    """
    import hygese

    matrix = instance.distances.matrix
    n = len(matrix)
    demands = instance.demands.astype(np.float64)
    capacity, service_time = instance.capacity, instance.service_time
    if not matrix.any():
        return  # every solution costs nothing
    # The library refuses costs and loads that are all tiny or huge.
    scale = 1.0 if 10.0 <= matrix.max() <= 50_000.0 else 10_000.0 / float(matrix.max())
    matrix, service_time = matrix * scale, service_time * scale
    if not demands.any():
        demands[1:], capacity = 1.0, float(n)
    unit = 1.0 if 1.0 <= demands.max() <= 50_000.0 else 10_000.0 / float(demands.max())
    data = {
        "distance_matrix": matrix,
        "demands": demands * unit,
        "vehicle_capacity": float(capacity) * unit,
        "service_times": np.r_[0.0, np.full(n - 1, float(service_time))],
    }
    if instance.coords is not None:
        # Polar angles around the depot serve its SWAP* neighbourhood.
        points = instance.coords - instance.coords.min(0)
        data["x_coordinates"], data["y_coordinates"] = points[:, 0], points[:, 1]
    if instance.max_distance is not None:
        data["duration_limit"] = float(instance.max_distance) * scale
    if instance.vehicles is not None:
        data["num_vehicles"] = instance.vehicles
    # Its clock counts the CPU time of the process: the short search shows how much of it
    # a second brings, and a search that is given up leaves its solution.
    pace = 1.0
    for short in (True, False):
        left = 10.0 if deadline is None else deadline - time.monotonic() - 0.02 - 2e-6 * n
        if left <= 0 or (iterations is not None and short):
            continue
        limit = min(2.0, 0.1 * left) if short else 0.97 * pace * left
        if iterations is not None and deadline is None:
            limit = 0.0
        parameters = hygese.AlgorithmParameters(
            timeLimit=limit,
            nbIter=2**31 - 1 if iterations is None else max(1, iterations),
            seed=seed % 2**31,
            nbGranular=granular,
            useSwapStar=instance.coords is not None,
        )
        wall, cpu = time.monotonic(), time.process_time()
        solution = hygese.Solver(parameters=parameters, verbose=False).solve_cvrp(data)
        pace = min(1.0, (time.process_time() - cpu) / max(1e-9, time.monotonic() - wall))
        yield [[int(k) for k in route] for route in solution.routes]
