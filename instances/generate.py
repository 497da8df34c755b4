"""Random instances with the distributions of the literature.

Everything is drawn from one `numpy.random.Generator`, so that (seed, problem, size,
distribution) is the whole recipe of an instance.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import InputError

#: CVRP capacities by number of customers: BQ-NCO's (NeurIPS 2023) and UDC's (2024).
CAPACITIES: Mapping[str, Mapping[int, int]] = {
    "bq": {100: 50, 200: 80, 500: 100, 1000: 250},
    "udc": {500: 100, 1000: 200, 2000: 300},
}
#: Knapsack capacities for values and weights uniform in (0, 1).
KNAPSACK_CAPACITIES: Mapping[str, Mapping[int, float]] = {
    "bq": {100: 25.0, 200: 25.0, 500: 25.0, 1000: 25.0},
    "udc": {500: 50.0, 1000: 100.0, 2000: 200.0, 5000: 500.0},
}

Points = NDArray[np.float64]


def random(seed: int, problem: str, n: int, distribution: str) -> np.random.Generator:
    """The generator of one instance."""
    label = zlib.crc32(f"{problem}/{distribution}".encode())
    return np.random.default_rng([seed, label, n])


def _unknown(what: str, name: str, known: Any) -> InputError:
    return InputError(
        None, None, f"unknown {what} {name!r}", f"known: {', '.join(map(str, known))}"
    )


def _check_options(options: Mapping[str, Any], *known: str) -> None:
    for name in options:
        if name not in known:
            raise _unknown("option", name, known or ("none",))


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
        ``uniform``; ``clustered`` (option ``clusters``, default max(1, n // 100), and
        ``deviation``, default 0.05: normal around uniform centres, folded back at the
        border); ``explosion`` and ``rotation``, the mutations of uniform points of
        J. Bossek et al., Evolving diverse TSP instances by means of novel and creative
        mutation operators (FOGA 2019).
    options
        Parameters of the distribution.

    Returns
    -------
    Coordinates [n, 2].

    Raises
    ------
    InputError
        When the distribution or an option is unknown.
    """
    if n < 1:
        raise InputError(None, None, f"n = {n} < 1", "give a positive size")
    if distribution not in POINTS:
        raise _unknown("distribution", distribution, POINTS)
    function, known = POINTS[distribution]
    _check_options(options, *known)
    return function(n, rng, **options)


def _uniform(n: int, rng: np.random.Generator) -> Points:
    return rng.random((n, 2))


def _fold(x: Points) -> Points:
    # Reflection at the border keeps the density of what would fall outside.
    x = np.mod(x, 2.0)
    return np.where(x > 1.0, 2.0 - x, x)


