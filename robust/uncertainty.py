"""Uncertainty sets: where the scenarios of a two-stage problem may lie.

A set is one class. Methods of this package ask it for extreme scenarios of a linear function
(`worst_case`), for its rows inside a MIP (`add_to`), for scenarios to start from (`sample`,
`vertices`), and for the binary form behind its vertices (`binary_form`), by which the worst
scenario of a linear recourse becomes a MIP. A set that holds no scenario is refused when it
is made.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from nco.instances.registry import sets
from nco.robust.model import Indices, Model

Vector = NDArray[np.float64]

#: How far outside a set a scenario may be by rounding.
TOLERANCE = 1e-6


class TooManyError(ValueError):
    """A set has more extreme scenarios than can be listed."""


def _vector(name: str, values: ArrayLike) -> Vector:
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} has shape {array.shape}, expected a vector.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds numbers that are not finite.")
    array.setflags(write=False)
    return array


@dataclass(frozen=True)
class BinaryForm:
    """Scenarios ``base + matrix u`` with binary u within rows: all in the set, all vertices too.

    Parameters
    ----------
    base, matrix
        Offset [q] and columns [q, k].
    rows, row_upper
        ``rows u <= row_upper``.
    """

    base: Vector
    matrix: Vector
    rows: Vector
    row_upper: Vector


class UncertaintySet(ABC):
    """A bounded, closed set of scenarios; the base of all others."""

    #: Length q of a scenario.
    dimension: int
    #: Whether it holds everything between any two of its scenarios.
    convex: bool = True
    #: Whether `add_to` describes it, and not only something around it.
    exact_rows: bool = True
    #: Whether it has finitely many scenarios, which are then its vertices.
    finite: bool = False

    @abstractmethod
    def contains(self, xi: Vector, tolerance: float = TOLERANCE) -> bool:
        """Whether scenario xi [q] is in the set, but for rounding."""

    @abstractmethod
    def sample(self, count: int, rng: np.random.Generator) -> Vector:
        """Random scenarios [count, q], spread over the whole set."""

    @abstractmethod
    def vertices(self, most: int = 10_000) -> Vector:
        """The extreme scenarios [v, q].

        Raises
        ------
        TooManyError
            When there are more than ``most``, or no finite number.
        """

    @abstractmethod
    def add_to(self, model: Model) -> Indices:
        """Add the set to a model; the columns of a scenario [q]."""

    @abstractmethod
    def worst_case(self, linear: Vector) -> tuple[Vector, float]:
        """The scenario [q] with the smallest ``linear xi``, and that value."""

    def separate(self, xi: Vector) -> tuple[Vector, float] | None:
        """A row ``a xi <= b`` that holds in the set and not at xi, or None.

        Only sets whose rows are not exact have one.
        """
        return None

    def project(self, points: Vector) -> Vector:
        """Scenarios of the set near points [b, q]; the points themselves where inside."""
        out = np.array(points, dtype=np.float64)
        for k in range(len(out)):
            if not self.contains(out[k]):
                out[k] = _nearest(self, out[k])
        return out

    def binary_form(self, most: int = 2_000) -> BinaryForm | None:
        """The binary form of its vertices; by listing up to ``most``, None if impossible."""
        try:
            points = self.vertices(most)
        except TooManyError:
            return None
        return _choice_form(points)

    def bounds(self) -> tuple[Vector, Vector]:
        """The smallest and largest value of each entry of a scenario [q]."""
        eye = np.eye(self.dimension)
        low = np.array([self.worst_case(row)[1] for row in eye])
        return low, np.array([-self.worst_case(-row)[1] for row in eye])


def _choice_form(points: Vector) -> BinaryForm:
    # One binary per point but the first, at most one of which is 1.
    count = len(points) - 1
    return BinaryForm(
        points[0].copy(), (points[1:] - points[0]).T.copy(), np.ones((1, count)), np.ones(1)
    )


def _optimum(model: Model, cost: Vector) -> Vector | None:
    """The columns of the cheapest solution; None if there is none."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    mip = model.mip()
    rows = LinearConstraint(mip.A, mip.row_lower, mip.row_upper) if mip.m else ()
    found = milp(
        cost,
        integrality=mip.integrality.astype(int),
        bounds=Bounds(mip.lower, mip.upper),
        constraints=rows,
    )
    if found.status == 3:
        raise ValueError("the uncertainty set is unbounded.")
    return None if found.x is None else np.asarray(found.x, dtype=np.float64)


def _rows_worst_case(uncertainty: UncertaintySet, linear: Vector) -> tuple[Vector, float]:
    """`worst_case` by the rows of `add_to` and, while needed, of `separate`."""
    model = Model()
    columns = uncertainty.add_to(model)
    best = math.inf
    for _ in range(500):
        cost = np.zeros(model.columns)
        cost[columns] = linear
        solution = _optimum(model, cost)
        if solution is None:
            raise ValueError("the uncertainty set is empty.")
        xi = solution[columns]
        cut = uncertainty.separate(xi)
        if cut is None:
            best = float(linear @ xi)
            return xi, best
        model.add_rows(cut[0][None], columns, -np.inf, cut[1])
    raise ValueError("the uncertainty set could not be optimized over.")


