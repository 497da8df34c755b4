"""Divider of the prize-collecting travelling salesman problem."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import hilbert_order
from nco.instances.pctsp import PCTSP
from nco.udc.dividers import Divider, inserted
from nco.udc.pieces import Piece, path_piece


def everyone(instance: PCTSP) -> list[int]:
    """All customers along a curve, which collects all there is."""
    if instance.coords is None:
        return list(range(1, instance.nodes))
    return (hilbert_order(np.asarray(instance.coords)[1:]) + 1).tolist()


def piece(instance: PCTSP, index: NDArray[np.int64], scalar: NDArray[np.float64]) -> Piece:
    """A path with the prize that is due; to leave out its ends costs more than all others."""
    return path_piece(instance, index, "min_prize", float(scalar[0]), ("penalties",))


DIVIDER = Divider("pctsp", {"insertion": inserted}, everyone, piece=piece)
