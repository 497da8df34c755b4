"""Parts of routes that are regions of near customers, rather than whole routes.

Of a group of neighbouring routes, the customers nearest to one of them are free; what lies
between them on a route is a fixed way, entered at either end and left at the other, with the
load of all that it serves. Fixed ways as one action after K. Li, F. Liu, Z. Wang and Q. Zhang,
Destroy and repair using hyper-graphs for routing (AAAI 2025), who train a network for it, as is
done here (`route_region_examples`). Tours have `nco.bq.regions`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nco.bq.decoding import nearest_rows
from nco.bq.imitation import (
    Examples,
    RoutesTeacher,
    in_order,
    listed,
    route_ends,
    uniform_int,
)
from nco.bq.plane import points_of
from nco.bq.policies.cvrp import PLAIN, random_step
from nco.bq.state import Cut, Fields, State, hash_rows, places_of

#: Customers of the group of routes that a region lies in, in nodes of a part, and its routes;
#: the larger group of the two.
REACH, ROUTES = 2.0, 5
#: Share of the cuts that are regions where a part has room for two routes of mean length; where it
#: has not, most parts of whole routes would be single ones, and all cuts are regions.
SHARE = 0.4


@dataclass(frozen=True)
class RouteRegions:
    """A policy of routes whose parts are sometimes regions; all else is the policy's own.

    States of regions are not dense. Their columns are x and y, those of the node where a fixed
    way leads (of the node itself where none begins), one more than that node's number (0 where
    none begins), and the demand: of either end of a way, that of all of it.

    Parameters
    ----------
    inner
        The policy, a `nco.bq.policies.cvrp.CVRPPolicy` that is shown ways.
    share
        Share of the cuts that are regions; -1 for `SHARE`, or all where routes are long.
    free
        Free nodes of a region, as a share of the nodes of a part.
    """

    inner: Any
    share: float = -1.0
    free: float = 0.6

    def __getattr__(self, name: str) -> Any:
        """What is not said here is the policy's own."""
        return getattr(self.inner, name)

    @staticmethod
    def _link(state: State) -> Tensor | None:
        """The column of where ways lead [b, n], or None where there are no ways."""
        return state.nodes[..., -2] if state.nodes.shape[2] > PLAIN else None

    def price(self, state: State, action: Tensor) -> Tensor:
        """As the policy's; of fixed ways only what leads to and from them."""
        price: Tensor = self.inner.price(state, action)
        link = self._link(state)
        if link is None or self.inner.open:
            return price
        row = (action // 2)[:, None]
        left = state.nodes[..., 2:4].gather(1, row[..., None].expand(-1, -1, 2))[:, 0]
        home = torch.linalg.vector_norm(left - state.nodes[:, 1, :2], dim=1)
        last = (state.index >= 0).sum(1) == self.inner.markers + 2
        return price + home * (last & (link.gather(1, row)[:, 0] > 0))

    def step(self, state: State, action: Tensor) -> State:
        """Serve the chosen rows [b], and from the end of a fixed way on to the other."""
        after: State = self.inner.step(state, action)
        link = self._link(state)
        if link is None:
            return after
        other = link.gather(1, (action // 2)[:, None]).long() - 1
        row = (after.index[:, self.inner.markers :] == other).to(torch.int8).argmax(1)
        return after.visit(row + self.inner.markers).where(other[:, 0] >= 0, after)

    @staticmethod
    def _mean(actions: Tensor) -> float:
        """Mean number of customers on a route."""
        known = actions >= 0
        return float(known.sum() / (known & (actions % 2 == 1)).sum().clamp_min(1))

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """Regions of free customers and ends of ways, or groups of routes as the policy's."""
        share = self.share
        if share < 0.0:
            share = SHARE if 2.0 * self._mean(actions) <= size else 1.0
        if float(torch.rand((), generator=generator, device=actions.device)) >= share:
            whole: Cut | None = self.inner.cut(fields, actions, size, generator)
            return whole
        owner, taken, place = self.groups_around(fields, actions, size, generator)
        return self.region(fields, owner, taken, place, size, generator)

    def groups_around(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Groups of routes that are large enough for a region, as `RoutesPolicy.groups`."""
        width = max(1, round(max(REACH * size, ROUTES * self._mean(actions))))
        groups: tuple[Tensor, Tensor, Tensor]
        groups = self.inner.groups(fields, actions, width, generator)
        return groups

    def region(
        self,
        fields: Fields,
        owner: Tensor,
        taken: Tensor,
        place: Tensor,
        size: int,
        generator: torch.Generator,
    ) -> Cut:
        """Regions around a customer of every group, as parts.

        Parameters
        ----------
        fields
            Arrays of the instances.
        owner, taken, place
            Groups of routes as `RoutesPolicy.groups` gives them.
        size
            Nodes of a part.
        generator
            Draws the customer.
        """
        parts, m = taken.shape
        known, begins = taken >= 0, (taken >= 0) & (taken % 2 == 1)
        node = torch.where(known, taken // 2, -1)
        points = points_of(fields, node.clamp_min(0), owner)
        centre = points.gather(1, random_step(known, generator)[..., None].expand(-1, -1, 2))
        far = torch.linalg.vector_norm(points - centre, dim=2).masked_fill(~known, torch.inf)
        near = far.argsort(1)[:, : max(2, round(self.free * size))]
        fixed = known.scatter(1, near, False)
        # Ways begin and end where there is something free, or a route.
        head = fixed & (begins | ~F.pad(fixed[:, :-1], (1, 0)))
        tail = fixed & F.pad(head[:, 1:] | ~fixed[:, 1:], (0, 1), value=True)
        column = torch.arange(m, device=taken.device).expand(parts, m)
        first = torch.where(head, column, 0).cummax(1).values
        last = torch.where(tail, column, m - 1).flip(1).cummin(1).values.flip(1)
        other = torch.where(head, last, torch.where(tail, first, column))
        # Rows of the free ones and of the ends, in their order.
        row = listed(known & (~fixed | head | tail))
        blank, at = F.pad(row < 0, (2, 0)), row.clamp_min(0)
        full = self.inner.substate(fields, node, owner)
        far_end = F.pad(other.gather(1, at) + 2, (2, 0))
        far_end[:, 1] = 1
        at = F.pad(at + 2, (2, 0))
        at[:, 1] = 1
        state, beyond = full.rows(at), full.rows(far_end)
        link = torch.where(far_end != at, beyond.index + 1, 0).masked_fill(blank, 0)
        # The load of a way, from the sums up to its ends.
        demand = full.nodes[..., -1].double() * (full.index >= 0)
        total = F.pad(demand.cumsum(1), (1, 0))
        load = total.gather(1, torch.maximum(at, far_end) + 1)
        load = (load - total.gather(1, torch.minimum(at, far_end))).masked_fill(blank, 0.0)
        columns = [state.nodes[..., :2], beyond.nodes[..., :2], link[..., None], load[..., None]]
        nodes = torch.cat([column.to(state.nodes.dtype) for column in columns], 2)
        state = replace(state, nodes=nodes, index=state.index.masked_fill(blank, -1), dense=False)
        cost = self.inner.length(fields, taken, owner)
        return Cut(state, owner, cost, place, taken, hash_rows(state.index, link, load.long()))

    def whole(self, cut: Cut, new: Tensor) -> Tensor:
        """New routes [parts, steps] with the customers of the ways that they enter."""
        link, old = self._link(cut.state), cut.old
        if link is None or new.shape[1] == 0:
            return new
        assert old is not None
        if int((new >= 0).sum()) == int((old >= 0).sum()):
            return new
        known, node = new >= 0, torch.where(new >= 0, new // 2, -1)
        nodes = torch.where(old < 0, -2, old // 2)
        row = places_of(node, cut.state.index[:, 2:])[0] + 2
        left = link.long().gather(1, row) - 1
        begin = places_of(node, nodes)[0]
        end = torch.where(left >= 0, places_of(left, nodes)[0], begin)
        count = ((end - begin).abs() + 1) * known
        behind = count.cumsum(1)
        slot = torch.arange(old.shape[1], device=old.device).expand(len(old), -1).contiguous()
        step = torch.searchsorted(behind, slot, right=True).clamp_max(new.shape[1] - 1)
        offset = slot - (behind - count).gather(1, step)
        begin, end = begin.gather(1, step), end.gather(1, step)
        at = (begin + offset * (end - begin).sign()).clamp(0, old.shape[1] - 1)
        via = (offset == 0) & (new.gather(1, step) % 2 == 1)
        out = 2 * nodes.gather(1, at) + via.long()
        return out.masked_fill(slot >= behind[:, -1:], -1)

    def recombine(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """As the policy's, of whole routes."""
        mixed: Tensor = self.inner.recombine(fields, cut, self.whole(cut, new))
        return mixed

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """Lengths [parts] of the new routes."""
        cost: Tensor = self.inner.part_cost(fields, cut, self.whole(cut, new))
        return cost

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Solutions with the better parts put in."""
        new = self.whole(cut, new)
        pasted: Tensor = self.inner.paste(fields, actions, cut, new, better)
        return pasted


def route_region_examples(
    policy: RouteRegions,
    teacher: RoutesTeacher,
    fields: Fields,
    size: int,
    k: int,
    nodes: int,
    generator: torch.Generator,
) -> Examples:
    """Regions of solved routes after some of their decisions: the labels say what is next.

    Parameters
    ----------
    policy
        Cuts regions out of routes and nothing else.
    teacher
        Says in which order and direction routes are taught.
    fields
        What its `prepare` gave.
    size
        Number of examples.
    k
        Largest number of candidates; the nearest are kept.
    nodes
        Nodes of a part, as in `RouteRegions.cut`.
    generator
        Source of the randomness.
    """
    count, n = fields["tour"].shape
    some = uniform_int(0, count - 1, max(1, -(-size * int(REACH * nodes) // n)), generator)
    own = {name: fields[name][some] for name in fields}
    owner, taken, place = policy.groups_around(own, teacher.actions(own), nodes, generator)
    which = uniform_int(0, len(owner) - 1, size, generator)
    owner, taken, place = owner[which], taken[which], place[which]
    # Places in the solutions are of no use here.
    taken = _taught(teacher, own, owner, taken, generator)
    cut = policy.region(own, owner, taken, place, nodes, generator)
    state, m = cut.state, policy.inner.markers
    # Rows stand in the order of the routes: the second end of a way is no step of its own.
    link = state.nodes[:, m:, -2].long()
    inner = state.index[:, m:]
    filled = inner >= 0
    second = F.pad((link[:, 1:] > 0) & (link[:, 1:] == inner[:, :-1] + 1), (1, 0))
    at, _ = places_of(inner, torch.where(taken < 0, -2, taken // 2))
    begins = filled & (taken.gather(1, at) % 2 == 1)
    step = (filled & ~second).long().cumsum(1) - 1
    steps = (filled & ~second).sum(1, keepdim=True)
    drawn = torch.rand(size, 1, generator=generator, device=taken.device)
    done = (drawn * steps).long().minimum(steps - 1)
    remains = filled & (step >= done)
    target = filled & (step == done) & ~second
    via = begins & target
    # Current is the last row before those that remain, or the depot.
    before = (filled & ~remains).sum(1, keepdim=True)
    at = torch.where(before > 0, before + m - 1, 0)
    # What the route has served so far.
    load = state.nodes[:, m:, -1] * (filled & ~second & ~remains)
    route = begins.long().cumsum(1)
    route_now = route.gather(1, (before - 1).clamp_min(0))
    served = (load * (route == route_now)).sum(1, keepdim=True)
    capacity = state.scalar[:, 1:]
    scalar = torch.cat([capacity - served, capacity], 1)
    # Places: ways are three long, so that their ends are no neighbours, and a gap is before
    # every route.
    wide = 1 + 2 * second.long() + begins.long()
    spot = (wide * filled).cumsum(1) - 1
    far = torch.full_like(before, -9)
    goal = target.to(torch.int8).argmax(1, keepdim=True)
    inside = (before > 0) & ~via.any(1, keepdim=True)
    here = torch.where(inside, spot.gather(1, goal) - 1, far)
    position = torch.cat([here, far, spot.masked_fill(~remains, -9)], 1)
    state = replace(state.standing(at, remains), scalar=scalar)
    wanted = torch.stack([target & ~via, via], 2).float()
    wanted = F.pad(wanted, (0, 0, m, 0))
    rows = nearest_rows(policy, state, min(k, int(remains.sum(1).max())))
    wanted = wanted.gather(1, rows[..., None].expand(-1, -1, 2)).flatten(1)
    return Examples(state.rows(rows), wanted, position.gather(1, rows), teacher.directed)


def _taught(
    teacher: RoutesTeacher,
    fields: Fields,
    owner: Tensor,
    taken: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Groups of routes [parts, m] in the order and direction in which they are taught."""
    known, begins = taken >= 0, (taken >= 0) & (taken % 2 == 1)
    node = torch.where(known, taken // 2, 0)
    route = (begins.long().cumsum(1) - 1).clamp_min(0)
    column = torch.arange(taken.shape[1], device=taken.device).expand_as(taken)
    first, last = route_ends(begins, route, known)
    flip = teacher.flips(route, True, generator) & known
    node = node.gather(1, torch.where(flip, first + last - column, column))
    demand = fields["demands"].double()[owner[:, None], node] * known
    load = torch.zeros_like(demand).scatter_add_(1, route, demand).gather(1, route)
    points = points_of(fields, node, owner)
    away = (points - points_of(fields, torch.zeros_like(node[:, :1]), owner)) * known[..., None]
    rank = in_order(teacher.order, away, load, route).masked_fill(~known, torch.inf)
    order = rank.argsort(dim=1, stable=True)
    return torch.where(known, 2 * node + begins.long(), -1).gather(1, order)