def _approach(
    uncertainty: UncertaintySet, matrix: Vector, target: Vector
) -> tuple[Model, Indices, Vector]:
    """The scenario z for which ``matrix z`` is nearest to a target, distances added up.

    Returns
    -------
    The model, its columns of distances, and z. Rows of the set come first, then two for each
    distance, then tangents.
    """
    model = Model()
    columns = uncertainty.add_to(model)
    apart = model.add_columns(len(target))
    eye = np.eye(len(target))
    both = np.concatenate([columns, apart])
    model.add_rows(np.hstack([matrix, -eye]), both, -np.inf, target)
    model.add_rows(np.hstack([matrix, eye]), both, target, np.inf)
    for _ in range(500):
        cost = np.zeros(model.columns)
        cost[apart] = 1.0
        solution = _optimum(model, cost)
        if solution is None:
            raise ValueError("the uncertainty set is empty.")
        cut = uncertainty.separate(solution[columns])
        if cut is None:
            break
        model.add_rows(cut[0][None], columns, -np.inf, cut[1])
    assert solution is not None
    return model, apart, solution[columns]


def _nearest(uncertainty: UncertaintySet, point: Vector) -> Vector:
    """The scenario nearest to a point, entries' distances added up."""
    return _approach(uncertainty, np.eye(uncertainty.dimension), point)[2]


def _mixed(extremes: Vector, count: int, rng: np.random.Generator) -> Vector:
    # Few ingredients each, so that the border is reached as well as the middle.
    weights = rng.exponential(size=(count, len(extremes))) ** 4
    weights /= weights.sum(1, keepdims=True)
    return np.asarray(weights @ extremes)


def _random_extremes(uncertainty: UncertaintySet, count: int, rng: np.random.Generator) -> Vector:
    directions = rng.normal(size=(count, uncertainty.dimension))
    return np.array([uncertainty.worst_case(row)[0] for row in directions])


