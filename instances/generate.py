"""Random instances with the distributions of the literature.

Everything is drawn from one `numpy.random.Generator`, so that (seed, problem, size,
distribution, options) is the whole recipe of an instance.
"""

from __future__ import annotations

import inspect
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import MAX_MATRIX_NODES, InputError, check_kinds, check_seed, is_whole

Points = NDArray[np.float64]

#: Largest size; beyond it an instance does not fit the memory of usual machines.
MAX_SIZE = 10**8

#: CVRP capacities by number of customers, for demands 1 to 9: D. Drakulic et al., BQ-NCO
#: (NeurIPS 2023); Z. Zheng et al., UDC (NeurIPS 2024), whose last one holds from there on.
CVRP_PRESETS: Mapping[str, Mapping[int, int]] = {
    "bq": {100: 50, 200: 80, 500: 100, 1000: 250},
    "udc": {500: 100, 1000: 200, 2000: 300},
}
#: Without a preset: the first three of M. Nazari et al. (NeurIPS 2018), then BQ-NCO's, and
#: linear in between.
CVRP_CAPACITIES: Mapping[int, int] = {10: 20, 20: 30, 50: 40, **CVRP_PRESETS["bq"]}
#: Knapsack capacities for values and weights uniform in (0, 1), same papers; BQ-NCO's
#: holds for every size.
KNAPSACK_PRESETS: Mapping[str, Mapping[int, float]] = {
    "bq": {},
    "udc": {500: 50.0, 1000: 100.0, 2000: 200.0, 5000: 500.0},
}


def random(seed: int, problem: str, n: int, distribution: str) -> np.random.Generator:
    """The source of randomness of one instance.

    Raises
    ------
    InputError
        When the seed or the size is out of range.
    """
    check_seed(seed)
    _size(n)
    label = zlib.crc32(f"{problem}/{distribution}".encode())
    return np.random.default_rng([seed, label, n])


def _size(n: int) -> None:
    if not (is_whole(n) and 1 <= n <= MAX_SIZE):
        raise InputError(None, None, f"n = {n} not understood", f"give 1 to {MAX_SIZE}")


def _unknown(what: str, name: object, known: Iterable[object]) -> InputError:
    listed = ", ".join(map(str, known)) or "none"
    return InputError(None, None, f"unknown {what} {name!r}", f"known: {listed}")


def _pick(what: str, name: str, table: Mapping[str, Any]) -> Any:
    if name not in table:
        raise _unknown(what, name, table)
    return table[name]


def _draw(
    table: Mapping[str, Callable[..., Any]],
    distribution: str,
    n: int,
    rng: np.random.Generator,
    options: Mapping[str, Any],
) -> Any:
    """Call the function of a distribution with the options that it knows."""
    function = _pick("distribution", distribution, table)
    known = list(inspect.signature(function).parameters)[2:]
    for name in options:
        if name not in known:
            raise _unknown(f"option of {distribution}", name, known)
    _size(n)
    check_kinds(function, options, distribution)
    return function(n, rng, **options)


def _check(fine: bool, text: str) -> None:
    if not fine:
        raise InputError(None, None, "option out of range", f"give {text}")


# ------------------------------------------------------------------------------ points


def points(n: int, rng: np.random.Generator, distribution: str, **options: Any) -> Points:
    """Random points in the unit square.

    Parameters
    ----------
    n
        Number of points.
    rng
        Source of randomness.
    distribution
        ``uniform``.
        ``clustered``: each point is normal around one of ``clusters`` uniform centres
        (default n / 100, at least 1), with ``deviation`` (default 0.05) on each axis,
        reflected at the border.
        ``explosion``: uniform points closer to a random centre than a radius, uniform in
        ``radius_min`` to ``radius_max`` (0.1 to 0.4), are moved away from it, to the
        radius plus an exponential distance of rate ``rate`` (10).
        ``rotation``: a random subset of uniform points, a share of them uniform in
        ``share_min`` to ``share_max`` (0.1 to 0.5), is turned around the origin by a
        random angle and shifted by a random vector.
        The last two are mutations of J. Bossek et al., Evolving diverse TSP instances by
        means of novel and creative mutation operators (FOGA 2019), each applied once;
        then all points are shifted and scaled, both axes alike, into the square.
    options
        Parameters of the distribution.

    Returns
    -------
    Coordinates [n, 2].

    Raises
    ------
    InputError
        When the distribution or an option is unknown, or a number out of range.
    """
    x: Points = _draw(POINTS, distribution, n, rng, options)
    return x


