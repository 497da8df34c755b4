"""The MIPs over first stages: copies of the recourse, and recourses dualised over the set.

Everything is maximised. A linear function ``constant + coefficients z + (slope z) xi`` of
columns z is at least t in every scenario if its minimum over the set's rows is, and that
minimum is a linear program whose dual adds columns and rows only (D. Bertsimas and M. Sim, The
price of robustness, Operations Research 52, 2004, for budgets; the same for any rows).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances.core import Sense
from nco.instances.mip import MIP
from nco.robust.model import Indices, Model
from nco.robust.two_stage import Recourse, TwoStageProblem
from nco.robust.uncertainty import UncertaintySet

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Master:
    """A MIP over first stages.

    Parameters
    ----------
    mip
        The model.
    x
        Its first-stage columns [p].
    y
        Its copies of the recourse [k, m].
    theta
        The column of the worst second stage.
    """

    mip: MIP
    x: Indices
    y: tuple[Indices, ...]
    theta: Indices


class Dual:
    """The rows of a set, whose dual bounds linear functions from below.

    Parameters
    ----------
    uncertainty
        The set; where its rows are not exact, what is guaranteed holds in more than the set.
    """

    def __init__(self, uncertainty: UncertaintySet):
        model = Model()
        self.xi = uncertainty.add_to(model)
        mip = model.mip()
        eye = sparse.identity(mip.n, format="csr")
        low, high = np.isfinite(mip.row_lower), np.isfinite(mip.row_upper)
        below, above = np.isfinite(mip.lower), np.isfinite(mip.upper)
        #: Transposed rows [columns of the set, duals], and the duals' objective.
        self.matrix = sparse.csr_array(
            sparse.hstack([mip.A[low].T, -mip.A[high].T, eye[below].T, -eye[above].T])
        )
        self.cost = np.concatenate(
            [mip.row_lower[low], -mip.row_upper[high], mip.lower[below], -mip.upper[above]]
        )
        self.size = mip.n

    def add_minimum(
        self,
        model: Model,
        columns: Indices,
        coefficients: Vector,
        slope: sparse.csr_array,
        fixed: Vector,
        limit: Indices | None,
        least: float,
    ) -> None:
        """Require ``coefficients z + min_xi (slope z + fixed) xi - limit >= least``.

        Parameters
        ----------
        model
            Gets columns and rows.
        columns
            Of z [c].
        coefficients
            What they bring without xi [c].
        slope, fixed
            Coefficients of xi: [k, c] and [k].
        limit
            A column to be subtracted, or None.
        least
            The least value.
        """
        duals = model.add_columns(len(self.cost))
        place = sparse.csr_array(
            (np.ones(len(self.xi)), (self.xi, np.arange(len(self.xi)))),
            shape=(self.size, len(self.xi)),
        )
        rhs = np.asarray(place @ fixed)
        model.add_rows(
            sparse.hstack([self.matrix, -(place @ slope)]),
            np.concatenate([duals, columns]), rhs, rhs,
        )  # fmt: skip
        parts, used = [coefficients, self.cost], [columns, duals]
        if limit is not None:
            parts.append(np.array([-1.0]))
            used.append(limit)
        row = np.concatenate(parts)
        model.add_rows(sparse.csr_array(row[None]), np.concatenate(used), least, np.inf)


def _start(problem: TwoStageProblem) -> tuple[Model, Indices, Indices]:
    model = Model()
    x = problem.add_first_stage(model)
    theta = model.add_columns(1, -np.inf, np.inf, cost=1.0)
    return model, x, theta


def _add_columns(model: Model, problem: TwoStageProblem, relaxed: bool = False) -> Indices:
    affine = problem.affine
    whole = np.zeros_like(affine.whole) if relaxed else affine.whole
    return model.add_columns(len(affine.q), affine.lower, affine.upper, whole=whole)


def add_copy(
    model: Model,
    problem: TwoStageProblem,
    x: Indices,
    theta: Indices,
    xi: Vector,
    y: Indices | None = None,
) -> Indices:
    """Add the recourse in scenario xi, above whose value theta cannot be; its columns.

    Columns y that are there already have to do for this scenario, too.
    """
    stage = problem.stage(xi)
    if y is None:
        y = _add_columns(model, problem)
    if len(stage.row_lower):
        model.add_rows(
            sparse.hstack([stage.T, stage.W]), np.concatenate([x, y]),
            stage.row_lower, stage.row_upper,
        )  # fmt: skip
    row = np.concatenate([stage.p, stage.q, [-1.0]])
    model.add_rows(
        sparse.csr_array(row[None]), np.concatenate([x, y, theta]), -stage.offset, np.inf
    )
    return y


def add_relaxed(
    model: Model, problem: TwoStageProblem, dual: Dual, x: Indices, theta: Indices
) -> Indices:
    """Add one continuous recourse for all scenarios; theta is at most its worst value.

    With certain rows and a convex set, minimum and maximum change places, so that this is
    the relaxed recourse exactly: an upper bound for whole recourses (the columns are those of
    y).
    """
    affine = problem.affine
    y = _add_columns(model, problem, relaxed=True)
    model.add_rows(
        sparse.hstack([affine.T, affine.W]), np.concatenate([x, y]),
        affine.row_lower, affine.row_upper,
    )  # fmt: skip
    _add_objective(model, problem, dual, x, y, theta)
    return y


def _add_objective(
    model: Model, problem: TwoStageProblem, dual: Dual, x: Indices, y: Indices, theta: Indices
) -> None:
    affine = problem.affine
    dual.add_minimum(
        model,
        np.concatenate([x, y]),
        np.concatenate([affine.p, affine.q]),
        sparse.csr_array(sparse.hstack([affine.p_xi.T, affine.q_xi.T])),
        affine.offset_xi,
        theta,
        -affine.offset,
    )


def scenario_master(
    problem: TwoStageProblem, scenarios: Iterable[Vector], *, relaxed: bool = False
) -> Master:
    """First stages that are best in the worst of some scenarios.

    B. Zeng and L. Zhao, Operations Research Letters 41 (2013), section 2.

    Parameters
    ----------
    problem
        The problem.
    scenarios
        Each gets a copy of the recourse.
    relaxed
        Also the relaxed recourse in all scenarios at once; see `add_relaxed`.
    """
    model, x, theta = _start(problem)
    y = tuple(add_copy(model, problem, x, theta, xi) for xi in scenarios)
    if relaxed:
        add_relaxed(model, problem, Dual(problem.uncertainty), x, theta)
    return Master(model.mip(Sense.MAXIMIZE), x, y, theta)


def relaxed_master(problem: TwoStageProblem) -> Master:
    """First stages that are best with relaxed recourses; their rows must be certain."""
    model, x, theta = _start(problem)
    y = add_relaxed(model, problem, Dual(problem.uncertainty), x, theta)
    return Master(model.mip(Sense.MAXIMIZE), x, (y,), theta)


def moved_rows(affine: Recourse) -> NDArray[np.intp]:
    """The recourse's rows that depend on the scenario."""
    moved = np.asarray(np.abs(affine.h_xi).sum(1)).reshape(-1) > 0
    for parts in (affine.T_xi, affine.W_xi):
        for more in parts.values():
            moved |= np.asarray(np.abs(more).sum(1)).reshape(-1) > 0
    return np.flatnonzero(moved)


