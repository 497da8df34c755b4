"""The learned divider: heat on a sparse graph, and tours or orders of items sampled from it.

Zheng et al., UDC (NeurIPS 2024), section 4.1. Every node has edges to k near ones, so that
time and memory grow with n k: the heat of a row is computed when a tour leaves that row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from nco.bq.decoding import Stopped, never
from nco.instances.core import InputError
from nco.training.checkpoints import CheckpointError, checkpoints, read_checkpoint
from nco.training.export import training_of
from nco.weights import (
    DIVIDER_ARCHITECTURE,
    WeightsError,
    default_divider,
    misfit,
    read_checked,
    write_checked,
)


@dataclass(frozen=True)
class Graph:
    """Sparse graphs of a batch of instances of one size.

    Parameters
    ----------
    near
        The k candidates after every node [b, n, k], the nearest first.
    nodes, edges
        Features [b, n, f] and [b, n, k, g].
    points
        Where the nodes are [b, n, 2], in the unit box.
    costs
        In place of points, costs from node to node [b, n, n].
    priority
        In place of both, of items [b, n]: what is chosen first without learning has most.
        Then heat is on the items.
    """

    near: Tensor
    nodes: Tensor
    edges: Tensor
    points: Tensor | None = None
    costs: Tensor | None = None
    priority: Tensor | None = None

    def index(self) -> Tensor:
        """Edges of all graphs as pairs of the batch's nodes [2, b n k], candidate first."""
        b, n, k = self.near.shape
        shift = torch.arange(b, device=self.near.device).view(b, 1, 1) * n
        tail = torch.arange(n, device=self.near.device).view(1, n, 1) + shift
        return torch.stack([(self.near + shift).flatten(), tail.expand(b, n, k).flatten()])

    def take(self, which: slice) -> Graph:
        """Some graphs of the batch."""
        return self._each(lambda tensor: tensor[which])

    def to(self, device: torch.device) -> Graph:
        """The same on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Graph:
        fields: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        changed: dict[str, Any] = {k: v if v is None else change(v) for k, v in fields.items()}
        return Graph(**changed)

    @staticmethod
    def stack(graphs: Sequence[Graph]) -> Graph:
        """Graphs of one size and kind as one batch."""
        rows = [[getattr(g, f.name) for g in graphs] for f in dataclasses.fields(Graph)]
        return Graph(*(None if row[0] is None else torch.cat(row) for row in rows))  # type: ignore[arg-type]

    def away(self, current: Tensor) -> Tensor:
        """How far all nodes of the first graph are from some [s], in any unit [s, n]."""
        if self.costs is not None:
            return self.costs[0, current]
        assert self.points is not None
        gap = self.points[0, current, None] - self.points[0]
        return (gap * gap).sum(2)

    def lengths(self) -> Tensor:
        """Lengths of the first graph's edges [n, k]."""
        near = self.near[0]
        if self.costs is not None:
            return self.costs[0].gather(1, near)
        assert self.points is not None
        return torch.linalg.vector_norm(self.points[0][near] - self.points[0][:, None], dim=2)


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


class HeatNetwork(nn.Module):
    """An anisotropic graph network with a head that is asked again as a solution grows.

    Parameters
    ----------
    config
        Its shape.
    """

    def __init__(self, config: DividerConfig):
        from nco.udc.layers import AnisotropicLayer  # which takes seconds to import

        super().__init__()
        self.config = config
        width = config.width
        self.embed_nodes = nn.Linear(config.node_dim, width)
        self.embed_edges = nn.Linear(config.edge_dim, width)
        self.layers = nn.ModuleList(AnisotropicLayer(width) for _ in range(config.layers))
        self.edge = nn.Linear(width, width)
        self.partial = nn.Linear(3 * width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, graph: Graph, stop: Callable[[], bool] = never) -> tuple[Tensor, Tensor]:
        """Embedded nodes [b, n, width] and edges [b, n, k, width].

        Raises
        ------
        Stopped
            When ``stop``, which is asked before every layer, says so.
        """
        b, n, k = graph.near.shape
        nodes = self.embed_nodes(graph.nodes.flatten(0, 1))
        edges = self.embed_edges(graph.edges.flatten(0, 2))
        index = graph.index()
        for layer in self.layers:
            if stop():
                raise Stopped
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

    def items(self, nodes: Tensor, left: Tensor) -> Tensor:
        """Logits [s, n] of items, whose order so far the head sees as it sees partial tours.

        Parameters
        ----------
        nodes
            Embedded items of one instance [n, width].
        left
            Whether an item is not yet in the order [s, n].
        """
        means = []
        for part in (torch.ones_like(left), ~left, left):
            weight = part.to(nodes.dtype)
            means.append((weight @ nodes) / weight.sum(1, keepdim=True).clamp_min(1.0))
        return self.heat(nodes[None], self.partial(torch.cat(means, 1)))

    def heat(self, edges: Tensor, context: Tensor) -> Tensor:
        """Logits [..., k] of the edges [..., k, width] after contexts [..., width]."""
        out: Tensor = self.out(F.silu(self.edge(edges) + context[..., None, :]))
        return out.squeeze(-1)


