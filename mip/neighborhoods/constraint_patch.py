"""Constraint patch: free the columns of tight rows that hang together."""

from __future__ import annotations

import numpy as np

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents, count, free_only
from nco.mip.neighborhoods.patch import grow


def constraint_patch(
    incumbents: Incumbents, size: float, rng: np.random.Generator
) -> Neighborhood | None:
    """Free a patch that starts from all columns of one row, tight at the current solution."""
    form = incumbents.form
    if not form.m:
        return None
    activity = form.A @ incumbents.current
    slack = np.minimum(activity - form.row_lower, form.row_upper - activity)
    tight = np.flatnonzero(slack <= 1e-6)
    rows = tight if len(tight) else np.arange(form.m)
    row = int(rng.choice(rows))
    entries = form.A.indices[form.A.indptr[row] : form.A.indptr[row + 1]]
    seeds = entries[form.whole[entries]].astype(np.intp)
    if not len(seeds):
        return None
    wanted = count(incumbents, size)
    if len(seeds) > wanted:
        seeds = rng.choice(seeds, wanted, replace=False)
    return free_only(incumbents, grow(incumbents, seeds, wanted, rng))
