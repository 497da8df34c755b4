"""RENS: round the relaxation's fractional columns either way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents, fill, free_only


def rens(incumbents: Incumbents, size: float, rng: np.random.Generator) -> Neighborhood | None:
    """Columns fractional in the relaxation may be rounded up or down, the rest is fixed.

    Columns that are whole in the relaxation are fixed at the current solution. T. Berthold,
    RENS: the optimal rounding, Mathematical Programming Computation 6 (2014).
    """
    lp = incumbents.relaxation
    if lp is None:
        return None
    columns = incumbents.form.integers
    fractional = columns[np.abs(lp[columns] - np.rint(lp[columns])) > 1e-6]
    if not len(fractional):
        return None
    # No others: rounded either way, whole ones have nowhere to go.
    size = min(1.0, size * len(columns) / len(fractional)) if incumbents.filled else size
    free = fill(replace(incumbents, filled=False), fractional, size, rng)
    # The current value stays allowed, so that the start is not lost.
    current = np.rint(incumbents.current[free])
    low = np.minimum(np.floor(lp[free] + 1e-6), current)
    high = np.maximum(np.ceil(lp[free] - 1e-6), current)
    return free_only(incumbents, free, bounds=(low, high))
