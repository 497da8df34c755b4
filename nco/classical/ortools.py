"""OR-tools routing: guided local search for tours and routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nco.classical.insertion import first_solution
from nco.classical.routing import integer_loads, tracked, version
from nco.classical.sequential import expected, solve_plan
from nco.classical.views import (
    Tables,
    cannot_route,
    in_time,
    routing_view,
)
from nco.instances.core import Budget, Instance, Listener, Result, Status, Stop, Tracker
from nco.instances.routing import RoutingView
from nco.instances.spctsp import SPCTSP

#: Above this many nodes its n^2 tables and first solution outlast usual time limits.
LARGEST_NODES = 5000
#: Seconds that its own tables take before its search begins, per pair of nodes.
SETUP = 8e-8
#: A length that is free costs as many mean prizes in all as the tour has legs, or this.
FEWEST_LEGS = 30


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
        return cannot_route(expected(instance), LARGEST_NODES, lambda view: None)

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
        if isinstance(instance, SPCTSP):
            return solve_plan(self, instance, budget, seed=seed, start=start, on_event=on_event)
        view = routing_view(instance)
        tracker = tracked(self.name, instance, budget, seed, start, on_event)
        if view.infeasible:
            return tracker.result(Stop.PROVED, status=Status.INFEASIBLE)
        first = first_solution(instance, budget)
        if first is not None:
            tracker.offer(first, by="constructive")
        stopped = Stop.FINISHED if budget.iterations is None else Stop.ITERATIONS
        if view.nodes > 2 and not tracker.done():
            tables = in_time(
                lambda stop: Tables.of(view, 10_000_000, stop), tracker, SETUP * view.nodes**2
            )
            if tables is None:
                stopped = Stop.TIME
            else:
                self._search(view, tables, tracker)
        return tracker.result(
            tracker.done() or stopped,
            params={"metaheuristic": self.metaheuristic},
            versions=version("ortools"),
        )

    def _search(self, view: RoutingView, tables: Tables, tracker: Tracker[Any]) -> None:
        from ortools.constraint_solver import pywrapcp, routing_enums_pb2

        budget = tracker.budget
        vehicles = _fleet(view, tracker.solution)
        manager = pywrapcp.RoutingIndexManager(view.nodes, vehicles, 0)
        model = pywrapcp.RoutingModel(manager)
        model.SetArcCostEvaluatorOfAllVehicles(model.RegisterTransitMatrix(tables.costs.tolist()))
        _constrain(view, tables, manager, model, vehicles, _visits(view, tracker.solution))
        parameters = pywrapcp.DefaultRoutingSearchParameters()
        parameters.log_search = False
        first = routing_enums_pb2.FirstSolutionStrategy
        parameters.first_solution_strategy = (
            first.SAVINGS if view.demands is not None else first.PATH_CHEAPEST_ARC
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
            if cost < best or view.free:
                best = cost
                solution = view.decode(routes())
                # Scaled lengths may hide a limit broken by rounding.
                if not tracker.instance.violations(solution):
                    tracker.offer(solution)

        model.AddAtSolutionCallback(at_solution)
        solver = model.solver()
        # Asked at every step of the search: the one way to stop it early.
        model.AddSearchMonitor(solver.CustomLimit(lambda: tracker.done() is not None))
        if tracker.solution is not None:
            plan = view.encode(tracker.solution)
            model.CloseModelWithParameters(parameters)
            assignment = model.ReadAssignmentFromRoutes(plan, True)
            if assignment is not None:
                model.SolveFromAssignmentWithParameters(assignment, parameters)
                return
        model.SolveWithParameters(parameters)


def _fleet(view: RoutingView, solution: Any) -> int:
    if view.vehicles is not None:
        return view.vehicles
    if view.demands is None:
        return view.nodes - 1
    # More than the load needs leaves room; each vehicle costs search time.
    needed = float(view.demands.sum()) / max(view.capacity, 1e-300)
    used = len(view.encode(solution)) if solution else 0
    windows = view.windows is not None
    return min(view.nodes - 1, max(int(np.ceil((4 if windows else 1.3) * needed)) + 3, used))


def _visits(view: RoutingView, solution: Any) -> int:
    return 0 if solution is None else sum(map(len, view.encode(solution)))


def _constrain(
    view: RoutingView, tables: Tables, manager: Any, model: Any, vehicles: int, visited: int
) -> None:
    """Everything of a problem but the arcs' costs."""
    n, scale = view.nodes, tables.scale
    if view.demands is not None:
        demands, capacity = integer_loads(view.demands, view.capacity)
        load = model.RegisterUnaryTransitVector(demands.tolist())
        model.AddDimensionWithVehicleCapacity(load, 0, [capacity] * vehicles, True, "load")
    service = np.zeros(n) if view.service is None else view.service * scale
    if tables.times is not None:
        stay = np.ceil(service - 1e-6).astype(np.int64)
        steps = tables.times + stay[:, None]
        callback = model.RegisterTransitMatrix(steps.tolist())
        largest = int(steps.max()) * (n + 1)
        most = largest if view.max_length is None else int(view.max_length * scale + 1e-6)
        if view.windows is not None:
            late = np.floor(view.windows[:, 1] * scale + 1e-6).astype(np.int64)
            early = np.ceil(view.windows[:, 0] * scale - 1e-6).astype(np.int64)
            model.AddDimension(callback, int(late.max()), int(late.max()), False, "time")
            time = model.GetDimensionOrDie("time")
            for k in range(1, n):
                time.CumulVar(manager.NodeToIndex(k)).SetRange(int(early[k]), int(late[k]))
            for v in range(vehicles):
                time.CumulVar(model.Start(v)).SetRange(int(early[0]), int(late[0]))
                time.CumulVar(model.End(v)).SetRange(int(early[0]), int(late[0]))
        if view.max_length is not None or view.minmax:
            model.AddDimension(callback, 0, most, True, "length")
        if view.minmax:
            model.GetDimensionOrDie("length").SetGlobalSpanCostCoefficient(100)
    if view.skip_costs is not None:
        unit = scale
        if view.free:
            # A leg costs about as much as a prize: with dearer prizes no search shortens the
            # tour. The best solutions are kept by prize, not by this cost.
            mean = float(view.skip_costs[1:].mean())
            leg = scale * (view.max_length or 0.0) / max(FEWEST_LEGS, visited)
            unit = leg / mean if mean > 0 else scale
        costs = np.rint(view.skip_costs * unit).astype(np.int64)
        for k in range(1, n):
            model.AddDisjunction([manager.NodeToIndex(k)], int(costs[k]))
    if view.prizes is not None and view.min_prize > 0:
        factor = 1e9 / float(view.prizes.sum())
        prizes = np.floor(view.prizes * factor).astype(np.int64).tolist()
        least = int(np.ceil(view.min_prize * factor))
        # Where all are needed, rounding must not ask for more than all.
        least = min(least, sum(prizes))
        active = [model.ActiveVar(manager.NodeToIndex(k)) for k in range(1, n)]
        solver = model.solver()
        solver.Add(solver.ScalProd(active, prizes[1:]) >= least)
