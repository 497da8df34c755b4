"""BQ policy of the travelling salesman problem.

A state is an open path problem: from the current node (row 0) to the destination (row 1)
through all nodes that remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nco.bq.imitation import TSPTeacher, tour_actions
from nco.bq.plane import PlaneFrame, dihedral, points_of, unit_box
from nco.bq.state import Cut, Fields, State, gather_parts


class TourPolicy:
    """What policies of closed tours through all nodes share, however their legs are measured."""

    markers = 2
    actions_per_node = 1
    #: Whether paths may not be turned round.
    directed = False

    def length(self, fields: Fields, paths: Tensor, owner: Tensor | None = None) -> Tensor:
        """Costs [b] of open paths [b, m], in float64."""
        raise NotImplementedError

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
    """States, features and steps of the TSP with coordinates."""

    name = "tsp"
    #: What it reads of an instance.
    fields = ("coords",)
    #: Every view starts elsewhere.
    views = 0

    @property
    def regions(self) -> TSPRegions:
        """Takes regions out of tours, instead of paths."""
        return TSPRegions(**asdict(self))

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
        return self.see(state.nodes, state.index >= 0)

    def price(self, state: State, action: Tensor) -> Tensor:
        """Length of the moves [b]."""
        chosen = state.nodes.gather(1, action[:, None, None].expand(-1, -1, 2))
        length = torch.linalg.vector_norm(chosen - state.nodes[:, :1], dim=2)[:, 0]
        last = (state.index >= 0).sum(1) == self.markers + 1
        return length + last * torch.linalg.vector_norm(chosen[:, 0] - state.nodes[:, 1], dim=1)

    def nearness(self, state: State) -> Tensor:
        """Minus the squared distance from the current node."""
        d = state.nodes - state.nodes[:, :1]
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


def cells(points: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Cells [b, n] of about ``size`` near points [b, n, 2] each, along strips of the turned plane.

    Numbers are below ``n // size + 2``.
    """
    b, n = points.shape[:2]
    device = points.device
    turn, shift = torch.rand(2, b, 1, generator=generator, device=device, dtype=points.dtype)
    angle = 2 * torch.pi * turn
    x = points[..., 0] * angle.cos() - points[..., 1] * angle.sin()
    y = points[..., 0] * angle.sin() + points[..., 1] * angle.cos()
    strips = max(1, round((n / size) ** 0.5))
    strip = (x.argsort(1).argsort(1) * (strips / n) + shift).long()
    # To and fro, so that cells at the end of a strip hold together.
    order = torch.where(strip % 2 == 1, -y, y).argsort(1)
    order = order.gather(1, strip.gather(1, order).argsort(dim=1, stable=True))
    number = torch.arange(n, device=device).expand(b, -1)
    place = torch.empty_like(order).scatter_(1, order, number)
    offset = torch.randint(0, size, (b, 1), generator=generator, device=device)
    return (place + offset) // size


