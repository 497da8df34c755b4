"""Constructive heuristics: fast, deterministic, good starts for everything else."""

from __future__ import annotations

import contextlib
import functools
import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nco.classical.compiling import compiled_before, kernel
from nco.classical.routing import length_limit, load_limit, surely_infeasible, tracked
from nco.instances.core import (
    Budget,
    Distances,
    Instance,
    Listener,
    Result,
    Status,
    Stop,
    UnsupportedError,
)
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack, ratio_order
from nco.instances.mis import MIS
from nco.instances.ovrp import OpenDistances
from nco.instances.tour_edges import mended
from nco.instances.tsp import TSP

Indices = NDArray[np.int64]

#: Loops of fewer steps run as they are; longer ones are worth numba's start-up.
COMPILE_FROM = 400_000
#: Steps along edges, or arcs, between two looks at the clock.
LOOKS = 20_000
#: Up to so many nodes neighbours are found in whole rows of costs, above in a k-d tree.
MOST_ROWS = 3000
#: Nodes whose neighbours are looked for in a tree between two looks at the clock.
ROWS = 10_000
#: How far apart points at one place count, of the extent of all.
APART = 1e-9
#: Tours of more nodes are left to `nco.classical.local_search`, which takes longer to load.
NEAREST_BY_ROWS, GREEDY_BY_LISTS = 5000, 20_000

#: Metrics whose nearest nodes are the nearest points of a k-d tree, with its norm.
_TREE_NORMS = {
    "exact": 2.0, "EUC_2D": 2.0, "EUC_3D": 2.0, "CEIL_2D": 2.0, "ATT": 2.0, "MAN_2D": 1.0,
    "MAN_3D": 1.0, "MAX_2D": math.inf, "MAX_3D": math.inf, "GEO": 2.0, "XRAY1": 2.0, "XRAY2": 2.0,
}  # fmt: skip


def _spent(budget: Budget | None) -> bool:
    return budget is not None and budget.spent()


def check_time(budget: Budget | None) -> None:
    """`TimeoutError` when the budget has ended."""
    if _spent(budget):
        raise TimeoutError("out of time.")


def compiled_loop(
    compiled: functools._lru_cache_wrapper[Callable[..., Any]],
    steps: float,
    late: Callable[[], bool],
) -> Callable[..., Any] | None:
    """A compiled loop; None where that does not pay, or it is not there before it is late.

    Parameters
    ----------
    compiled
        Compiles it, once per machine; cached.
    steps
        How many it takes, about.
    late
        Whether it is too late to wait for it; it goes on compiling beside.
    """
    if steps < COMPILE_FROM:
        return None
    there = compiled.cache_info().currsize or compiled_before(compiled, late)
    return compiled() if there else None


def run_loop(loop: Callable[..., Any], *arguments: Any) -> Any:
    """Call a loop: on arrays if it is compiled, else on lists."""
    if hasattr(loop, "py_func"):
        return loop(*(np.asarray(a) if isinstance(a, list) else a for a in arguments))
    return loop(*(a.tolist() if isinstance(a, np.ndarray) else a for a in arguments))


@functools.cache
def _compiled_join() -> Callable[..., Any]:
    indices, numbers = "i8[::1]", "f8[::1]"
    types = [indices] * 2 + [numbers] + [indices] * 3 + [numbers] * 2 + ["f8", "f8", "b1"]
    return kernel(signature_or_function=f"({', '.join(types)})")(_join)


@functools.cache
def _compiled_split() -> Callable[..., Any]:
    types = ["f8[::1]"] * 4 + ["f8[:, ::1]", "i8[:, ::1]"] + ["f8"] * 3 + ["i8"] * 2
    return kernel(signature_or_function=f"({', '.join(types)})")(_split)


def _compile_tours() -> None:
    from nco.classical import local_search

    local_search.compile_starts()


def _compile() -> None:
    _compile_tours()
    _compiled_join()
    _compiled_split()


def _compile_in(budget: Budget | None) -> None:
    """Compile the kernels for large tours, once per machine."""
    if not compiled_before(_compile_tours, lambda: _spent(budget)):
        raise TimeoutError("out of time.")


# --------------------------------------------------------------------------- neighbours


def told_apart(points: NDArray[Any]) -> NDArray[Any]:
    """Coordinates [n, d], with one more that is tiny where points coincide [n, d + 1].

    Of points at one place, those next in number are the nearest then: else every query of a
    tree would look at all of them, and all would find the same few.
    """
    order = np.lexsort(points.T)
    if not (points[order[1:]] == points[order[:-1]]).all(1).any():
        return points
    extent = float(np.ptp(points, axis=0).max()) or 1.0
    return np.column_stack([points, np.linspace(0.0, APART * extent, len(points))])


