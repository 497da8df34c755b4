"""LKH (through elkai): the Lin-Kernighan-Helsgaun heuristic."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nco.classical.constructive import initial_tour
from nco.classical.routing import (
    cost_scale,
    distances_of,
    integer_costs,
    refuse_tour,
    search_costs,
    space_arrays,
    tracked,
    version,
)
from nco.classical.worker import Worker
from nco.instances.core import Budget, Distances, Instance, Listener, Result, Stop, Tracker
from nco.instances.tsp import TSP

#: LKH multiplies costs by its precision, 100, in 32-bit integers.
LARGEST_COST = 2_000_000
#: Above so many nodes candidates come from POPMUSIC: the full search for them takes long.
POPMUSIC_FROM = 3000
#: An ascent of this length takes a fraction of LKH's own n / 2 steps, with like candidates.
ASCENT = 100

BEST, START = "best.tour", "start.tour"


@dataclass(frozen=True)
class LKH:
    """Adapter to LKH, for academic and non-commercial use only (its licence).

    K. Helsgaun, An effective implementation of the Lin-Kernighan traveling salesman
    heuristic, EJOR 126 (2000). It works in a child process, as its binding leaks memory
    and cannot be stopped, and runs from new seeds until the time limit; the iterations
    of a budget are such runs. Symmetric tours are read as they improve, asymmetric ones
    at the end of each run.

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
        tracker = tracked(self.name, instance, budget, seed, start, on_event)
        limited = budget.iterations is not None
        unlimited = budget.time_limit is None and not limited
        runs = budget.iterations if limited else self.runs if unlimited else None
        stopped = Stop.FINISHED
        few = instance.n <= 3 or tracker.done()
        costs = None if few else search_costs(instance, budget)
        if costs is None:
            tracker.offer(initial_tour(instance, budget), by="constructive")
        else:
            with tempfile.TemporaryDirectory(prefix="nco-lkh-") as folder:
                if start is not None:
                    _write_tour(Path(folder) / START, start)
                ended = self._search(costs, tracker, {"seed": seed, "runs": runs}, folder)
            if ended:
                stopped = Stop.ITERATIONS if limited else Stop.FINISHED
            if ended and runs is None and instance.directed:
                stopped = Stop.TIME  # too little of it for one more run
        return tracker.result(
            tracker.done() or stopped, params={"runs": self.runs}, versions=version("elkai")
        )

    def _search(
        self, costs: Distances, tracker: Tracker[Any], params: dict[str, Any], folder: str
    ) -> bool:
        """Whether all runs came to their end."""
        instance = tracker.instance
        assert isinstance(instance, TSP)
        best = Path(folder) / BEST
        seen = -1

        def poll() -> bool:
            nonlocal seen
            stamp = best.stat().st_mtime_ns if best.exists() else -1
            if stamp != seen:
                seen = stamp
                tour = _read_tour(best, costs.n)
                if tour is not None:
                    tracker.offer(tour)
            return tracker.done() is not None

        with Worker(
            "nco.classical.lkh:search",
            space_arrays(costs),
            params | {"folder": folder},
            tracker.budget,
            poll=poll,
        ) as worker:
            tracker.offer(initial_tour(instance, tracker.budget), by="constructive")
            for tour in worker:
                tracker.offer(tour)
                if tracker.done():
                    break
            return worker.ended


def _write_tour(path: Path, tour: list[int]) -> None:
    nodes = "\n".join(str(k + 1) for k in tour)
    path.write_text(f"TYPE : TOUR\nDIMENSION : {len(tour)}\nTOUR_SECTION\n{nodes}\n-1\nEOF\n")


def _read_tour(path: Path, n: int) -> list[int] | None:
    """The tour of a file that LKH may just be writing; None if it is not whole."""
    words = path.read_text().partition("TOUR_SECTION")[2].split()
    if len(words) < n + 1 or words[n] != "-1":
        return None
    return [int(k) - 1 for k in words[:n]]


def search(
    arrays: dict[str, Any], deadline: float | None, seed: int, runs: int | None, folder: str
) -> Iterator[list[int]]:
    """Worker side: tours at the end of runs; symmetric ones go to a file as they improve."""
    from elkai import _elkai

    distances = distances_of(arrays)
    problem = _problem(distances)
    parameters = ["PROBLEM_FILE = :stdin:"]
    start = Path(folder) / START
    if start.exists():
        parameters.append(f"INITIAL_TOUR_FILE = {start}")
    if distances.symmetric:
        # LKH prepares once and then merges the tours of its runs.
        parameters += [f"SEED = {_seed(seed, 0)}", f"OUTPUT_TOUR_FILE = {Path(folder) / BEST}"]
        parameters.append(f"RUNS = {2**31 - 1 if runs is None else runs}")
        if distances.n > 2 * ASCENT:
            parameters.append(f"INITIAL_PERIOD = {ASCENT}")
        if distances.coords is not None and distances.n > POPMUSIC_FROM:
            parameters.append("CANDIDATE_SET_TYPE = POPMUSIC")
        yield _tour(_elkai.solve_problem("\n".join(parameters) + "\n", problem))
        return
    # LKH's time limit is in CPU seconds from the end of its preparation. A first, short
    # run gives an early tour and shows both how long that takes and what a second brings.
    preparation, pace = 0.0, 1.0
    run = 0
    while runs is None or run < runs:
        own = [*parameters, f"SEED = {_seed(seed, run)}", "RUNS = 1"]
        if runs is None and run == 0:
            own.append("MAX_TRIALS = 1")
        elif runs is None and deadline is not None:
            limit = pace * 0.95 * (deadline - time.monotonic()) - 1.2 * preparation
            if limit <= 0.0:
                return
            own.append(f"TIME_LIMIT = {limit:.3f}")
        wall, cpu = time.monotonic(), time.process_time()
        yield _tour(_elkai.solve_problem("\n".join(own) + "\n", problem))
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        pace = min(1.0, cpu / max(wall, 1e-9))
        preparation = cpu if run == 0 else preparation
        run += 1


def _problem(distances: Distances) -> str:
    """The problem as a TSPLIB file: by coordinates where there are any, else by a matrix."""
    n, kind = distances.n, "TSP" if distances.symmetric else "ATSP"
    head = f"TYPE : {kind}\nDIMENSION : {n}\n"
    if distances.coords is None:
        costs, _ = integer_costs(distances, LARGEST_COST)
        rows = "\n".join(" ".join(map(str, row)) for row in costs.tolist())
        return (
            f"{head}EDGE_WEIGHT_TYPE : EXPLICIT\nEDGE_WEIGHT_FORMAT : FULL_MATRIX\n"
            f"EDGE_WEIGHT_SECTION\n{rows}\nEOF\n"
        )
    scale = cost_scale(distances, LARGEST_COST)
    coords, metric = distances.coords, distances.metric
    if metric == "exact" or (scale != 1.0 and metric in ("ATT", "CEIL_2D")):
        metric = "EUC_2D"
    if scale != 1.0:
        coords = (coords - coords.min(0)) * scale
    lines = "\n".join(
        f"{k} {' '.join(map(repr, point))}" for k, point in enumerate(coords.tolist(), 1)
    )
    return f"{head}EDGE_WEIGHT_TYPE : {metric}\nNODE_COORD_SECTION\n{lines}\nEOF\n"


def _seed(seed: int, run: int) -> int:
    state = np.random.SeedSequence([seed, run]).generate_state(1)
    return int(state[0]) & 0x3FFFFFFF or 1


def _tour(nodes: list[int]) -> list[int]:
    return [int(k) - 1 for k in nodes]
