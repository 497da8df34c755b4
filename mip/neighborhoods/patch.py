"""Patches: free columns that hang together through rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents, Index, count, free_only

#: Rows with more entries join everything and say nothing.
LONGEST_ROW = 0.2


def grow(incumbents: Incumbents, seeds: Index, wanted: int, rng: np.random.Generator) -> Index:
    """Whole columns around ``seeds`` in the graph of columns and rows, breadth first."""
    form = incumbents.form
    A: sparse.csr_array = form.A
    lengths = np.diff(A.indptr)
    short = lengths <= max(10.0, LONGEST_ROW * form.n)
    inside = np.zeros(form.n, dtype=bool)
    front = np.zeros(form.n, dtype=bool)
    front[seeds] = inside[seeds] = True
    found: list[NDArray[np.intp]] = [seeds[form.movable[seeds]]]
    total = len(found[0])
    fresh = np.ones(form.m, dtype=bool)
    columns = form.columns
    while total < wanted:
        touched = np.zeros(form.m, dtype=bool)
        touched[_entries(columns.indptr, columns.indices, np.flatnonzero(front))] = True
        # Marks instead of sorted sets: rows of large models have millions of entries.
        beside = np.zeros(form.n, dtype=bool)
        beside[_entries(A.indptr, A.indices, np.flatnonzero(touched & short & fresh))] = True
        fresh &= ~touched
        near = np.flatnonzero(beside & ~inside)
        if not len(near):
            break
        inside[near] = True
        front[:] = False
        front[near] = True
        whole = near[form.movable[near]]
        if total + len(whole) > wanted:
            whole = rng.choice(whole, wanted - total, replace=False)
        found.append(whole)
        total += len(whole)
    return np.concatenate(found)


def _entries(indptr: NDArray, indices: NDArray, which: Index) -> NDArray[np.intp]:
    """All indices of the compressed rows ``which``, without a loop."""
    starts, lengths = indptr[which], indptr[which + 1] - indptr[which]
    total = int(lengths.sum())
    if not total:
        return np.zeros(0, dtype=np.intp)
    offset = np.repeat(starts - np.r_[0, np.cumsum(lengths)[:-1]], lengths)
    return indices[offset + np.arange(total)]


def variable_patch(
    incumbents: Incumbents, size: float, rng: np.random.Generator
) -> Neighborhood | None:
    """Free a connected patch around a random column."""
    form = incumbents.form
    seed = rng.choice(form.integers, 1)
    return free_only(incumbents, grow(incumbents, seed, count(incumbents, size), rng))
