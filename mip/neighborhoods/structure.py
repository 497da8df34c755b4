"""Structure: free the columns of related customers, items or edges."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents, count, free_only


def structure(incumbents: Incumbents, size: float, rng: np.random.Generator) -> Neighborhood | None:
    """Free all columns of a patch of groups that are linked in the current solution.

    Two groups are linked where they share a column that is not zero: neighbours in a
    tour. The patch grows breadth first from a random group, and goes on at another one where
    no more are linked.
    """
    groups, form = incumbents.groups, incumbents.form
    if len(groups) < 3:
        return None
    owner = np.repeat(np.arange(len(groups)), np.fromiter(map(len, groups), dtype=np.intp))
    column = np.concatenate(groups)
    used = (np.abs(incumbents.current[column]) > 0.5) & form.whole[column]
    order = np.lexsort((owner[used], column[used]))
    columns, owners = column[used][order], owner[used][order]
    shared = columns[1:] == columns[:-1]
    ranks = _ranks(len(groups), owners[:-1][shared], owners[1:][shared], rng)[owner]
    by_rank = np.argsort(ranks, kind="stable")
    by_rank = by_rank[form.whole[column[by_rank]]]
    # Each column counts where it comes first; groups are freed whole.
    first = np.sort(np.unique(column[by_rank], return_index=True)[1])
    if not len(first):
        return None
    last = ranks[by_rank[first[min(count(incumbents, size), len(first)) - 1]]]
    return free_only(incumbents, np.unique(column[by_rank[ranks[by_rank] <= last]]))


def _ranks(n: int, one: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Places [n] of n groups: breadth first, from a random group of each component in turn."""
    drawn = rng.permutation(n)
    links = sparse.coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(n, n))
    _, component = csgraph.connected_components(links, directed=False)
    turn = np.unique(component[drawn], return_index=True)[1]
    # A node beside all the roots leads to everything, in one search.
    roots = drawn[turn]
    ends = np.concatenate([one, np.full(len(roots), n)]), np.concatenate([other, roots])
    links = sparse.coo_array((np.ones(len(ends[0]), dtype=bool), ends), shape=(n + 1, n + 1))
    order = csgraph.breadth_first_order(links.tocsr(), n, directed=False)[0][1:]
    ranks = np.empty(n, dtype=np.intp)
    ranks[order[np.argsort(turn[component[order]], kind="stable")]] = np.arange(n)
    return ranks
