"""What the adapters to routing libraries make of a `RoutingView`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nco.classical.routing import cost_blocks, cost_rows, largest_cost
from nco.instances.core import Distances, Instance, Tracker, UnsupportedError
from nco.instances.routing import RoutingView

logger = logging.getLogger("nco")

T = TypeVar("T")
Stopping = Callable[[], bool]

#: Costs up to this size need no scaling; rounding would break limits.
EXACT = 10_000_000


@dataclass(frozen=True)
class Tables:
    """A view's costs as integers.

    Parameters
    ----------
    top
        The largest cost.
    scale
        The factor that costs were multiplied with.
    costs
        Scaled costs [n, n].
    times
        Scaled travel times [n, n], never shorter than they are; None where they do not count.
    """

    top: float
    scale: float
    costs: NDArray[np.int64]
    times: NDArray[np.int64] | None

    @classmethod
    def of(cls, view: RoutingView, largest: float, stop: Stopping = lambda: False) -> Tables:
        """The tables of a view.

        Costs with few decimals become whole exactly where they fit into `EXACT`; others are
        scaled so that the largest becomes ``largest``.

        Raises
        ------
        TimeoutError
            When ``stop`` says so before they are made.
        """
        distances = view.distances
        top = largest_cost(distances, exact=True, stop=stop)
        scale = _whole_scale(distances, stop)
        if scale is None or top * scale > EXACT:
            scale = largest / (top or largest)
        costs = np.empty((view.nodes, view.nodes), dtype=np.int64)
        timed = view.windows is not None or view.max_length is not None or view.minmax
        times = np.empty_like(costs) if timed else None
        for rows, block in cost_blocks(distances, stop):
            costs[rows] = np.rint(block * scale)
            if times is not None:
                times[rows] = np.ceil(block * scale - 1e-6)
        return cls(top, scale, costs, times)


def _whole_scale(distances: Distances, stop: Stopping) -> float | None:
    """The smallest power of ten up to 1e4 that makes all costs whole, or None."""
    if distances.integral:
        return 1.0
    # One row tells at once of most costs that their decimals do not end.
    factor = whole_factor(cost_rows(distances, 0, 1), 1e4)
    if factor is not None:
        for _, block in cost_blocks(distances, stop):
            found = whole_factor(block, 1e4)
            if found is None:
                return None
            factor = max(factor, found)
    return factor


def in_time(make: Callable[[Stopping], T], tracker: Tracker[Any], seconds: float) -> T | None:
    """What a search needs, or None, said in one line, where the time limit is too short for it.

    Parameters
    ----------
    make
        Makes it; asks its argument again and again whether time is up, and raises
        TimeoutError then.
    tracker
        Its budget is kept.
    seconds
        What must be left after that: what the search takes, on a core of its own, before
        it first looks at the clock.
    """
    budget = tracker.budget
    begin, work = time.monotonic(), time.thread_time()
    try:
        if budget.left() >= seconds:
            made = make(budget.spent)
            # Beside other work everything takes longer, as this did.
            pace = (time.monotonic() - begin + 0.01) / (time.thread_time() - work + 0.01)
            if budget.left() >= seconds * max(1.0, pace):
                return made
    except TimeoutError:
        pass
    if not budget.interrupted():
        logger.warning(
            "%s: the time limit is too short for its matrix of n = %d",
            tracker.solver,
            tracker.instance.n,
        )
    return None


def routing_view(instance: Instance[Any]) -> RoutingView:
    """The routing form of an instance.

    Raises
    ------
    UnsupportedError
        When it has none.
    """
    if not hasattr(instance, "to_routing"):
        raise UnsupportedError(f"solves routing problems, not {instance.problem}")
    view: RoutingView = instance.to_routing()
    return view


def cannot_route(
    instance: Instance[Any], most: int, compatible: Callable[[RoutingView], str | None]
) -> str | None:
    """The reason why a routing library cannot take an instance, or None.

    Parameters
    ----------
    instance
        Any instance.
    most
        Largest number of nodes.
    compatible
        The library's own objections.
    """
    if hasattr(instance, "to_routing") and instance.n > most:
        return f"needs n <= {most}"
    try:
        view = routing_view(instance)
    except UnsupportedError as error:
        return str(error)
    return compatible(view) if view.nodes <= most else f"needs n <= {most}"


def whole_factor(values: NDArray[Any], most: float = 1e6) -> float | None:
    """Smallest power of ten that makes all numbers whole, or None."""
    factor = 1.0
    while factor <= most:
        scaled = values * factor
        if np.allclose(scaled, np.rint(scaled), rtol=1e-12, atol=0.0):
            return factor
        factor *= 10.0
    return None


def enough_prize(view: RoutingView, routes: list[list[int]]) -> list[list[int]]:
    """One route, with customers added where they cost least per prize, until it suffices."""
    assert view.prizes is not None
    assert view.skip_costs is not None
    route = [k for part in routes for k in part]
    distances = view.distances
    left = np.ones(view.nodes, dtype=bool)
    left[[0, *route]] = False
    while float(view.prizes[route].sum()) < view.min_prize and left.any():
        nodes = np.flatnonzero(left)
        path = np.array([0, *route, 0])
        a, b = path[:-1, None], path[1:, None]
        extra = distances.pairs(a, nodes) + distances.pairs(nodes, b) - distances.pairs(a, b)
        cost = extra.min(0) - view.skip_costs[nodes]
        worth = np.maximum(view.prizes[nodes], 1e-12)
        best = int(np.argmin(np.where(cost > 0, cost / worth, cost)))
        route.insert(int(extra[:, best].argmin()), int(nodes[best]))
        left[nodes[best]] = False
    return [route]
