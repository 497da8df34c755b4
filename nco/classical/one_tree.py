"""The Held-Karp lower bound for symmetric tours, by 1-trees.

M. Held and R. M. Karp, The traveling-salesman problem and minimum spanning trees, part
II, Mathematical Programming 1 (1971).
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from nco.instances.core import Budget
from nco.instances.tsp import TSP

#: The distance matrix of more nodes takes too much memory and time.
LARGEST_NODES = 5000


@numba.njit(cache=True, nogil=True)
def _one_tree(costs: Any, pi: Any, degree: Any) -> float:
    """Weight of a minimum 1-tree under costs ``costs[i, j] + pi[i] + pi[j]``.

    Prim's algorithm spans all nodes but node 0, which joins by its two cheapest edges.
    Fills ``degree`` [n].
    """
    n = len(pi)
    degree[:] = 0
    key = np.full(n, np.inf)
    parent = np.full(n, -1)
    inside = np.zeros(n, dtype=np.bool_)
    total = 0.0
    node = 1
    inside[1] = True
    for _ in range(n - 2):
        row = costs[node]
        base = pi[node]
        best, following = np.inf, -1
        for j in range(1, n):
            if not inside[j]:
                value = row[j] + base + pi[j]
                if value < key[j]:
                    key[j] = value
                    parent[j] = node
                if key[j] < best:
                    best, following = key[j], j
        inside[following] = True
        degree[following] += 1
        degree[parent[following]] += 1
        total += best
        node = following
    first, second, a, b = np.inf, np.inf, -1, -1
    for j in range(1, n):
        value = costs[0, j] + pi[0] + pi[j]
        if value < first:
            second, b = first, a
            first, a = value, j
        elif value < second:
            second, b = value, j
    degree[0] = 2
    degree[a] += 1
    degree[b] += 1
    return total + first + second


def bound(instance: TSP, budget: Budget, iterations: int = 1000) -> float | None:
    """A lower bound on the length of every tour, by subgradient ascent.

    Any multipliers give a valid bound, so it may end at any time.

    Parameters
    ----------
    instance
        A tour problem with symmetric costs.
    budget
        When to stop; one 1-tree is always computed.
    iterations
        Most ascent steps.

    Returns
    -------
    The bound, rounded up where all costs are integers; None for asymmetric costs, fewer
    than 3 or more than 5,000 nodes.
    """
    n = instance.n
    if n < 3 or n > LARGEST_NODES or not instance.distances.symmetric:
        return None
    costs = instance.distances.matrix
    pi = np.zeros(n)
    degree = np.zeros(n, dtype=np.int64)
    best = -math.inf
    upper = _upper(instance)
    factor, stale, previous = 2.0, 0, np.zeros(n)
    for _ in range(iterations):
        value = float(_one_tree(costs, pi, degree)) - 2.0 * float(pi.sum())
        if value > best + 1e-9 * abs(best if math.isfinite(best) else 1.0):
            best, stale = value, 0
        else:
            stale += 1
            if stale % 10 == 0:
                factor *= 0.6
        slope = degree - 2.0
        norm = float(slope @ slope)
        if norm == 0.0 or factor < 1e-4 or budget.done():
            break
        step = factor * max(upper - value, 1e-6 * abs(upper)) / norm
        # Volgenant and Jonker's mix of the last two directions damps zigzagging.
        pi += step * (0.7 * slope + 0.3 * previous)
        previous[:] = slope
    # Sums of n rounded numbers: far more slack than their errors can reach.
    slack = 1e-9 * (abs(best) + float(np.abs(pi).sum()) + 1.0)
    return math.ceil(best - slack) if instance.distances.integral else best - slack


def _upper(instance: TSP) -> float:
    from nco.classical.constructive import greedy_tour

    return instance.objective(greedy_tour(instance.distances)) * 0.9