class Heat(Protocol):
    """Logits of the edges or the items of one instance, as partial solutions grow."""

    def revisit(self, first: Tensor, current: Tensor, left: Tensor) -> None:
        """See the partial solutions, as `HeatNetwork.context` does."""
        ...

    def row(self, current: Tensor) -> Tensor:
        """Logits [s, k] of the edges that leave the current nodes [s]."""
        ...

    def items(self, left: Tensor) -> Tensor:
        """Logits [s, n] of all items, as `HeatNetwork.items` gives them."""
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

    def items(self, left: Tensor) -> Tensor:
        """As the network says; one order is in memory at a time."""
        return torch.cat([self.network.items(self.nodes, row[None]) for row in left])


class FixedHeat:
    """Heat without learning.

    Parameters
    ----------
    logits
        Of one instance's edges [n, k], or items [n].
    """

    def __init__(self, logits: Tensor):
        self.logits = logits

    def revisit(self, first: Tensor, current: Tensor, left: Tensor) -> None:
        """Nothing changes."""

    def row(self, current: Tensor) -> Tensor:
        """Always the same."""
        return self.logits[current]

    def items(self, left: Tensor) -> Tensor:
        """Always the same."""
        return self.logits.expand(left.shape)


#: Lengths of a mean edge, or deviations of items' priorities, at which a weight has fallen to 1/e.
REACH = 0.3


def plain_heat(graph: Graph, kind: str) -> FixedHeat:
    """Heat of the first graph: "uniform", or by "distance": short edges, items of priority."""
    if graph.priority is not None:
        # Equal priorities are equal heat: rounding must not decide between them.
        logits = graph.priority[0] - graph.priority[0].mean()
        logits = logits / (REACH * logits.std(correction=0)).clamp_min(1e-6)
    else:
        far = graph.lengths()
        logits = -far / (REACH * far.mean(1, keepdim=True)).clamp_min(1e-30)
    return FixedHeat(torch.zeros_like(logits) if kind == "uniform" else logits)


def sample(heat: Heat, graph: Graph, *how: Any) -> Tensor:
    """Tours of one instance as `sample_tours`, or orders of its items as `sample_orders`."""
    draw = sample_tours if graph.priority is None else sample_orders
    return draw(heat, graph, *how)


@torch.no_grad()
def sample_orders(
    heat: Heat,
    graph: Graph,
    samples: int,
    revisits: int,
    generator: torch.Generator,
    stop: Callable[[], bool] = never,
) -> Tensor:
    """Orders [samples, n] of one instance's items, all sampled in parallel.

    The next item is drawn among those not yet in the order, by their heat: all that are drawn
    between two revisits at once, by their logits plus Gumbel noise (the Gumbel-top-k trick;
    W. Kool, H. van Hoof and M. Welling, Stochastic beams and where to find them, ICML 2019).

    Parameters
    ----------
    heat, graph, samples, revisits, generator
        As for `sample_tours`.
    stop
        Asked before every revisit.

    Raises
    ------
    Stopped
        When ``stop`` says so.
    """
    n, device = graph.near.shape[1], graph.near.device
    left = torch.ones(samples, n, dtype=torch.bool, device=device)
    parts: list[Tensor] = []
    period = revisit_period(n, revisits)
    for begin in range(0, n, period):
        if stop():
            raise Stopped
        logits = heat.items(left).masked_fill(~left, -torch.inf)
        noise = torch.empty_like(logits).exponential_(generator=generator)
        parts.append((logits - noise.log()).topk(min(period, n - begin), 1).indices)
        left.scatter_(1, parts[-1], False)
    return torch.cat(parts, 1)


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
    near = graph.near[0]
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
            far = graph.away(current[lost]).masked_fill(~left[lost], torch.inf)
            following[lost] = far.argmin(1)
        current = following
    return tours


