"""The learned divider: heat on a sparse graph, and tours or orders of items sampled from it.

Zheng et al., UDC (NeurIPS 2024), section 4.1. Every node has edges to k near ones, so that
memory grows with n k: the heat of a row is computed when a tour leaves that row.
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

from nco.bq.decoding import Stopped, free_memory, never
from nco.classical.constructive import told_apart
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

    def to(self, device: torch.device) -> Graph:
        """The same on another device."""
        fields: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        moved: dict[str, Any] = {k: v if v is None else v.to(device) for k, v in fields.items()}
        return Graph(**moved)

    @staticmethod
    def stack(graphs: Sequence[Graph]) -> Graph:
        """Graphs of one size and kind as one batch."""
        rows = [[getattr(g, f.name) for g in graphs] for f in dataclasses.fields(Graph)]
        return Graph(*(None if row[0] is None else torch.cat(row) for row in rows))  # type: ignore[arg-type]

    def away(self, which: Tensor, current: Tensor) -> Tensor:
        """How far all nodes of graphs [m] are from one of each [m], in any unit [m, n]."""
        if self.costs is not None:
            return self.costs[which, current]
        assert self.points is not None
        gap = self.points[which, current, None] - self.points[which]
        return (gap * gap).sum(2)

    def lengths(self) -> Tensor:
        """Lengths of the edges [b, n, k]."""
        if self.costs is not None:
            return self.costs.gather(2, self.near)
        assert self.points is not None
        which = torch.arange(len(self.near), device=self.near.device)[:, None, None]
        gap = self.points[which, self.near] - self.points[:, :, None]
        return torch.linalg.vector_norm(gap, dim=3)


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
        """What the head sees of partial solutions [b, s, width].

        Parameters
        ----------
        nodes
            Embedded nodes [b, n, width].
        first, current
            Where the solutions began and where they are [b, s].
        left
            Whether a node is still to be visited [b, s, n].
        """
        which = rows_of(first)
        seen = [nodes[which, first], nodes[which, current], mean_of(nodes, left)]
        out: Tensor = self.partial(torch.cat(seen, 2))
        return out

    def items(self, nodes: Tensor, left: Tensor) -> Tensor:
        """Logits [b, s, n] of items, whose order so far the head sees as it sees partial tours.

        Parameters
        ----------
        nodes
            Embedded items [b, n, width].
        left
            Whether an item is not yet in the order [b, s, n].
        """
        means = [mean_of(nodes, part) for part in (torch.ones_like(left), ~left, left)]
        return self.heat(nodes[:, None], self.partial(torch.cat(means, 2)))

    def heat(self, edges: Tensor, context: Tensor) -> Tensor:
        """Logits [..., k] of the edges [..., k, width] after contexts [..., width]."""
        out: Tensor = self.out(F.silu(self.edge(edges) + context[..., None, :]))
        return out.squeeze(-1)


def check_memory(network: HeatNetwork, graph: Graph) -> None:
    """Refuse a graph whose embedded edges surely need more than the free main memory.

    Linux grants more than there is, and kills the process that uses it.

    Raises
    ------
    MemoryError
        When they do.
    """
    need, left = EDGE_ARRAYS * 4 * network.config.width * graph.near.numel(), free_memory()
    if graph.near.device.type == "cpu" and need > left:
        raise MemoryError(
            f"{graph.near.numel()} edges need {need / 2**30:.3g} GiB of memory, and "
            f"{left / 2**30:.3g} GiB are free"
        )


def rows_of(index: Tensor) -> Tensor:
    """Numbers of the batch [b, 1] that go with an index [b, s] into its second dimension."""
    return torch.arange(len(index), device=index.device)[:, None]


def mean_of(nodes: Tensor, some: Tensor) -> Tensor:
    """Means [b, s, width] of those nodes [b, n, width] that are among some [b, s, n]."""
    weight = some.to(nodes.dtype)
    return (weight @ nodes) / weight.sum(2, keepdim=True).clamp_min(1.0)


class Heat(Protocol):
    """Logits of the edges or the items of a batch of instances, as partial solutions grow."""

    def revisit(self, first: Tensor, current: Tensor, left: Tensor) -> None:
        """See the partial solutions, as `HeatNetwork.context` does."""
        ...

    def row(self, current: Tensor) -> Tensor:
        """Logits [b, s, k] of the edges that leave the current nodes [b, s]."""
        ...

    def items(self, left: Tensor) -> Tensor:
        """Logits [b, s, n] of all items, as `HeatNetwork.items` gives them."""
        ...


class NetworkHeat:
    """Heat by a network.

    Parameters
    ----------
    network
        The network.
    nodes, edges
        What it made of the instances [b, n, width] and [b, n, k, width].
    """

    def __init__(self, network: HeatNetwork, nodes: Tensor, edges: Tensor):
        self.network, self.nodes, self.edges = network, nodes, edges

    def revisit(self, first: Tensor, current: Tensor, left: Tensor) -> None:
        """Renew the head's view of the partial solutions."""
        self.seen = self.network.context(self.nodes, first, current, left)

    def row(self, current: Tensor) -> Tensor:
        """As the network says."""
        return self.network.heat(self.edges[rows_of(current), current], self.seen)

    def items(self, left: Tensor) -> Tensor:
        """As the network says; one order of each instance is in memory at a time."""
        rows = [self.network.items(self.nodes, left[:, i : i + 1]) for i in range(left.shape[1])]
        return torch.cat(rows, 1)


