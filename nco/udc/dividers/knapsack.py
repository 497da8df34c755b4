"""Divider of the knapsack problem: items by their value per weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import packed, ratio_greedy
from nco.instances.core import Budget
from nco.instances.knapsack import Knapsack, ratio_order
from nco.udc.dividers import Divider, share
from nco.udc.pieces import Piece, some_nodes

if TYPE_CHECKING:
    from nco.udc.divide import Graph


def ratio(instance: Knapsack, seed: int, budget: Budget) -> list[int]:
    """Greedy by value per weight."""
    return ratio_greedy(instance)


def piece(instance: Knapsack, index: NDArray[np.int64], scalar: NDArray[np.float64]) -> Piece:
    """Some items for what the others leave of the capacity."""
    return Piece(some_nodes(instance, index, capacity=scalar[1].item()), index)


def graph(instance: Knapsack, k: int, stop: Callable[[], bool] | None = None) -> Graph:
    """Every item beside the k next to it in the order of value per weight."""
    import torch

    from nco.udc.divide import Graph

    n = instance.n
    k = min(k, n - 1)
    order = ratio_order(instance)
    rank = np.empty(n, dtype=np.int64)
    rank[order] = np.arange(n)
    # Places beside one's own, moved at both ends of the order, without one's own.
    begin = np.clip(rank - k // 2, 0, n - 1 - k)[:, None]
    beside = begin + np.arange(k)
    near = order[beside + (beside >= rank[:, None])]
    weights = instance.weights.astype(np.float64)
    before = np.empty(n)
    before[order] = np.cumsum(weights[order])
    capacity = max(float(instance.capacity), 1e-300)
    columns = [share(instance.values), share(weights), rank / n,
               np.minimum(before / capacity, 4.0)]  # fmt: skip
    gap = [(column[near] - column[:, None]) for column in (columns[1], rank / max(k, 1))]
    return Graph(
        torch.as_tensor(near)[None],
        torch.as_tensor(np.column_stack(columns), dtype=torch.float32)[None],
        torch.as_tensor(np.stack(gap, 2), dtype=torch.float32)[None],
        priority=torch.as_tensor(-rank / n, dtype=torch.float32)[None],
    )


DIVIDER = Divider(
    "knapsack", {"greedy": ratio}, ratio_greedy, size=40, graph=graph, of_tour=packed, piece=piece
)