def _least(row: NDArray[Any], k: int, begin: int) -> NDArray[np.intp]:
    """Places [k] of the least entries of a row.

    They are looked for from a place on, so that where many are as near, not all nodes find
    the same few.
    """
    found = np.argpartition(np.roll(row, -begin), k - 1)[:k]
    return (found + begin) % len(row)


def neighbor_lists(distances: Distances, k: int, budget: Budget | None = None) -> Indices:
    """The ``k`` nearest other nodes of every node [n, min(k, n - 1)], nearest first.

    With many nodes and coordinates, a k-d tree proposes them and the metric orders them.
    """
    n = distances.n
    k = min(k, n - 1)
    if k < 1:
        return np.empty((n, 0), dtype=np.int64)
    near = np.empty((n, k), dtype=np.int64)
    if distances.coords is None or n <= MOST_ROWS:
        for i in range(n):
            if i % 256 == 0:
                check_time(budget)
            row = np.array(distances.row(i))
            row[i] = np.inf
            nearest = _least(row, k, i)
            near[i] = nearest[np.argsort(row[nearest], kind="stable")]
        return near
    from scipy.spatial import cKDTree

    points = told_apart(distances.coords)
    tree = cKDTree(points)
    for begin in range(0, n, ROWS):
        check_time(budget)
        nodes = np.arange(begin, min(begin + ROWS, n))
        norm = _TREE_NORMS[distances.metric]
        _, found = tree.query(points[nodes], k + 1, p=norm)
        # The node itself is among its neighbours unless k + 1 others share its place.
        found = np.asarray(found)
        own = found == nodes[:, None]
        own[~own.any(1), -1] = True
        near[nodes] = found[~own].reshape(-1, k)
    if distances.metric not in ("exact", "EUC_2D", "EUC_3D"):
        costs = distances.pairs(np.arange(n)[:, None], near)
        near = np.take_along_axis(near, np.argsort(costs, axis=1, kind="stable"), axis=1)
    return near


def _among(
    distances: Distances, nodes: Indices, others: Indices, k: int, budget: Budget | None
) -> tuple[Indices, Indices]:
    """Pairs of each of some nodes and its ``k`` nearest among others."""
    if distances.coords is not None:
        # The same nodes on both sides, as costs from coordinates are symmetric.
        part = Distances(coords=distances.coords[nodes], metric=distances.metric)
        near = nodes[neighbor_lists(part, k, budget)]
    else:
        k = min(k, len(others))
        near = np.empty((len(nodes), k), dtype=np.int64)
        for position, node in enumerate(nodes):
            if position % 256 == 0:
                check_time(budget)
            row = distances.pairs(int(node), others)
            row[others == node] = np.inf
            near[position] = others[_least(row, k, position)]
    i, j = np.repeat(nodes, near.shape[1]), near.reshape(-1)
    return i[i != j], j[i != j]


# ---------------------------------------------------------------------- joining fragments


def _join(
    i: Any, j: Any, gain: Any, first: Any, second: Any, other: Any, load: Any, length: Any,
    capacity: float, limit: float, symmetric: bool,
) -> Any:  # fmt: skip
    """Join paths by the arcs ``i -> j`` in the given order.

    A path knows its other end, its load and its length at both of its ends. Links are
    free while -1; with asymmetric costs ``first`` is the predecessor and ``second`` the
    successor, otherwise they are any two neighbours.
    """
    for e in range(len(i)):
        a, b = i[e], j[e]
        if symmetric:
            if second[a] >= 0 or second[b] >= 0 or other[a] == b:
                continue
        elif second[a] >= 0 or first[b] >= 0 or other[a] == b:
            continue
        total = load[a] + load[b]
        reach = length[a] + length[b] - gain[e]
        if total > capacity or reach > limit:
            continue
        if symmetric:
            if first[a] < 0:
                first[a] = b
            else:
                second[a] = b
            if first[b] < 0:
                first[b] = a
            else:
                second[b] = a
        else:
            second[a] = b
            first[b] = a
        p, q = other[a], other[b]
        other[p], other[q] = q, p
        load[p] = load[q] = total
        length[p] = length[q] = reach
    return first, second, other, load, length


def _trace(first: list[int], second: list[int], symmetric: bool) -> list[list[int]]:
    """The nodes path by path; the links are used up."""
    paths = []
    for begin in range(len(first)):
        # Marked by a link to itself when traced.
        if first[begin] == begin or not (first[begin] < 0 or (symmetric and second[begin] < 0)):
            continue
        path: list[int] = []
        previous, node = -1, begin
        while node >= 0:
            following = second[node]
            if following == previous or (following < 0 and first[node] != previous):
                following = first[node]
            first[node] = second[node] = node
            path.append(node)
            previous, node = node, following
        paths.append(path)
    return paths


