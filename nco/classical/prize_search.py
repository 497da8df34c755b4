"""The compiled search of `nco.classical.prize_tour`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nco.classical.compiling import kernel
from nco.classical.constructive import neighbor_lists
from nco.classical.xorshift import random_state, uniform
from nco.instances.core import Distances
from nco.instances.routing import RoutingView, flat, single

#: Segments of up to so many nodes are moved.
_SEGMENT = 3
#: Tours of up to so many nodes are looked at in full.
_FEW = 10
#: Noise of a node's worth, at most.
_SPREAD = 0.3
#: A gain below this share of a leg is rounding.
_EPSILON = 1e-9


@kernel()
def _insert(tour: Any, place: Any, m: int, at: int, v: int) -> None:
    """Put v at position ``at`` of a tour of m nodes."""
    for k in range(m, at, -1):
        u = tour[k - 1]
        tour[k] = u
        place[u] = k
    tour[at] = v
    place[v] = at


@kernel()
def _remove(tour: Any, place: Any, m: int, at: int) -> None:
    """Take out the node at position ``at`` of a tour of m nodes."""
    place[tour[at]] = -1
    for k in range(at, m - 1):
        u = tour[k + 1]
        tour[k] = u
        place[u] = k


@kernel()
def _reverse(tour: Any, place: Any, m: int, i: int, j: int) -> None:
    """Reverse positions i to j, cyclically, or all others if they are fewer."""
    inner = j - i + 1
    if inner < 0:
        inner += m
    if 2 * inner > m:
        i, j = j + 1, i - 1
        if i >= m:
            i -= m
        if j < 0:
            j += m
        inner = m - inner
    for _ in range(inner // 2):
        u, v = tour[i], tour[j]
        tour[i], tour[j] = v, u
        place[v], place[u] = i, j
        i += 1
        if i == m:
            i = 0
        j -= 1
        if j < 0:
            j = m - 1


@kernel()
def _push(v: int, queue: Any, queued: Any, count: int) -> int:
    if queued[v]:
        return count
    queued[v] = True
    queue[count] = v
    return count + 1


@kernel()
def _shorten(
    costs: Any, near: Any, tour: Any, place: Any, m: int, queue: Any, queued: Any, count: int,
    segment: Any, least: float,
) -> float:  # fmt: skip
    """2-opt and Or-opt around the queued nodes; the length saved."""
    saved = 0.0
    while count > 0:
        count -= 1
        a = queue[count]
        queued[a] = False
        if place[a] < 0 or m < 4:
            continue
        again = True
        while again:
            again = False
            for side in range(2):
                step = 1 if side == 0 else m - 1
                b = tour[(place[a] + step) % m]
                edge = costs[a, b]
                for k in range(near.shape[1]):
                    c = near[a, k]
                    if place[c] < 0:
                        continue
                    first = edge - costs[a, c]
                    if first <= least:
                        break
                    d = tour[(place[c] + step) % m]
                    gain = first + costs[c, d] - costs[b, d]
                    if gain > least and c != b and d != a:
                        if side == 0:
                            _reverse(tour, place, m, place[b], place[c])
                        else:
                            _reverse(tour, place, m, place[c], place[b])
                        saved += gain
                        for v in (a, b, c, d):
                            count = _push(v, queue, queued, count)
                        again = True
                        break
                if again:
                    break
            if again:
                continue
            # A segment that ends at a moves next to one of a's near nodes.
            for side in range(2):
                step = 1 if side == 0 else m - 1
                p = tour[(place[a] + m - step) % m]
                e = a
                for size in range(1, _SEGMENT + 1):
                    if size > 1:
                        e = tour[(place[e] + step) % m]
                    q = tour[(place[e] + step) % m]
                    if q == p or e == p:
                        break
                    free = costs[p, a] + costs[e, q] - costs[p, q]
                    if free <= least:
                        continue
                    for k in range(near.shape[1]):
                        c = near[a, k]
                        if place[c] < 0:
                            continue
                        if costs[a, c] >= free - least:
                            break
                        inside = (
                            (place[c] - place[a]) % m if side == 0 else (place[a] - place[c]) % m
                        )
                        if inside < size:
                            continue
                        for other in range(2):
                            x = tour[(place[c] + (1 if other == 0 else m - 1)) % m]
                            # Its own place, in either direction, is none.
                            if x in (a, e):
                                continue
                            if (c == p and x == q) or (c == q and x == p):
                                continue
                            gain = free - costs[c, a] - costs[e, x] + costs[c, x]
                            if gain > least:
                                v = a
                                for s in range(size):
                                    segment[s] = v
                                    v = tour[(place[v] + step) % m]
                                for s in range(size):
                                    _remove(tour, place, m - s, place[segment[s]])
                                rest = m - size
                                for s in range(size):
                                    # c a .. e x, or x e .. a c.
                                    if other == 0:
                                        before = c if s == 0 else segment[s - 1]
                                        at = place[before] + 1
                                    else:
                                        after = c if s == 0 else segment[s - 1]
                                        at = place[after]
                                    _insert(tour, place, rest + s, at, segment[s])
                                saved += gain
                                for v in (a, e, p, q, c, x):
                                    count = _push(v, queue, queued, count)
                                again = True
                                break
                        if again:
                            break
                    if again:
                        break
                if again:
                    break
    return saved


@kernel()
def _cheapest(u: int, costs: Any, near: Any, tour: Any, place: Any, m: int) -> Any:
    """The node behind which u costs least, and the extra length."""
    best, where = math.inf, -1
    if m <= _FEW:
        for k in range(m):
            a, b = tour[k], tour[k + 1 if k + 1 < m else 0]
            extra = costs[a, u] + costs[u, b] - costs[a, b]
            if extra < best:
                best, where = extra, a
        return where, best
    for k in range(near.shape[1]):
        c = near[u, k]
        i = place[c]
        if i < 0:
            continue
        b = tour[i + 1 if i + 1 < m else 0]
        extra = costs[c, u] + costs[u, b] - costs[c, b]
        if extra < best:
            best, where = extra, c
        b = tour[i - 1 if i > 0 else m - 1]
        extra = costs[c, u] + costs[u, b] - costs[c, b]
        if extra < best:
            best, where = extra, b
    return where, best


@kernel()
def _saving(v: int, costs: Any, tour: Any, place: Any, m: int) -> float:
    """The length that leaving v out saves."""
    i = place[v]
    a, b = tour[i - 1 if i > 0 else m - 1], tour[i + 1 if i + 1 < m else 0]
    return float(costs[a, v] + costs[v, b] - costs[a, b])


@kernel()
def _search(
    iterations: int, temperature: float, most: int, near: Any, tour: Any, best: Any, sizes: Any,
    worth: Any, prizes: Any, costs: Any, limits: Any, state: Any, values: Any,
) -> None:  # fmt: skip
    """Iterate; ``tour`` and ``best`` hold ``sizes`` nodes, the depot among them.

    ``limits`` are the largest length, the least prize, the cost of a unit of length,
    whether length is free, and the least gain in length.
    """
    n = len(worth)
    longest, wanted, rate, free, least = limits[0], limits[1], limits[2], limits[3] > 0, limits[4]
    m = sizes[0]
    place = np.full(n, -1, dtype=np.int64)
    length = prize = skipped = 0.0
    for v in range(1, n):
        skipped += worth[v]
    for k in range(m):
        v = tour[k]
        place[v] = k
        length += costs[v, tour[k + 1 if k + 1 < m else 0]]
        if v:
            skipped -= worth[v]
            prize += prizes[v]
    queue = np.empty(n, dtype=np.int64)
    queued = np.zeros(n, dtype=np.bool_)
    segment = np.empty(_SEGMENT, dtype=np.int64)
    bias = np.empty(n)
    where = np.empty(n, dtype=np.int64)
    extra = np.empty(n)
    old, old_m = tour.copy(), m
    old_length, old_prize, old_skipped = length, prize, skipped
    cost = rate * length + skipped
    for _ in range(iterations):
        if free:
            spread = _SPREAD * uniform(state)
            power = uniform(state)
            for v in range(n):
                noisy = worth[v] * (1.0 - spread + 2.0 * spread * uniform(state))
                if power < 0.2:
                    noisy = math.sqrt(noisy)
                elif power < 0.4:
                    noisy *= noisy
                bias[v] = noisy
        else:
            # Worth is a price here: noise for what a ruin takes out only.
            for v in range(n):
                bias[v] = worth[v]
        count = 0
        kind = uniform(state)
        goal = 1 + int(uniform(state) * most)
        if kind < 0.35 and m > 3:
            # A string of the tour.
            goal = min(goal, m - 1)
            at = int(uniform(state) * m)
            while goal > 0 and m > 1:
                if at >= m:
                    at = 0
                v = tour[at]
                if v == 0:
                    at += 1
                    goal -= 1
                    continue
                count = _push(tour[at - 1 if at > 0 else m - 1], queue, queued, count)
                length -= _saving(v, costs, tour, place, m)
                _remove(tour, place, m, at)
                if not free:
                    bias[v] *= 0.5 + uniform(state)
                m -= 1
                skipped += worth[v]
                prize -= prizes[v]
                goal -= 1
            count = _push(tour[at if at < m else 0], queue, queued, count)
        elif kind < 0.6 and m > 3:
            # What lies around a node.
            c = int(uniform(state) * n)
            for k in range(-1, near.shape[1]):
                v = c if k < 0 else near[c, k]
                if goal == 0:
                    break
                if v == 0 or place[v] < 0:
                    continue
                i = place[v]
                count = _push(tour[i - 1 if i > 0 else m - 1], queue, queued, count)
                count = _push(tour[i + 1 if i + 1 < m else 0], queue, queued, count)
                length -= _saving(v, costs, tour, place, m)
                _remove(tour, place, m, i)
                if not free:
                    bias[v] *= 0.5 + uniform(state)
                m -= 1
                skipped += worth[v]
                prize -= prizes[v]
                goal -= 1
        else:
            # Nodes around one that is left out come in, whatever they cost.
            c = 1 + int(uniform(state) * (n - 1))
            for _ in range(20):
                if place[c] < 0:
                    break
                c = 1 + int(uniform(state) * (n - 1))
            goal = min(goal, 1 + most // 3)
            for k in range(-1, near.shape[1]):
                v = c if k < 0 else near[c, k]
                if goal == 0:
                    break
                if v == 0 or place[v] >= 0:
                    continue
                a, more = _cheapest(v, costs, near, tour, place, m)
                if a < 0:
                    for i in range(m):
                        x, y = tour[i], tour[i + 1 if i + 1 < m else 0]
                        delta = costs[x, v] + costs[v, y] - costs[x, y]
                        if delta < more:
                            a, more = x, delta
                _insert(tour, place, m, place[a] + 1, v)
                m += 1
                length += more
                skipped -= worth[v]
                prize += prizes[v]
                bias[v] *= 3.0
                count = _push(v, queue, queued, count)
                goal -= 1
        length -= _shorten(costs, near, tour, place, m, queue, queued, count, segment, least)
        for _turn in range(3):
            # Out with what is worth least for its length.
            while m > 1 and (not free or length > longest):
                found, low = -1, math.inf
                for i in range(m):
                    v = tour[i]
                    if v == 0 or (not free and prize - prizes[v] < wanted):
                        continue
                    saving = _saving(v, costs, tour, place, m)
                    score = bias[v] / max(saving, least) if free else bias[v] - saving
                    if score < low:
                        found, low = v, score
                if found < 0 or (not free and low >= 0.0 and length <= longest):
                    break
                i = place[found]
                count = 0
                count = _push(tour[i - 1 if i > 0 else m - 1], queue, queued, count)
                count = _push(tour[i + 1 if i + 1 < m else 0], queue, queued, count)
                length -= _saving(found, costs, tour, place, m)
                _remove(tour, place, m, i)
                m -= 1
                skipped += worth[found]
                prize -= prizes[found]
                length -= _shorten(
                    costs, near, tour, place, m, queue, queued, count, segment, least
                )
            # In with what is worth most for its length.
            count = 0
            for u in range(1, n):
                if place[u] < 0:
                    where[u], extra[u] = _cheapest(u, costs, near, tour, place, m)
            while True:
                short = prize < wanted
                found, high = -1, 0.0
                for u in range(1, n):
                    if place[u] >= 0 or where[u] < 0 or length + extra[u] > longest:
                        continue
                    if free:
                        score = bias[u] / max(extra[u], least)
                    elif short:
                        score = max(prizes[u], 1e-12) / max(extra[u] - bias[u], least)
                    else:
                        score = bias[u] - extra[u]
                    if score > high:
                        found, high = u, score
                if found < 0:
                    break
                a = where[found]
                b = tour[place[a] + 1 if place[a] + 1 < m else 0]
                length += extra[found]
                _insert(tour, place, m, place[a] + 1, found)
                m += 1
                skipped -= worth[found]
                prize += prizes[found]
                count = _push(found, queue, queued, count)
                for u in range(1, n):
                    if place[u] >= 0:
                        continue
                    if where[u] == a:
                        where[u], extra[u] = _cheapest(u, costs, near, tour, place, m)
                        continue
                    more = costs[a, u] + costs[u, found] - costs[a, found]
                    if more < extra[u]:
                        where[u], extra[u] = a, more
                    more = costs[found, u] + costs[u, b] - costs[found, b]
                    if more < extra[u]:
                        where[u], extra[u] = found, more
            if count == 0:
                break
            saved = _shorten(costs, near, tour, place, m, queue, queued, count, segment, least)
            length -= saved
            if saved <= least:
                break
        new = rate * length + skipped
        if length > longest or prize < wanted:
            new = math.inf
        if new < cost - temperature * math.log(uniform(state) + 1e-300):
            cost = new
            for k in range(m):
                old[k] = tour[k]
            old_m, old_length, old_prize, old_skipped = m, length, prize, skipped
            true = skipped if free else new
            if true < values[0] - 1e-12 * abs(true):
                values[0] = true
                for k in range(m):
                    best[k] = tour[k]
                sizes[1] = m
        else:
            for k in range(m):
                place[tour[k]] = -1
            m, length, prize, skipped = old_m, old_length, old_prize, old_skipped
            for k in range(m):
                tour[k] = old[k]
                place[tour[k]] = k
    sizes[0] = m


class Search:
    """A search for the best tour of some of the nodes.

    Parameters
    ----------
    view
        The problem: one route, nodes that may be left out.
    visits
        The tour it begins with.
    seed
        The same seed gives the same search.
    neighbors
        Near nodes that moves look at.
    """

    def __init__(self, view: RoutingView, visits: list[int], seed: int, neighbors: int = 20):
        assert view.skip_costs is not None
        n = view.nodes
        costs = np.ascontiguousarray(view.distances.matrix).view()
        # Read-only like all matrices, so that one compilation serves all.
        costs.setflags(write=False)
        self._costs = costs
        self._near = neighbor_lists(view.distances, min(neighbors, n - 1))
        self._worth = view.skip_costs.astype(np.float64)
        self._prizes = np.zeros(n) if view.prizes is None else view.prizes.astype(np.float64)
        leg = max(float(np.median(costs[np.arange(n)[:, None], self._near])), 1e-12)
        longest = math.inf if view.max_length is None else view.max_length * (1 + 1e-12)
        rate = 1.0
        self.unit = leg
        if view.free:
            self.unit = max(float(self._worth[1:].mean()), 1e-300)
            gained = float(self._worth[visits].sum()) or self.unit
            rate = _RATE * gained / max(longest, 1e-300)
        self._limits = np.array([longest, view.min_prize, rate, view.free, _EPSILON * leg])
        self._tour = np.zeros(n, dtype=np.int64)
        self._tour[1 : len(visits) + 1] = visits
        self._best = self._tour.copy()
        self._sizes = np.array([len(visits) + 1, len(visits) + 1])
        skipped = float(self._worth.sum() - self._worth[visits].sum())
        tour = np.array([0, *visits])
        length = 0.0 if view.free else float(costs[tour, np.roll(tour, -1)].sum())
        self._values = np.array([skipped + length])
        self._state = random_state(seed)
        self._most = max(2, min(_RUIN[0 if view.free else 1], n // 4))

    def run(self, iterations: int, temperature: float) -> float:
        """Iterate at a temperature in units of a node's worth; the cost of the best."""
        _search(
            iterations, temperature * self.unit, self._most, self._near, self._tour, self._best,
            self._sizes, self._worth, self._prizes, self._costs, self._limits, self._state,
            self._values,
        )  # fmt: skip
        return float(self._values[0])

    @property
    def visits(self) -> list[int]:
        """The best tour, from the depot."""
        tour = self._best[: self._sizes[1]].tolist()
        at = tour.index(0)
        return [*tour[at + 1 :], *tour[:at]]


#: Worth of a length that is free, in units of what a mean length collects.
_RATE = 0.2
#: Most nodes that one ruin takes out: where length is free, and where it costs.
_RUIN = (12, 25)


def compile_kernels() -> None:
    """Compile what `Search` needs, or load it from numba's cache."""
    points = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    view = RoutingView(
        distances=Distances(coords=points),
        encode=single,
        decode=flat,
        max_length=4.0,
        skip_costs=np.ones(4),
        free=True,
    )
    Search(view, [1, 2, 3], seed=0).run(1, 1.0)