#: Nodes whose candidates are looked for between two looks at the clock.
ROWS = 500


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


def order_rates(network: HeatNetwork, nodes: Tensor, orders: Tensor, revisits: int) -> Tensor:
    """Log-probabilities [s] with which `sample_orders` draws orders, for their gradient.

    Parameters
    ----------
    network, nodes
        As for `NetworkHeat`.
    orders
        Orders [s, n].
    revisits
        As for `sample_orders`.
    """
    s, n = orders.shape
    left = torch.ones(s, n, dtype=torch.bool, device=orders.device)
    total = torch.zeros(s, device=nodes.device, dtype=nodes.dtype)
    period = revisit_period(n, revisits)
    for begin in range(0, n, period):
        # What is not yet in the order stands behind it.
        logits = network.items(nodes, left).gather(1, orders[:, begin:])
        among = logits.flip(1).logcumsumexp(1).flip(1)
        total = total + (logits - among)[:, :period].sum(1)
        left = left.scatter(1, orders[:, begin : begin + period], False)
    return total


def near_graph(
    points: Tensor, k: int, extra: Tensor | None = None, stop: Callable[[], bool] = never
) -> Graph:
    """k-NN graphs of points of the plane.

    Parameters
    ----------
    points
        In the unit box [b, n, 2].
    k
        Candidates per node.
    extra
        More features of the nodes [b, n, f], or None.
    stop
        Asked before every `ROWS` nodes.

    Raises
    ------
    Stopped
        When ``stop`` says so.
    """
    from scipy.spatial import cKDTree

    b, n = points.shape[:2]
    k = min(k, n - 1)
    rows: list[Any] = []
    for own in points.cpu().double().numpy():
        tree = cKDTree(own)
        parts = [np.asarray(tree.query(own[i], k + 1)[1]) for i in slices(n, stop)]
        found = torch.as_tensor(np.concatenate(parts)).view(n, k + 1)
        # The node itself is the first of its nearest, unless others share its place.
        itself = found == torch.arange(n)[:, None]
        itself[~itself.any(1), k] = True
        rows.append(found[~itself].view(n, k))
    near = torch.stack(rows).to(points.device)
    which = torch.arange(b, device=points.device)[:, None, None]
    gap = points[which, near] - points[:, :, None]
    # In units of the spacing of uniform points, so that sizes look alike.
    far = torch.linalg.vector_norm(gap, dim=3, keepdim=True) * n**0.5
    return _graph(near, points, far, extra, points=points)


def slices(n: int, stop: Callable[[], bool]) -> Iterator[slice]:
    """`ROWS` of n rows at a time; `Stopped` when ``stop`` says so."""
    for begin in range(0, n, ROWS):
        if stop():
            raise Stopped
        yield slice(begin, begin + ROWS)


def cost_graph(
    costs: Tensor, k: int, extra: Tensor | None = None, stop: Callable[[], bool] = never
) -> Graph:
    """Graphs of the k cheapest ways from every node.

    In place of coordinates, nodes have the mean costs of the ways that lead from and to them.

    Parameters
    ----------
    costs
        From node to node [b, n, n].
    k, extra, stop
        As for `near_graph`.

    Raises
    ------
    Stopped
        When ``stop`` says so.
    """
    n = costs.shape[1]
    k = min(k, n - 1)
    itself = torch.eye(n, dtype=torch.bool, device=costs.device)
    rows = [
        costs[:, i].masked_fill(itself[i], torch.inf).topk(k, 2, largest=False)
        for i in slices(n, stop)
    ]
    far, near = (torch.cat([row[which] for row in rows], 1) for which in (0, 1))
    there = torch.cat(
        [
            costs[:, :, i].masked_fill(itself[:, i], torch.inf).topk(k, 1, largest=False).values
            for i in slices(n, stop)
        ],
        2,
    )
    unit = far[:, :, :1].mean(1, keepdim=True).clamp_min(1e-30)
    means = torch.stack([far.mean(2), there.mean(1)], 2)
    means = means / far.mean((1, 2), keepdim=True).clamp_min(1e-30)
    return _graph(near, means, (far / unit)[..., None], extra, costs=costs)


