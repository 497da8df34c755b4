"""Exact second stages of facility location, compiled.

Demand after demand is shipped along a cheapest path: from the customer to a site, on from there
by moving what another customer gets from it, until a site has room (successive shortest paths;
R. Busacker and P. Gowen, 1961). A last site, whose room has no end, stands for unmet demand.
Paths visit sites only, and few are open.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nco.classical.compiling import floats, kernel

Vector = NDArray[np.float64]


@kernel()
def _ship(costs, room, demands, hair, flow):
    """Ship demands [m] from sites [k] at costs [k, m]; flow [k, m] becomes the shipments."""
    k, m = costs.shape
    flow[:] = 0.0
    # What moving a unit from a site to another costs at least, and whose unit that is.
    shift = np.full((k, k), np.inf)
    whose = np.full((k, k), -1, dtype=np.int64)
    distance = np.empty(k)
    before = np.empty(k, dtype=np.int64)
    for j in range(m):
        left = demands[j]
        while left > hair:
            for a in range(k):
                distance[a] = costs[a, j]
                before[a] = -1
            for _ in range(k):
                changed = False
                for a in range(k):
                    for b in range(k):
                        new = distance[a] + shift[a, b]
                        if new < distance[b] - 1e-12 * abs(distance[b]) - 1e-12:
                            distance[b] = new
                            before[b] = a
                            changed = True
                if not changed:
                    break
            end = -1
            for a in range(k):
                if room[a] > hair and (end < 0 or distance[a] < distance[end]):
                    end = a
            amount = min(left, room[end])
            b = end
            for _ in range(k):
                a = before[b]
                if a < 0:
                    break
                amount = min(amount, flow[a, whose[a, b]])
                b = a
            room[end] -= amount
            left -= amount
            b = end
            for _ in range(k):
                a = before[b]
                if a < 0:
                    break
                i = whose[a, b]
                flow[a, i] -= amount
                if flow[a, i] <= hair:
                    flow[a, i] = 0.0
                flow[b, i] += amount
                b = a
            flow[b, j] += amount
            # Moves from the sites whose shipments changed, which are those of the path.
            a = end
            for _ in range(k):
                if a < 0:
                    break
                for b in range(k):
                    if a == b:
                        continue
                    shift[a, b] = np.inf
                    for i in range(j + 1):
                        if flow[a, i] > hair and costs[b, i] - costs[a, i] < shift[a, b]:
                            shift[a, b] = costs[b, i] - costs[a, i]
                            whose[a, b] = i
                a = before[a]


@kernel()
def _recourses(costs, capacities, demands, penalties, x, values, shipped, unmet):
    n, m = costs.shape
    for a in range(len(x)):
        k = 0
        place = np.empty(n, dtype=np.int64)
        for i in range(n):
            if x[a, i] * capacities[i] > 0.0:
                place[k] = i
                k += 1
        own = np.empty((k + 1, m))
        for q in range(k):
            own[q] = costs[place[q]]
        own[k] = penalties
        room, flow = np.empty(k + 1), np.empty((k + 1, m))
        for b in range(len(demands)):
            total = 0.0
            for j in range(m):
                total += demands[b, j]
            for q in range(k):
                room[q] = x[a, place[q]] * capacities[place[q]]
            room[k] = np.inf
            _ship(own, room, demands[b], 1e-12 * total, flow)
            for q in range(k):
                shipped[a, b, place[q]] = flow[q]
            unmet[a, b] = flow[k]
            values[a, b] = (own * flow).sum()


def transport_recourse(
    costs: ArrayLike,
    capacities: ArrayLike,
    penalties: ArrayLike,
    demands: ArrayLike,
    x: ArrayLike,
) -> tuple[Vector, Vector, Vector]:
    """Cheapest shipments of facility location, for all pairs of first stage and demands.

    Minimise ``sum c y + p u`` over ``sum_i y_ij + u_j >= d_j, sum_j y_ij <= s_i x_i``.

    Parameters
    ----------
    costs, capacities, penalties
        Cost c of a unit from a site to a customer [n, m], capacities s [n], cost p of a unit
        of unmet demand [m].
    demands
        Demands d [b, m].
    x
        First stages [a, n].

    Returns
    -------
    Costs [a, b], shipments [a, b, n, m] and unmet demands [a, b, m].
    """
    c, s, p = (floats(v) for v in (costs, capacities, penalties))
    d, first = floats(np.atleast_2d(demands)), floats(np.atleast_2d(x))
    shape = (len(first), len(d))
    values = np.empty(shape)
    shipped, unmet = np.zeros((*shape, *c.shape)), np.zeros((*shape, len(p)))
    _recourses(c, s, d, p, first, values, shipped, unmet)
    return values, shipped, unmet


def compile_shipments() -> None:
    """Compile what facility location needs."""
    one = np.ones(1)
    transport_recourse(one[None], one, one, one, one)