@dataclass
class _Paths:
    """Paths that grow by joining; at first every node is one."""

    first: Any
    second: Any
    other: Any
    load: Any
    length: Any
    symmetric: bool

    @classmethod
    def of(cls, load: NDArray[Any], length: NDArray[Any], symmetric: bool) -> _Paths:
        n = len(load)
        free = np.full(n, -1)
        return cls(
            free, free.copy(), np.arange(n), load.astype(np.float64), length.copy(), symmetric
        )

    def join(
        self,
        i: Indices,
        j: Indices,
        gain: NDArray[np.float64],
        capacity: float = math.inf,
        limit: float = math.inf,
        budget: Budget | None = None,
    ) -> None:
        """Join by the arcs ``i -> j`` in order, as far as time allows.

        With a budget the compiler works beside.
        """
        state: Any = [self.first, self.second, self.other, self.load, self.length]
        i, j = (np.require(a, np.int64, ["C", "W"]) for a in (i, j))
        steps = len(i) + len(self.first)
        size = max(1, len(i)) if budget is None else LOOKS
        for begin in range(0, len(i), size):
            if begin and _spent(budget):
                break
            loop = compiled_loop(_compiled_join, steps, lambda: budget is not None) or _join
            arcs = (a[begin : begin + size] for a in (i, j, gain))
            state = run_loop(loop, *arcs, *state, capacity, limit, self.symmetric)
        self.first, self.second, self.other, self.load, self.length = map(np.asarray, state)

    def ends(self) -> tuple[Indices, Indices]:
        """Nodes that an arc may still leave, and those it may enter."""
        leave = np.flatnonzero(np.asarray(self.second) < 0)
        if self.symmetric:
            return leave, leave
        return leave, np.flatnonzero(np.asarray(self.first) < 0)

    def trace(self) -> list[list[int]]:
        """The nodes path by path."""
        first, second = np.asarray(self.first).tolist(), np.asarray(self.second).tolist()
        return _trace(first, second, self.symmetric)


# -------------------------------------------------------------------------------- tours


def nearest_neighbor_tour(
    distances: Distances, begin: int = 0, budget: Budget | None = None
) -> list[int]:
    """Go to the nearest node not yet visited, from ``begin``.

    By rows of costs for a matrix or up to 5,000 nodes, else compiled. What is left when
    time is up follows in any order.

    Raises
    ------
    TimeoutError
        When the budget ends before it is compiled.
    """
    n = distances.n
    if distances.coords is not None and n > NEAREST_BY_ROWS:
        check_time(budget)
        _compile_in(budget)
        from nco.classical import local_search

        costs = local_search.Costs.of_coords(distances.coords, distances.metric)
        return local_search.nearest_neighbor(costs, begin).tolist()
    gone = np.zeros(n)
    gone[begin] = np.inf
    tour = [begin]
    while len(tour) < n:
        if len(tour) % 256 == 1 and _spent(budget):
            return tour + np.flatnonzero(gone == 0.0).tolist()
        node = int((distances.row(tour[-1]) + gone).argmin())
        gone[node] = np.inf
        tour.append(node)
    return tour


def patched_tour(distances: Distances, budget: Budget | None = None) -> list[int]:
    """Join the cycles of a cheapest assignment, the two largest first.

    R. M. Karp, A patching algorithm for the nonsymmetric traveling-salesman problem, SIAM
    Journal on Computing 8 (1979). Good where costs differ by direction at random; where they
    are symmetric, cycles are pairs. The assignment itself, of time n^3 at worst, cannot be
    interrupted.

    Raises
    ------
    TimeoutError
        When the budget ends first.
    """
    from scipy.optimize import linear_sum_assignment

    n = distances.n
    if n < 2:
        return list(range(n))
    check_time(budget)
    costs = np.array(distances.full_matrix(), dtype=np.float64)
    np.fill_diagonal(costs, (costs.max() - costs.min() + 1.0) * n)
    after = linear_sum_assignment(costs)[1]
    cycles = _cycles(after)
    while len(cycles) > 1:
        check_time(budget)
        cycles.sort(key=len)
        a, b = cycles.pop(), cycles.pop()
        # From i of the one to what follows j in the other, and back again.
        extra = costs[np.ix_(a, after[b])] + costs[np.ix_(b, after[a])].T
        extra -= costs[a, after[a]][:, None] + costs[b, after[b]]
        i, j = np.unravel_index(int(extra.argmin()), extra.shape)
        after[a[i]], after[b[j]] = after[b[j]], after[a[i]]
        cycles.append(np.concatenate([a, b]))
    (tour,) = _cycles(after)
    return tour.tolist()


def _cycles(after: NDArray[Any]) -> list[NDArray[np.intp]]:
    """The cycles of a permutation, each in its order."""
    follow, free, cycles = after.tolist(), np.ones(len(after), dtype=bool), []
    for begin in range(len(follow)):
        if free[begin]:
            cycle = [begin]
            while follow[cycle[-1]] != begin:
                cycle.append(follow[cycle[-1]])
            free[cycle] = False
            cycles.append(np.array(cycle))
    return cycles


