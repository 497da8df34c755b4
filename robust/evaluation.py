"""The worst case of a first stage: five ways to find it, chosen by what depends on xi.

All values here are maximised: the recourse maximises, the adversary minimises.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Budget, Sense, Status
from nco.mip.backend import Form, Limits, Watch
from nco.mip.highs import HighsEngine, pass_model
from nco.robust.duality import by_duality
from nco.robust.linear import linear_optimum
from nco.robust.model import Indices, Model
from nco.robust.nested import by_plans
from nco.robust.scenarios import ScenarioProgram
from nco.robust.two_stage import (
    Evaluation,
    InfeasibleRecourseError,
    SecondStage,
    UnboundedRecourseError,
)
from nco.robust.uncertainty import TooManyError

if TYPE_CHECKING:
    from nco.robust.two_stage import TwoStageProblem

logger = logging.getLogger("nco")

Vector = NDArray[np.float64]

#: Vertices that are worth listing one by one.
LISTED = 2_000
#: Scenarios of the list for worst cases that nothing settles, and its seed.
SAMPLED, SEED = 500, 20_240
#: Relative width at which cutting planes end.
CLOSED = 1e-9


# ----------------------------------------------------------------------------- recourse


def recourse_model(stage: SecondStage, x: Vector) -> tuple[Model, Indices]:
    """The second stage of a first stage x [p] in one scenario, maximised; its columns [m]."""
    model = Model()
    y = model.add_columns(len(stage.q), stage.lower, stage.upper, whole=stage.whole, cost=stage.q)
    if len(stage.row_lower):
        shift = stage.T @ x
        model.add_rows(stage.W, y, stage.row_lower - shift, stage.row_upper - shift)
    model.offset = stage.offset + float(stage.p @ x)
    return model, y


def recourse_by_mip(
    problem: TwoStageProblem, x: Vector, xi: Vector, budget: Budget
) -> tuple[Vector, Vector]:
    """Second stages of first stages [a, p] in scenarios [b, k], one MIP or LP each.

    Returns
    -------
    Values [a, b], NaN without recourse, and y [a, b, m].

    Raises
    ------
    UnboundedRecourseError
        When one is unbounded.
    TimeoutError
        When the budget ends first.
    """
    values = np.empty((len(x), len(xi)))
    y = np.zeros((len(x), len(xi), len(problem.recourse.q)))
    if problem.affine.continuous and not problem.affine.W_xi:
        stages = [problem.stage(scenario) for scenario in xi]
        for a, first in enumerate(x):
            _linear_recourses(stages, first, budget, values[a], y[a])
        return values, y
    for b, scenario in enumerate(xi):
        stage = problem.stage(scenario)
        for a, first in enumerate(x):
            values[a, b], y[a, b] = _one_recourse(stage, first, budget, problem.tolerance)
    return values, y


def _one_recourse(
    stage: SecondStage, x: Vector, budget: Budget, tolerance: float | None = None
) -> tuple[float, Vector]:
    model, _ = recourse_model(stage, x)
    form = Form(model.mip(Sense.MAXIMIZE), tolerance)
    if form.contradiction():
        return math.nan, np.zeros(form.n)
    if stage.whole.any():
        engine = HighsEngine(form)
        try:
            outcome = engine.solve(Limits(budget.left()), watch=Watch(stop=budget.interrupted))
        finally:
            engine.close()
        status, found = outcome.status, outcome.x
    else:
        status, found = linear_optimum(pass_model(form, relaxed=True), budget)
    if status is Status.OPTIMAL and found is not None:
        found = form.rounded(found)
        return form.original(form.value(found)), found
    if status is Status.INFEASIBLE:
        return math.nan, np.zeros(form.n)
    if status is Status.UNBOUNDED:
        raise UnboundedRecourseError(
            "the second stage is unbounded; give its columns or rows limits."
        )
    raise TimeoutError("out of time in the second stage.")


def _linear_recourses(
    stages: Sequence[SecondStage], x: Vector, budget: Budget, values: Vector, y: Vector
) -> None:
    """Linear second stages with the same W [b]: each starts from the basis of the one before."""
    highs: Any = None
    for b, stage in enumerate(stages):
        shift = stage.T @ x
        low, high = stage.row_lower - shift, stage.row_upper - shift
        if highs is None:
            model, columns = recourse_model(stage, x)
            form = Form(model.mip(Sense.MAXIMIZE))
            if form.contradiction():
                values[b], y[b] = _one_recourse(stage, x, budget)
                continue
            highs = pass_model(form, relaxed=True)
            rows = np.arange(len(low), dtype=np.int32)
            columns = columns.astype(np.int32)
        else:
            if len(rows):
                highs.changeRowsBounds(len(rows), rows, low, high)
            highs.changeColsCost(len(columns), columns, -stage.q)
        status, found = linear_optimum(highs, budget)
        if status is Status.OPTIMAL and found is not None:
            y[b] = np.clip(found, stage.lower, stage.upper)
            values[b] = float(stage.q @ y[b]) + stage.offset + float(stage.p @ x)
        else:
            # Without solution, unbounded, or out of time: the full answer.
            values[b], y[b] = _one_recourse(stage, x, budget)
            highs = None


# ----------------------------------------------------------------------- cutting planes


class CutProgram(ScenarioProgram):
    """``min z, z >= linear xi + constant`` for some recourses, xi in the set.

    Parameters
    ----------
    problem
        Gives the set; its rows must be certain.
    """

    def __init__(self, problem: TwoStageProblem):
        self.uncertainty = problem.uncertainty
        model = Model()
        self.xi = self.uncertainty.add_to(model)
        self.z = int(model.add_columns(1, -np.inf, np.inf, cost=1.0)[0])
        self.mip = model.mip(Sense.MINIMIZE)
        self.whole = bool(self.mip.integrality.any())
        form = Form(self.mip)
        self._engine = HighsEngine(form) if self.whole else None
        self._highs = None if self.whole else pass_model(form, relaxed=True)
        self._columns = np.concatenate([self.xi, [self.z]]).astype(np.int32)
        self._rows = self.mip.m
        self.count = 0

    def add(self, linear: Vector, constant: float) -> None:
        """Add one recourse's objective."""
        self._row(np.concatenate([-linear, [1.0]]), constant, np.inf)
        self.count += 1

    def clear(self) -> None:
        """Forget all recourses; for sets without whole columns."""
        assert self._highs is not None
        if self._highs.getNumRow() > self._rows:
            self._highs.deleteRows(self._rows, self._highs.getNumRow() - 1)
        self.count = 0

    def weights(self) -> Vector:
        """The recourses' shares in the last optimum; for sets without whole columns."""
        assert self._highs is not None
        duals = np.array(self._highs.getSolution().row_dual)
        return np.abs(duals[self._rows :])

    def _row(self, row: Vector, lower: float, upper: float) -> None:
        if self._highs is not None:
            keep = np.flatnonzero(row)
            self._highs.addRow(lower, upper, len(keep), self._columns[keep], row[keep])
            return
        assert self._engine is not None
        full = np.zeros(self.mip.n)
        full[self._columns] = row
        self._engine.add_rows(full[None], np.array([lower]), np.array([upper]))

    def _optimum(self, budget: Budget) -> tuple[Vector, float] | None:
        if self._highs is not None:
            status, x = linear_optimum(self._highs, budget)
            return None if status is not Status.OPTIMAL or x is None else (x[self.xi], x[self.z])
        assert self._engine is not None
        outcome = self._engine.solve(
            Limits(budget.left(), gap=1e-9), watch=Watch(stop=budget.interrupted)
        )
        if outcome.status is not Status.OPTIMAL or outcome.x is None:
            return None
        return outcome.x[self.xi], outcome.bound


