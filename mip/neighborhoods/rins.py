"""RINS: free where the current solution and the relaxation disagree."""

from __future__ import annotations

import numpy as np

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents, fill, free_only


def rins(incumbents: Incumbents, size: float, rng: np.random.Generator) -> Neighborhood | None:
    """Free the whole columns whose relaxation value is another than the current one.

    E. Danna, E. Rothberg, C. Le Pape, Exploring relaxation induced neighborhoods to
    improve MIP solutions, Mathematical Programming 102 (2005).
    """
    lp = incumbents.relaxation
    if lp is None:
        return None
    columns = incumbents.form.integers
    differ = np.abs(lp[columns] - incumbents.current[columns]) > 0.1
    if not differ.any():
        return None
    return free_only(incumbents, fill(incumbents, columns[differ], size, rng))