def greedy_tour(
    distances: Distances,
    k: int = 8,
    budget: Budget | None = None,
    fixed: Indices | None = None,
    directed: bool = False,
) -> list[int]:
    """Greedy edge: join paths by the cheapest arc that joins two of them.

    J. L. Bentley, Fast algorithms for geometric traveling salesman problems, ORSA Journal
    on Computing 4 (1992). Arcs are those to ``k`` nearest neighbours; the paths left are
    joined by the same rule among their ends. Edges that are fixed [m, 2] come first; with
    ``directed`` they are arcs.

    Raises
    ------
    TimeoutError
        When the budget ends first.
    """
    n, symmetric = distances.n, distances.symmetric and not directed
    if n <= 3 and symmetric:
        return list(range(n))
    check_time(budget)
    if fixed is None and distances.coords is not None and n > GREEDY_BY_LISTS:
        _compile_in(budget)
        from nco.classical import local_search

        costs = local_search.Costs.of_coords(distances.coords, distances.metric)
        lists = local_search.neighbor_lists(costs, k, stop=lambda: _spent(budget))
        check_time(budget)
        return local_search.greedy_edge(costs, lists).tolist()
    paths = _Paths.of(np.zeros(n), np.zeros(n), symmetric)
    if fixed is not None:
        paths.join(fixed[:, 0], fixed[:, 1], np.zeros(len(fixed)))
    while True:
        leave, enter = paths.ends()
        if len(leave) <= (2 if paths.symmetric else 1):
            return paths.trace()[0]
        i, j = _among(distances, leave, enter, k, budget)
        cost = distances.pairs(i, j)
        order = np.argsort(cost, kind="stable")
        check_time(budget)
        before = len(leave)
        paths.join(i[order], j[order], -cost[order], budget=budget)
        # A round may fail only where ends of one path fill each other's lists.
        if len(paths.ends()[0]) == before:
            k *= 4


def hilbert_order(coords: NDArray[Any]) -> NDArray[np.intp]:
    """The nodes in the order of a Hilbert curve through their bounding box.

    L. K. Platzman and J. J. Bartholdi, Spacefilling curves and the planar travelling
    salesman problem, Journal of the ACM 36 (1989); the curve as in J. Skilling,
    Programming the Hilbert curve, AIP Conference Proceedings 707 (2004).

    Parameters
    ----------
    coords
        Coordinates [n, d].

    Returns
    -------
    Permutation [n].
    """
    points = np.asarray(coords, dtype=np.float64)
    n, dimensions = points.shape
    bits = 62 // max(1, dimensions) if dimensions > 3 else 20
    low = points.min(axis=0) if n else np.zeros(dimensions)
    extent = float((points - low).max()) if n else 0.0
    if not extent > 0.0:
        return np.arange(n)
    axes = ((points - low) * ((2**bits - 1) / extent)).astype(np.int64).T.copy()
    # From axes to the transposed Hilbert index, bit by bit from the top.
    for bit in range(bits - 1, 0, -1):
        mask = (1 << bit) - 1
        for axis in range(dimensions):
            flip = (axes[axis] >> bit) & 1
            swap = (axes[0] ^ axes[axis]) & mask & (flip - 1)
            axes[0] ^= swap | (mask & -flip)
            axes[axis] ^= swap
    for axis in range(1, dimensions):
        axes[axis] ^= axes[axis - 1]
    toggle = np.zeros(n, dtype=np.int64)
    for bit in range(bits - 1, 0, -1):
        toggle ^= ((1 << bit) - 1) & -((axes[-1] >> bit) & 1)
    axes ^= toggle
    index = np.zeros(n, dtype=np.int64)
    for bit in range(bits - 1, -1, -1):
        for axis in range(dimensions):
            index = (index << 1) | ((axes[axis] >> bit) & 1)
    return np.argsort(index, kind="stable")


def curve_tour(instance: TSP) -> list[int]:
    """The nodes along a space-filling curve, or in order without coordinates.

    Paths of fixed edges stay together.
    """
    if instance.coords is None:
        return mended(instance, range(instance.n))
    return mended(instance, hilbert_order(instance.coords).tolist())


# ------------------------------------------------------------------------------- routes


