"""BQ policy of the prize-collecting travelling salesman problem.

A state is a path from the current node (row 0) to the destination (row 1), through
whichever of the remaining customers, that must collect the prize still due. The
destination is an action as soon as nothing is due, or no customer remains. Its scalars are
what is due, the expected prizes of all who remain, and their number: of these the nearest,
which may be all that is looked at, say little.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nco.bq.imitation import SubsetTeacher
from nco.bq.policies.op import SubsetPolicy, ends_distances
from nco.bq.recombine import Trade
from nco.bq.state import Cut, Fields, State


def prize_due(fields: Fields) -> Tensor:
    """Minimum prizes [b], less what rounding may take of a sum of prizes."""
    least = fields["min_prize"].double()
    return least - 5e-10 * least.clamp_min(1.0)


def ahead(due: Tensor, prize: Tensor, inner: Tensor) -> Tensor:
    """Scalars [b, 3] from what is due [b, 1], expected prizes [b, n] and who remains [b, n]."""
    total = (prize * inner).sum(1, keepdim=True)
    return torch.cat([due, total, inner.sum(1, keepdim=True).to(total.dtype)], 1)


@dataclass(frozen=True)
class PCTSPPolicy(SubsetPolicy):
    """States, features and steps of the PCTSP with coordinates."""

    name = "pctsp"
    #: What it reads of an instance.
    fields: ClassVar[tuple[str, ...]] = ("coords", "prizes", "penalties", "min_prize")
    values: ClassVar[tuple[str, ...]] = ("prizes", "penalties")
    #: The field that says what a visit collects.
    collected = "prizes"

    @property
    def node_dim(self) -> int:
        """Features per row."""
        return super().node_dim + 8

    def left(self, fields: Fields) -> Tensor:
        """The minimum prizes [b]."""
        return prize_due(fields)

    def used(
        self, fields: Fields, path: Tensor, owner: Tensor, first: Tensor, last: Tensor
    ) -> Tensor:
        """The prizes that they collect between their ends."""
        prizes = fields[self.collected].double().gather(1, path) * (path > 0)
        total = prizes.cumsum(1)
        # A hair less: the same customers in another order may sum up to less by rounding.
        return (total[owner, last - 1] - total[owner, first]) * (1.0 - 1e-12)

    def _fitting(self, state: State) -> State:
        """With what remains in all beside what is due."""
        inner = state.index >= 0
        inner[:, : self.markers] = False
        return replace(state, scalar=ahead(state.scalar, state.nodes[..., 2], inner))

    def features(self, state: State) -> Tensor:
        """Coordinates in the frame of the ends; expected prizes, what is due, and penalties."""
        filled = state.index >= 0
        plane = self.see(state.nodes[..., :2].float(), filled)
        near, rest = (d.float() for d in ends_distances(state))
        inner = filled.clone()
        inner[:, : self.markers] = False
        prize, penalty = ((state.nodes[..., i] * inner).float() for i in (2, 3))
        radius = (near * inner).amax(1, keepdim=True).clamp_min(1e-30)
        count = inner.sum(1, keepdim=True).float()
        due, total, number = state.scalar.float()[..., None].unbind(1)
        penalty = penalty / radius
        detour = (near + rest - near[:, 1:2]) / radius
        extra = [
            prize / prize.amax(1, keepdim=True).clamp_min(1e-30),
            (prize / due.clamp_min(1e-30)).clamp_max(2.0) * (due > 0),
            (due.clamp_min(0.0) / total.clamp_min(1e-30)).clamp_max(2.0),
            (due <= 0).float(),
            penalty.clamp_max(4.0),
            # Worth a leg to a neighbour or not.
            (penalty * count.sqrt()).clamp(1e-2, 1e2).log(),
            (penalty - detour).clamp(-2.0, 2.0),
            number.clamp_min(1.0).log() / 5.0,
        ]
        shown = torch.stack([e.expand_as(near) for e in extra], 2)
        return torch.cat([plane, shown * filled[..., None]], 2)

    def mask(self, state: State) -> Tensor:
        """Every customer that is left, and the destination where one may stop."""
        allowed = state.index >= 0
        allowed[:, 0] = False
        enough = (state.scalar[:, 0] <= 0) | ~allowed[:, self.markers :].any(1)
        allowed[:, 1] &= enough
        return allowed

    def step(self, state: State, action: Tensor) -> State:
        """Move to the chosen rows [b]; at the destination nothing remains."""
        column = 2 + self.values.index(self.collected)
        at = action[:, None]
        gone = [state.nodes[..., column].gather(1, at), state.nodes[..., 2].gather(1, at)]
        left = state.scalar - torch.cat([*gone, torch.ones_like(gone[0])], 1)
        after = state.visit(action)
        rest = after.index[:, 1:].masked_fill((action == 1)[:, None], -1)
        return replace(after, index=torch.cat([after.index[:, :1], rest], 1), scalar=left)

    def price(self, state: State, action: Tensor) -> Tensor:
        """Length of the moves [b]; at the end the penalties of those left out."""
        near, _ = ends_distances(state)
        inner = state.index >= 0
        inner[:, : self.markers] = False
        unpaid = (state.nodes[..., 3] * inner).sum(1)
        return (near.gather(1, action[:, None])[:, 0] + unpaid * (action == 1)).float()

    def nearness(self, state: State) -> Tensor:
        """Minus the distance from the current node."""
        return -ends_distances(state)[0]

    def cost(self, fields: Fields, actions: Tensor) -> Tensor:
        """Lengths of the tours plus the penalties of those left out [b]."""
        depot = torch.zeros_like(fields["min_prize"], dtype=torch.int64)[:, None]
        length = self.length(fields, depot, actions, depot)
        every = fields["penalties"].double()[:, 1:].sum(1)
        return length + every - self.total(fields, "penalties", actions)

    def trade(self, fields: Fields, cut: Cut, nodes: Tensor) -> Trade:
        """Penalties for length, while enough is collected."""
        collects = self.of_visits(fields, self.collected, nodes, cut.owner)
        penalty = self.of_visits(fields, "penalties", nodes, cut.owner)
        due = cut.state.scalar[:, 0]
        return Trade(penalty, -collects, torch.ones_like(due), torch.zeros_like(due), -due)

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """Lengths [parts] of the new paths less the penalties of whom they visit."""
        begin, end = cut.state.index[:, :1], cut.state.index[:, 1:2]
        new = new.masked_fill(new == end, -1)
        length = self.length(fields, begin, new, end, cut.owner)
        return length - self.total(fields, "penalties", new, cut.owner)


@dataclass(frozen=True)
class PCTSPTeacher(SubsetTeacher):
    """Parts of tours with the prize that the label collects outside of them taken off."""

    values: ClassVar[tuple[str, ...]] = ("prizes", "penalties")
    stops = True
    #: The field that says what a visit collects.
    collected = "prizes"

    def limits(self, fields: Fields, which: Tensor, path: Tensor, t: Tensor, e: Tensor) -> Tensor:
        """What the rest of the tours leaves due."""
        place = torch.arange(path.shape[1], device=path.device)
        prize = fields[self.collected][which].double().gather(1, path)
        outside = (path > 0) & ((place <= t) | (place >= e))
        return prize_due(fields)[which][:, None] - (prize * outside).sum(1, keepdim=True)

    def scalars(self, left: Tensor, values: Tensor, free: Tensor) -> Tensor:
        """As the policy's states have them."""
        return ahead(left, values[..., 0], free)

    def cost(self, fields: Fields) -> Tensor:
        """Lengths plus penalties [N] of the labels, in float64."""
        tour = F.pad(fields["tour"].long(), (1, 1))
        points = fields["coords"].double().gather(1, tour[..., None].expand(-1, -1, 2))
        penalties = fields["penalties"].double()
        paid = penalties[:, 1:].sum(1) - (penalties.gather(1, tour) * (tour > 0)).sum(1)
        return torch.linalg.vector_norm(points.diff(dim=1), dim=2).sum(1) + paid


POLICY = PCTSPPolicy
TEACHER = PCTSPTeacher
