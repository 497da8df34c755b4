"""What the adapters to routing libraries make of a `RoutingView`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Distances, Instance, UnsupportedError
from nco.instances.routing import RoutingView

#: Costs up to this size need no scaling; rounding would break limits.
EXACT = 10_000_000


def scaled_costs(distances: Distances, largest: float) -> tuple[NDArray[np.int64], float]:
    """Costs as integers [n, n] and the factor they were multiplied with.

    Costs with few decimals become whole exactly where they fit into `EXACT`; others are
    scaled so that the largest becomes ``largest``.
    """
    matrix = distances.matrix
    top = float(matrix.max(initial=0.0))
    # One row tells at once of most costs that their decimals do not end.
    scale = whole_factor(matrix[0], 1e4) and whole_factor(matrix, 1e4)
    if scale is None or top * scale > EXACT:
        scale = largest / (top or largest)
    costs = np.rint(matrix * scale).astype(np.int64)
    np.fill_diagonal(costs, 0)
    return costs, scale


def scaled_times(view: RoutingView, scale: float) -> NDArray[np.int64]:
    """Travel times as integers [n, n], never shorter than they are."""
    times = np.ceil(view.distances.matrix * scale - 1e-6).astype(np.int64)
    np.fill_diagonal(times, 0)
    return times


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
        if np.allclose(scaled, np.rint(scaled), rtol=1e-12, atol=1e-9):
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