def savings_routes(
    instance: CVRP,
    k: int | None = None,
    budget: Budget | None = None,
    *,
    shape: float = 1.0,
    spread: float = 0.0,
) -> list[list[int]]:
    """Join routes where that saves most.

    G. Clarke and J. W. Wright, Scheduling of vehicles from a central depot to a number
    of delivery points, Operations Research 12 (1964). Open routes that may be turned round
    save what `_join_open` says.

    Parameters
    ----------
    instance
        What to serve.
    k
        Neighbours of a customer that are considered; by default 100, and 40 above
        20,000 customers. More makes no better routes.
    budget
        When it ends, routes stay as far as they are joined; before that, a curve is cut.
    shape
        What a way between customers counts for in the order of joining: more than 1 favours
        short ones (P. Yellow, A computational modification to the savings method of vehicle
        scheduling, Operational Research Quarterly 21, 1970).
    spread
        What the difference of both customers' distances from the depot adds there
        (H. Paessens, The savings algorithm for the vehicle routing problem, European Journal
        of Operational Research 34, 1988).
    """
    distances, n = instance.distances, instance.n
    customers = np.arange(1, n + 1)
    out, back = distances.row(0), distances.pairs(np.arange(n + 1), 0)
    length = out + back + instance.service_time
    length[0] = 0.0
    # Routes without a direction are joined at any of their ends.
    turning = isinstance(distances, OpenDistances) and distances.base.symmetric
    paths = _Paths.of(instance.demands, length, distances.symmetric or turning)
    if k is None:
        k = 100 if n <= 20_000 else 40
    if n > 1:
        try:
            i, j = _among(distances, customers, customers, min(k, n - 1), budget)
            if paths.symmetric:
                # Once is enough for what both list.
                pair = np.unique(np.minimum(i, j) * (n + 1) + np.maximum(i, j))
                i, j = pair // (n + 1), pair % (n + 1)
            cost = distances.pairs(i, j)
            load, reach = load_limit(instance), length_limit(instance)
            if turning:
                check_time(budget)
                _join_open(paths, i, j, cost, out, load, reach, (shape, spread), budget)
                return [r if out[r[0]] <= out[r[-1]] else r[::-1] for r in paths.trace()[1:]]
            gain = back[i] + out[j] - cost
            worth = back[i] + out[j] - shape * cost + spread * np.abs(out[i] - out[j])
            order = np.argsort(-worth, kind="stable")
            order = order[gain[order] > 0]
            check_time(budget)
            paths.join(i[order], j[order], gain[order], load, reach, budget)
        except TimeoutError:
            # Nothing is joined yet: a curve is cut at once, where it is short.
            with contextlib.suppress(TimeoutError):
                return curve_routes(instance, budget) or paths.trace()[1:]
    return [route for route in paths.trace() if route != [0]]


def _join_open(
    paths: _Paths,
    i: Indices,
    j: Indices,
    cost: NDArray[np.float64],
    out: NDArray[np.float64],
    capacity: float,
    limit: float,
    shapes: tuple[float, float],
    budget: Budget | None,
) -> None:
    """Join open routes where that saves most, as far as time allows.

    A route begins at the end that is nearer to the depot. So what an edge saves depends on
    both routes, and changes as they grow; in every round those edges are joined that save
    most for both of theirs.

    Parameters
    ----------
    paths
        Of single nodes, with the length of their routes; changed.
    i, j, cost
        Edges between customers and what they cost [m].
    out
        Costs [n + 1] from the depot.
    capacity, limit
        Of a route.
    shapes
        Shape and spread, as in `savings_routes`.
    budget
        Asked in every round.
    """
    shape, spread = shapes
    first, second = np.asarray(paths.first), np.asarray(paths.second)
    other, load = np.asarray(paths.other), np.asarray(paths.load)
    # Without the way from the depot, which depends on the end that is joined.
    inner = np.asarray(paths.length) - out
    # Else equal edges in the order of their nodes would be joined one in a round.
    mixed = np.random.default_rng(0).permutation(len(i))
    i, j, cost = i[mixed], j[mixed], cost[mixed]
    while len(i) and not _spent(budget):
        near = np.minimum(out[other[i]], out[other[j]])
        free = (second[i] < 0) & (second[j] < 0) & (other[i] != j)
        free &= (load[i] + load[j] <= capacity) & (inner[i] + inner[j] + cost + near <= limit)
        i, j, cost, near = i[free], j[free], cost[free], near[free]
        ways = np.minimum(out[i], out[other[i]]) + np.minimum(out[j], out[other[j]]) - near
        worth = ways - shape * cost + spread * np.abs(out[i] - out[j])
        saves = np.flatnonzero(ways > cost)
        if not len(saves):
            break
        a, b = (np.minimum(end, other[end])[saves] for end in (i, j))
        most = np.full(len(other), -np.inf)
        np.maximum.at(most, a, worth[saves])
        np.maximum.at(most, b, worth[saves])
        chosen = np.flatnonzero((most[a] == worth[saves]) & (most[b] == worth[saves]))
        # Of equal ones, the first of both routes.
        place, a, b = np.arange(len(chosen)), a[chosen], b[chosen]
        best = np.full(len(other), len(chosen))
        np.minimum.at(best, a, place)
        np.minimum.at(best, b, place)
        chosen = saves[chosen[(best[a] == place) & (best[b] == place)]]
        a, b = i[chosen], j[chosen]
        for end, to in ((a, b), (b, a)):
            begun = first[end] >= 0
            second[end[begun]] = to[begun]
            first[end[~begun]] = to[~begun]
        p, q = other[a], other[b]
        load[p] = load[q] = load[a] + load[b]
        inner[p] = inner[q] = inner[a] + inner[b] + cost[chosen]
        other[p], other[q] = q, p


