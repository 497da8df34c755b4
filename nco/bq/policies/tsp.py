"""BQ policy of the travelling salesman problem.

A state is an open path problem: from the current node (row 0) to the destination (row 1)
through all nodes that remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import BoolTensor, Tensor

from nco.bq.imitation import TSPTeacher
from nco.bq.state import Fields, State


@dataclass(frozen=True)
class TSPPolicy:
    """States, features and steps of the TSP with coordinates.

    Every step renormalises what the network sees: the quotient of the remaining problem
    by the similarities of the plane, under which the best path does not change.

    Parameters
    ----------
    shift
        Move the current node to the origin.
    scale
        Divide by the largest distance of a candidate from the current node.
    rotate
        Turn the destination (or the centroid, while the destination is the current node)
        into the direction of the first axis.
    reflect
        Flip the second axis so that the candidates lie on its positive side on average.
    distances
        Add the distances to the current node and to the destination to the features.
    """

    shift: bool = True
    scale: bool = True
    rotate: bool = True
    reflect: bool = True
    distances: bool = True

    name = "tsp"
    markers = 2
    actions_per_node = 1
    #: Whether neighbours in the label are targets for every pair of nodes.
    edges = True

    @property
    def node_dim(self) -> int:
        """Features per row."""
        return 4 if self.distances else 2

    def start(self, fields: Fields) -> State:
        """Whole instances: at node 0, which is also the destination.

        Parameters
        ----------
        fields
            ``coords`` [b, n, 2].
        """
        coords = fields["coords"]
        b, n = coords.shape[:2]
        low, high = coords.amin(1, keepdim=True), coords.amax(1, keepdim=True)
        # The unit box, in the precision of the input: float32 then holds any coordinates.
        size = (high - low).amax(2, keepdim=True).clamp_min(torch.finfo(coords.dtype).tiny)
        coords = ((coords - low) / size).float()
        index = torch.arange(n, device=coords.device).expand(b, n)
        return State(
            nodes=torch.cat([coords[:, :1], coords], 1),
            index=torch.cat([index[:, :1], index], 1),
            scalar=coords.new_zeros(b, 0),
        )

    def features(self, state: State) -> Tensor:
        """Coordinates in the frame of the path's ends, and distances to both ends."""
        return self.path_features(state.nodes, state.index >= 0)

    def path_features(self, nodes: Tensor, filled: Tensor) -> Tensor:
        """Features [b, n, node_dim] of points [b, n, 2], rows 0 and 1 being the ends."""
        x = nodes
        keep = filled[..., None].to(x.dtype)
        if self.shift:
            x = (x - x[:, :1]) * keep
        inner, ends = x[:, 2:], x[:, :2]
        tiny = 1e-9
        if self.scale:
            radius = torch.linalg.vector_norm(inner - ends[:, :1], dim=2).masked_fill(
                ~filled[:, 2:], 0.0
            )
            x = x / radius.amax(1).clamp_min(tiny)[:, None, None]
            # The destination may be far outside of what is looked at: beyond the unit
            # circle its distance is compressed to 1 + log.
            goal = x[:, 1] - x[:, 0]
            far = torch.linalg.vector_norm(goal, dim=1, keepdim=True)
            shrink = torch.where(far > 1.0, (1.0 + far.clamp_min(1.0).log()) / far, 1.0)
            x = torch.cat([x[:, :1], (x[:, 0] + goal * shrink)[:, None], x[:, 2:]], 1)
        if self.rotate:
            count = keep[:, 2:].sum(1).clamp_min(1.0)
            centre = ((x[:, 2:] - x[:, :1]) * keep[:, 2:]).sum(1) / count
            goal = x[:, 1] - x[:, 0]
            same = torch.linalg.vector_norm(goal, dim=1, keepdim=True) < 1e-6
            axis = torch.where(same, centre, goal)
            axis = axis + tiny * (axis == 0).all(1, keepdim=True)
            axis = axis / torch.linalg.vector_norm(axis, dim=1, keepdim=True)
            cos, sin = axis[:, None, 0], axis[:, None, 1]
            x = torch.stack(
                [x[..., 0] * cos + x[..., 1] * sin, x[..., 1] * cos - x[..., 0] * sin], 2
            )
        if self.reflect:
            side = ((x[:, 2:, 1] - x[:, :1, 1]) * keep[:, 2:, 0]).sum(1, keepdim=True)
            sign = torch.where(side < 0, -1.0, 1.0).to(x.dtype)
            x = torch.stack([x[..., 0], x[..., 1] * sign], 2)
        if self.distances:
            near = torch.linalg.vector_norm(x - x[:, :1], dim=2, keepdim=True)
            rest = torch.linalg.vector_norm(x - x[:, 1:2], dim=2, keepdim=True)
            x = torch.cat([x, near, rest], 2)
        return x * keep

    def mask(self, state: State) -> BoolTensor:
        """Every node that remains may be next."""
        allowed = state.index >= 0
        allowed[:, : self.markers] = False
        return allowed  # type: ignore[return-value]

    def step(self, state: State, action: Tensor) -> State:
        """Move to the chosen rows [b]."""
        row = action[:, None]
        index = state.index.clone()
        index[:, :1] = index.gather(1, row)
        index.scatter_(1, row, -1)
        nodes = state.nodes.clone()
        nodes[:, :1] = nodes.gather(1, row[..., None].expand(-1, -1, nodes.shape[2]))
        return State(nodes, index, state.scalar)

    def nearness(self, state: State) -> Tensor:
        """Minus the squared distance from the current node."""
        d = state.nodes - state.nodes[:, :1]
        return -(d * d).sum(2)

    def substate(self, fields: Fields, paths: Tensor) -> State:
        """Open paths with fixed ends: the best way from first to last node of each.

        Parameters
        ----------
        fields
            ``coords`` [b, n, 2].
        paths
            Node numbers [b, m], m >= 2; the first is current, the last the destination.
        """
        paths = torch.cat([paths[:, :1], paths[:, -1:], paths[:, 1:-1]], 1)
        coords = fields["coords"]
        nodes = coords.gather(1, paths[..., None].expand(-1, -1, 2)).float()
        return State(nodes, paths, nodes.new_zeros(len(paths), 0))

    def cost(self, fields: Fields, actions: Tensor) -> Tensor:
        """Tour lengths [b], node 0 being where the tour starts."""
        tour = torch.cat([torch.zeros_like(actions[:, :1]), actions], 1)
        points = fields["coords"].double().gather(1, tour[..., None].expand(-1, -1, 2))
        return torch.linalg.vector_norm(points - points.roll(-1, 1), dim=2).sum(1)

    def solution(self, actions: Sequence[int] | Any) -> list[int]:
        """The tour, from node 0."""
        return [0, *(int(a) for a in actions)]

    def actions(self, fields: Fields, solution: Sequence[int]) -> Tensor:
        """The nodes after node 0, in the order of the tour."""
        tour = torch.as_tensor(solution, dtype=torch.int64)
        return tour.roll(-int((tour == 0).nonzero()[0, 0]))[1:]


POLICY = TSPPolicy
TEACHER = TSPTeacher()
