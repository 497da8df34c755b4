"""PyVRP: iterated local search for vehicle routing."""

from __future__ import annotations

import functools
import math
import sys
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nco.classical.insertion import first_solution
from nco.classical.routing import integer_loads, tracked, version
from nco.classical.sequential import expected, solve_plan
from nco.classical.views import (
    Tables,
    cannot_route,
    enough_prize,
    in_time,
    routing_view,
    whole_factor,
)
from nco.instances.core import Budget, Instance, Listener, Result, Status, Stop, Tracker
from nco.instances.routing import RoutingView
from nco.instances.spctsp import SPCTSP

#: Its matrices of more nodes take too much memory.
LARGEST_NODES = 10_000
#: Seconds that its own tables take before its search begins, per pair of nodes.
SETUP = 1.2e-7
#: Its first exhaustive search, which cannot be stopped, takes at most about so many times as
#: long as its tables.
EXHAUSTIVE = 1.5
#: Largest scaled cost of one leg. PyVRP's penalties are bounded at 1e5 per unit of load;
#: costs of this size keep them effective with unit loads and short routes alike.
LARGEST_COST = 20_000
#: Up to so many nodes, the first penalty of a unit of load too much is so many mean costs
#: of a unit of load. With more nodes searches were better off near feasible solutions.
PRICED_NODES, LOAD_PRICE = 201, 3.0
#: Neighbours that moves are restricted to; time windows leave few moves that fit.
NEIGHBORS, NEIGHBORS_IN_TIME = 50, 20


