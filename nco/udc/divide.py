"""The learned divider: heat on the edges of a sparse graph, and tours sampled from it.

Zheng et al., UDC (NeurIPS 2024), section 4.1. Every node has edges to k near ones, so that
time and memory grow with n k: the heat of a row is computed when a tour leaves that row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from nco.bq.decoding import Stopped, never
from nco.bq.plane import unit_box
from nco.instances.core import InputError
from nco.training.checkpoints import CheckpointError, checkpoints, read_checkpoint


@dataclass(frozen=True)
class Graph:
    """Sparse graphs of a batch of instances of one size.

    Parameters
    ----------
    near
        The k candidates after every node [b, n, k], the nearest first.
    points
        Where the nodes are [b, n, 2], in the unit box.
    nodes, edges
        Features [b, n, f] and [b, n, k, g].
    """

    near: Tensor
    points: Tensor
    nodes: Tensor
    edges: Tensor

    def index(self) -> Tensor:
        """Edges of all graphs as pairs of the batch's nodes [2, b n k], candidate first."""
        b, n, k = self.near.shape
        shift = torch.arange(b, device=self.near.device).view(b, 1, 1) * n
        tail = torch.arange(n, device=self.near.device).view(1, n, 1) + shift
        return torch.stack([(self.near + shift).flatten(), tail.expand(b, n, k).flatten()])

    def take(self, which: slice) -> Graph:
        """Some graphs of the batch."""
        return Graph(self.near[which], self.points[which], self.nodes[which], self.edges[which])


@dataclass(frozen=True)
class DividerConfig:
    """Shape of a divider's network. The defaults are the paper's.

    Parameters
    ----------
    node_dim, edge_dim
        Features per node and per edge.
    layers, width
        Number of layers, and their width.

    Raises
    ------
    ValueError
        When a number is not positive.
    """

    node_dim: int
    edge_dim: int
    layers: int = 12
    width: int = 64

    def __post_init__(self) -> None:
        """Validate."""
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} < 1 not understood.")


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


