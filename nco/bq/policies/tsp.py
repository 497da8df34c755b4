"""BQ policy of the travelling salesman problem.

A state is an open path problem: from the current node (row 0) to the destination (row 1)
through all nodes that remain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nco.bq.imitation import TSPTeacher, tour_actions
from nco.bq.plane import PlaneFrame, dihedral, points_of, unit_box
from nco.bq.recombine import recombined
from nco.bq.state import Cut, Fields, State, places_of


def view_start(view: int, n: int) -> int:
    """The node that a view starts at; n views in a row start at n different ones.

    Golden-ratio steps spread the starts of few views; where they come round early, the next
    round starts one node further on.
    """
    step = max(1, round(0.382 * n))
    return (view * step + view // (n // math.gcd(step, n))) % n


class TourPolicy:
    """What policies of closed tours through all nodes share, however their legs are measured."""

    markers = 2
    actions_per_node = 1
    #: Whether paths may not be turned round.
    directed = False
    #: Whether it is shown where fixed ways of regions lead.
    ways = False
    #: Whether of what is decided anew only the changes that pay are made, see `recombine`.
    mixes = True

    def length(self, fields: Fields, paths: Tensor, owner: Tensor | None = None) -> Tensor:
        """Costs [b] of open paths [b, m], in float64."""
        raise NotImplementedError

    def places(self, fields: Fields, nodes: Tensor, owner: Tensor) -> Tensor | None:
        """Where nodes [parts, m] of instances [parts] are [parts, m, d]; None if nobody knows."""
        return None

    def substate(self, fields: Fields, paths: Tensor, owner: Tensor | None = None) -> State:
        """Open paths with fixed ends: the best way from first to last node of each.

        Parameters
        ----------
        fields
            Arrays of the instances.
        paths
            Node numbers [parts, m], m >= 2; the first is current, the last the destination.
        owner
            Instance of each path [parts]; None for one path per instance, in order.
        """
        raise NotImplementedError

    def mask(self, state: State) -> Tensor:
        """Every node that remains may be next."""
        allowed = state.index >= 0
        allowed[:, : self.markers] = False
        return allowed

    def step(self, state: State, action: Tensor) -> State:
        """Move to the chosen rows [b]."""
        return state.visit(action)

    def record(self, start: State, actions: Tensor) -> Tensor:
        """The nodes after node 0, in the order of the tour."""
        return tour_actions(torch.cat([start.index[:, :1], actions], 1))

    def cost(self, fields: Fields, actions: Tensor) -> Tensor:
        """Tour lengths [b]."""
        tour = self.tour(actions)
        return self.length(fields, torch.cat([tour, tour[:, :1]], 1))

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

    def windows(self, tour: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Paths with ``size`` inner nodes that tours [b, n] are cut into, from a random place.

        Returns
        -------
        The tour of every path [parts], and the places in it of the path's nodes [parts,
        size + 2]. Neighbouring paths share an end.
        """
        b, n = tour.shape
        parts = n // (size + 1)
        device = tour.device
        offset = torch.randint(0, n, (b, 1, 1), generator=generator, device=device)
        way = 1 - 2 * torch.randint(0, 2, (b, 1, 1), generator=generator, device=device)
        if self.directed:
            way = torch.ones_like(way)
        begin = torch.arange(parts, device=device)[:, None] * (size + 1)
        place = (offset + way * (begin + torch.arange(size + 2, device=device))) % n
        owner = torch.arange(b, device=device).repeat_interleave(parts)
        return owner, place.view(b * parts, size + 2)

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """All tours in paths of ``size`` inner nodes from a random place.

        Their direction is random unless the problem is directed. The ends stay;
        neighbouring paths share an end, so every path can change.
        """
        tour = self.tour(actions)
        size = min(size, tour.shape[1] - 1)
        if size < 2:
            return None
        owner, place = self.windows(tour, size, generator)
        paths = tour[owner[:, None], place]
        cost = self.length(fields, paths, owner)
        return Cut(self.substate(fields, paths, owner), owner, cost, place)

    def lengths(self, fields: Fields, begin: Tensor, end: Tensor, owner: Tensor) -> Tensor:
        """Costs [parts, m] from nodes to nodes, both of that shape, of instances [parts]."""
        pairs = torch.stack([begin.flatten(), end.flatten()], 1)
        who = owner.repeat_interleave(begin.shape[1])
        return self.length(fields, pairs, who).view(begin.shape)

    def recombine(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """The new paths with those changes only that pay, see `nco.bq.recombine`."""
        old = cut.state.index[:, 2:]
        if not self.mixes or new.shape[1] > old.shape[1]:
            return new
        new = F.pad(new, (0, old.shape[1] - new.shape[1]), value=-1)
        place = torch.arange(1, old.shape[1] + 1, device=old.device)
        inner = torch.where(new < 0, place, places_of(new, old)[0] + 1)
        count = (old >= 0).sum(1, keepdim=True)
        order = F.pad(inner, (1, 1))
        order[:, -1] = order.shape[1] - 1
        paths = []
        for nodes in (old, new):
            path = F.pad(torch.cat([cut.state.index[:, :1], nodes], 1), (0, 1), value=0)
            paths.append(path.scatter(1, count + 1, cut.state.index[:, 1:2]).clamp_min(0))
        legs = [self.lengths(fields, p[:, :-1], p[:, 1:], cut.owner) for p in paths]
        order = recombined(order, count[:, 0] + 2, *legs)[:, 1:-1]
        mixed = paths[0].gather(1, order)
        return mixed.masked_fill(place > count, -1)

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """Lengths [parts] of the new paths."""
        index = cut.state.index
        return self.length(fields, torch.cat([index[:, :1], new, index[:, 1:2]], 1), cut.owner)

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Tours with the better paths put in."""
        tour = self.tour(actions)
        inner = cut.place[:, 1:-1]
        owner = cut.owner[:, None]
        tour[owner, inner] = torch.where(better[:, None], new, tour[owner, inner])
        return tour_actions(tour)


@dataclass(frozen=True)
class TSPPolicy(PlaneFrame, TourPolicy):
    """States, features and steps of the TSP with coordinates.

    Parameters
    ----------
    ways
        Show where fixed ways lead: states of regions (`nco.bq.regions`) have the coordinates
        of the other end behind a node's own, or the node's own once more where it is the end
        of none.
    """

    ways: bool = False

    name = "tsp"
    #: What it reads of an instance.
    fields = ("coords",)
    #: Every view starts elsewhere.
    views = 0

    @property
    def node_dim(self) -> int:
        """Features per row."""
        shown = super().node_dim
        return 2 * shown + 1 if self.ways else shown

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
        coords = dihedral(unit_box(coords), view)
        index = torch.arange(n, device=coords.device).expand(b, n)
        if view:
            index = index.roll(-view_start(view, n), 1)
            coords = coords.gather(1, index[..., None].expand(-1, -1, 2))
        return State(
            nodes=torch.cat([coords[:, :1], coords], 1),
            index=torch.cat([index[:, :1], index], 1),
            scalar=coords.new_zeros(b, 0),
        )

    def features(self, state: State) -> Tensor:
        """Coordinates in the frame of the path's ends, and distances to both ends."""
        points, filled = state.nodes[..., :2], state.index >= 0
        if not self.ways:
            return self.see(points, filled)
        others = state.nodes[..., 2:4] if state.nodes.shape[2] > 2 else None
        return torch.cat(self.see_ways(points, filled, others, None), 2)

    def price(self, state: State, action: Tensor) -> Tensor:
        """Length of the moves [b]."""
        chosen = state.nodes.gather(1, action[:, None, None].expand(-1, -1, 2))
        length = torch.linalg.vector_norm(chosen - state.nodes[:, :1, :2], dim=2)[:, 0]
        last = (state.index >= 0).sum(1) == self.markers + 1
        goal = state.nodes[:, 1, :2]
        return length + last * torch.linalg.vector_norm(chosen[:, 0] - goal, dim=1)

    def nearness(self, state: State) -> Tensor:
        """Minus the squared distance from the current node."""
        d = state.nodes[..., :2] - state.nodes[:, :1, :2]
        return -(d * d).sum(2)

    def substate(self, fields: Fields, paths: Tensor, owner: Tensor | None = None) -> State:
        """As `TourPolicy.substate`; the fields are ``coords`` [b, n, 2]."""
        paths = torch.cat([paths[:, :1], paths[:, -1:], paths[:, 1:-1]], 1)
        nodes = points_of(fields, paths, owner)
        # Float32 relative to the path's own start holds far-away coordinates.
        nodes = (nodes - nodes[:, :1]).float()
        return State(nodes, paths, nodes.new_zeros(len(paths), 0))

    def length(self, fields: Fields, paths: Tensor, owner: Tensor | None = None) -> Tensor:
        """Lengths [b] of open paths [b, m], in float64."""
        points = points_of(fields, paths, owner)
        return torch.linalg.vector_norm(points.diff(dim=1), dim=2).sum(1)

    def places(self, fields: Fields, nodes: Tensor, owner: Tensor) -> Tensor:
        """Their coordinates, in float64."""
        return points_of(fields, nodes, owner)


POLICY = TSPPolicy
TEACHER = TSPTeacher
