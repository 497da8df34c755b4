"""Divider of the travelling salesman problem: tours, cut into paths with fixed ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from nco.classical.constructive import curve_tour, greedy_tour
from nco.classical.random_insertion import random_insertion
from nco.instances.core import Budget
from nco.instances.tsp import TSP
from nco.udc.dividers import Start


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


@dataclass(frozen=True)
class TSPDivider:
    """Starts for tours."""

    name: str = "tsp"
    size: int = 100
    starts: Mapping[str, Start] = field(
        default_factory=lambda: {
            "insertion": insertion,
            "space-filling-curve": curve,
            "greedy": greedy,
        }
    )

    def plain(self, instance: TSP) -> list[int]:
        """Along a curve, or as numbered."""
        return curve_tour(instance)


DIVIDER = TSPDivider()
