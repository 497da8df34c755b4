"""PyVRP: iterated local search for vehicle routing."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nco.classical.constructive import initial_solution
from nco.classical.routing import check_start, integer_matrix, too_few_vehicles, version
from nco.instances.core import (
    Budget,
    Instance,
    Listener,
    Result,
    SpatialInstance,
    Status,
    Stop,
    Tracker,
)
from nco.instances.cvrp import CVRP
from nco.instances.tsp import TSP

#: Largest scaled cost of one leg. PyVRP's penalties are bounded at 1e5 per unit of load;
#: costs of this size keep them effective with unit loads and short routes alike.
LARGEST_COST = 20_000


@dataclass(frozen=True)
class PyVRP:
    """Adapter to PyVRP.

    N. A. Wouda, L. Lan and W. Kool, PyVRP: a high-performance VRP solver package,
    INFORMS Journal on Computing 36 (2024). Its costs are integers; others are scaled,
    and solutions re-evaluated.

    Parameters
    ----------
    neighbors
        Neighbours that moves are restricted to.
    """

    name: ClassVar[str] = "pyvrp"

    neighbors: int = 50

    def __post_init__(self) -> None:
        if self.neighbors < 1:
            raise ValueError("neighbors < 1 not understood.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """Tours and routes of up to 10,000 nodes."""
        if not isinstance(instance, (TSP, CVRP)):
            return f"solves tsp, atsp and cvrp, not {instance.problem}"
        return None if instance.nodes <= 10_000 else "needs n <= 10000"

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
        check_start(instance, start)
        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        if isinstance(instance, CVRP) and too_few_vehicles(instance):
            return tracker.result(Stop.PROVED, status=Status.INFEASIBLE)
        if start is not None:
            tracker.offer(start, by="start")
        first = initial_solution(instance)
        if first is not None:
            tracker.offer(first, by="constructive")
        stopped = Stop.FINISHED
        if _nodes(instance) > 2 and not tracker.done():
            stopped = self._search(instance, tracker, seed)
        return tracker.result(
            tracker.done() or stopped,
            params={"neighbors": self.neighbors},
            versions=version("pyvrp"),
        )

    def _search(self, instance: Any, tracker: Tracker[Any], seed: int) -> Stop:
        import pyvrp
        from pyvrp.search import NeighbourhoodParams

        budget = tracker.budget
        data = _problem_data(instance)
        end = None if budget.time_limit is not None else budget.elapsed() + 10.0

        class Callbacks(sys.modules["pyvrp.IteratedLocalSearch"].IteratedLocalSearchCallbacks):  # type: ignore[misc, name-defined]
            def on_best(self, best: Any) -> None:
                if best.is_feasible():
                    tracker.offer(_solution(instance, best))

        iteration = -1
        stopped: Stop | None = None

        def stop(best_cost: float) -> bool:
            nonlocal iteration, stopped
            iteration += 1
            stopped = tracker.done(iteration)
            if stopped is None and end is not None and budget.iterations is None:
                return budget.elapsed() > end
            return stopped is not None

        params = pyvrp.SolveParams(
            ils=sys.modules["pyvrp.IteratedLocalSearch"].IteratedLocalSearchParams(
                callbacks=Callbacks()
            ),
            neighbourhood=NeighbourhoodParams(num_neighbours=self.neighbors),
        )
        initial = None
        # Its own start descends from a random solution, which takes long for many nodes.
        if tracker.solution is not None and (_nodes(instance) > 500 or _has_start(tracker)):
            routes = [tracker.solution] if isinstance(instance, TSP) else tracker.solution
            initial = pyvrp.Solution(data, [_visits(instance, route) for route in routes])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = pyvrp.solve(
                data,
                stop,
                seed=seed % 2**32,
                collect_stats=False,
                display=False,
                params=params,
                initial_solution=initial,
            )
        if result.best.is_feasible():
            solution = _solution(instance, result.best)
            # Scaled costs may hide a distance limit broken by rounding.
            if not instance.violations(solution):
                tracker.offer(solution)
        return stopped or Stop.FINISHED


def _nodes(instance: SpatialInstance[Any]) -> int:
    return instance.nodes


def _has_start(tracker: Tracker[Any]) -> bool:
    return any(event.by == "start" for event in tracker.trajectory)


def _visits(instance: Any, route: Iterable[int]) -> list[int]:
    """Client numbers of a route: node k is client k - 1, and node 0 the depot."""
    if isinstance(instance, TSP):
        route = list(route)
        begin = route.index(0)
        route = [*route[begin + 1 :], *route[:begin]]
    return [k - 1 for k in route]


def _solution(instance: Any, solution: Any) -> Any:
    routes = [[a.idx + 1 for a in list(route)[1:-1]] for route in solution.routes()]
    return [0, *routes[0]] if isinstance(instance, TSP) else routes


def _problem_data(instance: TSP | CVRP) -> Any:
    import pyvrp

    matrix, scale = integer_matrix(instance.distances, LARGEST_COST)
    if instance.distances.integral and float(instance.distances.matrix.max()) <= 10_000_000:
        matrix, scale = instance.distances.matrix.astype(np.int64), 1.0
    np.fill_diagonal(matrix, 0)
    n = len(matrix)
    points = instance.coords[:, :2].tolist() if instance.coords is not None else [(0.0, 0.0)] * n
    vehicle: dict[str, Any] = {"num_available": 1}
    demands = np.zeros(n, dtype=np.int64)
    if isinstance(instance, CVRP):
        vehicle["num_available"] = instance.vehicles or instance.n
        load = instance.demands
        factor = 1.0
        if load.dtype != np.int64 or not float(instance.capacity).is_integer():
            factor = 1e6 / max(instance.capacity, 1e-300)
            # Rounded up, so that what fits after scaling fits before.
            demands = np.ceil(load * factor).astype(np.int64)
        else:
            demands = load
        vehicle["capacity"] = [int(instance.capacity * factor)]
        if instance.max_distance is not None:
            # Service takes the same from the limit as travel does: half of it on the
            # way in and half on the way out, so that distance limits express it.
            service = instance.service_time * scale
            extra = np.full((n, n), service)
            extra[0, :] /= 2
            extra[:, 0] /= 2
            np.fill_diagonal(extra, 0)
            durations = np.ceil(matrix + extra).astype(np.int64)
            vehicle["shift_duration"] = int(np.floor(instance.max_distance * scale))
        else:
            durations = np.zeros((n, n), dtype=np.int64)
    else:
        durations = np.zeros((n, n), dtype=np.int64)
    clients = [
        pyvrp.Client(location=k, delivery=[int(demands[k])] if demands.any() else [])
        for k in range(1, n)
    ]
    if not demands.any():
        vehicle.pop("capacity", None)
    return pyvrp.ProblemData(
        [pyvrp.Location(float(x), float(y)) for x, y in points],
        clients,
        [pyvrp.Depot(location=0)],
        [pyvrp.VehicleType(**vehicle)],
        [matrix],
        [durations],
    )
