"""DINS: no farther from the relaxation than the current solution is."""

from __future__ import annotations

import numpy as np

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents, fill, free_only


def dins(incumbents: Incumbents, size: float, rng: np.random.Generator) -> Neighborhood | None:
    """Bound general columns by their distance to the relaxation; fix agreeing ones.

    S. Ghosh, DINS, a MIP improvement heuristic, IPCO 2007, section 3.
    """
    lp = incumbents.relaxation
    if lp is None:
        return None
    columns = incumbents.form.integers
    x, y = np.rint(incumbents.current[columns]), lp[columns]
    moved = np.abs(x - y) >= 0.5
    if not moved.any():
        return None
    free = fill(incumbents, columns[moved], size, rng)
    radius = np.maximum(1.0, np.abs(incumbents.current[free] - lp[free]))
    low = np.minimum(np.ceil(lp[free] - radius), np.rint(incumbents.current[free]))
    high = np.maximum(np.floor(lp[free] + radius), np.rint(incumbents.current[free]))
    return free_only(incumbents, free, bounds=(low, high))