def _split(
    demand: Any, out: Any, back: Any, legs: Any, best: Any, before: Any,
    capacity: float, limit: float, service: float, rounds: int, up: int,
) -> Any:  # fmt: skip
    """Least cost ``best[r][k]`` of the first k customers of an order with r routes.

    ``before[r][k]`` is where the last of them begins. With ``up`` 0 the number of routes
    is not counted, and there is one row.
    """
    n = len(demand)
    for r in range(rounds):
        costs, following, cut = best[r], best[r + up], before[r + up]
        for i in range(n):
            if costs[i] == math.inf:
                continue
            load = inner = 0.0
            for j in range(i, n):
                load += demand[j]
                if j > i:
                    inner += legs[j - 1]
                if load > capacity or inner > limit:
                    break
                length = out[i] + inner + back[j]
                if length + service * (j - i + 1) > limit:
                    continue
                if costs[i] + length < following[j + 1]:
                    following[j + 1] = costs[i] + length
                    cut[j + 1] = i
    return best, before


def split(
    instance: CVRP, order: list[int], vehicles: int | None = None, budget: Budget | None = None
) -> list[list[int]] | None:
    """Cut an order of all customers into routes, at the least cost for that order.

    C. Prins, A simple and effective evolutionary algorithm for the vehicle routing
    problem, Computers & OR 31 (2004).

    Parameters
    ----------
    instance
        What to serve.
    order
        All customers.
    vehicles
        The most routes, or None for any number.
    budget
        When it ends, there are no routes.

    Returns
    -------
    The routes, or None where no cut of that order is feasible.

    Raises
    ------
    TimeoutError
        When the budget ends first.
    """
    distances, n = instance.distances, len(order)
    visits = np.array(order)
    up = 0 if vehicles is None else 1
    rounds = 1 if vehicles is None else min(vehicles, n)
    best = np.full((rounds + up, n + 1), np.inf)
    best[0, 0] = 0.0
    mean = max(float(instance.demands.sum()) / n, 1e-300)
    steps = rounds * n * min(n, instance.capacity / mean + 1)
    loop = compiled_loop(_compiled_split, steps, lambda: _spent(budget))
    if loop is None and steps >= COMPILE_FROM:
        raise TimeoutError("out of time.")
    best, before = run_loop(
        loop or _split,
        instance.demands[visits].astype(np.float64), distances.pairs(0, visits),
        distances.pairs(visits, 0), distances.pairs(visits[:-1], visits[1:]),
        best, np.full((rounds + up, n + 1), -1),
        load_limit(instance), length_limit(instance), float(instance.service_time), rounds, up,
    )  # fmt: skip
    r = min(range(rounds + up), key=lambda r: best[r][n])
    if best[r][n] == math.inf:
        return None
    routes, j = [], n
    while j:
        i = int(before[r][j])
        routes.append(order[i:j])
        r, j = r - up, i
    return routes[::-1]


def curve_routes(instance: CVRP, budget: Budget | None = None) -> list[list[int]] | None:
    """The customers along a space-filling curve, cut at the least cost for that order.

    Raises
    ------
    TimeoutError
        As `split`.
    """
    order = np.arange(1, instance.n + 1)
    if instance.coords is not None:
        order = hilbert_order(instance.coords[1:]) + 1
    return split(instance, order.tolist(), budget=budget)


def nearest_neighbor_routes(instance: CVRP, budget: Budget | None = None) -> list[list[int]] | None:
    """Drive to the nearest customer that still fits; return when none does.

    Returns
    -------
    The routes, or None where a customer cannot be reached alone.

    Raises
    ------
    TimeoutError
        When the budget ends first.
    """
    distances, service = instance.distances, instance.service_time
    home = distances.pairs(np.arange(instance.nodes), 0)
    capacity, limit = load_limit(instance), length_limit(instance)
    left = np.arange(1, instance.nodes)
    routes: list[list[int]] = []
    steps = 0
    while len(left):
        route: list[int] = []
        node, load, length = 0, 0.0, 0.0
        while len(left):
            steps += 1
            if steps % 64 == 0:
                check_time(budget)
            legs = distances.pairs(node, left)
            fits = load + instance.demands[left] <= capacity
            if limit < math.inf:
                fits &= length + legs + service + home[left] <= limit
            if not fits.any():
                break
            position = int(np.where(fits, legs, np.inf).argmin())
            node = int(left[position])
            load += float(instance.demands[node])
            length += float(legs[position]) + service
            left = np.delete(left, position)
            route.append(node)
        if not route:
            return None
        routes.append(route)
    return routes


