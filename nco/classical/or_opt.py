"""2-opt, Or-opt and their kin with perturbation, for tours of any size."""

from __future__ import annotations

import functools
import importlib.metadata
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nco.classical.compiling import compile_in_time
from nco.classical.constructive import curve_tour, initial_tour
from nco.classical.routing import refuse_tour, search_costs, tracked
from nco.instances.core import (
    Budget,
    Distances,
    Instance,
    Listener,
    Result,
    Stop,
    Tracker,
)
from nco.instances.tsp import TSP

if TYPE_CHECKING:
    from nco.classical.local_search import Costs, LocalSearch

#: Seconds of search between two looks at the clock and at Ctrl-C.
SLICE = 0.02
#: Reporting a tour takes at most this share of the time.
NEWS = 0.05
#: Kicks when nothing limits the search, per node.
KICKS_PER_NODE = 100
#: Seconds that checking and returning a tour takes, per node.
WAY_BACK = 1.5e-6
#: Up to so many nodes, costs that are slow to compute are kept in a matrix.
LOOK_UP = 3000
#: The kernels' own limit.
MAX_DEPTH = 10


@dataclass(frozen=True)
class OrOpt:
    """Iterated local search in numba; see `nco.classical.local_search`.

    Iterations of a budget are kicks: under such a limit the same seed gives the same
    tour. Compilation, once per machine, counts against the time limit; if it would take
    longer, a constructive tour is returned, and the compilation ends in the background.

    Parameters
    ----------
    neighbors
        Candidates per node.
    breadth
        How many of them are tried for the last edge of a 3-opt move.
    depth
        Trial steps of a Lin-Kernighan-style move beyond that; at most 10.
    segment
        Longest segment of a kick, in nodes.
    heat
        Initial temperature, in mean lengths of the edges that a kick removes; 0 accepts
        no worse tour.

    Raises
    ------
    ValueError
        When a parameter is out of its range.
    """

    name: ClassVar[str] = "or-opt"

    neighbors: int = 8
    breadth: int = 8
    depth: int = 3
    segment: int = 50
    heat: float = 0.3

    def __post_init__(self) -> None:
        for field in ("neighbors", "segment"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} < 1 not understood.")
        for field in ("breadth", "depth", "heat"):
            if not getattr(self, field) >= 0:
                raise ValueError(f"{field} < 0 not understood.")
        if self.depth > MAX_DEPTH:
            raise ValueError(f"depth > {MAX_DEPTH} not understood.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """Tours of any size, symmetric or not; of up to 10,000 nodes where edges are fixed."""
        return refuse_tour(instance)

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
        assert isinstance(instance, TSP)
        tracker = tracked(self.name, instance, budget, seed, start, on_event)
        few = 2 if instance.directed else 3
        if instance.n <= few or tracker.done():
            tracker.offer(initial_tour(instance, budget), by="constructive")
            return self._result(tracker, tracker.done() or Stop.FINISHED)
        reserve = WAY_BACK * instance.n
        if not compile_in_time(
            _compile, tracker, functools.partial(initial_tour, instance), reserve=reserve
        ):
            return self._result(tracker, tracker.done() or Stop.TIME)
        search = self._prepare(tracker, seed, start)
        if search is None:
            tracker.offer(curve_tour(instance), by="constructive")
            return self._result(tracker, tracker.done() or Stop.TIME)
        return self._result(tracker, _run(search, tracker))

    def _prepare(self, tracker: Tracker[list[int]], seed: int, start: Any) -> LocalSearch | None:
        """The search from the start or from greedy edge, or None if time is up first."""
        from nco.classical import local_search

        budget = tracker.budget
        assert isinstance(tracker.instance, TSP)
        distances = search_costs(tracker.instance, budget)
        if distances is None:
            return None
        costs = _costs(distances)

        def stop() -> bool:
            return budget.interrupted() or _left(budget, costs.n) <= 0.0

        lists = None if stop() else local_search.neighbor_lists(costs, self.neighbors, stop=stop)
        if lists is None or stop():
            return None
        tour = local_search.greedy_edge(costs, lists) if start is None else start
        return local_search.LocalSearch(
            costs,
            tour,
            seed=seed,
            neighbors=lists,
            breadth=self.breadth,
            depth=self.depth,
            segment=self.segment,
            heat=self.heat,
        )

    def _result(self, tracker: Tracker[list[int]], stopped: Stop) -> Result:
        return tracker.result(
            stopped,
            params={
                "neighbors": self.neighbors,
                "breadth": self.breadth,
                "depth": self.depth,
                "segment": self.segment,
                "heat": self.heat,
            },
            versions={"numba": importlib.metadata.version("numba")},
        )


def _left(budget: Budget, n: int) -> float:
    """Seconds left for the search itself."""
    return budget.left() - WAY_BACK * n


def _costs(distances: Distances) -> Costs:
    from nco.classical.local_search import Costs

    # Great circles take many times as long to compute as to look up.
    if distances.explicit or (distances.metric == "GEO" and distances.n <= LOOK_UP):
        return Costs.of_matrix(distances.matrix)
    assert distances.coords is not None
    return Costs.of_coords(distances.coords, distances.metric)


def _compile() -> None:
    from nco.classical import local_search

    local_search.compile_kernels()


def _run(search: LocalSearch, tracker: Tracker[list[int]]) -> Stop:
    """Search in slices; the way to slice has no influence on the tours."""
    budget, n = tracker.budget, tracker.instance.n
    iterations = budget.iterations
    if iterations is None and budget.time_limit is None:
        iterations = KICKS_PER_NODE * n
    news = _News(search, tracker)
    work = 100_000
    begin = budget.elapsed()
    while True:
        now = time.monotonic()
        if not search.settled:
            search.descend(work)
            begin = budget.elapsed()
        else:
            kicks = iterations - search.kicks if iterations is not None else 1 << 40
            # Under a time limit the temperature follows the pace of the kicks.
            pace = search.kicks / max(1e-9, budget.elapsed() - begin)
            horizon = (
                iterations
                if iterations is not None
                else search.kicks + int(pace * _left(budget, n))
            )
            if not search.perturb(kicks, horizon=horizon, work=work):
                stop = Stop.FINISHED
                break
        seconds = time.monotonic() - now
        work = max(1000, int(work * min(4.0, max(0.25, SLICE / max(seconds, 1e-9)))))
        news.tell()
        if _left(budget, n) <= 0.0:
            stop = Stop.TIME
            break
        kicked = search.kicks if search.settled else -1
        limit = tracker.done(kicked)
        if limit is not None:
            stop = limit
            break
        if iterations is not None and kicked >= iterations:
            stop = Stop.FINISHED
            break
    news.tell(last=True)
    return stop


class _News:
    """Offer the search's tour when it is better, but not so often that it takes long."""

    def __init__(self, search: LocalSearch, tracker: Tracker[list[int]]):
        self._search = search
        self._tracker = tracker
        self._known = float("inf")
        self._next = 0.0

    def tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self._search.length >= self._known or (now < self._next and not last):
            return
        self._known = self._search.length
        self._tracker.offer(self._search.tour.tolist())
        self._next = time.monotonic() + (time.monotonic() - now) / NEWS
