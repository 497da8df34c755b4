"""Random MIPs of the families that the learning and LNS literature measures on.

Set cover (E. Balas, A. Ho 1980), combinatorial auction (K. Leyton-Brown's CATS,
"arbitrary", 2000), maximum independent set and minimum vertex cover on Barabasi-Albert
graphs, generalized independent set (D. Hochbaum, A. Pathria 1997) and multiple knapsack
(A. Fukunaga 2011), with the parameters of M. Gasse et al. (2019) and of Balans (2025).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances import generate
from nco.instances.core import Sense
from nco.instances.mis import MIS
from nco.instances.packing import mis_view

Fields = dict[str, Any]


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(f"needs {text}.")


def _binary(c: Any, A: Any, **fields: Any) -> Fields:
    n = len(c)
    return {"c": c, "A": A, "upper": np.ones(n), "integrality": np.ones(n, dtype=bool), **fields}


def set_cover(
    n: int, rng: np.random.Generator, rows: int | None = None, density: float = 0.05
) -> Fields:
    """``n`` columns of cost 1..100; every column covers two rows or more, every row has one.

    Parameters
    ----------
    n
        Number of columns.
    rng
        Source of randomness.
    rows
        Number of rows; default 1.25 n, as Balans' 5000 x 4000.
    density
        Share of entries.
    """
    m = max(2, round(1.25 * n)) if rows is None else rows
    _require(m >= 2 and 0 < density <= 1, "rows >= 2 and 0 < density <= 1")
    extra = max(0, round(m * n * density) - 2 * n - m)
    first = rng.integers(0, m, n)
    second = (first + rng.integers(1, m, n)) % m
    row = np.concatenate([first, second, np.arange(m), rng.integers(0, m, extra)])
    column = np.concatenate(
        [np.arange(n), np.arange(n), rng.integers(0, n, m), rng.integers(0, n, extra)]
    )
    key = np.unique(row * n + column)
    A = sparse.csr_array((np.ones(len(key)), (key // n, key % n)), shape=(m, n))
    cost = rng.integers(1, 101, n).astype(float)
    return _binary(cost, A, row_lower=np.ones(m))


def auction(
    n: int,
    rng: np.random.Generator,
    items: int | None = None,
    add_item: float = 0.7,
    substitutes: int = 5,
    additivity: float = 0.2,
    deviation: float = 0.5,
    budget: float = 1.5,
    resale: float = 0.5,
) -> Fields:
    """``n`` bids on bundles; every item is sold once, substitutable bids exclude each other.

    Parameters
    ----------
    n
        Number of bids.
    rng
        Source of randomness.
    items
        Number of items; default n / 5.
    add_item
        Probability that a bundle grows by one more item.
    substitutes
        Largest number of substitutable bids of one bidder.
    additivity
        Exponent, less 1, of a bundle's size in its value.
    deviation
        Of private values, relative to common ones in 1..100.
    budget, resale
        Limits of substitutes, relative to the first bid.
    """
    m = max(2, n // 5) if items is None else items
    _require(m >= 2 and 0 <= add_item < 1, "items >= 2 and 0 <= add_item < 1")
    value = 1 + 99 * rng.random(m)
    compatibility = np.triu(rng.random((m, m)), 1)
    compatibility += compatibility.T
    total = compatibility.sum(1)
    compatibility /= np.where(total > 0, total, 1.0)
    bids: list[tuple[NDArray[np.intp], float]] = []
    dummies: list[list[int]] = []

    def bundle(first: int, interest: NDArray[np.float64], size: int) -> NDArray[np.intp]:
        inside = np.zeros(m, dtype=bool)
        inside[first] = True
        while inside.sum() < size:
            weight = np.where(inside, 0.0, interest * compatibility[inside].mean(0))
            if weight.sum() <= 0:
                break
            inside[rng.choice(m, p=weight / weight.sum())] = True
        return np.flatnonzero(inside)

    def price(chosen: NDArray[np.intp], private: NDArray[np.float64]) -> float:
        return float(private[chosen].sum() + len(chosen) ** (1.0 + additivity))

    while len(bids) < n:
        private = value + 100 * deviation * (2 * rng.random(m) - 1) * 0.5
        private = np.maximum(private, 1e-3)
        interest = private / private.sum()
        first = int(rng.choice(m, p=interest))
        size = 1
        while rng.random() < add_item and size < m:
            size += 1
        chosen = bundle(first, interest, size)
        worth = price(chosen, private)
        options = {tuple(chosen.tolist()): worth}
        for item in chosen.tolist():
            other = bundle(item, interest, len(chosen))
            cost = price(other, private)
            # A bidder resells what it does not want, and has a budget.
            affordable = 0 <= cost <= budget * worth
            if affordable and value[other].sum() >= resale * value[chosen].sum():
                options.setdefault(tuple(other.tolist()), cost)
            if len(options) > substitutes:
                break
        group = []
        for items_of, cost in options.items():
            if len(bids) < n:
                group.append(len(bids))
                bids.append((np.array(items_of, dtype=np.intp), cost))
        if len(group) > 1:
            dummies.append(group)
    row = [i for chosen, _ in bids for i in chosen.tolist()]
    column = [k for k, (chosen, _) in enumerate(bids) for _ in chosen]
    for number, group in enumerate(dummies):
        row += [m + number] * len(group)
        column += group
    A = sparse.csr_array((np.ones(len(row)), (row, column)), shape=(m + len(dummies), n))
    A = A[np.flatnonzero(np.diff(A.indptr) > 0)]
    worths = np.array([cost for _, cost in bids])
    return _binary(worths, A, row_upper=np.ones(A.shape[0]), sense=Sense.MAXIMIZE)


def independent_set(n: int, rng: np.random.Generator, affinity: int = 4) -> Fields:
    """Independent set of ``n`` nodes of a Barabasi-Albert graph, cliques as rows."""
    graph = MIS(**generate.mis(n, rng, "barabasi-albert", m=affinity))
    mip = mis_view(graph).mip
    return _binary(mip.c, mip.A, row_upper=mip.row_upper, sense=Sense.MAXIMIZE)


def vertex_cover(n: int, rng: np.random.Generator, affinity: int = 4) -> Fields:
    """Vertex cover of ``n`` nodes, weights uniform in (0, 1), of a Barabasi-Albert graph."""
    edges = generate.mis(n, rng, "barabasi-albert", m=affinity)["edges"]
    return _binary(rng.random(n), _edge_rows(edges, n), row_lower=np.ones(len(edges)))


def _edge_rows(edges: NDArray[np.int64], n: int) -> sparse.csr_array:
    row = np.repeat(np.arange(len(edges)), 2)
    return sparse.csr_array((np.ones(len(row)), (row, edges.reshape(-1))), shape=(len(edges), n))


def generalized_independent_set(
    n: int,
    rng: np.random.Generator,
    p: float = 0.3,
    alpha: float = 0.25,
    gain: float = 100.0,
    cost: float = 1.0,
) -> Fields:
    """``n`` nodes of gain 100; an edge is removable, at cost 1, with probability alpha.

    Parameters
    ----------
    n
        Number of nodes.
    rng
        Source of randomness.
    p
        Probability of an edge.
    alpha
        Probability that an edge is removable.
    gain, cost
        Of a chosen node and of a removed edge.
    """
    _require(0 <= alpha <= 1, "0 <= alpha <= 1")
    edges = generate.mis(n, rng, "erdos-renyi", p=p)["edges"]
    removable = rng.random(len(edges)) < alpha
    extra = int(removable.sum())
    pairs = _edge_rows(edges, n)
    where = np.flatnonzero(removable)
    release = sparse.csr_array(
        (-np.ones(extra), (where, np.arange(extra))), shape=(len(edges), extra)
    )
    c = np.r_[np.full(n, -gain), np.full(extra, cost)]
    return _binary(c, sparse.hstack([pairs, release]), row_upper=np.ones(len(edges)))


def multiple_knapsack(
    n: int, rng: np.random.Generator, knapsacks: int | None = None, scheme: str = "weak"
) -> Fields:
    """``n`` items, each into one of the knapsacks or none.

    Parameters
    ----------
    n
        Number of items.
    rng
        Source of randomness.
    knapsacks
        Their number; default n / 10, as Balans' 400 x 40.
    scheme
        "weak": profits within 10 of the weights 10..19; "uniform": profits 10..19 of their own.
    """
    m = max(1, n // 10) if knapsacks is None else knapsacks
    _require(m >= 1 and scheme in ("weak", "uniform"), "knapsacks >= 1 and scheme weak or uniform")
    weight = rng.integers(10, 20, n)
    spread = np.maximum(1, weight + rng.integers(-10, 11, n))
    profit = spread if scheme == "weak" else rng.integers(10, 20, n)
    total = float(weight.sum())
    capacity = rng.integers(math.floor(0.4 * total / m), math.floor(0.6 * total / m) + 1, m)
    # The last one makes the sum half of all weights.
    capacity[-1] = max(0, round(0.5 * total - capacity[:-1].sum()))
    item, sack = np.divmod(np.arange(n * m), m)
    row = np.concatenate([item, n + sack])
    column = np.tile(np.arange(n * m), 2)
    value = np.concatenate([np.ones(n * m), weight[item].astype(float)])
    A = sparse.csr_array((value, (row, column)), shape=(n + m, n * m))
    right = np.r_[np.ones(n), capacity.astype(float)]
    return _binary(profit[item].astype(float), A, row_upper=right, sense=Sense.MAXIMIZE)


#: Distribution name -> generator of the fields of a MIP.
FAMILIES: Mapping[str, Callable[..., Fields]] = {
    "set-cover": set_cover,
    "auction": auction,
    "independent-set": independent_set,
    "vertex-cover": vertex_cover,
    "gisp": generalized_independent_set,
    "multiple-knapsack": multiple_knapsack,
}