def _first_fit(instance: CVRP) -> list[list[int]] | None:
    """Pack the largest demands first into the fleet, then order each route."""
    assert instance.vehicles is not None
    room = np.full(min(instance.vehicles, instance.n), load_limit(instance))
    routes: list[list[int]] = [[] for _ in room]
    for customer in np.argsort(-instance.demands[1:], kind="stable") + 1:
        fitting = np.flatnonzero(room >= instance.demands[customer])
        if not len(fitting):
            return None
        # The fullest vehicle that has room wastes least of it.
        vehicle = int(fitting[room[fitting].argmin()])
        room[vehicle] -= instance.demands[customer]
        routes[vehicle].append(int(customer))
    ordered = []
    for route in routes:
        nodes = np.array([0, *route])
        tour = nearest_neighbor_tour(Distances(matrix=_submatrix(instance.distances, nodes)))
        ordered.append(nodes[tour[1:]].tolist())
    return ordered


def _submatrix(distances: Distances, nodes: Indices) -> NDArray[np.float64]:
    return distances.pairs(nodes[:, None], nodes[None])


def within_fleet(
    instance: CVRP, routes: list[list[int]] | None, budget: Budget | None = None
) -> list[list[int]] | None:
    """Routes of the whole fleet at most: as given, cut anew while there is time, or packed anew.

    None where that does not help.
    """
    if routes is not None and not instance.violations(routes):
        return routes
    if instance.vehicles is None:
        return None
    orders = []
    if routes is not None:
        orders.append([c for route in routes for c in route])
    if instance.coords is not None:
        orders.append((hilbert_order(instance.coords[1:]) + 1).tolist())
    candidates: list[Callable[[], list[list[int]] | None]] = [
        functools.partial(split, instance, order, instance.vehicles, budget) for order in orders
    ]
    candidates.append(functools.partial(_first_fit, instance))
    for candidate in candidates:
        try:
            found = candidate()
        except TimeoutError:
            continue
        if found is not None and not instance.violations(found):
            return found
    return None


# ---------------------------------------------------------------------- items and graphs


def ratio_greedy(instance: Knapsack) -> list[int]:
    """Items by value per weight, skipping those that do not fit."""
    return packed(instance, ratio_order(instance).tolist())


def packed(instance: Knapsack, order: Iterable[int]) -> list[int]:
    """Items in some order, skipping those that do not fit."""
    room, chosen = instance.capacity, []
    weights = instance.weights.tolist()
    for item in order:
        if weights[item] <= room:
            room -= weights[item]
            chosen.append(item)
    return sorted(chosen)


def min_degree_greedy(instance: MIS, budget: Budget | None = None) -> list[int]:
    """Repeatedly take a node of the largest weight per remaining closed degree.

    S. Sakai, M. Togasaki and K. Yamazaki, A note on greedy algorithms for the maximum
    weighted independent set problem, Discrete Applied Mathematics 126 (2003), GWMIN. When
    the budget ends, the others follow by the degrees known then.
    """
    indptr, indices = instance.neighbors()
    bounds, adjacent = indptr.tolist(), indices.tolist()
    degree = np.diff(indptr).tolist()
    weights = instance.weights.tolist()
    gone = bytearray(instance.n)
    heap = [(-w / (d + 1), i) for i, (w, d) in enumerate(zip(weights, degree, strict=True))]
    heapq.heapify(heap)
    chosen: list[int] = []
    looked = 0
    while heap:
        key, node = heapq.heappop(heap)
        if gone[node] or key != -weights[node] / (degree[node] + 1):
            continue
        gone[node] = 1
        chosen.append(node)
        looked += 1
        freed: set[int] = set()
        for other in adjacent[bounds[node] : bounds[node + 1]]:
            if gone[other]:
                continue
            gone[other] = 1
            looked += bounds[other + 1] - bounds[other]
            for further in adjacent[bounds[other] : bounds[other + 1]]:
                if not gone[further]:
                    degree[further] -= 1
                    freed.add(further)
        # Once for all neighbours that went: dense graphs have many.
        for further in freed:
            if not gone[further]:
                heapq.heappush(heap, (-weights[further] / (degree[further] + 1), further))
        if looked >= LOOKS and budget is not None:
            looked = 0
            if budget.done():
                break
    for _, node in sorted(heap):
        if not gone[node]:
            gone[node] = 1
            chosen.append(node)
            for other in adjacent[bounds[node] : bounds[node + 1]]:
                gone[other] = 1
    return sorted(chosen)


# ------------------------------------------------------------------------------- starts


def _present(instance: TSP, budget: Budget | None) -> Distances:
    """Costs in which missing edges are dear."""
    if instance.edges is None:
        return instance.distances
    instance.search_distances.full_matrix(lambda: _spent(budget))
    return instance.search_distances


