"""Mixed-integer linear programs, and the MIP form of other problems."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances.core import Instance, Sense, as_number, frozen_array

ROW_TOLERANCE = 1e-6
INTEGRALITY_TOLERANCE = 1e-6


def _bounds(name: str, value: Any, n: int, default: float) -> NDArray[np.float64]:
    array = np.array(np.full(n, default) if value is None else value, dtype=np.float64)
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({n},).")
    if np.isnan(array).any():
        raise ValueError(f"{name}[{int(np.argmax(np.isnan(array)))}] is not a number.")
    array.setflags(write=False)
    return array


def _names(what: str, names: Sequence[str] | None, n: int, letter: str) -> tuple[str, ...]:
    out = tuple(f"{letter}{k}" for k in range(n)) if names is None else tuple(map(str, names))
    if len(out) != n:
        raise ValueError(f"{len(out)} {what} names for {n} {what}s.")
    if len(set(out)) != n:
        seen: set[str] = set()
        twice = next(name for name in out if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{what} name {twice!r} is used twice.")
    return out


@dataclass(frozen=True, eq=False, kw_only=True)
class MIP(Instance[dict[str, float]]):
    """Optimize ``c x + offset`` over ``row_lower <= A x <= row_upper`` and bounds.

    A solution maps column names to values; columns at zero may be left out.

    Parameters
    ----------
    c
        Objective coefficients [n].
    A
        Rows [m, n], any scipy.sparse or dense matrix.
    row_lower, row_upper
        Limits of the rows [m]; infinite where there is none (default).
    lower, upper
        Bounds of the columns [n]; default 0 and infinity.
    integrality
        True for columns that must be whole [n]; default none.
    offset
        Constant of the objective.
    sense
        Direction.
    columns, rows
        Names; default ``x0..`` and ``r0..``.

    Raises
    ------
    ValueError
        When shapes disagree, numbers are NaN, costs infinite, or names repeat.
    """

    problem: ClassVar[str] = "mip"
    solution_form: ClassVar[str] = "columns"
    sense: Sense = Sense.MINIMIZE

    c: NDArray[Any]
    A: Any
    row_lower: NDArray[Any] = None  # type: ignore[assignment]
    row_upper: NDArray[Any] = None  # type: ignore[assignment]
    lower: NDArray[Any] = None  # type: ignore[assignment]
    upper: NDArray[Any] = None  # type: ignore[assignment]
    integrality: NDArray[Any] = None  # type: ignore[assignment]
    offset: float = 0.0
    columns: Sequence[str] = None  # type: ignore[assignment]
    rows: Sequence[str] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Validate, complete and freeze the arrays."""
        c = frozen_array("c", self.c, ndim=1, dtype=np.float64)
        n = len(c)
        if np.ndim(self.A) != 2:
            raise ValueError(f"A has {np.ndim(self.A)} dimensions, expected 2.")
        matrix = sparse.csr_array(self.A, dtype=np.float64, copy=True)
        if matrix.shape[1] != n:
            raise ValueError(f"A has {matrix.shape[1]} columns, c has {n}.")
        if not (matrix.has_canonical_format and matrix.data.all()):
            matrix = matrix.copy()
            matrix.sum_duplicates()
            matrix.eliminate_zeros()
        if not np.isfinite(matrix.data).all():
            raise ValueError("A holds numbers that are not finite.")
        for part in (matrix.data, matrix.indices, matrix.indptr):
            part.setflags(write=False)
        m = matrix.shape[0]
        values = {
            "c": c,
            "A": matrix,
            "row_lower": _bounds("row_lower", self.row_lower, m, -math.inf),
            "row_upper": _bounds("row_upper", self.row_upper, m, math.inf),
            "lower": _bounds("lower", self.lower, n, 0.0),
            "upper": _bounds("upper", self.upper, n, math.inf),
            "columns": _names("column", self.columns, n, "x"),
            "rows": _names("row", self.rows, m, "r"),
            "sense": Sense(self.sense),
        }
        whole = np.array(np.zeros(n) if self.integrality is None else self.integrality)
        if whole.shape != (n,):
            raise ValueError(f"integrality has shape {whole.shape}, expected ({n},).")
        # Elsewhere 2 and 3 stand for semi-continuous columns, and letters for all kinds.
        other = (whole != 0) & (whole != 1)
        if n and np.any(other):
            value = whole[int(np.argmax(other))].item()
            raise ValueError(f"integrality {value!r} not understood; give 0 or 1 for each column.")
        integrality = whole.astype(bool)
        integrality.setflags(write=False)
        values["integrality"] = integrality
        if not (isinstance(self.offset, (int, float, np.number)) and math.isfinite(self.offset)):
            raise ValueError(f"offset = {self.offset!r} is not a finite number.")
        for key, value in values.items():
            object.__setattr__(self, key, value)

    @property
    def n(self) -> int:
        """Number of columns."""
        return len(self.c)

    @property
    def m(self) -> int:
        """Number of rows."""
        return int(self.A.shape[0])

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Column name -> position."""
        return {name: k for k, name in enumerate(self.columns)}

    @cached_property
    def integral(self) -> bool:
        """Whether every feasible objective is a whole number."""
        used = self.c != 0
        whole = bool(self.integrality[used].all()) and bool((self.c == np.rint(self.c)).all())
        return whole and float(self.offset).is_integer()

    def data(self) -> dict[str, Any]:
        """The defining arrays, the rows in compressed form."""
        return {
            "c": self.c,
            "A_data": self.A.data,
            "A_indices": self.A.indices.astype(np.int64),
            "A_indptr": self.A.indptr.astype(np.int64),
            "row_lower": self.row_lower,
            "row_upper": self.row_upper,
            "lower": self.lower,
            "upper": self.upper,
            "integrality": self.integrality,
            "offset": self.offset,
            "sense": self.sense.value,
            "columns": self.columns,
            "rows": self.rows,
        }

    def vector(self, solution: Mapping[str, float]) -> NDArray[np.float64]:
        """Column values [n] of a solution.

        Raises
        ------
        KeyError
            When a name is not a column.
        """
        x = np.zeros(self.n)
        for name, value in solution.items():
            x[self.index[name]] = value
        return x

    def solution(self, x: NDArray[np.float64]) -> dict[str, float]:
        """Column values [n] as a solution, without zeros."""
        return {self.columns[k]: float(x[k]) for k in np.flatnonzero(x).tolist()}

    def value(self, x: NDArray[np.float64]) -> float:
        """Objective of column values [n]."""
        return float(self.c @ x) + self.offset

    def objective(self, solution: dict[str, float]) -> float:
        """Objective, the constant included; exact where it must be whole."""
        value = math.fsum([*(self.c * self.vector(solution)), self.offset])
        return as_number(value, True) if self.integral else value

    def violations(self, solution: dict[str, float]) -> list[str]:
        """Unknown columns; bounds, integrality and rows violated beyond 1e-6."""
        given: Any = solution  # what a caller hands over may be anything
        if not isinstance(given, Mapping):
            return ["a solution maps names of columns to numbers"]
        unknown = [name for name in solution if name not in self.index]
        if unknown:
            return [f"column {name!r} does not exist" for name in unknown[:3]]
        try:
            x = self.vector(solution)
        except (TypeError, ValueError):
            return ["a solution maps names of columns to numbers"]
        if not np.isfinite(x).all():
            return [f"column {self.columns[int(np.argmin(np.isfinite(x)))]!r} is not finite"]
        return self.vector_violations(x)

    def vector_violations(self, x: NDArray[np.float64]) -> list[str]:
        """As `violations`, for column values [n]."""
        problems = []
        for what, bound, excess in (
            ("lower bound", self.lower, self.lower - x),
            ("upper bound", self.upper, x - self.upper),
        ):
            slack = ROW_TOLERANCE * np.maximum(1.0, np.abs(np.where(np.isinf(bound), 0, bound)))
            for k in np.flatnonzero(excess > slack)[:3]:
                problems.append(f"column {self.columns[k]}: {x[k]} beyond {what} {bound[k]}")
        fraction = np.abs(x - np.rint(x)) * self.integrality
        for k in np.flatnonzero(fraction > INTEGRALITY_TOLERANCE)[:3]:
            problems.append(f"column {self.columns[k]}: {x[k]} is not whole")
        # What is returned in the end has them rounded.
        activity = self.A @ np.where(self.integrality, np.rint(x), x)
        for what, bound, excess in (
            (">=", self.row_lower, self.row_lower - activity),
            ("<=", self.row_upper, activity - self.row_upper),
        ):
            slack = ROW_TOLERANCE * np.maximum(1.0, np.abs(np.where(np.isinf(bound), 0, bound)))
            # Where terms overflow, the activity is no number.
            beyond = (excess > slack) | (np.isnan(activity) & np.isfinite(bound))
            for k in np.flatnonzero(beyond)[:3]:
                problems.append(f"row {self.rows[k]}: {activity[k]} must be {what} {bound[k]}")
        return problems

    def canonical(self, solution: dict[str, float]) -> dict[str, float]:
        """Columns in model order, without zeros; whole where they must be."""
        x = self.vector(solution)
        x = np.where(self.integrality, np.rint(x), x)
        return self.solution(x)

    @classmethod
    def generate(
        cls, n: int, *, seed: int, distribution: str = "set-cover", **options: Any
    ) -> Self:
        """A random model of a family; distributions as `nco.instances.families`."""
        from nco.instances import generate
        from nco.instances.families import FAMILIES

        rng = generate.random(seed, cls.problem, n, distribution)
        return cls(
            **generate._draw(FAMILIES, distribution, n, rng, options),
            name=f"{cls.problem}-{distribution}-n{n}-s{seed}",
        )

    def to_mip(self, start: dict[str, float] | None = None) -> MipView:
        """The model itself."""
        return MipView(mip=self, encode=self.vector, decode=self.solution)


@dataclass(frozen=True, kw_only=True)
class MipView:
    """An instance as a MIP, and the way back.

    Parameters
    ----------
    mip
        The model.
    encode
        Solution of the instance -> column values [n].
    decode
        Column values [n] -> solution of the instance.
    groups
        Customer, item or edge -> its columns; what a structure neighbourhood frees.
    exact
        Whether the model has the instance's optimum. If not, its bound proves nothing.
    separate
        ``separate(x) -> (A, row_lower, row_upper)``: valid rows that cut off column
        values x, or None; for root rounds on any backend.
    """

    mip: MIP
    encode: Callable[[Any], NDArray[np.float64]]
    decode: Callable[[NDArray[np.float64]], Any]
    groups: Sequence[NDArray[np.intp]] = ()
    exact: bool = True
    separate: Callable[[NDArray[np.float64]], Any] | None = field(default=None)