@dataclass(frozen=True, eq=False)
class Box(UncertaintySet):
    """``lower <= xi <= upper``.

    Parameters
    ----------
    lower, upper
        Limits [q].

    Raises
    ------
    ValueError
        When lengths differ, a limit is not finite or the box is empty.
    """

    lower: Vector
    upper: Vector

    def __post_init__(self) -> None:
        """Validate."""
        lower, upper = _vector("lower", self.lower), _vector("upper", self.upper)
        if len(lower) != len(upper):
            raise ValueError(f"{len(lower)} lower for {len(upper)} upper limits.")
        if (lower > upper).any():
            k = int(np.argmax(lower > upper))
            raise ValueError(f"the uncertainty set is empty: lower[{k}] > upper[{k}].")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of a scenario."""
        return len(self.lower)

    def contains(self, xi: Vector, tolerance: float = TOLERANCE) -> bool:
        """Whether every entry is within its limits."""
        xi = np.asarray(xi, dtype=float)
        slack = tolerance * np.maximum(1.0, np.maximum(np.abs(self.lower), np.abs(self.upper)))
        return xi.shape == self.lower.shape and bool(
            ((xi >= self.lower - slack) & (xi <= self.upper + slack)).all()
        )

    def sample(self, count: int, rng: np.random.Generator) -> Vector:
        """Uniform scenarios."""
        return rng.uniform(self.lower, self.upper, (count, self.dimension))

    def vertices(self, most: int = 10_000) -> Vector:
        """The corners."""
        sides = [(a,) if a == b else (a, b) for a, b in zip(self.lower, self.upper, strict=True)]
        if math.prod(len(s) for s in sides) > most:
            raise TooManyError(f"the box has more than {most} vertices.")
        return np.array(list(itertools.product(*sides)))

    def add_to(self, model: Model) -> Indices:
        """One column for each entry."""
        return model.add_columns(self.dimension, self.lower, self.upper)

    def worst_case(self, linear: Vector) -> tuple[Vector, float]:
        """Each entry at the limit that its sign asks for."""
        xi = np.where(np.asarray(linear) > 0, self.lower, self.upper)
        return xi, float(linear @ xi)

    def project(self, points: Vector) -> Vector:
        """The nearest scenarios."""
        return np.clip(points, self.lower, self.upper)

    def binary_form(self, most: int = 2_000) -> BinaryForm | None:
        """One binary for each entry that varies."""
        span = self.upper - self.lower
        free = np.flatnonzero(span)
        matrix = np.zeros((self.dimension, len(free)))
        matrix[free, np.arange(len(free))] = span[free]
        return BinaryForm(np.array(self.lower), matrix, np.zeros((0, len(free))), np.zeros(0))

    def bounds(self) -> tuple[Vector, Vector]:
        """The limits."""
        return np.array(self.lower), np.array(self.upper)


@dataclass(frozen=True, eq=False)
class BudgetSet(UncertaintySet):
    """``0 <= xi <= 1, sum xi <= gamma``; with ``cardinality``, xi binary.

    D. Bertsimas and M. Sim, The price of robustness, Operations Research 52 (2004).

    Parameters
    ----------
    dimension
        Length q of a scenario.
    gamma
        Largest sum.
    cardinality
        Whether entries are 0 or 1.

    Raises
    ------
    ValueError
        When gamma or the dimension is out of range.
    """

    dimension: int
    gamma: float
    cardinality: bool = False

    def __post_init__(self) -> None:
        """Validate."""
        size: Any = self.dimension
        gamma: Any = self.gamma
        if not isinstance(size, Integral) or size < 1:
            raise ValueError(f"dimension = {size!r} not understood; a whole number > 0.")
        if not isinstance(gamma, Real):
            raise ValueError(f"gamma = {gamma!r} is not a number.")
        if self.gamma < 0:
            raise ValueError(f"the uncertainty set is empty: gamma = {self.gamma} < 0.")
        if not self.gamma <= self.dimension:
            raise ValueError(f"gamma = {self.gamma} is not within 0 and {self.dimension}.")

    @property
    def convex(self) -> bool:  # type: ignore[override]
        """Whether entries may be fractional."""
        return not self.cardinality

    @property
    def finite(self) -> bool:  # type: ignore[override]
        """Whether entries are 0 or 1."""
        return self.cardinality

    @property
    def _full(self) -> int:
        return math.floor(self.gamma + 1e-9)

    @property
    def _part(self) -> float:
        part = self.gamma - self._full
        return part if part > 1e-9 and not self.cardinality else 0.0

    def contains(self, xi: Vector, tolerance: float = TOLERANCE) -> bool:
        """Whether the entries and their sum are within the limits, and 0 or 1 if they must."""
        xi = np.asarray(xi, dtype=float)
        if xi.shape != (self.dimension,) or not np.isfinite(xi).all():
            return False
        inside = (xi >= -tolerance).all() and (xi <= 1.0 + tolerance).all()
        inside = inside and xi.sum() <= self.gamma + tolerance * max(1.0, self.gamma)
        if self.cardinality:
            inside = inside and (np.abs(xi - np.rint(xi)) <= tolerance).all()
        return bool(inside)

    def sample(self, count: int, rng: np.random.Generator) -> Vector:
        """Random splits of most of the budget over few or many entries."""
        q = self.dimension
        if self.cardinality:
            order = np.argsort(rng.random((count, q)), axis=1)
            taken = rng.integers(0, self._full + 1, (count, 1))
            return (np.argsort(order, axis=1) < taken).astype(float)
        drawn = rng.exponential(size=(count, q)) ** rng.uniform(0.3, 3.0, (count, 1))
        drawn *= self.gamma * rng.uniform(0.3, 1.0, (count, 1)) / drawn.sum(1, keepdims=True)
        return np.minimum(drawn, 1.0)

    def vertices(self, most: int = 10_000) -> Vector:
        """Up to gamma ones and, for a fractional gamma, one entry with the rest."""
        q, full, part = self.dimension, self._full, self._part
        count = sum(math.comb(q, k) for k in range(min(full, q) + 1))
        if part and full < q:
            count += math.comb(q, full) * (q - full)
        if count > most:
            raise TooManyError(f"the budget set has more than {most} vertices.")
        out = []
        for k in range(min(full, q) + 1):
            for ones in itertools.combinations(range(q), k):
                xi = np.zeros(q)
                xi[list(ones)] = 1.0
                out.append(xi)
                if k == full and part:
                    for j in set(range(q)) - set(ones):
                        more = xi.copy()
                        more[j] = part
                        out.append(more)
        return np.array(out)

    def add_to(self, model: Model) -> Indices:
        """One column for each entry, one row for the budget."""
        xi = model.add_columns(self.dimension, 0.0, 1.0, whole=self.cardinality)
        model.add_rows(np.ones((1, self.dimension)), xi, -np.inf, self.gamma)
        return xi

    def worst_case(self, linear: Vector) -> tuple[Vector, float]:
        """The budget on the entries that lower the value most."""
        linear = np.asarray(linear, dtype=float)
        order = np.argsort(linear, kind="stable")
        xi = np.zeros(self.dimension)
        xi[order[: self._full]] = 1.0
        if self._part and self._full < self.dimension:
            xi[order[self._full]] = self._part
        xi[linear >= 0] = 0.0
        return xi, float(linear @ xi)

    def project(self, points: Vector) -> Vector:
        """The nearest scenarios; with cardinality, the largest entries become 1."""
        points = np.asarray(points, dtype=float)
        if self.cardinality:
            rank = np.argsort(np.argsort(-points, axis=1), axis=1)
            return ((points >= 0.5) & (rank < self._full)).astype(float)
        out = np.clip(points, 0.0, 1.0)
        over = out.sum(1) > self.gamma
        if over.any():
            low, high = np.zeros(int(over.sum())), points[over].max(1)
            for _ in range(60):
                middle = 0.5 * (low + high)
                heavy = np.clip(points[over] - middle[:, None], 0, 1).sum(1) > self.gamma
                low, high = np.where(heavy, middle, low), np.where(heavy, high, middle)
            out[over] = np.clip(points[over] - high[:, None], 0.0, 1.0)
        return out

    def binary_form(self, most: int = 2_000) -> BinaryForm | None:
        """A binary for a whole entry each and, for a fractional gamma, for the rest."""
        q, part = self.dimension, self._part
        eye = np.eye(q)
        if not part:
            return BinaryForm(np.zeros(q), eye, np.ones((1, q)), np.array([float(self._full)]))
        none, ones = np.zeros((1, q)), np.ones((1, q))
        rows = np.block([[ones, none], [none, ones], [eye, eye]])
        return BinaryForm(
            np.zeros(q),
            np.hstack([eye, part * eye]),
            rows,
            np.concatenate([[float(self._full), 1.0], np.ones(q)]),
        )

    def bounds(self) -> tuple[Vector, Vector]:
        """0, and 1 or gamma."""
        top = float(self._full >= 1) if self.cardinality else min(1.0, self.gamma)
        return np.zeros(self.dimension), np.full(self.dimension, top)


@dataclass(frozen=True, eq=False)
class Polyhedron(UncertaintySet):
    """``row_lower <= A xi <= row_upper`` within bounds; it must be bounded.

    Parameters
    ----------
    A
        Rows [r, q].
    row_upper, row_lower
        Limits of the rows [r]; by default none below.
    lower, upper
        Bounds of the entries [q]; by default none.

    Raises
    ------
    ValueError
        When shapes disagree, or the set is empty or unbounded.
    """

    A: Vector
    row_upper: Vector
    row_lower: Vector = None  # type: ignore[assignment]
    lower: Vector = None  # type: ignore[assignment]
    upper: Vector = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Validate."""
        matrix = np.array(self.A, dtype=np.float64)
        if matrix.ndim != 2 or not matrix.shape[1] or not np.isfinite(matrix).all():
            raise ValueError(f"A has shape {matrix.shape}, expected finite rows [r, q].")
        r, q = matrix.shape
        object.__setattr__(self, "A", matrix)
        for name, size, default in (
            ("row_upper", r, math.inf),
            ("row_lower", r, -math.inf),
            ("lower", q, -math.inf),
            ("upper", q, math.inf),
        ):
            value = getattr(self, name)
            array = np.array(np.full(size, default) if value is None else value, dtype=np.float64)
            if array.shape != (size,) or np.isnan(array).any():
                raise ValueError(f"{name} has shape {array.shape}, expected {size} numbers.")
            object.__setattr__(self, name, array)
        # Both ends of every entry: empty or unbounded sets show here.
        low, high = super().bounds()
        object.__setattr__(self, "_box", (low, high))

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of a scenario."""
        return int(self.A.shape[1])

    def bounds(self) -> tuple[Vector, Vector]:
        """The smallest and largest value of each entry."""
        low, high = self.__dict__["_box"]
        return low.copy(), high.copy()

    def contains(self, xi: Vector, tolerance: float = TOLERANCE) -> bool:
        """Whether rows and bounds hold."""
        xi = np.asarray(xi, dtype=float)
        if xi.shape != (self.dimension,) or not np.isfinite(xi).all():
            return False
        values = np.concatenate([self.A @ xi, xi])
        low = np.concatenate([self.row_lower, self.lower])
        high = np.concatenate([self.row_upper, self.upper])

        def slack(limit: Vector) -> Vector:
            return tolerance * np.maximum(1.0, np.abs(np.where(np.isfinite(limit), limit, 0.0)))

        return bool(((values >= low - slack(low)) & (values <= high + slack(high))).all())

    def sample(self, count: int, rng: np.random.Generator) -> Vector:
        """Random mixtures of random extreme scenarios."""
        return _mixed(_random_extremes(self, 4 * self.dimension + 4, rng), count, rng)

    def vertices(self, most: int = 10_000) -> Vector:
        """The points where q independent limits meet inside the set."""
        q = self.dimension
        matrix = np.vstack([self.A, self.A, np.eye(q), np.eye(q)])
        limit = np.concatenate([self.row_lower, self.row_upper, self.lower, self.upper])
        keep = np.isfinite(limit)
        matrix, limit = matrix[keep], limit[keep]
        if math.comb(len(limit), q) > 40 * most:
            raise TooManyError(f"the polyhedron may have more than {most} vertices.")
        # Whether rows are independent does not depend on their scale.
        length = np.linalg.norm(matrix, axis=1)
        matrix, limit = matrix[length > 0.0], limit[length > 0.0]
        length = length[length > 0.0]
        matrix, limit = matrix / length[:, None], limit / length
        found: dict[tuple[float, ...], Vector] = {}
        for chosen in itertools.combinations(range(len(limit)), q):
            square = matrix[list(chosen)]
            if abs(np.linalg.det(square)) < 1e-10:
                continue
            xi = np.linalg.solve(square, limit[list(chosen)])
            if self.contains(xi, 1e-9):
                found.setdefault(tuple(np.round(xi, 9) + 0.0), xi)
        if len(found) > most:
            raise TooManyError(f"the polyhedron has more than {most} vertices.")
        return np.array(list(found.values()))

    def add_to(self, model: Model) -> Indices:
        """One column for each entry, and the rows."""
        xi = model.add_columns(self.dimension, self.lower, self.upper)
        model.add_rows(self.A, xi, self.row_lower, self.row_upper)
        return xi

    def worst_case(self, linear: Vector) -> tuple[Vector, float]:
        """By a linear program."""
        return _rows_worst_case(self, np.asarray(linear, dtype=float))


@dataclass(frozen=True, eq=False)
class Ellipsoid(UncertaintySet):
    """``center + shape u`` for all u of length at most 1.

    A. Ben-Tal and A. Nemirovski, Robust solutions of uncertain linear programs, Operations
    Research Letters 25 (1999).

    Parameters
    ----------
    center
        Its middle [q].
    shape
        An invertible matrix [q, q].

    Raises
    ------
    ValueError
        When shapes disagree or the matrix is singular.
    """

    center: Vector
    shape: Vector
    exact_rows = False

    def __post_init__(self) -> None:
        """Validate."""
        center = _vector("center", self.center)
        shape = np.array(self.shape, dtype=np.float64)
        if shape.shape != (len(center), len(center)) or not np.isfinite(shape).all():
            raise ValueError(f"shape has shape {shape.shape}, expected {2 * (len(center),)}.")
        if np.linalg.cond(shape) > 1e12:
            raise ValueError("the ellipsoid's matrix is singular; leave out what is certain.")
        object.__setattr__(self, "center", center)
        object.__setattr__(self, "shape", shape)

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of a scenario."""
        return len(self.center)

    def _inner(self, points: Vector) -> Vector:
        return np.asarray(np.linalg.solve(self.shape, (points - self.center).T).T)

    def contains(self, xi: Vector, tolerance: float = TOLERANCE) -> bool:
        """Whether its inner vector is no longer than 1."""
        xi = np.asarray(xi, dtype=float)
        if xi.shape != self.center.shape or not np.isfinite(xi).all():
            return False
        return float(np.linalg.norm(self._inner(xi[None])[0])) <= 1.0 + tolerance

    def sample(self, count: int, rng: np.random.Generator) -> Vector:
        """Uniform scenarios."""
        u = rng.normal(size=(count, self.dimension))
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        u *= rng.random((count, 1)) ** (1.0 / self.dimension)
        return self.center + u @ self.shape.T

    def vertices(self, most: int = 10_000) -> Vector:
        """An ellipsoid has none."""
        raise TooManyError("an ellipsoid has infinitely many extreme scenarios.")

    def add_to(self, model: Model) -> Indices:
        """Its bounding box; `separate` gives the tangents that MIP engines lack."""
        radius = np.linalg.norm(self.shape, axis=1)
        return model.add_columns(self.dimension, self.center - radius, self.center + radius)

    def worst_case(self, linear: Vector) -> tuple[Vector, float]:
        """In closed form."""
        direction = self.shape.T @ np.asarray(linear, dtype=float)
        length = float(np.linalg.norm(direction))
        xi = np.array(self.center)
        if length > 0.0:
            xi = xi - self.shape @ (direction / length)
        return xi, float(linear @ xi)

    def separate(self, xi: Vector) -> tuple[Vector, float] | None:
        """The tangent where the line from the centre leaves the set."""
        u = self._inner(np.asarray(xi, dtype=float)[None])[0]
        length = float(np.linalg.norm(u))
        if length <= 1.0 + 1e-7:
            return None
        normal = np.linalg.solve(self.shape.T, u / length)
        return normal, float(normal @ self.center) + 1.0

    def project(self, points: Vector) -> Vector:
        """Scenarios on the line to the centre."""
        u = self._inner(np.asarray(points, dtype=float))
        length = np.maximum(1.0, np.linalg.norm(u, axis=1, keepdims=True))
        return self.center + (u / length) @ self.shape.T

    def bounds(self) -> tuple[Vector, Vector]:
        """Centre and radius of each entry."""
        radius = np.linalg.norm(self.shape, axis=1)
        return self.center - radius, self.center + radius