def _nearest_tour(instance: TSP, budget: Budget | None = None) -> list[int]:
    return mended(instance, nearest_neighbor_tour(_present(instance, budget), budget=budget))


def _greedy_tour(instance: TSP, budget: Budget | None = None) -> list[int]:
    fixed, directed = instance.fixed, instance.directed
    return greedy_tour(_present(instance, budget), budget=budget, fixed=fixed, directed=directed)


def initial_tour(instance: TSP, budget: Budget | None = None) -> list[int]:
    """A tour in well under a second: greedy edge, or a curve where that takes longer.

    It has all fixed edges, but may have missing ones.
    """
    if instance.distances.coords is not None and instance.n > 50_000:
        return curve_tour(instance)
    try:
        return _greedy_tour(instance, budget)
    except TimeoutError:
        return curve_tour(instance)


def initial_routes(instance: CVRP, budget: Budget | None = None) -> list[list[int]] | None:
    """Routes in well under a second by savings, or None where none within the fleet is found."""
    return within_fleet(instance, savings_routes(instance, k=40, budget=budget), budget)


def initial_solution(instance: Instance[Any], budget: Budget | None = None) -> Any:
    """A quick feasible solution of a tour, route, knapsack or independent set problem.

    Parameters
    ----------
    instance
        What to solve.
    budget
        When it ends, something simpler is returned.

    Returns
    -------
    A feasible solution, or None where none was found.
    """
    if isinstance(instance, TSP):
        tour = initial_tour(instance, budget)
        return tour if instance.admits(tour) else None
    if isinstance(instance, CVRP):
        return initial_routes(instance, budget)
    if isinstance(instance, Knapsack):
        return ratio_greedy(instance)
    if isinstance(instance, MIS):
        return min_degree_greedy(instance, budget)
    return None


# ------------------------------------------------------------------------------ solvers

Heuristic = Callable[[Any, Budget], Any]


@dataclass(frozen=True)
class _Constructive:
    """One heuristic per problem; the subclass names them."""

    name: ClassVar[str]
    heuristics: ClassVar[dict[type[Instance[Any]], Heuristic]]

    def _heuristic(self, instance: Instance[Any]) -> Heuristic | None:
        return next((f for c, f in self.heuristics.items() if isinstance(instance, c)), None)

    def supports(self, instance: Instance[Any]) -> str | None:
        """The problems it has a heuristic for."""
        if self._heuristic(instance) is None:
            known = ", ".join(c.problem for c in self.heuristics)
            return f"solves {known}, not {instance.problem}"
        return None

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Construct one solution; a better start is returned instead.

        When time is up first, the order along a curve is returned.
        """
        heuristic = self._heuristic(instance)
        if heuristic is None:
            raise UnsupportedError(f"{self.name} {self.supports(instance)}")
        tracker = tracked(self.name, instance, budget, seed, start, on_event)
        if isinstance(instance, CVRP) and surely_infeasible(instance):
            return tracker.result(Stop.PROVED, status=Status.INFEASIBLE)
        by = self.name
        try:
            solution = heuristic(instance, budget)
        except TimeoutError:
            by = "space-filling-curve"
            assert isinstance(instance, (TSP, CVRP))
            solution = (
                curve_routes(instance) if isinstance(instance, CVRP) else curve_tour(instance)
            )
        if isinstance(instance, CVRP):
            solution = within_fleet(instance, solution, budget)
        if solution is not None:
            tracker.offer(solution, by=by)
        return tracker.result(tracker.done() or Stop.FINISHED)


class NearestNeighbor(_Constructive):
    """Nearest neighbour, for tours and routes."""

    name = "nearest-neighbor"
    heuristics: ClassVar = {
        TSP: _nearest_tour,
        CVRP: nearest_neighbor_routes,
    }


class Greedy(_Constructive):
    """The problem's natural greedy rule: edge, value per weight, weight per degree."""

    name = "greedy"
    heuristics: ClassVar = {
        TSP: _greedy_tour,
        Knapsack: lambda i, b: ratio_greedy(i),
        MIS: min_degree_greedy,
    }


class Savings(_Constructive):
    """Clarke and Wright's savings, for routes."""

    name = "savings"
    heuristics: ClassVar = {CVRP: lambda i, b: savings_routes(i, budget=b)}


class SpaceFillingCurve(_Constructive):
    """Order along a Hilbert curve; routes by optimal splitting of that order."""

    name = "space-filling-curve"
    heuristics: ClassVar = {
        TSP: lambda i, b: curve_tour(i),
        CVRP: lambda i, b: curve_routes(i),
    }

    def supports(self, instance: Instance[Any]) -> str | None:
        """As its heuristics; coordinates only."""
        reason = super().supports(instance)
        if reason is None and instance.coords is None:  # type: ignore[attr-defined]
            return "needs coordinates"
        if isinstance(instance, TSP) and instance.edges is not None:
            return "knows no missing edges"
        return reason
