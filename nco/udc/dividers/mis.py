"""Divider of the independent set problem: parts along the graph's own edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import min_degree_greedy
from nco.instances.core import Budget
from nco.instances.mis import MIS
from nco.udc.dividers import Divider
from nco.udc.pieces import Piece, some_nodes


def degree(instance: MIS, seed: int, budget: Budget) -> list[int]:
    """Greedy by weight per degree."""
    return min_degree_greedy(instance, budget)


def nothing(instance: MIS) -> list[int]:
    """No node."""
    return []


def piece(instance: MIS, index: NDArray[np.int64], scalar: NDArray[np.float64]) -> Piece:
    """The graph of some nodes."""
    place = np.full(instance.n, -1)
    place[index] = np.arange(len(index))
    edges = place[instance.edges]
    changes = {"edges": edges[(edges >= 0).all(1)], "labels": None}
    return Piece(some_nodes(instance, index, **changes), index)


DIVIDER = Divider("mis", {"greedy": degree}, nothing, size=200, piece=piece)
