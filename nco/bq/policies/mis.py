"""BQ policy of the maximum (weight) independent set problem.

A state is the graph of the nodes that may still be chosen; an action chooses one, which
takes it and its neighbours out. The edges of whole instances are shared by all states:
each node's degree and what surrounds it are sums over them, renewed at every step in time
and memory that grow with the edges. The network sees pairs, adjacent or not, of the rows
that it looks at: k^2 of them, or n^2 with k = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from nco.bq.decoding import nearest_rows
from nco.bq.imitation import Examples, SelectionTeacher, listed, members, uniform_int
from nco.bq.policies.knapsack import SelectionPolicy
from nco.bq.state import Cut, Fields, Graph, State, gather_parts


def around(x: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Sums over neighbours of values [b, nodes + 1], along edges between u and v [b, m]."""
    out = torch.zeros_like(x).scatter_add_(1, u, x.gather(1, v))
    return out.scatter_add_(1, v, x.gather(1, u))


def extreme(x: Tensor, u: Tensor, v: Tensor, how: str, fill: int) -> Tensor:
    """As `around`, the least or the largest value among neighbours; ``fill`` without any."""
    out = torch.full_like(x, fill)
    return out.scatter_reduce(1, u, x.gather(1, v), how).scatter_reduce(1, v, x.gather(1, u), how)


def ranks(group: Tensor, order: Tensor) -> Tensor:
    """Place of every entry [b, m] among those of its group, in ascending order of values."""
    by = order.argsort(1)
    by = by.gather(1, group.gather(1, by).argsort(dim=1, stable=True))
    line = group.gather(1, by)
    place = torch.arange(line.shape[1], device=line.device) - torch.searchsorted(line, line)
    return torch.empty_like(group).scatter(1, by, place)


