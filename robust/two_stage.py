"""Two-stage robust problems: first stage, recourse, uncertainty set.

``max_x  c x + min_xi max_y  p(xi) x + q(xi) y + offset(xi)`` over the first stage's rows,
xi in the uncertainty set, and ``row_lower <= T(xi) x + W(xi) y - h(xi) <= row_upper`` with
everything affine in xi; minimising, max and min change places. The same recourse serves
masters and checks.

How a method uses a `TwoStageProblem` (every instance of a two-stage problem has one as its
attribute ``two_stage``). Inside, everything is maximised; ``problem.sign`` turns values back.

- ``problem.first`` and ``problem.stage(xi)``: the rows for its masters.
- ``problem.recourse_at(X, XI)``: exact second stages of first stages [a, p] in scenarios
  [b, q], values [a, b] and recourses [a, b, m]; NaN where there is none.
- ``problem.worst_case(x, budget)``: an `Evaluation`, the adversary of every method.
- ``problem.uncertainty``: sampling, projection, extreme scenarios, rows.
- ``problem.solution(evaluation)``: what `nco.instances.core.Tracker.offer` takes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from nco.instances.core import Budget, Sense, close
from nco.instances.two_stage import TwoStageInstance, TwoStageSolution, as_numbers
from nco.robust.model import Indices, Model
from nco.robust.uncertainty import UncertaintySet

Vector = NDArray[np.float64]
#: Tolerance of rows and of whole numbers in the check.
ROWS, WHOLE = 1e-6, 1e-6
#: Relative width of an interval below which an evaluation is exact.
EXACT = 1e-7
#: Tolerance of rows where a recourse's value may jump with the scenario.
FINE = 1e-9


def _matrix(values: Any, rows: int, columns: int, name: str) -> sparse.csr_array:
    if values is None:
        return sparse.csr_array((rows, columns))
    out = sparse.csr_array(values, dtype=np.float64)
    if out.shape != (rows, columns):
        raise ValueError(f"{name} has shape {out.shape}, expected {(rows, columns)}.")
    odd = np.flatnonzero(~np.isfinite(out.data))
    if len(odd):
        coo = out.tocoo()
        k = odd[0]
        raise ValueError(
            f"{name}[{coo.row[k]}, {coo.col[k]}] = {coo.data[k]} is not a finite number."
        )
    return out


def _full(values: ArrayLike | None, size: int, default: float, name: str) -> Vector:
    array = np.array(np.full(size, default) if values is None else values, dtype=np.float64)
    if array.shape != (size,):
        raise ValueError(f"{name} has shape {array.shape}, expected {size} numbers.")
    _refuse(name, array, np.isnan(array), "number")
    return array


def _refuse(name: str, array: Vector, odd: NDArray[np.bool_], what: str) -> None:
    """Raise a ValueError that names the first odd entry of an array."""
    if odd.any():
        where = tuple(int(k) for k in np.argwhere(odd)[0])
        raise ValueError(f"{name}{list(where)} = {array[where]} is not a {what}.")


def _objective(name: str, values: ArrayLike, size: str) -> Vector:
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected numbers [{size}].")
    _refuse(name, array, ~np.isfinite(array), "finite number")
    return array


def _complete(self: Any, n: int, default_upper: float) -> None:
    rows = max((len(np.atleast_1d(v)) for v in (self.row_lower, self.row_upper) if v is not None),
               default=0)  # fmt: skip
    values: dict[str, Any] = {
        "row_lower": _full(self.row_lower, rows, -math.inf, "row_lower"),
        "row_upper": _full(self.row_upper, rows, math.inf, "row_upper"),
        "lower": _full(self.lower, n, 0.0, "lower"),
        "upper": _full(self.upper, n, default_upper, "upper"),
    }
    whole = np.zeros(n, dtype=bool) if self.whole is None else np.asarray(self.whole, dtype=bool)
    if whole.shape not in ((), (1,), (n,)):
        raise ValueError(f"whole has shape {whole.shape}, expected {(n,)}.")
    values["whole"] = np.broadcast_to(whole, n).copy()
    for key, value in values.items():
        object.__setattr__(self, key, value)


@dataclass(frozen=True, eq=False, kw_only=True)
class FirstStage:
    """What is decided before the scenario is known.

    Parameters
    ----------
    c, offset
        Objective [p] and its constant.
    A, row_lower, row_upper
        Rows ``row_lower <= A x <= row_upper``; by default none.
    lower, upper, whole
        Bounds and integrality [p]; by default binary.
    """

    c: Vector
    offset: float = 0.0
    A: Any = None
    row_lower: Vector = None  # type: ignore[assignment]
    row_upper: Vector = None  # type: ignore[assignment]
    lower: Vector = None  # type: ignore[assignment]
    upper: Vector = None  # type: ignore[assignment]
    whole: Any = None

    def __post_init__(self) -> None:
        """Validate and complete."""
        c = _objective("c", self.c, "p")
        object.__setattr__(self, "c", c)
        if self.whole is None:
            object.__setattr__(self, "whole", np.ones(len(c), dtype=bool))
        _complete(self, len(c), 1.0)
        A = _matrix(self.A, len(self.row_lower), len(c), "A")
        object.__setattr__(self, "A", A)

    def value(self, x: Vector) -> float:
        """Objective of x [p]."""
        return float(self.c @ x) + self.offset


@dataclass(frozen=True, eq=False)
class SecondStage:
    """The recourse in one scenario.

    Parameters
    ----------
    p, q, offset
        Objective of x [p] and y [m] and its constant.
    T, W, row_lower, row_upper
        Rows ``row_lower <= T x + W y <= row_upper``.
    lower, upper, whole
        Bounds and integrality of y [m].
    """

    p: Vector
    q: Vector
    offset: float
    T: sparse.csr_array
    W: sparse.csr_array
    row_lower: Vector
    row_upper: Vector
    lower: Vector
    upper: Vector
    whole: NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class Recourse:
    """What is decided once the scenario xi [k] is known, affine in xi.

    Parameters
    ----------
    q, q_xi
        Objective ``q + q_xi xi`` of y; [m] and [m, k].
    W, T
        Rows ``row_lower + h_xi xi <= T x + W y <= row_upper + h_xi xi``.
    row_lower, row_upper, h_xi
        Their limits [r], and how these move [r, k].
    lower, upper, whole
        Bounds and integrality of y [m]; by default continuous and not negative.
    p, p_xi
        Objective ``p + p_xi xi`` of x in the second stage; [p] and [p, k].
    offset, offset_xi
        Constant ``offset + offset_xi xi``.
    W_xi, T_xi
        Entry of xi -> what one unit of it adds to W or T.
    """

    q: Vector
    W: Any
    T: Any
    q_xi: Any = None
    row_lower: Vector = None  # type: ignore[assignment]
    row_upper: Vector = None  # type: ignore[assignment]
    h_xi: Any = None
    lower: Vector = None  # type: ignore[assignment]
    upper: Vector = None  # type: ignore[assignment]
    whole: NDArray[np.bool_] = None  # type: ignore[assignment]
    p: Vector = None  # type: ignore[assignment]
    p_xi: Any = None
    offset: float = 0.0
    offset_xi: Vector = None  # type: ignore[assignment]
    W_xi: Mapping[int, Any] = field(default_factory=dict)
    T_xi: Mapping[int, Any] = field(default_factory=dict)

    def complete(self, p: int, k: int) -> Recourse:
        """The same with every array present, for p first-stage columns and k entries of xi.

        Raises
        ------
        ValueError
            When shapes disagree.
        """
        q = _objective("q", self.q, "m")
        m = len(q)
        out = dataclasses.replace(self, q=q)
        _complete(out, m, math.inf)
        r = len(out.row_lower)
        for name, value in (
            ("W", _matrix(self.W, r, m, "W")),
            ("T", _matrix(self.T, r, p, "T")),
            ("q_xi", _matrix(self.q_xi, m, k, "q_xi")),
            ("p_xi", _matrix(self.p_xi, p, k, "p_xi")),
            ("h_xi", _matrix(self.h_xi, r, k, "h_xi")),
            ("p", _full(self.p, p, 0.0, "p")),
            ("offset_xi", _full(self.offset_xi, k, 0.0, "offset_xi")),
            ("W_xi", {j: _matrix(v, r, m, f"W_xi[{j}]") for j, v in self.W_xi.items()}),
            ("T_xi", {j: _matrix(v, r, p, f"T_xi[{j}]") for j, v in self.T_xi.items()}),
        ):
            object.__setattr__(out, name, value)
        wrong = [j for j in (*self.W_xi, *self.T_xi) if not 0 <= j < k]
        if wrong:
            raise ValueError(f"scenarios have no entry {wrong[0]} (known: 0..{k - 1}).")
        return out

    def negated(self) -> Recourse:
        """The same with the objective's sign changed."""
        return dataclasses.replace(
            self, q=-self.q, q_xi=-self.q_xi, p=-self.p, p_xi=-self.p_xi,
            offset=-self.offset, offset_xi=-self.offset_xi,
        )  # fmt: skip

    @property
    def certain_rows(self) -> bool:
        """Whether only the objective depends on the scenario."""
        return not (self.h_xi.nnz or self.W_xi or self.T_xi)

    @property
    def certain_value(self) -> bool:
        """Whether neither the objective of y nor W depends on the scenario."""
        return not (self.q_xi.nnz or self.W_xi)

    @property
    def continuous(self) -> bool:
        """Whether y has no whole entries."""
        return not self.whole.any()

    def at(self, xi: Vector) -> SecondStage:
        """The recourse in scenario xi [k]."""
        xi = np.asarray(xi, dtype=np.float64)
        shift = self.h_xi @ xi
        T, W = self.T, self.W
        for j, more in self.T_xi.items():
            T = T + xi[j] * more
        for j, more in self.W_xi.items():
            W = W + xi[j] * more
        return SecondStage(
            self.p + self.p_xi @ xi,
            self.q + self.q_xi @ xi,
            self.offset + float(self.offset_xi @ xi),
            T,
            W,
            self.row_lower + shift,
            self.row_upper + shift,
            self.lower,
            self.upper,
            self.whole,
        )

    def slopes(self, x: Vector, y: Vector) -> Vector:
        """What a unit of each entry of xi adds to rows less their limits, at x and y [r, k]."""
        out = -self.h_xi.toarray()
        for parts, columns in ((self.T_xi, x), (self.W_xi, y)):
            for j, more in parts.items():
                out[:, j] += more @ columns
        return np.asarray(out)

    def linear(self, x: Vector, y: Vector) -> tuple[Vector, float]:
        """The objective of fixed x and y as ``linear xi + constant``."""
        slope = self.p_xi.T @ x + self.q_xi.T @ y + self.offset_xi
        return np.asarray(slope), float(self.p @ x) + float(self.q @ y) + self.offset


