"""Batches of sub-instances: what remains to decide, and nothing else.

A BQ state is the quotient of all histories that leave the same problem behind: a path
from where one is to where one must end, through the nodes that remain (Drakulic et al.,
BQ-NCO: Bisimulation Quotienting for Efficient Neural Combinatorial Optimization,
NeurIPS 2023, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from torch import BoolTensor, Tensor

#: Arrays of a batch of instances, by the instance's own field names.
Fields = Mapping[str, Tensor]


@dataclass(frozen=True)
class State:
    """A batch of sub-instances of equal shape.

    Shapes stay fixed while a batch is decoded: a decided row is emptied, not removed,
    until `compact` is called.

    Parameters
    ----------
    nodes
        Node data in the instance's units [b, n, f]. The first rows are the policy's
        markers (the current node, the destination).
    index
        Node numbers in the instance [b, n]; -1 marks an empty row.
    scalar
        What belongs to the whole sub-instance [b, s], such as the capacity left.
    """

    nodes: Tensor
    index: Tensor
    scalar: Tensor

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

    def take(self, which: Tensor) -> Self:
        """The chosen sub-instances [k] of the batch, repeats allowed."""
        return replace(
            self, nodes=self.nodes[which], index=self.index[which], scalar=self.scalar[which]
        )

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


class Policy(Protocol):
    """The problem's side of a BQ policy: no learnable parts, no device, no randomness.

    ``name``, ``node_dim`` (features per row), ``markers`` (leading rows that are not
    candidates) and ``actions_per_node`` describe it. An action is
    ``row * actions_per_node + kind``; what is recorded is
    ``node * actions_per_node + kind``.
    """

    @property
    def name(self) -> str:
        """The problem's name."""
        ...

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

    def start(self, fields: Fields) -> State:
        """The whole instances as states."""
        ...

    def features(self, state: State) -> Tensor:
        """What the network sees [b, n, node_dim], normalised; empty rows are zero."""
        ...

    def mask(self, state: State) -> BoolTensor:
        """Allowed actions [b, n * actions_per_node]; a row with no True is finished."""
        ...

    def step(self, state: State, action: Tensor) -> State:
        """The states after one action each [b]."""
        ...

    def nearness(self, state: State) -> Tensor:
        """Priority [b, n] by which rows are kept when only k of them are looked at."""
        ...

    def cost(self, fields: Fields, actions: Tensor) -> Tensor:
        """Objective to be minimised [b] of recorded actions [b, steps], in float64."""
        ...

    def solution(self, actions: Any) -> Any:
        """The plain solution of one instance from its recorded actions."""
        ...

    def actions(self, fields: Fields, solution: Any) -> Tensor:
        """The recorded actions [steps] of a plain solution."""
        ...