def _clustered(
    n: int, rng: np.random.Generator, clusters: int | None = None, deviation: float = 0.05
) -> Points:
    k = max(1, n // 100) if clusters is None else int(clusters)
    if k < 1 or not deviation > 0:
        raise InputError(None, None, "clusters < 1 or deviation <= 0", "give positive numbers")
    centres = rng.random((k, 2))
    return _fold(centres[rng.integers(k, size=n)] + deviation * rng.standard_normal((n, 2)))


def _explosion(
    n: int,
    rng: np.random.Generator,
    radius_min: float = 0.1,
    radius_max: float = 0.4,
    rate: float = 10.0,
) -> Points:
    """Points near a random centre are thrown out of a circle, to an exponential distance."""
    x = rng.random((n, 2))
    centre, radius = rng.random(2), rng.uniform(radius_min, radius_max)
    offset = x - centre
    distance = np.sqrt((offset * offset).sum(1))
    inside = distance < radius
    direction = offset[inside] / np.maximum(distance[inside], 1e-12)[:, None]
    reach = radius + rng.exponential(1.0 / rate, size=int(inside.sum()))
    x[inside] = centre + direction * reach[:, None]
    return _rescale(x)


def _rotation(
    n: int, rng: np.random.Generator, share_min: float = 0.1, share_max: float = 0.5
) -> Points:
    """A random subset of the points is turned around the origin by a random angle."""
    x = rng.random((n, 2))
    chosen = rng.random(n) < rng.uniform(share_min, share_max)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    x[chosen] = x[chosen] @ np.array([[cos, sin], [-sin, cos]])
    return _rescale(x)


def _rescale(x: Points) -> Points:
    low = x.min(0)
    return (x - low) / max(float((x.max(0) - low).max()), 1e-12)


POINTS: Mapping[str, tuple[Any, tuple[str, ...]]] = {
    "uniform": (_uniform, ()),
    "clustered": (_clustered, ("clusters", "deviation")),
    "explosion": (_explosion, ("radius_min", "radius_max", "rate")),
    "rotation": (_rotation, ("share_min", "share_max")),
}


# ---------------------------------------------------------------------------- matrices


def closure(matrix: NDArray[Any]) -> NDArray[Any]:
    """The min-plus closure: shortest path costs [n, n], so that triangles hold."""
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
        ``tmat`` (integers below 10^6 and their shortest path closure, as in MatNet,
        Kwon et al., NeurIPS 2021) or ``uniform`` (without the closure).
    options
        None.

    Raises
    ------
    InputError
        When the distribution is unknown.
    """
    _check_options(options)
    if distribution not in ("tmat", "uniform"):
        raise _unknown("distribution", distribution, ("tmat", "uniform"))
    if n < 1:
        raise InputError(None, None, f"n = {n} < 1", "give a positive size")
    costs = rng.integers(0, 10**6, (n, n))
    np.fill_diagonal(costs, 0)
    return closure(costs) if distribution == "tmat" else costs


# -------------------------------------------------------------------------------- CVRP


def cvrp(
    n: int,
    rng: np.random.Generator,
    distribution: str,
    *,
    capacity: float | None = None,
    preset: str = "",
    depot: str = "random",
    customers: str = "random",
    demand: str = "unitary",
    route_size: float | None = None,
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
        A distribution of `points` (depot included, demands uniform on 1..9, unrounded
        lengths), or ``uchoa``: integer grid 0..1000 and rounded lengths after
        E. Uchoa et al., New benchmark instances for the CVRP, EJOR 257 (2017).
    capacity
        Vehicle capacity; by default the preset's, or the nearest size's of "bq".
    preset
        "bq" or "udc": the capacities of those papers.
    depot
        ``uchoa``: central, eccentric or random.
    customers
        ``uchoa``: random, clustered or random-clustered.
    demand
        ``uchoa``: unitary, small-small (1-10), small-large (5-10), large-small (1-100),
        large-large (50-100), quadrant or many-small-few-large.
    route_size
        ``uchoa``: mean customers per route, which fixes the capacity; by default
        triangular on 3, 6, 25.
    options
        Parameters of the points' distribution.

    Raises
    ------
    InputError
        When a name is unknown, or the preset does not cover the size.
    """
    if distribution == "uchoa":
        _check_options(options)
        return _uchoa(n, rng, depot, customers, demand, route_size, capacity)
    coords = points(n + 1, rng, distribution, **options)
    demands = np.r_[0, rng.integers(1, 10, n)]
    if capacity is None:
        capacity = _preset_capacity(CAPACITIES, preset or "bq", n, nearest=not preset)
    return {"coords": coords, "demands": demands, "capacity": capacity}


def _preset_capacity(
    table: Mapping[str, Mapping[int, float]], preset: str, n: int, nearest: bool
) -> float:
    if preset not in table:
        raise _unknown("preset", preset, table)
    sizes = table[preset]
    # The UDC paper uses its largest capacity from there on.
    if n in sizes or (preset == "udc" and n > max(sizes)):
        return sizes[min(n, max(sizes))]
    if not nearest:
        raise _unknown(f"size of preset {preset}", str(n), sizes)
    return sizes[min(sizes, key=lambda size: abs(np.log(size / n)))]


_DEMANDS = {
    "small-small": (1, 10),
    "small-large": (5, 10),
    "large-small": (1, 100),
    "large-large": (50, 100),
}


def _uchoa(
    n: int,
    rng: np.random.Generator,
    depot: str,
    customers: str,
    demand: str,
    route_size: float | None,
    capacity: float | None,
) -> dict[str, Any]:
    side = 1000
    places = {
        "central": lambda: np.array([500, 500]),
        "eccentric": lambda: np.array([0, 0]),
        "random": lambda: rng.integers(0, side + 1, 2),
    }
    if depot not in places:
        raise _unknown("depot", depot, places)
    if customers not in ("random", "clustered", "random-clustered"):
        raise _unknown("customers", customers, ("random", "clustered", "random-clustered"))
    where = places[depot]()
    taken = {tuple(where.tolist())}
    seeds = {"random": n, "clustered": 0, "random-clustered": n // 2}[customers]
    spots: list[tuple[int, int]] = []

    def place(candidates: NDArray[np.int64]) -> None:
        for x, y in candidates.tolist():
            if len(spots) < n and (x, y) not in taken:
                taken.add((x, y))
                spots.append((x, y))

    if n >= (side + 1) ** 2:
        raise InputError(None, None, f"n = {n} does not fit the grid", "give n <= 1000000")
    while len(spots) < seeds:
        place(rng.integers(0, side + 1, (seeds - len(spots), 2)))
    if customers != "random":
        # Seed customers attract the others with probability falling as exp(-d / 40).
        k = int(rng.integers(3, 9))
        if not spots:
            place(rng.integers(0, side + 1, (k, 2)))
        centres = np.array(spots[:k], dtype=np.float64)
        while len(spots) < n:
            tries = rng.integers(0, side + 1, (4096, 2))
            distance = np.sqrt(((tries[:, None] - centres[None]) ** 2).sum(-1))
            place(tries[rng.random(len(tries)) < np.exp(-distance / 40.0).sum(1)])
    coords = np.array([where.tolist(), *spots], dtype=np.int64)
    if demand == "unitary":
        demands = np.ones(n, dtype=np.int64)
    elif demand in _DEMANDS:
        low, high = _DEMANDS[demand]
        demands = rng.integers(low, high + 1, n)
    elif demand == "quadrant":
        even = (coords[1:, 0] < side / 2) == (coords[1:, 1] < side / 2)
        demands = np.where(even, rng.integers(51, 101, n), rng.integers(1, 51, n))
    elif demand == "many-small-few-large":
        large = rng.random(n) > rng.uniform(0.7, 0.95)
        demands = np.where(large, rng.integers(50, 101, n), rng.integers(1, 11, n))
    else:
        known = ("unitary", *_DEMANDS, "quadrant", "many-small-few-large")
        raise _unknown("demand", demand, known)
    if capacity is None:
        size = rng.triangular(3, 6, 25) if route_size is None else route_size
        capacity = max(int(np.ceil(size * demands.sum() / n)), int(demands.max()))
    return {
        "coords": coords.astype(np.float64),
        "demands": np.r_[0, demands],
        "capacity": capacity,
        "metric": "EUC_2D",
    }


# ---------------------------------------------------------------------------- knapsack


def knapsack(
    n: int,
    rng: np.random.Generator,
    distribution: str,
    *,
    preset: str = "",
    capacity: float | None = None,
    largest: int = 1000,
) -> dict[str, Any]:
    """Fields of a random knapsack.

    Parameters
    ----------
    n
        Number of items.
    rng
        Source of randomness.
    distribution
        ``uniform``, ``weakly-correlated``, ``strongly-correlated``,
        ``inverse-strongly-correlated``, ``almost-strongly-correlated`` or
        ``subset-sum``: integers, after D. Pisinger (Computers & OR 32, 2005).
    preset
        "bq" or "udc": values and weights uniform in (0, 1), those papers' capacities.
    capacity
        Capacity; by default half of the total weight.
    largest
        Largest weight of the integer classes.

    Raises
    ------
    InputError
        When a name is unknown, or the preset does not cover the size.
    """
    if n < 1 or largest < 1:
        raise InputError(None, None, "n < 1 or largest < 1", "give positive numbers")
    if preset:
        limit = _preset_capacity(KNAPSACK_CAPACITIES, preset, n, nearest=False)
        return {
            "values": rng.random(n),
            "weights": rng.random(n),
            "capacity": limit if capacity is None else capacity,
        }
    tenth = max(1, largest // 10)
    weights = rng.integers(1, largest + 1, n)
    noise = rng.integers(-tenth, tenth + 1, n)
    few = rng.integers(-max(1, largest // 500), max(1, largest // 500) + 1, n)
    classes = {
        "uniform": (rng.integers(1, largest + 1, n), weights),
        "weakly-correlated": (np.maximum(1, weights + noise), weights),
        "strongly-correlated": (weights + tenth, weights),
        "inverse-strongly-correlated": (weights, weights + tenth),
        "almost-strongly-correlated": (np.maximum(1, weights + tenth + few), weights),
        "subset-sum": (weights, weights),
    }
    if distribution not in classes:
        raise _unknown("distribution", distribution, classes)
    values, weights = classes[distribution]
    limit = max(int(weights.sum()) // 2, int(weights.max()))
    return {
        "values": values,
        "weights": weights,
        "capacity": limit if capacity is None else capacity,
    }


# ------------------------------------------------------------------------------ graphs


def mis(
    n: int, rng: np.random.Generator, distribution: str, *, p: float = 0.15, degree: int = 4
) -> dict[str, Any]:
    """Fields of a random independent set problem, all weights 1.

    Parameters
    ----------
    n
        Number of nodes.
    rng
        Source of randomness.
    distribution
        ``erdos-renyi`` (every edge with probability ``p``) or ``barabasi-albert``
        (every new node joins ``degree`` old ones, chosen by their degrees).
    p, degree
        As above.

    Raises
    ------
    InputError
        When the distribution is unknown or a parameter out of range.
    """
    if n < 1 or not 0 <= p <= 1 or degree < 1:
        raise InputError(None, None, "n < 1, p not in [0, 1] or degree < 1", "mend it")
    weights = np.ones(n, dtype=np.int64)
    if distribution == "erdos-renyi":
        count = rng.binomial(n * (n - 1) // 2, p)
        # Pairs are numbered by row of the upper triangle; distinct numbers, no n^2 array.
        total = n * (n - 1) // 2
        chosen = _distinct(total, int(count), rng)
        i = n - 2 - np.floor(np.sqrt(-8.0 * chosen + 4.0 * n * (n - 1) - 7) / 2.0 - 0.5)
        i = i.astype(np.int64)
        j = chosen + i + 1 - (n * (n - 1) // 2 - (n - i) * (n - i - 1) // 2)
        return {"edges": np.stack([i, j], 1), "weights": weights}
    if distribution == "barabasi-albert":
        degree = min(degree, n - 1)
        edges = []
        ends: list[int] = list(range(degree))
        for node in range(degree, n):
            targets: set[int] = set()
            while len(targets) < degree:
                targets.add(ends[int(rng.integers(len(ends)))])
            edges += [(target, node) for target in sorted(targets)]
            ends += [*sorted(targets), *[node] * degree]
        return {"edges": np.array(edges, dtype=np.int64).reshape(-1, 2), "weights": weights}
    raise _unknown("distribution", distribution, ("erdos-renyi", "barabasi-albert"))


def _distinct(total: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if total <= 10_000_000:
        return np.sort(rng.choice(total, count, replace=False))
    chosen = np.unique(rng.integers(0, total, count))
    while len(chosen) < count:
        chosen = np.unique(np.r_[chosen, rng.integers(0, total, count - len(chosen))])
    return chosen
