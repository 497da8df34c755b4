"""The shared interface: instances, distances, budgets, events and results.

Every problem, file format and solver is written against the few concepts of this
module. It imports numpy only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import logging
import math
import os
import re
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, overload, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

logger = logging.getLogger("nco")

S = TypeVar("S")

#: Above this many nodes no n^2 array is ever made.
MAX_MATRIX_NODES = 10_000
#: Relative tolerance of objectives that are sums of floats.
FLOAT_TOLERANCE = 1e-9


class Sense(StrEnum):
    """Direction of optimization."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    @property
    def worst(self) -> float:
        """The value that anything is better than."""
        return math.inf if self is Sense.MINIMIZE else -math.inf


def better(a: float, b: float, sense: Sense = Sense.MINIMIZE) -> bool:
    """Whether objective ``a`` is strictly better than ``b``."""
    return a < b if sense is Sense.MINIMIZE else a > b


class Status(StrEnum):
    """What is known about the instance and the returned solution."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    UNKNOWN = "unknown"


class Stop(StrEnum):
    """Why a solver ended."""

    PROVED = "proved"
    GAP = "gap"
    TARGET = "target"
    TIME = "time"
    ITERATIONS = "iterations"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    ERROR = "error"


class InputError(ValueError):
    """A file or an argument that cannot be understood; its text is one line.

    Parameters
    ----------
    path
        The file, or None for an argument.
    line
        Line number, counted from 1, or None where it makes no sense.
    what
        What is wrong.
    hint
        How to mend it.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, line: int | None, what: str, hint: str = ""
    ):
        self.path = None if path is None else str(path)
        self.line = line
        self.what = " ".join(str(what).split())
        self.hint = " ".join(hint.split())
        where = ":".join(str(part) for part in (self.path, line) if part is not None)
        text = f"{where}: {self.what}" if where else self.what
        super().__init__(f"{text} ({self.hint})" if self.hint else text)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.path, self.line, self.what, self.hint))


class UnsupportedError(ValueError):
    """A solver or a format that cannot take this instance; the text says why."""


class MissingExtraError(ImportError):
    """An optional package is not installed; the text names the extra to install."""


class CheckError(RuntimeError):
    """A solver returned something that the instance's own check refutes."""


@dataclass(frozen=True)
class Event:
    """An improvement of the incumbent or of the bound while solving.

    Parameters
    ----------
    seconds
        Seconds since the budget's clock started.
    objective
        Best objective so far, or None before the first solution.
    bound
        Best dual bound so far, or None if unknown.
    by
        What found it: a solver, an operator, a worker.
    """

    seconds: float
    objective: float | None
    bound: float | None = None
    by: str = ""


Listener = Callable[[Event], None]


class Budget:
    """What a solve may spend. Its monotonic clock starts when it is made.

    A budget is passed down into every sub-solve, so that there is one deadline and one
    way to stop: time-out and Ctrl-C are the same path.

    Parameters
    ----------
    time_limit
        Wall-clock seconds, or None for no limit.
    iterations
        Limit on the solver's own iterations (results repeat exactly from a seed only
        under such a limit), or None.
    target
        Stop as soon as the objective is at least this good, or None.
    gap
        Stop as soon as the certified gap is at most this (0.01 is 1 %), or None.

    Raises
    ------
    ValueError
        When a limit is negative or not a number, or iterations are not whole.
    """

    def __init__(
        self,
        time_limit: float | None = None,
        iterations: int | None = None,
        target: float | None = None,
        gap: float | None = None,
    ):
        for name, value in (("time_limit", time_limit), ("gap", gap)):
            if value is not None and not (
                isinstance(value, (int, float, np.number)) and value >= 0
            ):
                raise ValueError(f"{name} = {value} not understood; give a number >= 0.")
        if iterations is not None and not (is_whole(iterations) and iterations >= 0):
            raise ValueError(f"iterations = {iterations} not understood; give a whole number >= 0.")
        if target is not None and (
            not isinstance(target, (int, float, np.number)) or math.isnan(target)
        ):
            raise ValueError(f"target = {target} not understood; give a number.")
        self.time_limit = None if time_limit is None or math.isinf(time_limit) else time_limit
        self.iterations = iterations
        self.target = target
        self.gap = gap
        self._start = time.monotonic()
        self._interrupted = threading.Event()

    def elapsed(self) -> float:
        """Seconds since the clock started."""
        return time.monotonic() - self._start

    def left(self) -> float:
        """Seconds left, at least 0; ``inf`` without a time limit."""
        if self.time_limit is None:
            return math.inf
        return max(0.0, self.time_limit - self.elapsed())

    def share(self, fraction: float, *, iterations: int | None = None) -> Budget:
        """A budget for a sub-solve with ``fraction`` of what is left.

        It has its own clock and the same interruption flag, target and gap.
        """
        sub = Budget(self.left() * fraction, iterations, self.target, self.gap)
        sub._interrupted = self._interrupted
        return sub

    def reserve(self, seconds: float) -> Budget:
        """The same budget, on the same clock and flag, that ends ``seconds`` earlier."""
        sub = Budget(None, self.iterations, self.target, self.gap)
        if self.time_limit is not None:
            sub.time_limit = max(0.0, self.time_limit - seconds)
        sub._start, sub._interrupted = self._start, self._interrupted
        return sub

    def child(
        self,
        time_limit: float | None = None,
        iterations: int | None = None,
        target: float | None = None,
        gap: float | None = None,
    ) -> Budget:
        """A budget with limits and a clock of its own that is interrupted with this one."""
        sub = Budget(time_limit, iterations, target, gap)
        sub._interrupted = self._interrupted
        return sub

    def interrupt(self) -> None:
        """Ask everything that runs under this budget to stop."""
        self._interrupted.set()

    def interrupted(self) -> bool:
        """Whether `interrupt` was called."""
        return self._interrupted.is_set()

    def spent(self) -> bool:
        """Whether it is interrupted or its time is up."""
        return self.interrupted() or self.left() <= 0.0

    def wait(self, seconds: float) -> bool:
        """Sleep at most ``seconds``; True as soon as the budget is interrupted."""
        return self._interrupted.wait(min(seconds, self.left()))

    def done(
        self,
        iteration: int = 0,
        objective: float | None = None,
        bound: float | None = None,
        sense: Sense = Sense.MINIMIZE,
    ) -> Stop | None:
        """The reason to stop now, or None to go on.

        Parameters
        ----------
        iteration
            Iterations completed.
        objective, bound
            Best objective and dual bound so far.
        sense
            Direction of the objective.
        """
        if self.interrupted():
            return Stop.INTERRUPTED
        if objective is not None:
            if self.target is not None and not better(self.target, objective, sense):
                return Stop.TARGET
            if self.gap is not None and bound is not None:
                gap = relative_gap(objective, bound)
                if gap is not None and gap <= self.gap:
                    return Stop.GAP
        if self.left() <= 0.0:
            return Stop.TIME
        if self.iterations is not None and iteration >= self.iterations:
            return Stop.ITERATIONS
        return None

    @contextmanager
    def catch_interrupt(self) -> Iterator[Budget]:
        """Turn the first SIGINT into `interrupt`; a second one raises as usual.

        Does nothing outside the main thread, where Python delivers no signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        previous = signal.getsignal(signal.SIGINT)

        def handler(signum: int, frame: Any) -> None:
            if self.interrupted():
                raise KeyboardInterrupt
            self.interrupt()

        signal.signal(signal.SIGINT, handler)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, previous)


def relative_gap(objective: float, bound: float) -> float | None:
    """SCIP's gap, ``|objective - bound| / min(|objective|, |bound|)``.

    None where it is infinite: different signs, or exactly one of them zero.
    """
    if meets(objective, bound):
        return 0.0
    smallest = min(abs(objective), abs(bound))
    if smallest == 0.0 or objective * bound < 0 or not math.isfinite(objective - bound):
        return None
    return abs(objective - bound) / smallest


def reference_gap(objective: float, reference: float, sense: Sense) -> float | None:
    """Signed per cent by which ``objective`` is worse than a reference; None if undefined."""
    if not math.isfinite(reference) or reference == 0.0:
        return None
    difference = objective - reference if sense is Sense.MINIMIZE else reference - objective
    return 100.0 * difference / abs(reference)


def primal_gap(objective: float | None, reference: float) -> float:
    """Berthold's primal gap in [0, 1]; 1 without a solution or with different signs."""
    if objective is None:
        return 1.0
    if objective == reference:
        return 0.0
    if objective * reference < 0:
        return 1.0
    return min(1.0, abs(objective - reference) / max(abs(objective), abs(reference)))


