"""Mutation: free random columns."""

from __future__ import annotations

import numpy as np

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents, count, free_only


def mutation(incumbents: Incumbents, size: float, rng: np.random.Generator) -> Neighborhood | None:
    """Free a random share of the whole columns.

    E. Rothberg, An evolutionary algorithm for polishing mixed integer programming
    solutions, INFORMS Journal on Computing 19 (2007), section 2.3.
    """
    free = rng.choice(incumbents.form.integers, count(incumbents, size), replace=False)
    return free_only(incumbents, free)
