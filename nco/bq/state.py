"""Batches of sub-instances: what remains to decide, and nothing else.

A BQ state is the quotient of all histories that leave the same problem behind: a path
from where one is to where one must end, through the nodes that remain (Drakulic et al.,
BQ-NCO: Bisimulation Quotienting for Efficient Neural Combinatorial Optimization,
NeurIPS 2023, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor

#: Arrays of a batch of instances, by the instance's own field names.
Fields = Mapping[str, Tensor]


@dataclass(frozen=True)
class Graph:
    """Edges of whole instances, shared by all states of a batch and never copied.

    Parameters
    ----------
    pairs
        Adjacent nodes [instances, m, 2], filled up with -1.
    nodes
        Number of nodes of an instance.
    """

    pairs: Tensor
    nodes: int

    def ends(self, owner: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both ends [b, m] of the edges of every state's instance; ``nodes`` fills up."""
        assert owner is not None
        pairs = self.pairs[owner].long()
        pairs = torch.where(pairs < 0, self.nodes, pairs)
        return pairs[..., 0], pairs[..., 1]


@dataclass(frozen=True)
class State:
    """A batch of sub-instances of equal shape.

    Parameters
    ----------
    nodes
        Node data in the instance's units [b, n, f]. The first rows are the policy's
        markers (the current node, the destination).
    index
        Node numbers in the instance [b, n]; -1 marks an empty row.
    scalar
        What belongs to the whole sub-instance [b, s], such as the capacity left.
    dense
        Whether no row is empty. Steps then shrink the state, all sub-instances of a batch
        finish together, and the network needs no mask.
    dist
        Costs between the nodes of whole instances [instances, N, N], where they are given
        by a matrix; it is shared by all states of a batch and never copied.
    owner
        Instance in ``dist`` or ``graph`` of every sub-instance [b].
    graph
        Edges between the nodes of whole instances, where there are such.
    """

    nodes: Tensor
    index: Tensor
    scalar: Tensor
    dense: bool = True
    dist: Tensor | None = None
    owner: Tensor | None = None
    graph: Graph | None = None

    @property
    def batch(self) -> int:
        """Number of sub-instances."""
        return self.index.shape[0]

    @property
    def width(self) -> int:
        """Number of rows, empty ones included."""
        return self.index.shape[1]

    def rows(self, rows: Tensor) -> Self:
        """The chosen rows [b, k] of every sub-instance."""
        nodes = self.nodes.gather(1, rows[..., None].expand(-1, -1, self.nodes.shape[2]))
        return replace(self, nodes=nodes, index=self.index.gather(1, rows))

    def take(self, which: Tensor | slice) -> Self:
        """The chosen sub-instances [k] of the batch, repeats allowed."""
        return replace(
            self,
            nodes=self.nodes[which],
            index=self.index[which],
            scalar=self.scalar[which],
            owner=None if self.owner is None else self.owner[which],
        )

    def costs(self, begin: Tensor, end: Tensor) -> Tensor:
        """Costs in ``dist`` from nodes to nodes, both [b, ...] and broadcast; -1 counts as 0."""
        assert self.dist is not None
        assert self.owner is not None
        owner = self.owner.view(-1, *([1] * (max(begin.ndim, end.ndim) - 1)))
        return self.dist[owner, begin.clamp_min(0), end.clamp_min(0)]

    def where(self, condition: Tensor, other: Self) -> Self:
        """These sub-instances where the condition [b] holds, else those of ``other``."""
        return replace(
            self,
            nodes=torch.where(condition[:, None, None], self.nodes, other.nodes),
            index=torch.where(condition[:, None], self.index, other.index),
            scalar=torch.where(condition[:, None], self.scalar, other.scalar),
        )

    def visit(self, row: Tensor) -> Self:
        """Make the chosen rows [b] current (row 0) and remove them.

        In a dense state the last row takes the removed one's place, so that it stays dense.
        """
        at = row[:, None]
        index, nodes = self.index.clone(), self.nodes.clone()
        index[:, :1] = self.index.gather(1, at)
        if not self.dense:
            index.scatter_(1, at, -1)
            nodes[:, :1] = self.nodes.gather(1, at[..., None].expand(-1, -1, nodes.shape[2]))
            return replace(self, nodes=nodes, index=index)
        index.scatter_(1, at, self.index[:, -1:])
        wide = at[..., None].expand(-1, -1, nodes.shape[2])
        nodes[:, :1] = self.nodes.gather(1, wide)
        nodes.scatter_(1, wide, self.nodes[:, -1:])
        return replace(self, nodes=nodes[:, :-1], index=index[:, :-1])

    def standing(self, row: Tensor, remains: Tensor) -> Self:
        """At a row [b, 1] of a state with two markers, while some others [b, n - 2] remain."""
        wide = row[..., None].expand(-1, -1, self.nodes.shape[2])
        nodes = torch.cat([self.nodes.gather(1, wide), self.nodes[:, 1:]], 1)
        left = self.index[:, 2:].masked_fill(~remains, -1)
        index = torch.cat([self.index.gather(1, row), self.index[:, 1:2], left], 1)
        return replace(self, nodes=nodes, index=index)

    def compact(self, markers: int) -> Self:
        """Drop rows that are empty everywhere, keeping the order of the others.

        Parameters
        ----------
        markers
            Number of leading rows that always stay.
        """
        filled = self.index >= 0
        filled[:, :markers] = True
        width = int(filled.sum(1).max())
        if width == self.width:
            return self
        order = torch.argsort(filled.to(torch.int8), dim=1, descending=True, stable=True)
        return self.rows(order[:, :width])

    def key(self, markers: int) -> Tensor:
        """Hash [b] of what the state is, whatever the order of its rows.

        Equal states have equal keys; different ones collide with probability 2^-64.
        """
        weight = torch.ones(self.width, dtype=torch.int64, device=self.index.device)
        weight[:markers] = torch.arange(2, markers + 2, device=self.index.device)
        key = (_mix(self.index * 8 + 8 + weight) * (self.index >= 0)).sum(1)
        if self.scalar.shape[1]:
            bits = self.scalar.float().contiguous().view(torch.int32).long()
            place = torch.arange(bits.shape[1], device=bits.device)
            key = key + _mix(bits * 8 + place + 1).sum(1)
        return key