@dataclass(frozen=True, eq=False)
class FiniteScenarios(UncertaintySet):
    """One of finitely many scenarios.

    Parameters
    ----------
    points
        The scenarios [v, q].

    Raises
    ------
    ValueError
        When there is none, or a number is not finite.
    """

    points: Vector
    convex = False
    finite = True

    def __post_init__(self) -> None:
        """Validate."""
        points = np.array(self.points, dtype=np.float64)
        if points.size == 0:
            raise ValueError("the uncertainty set is empty: there are no scenarios.")
        if points.ndim != 2 or not np.isfinite(points).all():
            raise ValueError(f"points has shape {points.shape}, expected finite rows [v, q].")
        points = points[np.sort(np.unique(points, axis=0, return_index=True)[1])]
        points.setflags(write=False)
        object.__setattr__(self, "points", points)

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of a scenario."""
        return int(self.points.shape[1])

    def contains(self, xi: Vector, tolerance: float = TOLERANCE) -> bool:
        """Whether xi is one of them."""
        xi = np.asarray(xi, dtype=float)
        if xi.shape != (self.dimension,) or not np.isfinite(xi).all():
            return False
        scale = tolerance * np.maximum(1.0, np.abs(self.points))
        return bool((np.abs(self.points - xi) <= scale).all(1).any())

    def sample(self, count: int, rng: np.random.Generator) -> Vector:
        """Random ones, repeated where there are not enough."""
        return np.array(self.points[rng.integers(len(self.points), size=count)])

    def vertices(self, most: int = 10_000) -> Vector:
        """All of them."""
        if len(self.points) > most:
            raise TooManyError(f"there are more than {most} scenarios.")
        return np.array(self.points)

    def add_to(self, model: Model) -> Indices:
        """A binary for each scenario, one of which is 1."""
        count, q = self.points.shape
        low, high = self.bounds()
        xi = model.add_columns(q, low, high)
        choice = model.add_columns(count, 0.0, 1.0, whole=True)
        model.add_rows(np.ones((1, count)), choice, 1.0, 1.0)
        model.add_rows(
            np.hstack([-np.eye(q), self.points.T]), np.concatenate([xi, choice]), 0.0, 0.0
        )
        return xi

    def worst_case(self, linear: Vector) -> tuple[Vector, float]:
        """The one with the smallest value."""
        values = self.points @ np.asarray(linear, dtype=float)
        k = int(np.argmin(values))
        return np.array(self.points[k]), float(values[k])

    def project(self, points: Vector) -> Vector:
        """The nearest scenarios."""
        apart = ((np.asarray(points)[:, None] - self.points[None]) ** 2).sum(-1)
        return np.array(self.points[np.argmin(apart, axis=1)])

    def bounds(self) -> tuple[Vector, Vector]:
        """The smallest and largest value of each entry."""
        return self.points.min(0), self.points.max(0)


@dataclass(frozen=True, eq=False)
class FactorModel(UncertaintySet):
    """``mean + loadings z`` for z in another set.

    Parameters
    ----------
    mean
        Scenario without any factor [q].
    loadings
        What each factor does [q, k].
    factors
        The set of factors, of dimension k; more of them than entries is fine.

    Raises
    ------
    ValueError
        When shapes disagree, or the loadings' columns depend on each other and the factors' set
        is neither convex nor described by rows.
    """

    mean: Vector
    loadings: Vector
    factors: UncertaintySet

    def __post_init__(self) -> None:
        """Validate."""
        mean = _vector("mean", self.mean)
        loadings = np.array(self.loadings, dtype=np.float64)
        expected = (len(mean), self.factors.dimension)
        if loadings.shape != expected or not np.isfinite(loadings).all():
            raise ValueError(f"loadings has shape {loadings.shape}, expected {expected}.")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "loadings", loadings)
        if not (self._independent or self.factors.exact_rows or self.factors.convex):
            raise ValueError("the loadings' columns depend on each other; merge factors.")

    @cached_property
    def _independent(self) -> bool:
        """Whether a scenario tells its factors."""
        return bool(np.linalg.matrix_rank(self.loadings) == self.loadings.shape[1])

    def _fit(self, xi: Vector) -> tuple[Model, Indices, Vector]:
        return _approach(self.factors, self.loadings, xi - self.mean)

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of a scenario."""
        return len(self.mean)

    @property
    def convex(self) -> bool:  # type: ignore[override]
        """As the factors."""
        return self.factors.convex

    @property
    def exact_rows(self) -> bool:  # type: ignore[override]
        """As the factors."""
        return self.factors.exact_rows

    @property
    def finite(self) -> bool:  # type: ignore[override]
        """As the factors."""
        return self.factors.finite

    def _factors(self, xi: Vector) -> Vector:
        if not self._independent:
            return self._fit(xi)[2]
        return np.asarray(np.linalg.lstsq(self.loadings, xi - self.mean, rcond=None)[0])

    def contains(self, xi: Vector, tolerance: float = TOLERANCE) -> bool:
        """Whether some z of the factors' set gives xi."""
        xi = np.asarray(xi, dtype=float)
        if xi.shape != self.mean.shape or not np.isfinite(xi).all():
            return False
        z = self._factors(xi)
        apart = np.abs(self.mean + self.loadings @ z - xi)
        near = bool((apart <= tolerance * np.maximum(1.0, np.abs(xi))).all())
        return near and self.factors.contains(z, tolerance)

    def _map(self, z: Vector) -> Vector:
        return np.asarray(self.mean + z @ self.loadings.T)

    def sample(self, count: int, rng: np.random.Generator) -> Vector:
        """Of sampled factors."""
        return self._map(self.factors.sample(count, rng))

    def vertices(self, most: int = 10_000) -> Vector:
        """Of the factors' vertices; some may lie between others."""
        points = self._map(self.factors.vertices(most))
        return points if self._independent else _different(points)

    def add_to(self, model: Model) -> Indices:
        """The factors' columns, and one for each entry with its row."""
        z = self.factors.add_to(model)
        q = self.dimension
        xi = model.add_columns(q, -np.inf, np.inf)
        matrix = np.hstack([np.eye(q), -self.loadings])
        model.add_rows(matrix, np.concatenate([xi, z]), self.mean, self.mean)
        return xi

    def worst_case(self, linear: Vector) -> tuple[Vector, float]:
        """By the factors' worst case."""
        z, _ = self.factors.worst_case(self.loadings.T @ np.asarray(linear, dtype=float))
        xi = self._map(z)
        return xi, float(linear @ xi)

    def separate(self, xi: Vector) -> tuple[Vector, float] | None:
        """The factors' row; where a scenario does not tell its factors, by its distance."""
        if not self._independent:
            return None if self.exact_rows else self._apart(np.asarray(xi, dtype=float))
        cut = self.factors.separate(self._factors(np.asarray(xi, dtype=float)))
        if cut is None:
            return None
        a = np.linalg.pinv(self.loadings).T @ cut[0]
        return a, cut[1] + float(a @ self.mean)

    def _apart(self, xi: Vector) -> tuple[Vector, float] | None:
        """The row whose multipliers prove the distance of xi from the set."""
        from scipy.optimize import linprog

        if self.contains(xi):
            return None
        model, apart, _ = self._fit(xi)
        mip = model.mip()
        cost = np.zeros(mip.n)
        cost[apart] = 1.0
        low, high = np.isfinite(mip.row_lower), np.isfinite(mip.row_upper)
        rows = mip.A.toarray()
        found = linprog(
            cost, np.vstack([rows[high], -rows[low]]),
            np.concatenate([mip.row_upper[high], -mip.row_lower[low]]),
            bounds=list(zip(mip.lower, mip.upper, strict=True)),
        )  # fmt: skip
        # What a unit of xi adds to the distance.
        price = np.zeros(mip.m)
        price[high] += found.ineqlin.marginals[: high.sum()]
        price[low] -= found.ineqlin.marginals[high.sum() :]
        shifted = np.zeros((mip.m, self.dimension))
        first = self._first_row
        shifted[first : first + 2 * self.dimension] = np.vstack([np.eye(self.dimension)] * 2)
        a = price @ shifted
        return a, -self.worst_case(-a)[1]

    @cached_property
    def _first_row(self) -> int:
        """The first row of `_approach` after those of the factors."""
        model = Model()
        self.factors.add_to(model)
        return model.rows

    def project(self, points: Vector) -> Vector:
        """Of the factors nearest to those that come nearest."""
        z = np.array([self._factors(p) for p in np.asarray(points, dtype=float)])
        return self._map(self.factors.project(z))

    def binary_form(self, most: int = 2_000) -> BinaryForm | None:
        """The factors' form, mapped."""
        form = self.factors.binary_form(most)
        if form is None:
            return None
        return BinaryForm(
            self.mean + self.loadings @ form.base,
            self.loadings @ form.matrix,
            form.rows,
            form.row_upper,
        )


