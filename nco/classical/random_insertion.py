"""Random insertion for tours of points, in O(n log n)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.classical.compiling import kernel
from nco.classical.constructive import (
    Indices,
    check_time,
    compiled_loop,
    hilbert_order,
    run_loop,
)
from nco.instances.core import Budget

#: Nodes near a new one whose legs are tried.
NEAR = 20
#: After growing by this factor the tour's nodes are indexed anew.
GROWTH = 1.2
#: New nodes between two looks at the clock.
LOOKS = 20_000


def _insert(xs: Any, ys: Any, new: Any, near: Any, count: int, after: Any, before: Any) -> Any:
    """Put the new nodes, in order, into the cheapest leg at one of the nodes near them."""
    for row in range(len(new)):
        v = new[row]
        x, y = xs[v], ys[v]
        least, place = math.inf, near[row * count]
        for c in range(count):
            u = near[row * count + c]
            here = math.sqrt((xs[u] - x) ** 2 + (ys[u] - y) ** 2)
            for side in range(2):
                w = after[u] if side else before[u]
                there = math.sqrt((xs[w] - x) ** 2 + (ys[w] - y) ** 2)
                extra = here + there - math.sqrt((xs[u] - xs[w]) ** 2 + (ys[u] - ys[w]) ** 2)
                if extra < least:
                    least = extra
                    place = u if side else w
        following = after[place]
        after[place] = v
        before[v] = place
        after[v] = following
        before[following] = v
    return after, before


@functools.cache
def _compiled_insert() -> Callable[..., Any]:
    types = ["f8[::1]"] * 2 + ["i8[::1]"] * 2 + ["i8"] + ["i8[::1]"] * 2
    return kernel(signature_or_function=f"({', '.join(types)})")(_insert)


def _compile() -> None:
    _compiled_insert()


def random_insertion(
    coords: NDArray[Any], seed: int = 0, budget: Budget | None = None
) -> list[int]:
    """A tour by inserting nodes in random order where they add least length.

    Only legs at the nodes nearest to the new one are tried, which seldom misses the
    best leg and keeps time and memory near-linear. Points at one place follow each other.

    D. J. Rosenkrantz, R. E. Stearns, P. M. Lewis, An analysis of several heuristics for the
    traveling salesman problem, SIAM Journal on Computing 6 (1977).

    Parameters
    ----------
    coords
        Points [n, d]; the first two coordinates count.
    seed
        Seed of the order.
    budget
        When it ends, there is no tour.

    Raises
    ------
    TimeoutError
        When the budget ends first.
    """
    from scipy.spatial import cKDTree

    points = np.asarray(coords, dtype=np.float64)[:, :2]
    # As `numpy.unique` by rows, in a third of its time.
    by_place = np.lexsort(points.T[::-1])
    points = points[by_place]
    fresh = np.ones(len(points), dtype=bool)
    fresh[1:] = (points[1:] != points[:-1]).any(1)
    place = np.empty(len(points), dtype=np.int64)
    place[by_place] = np.cumsum(fresh) - 1
    points = points[fresh]
    n = len(points)
    order = np.random.default_rng(seed).permutation(n)
    after = np.empty(n, dtype=np.int64)
    before = np.empty(n, dtype=np.int64)
    done = min(3, n)
    after[order[:done]], before[order[:done]] = np.roll(order[:done], -1), np.roll(order[:done], 1)
    xs, ys = points.T.copy()
    # Along a curve, what one query reads the last one has just read.
    curve, here = hilbert_order(points), np.zeros(n, dtype=bool)
    along = np.empty(n, dtype=np.int64)
    along[curve] = np.arange(n)
    # Large tours are compiled from the first batch on: lists of all nodes are not made again.
    steps = float(NEAR * n)
    while done < n:
        new = order[done : done + max(1, int((GROWTH - 1) * done))]
        here[order[:done]] = True
        known = curve[here[curve]]
        count = min(NEAR, done)
        tree = cKDTree(points[known], balanced_tree=False, compact_nodes=False)
        near: Indices = np.empty((len(new), count), dtype=np.int64)
        by_place = np.argsort(along[new])
        for begin in range(0, len(new), LOOKS):
            check_time(budget)
            some = by_place[begin : begin + LOOKS]
            _, found = tree.query(points[new[some]], count)
            near[some] = known[np.asarray(found).reshape(-1, count)]
        near = near.reshape(-1)
        work = max(steps, 4.0 * len(near))
        loop = compiled_loop(_compiled_insert, work, lambda: budget is not None) or _insert
        size = len(new) if loop is _insert else LOOKS
        for begin in range(0, len(new), size):
            check_time(budget)
            some, beside = new[begin : begin + size], near[begin * count : (begin + size) * count]
            linked = run_loop(loop, xs, ys, some, beside, count, after, before)
            after, before = map(np.asarray, linked)
        done += len(new)
    rank = np.empty(n, dtype=np.int64)
    node = 0
    successors = after.tolist()
    for position in range(n):
        rank[node] = position
        node = successors[node]
    return np.argsort(rank[place], kind="stable").tolist()
