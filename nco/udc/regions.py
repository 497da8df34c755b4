"""Parts of tours around a place of the plane, rather than along the tour.

A window of the tour is cut out, as consecutive parts are, and of its nodes those nearest to
one of them are set free. What lies between them becomes fixed ways, entered at either end
and left at the other; windows of one tour do not touch each other, so all of them are
decided at a time. Destroying by distance after F. Luo et al., Learning to insert for
constructive neural vehicle routing solver (2025); fixed ways as one action after K. Li
et al., Destroy and repair using hyper-graphs for routing (AAAI 2025).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nco.bq.imitation import tour_actions
from nco.bq.policies.tsp import TourPolicy
from nco.bq.state import Cut, Fields, State, gather_parts


@dataclass(frozen=True)
class RegionPolicy:
    """A policy of tours whose parts are sometimes regions; all else is the policy's own.

    States of regions are not dense, and have one column more than the policy's: of an end
    of a fixed way, one more than the number of its other end, negative where the way may
    not be entered; 0 of all other nodes.

    Parameters
    ----------
    inner
        The policy, a `nco.bq.policies.tsp.TourPolicy`.
    share
        Share of the cuts that are regions.
    reach
        Nodes of the longest window, in sizes of a part.
    """

    inner: Any
    share: float = 0.5
    reach: float = 10.0

    def __getattr__(self, name: str) -> Any:
        """What is not said here is the policy's own."""
        return getattr(self.inner, name)

    @staticmethod
    def _plain(state: State) -> State:
        """States as the policy knows them."""
        return state if state.dense else replace(state, nodes=state.nodes[..., :-1])

    def features(self, state: State) -> Tensor:
        """As the policy sees the nodes; ends of fixed ways are nodes like others."""
        out: Tensor = self.inner.features(self._plain(state))
        return out

    def edges(self, state: State) -> Tensor | None:
        """As the policy's."""
        out: Tensor | None = self.inner.edges(self._plain(state))
        return out

    def nearness(self, state: State) -> Tensor:
        """As the policy's."""
        out: Tensor = self.inner.nearness(self._plain(state))
        return out

    def mask(self, state: State) -> Tensor:
        """Every node that remains, and every end by which a fixed way may be entered."""
        allowed: Tensor = self.inner.mask(self._plain(state))
        return allowed if state.dense else allowed & (state.nodes[..., -1] >= 0)

    def price(self, state: State, action: Tensor) -> Tensor:
        """As the policy's; of regions not told, as beams never decide them."""
        if state.dense:
            out: Tensor = self.inner.price(state, action)
            return out
        return torch.zeros(state.batch, device=state.index.device)

    def step(self, state: State, action: Tensor) -> State:
        """Move to the chosen rows [b], and from the end of a fixed way on to the other."""
        if state.dense:
            after: State = self.inner.step(state, action)
            return after
        other = state.nodes[..., -1].gather(1, action[:, None]).abs().long() - 1
        after = state.visit(action)
        row = (after.index[:, self.inner.markers :] == other).to(torch.int8).argmax(1)
        return after.visit(row + self.inner.markers).where(other[:, 0] >= 0, after)

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """Regions of ``size`` free nodes, or consecutive parts as the policy's."""
        tour = self.inner.tour(actions)
        device = tour.device
        share, length = torch.rand(2, generator=generator, device=device).tolist()
        most = min(tour.shape[1] - 1, round(self.reach * size))
        if share >= self.share or most <= size or size < 2:
            cut: Cut | None = self.inner.cut(fields, actions, size, generator)
            return cut
        window = max(size + 1, round(size * (most / size) ** length))
        owner, place = self.inner.windows(tour, window, generator)
        return self._region(fields, tour, owner, place, size, generator)

    def _region(
        self,
        fields: Fields,
        tour: Tensor,
        owner: Tensor,
        place: Tensor,
        size: int,
        generator: torch.Generator,
    ) -> Cut:
        parts, width = place.shape
        device = tour.device
        paths = tour[owner[:, None], place]
        middle = torch.randint(1, width - 1, (parts, 1), generator=generator, device=device)
        centre = paths.gather(1, middle).expand(-1, width - 2)
        far = self._legs(fields, centre, paths[:, 1:-1], owner)
        free = torch.zeros(parts, width, dtype=torch.bool, device=device)
        free.scatter_(1, far.topk(size, dim=1, largest=False).indices + 1, True)
        fixed = ~free
        at = torch.arange(width, device=device).expand(parts, -1)
        first = torch.nn.functional.pad(free[:, :-1], (1, 0), value=True) & fixed
        last = torch.nn.functional.pad(free[:, 1:], (0, 1), value=True) & fixed
        begin = torch.where(first, at, 0).cummax(1).values
        end = torch.where(last, at, width).flip(1).cummin(1).values.flip(1)
        # What is fixed at either end of the window makes its inner end that of the part.
        inside = (begin > 0) & (end < width - 1)
        rows = free | (inside & (first | last))
        _, row = gather_parts(torch.where(rows, 0, -1), 1)
        known, at_row = row >= 0, row.clamp_min(0)
        low, high = begin.gather(1, at_row), end.gather(1, at_row)
        way = known & fixed.gather(1, at_row) & (high > low)
        other = torch.where(at_row == low, high, low)
        link = (paths.gather(1, other) + 1) * way
        if self.inner.directed:
            link = torch.where(at_row == high, -link, link)
        ends = torch.stack([free.int().argmax(1) - 1, width - free.flip(1).int().argmax(1)], 1)
        ends = paths.gather(1, ends)
        nodes = paths.gather(1, at_row)
        state = self.inner.substate(fields, torch.cat([ends[:, :1], nodes, ends[:, 1:]], 1), owner)
        column = torch.nn.functional.pad(link, (2, 0))[..., None].to(state.nodes.dtype)
        index = torch.nn.functional.pad(torch.where(known, nodes, -1), (2, 0))
        index[:, :2] = ends
        state = replace(state, nodes=torch.cat([state.nodes, column], 2), index=index, dense=False)
        cut = Cut(state, owner, torch.zeros(parts, dtype=torch.float64, device=device), place)
        # As it is now, fixed ways are entered at their first end.
        old = known & ~(way & (at_row == high))
        _, taken = gather_parts(torch.where(old, 0, -1), 1)
        old_nodes = nodes.gather(1, taken.clamp_min(0)).masked_fill(taken < 0, -1)
        return replace(cut, cost=self.part_cost(fields, cut, old_nodes), old=old_nodes)

    def _legs(self, fields: Fields, begin: Tensor, end: Tensor, owner: Tensor) -> Tensor:
        """Costs [parts, m] from nodes to nodes, both of that shape."""
        pairs = torch.stack([begin.flatten(), end.flatten()], 1)
        who = owner.repeat_interleave(begin.shape[1])
        out: Tensor = self.inner.length(fields, pairs, who)
        return out.view(begin.shape)

    @staticmethod
    def _exits(cut: Cut, new: Tensor) -> Tensor:
        """Where one is after each of the nodes taken [parts, steps]; -1 where none was."""
        index, link = cut.state.index[:, 2:], cut.state.nodes[:, 2:, -1].abs().long() - 1
        order = index.argsort(1)
        row = torch.searchsorted(index.gather(1, order), new.contiguous())
        row = order.gather(1, row.clamp_max(index.shape[1] - 1))
        other = link.gather(1, row)
        return torch.where(other >= 0, other, new).masked_fill(new < 0, -1)

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """Lengths [parts] of the new ways; of regions without what is fixed."""
        if cut.state.dense:
            out: Tensor = self.inner.part_cost(fields, cut, new)
            return out
        ends = cut.state.index[:, :2]
        count = (new >= 0).sum(1, keepdim=True)
        step = torch.arange(new.shape[1] + 1, device=new.device)
        begin = torch.cat([ends[:, :1], self._exits(cut, new)], 1)
        end = torch.cat([new, ends[:, 1:]], 1)
        end = torch.where(step == count, ends[:, 1:], end)
        legs = self._legs(fields, begin.clamp_min(0), end.clamp_min(0), cut.owner)
        return (legs * (step <= count)).sum(1)

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Tours with the better parts put in."""
        if cut.state.dense:
            out: Tensor = self.inner.paste(fields, actions, cut, new, better)
            return out
        tour = self.inner.tour(actions)
        owner, inner = cut.owner[:, None], cut.place[:, 1:-1]
        parts, width = inner.shape
        # Places in the window, from 1; windows share their ends, which have none.
        at = torch.zeros_like(tour)
        at[owner, tour[owner, inner]] = torch.arange(1, width + 1, device=tour.device)
        known = new >= 0
        begin = at[owner, new.clamp_min(0)]
        end = at[owner, self._exits(cut, new).clamp_min(0)]
        head, tail = at[owner, cut.state.index[:, :2]].unbind(1)
        tail = torch.where(tail == 0, width + 1, tail)
        one = torch.ones_like(head)
        begin = torch.cat([one[:, None], begin, tail[:, None]], 1)
        way = torch.nn.functional.pad(torch.where(known, (end - begin[:, 1:-1]).sign(), 0), (1, 1))
        way[:, 0] = way[:, -1] = 1
        length = torch.where(known, (end - begin[:, 1:-1]).abs() + 1, 0)
        length = torch.cat([head[:, None], length, (width + 1 - tail)[:, None]], 1)
        whole = length.sum(1) == width
        length = torch.where(whole[:, None], length, 0)
        length[:, 0] = torch.where(whole, length[:, 0], width)
        which = torch.arange(length.numel(), device=tour.device)
        which = which.repeat_interleave(length.flatten())
        before = (length.cumsum(1) - length).flatten()
        offset = torch.arange(width, device=tour.device).repeat(parts) - before[which]
        order = (begin.flatten()[which] + way.flatten()[which] * offset).view(parts, width)
        old = tour[owner, inner]
        changed = old.gather(1, order - 1)
        tour[owner, inner] = torch.where((better & whole)[:, None], changed, old)
        return tour_actions(tour)


def with_regions(policy: Any, share: float) -> Any:
    """The policy with that share of its cuts as regions, where its solutions are tours."""
    return RegionPolicy(policy, share) if share and isinstance(policy, TourPolicy) else policy