@dataclass(frozen=True)
class Evaluation:
    """The worst case of a first stage, maximised.

    Parameters
    ----------
    x
        The first stage [p].
    value
        What it is worth in the worst scenario found.
    guaranteed
        What it is worth in every scenario, for certain; -inf if unknown.
    xi, y
        That scenario and the recourse there.
    policies
        Recourses whose best one gives ``guaranteed`` [k, m], or None.
    sampled
        Name of the list of scenarios, if the worst was sought in a list only.
    """

    x: Vector
    value: float
    guaranteed: float
    xi: Vector
    y: Vector
    policies: Vector | None = None
    sampled: str = ""

    @property
    def exact(self) -> bool:
        """Whether no scenario can be worse."""
        return math.isfinite(self.guaranteed) and close(self.value, self.guaranteed, EXACT)


#: ``(X [a, p], XI [b, k]) -> values [a, b] and y [a, b, m]``; maximised, p(xi) x included.
Oracle = Callable[[Vector, Vector], tuple[Vector, Vector]]
#: ``(X [a, p], xi [k], least [a]) -> values [a]``: least, NaN, or what a recourse above it brings.
Screen = Callable[[Vector, Vector, Vector], Vector]
#: ``(x [p], xi [k]) -> row [m] and limit > 0``, or None without a cut.
Cutter = Callable[[Vector, Vector], "tuple[Vector, float] | None"]
#: ``(problem, x, budget, scenarios) -> Evaluation``.
Evaluator = Callable[["TwoStageProblem", Vector, Budget, Vector], Evaluation]