def cycle(begin: NDArray[Any], end: NDArray[Any]) -> NDArray[Any] | None:
    """The nodes 0..n-1 in the order of a tour from its n legs, or None if these are several."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import depth_first_order

    n = len(begin)
    graph = coo_array((np.ones(n, dtype=np.int8), (begin, end)), shape=(n, n)).tocsr()
    order = depth_first_order(graph, 0, directed=False, return_predecessors=False)
    return order if len(order) == n else None


@dataclass(frozen=True)
class TSPRegions(TSPPolicy):
    """Regions of tours, where the rest of the tour is a number of fixed pieces.

    A state is a path through the nodes of a region and through the pieces outside. A piece
    shows as its two ends; whoever comes to one of them goes on from the other. Its nodes
    have a third column, the number of the other end. Unlike a path that is cut from a tour,
    this lets pieces change their order and direction, as K. Li, F. Liu, Z. Wang and
    Q. Zhang, Destroy and repair using hyper-graphs for routing (AAAI 2025), do with a
    network that is trained for it; here any policy of the TSP decides.
    """

    def features(self, state: State) -> Tensor:
        """As `TSPPolicy.features`."""
        return super().features(replace(state, nodes=state.nodes[..., :2]))

    def nearness(self, state: State) -> Tensor:
        """As `TSPPolicy.nearness`."""
        return super().nearness(replace(state, nodes=state.nodes[..., :2]))

    def step(self, state: State, action: Tensor) -> State:
        """Move to the chosen rows [b], and from the end of a piece to its other end."""
        after = state.visit(action)
        here, there = after.index[:, :1], after.nodes[:, :1, 2].long()
        rows = torch.arange(after.width, device=here.device)
        other = (after.index == there) & (rows >= self.markers)
        at = other.int().argmax(1)[:, None, None].expand(-1, -1, 3)
        nodes, index = after.nodes.clone(), after.index.masked_fill(other, -1)
        nodes[:, :1] = torch.where((here != there)[..., None], nodes.gather(1, at), nodes[:, :1])
        index[:, :1] = there
        return replace(after, index=index, nodes=nodes)

    def price(self, state: State, action: Tensor) -> Tensor:
        """Length of the moves [b], what is fixed left out."""
        points, after = state.nodes[..., :2], self.step(state, action)
        chosen = points.gather(1, action[:, None, None].expand(-1, -1, 2))[:, 0]
        last = (after.index[:, self.markers :] < 0).all(1)
        home = torch.linalg.vector_norm(after.nodes[:, 0, :2] - points[:, 1], dim=1)
        return torch.linalg.vector_norm(chosen - points[:, 0], dim=1) + last * home

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """All tours in regions of up to ``size`` nodes; None for less than ten times as many."""
        tour = self.tour(actions)
        n = tour.shape[1]
        if n < 10 * size:
            return None
        label = cells(points_of(fields, tour), size, generator)
        # A leg between two regions would belong to both.
        after = label.roll(-1, 1)
        label = label.masked_fill((label != after).roll(1, 1), -1)
        count = n // size + 2
        part, place = gather_parts(label, count)
        owner, known = part // count, place >= 0
        number = torch.arange(place.shape[1], device=tour.device)
        last = number == known.sum(1, keepdim=True) - 1
        follow = torch.where(last, place[:, :1] + n, place.roll(-1, 1))
        gap = torch.where(known, follow - place - 1, -1)
        # The longest piece stays where it is: paths lead from its end to its begin.
        rest = gap.argmax(1, keepdim=True)

        def at(place: Tensor) -> Tensor:
            return tour[owner[:, None], place % n]

        def leg(place: Tensor) -> Tensor:
            ends = torch.stack([at(place), at(place + 1)], 2).flatten(0, 1)
            return self.length(fields, ends, owner.repeat_interleave(place.shape[1])).view_as(place)

        piece = (gap > 0) & (number != rest)
        begin = at(follow.gather(1, rest) - 1)
        end = at(place.gather(1, rest) + 1)
        first = torch.where(piece, at(place + 1), -1)
        final = torch.where(piece, at(follow - 1), -1)
        inner = torch.where(known, at(place), -1)
        index = torch.cat([begin, end, inner, first, final.masked_fill(gap == 1, -1)], 1)
        other = torch.cat([begin, end, inner, final, first], 1)
        points = points_of(fields, index.clamp_min(0), owner)
        # Float32 relative to the path's own start holds far-away coordinates.
        nodes = torch.cat([(points - points[:, :1]).float(), other[..., None].float()], 2)
        state = State(nodes, index, nodes.new_zeros(len(index), 0), dense=False)
        cost = (leg(place) * known).sum(1) + (leg(follow - 1) * (gap > 0)).sum(1)
        broken = torch.cat([place, torch.where(gap > 0, (follow - 1) % n, -1)], 1)
        return Cut(state.compact(self.markers), owner, cost, broken)

    def legs(self, cut: Cut, new: Tensor) -> tuple[Tensor, Tensor]:
        """Begin and end [parts, steps + 1] of the legs that new paths bring, filled up with -1."""
        index, other = cut.state.index, cut.state.nodes[..., 2].long()
        known = new >= 0
        row = (index[:, None, self.markers :] == new[..., None]).int().argmax(2) + self.markers
        left = torch.where(known, other.gather(1, row), -1)
        place = torch.arange(new.shape[1] + 1, device=new.device)
        come = torch.nn.functional.pad(new, (0, 1), value=-1)
        come = torch.where(place == known.sum(1, keepdim=True), index[:, 1:2], come)
        return torch.cat([index[:, :1], left], 1), come

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """Lengths [parts] of the new legs."""
        begin, end = self.legs(cut, new)
        ends = torch.stack([begin, end], 2).clamp_min(0).flatten(0, 1)
        owner = cut.owner.repeat_interleave(begin.shape[1])
        return (self.length(fields, ends, owner).view_as(begin) * (begin >= 0)).sum(1)

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Tours with those better regions put in that leave one tour together.

        A region leaves one tour alone, but two of them may not. Where all together do not,
        the half of them that gains most is tried first, and so on.
        """
        gain = cut.cost - self.part_cost(fields, cut, new)
        # What is as it was may differ in the last digits.
        better = better & (gain > 1e-9 * cut.cost)
        tours = self.tour(actions).cpu().numpy()
        chosen = better.nonzero()[:, 0]
        parts = chosen[gain[chosen].argsort(descending=True)].cpu().numpy()
        owner, broken = cut.owner.cpu().numpy(), cut.place.cpu().numpy()
        begin, end = (ends.cpu().numpy() for ends in self.legs(cut, new))
        for i in np.unique(owner[parts]):
            tour, after = tours[i], np.roll(tours[i], -1)
            kept, links = np.ones(len(tour), dtype=bool), np.empty((2, 0), dtype=np.int64)
            todo = [parts[owner[parts] == i]]
            while todo:
                some = todo.pop()
                now, places = kept.copy(), broken[some]
                now[places[places >= 0]] = False
                some_begin, some_end = begin[some], end[some]
                fresh = np.stack([some_begin[some_begin >= 0], some_end[some_end >= 0]])
                fresh = np.concatenate([links, fresh], axis=1)
                legs = np.concatenate([np.stack([tour, after])[:, now], fresh], axis=1)
                order = cycle(*legs)
                if order is not None:
                    kept, links, tours[i] = now, fresh, order
                elif len(some) > 1:
                    half = len(some) // 2
                    todo += [some[half:], some[:half]]
        return tour_actions(torch.as_tensor(tours, device=actions.device))


POLICY = TSPPolicy
TEACHER = TSPTeacher