class FixedHeat:
    """Heat without learning.

    Parameters
    ----------
    logits
        Of the edges [b, n, k], or the items [b, n].
    """

    def __init__(self, logits: Tensor):
        self.logits = logits

    def revisit(self, first: Tensor, current: Tensor, left: Tensor) -> None:
        """Nothing changes."""

    def row(self, current: Tensor) -> Tensor:
        """Always the same."""
        return self.logits[rows_of(current), current]

    def items(self, left: Tensor) -> Tensor:
        """Always the same."""
        return self.logits[:, None].expand(left.shape)


#: Arrays of the size of all embedded edges that are in memory while a layer is computed.
EDGE_ARRAYS = 6
#: Lengths of a mean edge, or deviations of items' priorities, at which a weight has fallen to 1/e.
REACH = 0.3


def plain_heat(graph: Graph, kind: str) -> FixedHeat:
    """Heat of a batch: "uniform", or by "distance": short edges, items of priority."""
    if graph.priority is not None:
        # Equal priorities are equal heat: rounding must not decide between them.
        logits = graph.priority - graph.priority.mean(1, keepdim=True)
        logits = logits / (REACH * logits.std(1, correction=0, keepdim=True)).clamp_min(1e-6)
    else:
        far = graph.lengths()
        logits = -far / (REACH * far.mean(2, keepdim=True)).clamp_min(1e-30)
    return FixedHeat(torch.zeros_like(logits) if kind == "uniform" else logits)


def sample(heat: Heat, graph: Graph, *how: Any) -> Tensor:
    """Tours as `sample_tours` draws them, or orders of items as `sample_orders`."""
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
    """Orders [b, samples, n] of the items of instances, all sampled in parallel.

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
    (b, n, _), device = graph.near.shape, graph.near.device
    left = torch.ones(b, samples, n, dtype=torch.bool, device=device)
    parts: list[Tensor] = []
    period = revisit_period(n, revisits)
    for begin in range(0, n, period):
        if stop():
            raise Stopped
        logits = heat.items(left).masked_fill(~left, -torch.inf)
        noise = torch.empty_like(logits).exponential_(generator=generator)
        parts.append((logits - noise.log()).topk(min(period, n - begin), 2).indices)
        left.scatter_(2, parts[-1], False)
    return torch.cat(parts, 2)


@torch.no_grad()
def sample_tours(
    heat: Heat,
    graph: Graph,
    samples: int,
    revisits: int,
    generator: torch.Generator,
    stop: Callable[[], bool] = never,
) -> Tensor:
    """Tours [b, samples, n] of instances, all sampled in parallel.

    The next node is drawn among the candidates not yet visited, by their heat. From where
    all candidates are visited it goes to the nearest node that is not.

    Parameters
    ----------
    heat, graph
        The instances'.
    samples
        Number of tours of each.
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
    (b, n, _), device = graph.near.shape, graph.near.device
    which, row = torch.arange(b, device=device)[:, None], torch.arange(samples, device=device)
    first = torch.randint(0, n, (b, samples), generator=generator, device=device)
    left = torch.ones(b, samples, n, dtype=torch.bool, device=device)
    tours = torch.empty(b, samples, n, dtype=torch.int64, device=device)
    current = first
    period = revisit_period(n, revisits)
    for step in range(n):
        tours[:, :, step] = current
        left[which, row, current] = False
        if step == n - 1:
            break
        if step % period == 0:
            heat.revisit(first, current, left)
        if step % min(period, 256) == 0 and stop():
            raise Stopped
        near = graph.near[which, current]
        logits = heat.row(current).masked_fill(~left.gather(2, near), -torch.inf)
        noise = torch.empty_like(logits).exponential_(generator=generator)
        chosen = (logits - noise.log()).argmax(2, keepdim=True)
        following = near.gather(2, chosen)
        lost = (~left.gather(2, following)[:, :, 0]).nonzero(as_tuple=True)
        following = following[:, :, 0]
        if len(lost[0]):
            far = graph.away(lost[0], current[lost]).masked_fill(~left[lost], torch.inf)
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
    """Log-probabilities [b, s] with which `sample_tours` draws tours, for their gradient.

    Steps that were no choice count as certain.

    Parameters
    ----------
    network, nodes, edges
        As for `NetworkHeat`.
    near
        Candidates [b, n, k].
    tours
        Tours [b, s, n].
    revisits
        As for `sample_tours`.
    """
    n, device = tours.shape[2], tours.device
    which = torch.arange(len(tours), device=device)[:, None, None]
    place = torch.empty_like(tours).scatter_(
        2, tours, torch.arange(n, device=device).expand_as(tours)
    )
    total = torch.zeros(tours.shape[:2], device=nodes.device, dtype=nodes.dtype)
    period = revisit_period(n, revisits)
    for begin in range(0, n - 1, period):
        end = min(begin + period, n - 1)
        context = network.context(nodes, tours[:, :, 0], tours[:, :, begin], place > begin)
        here, following = tours[:, :, begin:end], tours[:, :, begin + 1 : end + 1]
        logits = network.heat(edges[which, here], context[:, :, None])
        candidates = near[which, here]
        step = torch.arange(begin, end, device=device)
        visited = place.gather(2, candidates.flatten(2)).view_as(candidates) <= step[:, None]
        chosen = candidates == following[..., None]
        rates = logits.masked_fill(visited, -torch.inf)
        known = chosen.any(3)
        # Where all is visited nothing was drawn.
        rates = torch.where(known[..., None], rates, 0.0).log_softmax(3)
        rates = rates.masked_fill(~chosen, 0.0).sum(3)
        total = total + (rates * known).sum(2)
    return total