class Composite(UncertaintySet):
    """What sets made of sets share."""

    parts: Sequence[UncertaintySet]

    @property
    def convex(self) -> bool:  # type: ignore[override]
        """Whether all parts are."""
        return all(p.convex for p in self.parts)

    @property
    def exact_rows(self) -> bool:  # type: ignore[override]
        """Whether all parts' are."""
        return all(p.exact_rows for p in self.parts)


@dataclass(frozen=True, eq=False)
class Product(Composite):
    """One scenario of each part, one after the other.

    Parameters
    ----------
    parts
        The sets.

    Raises
    ------
    ValueError
        When there is none.
    """

    parts: Sequence[UncertaintySet]

    def __post_init__(self) -> None:
        """Validate."""
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts:
            raise ValueError("a product needs at least one set.")

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of a scenario."""
        return sum(p.dimension for p in self.parts)

    @property
    def finite(self) -> bool:  # type: ignore[override]
        """Whether all parts are."""
        return all(p.finite for p in self.parts)

    def _split(self, xi: Vector) -> list[Vector]:
        ends = np.cumsum([p.dimension for p in self.parts])[:-1]
        return [np.asarray(v) for v in np.split(np.asarray(xi, dtype=float), ends, axis=-1)]

    def _pairs(self, xi: Vector) -> list[tuple[UncertaintySet, Vector]]:
        return list(zip(self.parts, self._split(xi), strict=True))

    def contains(self, xi: Vector, tolerance: float = TOLERANCE) -> bool:
        """Whether each part contains its piece."""
        if np.shape(xi) != (self.dimension,):
            return False
        return all(p.contains(v, tolerance) for p, v in self._pairs(xi))

    def sample(self, count: int, rng: np.random.Generator) -> Vector:
        """Independent samples of the parts."""
        return np.hstack([p.sample(count, rng) for p in self.parts])

    def vertices(self, most: int = 10_000) -> Vector:
        """All combinations of the parts' vertices."""
        each = [p.vertices(most) for p in self.parts]
        if math.prod(len(v) for v in each) > most:
            raise TooManyError(f"the product has more than {most} vertices.")
        return np.array([np.concatenate(v) for v in itertools.product(*each)])

    def add_to(self, model: Model) -> Indices:
        """The parts' columns and rows."""
        return np.concatenate([p.add_to(model) for p in self.parts])

    def worst_case(self, linear: Vector) -> tuple[Vector, float]:
        """The parts' worst cases."""
        found = [p.worst_case(v) for p, v in self._pairs(linear)]
        return np.concatenate([xi for xi, _ in found]), sum(value for _, value in found)

    def separate(self, xi: Vector) -> tuple[Vector, float] | None:
        """The first part's row that does not hold."""
        start = 0
        for part, piece in self._pairs(xi):
            cut = part.separate(piece)
            if cut is not None:
                a = np.zeros(self.dimension)
                a[start : start + part.dimension] = cut[0]
                return a, cut[1]
            start += part.dimension
        return None

    def project(self, points: Vector) -> Vector:
        """The parts' projections."""
        return np.hstack([p.project(v) for p, v in self._pairs(points)])

    def binary_form(self, most: int = 2_000) -> BinaryForm | None:
        """The parts' forms side by side."""
        forms = [p.binary_form(most) for p in self.parts]
        known = [f for f in forms if f is not None]
        if len(known) < len(forms):
            return None
        return BinaryForm(
            np.concatenate([f.base for f in known]),
            _diagonal([f.matrix for f in known]),
            _diagonal([f.rows for f in known]),
            np.concatenate([f.row_upper for f in known]),
        )

    def bounds(self) -> tuple[Vector, Vector]:
        """The parts' bounds."""
        each = [p.bounds() for p in self.parts]
        return np.concatenate([b[0] for b in each]), np.concatenate([b[1] for b in each])


