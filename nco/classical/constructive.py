"""Constructive heuristics: fast, deterministic, good starts for everything else."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nco.classical.routing import check_start, too_few_vehicles
from nco.instances.core import Budget, Distances, Instance, Listener, Result, Status, Stop, Tracker
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack, ratio_order
from nco.instances.mis import MIS
from nco.instances.tsp import TSP

#: Metrics under which the nearest points of a k-d tree are the nearest nodes.
_TREE_NORMS = {
    "exact": 2.0, "EUC_2D": 2.0, "EUC_3D": 2.0, "CEIL_2D": 2.0, "ATT": 2.0, "MAN_2D": 1.0,
    "MAN_3D": 1.0, "MAX_2D": np.inf, "MAX_3D": np.inf, "GEO": 2.0, "XRAY1": 2.0, "XRAY2": 2.0,
}  # fmt: skip


def neighbor_lists(distances: Distances, k: int) -> NDArray[np.int64]:
    """The ``k`` nearest other nodes of every node [n, min(k, n - 1)], nearest first.

    With coordinates, a k-d tree proposes them and the metric orders them.
    """
    n = distances.n
    k = min(k, n - 1)
    if k < 1:
        return np.empty((n, 0), dtype=np.int64)
    if distances.coords is None:
        out = np.empty((n, k), dtype=np.int64)
        for i in range(n):
            row = distances.row(i)
            row[i] = np.inf
            near = np.argpartition(row, k - 1)[:k]
            out[i] = near[np.argsort(row[near], kind="stable")]
        return out
    tree = cKDTree(distances.coords)
    _, near = tree.query(distances.coords, k + 1, p=_TREE_NORMS[distances.metric])
    # The node itself is among its neighbours unless k + 1 others share its place.
    own = near == np.arange(n)[:, None]
    missing = ~own.any(1)
    own[missing, -1] = True
    near = near[~own].reshape(n, k)
    if distances.metric not in ("exact", "EUC_2D", "EUC_3D"):
        costs = distances.pairs(np.arange(n)[:, None], near)
        near = np.take_along_axis(near, np.argsort(costs, axis=1, kind="stable"), axis=1)
    return near.astype(np.int64)


def nearest_neighbor_tour(distances: Distances, begin: int = 0) -> list[int]:
    """Go to the nearest node not yet visited, from ``begin``.

    A row of costs at a time up to 3,000 nodes and for matrices; above, k-d trees of
    the nodes left, rebuilt as they become few.
    """
    n = distances.n
    left = np.ones(n, dtype=bool)
    left[begin] = False
    tour = [begin]
    if distances.coords is None or n <= 3000:
        for _ in range(n - 1):
            row = np.where(left, distances.row(tour[-1]), np.inf)
            node = int(row.argmin())
            left[node] = False
            tour.append(node)
        return tour
    alive = np.flatnonzero(left)
    while len(tour) < n:
        tree = cKDTree(distances.coords[alive])
        k = min(10, len(alive))
        _, near = tree.query(distances.coords[alive], k)
        lists = alive[near.reshape(len(alive), k)]
        position = np.full(n, -1)
        position[alive] = np.arange(len(alive))
        _, first = tree.query(distances.coords[tour[-1]])
        node = int(alive[first])
        half = max(1, len(alive) // 2)
        for _ in range(half):
            left[node] = False
            tour.append(node)
            candidates = [int(c) for c in lists[position[node]] if left[c]]
            if candidates:
                node = candidates[0]
                continue
            if len(tour) == n:
                break
            # All listed neighbours are gone: look further in the same tree.
            found, reach = -1, k
            while found < 0 and reach < len(alive):
                reach = min(4 * reach, len(alive))
                _, more = tree.query(distances.coords[node], reach)
                found = next((int(alive[c]) for c in more if left[alive[c]]), -1)
            if found < 0:
                break
            node = found
        alive = np.flatnonzero(left)
    return tour


def greedy_tour(distances: Distances, k: int = 8) -> list[int]:
    """Greedy edge: join fragments by the shortest edge between two ends.

    Edges are those to ``k`` nearest neighbours; what is left of fragments is joined by
    the same rule among the ends.
    """
    n = distances.n
    if n <= 3:
        return list(range(n))
    degree = np.zeros(n, dtype=np.int64).tolist()
    adjacent: list[list[int]] = [[] for _ in range(n)]
    parent = list(range(n))

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    nodes = np.arange(n)
    while True:
        near = _among(distances, nodes, k)
        i = np.repeat(nodes, near.shape[1])
        j = near.reshape(-1)
        once = (i < j) | ~(near[np.searchsorted(nodes, j)] == i[:, None]).any(1)
        i, j = i[once], j[once]
        order = np.argsort(distances.pairs(i, j), kind="stable")
        joined = 0
        for a, b in zip(i[order].tolist(), j[order].tolist(), strict=True):
            if degree[a] < 2 and degree[b] < 2:
                root_a, root_b = find(a), find(b)
                if root_a != root_b:
                    parent[root_a] = root_b
                    degree[a] += 1
                    degree[b] += 1
                    adjacent[a].append(b)
                    adjacent[b].append(a)
                    joined += 1
        ends = np.flatnonzero(np.array(degree) < 2)
        if len(ends) <= 2:
            break
        # Ends of one fragment must not fill each other's lists.
        nodes = ends
        k = min(len(ends) - 1, k if joined else 4 * k)
    return _walk(adjacent)


def _among(distances: Distances, nodes: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    if len(nodes) == distances.n:
        return neighbor_lists(distances, k)
    if distances.coords is not None:
        part = Distances(coords=distances.coords[nodes], metric=distances.metric)
    else:
        part = Distances(matrix=distances.matrix[np.ix_(nodes, nodes)])
    return nodes[neighbor_lists(part, k)]


def _walk(adjacent: list[list[int]]) -> list[int]:
    begin = next((i for i, a in enumerate(adjacent) if len(a) < 2), 0)
    tour, previous, node = [begin], -1, begin
    while True:
        following = [a for a in adjacent[node] if a != previous]
        if not following or (len(tour) == len(adjacent)):
            return tour
        previous, node = node, following[0]
        tour.append(node)


def hilbert_order(coords: NDArray[np.float64], bits: int = 16) -> NDArray[np.int64]:
    """Nodes in the order of a Hilbert curve through their bounding square.

    L. K. Platzman and J. J. Bartholdi, Spacefilling curves and the planar travelling
    salesman problem, Journal of the ACM 36 (1989).
    """
    points = coords[:, :2] - coords[:, :2].min(0)
    size = float(points.max()) or 1.0
    side = 1 << bits
    x = np.minimum((points[:, 0] / size * side).astype(np.int64), side - 1)
    y = np.minimum((points[:, 1] / size * side).astype(np.int64), side - 1)
    key = np.zeros(len(points), dtype=np.int64)
    s = side >> 1
    while s:
        right, upper = (x & s) > 0, (y & s) > 0
        key += s * s * ((3 * right) ^ upper)
        turn = ~upper
        flip = turn & right
        x = np.where(flip, side - 1 - x, x)
        y = np.where(flip, side - 1 - y, y)
        x, y = np.where(turn, y, x), np.where(turn, x, y)
        s >>= 1
    return np.argsort(key, kind="stable")


def savings_routes(instance: CVRP, k: int = 100) -> list[list[int]]:
    """Join routes where that saves most, among ``k`` nearest neighbours.

    G. Clarke and J. W. Wright, Scheduling of vehicles from a central depot to a number
    of delivery points, Operations Research 12 (1964).
    """
    distances, n = instance.distances, instance.n
    customers = np.arange(1, n + 1)
    near = _among(distances, customers, min(k, n - 1)) if n > 1 else np.empty((1, 0), int)
    i = np.repeat(customers, near.shape[1])
    j = near.reshape(-1)
    zero = np.zeros_like(i)
    saving = distances.pairs(i, zero) + distances.pairs(zero, j) - distances.pairs(i, j)
    order = np.argsort(-saving, kind="stable")
    order = order[saving[order] > 0]
    symmetric = distances.symmetric
    route_of = list(range(n + 1))
    routes: list[list[int]] = [[c] for c in range(n + 1)]
    load = instance.demands.tolist()
    out, back = distances.row(0).tolist(), distances.pairs(np.arange(n + 1), 0).tolist()
    length = [out[c] + back[c] + instance.service_time for c in range(n + 1)]
    limit = np.inf if instance.max_distance is None else instance.max_distance
    for a, b, gain in zip(
        i[order].tolist(), j[order].tolist(), saving[order].tolist(), strict=True
    ):
        p, q = route_of[a], route_of[b]
        if p == q or load[p] + load[q] > instance.capacity or length[p] + length[q] - gain > limit:
            continue
        first, second = routes[p], routes[q]
        # a must end the first route and b begin the second; turning needs symmetry.
        if symmetric:
            if first[0] == a and len(first) > 1:
                first.reverse()
            if second[-1] == b and len(second) > 1:
                second.reverse()
        if first[-1] != a or second[0] != b:
            continue
        first.extend(second)
        load[p] += load[q]
        length[p] += length[q] - gain
        for c in second:
            route_of[c] = p
        routes[q] = []
    return [route for c, route in enumerate(routes) if c and route]


def split(instance: CVRP, order: list[int]) -> list[list[int]]:
    """Cut an order of all customers into routes, at the least cost for that order.

    C. Prins, A simple and effective evolutionary algorithm for the vehicle routing
    problem, Computers & OR 31 (2004).

    Raises
    ------
    ValueError
        When some customer cannot be served alone within the distance limit.
    """
    distances, n = instance.distances, len(order)
    visits = np.array(order)
    demands = instance.demands[visits].tolist()
    out = distances.pairs(0, visits).tolist()
    back = distances.pairs(visits, 0).tolist()
    legs = [*distances.pairs(visits[:-1], visits[1:]).tolist(), 0.0]
    limit = np.inf if instance.max_distance is None else instance.max_distance
    best, before = [0.0] + [np.inf] * n, [0] * (n + 1)
    for i in range(n):
        load = inner = 0.0
        for j in range(i, n):
            load += demands[j]
            if load > instance.capacity:
                break
            inner += legs[j - 1] if j > i else 0.0
            length = out[i] + inner + back[j]
            if length + instance.service_time * (j - i + 1) > limit:
                if inner > limit:
                    break
                continue
            if best[i] + length < best[j + 1]:
                best[j + 1], before[j + 1] = best[i] + length, i
    if best[n] == np.inf:
        raise ValueError("a customer lies beyond the distance limit.")
    routes, j = [], n
    while j:
        routes.append(order[before[j] : j])
        j = before[j]
    return routes[::-1]


def _first_fit(instance: CVRP) -> list[list[int]]:
    """Pack the largest demands first into the fleet, then order each route."""
    assert instance.vehicles is not None
    rooms = [instance.capacity] * instance.vehicles
    routes: list[list[int]] = [[] for _ in rooms]
    for c in sorted(range(1, instance.n + 1), key=lambda c: -instance.demands[c]):
        fitting = next((v for v, room in enumerate(rooms) if instance.demands[c] <= room), -1)
        if fitting < 0:
            return routes
        rooms[fitting] -= instance.demands[c]
        routes[fitting].append(c)
    ordered = []
    for route in routes:
        left, node, path = set(route), 0, []
        while left:
            at = node
            node = min(left, key=lambda c: float(instance.distances.pairs(at, c)))
            left.remove(node)
            path.append(node)
        ordered.append(path)
    return ordered


def nearest_neighbor_routes(instance: CVRP) -> list[list[int]]:
    """Drive to the nearest customer that still fits; return when none does."""
    left = np.ones(instance.nodes, dtype=bool)
    left[0] = False
    routes: list[list[int]] = []
    limit = np.inf if instance.max_distance is None else instance.max_distance
    home = instance.distances.pairs(np.arange(instance.nodes), 0)
    while left.any():
        route: list[int] = []
        node, load, length = 0, 0.0, 0.0
        while True:
            row = instance.distances.row(node)
            reach = length + row + instance.service_time + home
            fits = left & (load + instance.demands <= instance.capacity) & (reach <= limit)
            if not fits.any():
                break
            following = int(np.where(fits, row, np.inf).argmin())
            load += instance.demands[following]
            length += row[following] + instance.service_time
            left[following] = False
            route.append(following)
            node = following
        if not route:
            break  # a customer beyond the distance limit: the check will name it
        routes.append(route)
    return routes


def ratio_greedy(instance: Knapsack) -> list[int]:
    """Items by value per weight, skipping those that do not fit."""
    room, chosen = instance.capacity, []
    weights = instance.weights.tolist()
    for item in ratio_order(instance).tolist():
        if weights[item] <= room:
            room -= weights[item]
            chosen.append(item)
    return sorted(chosen)


def min_degree_greedy(instance: MIS) -> list[int]:
    """Repeatedly take a node of the largest weight per remaining closed degree."""
    indptr, indices = instance.neighbors()
    degree = np.diff(indptr).tolist()
    weights = instance.weights.tolist()
    state = bytearray(instance.n)
    heap = [(-w / (d + 1), i) for i, (w, d) in enumerate(zip(weights, degree, strict=True))]
    heapq.heapify(heap)
    chosen = []
    while heap:
        key, node = heapq.heappop(heap)
        if state[node] or key != -weights[node] / (degree[node] + 1):
            continue
        state[node] = 1
        chosen.append(node)
        for other in indices[indptr[node] : indptr[node + 1]].tolist():
            if state[other]:
                continue
            state[other] = 1
            for further in indices[indptr[other] : indptr[other + 1]].tolist():
                if not state[further]:
                    degree[further] -= 1
                    heapq.heappush(heap, (-weights[further] / (degree[further] + 1), further))
    return sorted(chosen)


def initial_solution(instance: Instance[Any]) -> Any:
    """A quick feasible solution, or None where none was found."""
    if isinstance(instance, TSP):
        if instance.distances.coords is not None and instance.n > 3000:
            return hilbert_order(instance.distances.coords).tolist()
        return nearest_neighbor_tour(instance.distances)
    if isinstance(instance, CVRP):
        return _within_fleet(instance, savings_routes(instance))
    if isinstance(instance, Knapsack):
        return ratio_greedy(instance)
    if isinstance(instance, MIS):
        return min_degree_greedy(instance)
    return None


def _within_fleet(instance: CVRP, routes: list[list[int]]) -> list[list[int]] | None:
    if instance.violations(routes) and instance.vehicles is not None:
        routes = _first_fit(instance)
    return None if instance.violations(routes) else routes


@dataclass(frozen=True)
class _Constructive:
    """One heuristic per problem; the subclass names them."""

    name: ClassVar[str]
    heuristics: ClassVar[dict[type[Instance[Any]], Callable[[Any], Any]]]

    def _heuristic(self, instance: Instance[Any]) -> Callable[[Any], Any] | None:
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
        """Construct one solution; a better start is returned instead."""
        check_start(instance, start)
        heuristic = self._heuristic(instance)
        assert heuristic is not None
        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        if start is not None:
            tracker.offer(start, by="start")
        status = None
        if isinstance(instance, CVRP):
            if too_few_vehicles(instance):
                status = Status.INFEASIBLE
            else:
                routes = _within_fleet(instance, heuristic(instance))
                if routes is not None:
                    tracker.offer(routes)
        else:
            tracker.offer(heuristic(instance))
        return tracker.result(tracker.done() or Stop.FINISHED, status=status)


class NearestNeighbor(_Constructive):
    """Nearest neighbour, for tours and routes."""

    name = "nearest-neighbor"
    heuristics: ClassVar = {
        TSP: lambda i: nearest_neighbor_tour(i.distances),
        CVRP: nearest_neighbor_routes,
    }


class Greedy(_Constructive):
    """The problem's natural greedy rule: edge, value per weight, weight per degree."""

    name = "greedy"
    heuristics: ClassVar = {
        TSP: lambda i: greedy_tour(i.distances),
        Knapsack: ratio_greedy,
        MIS: min_degree_greedy,
    }

    def supports(self, instance: Instance[Any]) -> str | None:
        """As its heuristics; tours with symmetric costs only."""
        if isinstance(instance, TSP) and not instance.distances.symmetric:
            return "needs symmetric costs"
        return super().supports(instance)


class Savings(_Constructive):
    """Clarke and Wright's savings, for routes."""

    name = "savings"
    heuristics: ClassVar = {CVRP: savings_routes}


class SpaceFillingCurve(_Constructive):
    """Order along a Hilbert curve; routes by optimal splitting of that order."""

    name = "space-filling-curve"
    heuristics: ClassVar = {
        TSP: lambda i: hilbert_order(i.distances.coords).tolist(),
        CVRP: lambda i: split(i, (hilbert_order(i.distances.coords[1:]) + 1).tolist()),
    }

    def supports(self, instance: Instance[Any]) -> str | None:
        """As its heuristics; coordinates only."""
        reason = super().supports(instance)
        if reason is None and instance.distances.coords is None:  # type: ignore[attr-defined]
            return "needs coordinates"
        return reason
