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

from nco.bq.decoding import nearest_rows
from nco.bq.imitation import Examples, SelectionTeacher, listed, members, uniform_int
from nco.bq.policies.knapsack import SelectionPolicy
from nco.bq.state import Cut, Fields, Graph, State


def around(x: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Sums over neighbours of values [b, nodes + 1], along edges between u and v [b, m]."""
    out = torch.zeros_like(x).scatter_add_(1, u, x.gather(1, v))
    return out.scatter_add_(1, v, x.gather(1, u))


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

    def substate(self, fields: Fields, nodes: Tensor, owner: Tensor | None = None) -> State:
        """Sub-instances: the graphs of some nodes.

        Parameters
        ----------
        fields
            As for `start`.
        nodes
            Their numbers [parts, m], filled up with -1.
        owner
            Instance of each part [parts]; None for one part per instance, in order.
        """
        owner = torch.arange(len(nodes), device=nodes.device) if owner is None else owner
        weights = fields["weights"].double()
        weights = (weights / weights.amax(1, keepdim=True).clamp_min(1e-300)).float()
        weight = weights[owner[:, None], nodes.clamp_min(0)]
        graph = Graph(fields["edges"], weights.shape[1])
        empty = weight.new_zeros(len(nodes), 0)
        state = State(weight[..., None], nodes, empty, dense=False, owner=owner, graph=graph)
        return self._surround(state, *graph.ends(owner))

    def _surround(self, state: State, u: Tensor, v: Tensor) -> State:
        """With sums over the neighbours that are left, along edges between u and v [b, m]."""
        assert state.graph is not None
        n = state.graph.nodes
        at = torch.where(state.index >= 0, state.index, n)
        weight = state.nodes.new_zeros(state.batch, n + 1)
        alive = weight.scatter(1, at, 1.0)
        alive[:, n] = 0.0
        weight = weight.scatter(1, at, state.nodes[..., 0]) * alive
        degree = around(alive, u, v) * alive
        once = around(weight / (degree + 1.0), u, v) * alive
        columns = [weight, degree, around(weight, u, v), once, around(once, u, v)]
        nodes = torch.stack([column.gather(1, at) for column in columns], 2)
        return replace(state, nodes=nodes)

    def features(self, state: State) -> Tensor:
        """Weight, degree, and share of the weight among neighbours."""
        filled = state.index >= 0
        weight, degree, beside, once, twice = (state.nodes * filled[..., None]).unbind(2)
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
        at = torch.where(state.index >= 0, state.index, n)
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
        chosen = state.index.gather(1, action[:, None])
        n = state.graph.nodes
        gone = torch.zeros(state.batch, n + 1, dtype=torch.bool, device=u.device)
        gone = gone.scatter(1, torch.where(u == chosen, v, n), True)
        gone = gone.scatter(1, torch.where(v == chosen, u, n), True)
        gone = gone.scatter(1, chosen.clamp_min(0), True)
        lost = gone.gather(1, state.index.clamp_min(0))
        return self._surround(replace(state, index=state.index.masked_fill(lost, -1)), u, v)

    def nearness(self, state: State) -> Tensor:
        """Share of the weight of node and neighbours."""
        weight, beside = state.nodes[..., 0], state.nodes[..., 2]
        return weight / (weight + beside).clamp_min(1e-30)

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """Of every set, up to ``size / 4`` nodes that share neighbours with a random one.

        What may take their place are all nodes without other neighbours in the set.
        """
        b, n = fields["weights"].shape
        device = actions.device
        known = actions >= 0
        noise = torch.rand(b, actions.shape[1], generator=generator, device=device)
        seed = actions.gather(1, (noise * known).argmax(1, keepdim=True)).clamp_min(0)
        u, v = Graph(fields["edges"], n).ends(torch.arange(b, device=device))

        common = torch.zeros(b, n + 1, device=device).scatter(1, seed, 1.0)
        common = around(around(common, u, v), u, v).gather(1, actions.clamp_min(0)) + noise
        common = common.masked_fill(~known, -1.0)
        free = common.topk(min(max(2, size // 4), actions.shape[1]), dim=1).indices
        free = torch.where(known.gather(1, free), actions.gather(1, free), -1)
        stay = members(actions, n) & ~members(free, n)
        stays = torch.nn.functional.pad(stay.float(), (0, 1))
        possible = (around(stays, u, v)[:, :n] == 0) & ~stay
        state = self.substate(fields, listed(possible))
        owner = torch.arange(b, device=device)
        cut = Cut(state, owner, common[:, 0], free, free)
        return replace(cut, cost=self.part_cost(fields, cut, free))


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
        gone = torch.nn.functional.pad(taken, (0, 1))
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