def _diagonal(blocks: Sequence[Vector]) -> Vector:
    rows, columns = (sum(b.shape[k] for b in blocks) for k in range(2))
    out = np.zeros((rows, columns))
    row = column = 0
    for b in blocks:
        out[row : row + b.shape[0], column : column + b.shape[1]] = b
        row, column = row + b.shape[0], column + b.shape[1]
    return out


@dataclass(frozen=True, eq=False)
class Intersection(Composite):
    """The scenarios that all parts share.

    Parameters
    ----------
    parts
        The sets, of one dimension.

    Raises
    ------
    ValueError
        When dimensions differ, or there is no common scenario.
    """

    parts: Sequence[UncertaintySet]

    def __post_init__(self) -> None:
        """Validate."""
        object.__setattr__(self, "parts", tuple(self.parts))
        if len({p.dimension for p in self.parts}) != 1:
            raise ValueError("an intersection needs sets of one dimension.")
        self.worst_case(np.zeros(self.dimension))

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of a scenario."""
        return self.parts[0].dimension

    @property
    def finite(self) -> bool:  # type: ignore[override]
        """Whether a part is."""
        return any(p.finite for p in self.parts)

    def contains(self, xi: Vector, tolerance: float = TOLERANCE) -> bool:
        """Whether all parts contain it."""
        return all(p.contains(xi, tolerance) for p in self.parts)

    @cached_property
    def _listed(self) -> Vector | None:
        """The scenarios, where a part has finitely many and they can be listed."""
        for part in self.parts:
            if part.finite:
                try:
                    points = part.vertices()
                except TooManyError:
                    continue
                return np.array([xi for xi in points if self.contains(xi)])
        return None

    def sample(self, count: int, rng: np.random.Generator) -> Vector:
        """Scenarios of the parts that are in all, and mixtures of extreme ones."""
        listed = self._listed
        if listed is not None:
            return listed[rng.integers(len(listed), size=count)]
        drawn = [xi for p in self.parts for xi in p.sample(count, rng) if self.contains(xi)]
        extremes = _random_extremes(self, 2 * self.dimension + 4, rng)
        more = _mixed(extremes, count, rng)
        if not self.convex:
            more = extremes[rng.integers(len(extremes), size=count)]
        pool = np.concatenate([np.array(drawn).reshape(-1, self.dimension), more])
        return np.array(pool[rng.choice(len(pool), count, replace=False)])

    def vertices(self, most: int = 10_000) -> Vector:
        """Of the joint rows, or the common ones of listed scenarios."""
        listed = self._listed
        if listed is not None:
            if len(listed) > most:
                raise TooManyError(f"there are more than {most} scenarios.")
            return listed
        model = Model()
        columns = self.add_to(model)
        if not (self.exact_rows and self.convex):
            raise TooManyError("the vertices of this intersection cannot be listed.")
        return _shadow(model, columns, most)

    def add_to(self, model: Model) -> Indices:
        """The parts' columns and rows; rows alone of parts that need no columns of their own."""
        eye = sparse.identity(self.dimension)
        plain = [p for p in self.parts if _plain(p)]
        others = [p for p in self.parts if not _plain(p)]
        first, *rest = [*others, *plain]
        xi = first.add_to(model)
        for part in rest:
            if not _plain(part):
                own = part.add_to(model)
                model.add_rows(sparse.hstack([eye, -eye]), np.concatenate([xi, own]), 0.0, 0.0)
                continue
            alone = Model()
            part.add_to(alone)
            mip = alone.mip()
            model.add_rows(eye, xi, mip.lower, mip.upper)
            if mip.m:
                model.add_rows(mip.A, xi, mip.row_lower, mip.row_upper)
        return xi

    def worst_case(self, linear: Vector) -> tuple[Vector, float]:
        """By a MIP, with tangents where a part has no rows."""
        return _rows_worst_case(self, np.asarray(linear, dtype=float))

    def separate(self, xi: Vector) -> tuple[Vector, float] | None:
        """The first part's row that does not hold."""
        return next((c for c in (p.separate(xi) for p in self.parts) if c is not None), None)


