"""Single-commodity flow models of routing problems.

Complete without lazy constraints: B. Gavish and S. C. Graves, The travelling salesman
problem and related problems (1978). All arcs are there for up to `ALL_ARCS` nodes;
above, those of near neighbours, of the start and of the depot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components, maximum_flow
from scipy.spatial import cKDTree

from nco.instances.mip import MIP, MipView
from nco.instances.tour_edges import mended

if TYPE_CHECKING:
    from nco.instances.core import Distances
    from nco.instances.cvrp import CVRP
    from nco.instances.tsp import TSP

#: Up to this many nodes every arc is a column.
ALL_ARCS = 101
#: Near neighbours of each node above.
NEIGHBORS = 10

Index = NDArray[np.intp]


def neighbor_arcs(distances: Distances, k: int = NEIGHBORS) -> tuple[Index, Index]:
    """Arcs from and to the ``k`` nearest neighbours of every node."""
    n = distances.n
    k = min(k, n - 1)
    if distances.coords is not None:
        _, near = cKDTree(distances.coords).query(distances.coords, k=k + 1)
    else:
        near = np.stack([np.argpartition(distances.row(i), k)[: k + 1] for i in range(n)])
    tail = np.repeat(np.arange(n), k + 1)
    head = near.reshape(-1).astype(np.intp)
    return np.concatenate([tail, head]), np.concatenate([head, tail])


def arcs(
    distances: Distances, paths: Sequence[Sequence[int]], hub: bool
) -> tuple[Index, Index, bool]:
    """Tails and heads of the model's arcs, and whether they are all there are.

    Parameters
    ----------
    distances
        Travel costs.
    paths
        Closed paths whose arcs must be there.
    hub
        Whether all arcs of node 0 are there.
    """
    n = distances.n
    if n <= ALL_ARCS:
        tail, head = (a.reshape(-1) for a in np.indices((n, n)))
    else:
        tail, head = neighbor_arcs(distances)
        # The identity tour keeps the model feasible without a start.
        for path in paths or [range(n)]:
            nodes = np.asarray(path, dtype=np.intp)
            tail = np.concatenate([tail, nodes])
            head = np.concatenate([head, np.roll(nodes, -1)])
        if hub:
            others, zero = np.arange(1, n), np.zeros(n - 1, dtype=np.intp)
            tail = np.concatenate([tail, others, zero])
            head = np.concatenate([head, zero, others])
    key = np.unique((tail * n + head)[tail != head])
    return key // n, key % n, n <= ALL_ARCS


class _Rows:
    """Rows of a model in the making."""

    def __init__(self) -> None:
        self.entries: list[tuple[Index, Index, NDArray[np.float64]]] = []
        self.lower: list[NDArray[np.float64]] = []
        self.upper: list[NDArray[np.float64]] = []
        self.names: list[str] = []

    def add(
        self,
        name: str,
        labels: Sequence[Any],
        entries: Sequence[tuple[Any, Any, Any]],
        lower: Any,
        upper: Any,
    ) -> None:
        first, m = len(self.names), len(labels)
        for row, column, value in entries:
            row, column, value = np.broadcast_arrays(row, column, value)
            self.entries.append((row + first, column, value.astype(np.float64)))
        self.lower.append(np.broadcast_to(np.asarray(lower, dtype=np.float64), m))
        self.upper.append(np.broadcast_to(np.asarray(upper, dtype=np.float64), m))
        self.names += [f"{name}_{label}" for label in labels]

    def matrix(self, n: int) -> sparse.csr_array:
        row, column, value = (np.concatenate(part) for part in zip(*self.entries, strict=True))
        return sparse.csr_array((value, (row, column)), shape=(len(self.names), n))


def _groups(n: int, tail: Index, head: Index, blocks: int) -> list[Index]:
    node = np.tile(np.concatenate([tail, head]), blocks)
    arc = np.tile(np.arange(len(tail)), 2)
    column = np.concatenate([arc + block * len(tail) for block in range(blocks)])
    order = np.lexsort((column, node))
    return np.split(column[order], np.cumsum(np.bincount(node, minlength=n))[:-1])


def _names(tail: Index, head: Index) -> list[str]:
    pairs = list(zip(tail.tolist(), head.tolist(), strict=True))
    return [f"x_{i}_{j}" for i, j in pairs] + [f"f_{i}_{j}" for i, j in pairs]


def _lookup(n: int, tail: Index, head: Index, i: Index, j: Index) -> Index:
    return np.searchsorted(tail * n + head, np.asarray(i) * n + np.asarray(j))


def tour_arcs(instance: TSP, start: list[int] | None = None) -> tuple[Index, Index, bool]:
    """Tails and heads of the arcs of tours, and whether they are all there are.

    Parameters
    ----------
    instance
        Its fixed edges are there, its missing ones are not.
    start
        A tour whose arcs must be there.
    """
    n = instance.n
    paths: list[Sequence[int]] = [] if start is None else [start]
    if instance.fixed is not None:
        paths += [*instance.fixed.tolist(), mended(instance, range(n))]
    # Missing edges are dear to searches, and so no one's nearest.
    distances = instance.distances if instance.edges is None else instance.search_distances
    tail, head, exact = arcs(distances, paths, hub=False)
    if instance.edges is None:
        return tail, head, exact
    ways = instance.edges
    if not instance.directed:
        ways = np.concatenate([ways, ways[:, ::-1]])
    there = np.isin(tail * n + head, ways[:, 0] * n + ways[:, 1])
    return tail[there], head[there], exact or int(there.sum()) == len(ways)


def tsp_view(instance: TSP, start: list[int] | None = None) -> MipView:
    """A tour as a MIP: arc choices, and n - 1 units of flow of which each node keeps one.

    Parameters
    ----------
    instance
        The problem.
    start
        A tour whose arcs must be columns.
    """
    n = instance.n
    tail, head, exact = tour_arcs(instance, start)
    a = len(tail)
    x, f = np.arange(a), a + np.arange(a)
    rows = _Rows()
    if n > 1:
        nodes = range(n)
        rows.add("out", nodes, [(tail, x, 1.0)], 1.0, 1.0)
        rows.add("in", nodes, [(head, x, 1.0)], 1.0, 1.0)
        inner = range(1, n)
        into, out = head > 0, tail > 0
        rows.add(
            "flow",
            inner,
            [(head[into] - 1, f[into], 1.0), (tail[out] - 1, f[out], -1.0)],
            1.0,
            1.0,
        )
        # Flow of an arc: n - 1 out of node 0, at most n - 2 elsewhere, none back into it.
        most = np.where(tail == 0, n - 1, np.where(head == 0, 0, n - 2)).astype(float)
        least = np.where(head == 0, 0, np.where(tail == 0, n - 1, 1)).astype(float)
        each = np.arange(a)
        pairs = [f"{i}_{j}" for i, j in zip(tail.tolist(), head.tolist(), strict=True)]
        rows.add("most", pairs, [(each, f, 1.0), (each, x, -most)], -math.inf, 0.0)
        rows.add("least", pairs, [(each, f, 1.0), (each, x, -least)], 0.0, math.inf)
    if n > 1 and instance.fixed is not None:
        i, j = instance.fixed.T
        ways = [(i, j)] if instance.directed else [(i, j), (j, i)]
        each = np.arange(len(i))
        entries = [(each, x[_lookup(n, tail, head, *way)], 1.0) for way in ways]
        rows.add("fixed", [f"{i}_{j}" for i, j in instance.fixed.tolist()], entries, 1.0, math.inf)
    cost = instance.distances.pairs(tail, head)
    mip = MIP(
        c=np.concatenate([cost, np.zeros(a)]),
        A=rows.matrix(2 * a) if a else np.zeros((0, 0)),
        row_lower=np.concatenate([np.zeros(0), *rows.lower]),
        row_upper=np.concatenate([np.zeros(0), *rows.upper]),
        lower=np.zeros(2 * a),
        upper=np.concatenate([np.ones(a), np.full(a, float(max(0, n - 1)))]),
        integrality=np.repeat([True, False], a),
        columns=_names(tail, head),
        rows=rows.names,
        name=instance.name,
    )

    def encode(tour: list[int]) -> NDArray[np.float64]:
        begin = list(tour).index(0)
        order = np.asarray([*tour[begin:], *tour[:begin]], dtype=np.intp)
        values = np.zeros(2 * a)
        if n > 1:
            used = _lookup(n, tail, head, order, np.roll(order, -1))
            values[used] = 1.0
            values[a + used] = np.arange(n - 1, -1, -1)
        return values

    def decode(values: NDArray[np.float64]) -> list[int]:
        return next(iter(_walks(n, tail, head, values[:a])), [0])

    return MipView(
        mip=mip,
        encode=encode,
        decode=decode,
        groups=_groups(n, tail, head, 2),
        exact=exact,
        separate=lambda values: subtour_rows(n, tail, head, values, 2 * a),
    )


def _walks(n: int, tail: Index, head: Index, x: NDArray[np.float64]) -> list[list[int]]:
    """Closed walks from node 0 along the chosen arcs, node 0 first."""
    chosen = np.flatnonzero(x > 0.5)
    after: dict[int, list[int]] = {}
    for i, j in zip(tail[chosen].tolist(), head[chosen].tolist(), strict=True):
        after.setdefault(i, []).append(j)
    walks = []
    while after.get(0):
        walk, node = [0], after[0].pop()
        while node != 0 and len(walk) <= n:
            walk.append(node)
            if not after.get(node):
                break
            node = after[node].pop()
        walks.append(walk)
    return walks


def cvrp_view(instance: CVRP, start: list[list[int]] | None = None) -> MipView:
    """Routes as a MIP: arc choices, and demand that flows from the depot.

    A distance limit adds a second flow, the length travelled so far (I. Kara, Arc based
    integer programming formulations for the distance constrained VRP, 2011).

    Parameters
    ----------
    instance
        The problem.
    start
        Routes whose arcs must be columns.
    """
    nodes, capacity = instance.nodes, float(instance.capacity)
    demands = instance.demands.astype(np.float64)
    routes = [[0, *route] for route in start or [[k] for k in range(1, nodes)] if route]
    tail, head, exact = arcs(instance.distances, routes, hub=True)
    # Arcs between customers whose loads exceed a vehicle are of no use.
    fits = (tail == 0) | (head == 0) | (demands[tail] + demands[head] <= capacity * (1 + 1e-9))
    tail, head = tail[fits], head[fits]
    a = len(tail)
    x, f = np.arange(a), a + np.arange(a)
    cost = instance.distances.pairs(tail, head)
    limit = instance.max_distance
    blocks = 2 if limit is None else 3
    rows = _Rows()
    inner = range(1, nodes)
    into, out = head > 0, tail > 0
    rows.add("out", inner, [(tail[out] - 1, x[out], 1.0)], 1.0, 1.0)
    rows.add("in", inner, [(head[into] - 1, x[into], 1.0)], 1.0, 1.0)
    from_depot, to_depot = tail == 0, head == 0
    fewest = math.ceil(demands.sum() / capacity - 1e-9) if capacity > 0 else 1
    most_routes = instance.n if instance.vehicles is None else instance.vehicles
    rows.add("depot", ["out"], [(0, x[from_depot], 1.0)], max(1, fewest), max(most_routes, 0))
    rows.add("depot", ["in"], [(0, x[from_depot], 1.0), (0, x[to_depot], -1.0)], 0.0, 0.0)
    rows.add(
        "flow",
        inner,
        [(head[into] - 1, f[into], 1.0), (tail[out] - 1, f[out], -1.0)],
        demands[1:],
        demands[1:],
    )
    each = np.arange(a)
    pairs = [f"{i}_{j}" for i, j in zip(tail.tolist(), head.tolist(), strict=True)]
    most = np.where(to_depot, 0.0, capacity - demands[tail])
    least = demands[head]
    rows.add("most", pairs, [(each, f, 1.0), (each, x, -most)], -math.inf, 0.0)
    rows.add("least", pairs, [(each, f, 1.0), (each, x, -least)], 0.0, math.inf)
    upper = [np.ones(a), np.full(a, capacity)]
    names = _names(tail, head)
    if limit is not None:
        # Length at the end of an arc, the service at its tail included.
        g = 2 * a + np.arange(a)
        step = cost + np.where(tail == 0, 0.0, instance.service_time)
        back = instance.distances.pairs(head, np.zeros_like(head)) + instance.service_time
        rows.add(
            "time",
            inner,
            [
                (tail[out] - 1, g[out], 1.0),
                (head[into] - 1, g[into], -1.0),
                (tail[out] - 1, x[out], -step[out]),
            ],
            0.0,
            0.0,
        )
        first = np.flatnonzero(from_depot)
        rows.add(
            "leave",
            head[first].tolist(),
            [
                (np.arange(len(first)), g[first], 1.0),
                (np.arange(len(first)), x[first], -cost[first]),
            ],
            0.0,
            0.0,
        )
        # The way back from the head takes no less than the direct arc only where the
        # triangle inequality holds; the plain limit is always right.
        exact_metric = instance.matrix is None and instance.metric == "exact"
        latest = np.where(to_depot | (not exact_metric), limit, limit - back)
        rows.add("late", pairs, [(each, g, 1.0), (each, x, -latest)], -math.inf, 0.0)
        upper.append(np.full(a, float(limit)))
        names += [f"g_{i}_{j}" for i, j in zip(tail.tolist(), head.tolist(), strict=True)]
    mip = MIP(
        c=np.concatenate([cost, np.zeros((blocks - 1) * a)]),
        A=rows.matrix(blocks * a),
        row_lower=np.concatenate(rows.lower),
        row_upper=np.concatenate(rows.upper),
        lower=np.zeros(blocks * a),
        upper=np.concatenate(upper),
        integrality=np.repeat([True] + [False] * (blocks - 1), a),
        columns=names,
        rows=rows.names,
        name=instance.name,
    )

    def encode(solution: list[list[int]]) -> NDArray[np.float64]:
        values = np.zeros(blocks * a)
        for route in solution:
            if not route:
                continue
            path = np.asarray([0, *route], dtype=np.intp)
            used = _lookup(nodes, tail, head, path, np.roll(path, -1))
            values[used] = 1.0
            load = demands[path]
            values[a + used] = load.sum() - np.cumsum(load)
            if limit is not None:
                values[2 * a + used] = np.cumsum(step[used])
        return values

    def decode(values: NDArray[np.float64]) -> list[list[int]]:
        return [walk[1:] for walk in _walks(nodes, tail, head, values[:a])]

    return MipView(
        mip=mip,
        encode=encode,
        decode=decode,
        groups=_groups(nodes, tail, head, blocks),
        exact=exact,
        separate=lambda values: capacity_rows(instance, tail, head, values, blocks * a),
    )


def _cut_rows(
    sets: list[NDArray[np.bool_]], right: list[float], tail: Index, head: Index, columns: int
) -> tuple[sparse.csr_array, NDArray[np.float64], NDArray[np.float64]]:
    parts = [np.flatnonzero(~inside[tail] & inside[head]) for inside in sets]
    indptr = np.cumsum([0, *map(len, parts)])
    indices = np.concatenate(parts)
    matrix = sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=(len(sets), columns))
    return matrix, np.asarray(right, dtype=np.float64), np.full(len(sets), math.inf)


def _graph(n: int, tail: Index, head: Index, x: NDArray[np.float64]) -> sparse.csr_array:
    used = x > 1e-6
    return sparse.csr_array((x[used], (tail[used], head[used])), shape=(n, n))


def _minimum_cuts(
    graph: sparse.csr_array, sinks: Sequence[int], below: float
) -> list[NDArray[np.bool_]]:
    """Node sets, each with one of the sinks, that less than ``below`` flows into from 0."""
    scale = 10**6
    whole = sparse.csr_array(
        (np.rint(graph.data * scale).astype(np.int32), graph.indices, graph.indptr), graph.shape
    )
    found: list[NDArray[np.bool_]] = []
    for sink in sinks:
        if any(inside[sink] for inside in found):
            continue
        flow = maximum_flow(whole, 0, sink)
        if flow.flow_value >= below * scale - scale / 1000:
            continue
        residual = sparse.csr_array(whole - flow.flow)
        residual.data = (residual.data > 0).astype(np.int32)
        residual.eliminate_zeros()
        reached = _reachable(residual, 0)
        found.append(~reached)
    return found


def _reachable(graph: sparse.csr_array, source: int) -> NDArray[np.bool_]:
    from scipy.sparse.csgraph import breadth_first_order

    order = breadth_first_order(graph, source, return_predecessors=False)
    reached = np.zeros(graph.shape[0], dtype=bool)
    reached[order] = True
    return reached


#: Minimum cuts per call of a separation.
MOST_CUTS = 100


def subtour_rows(
    n: int, tail: Index, head: Index, values: NDArray[np.float64], columns: int
) -> tuple[sparse.csr_array, NDArray[np.float64], NDArray[np.float64]] | None:
    """Violated subtour rows ``x(arcs into S) >= 1``: components, else minimum cuts.

    Parameters
    ----------
    n
        Nodes.
    tail, head
        Arcs; their columns come first.
    values
        Column values.
    columns
        Columns in all.
    """
    x = values[: len(tail)]
    graph = _graph(n, tail, head, x)
    count, label = connected_components(graph, directed=False)
    if count > 1:
        sets = [label == k for k in range(count) if k != label[0]]
    else:
        sets = _minimum_cuts(graph, range(1, min(n, MOST_CUTS + 1)), 1.0)
    return _cut_rows(sets, [1.0] * len(sets), tail, head, columns) if sets else None


def capacity_rows(
    instance: CVRP, tail: Index, head: Index, values: NDArray[np.float64], columns: int
) -> tuple[sparse.csr_array, NDArray[np.float64], NDArray[np.float64]] | None:
    """Violated rounded capacity rows ``x(arcs into S) >= ceil(demand(S) / capacity)``.

    Sets are tried from the components of the support graph without the depot, and from
    minimum cuts.
    """
    if instance.capacity <= 0:
        return None
    n, x = instance.nodes, values[: len(tail)]
    demands = instance.demands.astype(np.float64)
    graph = _graph(n, tail, head, x)
    inner = (tail > 0) & (head > 0)
    _, label = connected_components(_graph(n, tail[inner], head[inner], x[inner]), directed=False)
    candidates = [label == k for k in np.unique(label[1:])]
    candidates += _minimum_cuts(graph, range(1, min(n, MOST_CUTS + 1)), 1.0)
    # A component less its least connected customers is often violated where it is not.
    for inside in list(candidates):
        if 2 < inside.sum() <= 50:
            for k in np.flatnonzero(inside).tolist():
                smaller = inside.copy()
                smaller[k] = False
                candidates.append(smaller)
    sets, right = [], []
    for inside in candidates:
        if inside[0]:
            continue
        need = max(1.0, math.ceil(demands[inside].sum() / instance.capacity - 1e-9))
        if x[~inside[tail] & inside[head]].sum() < need - 1e-3:
            sets.append(inside)
            right.append(need)
    sets, right = sets[:MOST_CUTS], right[:MOST_CUTS]
    return _cut_rows(sets, right, tail, head, columns) if sets else None
