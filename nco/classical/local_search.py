"""Tour construction and iterated local search, compiled with numba.

The search is an iterated Lin-Kernighan-style descent whose basis move is the sequential
3-opt move, of which 2-opt and Or-opt (a segment moved elsewhere, turned or not) are the
simplest cases. The tour is an array that reverses the shorter side; candidates come from
neighbour lists; a queue of touched nodes plays the part of don't-look bits; and every
double-bridge kick stays within a short stretch of the tour, so that its cost does not
depend on the number of nodes. A worse outcome is undone from a log of reversals.

Nothing here knows of instances, budgets or results: `LocalSearch` runs in slices of a
given amount of work and can be left and taken up again between them, with the same
outcome for every way of slicing.

References
----------
S. Lin, B. W. Kernighan, An effective heuristic algorithm for the traveling-salesman
problem, Operations Research 21 (1973). K. Helsgaun, An effective implementation of the
Lin-Kernighan traveling salesman heuristic, EJOR 126 (2000), section 3 (basis moves).
D. S. Johnson, L. A. McGeoch, The traveling salesman problem: a case study in local
optimization (1997), sections 3.3 (neighbour lists, don't-look bits) and 5.3 (iterated
3-opt with localised double bridges). O. Martin, S. W. Otto, E. W. Felten, Large-step
Markov chains for the traveling salesman problem, Complex Systems 5 (1991).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from nco.classical.compiling import kernel as _kernel
from nco.classical.constructive import hilbert_order, told_apart

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

#: Metric name -> code in the kernels. The names and rounding rules are TSPLIB's.
METRIC_CODES: Mapping[str, int] = {
    "exact": 0,
    "EUC_2D": 1,
    "CEIL_2D": 2,
    "ATT": 3,
    "EUC_3D": 4,
    "MAX_2D": 5,
    "MAX_3D": 6,
    "MAN_2D": 7,
    "MAN_3D": 8,
    "GEO": 9,
    "XRAY1": 10,
    "XRAY2": 11,
}
_MATRIX = 12
_XRAY_SPEEDS = {10: (1.0, 1.0, 1.0), 11: (1.25, 1.5, 1.15)}

#: No single move of the search reverses more nodes (Johnson and McGeoch's value).
MAX_REVERSAL = 1_000_000
#: Nodes reversed by one step that may have to be taken back.
MAX_TRIAL_REVERSAL = 1_000
#: Kicks in one neighbourhood before the search moves elsewhere, and its size in nodes.
_BLOCK_KICKS, _BLOCK_NODES = 1_000, 50_000


# ------------------------------------------------------------------------------- costs


@_kernel()
def _other_cost(coords, code, i, j):  # type: ignore[no-untyped-def]
    if code == 9:
        if coords[i, 0] == coords[j, 0] and coords[i, 1] == coords[j, 1]:
            return 0.0
        q1 = np.cos(coords[i, 1] - coords[j, 1])
        q2 = np.cos(coords[i, 0] - coords[j, 0])
        q3 = np.cos(coords[i, 0] + coords[j, 0])
        cosine = 0.5 * ((1.0 + q1) * q2 - (1.0 - q1) * q3)
        return np.trunc(6378.388 * np.arccos(min(1.0, max(-1.0, cosine))) + 1.0)
    dx = abs(coords[i, 0] - coords[j, 0])
    dy = abs(coords[i, 1] - coords[j, 1])
    dz = abs(coords[i, 2] - coords[j, 2]) if coords.shape[1] > 2 else 0.0
    if code == 4:
        return np.floor(np.sqrt(dx * dx + dy * dy + dz * dz) + 0.5)
    if code <= 6:
        return max(np.floor(dx + 0.5), np.floor(dy + 0.5), np.floor(dz + 0.5))
    if code <= 8:
        return np.floor(dx + dy + dz + 0.5)
    dx = min(dx, abs(dx - 360.0))
    if code == 11:
        dx, dy, dz = dx / 1.25, dy / 1.5, dz / 1.15
    return np.floor(100.0 * max(dx, dy, dz) + 0.5)


@_kernel(forceinline=True)
def _cost(coords, matrix, code, i, j):  # type: ignore[no-untyped-def]
    if code <= 3:
        dx = coords[i, 0] - coords[j, 0]
        dy = coords[i, 1] - coords[j, 1]
        square = dx * dx + dy * dy
        if code == 0:
            return np.sqrt(square)
        if code == 1:
            return np.floor(np.sqrt(square) + 0.5)
        if code == 2:
            return np.ceil(np.sqrt(square))
        return np.ceil(np.sqrt(square / 10.0))
    if code == 12:
        return matrix[i, j]
    return _other_cost(coords, code, i, j)


@_kernel()
def _tour_length(coords, matrix, code, tour):  # type: ignore[no-untyped-def]
    # Kahan's compensated sum: a million edges, the last digits still right.
    n = tour.shape[0]
    total = 0.0
    lost = 0.0
    for k in range(n):
        after = np.int64(tour[k + 1 if k + 1 < n else 0])
        edge = _cost(coords, matrix, code, np.int64(tour[k]), after) - lost
        new = total + edge
        lost = (new - total) - edge
        total = new
    return total


@_kernel()
def _candidate_costs(coords, matrix, code, neighbors, lengths):  # type: ignore[no-untyped-def]
    """Fill in the lengths of neighbour lists and sort each list by them."""
    n, k = neighbors.shape
    for i in range(n):
        for a in range(k):
            j = np.int64(neighbors[i, a])
            length = _cost(coords, matrix, code, i, j)
            b = a
            while b > 0 and lengths[i, b - 1] > length:
                lengths[i, b] = lengths[i, b - 1]
                neighbors[i, b] = neighbors[i, b - 1]
                b -= 1
            lengths[i, b] = length
            neighbors[i, b] = j


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    # One numba type for all, so one compilation: instances hand in read-only arrays.
    view = array.view()
    view.setflags(write=False)
    return view


@dataclass(frozen=True, eq=False)
class Costs:
    """Travel costs in the form the kernels take; made by `of_coords` or `of_matrix`.

    Parameters
    ----------
    coords
        Coordinates [n, 2 or 3], in radians for GEO; zeros beside a matrix.
    matrix
        Cost matrix [n, n]; [1, 1] beside coordinates.
    code
        A value of `METRIC_CODES`, or the code of an explicit matrix.
    directed
        Whether the matrix is asymmetric.
    """

    coords: Floats
    matrix: Floats
    code: int
    directed: bool = False

    @classmethod
    def of_coords(cls, coords: ArrayLike, metric: str = "exact") -> Self:
        """Costs between points.

        Parameters
        ----------
        coords
            Coordinates [n, 2], or [n, 3] for the three-dimensional metrics.
        metric
            A key of `METRIC_CODES`.

        Raises
        ------
        ValueError
            When the metric is unknown or the dimension does not fit it.
        """
        if metric not in METRIC_CODES:
            raise ValueError(f"metric {metric!r} not understood; known: {', '.join(METRIC_CODES)}.")
        code = METRIC_CODES[metric]
        array = np.ascontiguousarray(coords, dtype=np.float64)
        dimension = 3 if code in (4, 6, 8, 10, 11) else 2
        if array.ndim != 2 or array.shape[1] != dimension:
            raise ValueError(f"{metric} needs coords [n, {dimension}], got {list(array.shape)}.")
        if metric == "GEO":
            degrees = np.trunc(array)
            array = 3.141592 * (degrees + 5.0 * (array - degrees) / 3.0) / 180.0
        return cls(_read_only(array), _read_only(np.zeros((1, 1))), code)

    @classmethod
    def of_matrix(cls, matrix: ArrayLike) -> Self:
        """Costs from a matrix [n, n], asymmetric or not.

        Raises
        ------
        ValueError
            When the matrix is not square.
        """
        array = np.ascontiguousarray(matrix, dtype=np.float64)
        if array.ndim != 2 or array.shape[0] != array.shape[1]:
            raise ValueError(f"matrix of shape {list(array.shape)} is not square.")
        directed = not all(
            np.array_equal(array[k : k + 256], array[:, k : k + 256].T)
            for k in range(0, len(array), 256)
        )
        return cls(_read_only(np.zeros((len(array), 2))), _read_only(array), _MATRIX, directed)

    @property
    def n(self) -> int:
        """Number of nodes."""
        return int(self.coords.shape[0])

    @property
    def explicit(self) -> bool:
        """Whether the costs come from a matrix."""
        return self.code == _MATRIX

    @cached_property
    def points(self) -> Floats:
        """Points [n, d] whose distances in the norm `power` follow the costs.

        GEO becomes points on the unit sphere; the turn of the first X-ray axis by 360
        degrees is left out.

        Raises
        ------
        ValueError
            For an explicit matrix.
        """
        if self.explicit:
            raise ValueError("an explicit matrix has no points.")
        if self.code == METRIC_CODES["GEO"]:
            latitude, longitude = self.coords.T
            across = np.cos(latitude)
            return np.column_stack(
                (across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude))
            )
        if self.code in _XRAY_SPEEDS:
            return np.asarray(self.coords / np.array(_XRAY_SPEEDS[self.code]))
        return self.coords

    @property
    def power(self) -> float:
        """Exponent of the norm between `points`: 1, 2 or infinity."""
        if self.code in (5, 6, 10, 11):
            return np.inf
        return 1.0 if self.code in (7, 8) else 2.0

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """The nodes [n] along a Hilbert curve, or as numbered for an explicit matrix.

        Neighbours on the plane are mostly neighbours in this order: what walks through
        the nodes in it finds its data in the processor's cache.
        """
        return np.arange(self.n) if self.explicit else hilbert_order(self.points)

    def take(self, order: NDArray[Any]) -> Costs:
        """The costs with node ``order[k]`` renamed to ``k``; for coordinates only."""
        return Costs(_read_only(self.coords[order]), self.matrix, self.code)

    def tour_length(self, tour: ArrayLike) -> float:
        """Length of a closed tour."""
        nodes = np.ascontiguousarray(tour, dtype=np.int32)
        return float(_tour_length(self.coords, self.matrix, self.code, nodes))


# --------------------------------------------------------------------- neighbour lists


def neighbor_lists(
    costs: Costs, k: int = 8, *, stop: Callable[[], bool] | None = None
) -> tuple[Ints, Floats] | None:
    """The ``k`` nearest nodes of every node, by cost from it, nearest first.

    Parameters
    ----------
    costs
        Travel costs.
    k
        Length of the lists; at most n - 1.
    stop
        Asked every few ten thousand nodes whether to give up, or None.

    Returns
    -------
    Neighbours [n, k] and their costs [n, k], or None if it gave up.
    """
    n = costs.n
    k = max(0, min(k, n - 1))
    neighbors = np.empty((n, k), dtype=np.int32)
    lengths = np.empty((n, k))
    if k == 0:
        return neighbors, lengths
    if not costs.explicit:
        points = told_apart(costs.points[costs.order])
        tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    rows = max(1, 20_000_000 // n) if costs.explicit else 50_000
    for begin in range(0, n, rows):
        if stop is not None and stop():
            return None
        own = np.arange(begin, min(begin + rows, n))
        if costs.explicit:
            block = costs.matrix[own]
            block[np.arange(len(own)), own] = np.inf
            neighbors[own] = _smallest(block, k)
            continue
        _, found = tree.query(points[own], k + 1, p=costs.power)
        found = np.asarray(found)
        # The node itself is among its nearest, unless too many coincide with it.
        itself = found == own[:, None]
        itself[~itself.any(1), k] = True
        neighbors[costs.order[own]] = costs.order[found[~itself].reshape(len(own), k)]
    _candidate_costs(costs.coords, costs.matrix, costs.code, neighbors, lengths)
    return neighbors, lengths


def _smallest(block: Floats, k: int) -> NDArray[np.intp]:
    """Column indices [rows, k] of each row's smallest entries, in increasing order."""
    if k < block.shape[1]:
        found = np.argpartition(block, k - 1, axis=1)[:, :k]
    else:
        found = np.broadcast_to(np.arange(k), block.shape)
    order = np.argsort(np.take_along_axis(block, found, 1), axis=1, kind="stable")
    return np.take_along_axis(found, order, 1)