def _different(points: Vector) -> Vector:
    """Points without repetitions, in their order."""
    _, first = np.unique(np.round(points, 9) + 0.0, axis=0, return_index=True)
    return np.asarray(points[np.sort(first)])


def _shadow(model: Model, columns: Indices, most: int) -> Vector:
    """What the vertices of a model without whole columns are in some of them.

    These are the vertices in these columns, and perhaps points between them. Equations are
    solved first: ``v = start + free w``, with rows and bounds of v as rows of w.
    """
    from scipy.linalg import null_space

    mip = model.mip()
    rows = np.vstack([mip.A.toarray(), np.eye(mip.n)])
    low = np.concatenate([mip.row_lower, mip.lower])
    high = np.concatenate([mip.row_upper, mip.upper])
    same = low == high
    start, free = np.zeros(mip.n), np.eye(mip.n)
    if same.any():
        start = np.linalg.lstsq(rows[same], low[same], rcond=None)[0]
        free = null_space(rows[same])
    if not free.shape[1]:
        return start[columns][None]
    moved, shift = rows[~same] @ free, rows[~same] @ start
    used = np.abs(moved).max(1) > 1e-12
    alone = Polyhedron(moved[used], (high[~same] - shift)[used], (low[~same] - shift)[used])
    return _different((start + alone.vertices(most) @ free.T)[:, columns])