class InfeasibleRecourseError(ValueError):
    """A first stage has no recourse in some scenario.

    Parameters
    ----------
    xi
        The scenario.
    x
        The first stage, where that is not known otherwise.
    """

    def __init__(self, xi: Vector, x: Vector | None = None):
        self.xi = np.asarray(xi)
        whose = "" if x is None else f" of the first stage ({_shown(x)})"
        super().__init__(f"the second stage{whose} is infeasible in scenario ({_shown(self.xi)}).")


def _shown(values: Vector) -> str:
    return ", ".join([f"{v:.6g}" for v in values[:12]] + ["..."] * (len(values) > 12))


class UnboundedRecourseError(ValueError):
    """A recourse can be improved for ever."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TwoStageProblem(TwoStageInstance):
    """A two-stage robust problem; itself an instance that every method solves.

    Parameters
    ----------
    first_stage
        Before the scenario.
    recourse
        After it.
    uncertainty
        Where scenarios may lie.
    sense
        Direction of the objectives of both stages.
    oracle
        Exact second stages, if there is something better than a MIP engine; values are
        maximised, so negative costs.
    evaluator
        The worst case of a first stage, if there is something better than
        `nco.robust.evaluation.worst_case`.
    screen
        Whether many first stages have recourses above some value in one scenario, if that is
        faster than the oracle; local search leaves those that have none.
    cutter
        An inequality ``row y <= limit`` of the recourses of all first stages that leaves a
        relaxed recourse of x no more than x is worth in xi; with ``switches``, first stages are
        branched upon (`nco.robust.branching`).
    switches
        For every entry of a scenario the first-stage column without which it takes nothing
        away [k].
    compiler
        A module's function that compiles what the others run, if that takes time: methods call
        it beside their clock (`nco.robust.cold`).

    Raises
    ------
    ValueError
        When shapes disagree.
    """

    problem: ClassVar[str] = "two-stage"
    sense: Sense = Sense.MAXIMIZE

    first_stage: FirstStage
    recourse: Recourse
    uncertainty: UncertaintySet
    oracle: Oracle | None = None
    evaluator: Evaluator | None = None
    screen: Screen | None = None
    cutter: Cutter | None = None
    switches: Indices | None = None
    compiler: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        """Validate."""
        object.__setattr__(self, "sense", Sense(self.sense))
        uncertainty: Any = self.uncertainty
        if not isinstance(uncertainty, UncertaintySet):
            raise ValueError(f"uncertainty = {uncertainty!r} is no UncertaintySet.")
        complete = self.recourse.complete(len(self.first_stage.c), self.uncertainty.dimension)
        object.__setattr__(self, "recourse", complete)

    # ------------------------------------------------------------------ as an instance

    @property
    def two_stage(self) -> TwoStageProblem:
        """Itself."""
        return self

    @property
    def n(self) -> int:
        """Number of first-stage columns."""
        return len(self.first_stage.c)

    def data(self) -> dict[str, Any]:
        """All arrays of both stages and of the set."""
        out: dict[str, Any] = {"sense": self.sense.value}
        for prefix, part in (
            ("first", self.first_stage), ("recourse", self.recourse), ("set", self.uncertainty),
        ):  # fmt: skip
            out |= _flat(prefix, part)
        return out

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "uniform", **options: Any) -> Self:
        """There is no distribution of problems in general.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("a problem of one's own cannot be generated.")

    # --------------------------------------------------------------------- maximised

    @cached_property
    def sign(self) -> float:
        """1 when maximising, -1 when minimising: original value = sign * maximised one."""
        return 1.0 if self.sense is Sense.MAXIMIZE else -1.0

    @cached_property
    def first(self) -> FirstStage:
        """The first stage, maximised."""
        if self.sign > 0:
            return self.first_stage
        return dataclasses.replace(
            self.first_stage, c=-self.first_stage.c, offset=-self.first_stage.offset
        )

    @cached_property
    def affine(self) -> Recourse:
        """The recourse, maximised."""
        return self.recourse if self.sign > 0 else self.recourse.negated()

    @cached_property
    def tolerance(self) -> float | None:
        """By how much engines may violate rows of masters and recourses; None for their own.

        The value of whole recourses with uncertain rows jumps where a row is only just met. The
        worst scenarios are just beyond, so that masters, recourses and adversaries have to agree
        on which rows are met, closely enough for no objective to tell the difference.
        """
        affine = self.affine
        jumps = not (affine.certain_rows or affine.continuous)
        return FINE if jumps and self.oracle is None and self.evaluator is None else None

    def stage(self, xi: Vector) -> SecondStage:
        """The recourse in scenario xi [k], maximised."""
        return self.affine.at(xi)

    def recourse_at(
        self, x: ArrayLike, xi: ArrayLike, budget: Budget | None = None
    ) -> tuple[Vector, Vector]:
        """Exact second stages of first stages [a, p] in scenarios [b, k], maximised.

        Returns
        -------
        Values [a, b], the first stage's own not included, NaN without recourse; and y
        [a, b, m].

        Raises
        ------
        UnboundedRecourseError
            When a recourse is unbounded.
        TimeoutError
            When the budget ends first.
        """
        first = np.atleast_2d(np.asarray(x, dtype=np.float64))
        scenarios = np.atleast_2d(np.asarray(xi, dtype=np.float64))
        if self.oracle is not None:
            return self.oracle(first, scenarios)
        from nco.robust.evaluation import recourse_by_mip

        return recourse_by_mip(self, first, scenarios, budget or Budget())

    def worst_recourse(
        self, x: ArrayLike, xi: Vector, budget: Budget
    ) -> tuple[float, Vector, Vector]:
        """The worst of scenarios [b, k] for a first stage x [p]: value, scenario [k] and y [m].

        Raises
        ------
        InfeasibleRecourseError
            When there is no recourse in one of them.
        UnboundedRecourseError, TimeoutError
            As `recourse_at`.
        """
        values, y = self.recourse_at(x, xi, budget)
        lost = np.isnan(values[0])
        if lost.any():
            raise InfeasibleRecourseError(xi[int(np.argmax(lost))])
        k = int(np.argmin(values[0]))
        return float(values[0, k]), xi[k], y[0, k]

    def worst_case(
        self, x: ArrayLike, budget: Budget | None = None, scenarios: ArrayLike | None = None
    ) -> Evaluation:
        """The worst case of a first stage x [p]; remembered once it is complete.

        Parameters
        ----------
        x
            The first stage.
        budget
            Out of it, the interval so far is returned.
        scenarios
            Scenarios [b, k] that are likely to hurt it.

        Raises
        ------
        ValueError
            When x or the scenarios have another length, or x is not finite.
        InfeasibleRecourseError
            When there is no recourse in some scenario.
        """
        shape = np.shape(x)
        if shape != (self.n,):
            raise ValueError(f"x has shape {shape}, expected {self.n} numbers.")
        x = self.whole_x(x)
        _refuse("x", x, ~np.isfinite(x), "finite number")
        key = x.tobytes()
        if key in self._known:
            return self._known[key]
        k = self.uncertainty.dimension
        hints = np.zeros((0, k)) if scenarios is None else np.atleast_2d(np.asarray(scenarios))
        if hints.shape[1] != k:
            raise ValueError(f"scenarios have {hints.shape[1]} numbers each, expected {k}.")
        budget = budget or Budget()
        if self.evaluator is not None:
            found = self.evaluator(self, x, budget, hints)
        else:
            from nco.robust.evaluation import worst_case

            found = worst_case(self, x, budget, hints)
        if found.exact or found.sampled:
            if len(self._known) >= 256:
                self._known.pop(next(iter(self._known)))
            self._known[key] = found
        return found

    @cached_property
    def _known(self) -> dict[bytes, Evaluation]:
        return {}

    def whole_x(self, x: ArrayLike) -> Vector:
        """First-stage values [.., p], rounded where they must be whole."""
        x = np.asarray(x, dtype=np.float64)
        return np.where(self.first_stage.whole, np.rint(x), x) + 0.0

    def add_first_stage(self, model: Model) -> Indices:
        """Add the maximised first stage to a model; its columns [p]."""
        first = self.first
        x = model.add_columns(self.n, first.lower, first.upper, whole=first.whole, cost=first.c)
        model.offset += first.offset
        if len(first.row_lower):
            model.add_rows(first.A, x, first.row_lower, first.row_upper)
        return x

    # --------------------------------------------------------------------- solutions

    def solution(self, found: Evaluation) -> TwoStageSolution:
        """The solution that an evaluation stands for; an interval keeps its policies."""
        out: TwoStageSolution = {
            "x": as_numbers(found.x, self.first_stage.whole),
            "xi": as_numbers(found.xi),
            "y": as_numbers(found.y, self.recourse.whole),
        }
        if not found.exact and not found.sampled and found.policies is not None:
            out["policies"] = [as_numbers(y, self.recourse.whole) for y in found.policies]
        return out

    def evaluation(self, solution: TwoStageSolution) -> str:
        """How the solution's value is computed."""
        if "policies" in solution:
            return "interval"
        found = self.worst_case(solution["x"])
        if found.sampled:
            return f"sampled:{found.sampled}"
        return "exact" if found.exact else "interval"

    def value(self, solution: TwoStageSolution) -> float:
        """Value in the worst case, in the problem's own direction.

        With policies, what the best of them guarantees in every scenario; with a list of
        scenarios, the worst of the list and the solution's own. That counts, too, where values
        jump, since it may lie where two jumps are all but one.
        """
        x = self.whole_x(solution["x"])
        if "policies" in solution:
            from nco.robust.evaluation import guaranteed

            value = guaranteed(self, x, np.array(solution["policies"], dtype=np.float64))
            return self.sign * value
        found = self.worst_case(x)
        value = found.value
        if found.sampled or self.tolerance is not None:
            here, _ = self.recourse_at(x, solution["xi"])
            value = min(value, self.first.value(x) + float(here[0, 0]))
        return self.sign * value + 0.0

    def plain(self, solution: TwoStageSolution) -> TwoStageSolution:
        """The solution in plain numbers."""
        out: TwoStageSolution = {
            "x": as_numbers(solution["x"], self.first_stage.whole),
            "xi": as_numbers(solution["xi"]),
            "y": as_numbers(solution["y"], self.recourse.whole),
        }
        if "policies" in solution:
            out["policies"] = [as_numbers(y, self.recourse.whole) for y in solution["policies"]]
        return out

    def check(self, solution: TwoStageSolution, budget: Budget | None = None) -> list[str]:
        """What is wrong with a solution, in words.

        With a budget, scenarios without a recourse are sought within it only, compilation
        included.
        """
        sizes = (
            ("x", self.n), ("xi", self.uncertainty.dimension), ("y", len(self.recourse.q)),
        )  # fmt: skip
        given: Any = solution
        if not isinstance(given, Mapping):
            return ["a solution holds x, xi and y by name"]
        missing = [key for key, _ in sizes if key not in solution]
        if missing:
            return [f"a solution needs {', '.join(missing)}"]
        values = {}
        for key, size in sizes:
            try:
                array = np.asarray(solution[key], dtype=np.float64)
            except (TypeError, ValueError):
                return [f"{key} is no list of numbers"]
            if array.shape != (size,):
                return [f"{key} has {array.size} numbers, expected {size}"]
            if not np.isfinite(array).all():
                return [f"{key}[{int(np.argmin(np.isfinite(array)))}] is not finite"]
            values[key] = array
        x, xi, y = values["x"], values["xi"], values["y"]
        first = self.first_stage
        problems = _columns("x", x, first.lower, first.upper, first.whole)
        problems += _rows("first-stage row", first.A @ x, first.row_lower, first.row_upper)
        if not self.uncertainty.contains(xi, ROWS):
            problems.append("the scenario is outside the uncertainty set")
        if problems:
            return problems
        policies = solution.get("policies")
        if policies is not None:
            for policy in policies:
                if len(policy) != len(y):
                    return [f"a policy has {len(policy)} numbers, expected {len(y)}"]
                problems += self._in_every_scenario(x, np.array(policy, dtype=float))
        stage = self.stage(xi)
        for what, z in [("y", y), *(("policy", np.array(p, dtype=float)) for p in policies or [])]:
            problems += _columns(what, z, stage.lower, stage.upper, stage.whole)
            activity = stage.T @ x + stage.W @ z
            problems += _rows("second-stage row", activity, stage.row_lower, stage.row_upper)
        if problems or policies:
            # A policy is a recourse in every scenario.
            return problems
        from nco.robust.cold import ready

        if budget is not None and not ready(self, budget):
            return problems
        try:
            self.worst_case(x, budget)
        except TimeoutError:
            # Not one scenario in time.
            return problems
        except InfeasibleRecourseError as error:
            problems.append(str(error).rstrip("."))
        return problems

    def _in_every_scenario(self, x: Vector, y: Vector) -> list[str]:
        """What is wrong with rows in the scenarios that are worst for fixed x and y."""
        affine = self.affine
        slopes = affine.slopes(x, y)
        moved = np.flatnonzero((slopes != 0.0).any(1))
        low = high = affine.T @ x + affine.W @ y
        low, high = low.copy(), high.copy()
        for i in moved:
            low[i] += self.uncertainty.worst_case(slopes[i])[1]
            high[i] -= self.uncertainty.worst_case(-slopes[i])[1]
        name, none = "second-stage row", np.full(len(low), np.inf)
        rows = _rows(name, low, affine.row_lower, none) + _rows(name, high, -none, affine.row_upper)
        return [f"{row} in some scenario" for row in rows]