def order_rates(network: HeatNetwork, nodes: Tensor, orders: Tensor, revisits: int) -> Tensor:
    """Log-probabilities [b, s] with which `sample_orders` draws orders, for their gradient.

    Parameters
    ----------
    network, nodes
        As for `NetworkHeat`.
    orders
        Orders [b, s, n].
    revisits
        As for `sample_orders`.
    """
    n = orders.shape[2]
    left = torch.ones_like(orders, dtype=torch.bool)
    total = torch.zeros(orders.shape[:2], device=nodes.device, dtype=nodes.dtype)
    period = revisit_period(n, revisits)
    for begin in range(0, n, period):
        # What is not yet in the order stands behind it.
        logits = network.items(nodes, left).gather(2, orders[:, :, begin:])
        among = logits.flip(2).logcumsumexp(2).flip(2)
        total = total + (logits - among)[:, :, :period].sum(2)
        left = left.scatter(2, orders[:, :, begin : begin + period], False)
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
        own = told_apart(own)
        tree = cKDTree(own)
        parts = [np.asarray(tree.query(own[i], k + 1)[1]) for i in row_slices(n, stop)]
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


def row_slices(n: int, stop: Callable[[], bool]) -> Iterator[slice]:
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
        for i in row_slices(n, stop)
    ]
    far, near = (torch.cat([row[which] for row in rows], 1) for which in (0, 1))
    there = torch.cat(
        [
            costs[:, :, i].masked_fill(itself[:, i], torch.inf).topk(k, 1, largest=False).values
            for i in row_slices(n, stop)
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


def heat_of(
    graph_of: Callable[[int], Graph],
    *,
    kind: str,
    folder: str = "",
    problem: str = "",
    neighbors: int,
    device: torch.device,
    stop: Callable[[], bool] = never,
) -> tuple[Heat, Graph]:
    """Heat of one instance, and the graph that it is on.

    Parameters
    ----------
    graph_of
        The instance's graph with so many candidates per node; asks ``stop``, too.
    kind
        "network", "distance" or "uniform".
    folder, problem
        For a network: where it is, as for `read_divider`, and its problem.
    neighbors
        Candidates per node; a network has those that it was trained with.
    device, stop
        Where and until when that is computed.

    Raises
    ------
    InputError
        When the network cannot be read.
    MemoryError
        As `check_memory`.
    Stopped
        When ``stop`` says so.
    """
    if kind != "network":
        graph = graph_of(neighbors).to(device)
        return plain_heat(graph, kind), graph
    try:
        network, neighbors = read_divider(folder, problem)
    except (CheckpointError, WeightsError) as error:
        raise InputError(None, None, str(error)) from None
    graph = graph_of(neighbors).to(device)
    network = network.to(device)
    check_memory(network, graph)
    with torch.no_grad():
        nodes, edges = network(graph, stop)
    return NetworkHeat(network, nodes, edges), graph


def draw_tours(
    heat: Heat,
    graph: Graph,
    *,
    samples: int,
    size: int,
    seed: int,
    stop: Callable[[], bool] = never,
) -> Tensor:
    """Tours, or orders of items, [samples, n] of one instance.

    Parameters
    ----------
    heat, graph
        As `heat_of` makes them.
    samples, size
        Number of tours, nodes in a part.
    seed, stop
        Of the sampling.

    Raises
    ------
    Stopped
        When ``stop`` says so.
    """
    generator = torch.Generator(graph.near.device).manual_seed(seed)
    return sample(heat, graph, samples, revisits_of(graph.near.shape[1], size), generator, stop)[0]
