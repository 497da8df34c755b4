"""Structure: free the columns of related customers, items or edges."""

from __future__ import annotations

import numpy as np

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents, count, free_only


def structure(incumbents: Incumbents, size: float, rng: np.random.Generator) -> Neighborhood | None:
    """Free all columns of a patch of groups that are linked in the current solution.

    Two groups are linked where they share a column that is not zero: neighbours in a
    tour. Without such links the groups are drawn at random.
    """
    groups, form = incumbents.groups, incumbents.form
    if len(groups) < 3:
        return None
    wanted = count(incumbents, size)
    owner = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    column = np.concatenate(groups)
    used = (np.abs(incumbents.current[column]) > 0.5) & form.whole[column]
    order = np.lexsort((owner[used], column[used]))
    columns, owners = column[used][order], owner[used][order]
    shared = columns[1:] == columns[:-1]
    pairs = np.stack([owners[:-1][shared], owners[1:][shared]], axis=1)
    inside = np.zeros(len(groups), dtype=bool)
    inside[rng.integers(len(groups))] = True
    free = np.zeros(form.n, dtype=bool)
    limit = len(groups)
    for _ in range(limit):
        free[np.concatenate([groups[k] for k in np.flatnonzero(inside).tolist()])] = True
        if (free & form.whole).sum() >= wanted or inside.all():
            break
        before = inside.sum()
        touching = inside[pairs].any(1) if len(pairs) else np.zeros(0, dtype=bool)
        inside[pairs[touching].reshape(-1)] = True
        if inside.sum() == before:
            inside[rng.choice(np.flatnonzero(~inside))] = True
    return free_only(incumbents, np.flatnonzero(free & form.whole))