class HeatNetwork(nn.Module):
    """An anisotropic graph network with a head that is asked again as a solution grows.

    Parameters
    ----------
    config
        Its shape.
    """

    def __init__(self, config: DividerConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.embed_nodes = nn.Linear(config.node_dim, width)
        self.embed_edges = nn.Linear(config.edge_dim, width)
        self.layers = nn.ModuleList(AnisotropicLayer(width) for _ in range(config.layers))
        self.edge = nn.Linear(width, width)
        self.partial = nn.Linear(3 * width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Embedded nodes [b, n, width] and edges [b, n, k, width]."""
        b, n, k = graph.near.shape
        nodes = self.embed_nodes(graph.nodes.flatten(0, 1))
        edges = self.embed_edges(graph.edges.flatten(0, 2))
        index = graph.index()
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, index)
        return nodes.view(b, n, -1), edges.view(b, n, k, -1)

    def context(self, nodes: Tensor, first: Tensor, current: Tensor, left: Tensor) -> Tensor:
        """What the head sees of partial solutions [s, width].

        Parameters
        ----------
        nodes
            Embedded nodes of one instance [n, width].
        first, current
            Where the solutions began and where they are [s].
        left
            Whether a node is still to be visited [s, n].
        """
        weight = left.to(nodes.dtype)
        mean = (weight @ nodes) / weight.sum(1, keepdim=True).clamp_min(1.0)
        out: Tensor = self.partial(torch.cat([nodes[first], nodes[current], mean], 1))
        return out

    def heat(self, edges: Tensor, context: Tensor) -> Tensor:
        """Logits [..., k] of the edges [..., k, width] after contexts [..., width]."""
        out: Tensor = self.out(F.silu(self.edge(edges) + context[..., None, :]))
        return out.squeeze(-1)


class Heat(Protocol):
    """Logits of the edges of one instance, as partial solutions grow."""

    def revisit(self, first: Tensor, current: Tensor, left: Tensor) -> None:
        """See the partial solutions, as `HeatNetwork.context` does."""
        ...

    def row(self, current: Tensor) -> Tensor:
        """Logits [s, k] of the edges that leave the current nodes [s]."""
        ...


class NetworkHeat:
    """Heat by a network.

    Parameters
    ----------
    network
        The network.
    nodes, edges
        What it made of one instance [n, width] and [n, k, width].
    """

    def __init__(self, network: HeatNetwork, nodes: Tensor, edges: Tensor):
        self.network, self.nodes, self.edges = network, nodes, edges

    def revisit(self, first: Tensor, current: Tensor, left: Tensor) -> None:
        """Renew the head's view of the partial solutions."""
        self.seen = self.network.context(self.nodes, first, current, left)

    def row(self, current: Tensor) -> Tensor:
        """As the network says."""
        return self.network.heat(self.edges[current], self.seen)


class FixedHeat:
    """Heat without learning.

    Parameters
    ----------
    logits
        Of one instance's edges [n, k].
    """

    def __init__(self, logits: Tensor):
        self.logits = logits

    def revisit(self, first: Tensor, current: Tensor, left: Tensor) -> None:
        """Nothing changes."""

    def row(self, current: Tensor) -> Tensor:
        """Always the same."""
        return self.logits[current]


#: Lengths of the shortest edge at which a distance's weight has fallen to 1/e.
REACH = 0.3


def plain_heat(graph: Graph, kind: str) -> FixedHeat:
    """Heat of the first graph: "uniform", or by "distance" in units of a node's nearest."""
    near, points = graph.near[0], graph.points[0]
    if kind == "uniform":
        return FixedHeat(torch.zeros(near.shape, device=near.device))
    far = torch.linalg.vector_norm(points[near] - points[:, None], dim=2)
    return FixedHeat(-far / (REACH * far.mean(1, keepdim=True)).clamp_min(1e-30))


@torch.no_grad()
def sample_tours(
    heat: Heat,
    graph: Graph,
    samples: int,
    revisits: int,
    generator: torch.Generator,
    stop: Callable[[], bool] = never,
) -> Tensor:
    """Tours [samples, n] of one instance, all sampled in parallel.

    The next node is drawn among the candidates not yet visited, by their heat. From where
    all candidates are visited it goes to the nearest node that is not.

    Parameters
    ----------
    heat
        The instance's.
    graph
        Of that instance alone.
    samples
        Number of tours.
    revisits
        How often, evenly spread, the heat sees the partial tours.
    generator
        Of the graph's device.
    stop
        Asked before every revisit and every 256 steps.

    Raises
    ------
    Stopped
        When ``stop`` says so.
    """
    near, points = graph.near[0], graph.points[0]
    n, device = len(near), near.device
    row = torch.arange(samples, device=device)
    first = torch.randint(0, n, (samples,), generator=generator, device=device)
    left = torch.ones(samples, n, dtype=torch.bool, device=device)
    tours = torch.empty(samples, n, dtype=torch.int64, device=device)
    current = first
    period = revisit_period(n, revisits)
    for step in range(n):
        tours[:, step] = current
        left[row, current] = False
        if step == n - 1:
            break
        if step % period == 0:
            heat.revisit(first, current, left)
        if step % min(period, 256) == 0 and stop():
            raise Stopped
        logits = heat.row(current).masked_fill(~left[row[:, None], near[current]], -torch.inf)
        noise = torch.empty_like(logits).exponential_(generator=generator)
        chosen = (logits - noise.log()).argmax(1)
        following = near[current, chosen]
        lost = (~left[row, following]).nonzero()[:, 0]
        if len(lost):
            gap = points[current[lost], None] - points
            far = (gap * gap).sum(2).masked_fill(~left[lost], torch.inf)
            following[lost] = far.argmin(1)
        current = following
    return tours


def revisit_period(n: int, revisits: int) -> int:
    """Steps between two revisits."""
    return -(-n // max(1, revisits))


def tour_rates(
    network: HeatNetwork, nodes: Tensor, edges: Tensor, near: Tensor, tours: Tensor, revisits: int
) -> Tensor:
    """Log-probabilities [s] with which `sample_tours` draws tours, for their gradient.

    Steps that were no choice count as certain.

    Parameters
    ----------
    network, nodes, edges
        As for `NetworkHeat`.
    near
        Candidates [n, k].
    tours
        Tours [s, n].
    revisits
        As for `sample_tours`.
    """
    s, n = tours.shape
    place = torch.empty_like(tours).scatter_(
        1, tours, torch.arange(n, device=tours.device).expand(s, n)
    )
    total = torch.zeros(s, device=nodes.device, dtype=nodes.dtype)
    period = revisit_period(n, revisits)
    for begin in range(0, n - 1, period):
        end = min(begin + period, n - 1)
        context = network.context(nodes, tours[:, 0], tours[:, begin], place > begin)
        here, following = tours[:, begin:end], tours[:, begin + 1 : end + 1]
        logits = network.heat(edges[here], context[:, None].expand(-1, end - begin, -1))
        candidates = near[here]
        step = torch.arange(begin, end, device=tours.device)
        visited = place.gather(1, candidates.flatten(1)).view_as(candidates) <= step[:, None]
        chosen = candidates == following[..., None]
        rates = logits.masked_fill(visited, -torch.inf)
        known = chosen.any(2)
        # Where all is visited nothing was drawn.
        rates = torch.where(known[..., None], rates, 0.0).log_softmax(2)
        rates = rates.masked_fill(~chosen, 0.0).sum(2)
        total = total + (rates * known).sum(1)
    return total


def near_graph(points: Tensor, k: int, extra: Tensor | None = None) -> Graph:
    """k-NN graphs of points of the plane.

    Parameters
    ----------
    points
        In the unit box [b, n, 2].
    k
        Candidates per node.
    extra
        More features of the nodes [b, n, f], or None.
    """
    from scipy.spatial import cKDTree

    b, n = points.shape[:2]
    k = min(k, n - 1)
    rows: list[Any] = []
    for own in points.cpu().double().numpy():
        found = torch.as_tensor(np.asarray(cKDTree(own).query(own, k + 1)[1])).view(n, k + 1)
        # The node itself is the first of its nearest, unless others share its place.
        itself = found == torch.arange(n)[:, None]
        itself[~itself.any(1), k] = True
        rows.append(found[~itself].view(n, k))
    near = torch.stack(rows).to(points.device)
    which = torch.arange(b, device=points.device)[:, None, None]
    gap = points[which, near] - points[:, :, None]
    # In units of the spacing of uniform points, so that sizes look alike.
    far = torch.linalg.vector_norm(gap, dim=3, keepdim=True) * n**0.5
    nearest = far / far[:, :, :1].clamp_min(1e-6)
    edges = torch.cat([far, nearest.clamp_max(20.0).log1p()], 3)
    nodes = points if extra is None else torch.cat([points, extra], 2)
    return Graph(near, points, nodes.float(), edges.float())


def read_divider(folder: str | Path, problem: str) -> tuple[HeatNetwork, dict[str, Any]]:
    """The divider of a training run's newest checkpoint, and what is known of the run.

    Raises
    ------
    CheckpointError
        When there is none, or it is for another problem.
    """
    found = checkpoints(Path(folder))
    if not found:
        raise CheckpointError(f"{folder}: holds no checkpoint")
    tensors, meta = read_checkpoint(found[-1])
    if "divider" not in meta or meta["config"]["problem"] != problem:
        raise CheckpointError(f"{folder}: holds no divider for {problem}")
    network = HeatNetwork(DividerConfig(**meta["divider"]))
    network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("divider.")})
    return network.eval().requires_grad_(False), meta


def revisits_of(n: int, size: int) -> int:
    """Revisits for n nodes in parts of ``size``: the paper's N / n, 10 for very many nodes."""
    return max(1, min(10, n // size))


def draw_tours(
    points: NDArray[Any],
    extra: NDArray[Any],
    *,
    kind: str,
    folder: str = "",
    problem: str = "",
    neighbors: int,
    samples: int,
    size: int,
    seed: int,
    device: torch.device,
    stop: Callable[[], bool] = never,
) -> Tensor:
    """Tours [samples, n] through the points of one instance.

    Parameters
    ----------
    points, extra
        Points [n, 2] and more features [n, f].
    kind
        "network", "distance" or "uniform".
    folder, problem
        For a network: its run, and its problem.
    neighbors, samples, size
        Candidates per node, number of tours, nodes in a part.
    seed, device, stop
        Of the sampling.

    Raises
    ------
    InputError
        When the network cannot be read.
    """
    where = unit_box(torch.as_tensor(points)[None]).to(device)
    more = torch.as_tensor(extra, dtype=torch.float32)[None].to(device)
    heat: Heat
    if kind == "network":
        try:
            network, meta = read_divider(folder, problem)
        except CheckpointError as error:
            raise InputError(None, None, str(error)) from None
        graph = near_graph(where, int(meta["config"]["neighbors"]), more)
        network = network.to(device)
        with torch.no_grad():
            nodes, edges = network(graph)
        heat = NetworkHeat(network, nodes[0], edges[0])
    else:
        graph = near_graph(where, neighbors, more)
        heat = plain_heat(graph, kind)
    generator = torch.Generator(device).manual_seed(seed)
    return sample_tours(heat, graph, samples, revisits_of(len(points), size), generator, stop)
