"""One neutral form of routing problems, for solvers that know many of them.

A problem with ``to_routing()`` is solved by every routing solver that knows the parts its
`RoutingView` has: no adapter names problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import FLOAT_TOLERANCE, Distances
from nco.instances.tour_edges import mended

if TYPE_CHECKING:
    from nco.instances.tsp import TSP

Routes = list[list[int]]

#: Up to so many nodes shortest paths take less than a few tenths of a second.
REACH_NODES = 3000


@dataclass(frozen=True, kw_only=True)
class RoutingView:
    """Routes from depot 0 over nodes, none visited twice.

    The cost is the sum of route lengths (with ``minmax`` the longest; none with
    ``free``), plus ``skip_costs`` of the nodes left out.

    Parameters
    ----------
    distances
        Travel costs; also travel times where there are ``windows`` or service times.
    encode, decode
        From a solution to its routes, and back.
    vehicles
        Largest number of routes, or None.
    demands, capacity
        Demand of every node [nodes] and the largest load of a route, or None.
    max_length
        Largest length of a route, service included, or None.
    service
        Time that every node takes [nodes], or None.
    windows
        Earliest and latest begin of service [nodes, 2], the depot's for the route, or None.
    skip_costs
        Cost of leaving a node out [nodes], or None where all must be visited.
    prizes, min_prize
        Prize of every node [nodes] and how much the visited ones must have, or None.
    free
        Whether length costs nothing.
    minmax
        Whether the longest route counts.
    """

    distances: Distances
    encode: Callable[[Any], Routes]
    decode: Callable[[Routes], Any]
    vehicles: int | None = 1
    demands: NDArray[Any] | None = None
    capacity: float = 0.0
    max_length: float | None = None
    service: NDArray[Any] | None = None
    windows: NDArray[Any] | None = None
    skip_costs: NDArray[Any] | None = None
    prizes: NDArray[Any] | None = None
    min_prize: float = 0.0
    free: bool = False
    minmax: bool = False

    @property
    def nodes(self) -> int:
        """Number of nodes, the depot included."""
        return self.distances.n

    @property
    def infeasible(self) -> bool:
        """Whether the fleet surely cannot carry the demand, or a route surely is too long."""
        if self.skip_costs is not None:
            return False
        if self.max_length is not None and out_of_reach(
            self.distances, self.max_length, self.service
        ):
            return True
        return (
            self.vehicles is not None
            and self.demands is not None
            and fleet_too_small(self.demands, self.capacity, self.vehicles)
        )


def _surely(limit: float) -> float:
    """A limit beyond any tolerance of a check: nothing is called a proof that one could refute."""
    return limit + 4 * FLOAT_TOLERANCE * max(1.0, abs(limit))


def fleet_too_small(demands: NDArray[Any], capacity: float, vehicles: int) -> bool:
    """Whether so many vehicles surely cannot carry the demands.

    The total must fit, and so must those that take more than half a vehicle, of which no
    two share one.
    """
    most = float(capacity)
    if not np.issubdtype(demands.dtype, np.integer):
        most = _surely(most)
    loads = demands.astype(np.float64)
    return math.fsum(loads) > vehicles * most or int((loads > most / 2).sum()) > vehicles


def out_of_reach(
    distances: Distances, max_length: float, service: NDArray[Any] | None = None
) -> bool:
    """Whether a node surely is too far for any route of a length from node 0 and back.

    Service takes its time [nodes]. Where costs need not keep the triangle inequality,
    shortest paths decide; for more than `REACH_NODES` nodes they would take too long.
    """
    most = _surely(max_length)
    hub = np.zeros(distances.n, dtype=np.int64)
    nodes = np.arange(distances.n)
    there, back = distances.pairs(hub, nodes), distances.pairs(nodes, hub)
    stay = np.zeros(distances.n) if service is None else service
    if not (there + stay + back > most).any():
        return False
    if not distances.explicit and distances.metric == "exact":
        return True
    if distances.n > REACH_NODES:
        return False
    there = _shortest(there, distances.row)
    back = _shortest(back, lambda k: distances.pairs(nodes, k))
    return bool((there + stay + back > most).any())


def _shortest(
    length: NDArray[np.float64], costs: Callable[[int], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Lengths [n] of shortest paths by Dijkstra, from those of single legs to or from node 0."""
    length = length.copy()
    length[0] = 0.0
    left = np.zeros(len(length))
    for _ in range(len(length)):
        k = int((length + left).argmin())
        left[k] = np.inf
        np.minimum(length, length[k] + costs(k), out=length)
    return length


def tour_view(instance: TSP) -> RoutingView:
    """A closed tour of all nodes, node 0 as the depot."""

    def encode(tour: list[int]) -> Routes:
        begin = tour.index(0)
        return [[*tour[begin + 1 :], *tour[:begin]]]

    return RoutingView(
        distances=instance.search_distances,
        encode=encode,
        decode=lambda routes: mended(instance, [0, *(k for route in routes for k in route)]),
    )


def keep(routes: Routes) -> Routes:
    """Routes as they are, without empty ones."""
    return [list(route) for route in routes if route]


def single(visits: list[int]) -> Routes:
    """A list of visits as the only route."""
    return [list(visits)] if visits else []


def flat(routes: Routes) -> list[int]:
    """The visits of the only route."""
    return [k for route in routes for k in route]