def _plain(part: UncertaintySet) -> bool:
    """Whether a set is rows and bounds of its entries."""
    return isinstance(part, (Box, Polyhedron)) or (
        isinstance(part, BudgetSet) and not part.cardinality
    )


def from_dict(values: dict[str, Any]) -> UncertaintySet:
    """A set from plain values: ``{"type": "budget", "dimension": 5, "gamma": 2}``.

    Raises
    ------
    ValueError
        When the type or a key is unknown, or the values make no set.
    """
    if not isinstance(values, dict):
        raise ValueError(f"uncertainty set {values!r} not understood; give a table with its type.")
    values = dict(values)
    kind = values.pop("type", None)
    if not isinstance(kind, str) or kind not in sets:
        known = ", ".join(sets.names())
        raise ValueError(f"uncertainty set {kind!r} not understood; known: {known}.")
    if kind == "factors" and "factors" in values:
        values["factors"] = from_dict(values["factors"])
    if "parts" in values:
        if not isinstance(values["parts"], list):
            raise ValueError("parts are a list of uncertainty sets.")
        values["parts"] = [from_dict(part) for part in values["parts"]]
    made: Any = sets.load(kind)
    fields = [f for f in dataclasses.fields(made) if f.init]
    needed = {f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING}
    if missing := sorted(needed - set(values)):
        raise ValueError(f"uncertainty set {kind}: needs {', '.join(missing)}.")
    if odd := sorted(set(values) - {f.name for f in fields}):
        known = ", ".join(f.name for f in fields)
        raise ValueError(f"uncertainty set {kind}: {odd[0]!r} not understood; known: {known}.")
    try:
        found: UncertaintySet = made(**values)
        return found
    except TypeError as error:
        raise ValueError(f"uncertainty set {kind}: {error}.") from None
