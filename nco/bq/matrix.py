"""How a policy sees a cost matrix: what does not change the best tour, taken out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nco.bq.state import State

#: Scaled costs beyond this are all alike.
FAR = 30.0
#: Log-shares below this are all alike.
RARE = -12.0
#: Powers to which shares are raised, one after the other, before they are scaled again.
POWERS = (1.0, 3.0)


@dataclass(frozen=True)
class MatrixFrame:
    """The frame in which costs of pairs are shown to a network, renewed at every step.

    A path leaves and enters every node once, so a constant added to a row or a column of
    the matrix changes no comparison of paths, nor does a factor. Both are taken out: rows
    and columns are reduced by their minima (as in the Hungarian method; Kuhn, 1955) and
    the costs divided by the mean of the least ones. Two more views of a pair are its
    shares in the doubly stochastic matrices that the reduced costs scale to (Sinkhorn,
    1964), the entropic relaxation of the assignment problem, at two temperatures: on random
    matrices of n = 100, the largest share of the colder one alone leads to tours 5 % above
    the best. Row 0 is the current node, which is only left, and row 1 the destination,
    which is only entered.

    Parameters
    ----------
    rounds
        Rounds of Sinkhorn's scaling at each temperature.
    """

    rounds: int = 8

    #: Reduced cost and shares of a pair, in both directions.
    edge_dim = 6
    node_dim = 1
    #: All is known from the beginning.
    online = False

    def features(self, state: State) -> Tensor:
        """How many nodes remain [b, n, 1]; all else is in the pairs."""
        filled = (state.index >= 0).float()
        count = filled.sum(1, keepdim=True).log() / 5.0
        return (filled * count)[..., None]

    def edges(self, state: State) -> Tensor:
        """Reduced costs and shares of all pairs of rows [b, n, n, edge_dim]."""
        index = state.index
        filled = index >= 0
        with torch.no_grad(), torch.autocast(index.device.type, enabled=False):
            costs = state.costs(index[:, :, None], index[:, None, :])
            return frame(costs, filled, self.rounds)


def frame(costs: Tensor, filled: Tensor, rounds: int) -> Tensor:
    """As `MatrixFrame.edges`, from the costs [b, n, n] of the rows that are filled [b, n]."""
    leave, enter = filled.clone(), filled.clone()
    leave[:, 1] = False
    enter[:, 0] = False
    same = torch.eye(filled.shape[1], dtype=torch.bool, device=filled.device)
    possible = leave[:, :, None] & enter[:, None, :] & ~same
    # The destination comes next only when nothing else remains.
    possible[:, 0, 1] &= ~filled[:, 2:].any(1)
    reduced = costs.float().masked_fill(~possible, torch.inf)
    for dim in (2, 1):
        least = reduced.amin(dim, keepdim=True)
        reduced = reduced - least.masked_fill(torch.isinf(least), 0.0)
    near = reduced.topk(min(4, reduced.shape[2]), dim=2, largest=False, sorted=False).values
    known = torch.isfinite(near)
    scale = near.masked_fill(~known, 0.0).sum((1, 2)) / known.sum((1, 2)).clamp_min(1)
    mean = reduced.masked_fill(~possible, 0.0).sum((1, 2)) / filled.sum(1) ** 2
    scale = torch.maximum(scale, 1e-3 * mean).clamp_min(1e-30)[:, None, None]
    scaled = (reduced / scale).clamp_max(FAR)
    # Every row and column that counts has an entry 1, so that no sum vanishes.
    share = -scaled
    views = [scaled.log1p().masked_fill(~possible, 4.0)]
    for power in POWERS:
        share = power * share
        kernel = share.exp().masked_fill(~possible, 0.0)
        out = torch.ones_like(kernel[:, :, :1])
        into = torch.ones_like(out)
        for _ in range(rounds):
            out = 1.0 / (kernel @ into).clamp_min(1e-30)
            into = 1.0 / (kernel.transpose(1, 2) @ out).clamp_min(1e-30)
        share = share + out.log() + into.log().transpose(1, 2)
        views.append(share.clamp(RARE, 0.0).masked_fill(~possible, RARE) / 4.0)
    return torch.stack([v for view in views for v in (view, view.transpose(1, 2))], 3)
