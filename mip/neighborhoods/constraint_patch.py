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
    # Rows of continuous columns alone have nothing to free.
    mixed = (form.A != 0) @ form.movable.astype(float) > 0
    rows = np.flatnonzero(mixed & (slack <= 1e-6))
    rows = rows if len(rows) else np.flatnonzero(mixed)
    if not len(rows):
        return None
    row = int(rng.choice(rows))
    entries = form.A.indices[form.A.indptr[row] : form.A.indptr[row + 1]]
    seeds = entries[form.movable[entries]].astype(np.intp)
    wanted = count(incumbents, size)
    if len(seeds) > wanted:
        seeds = rng.choice(seeds, wanted, replace=False)
    return free_only(incumbents, grow(incumbents, seeds, wanted, rng))
