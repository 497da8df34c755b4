"""Divider of the travelling salesman problem: tours, cut into paths with fixed ends."""

from __future__ import annotations

import numpy as np

from nco.classical.constructive import curve_tour, greedy_tour
from nco.classical.random_insertion import random_insertion
from nco.instances.core import Budget
from nco.instances.tsp import TSP
from nco.udc.dividers import Divider, nodes_graph, tour_itself


def insertion(instance: TSP, seed: int, budget: Budget) -> list[int]:
    """Random insertion; a cost matrix has no nearest places and is left to greedy edge."""
    if instance.coords is None:
        return greedy(instance, seed, budget)
    return random_insertion(np.asarray(instance.coords), seed, budget)


def curve(instance: TSP, seed: int, budget: Budget) -> list[int]:
    """The order along a space-filling curve."""
    return curve_tour(instance)


def greedy(instance: TSP, seed: int, budget: Budget) -> list[int]:
    """Greedy edge."""
    return greedy_tour(instance.distances, budget=budget)


DIVIDER = Divider(
    "tsp",
    {"insertion": insertion, "space-filling-curve": curve, "greedy": greedy},
    curve_tour,
    graph=nodes_graph,
    of_tour=tour_itself,
)
