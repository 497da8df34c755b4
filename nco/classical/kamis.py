"""KaMIS: independent sets by reductions, evolution and local search."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nco.classical.constructive import min_degree_greedy
from nco.classical.routing import tracked, version
from nco.classical.worker import Worker
from nco.instances.core import Budget, Instance, Listener, Result, Stop
from nco.instances.mis import MIS

#: Seconds without a limit.
UNLIMITED = 10.0
#: Share of the time for the first, quick search; its answer is kept when ReduMIS, which
#: may take far longer than it is told, is killed at the deadline.
QUICK = 0.25
#: Seconds that an answer needs on its way.
WAY_BACK = 0.05
#: Largest weight of a node.
LARGEST = 10**6


@dataclass(frozen=True)
class KaMIS:
    """Adapter to KaMIS and CHILS through chszlablib.

    S. Lamm, P. Sanders, C. Schulz, D. Strash and R. F. Werneck, Finding near-optimal
    independent sets at scale, Journal of Heuristics 23 (2017): its local search, then its
    evolutionary algorithm ReduMIS. With weights: K. Langedal et al., CHILS. They run in a
    process of their own, which is killed at the deadline.
    """

    name: ClassVar[str] = "kamis"
    timed: ClassVar[bool] = True

    def supports(self, instance: Instance[Any]) -> str | None:
        """Independent sets; weights are whole and positive."""
        if not isinstance(instance, MIS):
            return f"solves mis, not {instance.problem}"
        weights = instance.weights
        whole = np.issubdtype(weights.dtype, np.integer)
        if not whole or weights.min() < 1 or weights.max() > LARGEST:
            return f"needs whole weights from 1 to {LARGEST:,}"
        return None

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Search until the budget is used up; 10 s without a limit."""
        assert isinstance(instance, MIS)
        tracker = tracked(self.name, instance, budget, seed, start, on_event)
        tracker.offer(min_degree_greedy(instance, budget), by="greedy")
        stopped = tracker.done() or Stop.FINISHED
        if len(instance.edges) and not tracker.done():
            indptr, indices = instance.neighbors()
            arrays = {"indptr": indptr, "indices": indices.astype(np.int32)}
            if (instance.weights != 1).any():
                arrays["weights"] = instance.weights
            with Worker(
                "nco.classical.kamis:search",
                arrays,
                {"seed": int(seed) % 2**31},
                budget,
                poll=lambda: tracker.done() is not None,
            ) as worker:
                for nodes in worker:
                    tracker.offer(nodes)
            stopped = tracker.done() or Stop.FINISHED
        return tracker.result(stopped, versions=version("chszlablib"))


def search(arrays: dict[str, Any], deadline: float | None, seed: int) -> Iterator[list[int]]:
    """Worker side: a set by a quick search, then by a thorough one."""
    from chszlablib import Graph, IndependenceProblems

    if deadline is None:
        deadline = time.monotonic() + UNLIMITED
    # The library wants arrays that it may write to.
    own = {key: values.copy() for key, values in arrays.items()}
    graph = Graph.from_csr(own["indptr"], own["indices"], own.get("weights"))
    weighted = "weights" in own

    def left() -> float:
        return max(0.0, deadline - WAY_BACK - time.monotonic())

    for number, share in enumerate((QUICK, 1.0)):
        seconds = share * left()
        if seconds <= 0.0:
            return
        if weighted:
            found = IndependenceProblems.chils(
                graph, time_limit=seconds, num_concurrent=1, seed=seed + number
            )
        elif number == 0:
            found = IndependenceProblems.online_mis(graph, time_limit=seconds, seed=seed)
        else:
            # It adds what its last round takes.
            found = IndependenceProblems.redumis(graph, time_limit=0.5 * seconds, seed=seed)
        yield [int(k) for k in found.vertices]
