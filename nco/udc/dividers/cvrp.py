"""Divider of the capacitated vehicle routing problem: groups of neighbouring routes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import curve_routes, savings_routes, split
from nco.instances.core import Budget
from nco.instances.cvrp import CVRP
from nco.udc.dividers import Divider, inserted
from nco.udc.pieces import routes_piece


def savings(instance: CVRP, seed: int, budget: Budget) -> list[list[int]]:
    """Clarke and Wright's savings."""
    return savings_routes(instance, k=40, budget=budget)


def curve(instance: CVRP, seed: int, budget: Budget) -> list[list[int]] | None:
    """The order along a space-filling curve, cut into routes."""
    return curve_routes(instance)


def view(instance: CVRP) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The customers with demand and polar coordinates around the depot."""
    points = np.array(instance.coords, dtype=np.float64)[:, :2]
    gap = points[1:] - points[0]
    radius = np.linalg.norm(gap, axis=1)
    far = radius / max(float(radius.max(initial=0.0)), 1e-300)
    angle = np.arctan2(gap[:, 1], gap[:, 0])
    demand = instance.demands[1:] / instance.capacity
    return points[1:], np.column_stack([demand, far, np.cos(angle), np.sin(angle)])


def of_tour(instance: CVRP, tour: Sequence[int]) -> list[list[int]] | None:
    """The customers in the tour's order, cut into routes at the least cost."""
    return split(instance, [node + 1 for node in tour])


DIVIDER = Divider(
    "cvrp",
    {"savings": savings, "space-filling-curve": curve, "insertion": inserted},
    curve_routes,
    view=view,
    of_tour=of_tour,
    extra=4,
    piece=routes_piece,
)
