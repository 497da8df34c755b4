"""BQ policy of the min-max multiple travelling salesman problem.

A state is what the current salesman and his successors still have to visit: row 0 is the
current node, row 1 the depot. Its scalars are the length of the current route, the longest
of the finished ones, the salesmen left, the number of customers that remain, and their
`outlook`: the nearest, which may be all that is looked at, do not tell what is left to
share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nco.bq.imitation import RoutesCut, RoutesTeacher, visits
from nco.bq.plane import PlaneFrame, dihedral, points_of, unit_box
from nco.bq.policies.cvrp import RoutesPolicy
from nco.bq.state import Cut, Fields, State

#: Worth of the total length beside the longest route: of equal ones the shorter way wins.
TIE = 1e-13


def route_lengths(
    fields: Fields, actions: Tensor, owner: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Lengths of the routes [b, steps], filled up with 0, and the route of every step."""
    known = actions >= 0
    node = torch.where(known, actions // 2, 0)
    via = known & (actions % 2 == 1)
    route = (via.long().cumsum(1) - 1).clamp_min(0)
    points = points_of(fields, node, owner)
    depot = points_of(fields, torch.zeros_like(node[:, :1]), owner)
    home = torch.linalg.vector_norm(points - depot, dim=2)
    direct = torch.linalg.vector_norm(points.diff(dim=1), dim=2)
    leg = torch.where(via, home, F.pad(direct, (1, 0)))
    # A route's last customer is the one before the next begins, or before the end.
    last = known & (F.pad(via[:, 1:], (0, 1)) | ~F.pad(known[:, 1:], (0, 1)))
    leg = torch.where(known, leg, 0.0) + home * last
    return torch.zeros_like(leg).scatter_add_(1, route, leg), route


def outlook(points: Tensor, depot: Tensor, inner: Tensor) -> Tensor:
    """How far away and how spread customers are, whatever the turn of the plane [b, 3].

    Parameters
    ----------
    points, depot
        Coordinates [b, n, 2] and [b, 1, 2].
    inner
        Which of the points count [b, n].

    Returns
    -------
    The largest and the mean distance from the depot, and the root of the area: for points
    uniform in a rectangle, of its own (12 times their standard deviations' product).
    """
    keep = inner.double()
    count = keep.sum(1, keepdim=True).clamp_min(1.0)
    x = (points - depot).double() * keep[..., None]
    away = torch.linalg.vector_norm(x, dim=2)
    x = (x - x.sum(1, keepdim=True) / count[..., None]) * keep[..., None]
    second = x.transpose(1, 2) @ x / count[..., None]
    flat = second[:, 0, 0] * second[:, 1, 1] - second[:, 0, 1] ** 2
    side = (144.0 * flat.clamp_min(0.0)).pow(0.25)
    return torch.stack([away.amax(1), away.sum(1) / count[:, 0], side], 1)


def longest_of_others(own: Tensor, owner: Tensor, rest: Tensor) -> Tensor:
    """The longest route [parts] of a solution outside of each of its parts.

    Parameters
    ----------
    own, owner
        The longest route of every part, and its solution [parts].
    rest
        The longest of every solution's routes that are in no part [b].
    """
    most = rest.scatter_reduce(0, owner, own, "amax")
    number = torch.arange(len(own), device=own.device)
    # Of equally long ones the first has the second beside it.
    have = torch.where(own == most[owner], number, len(own))
    which = torch.full_like(owner[:1], len(own)).expand(len(rest)).clone()
    which = which.scatter_reduce(0, owner, have, "amin")
    leader = number == which[owner]
    second = rest.scatter_reduce(0, owner, own.masked_fill(leader, 0.0), "amax")
    return torch.where(leader, second[owner], most[owner])


@dataclass(frozen=True)
class MTSPPolicy(PlaneFrame, RoutesPolicy):
    """States, features and steps of the min-max mTSP with coordinates."""

    name = "mtsp"
    #: What it reads of an instance.
    fields = ("coords", "salesmen")

    @property
    def node_dim(self) -> int:
        """Features per row."""
        return super().node_dim + 12

    def start(self, fields: Fields, view: int = 0) -> State:
        """Whole instances: at the depot, with all salesmen there.

        Parameters
        ----------
        fields
            ``coords`` [b, n + 1, 2], ``salesmen`` [b].
        view
            Number of a symmetry of the square under which the plane is seen.
        """
        points = dihedral(unit_box(fields["coords"]), view)
        b, rows = points.shape[:2]
        index = torch.arange(rows, device=points.device).expand(b, rows)
        nothing = torch.zeros(b, device=points.device)
        return self._state(
            torch.cat([points[:, :1], points], 1),
            torch.cat([index[:, :1], index], 1),
            nothing,
            fields["salesmen"],
        )

    def _state(self, points: Tensor, index: Tensor, longest: Tensor, salesmen: Tensor) -> State:
        inner = index[:, self.markers :] >= 0
        scalar = [torch.zeros_like(longest), longest, salesmen, inner.sum(1)]
        known = torch.stack([x.double() for x in scalar], 1)
        return self._look(State(points, index, known, dense=bool(inner.all())))

    def _look(self, state: State) -> State:
        """With the outlook after the first four scalars."""
        inner = state.index >= 0
        inner[:, : self.markers] = False
        seen = outlook(state.nodes, state.nodes[:, 1:2], inner)
        return replace(state, scalar=torch.cat([state.scalar[:, :4], seen], 1))

    def substate(
        self,
        fields: Fields,
        customers: Tensor,
        longest: Tensor,
        salesmen: Tensor,
        owner: Tensor | None = None,
    ) -> State:
        """Sub-instances of some customers for some salesmen, beside routes that stay.

        Parameters
        ----------
        fields
            As for `start`.
        customers
            Their numbers [parts, m], filled up with -1.
        longest
            The longest of the routes that stay [parts].
        salesmen
            Their numbers [parts].
        owner
            Instance of each part [parts]; None for one part per instance, in order.
        """
        index = F.pad(customers, (2, 0))
        points = points_of(fields, index.clamp_min(0), owner)
        points = (points - points[:, 1:2]).float()
        return self._state(points, index, longest, salesmen)

    def features(self, state: State) -> Tensor:
        """Coordinates in the frame of node and depot; lengths, and what is left for whom."""
        filled = state.index >= 0
        plane = self.see(state.nodes, filled)
        scalar = state.scalar.float()[..., None].unbind(1)
        length, longest, salesmen, count, far, mean, side = scalar
        inner = filled.clone()
        inner[:, : self.markers] = False
        near, rest = (
            torch.linalg.vector_norm(state.nodes - state.nodes[:, i : i + 1], dim=2) for i in (0, 1)
        )
        radius = (near * inner).amax(1, keepdim=True).clamp_min(1e-30)
        # No route can be shorter than to the farthest customer and back.
        goal = torch.maximum(longest, 2.0 * far).clamp_min(1e-30)
        home = near[:, 1:2]
        # What every salesman gets if they share the rest alike; C. F. Daganzo (1984): ways
        # out and back, and a tour through points of this density.
        whole = length + home + 2.0 * salesmen * mean + 0.7 * count.sqrt() * side
        fair = (whole / (salesmen + 1.0)).clamp_min(1e-30)
        extra = [
            (length + home) / goal,
            longest / goal,
            ((length + near + rest) / goal).clamp_max(3.0),
            (goal / radius).clamp(1e-2, 1e2).log(),
            ((goal - length - home) / radius).clamp(-3.0, 3.0),
            salesmen.log1p() / 3.0,
            count.clamp_min(1.0).log() / 5.0,
            (count / (salesmen + 1.0)).clamp_min(0.1).log() / 3.0,
            (salesmen == 0).float(),
            ((length + home) / fair).clamp_max(4.0),
            ((length + near + rest) / fair).clamp_max(4.0),
            (fair / goal).clamp(1e-2, 1e2).log(),
        ]
        shown = torch.stack([e.clamp_max(10.0).expand_as(near) for e in extra], 2)
        return torch.cat([plane, shown * filled[..., None]], 2)

    def mask(self, state: State) -> Tensor:
        """Directly where a route has begun; via the depot where a salesman is left."""
        candidate = state.index >= 0
        candidate[:, : self.markers] = False
        direct = candidate & (state.index[:, :1] != 0)
        return torch.stack([direct, candidate & (state.scalar[:, 2:3] >= 1)], 2).flatten(1)

    def _move(self, state: State, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Length of the route and longest finished one after actions, and ways home [b]."""
        row, via = action // 2, action % 2 == 1
        points = state.nodes
        chosen = points.gather(1, row[:, None, None].expand(-1, -1, 2))[:, 0]
        here, depot = points[:, 0], points[:, 1]
        norm = torch.linalg.vector_norm
        home = norm(chosen - depot, dim=1)
        length, longest = state.scalar[:, 0], state.scalar[:, 1]
        finished = torch.maximum(longest, length + norm(here - depot, dim=1))
        return (
            torch.where(via, home, length + norm(chosen - here, dim=1)),
            torch.where(via, finished, longest),
            home,
        )

    def step(self, state: State, action: Tensor) -> State:
        """Visit the chosen customers [b]."""
        length, longest, _ = self._move(state, action)
        salesmen = state.scalar[:, 2] - (action % 2)
        scalar = torch.stack([length, longest, salesmen, state.scalar[:, 3] - 1], 1)
        return self._look(replace(state.visit(action // 2), scalar=scalar))

    def price(self, state: State, action: Tensor) -> Tensor:
        """What the actions [b] add to the longest route, if all salesmen went home after."""
        length, longest, home = self._move(state, action)
        depot = state.nodes[:, 1]
        back = state.scalar[:, 0] + torch.linalg.vector_norm(state.nodes[:, 0] - depot, dim=1)
        before = torch.maximum(state.scalar[:, 1], back)
        return torch.maximum(longest, length + home) - before

    def cost(self, fields: Fields, actions: Tensor) -> Tensor:
        """Lengths of the longest routes [b]."""
        return route_lengths(fields, actions)[0].amax(1)

    def sizes(self, fields: Fields, routes: Sequence[Sequence[int]]) -> list[float]:
        """Their lengths."""
        points = fields["coords"][0].double()
        walks = [points[[0, *route, 0]].diff(dim=0) for route in routes]
        return [float(torch.linalg.vector_norm(walk, dim=1).sum()) for walk in walks]

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """As `RoutesPolicy.groups`; salesmen who stay at home go to a solution's first group."""
        owner, taken, place = self.groups(fields, actions, size, generator)
        lengths, route = route_lengths(fields, actions)
        # The longest route of every part; and of what no part has, in a part's place.
        of_step = lengths.gather(1, route).masked_fill(actions < 0, 0.0)
        at = torch.where(place >= 0, place, of_step.shape[1])
        wide = F.pad(of_step, (0, 1))
        own = wide[owner[:, None], at].amax(1)
        wide[owner[:, None].expand_as(at), at] = 0.0
        longest = longest_of_others(own, owner, wide.amax(1))
        used = ((actions >= 0) & (actions % 2 == 1)).sum(1)
        idle = fields["salesmen"].long() - used
        first = torch.arange(len(owner), device=owner.device) == torch.searchsorted(owner, owner)
        salesmen = ((taken >= 0) & (taken % 2 == 1)).sum(1) + first * idle[owner]
        customers = torch.where(taken >= 0, taken // 2, -1)
        state = self.substate(fields, customers, longest, salesmen, owner)
        cut = Cut(state, owner, longest, place, taken)
        return replace(cut, cost=self.part_cost(fields, cut, taken))

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """The longest routes [parts], those that stay included; then the total length."""
        lengths, _ = route_lengths(fields, new, cut.owner)
        longest = torch.maximum(lengths.amax(1), cut.state.scalar[:, 1].double())
        return longest + TIE * lengths.sum(1)


@dataclass(frozen=True)
class MTSPTeacher(RoutesTeacher):
    """What remains of a set of routes after some customers were visited."""

    order: str = "sweep"

    values: ClassVar[tuple[str, ...]] = ()

    def sizes(self, fields: Fields, tour: Tensor, start: Tensor) -> Tensor:
        """Length of the route of every customer [N, n]."""
        lengths, route = route_lengths(fields, 2 * tour + start)
        return lengths.gather(1, route)

    def scalars(self, fields: Fields, cut: RoutesCut) -> Tensor:
        """Length of the current route, longest finished one, salesmen, customers, outlook."""
        begun, end = cut.served > 0, (cut.served - 1).clamp_min(0)
        points = visits(fields, cut)
        depot = fields["coords"][cut.which, :1]
        home = torch.linalg.vector_norm(points - depot, dim=2)
        direct = torch.linalg.vector_norm(points.diff(dim=1), dim=2)
        leg = torch.where(cut.start, home, F.pad(direct, (1, 0)))
        total = leg.cumsum(1)
        before = total - leg
        # Length of every route up to every customer, and whole where it ends.
        length = total - before.gather(1, cut.first)
        place = torch.arange(leg.shape[1], device=leg.device)
        whole = torch.where(place == cut.last, length + home, 0.0)
        current = cut.first.gather(1, end)
        longest = whole.masked_fill(place >= current, 0.0).amax(1, keepdim=True)
        used = (cut.start & (place <= end)).sum(1, keepdim=True)
        salesmen = fields["salesmen"][cut.which][:, None]
        rest = outlook(points, depot, place >= cut.served)
        scalar = [
            torch.where(begun, length.gather(1, end), 0.0),
            torch.where(begun, longest, 0.0),
            torch.where(begun, salesmen - used, salesmen),
            leg.shape[1] - cut.served,
            rest,
        ]
        return torch.cat([x.double() for x in scalar], 1)

    def cost(self, fields: Fields) -> Tensor:
        """Lengths [N] of the labels' longest routes, in float64."""
        return route_lengths(fields, self.actions(fields))[0].amax(1)


POLICY = MTSPPolicy
TEACHER = MTSPTeacher
