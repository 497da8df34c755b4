"""BQ policy of the orienteering problem.

A state is a path from the current node (row 0) to the destination (row 1) that may be no
longer than what is left of the limit, with the customers that it can still visit. As no
prize is negative, it ends when there are none.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nco.bq.imitation import OPTeacher, op_priority
from nco.bq.plane import PlaneFrame, points_of
from nco.bq.recombine import Trade, Visits, revisited
from nco.bq.state import Cut, Fields, State, gather_parts, packed, places_of

#: Worth of the whole length limit, in largest prizes: of equal prizes the shorter way wins.
TIE = 1e-9


class SubsetPolicy(PlaneFrame):
    """What policies of one tour through some of the customers share.

    A state is a path from the current node (row 0) to the destination (row 1). Coordinates
    and lengths are float64, so that what is allowed here is allowed in the instance.
    """

    markers = 2
    actions_per_node = 1
    #: Fields of one number per node that states hold beside the coordinates.
    values: ClassVar[tuple[str, ...]]

    @abstractmethod
    def left(self, fields: Fields) -> Tensor:
        """The scalar [b] of whole instances: what is left of the limit, or still due."""

    @abstractmethod
    def used(
        self, fields: Fields, path: Tensor, owner: Tensor, first: Tensor, last: Tensor
    ) -> Tensor:
        """What parts of tours use up of the limit, or collect of what is due [parts].

        Parameters
        ----------
        fields
            As for `start`.
        path
            Tours [b, m] from the depot on, filled up with the depot.
        owner
            The tour of every part [parts].
        first, last
            Places of the parts' ends [parts].
        """

    @abstractmethod
    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """As `nco.bq.state.Policy.part_cost`."""

    def start(self, fields: Fields, view: int = 0) -> State:
        """Whole instances: at the depot, to which one returns.

        Parameters
        ----------
        fields
            ``coords`` [b, n + 1, 2] and what else the policy reads.
        view
            Number of a symmetry of the square under which the plane is seen.
        """
        b, rows = fields["coords"].shape[:2]
        every = torch.arange(1, rows, device=fields["coords"].device).expand(b, -1)
        depot = torch.zeros_like(every[:, :1])
        state = self.substate(fields, depot, depot, every, self.left(fields))
        points, values = state.nodes[..., :2], state.nodes[..., 2:]
        signs = points.new_tensor([1 - 2 * (view & 1), 1 - (view & 2)])
        points = points * signs
        points = points.flip(2) if view & 4 else points
        return replace(state, nodes=torch.cat([points, values], 2))

    def substate(
        self,
        fields: Fields,
        begin: Tensor,
        end: Tensor,
        customers: Tensor,
        left: Tensor,
        owner: Tensor | None = None,
    ) -> State:
        """Paths between two nodes through some of the customers.

        Parameters
        ----------
        fields
            As for `start`.
        begin, end
            Nodes [parts, 1].
        customers
            Their numbers [parts, m], filled up with -1.
        left
            What is left of the limit, or still due [parts].
        owner
            Instance of each part [parts]; None for one part per instance, in order.
        """
        owner = torch.arange(len(customers), device=customers.device) if owner is None else owner
        index = torch.cat([begin, end, customers], 1)
        at = index.clamp_min(0)
        # Relative to the destination, so that far-away coordinates lose nothing.
        points = points_of(fields, at, owner)
        values = [fields[name].double()[owner[:, None], at] for name in self.values]
        nodes = torch.cat([points - points[:, 1:2], torch.stack(values, 2)], 2)
        return self._fitting(State(nodes, index, left[:, None], dense=False))

    def _fitting(self, state: State) -> State:
        """Without the customers that can no longer be visited."""
        return state

    def record(self, start: State, actions: Tensor) -> Tensor:
        """All views begin alike."""
        return actions

    def total(
        self, fields: Fields, name: str, nodes: Tensor, owner: Tensor | None = None
    ) -> Tensor:
        """Sums [b] of a field over the customers among some nodes [b, m]."""
        owner = torch.arange(len(nodes), device=nodes.device) if owner is None else owner
        return self.of_visits(fields, name, nodes, owner).sum(1)

    @staticmethod
    def of_visits(fields: Fields, name: str, nodes: Tensor, owner: Tensor) -> Tensor:
        """A field of the customers among some nodes [b, m] of instances [b]; 0 of all others."""
        values = fields[name].double()[owner[:, None], nodes.clamp_min(0)]
        return values * (nodes > 0)

    def length(
        self,
        fields: Fields,
        begin: Tensor,
        inner: Tensor,
        end: Tensor,
        owner: Tensor | None = None,
    ) -> Tensor:
        """Lengths [b] of ways from node to node through the known of the inner ones [b, m]."""
        m = inner.shape[1]
        count = (inner >= 0).sum(1, keepdim=True)
        path = torch.cat([begin, inner, end], 1)
        place = torch.arange(1, m + 2, device=inner.device)
        path[:, 1:] = torch.where(place > count, end, path[:, 1:])
        legs = points_of(fields, path, owner).diff(dim=1)
        return torch.linalg.vector_norm(legs, dim=2).sum(1)

    def solution(self, actions: Sequence[int]) -> list[int]:
        """The customers in visiting order."""
        return [int(a) for a in actions if a > 0]

    def actions(self, fields: Fields, solution: Sequence[int]) -> Tensor:
        """The customers in visiting order."""
        return torch.as_tensor(solution, dtype=torch.int64)

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """Paths of up to ``size`` inner nodes of every tour, from a random place.

        Of a tour that is no longer than that, one path, of any length, which may go through
        all customers that the rest of the tour does not visit. Longer tours are cut into
        paths of that size; each may also go through the customers that the tour leaves out
        and to which its nodes are the nearest. Every path may use as much of the limit as
        it does now, or has to collect as much; what the whole tour leaves of the limit, or
        collects beyond what is due, is handed to one of its paths. The direction of every
        tour is random: a path is decided from either end.
        """
        b, steps = actions.shape
        device = actions.device
        back = torch.rand(b, generator=generator, device=device) < 0.5
        actions = turned(actions, back)
        path = torch.nn.functional.pad(actions.clamp_min(0), (1, 1))
        count = (actions > 0).sum(1)
        share = torch.rand(3, b, generator=generator, device=device)
        short = count <= size
        inner = torch.where(short, (share[0] * (count + 1)).long().clamp_max(count), size)
        # The first begins anywhere before its own length, so that ends are always others.
        room = torch.where(short, count - inner, (count - inner).clamp_max(size))
        begin = (share[1] * (room + 1)).long().clamp_max(room)
        parts = torch.where(short, 1, (count + 1 - begin) // (inner + 1))
        # Of every tour one part is handed what is over.
        lucky = (share[2] * parts).long().clamp_max(parts - 1)
        owner = torch.arange(b, device=device).repeat_interleave(parts)
        before = parts.cumsum(0) - parts
        number = torch.arange(len(owner), device=device) - before[owner]
        first = begin[owner] + number * (inner[owner] + 1)
        last = first + inner[owner] + 1
        own = self.used(fields, path, owner, first, last)
        every = torch.arange(b, device=device)
        whole = self.used(fields, path, every, 0 * every, 0 * every + steps + 1)
        over = self.left(fields) - whole
        left = own + over[owner] * (number == lucky[owner])
        part, inside = self._parts_of_nodes(fields, path, begin, inner, parts)
        have, row = gather_parts(part, steps + 2)
        at = before[have // (steps + 2)] + have % (steps + 2)
        customers = row.new_full((len(owner), row.shape[1]), -1)
        customers[at] = row
        from_, to = path[owner, first][:, None], path[owner, last][:, None]
        state = self.substate(fields, from_, to, customers, left, owner)
        have, row = gather_parts(inside, steps + 2)
        at = before[have // (steps + 2)] + have % (steps + 2)
        old = row.new_full((len(owner), row.shape[1]), -1)
        old[at] = path[owner[at, None], row.clamp_min(0)].masked_fill(row < 0, -1)
        cut = Cut(state, owner, left, torch.stack([first, last, back[owner].long()], 1), old)
        return replace(cut, cost=self.part_cost(fields, cut, old))

    @staticmethod
    def _parts_of_nodes(
        fields: Fields, path: Tensor, begin: Tensor, inner: Tensor, parts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The part of every node that may be decided again [b, n], and of every place [b, m].

        Parameters
        ----------
        fields, path
            As for `used`.
        begin, inner, parts
            Place of the first part's end, inner nodes of a part, and parts of each tour [b].
        """
        b, n = fields["coords"].shape[:2]
        step = torch.arange(path.shape[1], device=path.device) - begin[:, None]
        part = torch.div(step, inner[:, None] + 1, rounding_mode="floor")
        ends = (step % (inner[:, None] + 1) == 0) | (part < 0) | (part >= parts[:, None])
        part = part.masked_fill(ends, -1)
        # One is added where a node is in no part, and all is taken off again below.
        nodes = torch.zeros(b, n, dtype=torch.int64, device=path.device)
        nodes.scatter_(1, path, torch.where(part >= 0, part + 2, 1))
        nodes[:, 0] = 1
        out = nodes - 2
        for row in (nodes == 0).any(1).nonzero()[:, 0].tolist():
            free = (nodes[row] == 0).nonzero()[:, 0]
            out[row, free] = 0
            if int(parts[row]) > 1:
                visited = (out[row] >= 0) & (nodes[row] > 0)
                known = visited.nonzero()[:, 0]
                points = fields["coords"][row].double()
                out[row, free] = out[row, known[nearest_points(points[known], points[free])]]
        return out, part

    @abstractmethod
    def trade(self, fields: Fields, cut: Cut, nodes: Tensor) -> Trade:
        """What paths through some of the nodes are for.

        Parameters
        ----------
        fields
            As for `start`.
        cut
            The paths as they are now.
        nodes
            Node numbers [parts, m]; negative where there is none, and at the ends.
        """

    def recombine(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """The new paths with those changes only that pay, see `nco.bq.recombine`."""
        old, ends = cut.old, (cut.state.index[:, :1], cut.state.index[:, 1:2])
        assert old is not None
        if not (old.shape[1] and new.shape[1]):
            return new
        # A path that was ended by choice tells its destination.
        new = new.masked_fill(new == ends[1], -1)
        # The nodes of both; each number is there once, and where there is none is another.
        blank = -2 - torch.arange(old.shape[1] + new.shape[1], device=old.device)
        first = torch.where(old < 0, blank[: old.shape[1]], old)
        table = torch.cat([first, new.masked_fill(places_of(new, first)[1], -1)], 1)
        table = torch.where(table < 0, blank, table)
        nodes = torch.cat([ends[0], table, ends[1]], 1)
        paths = []
        for inner in (old, new):
            row = torch.where(inner < 0, -1, places_of(inner, table)[0] + 1)
            row = F.pad(row, (1, 1), value=-1)
            row[:, 0], row[:, -1] = 0, nodes.shape[1] - 1
            row = packed(row)
            points = points_of(fields, nodes.gather(1, row.clamp_min(0)).clamp_min(0), cut.owner)
            paths.append(Visits(row, torch.linalg.vector_norm(points.diff(dim=1), dim=2)))
        trade = self.trade(fields, cut, F.pad(table, (1, 1), value=-1))
        row = revisited(paths[0], paths[1], trade)
        inner = (row > 0) & (row < nodes.shape[1] - 1)
        return packed(nodes.gather(1, row.clamp_min(0)).masked_fill(~inner, -1))

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Tours with the better paths put in."""
        b, steps = actions.shape
        owner, (first, last, back) = cut.owner, cut.place.unbind(1)
        actions = turned(actions, actions.new_zeros(b).index_put((owner,), back) > 0)
        # A path that was ended by choice tells its destination, which the tour has.
        new = new.masked_fill((new == cut.state.index[:, 1:2]) | ~better[:, None], -1)
        # What is taken out lies between the ends of better parts.
        edge = torch.zeros(b, steps + 2, dtype=torch.int64, device=actions.device)
        edge.index_put_((owner, first + 1), better.long(), accumulate=True)
        edge.index_put_((owner, last), -better.long(), accumulate=True)
        gone = edge.cumsum(1)[:, 1:-1] > 0
        place = torch.arange(1, steps + 1, device=actions.device).expand(b, -1)
        key = place.double().masked_fill(gone | (actions < 0), torch.inf)
        groups = int(torch.bincount(owner, minlength=b).max())
        slot = torch.arange(len(owner), device=actions.device) - torch.searchsorted(owner, owner)
        grid = actions.new_full((b, groups, new.shape[1]), -1)
        grid[owner, slot] = new
        where = torch.full(grid.shape, torch.inf, dtype=torch.float64, device=actions.device)
        fraction = torch.arange(1, new.shape[1] + 1, device=actions.device) / (new.shape[1] + 1)
        where[owner, slot] = first[:, None] + fraction.double()
        nodes = torch.cat([actions, grid.flatten(1)], 1)
        key = torch.cat([key, where.flatten(1).masked_fill(grid.flatten(1) < 0, torch.inf)], 1)
        nodes = nodes.masked_fill(torch.isinf(key), -1)
        order = key.argsort(dim=1, stable=True)[:, : int((nodes >= 0).sum(1).max())]
        return nodes.gather(1, order)


def turned(actions: Tensor, back: Tensor) -> Tensor:
    """Tours [b, steps], some [b] of them backwards.

    What follows the customers stays: the depot, where that was an action, and -1 that fills up.
    """
    place = torch.arange(actions.shape[1], device=actions.device).expand_as(actions)
    count = (actions > 0).sum(1, keepdim=True)
    place = torch.where(back[:, None] & (place < count), count - 1 - place, place)
    return actions.gather(1, place)


def nearest_points(known: Tensor, points: Tensor) -> Tensor:
    """Which of the known points [m, 2] is the nearest to each of some points [k]."""
    from scipy.spatial import cKDTree

    found = cKDTree(known.cpu().numpy()).query(points.cpu().numpy())[1]
    return torch.as_tensor(found, device=points.device)


@dataclass(frozen=True)
class OPPolicy(SubsetPolicy):
    """States, features and steps of the OP with coordinates."""

    name = "op"
    #: What it reads of an instance.
    fields = ("coords", "prizes", "max_length")
    values: ClassVar[tuple[str, ...]] = ("prizes",)

    @property
    def node_dim(self) -> int:
        """Features per row."""
        return super().node_dim + 6

    def left(self, fields: Fields) -> Tensor:
        """The length limits [b]."""
        return fields["max_length"].double()

    def used(
        self, fields: Fields, path: Tensor, owner: Tensor, first: Tensor, last: Tensor
    ) -> Tensor:
        """Their lengths."""
        legs = torch.linalg.vector_norm(points_of(fields, path).diff(dim=1), dim=2)
        far = torch.nn.functional.pad(legs.cumsum(1), (1, 0))
        return far[owner, last] - far[owner, first]

    def _fitting(self, state: State) -> State:
        """Without the customers from which the destination is too far away."""
        near, rest = ends_distances(state)
        fits = near + rest <= state.scalar
        fits[:, : self.markers] = True
        return replace(state, index=torch.where(fits, state.index, -1))

    def features(self, state: State) -> Tensor:
        """Coordinates in the frame of the ends, prize, and lengths as shares of the limit."""
        filled = state.index >= 0
        plane = self.see(state.nodes[..., :2].float(), filled)
        near, rest = (d.float() for d in ends_distances(state))
        inner = filled.clone()
        inner[:, : self.markers] = False
        prize = (state.nodes[..., 2] * inner).float()
        prize = prize / prize.amax(1, keepdim=True).clamp_min(1e-30)
        radius = (near * inner).amax(1, keepdim=True).clamp_min(1e-30)
        left = state.scalar.float().clamp_min(1e-30)
        apart, room = near[:, 1:2] / left, (left / radius).clamp(1e-3, 1e3).log()
        extra = [
            prize,
            near / left,
            rest / left,
            ((near + rest) / left).clamp_max(2.0),
            apart.clamp_max(2.0).expand_as(near),
            room.expand_as(near),
        ]
        return torch.cat([plane, torch.stack(extra, 2) * filled[..., None]], 2)

    def mask(self, state: State) -> Tensor:
        """Every customer that is left."""
        allowed = state.index >= 0
        allowed[:, : self.markers] = False
        return allowed

    def step(self, state: State, action: Tensor) -> State:
        """Move to the chosen rows [b]."""
        near, _ = ends_distances(state)
        left = state.scalar - near.gather(1, action[:, None])
        return self._fitting(replace(state.visit(action), scalar=left))

    def price(self, state: State, action: Tensor) -> Tensor:
        """Minus the prizes collected [b]."""
        return -state.nodes[..., 2].gather(1, action[:, None])[:, 0].float()

    def nearness(self, state: State) -> Tensor:
        """The nearest customers and those with the largest prizes, in turns."""
        near, _ = ends_distances(state)
        return op_priority(near, state.nodes[..., 2], self.mask(state))

    def cost(self, fields: Fields, actions: Tensor) -> Tensor:
        """Minus the total prizes [b], the depot's included."""
        return -self.total(fields, "prizes", actions) - fields["prizes"][:, 0].double()

    def trade(self, fields: Fields, cut: Cut, nodes: Tensor) -> Trade:
        """Prizes for length."""
        prize = self.of_visits(fields, "prizes", nodes, cut.owner)
        unit = fields["prizes"].double().amax(1) / self.left(fields).clamp_min(1e-30)
        left = cut.state.scalar[:, 0]
        return Trade(
            prize, torch.zeros_like(prize), TIE * unit[cut.owner], torch.ones_like(left), left
        )

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """Minus the prizes [parts] of the new paths; of equal ones the shorter is cheaper."""
        index = cut.state.index
        length = self.length(fields, index[:, :1], new, index[:, 1:2], cut.owner)
        unit = fields["prizes"].double().amax(1) / self.left(fields).clamp_min(1e-30)
        return TIE * unit[cut.owner] * length - self.total(fields, "prizes", new, cut.owner)


def ends_distances(state: State) -> tuple[Tensor, Tensor]:
    """Distances [b, n] of all rows from the current node and from the destination."""
    points = state.nodes[..., :2]
    norm = torch.linalg.vector_norm
    return norm(points - points[:, :1], dim=2), norm(points - points[:, 1:2], dim=2)


POLICY = OPPolicy
TEACHER = OPTeacher
