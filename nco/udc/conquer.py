"""Conquerors beside the BQ policies: classical search on parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nco.bq.decoding import Stopped, never
from nco.bq.policies.tsp import TourPolicy
from nco.bq.state import Cut, Fields, State
from nco.instances.core import Distances, Instance


class CostPolicy(TourPolicy):
    """Tours and their parts measured by the instance itself, whatever its metric.

    Parameters
    ----------
    instances
        The tours' instances, by the field ``owner``.
    """

    name = "tsp"
    fields = ("owner",)

    def __init__(self, instances: Sequence[Instance[Any]]):
        self.distances: list[Distances] = [i.distances for i in instances]  # type: ignore[attr-defined]
        self.directed = not all(d.symmetric for d in self.distances)

    def length(self, fields: Fields, paths: Tensor, owner: Tensor | None = None) -> Tensor:
        """Lengths [b] of open paths [b, m]."""
        rows = fields["owner"] if owner is None else fields["owner"][owner]
        out = torch.empty(len(paths), dtype=torch.float64)
        for number, distances in enumerate(self.distances):
            mine = rows == number
            legs = paths[mine].numpy()
            costs = distances.pairs(legs[:, :-1], legs[:, 1:]).sum(1)
            out[mine] = torch.as_tensor(costs, dtype=torch.float64)
        return out

    def substate(self, fields: Fields, paths: Tensor, owner: Tensor | None = None) -> State:
        """Node numbers only; the search asks the instance for costs."""
        index = torch.cat([paths[:, :1], paths[:, -1:], paths[:, 1:-1]], 1)
        rows = fields["owner"] if owner is None else fields["owner"][owner]
        return State(index[..., None].double(), index, index[:, :0].double(), owner=rows)


@dataclass(frozen=True)
class OrOptConqueror:
    """Parts of tours by `nco.classical.local_search`: a descent, then kicks.

    Parameters
    ----------
    policy
        Measures tours of the instances: a `CostPolicy`, perhaps with regions.
    kicks
        Kicks per node of a part.
    """

    policy: Any
    kicks: float = 3.0

    device = torch.device("cpu")

    def conquer(self, cut: Cut, stop: Callable[[], bool] = never) -> Tensor:
        """New paths [parts, m] through the nodes of those cut out, -1 where they are shorter."""
        index = cut.state.index.numpy()
        link = np.zeros_like(index)
        if not cut.state.dense:
            link = cut.state.nodes[..., -1].long().abs().numpy()
        assert cut.state.owner is not None
        owner = cut.state.owner.tolist()
        new = np.full((len(index), index.shape[1] - 2), -1, dtype=np.int64)
        for row, nodes in enumerate(index):
            if stop():
                raise Stopped(torch.from_numpy(new[:row]) if row else None)
            known = np.flatnonzero(nodes >= 0)
            known = np.r_[known[0], known[2:], known[1]]
            path, ways = nodes[known], link[row, known]
            order = self._order(self.policy.distances[owner[row]], path, ways, row)
            # A fixed way is told by the end where it is entered.
            passed = np.r_[
                False, (ways[order[:-1]] > 0) & (path[order[1:]] + 1 == ways[order[:-1]])
            ]
            taken = path[order[~passed]][1:-1]
            new[row, : len(taken)] = taken
        return torch.from_numpy(new)

    def _order(
        self, distances: Distances, path: NDArray[Any], ways: NDArray[Any], seed: int
    ) -> NDArray[Any]:
        """Places of the path's nodes in a better order, ends and fixed ways as they are.

        Parameters
        ----------
        distances
            The instance's costs.
        path
            Node numbers in the order they have now [m].
        ways
            One more than the other end of the fixed way that a node is an end of, else 0 [m].
        seed
            Seed of the kicks.
        """
        from nco.classical.local_search import Costs, LocalSearch

        m = len(path)
        costs = distances.pairs(path[:, None], path[None, :]).astype(np.float64)
        scale = float(costs.max())
        same = np.arange(m)
        if m < 5 or not scale > 0.0:
            return same
        costs /= scale
        # The way from last to first closes the tour at a price that no detour outweighs;
        # so are fixed ways, whose first end stands before the second.
        head = np.flatnonzero((ways[:-1] > 0) & (path[1:] + 1 == ways[:-1]))
        head = np.r_[head, m - 1]
        tail = (head + 1) % m
        costs[head, tail] = -float(m)
        if not self.policy.directed:
            costs[tail, head] = -float(m)
        search = LocalSearch(Costs.of_matrix(costs), same, seed=seed, heat=0.0)
        search.descend()
        search.perturb(round(self.kicks * m))
        tour = search.tour
        tour = np.roll(tour, -int(np.flatnonzero(tour == 0)[0]))
        if tour[-1] != m - 1:
            tour = np.r_[tour[0], tour[:0:-1]]
        place = np.empty(m, dtype=np.int64)
        place[tour] = same
        gap = place[tail[:-1]] - place[head[:-1]]
        kept = (gap == 1) if self.policy.directed else (np.abs(gap) == 1)
        return tour if tour[-1] == m - 1 and kept.all() else same
