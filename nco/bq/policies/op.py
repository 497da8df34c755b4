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
from torch import Tensor

from nco.bq.imitation import OPTeacher, op_priority
from nco.bq.plane import PlaneFrame, points_of
from nco.bq.state import Cut, Fields, State

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
    def left_of_part(self, fields: Fields, path: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """The scalar [b] of parts of tours.

        Parameters
        ----------
        fields
            As for `start`.
        path
            Tours [b, m] from the depot on, filled up with the depot.
        first, last
            Places of the parts' ends [b, 1].
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
        values = fields[name].double()[owner[:, None], nodes.clamp_min(0)]
        return (values * (nodes > 0)).sum(1)

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
        """One path of up to ``size`` inner nodes of every tour, from a random place.

        It has whatever the rest of the tour leaves of the limit, or makes due, and may go
        through any customer that the rest of the tour does not visit.
        """
        b, steps = actions.shape
        device = actions.device
        count = (actions > 0).sum(1, keepdim=True)
        path = torch.nn.functional.pad(actions.clamp_min(0), (1, 1))
        share = torch.rand(2, b, 1, generator=generator, device=device)
        # Of a tour that is no longer than that, any part.
        inner = (share[0] * (count + 1)).long().clamp_max(count)
        inner = torch.where(count > size, size, inner)
        first = (share[1] * (count - inner + 1)).long().clamp_max(count - inner)
        last = first + inner + 1
        place = torch.arange(steps + 2, device=device)
        inside = (place > first) & (place < last)
        left = self.left_of_part(fields, path, first, last)
        n = fields["coords"].shape[1]
        taken = torch.zeros(b, n, dtype=torch.int64, device=device)
        taken = taken.scatter_add_(1, path, (~inside & (path > 0)).long())
        free = torch.arange(1, n, device=device).expand(b, -1)
        begin, end = path.gather(1, first), path.gather(1, last)
        customers = torch.where(taken[:, 1:] > 0, -1, free)
        state = self.substate(fields, begin, end, customers, left)
        owner = torch.arange(b, device=device)
        cut = Cut(state, owner, left, torch.cat([first, last], 1))
        order = (~inside).to(torch.int8).argsort(dim=1, stable=True)
        old = torch.where(inside, path, -1).gather(1, order)[:, :steps]
        return replace(cut, cost=self.part_cost(fields, cut, old))

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Tours with the better paths put in."""
        first, last = cut.place[:, :1], cut.place[:, 1:]
        place = torch.arange(1, actions.shape[1] + 1, device=actions.device)
        head = torch.where(place <= first, actions, -1)
        tail = torch.where(place >= last, actions, -1)
        # A path that was ended by choice tells its destination, which the tail has.
        new = new.masked_fill(new == cut.state.index[:, 1:2], -1)
        changed = torch.cat([head, new, tail], 1)
        old = torch.nn.functional.pad(actions, (0, changed.shape[1] - actions.shape[1]), value=-1)
        whole = torch.where(better[:, None], changed, old)
        width = int((whole >= 0).sum(1).max())
        order = (whole < 0).to(torch.int8).argsort(dim=1, stable=True)[:, :width]
        return whole.gather(1, order)


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

    def left_of_part(self, fields: Fields, path: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """What the rest of the tours leaves of the limit."""
        legs = torch.linalg.vector_norm(points_of(fields, path).diff(dim=1), dim=2)
        far = torch.nn.functional.pad(legs.cumsum(1), (1, 0))
        length = (far.gather(1, last) - far.gather(1, first))[:, 0]
        return self.left(fields) - far[:, -1] + length

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
