"""Divider of the knapsack problem: items by their value per weight."""

from __future__ import annotations

from nco.classical.constructive import ratio_greedy
from nco.instances.core import Budget
from nco.instances.knapsack import Knapsack
from nco.udc.dividers import Divider


def ratio(instance: Knapsack, seed: int, budget: Budget) -> list[int]:
    """Greedy by value per weight."""
    return ratio_greedy(instance)


DIVIDER = Divider("knapsack", {"greedy": ratio}, ratio_greedy)
