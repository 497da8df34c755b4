"""Proximity search: the nearest solution that is better by a given amount."""

from __future__ import annotations

import numpy as np

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents
from nco.mip.neighborhoods.local_branching import distance_row


def proximity(incumbents: Incumbents, size: float, rng: np.random.Generator) -> Neighborhood | None:
    """Minimise the Hamming distance, with a cutoff ``size`` of the objective below.

    M. Fischetti, M. Monaci, Proximity search for 0-1 mixed-integer convex programming,
    Journal of Heuristics 20 (2014).
    """
    form = incumbents.form
    if len(form.binaries) < 2:
        return None
    row, _ = distance_row(incumbents, form.binaries)
    value = form.value(incumbents.best)
    step = size * max(abs(value - form.offset), 1e-6)
    return Neighborhood(objective=row, cutoff=value - step)
