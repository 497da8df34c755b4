"""Ruin and recreate: a local search for every problem with a routing form.

G. Schrimpf, J. Schneider, H. Stamm-Wilbrandt and G. Dueck, Record breaking optimization
results using the ruin and recreate principle, Journal of Computational Physics 159 (2000);
removal of strings and blinks after J. Christiaens and G. Vanden Berghe, Slack induction by
string removals for vehicle routing problems, Transportation Science 54 (2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nco.classical.compiling import compile_in_time
from nco.classical.constructive import initial_solution
from nco.classical.insertion import insert_routes
from nco.classical.routing import check_start
from nco.classical.sequential import follow
from nco.instances.core import Budget, Instance, Listener, Result, Sense, Status, Stop, Tracker
from nco.instances.routing import RoutingView
from nco.instances.spctsp import SPCTSP

if TYPE_CHECKING:
    from nco.classical.ruin_search import Search

#: The distance matrix of more nodes takes too much memory.
LARGEST_NODES = 5000
#: Seconds that tables take before the search begins, per pair of nodes.
SETUP = 5e-8
#: Iterations between two looks at the clock, when nothing is known of their pace.
CHUNK = 500
#: Seconds between two looks at the clock.
PACE = 0.02
#: Seconds between two solutions that are checked and reported.
REPORT = 0.2
#: Routes that the search may open beyond those of its start, at least.
SPARE_ROUTES = 10
#: Temperatures at begin and end, in units of a short leg.
HOT, COLD = 0.5, 0.01


def improve(
    search: Search,
    offer: Callable[[list[list[int]]], object],
    budget: Budget,
    done: Callable[[int], Stop | None],
) -> Stop:
    """Run a search until ``done``; every best of a chunk is offered.

    Parameters
    ----------
    search
        The search, with routes loaded.
    offer
        Called with routes that are the best so far.
    budget
        Its share that is spent sets the temperature.
    done
        The reason to stop after so many iterations, or None.
    """
    seconds = 10.0 if budget.time_limit is None else budget.time_limit
    begin, iteration, chunk = budget.elapsed(), 0, CHUNK
    record = offered = math.inf
    reported = begin
    while True:
        stopped = done(iteration)
        now = budget.elapsed()
        if budget.iterations is not None:
            # Steps of a fixed size: the same search on every machine.
            spent = iteration / max(1, budget.iterations)
            chunk = min(CHUNK, budget.iterations - iteration)
        else:
            spent = (now - begin) / max(seconds - begin, 1e-9)
        if stopped is None and spent >= 1.0:
            stopped = Stop.FINISHED
        if record < offered and (stopped is not None or now - reported >= REPORT):
            offer(search.routes(search.best))
            offered, reported = record, now
        if stopped is not None:
            return stopped
        record = min(record, search.run(chunk, HOT * (COLD / HOT) ** spent))
        iteration += chunk
        if budget.iterations is None:
            took = budget.elapsed() - now
            chunk = max(1, min(2 * chunk, int(chunk * PACE / max(took, 1e-9))))


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
        if not (hasattr(instance, "to_routing") or isinstance(instance, SPCTSP)):
            return f"solves routing problems, not {instance.problem}"
        if _view(instance).windows is not None:
            return "knows no time windows"
        return None if instance.n < LARGEST_NODES else f"needs n < {LARGEST_NODES}"

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

        With prizes that show at a visit, it searches a plan for the expected ones, which
        is executed once. Compilation, once per machine, counts against the time limit; if
        it would take longer, the constructive solution is returned.
        """
        check_start(instance, start)
        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        if start is not None:
            tracker.offer(start, by="start")
        view = _view(instance)
        if view.fleet_too_small:
            return tracker.result(Stop.PROVED, status=Status.INFEASIBLE)
        stochastic = isinstance(instance, SPCTSP)
        plans: Instance[Any] = instance.public() if isinstance(instance, SPCTSP) else instance
        plan: Any = None

        def offer(routes: list[list[int]]) -> None:
            nonlocal plan
            found = view.decode(routes)
            if not plans.violations(found):
                plan = found
                if not stochastic:
                    tracker.offer(found)

        known = None if stochastic else tracker.solution
        if known is None:
            # Insertion looks at all legs: it must leave time for what is quicker.
            starts = [insert_routes(view, budget=budget.share(0.3))]
            first = initial_solution(plans, budget)
            starts.append(None if first is None else view.encode(first))
            decoded = [(view.decode(r), r) for r in starts if r is not None]
            fit = [(plans.objective(s), r) for s, r in decoded if not plans.violations(s)]
            fit.sort(key=lambda pair: pair[0], reverse=plans.sense is Sense.MAXIMIZE)
            routes = fit[0][1] if fit else None
        else:
            routes = view.encode(known)
        stopped = Stop.FINISHED
        if routes is not None:
            offer(routes)
        if routes is None or view.nodes <= 2:
            stopped = tracker.done() or stopped
        elif budget.left() < SETUP * view.nodes**2 or not compile_in_time(
            _compile, tracker, lambda budget: None
        ):
            stopped = tracker.done() or Stop.TIME
        else:
            from nco.classical.ruin_search import Search

            used = sum(1 for visits in routes if visits)
            fleet = used + max(SPARE_ROUTES, used // 10)
            search = Search(view, seed, self.neighbors, fleet)
            search.load(routes)
            if stochastic:
                stopped = improve(search, offer, budget, budget.done)
            else:
                stopped = improve(search, offer, budget, tracker.done)
        if isinstance(instance, SPCTSP) and plan is not None:
            tracker.offer(follow(instance, plan))
        return tracker.result(stopped, params={"neighbors": self.neighbors})


def _compile() -> None:
    from nco.classical import ruin_search

    ruin_search.compile_kernels()


def _view(instance: Any) -> RoutingView:
    public = instance.public() if isinstance(instance, SPCTSP) else instance
    view: RoutingView = public.to_routing()
    return view