def guaranteed(problem: TwoStageProblem, x: Vector, policies: Vector) -> float:
    """What the best of fixed recourses [k, m] brings in every scenario, maximised.

    They must be recourses in every scenario.
    """
    program = CutProgram(problem)
    for y in policies:
        program.add(*problem.affine.linear(x, y))
    found = program.solve(Budget())
    assert found is not None
    return problem.first.value(x) + found[1]


def by_cuts(problem: TwoStageProblem, x: Vector, budget: Budget, hints: Vector) -> Evaluation:
    """The worst case where only the objective depends on the scenario.

    The recourse's value is convex in xi: the maximum of the linear objectives of all
    recourses. A program over xi and some of them gives a lower bound and a scenario; the
    best recourse there is the next one (J. E. Kelley, The cutting-plane method for solving
    convex programs, J. SIAM 8, 1960).
    """
    first = problem.first.value(x)
    program = CutProgram(problem)
    policies: dict[bytes, Vector] = {}
    best = (math.inf, np.zeros(0), np.zeros(0))
    low = -math.inf

    def ask(xi: Vector) -> bool:
        nonlocal best
        values, ys = problem.recourse_at(x, xi, budget)
        for value, scenario, y in zip(values[0], np.atleast_2d(xi), ys[0], strict=True):
            if math.isnan(value):
                raise InfeasibleRecourseError(scenario)
            if value < best[0]:
                best = (float(value), scenario, y)
        fresh = False
        for y in ys[0]:
            if y.tobytes() not in policies:
                policies[y.tobytes()] = y
                program.add(*problem.affine.linear(x, y))
                fresh = True
        return fresh

    any_one, _ = problem.uncertainty.worst_case(np.zeros(problem.uncertainty.dimension))
    start = hints[:20] if len(hints) else any_one[None]
    try:
        ask(start)
        while True:
            found = program.solve(budget)
            if found is None:
                break
            xi, z = found
            low = max(low, z)
            if best[0] - low <= CLOSED * max(1.0, abs(best[0])) or not ask(xi):
                # A recourse that is known already was the best one there.
                break
            if best[0] - low <= CLOSED * max(1.0, abs(best[0])):
                break
    except TimeoutError:
        if not policies:
            raise
    if not math.isfinite(low):
        low = _quick_guarantee(problem, x, list(policies.values()))
    return Evaluation(
        x, first + best[0], first + min(low, best[0]), best[1], best[2],
        np.array(list(policies.values())),
    )  # fmt: skip