def static_master(problem: TwoStageProblem) -> Master:
    """First stages that are best with one recourse for all scenarios."""
    affine = problem.affine
    model, x, theta = _start(problem)
    dual = Dual(problem.uncertainty)
    y = _add_columns(model, problem)
    both = np.concatenate([x, y])
    rows = sparse.csr_array(sparse.hstack([affine.T, affine.W]))
    moved = moved_rows(affine)
    same = np.setdiff1d(np.arange(len(affine.row_lower)), moved)
    if len(same):
        model.add_rows(rows[same], both, affine.row_lower[same], affine.row_upper[same])
    k, moving = problem.uncertainty.dimension, affine.T_xi or affine.W_xi
    none = (sparse.csr_array(affine.T.shape), sparse.csr_array(affine.W.shape))
    for i in moved:
        slope = sparse.vstack([
            sparse.hstack([affine.T_xi.get(j, none[0])[[i]], affine.W_xi.get(j, none[1])[[i]]])
            for j in range(k)
        ], format="csr") if moving else sparse.csr_array((k, len(both)))  # fmt: skip
        shift = affine.h_xi[[i]].toarray()[0]
        row = rows[[i]].toarray()[0]
        if np.isfinite(affine.row_lower[i]):
            dual.add_minimum(model, both, row, slope, -shift, None, affine.row_lower[i])
        if np.isfinite(affine.row_upper[i]):
            dual.add_minimum(model, both, -row, -slope, shift, None, -affine.row_upper[i])
    _add_objective(model, problem, dual, x, y, theta)
    return Master(model.mip(Sense.MAXIMIZE), x, (y,), theta)


