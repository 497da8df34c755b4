"""Divider of the orienteering problem: paths, with what the rest leaves of the length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nco.instances.op import OP
from nco.udc.dividers import Divider, inserted
from nco.udc.pieces import Piece, path_piece


def nothing(instance: OP) -> list[int]:
    """No customer, which is feasible wherever anything is."""
    return []


def piece(instance: OP, index: NDArray[np.int64], scalar: NDArray[np.float64]) -> Piece:
    """A path with what is left of the length; its ends are worth more than all others."""
    return path_piece(instance, index, "max_length", float(scalar[0]), ("prizes",))


DIVIDER = Divider("op", {"insertion": inserted}, nothing, piece=piece)
