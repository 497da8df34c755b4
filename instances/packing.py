"""MIP forms of the knapsack and the independent set problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances.core import Sense
from nco.instances.mip import MIP, MipView

if TYPE_CHECKING:
    from nco.instances.knapsack import Knapsack
    from nco.instances.mis import MIS

#: Edges are gathered into cliques up to this many.
MOST_CLIQUE_EDGES = 100_000
#: Pairs of nodes looked at while cliques grow, 2 or 3 seconds; without it, minutes in dense
#: graphs.
MOST_CLIQUE_WORK = 20_000_000


def _encode(n: int, chosen: list[int]) -> NDArray[np.float64]:
    x = np.zeros(n)
    x[np.asarray(chosen, dtype=np.intp)] = 1.0
    return x


def _decode(x: NDArray[np.float64]) -> list[int]:
    return [int(k) for k in np.flatnonzero(x > 0.5)]


def knapsack_view(instance: Knapsack) -> MipView:
    """One binary column per item, one row."""
    n = instance.n
    mip = MIP(
        c=instance.values.astype(np.float64),
        A=instance.weights.astype(np.float64)[None],
        row_upper=np.array([float(instance.capacity)]),
        upper=np.ones(n),
        integrality=np.ones(n, dtype=bool),
        sense=Sense.MAXIMIZE,
        columns=[f"item_{k}" for k in range(n)],
        rows=["weight"],
        name=instance.name,
    )
    return MipView(
        mip=mip,
        encode=lambda chosen: _encode(n, chosen),
        decode=_decode,
        groups=[np.array([k]) for k in range(n)],
    )


def cliques(instance: MIS) -> list[list[int]]:
    """Cliques that cover every edge: greedily grown, or the edges themselves if many.

    After `MOST_CLIQUE_WORK` no more grow, and the edges left stay as they are.
    """
    edges = instance.edges.tolist()
    if len(edges) > MOST_CLIQUE_EDGES:
        return edges
    neighbors: list[set[int]] = [set() for _ in range(instance.n)]
    for i, j in edges:
        neighbors[i].add(j)
        neighbors[j].add(i)
    covered: set[tuple[int, int]] = set()
    found = []
    work = 0
    for i, j in edges:
        if (i, j) in covered:
            continue
        clique, common = [i, j], neighbors[i] & neighbors[j]
        while common and work < MOST_CLIQUE_WORK:
            work += len(common) ** 2
            k = max(common, key=lambda v: (len(neighbors[v] & common), -v))
            clique.append(k)
            common &= neighbors[k]
        clique.sort()
        covered.update((p, q) for index, p in enumerate(clique) for q in clique[index + 1 :])
        found.append(clique)
    return found


def mis_view(instance: MIS) -> MipView:
    """One binary column per node, at most one node of every clique."""
    n = instance.n
    groups = cliques(instance)
    indptr = np.cumsum([0, *map(len, groups)])
    indices = np.concatenate([np.asarray(g, dtype=np.intp) for g in groups] or [np.zeros(0, int)])
    mip = MIP(
        c=instance.weights.astype(np.float64),
        A=sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=(len(groups), n)),
        row_upper=np.ones(len(groups)),
        upper=np.ones(n),
        integrality=np.ones(n, dtype=bool),
        sense=Sense.MAXIMIZE,
        columns=[f"node_{k}" for k in range(n)],
        rows=[f"clique_{k}" for k in range(len(groups))],
        name=instance.name,
    )
    return MipView(
        mip=mip,
        encode=lambda chosen: _encode(n, chosen),
        decode=_decode,
        groups=[np.array([k]) for k in range(n)],
    )
