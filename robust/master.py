"""The learned master: one second stage, for the scenario in which the network sees the least.

Neur2RO, section 4.1. For scenarios ``xi_1..xi_k`` the binaries say which of the network's
values is the smallest at x; the rows and the objective of the one copy of the second stage
are those of that scenario. The master therefore knows the second stage exactly and only its
choice of the scenario is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances.core import Budget, Sense
from nco.instances.mip import MIP
from nco.robust.embedding import Indices, Model, Outputs, embed_first_stage, smallest
from nco.robust.encoding import Encoding
from nco.robust.network import ValueNetwork

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class FirstStage:
    """The first stage as a maximisation.

    Parameters
    ----------
    c, offset
        Objective [p] and its constant.
    A, row_lower, row_upper
        Rows.
    lower, upper, whole
        Bounds and integrality of the columns [p].
    seen
        The binary columns that the network sees [n], in its order.
    """

    c: Vector
    offset: float
    A: Any
    row_lower: Vector
    row_upper: Vector
    lower: Vector
    upper: Vector
    whole: NDArray[np.bool_]
    seen: Indices


@dataclass(frozen=True)
class SecondStage:
    """The second stage at one scenario, as a maximisation.

    Parameters
    ----------
    q, offset
        Objective [m] and its constant.
    T, W, row_lower, row_upper
        Rows ``row_lower <= T x + W y <= row_upper``; the same number at every scenario.
    lower, upper, whole
        Bounds and integrality of the columns [m].
    """

    q: Vector
    offset: float
    T: Any
    W: Any
    row_lower: Vector
    row_upper: Vector
    lower: Vector
    upper: Vector
    whole: NDArray[np.bool_]


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


def _activity(matrix: Any, lower: Vector, upper: Vector) -> tuple[Vector, Vector]:
    """Smallest and largest values of rows within bounds."""
    dense = np.asarray(matrix.todense() if sparse.issparse(matrix) else matrix, dtype=float)
    plus, minus = np.maximum(dense, 0.0), np.minimum(dense, 0.0)
    with np.errstate(invalid="ignore"):
        low = np.where(plus > 0, plus * lower, 0.0) + np.where(minus < 0, minus * upper, 0.0)
        high = np.where(plus > 0, plus * upper, 0.0) + np.where(minus < 0, minus * lower, 0.0)
    return low.sum(1), high.sum(1)


def _dense(matrix: Any) -> Vector:
    return np.asarray(matrix.todense() if sparse.issparse(matrix) else matrix, dtype=float)


def build_master(
    first: FirstStage,
    stages: Sequence[SecondStage],
    scenarios: Sequence[Vector],
    network: ValueNetwork,
    encoding: Encoding,
    *,
    slack: float,
    scored: bool,
    choose: bool = True,
) -> tuple[MIP, Indices]:
    """The master as a MIP, and its first-stage columns [p].

    Parameters
    ----------
    first, stages
        The first stage, and the second stage at every scenario.
    scenarios
        The scenarios.
    network, encoding
        The network, and the instance as it sees it.
    slack
        The second stage's value may exceed the smallest one the network sees by so much of
        the network's scale; this tightens the relaxation. Infinite: by anything.
    scored
        Whether first stages must have a positive feasibility score in every scenario.
    choose
        False for a master without second stage: the smallest value the network sees.
    """
    model = Model()
    p, k = len(first.c), len(stages)
    x = np.concatenate([
        model.add_columns(1, low, high, whole=bool(whole), cost=cost)
        for low, high, whole, cost in zip(
            first.lower, first.upper, first.whole, first.c, strict=True)
    ]) if p else np.zeros(0, dtype=np.intp)  # fmt: skip
    model.offset = first.offset
    if len(first.row_lower):
        model.add_rows(first.A, x, first.row_lower, first.row_upper)
    theta = model.add_columns(1, -np.inf, np.inf, cost=1.0)
    outputs: list[Outputs] = []
    if k > 1 or not choose or scored:
        outputs = [embed_first_stage(model, network, encoding, x[first.seen], xi)
                   for xi in scenarios]  # fmt: skip
    if scored:
        for out in outputs:
            model.add_rows(out.score.matrix, out.score.columns, -out.score.constant, np.inf)
    if not choose or (k > 1 and np.isfinite(slack)):
        room = slack * encoding.scale if np.isfinite(slack) else 0.0
        for out in outputs:
            rows = len(out.value.constant)
            model.add_rows(
                np.hstack([out.value.matrix, -np.ones((rows, 1))]),
                np.concatenate([out.value.columns, theta]),
                -out.value.constant - room,
                np.inf,
            )
    if not choose:
        return model.mip(Sense.MAXIMIZE), x
    chosen: list[Indices] = [np.zeros(0, dtype=np.intp)] * k
    if k > 1:
        _, binaries = smallest(model, [out.value for out in outputs])
        ends = np.cumsum([len(out.value.constant) for out in outputs])
        chosen = np.split(binaries, ends[:-1])
    _add_second_stage(model, first, stages, x, theta, chosen)
    return model.mip(Sense.MAXIMIZE), x


def _add_second_stage(
    model: Model,
    first: FirstStage,
    stages: Sequence[SecondStage],
    x: Indices,
    theta: Indices,
    chosen: Sequence[Indices],
) -> None:
    """One copy of the second stage; what depends on the scenario holds if it is chosen."""
    one = stages[0]
    y = np.concatenate([
        model.add_columns(1, low, high, whole=bool(whole))
        for low, high, whole in zip(one.lower, one.upper, one.whole, strict=True)
    ])  # fmt: skip
    columns = np.concatenate([x, y])
    lower = np.concatenate([first.lower, one.lower])
    upper = np.concatenate([first.upper, one.upper])
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
            # sign * row + big * chosen <= sign * limit + big
            model.add_rows(
                np.hstack([sign * matrix[rows], np.repeat(big[:, None], len(flags), axis=1)]),
                np.concatenate([columns, flags]),
                -np.inf,
                sign * limits[rows] + big,
            )
    # theta <= q y + M (1 - chosen), M by the other scenarios' objectives.
    for k, (s, flags) in enumerate(zip(stages, chosen, strict=True)):
        big = 0.0
        for j, other in enumerate(stages):
            if j != k:
                _, high = _activity((other.q - s.q)[None], one.lower, one.upper)
                big = max(big, float(high[0]) + other.offset - s.offset)
        model.add_rows(
            np.concatenate([[1.0], -s.q, np.full(len(flags), big)])[None],
            np.concatenate([theta, y, flags]),
            -np.inf,
            s.offset + (big if len(flags) else 0.0),
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
    watch = Watch(on_solution=lambda v: seen.append(v[x].copy()), stop=budget.interrupted)
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
        if not any(np.array_equal(rounded, other) for other in kept):
            kept.append(rounded)
    value = None if outcome.x is None else form.original(outcome.objective)
    return Proposal(np.array(kept[:most]).reshape(-1, len(x)), value)