# ------------------------------------------------------------------------- distances


def _nint(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.floor(x + 0.5)


def _squares(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    # Ten times faster than a sum over a last axis of 2 or 3, with the same bits.
    total = a[..., 0] - b[..., 0]
    total *= total
    for k in range(1, a.shape[-1]):
        d = a[..., k] - b[..., k]
        d *= d
        total += d
    return total


def _euclidean(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(_squares(a, b))


def _att(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ceil(np.sqrt(_squares(a, b) / 10.0))


def _radians(coords: NDArray[np.float64]) -> NDArray[np.float64]:
    # TSPLIB's DDD.MM format. Degrees are truncated, as in every solver that reproduces
    # the published optima (TSPLIB's text rounds them), and its pi has six decimals.
    degrees = np.trunc(coords)
    return 3.141592 * (degrees + 5.0 * (coords - degrees) / 3.0) / 180.0


def _geo(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b = _radians(a), _radians(b)
    q1 = np.cos(a[..., 1] - b[..., 1])
    q2 = np.cos(a[..., 0] - b[..., 0])
    q3 = np.cos(a[..., 0] + b[..., 0])
    cosine = np.clip(0.5 * ((1.0 + q1) * q2 - (1.0 - q1) * q3), -1.0, 1.0)
    # Two nodes at one place are 1 apart, as in TSPLIB; `Distances` mends the diagonal.
    return np.trunc(6378.388 * np.arccos(cosine) + 1.0)


def _xray(sx: float, sy: float, sz: float) -> Callable[..., NDArray[np.float64]]:
    # Movement time of an X-ray diffractometer: all axes move at once, the first one
    # (phi) may turn either way.
    def metric(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        d = np.abs(a - b)
        phi = np.minimum(d[..., 0], np.abs(d[..., 0] - 360.0))
        return _nint(100.0 * np.maximum(np.maximum(phi / sx, d[..., 1] / sy), d[..., 2] / sz))

    return metric


#: Metric name -> (function of two coordinate arrays [..., d], dimension d, integral).
#: Rounding rules: G. Reinelt, TSPLIB 95, section 2.
METRICS: Mapping[str, tuple[Callable[..., NDArray[np.float64]], int, bool]] = {
    "exact": (_euclidean, 2, False),
    "EUC_2D": (lambda a, b: _nint(_euclidean(a, b)), 2, True),
    "EUC_3D": (lambda a, b: _nint(_euclidean(a, b)), 3, True),
    "MAX_2D": (lambda a, b: _nint(np.abs(a - b)).max(-1), 2, True),
    "MAX_3D": (lambda a, b: _nint(np.abs(a - b)).max(-1), 3, True),
    "MAN_2D": (lambda a, b: _nint(np.abs(a - b).sum(-1)), 2, True),
    "MAN_3D": (lambda a, b: _nint(np.abs(a - b).sum(-1)), 3, True),
    "CEIL_2D": (lambda a, b: np.ceil(_euclidean(a, b)), 2, True),
    "GEO": (_geo, 2, True),
    "ATT": (_att, 2, True),
    "XRAY1": (_xray(1.0, 1.0, 1.0), 3, True),
    "XRAY2": (_xray(1.25, 1.5, 1.15), 3, True),
}


class Distances:
    """Travel costs between nodes: coordinates with a metric, or a matrix.

    Rows and pairs are computed on demand; a full matrix exists only up to
    `MAX_MATRIX_NODES` nodes.

    Parameters
    ----------
    coords
        Coordinates [n, 2] or [n, 3], or None.
    matrix
        Cost matrix [n, n], possibly asymmetric, or None.
    metric
        A key of `METRICS`; ignored with a matrix.
    symmetric, integral
        What is known of a matrix; by default found out.

    Raises
    ------
    ValueError
        When neither or both of ``coords`` and ``matrix`` are given, or the metric is
        unknown.
    """

    def __init__(
        self,
        coords: NDArray[Any] | None = None,
        matrix: NDArray[Any] | None = None,
        metric: str = "exact",
        *,
        symmetric: bool | None = None,
        integral: bool | None = None,
    ):
        if (coords is None) == (matrix is None):
            raise ValueError("give coords or a matrix, not both.")
        if metric not in METRICS:
            raise ValueError(f"metric {metric!r} not understood; known: {', '.join(METRICS)}.")
        self.metric = metric
        self._function, _, whole = METRICS[metric]
        self._matrix = matrix
        if matrix is not None:
            self.coords: NDArray[np.float64] | None = None
            self.n = int(matrix.shape[0])
            if integral is None:
                integral = (
                    np.issubdtype(matrix.dtype, np.integer) or (matrix == np.rint(matrix)).all()
                )
            self._integral = bool(integral)
            self.symmetric = bool((matrix == matrix.T).all() if symmetric is None else symmetric)
        else:
            assert coords is not None
            self.coords = np.ascontiguousarray(coords, dtype=np.float64)
            self.n = int(self.coords.shape[0])
            self._integral = whole
            self.symmetric = True
        self._full: NDArray[np.float64] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Metrics without a name cannot be pickled, and the full matrix is made from the rest.
        return self.__dict__ | {"_function": None, "_full": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._function = METRICS[self.metric][0]

    @property
    def integral(self) -> bool:
        """Whether all costs are whole."""
        return self._integral

    @property
    def explicit(self) -> bool:
        """Whether the costs come from a given matrix."""
        return self._matrix is not None

    def pairs(self, i: ArrayLike, j: ArrayLike) -> NDArray[np.float64]:
        """Costs from nodes ``i`` to nodes ``j``, broadcast against each other."""
        i, j = np.asarray(i, dtype=np.intp), np.asarray(j, dtype=np.intp)
        if self._matrix is not None:
            return np.asarray(self._matrix[i, j], dtype=np.float64)
        assert self.coords is not None
        costs = self._function(self.coords[i], self.coords[j])
        return np.where(i == j, 0.0, costs) if self.metric == "GEO" else costs

    def row(self, i: int) -> NDArray[np.float64]:
        """Costs [n] from node ``i`` to every node."""
        if self._matrix is not None:
            return np.asarray(self._matrix[i], dtype=np.float64)
        assert self.coords is not None
        costs = self._function(self.coords[i], self.coords)
        costs[i] = 0.0
        return costs

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The full cost matrix [n, n], read-only, as by `full_matrix`."""
        return self.full_matrix()

    def full_matrix(self, stop: Callable[[], bool] = lambda: False) -> NDArray[np.float64]:
        """The full cost matrix [n, n], read-only; it is made once.

        Parameters
        ----------
        stop
            Asked again and again, as that takes seconds for thousands of nodes.

        Raises
        ------
        ValueError
            Above `MAX_MATRIX_NODES` nodes.
        TimeoutError
            When ``stop`` says so before the matrix is made.
        """
        if self._full is None:
            self._full = self._make(stop)
            self._full.setflags(write=False)
        return self._full

    def _make(self, stop: Callable[[], bool]) -> NDArray[np.float64]:
        if self._matrix is not None:
            whole = self._matrix.dtype == np.float64 and not self._matrix.flags.writeable
            return self._matrix if whole else np.array(self._matrix, dtype=np.float64)
        if self.n > MAX_MATRIX_NODES:
            raise ValueError(
                f"n = {self.n} > {MAX_MATRIX_NODES}: too many nodes for a distance matrix."
            )
        assert self.coords is not None
        full = np.empty((self.n, self.n))
        for begin in range(0, self.n, 32):
            if stop():
                raise TimeoutError("out of time.")
            block = self.coords[begin : begin + 32, None]
            full[begin : begin + 32] = self._function(block, self.coords[None])
        np.fill_diagonal(full, 0.0)
        return full

    def path_length(self, nodes: Sequence[int] | NDArray[Any]) -> float:
        """Length of the open path through ``nodes``; exact for integral costs."""
        nodes = np.asarray(nodes, dtype=np.intp)
        return as_number(math.fsum(self.pairs(nodes[:-1], nodes[1:])), self.integral)

    def tour_length(self, nodes: Sequence[int] | NDArray[Any]) -> float:
        """Length of the closed tour through ``nodes``; exact for integral costs."""
        nodes = np.asarray(nodes, dtype=np.intp)
        return as_number(math.fsum(self.pairs(nodes, np.roll(nodes, -1))), self.integral)


def as_indices(values: Any) -> NDArray[np.int64] | None:
    """A flat sequence of whole numbers as an array [m]; None if it is anything else."""
    try:
        array = np.asarray(values)
    except ValueError:
        return None  # rows of different lengths
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        return None
    return array.astype(np.int64)


def as_number(value: float, integral: bool) -> float:
    """``value`` as an int where the data are integral, else as a float."""
    return round(value) if integral else float(value)


# ------------------------------------------------------------------------- instances


def frozen_array(
    name: str, value: ArrayLike, *, ndim: int, dtype: Any = None, finite: bool = True
) -> NDArray[Any]:
    """A read-only numeric array for an instance field.

    Parameters
    ----------
    name
        Field name for the error texts.
    value
        Anything numpy can convert.
    ndim
        Required number of dimensions.
    dtype
        Target type; None gives int64 if all numbers are whole, else float64, so that a
        file format cannot change an instance's identity.
    finite
        Whether NaN and infinities are refused.

    Raises
    ------
    ValueError
        When the value is not a numeric array of that shape, or not finite.
    """
    try:
        array = np.array(value, dtype=dtype)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is not a numeric array.") from None
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{name} is not a numeric array.")
    if array.ndim != ndim:
        raise ValueError(f"{name} has {array.ndim} dimensions, expected {ndim}.")
    if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
        raise ValueError(f"{name} exceeds 2^63; scale it down.")
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}{list(where)} = {array[where]} is not a finite number.")
    if dtype is None:
        whole = array.dtype.kind in "iub" or (
            bool((array == np.rint(array)).all())
            and (not array.size or float(np.abs(array).max()) < 2**53)
        )
        array = array.astype(np.int64 if whole else np.float64, copy=False)
    array.setflags(write=False)
    return array


#: Fields that describe an instance but do not change what it asks for.
METADATA = ("name", "ref_cost", "ref_solution", "ref_method")


@dataclass(frozen=True, eq=False, kw_only=True)
class Instance(Generic[S]):
    """What is to be solved: read-only arrays, an objective and a check.

    Subclasses are frozen dataclasses whose fields are, at once, the constructor's
    arguments and the keys of ``.npz`` and JSON files. ``S`` is the plain solution type.

    Parameters
    ----------
    name
        A label for tables and files.
    ref_cost, ref_solution, ref_method
        A stored reference: its objective, solution and origin.
    """

    problem: ClassVar[str]
    #: Form of a solution: "nodes" or "items" (list of int), "routes" (list of lists of
    #: int) or "columns" (name -> value).
    solution_form: ClassVar[str] = "nodes"
    sense: Sense = field(default=Sense.MINIMIZE, init=False, repr=False)

    name: str = ""
    ref_cost: float | None = None
    ref_solution: S | None = field(default=None, repr=False)
    ref_method: str = ""

    @property
    def n(self) -> int:
        """Number of customers, items or cities; a depot is never counted."""
        raise AttributeError(f"{type(self).__name__} does not define n")

    def objective(self, solution: S) -> float:
        """Objective of a feasible solution, in the file's units."""
        raise TypeError(f"{type(self).__name__} does not define objective")

    def violations(self, solution: S) -> list[str]:
        """What is wrong with a solution, in words; empty if it is feasible."""
        raise TypeError(f"{type(self).__name__} does not define violations")

    def admits(self, solution: S) -> bool:
        """Whether a solution that a search proposes keeps what searches only penalise.

        Overridden where there is such a thing; `Tracker.offer` asks before it keeps one.
        """
        return True

    def unbeatable(self) -> float | None:
        """An objective that no solution can beat, where one is known at once, or None.

        A search that has reached it is done: `Tracker.offer` compares with it.
        """
        return None

    def canonical(self, solution: S) -> S:
        """The one representative of all equivalent solutions."""
        raise TypeError(f"{type(self).__name__} does not define canonical")

    def evaluation(self, solution: S) -> str:
        """How `objective` is computed: "exact", "sampled:<set>" or "interval"."""
        return "exact"

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "uniform", **options: Any) -> Self:
        """A random instance.

        Parameters
        ----------
        n
            Size.
        seed
            The same seed gives the same instance.
        distribution
            Name of a distribution of this problem.
        options
            Further parameters of the distribution.
        """
        raise TypeError(f"{cls.__name__} does not define generate")

    def data(self) -> dict[str, Any]:
        """The defining fields, by name, without None and metadata."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.init and f.name not in METADATA and getattr(self, f.name) is not None
        }

    @classmethod
    def schema(cls) -> dict[str, int]:
        """The defining fields: name -> number of dimensions, 0 for a number or a word.

        An array field is a vector unless it says ``field(metadata={"ndim": 2})``.
        Fields that are neither arrays, numbers nor words are left out.
        """
        out = {}
        for f in dataclasses.fields(cls):
            kind = (f.type.__name__ if isinstance(f.type, type) else str(f.type)).lower()
            if not f.init or f.name in METADATA or f.name == "sense":
                continue
            if "ndarray" in kind:
                out[f.name] = int(f.metadata.get("ndim", 1))
            elif re.fullmatch(r"(float|int|str)( \| none)?", kind):
                out[f.name] = 0
        return out

    @classmethod
    def required(cls) -> frozenset[str]:
        """The fields without a default."""
        return frozenset(
            f.name
            for f in dataclasses.fields(cls)
            if f.init and f.default is f.default_factory is dataclasses.MISSING
        )

    @classmethod
    def claims(cls, fields: Mapping[str, Any]) -> bool:
        """Whether a file with these fields, and no word about its problem, may be one of these.

        Overridden where the names of the fields do not tell two problems apart.
        """
        return cls.required() <= fields.keys() <= cls.schema().keys()

    def replace(self, **changes: Any) -> Self:
        """A changed copy."""
        return dataclasses.replace(self, **changes)

    @cached_property
    def digest(self) -> str:
        """sha256 of the defining fields; the identity under which results are kept."""
        sha = hashlib.sha256(self.problem.encode())
        for key, value in sorted(self.data().items()):
            sha.update(key.encode())
            if isinstance(value, np.ndarray):
                sha.update(f"{value.dtype.str}{value.shape}".encode())
                sha.update(np.ascontiguousarray(value).tobytes())
            else:
                sha.update(repr(value).encode())
        return sha.hexdigest()

    @classmethod
    def batch_objective(cls, instances: Sequence[Self], solutions: Sequence[S]) -> list[float]:
        """Objectives of one solution per instance; overridden where it vectorises."""
        return [i.objective(s) for i, s in zip(instances, solutions, strict=True)]


@dataclass(frozen=True, eq=False, kw_only=True)
class SpatialInstance(Instance[S]):
    """An instance with travel costs between nodes.

    Parameters
    ----------
    coords
        Coordinates [nodes, 2] (or [nodes, 3] for a 3-d metric), row 0 the depot if there
        is one; may stay, for plots, beside a matrix.
    matrix
        Cost matrix [nodes, nodes], possibly asymmetric; takes precedence over coords. Its
        diagonal becomes 0.
    metric
        A key of `METRICS`.

    Raises
    ------
    ValueError
        When both are missing, shapes disagree, numbers are not finite, or the metric is
        unknown.
    """

    coords: NDArray[Any] | None = field(default=None, metadata={"ndim": 2})
    matrix: NDArray[Any] | None = field(default=None, metadata={"ndim": 2})
    metric: str = "exact"

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        if self.metric not in METRICS:
            raise ValueError(f"metric {self.metric!r} not understood; known: {', '.join(METRICS)}.")
        if self.coords is None and self.matrix is None:
            raise ValueError("neither coords nor matrix given; give one of them.")
        if self.coords is not None:
            coords = frozen_array("coords", self.coords, ndim=2, dtype=np.float64)
            dimension = 2 if self.matrix is not None else METRICS[self.metric][1]
            if coords.shape[1] != dimension:
                raise ValueError(f"coords have {coords.shape[1]} columns, expected {dimension}.")
            # Squares of larger numbers leave the range in which float64 counts exactly.
            if coords.size and float(np.abs(coords).max()) > 1e12:
                raise ValueError("coords exceed 1e12; scale them down.")
            object.__setattr__(self, "coords", coords)
        if self.matrix is not None:
            matrix = frozen_array("matrix", self.matrix, ndim=2)
            if matrix.shape[0] != matrix.shape[1]:
                raise ValueError(f"matrix is {matrix.shape[0]} x {matrix.shape[1]}, not square.")
            if self.coords is not None and len(self.coords) != len(matrix):
                raise ValueError(f"{len(self.coords)} coords but a matrix of {len(matrix)} nodes.")
            # Nothing of the matrix's size is made: it may be most of the memory.
            least, most = (matrix.min(), matrix.max()) if matrix.size else (0, 0)
            if max(-float(least), float(most)) > 1e12:
                raise ValueError("matrix entries exceed 1e12; scale them down.")
            if least < 0:
                i, j = (int(k) for k in np.argwhere(matrix < 0)[0])
                raise ValueError(f"matrix[{i}, {j}] = {matrix[i, j]} < 0; add a constant to all.")
            if matrix.diagonal().any():
                # It is never travelled; files fill it with anything.
                matrix.setflags(write=True)
                np.fill_diagonal(matrix, 0)
                matrix = frozen_array("matrix", matrix, ndim=2)
            object.__setattr__(self, "matrix", matrix)
            # A matrix leaves nothing to measure; one instance has one digest.
            object.__setattr__(self, "metric", "exact")

    @cached_property
    def distances(self) -> Distances:
        """Travel costs between all nodes."""
        if self.matrix is not None:
            return Distances(matrix=self.matrix)
        return Distances(coords=self.coords, metric=self.metric)

    @property
    def nodes(self) -> int:
        """Number of nodes, a depot included."""
        return self.distances.n


def _ragged(value: Any, index: int) -> Any:
    return value[index] if value is not None else None


class Batch(Sequence[Instance[S]]):
    """Many instances of one problem and size, stored as stacked arrays.

    Parameters
    ----------
    cls
        The instance class.
    arrays
        Field name -> array [batch, ...], or a scalar shared by all.
    name
        Label; instance i is called ``name[i]``.
    ref_cost, ref_solution, ref_method
        References [batch]; NaN costs mean none.

    Raises
    ------
    ValueError
        When the leading dimensions disagree.
    """

    def __init__(
        self,
        cls: type[Instance[S]],
        arrays: Mapping[str, Any],
        *,
        name: str = "",
        ref_cost: NDArray[np.float64] | None = None,
        ref_solution: Sequence[S] | None = None,
        ref_method: str = "",
    ):
        self.cls = cls
        self.name = name
        self.arrays = dict(arrays)
        self.ref_cost = ref_cost
        self.ref_solution = ref_solution
        self.ref_method = ref_method
        stacked = {k: v for k, v in self.arrays.items() if isinstance(v, np.ndarray) and v.ndim}
        if not stacked:
            raise ValueError("a batch needs at least one array.")
        sizes = {k: len(v) for k, v in stacked.items()}
        if ref_cost is not None:
            sizes["ref_cost"] = len(ref_cost)
        if ref_solution is not None:
            sizes["ref_solution"] = len(ref_solution)
        if len(set(sizes.values())) != 1:
            raise ValueError(f"a batch with unequal lengths: {sizes}.")
        self._size = next(iter(sizes.values()))
        self._stacked = frozenset(stacked)

    @classmethod
    def of(cls, instances: Sequence[Instance[S]], *, name: str = "") -> Batch[S]:
        """Stack instances; a field that all share is stored once.

        Raises
        ------
        ValueError
            When they are none, of several problems, or of unequal size.
        """
        if not instances:
            raise ValueError("a batch needs at least one instance.")
        kinds = {type(i) for i in instances}
        fields = [i.data() for i in instances]
        if len(kinds) > 1 or len({tuple(sorted(f)) for f in fields}) > 1:
            raise ValueError("a batch holds instances of one problem with the same fields.")
        arrays: dict[str, Any] = {}
        for key, first in fields[0].items():
            values = [f[key] for f in fields]
            if isinstance(first, np.ndarray):
                if len({v.shape for v in values}) > 1:
                    raise ValueError(f"a batch holds instances of equal size; {key} differs.")
                arrays[key] = np.stack(values)
            else:
                arrays[key] = first if len(set(values)) == 1 else np.array(values)
        costs = [math.nan if i.ref_cost is None else i.ref_cost for i in instances]
        known = not all(math.isnan(c) for c in costs)
        solutions = [i.ref_solution for i in instances]
        return cls(
            next(iter(kinds)),
            arrays,
            name=name,
            ref_cost=np.array(costs, dtype=np.float64) if known else None,
            ref_solution=None if None in solutions else solutions,  # type: ignore[arg-type]
            ref_method=instances[0].ref_method if known else "",
        )

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Instance[S]: ...
    @overload
    def __getitem__(self, index: slice) -> Batch[S]: ...
    def __getitem__(self, index: int | slice) -> Instance[S] | Batch[S]:
        if isinstance(index, slice):
            return Batch(
                self.cls,
                {k: v[index] if k in self._stacked else v for k, v in self.arrays.items()},
                name=self.name,
                ref_cost=_ragged(self.ref_cost, index),  # type: ignore[arg-type]
                ref_solution=_ragged(self.ref_solution, index),  # type: ignore[arg-type]
                ref_method=self.ref_method,
            )
        index = range(len(self))[index]
        fields = {}
        for key, value in self.arrays.items():
            item = value[index] if key in self._stacked else value
            fields[key] = item.item() if isinstance(item, np.generic) else item
        cost = None if self.ref_cost is None else float(self.ref_cost[index])
        known = cost is not None and not math.isnan(cost)
        return self.cls(
            **fields,
            name=f"{self.name}[{index}]",
            ref_cost=cost if known else None,
            ref_solution=None if self.ref_solution is None else self.ref_solution[index],
            ref_method=self.ref_method if known else "",
        )

    def objective(self, solutions: Sequence[S]) -> NDArray[np.float64]:
        """Objectives [batch] of one solution per instance."""
        return np.asarray(self.cls.batch_objective(list(self), solutions), dtype=np.float64)

    def violations(self, solutions: Sequence[S]) -> list[list[str]]:
        """Violations of one solution per instance."""
        return [i.violations(s) for i, s in zip(self, solutions, strict=True)]


# --------------------------------------------------------------------------- results


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a solver returns, checked. Build it with `Result.of` only.

    Parameters
    ----------
    problem, instance, digest
        Problem name; name and digest of the instance.
    solver
        Name of the solver.
    solution
        The best solution, or None.
    objective
        Its objective, recomputed by the instance; None without a solution.
    bound
        Dual bound (lower when minimising, upper when maximising), or None.
    status
        What is known.
    stopped
        Why the solver ended.
    seconds
        Wall-clock seconds of the call; in a batched call, of the batch per instance.
    seed
        The seed it was given.
    trajectory
        The improvements, in time order.
    ref_cost
        The instance's stored reference, if any.
    sense
        Direction of the objective.
    evaluation
        How the objective was evaluated: "exact", "sampled:<set>" or "interval".
    batch
        Number of instances of the call that solved this one.
    params, versions
        Solver parameters, and the versions of what computed the result.
    extra
        Solver-specific statistics that survive JSON.
    """

    problem: str
    instance: str
    digest: str
    solver: str
    solution: Any
    objective: float | None
    bound: float | None
    status: Status
    stopped: Stop
    seconds: float
    seed: int
    trajectory: tuple[Event, ...] = ()
    ref_cost: float | None = None
    sense: Sense = Sense.MINIMIZE
    evaluation: str = "exact"
    batch: int = 1
    params: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        instance: Instance[S],
        solution: S | None,
        *,
        solver: str,
        seconds: float,
        stopped: Stop,
        seed: int = 0,
        status: Status | None = None,
        claimed: float | None = None,
        bound: float | None = None,
        trajectory: Iterable[Event] = (),
        evaluation: str | None = None,
        batch: int = 1,
        params: Mapping[str, Any] | None = None,
        versions: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Self:
        """Check a solution and make the result.

        Parameters
        ----------
        instance
            What was solved.
        solution
            What was found, or None.
        status
            The solver's claim; by default FEASIBLE with a solution and UNKNOWN without.
            A bound that meets the objective makes it OPTIMAL.
        claimed
            The solver's own objective, compared with the recomputed one.
        solver, seconds, stopped, seed, bound, trajectory
            As in the class.
        evaluation
            As in the class; by default what the instance says.
        batch, params, versions, extra
            As in the class.

        Raises
        ------
        CheckError
            When the solution violates a constraint, the claimed objective or the bound
            is wrong, or the status contradicts what was returned.
        """
        where = f"{solver} on {instance.name or instance.problem}"
        objective: float | None = None
        if solution is not None:
            problems = instance.violations(solution)
            if problems:
                more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
                raise CheckError(f"{where} returned an infeasible solution: {problems[0]}{more}")
            solution = instance.canonical(solution)
            objective = instance.objective(solution)
            evaluation = evaluation or instance.evaluation(solution)
            if claimed is not None and not close(claimed, objective, 1e-6):
                raise CheckError(f"{where} claims objective {claimed}, recomputed {objective}")
            if status is None or status is Status.UNKNOWN:
                status = Status.FEASIBLE
            if status in (Status.INFEASIBLE, Status.UNBOUNDED):
                raise CheckError(f"{where} claims {status} but returned a solution")
        else:
            status = status or Status.UNKNOWN
            if status in (Status.OPTIMAL, Status.FEASIBLE):
                raise CheckError(f"{where} claims {status} without a solution")
        if bound is not None and not math.isfinite(bound):
            bound = None
        if objective is not None and status is Status.OPTIMAL and bound is None:
            bound = objective
        sampled = (evaluation or "").startswith("sampled")
        if sampled and objective is not None:
            # A worst case sought in a list only may be seen too good, and proves nothing.
            if bound is not None and better(objective, bound, instance.sense):
                logger.warning("%s: value %.9g beyond the bound, set to it", where, objective)
                objective = bound
            status = Status.FEASIBLE
        elif objective is not None and bound is not None:
            constant = getattr(instance, "offset", 0.0)
            beyond = better(objective, bound, instance.sense)
            if beyond and not close(objective, bound, 1e-6, constant):
                raise CheckError(f"{where} claims bound {bound}, beyond objective {objective}")
            if beyond or meets(objective, bound, constant):
                bound, status = objective, Status.OPTIMAL
        return cls(
            problem=instance.problem,
            instance=instance.name,
            digest=instance.digest,
            solver=solver,
            solution=solution,
            objective=objective,
            bound=bound,
            status=status,
            stopped=stopped,
            seconds=seconds,
            seed=seed,
            trajectory=tuple(trajectory),
            ref_cost=instance.ref_cost,
            sense=instance.sense,
            evaluation=evaluation or "exact",
            batch=batch,
            params=dict(params or {}),
            versions=dict(versions or {}),
            extra=dict(extra or {}),
        )

    @property
    def feasible(self) -> bool:
        """Whether there is a solution."""
        return self.solution is not None

    @property
    def gap(self) -> float | None:
        """Certified gap, SCIP's definition; None without a finite one."""
        if self.objective is None or self.bound is None:
            return None
        return relative_gap(self.objective, self.bound)

    @property
    def ref_gap(self) -> float | None:
        """Signed per cent worse than the stored reference; None without one."""
        if self.objective is None or self.ref_cost is None:
            return None
        return reference_gap(self.objective, self.ref_cost, self.sense)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain values; without NaN and infinities."""
        out = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        out["trajectory"] = [
            [plain(e.seconds), plain(e.objective), plain(e.bound), e.by] for e in self.trajectory
        ]
        out["gap"] = plain(self.gap)
        out["ref_gap"] = plain(self.ref_gap)
        return out

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises
        ------
        ValueError
            When a key is missing or has an impossible value.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        fields = {k: v for k, v in values.items() if k in known}
        try:
            fields["status"] = Status(fields["status"])
            fields["stopped"] = Stop(fields["stopped"])
            fields["sense"] = Sense(fields["sense"])
            fields["trajectory"] = tuple(Event(*event) for event in fields["trajectory"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a result: {error}.") from None

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        return cls.from_dict(json.loads(text))


def close(a: float, b: float, tolerance: float, constant: float = 0.0) -> bool:
    """Whether two objectives agree within a relative tolerance; infinite ones with themselves.

    A constant that is part of both is known exactly, but for the rounding of a sum with it.
    """
    size = max(min(abs(value), abs(value - constant)) for value in (a, b))
    slack = tolerance * max(1.0, size) + 4 * math.ulp(constant)
    return a == b or abs(a - b) <= slack < math.inf


def meets(objective: float, bound: float, constant: float = 0.0) -> bool:
    """Whether a bound is as good as the objective; a constant is part of both."""
    # Whole values are one or they are not.
    apart = isinstance(objective, int) and abs(objective - bound) >= 0.5
    return not apart and close(objective, bound, FLOAT_TOLERANCE, constant)


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: numpy types to Python's, NaN and infinities to None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


class Tracker(Generic[S]):
    """The best solution so far, its trajectory, and the result at the end.

    Solvers hand every improvement to `offer`; it recomputes the objective, so that a
    trajectory never holds a solver's own opinion.

    Parameters
    ----------
    instance
        What is being solved.
    budget
        Its clock gives the events' times.
    solver
        Name for the result.
    seed
        Kept in the result.
    on_event
        Listener called at every improvement, or None.
    """

    def __init__(
        self,
        instance: Instance[S],
        budget: Budget,
        *,
        solver: str,
        seed: int = 0,
        on_event: Listener | None = None,
    ):
        self.instance = instance
        self.budget = budget
        self.solver = solver
        self.seed = seed
        self.solution: S | None = None
        self.objective: float | None = None
        self.bound: float | None = None
        self.trajectory: list[Event] = []
        #: Whether the solution is known to be optimal by `Instance.unbeatable`.
        self.proved = False
        self._seen: float | None = None
        self._on_event = on_event

    def offer(self, solution: S, by: str | None = None) -> bool:
        """Keep a feasible solution if it is better than the best; True if it was.

        One that the instance does not admit is left aside.
        """
        objective = self.instance.objective(solution)
        if self.objective is not None and not better(
            objective, self.objective, self.instance.sense
        ):
            return False
        if not self.instance.admits(solution):
            return False
        self.solution, self.objective = solution, objective
        self._see(objective, by)
        if self._unbeatable is not None and close(objective, self._unbeatable, FLOAT_TOLERANCE):
            self.proved = True
            self.offer_bound(self._unbeatable, "bound")
        return True

    @cached_property
    def _unbeatable(self) -> float | None:
        return self.instance.unbeatable()

    def observe(self, event: Event) -> None:
        """Put a sub-solver's event into the trajectory, under this budget's clock.

        Its solution follows with `offer` when the sub-solver returns.
        """
        if event.objective is not None:
            self._see(event.objective, event.by)
        if event.bound is not None:
            self.offer_bound(event.bound, event.by)

    def _see(self, objective: float, by: str | None) -> None:
        if self._seen is None or better(objective, self._seen, self.instance.sense):
            self._seen = objective
            self._emit(by)

    def offer_bound(self, bound: float, by: str | None = None) -> bool:
        """Keep a dual bound if it is tighter than the best; True if it was."""
        # A tighter bound is "worse": larger when minimising.
        if not math.isfinite(bound) or (
            self.bound is not None and not better(self.bound, bound, self.instance.sense)
        ):
            return False
        self.bound = bound
        self._emit(by)
        return True

    def _emit(self, by: str | None) -> None:
        event = Event(self.budget.elapsed(), self._seen, self.bound, by or self.solver)
        self.trajectory.append(event)
        if self._on_event is not None:
            self._on_event(event)

    def done(self, iteration: int = 0, budget: Budget | None = None) -> Stop | None:
        """The reason to stop now, by a budget, the tracker's own by default, or None."""
        budget = budget or self.budget
        if self.proved and not budget.interrupted():
            return Stop.PROVED
        return budget.done(iteration, self.objective, self.bound, self.instance.sense)

    def result(
        self,
        stopped: Stop,
        *,
        status: Status | None = None,
        params: Mapping[str, Any] | None = None,
        versions: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Result:
        """The checked result of what was offered."""
        return Result.of(
            self.instance,
            self.solution,
            solver=self.solver,
            seconds=self.budget.elapsed(),
            stopped=stopped,
            seed=self.seed,
            status=status,
            claimed=self.objective,
            bound=self.bound,
            trajectory=self.trajectory,
            params=params,
            versions=versions,
            extra=extra,
        )


@runtime_checkable
class Solver(Protocol):
    """A solver: a small dataclass of parameters with two methods.

    ``solve`` gets a budget whose clock already runs, and returns a checked result; it
    raises `UnsupportedError` for an instance that ``supports`` refuses.
    """

    name: ClassVar[str]

    def supports(self, instance: Instance[Any]) -> str | None:
        """None, or the reason why the instance cannot be solved by this solver."""
        ...

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Solve one instance."""
        ...


def is_whole(value: object) -> bool:
    """Whether a value is an integer, of Python or numpy; a truth value is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


#: Annotation -> what it admits, and the words for it.
_KINDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "int": (is_whole, "a whole number"),
    "float": (_is_number, "a number"),
    "bool": (lambda value: isinstance(value, (bool, np.bool_)), "true or false"),
    "str": (lambda value: isinstance(value, (str, os.PathLike)), "a word"),
}


def check_kinds(function: Callable[..., Any], values: Mapping[str, Any], owner: str) -> None:
    """Refuse arguments that are not what a function annotates them as.

    Parameters
    ----------
    function
        A function or a class; what it annotates as ``int``, ``float``, ``bool`` or ``str``, or
        one of them ``| None``, is checked.
    values
        Arguments by name.
    owner
        Whose arguments they are, for the error's text.

    Raises
    ------
    InputError
        Naming the first such argument.
    """
    for name, parameter in inspect.signature(function).parameters.items():
        kind = parameter.annotation
        kind = kind if isinstance(kind, str) else inspect.formatannotation(kind)
        kind, optional, _ = kind.partition(" | None")
        if name not in values or kind not in _KINDS or (optional and values[name] is None):
            continue
        admits, words = _KINDS[kind]
        if not admits(values[name]):
            what = f"{owner}: {name} = {values[name]!r} not understood"
            raise InputError(None, None, what, f"give {words}")


def check_seed(seed: int) -> None:
    """Refuse what is no seed.

    Raises
    ------
    InputError
        When it is not a whole number from 0 to 2^63 - 1.
    """
    if not (is_whole(seed) and 0 <= seed < 2**63):
        raise InputError(None, None, f"seed = {seed} not understood", "give 0 to 2^63 - 1")


def spawn_seed(seed: int, digest: str) -> int:
    """A 31-bit seed for one instance, independent of the others in a call."""
    sequence = np.random.SeedSequence([seed, int(digest[:16], 16)])
    return int(sequence.generate_state(1)[0]) & 0x7FFFFFFF


def is_special(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a device, a pipe or a socket."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w") -> Iterator[Any]:
    """Write a file so that it appears whole or not at all.

    A link keeps pointing where it does, a file that is there keeps its rights, and a device or
    a pipe is written into.

    Raises
    ------
    InputError
        When the folder cannot be written.
    """
    encoding = None if "b" in mode else "utf-8"
    if is_special(path):
        try:
            with open(path, mode, encoding=encoding) as file:
                yield file
        except OSError as error:
            raise InputError(
                path, None, f"cannot be written: {error.strerror}", "name a file"
            ) from None
        return
    target = Path(os.path.realpath(path))
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise InputError(
            path, None, f"cannot be written: {error.strerror}", "choose another folder"
        ) from None
    try:
        with os.fdopen(handle, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            rights = stat.S_IMODE(os.stat(target).st_mode)
        except FileNotFoundError:
            umask = os.umask(0)
            os.umask(umask)
            rights = 0o666 & ~umask
        os.chmod(temporary, rights)
        os.replace(temporary, target)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise InputError(
            path, None, f"cannot be written: {error.strerror}", "check space and rights"
        ) from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
