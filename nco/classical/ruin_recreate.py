"""Ruin and recreate: a local search for every problem with a routing form.

G. Schrimpf, J. Schneider, H. Stamm-Wilbrandt and G. Dueck, Record breaking optimization
results using the ruin and recreate principle, Journal of Computational Physics 159 (2000);
removal of strings and blinks after J. Christiaens and G. Vanden Berghe, Slack induction by
string removals for vehicle routing problems, Transportation Science 54 (2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from nco.classical.annealing import anneal
from nco.classical.compiling import compile_in_time
from nco.classical.constructive import initial_solution
from nco.classical.insertion import insert_routes
from nco.classical.routing import tracked
from nco.classical.sequential import expected, solve_plan
from nco.classical.views import cannot_route, in_time, routing_view
from nco.instances.core import Budget, Instance, Listener, Result, Sense, Status, Stop
from nco.instances.spctsp import SPCTSP
from nco.instances.tsp import TSP

#: The distance matrix of more nodes takes too much memory.
LARGEST_NODES = 5000
#: Seconds that tables take before the search begins, per pair of nodes, beside the matrix.
SETUP = 2e-8
#: Iterations between two looks at the clock, when nothing is known of their pace.
CHUNK = 500
#: Routes that the search may open beyond those of its start, at least.
SPARE_ROUTES = 10
#: Temperatures at begin and end, in units of a short leg.
HOT, COLD = 0.5, 0.01


@dataclass(frozen=True)
class RuinRecreate:
    """Ruin and recreate with simulated annealing.

    Parameters
    ----------
    neighbors
        Near nodes that ruins and insertions look at.
    """

    name: ClassVar[str] = "ruin-recreate"

    neighbors: int = 30

    def __post_init__(self) -> None:
        if self.neighbors < 1:
            raise ValueError("neighbors < 1 not understood.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """Everything with a routing form without time windows, of up to 5,000 nodes."""
        return cannot_route(
            expected(instance),
            LARGEST_NODES,
            lambda view: None if view.windows is None else "knows no time windows",
        )

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Search until the budget is used up; 10 s without a limit.

        Compilation, once per machine, counts against the time limit; if it would take
        longer, the constructive solution is returned.
        """
        if isinstance(instance, SPCTSP):
            return solve_plan(self, instance, budget, seed=seed, start=start, on_event=on_event)
        tracker = tracked(self.name, instance, budget, seed, start, on_event)
        view = routing_view(instance)
        if view.infeasible:
            return tracker.result(Stop.PROVED, status=Status.INFEASIBLE)

        def offer(routes: list[list[int]]) -> None:
            found = view.decode(routes)
            if not instance.violations(found):
                tracker.offer(found)

        if tracker.solution is None:
            # Insertion looks at all legs: it must leave time for what is quicker.
            starts = [insert_routes(view, budget=budget.share(0.3))]
            first = initial_solution(instance, budget)
            starts.append(None if first is None else view.encode(first))
            decoded = [(view.decode(r), r) for r in starts if r is not None]
            fit = [(instance.objective(s), r) for s, r in decoded if not instance.violations(s)]
            fit.sort(key=lambda pair: pair[0], reverse=instance.sense is Sense.MAXIMIZE)
            routes = fit[0][1] if fit else None
            if routes is None and decoded and isinstance(instance, TSP):
                # A dead end; to the search missing edges are only dear.
                routes = decoded[0][1]
        else:
            routes = view.encode(tracker.solution)
        stopped = Stop.FINISHED
        if routes is not None:
            offer(routes)
        if routes is None or view.nodes <= 2:
            stopped = tracker.done() or stopped
        elif in_time(
            view.distances.full_matrix, tracker, SETUP * view.nodes**2
        ) is None or not compile_in_time(_compile, tracker, lambda budget: None):
            stopped = tracker.done() or Stop.TIME
        else:
            from nco.classical.ruin_search import Search

            used = sum(1 for visits in routes if visits)
            fleet = used + max(SPARE_ROUTES, used // 10)
            search = Search(view, seed, self.neighbors, fleet)
            search.load(routes)
            stopped = anneal(
                search.run,
                lambda: offer(search.routes(search.best)),
                budget,
                tracker.done,
                hot=HOT,
                cold=COLD,
                chunk=CHUNK,
                iterations=budget.iterations,
            )
        return tracker.result(stopped, params={"neighbors": self.neighbors})


def _compile() -> None:
    from nco.classical import ruin_search

    ruin_search.compile_kernels()
