"""Divider of the capacitated vehicle routing problem: groups of neighbouring routes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nco.classical.constructive import curve_routes, savings_routes, split
from nco.instances.core import Budget
from nco.instances.cvrp import CVRP
from nco.udc.dividers import Divider, inserted, nodes_graph
from nco.udc.pieces import routes_piece

if TYPE_CHECKING:
    from nco.udc.divide import Graph


#: Savings of other shapes are tried so often, while all of them together join so many customers,
#: and take no more than so much of the time that is left.
TRIES, CUSTOMERS, SHARE = 16, 100_000, 0.05


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
    begin, fleet = budget.elapsed(), instance.vehicles or instance.n

    def badness(routes: list[list[int]]) -> tuple[int, float]:
        return max(0, len(routes) - fleet), instance.objective(routes)

    best = savings_routes(instance, k=40, budget=budget)
    if budget.spent():
        # Routes that were hardly joined by then are dearer than a curve that is cut.
        best = min(best, curve_routes(instance) or best, key=badness)
    least = badness(best)
    for _ in range(min(TRIES, CUSTOMERS // instance.n)):
        if budget.elapsed() - begin > SHARE * budget.left():
            break
        shape, spread = rng.uniform(*shapes), rng.uniform(*spreads)
        routes = savings_routes(instance, k=40, budget=budget, shape=shape, spread=spread)
        if (now := badness(routes)) < least:
            best, least = routes, now
    return best


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
    {"savings": savings, "space-filling-curve": curve, "insertion": inserted},
    curve_routes,
    graph=graph,
    of_tour=of_tour,
    piece=routes_piece,
    within="tsp",
)
