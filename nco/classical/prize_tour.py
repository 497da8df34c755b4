"""Local search over which customers one tour visits, and in which order."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nco.classical.annealing import anneal
from nco.classical.compiling import compile_in_time
from nco.classical.insertion import insert_routes, insertion
from nco.classical.routing import tracked
from nco.classical.sequential import expected, solve_plan
from nco.classical.views import cannot_route, in_time, routing_view
from nco.instances.core import Budget, Instance, Listener, Result, Stop, Tracker
from nco.instances.routing import RoutingView
from nco.instances.spctsp import SPCTSP

if TYPE_CHECKING:
    from nco.classical.prize_search import Search

#: The distance matrix of more nodes takes too much memory.
LARGEST_NODES = 5000
#: Seconds that tables take before the search begins, per pair of nodes, beside the matrix.
SETUP = 2e-8
#: Iterations between two looks at the clock, when nothing is known of their pace.
CHUNK = 50
#: Temperatures at begin and end: in worths of a mean customer where length is free, else
#: in short legs.
HOT, COLD = (2.0, 1.0), (0.02, 0.01)
#: Iterations when nothing limits the search, per node.
ITERATIONS_PER_NODE = 1000


@dataclass(frozen=True)
class PrizeTour:
    """Ruin, 2-opt and Or-opt, drop and add, with simulated annealing.

    Every iteration takes out a string of the tour or what lies around a customer, or
    forces customers in that were left out; shortens the tour by 2-opt and Or-opt; then
    drops customers of little worth per length while the tour is too long, and adds those
    of most. Drop and add: G. Kobeaga, M. Merino and J. A. Lozano, An efficient
    evolutionary algorithm for the orienteering problem, Computers and Operations Research
    90 (2018); ruins as in `nco.classical.ruin_recreate`.

    Parameters
    ----------
    neighbors
        Near nodes that moves look at.

    Raises
    ------
    ValueError
        When there are none.
    """

    name: ClassVar[str] = "prize-tour"

    neighbors: int = 20

    def __post_init__(self) -> None:
        if self.neighbors < 1:
            raise ValueError("neighbors < 1 not understood.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """One tour of customers that may be left out, of up to 5,000 nodes, symmetric."""
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
        """Search until the budget is used up.

        Compilation, once per machine, counts against the time limit; if it would take
        longer, a solution by insertion is returned.
        """
        if isinstance(instance, SPCTSP):
            return solve_plan(self, instance, budget, seed=seed, start=start, on_event=on_event)
        view = routing_view(instance)
        tracker = tracked(self.name, instance, budget, seed, start, on_event)
        if start is None:
            tracker.offer(insertion(instance, budget), by="insertion")
        stopped = tracker.done() or Stop.FINISHED
        if view.nodes > 2 and not tracker.done():
            stopped = self._search(view, tracker, seed)
        return tracker.result(
            stopped,
            params={"neighbors": self.neighbors},
            versions={"numba": importlib.metadata.version("numba")},
        )

    def _search(self, view: RoutingView, tracker: Tracker[Any], seed: int) -> Stop:
        reserve = SETUP * view.nodes**2
        if in_time(view.distances.full_matrix, tracker, reserve) is None or not compile_in_time(
            _compile, tracker, lambda budget: None, reserve=reserve
        ):
            return tracker.done() or Stop.TIME
        from nco.classical.prize_search import Search

        given = any(event.by == "start" for event in tracker.trajectory)
        plain = None if given else insert_routes(view, budget=tracker.budget, powers=(1.0,))
        # By prize per length plainly the search ends better than from dearer customers first.
        (visits,) = plain or view.encode(tracker.solution) or [[]]
        return _run(Search(view, visits, seed, self.neighbors), view, tracker)


def _compile() -> None:
    from nco.classical import prize_search

    prize_search.compile_kernels()


def _compatible(view: RoutingView) -> str | None:
    if view.skip_costs is None or view.vehicles != 1:
        return "needs one tour of customers that may be left out"
    if view.windows is not None or view.demands is not None or view.service is not None:
        return "knows neither time windows nor loads nor service times"
    return None if view.distances.symmetric else "needs symmetric costs"


def _run(search: Search, view: RoutingView, tracker: Tracker[Any]) -> Stop:
    budget = tracker.budget
    limit = budget.iterations
    if limit is None and budget.time_limit is None:
        limit = ITERATIONS_PER_NODE * view.nodes
    hot, cold = (bounds[0 if view.free else 1] for bounds in (HOT, COLD))

    def report() -> None:
        solution = view.decode([search.visits])
        # Sums of the search may differ from the check's in the last digits.
        if not tracker.instance.violations(solution):
            tracker.offer(solution)

    return anneal(
        search.run, report, budget, tracker.done, hot=hot, cold=cold, chunk=CHUNK, iterations=limit
    )
