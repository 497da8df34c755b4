"""Tabu search for independent sets."""

from __future__ import annotations

import importlib.metadata
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nco.classical.annealing import PACE, REPORT
from nco.classical.compiling import compile_in_time
from nco.classical.constructive import min_degree_greedy
from nco.classical.routing import tracked
from nco.instances.core import Budget, Instance, Listener, Result, Stop, Tracker
from nco.instances.mis import MIS

if TYPE_CHECKING:
    from nco.classical.mis_kernels import Search

#: Steps without a better set before the search begins elsewhere; more with more nodes.
PATIENCE, PATIENCE_PER_NODE = 4000, 5
#: Up to so many nodes it begins anew then, otherwise near where it is.
RESTART_NODES = 5000
#: Steps between two looks at the clock, when nothing is known of their pace.
CHUNK = 1000
#: Steps when nothing limits the search, per node.
STEPS_PER_NODE = 10_000
#: Seconds that tables take before the search begins, per node and edge.
SETUP = 1e-7


@dataclass(frozen=True)
class MISTabu:
    """Additions, swaps and drops of single nodes, with a tabu list and restarts.

    Q. Wu, J.-K. Hao and F. Glover, Multi-neighborhood tabu search for the maximum weight
    clique problem, Annals of Operations Research 196 (2012), on the complement graph. Of
    many moves a sample is looked at, so that a step takes no longer on larger graphs.

    Parameters
    ----------
    patience
        Steps without a better set before the search begins elsewhere; 0 leaves it to
        `PATIENCE` and `PATIENCE_PER_NODE`.

    Raises
    ------
    ValueError
        When it is negative.
    """

    name: ClassVar[str] = "mis-tabu"

    patience: int = 0

    def __post_init__(self) -> None:
        if self.patience < 0:
            raise ValueError("patience < 0 not understood.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """Independent sets, weighted or not."""
        return None if isinstance(instance, MIS) else f"solves mis, not {instance.problem}"

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Search until the budget is used up, from the start or by least degree.

        Compilation, once per machine, counts against the time limit; if it would take
        longer, the greedy set is returned.
        """
        assert isinstance(instance, MIS)
        tracker = tracked(self.name, instance, budget, seed, start, on_event)
        if start is None:
            tracker.offer(min_degree_greedy(instance, budget), by="greedy")
        return tracker.result(
            self._search(instance, tracker, seed),
            params={"patience": self.patience},
            versions={"numba": importlib.metadata.version("numba")},
        )

    def _search(self, instance: MIS, tracker: Tracker[Any], seed: int) -> Stop:
        n = instance.n
        reserve = SETUP * (n + len(instance.edges))
        assert tracker.solution is not None
        if len(tracker.solution) == n:
            return tracker.done() or Stop.FINISHED
        if tracker.budget.left() < reserve or not compile_in_time(
            _compile, tracker, lambda budget: None, reserve=reserve
        ):
            return tracker.done() or Stop.TIME
        from nco.classical.mis_kernels import Search

        search = Search(
            *instance.neighbors(),
            instance.weights,
            tracker.solution,
            seed=seed,
            patience=self.patience or max(PATIENCE, PATIENCE_PER_NODE * n),
            restart=n <= RESTART_NODES,
        )
        return _run(search, tracker)


def _compile() -> None:
    from nco.classical import mis_kernels

    mis_kernels.compile_kernels()


def _run(search: Search, tracker: Tracker[Any]) -> Stop:
    budget = tracker.budget
    limit = budget.iterations
    if limit is None and budget.time_limit is None:
        limit = STEPS_PER_NODE * tracker.instance.n
    done, chunk = 0, CHUNK
    record = offered = tracker.objective or 0.0
    reported = -math.inf
    while True:
        stopped = tracker.done(done)
        if stopped is None and limit is not None and done >= limit:
            stopped = Stop.FINISHED
        now = budget.elapsed()
        if record > offered and (stopped is not None or now - reported >= REPORT):
            tracker.offer(search.chosen)
            offered, reported = record, now
        if stopped is not None:
            return stopped
        if limit is not None:
            chunk = min(CHUNK, limit - done)
        record = search.run(chunk)
        done += chunk
        if limit is None:
            took = budget.elapsed() - now
            chunk = max(10, min(2 * chunk, int(chunk * PACE / max(took, 1e-9))))