def _quick_guarantee(problem: TwoStageProblem, x: Vector, policies: list[Vector]) -> float:
    values = []
    for y in policies[:50]:
        linear, constant = problem.affine.linear(x, y)
        values.append(problem.uncertainty.worst_case(linear)[1] + constant)
    return max(values)


# ------------------------------------------------------------------------------ listing


def by_listing(
    problem: TwoStageProblem, x: Vector, budget: Budget, scenarios: Vector, sampled: str = ""
) -> Evaluation:
    """The worst of listed scenarios [b, k]; exact where they are all that matter.

    Raises
    ------
    InfeasibleRecourseError
        When there is no recourse in one of them.
    TimeoutError
        When the budget ends first.
    """
    first = problem.first.value(x)
    best = (math.inf, scenarios[0], np.zeros(len(problem.recourse.q)))
    for begin in range(0, len(scenarios), 64):
        part = scenarios[begin : begin + 64]
        found = problem.worst_recourse(x, part, budget)
        if found[0] < best[0]:
            best = found
    low = first + best[0] if not sampled else -math.inf
    return Evaluation(x, first + best[0], low, best[1], best[2], sampled=sampled)


# ------------------------------------------------------------------------------- choice


def sampled_scenarios(problem: TwoStageProblem) -> Vector:
    """The fixed list by which worst cases are judged that nothing settles: general-v1."""
    rng = np.random.default_rng(SEED)
    uncertainty = problem.uncertainty
    parts = [uncertainty.sample(SAMPLED, rng)]
    try:
        parts.insert(0, uncertainty.vertices(SAMPLED))
    except TooManyError:
        directions = rng.normal(size=(SAMPLED // 5, uncertainty.dimension))
        parts.insert(0, np.array([uncertainty.worst_case(d)[0] for d in directions]))
    return np.concatenate(parts)


def worst_case(problem: TwoStageProblem, x: Vector, budget: Budget, hints: Vector) -> Evaluation:
    """The worst case of a first stage x [p].

    Exact where the set is finite, only the objective depends on the scenario, the recourse is
    linear with a certain objective and the set has a binary form, or few plans settle it: whole
    parts whose continuous rest has certain entries, and a certain value where it moves.
    Otherwise the worst of the list ``general-v1``.

    Parameters
    ----------
    problem, x
        The problem and a first stage [p].
    budget
        All of it may be used.
    hints
        Scenarios [b, k] that are likely to be bad.

    Raises
    ------
    InfeasibleRecourseError
        When there is no recourse in some scenario.
    TimeoutError
        When the budget ends before there is any value.
    """
    affine, uncertainty = problem.affine, problem.uncertainty
    if uncertainty.finite:
        try:
            return by_listing(problem, x, budget, uncertainty.vertices(LISTED))
        except TooManyError:
            logger.debug("too many scenarios to list")
    if affine.certain_rows:
        return by_cuts(problem, x, budget, hints)
    if affine.certain_value and affine.continuous:
        form = uncertainty.binary_form(LISTED)
        if form is not None:
            found = by_duality(problem, x, budget, form, hints)
            if found is not None:
                return found
            try:
                return by_listing(problem, x, budget, uncertainty.vertices(LISTED))
            except TooManyError:
                logger.debug("too many vertices to list")
    found = by_plans(problem, x, budget, hints)
    if found is not None:
        return found
    return by_listing(problem, x, budget, sampled_scenarios(problem), "general-v1")
