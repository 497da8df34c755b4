"""Crossover: free where good solutions disagree."""

from __future__ import annotations

import numpy as np

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents, fill, free_only


def crossover(incumbents: Incumbents, size: float, rng: np.random.Generator) -> Neighborhood | None:
    """Free the whole columns in which two or three pool solutions differ.

    E. Rothberg (2007), section 2.4.
    """
    pool = incumbents.pool
    if len(pool) < 2:
        return None
    parents = rng.choice(len(pool), min(len(pool), int(rng.integers(2, 4))), replace=False)
    columns = incumbents.form.integers
    values = np.stack([pool[k][columns] for k in parents])
    differ = (np.abs(values - values[0]) > 0.5).any(0)
    if not differ.any():
        return None
    free = fill(incumbents, columns[differ], size, rng)
    return free_only(incumbents, free, base=pool[int(parents.min())])