@dataclass(frozen=True)
class PyVRP:
    """Adapter to PyVRP.

    N. A. Wouda, L. Lan and W. Kool, PyVRP: a high-performance VRP solver package,
    INFORMS Journal on Computing 36 (2024). Its costs are integers; others are scaled,
    and solutions re-evaluated.

    Parameters
    ----------
    neighbors
        Neighbours that moves are restricted to; None: 50, or 20 where there are time windows.
    """

    name: ClassVar[str] = "pyvrp"

    neighbors: int | None = None

    def __post_init__(self) -> None:
        if self.neighbors is not None and self.neighbors < 1:
            raise ValueError("neighbors < 1 not understood.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """Tours and routes of up to 10,000 nodes, except where the longest counts."""
        return cannot_route(expected(instance), LARGEST_NODES, _compatible)

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
        stopped = Stop.FINISHED
        if view.nodes > 2 and not tracker.done():
            stopped = self._search(view, tracker, seed)
        return tracker.result(
            tracker.done() or stopped,
            params={"neighbors": self._neighbors(view)},
            versions=version("pyvrp"),
        )

    def _neighbors(self, view: RoutingView) -> int:
        if self.neighbors is not None:
            return self.neighbors
        return NEIGHBORS if view.windows is None else NEIGHBORS_IN_TIME

    def _search(self, view: RoutingView, tracker: Tracker[Any], seed: int) -> Stop:
        tables = in_time(
            lambda stop: Tables.of(view, LARGEST_COST, stop), tracker, SETUP * view.nodes**2
        )
        if tables is None:
            return Stop.TIME
        run = functools.partial(self._run, view, tables, tracker)
        if view.prizes is None:
            return run(seed, tracker.budget, 0.0)[0]
        # A minimum of prize is not PyVRP's: prizes are worth more from round to round
        # until enough is collected, and less again after that (Lagrangian relaxation).
        low, high, boost = 0.0, math.inf, 0.0
        stopped, rounds = Stop.FINISHED, 6
        unit = tables.top / max(float(view.prizes.mean()), 1e-12)
        for number in range(rounds):
            budget = tracker.budget
            part = budget if number == rounds - 1 else budget.share(1 / 3)
            if budget.iterations is not None:
                part = part.child(part.time_limit, math.ceil(budget.iterations / rounds))
            stopped, enough = run(seed + number, part, boost)
            if tracker.done() or (enough and boost == 0.0 and budget.time_limit is None):
                break
            if enough and boost == 0.0:
                # The relaxation is feasible, so it has the optimum: no more rounds.
                return run(seed + rounds, budget, 0.0)[0]
            low, high = (low, boost) if enough else (boost, high)
            boost = (low + high) / 2 if high < math.inf else max(2 * boost, unit / 100)
        return stopped

    def _run(
        self,
        view: RoutingView,
        tables: Tables,
        tracker: Tracker[Any],
        seed: int,
        budget: Budget,
        boost: float,
    ) -> tuple[Stop, bool]:
        """One search; why it ended, and whether its best solution needed no mending."""
        import pyvrp
        from pyvrp.search import NeighbourhoodParams

        instance = tracker.instance
        data = _problem_data(view, tables, boost)
        end = None if tracker.budget.time_limit is not None else budget.elapsed() + 10.0

        def offer(solution: Any) -> bool:
            found = _solution(view, solution)
            fine = not instance.violations(found)
            if not fine and view.prizes is not None:
                found = view.decode(enough_prize(view, view.encode(found)))
            # Scaled costs may hide a limit broken by rounding.
            if fine or not instance.violations(found):
                tracker.offer(found)
            return fine

        # When the iteration began, and the longest one with an exhaustive search.
        begun, longest = budget.elapsed(), 0.0

        class Callbacks(sys.modules["pyvrp.IteratedLocalSearch"].IteratedLocalSearchCallbacks):  # type: ignore[misc]
            def on_best(self, best: Any) -> None:
                nonlocal longest
                if search.exhaustive_on_best:
                    longest = max(longest, budget.elapsed() - begun)
                if best.is_feasible():
                    offer(best)

        search = sys.modules["pyvrp.IteratedLocalSearch"].IteratedLocalSearchParams(
            callbacks=Callbacks()
        )
        iteration = -1
        stopped: Stop | None = None

        def stop(best_cost: float) -> bool:
            nonlocal iteration, stopped, begun, longest
            iteration += 1
            if iteration == 0:
                longest = EXHAUSTIVE * (budget.elapsed() - begun)
            begun = budget.elapsed()
            search.exhaustive_on_best = budget.left() > longest
            stopped = tracker.done() or budget.done(iteration)
            if stopped is None and end is not None and budget.iterations is None:
                return budget.elapsed() > end
            return stopped is not None

        initial = None
        # Its own start descends from a random solution: worse where loads are priced, and
        # long for many nodes.
        given = any(event.by == "start" for event in tracker.trajectory)
        priced = view.demands is not None and view.nodes <= PRICED_NODES
        if tracker.solution is not None and (priced or view.nodes > 500 or given):
            initial = pyvrp.Solution(data, _visits(view, tracker.solution))
        params = pyvrp.SolveParams(
            penalty=_penalties(data, initial),
            ils=search,
            neighbourhood=NeighbourhoodParams(num_neighbours=self._neighbors(view)),
        )
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
        enough = result.best.is_feasible() and offer(result.best)
        return stopped or Stop.FINISHED, enough


def _penalties(data: Any, solution: Any | None) -> Any:
    """Penalty parameters that begin near where PyVRP's control of them settles.

    Its own begin at half of their maximum, 5e4 per unit, whatever the costs are, and take
    some 20,000 iterations to come down from there.
    """
    import pyvrp

    load = sum(client.delivery[0] for client in data.clients() if client.delivery)
    few = data.num_locations <= PRICED_NODES
    if solution is None or not few or load == 0 or solution.distance() == 0:
        return pyvrp.PenaltyParams()
    price = LOAD_PRICE * solution.distance() / load

    class Penalties(pyvrp.PenaltyParams):  # type: ignore[misc]
        def midpoint_penalties(self, data: Any) -> tuple[list[float], float, float]:
            loads, duration, distance = super().midpoint_penalties(data)
            return [price] * len(loads), duration, distance

    return Penalties(min_penalty=min(0.1, 0.01 * price), max_penalty=max(1e5, 1e3 * price))


def _compatible(view: RoutingView) -> str | None:
    """The reason why PyVRP cannot express a problem, or None."""
    return "cannot minimise the longest route" if view.minmax else None


def _visits(view: RoutingView, solution: Any) -> list[list[int]]:
    """Client numbers of the routes: node k is client k - 1, and node 0 the depot."""
    return [[k - 1 for k in route] for route in view.encode(solution)]


def _solution(view: RoutingView, solution: Any) -> Any:
    return view.decode([[a.idx + 1 for a in list(route)[1:-1]] for route in solution.routes()])


def _skip_prizes(view: RoutingView, scale: float, boost: float) -> NDArray[np.int64]:
    """PyVRP's prizes [nodes]: what a node left out costs, in scaled units."""
    assert view.skip_costs is not None
    costs = view.skip_costs.astype(np.float64)
    if view.free:
        # Length only breaks ties: the least difference of two sums of integers costs
        # more than the longest route.
        factor = float(whole_factor(costs) or 1000)
        scale = factor * (1.0 + np.floor((view.max_length or 1.0) * scale))
        scale = min(scale, 1e12 / max(float(costs.max()), 1e-300))
    elif boost and view.prizes is not None:
        costs = costs + boost * view.prizes
    return np.rint(costs * scale).astype(np.int64)


def _problem_data(view: RoutingView, tables: Tables, boost: float = 0.0) -> Any:
    """PyVRP's form of a problem.

    Parameters
    ----------
    view
        The problem.
    tables
        Its scaled costs.
    boost
        Worth of a unit of prize while too little is collected.
    """
    import pyvrp

    coords, n, scale = view.distances.coords, view.nodes, tables.scale
    points = [(0.0, 0.0)] * n if coords is None else coords[:, :2].tolist()
    vehicle: dict[str, Any] = {"num_available": view.vehicles or n - 1}
    clients: dict[str, list[Any]] = {}
    if view.demands is not None and view.demands.any():
        demands, capacity = integer_loads(view.demands, view.capacity)
        clients["delivery"] = [[d] for d in demands.tolist()]
        vehicle["capacity"] = [capacity]
    durations: Any = np.zeros((n, n), dtype=np.int64) if tables.times is None else tables.times
    if view.service is not None:
        clients["service_duration"] = np.ceil(view.service * scale - 1e-6).astype(np.int64).tolist()
    if view.windows is not None:
        early = np.ceil(view.windows[:, 0] * scale - 1e-6).astype(np.int64).tolist()
        late = np.floor(view.windows[:, 1] * scale + 1e-6).astype(np.int64).tolist()
        clients |= {"tw_early": early, "tw_late": late}
        vehicle |= {"tw_early": early[0], "tw_late": late[0]}
    if view.max_length is not None:
        vehicle["shift_duration"] = int(np.floor(view.max_length * scale + 1e-6))
    if view.skip_costs is not None:
        clients["prize"] = _skip_prizes(view, scale, boost).tolist()
        clients["required"] = [False] * n
    return pyvrp.ProblemData(
        [pyvrp.Location(float(x), float(y)) for x, y in points],
        [pyvrp.Client(k, **{key: v[k] for key, v in clients.items()}) for k in range(1, n)],
        [pyvrp.Depot(location=0)],
        [pyvrp.VehicleType(**vehicle)],
        [tables.costs],
        [durations],
    )
