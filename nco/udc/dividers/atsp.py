"""Divider of the asymmetric travelling salesman problem."""

from __future__ import annotations

from nco.classical.constructive import curve_tour, nearest_neighbor_tour, patched_tour
from nco.instances.atsp import ATSP
from nco.instances.core import Budget
from nco.udc.dividers import Divider, nodes_graph, tour_itself
from nco.udc.dividers.tsp import greedy


def patching(instance: ATSP, seed: int, budget: Budget) -> list[int]:
    """Cycles of the cheapest assignment, joined; symmetric costs, whose are pairs: greedy edge."""
    if instance.distances.symmetric:
        return greedy(instance, seed, budget)
    return patched_tour(instance.distances, budget)


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
