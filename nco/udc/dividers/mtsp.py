"""Divider of the min-max multiple travelling salesmen problem: groups of tours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import hilbert_order
from nco.instances.mtsp import MTSP
from nco.udc.dividers import Divider, inserted
from nco.udc.pieces import Piece, some_nodes


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


DIVIDER = Divider("mtsp", {"insertion": inserted}, shares, piece=piece)
