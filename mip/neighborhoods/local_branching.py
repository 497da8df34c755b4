"""Local branching: a ball around the current solution."""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse

from nco.mip.backend import Neighborhood, Vector
from nco.mip.neighborhoods import Incumbents, Index


def distance_row(incumbents: Incumbents, columns: Index) -> tuple[Vector, float]:
    """Coefficients [n] and constant of the Hamming distance over binary columns."""
    ones = incumbents.current[columns] > 0.5
    row = np.zeros(incumbents.form.n)
    row[columns] = np.where(ones, -1.0, 1.0)
    return row, float(ones.sum())


def local_branching(
    incumbents: Incumbents, size: float, rng: np.random.Generator
) -> Neighborhood | None:
    """At most a share of the binary columns may flip; nothing is fixed.

    M. Fischetti, A. Lodi, Local branching, Mathematical Programming 98 (2003).
    """
    columns = incumbents.form.binaries
    if len(columns) < 2:
        return None
    radius = max(2.0, math.floor(size * len(columns)))
    row, constant = distance_row(incumbents, columns)
    limits = np.array([-math.inf]), np.array([radius - constant])
    return Neighborhood(rows=(sparse.csr_array(row[None]), *limits))