def _mix(x: Tensor) -> Tensor:
    """Splitmix64's finaliser (Steele, Lea and Flood, 2014), in wrapping int64."""
    x = x * -7046029254386353131
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def hash_rows(*columns: Tensor) -> Tensor:
    """Hash [b] of rows of whole numbers, each [b, n], whatever their order."""
    key = torch.zeros_like(columns[0])
    for column in columns:
        key = _mix(key + column)
    return key.sum(1)


@dataclass(frozen=True)
class Cut:
    """Parts of solutions, taken out to be decided again.

    Parameters
    ----------
    state
        The parts as sub-instances.
    owner
        Which solution each part belongs to [parts].
    cost
        What each part costs now [parts], in float64.
    place
        Whatever the policy needs to put new parts back.
    old
        The parts as they are [parts, steps], recorded and filled up with -1, or None where
        that does not tell more than the state.
    ways
        Hash of what is fixed between the rows of the state [parts], or None where nothing is.
    """

    state: State
    owner: Tensor
    cost: Tensor
    place: Tensor
    old: Tensor | None = None
    ways: Tensor | None = None

    def key(self) -> Tensor:
        """Hash [parts] of what is to be decided, with both ends in their places."""
        key = self.state.key(2) + _mix(self.owner + 1)
        return key if self.ways is None else key + self.ways

    def take(self, part: Tensor | slice) -> Cut:
        """Some of the parts."""
        return replace(
            self,
            state=self.state.take(part),
            owner=self.owner[part],
            cost=self.cost[part],
            place=self.place[part],
            old=None if self.old is None else self.old[part],
            ways=None if self.ways is None else self.ways[part],
        )


