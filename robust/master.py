"""The learned master: one second stage, for the scenario in which the network sees the least.

Neur2RO, section 4.1. For scenarios ``xi_1..xi_k`` the binaries say which of the network's
values is the smallest at x; the rows and the objective of the one copy of the second stage
are those of that scenario. The master therefore knows the second stage exactly and only its
choice of the scenario is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances.core import Budget, Sense, UnsupportedError
from nco.instances.mip import MIP
from nco.robust.embedding import Affine, embed_first_stage, smallest
from nco.robust.encoding import Encoding
from nco.robust.model import Indices, Model
from nco.robust.network import ValueNetwork
from nco.robust.two_stage import SecondStage, TwoStageProblem

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Proposal:
    """What a master proposed.

    Parameters
    ----------
    x
        First stages [k, p], the best by the master first.
    value
        What the master believes the first one is worth, or None.
    """

    x: Vector
    value: float | None


def _dense(matrix: Any) -> Vector:
    full = sparse.csr_array(cast("Any", matrix)).toarray() if sparse.issparse(matrix) else matrix
    return np.asarray(full, dtype=np.float64)


def _activity(matrix: Vector, lower: Vector, upper: Vector) -> tuple[Vector, Vector]:
    """Smallest and largest values of rows within bounds."""
    plus, minus = np.maximum(matrix, 0.0), np.minimum(matrix, 0.0)
    with np.errstate(invalid="ignore"):
        low = np.where(plus > 0, plus * lower, 0.0) + np.where(minus < 0, minus * upper, 0.0)
        high = np.where(plus > 0, plus * upper, 0.0) + np.where(minus < 0, minus * lower, 0.0)
    return low.sum(1), high.sum(1)


@dataclass(frozen=True)
class Memory:
    """What the masters of a run know beside the scenarios.

    Parameters
    ----------
    known
        First stages [k, p] whose value is known exactly; not proposed again.
    hopeless
        Scenarios [j, q] in which some first stage had no recourse; the network's
        feasibility score must not be negative there.
    """

    known: Sequence[Vector] = ()
    hopeless: Sequence[Vector] = ()


def build_master(
    problem: TwoStageProblem,
    seen: Indices,
    scenarios: Sequence[Vector],
    network: ValueNetwork,
    encoding: Encoding,
    *,
    slack: float = 0.0,
    choose: bool = True,
    memory: Memory | None = None,
) -> tuple[MIP, Indices]:
    """The master as a MIP, and its first-stage columns [p].

    Parameters
    ----------
    problem
        The problem; maximised.
    seen
        The first-stage columns that the network sees [n], in its order.
    scenarios
        The scenarios.
    network, encoding
        The network, and the instance as it sees it.
    slack
        The second stage's value may exceed the smallest one the network sees by so much of
        the network's scale; this tightens the relaxation. Infinite: by anything.
    choose
        Whether the master has the second stage of the chosen scenario. If not, its
        objective is the smallest value that the network sees.
    memory
        What else the run has learned.
    """
    memory = memory or Memory()
    model = Model()
    x = problem.add_first_stage(model)
    theta = model.add_columns(1, -np.inf, np.inf, cost=1.0)
    parts: list[Affine] = []
    if len(scenarios) > 1 or not choose:
        parts = [embed_first_stage(model, network, encoding, x[seen], xi, exact=choose).value
                 for xi in scenarios]  # fmt: skip
    for xi in memory.hopeless:
        score = embed_first_stage(model, network, encoding, x[seen], xi, exact=False).score
        model.add_rows(score.matrix, score.columns, -score.constant, np.inf)
    for point in memory.known:
        side = np.where(point > 0.5, -1.0, 1.0)
        model.add_rows(side[None], x, 1.0 - float((point > 0.5).sum()), np.inf)
    if not choose or (parts and np.isfinite(slack)):
        for part in parts:
            model.add_rows(
                np.hstack([part.matrix, -np.ones((len(part.constant), 1))]),
                np.concatenate([part.columns, theta]),
                -part.constant - (slack * encoding.scale if choose else 0.0),
                np.inf,
            )
    if choose:
        chosen = [np.zeros(0, dtype=np.intp)] * len(scenarios)
        if parts:
            _, binaries = smallest(model, parts)
            ends = np.cumsum([len(part.constant) for part in parts])
            chosen = list(np.split(binaries, ends[:-1]))
        _add_second_stage(model, problem, [problem.stage(xi) for xi in scenarios], x, theta, chosen)
    return model.mip(Sense.MAXIMIZE), x


def _limited(big: Vector) -> None:
    if not np.isfinite(big).all():
        raise UnsupportedError(
            "master=second-stage needs limits of the second stage's columns: give them, or use "
            "master=value"
        )


def _add_second_stage(
    model: Model,
    problem: TwoStageProblem,
    stages: Sequence[SecondStage],
    x: Indices,
    theta: Indices,
    chosen: Sequence[Indices],
) -> None:
    """One copy of the second stage; what depends on the scenario holds if it is chosen."""
    one = stages[0]
    y = model.add_columns(len(one.q), one.lower, one.upper, whole=one.whole)
    columns = np.concatenate([x, y])
    lower = np.concatenate([problem.first.lower, one.lower])
    upper = np.concatenate([problem.first.upper, one.upper])
    matrices = [np.hstack([_dense(s.T), _dense(s.W)]) for s in stages]
    same = np.ones(len(one.row_lower), dtype=bool)
    for s, matrix in zip(stages[1:], matrices[1:], strict=True):
        same &= (matrix == matrices[0]).all(1)
        same &= (s.row_lower == one.row_lower) & (s.row_upper == one.row_upper)
    if same.any():
        model.add_rows(
            sparse.csr_array(matrices[0][same]), columns, one.row_lower[same], one.row_upper[same]
        )
    for s, matrix, flags in zip(stages, matrices, chosen, strict=True):
        for side, limits, sign in (("upper", s.row_upper, 1.0), ("lower", s.row_lower, -1.0)):
            rows = np.flatnonzero(~same & np.isfinite(limits))
            if not len(rows):
                continue
            low, high = _activity(matrix[rows], lower, upper)
            worst = high - limits[rows] if side == "upper" else limits[rows] - low
            big = np.maximum(worst, 0.0) if len(flags) else np.zeros(len(rows))
            _limited(big)
            # sign * row + big * chosen <= sign * limit + big
            model.add_rows(
                np.hstack([sign * matrix[rows], np.repeat(big[:, None], len(flags), axis=1)]),
                np.concatenate([columns, flags]),
                -np.inf,
                sign * limits[rows] + big,
            )
    # theta <= p x + q y + M (1 - chosen), M by the other scenarios' objectives.
    costs = [np.concatenate([s.p, s.q]) for s in stages]
    for k, (s, flags) in enumerate(zip(stages, chosen, strict=True)):
        most = 0.0
        for j, other in enumerate(stages):
            if j != k:
                _, high = _activity((costs[j] - costs[k])[None], lower, upper)
                most = max(most, float(high[0]) + other.offset - s.offset)
        _limited(np.array([most]))
        model.add_rows(
            np.concatenate([[1.0], -costs[k], np.full(len(flags), most)])[None],
            np.concatenate([theta, columns, flags]),
            -np.inf,
            s.offset + (most if len(flags) else 0.0),
        )


def solve_master(
    mip: MIP,
    x: Indices,
    budget: Budget,
    *,
    backend: type[Any],
    gap: float,
    seed: int,
    start: Vector | None = None,
    most: int = 8,
) -> Proposal:
    """Solve a master; its last improving solutions are proposals.

    Parameters
    ----------
    mip, x
        The master and its first-stage columns [p].
    budget
        All of it may be used.
    backend
        Engine class, such as `nco.mip.highs.HighsEngine`.
    gap
        Certified gap at which to stop.
    seed
        The engine's.
    start
        Column values to start from, or None.
    most
        Largest number of proposals.
    """
    from nco.mip.backend import Form, Limits, Watch

    form = Form(mip)
    engine = backend(form, seed=seed)
    seen: list[Vector] = []
    watch = Watch(on_solution=lambda v: seen.append(v[x].copy()), stop=budget.spent)
    try:
        outcome = engine.solve(Limits(budget.left(), gap=gap), None, start, watch)
    finally:
        engine.close()
    if outcome.x is not None:
        seen.append(outcome.x[x])
    whole = form.whole[x]
    kept: list[Vector] = []
    for v in reversed(seen):
        rounded = np.where(whole, np.rint(v), v)
        rounded = rounded + 0.0
        if not any(np.array_equal(rounded, other) for other in kept):
            kept.append(rounded)
    value = None if outcome.x is None else form.original(outcome.objective)
    return Proposal(np.array(kept[:most]).reshape(-1, len(x)), value)
