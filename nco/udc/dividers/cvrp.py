"""Divider of the capacitated vehicle routing problem: groups of neighbouring routes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nco.classical.constructive import curve_routes, savings_routes, split
from nco.instances.core import Budget
from nco.instances.cvrp import CVRP
from nco.udc.dividers import Divider, inserted, nodes_graph
from nco.udc.pieces import routes_piece

if TYPE_CHECKING:
    from nco.udc.divide import Graph


def savings(instance: CVRP, seed: int, budget: Budget) -> list[list[int]]:
    """Clarke and Wright's savings."""
    return savings_routes(instance, k=40, budget=budget)


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
