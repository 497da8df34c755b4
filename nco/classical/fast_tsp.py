"""fast_tsp: Or-opt local search for symmetric tours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nco.classical.constructive import initial_tour
from nco.classical.routing import (
    integer_costs,
    refuse_tour,
    search_costs,
    tracked,
    version,
)
from nco.classical.thread import deadline_of, run_thread
from nco.instances.core import Budget, Distances, Instance, Listener, Result, Stop
from nco.instances.tsp import TSP

#: Seconds of search when nothing limits it.
DEFAULT_SECONDS = 10.0


@dataclass(frozen=True)
class FastTSP:
    """Adapter to fast_tsp.

    Its distances have 16 bits, so costs are scaled and tours re-evaluated. It has no
    seed, no iterations and no warm start: it searches for the time there is, so tours may
    differ from run to run, and a start is only a floor. A search cannot be stopped
    midway; after Ctrl-C the tour of a short first search is returned, and the search
    ends by itself at its deadline.

    Parameters
    ----------
    threads
        Threads that search together.
    """

    name: ClassVar[str] = "fast-tsp"
    timed: ClassVar[bool] = True

    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError("threads < 1 not understood.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """Symmetric tours of up to 10,000 nodes, no edges missing: they would need more bits."""
        if isinstance(instance, TSP) and instance.edges is not None:
            return "knows no missing edges"
        return refuse_tour(instance, 10_000, symmetric=True)

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Search until the time limit; 10 s without one."""
        assert isinstance(instance, TSP)
        tracker = tracked(self.name, instance, budget, seed, start, on_event)
        tracker.offer(initial_tour(instance, budget), by="constructive")
        costs = search_costs(instance, budget) if instance.n > 3 and not tracker.done() else None
        if costs is not None:
            deadline = deadline_of(budget) or time.monotonic() + DEFAULT_SECONDS
            tours = search(costs, deadline, self.threads)
            for tour in run_thread(tours, budget, grace=0.25):
                tracker.offer(tour)
                if tracker.done():
                    break
        return tracker.result(
            tracker.done() or Stop.FINISHED,
            params={"threads": self.threads},
            versions=version("fast_tsp"),
        )


def search(distances: Distances, deadline: float, threads: int) -> Iterator[list[int]]:
    """A short search, then one with all the time left.

    Parameters
    ----------
    distances
        Symmetric costs.
    deadline
        In `time.monotonic` seconds.
    threads
        Threads that search together.
    """
    import fast_tsp

    n = distances.n
    costs, _ = integer_costs(distances, 65535, np.uint16)
    if n <= 20:
        yield _tour(fast_tsp.find_tour(costs, 1.0))  # exact, and done in less
        return
    # Its time limit, its own preparation included, holds to the millisecond.
    way_back = 0.01 + 2e-6 * n
    for short in (True, False):
        left = deadline - time.monotonic() - way_back
        seconds = min(1.0, 0.1 * left) if short else left
        # Its preparation takes about 1e-4 s per node.
        if seconds > (1e-4 * n if short else 0.0):
            yield _tour(fast_tsp.find_tour(costs, seconds, max_threads=threads))


def _tour(nodes: list[int]) -> list[int]:
    return [int(k) for k in nodes]
