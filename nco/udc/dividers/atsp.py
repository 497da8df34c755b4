"""Divider of the asymmetric travelling salesman problem."""

from __future__ import annotations

from nco.classical.constructive import curve_tour, nearest_neighbor_tour
from nco.instances.atsp import ATSP
from nco.instances.core import Budget
from nco.udc.dividers import Divider, nodes_graph, tour_itself
from nco.udc.dividers.tsp import greedy


def nearest(instance: ATSP, seed: int, budget: Budget) -> list[int]:
    """Nearest neighbour, from another node for every seed."""
    return nearest_neighbor_tour(instance.distances, seed % instance.n, budget)


DIVIDER = Divider(
    "atsp",
    {"greedy": greedy, "nearest-neighbor": nearest},
    curve_tour,
    size=50,
    graph=nodes_graph,
    of_tour=tour_itself,
    decoded=True,
)