def _inner(part: Tensor, u: Tensor, v: Tensor, number: Tensor, nodes: Tensor, count: int) -> Graph:
    """Edges within parts, between places in them.

    Parameters
    ----------
    part
        Part of every node [b, n].
    u, v
        Ends of the edges [b, m].
    number, nodes, count
        As of `gather_parts`.
    """
    b, n = part.shape
    place = number.new_zeros(b, n + 1)
    slot = torch.arange(nodes.shape[1], device=u.device).expand_as(nodes)
    place[(number // count)[:, None], torch.where(nodes < 0, n, nodes)] = slot
    mine, other = (pad(part, (0, 1), value=-1).gather(1, end) for end in (u, v))
    some, edges = gather_parts(mine.masked_fill(mine != other, -1), count)
    line = (some // count)[:, None]
    pairs = torch.stack([place.gather(1, end)[line, edges] for end in (u, v)], 2)
    every = pairs.new_full((len(number), *pairs.shape[1:]), -1)
    every[torch.searchsorted(number, some)] = pairs.masked_fill((edges < 0)[..., None], -1)
    return Graph(every, nodes.shape[1])


#: Parts of a set that are decided together at least: alternatives where they overlap.
PARTS = 8
#: Parts grow over so many edges at most, and until each has reached so many times its size.
HOPS, ROOM = 32, 2


@dataclass(frozen=True)
class MISPolicy(SelectionPolicy):
    """States, features and steps of the MIS problem.

    A row holds weight, degree, weight of the neighbours, and twice summed over neighbours
    the share ``weight / (degree + 1)`` that Caro and Wei's bound gives a node.
    """

    name = "mis"
    #: What it reads of an instance.
    fields = ("edges", "weights")
    worth = "weights"
    node_dim = 7
    edge_dim = 1

    def start(self, fields: Fields, view: int = 0) -> State:
        """Whole instances: nothing is chosen. All views are alike.

        Parameters
        ----------
        fields
            ``edges`` [b, m, 2], filled up with -1, and ``weights`` [b, n].
        view
            Without effect.
        """
        b, n = fields["weights"].shape
        index = torch.arange(n, device=fields["weights"].device).expand(b, n)
        return self.substate(fields, index)

    def substate(
        self,
        fields: Fields,
        nodes: Tensor,
        owner: Tensor | None = None,
        graph: Graph | None = None,
    ) -> State:
        """Sub-instances: the graphs of some nodes.

        Parameters
        ----------
        fields
            As for `start`.
        nodes
            Their numbers [parts, m], filled up with -1.
        owner
            Instance of each part [parts]; None for one part per instance, in order.
        graph
            The edges of each part, between places in it; None for the instances' own.
        """
        owner = torch.arange(len(nodes), device=nodes.device) if owner is None else owner
        weights = fields["weights"].double()
        weights = (weights / weights.amax(1, keepdim=True).clamp_min(1e-300)).float()
        weight = weights[owner[:, None], nodes.clamp_min(0)]
        place = nodes
        if graph is None:
            graph = Graph(fields["edges"], weights.shape[1])
        else:
            owner = torch.arange(len(nodes), device=nodes.device)
            place = torch.arange(nodes.shape[1], device=nodes.device).expand_as(nodes)
        empty = weight.new_zeros(len(nodes), 0)
        columns = torch.stack([weight, place.to(weight.dtype)], 2)
        state = State(columns, nodes, empty, dense=False, owner=owner, graph=graph)
        return self._surround(state, *graph.ends(owner))

    def _ends(self, state: State) -> Tensor:
        """What stands for every row at the ends of edges [b, n]; who is no row is last."""
        assert state.graph is not None
        return torch.where(state.index >= 0, state.nodes[..., -1].long(), state.graph.nodes)

    def _surround(self, state: State, u: Tensor, v: Tensor) -> State:
        """With sums over the neighbours that are left, along edges between u and v [b, m]."""
        assert state.graph is not None
        n = state.graph.nodes
        at = self._ends(state)
        weight = state.nodes.new_zeros(state.batch, n + 1)
        alive = weight.scatter(1, at, 1.0)
        alive[:, n] = 0.0
        weight = weight.scatter(1, at, state.nodes[..., 0]) * alive
        degree = around(alive, u, v) * alive
        once = around(weight / (degree + 1.0), u, v) * alive
        columns = [weight, degree, around(weight, u, v), once, around(once, u, v)]
        nodes = torch.stack(
            [*(column.gather(1, at) for column in columns), state.nodes[..., -1]], 2
        )
        return replace(state, nodes=nodes)

    def features(self, state: State) -> Tensor:
        """Weight, degree, and share of the weight among neighbours."""
        filled = state.index >= 0
        weight, degree, beside, once, twice, _ = (state.nodes * filled[..., None]).unbind(2)
        count = filled.sum(1, keepdim=True).clamp_min(1)
        scale = weight.amax(1, keepdim=True).clamp_min(1e-30)
        mean = degree.sum(1, keepdim=True) / count
        share = weight / (weight + beside).clamp_min(1e-30)
        columns = [
            weight / scale,
            degree.log1p() / 5.0,
            degree / mean.clamp_min(1e-6),
            share.clamp_min(1e-4).log() / 5.0,
            once / scale,
            twice / (scale * (degree + 1.0)),
            mean.log1p().expand_as(degree) / 5.0,
        ]
        return torch.stack(columns, 2).clamp_max(20.0) * filled[..., None]

    def edges(self, state: State) -> Tensor:
        """Which rows are adjacent [b, n, n, 1]."""
        assert state.graph is not None
        n, width = state.graph.nodes, state.width
        at = self._ends(state)
        rows = torch.arange(width, device=at.device).expand_as(at)
        row = at.new_full((state.batch, n + 1), width).scatter(1, at, rows)
        row[:, n] = width
        u, v = (row.gather(1, end) for end in state.graph.ends(state.owner))
        b = torch.arange(state.batch, device=at.device)[:, None]
        pairs = torch.zeros(state.batch, width + 1, width + 1, device=at.device)
        pairs[b, u, v] = 1.0
        pairs[b, v, u] = 1.0
        return pairs[:, :width, :width, None]

    def step(self, state: State, action: Tensor) -> State:
        """Choose nodes [b], which leave with their neighbours."""
        assert state.graph is not None
        u, v = state.graph.ends(state.owner)
        at, n = self._ends(state), state.graph.nodes
        chosen = at.gather(1, action[:, None])
        gone = torch.zeros(state.batch, n + 1, dtype=torch.bool, device=u.device)
        gone = gone.scatter(1, torch.where(u == chosen, v, n), True)
        gone = gone.scatter(1, torch.where(v == chosen, u, n), True)
        gone = gone.scatter(1, chosen, True)
        lost = gone.gather(1, at)
        return self._surround(replace(state, index=state.index.masked_fill(lost, -1)), u, v)

    def nearness(self, state: State) -> Tensor:
        """Share of the weight of node and neighbours."""
        weight, beside = state.nodes[..., 0], state.nodes[..., 2]
        return weight / (weight + beside).clamp_min(1e-30)

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """Of every set, nodes around random ones, with what may take their place.

        That are all nodes without other neighbours in the set, at most ``size`` with those who
        leave. A part of a dense graph takes most of the set, so that there is room for one; so
        many of such are decided together, and `paste` keeps the best.
        """
        b, n = fields["weights"].shape
        chosen = members(actions, n)
        u, v = Graph(fields["edges"], n).ends(torch.arange(b, device=actions.device))
        count = torch.ones(b, dtype=torch.int64, device=actions.device)
        alone = self._parts(chosen, u, v, count, size, generator)
        leave = ((alone >= 0) & chosen).sum(1).clamp_min(1)
        count = (chosen.sum(1) // leave).clamp(1, -(-n // size))
        row = torch.arange(b, device=actions.device)
        row = row.repeat_interleave(-(-PARTS // int(count.max())))
        chosen, u, v = chosen[row], u[row], v[row]
        most = int(count.max())
        part = self._parts(chosen, u, v, count[row], size, generator)
        number, nodes = gather_parts(part, most)
        line = number // most
        graph = _inner(part, u, v, number, nodes, most)
        old = nodes.masked_fill(~chosen[line[:, None], nodes.clamp_min(0)], -1)
        state = self.substate(fields, nodes, row[line], graph)
        return Cut(state, row[line], -self._worth(fields, old, row[line]), old, old)

    def _parts(
        self,
        chosen: Tensor,
        u: Tensor,
        v: Tensor,
        count: Tensor,
        size: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Number of the part [b, n] that a node may be decided in again, -1 for none.

        Parameters
        ----------
        chosen
            Who is in the set [b, n].
        u, v
            Ends of the edges [b, m].
        count
            Number of parts [b].
        size
            Nodes in a part at most.
        """
        b, n = chosen.shape
        noise = torch.rand(b, n, generator=generator, device=u.device)
        turn = noise.argsort(1).argsort(1)
        region = pad(torch.where(turn < count[:, None], turn, -1), (0, 1), value=-1)
        hops, most = torch.zeros_like(region), int(count.max())
        real = torch.arange(most, device=u.device) < count[:, None]
        for hop in range(1, min(size, HOPS + 1)):
            reached = region.new_zeros(b, most + 1)
            reached.scatter_add_(1, region + 1, torch.ones_like(region))
            if bool(((reached[:, 1:] >= ROOM * size) | ~real).all()):
                break
            beside = extreme(region, u, v, "amax", -1)
            fresh = (region < 0) & (beside >= 0)
            fresh[:, n] = False
            if not bool(fresh.any()):
                break
            region, hops = (
                torch.where(fresh, beside, region),
                hops.masked_fill(fresh, hop),
            )
        # Who is reached from nowhere belongs anywhere, last of all.
        far, region, hops = region[:, :n] < 0, region[:, :n], hops[:, :n]
        region = torch.where(far, turn % count[:, None], region)
        near = hops.masked_fill(far, n) + noise.double()
        # In this order nodes leave the set; who is beside them may come after the last of them.
        leave = ranks(region.masked_fill(~chosen, n), near).masked_fill(~chosen, -1)
        own = region.masked_fill(~chosen, -1)
        last, high = (extreme(pad(x, (0, 1)), u, v, "amax", -1)[:, :n] for x in (leave, own))
        own = region.masked_fill(~chosen, n)
        low = extreme(pad(own, (0, 1)), u, v, "amin", n)[:, :n]
        last = torch.where(chosen, leave, last)
        part = torch.where(chosen | (high < 0), region, torch.where(low == high, high, n))
        late = last + (~chosen).double() * (0.25 + 0.5 * noise)
        return part.masked_fill((ranks(part, late) >= size) | (part == n), -1)

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Sets with the better parts; of two that exclude one another, that which gains more."""
        b, n = fields["weights"].shape
        owner = cut.owner[:, None]
        width = max(new.shape[1], cut.place.shape[1])
        was, now = (pad(x, (0, width - x.shape[1]), value=-1) for x in (cut.place, new))
        # What stays as it was stands in nobody's way.
        better = better & (was.sort(1).values != now.sort(1).values).any(1)
        gain = cut.cost - self.part_cost(fields, cut, new)
        rank = gain.argsort().argsort().masked_fill(~better, -1)[:, None]
        was, now = (torch.where(x < 0, n, x) for x in (was, now))

        def highest(nodes: Tensor) -> Tensor:
            top = rank.new_full((b * (n + 1),), -1)
            at = (owner * (n + 1) + nodes).flatten()
            return top.scatter_reduce(0, at, rank.expand_as(nodes).flatten(), "amax").view(b, -1)

        def beaten(top: Tensor, nodes: Tensor) -> Tensor:
            return ((top[owner, nodes] > rank) & (nodes < n)).any(1)

        u, v = Graph(fields["edges"], n).ends(torch.arange(b, device=actions.device))
        beside = extreme(highest(now), u, v, "amax", -1)
        keep = better & ~beaten(highest(was), was) & ~beaten(beside, now)
        return self.exchange(fields, actions, cut, new, keep)


@dataclass(frozen=True)
class MISTeacher(SelectionTeacher):
    """What remains of a graph after some of the label's nodes were chosen.

    The target is shared by all nodes of the label that remain.
    """

    worth = "weights"

    def examples(
        self,
        fields: Fields,
        size: int,
        k: int,
        augment: bool,
        generator: torch.Generator,
        host: torch.Generator,
    ) -> Examples:
        """As `Teacher.examples`; nothing to augment.

        Fields are ``edges`` [N, m, 2], ``weights`` and ``chosen`` [N, n].
        """
        policy = MISPolicy()
        device = fields["weights"].device

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        count, n = fields["weights"].shape
        which = uniform_int(0, count - 1, size, generator)
        best = fields["chosen"].bool()[which]
        taken = best & (rand(size, n) < rand(size, 1))
        # At least one node of the label remains.
        last = (rand(size, n) * best).argmax(1, keepdim=True)
        taken = taken.scatter(1, last, False)
        u, v = Graph(fields["edges"], n).ends(which)
        gone = pad(taken, (0, 1))
        beside = gone.scatter(1, torch.where(gone.gather(1, u), v, n), True)
        beside = beside.scatter(1, torch.where(gone.gather(1, v), u, n), True)[:, :n]
        # Leaving out nodes that are not in the label does not change what is best.
        drop = rand(size, 1) * (rand(size, 1) < 0.5)
        left = ~taken & ~beside & (best | (rand(size, n) >= drop))
        state = policy.substate(fields, listed(left), which)
        if k < state.width:
            state = state.rows(nearest_rows(policy, state, k))
        filled = state.index >= 0
        target = (best.gather(1, state.index.clamp_min(0)) & filled).float()
        target = target / target.sum(1, keepdim=True).clamp_min(1.0)
        return Examples(state, target)


POLICY = MISPolicy
TEACHER = MISTeacher
