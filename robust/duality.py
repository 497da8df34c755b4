"""The worst case of a linear recourse whose limits depend on the scenario, by its dual.

The recourse's value is concave in xi (all values are maximised), so that a vertex of the set is
worst. In the dual, ``min cost pi + sum_k u_k (term_k pi)`` over dual rows and the binaries u of
the set's binary form; products ``u_k pi`` become columns of their own (H. Sherali and W. Adams,
A hierarchy of relaxations between the continuous and convex hull representations for zero-one
programming problems, SIAM J. Discrete Mathematics 3, 1990): of the dual rows that term k meets,
and of the set's rows. Products of a term alone, between its bounds (B. Zeng and L. Zhao,
Operations Research Letters 41, 2013, have their primal-dual form), leave the relaxation far from
the worst case, since penalties bound the duals loosely.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances.core import Budget, Sense, Status
from nco.mip.backend import Form, Limits, Watch
from nco.mip.highs import HighsEngine, pass_model
from nco.robust.linear import linear_optimum
from nco.robust.model import Indices, Model
from nco.robust.two_stage import Evaluation, InfeasibleRecourseError, Recourse

if TYPE_CHECKING:
    from nco.robust.two_stage import TwoStageProblem
    from nco.robust.uncertainty import BinaryForm

logger = logging.getLogger("nco")

Vector = NDArray[np.float64]
#: Products of binaries and duals, beyond which terms are bounded alone.
PRODUCTS = 100_000
#: Scenarios that the search for a bad one starts from, beside those that are given.
STARTS = 6
#: Share of the time for that search.
SEARCHING = 0.3


class _Limits:
    """Row activities that y must bring about, ``moved + move xi``, at a first stage x."""

    def __init__(self, affine: Recourse, x: Vector):
        self.moved: Vector = -(affine.T @ x)
        self.move: Vector = -affine.slopes(x, np.zeros(len(affine.q)))


class _Duals:
    """The dual of ``max q y, row_lower + g <= W y <= row_upper + g``, g = moved + move xi.

    Parameters
    ----------
    affine
        The recourse; neither q nor W may depend on xi.
    limits
        g.
    """

    def __init__(self, affine: Recourse, limits: _Limits):
        upper, lower = np.isfinite(affine.row_upper), np.isfinite(affine.row_lower)
        above, below = np.isfinite(affine.upper), np.isfinite(affine.lower)
        eye = sparse.identity(len(affine.q), format="csr")
        W = sparse.csr_array(affine.W)
        matrix = sparse.csc_array(
            sparse.hstack([W[upper].T, -W[lower].T, eye[above].T, -eye[below].T])
        )
        moved, move = limits.moved, limits.move
        cost = np.concatenate([
            (affine.row_upper + moved)[upper], -(affine.row_lower + moved)[lower],
            affine.upper[above], -affine.lower[below],
        ])  # fmt: skip
        none = np.zeros((int(above.sum()) + int(below.sum()), move.shape[1]))
        terms = np.vstack([move[upper], -move[lower], none]).T
        kept = _binding(matrix, cost, terms)
        part = sparse.csr_array(matrix)[kept]
        used = np.asarray(abs(part).sum(0)).reshape(-1) > 0
        #: Dual rows ``matrix pi = q`` [r, c], pi >= 0.
        self.matrix = sparse.csr_array(part[:, used])
        self.q: Vector = affine.q[kept]
        #: Objective at xi = 0 [c], and what a unit of each entry of xi adds [q, c].
        self.cost: Vector = cost[used]
        self.terms: Vector = terms[:, used]
        # A dual without rows that costs less than nothing, in some scenario, has no end.
        idle = ~used
        self.endless = bool((cost[idle] < 0).any() or (terms[:, idle] != 0).any())
        self._highs: Any = None

    def value(self, linear: Vector, budget: Budget) -> tuple[Status, float, Vector]:
        """The least value of ``linear pi`` and pi there."""
        size = self.matrix.shape[1]
        if self._highs is None:
            model = Model()
            model.add_rows(self.matrix, model.add_columns(size), self.q, self.q)
            self._highs = pass_model(Form(model.mip(Sense.MINIMIZE)), relaxed=True)
        self._highs.changeColsCost(size, np.arange(size, dtype=np.int32), linear)
        status, pi = linear_optimum(self._highs, budget)
        if status is not Status.OPTIMAL or pi is None:
            return status, math.nan, np.zeros(size)
        return status, float(linear @ pi), pi

    def limits(self, terms: Vector, budget: Budget) -> tuple[Vector, Vector] | None:
        """Least and largest values [k] of ``terms pi``; None where there are none.

        Raises
        ------
        TimeoutError
            When the budget ends first.
        """
        low, high = np.zeros(len(terms)), np.zeros(len(terms))
        for k, term in enumerate(terms):
            if not term.any():
                continue
            for sign, out in ((1.0, low), (-1.0, high)):
                status, value, _ = self.value(sign * term, budget)
                if status is Status.UNKNOWN:
                    raise TimeoutError("out of time in the worst case.")
                if status is not Status.OPTIMAL:
                    return None
                out[k] = sign * value - sign * 1e-7 * max(1.0, abs(value))
        return low, high


def _binding(matrix: sparse.csc_array, cost: Vector, terms: Vector) -> NDArray[np.bool_]:
    """The dual rows [r] that bind: not those that a dual which costs nothing can always meet."""
    free = (cost == 0.0) & ~(terms != 0.0).any(0)
    single = free & (np.diff(matrix.indptr) == 1)
    places = matrix.indptr[:-1][single]
    # The sign of each row's own slack.
    slack = np.zeros(matrix.shape[0])
    slack[matrix.indices[places]] = np.sign(matrix.data[places])
    keep = np.ones(matrix.shape[0], dtype=bool)
    for c in np.flatnonzero(free & ~single):
        part = slice(matrix.indptr[c], matrix.indptr[c + 1])
        rows = matrix.indices[part]
        if (np.sign(matrix.data[part]) == -slack[rows]).all():
            keep[rows] = False
    return keep


def _program(
    duals: _Duals, form: BinaryForm, slope: Vector, low: Vector, high: Vector
) -> tuple[Model, Indices]:
    """The MIP over duals and binaries, and its columns u [k]."""
    matrix, q = duals.matrix, duals.q
    terms = form.matrix.T @ duals.terms
    model = Model()
    pi = model.add_columns(matrix.shape[1], cost=duals.cost + form.base @ duals.terms)
    model.add_rows(matrix, pi, q, q)
    u = model.add_columns(len(terms), 0.0, 1.0, whole=True, cost=slope)
    if len(form.rows):
        model.add_rows(form.rows, u, -np.inf, form.row_upper)
    by_column = sparse.csc_array(matrix)
    left = PRODUCTS
    # Dual -> its products, as binaries and columns.
    products: dict[int, list[tuple[int, int]]] = {}
    for k, term in enumerate(terms):
        if not term.any():
            continue
        rows = np.unique(by_column[:, np.flatnonzero(term)].tocoo().row)
        part = matrix[rows]
        used = np.unique(part.tocoo().col)
        left -= len(used)
        if left < 0 or not len(used):
            w = model.add_columns(1, min(low[k], 0.0), max(high[k], 0.0), cost=1.0)
            here, own = np.ones(1), w
        else:
            # Columns for u_k pi; rows times u_k, and pi - u_k pi >= 0.
            own = model.add_columns(len(used), cost=term[used])
            here = term[used]
            model.add_rows(
                sparse.hstack([part[:, used], -sparse.csr_array(q[rows][:, None])]),
                np.concatenate([own, u[[k]]]), 0.0, 0.0,
            )  # fmt: skip
            eye = sparse.identity(len(used))
            model.add_rows(sparse.hstack([eye, -eye]), np.concatenate([own, pi[used]]), -np.inf, 0)
            for c, column in zip(used.tolist(), own.tolist(), strict=True):
                products.setdefault(c, []).append((k, column))
        # The term's share is at least low u and at least term - high (1 - u).
        model.add_rows(
            np.concatenate([here, [-low[k]]])[None], np.concatenate([own, u[[k]]]), 0.0, np.inf
        )
        met = np.flatnonzero(term)
        model.add_rows(
            np.concatenate([here, -term[met], [-high[k]]])[None],
            np.concatenate([own, pi[met], u[[k]]]), -high[k], np.inf,
        )  # fmt: skip
    for row, limit in zip(form.rows, form.row_upper, strict=True):
        # The set's rows times pi; what has no product is left out, so none may be negative.
        if (row < 0.0).any():
            continue
        for c, pairs in products.items():
            inside = [(row[k], column) for k, column in pairs if row[k] > 0.0]
            if len(inside) > 1:
                model.add_rows(
                    np.array([[*(a for a, _ in inside), -limit]]),
                    np.array([*(column for _, column in inside), pi[c]]), -np.inf, 0.0,
                )  # fmt: skip
    return model, u


def _minimum(
    duals: _Duals, form: BinaryForm, slope: Vector, bounds: tuple[Vector, Vector], budget: Budget
) -> tuple[Vector | None, float]:
    """The binaries of the worst scenario found, and a lower bound of its value."""
    model, u = _program(duals, form, slope, *bounds)
    engine = HighsEngine(Form(model.mip(Sense.MINIMIZE)))
    try:
        outcome = engine.solve(
            Limits(budget.left(), gap=1e-8), watch=Watch(stop=budget.interrupted)
        )
    finally:
        engine.close()
    return (None if outcome.x is None else np.rint(outcome.x[u])), outcome.bound


#: Problem -> bounds of the terms, where no first stage changes them.
_KNOWN: WeakKeyDictionary[TwoStageProblem, tuple[Vector, Vector] | None] = WeakKeyDictionary()


def _term_limits(
    problem: TwoStageProblem, duals: _Duals, terms: Vector, budget: Budget
) -> tuple[Vector, Vector] | None:
    if problem.affine.T_xi:
        return duals.limits(terms, budget)
    if problem not in _KNOWN:
        _KNOWN[problem] = duals.limits(terms, budget)
    return _KNOWN[problem]


def descend(
    linear: Callable[[Vector], tuple[float, Vector] | None],
    extreme: Callable[[Vector], Vector],
    starts: Vector,
    stop: Callable[[], bool],
) -> tuple[Vector, float] | None:
    """A scenario where a concave function is small: from each start, its slope's worst vertex.

    Parameters
    ----------
    linear
        Value and slope [q] at a scenario; None where there is none, which ends the search.
    extreme
        The scenario that is worst for a slope.
    starts
        Scenarios [b, q].
    stop
        Asked before every step.

    Returns
    -------
    The scenario and its value, or the one where there is none and NaN; None without time.
    """
    best: tuple[Vector, float] | None = None
    for xi in starts:
        last = math.inf
        while not stop():
            found = linear(xi)
            if found is None:
                return xi, math.nan
            if best is None or found[0] < best[1]:
                best = xi, found[0]
            if found[0] >= last - 1e-9 * max(1.0, abs(last)):
                break
            last = found[0]
            xi = extreme(found[1])
    return best


def _descend_from(
    problem: TwoStageProblem, x: Vector, duals: _Duals, hints: Vector, budget: Budget
) -> tuple[Vector, float] | None:
    """The worst of what is found from hints, drawn scenarios and the worst for no slope."""
    uncertainty = problem.uncertainty
    slope = problem.affine.p_xi.T @ x + problem.affine.offset_xi

    def linear(xi: Vector) -> tuple[float, Vector] | None:
        status, value, pi = duals.value(duals.cost + xi @ duals.terms, budget)
        if status is not Status.OPTIMAL:
            return None
        return value + float(slope @ xi), duals.terms @ pi + slope

    any_one, _ = uncertainty.worst_case(np.zeros(uncertainty.dimension))
    starts = uncertainty.sample(STARTS, np.random.default_rng(0))
    return descend(
        linear,
        lambda direction: uncertainty.worst_case(direction)[0],
        np.concatenate([hints[:STARTS], any_one[None], starts]),
        lambda: budget.done() is not None,
    )


def bad_scenario(
    problem: TwoStageProblem, x: Vector, budget: Budget, hints: Vector
) -> tuple[float, Vector] | None:
    """What x is worth at most, and the scenario that shows it, without a proof.

    Parameters
    ----------
    problem, x
        The problem and a first stage [p].
    budget
        All of it may be used.
    hints
        Scenarios [b, q] that are likely to be bad.

    Returns
    -------
    The value of both stages, -inf without recourse, and the scenario; None where the recourse
    is not linear with limits that depend on the scenario, or without time.
    """
    affine = problem.affine
    if affine.certain_rows or not (affine.certain_value and affine.continuous):
        return None
    found = _descend_from(problem, x, _Duals(affine, _Limits(affine, x)), hints, budget)
    if found is None or (math.isnan(found[1]) and budget.done() is not None):
        return None
    xi, value = found
    if math.isnan(value):
        # The dual has no optimum: there is no recourse, or it has no end.
        exact = float(problem.recourse_at(x, xi)[0][0, 0])
        return (-math.inf if math.isnan(exact) else problem.first.value(x) + exact), xi
    return problem.first.value(x) + float(affine.p @ x) + affine.offset + value, xi


def static_recourse(
    problem: TwoStageProblem, x: Vector, budget: Budget
) -> tuple[Vector, float] | None:
    """The best recourse that serves all scenarios, and what it brings in the worst one.

    Parameters
    ----------
    problem, x
        The problem, whose recourse is linear with a certain value, and a first stage [p].
    budget
        All of it may be used.

    Returns
    -------
    y [m] and the value of both stages, or None if there is none, or no time.
    """
    affine, limits = problem.affine, _Limits(problem.affine, x)
    low, high = limits.moved + affine.row_lower, limits.moved + affine.row_upper
    for i in np.flatnonzero((limits.move != 0.0).any(1)):
        slope = limits.move[i]
        low[i] -= problem.uncertainty.worst_case(-slope)[1]
        high[i] += problem.uncertainty.worst_case(slope)[1]
    if (low > high).any():
        return None
    model = Model()
    y = model.add_columns(len(affine.q), affine.lower, affine.upper, cost=affine.q)
    model.add_rows(affine.W, y, low, high)
    highs = pass_model(Form(model.mip(Sense.MAXIMIZE)), relaxed=True)
    status, found = linear_optimum(highs, budget)
    if status is not Status.OPTIMAL or found is None:
        return None
    linear, constant = affine.linear(x, found)
    worst = problem.uncertainty.worst_case(linear)[1]
    return found, problem.first.value(x) + constant + worst


def by_duality(
    problem: TwoStageProblem, x: Vector, budget: Budget, form: BinaryForm, hints: Vector
) -> Evaluation | None:
    """The worst case; None where the dual is unbounded, so that its terms have no bounds.

    Parameters
    ----------
    problem, x
        The problem and a first stage [p].
    budget
        Out of it, the interval is that between the worst scenario so far and what one recourse
        for all scenarios guarantees.
    form
        The set's binary form.
    hints
        Scenarios [b, q] that are likely to be bad.

    Raises
    ------
    InfeasibleRecourseError
        When there is no recourse in some scenario.
    TimeoutError
        When the budget ends first and no recourse serves all scenarios.
    """
    affine = problem.affine
    limits = _Limits(affine, x)
    duals = _Duals(affine, limits)
    slope = affine.p_xi.T @ x + affine.offset_xi
    constant = float(affine.p @ x) + affine.offset
    terms = form.matrix.T @ duals.terms

    begun = budget.elapsed()
    duals.value(duals.cost + form.base @ duals.terms, budget)
    # Time for one recourse that serves all scenarios, which is as large as that of one.
    main = budget.reserve(2.0 * (budget.elapsed() - begun))
    found = _descend_from(problem, x, duals, hints, main.share(SEARCHING))
    u, low = None, -math.inf
    if found is None or not math.isnan(found[1]):
        try:
            known = None if duals.endless else _term_limits(problem, duals, terms, main)
            if known is None:
                _feasible_everywhere(problem, x, main, form, limits)
                return None
            u, low = _minimum(duals, form, form.matrix.T @ slope, known, main)
        except TimeoutError:
            logger.debug("out of time in the worst case")
    low += float(slope @ form.base)
    candidates = [form.base if found is None else found[0]]
    if u is not None:
        candidates.append(form.base + form.matrix @ u)
    points = np.array(candidates)
    worst, xi, y = problem.worst_recourse(x, points, Budget())
    first = problem.first.value(x)
    value = first + worst
    out = Evaluation(x, value, min(value, first + constant + low), xi, y)
    if out.exact:
        return out
    whole = static_recourse(problem, x, Budget())
    if whole is None:
        raise TimeoutError("out of time in the worst case.")
    # What can be checked again in no time is what one recourse guarantees.
    return dataclasses.replace(out, guaranteed=min(value, whole[1]), policies=whole[0][None])


def _feasible_everywhere(
    problem: TwoStageProblem, x: Vector, budget: Budget, form: BinaryForm, limits: _Limits
) -> None:
    """Refuse a first stage that some scenario leaves without recourse."""
    affine = problem.affine
    r, m = affine.W.shape
    eye = sparse.identity(r)
    # The least total violation of rows; its dual is bounded.
    slack = dataclasses.replace(
        affine,
        q=np.concatenate([np.zeros(m), -np.ones(2 * r)]),
        W=sparse.csr_array(sparse.hstack([affine.W, eye, -eye])),
        lower=np.concatenate([affine.lower, np.zeros(2 * r)]),
        upper=np.concatenate([affine.upper, np.full(2 * r, np.inf)]),
    )
    duals = _Duals(slack, limits)
    known = duals.limits(form.matrix.T @ duals.terms, budget)
    if known is None:
        raise InfeasibleRecourseError(form.base)
    u, low = _minimum(duals, form, np.zeros(form.matrix.shape[1]), known, budget)
    if u is None:
        raise TimeoutError("out of time in the worst case.")
    xi = form.base + form.matrix @ u
    if low < -1e-6 and np.isnan(problem.recourse_at(x, xi, budget)[0][0, 0]):
        raise InfeasibleRecourseError(xi)
