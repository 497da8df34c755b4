"""2-opt, Or-opt and their kin with perturbation, for tours of any size."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nco.classical.routing import check_start
from nco.instances.core import Budget, Instance, Listener, Result, Stop, Tracker
from nco.instances.tsp import TSP

#: Seconds between two looks at clock and Ctrl-C, and least seconds between two events.
SLICE, NEWS = 0.02, 0.1
#: Kicks when nothing limits the search, per node.
KICKS_PER_NODE = 100


@dataclass(frozen=True)
class OrOpt:
    """Iterated local search in numba; see `nco.classical.local_search`.

    Iterations of a budget are kicks: under such a limit the same seed gives the same
    tour. Compilation, once per machine, counts against the time limit.

    Parameters
    ----------
    neighbors
        Candidates per node.
    depth
        Trial steps of a Lin-Kernighan-style move beyond its basis move.
    segment
        Longest segment of a kick.
    heat
        Initial temperature, in mean edge lengths; 0 accepts no worse tour.
    """

    name: ClassVar[str] = "or-opt"

    neighbors: int = 8
    depth: int = 3
    segment: int = 50
    heat: float = 0.2

    def __post_init__(self) -> None:
        for field in ("neighbors", "segment"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} < 1 not understood.")
        for field in ("depth", "heat"):
            if not getattr(self, field) >= 0:
                raise ValueError(f"{field} < 0 not understood.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """Tours of any size, symmetric or not."""
        return None if isinstance(instance, TSP) else f"solves tsp and atsp, not {instance.problem}"

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Descend, then kick until the budget is used up."""
        from nco.classical import local_search as ls
        from nco.classical.constructive import initial_tour

        assert isinstance(instance, TSP)
        check_start(instance, start)
        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        if start is not None:
            tracker.offer(start, by="start")
        if instance.n <= 3 or tracker.done() or not _compiled(budget):
            tracker.offer(initial_tour(instance, budget), by="constructive")
            late = instance.n > 3 and not budget.interrupted()
            stopped = tracker.done() or (Stop.TIME if late else Stop.FINISHED)
            return tracker.result(stopped, params=self._params())
        distances = instance.distances
        costs = (
            ls.Costs.of_matrix(distances.matrix)
            if distances.explicit
            else ls.Costs.of_coords(np.asarray(distances.coords), distances.metric)
        )
        lists = ls.neighbor_lists(costs, min(self.neighbors, instance.n - 1))
        tour = ls.greedy_edge(costs, lists) if start is None else np.asarray(start)
        tracker.offer(tour.tolist(), by="constructive")
        search = ls.LocalSearch(
            costs,
            tour,
            seed=seed,
            neighbors=lists,
            depth=self.depth,
            segment=self.segment,
            heat=self.heat,
        )
        return tracker.result(_run(search, tracker), params=self._params())

    def _params(self) -> dict[str, Any]:
        return {
            "neighbors": self.neighbors,
            "depth": self.depth,
            "segment": self.segment,
            "heat": self.heat,
        }


def _compiled(budget: Budget) -> bool:
    """Compile the kernels, or load them; False if that outlasts the budget.

    Numba cannot be stopped, so it goes on in a thread and fills its cache for later.
    """
    from nco.classical import local_search

    thread = threading.Thread(target=local_search.compile_kernels, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.02)
        # What follows needs a moment, too.
        if budget.interrupted() or budget.left() < 0.05:
            return False
    return True


def _run(search: Any, tracker: Tracker[list[int]]) -> Stop:
    budget = tracker.budget
    iterations = budget.iterations
    if iterations is None and budget.time_limit is None:
        iterations = KICKS_PER_NODE * tracker.instance.n
    # Under a time limit the annealing horizon follows the pace of the kicks.
    work, told, known = 100_000, budget.elapsed(), search.length
    horizon = iterations or 0
    stop: Stop | None = None
    begin_kicks = budget.elapsed()
    while stop is None:
        before = time.perf_counter()
        if not search.settled and search.kicks == 0:
            search.descend(work)
            begin_kicks = budget.elapsed()
        else:
            most = 1 << 40 if iterations is None else iterations - search.kicks
            if iterations is None and search.kicks:
                spent = max(1e-9, budget.elapsed() - begin_kicks)
                horizon = int(search.kicks * (1.0 + budget.left() / spent))
            if search.perturb(most, horizon=horizon, work=work) == 0:
                stop = Stop.FINISHED
        took = time.perf_counter() - before
        work = int(np.clip(work * SLICE / max(took, 1e-9), work / 4, work * 4)) + 1000
        # An O(n) look at the tour costs more than a slice where there are many nodes.
        now = budget.elapsed()
        if search.length < known and now - told >= NEWS + 4e-7 * tracker.instance.n:
            known, told = search.length, now
            tracker.offer(search.tour.tolist())
        if stop is None:
            stop = tracker.done()
            if iterations is not None and search.kicks >= iterations and stop is None:
                stop = Stop.ITERATIONS if budget.iterations is not None else Stop.FINISHED
    tracker.offer(search.tour.tolist())
    return stop