def _uniform(n: int, rng: np.random.Generator) -> Points:
    return rng.random((n, 2))


def _clustered(
    n: int, rng: np.random.Generator, clusters: int | None = None, deviation: float = 0.05
) -> Points:
    count = max(1, n // 100) if clusters is None else clusters
    _check(count >= 1 and 0 < deviation < math.inf, "clusters >= 1 and deviation > 0")
    centres = rng.random((count, 2))
    x = centres[rng.integers(count, size=n)] + deviation * rng.standard_normal((n, 2))
    # Reflection keeps the density of what would fall outside.
    x = np.mod(x, 2.0)
    return np.where(x > 1.0, 2.0 - x, x)


def _explosion(
    n: int,
    rng: np.random.Generator,
    radius_min: float = 0.1,
    radius_max: float = 0.4,
    rate: float = 10.0,
) -> Points:
    _check(0 < radius_min <= radius_max <= 1, "0 < radius_min <= radius_max <= 1")
    _check(0 < rate < math.inf, "rate > 0")
    x = rng.random((n, 2))
    centre, radius = rng.random(2), rng.uniform(radius_min, radius_max)
    offset = x - centre
    distance = np.sqrt((offset * offset).sum(1))
    inside = distance < radius
    direction = offset[inside] / np.maximum(distance[inside], 1e-12)[:, None]
    reach = radius + rng.exponential(1.0 / rate, size=int(inside.sum()))
    x[inside] = centre + direction * reach[:, None]
    return _into_square(x)


def _rotation(
    n: int, rng: np.random.Generator, share_min: float = 0.1, share_max: float = 0.5
) -> Points:
    _check(0 <= share_min <= share_max <= 1, "0 <= share_min <= share_max <= 1")
    x = rng.random((n, 2))
    chosen = rng.random(n) < rng.uniform(share_min, share_max)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    x[chosen] = x[chosen] @ np.array([[cos, sin], [-sin, cos]]) + rng.random(2)
    return _into_square(x)


def _into_square(x: Points) -> Points:
    low = x.min(0)
    return (x - low) / max(float((x.max(0) - low).max()), 1e-12)


POINTS: Mapping[str, Callable[..., Points]] = {
    "uniform": _uniform,
    "clustered": _clustered,
    "explosion": _explosion,
    "rotation": _rotation,
}


# ---------------------------------------------------------------------------- matrices


def closure(matrix: NDArray[Any]) -> NDArray[Any]:
    """The min-plus closure [n, n]: shortest path costs, so that the triangle inequality holds."""
    out = np.array(matrix)
    for k in range(len(out)):
        np.minimum(out, out[:, k, None] + out[None, k], out=out)
    return out


def matrix(
    n: int, rng: np.random.Generator, distribution: str, **options: Any
) -> NDArray[np.int64]:
    """A random integer cost matrix [n, n] with zero diagonal.

    Parameters
    ----------
    n
        Number of nodes.
    rng
        Source of randomness.
    distribution
        ``uniform``: integers below 10^6.
        ``tmat``: their shortest path closure, as in Y.-D. Kwon et al., Matrix encoding
        networks (NeurIPS 2021).
        ``crane``: a stacker crane; node i is a move from a uniform point of the square of
        side 10^6 to another one, at most 10^6 / ``u`` (default 10) away on each axis; the
        cost i-j is the rounded distance from where i ends to where j begins (after
        J. Cirasella et al., The asymmetric traveling salesman problem, ALENEX 2001).
    options
        Parameters of the distribution.

    Raises
    ------
    InputError
        When the distribution or an option is unknown, or n is too large for a matrix.
    """
    if n > MAX_MATRIX_NODES:
        raise InputError(None, None, f"n = {n}: too many for a matrix", f"<= {MAX_MATRIX_NODES}")
    costs: NDArray[np.int64] = _draw(MATRICES, distribution, n, rng, options)
    np.fill_diagonal(costs, 0)
    return costs


def _uniform_matrix(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.integers(0, 10**6, (n, n))


def _tmat(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    costs = _uniform_matrix(n, rng)
    np.fill_diagonal(costs, 0)
    return closure(costs)


def _crane(n: int, rng: np.random.Generator, u: float = 10.0) -> NDArray[np.int64]:
    _check(0 < u < math.inf, "u > 0")
    side = 10**6
    begin = rng.integers(0, side, (n, 2)).astype(np.float64)
    end = begin + np.rint(rng.uniform(-side / u, side / u, (n, 2)))
    legs = end[:, None] - begin[None]
    return np.floor(np.sqrt((legs * legs).sum(-1)) + 0.5).astype(np.int64)


MATRICES: Mapping[str, Callable[..., NDArray[np.int64]]] = {
    "tmat": _tmat,
    "uniform": _uniform_matrix,
    "crane": _crane,
}


# -------------------------------------------------------------------------------- CVRP

#: Depot positions in the unit square; None is random.
DEPOTS: Mapping[str, tuple[float, float] | None] = {
    "random": None,
    "central": (0.5, 0.5),
    "eccentric": (0.0, 0.0),
}
#: Demand laws that are uniform on an interval; the others are in `_demands`.
DEMANDS: Mapping[str, tuple[int, int]] = {
    "uniform": (1, 9),
    "unitary": (1, 1),
    "small-small": (1, 10),
    "small-large": (5, 10),
    "large-small": (1, 100),
    "large-large": (50, 100),
}
CUSTOMERS = ("random", "clustered", "random-clustered")


def cvrp(
    n: int,
    rng: np.random.Generator,
    distribution: str,
    *,
    capacity: float | None = None,
    preset: str | None = None,
    depot: str = "random",
    demand: str | None = None,
    route_size: float | None = None,
    customers: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Fields of a random CVRP.

    Parameters
    ----------
    n
        Number of customers.
    rng
        Source of randomness.
    distribution
        A distribution of `points`, in the unit square with unrounded lengths; or
        ``uchoa``: distinct points of the integer grid 0..1000 with rounded lengths, after
        E. Uchoa et al., New benchmark instances for the capacitated vehicle routing
        problem (EJOR 257, 2017), section 4.
    capacity
        Vehicle capacity, instead of the following two.
    preset
        ``bq`` or ``udc``: the capacities of those papers, for demands 1 to 9.
    route_size
        Mean number of customers in a full route, from which the capacity follows.
        Without any of the three: for demands 1 to 9 by `CVRP_CAPACITIES`, else a route
        size that is triangular on 3, 6, 25 (Uchoa et al.).
    depot
        ``random``, ``central`` or ``eccentric`` (the corner at the origin).
    demand
        ``uniform`` (1 to 9; the default in the unit square), or a law of Uchoa et al.:
        ``unitary`` (the default of ``uchoa``), ``small-small`` (1 to 10), ``small-large``
        (5 to 10), ``large-small`` (1 to 100), ``large-large`` (50 to 100), ``quadrant``
        (1 to 50 in even quadrants, 51 to 100 in odd ones), ``many-small-few-large`` (70
        to 95 % of them 1 to 10, the rest 50 to 100).
    customers
        For ``uchoa``: ``random`` (default), ``clustered`` or ``random-clustered`` (half
        of them); clusters grow around 3 to 8 random customers, by acceptance with
        probability sum exp(-d / 40).
    options
        Parameters of the points' distribution.

    Raises
    ------
    InputError
        When a name is unknown, options contradict each other, or the preset does not
        cover the size.
    """
    if sum(option is not None for option in (capacity, preset, route_size)) > 1:
        raise InputError(None, None, "capacity, preset and route_size exclude each other", "one")
    check_kinds(cvrp, {"capacity": capacity, "route_size": route_size}, "cvrp")
    place = _pick("depot", depot, DEPOTS)
    grid = distribution == "uchoa"
    if grid:
        if options:
            raise _unknown("option of uchoa", next(iter(options)), ("customers", "demand"))
        _size(n)
        coords = _grid(n, rng, place, customers or "random")
    else:
        if distribution not in POINTS:
            raise _unknown("distribution", distribution, [*POINTS, "uchoa"])
        if customers is not None:
            raise _unknown(f"option of {distribution}", "customers", ("those of its points",))
        coords = points(n + 1, rng, distribution, **options)
        if place is not None:
            coords[0] = place
    law = demand or ("unitary" if grid else "uniform")
    demands = _demands(coords[1:] / (1000 if grid else 1), rng, law)
    if preset is not None:
        if law != "uniform":
            raise InputError(None, None, f"preset {preset} with demand {law}", "--demand uniform")
        capacity = _preset("CVRP", CVRP_PRESETS, preset, n)
    elif capacity is None and route_size is None and law == "uniform":
        sizes = list(CVRP_CAPACITIES)
        capacity = round(float(np.interp(n, sizes, list(CVRP_CAPACITIES.values()))))
    elif capacity is None:
        r = rng.triangular(3, 6, 25) if route_size is None else route_size
        _check(1 <= r < math.inf, "route_size >= 1")
        capacity = max(math.ceil(r * int(demands.sum()) / n), int(demands.max()))
    fields = {"coords": coords, "demands": np.r_[0, demands], "capacity": capacity}
    return {**fields, "metric": "EUC_2D"} if grid else fields


def _preset(problem: str, table: Mapping[str, Mapping[int, float]], preset: str, n: int) -> float:
    sizes = _pick("preset", preset, table)
    # UDC keeps its largest CVRP capacity for larger instances.
    size = 2000 if problem == "CVRP" and preset == "udc" and n > 2000 else n
    if size not in sizes:
        raise _unknown(f"size of preset {preset}", n, [*sizes, "or give the capacity"])
    return float(sizes[size])


def _demands(places: Points, rng: np.random.Generator, law: str) -> NDArray[np.int64]:
    """Demands [n] of customers at places [n, 2] of the unit square."""
    n = len(places)
    if law in DEMANDS:
        low, high = DEMANDS[law]
        return rng.integers(low, high + 1, n)
    if law == "quadrant":
        odd = (places[:, 0] < 0.5) == (places[:, 1] < 0.5)
        return rng.integers(1, 51, n) + 50 * odd
    if law == "many-small-few-large":
        small = rng.random(n) < rng.uniform(0.7, 0.95)
        return np.where(small, rng.integers(1, 11, n), rng.integers(50, 101, n))
    raise _unknown("demand", law, [*DEMANDS, "quadrant", "many-small-few-large"])


def _grid(
    n: int, rng: np.random.Generator, place: tuple[float, float] | None, customers: str
) -> Points:
    """Depot and n customers [n + 1, 2], all distinct, on the grid of Uchoa et al."""
    if customers not in CUSTOMERS:
        raise _unknown("customers", customers, CUSTOMERS)
    points_per_side = 1001
    if n > 200_000:
        raise InputError(None, None, f"n = {n} crowds the grid of uchoa", "give n <= 200000")
    free = np.ones(points_per_side**2, dtype=bool)
    spots = np.empty(n + 1, dtype=np.int64)
    placed = 0

    def take(candidates: NDArray[np.int64], most: int) -> None:
        # The first of equal candidates, in the order drawn.
        nonlocal placed
        _, first = np.unique(candidates, return_index=True)
        fresh = candidates[np.sort(first)]
        fresh = fresh[free[fresh]][:most]
        free[fresh] = False
        spots[placed : placed + len(fresh)] = fresh
        placed += len(fresh)

    def scatter(until: int) -> None:
        while placed < until:
            take(rng.integers(points_per_side**2, size=until - placed), until - placed)

    if place is None:
        scatter(1)
    else:
        x, y = (round(1000 * c) for c in place)
        take(np.array([x * points_per_side + y]), 1)
    scatter(1 + {"random": n, "clustered": 0, "random-clustered": n // 2}[customers])
    if placed <= n:
        begin = placed
        scatter(min(n + 1, placed + int(rng.integers(3, 9))))
        seeds = np.stack(np.divmod(spots[begin:placed], points_per_side), axis=1)
        while placed <= n:
            cells = rng.integers(points_per_side**2, size=8192)
            offset = np.stack(np.divmod(cells, points_per_side), axis=1)[:, None] - seeds
            distance = np.sqrt((offset * offset).sum(-1))
            near = rng.random(len(cells)) < np.exp(-distance / 40.0).sum(1)
            take(cells[near], n + 1 - placed)
    return np.stack(np.divmod(spots, points_per_side), axis=1).astype(np.float64)


# ---------------------------------------------------------------------------- knapsack


def knapsack(
    n: int,
    rng: np.random.Generator,
    distribution: str,
    *,
    preset: str | None = None,
    capacity: float | None = None,
    fraction: float | None = None,
    largest: int | None = None,
) -> dict[str, Any]:
    """Fields of a random knapsack.

    With weights w uniform on 1..R, the classes of D. Pisinger, Where are the hard
    knapsack problems? (Computers & OR 32, 2005), section 2, have the values

    ============================ ================================================
    uniform                      uniform on 1..R
    weakly-correlated            uniform on w - R/10 .. w + R/10, at least 1
    strongly-correlated          w + R/10
    inverse-strongly-correlated  uniform on 1..R, and the weights are value + R/10
    almost-strongly-correlated   uniform on w + R/10 - R/500 .. w + R/10 + R/500
    subset-sum                   w
    ============================ ================================================

    Parameters
    ----------
    n
        Number of items.
    rng
        Source of randomness.
    distribution
        One of the classes.
    preset
        ``bq`` or ``udc``: values and weights uniform in (0, 1) and the capacities of
        those papers; with ``uniform`` only.
    capacity
        Capacity; by default ``fraction`` of the total weight, rounded down, but no less
        than the largest weight.
    fraction
        As above, default 0.5; Pisinger's series have h / 101 for h = 1..100.
    largest
        R, default 1000.

    Raises
    ------
    InputError
        When a name is unknown, a number out of range, options contradict each other, or the
        preset does not cover the size.
    """
    _size(n)
    options = {"capacity": capacity, "fraction": fraction, "largest": largest}
    check_kinds(knapsack, options, "knapsack")
    for one, other in (("preset", "fraction"), ("preset", "largest"), ("capacity", "fraction")):
        if options.get(one, preset) is not None and options[other] is not None:
            raise InputError(None, None, f"{one} and {other} exclude each other", "give one")
    if preset is not None:
        _pick("preset", preset, KNAPSACK_PRESETS)
        if distribution != "uniform":
            raise InputError(None, None, f"preset {preset} with {distribution}", "use uniform")
        if capacity is None and preset == "bq":
            capacity = 25.0
        elif capacity is None:
            capacity = _preset("knapsack", KNAPSACK_PRESETS, preset, n)
        return {"values": rng.random(n), "weights": rng.random(n), "capacity": capacity}
    largest = 1000 if largest is None else largest
    fraction = 0.5 if fraction is None else fraction
    _check(1 <= largest <= 10**9 and 0 < fraction <= 1, "largest >= 1 and 0 < fraction <= 1")
    items = _pick("distribution", distribution, ITEMS)
    weights = rng.integers(1, largest + 1, n)
    values, weights = items(weights, rng, largest)
    if capacity is None:
        capacity = max(math.floor(fraction * int(weights.sum())), int(weights.max()))
    return {"values": values, "weights": weights, "capacity": capacity}


Items = tuple[NDArray[np.int64], NDArray[np.int64]]


def _around(
    w: NDArray[np.int64], rng: np.random.Generator, shift: int, spread: int
) -> NDArray[np.int64]:
    return np.maximum(1, w + shift + rng.integers(-spread, spread + 1, len(w)))


#: Class -> (values, weights) from weights, source of randomness and R.
ITEMS: Mapping[str, Callable[[NDArray[np.int64], np.random.Generator, int], Items]] = {
    "uniform": lambda w, rng, r: (rng.integers(1, r + 1, len(w)), w),
    "weakly-correlated": lambda w, rng, r: (_around(w, rng, 0, r // 10), w),
    "strongly-correlated": lambda w, rng, r: (w + r // 10, w),
    "inverse-strongly-correlated": lambda w, rng, r: (w, w + r // 10),
    "almost-strongly-correlated": lambda w, rng, r: (_around(w, rng, r // 10, r // 500), w),
    "subset-sum": lambda w, rng, r: (w, w),
}


# ------------------------------------------------------------------------------ graphs


def mis(n: int, rng: np.random.Generator, distribution: str, **options: Any) -> dict[str, Any]:
    """Fields of a random independent set problem, all weights 1.

    Parameters
    ----------
    n
        Number of nodes.
    rng
        Source of randomness.
    distribution
        ``erdos-renyi``: every edge with probability ``p`` (default 0.15).
        ``barabasi-albert``: every new node joins ``m`` (default 4) old ones, chosen with
        probability proportional to their degrees; the first one joins nodes 0..m-1.
    options
        Parameters of the distribution.

    Raises
    ------
    InputError
        When the distribution or an option is unknown, or a number out of range.
    """
    edges = _draw(GRAPHS, distribution, n, rng, options)
    return {"edges": edges, "weights": np.ones(n, dtype=np.int64)}


def _erdos_renyi(n: int, rng: np.random.Generator, p: float = 0.15) -> NDArray[np.int64]:
    # Gaps between edges in the list of all pairs are geometric, so that the work grows
    # with the edges: V. Batagelj, U. Brandes, Efficient generation of large random
    # networks, Physical Review E 71 (2005).
    _check(0 <= p <= 1, "0 <= p <= 1")
    total = n * (n - 1) // 2
    _check(p * total <= 10**9, "n and p with at most 10^9 edges")
    parts = [np.empty(0, dtype=np.int64)]
    last = -1
    while p > 0 and last < total - 1:
        expected = p * (total - 1 - last)
        gaps = rng.geometric(p, size=int(expected + 4 * math.sqrt(expected)) + 16)
        places = last + np.cumsum(np.minimum(gaps, total))
        parts.append(places[places < total])
        last = int(places[-1])
    pairs = np.concatenate(parts)
    row = np.arange(n)
    starts = row * (2 * n - row - 1) // 2
    i = np.searchsorted(starts, pairs, side="right") - 1
    return np.stack([i, pairs - starts[i] + i + 1], axis=1)


def _barabasi_albert(n: int, rng: np.random.Generator, m: int = 4) -> NDArray[np.int64]:
    _check(1 <= m < n or n == 1, f"1 <= m < n = {n}")
    sources: list[int] = []
    targets: list[int] = []
    # Every node stands in `ends` once per edge, so that a uniform draw is by degree.
    ends = list(range(m))
    for node in range(m, n):
        chosen = set(ends[:m]) if node == m else set()
        while len(chosen) < m:
            for k in rng.integers(len(ends), size=m - len(chosen)):
                chosen.add(ends[k])
        fresh = sorted(chosen)
        sources += fresh
        targets += [node] * m
        ends += fresh if node > m else []
        ends += [node] * m
    return np.array([sources, targets], dtype=np.int64).T


GRAPHS: Mapping[str, Callable[..., NDArray[np.int64]]] = {
    "erdos-renyi": _erdos_renyi,
    "barabasi-albert": _barabasi_albert,
}
