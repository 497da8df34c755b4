"""Divider of the independent set problem: parts along the graph's own edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import min_degree_greedy
from nco.instances.core import Budget
from nco.instances.mis import MIS
from nco.udc.dividers import Divider, share
from nco.udc.pieces import Piece, some_nodes

if TYPE_CHECKING:
    from nco.udc.divide import Graph


def degree(instance: MIS, seed: int, budget: Budget) -> list[int]:
    """Greedy by weight per degree."""
    return min_degree_greedy(instance, budget)


def nothing(instance: MIS) -> list[int]:
    """No node."""
    return []


def piece(instance: MIS, index: NDArray[np.int64], scalar: NDArray[np.float64]) -> Piece:
    """The graph of some nodes."""
    indptr, indices = instance.neighbors()
    degree = indptr[index + 1] - indptr[index]
    owner = np.repeat(np.arange(len(index)), degree)
    # Of all edges, only those of the part are looked at.
    first = indptr[index] - np.cumsum(degree) + degree
    heads = indices[first[owner] + np.arange(len(owner))]
    order = np.argsort(index)
    at = order[np.searchsorted(index, heads, sorter=order) % len(index)]
    inside = (index[at] == heads) & (owner < at)
    changes = {"edges": np.column_stack([owner, at])[inside], "labels": None}
    return Piece(some_nodes(instance, index, **changes), index)


def graph(instance: MIS, k: int, stop: Callable[[], bool] | None = None) -> Graph:
    """The graph's own edges, of every node those to its k neighbours of the smallest degree."""
    import torch

    from nco.udc.divide import Graph

    n = instance.n
    k = min(k, n - 1)
    indptr, indices = instance.neighbors()
    degree = np.diff(indptr)
    owner = np.repeat(np.arange(n), degree)
    indices = indices[np.lexsort((degree[indices], owner))]
    place = np.arange(len(indices)) - indptr[owner]
    kept = place < k
    # Who has fewer is beside itself, which the edges' features tell.
    near = np.repeat(np.arange(n)[:, None], k, 1)
    near[owner[kept], place[kept]] = indices[kept]
    size = degree / max(float(degree.mean()), 1e-300)
    real = near != np.arange(n)[:, None]
    priority = np.log(np.maximum(instance.weights, 1e-30) / (degree + 1.0))
    columns = np.column_stack([share(instance.weights), np.minimum(size, 8.0), degree / n])
    edges = np.stack([real, np.minimum(size[near], 8.0) * real], 2)
    return Graph(
        torch.as_tensor(near)[None],
        torch.as_tensor(columns, dtype=torch.float32)[None],
        torch.as_tensor(edges, dtype=torch.float32)[None],
        priority=torch.as_tensor(priority, dtype=torch.float32)[None],
    )


def of_tour(instance: MIS, tour: Sequence[int]) -> list[int]:
    """The nodes in that order, without those beside one that was taken before."""
    indptr, indices = instance.neighbors()
    free = np.ones(instance.n, dtype=bool)
    chosen = []
    for node in tour:
        if free[node]:
            chosen.append(int(node))
            free[indices[indptr[node] : indptr[node + 1]]] = False
    return chosen


DIVIDER = Divider(
    "mis", {"greedy": degree}, nothing, size=300, graph=graph, of_tour=of_tour, piece=piece
)
