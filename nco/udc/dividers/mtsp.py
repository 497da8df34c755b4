"""Divider of the min-max multiple travelling salesmen problem: groups of tours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import hilbert_order
from nco.instances.mtsp import MTSP
from nco.udc.dividers import Along, Divider, inserted, nodes_graph
from nco.udc.pieces import Piece, some_nodes

if TYPE_CHECKING:
    from nco.udc.divide import Graph

#: Halvings of the interval that the longest tour is sought in.
HALVINGS = 40


def shares(instance: MTSP) -> list[list[int]]:
    """Like shares of the customers along a curve."""
    nodes = np.arange(1, instance.nodes)
    if instance.coords is not None:
        nodes = nodes[hilbert_order(np.asarray(instance.coords)[1:])]
    parts = np.array_split(nodes, int(instance.salesmen))
    return [part.tolist() for part in parts if len(part)]


def piece(instance: MTSP, index: NDArray[np.int64], scalar: NDArray[np.float64]) -> Piece:
    """Some customers for some of the salesmen."""
    return Piece(some_nodes(instance, index[1:], salesmen=int(scalar[2])), index[1:])


def graph(instance: MTSP, k: int) -> Graph:
    """The customers alone."""
    return nodes_graph(instance, k, depot=True)


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


DIVIDER = Divider(
    "mtsp", {"insertion": inserted}, shares, graph=graph, of_tour=of_tour, piece=piece
)
