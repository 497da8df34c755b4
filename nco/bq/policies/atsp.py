"""BQ policy of travelling salesman problems that are given by a cost matrix.

A state is an open path problem, as for the TSP; pairs of nodes are seen, not places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nco.bq.imitation import ATSPTeacher
from nco.bq.matrix import MatrixFrame
from nco.bq.policies.tsp import TourPolicy, view_start
from nco.bq.state import Fields, State


@dataclass(frozen=True)
class ATSPPolicy(MatrixFrame, TourPolicy):
    """States, features and steps of the TSP with a cost matrix, symmetric or not."""

    name = "atsp"
    #: What it reads of an instance.
    fields = ("matrix",)
    directed = True
    mixes = False
    #: Every view starts elsewhere.
    views = 0

    def start(self, fields: Fields, view: int = 0) -> State:
        """Whole instances: at one node, which is also the destination.

        Parameters
        ----------
        fields
            ``matrix`` [b, n, n].
        view
            Views differ in that node; view 0 starts at node 0.
        """
        dist = fields["matrix"].float()
        b, n = dist.shape[:2]
        index = torch.arange(n, device=dist.device).expand(b, n)
        index = index.roll(-view_start(view, n), 1)
        return self._state(torch.cat([index[:, :1], index], 1), dist, None)

    def _state(self, index: Tensor, dist: Tensor, owner: Tensor | None) -> State:
        b, n = index.shape
        owner = torch.arange(b, device=index.device) if owner is None else owner
        empty = dist.new_zeros(b, n, 0)
        return State(empty, index, dist.new_zeros(b, 0), dist=dist, owner=owner)

    def price(self, state: State, action: Tensor) -> Tensor:
        """Costs of the moves [b]."""
        chosen = state.index.gather(1, action[:, None])
        cost = state.costs(state.index[:, :1], chosen)
        last = (state.index >= 0).sum(1) == self.markers + 1
        return (cost + last[:, None] * state.costs(chosen, state.index[:, 1:2]))[:, 0]

    def nearness(self, state: State) -> Tensor:
        """Minus the cost from the current node."""
        return -state.costs(state.index[:, :1], state.index)

    def substate(self, fields: Fields, paths: Tensor, owner: Tensor | None = None) -> State:
        """As `TourPolicy.substate`; the fields are ``matrix`` [b, n, n]."""
        paths = torch.cat([paths[:, :1], paths[:, -1:], paths[:, 1:-1]], 1)
        return self._state(paths, fields["matrix"].float(), owner)

    def length(self, fields: Fields, paths: Tensor, owner: Tensor | None = None) -> Tensor:
        """Costs [b] of open paths [b, m], in float64."""
        owner = torch.arange(len(paths), device=paths.device) if owner is None else owner
        legs = fields["matrix"][owner[:, None], paths[:, :-1], paths[:, 1:]]
        return legs.double().sum(1)


POLICY = ATSPPolicy
TEACHER = ATSPTeacher