def gather_parts(part: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The places that belong to each part, in time and memory that grow with the places.

    Parameters
    ----------
    part
        Number of the part that every place of a row belongs to [b, m], below ``count``; -1
        for none.
    count
        Parts of a row at most.

    Returns
    -------
    The parts that have places, ascending, as row * count + part [parts], and their places
    in ascending order [parts, width], filled up with -1.
    """
    b, m = part.shape
    row = torch.arange(b, device=part.device)[:, None] * count
    known = (part >= 0).flatten()
    key = torch.where(part >= 0, row + part, b * count).flatten()
    order = key.argsort(stable=True)[: int(known.sum())]
    number, sizes = torch.unique_consecutive(key[order], return_counts=True)
    begin = sizes.cumsum(0) - sizes
    which = torch.arange(len(number), device=part.device).repeat_interleave(sizes)
    slot = torch.arange(len(order), device=part.device) - begin[which]
    place = part.new_full((len(number), int(sizes.max()) if len(sizes) else 0), -1)
    place[which, slot] = order % m
    return number, place


def packed(records: Tensor) -> Tensor:
    """Recorded actions [b, steps] with what is -1 behind all others."""
    none = records < 0
    order = none.to(torch.int8).argsort(dim=1, stable=True)
    return records.gather(1, order)[:, : int((~none).sum(1).max())]


def places_of(nodes: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Where nodes [b, j] stand in tables [b, m] of different ones, and whether they do."""
    order = table.argsort(1)
    known = table.gather(1, order)
    at = torch.searchsorted(known, nodes.contiguous()).clamp_max(table.shape[1] - 1)
    return order.gather(1, at), known.gather(1, at) == nodes


class Solutions(Protocol):
    """Whole solutions of a problem as recorded actions: what they cost, and parts of them."""

    @property
    def name(self) -> str:
        """The problem's name."""
        ...

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an instance that it reads."""
        ...

    def cost(self, fields: Fields, actions: Tensor) -> Tensor:
        """Objective to be minimised [b] of recorded actions [b, steps], in float64."""
        ...

    def solution(self, actions: Sequence[int]) -> Any:
        """The plain solution of one instance from its recorded actions."""
        ...

    def actions(self, fields: Fields, solution: Any) -> Tensor:
        """The recorded actions [steps] of a plain solution of one instance."""
        ...

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """Parts of about ``size`` nodes of every solution; None where nothing can be cut."""
        ...

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Solutions with the parts marked ``better`` [parts] replaced by ``new``."""
        ...

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """Cost [parts] of new parts, comparable with ``cut.cost``, in float64."""
        ...


class Policy(Solutions, Protocol):
    """The problem's side of a BQ policy: no learnable parts, no device, no randomness of its own.

    An action is ``row * actions_per_node + kind``; what is recorded is
    ``node * actions_per_node + kind``, and -1 where a finished sub-instance waits for the
    rest of its batch.
    """

    @property
    def node_dim(self) -> int:
        """Features per row."""
        ...

    @property
    def markers(self) -> int:
        """Leading rows that are no candidates."""
        ...

    @property
    def actions_per_node(self) -> int:
        """Ways of choosing a row."""
        ...

    @property
    def edge_dim(self) -> int:
        """Features per ordered pair of rows; 0 where the network looks at rows only."""
        ...

    @property
    def online(self) -> bool:
        """Whether steps show what was not known before, so that each is taken once."""
        ...

    @property
    def views(self) -> int:
        """How many views the network can tell apart; 0 where there is no limit."""
        ...

    def start(self, fields: Fields, view: int = 0) -> State:
        """The whole instances as states; other views are equivalent ways to begin."""
        ...

    def features(self, state: State) -> Tensor:
        """What the network sees [b, n, node_dim], normalised; empty rows are zero."""
        ...

    def edges(self, state: State) -> Tensor | None:
        """Features of ordered pairs of rows [b, n, n, edge_dim], or None if ``edge_dim`` is 0."""
        ...

    def mask(self, state: State) -> Tensor:
        """Allowed actions [b, n * actions_per_node]; a row with no True is finished."""
        ...

    def step(self, state: State, action: Tensor) -> State:
        """The states after one action each [b]."""
        ...

    def price(self, state: State, action: Tensor) -> Tensor:
        """What the actions [b] add to the cost, up to a constant of the instance."""
        ...

    def nearness(self, state: State) -> Tensor:
        """Priority [b, n] by which rows are kept when only k of them are looked at."""
        ...

    def record(self, start: State, actions: Tensor) -> Tensor:
        """Recorded actions [b, steps] as they would be from view 0."""
        ...
