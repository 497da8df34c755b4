"""LKH (through elkai): the Lin-Kernighan-Helsgaun heuristic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nco.classical.constructive import initial_tour
from nco.classical.routing import (
    check_start,
    distances_of,
    integer_costs,
    refuse_tour,
    space_arrays,
    version,
)
from nco.classical.worker import Worker
from nco.instances.core import Budget, Instance, Listener, Result, Stop, Tracker
from nco.instances.tsp import TSP

#: LKH multiplies costs by its precision, 100, in 32-bit integers.
LARGEST_COST = 2_000_000


@dataclass(frozen=True)
class LKH:
    """Adapter to LKH, for academic and non-commercial use only (its licence).

    K. Helsgaun, An effective implementation of the Lin-Kernighan traveling salesman
    heuristic, EJOR 126 (2000). Runs repeat with new seeds until the time limit; the
    iterations of a budget are such runs.

    Parameters
    ----------
    runs
        Runs when neither time nor iterations are limited.
    """

    name: ClassVar[str] = "lkh"

    runs: int = 10

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise ValueError("runs < 1 not understood.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """Tours of up to 10,000 nodes, symmetric or not."""
        return refuse_tour(instance, 10_000)

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Run until the budget is used up."""
        assert isinstance(instance, TSP)
        check_start(instance, start)
        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        limited = budget.iterations is not None
        unlimited = budget.time_limit is None and not limited
        runs = budget.iterations if limited else self.runs if unlimited else None
        stopped = Stop.FINISHED
        target = "nco.classical.lkh:search"
        params = {"seed": seed, "runs": runs}
        with Worker(target, space_arrays(instance), params, budget) as worker:
            if start is not None:
                tracker.offer(start, by="start")
            tracker.offer(initial_tour(instance, budget), by="constructive")
            if instance.n > 3 and not tracker.done():
                for tour in worker:
                    tracker.offer(tour)
                    if tracker.done():
                        break
                else:
                    stopped = Stop.ITERATIONS if limited else Stop.FINISHED
        return tracker.result(
            tracker.done() or stopped, params={"runs": self.runs}, versions=version("elkai")
        )


def search(
    arrays: dict[str, Any], deadline: float | None, seed: int, runs: int | None
) -> Iterator[list[int]]:
    """Worker side: one run after the other, each with a seed of its own."""
    from elkai import _elkai

    distances = distances_of(arrays)
    n = distances.n
    costs, _ = integer_costs(distances, LARGEST_COST)
    kind = "TSP" if distances.symmetric else "ATSP"
    problem = (
        f"TYPE : {kind}\nDIMENSION : {n}\nEDGE_WEIGHT_TYPE : EXPLICIT\n"
        "EDGE_WEIGHT_FORMAT : FULL_MATRIX\nEDGE_WEIGHT_SECTION\n"
        + "\n".join(" ".join(map(str, row)) for row in costs.tolist())
        + "\nEOF\n"
    )
    # LKH's limit counts from the end of its preprocessing, whose length one run shows.
    overhead = 2e-7 * n * n
    run = 0
    seeds = np.random.SeedSequence(seed)
    while runs is None or run < runs:
        parameters = f"PROBLEM_FILE = :stdin:\nRUNS = 1\nSEED = {_seed(seeds)}\n"
        if deadline is not None and runs is None:
            left = deadline - time.monotonic() - 0.02
            limit = 0.5 * left if run == 0 else left - 1.2 * overhead
            if limit <= 0.0:
                return
            parameters += f"TIME_LIMIT = {limit:.3f}\n"
        begin = time.monotonic()
        tour = _elkai.solve_problem(parameters, problem)
        if deadline is not None and runs is None:
            overhead = max(overhead, time.monotonic() - begin - limit)
        run += 1
        yield [int(k) - 1 for k in tour]


def _seed(seeds: np.random.SeedSequence) -> int:
    return int(seeds.spawn(1)[0].generate_state(1)[0]) & 0x3FFFFFFF or 1
