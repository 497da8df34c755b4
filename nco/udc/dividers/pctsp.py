"""Divider of the prize-collecting travelling salesman problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import hilbert_order
from nco.instances.pctsp import PCTSP
from nco.udc.dividers import Along, Divider, nodes_graph, share, tour_starts
from nco.udc.pieces import Piece, path_piece

if TYPE_CHECKING:
    from nco.udc.divide import Graph


def everyone(instance: PCTSP) -> list[int]:
    """All customers along a curve, which collects all there is."""
    if instance.coords is None:
        return list(range(1, instance.nodes))
    return (hilbert_order(np.asarray(instance.coords)[1:]) + 1).tolist()


def piece(instance: PCTSP, index: NDArray[np.int64], scalar: NDArray[np.float64]) -> Piece:
    """A path with the prize that is due; to leave out its ends costs more than all others."""
    return path_piece(instance, index, "min_prize", float(scalar[0]), ("penalties",))


def graph(instance: PCTSP, k: int, stop: Callable[[], bool] | None = None) -> Graph:
    """The customers with prize, penalty and the share of all prizes that is due."""
    prizes = instance.prizes[1:].astype(np.float64)
    far = instance.distances.pairs(0, np.arange(1, instance.nodes))
    dear = np.minimum(instance.penalties[1:] / max(float(far.max()), 1e-300), 4.0)
    due = np.full(len(far), float(instance.min_prize) / max(float(prizes.sum()), 1e-300))
    return nodes_graph(instance, k, share(prizes), dear, due, depot=True, stop=stop)


def of_tour(instance: PCTSP, tour: Sequence[int]) -> list[int]:
    """The cheapest stretch of the tour among those that collect what is due."""
    along = Along.of(instance, tour)
    every = np.arange(len(tour))
    sums, saved = along.sums(instance.prizes), along.sums(instance.penalties)
    # A stretch costs what its two ends say; its first customer is the best that is early enough.
    begin = along.out - along.place + saved[:-1]
    least = np.minimum.accumulate(begin)
    first = np.maximum.accumulate(np.where(begin == least, every, 0))
    early = np.searchsorted(sums[:-1], sums[1:] - float(instance.min_prize), "right") - 1
    early = np.minimum(early, every)
    cost = np.where(early < 0, np.inf, least[early] + along.place + along.back - saved[1:])
    last = int(cost.argmin())
    if early[last] < 0:
        return along.visits.tolist()
    return along.visits[first[early[last]] : last + 1].tolist()


DIVIDER = Divider(
    "pctsp",
    tour_starts(of_tour),
    everyone,
    graph=graph,
    of_tour=of_tour,
    piece=piece,
    decoded=True,
    large="tour",
)
