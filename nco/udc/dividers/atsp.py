"""Divider of the asymmetric travelling salesman problem."""

from __future__ import annotations

from nco.classical.constructive import curve_tour, nearest_neighbor_tour, patched_tour
from nco.instances.atsp import ATSP
from nco.instances.core import Budget
from nco.udc.dividers import Divider, nodes_graph, tour_itself
from nco.udc.dividers.tsp import greedy

#: Seconds per entry of the costs that a cheapest assignment takes, which cannot be interrupted.
ASSIGNED = 4e-7


def patching(instance: ATSP, seed: int, budget: Budget) -> list[int]:
    """Cycles of the cheapest assignment, joined, or greedy edge where that is better.

    Greedy edge alone where costs are symmetric, whose cycles are pairs, or time is too short
    for an assignment.
    """
    tour = greedy(instance, seed, budget)
    if instance.distances.symmetric or budget.left() < ASSIGNED * instance.n**2:
        return tour
    try:
        return min(tour, patched_tour(instance.distances, budget), key=instance.objective)
    except TimeoutError:
        return tour


def nearest(instance: ATSP, seed: int, budget: Budget) -> list[int]:
    """Nearest neighbour, from another node for every seed."""
    return nearest_neighbor_tour(instance.distances, seed % instance.n, budget)


DIVIDER = Divider(
    "atsp",
    {"patching": patching, "greedy": greedy, "nearest-neighbor": nearest},
    curve_tour,
    size=50,
    graph=nodes_graph,
    of_tour=tour_itself,
    large="greedy",
)
