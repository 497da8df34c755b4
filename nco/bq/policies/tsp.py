"""BQ policy of the travelling salesman problem.

A state is an open path problem: from the current node (row 0) to the destination (row 1)
through all nodes that remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nco.bq.imitation import TSPTeacher
from nco.bq.state import Cut, Fields, State


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
    dense = True

    @property
    def node_dim(self) -> int:
        """Features per row."""
        return 4 if self.distances else 2

    def start(self, fields: Fields, view: int = 0) -> State:
        """Whole instances: at one node, which is also the destination.

        Views differ in that node, and in the symmetry of the square under which the plane
        is seen (which makes no difference to a policy that turns and flips it itself).

        Parameters
        ----------
        fields
            ``coords`` [b, n, 2].
        view
            View 0 starts at node 0.
        """
        coords = fields["coords"]
        b, n = coords.shape[:2]
        low, high = coords.amin(1, keepdim=True), coords.amax(1, keepdim=True)
        # The unit box, in the precision of the input: float32 then holds any coordinates.
        size = (high - low).amax(2, keepdim=True).clamp_min(torch.finfo(coords.dtype).tiny)
        coords = dihedral(((coords - low) / size).float(), view)
        index = torch.arange(n, device=coords.device).expand(b, n)
        if view:
            # Golden-ratio steps spread the starts of any number of views.
            index = index.roll(-((view * max(1, round(0.382 * n))) % n), 1)
            coords = coords.gather(1, index[..., None].expand(-1, -1, 2))
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

    def mask(self, state: State) -> Tensor:
        """Every node that remains may be next."""
        allowed = state.index >= 0
        allowed[:, : self.markers] = False
        return allowed

    def step(self, state: State, action: Tensor) -> State:
        """Move to the chosen rows [b]."""
        return state.visit(action)

    def price(self, state: State, action: Tensor) -> Tensor:
        """Length of the moves [b]."""
        chosen = state.nodes.gather(1, action[:, None, None].expand(-1, -1, 2))
        length = torch.linalg.vector_norm(chosen - state.nodes[:, :1], dim=2)[:, 0]
        if state.width == self.markers + 1:
            length = length + torch.linalg.vector_norm(chosen[:, 0] - state.nodes[:, 1], dim=1)
        return length

    def nearness(self, state: State) -> Tensor:
        """Minus the squared distance from the current node."""
        d = state.nodes - state.nodes[:, :1]
        return -(d * d).sum(2)

    def substate(self, fields: Fields, paths: Tensor, owner: Tensor | None = None) -> State:
        """Open paths with fixed ends: the best way from first to last node of each.

        Parameters
        ----------
        fields
            ``coords`` [b, n, 2].
        paths
            Node numbers [parts, m], m >= 2; the first is current, the last the destination.
        owner
            Instance of each path [parts]; None for one path per instance, in order.
        """
        paths = torch.cat([paths[:, :1], paths[:, -1:], paths[:, 1:-1]], 1)
        nodes = _points(fields, paths, owner)
        # Float32 relative to the path's own start holds far-away coordinates.
        nodes = (nodes - nodes[:, :1]).float()
        return State(nodes, paths, nodes.new_zeros(len(paths), 0))

    def record(self, start: State, actions: Tensor) -> Tensor:
        """The nodes after node 0, in the order of the tour."""
        tour = torch.cat([start.index[:, :1], actions], 1)
        n = tour.shape[1]
        zero = (tour == 0).int().argmax(1, keepdim=True)
        place = torch.arange(1, n, device=tour.device)
        return tour.gather(1, (zero + place) % n)

    def cost(self, fields: Fields, actions: Tensor) -> Tensor:
        """Tour lengths [b]."""
        points = _points(fields, self.tour(actions))
        return torch.linalg.vector_norm(points - points.roll(-1, 1), dim=2).sum(1)

    def tour(self, actions: Tensor) -> Tensor:
        """Tours [b, n] of recorded actions, from node 0."""
        return torch.cat([torch.zeros_like(actions[:, :1]), actions], 1)

    def solution(self, actions: Sequence[int]) -> list[int]:
        """The tour, from node 0."""
        return [0, *(int(a) for a in actions)]

    def actions(self, fields: Fields, solution: Sequence[int]) -> Tensor:
        """The nodes after node 0, in the order of the tour."""
        tour = torch.as_tensor(solution, dtype=torch.int64)
        return tour.roll(-int((tour == 0).nonzero()[0, 0]))[1:]

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """All tours in paths of ``size`` inner nodes from a random place, in a random direction.

        The ends stay; neighbouring paths share an end, so every path can change.
        """
        tour = torch.cat([torch.zeros_like(actions[:, :1]), actions], 1)
        b, n = tour.shape
        size = min(size, n - 1)
        if size < 2:
            return None
        parts = n // (size + 1)
        device = tour.device
        offset = torch.randint(0, n, (b, 1, 1), generator=generator, device=device)
        way = 1 - 2 * torch.randint(0, 2, (b, 1, 1), generator=generator, device=device)
        begin = torch.arange(parts, device=device)[:, None] * (size + 1)
        place = (offset + way * (begin + torch.arange(size + 2, device=device))) % n
        place = place.view(b * parts, size + 2)
        owner = torch.arange(b, device=device).repeat_interleave(parts)
        paths = tour[owner].gather(1, place)
        points = _points(fields, paths, owner)
        cost = torch.linalg.vector_norm(points.diff(dim=1), dim=2).sum(1)
        return Cut(self.substate(fields, paths, owner), owner, cost, place)

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """Lengths [parts] of the new paths."""
        index = cut.state.index
        points = _points(fields, torch.cat([index[:, :1], new, index[:, 1:2]], 1), cut.owner)
        return torch.linalg.vector_norm(points.diff(dim=1), dim=2).sum(1)

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Tours with the better paths put in."""
        tour = torch.cat([torch.zeros_like(actions[:, :1]), actions], 1)
        inner = cut.place[:, 1:-1]
        old = tour[cut.owner].gather(1, inner)
        owner = cut.owner[:, None].expand_as(inner)
        tour[owner, inner] = torch.where(better[:, None], new, old)
        return self.record(State(tour[..., None], tour, tour[:, :0]), tour[:, 1:])


def dihedral(points: Tensor, view: int) -> Tensor:
    """Points [b, n, 2] of the unit square under one of its eight symmetries."""
    if view & 1:
        points = torch.stack([1.0 - points[..., 0], points[..., 1]], 2)
    if view & 2:
        points = torch.stack([points[..., 0], 1.0 - points[..., 1]], 2)
    return points.flip(2) if view & 4 else points


def _points(fields: Fields, nodes: Tensor, owner: Tensor | None = None) -> Tensor:
    """Coordinates [b, m, 2] of nodes [b, m], in float64."""
    coords = fields["coords"].double()
    if owner is not None:
        return coords[owner[:, None], nodes]
    return coords.gather(1, nodes[..., None].expand(-1, -1, 2))


POLICY = TSPPolicy
TEACHER = TSPTeacher()
