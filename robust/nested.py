"""The worst case of a whole recourse whose rows depend on the scenario, by its plans.

The inner column-and-constraint generation of L. Zhao and B. Zeng (An exact algorithm for
two-stage robust optimization with mixed integer recourse problems, 2012): the adversary answers
the recourses met so far, the plans; the best recourse in its scenario is the next plan. In
place of the paper's dual of the continuous part, a plan is the whole part of that recourse with
the basis of the rest, by which the continuous columns follow the scenario: for given whole
columns, one of finitely many bases is optimal wherever there is a recourse. A plan is worth
nothing where it violates a row or a bound, so that binaries say which one each plan loses by.
All values here are maximised.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances.core import Budget, Sense, Status, close
from nco.mip.backend import Form, Limits, Neighborhood, Watch, settle
from nco.mip.highs import HighsEngine, pass_model
from nco.robust.linear import linear_optimum
from nco.robust.masters import moved_rows, static_master
from nco.robust.model import Model
from nco.robust.scenarios import ScenarioProgram
from nco.robust.two_stage import EXACT, FINE, Evaluation

if TYPE_CHECKING:
    from nco.robust.two_stage import TwoStageProblem

logger = logging.getLogger("nco")

Vector = NDArray[np.float64]
#: Plans of one worst case, and nodes of one adversary, beyond which there is none. Time would
#: make the answer differ from run to run.
PLANS, NODES = 100, 5_000
#: A plan is lost where it exceeds a limit by this much, relative to limits beyond 1: ten times
#: the tolerance of rows, so that a recourse that is lost is infeasible for engines, too.
LOST = 10 * FINE
#: Excess of a limit at which a plan still serves all scenarios.
SERVES = 1e-9
#: Relative width that an engine's tolerance of rows leaves between an adversary and its plans.
ROUNDING = 2e-6
#: HiGHS' number for a column or a row in a basis.
BASIC = 1
#: Scenarios that are asked first.
HINTS = 20
#: Share of the time for one recourse that serves all scenarios.
STATIC = 0.3


def suits(problem: TwoStageProblem) -> bool:
    """Whether finitely many plans settle a worst case.

    They do if continuous columns have certain entries in rows, and a certain value where rows
    that depend on the scenario can move them: such a plan is linear in the scenario.
    """
    # Not above: it loads scipy's linear algebra.
    from scipy.sparse import csgraph

    affine = problem.affine
    free = np.flatnonzero(~affine.whole)
    if any(part[:, free].count_nonzero() for part in affine.W_xi.values()):
        return False
    # Rows that share a continuous column move together.
    shared = sparse.csr_array(abs(affine.W[:, free]))
    _, label = csgraph.connected_components(shared @ shared.T, directed=False)
    rows = np.isin(label, label[moved_rows(affine)])
    moved = shared[rows].sum(0) > 0.0
    return not affine.q_xi[free[moved]].count_nonzero()


@dataclass(frozen=True)
class _Plan:
    """One recourse ``y + turn xi`` [m] at a first stage.

    Parameters
    ----------
    y, turn
        The recourse [m] and [m, k].
    slope, constant, most
        Its value ``slope xi + constant``, and the largest one in the set.
    rows, limits
        Excesses ``rows xi - limits`` [s] of those limits that it loses in some scenario.
    least, lost
        The excesses' least values [s] and those from which it is lost [s].
    serves
        Whether it is a recourse in every scenario.
    """

    y: Vector
    turn: Vector
    slope: Vector
    constant: float
    most: float
    rows: Vector
    limits: Vector
    least: Vector
    lost: Vector
    serves: bool


def _plan(problem: TwoStageProblem, x: Vector, y: Vector, turn: Vector) -> _Plan:
    affine, uncertainty = problem.affine, problem.uncertainty
    slope, constant = affine.linear(x, y)
    slope = slope + turn.T @ affine.q
    # Rows, then the bounds of columns that follow the scenario.
    slopes = np.concatenate([affine.slopes(x, y) + affine.W @ turn, turn])
    level = np.concatenate([affine.T @ x + affine.W @ y, y])
    lower = np.concatenate([affine.row_lower, affine.lower])
    upper = np.concatenate([affine.row_upper, affine.upper])
    kept, serves = [], not turn.any()
    for i in np.flatnonzero(slopes.any(1)):
        for side, limit in ((1.0, upper[i]), (-1.0, lower[i])):
            if not math.isfinite(limit):
                continue
            row, shift = side * slopes[i], side * (limit - level[i])
            scale = max(1.0, abs(limit))
            most = -uncertainty.worst_case(-row)[1] - shift
            serves &= bool(most <= SERVES * scale)
            if most >= LOST * scale:
                least = uncertainty.worst_case(row)[1] - shift
                kept.append((row, shift, least, LOST * scale))
    rows, limits, least, lost = (np.array([k[j] for k in kept]) for j in range(4))
    return _Plan(
        y, turn, slope, constant, constant - uncertainty.worst_case(-slope)[1],
        rows.reshape(-1, len(slope)), limits, least, lost, serves,
    )  # fmt: skip


def _follow(
    problem: TwoStageProblem, x: Vector, xi: Vector, y: Vector
) -> tuple[Vector, Vector, bytes]:
    """The best recourse y [m] in xi as ``base + turn xi``, and what tells two of them apart.

    Any matrix would give a valid plan; with that of an optimal basis finitely many plans are
    enough.
    """
    affine = problem.affine
    turn = np.zeros((len(y), problem.uncertainty.dimension))
    free = np.flatnonzero(~affine.whole)
    moved = affine.slopes(x, y)
    if not len(free) or not moved.any():
        return y, turn, (y + 0.0).tobytes()
    stage = problem.stage(xi)
    fixed = np.where(affine.whole, y, 0.0)
    shift = stage.T @ x + stage.W @ fixed
    model = Model()
    columns = model.add_columns(len(free), stage.lower[free], stage.upper[free], cost=stage.q[free])
    W = sparse.csr_array(affine.W[:, free])
    model.add_rows(W, columns, stage.row_lower - shift, stage.row_upper - shift)
    highs = pass_model(Form(model.mip(Sense.MAXIMIZE), FINE), relaxed=True)
    status, found = linear_optimum(highs, Budget())
    basis = highs.getBasis()
    if found is None or status is not Status.OPTIMAL or not basis.valid:
        return y, turn, (y + 0.0).tobytes()
    fixed[free] = found
    # The rows at a limit, which moves, determine the columns that are at none.
    states = [bytes(map(int, part)) for part in (basis.col_status, basis.row_status)]
    inside, tight = (np.frombuffer(part, dtype=np.uint8) for part in states)
    inside, tight = inside == BASIC, tight != BASIC
    if inside.any():
        turn[free[inside]] = np.linalg.solve(W.toarray()[tight][:, inside], -moved[tight])
    return fixed - turn @ xi, turn, np.where(affine.whole, y, 0.0).tobytes() + b"".join(states)


class PlanProgram(ScenarioProgram):
    """``min z, z >= floor`` over the set; z is the value of the best plan that is not lost.

    Parameters
    ----------
    problem, x
        The problem and a first stage [p].
    """

    def __init__(self, problem: TwoStageProblem, x: Vector):
        self.problem, self.x = problem, x
        self.uncertainty = problem.uncertainty
        self.plans: dict[bytes, _Plan] = {}
        self.floor = -math.inf
        #: Whether the last program needed too many nodes.
        self.exhausted = False
        self._cuts: list[tuple[Vector, float, float]] = []

    def add(self, y: Vector, xi: Vector | None = None) -> bool:
        """Add the plan y [m] that is best in xi, or of itself; False if it is there already."""
        turn, key = np.zeros((len(y), self.uncertainty.dimension)), (y + 0.0).tobytes()
        if xi is not None:
            y, turn, key = _follow(self.problem, self.x, xi, y)
        if key in self.plans:
            return False
        self.plans[key] = _plan(self.problem, self.x, y, turn)
        return True

    def _row(self, row: Vector, lower: float, upper: float) -> None:
        self._cuts.append((row, lower, upper))

    def _optimum(self, budget: Budget) -> tuple[Vector, float] | None:
        model = Model()
        xi = self.uncertainty.add_to(model)
        z = model.add_columns(1, self.floor, np.inf, cost=1.0)
        for row, lower, upper in self._cuts:
            model.add_rows(row[None], np.concatenate([xi, z]), lower, upper)
        for plan in self.plans.values():
            if plan.most <= self.floor:
                continue
            # z >= value - (most - floor) lost; lost rows exceed their limits.
            lost = model.add_columns(len(plan.limits), 0.0, 1.0, whole=True)
            model.add_rows(
                np.concatenate([-plan.slope, [1.0], np.full(len(lost), plan.most - self.floor)])[
                    None
                ],
                np.concatenate([xi, z, lost]), plan.constant, np.inf,
            )  # fmt: skip
            if len(lost):
                model.add_rows(
                    np.hstack([plan.rows, np.diag(plan.least - plan.lost)]),
                    np.concatenate([xi, lost]), plan.limits + plan.least, np.inf,
                )  # fmt: skip
        engine = HighsEngine(Form(model.mip(Sense.MINIMIZE), FINE))
        try:
            outcome = engine.solve(
                Limits(budget.left(), nodes=NODES, gap=1e-9), watch=Watch(stop=budget.interrupted)
            )
        finally:
            engine.close()
        if outcome.status is not Status.OPTIMAL or outcome.x is None:
            self.exhausted = outcome.nodes >= NODES
            return None
        whole = bool(model.mip().integrality.any())
        return outcome.x[xi], outcome.bound if whole else outcome.objective


def _static(problem: TwoStageProblem, x: Vector, budget: Budget) -> Vector | None:
    """A recourse [m] for x that serves all scenarios, the best one found; None without."""
    master = static_master(problem)
    form = Form(master.mip, FINE)
    if settle(form) is not None:
        return None
    engine = HighsEngine(form)
    try:
        outcome = engine.solve(
            Limits(budget.left(), nodes=NODES, gap=1e-6), Neighborhood(fix=(master.x, x)),
            watch=Watch(stop=budget.interrupted),
        )  # fmt: skip
    finally:
        engine.close()
    return None if outcome.x is None else form.rounded(outcome.x)[master.y[0]]


def by_plans(
    problem: TwoStageProblem, x: Vector, budget: Budget, hints: Vector | None = None
) -> Evaluation | None:
    """The worst case; None where the recourse does not suit or takes too many plans.

    The worst scenarios are often just beyond those where a row is met: by `LOST`, which is too
    little to show in a value. Between the two, only the recourses in hints are asked for.

    Parameters
    ----------
    problem, x
        The problem and a first stage [p].
    budget
        Out of it, the interval is that between the worst scenario so far and what the plans
        that serve all scenarios guarantee.
    hints
        Scenarios [b, k] that are likely to be bad; the first `HINTS` are asked.

    Raises
    ------
    InfeasibleRecourseError
        When there is no recourse in some scenario.
    TimeoutError
        When the budget ends first and no plan serves all scenarios.
    """
    if not suits(problem):
        return None
    first = problem.first.value(x)
    program = PlanProgram(problem, x)
    best = (math.inf, np.zeros(0), np.zeros(0))

    def ask(scenarios: Vector) -> bool:
        """The best recourse in the worst of some scenarios; whether it is a new plan."""
        nonlocal best
        found = problem.worst_recourse(x, scenarios, budget)
        if found[0] < best[0]:
            best = found
        return program.add(found[2], found[1])

    start = problem.uncertainty.worst_case(np.zeros(problem.uncertainty.dimension))[0]
    ask(start[None] if hints is None or not len(hints) else hints[:HINTS])
    static = _static(problem, x, budget.share(STATIC))
    if static is not None:
        program.add(static)
    low, span = -math.inf, max(1.0, 0.1 * abs(best[0]))
    settled = False

    def meets() -> bool:
        return math.isfinite(low) and close(min(low, best[0]), best[0], EXACT)

    try:
        while not settled and len(program.plans) <= PLANS:
            # The floor is no bound: what reaches it shows only where to look.
            program.floor = best[0] - span
            found = program.solve(budget)
            if found is None:
                if program.exhausted:
                    return None
                break
            xi, z = found
            above = z > program.floor + 1e-6 * span
            low = max(low, z) if above else low
            before = best[0]
            settled = meets()
            if settled:
                break
            fresh = ask(xi[None])
            settled = meets()
            if not fresh and above and close(low, best[0], ROUNDING):
                # The best recourse in the adversary's scenario is a plan: only rounding is left.
                low, settled = best[0], True
            if not (settled or fresh or best[0] < before):
                logger.debug("rounding leaves a plan alive that should be lost")
                return None
            span = span if above else 2.0 * span
    except TimeoutError:
        logger.debug("out of time in the worst case")
    if not settled and budget.done() is None and len(program.plans) > PLANS:
        return None
    if settled:
        return Evaluation(x, first + best[0], first + min(low, best[0]), best[1], best[2])
    return _interval(program, first, best)


def _interval(program: PlanProgram, first: float, best: tuple[float, Vector, Vector]) -> Evaluation:
    serving = [plan for plan in program.plans.values() if plan.serves]
    if not serving:
        raise TimeoutError("out of time in the worst case.")
    from nco.robust.evaluation import guaranteed

    policies = np.array([plan.y for plan in serving])
    value = first + best[0]
    least = min(value, guaranteed(program.problem, program.x, policies))
    return Evaluation(program.x, value, least, best[1], best[2], policies)
