"""fast_tsp: Or-opt local search for symmetric tours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nco.classical import worker
from nco.classical.routing import is_symmetric_tsp, version
from nco.instances.core import Budget, Distances, Instance, Listener, Result, Stop, Tracker


@dataclass(frozen=True)
class FastTSP:
    """Adapter to fast_tsp.

    Its distances have 16 bits, so costs are scaled and tours re-evaluated. It has no
    seed; with one thread and a time limit its tours may differ from run to run.

    Parameters
    ----------
    threads
        Threads that search together.
    """

    name: ClassVar[str] = "fast-tsp"

    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError("threads < 1 not understood.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """Symmetric tours of up to 10,000 nodes."""
        return is_symmetric_tsp(instance, 10_000)

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
        from nco.classical.constructive import initial_solution

        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        if start is not None:
            tracker.offer(start, by="start")
        tracker.offer(initial_solution(instance), by="constructive")
        if instance.n > 3:
            tours = search(instance.distances, worker.deadline_of(budget), self.threads)
            for tour in worker.run_thread(tours, budget):
                tracker.offer(tour)
                if tracker.done():
                    break
        return tracker.result(
            tracker.done() or Stop.FINISHED,
            params={"threads": self.threads},
            versions=version("fast_tsp"),
        )


def search(distances: Distances, deadline: float | None, threads: int) -> Iterator[list[int]]:
    """A short search, then one with all the time left.

    Parameters
    ----------
    distances
        Symmetric costs.
    deadline
        In `time.monotonic` seconds, or None.
    threads
        Threads that search together.
    """
    import fast_tsp

    n = distances.n
    matrix = distances.matrix
    top = float(matrix.max())
    scale = 1.0 if distances.integral and top <= 65535 else 65535 / max(top, 1e-300)
    costs = np.empty((n, n), dtype=np.uint16)
    for i in range(n):
        costs[i] = np.rint(matrix[i] * scale)
    # A search that is given up leaves the tour of the short one.
    for short in (True, False):
        left = 10.0 if deadline is None else deadline - time.monotonic() - 0.02 - 2e-6 * n
        if left > 0:
            seconds = min(2.0, 0.1 * left) if short else left
            tour = fast_tsp.find_tour(costs, seconds, max_threads=threads)
            yield [int(k) for k in tour]
        if n <= 20:
            break
