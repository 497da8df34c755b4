"""The compiled search of `nco.classical.ruin_recreate`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.classical.compiling import kernel
from nco.classical.constructive import neighbor_lists
from nco.classical.xorshift import random_state, uniform
from nco.instances.core import Distances
from nco.instances.routing import RoutingView, keep

# Columns of the numbers that the kernel works with.
_CAPACITY, _MOST, _LEAST_PRIZE, _UNIT_PRIZE, _LENGTH_WEIGHT, _MINMAX, _SPREAD = range(7)


@kernel()
def _cost(length: Any, visited_prize: float, skipped: float, limits: Any) -> float:
    """What the search minimises: objective, and shortfall of prize at a price."""
    total = 0.0
    longest = 0.0
    for value in length:
        total += value
        longest = max(longest, value)
    if limits[_MINMAX] > 0:
        return longest + limits[_SPREAD] * total
    short = max(0.0, limits[_LEAST_PRIZE] - visited_prize)
    return limits[_LENGTH_WEIGHT] * total + skipped + limits[_UNIT_PRIZE] * short


@kernel()
def _remove(v: int, route: Any, after: Any, before: Any, length: Any, load: Any, data: Any) -> None:
    costs, demands, service, _, _, n = data
    r = route[v]
    a, b = before[v], after[v]
    i, j = (a if a < n else 0), (b if b < n else 0)
    length[r] -= costs[i, v] + costs[v, j] - costs[i, j] + service[v]
    if a == b:
        length[r] = 0.0
    load[r] -= demands[v]
    after[a] = b
    before[b] = a
    route[v] = -1


@kernel()
def _place(
    v: int, a: int, r: int, route: Any, after: Any, before: Any, length: Any, load: Any, data: Any
) -> None:
    """Put node v behind a in route r."""
    costs, demands, service, _, _, n = data
    b = after[a]
    i, j = (a if a < n else 0), (b if b < n else 0)
    length[r] += costs[i, v] + costs[v, j] - costs[i, j] + service[v]
    load[r] += demands[v]
    after[a] = v
    before[v] = a
    after[v] = b
    before[b] = v
    route[v] = r


@kernel()
def _best_place(
    v: int, blink: float, wide: bool, near: Any, route: Any, after: Any, before: Any,
    length: Any, load: Any, data: Any, limits: Any, state: Any,
) -> Any:  # fmt: skip
    """The node behind which v costs least, its route and the extra length; -1 if none."""
    costs, demands, service, _, _, n = data
    best, where, its, extra = math.inf, -1, -1, 0.0
    fleet = len(length)
    tried_empty = False
    count = n if wide else near.shape[1]
    for k in range(count + fleet):
        if k < count:
            u = k if wide else near[v, k]
            if u == 0 or u == v or route[u] < 0:
                continue
            r = route[u]
        else:
            r = k - count
            u = n + r
            if after[u] == u:
                # All empty routes are alike.
                if tried_empty:
                    continue
                tried_empty = True
        if load[r] + demands[v] > limits[_CAPACITY]:
            continue
        for side in range(2):
            a = u if side == 0 else before[u]
            b = after[a]
            i, j = (a if a < n else 0), (b if b < n else 0)
            delta = costs[i, v] + costs[v, j] - costs[i, j] + service[v]
            if length[r] + delta > limits[_MOST]:
                continue
            score = delta
            if limits[_MINMAX] > 0:
                score = length[r] + delta
            if score < best and uniform(state) >= blink:
                best, where, its, extra = score, a, r, delta
    return where, its, extra


@kernel()
def _search(
    iterations: int, temperature: float, most_removed: int, near: Any, now: Any, best: Any,
    data: Any, limits: Any, state: Any, optional: bool,
) -> float:  # fmt: skip
    """Iterate; ``now`` and ``best`` are (route, after, before, length, load), kept in place.

    Returns the cost of ``best``.
    """
    costs, demands, service, skip, prizes, n = data
    route, after, before, length, load = now
    # Sums drift; they are made anew for every call.
    prize = skipped = 0.0
    length[:] = 0.0
    load[:] = 0.0
    for r in range(len(length)):
        u = n + r
        while True:
            v = after[u]
            i, j = (u if u < n else 0), (v if v < n else 0)
            length[r] += costs[i, j]
            if v >= n:
                break
            length[r] += service[v]
            load[r] += demands[v]
            u = v
    for v in range(1, n):
        if route[v] >= 0:
            prize += prizes[v]
        else:
            skipped += skip[v]
    cost = _cost(length, prize, skipped, limits)
    best[0][:], best[1][:], best[2][:] = route, after, before
    best[3][:], best[4][:] = length, load
    best_cost = cost
    old_length, old_load = length.copy(), load.copy()
    waiting = np.empty(n, dtype=np.int64)
    # What an iteration did, to be undone: nodes removed, with predecessor and route, and placed.
    out = np.empty((n, 3), dtype=np.int64)
    placed = np.empty(n, dtype=np.int64)
    key = np.empty(n, dtype=np.float64)
    for _ in range(iterations):
        old_prize, old_skipped = prize, skipped
        c = 1 + int(uniform(state) * (n - 1))
        if limits[_MINMAX] > 0 and uniform(state) < 0.5:
            # Only the longest route can improve the objective.
            r = int(np.argmax(length))
            steps = int(uniform(state) * 20)
            c = after[n + r]
            while steps > 0 and after[c] < n:
                c = after[c]
                steps -= 1
            c = max(c if c < n else 1, 1)
        goal = 1 + int(uniform(state) * most_removed)
        m = 0
        put = 0
        if route[c] >= 0 and uniform(state) < 0.5:
            # A string around c, and strings of near routes.
            k = -1
            u = c
            while m < goal and k < near.shape[1]:
                if route[u] >= 0:
                    part = 1 + int(uniform(state) * (goal - m))
                    back = int(uniform(state) * part)
                    v = u
                    while back > 0 and before[v] < n:
                        v = before[v]
                        back -= 1
                    while part > 0 and v < n:
                        following = after[v]
                        out[m, 0], out[m, 1], out[m, 2] = v, before[v], route[v]
                        _remove(v, route, after, before, length, load, data)
                        prize -= prizes[v]
                        skipped += skip[v]
                        waiting[m] = v
                        m += 1
                        part -= 1
                        v = following
                k += 1
                if k < near.shape[1]:
                    u = near[c, k]
                    if u == 0:
                        u = c
        else:
            for k in range(-1, near.shape[1]):
                v = c if k < 0 else near[c, k]
                if m == goal:
                    break
                if v > 0 and route[v] >= 0:
                    out[m, 0], out[m, 1], out[m, 2] = v, before[v], route[v]
                    _remove(v, route, after, before, length, load, data)
                    prize -= prizes[v]
                    skipped += skip[v]
                    waiting[m] = v
                    m += 1
        removed = m
        if optional:
            # Customers left out around the ruin, and one anywhere, get their chance.
            if route[c] < 0:
                listed = False
                for k in range(removed):
                    listed = listed or waiting[k] == c
                if not listed:
                    waiting[m] = c
                    m += 1
            for k in range(near.shape[1]):
                v = near[c, k]
                if v == 0 or route[v] >= 0 or uniform(state) < 0.3 or m == n:
                    continue
                listed = False
                for p in range(m):
                    listed = listed or waiting[p] == v
                if not listed:
                    waiting[m] = v
                    m += 1
        rule = uniform(state)
        # Now and then insertion is far from greedy, so that no order is out of reach.
        blink = 0.3 if uniform(state) < 0.1 else 0.02
        for k in range(m):
            v = waiting[k]
            key[k] = uniform(state)
            if optional and rule < 0.5:
                key[k] *= -(skip[v] + 1e-12) - limits[_UNIT_PRIZE] * prizes[v]
            elif rule < 0.7:
                key[k] = -demands[v]
            elif rule < 0.85:
                key[k] = -costs[0, v]
            elif rule < 0.9:
                key[k] = costs[0, v]
        order = np.argsort(key[:m])
        fine = True
        for p in order:
            v = waiting[p]
            a, r, extra = _best_place(
                v, blink, False, near, route, after, before, length, load, data, limits, state
            )
            if a < 0 and not optional:
                a, r, extra = _best_place(
                    v, 0.0, True, near, route, after, before, length, load, data, limits, state
                )
            if a < 0:
                fine = optional
                if not fine:
                    break
                continue
            if optional:
                short = max(0.0, limits[_LEAST_PRIZE] - prize)
                worth = skip[v] + limits[_UNIT_PRIZE] * min(short, prizes[v])
                noise = 1.0 if rule < 0.5 else 0.9 + 0.2 * uniform(state)
                if limits[_LENGTH_WEIGHT] * extra * noise > worth:
                    continue
            _place(v, a, r, route, after, before, length, load, data)
            placed[put] = v
            put += 1
            prize += prizes[v]
            skipped -= skip[v]
        new = _cost(length, prize, skipped, limits) if fine else math.inf
        if new < cost - temperature * math.log(uniform(state) + 1e-300):
            cost = new
            old_length[:], old_load[:] = length, load
            if cost < best_cost - 1e-12 * abs(best_cost):
                best_cost = cost
                best[0][:], best[1][:], best[2][:] = route, after, before
                best[3][:], best[4][:] = length, load
        else:
            for k in range(put - 1, -1, -1):
                v = placed[k]
                after[before[v]], before[after[v]] = after[v], before[v]
                route[v] = -1
            for k in range(removed - 1, -1, -1):
                v, a = out[k, 0], out[k, 1]
                after[v], before[v] = after[a], a
                before[after[a]] = v
                after[a] = v
                route[v] = out[k, 2]
            length[:], load[:] = old_length, old_load
            prize, skipped = old_prize, old_skipped
    return best_cost


class Search:
    """The state of a ruin-and-recreate search.

    Parameters
    ----------
    view
        The problem.
    seed
        The same seed gives the same search.
    neighbors
        Near nodes that ruins and insertions look at.
    fleet
        Most routes at a time; by default what the problem allows. Fewer make it faster.
    """

    def __init__(self, view: RoutingView, seed: int, neighbors: int = 30, fleet: int | None = None):
        self.view = view
        n = view.nodes
        # Read-only like all matrices, so that one compilation serves all.
        costs = np.ascontiguousarray(view.distances.matrix).view()
        costs.setflags(write=False)
        zeros = np.zeros(n)
        self.optional = view.skip_costs is not None
        skip = zeros if view.skip_costs is None else view.skip_costs.astype(np.float64)
        prizes = zeros if view.prizes is None else view.prizes.astype(np.float64)
        demands = zeros if view.demands is None else view.demands.astype(np.float64)
        service = zeros if view.service is None else view.service.astype(np.float64)
        self.data = (costs, demands, service, skip, prizes, n)
        self.near = neighbor_lists(view.distances, min(neighbors, n - 1))
        self.fleet = min(view.vehicles or n - 1, n - 1, n - 1 if fleet is None else fleet)
        self.leg = max(float(np.median(costs[np.arange(n)[:, None], self.near])), 1e-12)
        limits = np.zeros(7)
        limits[_CAPACITY] = math.inf if view.demands is None else view.capacity * (1 + 1e-12)
        limits[_MOST] = math.inf if view.max_length is None else view.max_length * (1 + 1e-12)
        limits[_LEAST_PRIZE] = view.min_prize
        limits[_LENGTH_WEIGHT] = 1.0
        limits[_MINMAX] = view.minmax
        limits[_SPREAD] = 0.1 / self.fleet
        if view.free:
            positive = skip[skip > 0]
            least = float(positive.min()) if len(positive) else 1.0
            limits[_LENGTH_WEIGHT] = 0.01 * least / max(view.max_length or 1.0, 1e-300)
            self.leg = float(skip.mean())
        if view.prizes is not None:
            limits[_UNIT_PRIZE] = 10.0 * float(costs.max()) / max(float(prizes[1:].mean()), 1e-300)
        self.limits = limits
        self.state = random_state(seed)
        self.now = self._empty()
        self.best = self._empty()

    def _empty(self) -> tuple[NDArray[Any], ...]:
        ring = np.arange(self.view.nodes + self.fleet)
        route = np.full(self.view.nodes, -1)
        return route, ring.copy(), ring.copy(), np.zeros(self.fleet), np.zeros(self.fleet)

    def load(self, routes: list[list[int]]) -> None:
        """Begin from these routes."""
        self.now = self._empty()
        route, after, before, length, load = self.now
        for r, visits in enumerate(routes):
            a = self.view.nodes + r
            for v in visits:
                _place(v, a, r, route, after, before, length, load, self.data)
                a = v

    def run(self, iterations: int, temperature: float) -> float:
        """Iterate at a temperature in units of a short leg; the cost of ``best``."""
        most = min(12, self.view.nodes - 1)
        return float(
            _search(
                iterations, temperature * self.leg, most, self.near, self.now, self.best,
                self.data, self.limits, self.state, self.optional,
            )
        )  # fmt: skip

    def routes(self, state: tuple[NDArray[Any], ...]) -> list[list[int]]:
        """The routes of ``now`` or ``best``."""
        out = []
        for r in range(self.fleet):
            visits, v = [], int(state[1][self.view.nodes + r])
            while v < self.view.nodes:
                visits.append(v)
                v = int(state[1][v])
            if visits:
                out.append(visits)
        return out


def compile_kernels() -> None:
    """Compile what `Search` needs, or load it from numba's cache."""
    points = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    view = RoutingView(distances=Distances(coords=points), encode=keep, decode=keep)
    search = Search(view, seed=0)
    search.load([[1, 2, 3]])
    search.run(1, 1.0)
