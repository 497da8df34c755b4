"""Layers of the learned divider's network, apart as torch_geometric takes seconds to import."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing


class AnisotropicLayer(MessagePassing):  # type: ignore[misc]
    """A layer that weighs every edge by a gate of its own and renews nodes and edges.

    C. K. Joshi, Q. Cappart, L.-M. Rousseau, T. Laurent, Learning the travelling salesperson
    problem requires rethinking generalization, CP 2021, section 3.2; mean aggregation.

    Parameters
    ----------
    width
        Width of nodes and edges.
    """

    def __init__(self, width: int):
        super().__init__(aggr="mean")
        self.own = nn.Linear(width, width)
        self.other = nn.Linear(width, width)
        self.edge = nn.Linear(width, width)
        self.head = nn.Linear(width, width, bias=False)
        self.tail = nn.Linear(width, width, bias=False)
        self.node_norm = nn.BatchNorm1d(width)
        self.edge_norm = nn.BatchNorm1d(width)

    def forward(self, nodes: Tensor, edges: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes [n, width] and edges [e, width], given the edges' ends [2, e]."""
        seen = self.propagate(index, message_of=self.other(nodes), edges=edges)
        head, tail = self.head(nodes)[index[0]], self.tail(nodes)[index[1]]
        changed = self.edge(edges) + head + tail
        nodes = nodes + F.silu(self.node_norm(self.own(nodes) + seen))
        return nodes, edges + F.silu(self.edge_norm(changed))

    def message(self, message_of_j: Tensor, edges: Tensor) -> Tensor:
        """What an edge's candidate tells, as far as the edge's gate lets it through."""
        return torch.sigmoid(edges) * message_of_j
