"""Divider of the orienteering problem: paths, with what the rest leaves of the length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nco.instances.op import OP
from nco.udc.dividers import Along, Divider, nodes_graph, share, tour_starts
from nco.udc.pieces import Piece, path_piece

if TYPE_CHECKING:
    from nco.udc.divide import Graph


def nothing(instance: OP) -> list[int]:
    """No customer, which is feasible wherever anything is."""
    return []


def piece(instance: OP, index: NDArray[np.int64], scalar: NDArray[np.float64]) -> Piece:
    """A path with what is left of the length; its ends are worth more than all others."""
    return path_piece(instance, index, "max_length", float(scalar[0]), ("prizes",))


def graph(instance: OP, k: int, stop: Callable[[], bool] | None = None) -> Graph:
    """The customers with their prize, and the share of the length that a visit alone takes."""
    far = instance.distances.pairs(0, np.arange(1, instance.nodes))
    alone = np.minimum(2.0 * far / max(float(instance.max_length), 1e-300), 2.0)
    return nodes_graph(instance, k, share(instance.prizes[1:]), alone, depot=True, stop=stop)


def of_tour(instance: OP, tour: Sequence[int]) -> list[int]:
    """The stretch of the tour with the largest prize among those that the length allows."""
    along = Along.of(instance, tour)
    every = np.arange(len(tour))
    # The longest stretch up to every customer: its first is the first that is near enough.
    far = np.minimum.accumulate(along.out - along.place)
    room = float(instance.max_length) - along.place - along.back
    first = np.minimum(np.searchsorted(-far, -room), len(tour) - 1)
    sums = along.sums(instance.prizes)
    prize = np.where((far[first] <= room) & (first <= every), sums[1:] - sums[first], -1.0)
    last = int(prize.argmax())
    if prize[last] < 0.0:
        return []
    return along.visits[first[last] : last + 1].tolist()


DIVIDER = Divider(
    "op",
    tour_starts(of_tour),
    nothing,
    size=50,
    graph=graph,
    of_tour=of_tour,
    piece=piece,
    decoded=True,
    large="tour",
)
