"""The Held-Karp lower bound for symmetric tours, by 1-trees.

M. Held and R. M. Karp, The traveling-salesman problem and minimum spanning trees, part
II, Mathematical Programming 1 (1971).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nco.classical.constructive import greedy_tour, neighbor_lists
from nco.instances.core import Budget, Distances
from nco.instances.mtsp import MTSP
from nco.instances.tsp import TSP

#: More nodes take too long for a bound on the side.
LARGEST_NODES = 5000
#: Neighbours of a node whose edges the ascent looks at.
NEIGHBORS = 8

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def bound(instance: TSP, budget: Budget, iterations: int = 1000) -> float | None:
    """A lower bound on the length of every tour, by subgradient ascent.

    The ascent looks at the edges of nearest neighbours and of one tour only. Any
    multipliers give a valid bound, so those it ends with are put into a 1-tree of all
    edges.

    Parameters
    ----------
    instance
        A tour problem with symmetric costs.
    budget
        When to stop; one 1-tree of all edges is always computed.
    iterations
        Most ascent steps.

    Returns
    -------
    The bound, rounded up where all costs are integers; None for asymmetric costs, fewer
    than 3 or more than 5,000 nodes.
    """
    n = instance.n
    if n < 3 or n > LARGEST_NODES or instance.directed:
        return None
    # With fixed edges tours are longer; so is a bound, by as much.
    distances = instance.search_distances
    # The closing 1-tree takes about so long, measured on one core.
    ascent = _Ascent(distances, budget.reserve(3e-5 * n + 1.5e-8 * n * n), iterations)
    best, pi = -math.inf, np.zeros(n)
    while True:
        if ascent.ready():
            pi = ascent.run()
        value, i, j = one_tree(distances, pi)
        # Sums of n rounded numbers: far more slack than their errors can reach.
        best = max(best, value - 1e-9 * (abs(value) + float(np.abs(pi).sum())))
        if not ascent.ready() or not ascent.add(i, j):
            return (math.ceil(best) if distances.integral else best) - instance.surplus


def longest_bound(instance: MTSP, budget: Budget) -> float | None:
    """A lower bound on the longest of a number of tours.

    It is no shorter than to the farthest customer and back, nor, as the tours joined at the
    depot are one tour of all nodes, than a salesman's share of that. Both need the triangle
    inequality, so that there is no bound for rounded costs and matrices.

    Parameters
    ----------
    instance
        A problem of several tours through one depot.
    budget
        As for `bound`.
    """
    far = instance.unbeatable()
    if far is None:
        return None
    whole = bound(TSP(coords=instance.coords), budget) if budget.left() > 0.0 else None
    return max(far, (whole or 0.0) / instance.salesmen)


def one_tree(distances: Distances, pi: Floats) -> tuple[float, Indices, Indices]:
    """A minimum 1-tree under costs ``c[i, j] + pi[i] + pi[j]``.

    Prim's algorithm over all edges spans all nodes but node 0, which joins by its two
    cheapest edges.

    Returns
    -------
    Its weight less ``2 sum(pi)``, than which no tour is shorter whatever ``pi`` [n] is;
    and the two ends of its edges [n].
    """
    n = distances.n
    key = np.full(n, np.inf)
    parent = np.full(n, 1)
    # Infinite for the nodes that are joined already.
    blocked = pi.copy()
    blocked[[0, 1]] = np.inf
    node, order = 1, []
    weights = []
    for _ in range(n - 2):
        costs = distances.row(node) + (blocked + pi[node])
        nearer = costs < key
        key[nearer] = costs[nearer]
        parent[nearer] = node
        node = int(key.argmin())
        weights.append(float(key[node]))
        order.append(node)
        key[node] = blocked[node] = np.inf
    costs = (distances.row(0) + (pi + pi[0]))[1:]
    two = np.argpartition(costs, 1)[:2]
    value = math.fsum([*weights, *costs[two].tolist(), *(-2.0 * pi).tolist()])
    ends = np.array(order)
    return value, np.r_[parent[ends], 0, 0], np.r_[ends, two + 1]


class _Ascent:
    """Subgradient ascent in a sparse graph, whose edges may become more.

    Parameters
    ----------
    distances
        Symmetric costs.
    budget
        When to stop.
    iterations
        Most steps of all runs.
    """

    def __init__(self, distances: Distances, budget: Budget, iterations: int):
        self.distances = distances
        self.budget = budget
        self.left = iterations
        self.factor = 2.0
        n = distances.n
        self.pi = np.zeros(n)
        self.keys = np.empty(0, dtype=np.int64)
        self.upper = 0.0
        try:
            tour = np.array(greedy_tour(distances, budget=budget))
            near = neighbor_lists(distances, n - 1 if n <= 4 * NEIGHBORS else NEIGHBORS, budget)
        except TimeoutError:
            self.left = 0
            return
        self.upper = float(distances.tour_length(tour))
        self.add(tour, np.roll(tour, -1))
        self.add(np.repeat(np.arange(n), near.shape[1]), near.reshape(-1))

    def ready(self) -> bool:
        """Whether there is anything left to spend."""
        return self.left > 0 and self.budget.done() is None

    def add(self, i: Indices, j: Indices) -> bool:
        """Add edges; whether any was new."""
        before = len(self.keys)
        keys = np.minimum(i, j) * self.distances.n + np.maximum(i, j)
        self.keys = np.union1d(self.keys, keys)
        return len(self.keys) > before

    def run(self) -> Floats:
        """Climb on from the best multipliers so far; the best ones [n] of this graph."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import minimum_spanning_tree

        n = self.distances.n
        i, j = self.keys // n, self.keys % n
        cost = self.distances.pairs(i, j)
        inner = i > 0  # as i < j, the others are node 0's
        heads, ends = j[inner], j[~inner]
        indptr = np.r_[0, np.cumsum(np.bincount(i[inner], minlength=n))]
        spread = float(cost.max()) or 1.0
        pi, previous = self.pi, np.zeros(n)
        best, stale, factor = -math.inf, 0, self.factor
        while self.ready():
            self.left -= 1
            reduced = cost + pi[i] + pi[j]
            within, joining = reduced[inner], reduced[~inner]
            # The library takes a weight of 0 for no edge; a shift changes no tree.
            shift = spread - float(within.min())
            graph = csr_array((within + shift, heads, indptr), shape=(n, n))
            tree = minimum_spanning_tree(graph).tocoo()
            two = np.argpartition(joining, 1)[:2]
            degree = np.bincount(np.r_[tree.row, tree.col, ends[two]], minlength=n)
            degree[0] = 2
            weight = float(tree.data.sum()) - shift * (n - 2) + float(joining[two].sum())
            value = weight - 2.0 * float(pi.sum())
            if value > best + 1e-9 * abs(value):
                best, self.pi, stale = value, pi, 0
            else:
                stale += 1
                if stale % 10 == 0:
                    factor *= 0.6
            slope = degree - 2.0
            norm = float(slope @ slope)
            if norm == 0.0 or factor < 1e-4 or value >= self.upper:
                break
            # Volgenant and Jonker's mix of the last two directions damps zigzagging.
            step = factor * max(0.95 * self.upper - value, 1e-3 * self.upper) / norm
            pi = pi + step * (0.7 * slope + 0.3 * previous)
            previous = slope  # type: ignore[assignment]
        # Further runs start near the top.
        self.factor = 0.2
        return self.pi