def _graph(near: Tensor, where: Tensor, far: Tensor, extra: Tensor | None, **rest: Tensor) -> Graph:
    """Features of nodes and of edges of some length [b, n, k, 1], the shortest first."""
    nearest = far / far[:, :, :1].clamp_min(1e-6)
    edges = torch.cat([far, nearest.clamp_max(20.0).log1p()], 3)
    nodes = where if extra is None else torch.cat([where, extra], 2)
    return Graph(near, nodes.float(), edges.float(), **rest)


def read_divider(path: str | Path, problem: str) -> tuple[HeatNetwork, int]:
    """A divider and the number of candidates per node that it was trained with.

    Parameters
    ----------
    path
        A run's folder, of which the newest checkpoint is read, or a weights file; "" for the
        shipped divider of the problem.
    problem
        Refuse a divider of any other problem.

    Raises
    ------
    CheckpointError, nco.weights.WeightsError
        When there is none, or it is for another problem.
    """
    path = Path(path) if path else default_divider(problem)
    try:
        if path.suffix != ".safetensors":
            tensors, meta = _read_run(path, problem)
            tensors = {k[8:]: v for k, v in tensors.items() if k.startswith("divider.")}
            shape, config = meta["divider"], meta["config"]
        else:
            card, data = read_checked(path, problem, DIVIDER_ARCHITECTURE)
            tensors = {k: v.float() for k, v in load(data).items()}
            shape, config = card["network"], card["training"]["config"]
        network = HeatNetwork(DividerConfig(**shape))
        network.load_state_dict(tensors)
        return network.eval().requires_grad_(False), int(config["neighbors"])
    except (CheckpointError, WeightsError):
        raise
    except (TypeError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise misfit(path, error) from None


def _read_run(folder: Path, problem: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The newest checkpoint of a run that has a divider."""
    found = checkpoints(folder)
    if not found:
        raise CheckpointError(f"{folder}: holds no checkpoint")
    tensors, meta = read_checkpoint(found[-1])
    if "divider" not in meta or problem not in ("", meta["config"]["problem"]):
        raise CheckpointError(f"{folder}: holds no divider for {problem or 'any problem'}")
    return tensors, meta


def write_divider(run: str | Path, folder: str | Path, name: str, **card: Any) -> Path:
    """Write the divider of a run's newest checkpoint as a weights file in bfloat16.

    Parameters
    ----------
    run
        Folder of the training run.
    folder, name
        The weights folder, and the file's name without suffix, such as ``tsp-divider-v1``.
    card
        Further entries of the model card, such as measured gaps.

    Raises
    ------
    CheckpointError
        When the run has no divider.
    """
    tensors, meta = _read_run(Path(run))
    own = {k[8:]: v.bfloat16() for k, v in tensors.items() if k.startswith("divider.")}
    full = {
        "architecture": DIVIDER_ARCHITECTURE,
        "problem": meta["config"]["problem"],
        "policy": {},
        "network": meta["divider"],
        "parameters": sum(v.numel() for v in own.values()),
        "training": training_of(meta, "instances"),
        **card,
    }
    return write_checked(folder, name, save({k: v.contiguous() for k, v in own.items()}), full)


def revisits_of(n: int, size: int) -> int:
    """Revisits for n nodes in parts of ``size``: the paper's N / n, 10 for very many nodes."""
    return max(1, min(10, n // size))


def draw_tours(
    graph_of: Callable[[int], Graph],
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
    """Tours, or orders of items, [samples, n] of one instance.

    Parameters
    ----------
    graph_of
        The instance's graph with so many candidates per node; asks ``stop``, too.
    kind
        "network", "distance" or "uniform".
    folder, problem
        For a network: where it is, as for `read_divider`, and its problem.
    neighbors, samples, size
        Candidates per node, number of tours, nodes in a part.
    seed, device, stop
        Of the sampling.

    Raises
    ------
    InputError
        When the network cannot be read.
    """
    heat: Heat
    if kind == "network":
        try:
            network, neighbors = read_divider(folder, problem)
        except (CheckpointError, WeightsError) as error:
            raise InputError(None, None, str(error)) from None
        graph = graph_of(neighbors).to(device)
        network = network.to(device)
        with torch.no_grad():
            nodes, edges = network(graph, stop)
        heat = NetworkHeat(network, nodes[0], edges[0])
    else:
        graph = graph_of(neighbors).to(device)
        heat = plain_heat(graph, kind)
    generator = torch.Generator(device).manual_seed(seed)
    return sample(heat, graph, samples, revisits_of(graph.near.shape[1], size), generator, stop)
