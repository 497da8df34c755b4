"""fast_tsp: Or-opt local search for symmetric tours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nco.classical import worker
from nco.classical.routing import distances_of, is_symmetric_tsp, space_arrays, version
from nco.instances.core import Budget, Instance, Listener, Result, Stop, Tracker


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
            params = {"threads": self.threads}
            target = "nco.classical.fast_tsp:search"
            for tour in worker.run(target, space_arrays(instance), params, budget):
                tracker.offer(tour)
                if tracker.done():
                    break
        return tracker.result(
            tracker.done() or Stop.FINISHED,
            params={"threads": self.threads},
            versions=version("fast_tsp"),
        )


def search(arrays: dict[str, Any], deadline: float | None, threads: int) -> Iterator[list[int]]:
    """Worker side: a short search, then one with all the time left."""
    import fast_tsp

    distances = distances_of(arrays)
    n = distances.n
    costs = np.empty((n, n), dtype=np.uint16)
    top = max(float(distances.row(i).max()) for i in range(n))
    scale = 1.0 if distances.integral and top <= 65535 else 65535 / max(top, 1e-300)
    for i in range(n):
        costs[i] = np.rint(distances.row(i) * scale)
    # A killed worker leaves the tour of the short search.
    for short in (True, False):
        left = 10.0 if deadline is None else deadline - time.monotonic() - 0.02 - 2e-6 * n
        if left > 0:
            seconds = min(2.0, 0.1 * left) if short else left
            tour = fast_tsp.find_tour(costs, seconds, max_threads=threads)
            yield [int(k) for k in tour]
        if n <= 20:
            break