def _flat(prefix: str, part: Any) -> dict[str, Any]:
    """The arrays of a dataclass, sparse matrices as their entries, nested ones joined."""
    out: dict[str, Any] = {f"{prefix}.kind": type(part).__name__}
    if dataclasses.is_dataclass(part):
        values = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    else:
        # A set of the user's own: what it was given, as far as that is numbers.
        plain = (np.ndarray, Real, str, UncertaintySet)
        values = {k: v for k, v in vars(part).items() if isinstance(v, plain)}
    for name, value in values.items():
        key = f"{prefix}.{name}"
        if sparse.issparse(value):
            coo = sparse.coo_array(cast("Any", value))
            out |= {f"{key}.row": np.asarray(coo.row, dtype=np.int64),
                    f"{key}.column": np.asarray(coo.col, dtype=np.int64),
                    f"{key}.value": coo.data}  # fmt: skip
        elif isinstance(value, Mapping):
            for j in sorted(value):
                coo = sparse.coo_array(value[j])
                out[f"{key}.{j}"] = np.concatenate([coo.row, coo.col, coo.data])
        elif isinstance(value, tuple) and value and isinstance(value[0], UncertaintySet):
            for j, item in enumerate(value):
                out |= _flat(f"{key}.{j}", item)
        elif isinstance(value, UncertaintySet):
            out |= _flat(key, value)
        else:
            out[key] = value
    return out


