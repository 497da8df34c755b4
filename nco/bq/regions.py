"""Parts of tours that are regions of near nodes, rather than paths along the tour.

A window of the tour is cut out, as consecutive parts are, and its nodes are shared out to
centres, each to the nearest. The nodes of a region are free; what lies between them on the
tour becomes fixed ways, entered at either end and left at the other. Destroying by distance
after F. Luo et al., Learning to insert for constructive neural vehicle routing solver (2025);
fixed ways as one action after K. Li, F. Liu, Z. Wang and Q. Zhang, Destroy and repair using
hyper-graphs for routing (AAAI 2025), who train a network for it, as is done here where the
policy is shown ways (`region_examples`); any other policy of tours decides as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nco.bq.decoding import nearest_rows
from nco.bq.imitation import Examples, tour_actions, uniform_int
from nco.bq.policies.cvrp import CVRPPolicy
from nco.bq.policies.tsp import TourPolicy
from nco.bq.recombine import recombined
from nco.bq.route_regions import RouteRegions
from nco.bq.state import Cut, Fields, State, gather_parts, packed, places_of

C = TypeVar("C", bound=Any)

#: Of a policy that was taught fixed ways: share of the cuts that are regions, and their free
#: nodes as a share of the nodes of a part.
SHOWN, FREE = 0.8, 0.8
#: So many distances of nodes to centres are in memory at a time, of one window at least.
DISTANCES = 2**21


@dataclass(frozen=True)
class RegionPolicy:
    """A policy of tours whose parts are sometimes regions; all else is the policy's own.

    States of regions are not dense. Behind the policy's columns they have those of the node
    where a fixed way leads, or of the node itself where none begins, if the policy is shown
    ways. The last column of an end of a way is one more than the number of its other end,
    negative where the way may not be entered; 0 of all other nodes.

    Parameters
    ----------
    inner
        The policy, a `nco.bq.policies.tsp.TourPolicy`.
    share
        Share of the cuts that are regions.
    reach
        Nodes of a window, in sizes of a region, where a tour has so many.
    free
        Free nodes of a region, as a share of the nodes of a part.
    """

    inner: Any
    share: float = 0.5
    reach: float = 200.0
    free: float = 0.5

    def __getattr__(self, name: str) -> Any:
        """What is not said here is the policy's own."""
        return getattr(self.inner, name)

    @staticmethod
    def _plain(state: State) -> State:
        """States as the policy knows them."""
        return state if state.dense else replace(state, nodes=state.nodes[..., :-1])

    def loose(self, state: State) -> State:
        """Dense states as such that need not be: without fixed ways."""
        return replace(state, nodes=F.pad(state.nodes, (0, 1)), dense=False)

    def features(self, state: State) -> Tensor:
        """As the policy sees the nodes, or also where ends of fixed ways lead, if shown."""
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
        """As the policy's; a fixed way costs what lies straight between its ends."""
        price: Tensor = self.inner.price(self._plain(state), action)
        if state.dense:
            return price
        after, other, row = self._beyond(state, action)
        way = self.inner.price(self._plain(after), row)
        return price + torch.where(other >= 0, way, 0.0)

    def step(self, state: State, action: Tensor) -> State:
        """Move to the chosen rows [b], and from the end of a fixed way on to the other."""
        if state.dense:
            inner: State = self.inner.step(state, action)
            return inner
        after, other, row = self._beyond(state, action)
        return after.visit(row).where(other >= 0, after)

    def _beyond(self, state: State, action: Tensor) -> tuple[State, Tensor, Tensor]:
        """States at the chosen rows [b], the other ends' numbers (-1: none) and their rows."""
        other = state.nodes[..., -1].gather(1, action[:, None])[:, 0].abs().long() - 1
        after = state.visit(action)
        row = (after.index[:, self.inner.markers :] == other[:, None]).to(torch.int8).argmax(1)
        return after, other, row + self.inner.markers

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """Regions of free nodes and ends of ways, or consecutive parts as the policy's."""
        tour = self.inner.tour(actions)
        draw = float(torch.rand((), generator=generator, device=tour.device))
        part, size, most = size, max(2, int(self.free * size)), tour.shape[1] - 2
        cut: Cut | None = None
        if draw < self.share and most > size:
            width = min(most, round(self.reach * size))
            owner, place = self.inner.windows(tour, width, generator)
            paths = tour[owner[:, None], place]
            label = self._cells(fields, paths[:, 1:-1], owner, size, generator)
            cut = self._regions(fields, paths, place, label, owner)
        return cut or self.inner.cut(fields, actions, part, generator)

    def _cells(
        self, fields: Fields, nodes: Tensor, owner: Tensor, size: int, generator: torch.Generator
    ) -> Tensor:
        """Regions [windows, m] of the windows' nodes, by number; -1 for those in none."""
        windows, m = nodes.shape
        device = nodes.device
        count = max(1, m // size)
        middle = torch.randint(0, m, (windows, count), generator=generator, device=device)
        points = self.inner.places(fields, nodes, owner)
        if points is None:
            centres = nodes.gather(1, middle)[..., None].expand(-1, -1, m)
            far = torch.stack(
                [self.inner.lengths(fields, centres[:, i], nodes, owner) for i in range(count)], 2
            )
            least, label = far.min(2)
        else:
            points = (points - points[:, :1]).float()
            step = max(1, DISTANCES // (count * m))
            rows = []
            for i in range(0, windows, step):
                own = points[i : i + step]
                at = middle[i : i + step, :, None].expand(-1, -1, own.shape[2])
                rows.append(torch.cdist(own.gather(1, at), own).min(1))
            least, label = (torch.cat([row[i] for row in rows]) for i in (0, 1))
        # What is beyond a region's size is none of it, the farthest first.
        order = least.argsort(1)
        order = order.gather(1, label.gather(1, order).argsort(dim=1, stable=True))
        own = label.gather(1, order)
        late = torch.arange(m, device=device) - torch.searchsorted(own, own) >= size
        label = label.scatter(1, order, own.masked_fill(late, -1))
        # A leg between two regions would belong to both.
        before = F.pad(label[:, :-1], (1, 0), value=-1)
        return label.masked_fill((before >= 0) & (before != label), -1)

    def _regions(
        self, fields: Fields, paths: Tensor, place: Tensor, label: Tensor, owner: Tensor
    ) -> Cut | None:
        """Regions as parts; None where none has two nodes.

        Parameters
        ----------
        fields
            Arrays of the instances.
        paths, place
            Windows [windows, m + 2], and their places in the tours.
        label
            As `_cells` gives them.
        owner
            The tour of every window.
        """
        count = int(label.max()) + 1
        part, at = gather_parts(label, max(1, count))
        some = (at >= 0).sum(1) > 1
        part, at = part[some], at[some] + 1
        if not len(part):
            return None
        window = part // count
        known = at > 0
        many = known.sum(1, keepdim=True)
        # Of every node, itself and both ends of the way to the next one.
        follow = F.pad(at[:, 1:], (0, 1))
        gap = torch.where(F.pad(known[:, 1:], (0, 1)), follow - at - 1, 0)
        way = gap > 1
        rows = torch.stack(
            [at, torch.where(gap > 0, at + 1, 0), torch.where(way, follow - 1, 0)], 2
        ).flatten(1)
        other = torch.stack(
            [torch.zeros_like(at), torch.where(way, follow - 1, 0), torch.where(way, at + 1, 0)], 2
        ).flatten(1)
        _, row = gather_parts(torch.where(rows > 0, 0, -1), 1)
        filled, row = row >= 0, row.clamp_min(0)
        rows, other = rows.gather(1, row), other.gather(1, row)
        own = window[:, None]
        nodes = paths[own, rows]
        link = (paths[own, other] + 1) * (filled & (other > 0))
        second = filled & (other > 0) & (other < rows)
        if self.inner.directed:
            link = torch.where(second, -link, link)
        ends = paths[own, torch.cat([at[:, :1] - 1, at.gather(1, many - 1) + 1], 1)]
        who = owner[window]
        state = self.inner.substate(fields, torch.cat([ends[:, :1], nodes, ends[:, 1:]], 1), who)
        columns = [state.nodes]
        if self.inner.ways:
            beyond = torch.where(link != 0, link.abs() - 1, nodes)
            path = torch.cat([ends[:, :1], beyond, ends[:, 1:]], 1)
            columns.append(self.inner.substate(fields, path, who).nodes)
        columns.append(F.pad(link, (2, 0))[..., None].to(state.nodes.dtype))
        index = F.pad(torch.where(filled, nodes, -1), (2, 0))
        index[:, :2] = ends
        state = replace(state, nodes=torch.cat(columns, 2), index=index, dense=False)
        # As it is now, fixed ways are entered at their first end.
        _, taken = gather_parts(torch.where(filled & ~second, 0, -1), 1)
        old = nodes.gather(1, taken.clamp_min(0)).masked_fill(taken < 0, -1)
        # Of windows, their first place along the tour, and how many they have.
        forward = place[:, 1] - place[:, 0]
        first = torch.where((forward == 1) | (forward < -1), place[:, 0], place[:, -1])[window]
        where = place[own, at].masked_fill(~known, -1)
        width = torch.full_like(first, place.shape[1])
        where = torch.cat([torch.stack([first, width], 1), where], 1)
        zero = torch.zeros(len(part), dtype=torch.float64, device=part.device)
        cut = Cut(state, who, zero, where, old)
        return replace(cut, cost=self.part_cost(fields, cut, old))

    @staticmethod
    def legs(cut: Cut, new: Tensor) -> tuple[Tensor, Tensor]:
        """Begin and end [parts, steps + 1] of the legs of new ways, filled up with -1."""
        ends, index = cut.state.index[:, :2], cut.state.index[:, 2:]
        link = cut.state.nodes[:, 2:, -1].abs().long() - 1
        other = link.gather(1, places_of(new, index)[0])
        left = torch.where(other >= 0, other, new).masked_fill(new < 0, -1)
        count = (new >= 0).sum(1, keepdim=True)
        step = torch.arange(new.shape[1] + 1, device=new.device)
        end = torch.where(step == count, ends[:, 1:], F.pad(new, (0, 1), value=-1))
        return torch.cat([ends[:, :1], left], 1), end

    def recombine(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """As the policy's; fixed ways are legs that all paths have."""
        if cut.state.dense:
            out: Tensor = self.inner.recombine(fields, cut, new)
            return out
        if not self.inner.mixes:
            return new
        # In the order that they have now, nodes and both ends of ways, and the last node.
        index = cut.state.index[:, 2:]
        filled = index >= 0
        size = filled.sum(1) + 2
        ends = cut.state.index[:, :2]
        path = F.pad(torch.cat([ends[:, :1], index], 1), (0, 1), value=-1)
        path = path.scatter(1, size[:, None] - 1, ends[:, 1:])
        link = F.pad(cut.state.nodes[:, 2:, -1].abs().long() - 1, (1, 1), value=-1)
        # Where each action leads: to its row, and on to the other end of its way.
        entered = (places_of(new, index)[0] + 1).masked_fill(new < 0, -1)
        other = link.gather(1, entered.clamp_min(0)).masked_fill(new < 0, -1)
        left = (places_of(other, index)[0] + 1).masked_fill(other < 0, -1)
        rows = packed(torch.stack([entered, left], 2).flatten(1))
        place = torch.arange(path.shape[1], device=path.device).expand_as(path)
        rows = F.pad(rows, (1, path.shape[1] - 1 - rows.shape[1]))
        inner = (place > 0) & (place < size[:, None] - 1)
        rows = torch.where(inner, rows, place)
        after = path.gather(1, rows)
        legs = [
            self.inner.lengths(fields, p[:, :-1].clamp_min(0), p[:, 1:].clamp_min(0), cut.owner)
            for p in (path, after)
        ]
        rows = recombined(rows, size, *legs)
        path, link = path.gather(1, rows), link.gather(1, rows)
        # What is recorded of a way is where it is entered.
        second = F.pad((link[:, 1:] >= 0) & (link[:, 1:] == path[:, :-1]), (1, 0))
        return packed(path.masked_fill(second | ~inner, -1))

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """Lengths [parts] of the new ways; of regions without what is fixed."""
        if cut.state.dense:
            out: Tensor = self.inner.part_cost(fields, cut, new)
            return out
        begin, end = self.legs(cut, new)
        lengths = self.inner.lengths(fields, begin.clamp_min(0), end.clamp_min(0), cut.owner)
        return (lengths * (end >= 0)).sum(1)

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Tours with the better parts put in.

        A region alone leaves one tour, but two of a window may not. Those of a window are put
        in one after the other, what gains most first, where one tour is left.
        """
        if cut.state.dense:
            out: Tensor = self.inner.paste(fields, actions, cut, new, better)
            return out
        assert cut.old is not None
        width = max(new.shape[1], cut.old.shape[1])
        now, old = (F.pad(x, (0, width - x.shape[1]), value=-1) for x in (new, cut.old))
        chosen = (better & (now != old).any(1)).nonzero()[:, 0]
        gain = cut.cost - self.part_cost(fields, cut, new)
        chosen = chosen[gain[chosen].argsort(descending=True)]
        tours = self.inner.tour(actions).cpu().numpy()
        n = tours.shape[1]
        owner, place = cut.owner[chosen].cpu().numpy(), cut.place[chosen].cpu().numpy()
        begin, end = (x[chosen].cpu().numpy() for x in self.legs(cut, new))
        window = owner * n + place[:, 0]
        by_window = window.argsort(kind="stable")
        where = np.empty(n, dtype=np.int64)
        for some in np.split(by_window, np.flatnonzero(np.diff(window[by_window])) + 1):
            if not len(some):
                continue
            tour, (first, length) = tours[owner[some[0]]], place[some[0], :2]
            span = (first + np.arange(length)) % n
            path = tour[span]
            free = [tour[p[p >= 0]] for p in place[some, 2:]]
            for row, nodes in zip(some, free, strict=True):
                where[path] = np.arange(length)
                legs = end[row] >= 0
                order = rejoined(
                    length, where[nodes], where[begin[row, legs]], where[end[row, legs]]
                )
                if order is not None:
                    path = path[order]
            tour[span] = path
        return tour_actions(torch.as_tensor(tours, device=actions.device))


def region_examples(
    policy: RegionPolicy, fields: Fields, size: int, k: int, nodes: int, generator: torch.Generator
) -> Examples:
    """Regions of solved tours after some of their decisions: the tours say what is next.

    Parameters
    ----------
    policy
        Cuts regions out of tours and nothing else.
    fields
        Arrays of the instances, and their tours ``tour`` [N, n].
    size
        Number of examples.
    k
        Largest number of candidates; the nearest are kept.
    nodes
        Nodes of a part, as in `RegionPolicy.cut`.
    generator
        Source of the randomness.
    """
    tour = fields["tour"]
    count, n = tour.shape
    # About as many regions as examples are wanted.
    tours = max(1, int(size * policy.free * nodes) // n)
    for _ in range(10):
        some = uniform_int(0, count - 1, tours, generator)
        own = {name: fields[name][some] for name in policy.fields}
        cut = policy.cut(own, tour_actions(tour[some].long()), nodes, generator)
        if cut is not None and cut.old is not None:
            break
    else:
        raise ValueError(f"tours of {n} nodes have no regions of parts of {nodes}.")
    cut = cut.take(uniform_int(0, len(cut.owner) - 1, size, generator))
    old, state = cut.old, cut.state
    assert old is not None
    steps = (old >= 0).sum(1, keepdim=True)
    drawn = torch.rand(size, 1, generator=generator, device=old.device)
    done = (drawn * steps).long().minimum(steps - 1)
    # Which step decides each row, and what lies at the other end of its way.
    index = state.index[:, 2:]
    other = state.nodes[:, 2:, -1].abs().long() - 1
    step, entered = places_of(index, old)
    step = torch.where(entered, step, places_of(other, old)[0])
    # Ways are two places long, so that their ends are no neighbours by themselves.
    way = torch.zeros_like(old).scatter_add_(1, step, ((index >= 0) & (other >= 0)).long())
    begin = (1 + way).cumsum(1) - way - 1
    remains = (index >= 0) & (step >= done)
    place = begin.gather(1, step) + torch.where(entered, 0, 2)
    # Rows without a node are nobody's neighbours.
    place = place.masked_fill(~remains, -9)
    now = begin.gather(1, done)
    last = begin.gather(1, steps - 1) + way.gather(1, steps - 1) + 1
    left, _ = policy.legs(cut, old)
    current = left.gather(1, done)
    row = (state.index == current).to(torch.int8).argmax(1, keepdim=True)
    state = state.standing(row, remains)
    place = torch.cat([now - 1, last, place], 1)
    target = F.pad((remains & (index == old.gather(1, done))).float(), (2, 0))
    rows = nearest_rows(policy, state, min(k, int(remains.sum(1).max())))
    return Examples(state.rows(rows), target.gather(1, rows), place.gather(1, rows))


def rejoined(
    length: int, free: NDArray[Any], begin: NDArray[Any], end: NDArray[Any]
) -> NDArray[Any] | None:
    """A path's places in a new order; None where its pieces would not make one path.

    Parameters
    ----------
    length
        Places of the path; the first and the last one stay.
    free
        Places whose legs are broken [m].
    begin, end
        Places between which there are legs instead [k].
    """
    bounds = np.unique(np.concatenate([[0, length], free, free + 1]))
    pieces = len(bounds) - 1

    def ends(places: NDArray[Any], alone: int) -> NDArray[Any]:
        """Twice the number of the piece, and one more at its last place."""
        piece = np.searchsorted(bounds, places, "right") - 1
        first, last = bounds[piece] == places, bounds[piece + 1] == places + 1
        return 2 * piece + np.where(first & last, alone, last)

    tails, heads = ends(begin, 1), ends(end, 0)
    leads = np.full(2 * pieces, -1)
    leads[tails], leads[heads] = heads, tails
    if (leads < 0).sum() != 2:  # the first and the last piece have one leg only
        return None
    link = leads.tolist()
    path, now = [0], 1 if link[1] >= 0 else 0
    while path[-1] < 2 * (pieces - 1):
        path.append(link[now])
        now = path[-1] ^ 1
    if len(path) < pieces:
        return None
    # A piece that is entered at its last place is turned round.
    return np.concatenate(
        [np.arange(bounds[at // 2], bounds[at // 2 + 1])[:: -1 if at % 2 else 1] for at in path]
    )


def with_regions(conqueror: C, share: float = -1.0) -> C:
    """The conqueror with that share of its cuts as regions.

    Solutions are tours, or routes in the plane whose policy is shown ways; all others have none.

    Parameters
    ----------
    conqueror
        A `nco.bq.decoding.Conqueror` whose policy is its field ``policy``.
    share
        Share of the cuts; -1 for what suits the policy: of tours `SHOWN` where it is shown
        ways, of routes as `RouteRegions`.
    """
    policy = conqueror.policy
    if share and isinstance(policy, CVRPPolicy) and policy.ways:
        return replace(conqueror, policy=RouteRegions(policy, share))
    if not (share and isinstance(policy, TourPolicy)):
        return conqueror
    if share < 0.0:
        share = SHOWN if policy.ways else RegionPolicy.share
    free = FREE if policy.ways else RegionPolicy.free
    return replace(conqueror, policy=RegionPolicy(policy, share, free=free))
