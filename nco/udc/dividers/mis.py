"""Divider of the independent set problem: parts along the graph's own edges."""

from __future__ import annotations

from nco.classical.constructive import min_degree_greedy
from nco.instances.core import Budget
from nco.instances.mis import MIS
from nco.udc.dividers import Divider


def degree(instance: MIS, seed: int, budget: Budget) -> list[int]:
    """Greedy by weight per degree."""
    return min_degree_greedy(instance, budget)


def nothing(instance: MIS) -> list[int]:
    """No node."""
    return []


DIVIDER = Divider("mis", {"greedy": degree}, nothing, size=200)
