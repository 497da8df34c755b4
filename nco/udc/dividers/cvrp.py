"""Divider of the capacitated vehicle routing problem: groups of neighbouring routes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import curve_routes, savings_routes, split
from nco.classical.routing import load_limit
from nco.instances.core import Budget
from nco.instances.cvrp import CVRP
from nco.udc.dividers import Divider, inserted, nodes_graph
from nco.udc.pieces import routes_piece, some_nodes

if TYPE_CHECKING:
    from nco.udc.divide import Graph

logger = logging.getLogger("nco")

#: Savings of other shapes are tried so often, while all of them together join so many customers,
#: and take no more than so much of the time that is left.
TRIES, CUSTOMERS, SHARE = 16, 100_000, 0.05
#: Sweeps from so many angles; none begins beyond as much of the time but the first, and all end
#: within a fifth of it. They are of sectors of at most so many customers.
SWEEPS, FIRST, INSERTED = 10, 0.2, 1000
#: The first ones are of 1, 2, ... rings, the others of as many as the best; shares of the
#: customers that rings end at.
RINGS, INNER = 3, (0.1, 0.6)
#: What sweeps may cost of what savings do; where the first ones cost so much more, others do, too.
DEARER, HOPELESS = 1.015, 1.05


def badness(instance: CVRP, routes: list[list[int]]) -> tuple[int, float]:
    """Vehicles beyond the fleet, then the cost."""
    fleet = instance.vehicles or instance.n
    return max(0, len(routes) - fleet), instance.objective(routes)


def savings(
    instance: CVRP,
    seed: int,
    budget: Budget,
    shapes: tuple[float, float] = (1.2, 2.2),
    spreads: tuple[float, float] = (0.0, 0.9),
) -> list[list[int]]:
    """The best of savings as they are, and of others whose shape and spread are drawn.

    Parameters
    ----------
    instance, seed, budget
        As for any start.
    shapes, spreads
        Smallest and largest of both, see `nco.classical.constructive.savings_routes`.
    """
    rng = np.random.default_rng(seed)
    begin = budget.elapsed()
    best = savings_routes(instance, k=40, budget=budget)
    if budget.spent():
        # Routes that were hardly joined by then are dearer than a curve that is cut.
        best = min(best, curve_routes(instance) or best, key=lambda r: badness(instance, r))
    least = badness(instance, best)
    for _ in range(min(TRIES, CUSTOMERS // instance.n)):
        if budget.elapsed() - begin > SHARE * budget.left():
            break
        shape, spread = rng.uniform(*shapes), rng.uniform(*spreads)
        routes = savings_routes(instance, k=40, budget=budget, shape=shape, spread=spread)
        if (now := badness(instance, routes)) < least:
            best, least = routes, now
    return best


def sectors(instance: CVRP, begin: float, shares: Sequence[float] = ()) -> list[NDArray[np.int64]]:
    """The customers by their angle at the depot, cut where a vehicle is full.

    Parameters
    ----------
    instance
        With coordinates.
    begin
        The angle [rad] to begin at.
    shares
        Of the customers, ascending, within each ring but the last; rings are cut by themselves.

    Returns
    -------
    The customers of each, from the inner ring to the outer one.
    """
    assert instance.coords is not None
    away = (instance.coords[1:, :2] - instance.coords[0, :2]).astype(np.float64)
    angle = (np.arctan2(away[:, 1], away[:, 0]) - begin) % (2.0 * np.pi)
    far = np.hypot(*away.T)
    ring = np.searchsorted(np.quantile(far, shares), far)
    order = np.lexsort((angle, ring))
    cuts, load, room = [], 0.0, load_limit(instance)
    outer = set(np.flatnonzero(np.diff(ring[order])) + 1)
    for at, demand in enumerate(instance.demands[order + 1].tolist()):
        load += demand
        if load > room or at in outer:
            cuts.append(at)
            load = demand
    return np.split(order + 1, cuts)


def sweep(
    instance: CVRP, seed: int, budget: Budget, most: float = math.inf
) -> list[list[int]] | None:
    """Sectors of rings around the depot, customers of each inserted greedily: the best of some.

    B. E. Gillett and L. R. Miller, A heuristic algorithm for the vehicle-dispatch problem,
    Operations Research 22 (1974); stages take the place of its exchanges between sectors. With
    many routes of few customers, sectors of rings are less slender (C. Daganzo, The distance
    traveled to visit N points with a maximum of C stops per vehicle, Transportation Science 18,
    1984).

    Parameters
    ----------
    instance, seed, budget
        As for any start.
    most
        There are no others where the first ones cost more.

    Returns
    -------
    The routes, perhaps more than the fleet has; None without coordinates, where sectors have too
    many customers for insertion, or none was done in time.
    """
    from nco.classical.insertion import insertion

    if instance.coords is None:
        return None
    rng, begin, first = np.random.default_rng(seed), budget.elapsed(), budget.share(FIRST)
    best: list[list[int]] | None = None
    least, rings = (math.inf, math.inf), 1
    for sweeps in range(max(RINGS, min(SWEEPS, CUSTOMERS // instance.n))):
        late = budget.elapsed() - begin > SHARE * budget.left()
        hopeless = sweeps >= RINGS and least[1] > most
        if first.spent() or (best and (late or hopeless)):
            break
        now = sweeps + 1 if sweeps < RINGS else rings
        shares = np.sort(rng.uniform(*INNER, now - 1)).tolist()
        parts = sectors(instance, rng.uniform(0.0, 2.0 * np.pi), shares)
        if max(len(part) for part in parts) > INSERTED:
            continue
        routes: list[list[int]] = []
        for part in parts:
            nodes = np.r_[0, part]
            found = insertion(some_nodes(instance, nodes, vehicles=None), first)
            if found is None:
                return best
            routes += [nodes[route].tolist() for route in found]
        if (cost := badness(instance, routes)) < least:
            best, least, rings = routes, cost, now
    return best


def sweep_or_savings(
    instance: CVRP,
    seed: int,
    budget: Budget,
    savings: Callable[[CVRP, int, Budget], list[list[int]]] = savings,
) -> list[list[int]]:
    """Sweeps where they are hardly dearer than savings, as stages gain more from them.

    Parameters
    ----------
    instance, seed, budget
        As for any start.
    savings
        The start that sweeps are compared with.
    """
    joined = savings(instance, seed, budget)
    least, cost = badness(instance, joined)
    swept = sweep(instance, seed, budget, HOPELESS * cost)
    if swept and (now := badness(instance, swept)) <= (least, DEARER * cost):
        logger.info("start: sweep, %.6g; savings, %.6g", now[1], cost)
        return swept
    logger.info("start: savings, %.6g", cost)
    return joined


def curve(instance: CVRP, seed: int, budget: Budget) -> list[list[int]] | None:
    """The order along a space-filling curve, cut into routes."""
    return curve_routes(instance)


def graph(instance: CVRP, k: int, stop: Callable[[], bool] | None = None) -> Graph:
    """The customers with their demand."""
    return nodes_graph(instance, k, instance.demands[1:] / instance.capacity, depot=True, stop=stop)


def of_tour(instance: CVRP, tour: Sequence[int]) -> list[list[int]] | None:
    """The customers in the tour's order, cut into routes at the least cost."""
    return split(instance, [node + 1 for node in tour])


DIVIDER = Divider(
    "cvrp",
    {
        "sweep-or-savings": sweep_or_savings,
        "savings": savings,
        "sweep": sweep,
        "space-filling-curve": curve,
        "insertion": inserted,
    },
    curve_routes,
    graph=graph,
    of_tour=of_tour,
    piece=routes_piece,
    within="tsp",
)