# ------------------------------------------------------------------------ construction


@_kernel(forceinline=True)
def _root(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@_kernel()
def _join(tails, heads, order, directed, links, parent):  # type: ignore[no-untyped-def]
    """Add the edges, in order, that keep ``links`` a set of paths; count them.

    ``links[i]`` holds the node before and after i if directed, else its two neighbours
    from column 1 down.
    """
    added = 0
    for e in order:
        i = tails[e]
        j = heads[e]
        if directed:
            if links[i, 1] >= 0 or links[j, 0] >= 0:
                continue
        elif links[i, 0] >= 0 or links[j, 0] >= 0:
            continue
        a = _root(parent, i)
        b = _root(parent, j)
        if a == b:
            continue
        parent[a] = b
        if directed or links[i, 1] < 0:
            links[i, 1] = j
        else:
            links[i, 0] = j
        if not directed and links[j, 1] < 0:
            links[j, 1] = i
        else:
            links[j, 0] = i
        added += 1
    return added


@_kernel()
def _walk(links, first, directed, tour):  # type: ignore[no-untyped-def]
    previous = -1
    node = first
    for k in range(tour.shape[0]):
        tour[k] = node
        after = links[node, 1]
        if not directed and (after == previous or after < 0) and k > 0:
            after = links[node, 0]
        previous = node
        node = after


@_kernel()
def _halve(neighbors, tails, heads, positions):  # type: ignore[no-untyped-def]
    """List every undirected edge of the neighbour lists once; return their number."""
    n, k = neighbors.shape
    count = 0
    for i in range(n):
        for a in range(k):
            j = neighbors[i, a]
            if j < i:
                mutual = False
                for b in range(k):
                    mutual |= neighbors[j, b] == i
                if mutual:
                    continue
            tails[count] = i
            heads[count] = j
            positions[count] = i * k + a
            count += 1
    return count


def greedy_edge(costs: Costs, neighbors: tuple[Ints, Floats] | None = None) -> Ints:
    """The greedy tour: shortest edges first, as long as they form paths.

    Edges come from the neighbour lists; what remains are paths, whose ends are joined
    in rounds, again shortest edge first among the nearest ends (J. L. Bentley, Fast
    algorithms for geometric traveling salesman problems, ORSA J. Computing 4 (1992)).

    Parameters
    ----------
    costs
        Travel costs.
    neighbors
        What `neighbor_lists` gave, or None to compute it.

    Returns
    -------
    Tour [n].
    """
    n = costs.n
    tour = np.arange(n, dtype=np.int32)
    if n <= 2:
        return tour
    if neighbors is None:
        neighbors = neighbor_lists(costs)
        assert neighbors is not None
    lists, lengths = neighbors
    links = np.full((n, 2), -1, dtype=np.int32)
    parent = np.arange(n, dtype=np.int32)
    k = lists.shape[1]
    if costs.directed:
        tails = np.repeat(np.arange(n, dtype=np.int32), k)
        heads = lists.ravel()
        weights = lengths.ravel()
    else:
        tails, heads = np.empty(n * k, dtype=np.int32), np.empty(n * k, dtype=np.int32)
        positions = np.empty(n * k, dtype=np.int64)
        count = _halve(lists, tails, heads, positions)
        tails, heads = tails[:count], heads[:count]
        weights = lengths.ravel()[positions[:count]]
    order = np.argsort(weights, kind="stable")
    paths = n - _join(tails, heads, order, costs.directed, links, parent)
    while paths > 1:
        tails, heads, weights = _end_edges(costs, links)
        order = np.argsort(weights, kind="stable")
        paths -= _join(tails, heads, order, costs.directed, links, parent)
    first = int(np.flatnonzero(links[:, 0] < 0)[0])
    _walk(links, first, costs.directed, tour)
    return tour


def _end_edges(costs: Costs, links: Ints) -> tuple[Ints, Ints, Floats]:
    """Edges from every path end to the nearest ends; each end sees another path's."""
    column = 1 if costs.directed else 0
    tails = np.flatnonzero(links[:, column] < 0)
    heads = np.flatnonzero(links[:, 0] < 0)
    # An end and the other end of its path are at most two of them.
    k = min(8, len(heads))
    if not costs.explicit:
        points = told_apart(costs.points[heads])
        _, found = cKDTree(points).query(points, k, p=costs.power)
    else:
        found = np.empty((len(tails), k), dtype=np.intp)
        rows = max(1, 20_000_000 // len(heads))
        for begin in range(0, len(tails), rows):
            own = tails[begin : begin + rows]
            block = costs.matrix[own][:, heads]
            block[own[:, None] == heads] = np.inf
            found[begin : begin + rows] = _smallest(block, k)
    near = heads[found].astype(np.int32)
    lengths = np.empty((len(tails), k))
    for a in range(k):
        lengths[:, a] = _costs_between(costs, tails, near[:, a])
    return np.repeat(tails.astype(np.int32), k), near.ravel(), lengths.ravel()


@_kernel()
def _pair_costs(coords, matrix, code, tails, heads, out):  # type: ignore[no-untyped-def]
    for k in range(out.shape[0]):
        out[k] = _cost(coords, matrix, code, np.int64(tails[k]), np.int64(heads[k]))


def _costs_between(costs: Costs, tails: NDArray[Any], heads: NDArray[Any]) -> Floats:
    out = np.empty(len(tails))
    tails = np.ascontiguousarray(tails, dtype=np.int32)
    heads = np.ascontiguousarray(heads, dtype=np.int32)
    _pair_costs(costs.coords, costs.matrix, costs.code, tails, heads, out)
    return out


@_kernel()
def _nearest_by_matrix(matrix, start, tour):  # type: ignore[no-untyped-def]
    n = tour.shape[0]
    rest = np.arange(n)
    rest[start] = n - 1
    tour[0] = start
    for k in range(1, n):
        i = tour[k - 1]
        best = 0
        for a in range(1, n - k):
            if matrix[i, rest[a]] < matrix[i, rest[best]]:
                best = a
        tour[k] = rest[best]
        rest[best] = rest[n - k - 1]


@_kernel(forceinline=True)
def _norm(total, gap, power):  # type: ignore[no-untyped-def]
    if power == 2.0:
        return total + gap * gap
    if power == 1.0:
        return total + gap
    return max(total, gap)


@_kernel()
def _search_box(points, low, high, alive, starts, level, box, q, power, best, near, stack):  # type: ignore[no-untyped-def]
    """The point nearest to q in a box, if nearer than ``best``; else ``near``."""
    top = 1
    stack[0, 0] = level
    stack[0, 1] = box
    while top > 0:
        top -= 1
        level = stack[top, 0]
        box = stack[top, 1]
        at = starts[level] + box
        if alive[at] == 0:
            continue
        gap = 0.0
        for d in range(points.shape[1]):
            outside = max(0.0, low[at, d] - points[q, d], points[q, d] - high[at, d])
            gap = _norm(gap, outside, power)
        if gap >= best:
            continue
        if level > 0:
            for child in range(8 * box, min(8 * box + 8, starts[level] - starts[level - 1])):
                stack[top, 0] = level - 1
                stack[top, 1] = child
                top += 1
        elif box != q:
            best = gap
            near = box
    return best, near


@_kernel()
def _nearest_by_boxes(points, low, high, alive, starts, power, start, tour):  # type: ignore[no-untyped-def]
    n = tour.shape[0]
    levels = starts.shape[0] - 1
    stack = np.empty((16 * levels + 16, 2), dtype=np.int64)
    q = start
    for k in range(n):
        tour[k] = q
        box = q
        for level in range(levels):
            alive[starts[level] + box] -= 1
            box //= 8
        if k == n - 1:
            break
        # From the leaf upwards: the first point found is near, the rest is pruned.
        best = np.inf
        near = -1
        box = q
        for level in range(1, levels):
            parent = box // 8
            for child in range(8 * parent, min(8 * parent + 8, starts[level] - starts[level - 1])):
                if child != box or level == 1:
                    best, near = _search_box(
                        points, low, high, alive, starts, level - 1, child, q, power, best,
                        near, stack,
                    )  # fmt: skip
            box = parent
        q = near


def nearest_neighbor(costs: Costs, start: int = 0) -> Ints:
    """The tour that always goes on to the nearest node not yet visited.

    Nearly linear time with coordinates: boxes over runs of a Hilbert curve, in a tree of
    degree 8 from which visited nodes are struck off. Nearness is that of `Costs.points`,
    i.e. before rounding.

    Parameters
    ----------
    costs
        Travel costs.
    start
        First node.

    Returns
    -------
    Tour [n].
    """
    n = costs.n
    tour = np.zeros(n, dtype=np.int32)
    if n <= 1:
        return tour
    if costs.explicit:
        _nearest_by_matrix(costs.matrix, start, tour)
        return tour
    order = costs.order
    points = np.ascontiguousarray(costs.points[order])
    lows, highs, counts = [points], [points], [np.ones(n, dtype=np.int64)]
    while len(counts[-1]) > 1:
        cuts = np.arange(0, len(counts[-1]), 8)
        lows.append(np.minimum.reduceat(lows[-1], cuts))
        highs.append(np.maximum.reduceat(highs[-1], cuts))
        counts.append(np.add.reduceat(counts[-1], cuts))
    starts = np.cumsum([0, *(len(count) for count in counts)])
    first = int(np.flatnonzero(order == start)[0])
    _nearest_by_boxes(
        points,
        np.concatenate(lows),
        np.concatenate(highs),
        np.concatenate(counts),
        starts,
        costs.power,
        first,
        tour,
    )
    return order[tour].astype(np.int32)


# ------------------------------------------------------------------------ local search


class _State(NamedTuple):
    """Everything the search reads and changes, in the order `_search` takes it."""

    coords: Floats  # [n, d], read-only; nodes are numbered along the curve
    matrix: Floats  # [n, n] or [1, 1], read-only
    code: int
    directed: bool
    neighbors: Ints  # [n, k]
    lengths: Floats  # [n, k]
    tour: Ints  # [n]
    position: Ints  # [n]; tour[position[i]] == i
    best: Ints  # [n], the best tour before `tour` was allowed to get worse
    queue: Ints  # [n], a ring of nodes to look at
    queued: NDArray[np.bool_]  # [n]
    log: Ints  # [capacity, 2], reversals by position since the kick
    move: NDArray[np.int64]  # two moves of 6 numbers, then the nodes of trial steps
    counts: NDArray[np.int64]  # see the indices below
    values: Floats  # lengths of `tour` and `best`, gain since the kick, edges it removed
    random: NDArray[np.uint64]  # state of the generator


# Indices of `counts`.
_LOGGED, _WORK, _HEAD, _QUEUED, _KICKS, _OFFSET, _MOVES, _KICKED = range(8)
#: Trial steps after the basis move, at most.
_MAX_DEPTH = 10
#: Reversals of one `_improve`, at most; the log keeps so much room.
_LOG_MARGIN = 3 * (_MAX_DEPTH + 2)


@_kernel(forceinline=True)
def _random(random):  # type: ignore[no-untyped-def]
    # xorshift64 (G. Marsaglia, 2003); the upper bits are used.
    x = random[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    random[0] = x
    return x >> np.uint64(32)


@_kernel(forceinline=True)
def _random_below(random, n):  # type: ignore[no-untyped-def]
    return np.int64((_random(random) * np.uint64(n)) >> np.uint64(32))


@_kernel()
def _reverse(tour, position, i, j):  # type: ignore[no-untyped-def]
    """Reverse the positions i..j, around the end of the array if j < i."""
    n = tour.shape[0]
    if i <= j:
        while i < j:
            a = tour[i]
            b = tour[j]
            tour[i] = b
            position[b] = i
            tour[j] = a
            position[a] = j
            i += 1
            j -= 1
        return
    for _ in range((j - i + n + 1) // 2):
        a = tour[i]
        b = tour[j]
        tour[i] = b
        position[b] = i
        tour[j] = a
        position[a] = j
        i = i + 1 if i + 1 < n else 0
        j = j - 1 if j > 0 else n - 1


@_kernel()
def _reverse_logged(tour, position, log, counts, i, j):  # type: ignore[no-untyped-def]
    length = j - i + 1
    if length <= 0:
        length += tour.shape[0]
    if length < 2:
        return
    _reverse(tour, position, i, j)
    log[counts[_LOGGED], 0] = i
    log[counts[_LOGGED], 1] = j
    counts[_LOGGED] += 1
    counts[_WORK] += length


@_kernel()
def _exchange(tour, position, log, counts, a, b, c, d):  # type: ignore[no-untyped-def]
    """Replace the edges (a, b), (c, d), passed in the same direction, by (a, c), (b, d)."""
    n = tour.shape[0]
    k = position[a] + 1
    if tour[k if k < n else 0] == b:
        i = np.int64(position[b])
        j = np.int64(position[c])
    else:
        i = np.int64(position[c])
        j = np.int64(position[b])
    length = j - i + 1
    if length <= 0:
        length += n
    if 2 * length > n:
        # Reversing all others gives the same cycle.
        if length == n:
            return
        i, j = j + 1, i - 1
        if i == n:
            i = 0  # type: ignore[assignment]
        if j < 0:
            j = n - 1
    _reverse_logged(tour, position, log, counts, i, j)


@_kernel()
def _undo(tour, position, log, counts, logged):  # type: ignore[no-untyped-def]
    for k in range(counts[_LOGGED] - 1, logged - 1, -1):
        _reverse(tour, position, np.int64(log[k, 0]), np.int64(log[k, 1]))
    counts[_LOGGED] = logged


@_kernel(forceinline=True)
def _next(tour, position, node, forward):  # type: ignore[no-untyped-def]
    k = position[node]
    if forward:
        return np.int64(tour[k + 1 if k + 1 < tour.shape[0] else 0])
    return np.int64(tour[k - 1 if k > 0 else tour.shape[0] - 1])


@_kernel(forceinline=True)
def _steps(position, base, node, forward):  # type: ignore[no-untyped-def]
    """Number of steps from position ``base`` to a node."""
    steps = np.int64(position[node] - base if forward else base - position[node])
    return steps if steps >= 0 else steps + position.shape[0]


@_kernel(forceinline=True)
def _push(queue, queued, counts, node):  # type: ignore[no-untyped-def]
    if not queued[node]:
        queued[node] = True
        k = counts[_HEAD] + counts[_QUEUED]
        queue[k if k < queue.shape[0] else k - queue.shape[0]] = node
        counts[_QUEUED] += 1


@_kernel(forceinline=True)
def _set_move(move, at, kind, t2, t3, t4, t5, t6):  # type: ignore[no-untyped-def]
    move[at] = kind
    move[at + 1] = t2
    move[at + 2] = t3
    move[at + 3] = t4
    move[at + 4] = t5
    move[at + 5] = t6


@_kernel()
def _basis_move(  # type: ignore[no-untyped-def]
    coords, matrix, code, neighbors, lengths, tour, position, move,
    t1, t2, gain, forward, least, breadth, reach, trial,
):  # fmt: skip
    """The first 2-opt or sequential 3-opt move that gains more than ``least``.

    The edge (t1, t2), t2 following t1, is already removed for ``gain``. Returns the gain
    of the closed move (in ``move[0:6]``), or 0, and that of the best move left open at t6
    (in ``move[6:12]``), or 0 if there is none that reverses at most ``trial`` nodes.

    The tour reads t1 | t2 ... , steps are counted from t2. The kinds are
    0: t4 before t3; reverse t2..t4 (2-opt),
    1: t2..t5 t6..t3 | t4 becomes t6..t3 t2..t5 | t4 (exchange, Or-opt),
    2: t2..t6 t5..t3 | t4 becomes t6..t2 t3..t5 | t4 (both turned),
    3: t2..t4 t3..t6 | t5 becomes t6..t3 t2..t4 | t5 (exchange, one turned),
    4: t2..t5 t6..t4 | t3 becomes t6..t4 t5..t2 | t3 (exchange, one turned).
    """
    n = tour.shape[0]
    base = np.int64(position[t2])
    best_open = 0.0
    for k3 in range(neighbors.shape[1]):
        g1 = gain - lengths[t2, k3]
        if g1 <= least:
            break
        t3 = np.int64(neighbors[t2, k3])
        if t3 == t1:
            continue
        r3 = _steps(position, base, t3, forward)
        short3 = min(r3, n - r3)
        # Near: t4 before t3, closing up gives a tour. Far: t4 after t3, t2..t3 has become
        # a ring, which t5 must reopen.
        for near in (True, False):
            t4 = _next(tour, position, t3, forward != near)
            if t4 == t2:
                continue
            g2 = g1 + _cost(coords, matrix, code, t3, t4)
            if near:
                closed = g2 - _cost(coords, matrix, code, t4, t1)
                if closed > least and short3 <= reach:
                    _set_move(move, 0, 0, t2, t3, t4, t3, t4)
                    return closed, 0.0
            for k5 in range(breadth):
                g3 = g2 - lengths[t4, k5]
                if g3 <= least:
                    break
                t5 = np.int64(neighbors[t4, k5])
                if t5 == t3:
                    continue
                r5 = _steps(position, base, t5, forward)
                short5 = min(r5, n - r5)
                between = min(abs(r3 - r5), n - abs(r3 - r5))
                if near:
                    after = r5 < r3
                    kinds = 0 if t5 == t2 else 1
                else:
                    after = True
                    kinds = 0 if r5 > r3 else 2
                for k in range(kinds):
                    if near:
                        kind = 4 if after else 3
                        work = short3 + (between if after else short5)
                    else:
                        kind = k + 1
                        after = k == 0
                        work = short5 + between + (short3 if after else 0)
                        if k == 1 and t5 == t2:
                            break
                    t6 = _next(tour, position, t5, forward == after)
                    if t6 == t4:
                        continue
                    g4 = g3 + _cost(coords, matrix, code, t5, t6)
                    closed = g4 - _cost(coords, matrix, code, t6, t1)
                    if closed > least and work <= reach:
                        _set_move(move, 0, kind, t2, t3, t4, t5, t6)
                        return closed, 0.0
                    if g4 > best_open and work <= trial:
                        best_open = g4
                        _set_move(move, 6, kind, t2, t3, t4, t5, t6)
    return 0.0, best_open


@_kernel()
def _make_move(tour, position, log, counts, move, t1, at):  # type: ignore[no-untyped-def]
    kind = move[at]
    t2, t3, t4, t5, t6 = move[at + 1], move[at + 2], move[at + 3], move[at + 4], move[at + 5]
    # Up to three exchanges of two edges, each given by a, b, c, d as in `_exchange`.
    if kind == 1:
        _exchange(tour, position, log, counts, t1, t2, t3, t4)
        _exchange(tour, position, log, counts, t1, t3, t6, t5)
        _exchange(tour, position, log, counts, t3, t5, t2, t4)
    elif kind == 2:
        _exchange(tour, position, log, counts, t1, t2, t6, t5)
        _exchange(tour, position, log, counts, t2, t5, t3, t4)
    elif kind == 3:
        _exchange(tour, position, log, counts, t1, t2, t6, t5)
        _exchange(tour, position, log, counts, t3, t4, t2, t5)
    else:
        _exchange(tour, position, log, counts, t1, t2, t4, t3)
        if kind == 4:
            _exchange(tour, position, log, counts, t1, t4, t6, t5)


@_kernel()
def _improve(  # type: ignore[no-untyped-def]
    coords, matrix, code, neighbors, lengths, tour, position, queue, queued, log, move, counts,
    t1, least, breadth, depth, reach,
):  # fmt: skip
    """Shorten the tour by a move that removes an edge at t1; return the gain or 0.

    If no basis move does, the most promising open one is made on trial and the search
    goes on from its end, ``depth`` times at most.
    """
    for side in range(2):
        t2 = _next(tour, position, t1, side == 0)
        gain = _cost(coords, matrix, code, t1, t2)
        logged = counts[_LOGGED]
        touched = 12
        for level in range(depth + 1):
            forward = _next(tour, position, t1, True) == t2
            trial = MAX_TRIAL_REVERSAL if level < depth else 0
            closed, opened = _basis_move(
                coords, matrix, code, neighbors, lengths, tour, position, move,
                t1, t2, gain, forward, least, breadth, reach, trial,
            )  # fmt: skip
            if closed <= 0.0 and opened <= least:
                break
            _make_move(tour, position, log, counts, move, t1, 0 if closed > 0.0 else 6)
            if closed > 0.0:
                move[0] = t1
                for k in range(touched):
                    if k < 6 or k >= 12:
                        _push(queue, queued, counts, move[k])
                return closed
            for k in range(7, 12):
                move[touched] = move[k]
                touched += 1
            t2 = move[11]
            gain = opened
        _undo(tour, position, log, counts, logged)
    return 0.0


@_kernel()
def _exchange_segments(tour, position, log, counts, i, j, k):  # type: ignore[no-untyped-def]
    """Exchange the positions i..j-1 and j..k-1, without turning them; i <= j <= k."""
    n = tour.shape[0]
    middle = i + (k - j)
    _reverse_logged(tour, position, log, counts, i % n, (k - 1) % n)
    _reverse_logged(tour, position, log, counts, i % n, (middle - 1) % n)
    _reverse_logged(tour, position, log, counts, middle % n, (k - 1) % n)


@_kernel()
def _improve_directed(  # type: ignore[no-untyped-def]
    matrix, neighbors, lengths, tour, position, queue, queued, log, move, counts,
    t1, least, breadth, reach,
):  # fmt: skip
    """As `_improve`, by the exchange of two segments: 3-opt without any reversal."""
    n = tour.shape[0]
    t2 = _next(tour, position, t1, True)
    base = np.int64(position[t2])
    removed = matrix[t1, t2]
    for k6 in range(neighbors.shape[1]):
        g1 = removed - lengths[t1, k6]
        if g1 <= least:
            break
        t6 = np.int64(neighbors[t1, k6])
        if t6 == t2:
            continue
        r6 = _steps(position, base, t6, True)
        t5 = _next(tour, position, t6, False)
        g2 = g1 + matrix[t5, t6]
        for k4 in range(breadth):
            g3 = g2 - lengths[t5, k4]
            if g3 <= least:
                break
            t4 = np.int64(neighbors[t5, k4])
            r4 = _steps(position, base, t4, True)
            if r4 <= r6:
                continue
            t3 = _next(tour, position, t4, False)
            gain = g3 + matrix[t3, t4] - matrix[t3, t2]
            # t2..t5, t6..t3 and t4..t1: any two of the three may trade places.
            longest = max(r6, r4 - r6, n - r4)
            if gain <= least or 2 * (n - longest) > reach:
                continue
            if longest == n - r4:
                i, j, k = base, base + r6, base + r4
            elif longest == r6:
                i, j, k = base + r6, base + r4, base + n
            else:
                i, j, k = base + r4, base + n, base + n + r6
            _exchange_segments(tour, position, log, counts, i, j, k)
            _set_move(move, 0, t1, t2, t3, t4, t5, t6)
            for a in range(6):
                _push(queue, queued, counts, move[a])
            return gain
    return 0.0


@_kernel()
def _kick(  # type: ignore[no-untyped-def]
    coords, matrix, code, tour, position, queue, queued, log, counts, values, random, segment,
):  # fmt: skip
    """A double bridge between up to ``segment`` nodes: p | b c d | q becomes p | d c b | q."""
    n = tour.shape[0]
    if counts[_KICKS] % _BLOCK_KICKS == 0:
        counts[_OFFSET] = _random_below(random, n)
    longest = min(segment, (n - 1) // 3)
    i = counts[_OFFSET] + _random_below(random, min(n, _BLOCK_NODES))
    b = 1 + _random_below(random, longest)
    c = 1 + _random_below(random, longest)
    d = 1 + _random_below(random, longest)
    cuts = (i, i + b, i + b + c, i + b + c + d)
    removed = 0.0
    for cut in cuts:
        before, after = np.int64(tour[(cut - 1) % n]), np.int64(tour[cut % n])
        removed += _cost(coords, matrix, code, before, after)
        _push(queue, queued, counts, before)
        _push(queue, queued, counts, after)
    counts[_LOGGED] = 0
    last = cuts[3] - 1
    _reverse_logged(tour, position, log, counts, i % n, last % n)
    _reverse_logged(tour, position, log, counts, i % n, (i + d - 1) % n)
    _reverse_logged(tour, position, log, counts, (i + d) % n, (i + d + c - 1) % n)
    _reverse_logged(tour, position, log, counts, (i + d + c) % n, last % n)
    added = 0.0
    for cut in (i, i + d, i + d + c, i + d + c + b):
        added += _cost(coords, matrix, code, np.int64(tour[(cut - 1) % n]), np.int64(tour[cut % n]))
    counts[_WORK] += 64
    counts[_KICKED] = 1
    values[2] = removed - added
    values[3] = removed


@_kernel()
def _keep(tour, position, log, counts, best):  # type: ignore[no-untyped-def]
    """Save the tour as it was before the kick, which is about to be left for a worse one."""
    logged = counts[_LOGGED]
    _undo(tour, position, log, counts, np.int64(0))
    for k in range(tour.shape[0]):
        best[k] = tour[k]
    for k in range(logged):
        _reverse(tour, position, np.int64(log[k, 0]), np.int64(log[k, 1]))


@_kernel()
def _search(  # type: ignore[no-untyped-def]
    coords, matrix, code, directed, neighbors, lengths, tour, position, best, queue, queued, log,
    move, counts, values, random,
    least, breadth, depth, reach, segment, kicks, horizon, heat, work,
):  # fmt: skip
    """Settle the queue; then kick, settle, and undo what is worse than allowed.

    Ends when the queue is empty after ``kicks`` kicks, or after ``work``, but never with a
    kick undecided. The temperature
    falls linearly from ``heat`` times the mean of the edges that a kick removes to 0 at
    kick ``horizon``.
    """
    n = tour.shape[0]
    limit = counts[_WORK] + work
    while counts[_WORK] < limit or counts[_KICKED] == 1:
        if counts[_QUEUED] > 0:
            if counts[_KICKED] == 0:
                counts[_LOGGED] = 0
            node = np.int64(queue[counts[_HEAD]])
            gain = 0.0
            # Not beyond what the log can undo.
            if counts[_LOGGED] + _LOG_MARGIN < log.shape[0]:
                counts[_WORK] += 8
                if directed:
                    gain = _improve_directed(
                        matrix, neighbors, lengths, tour, position, queue, queued, log, move,
                        counts, node, least, breadth, reach,
                    )  # fmt: skip
                else:
                    gain = _improve(
                        coords, matrix, code, neighbors, lengths, tour, position, queue, queued,
                        log, move, counts, node, least, breadth, depth, reach,
                    )  # fmt: skip
            if gain > 0.0:
                counts[_MOVES] += 1
                if counts[_KICKED] == 1:
                    values[2] += gain
                else:
                    values[0] -= gain
                continue
            counts[_HEAD] = counts[_HEAD] + 1 if counts[_HEAD] + 1 < n else 0
            counts[_QUEUED] -= 1
            queued[node] = False
            continue
        if counts[_KICKED] == 1:
            counts[_KICKED] = 0
            allowed = -least
            if counts[_KICKS] < horizon and heat > 0.0:
                left = 1.0 - counts[_KICKS] / horizon
                uniform = (np.float64(_random(random)) + 1.0) / 4294967296.0
                allowed += heat * left * 0.25 * values[3] * np.log(uniform)
            if values[2] < allowed:
                _undo(tour, position, log, counts, np.int64(0))
            elif values[2] > least:
                values[0] -= values[2]
            elif values[2] < -least:
                if values[0] < values[1]:
                    _keep(tour, position, log, counts, best)
                    values[1] = values[0]
                values[0] -= values[2]
            counts[_KICKS] += 1
            kicks -= 1
        if kicks <= 0 or counts[_WORK] >= limit:
            return
        _kick(
            coords, matrix, code, tour, position, queue, queued, log, counts, values, random,
            segment,
        )  # fmt: skip


class LocalSearch:
    """Iterated local search on one tour, run in slices.

    Parameters
    ----------
    costs
        Travel costs.
    tour
        Start tour [n].
    seed
        The same seed gives the same tours after the same number of kicks, however they
        are sliced.
    neighbors
        Neighbour lists from `neighbor_lists`, or None to compute them.
    breadth
        How many neighbours are tried for the last edge of a basis move.
    depth
        Trial steps after a basis move that gains nothing; 0 is plain 3-opt.
    segment
        Longest segment of a double-bridge kick.
    heat
        Initial temperature of `perturb`, in units of the removed edges' mean length.

    Raises
    ------
    ValueError
        When the tour is not a permutation or a parameter is out of its range.
    """

    def __init__(
        self,
        costs: Costs,
        tour: ArrayLike,
        *,
        seed: int = 0,
        neighbors: tuple[Ints, Floats] | None = None,
        breadth: int = 8,
        depth: int = 3,
        segment: int = 50,
        heat: float = 0.3,
    ):
        n = costs.n
        start = np.asarray(tour)
        if start.shape != (n,) or not np.array_equal(np.sort(start), np.arange(n)):
            raise ValueError(f"tour is not a permutation of 0..{n - 1}.")
        for name, value, least in (("breadth", breadth, 0), ("depth", depth, 0)):
            if value < least:
                raise ValueError(f"{name} < {least} not understood.")
        if depth > _MAX_DEPTH:
            raise ValueError(f"depth > {_MAX_DEPTH} not understood.")
        if segment < 1:
            raise ValueError("segment < 1 not understood.")
        if not heat >= 0.0:
            raise ValueError("heat < 0 not understood.")
        if neighbors is None:
            neighbors = neighbor_lists(costs)
            assert neighbors is not None
        self._order = costs.order
        lists, lengths = neighbors
        if not costs.explicit:
            name_of = np.empty(n, dtype=np.int32)
            name_of[self._order] = np.arange(n, dtype=np.int32)
            costs = costs.take(self._order)
            lists = name_of[lists[self._order]]
            lengths = lengths[self._order]
            start = name_of[start]
        nodes = np.array(start, dtype=np.int32)
        position = np.empty(n, dtype=np.int32)
        position[nodes] = np.arange(n, dtype=np.int32)
        length = costs.tour_length(nodes) if n else 0.0
        self._state = _State(
            costs.coords,
            costs.matrix,
            costs.code,
            costs.directed,
            np.ascontiguousarray(lists, dtype=np.int32),
            np.ascontiguousarray(lengths),
            nodes,
            position,
            nodes.copy(),
            nodes.copy(),
            np.ones(n, dtype=np.bool_),
            np.empty((100_000, 2), dtype=np.int32),
            np.zeros(12 + 5 * _MAX_DEPTH, dtype=np.int64),
            np.zeros(8, dtype=np.int64),
            np.array([length, length, 0.0, 0.0]),
            np.random.SeedSequence(seed).generate_state(1, np.uint64) | np.uint64(1),
        )
        self._state.counts[_QUEUED] = n
        # Gains below the rounding error of a tour length are none.
        scale = length / n if n and length > 0.0 else 1.0
        self._least = 1e-9 * scale
        self._breadth = min(breadth, lists.shape[1])
        self._depth = depth
        self._segment = segment
        self._heat = heat
        #: Fewer nodes have one tour only, up to its direction.
        self._trivial = n <= (2 if costs.directed else 3)

    @property
    def kicks(self) -> int:
        """Kicks done so far."""
        return int(self._state.counts[_KICKS])

    @property
    def moves(self) -> int:
        """Improving moves made so far, undone ones included."""
        return int(self._state.counts[_MOVES])

    @property
    def settled(self) -> bool:
        """Whether the tour is a local optimum, so that `descend` has nothing to do."""
        return self._trivial or int(self._state.counts[_QUEUED]) == 0

    @property
    def length(self) -> float:
        """Length of the best tour, by bookkeeping."""
        return float(self._state.values[:2].min())

    @property
    def tour(self) -> Ints:
        """The best tour [n], in the caller's node numbers."""
        current, best = self._state.values[:2]
        nodes = self._state.tour if current <= best else self._state.best
        return self._order[nodes].astype(np.int32)

    def descend(self, work: int = 1 << 60) -> bool:
        """Go on to a local optimum; a million units of work take some 0.1 seconds.

        Parameters
        ----------
        work
            Units after which to stop.

        Returns
        -------
        Whether the local optimum is reached.
        """
        if not self.settled:
            self._run(0, 0, work)
        return self.settled

    def perturb(self, kicks: int, *, horizon: int = 0, work: int = 1 << 60) -> int:
        """Kick and repair, keeping what is better, or little worse while it is hot.

        Parameters
        ----------
        kicks
            Kicks to do.
        horizon
            The kick, counted over the life of the search, from which on the temperature
            is 0; it falls linearly from ``heat`` at the first one.
        work
            Units of work after which to stop early, between kicks.

        Returns
        -------
        Kicks done; 0 for instances with one tour only.
        """
        if self._trivial or self._order.size < 4:
            self.descend(work)
            return 0
        done = self.kicks
        self._run(kicks, horizon, work)
        return self.kicks - done

    def _run(self, kicks: int, horizon: int, work: int) -> None:
        _search(
            *self._state, self._least, self._breadth, self._depth, MAX_REVERSAL, self._segment,
            kicks, horizon, self._heat, work,
        )  # fmt: skip


def compile_starts() -> None:
    """Compile what `greedy_edge` and `nearest_neighbor` need, or load it from numba's cache."""
    square, _ = _greedy_square()
    nearest_neighbor(square)


def compile_kernels() -> None:
    """Compile what `greedy_edge` and `LocalSearch` need, or load it from numba's cache."""
    LocalSearch(*_greedy_square()).perturb(1)


def _greedy_square() -> tuple[Costs, Ints]:
    square = Costs.of_coords([[0, 0], [1, 0], [1, 1], [0, 1], [2, 2], [3, 1], [2, 0], [0, 3]])
    # So few points leave no paths whose ends are joined.
    _costs_between(square, np.arange(2), np.arange(2))
    return square, greedy_edge(square)
