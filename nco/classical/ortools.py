"""OR-tools routing: guided local search for tours and routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nco.classical.constructive import initial_solution
from nco.classical.routing import check_start, integer_matrix, too_few_vehicles, version
from nco.instances.core import Budget, Instance, Listener, Result, Status, Stop, Tracker
from nco.instances.cvrp import CVRP
from nco.instances.tsp import TSP

#: Above this many nodes its n^2 tables and first solution outlast usual time limits.
LARGEST_NODES = 5000


@dataclass(frozen=True)
class ORTools:
    """Adapter to the OR-tools routing library.

    It has no seed; under an iteration limit (its solutions visited) it repeats exactly.

    Parameters
    ----------
    metaheuristic
        GUIDED_LOCAL_SEARCH, TABU_SEARCH, SIMULATED_ANNEALING or GREEDY_DESCENT.
    """

    name: ClassVar[str] = "ortools"

    metaheuristic: str = "GUIDED_LOCAL_SEARCH"

    def __post_init__(self) -> None:
        known = ("GUIDED_LOCAL_SEARCH", "TABU_SEARCH", "SIMULATED_ANNEALING", "GREEDY_DESCENT")
        if self.metaheuristic not in known:
            raise ValueError(f"metaheuristic {self.metaheuristic!r} not understood: {known}.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """Tours and routes of up to 5,000 nodes."""
        if not isinstance(instance, (TSP, CVRP)):
            return f"solves tsp, atsp and cvrp, not {instance.problem}"
        return None if instance.nodes <= LARGEST_NODES else f"needs n <= {LARGEST_NODES}"

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
        if instance.n > 1 and not tracker.done():
            self._search(instance, tracker)
        return tracker.result(
            tracker.done() or Stop.FINISHED,
            params={"metaheuristic": self.metaheuristic},
            versions=version("ortools"),
        )

    def _search(self, instance: Any, tracker: Tracker[Any]) -> None:
        from ortools.constraint_solver import pywrapcp, routing_enums_pb2

        budget = tracker.budget
        matrix, scale = integer_matrix(instance.distances, 10_000_000)
        n = len(matrix)
        vehicles = _fleet(instance, tracker.solution)
        manager = pywrapcp.RoutingIndexManager(n, vehicles, 0)
        model = pywrapcp.RoutingModel(manager)
        transit = model.RegisterTransitMatrix(matrix.tolist())
        model.SetArcCostEvaluatorOfAllVehicles(transit)
        if isinstance(instance, CVRP):
            _add_load(instance, model, vehicles)
            if instance.max_distance is not None:
                _add_distance(instance, model, matrix, scale)
        parameters = pywrapcp.DefaultRoutingSearchParameters()
        parameters.log_search = False
        first = routing_enums_pb2.FirstSolutionStrategy
        parameters.first_solution_strategy = (
            first.SAVINGS if isinstance(instance, CVRP) else first.PATH_CHEAPEST_ARC
        )
        meta = routing_enums_pb2.LocalSearchMetaheuristic
        parameters.local_search_metaheuristic = getattr(meta, self.metaheuristic)
        if budget.iterations is not None:
            parameters.solution_limit = max(1, budget.iterations)
        left = 10.0 if budget.time_limit is None else budget.left()
        parameters.time_limit.FromMilliseconds(max(1, int(1000 * left)))

        def routes() -> list[list[int]]:
            found = []
            for vehicle in range(vehicles):
                index, route = model.NextVar(model.Start(vehicle)).Value(), []
                while not model.IsEnd(index):
                    route.append(manager.IndexToNode(index))
                    index = model.NextVar(index).Value()
                found.append(route)
            return found

        best = float("inf")

        def at_solution() -> None:
            nonlocal best
            cost = model.CostVar().Min()
            if cost < best:
                best = cost
                _offer(instance, tracker, routes())

        model.AddAtSolutionCallback(at_solution)
        solver = model.solver()
        # Asked at every step of the search: the one way to stop it early.
        model.AddSearchMonitor(solver.CustomLimit(lambda: tracker.done() is not None))
        if tracker.solution is not None:
            given = tracker.solution
            plan = given
            if isinstance(instance, TSP):
                begin = given.index(0)
                plan = [[*given[begin + 1 :], *given[:begin]]]
            model.CloseModelWithParameters(parameters)
            assignment = model.ReadAssignmentFromRoutes(list(plan), True)
            if assignment is not None:
                model.SolveFromAssignmentWithParameters(assignment, parameters)
                return
        model.SolveWithParameters(parameters)


def _fleet(instance: Any, solution: Sequence[Any] | None) -> int:
    if isinstance(instance, TSP):
        return 1
    if instance.vehicles is not None:
        return int(instance.vehicles)
    # Twice what the load needs leaves room; each vehicle costs search time.
    needed = float(instance.demands.sum()) / max(instance.capacity, 1e-300)
    return min(instance.n, max(int(np.ceil(1.3 * needed)) + 3, len(solution or ())))


def _add_load(instance: CVRP, model: Any, vehicles: int) -> None:
    demands, capacity = instance.demands, float(instance.capacity)
    if demands.dtype != np.int64 or not capacity.is_integer():
        factor = 1e9 / max(capacity, 1e-300)
        demands, capacity = np.ceil(demands * factor).astype(np.int64), capacity * factor
    callback = model.RegisterUnaryTransitVector(demands.tolist())
    model.AddDimensionWithVehicleCapacity(callback, 0, [int(capacity)] * vehicles, True, "load")


def _add_distance(instance: CVRP, model: Any, matrix: Any, scale: float) -> None:
    assert instance.max_distance is not None
    service = np.full(len(matrix), instance.service_time * scale)
    service[0] = 0.0
    lengths = np.ceil(matrix + service[:, None]).astype(np.int64)
    callback = model.RegisterTransitMatrix(lengths.tolist())
    model.AddDimension(callback, 0, int(instance.max_distance * scale), True, "length")


def _offer(instance: Any, tracker: Tracker[Any], routes: list[list[int]]) -> None:
    solution = [0, *routes[0]] if isinstance(instance, TSP) else routes
    # Scaled lengths may hide a distance limit broken by rounding.
    if not isinstance(instance, CVRP) or not instance.violations(solution):
        tracker.offer(solution)
