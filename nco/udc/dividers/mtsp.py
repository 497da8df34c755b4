"""Divider of the min-max multiple travelling salesmen problem: groups of tours."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import hilbert_order
from nco.classical.random_insertion import random_insertion
from nco.instances.core import Budget
from nco.instances.mtsp import MTSP
from nco.udc.dividers import Along, Divider, curve_order, inserted, nodes_graph, toured
from nco.udc.pieces import Piece, some_nodes

if TYPE_CHECKING:
    from nco.udc.divide import Graph

#: Halvings of the interval that the longest tour is sought in.
HALVINGS = 40
#: Customers that a tour through all of them is tried to begin from.
BEGINS = 8


def shares(instance: MTSP) -> list[list[int]]:
    """Like shares of the customers along a curve."""
    nodes = np.arange(1, instance.nodes)
    if instance.coords is not None:
        nodes = nodes[hilbert_order(np.asarray(instance.coords)[1:])]
    parts = np.array_split(nodes, min(int(instance.salesmen), len(nodes)))
    return [part.tolist() for part in parts]


def piece(instance: MTSP, index: NDArray[np.int64], scalar: NDArray[np.float64]) -> Piece:
    """Some customers for some of the salesmen."""
    return Piece(some_nodes(instance, index[1:], salesmen=int(scalar[2])), index[1:])


def graph(instance: MTSP, k: int, stop: Callable[[], bool] | None = None) -> Graph:
    """The customers alone."""
    return nodes_graph(instance, k, depot=True, stop=stop)


def of_tour(instance: MTSP, tour: Sequence[int]) -> list[list[int]]:
    """The customers in the tour's order, shared so that the longest stretch is shortest.

    A limit on all stretches is halved in on; each is made as long as it allows.
    """
    along = Along.of(instance, tour)
    reach = np.maximum.accumulate(along.place + along.back)

    def cuts(limit: float) -> list[int] | None:
        ends = [0]
        while ends[-1] < len(tour) and len(ends) <= instance.salesmen:
            room = limit - along.out[ends[-1]] + along.place[ends[-1]]
            ends.append(max(ends[-1] + 1, int(np.searchsorted(reach, room, "right"))))
        return ends if ends[-1] == len(tour) else None

    low, high = float((along.out + along.back).max()), float(along.out[0] + reach[-1])
    best = [0, len(tour)]
    for _ in range(HALVINGS):
        ends = cuts(0.5 * (low + high))
        if ends is None:
            low = 0.5 * (low + high)
        else:
            best, high = ends, 0.5 * (low + high)
    return [along.visits[i:j].tolist() for i, j in itertools.pairwise(best)]


def tour(instance: MTSP, seed: int, budget: Budget) -> list[list[int]]:
    """One tour through all customers by random insertion, shared as `of_tour` does.

    Of some evenly spread customers that the tour may begin from, the best. Greedy insertion
    keeps every route short as long as it can, and leaves long ways for the last customers:
    here, ways stay short, and are then shared alike.
    """
    if instance.coords is None:
        found: list[list[int]] = inserted(instance, seed, budget)
        return found
    visits = random_insertion(np.asarray(instance.coords)[1:], seed, budget)
    best = of_tour(instance, visits)
    for begin in range(1, min(BEGINS, len(visits))):
        if budget.spent():
            break
        at = begin * len(visits) // BEGINS
        best = min(best, of_tour(instance, visits[at:] + visits[:at]), key=instance.objective)
    return best


DIVIDER = Divider(
    "mtsp",
    {
        "tour": tour,
        "insertion": inserted,
        "space-filling-curve": toured(of_tour, curve_order),
    },
    shares,
    graph=graph,
    of_tour=of_tour,
    piece=piece,
    within="tsp",
)
