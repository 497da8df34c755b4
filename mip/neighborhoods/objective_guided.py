"""Objective-guided: free the columns that cost most."""

from __future__ import annotations

import numpy as np

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents, count, free_only


def objective_guided(
    incumbents: Incumbents, size: float, rng: np.random.Generator
) -> Neighborhood | None:
    """Free columns at random, more likely the farther the objective wants them moved.

    The pull of a column is its cost times its distance to the bound that is best for it.
    Half of the columns are drawn by it, the others evenly, so that something can give way.
    """
    form, columns = incumbents.form, incumbents.form.integers
    c, x = form.c[columns], incumbents.current[columns]
    goal = np.where(c > 0, form.lower[columns], form.upper[columns])
    distance = np.where(np.isfinite(goal), np.abs(x - goal), np.maximum(1.0, np.abs(x)))
    pull = np.abs(c) * distance
    if not (pull > 0).any():
        return None
    wanted = count(incumbents, size)
    # Drawing with weights and without replacement: exponential keys.
    with np.errstate(divide="ignore"):
        keys = rng.exponential(size=len(columns)) / pull
    chosen = np.argsort(keys)[: max(1, wanted // 2)]
    left = np.ones(len(columns), dtype=bool)
    left[chosen] = False
    rest = np.flatnonzero(left)
    more = rng.choice(rest, min(len(rest), wanted - len(chosen)), replace=False)
    return free_only(incumbents, columns[np.concatenate([chosen, more])])