def policy_master(problem: TwoStageProblem, groups: Sequence[Sequence[Vector]]) -> Master:
    """First stages with one recourse for each group of scenarios, best in the worst of all."""
    affine = problem.affine
    model, x, theta = _start(problem)
    same = np.setdiff1d(np.arange(len(affine.row_lower)), moved_rows(affine))
    rows = sparse.csr_array(sparse.hstack([affine.T, affine.W]))[same]
    copies = []
    for group in groups:
        y = _add_columns(model, problem)
        copies.append(y)
        if not len(group) and len(same):
            model.add_rows(
                rows, np.concatenate([x, y]), affine.row_lower[same], affine.row_upper[same]
            )
        for xi in group:
            add_copy(model, problem, x, theta, xi, y)
    return Master(model.mip(Sense.MAXIMIZE), x, tuple(copies), theta)


def adaptable_master(problem: TwoStageProblem, count: int) -> Master:
    """First stages that are best with ``count`` binary recourses, one taken in each scenario.

    With certain rows the minimum over scenarios of the best recourse is a maximum over convex
    combinations of them; products of weights and binaries are linear (G. Hanasusanto,
    D. Kuhn and W. Wiesemann, K-adaptability in two-stage robust binary programming,
    Operations Research 63, 2015, section 3).
    """
    affine = problem.affine
    model, x, theta = _start(problem)
    m = len(affine.q)
    eye = sparse.identity(m, format="csr")
    weights = model.add_columns(count, 0.0, 1.0)
    model.add_rows(np.ones((1, count)), weights, 1.0, 1.0)
    for k in range(count - 1):
        # Recourses are alike; the heaviest comes first.
        model.add_rows(np.array([[1.0, -1.0]]), weights[[k, k + 1]], 0.0, np.inf)
    copies, parts = [], []
    for k in range(count):
        y = _add_columns(model, problem)
        copies.append(y)
        model.add_rows(
            sparse.hstack([affine.T, affine.W]), np.concatenate([x, y]),
            affine.row_lower, affine.row_upper,
        )  # fmt: skip
        part = model.add_columns(m, 0.0, 1.0)
        parts.append(part)
        ones = sparse.csr_array(np.ones((m, 1)))
        model.add_rows(sparse.hstack([eye, -eye]), np.concatenate([part, y]), -np.inf, 0.0)
        both = np.concatenate([part, weights[[k]]])
        model.add_rows(sparse.hstack([eye, -ones]), both, -np.inf, 0.0)
        model.add_rows(
            sparse.hstack([eye, -eye, -ones]),
            np.concatenate([part, y, weights[[k]]]), -1.0, np.inf,
        )  # fmt: skip
    Dual(problem.uncertainty).add_minimum(
        model,
        np.concatenate([x, *parts]),
        np.concatenate([affine.p, *([affine.q] * count)]),
        sparse.csr_array(sparse.hstack([affine.p_xi.T, *([affine.q_xi.T] * count)])),
        affine.offset_xi,
        theta,
        -affine.offset,
    )
    return Master(model.mip(Sense.MAXIMIZE), x, tuple(copies), theta)