def _columns(
    name: str, x: Vector, lower: Vector, upper: Vector, whole: NDArray[np.bool_]
) -> list[str]:
    low = x < lower - ROWS * np.maximum(1.0, np.abs(np.where(np.isfinite(lower), lower, 0.0)))
    high = x > upper + ROWS * np.maximum(1.0, np.abs(np.where(np.isfinite(upper), upper, 0.0)))
    broken = whole & (np.abs(x - np.rint(x)) > WHOLE)
    out = [f"{name}[{k}] = {x[k]:.12g} < {lower[k]:.12g}" for k in np.flatnonzero(low)[:3]]
    out += [f"{name}[{k}] = {x[k]:.12g} > {upper[k]:.12g}" for k in np.flatnonzero(high)[:3]]
    return out + [f"{name}[{k}] = {x[k]:.12g} is not whole" for k in np.flatnonzero(broken)[:3]]


def _rows(name: str, activity: Vector, lower: Vector, upper: Vector) -> list[str]:
    low = activity < lower - ROWS * np.maximum(
        1.0, np.abs(np.where(np.isfinite(lower), lower, 0.0)))  # fmt: skip
    high = activity > upper + ROWS * np.maximum(
        1.0, np.abs(np.where(np.isfinite(upper), upper, 0.0)))  # fmt: skip
    out = [f"{name} {k}: {activity[k]:.12g} < {lower[k]:.12g}" for k in np.flatnonzero(low)[:3]]
    return out + [
        f"{name} {k}: {activity[k]:.12g} > {upper[k]:.12g}" for k in np.flatnonzero(high)[:3]
    ]
