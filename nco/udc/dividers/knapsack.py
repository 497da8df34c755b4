"""Divider of the knapsack problem: items by their value per weight."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import ratio_greedy
from nco.instances.core import Budget
from nco.instances.knapsack import Knapsack
from nco.udc.dividers import Divider
from nco.udc.pieces import Piece, some_nodes


def ratio(instance: Knapsack, seed: int, budget: Budget) -> list[int]:
    """Greedy by value per weight."""
    return ratio_greedy(instance)


def piece(instance: Knapsack, index: NDArray[np.int64], scalar: NDArray[np.float64]) -> Piece:
    """Some items for what the others leave of the capacity, in the policy's units."""
    import torch

    from nco.bq.imitation import whole_weights

    capacity = torch.tensor([instance.capacity])
    weights, _ = whole_weights(torch.as_tensor(instance.weights.copy())[None], capacity)
    changes = {"weights": weights[0].numpy().astype(np.int64)[index], "capacity": int(scalar[0])}
    return Piece(some_nodes(instance, index, **changes), index)


DIVIDER = Divider("knapsack", {"greedy": ratio}, ratio_greedy, piece=piece)
